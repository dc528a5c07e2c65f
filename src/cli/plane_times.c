/* Times of the options of lists. */
#include "cli/plane_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <stdlib.h>
#include <sysexits.h>
#include <time.h>

/* "30m", "6h", "2d" ago, or a time as it is. The caller's; NULL after its message. */
static char *time_of(const struct session *s, const char *option, const char *text)
{
        char *unit = NULL, buffer[32];
        unsigned long count = strtoul(text, &unit, 10);
        int64_t unix_ms, seconds = 0;

        if (unit != text && unit[0] && !unit[1])
                seconds = unit[0] == 's'   ? 1
                          : unit[0] == 'm' ? 60
                          : unit[0] == 'h' ? 3600
                          : unit[0] == 'd' ? 86400
                                           : 0;
        if (seconds && count < 100000) {
                time_format_utc(((int64_t)time(NULL) - (int64_t)count * seconds) * 1000, buffer);
                return xstrdup(buffer);
        }
        if (time_parse_utc(text, &unix_ms) == 0)
                return xstrdup(text);
        session_usage_error(
                s, "--%s takes 2026-11-21T03:00:00Z, or 30m, 6h, 2d for so long ago, not '%s'", option, text);
        return NULL;
}

int plane_path_add_times(const struct session *s, struct plane_path *p)
{
        _cleanup_free_ char *since = NULL, *until = NULL;

        if (s->settings.since && !(since = time_of(s, "since", s->settings.since)))
                return EX_USAGE;
        if (s->settings.until && !(until = time_of(s, "until", s->settings.until)))
                return EX_USAGE;
        plane_path_add(p, "since", since);
        plane_path_add(p, "until", until);
        return EXIT_SUCCESS;
}
