#include "wire/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void set_zone(const char *zone)
{
        setenv("TZ", zone, 1);
        tzset();
}

static struct window parse(const char *s)
{
        struct window w;
        struct error e;

        if (window_parse(s, &w, &e) < 0)
                fail_msg("%s", e.text);
        return w;
}

static void test_parse_and_format(void **state)
{
        static const char *const pairs[][2] = {{"Sun 02:00-04:00", "Sun 02:00-04:00"},
                {"Mon-Fri 22:00-01:00", "Mon,Tue,Wed,Thu,Fri 22:00-01:00"},
                {"Mon,Wed 03:00-03:30", "Mon,Wed 03:00-03:30"}, {"daily 02:00-04:00", "daily 02:00-04:00"},
                {"daily 00:00-24:00", "daily 00:00-24:00"}};
        static const char *const bad[] = {"", "Sun", "Sun 02:00", "Sun 2:00-4:00", "Sun 02:00-02:00",
                "Son 02:00-04:00", "Sun 24:00-02:00", "Sun 02:00-25:00", "Sun 02:60-04:00",
                "Sun, 02:00-04:00", "Sun 02:00-04:00 ", "Sun-Mon-Tue 02:00-04:00", "daily,Sun 02:00-04:00",
                " Sun 02:00-04:00"};
        struct window w;
        struct error e;
        char text[64];

        (void)state;
        for (size_t i = 0; i < sizeof(pairs) / sizeof(*pairs); i++) {
                w = parse(pairs[i][0]);
                window_format(&w, text);
                assert_string_equal(text, pairs[i][1]);
                assert_in_range(w.length_minutes, 1, 1440);
        }
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                if (window_parse(bad[i], &w, &e) != -EINVAL)
                        fail_msg("'%s' is taken", bad[i]);
}

#define SATURDAY_NOON_UTC 1795262400 /* 2026-11-21T12:00:00Z */

static void test_of_a_week(void **state)
{
        struct window w[2] = {parse("Sun 02:00-04:00"), parse("Wed 23:00-01:00")};
        int64_t end = 0, begin;

        (void)state;
        set_zone("UTC");
        begin = window_next(w, 2, SATURDAY_NOON_UTC, &end);
        assert_int_equal(begin, SATURDAY_NOON_UTC + 14 * 3600);
        assert_int_equal(end, begin + 7200);
        assert_false(window_contains(w, 2, begin - 1, &end));
        assert_true(window_contains(w, 2, begin, &end));
        assert_int_equal(end, begin + 7200);
        assert_true(window_contains(w, 2, begin + 7199, &end));
        assert_false(window_contains(w, 2, begin + 7200, &end));
        /* From within, the next one is the next one. */
        assert_int_equal(window_next(w, 2, begin, &end), begin + 3 * 86400 + 21 * 3600);
        /* Over midnight it is still Wednesday's. */
        assert_true(window_contains(w, 2, begin + 3 * 86400 + 22 * 3600 + 1800, &end));
        assert_int_equal(end, begin + 3 * 86400 + 23 * 3600);
        assert_int_equal(window_next(w, 0, SATURDAY_NOON_UTC, &end), -1);
        assert_false(window_contains(w, 0, SATURDAY_NOON_UTC, &end));
}

static void test_zone(void **state)
{
        struct window w = parse("Sun 02:00-04:00");
        int64_t end;

        (void)state;
        set_zone("Asia/Tokyo"); /* 9 hours ahead: Sunday there begins on Saturday here */
        assert_int_equal(window_next(&w, 1, SATURDAY_NOON_UTC, &end), SATURDAY_NOON_UTC + 5 * 3600);
        set_zone("America/New_York");
        assert_int_equal(window_next(&w, 1, SATURDAY_NOON_UTC, &end), SATURDAY_NOON_UTC + 19 * 3600);
}

/* Europe/Berlin, 2026-03-29: 01:00Z is the moment when 02:00 becomes 03:00. */
#define SPRING_UTC 1774746000
/* 2026-10-25: at 01:00Z 03:00 becomes 02:00. */
#define AUTUMN_UTC 1792890000

static void test_clock_goes_forward(void **state)
{
        struct window w = parse("Sun 02:00-04:00"), gap = parse("Sun 02:15-02:45"),
                      half = parse("Sun 01:30-02:30");
        int64_t end = 0;

        (void)state;
        set_zone("Europe/Berlin");
        /* What does not exist begins at the first moment after, and ends on the wall. */
        assert_int_equal(window_next(&w, 1, SPRING_UTC - 7200, &end), SPRING_UTC);
        assert_int_equal(end, SPRING_UTC + 3600);
        assert_false(window_contains(&w, 1, SPRING_UTC - 1, &end));
        assert_true(window_contains(&w, 1, SPRING_UTC, &end));
        assert_false(window_contains(&w, 1, SPRING_UTC + 3600, &end));
        /* One that lies in the gap as a whole comes as long as it is, right after. */
        assert_int_equal(window_next(&gap, 1, SPRING_UTC - 7200, &end), SPRING_UTC);
        assert_int_equal(end, SPRING_UTC + 1800);
        assert_int_equal(window_next(&half, 1, SPRING_UTC - 7200, &end), SPRING_UTC - 1800);
        assert_int_equal(end, SPRING_UTC);
        /* The Sunday before is an ordinary one. */
        assert_int_equal(window_next(&w, 1, SPRING_UTC - 7 * 86400 - 7200, &end), SPRING_UTC - 7 * 86400);
        assert_int_equal(end, SPRING_UTC - 7 * 86400 + 7200);
}

static void test_clock_goes_back(void **state)
{
        struct window w = parse("Sun 01:00-04:00");
        int64_t end = 0, begin;

        (void)state;
        set_zone("Europe/Berlin");
        begin = window_next(&w, 1, AUTUMN_UTC - 6 * 3600, &end);
        assert_int_equal(begin, AUTUMN_UTC - 7200);
        assert_int_equal(end - begin, 4 * 3600); /* the wall has 02:00 to 03:00 twice */
        for (int64_t now = begin; now < end; now += 600)
                assert_true(window_contains(&w, 1, now, &end));
        assert_false(window_contains(&w, 1, begin + 4 * 3600, &end));
}

/* A year, hour by hour: the next beginning is a beginning, and what is told as an end is one. */
static void test_a_year(void **state)
{
        static const char *const zones[] = {"UTC", "Europe/London", "America/St_Johns", "Australia/Lord_Howe",
                "Asia/Kathmandu", "America/Sao_Paulo"};
        struct window list[3] = {
                parse("daily 00:30-02:45"), parse("Sat 23:00-03:00"), parse("Tue,Thu 12:00-13:00")};

        (void)state;
        for (size_t z = 0; z < sizeof(zones) / sizeof(*zones); z++) {
                set_zone(zones[z]);
                for (int64_t now = 1767225600; now < 1767225600 + 366 * 86400; now += 5400) {
                        int64_t end = 0, in_end = 0, next = window_next(list, 3, now, &end);

                        assert_true(next > now && next < now + 2 * 86400 && end > next);
                        assert_true(window_contains(list, 3, next, &in_end) && in_end >= end);
                        if (window_contains(list, 3, now, &in_end))
                                assert_true(in_end > now && in_end < now + 6 * 3600);
                }
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_parse_and_format),
                cmocka_unit_test(test_of_a_week), cmocka_unit_test(test_zone),
                cmocka_unit_test(test_clock_goes_forward), cmocka_unit_test(test_clock_goes_back),
                cmocka_unit_test(test_a_year)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
