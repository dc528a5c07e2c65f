#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/update_schedule.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define HOUR 3600
#define DAY  (24 * HOUR)

static void zone(const char *name)
{
        setenv("TZ", name, 1);
        tzset();
}

/* A moment of the wall here. */
static int64_t at(int year, int month, int day, int hour, int minute)
{
        struct tm t = {.tm_year = year - 1900,
                .tm_mon = month - 1,
                .tm_mday = day,
                .tm_hour = hour,
                .tm_min = minute,
                .tm_isdst = -1};

        return mktime(&t);
}

static struct config_schedule with(const char *first, const char *second)
{
        struct config_schedule s = {.has_update = true, .channel = "stable"};

        assert_int_equal(window_parse(first, &s.windows[s.window_count++], NULL), 0);
        if (second)
                assert_int_equal(window_parse(second, &s.windows[s.window_count++], NULL), 0);
        return s;
}

static struct update_moment next(const struct config_schedule *s, const char *node, int64_t used, int64_t now)
{
        struct update_moment m;

        assert_int_equal(update_schedule_next(s, node, used, now, &m), 0);
        assert_true(m.begin_unix >= m.window_unix && m.begin_unix < m.end_unix);
        assert_true(m.download_unix < m.window_unix && m.download_unix >= m.window_unix - 12 * HOUR);
        return m;
}

static void test_next_window(void **state)
{
        struct config_schedule s = with("Sun 02:00-04:00", NULL);
        struct update_moment m;

        (void)state;
        zone("Europe/Berlin");
        /* Sunday is the 22nd. */
        m = next(&s, "branch-12", 0, at(2026, 11, 21, 12, 0));
        assert_int_equal(m.window_unix, at(2026, 11, 22, 2, 0));
        assert_int_equal(m.end_unix, at(2026, 11, 22, 4, 0));
        /* The last hour is for the update itself. */
        assert_true(m.begin_unix < m.end_unix - HOUR);
        /* In the midst of it: still this one, until it was used. */
        m = next(&s, "branch-12", 0, at(2026, 11, 22, 3, 59));
        assert_int_equal(m.window_unix, at(2026, 11, 22, 2, 0));
        m = next(&s, "branch-12", m.window_unix, at(2026, 11, 22, 3, 59));
        assert_int_equal(m.window_unix, at(2026, 11, 29, 2, 0));
        m = next(&s, "branch-12", 0, at(2026, 11, 22, 4, 0));
        assert_int_equal(m.window_unix, at(2026, 11, 29, 2, 0));
}

static void test_two_windows_and_midnight(void **state)
{
        struct config_schedule s = with("Mon-Fri 22:00-01:00", "Wed 12:00-12:30");
        struct update_moment m;

        (void)state;
        zone("America/New_York");
        /* Wednesday, the 25th. */
        m = next(&s, "n", 0, at(2026, 11, 25, 9, 0));
        assert_int_equal(m.window_unix, at(2026, 11, 25, 12, 0));
        assert_true(m.begin_unix < m.window_unix + 15 * 60);
        m = next(&s, "n", m.window_unix, at(2026, 11, 25, 12, 10));
        assert_int_equal(m.window_unix, at(2026, 11, 25, 22, 0));
        m = next(&s, "n", 0, at(2026, 11, 26, 0, 30));
        assert_int_equal(m.window_unix, at(2026, 11, 25, 22, 0));
        assert_int_equal(m.end_unix, at(2026, 11, 26, 1, 0));
}

