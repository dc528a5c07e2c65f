/* A child's words on their way to its log: each line is looked at, and is kept or not. The child never waits
 * for us: when nobody has read for so long that the pipe is full, or nobody reads any more, its words are
 * lost and it goes on (pipe(7), O_NONBLOCK). */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

struct service_tap; /* opaque */

/* Whether the log is to have this line (without its end; not terminated). */
typedef bool (*service_line_judge)(const char *line, size_t length, void *userdata);

/* Appends to `log`, made 0640. *ret_output_fd is for the child, the caller's to close. 0 or -errno with the
 * file and the reason. */
int service_tap_new(sd_event *event, const char *log, service_line_judge is_kept, void *userdata,
        struct service_tap **ret, int *ret_output_fd, struct error *ret_error);
/* Takes all that the child has said, to a last line without an end: before its log is read. */
void service_tap_drain(struct service_tap *t);
struct service_tap *service_tap_free(struct service_tap *t); /* drains */
