#include "wire/budget_plan.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void expect_plan(const char *text, const char *formatted)
{
        struct budget_plan p, again;
        struct error e;

        if (budget_plan_parse(text, &p, &e) < 0)
                fail_msg("%s: %s", text, e.text);
        _cleanup_free_ char *out = budget_plan_format(&p);
        assert_string_equal(out, formatted);
        assert_int_equal(budget_plan_parse(out, &again, &e), 0);
        assert_int_equal(again.otherwise, p.otherwise);
        assert_int_equal(again.count, p.count);
}

static void test_what_people_write(void **state)
{
        (void)state;
        expect_plan("5Mbit/s", "5Mbit/s");
        expect_plan("600kB/s", "4800kbit/s");
        expect_plan("1.5 Mbit/s", "1500kbit/s");
        expect_plan("unlimited", "unlimited");
        expect_plan("8bit/s", "1B/s");
        expect_plan("5Mbit/s; 08:00-18:00 1Mbit/s", "5Mbit/s; 08:00-18:00 1Mbit/s");
        expect_plan("22:00-06:00 unlimited;2MB/s", "16Mbit/s; 22:00-06:00 unlimited");
        expect_plan("00:00-24:00 1Gbit/s", "unlimited; 00:00-24:00 1000Mbit/s");
}

static void test_what_is_refused(void **state)
{
        static const char *const bad[] = {"", ";", "5", "5Mbit", "5 mbit/s", "-5Mbit/s", "0Mbit/s",
                "0x10Mbit/s", "1e3kB/s", "1.2.3MB/s", "nanMbit/s", "infMbit/s", "1bit/s",
                "99999999999999999999B/s", "9999999Gbit/s", "1Mbit/s; 2Mbit/s", "8:00-18:00 1Mbit/s",
                "08:00-25:00 1Mbit/s", "08:00-18:60 1Mbit/s", "08:00-18:001Mbit/s", "08:00 1Mbit/s",
                "08:00-08:00 1Mbit/s", "24:00-08:00 1Mbit/s", "08:00-18:00", "08:00-18:00 ",
                "08:00-18:00 08:00-18:00 1Mbit/s", "1Mbit/s x", "1Mbit/s\n"};
        struct budget_plan p;
        struct error e;

        (void)state;
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
                e = (struct error){0};
                if (budget_plan_parse(bad[i], &p, &e) != -EINVAL)
                        fail_msg("'%s' is taken", bad[i]);
                assert_string_equal(e.code, "config.bad-limit");
        }
        /* Eight periods, and not nine. */
        char text[512] = "00:00-01:00 1B/s";
        for (int i = 1; i < BUDGET_MAX_PERIODS; i++)
                strcat(text, ";00:00-01:00 1B/s");
        assert_int_equal(budget_plan_parse(text, &p, &e), 0);
        assert_int_equal(p.count, BUDGET_MAX_PERIODS);
        strcat(text, ";00:00-01:00 1B/s");
        assert_int_equal(budget_plan_parse(text, &p, &e), -EINVAL);
}

static void test_rates_over_the_day(void **state)
{
        struct budget_plan p;
        struct error e;

        (void)state;
        assert_int_equal(budget_plan_parse("8kbit/s; 22:00-06:00 16kbit/s; 05:00-07:00 24kbit/s", &p, &e), 0);
        assert_int_equal(budget_plan_rate(&p, 0), 2000);
        assert_int_equal(budget_plan_rate(&p, 5 * 60 + 59), 2000); /* the first one decides */
        assert_int_equal(budget_plan_rate(&p, 6 * 60), 3000);
        assert_int_equal(budget_plan_rate(&p, 7 * 60), 1000);
        assert_int_equal(budget_plan_rate(&p, 22 * 60 - 1), 1000);
        assert_int_equal(budget_plan_rate(&p, 22 * 60), 2000);
        assert_int_equal(budget_plan_rate(&p, 24 * 60 - 1), 2000);
        assert_int_equal(budget_plan_parse("1B/s; 18:00-24:00 2B/s", &p, &e), 0);
        assert_int_equal(budget_plan_rate(&p, 24 * 60 - 1), 2);
        assert_int_equal(budget_plan_rate(&p, 0), 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_people_write),
                cmocka_unit_test(test_what_is_refused), cmocka_unit_test(test_rates_over_the_day)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