/* The night on which the clock goes forward has no 02:00, and the one on which it goes back has it twice. */
static void test_nights_of_the_changing_clock(void **state)
{
        struct config_schedule s = with("daily 02:00-04:00", NULL);
        struct update_moment m;

        (void)state;
        zone("Europe/Berlin");
        m = next(&s, "n", 0, at(2026, 3, 28, 12, 0));
        assert_int_equal(m.window_unix, at(2026, 3, 29, 3, 0));
        assert_int_equal(m.end_unix - m.window_unix, HOUR);
        assert_true(m.begin_unix < m.end_unix);
        m = next(&s, "n", 0, at(2026, 10, 24, 12, 0));
        assert_int_equal(m.end_unix, at(2026, 10, 25, 4, 0));
        assert_true(m.end_unix - m.window_unix == 2 * HOUR || m.end_unix - m.window_unix == 3 * HOUR);
        /* Each night has one, whatever the clock does. */
        for (int64_t t = at(2026, 1, 1, 12, 0); t < at(2027, 1, 1, 12, 0); t += DAY) {
                struct update_moment n = next(&s, "n", 0, t);

                assert_true(n.window_unix > t && n.window_unix - t < DAY);
        }
}

/* A restart does not move it, and other nodes and other weeks have another. */
static void test_spread(void **state)
{
        struct config_schedule s = with("Sun 02:00-06:00", NULL);
        int64_t now = at(2026, 11, 21, 12, 0), begun[500], lowest = INT64_MAX, highest = 0;
        size_t in_tenth[10] = {0}, same = 0;
        char name[32];

        (void)state;
        zone("UTC");
        now = at(2026, 11, 21, 12, 0);
        for (int i = 0; i < 500; i++) {
                struct update_moment m, later, week;

                snprintf(name, sizeof name, "n-%05d", i);
                m = next(&s, name, 0, now);
                later = next(&s, name, 0, now + 9 * HOUR);
                week = next(&s, name, 0, now + 7 * DAY);
                assert_int_equal(m.begin_unix, later.begin_unix);
                assert_int_equal(m.download_unix, later.download_unix);
                same += m.begin_unix + 7 * DAY == week.begin_unix;
                begun[i] = m.begin_unix - m.window_unix;
                assert_in_range(begun[i], 0, 3 * HOUR - 1);
                in_tenth[begun[i] / (3 * HOUR / 10 + 1)]++;
                lowest = begun[i] < lowest ? begun[i] : lowest;
                highest = begun[i] > highest ? begun[i] : highest;
        }
        assert_true(same < 10);
        assert_true(lowest < 5 * 60 && highest > 3 * HOUR - 5 * 60);
        for (size_t i = 0; i < 10; i++)
                assert_in_range(in_tenth[i], 25, 80);
}

static void test_hold_and_manual(void **state)
{
        struct config_schedule s = with("daily 02:00-04:00", NULL);
        struct update_moment m;

        (void)state;
        zone("Asia/Tokyo");
        strcpy(s.hold_until, "2026-12-01");
        m = next(&s, "n", 0, at(2026, 11, 21, 12, 0));
        assert_int_equal(m.window_unix, at(2026, 12, 1, 2, 0));
        /* A hold that is over holds nothing. */
        m = next(&s, "n", 0, at(2026, 12, 3, 12, 0));
        assert_int_equal(m.window_unix, at(2026, 12, 4, 2, 0));
        /* Nor is a window that began the evening before. */
        s = with("daily 23:00-02:00", NULL);
        strcpy(s.hold_until, "2026-12-01");
        m = next(&s, "n", 0, at(2026, 11, 30, 23, 30));
        assert_int_equal(m.window_unix, at(2026, 12, 1, 23, 0));
        s.manual = true;
        assert_int_equal(update_schedule_next(&s, "n", 0, at(2026, 12, 3, 12, 0), &m), -ENOENT);
        s.manual = false;
        s.window_count = 0;
        assert_int_equal(update_schedule_next(&s, "n", 0, at(2026, 12, 3, 12, 0), &m), -ENOENT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_next_window),
                cmocka_unit_test(test_two_windows_and_midnight),
                cmocka_unit_test(test_nights_of_the_changing_clock),
                cmocka_unit_test(test_spread),
                cmocka_unit_test(test_hold_and_manual),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
