#include "node/update_schedule.h"

#include <errno.h>
#include <time.h>

#define HOUR_S         3600
#define LONGEST_S      (25 * HOUR_S) /* of a window, on the night that has an hour twice */
#define ROOM_S         HOUR_S        /* for the update itself, at the end of a window that has so much */
#define AHEAD_LEAST_S  HOUR_S
#define AHEAD_SPREAD_S (11 * HOUR_S)
#define WINDOWS_MOST   (WINDOW_MAX * 14 * 60) /* far more than are passed over in any hold */

/* A number of this node and window that looks like chance (FNV-1a, then the finaliser of splitmix64). */
static uint64_t digest(const char *node, int64_t window_unix, uint64_t purpose)
{
        uint64_t h = UINT64_C(14695981039346656037);

        for (const char *c = node; *c; c++)
                h = (h ^ (unsigned char)*c) * UINT64_C(1099511628211);
        h ^= (uint64_t)window_unix + purpose * UINT64_C(0x9e3779b97f4a7c15);
        h = (h ^ (h >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        h = (h ^ (h >> 27)) * UINT64_C(0x94d049bb133111eb);
        return h ^ (h >> 31);
}

/* In a short window the first half, in a long one all but its last hour. */
static int64_t spread_of(int64_t length_s)
{
        return length_s >= 2 * ROOM_S ? length_s - ROOM_S : length_s / 2;
}

/* Midnight, as that day begins here; 0: no hold. */
static int64_t hold_end(const struct config_schedule *s)
{
        unsigned year, month, day;
        struct tm t = {.tm_isdst = -1};

        if (!s->hold_until[0] || !config_date_parse(s->hold_until, &year, &month, &day))
                return 0;
        t.tm_year = (int)year - 1900;
        t.tm_mon = (int)month - 1;
        t.tm_mday = (int)day;
        return mktime(&t);
}

static void take(const char *node, int64_t from, int64_t to, struct update_moment *ret)
{
        int64_t spread = spread_of(to - from);

        *ret = (struct update_moment){.window_unix = from, .begin_unix = from, .end_unix = to};
        if (spread > 0)
                ret->begin_unix += (int64_t)(digest(node, from, 1) % (uint64_t)spread);
        ret->download_unix = from - AHEAD_LEAST_S - (int64_t)(digest(node, from, 2) % AHEAD_SPREAD_S);
}

int update_schedule_next(const struct config_schedule *s, const char *node, int64_t used_unix,
        int64_t now_unix, struct update_moment *ret)
{
        int64_t at = now_unix - LONGEST_S, from, to = 0, hold = hold_end(s);

        if (s->manual || s->window_count == 0)
                return -ENOENT;
        if (hold > 0 && at < hold - 1)
                at = hold - 1;
        if (at < used_unix)
                at = used_unix;
        for (int i = 0; i < WINDOWS_MOST; i++) {
                from = window_next(s->windows, s->window_count, at, &to);
                if (from < 0)
                        return -ENOENT;
                if (to > now_unix) {
                        take(node, from, to, ret);
                        return 0;
                }
                at = from;
        }
        return -ENOENT;
}
