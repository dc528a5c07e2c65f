/* When updates may be installed: windows of a week in the node's own time zone. Pure but for localtime_r(3)
 * and mktime(3), which read it. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WINDOW_MAX 8
struct window {
        unsigned days;           /* bit 0: Monday … bit 6: Sunday */
        unsigned from_minute;    /* of the day */
        unsigned length_minutes; /* 1 to 1440; may go over midnight */
};
/* "Sun 02:00-04:00", "Mon-Fri 22:00-01:00", "Mon,Wed 03:00-03:30", "daily 02:00-04:00". 0 or -EINVAL with
 * what was expected. */
int window_parse(const char *s, struct window *ret, struct error *ret_error);
void window_format(const struct window *w, char ret[64]);
/* Whether `now` is within one. A change of the clock for summer does what people expect: the window lasts
 * until its end on the wall, and one that does not exist that night is passed over to the first moment after.
 */
bool window_contains(const struct window *list, size_t count, int64_t now_unix, int64_t *ret_end_unix);
/* The next beginning after `now`, and its end. -1: there is no window. */
int64_t window_next(const struct window *list, size_t count, int64_t now_unix, int64_t *ret_end_unix);
