#include "update/dpkg_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_packages(void **state)
{
        (void)state;
        struct dpkg_package p;

        assert_true(dpkg_text_package("ii |gridnode|0.1.0|amd64", &p));
        assert_string_equal(p.name, "gridnode");
        assert_string_equal(p.version, "0.1.0");
        assert_string_equal(p.architecture, "amd64");
        assert_true(dpkg_package_is_installed(&p) && !dpkg_package_is_broken(&p));
        assert_true(dpkg_text_package("hi |libc6:amd64|2.36-9|amd64", &p));
        assert_int_equal(p.wanted, 'h');
        assert_string_equal(p.name, "libc6:amd64");
        assert_true(dpkg_text_package("rc |old|1|all", &p));
        assert_true(!dpkg_package_is_installed(&p) && !dpkg_package_is_broken(&p));
        assert_true(dpkg_text_package("un |virtual||", &p));
}

static void test_broken_packages(void **state)
{
        (void)state;
        static const char *const lines[] = {"iU |a|1|all", "iF |a|1|all", "iH |a|1|all", "iHR|a|1|all",
                "iiR|a|1|all", "iW |a|1|all", "it |a|1|all"};
        struct dpkg_package p;

        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
                assert_true(dpkg_text_package(lines[i], &p));
                assert_true(dpkg_package_is_broken(&p));
                assert_false(dpkg_package_is_installed(&p));
                assert_true(dpkg_state_to_words(p.state)[0]);
        }
        assert_string_equal(dpkg_state_to_words('F'), "half configured");
}

static void test_what_is_no_package(void **state)
{
        (void)state;
        static const char *const lines[] = {"", "ii", "ii ", "ii |", "ii |a", "ii |a|1", "xx |a|1|all",
                "ii a|1|all", "ii ||1|all", "ii |a|1|a b", "ii |a\x1b|1|all",
                "dpkg-query: no packages found matching gridnode"};
        struct dpkg_package p;

        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
                assert_false(dpkg_text_package(lines[i], &p));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_packages),
                cmocka_unit_test(test_broken_packages),
                cmocka_unit_test(test_what_is_no_package),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
