#include "update/release_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static struct release_text parse(const char *s)
{
        struct release_text r;

        release_text_parse(s, strlen(s), &r);
        return r;
}

static void test_release(void **state)
{
        (void)state;
        struct release_text r =
                parse("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\nOrigin: Debian\nLabel:  "
                      "Debian-Security\r\nSuite: x\nCodename: bookworm-security\nOrigin: Else\n");

        assert_string_equal(r.origin, "Debian");
        assert_string_equal(r.label, "Debian-Security");
        assert_string_equal(r.codename, "bookworm-security");
        assert_true(release_is_security(&r));
}

static void test_what_is_not_security(void **state)
{
        (void)state;
        static const char *const texts[] = {"", "\n\n", "Origin: Debian", "Origin: Debian\nLabel: Debian",
                "Origin: grid\nLabel: Debian-Security", " Origin: Debian\n Label: Debian-Security\n",
                "Origin:\nLabel:\n", "Label: Debian-Security\nX-Origin: Debian\n"};

        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
                struct release_text r = parse(texts[i]);

                assert_false(release_is_security(&r));
        }
}

static void test_what_disturbs(void **state)
{
        (void)state;
        struct release_text r =
                parse("Origin: a\x1b[2Jb\nLabel: "
                      "0123456789012345678901234567890123456789012345678901234567890123456789\n");

        assert_string_equal(r.origin, "a?[2Jb");
        assert_string_equal(r.label, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_release),
                cmocka_unit_test(test_what_is_not_security),
                cmocka_unit_test(test_what_disturbs),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
