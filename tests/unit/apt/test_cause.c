/* Which of a report's causes apt is told. */
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "apt/cause.h"

static char *of(const char *json)
{
        return cause_of_report(json, strlen(json), "repo");
}

static void test_first_of_service(void **state)
{
        _cleanup_free_ char
                *text = of("{\"causes\":[{\"services\":[\"control\"],\"summary\":\"not this\"},"
                           "{\"services\":[\"control\",\"repo\"],\"summary\":\"443 is dropped.\","
                           "\"remedy\":\"Allow it.\"},{\"services\":[\"repo\"],\"summary\":\"later\"}]}"),
                *without = of("{\"causes\":[{\"services\":[\"repo\"],\"summary\":\"no route\"}]}"),
                *colon = of("{\"causes\":[{\"services\":[\"repo\"],\"summary\":\"no route\","
                            "\"remedy\":\"add one\"}]}");

        (void)state;
        assert_string_equal(text, "443 is dropped. Allow it.");
        assert_string_equal(without, "no route");
        assert_string_equal(colon, "no route: add one");
}

static void test_shown_safely(void **state)
{
        _cleanup_free_ char *text =
                of("{\"causes\":[{\"services\":[\"repo\"],\"summary\":\"a\\u001b[31mb\"}]}");

        (void)state;
        assert_string_equal(text, "a\\x1b[31mb");
}

static void test_none(void **state)
{
        static const char *const reports[] = {"", "[]", "{", "{}", "{\"causes\":{}}",
                "{\"causes\":[1,null,\"x\"]}", "{\"causes\":[{\"services\":\"repo\",\"summary\":\"x\"}]}",
                "{\"causes\":[{\"services\":[1],\"summary\":\"x\"}]}",
                "{\"causes\":[{\"services\":[\"repo\"]}]}",
                "{\"causes\":[{\"services\":[\"repo\"],\"summary\":\"\"}]}",
                "{\"causes\":[{\"services\":[\"repo\"],\"summary\":7}]}"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(reports); i++)
                assert_null(of(reports[i]));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_first_of_service),
                cmocka_unit_test(test_shown_safely),
                cmocka_unit_test(test_none),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
