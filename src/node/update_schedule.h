/* When a node updates itself: a moment within each window, another for each node, so that thousands do not
 * come at once, and always the same for a node and a window, so that a restart does not move it. Pure but for
 * localtime_r(3) and mktime(3). */
#pragma once

#include "wire/wire.h"

struct update_moment {
        int64_t window_unix;   /* the window's beginning: its name, to be remembered when it was used */
        int64_t begin_unix;    /* the node's own moment in it */
        int64_t end_unix;      /* of the window: nothing begins afterwards */
        int64_t download_unix; /* from then on what is to be installed may be fetched ahead */
};
/* The one that is open, or comes next, of windows that begin after `used_unix` (0: any). -ENOENT: updates
 * are for people alone (manual), or there is no window. Windows before the day `hold_until` are left out. */
int update_schedule_next(const struct config_schedule *s, const char *node, int64_t used_unix,
        int64_t now_unix, struct update_moment *ret);
