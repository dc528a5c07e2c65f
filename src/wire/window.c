#include "wire/window.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MINUTES_A_DAY 1440
#define DAYS_AHEAD    8 /* a weekly window that began this minute comes again in seven days */

static const char *const day_names[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};

/* ---- text ---- */

static const char *parse_day(const char *s, unsigned *ret)
{
        for (unsigned i = 0; i < ELEMENTS(day_names); i++)
                if (strncasecmp(s, day_names[i], 3) == 0) {
                        *ret = i;
                        return s + 3;
                }
        return NULL;
}

/* "Mon", "Mon-Fri", "Fri-Mon"; a range may go over Sunday. */
static const char *parse_range(const char *s, unsigned *days)
{
        unsigned first, last;

        s = parse_day(s, &first);
        if (!s)
                return NULL;
        last = first;
        if (*s == '-' && !(s = parse_day(s + 1, &last)))
                return NULL;
        for (unsigned i = first;; i = (i + 1) % 7) {
                *days |= 1U << i;
                if (i == last)
                        return s;
        }
}

static const char *parse_days(const char *s, unsigned *days)
{
        *days = 0;
        if (strncasecmp(s, "daily", 5) == 0) {
                *days = 0x7f;
                return s + 5;
        }
        for (;;) {
                s = parse_range(s, days);
                if (!s || *s != ',')
                        return s;
                s++;
        }
}

static const char *parse_minute(const char *s, unsigned *ret)
{
        unsigned hour = 0, minute = 0;

        for (int i = 0; i < 2; i++, s++) {
                if (*s < '0' || *s > '9')
                        return NULL;
                hour = hour * 10 + (unsigned)(*s - '0');
        }
        if (*s++ != ':')
                return NULL;
        for (int i = 0; i < 2; i++, s++) {
                if (*s < '0' || *s > '9')
                        return NULL;
                minute = minute * 10 + (unsigned)(*s - '0');
        }
        if (hour > 24 || minute > 59 || (hour == 24 && minute > 0))
                return NULL;
        *ret = hour * 60 + minute;
        return s;
}

int window_parse(const char *s, struct window *ret, struct error *ret_error)
{
        struct window w = {0};
        unsigned to = 0;
        const char *p = parse_days(s, &w.days);

        p = p && *p == ' ' ? parse_minute(p + 1, &w.from_minute) : NULL;
        p = p && *p == '-' ? parse_minute(p + 1, &to) : NULL;
        if (!p || *p || w.from_minute >= MINUTES_A_DAY || to == w.from_minute)
                return error_set(ret_error, EINVAL, "config.bad-window",
                        "'%.60s' is no window; write 'Sun 02:00-04:00', 'Mon-Fri 22:00-01:00' or 'daily "
                        "02:00-04:00'",
                        s);
        w.length_minutes = to > w.from_minute ? to - w.from_minute : to + MINUTES_A_DAY - w.from_minute;
        *ret = w;
        return 0;
}

void window_format(const struct window *w, char ret[64])
{
        unsigned end = w->from_minute + w->length_minutes;
        unsigned to = end > MINUTES_A_DAY ? end - MINUTES_A_DAY : end; /* the end of the day is 24:00 */
        size_t used = 0;

        if (w->days == 0x7f)
                used = (size_t)snprintf(ret, 64, "daily");
        for (unsigned i = 0; i < ELEMENTS(day_names) && w->days != 0x7f; i++)
                if (w->days & 1U << i)
                        used += (size_t)snprintf(
                                ret + used, 64 - used, "%s%s", used ? "," : "", day_names[i]);
        snprintf(ret + used, 64 - used, " %02u:%02u-%02u:%02u", w->from_minute / 60, w->from_minute % 60,
                to / 60, to % 60);
}

/* ---- time ---- */

/* A minute of a local day, `ahead` days from the one of `now`. What does not exist that night (the clock goes
 * forward) becomes the first moment after, which mktime(3) alone does not promise. */
static time_t moment(int64_t now_unix, int ahead, unsigned minute)
{
        time_t now = (time_t)now_unix, t;
        struct tm day, got;
        int wanted = (int)minute;

        localtime_r(&now, &day);
        day.tm_mday += ahead;
        day.tm_hour = (int)(minute / 60);
        day.tm_min = (int)(minute % 60);
        day.tm_sec = 0;
        day.tm_isdst = -1;
        t = mktime(&day);
        localtime_r(&t, &got);
        if (wanted == MINUTES_A_DAY || (got.tm_hour * 60 + got.tm_min) == wanted % MINUTES_A_DAY)
                return t;
        /* Back to the gap's end: the wall's minutes there are those that are too many. */
        for (int i = 0; i < 180; i++) {
                time_t before = t - 60;

                localtime_r(&before, &got);
                if (got.tm_hour * 60 + got.tm_min < wanted)
                        return t;
                t = before;
        }
        return t;
}

static unsigned weekday(int64_t now_unix, int ahead)
{
        time_t noon = moment(now_unix, ahead, 720);
        struct tm day;

        localtime_r(&noon, &day);
        return (unsigned)(day.tm_wday + 6) % 7;
}

/* The window of the day that is `ahead` of today. */
static bool occurs(const struct window *w, int64_t now_unix, int ahead, int64_t *ret_from, int64_t *ret_to)
{
        unsigned end = w->from_minute + w->length_minutes;

        if (!(w->days & 1U << weekday(now_unix, ahead)))
                return false;
        *ret_from = moment(now_unix, ahead, w->from_minute);
        *ret_to = moment(now_unix, ahead + (int)(end / MINUTES_A_DAY), end % MINUTES_A_DAY);
        /* Both in the hour that the clock left out: it comes after that, as long as it is. */
        if (*ret_to <= *ret_from)
                *ret_to = *ret_from + w->length_minutes * 60;
        return true;
}

bool window_contains(const struct window *list, size_t count, int64_t now_unix, int64_t *ret_end_unix)
{
        int64_t from, to, latest = 0;

        for (size_t i = 0; i < count; i++)
                for (int ahead = -1; ahead <= 0; ahead++)
                        if (occurs(&list[i], now_unix, ahead, &from, &to) && from <= now_unix &&
                                now_unix < to && to > latest)
                                latest = to;
        if (latest > 0)
                *ret_end_unix = latest;
        return latest > 0;
}

int64_t window_next(const struct window *list, size_t count, int64_t now_unix, int64_t *ret_end_unix)
{
        int64_t from, to, first = -1;

        for (size_t i = 0; i < count; i++)
                for (int ahead = 0; ahead < DAYS_AHEAD; ahead++)
                        if (occurs(&list[i], now_unix, ahead, &from, &to) && from > now_unix &&
                                (first < 0 || from < first)) {
                                first = from;
                                *ret_end_unix = to;
                        }
        return first;
}
