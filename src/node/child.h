/* Programs that the daemon runs: its own executable's verbs, as children, with their output line by line. No
 * shell; the environment is made anew (PATH, LANG=C.UTF-8, NO_COLOR); standard input is /dev/null; the child
 * leads a process group of its own and dies with the daemon (PR_SET_PDEATHSIG). */
#pragma once

#include "base/error.h"
#include "wire/wire.h"

#include <systemd/sd-event.h>

struct child; /* opaque */

struct child_options {
        const char *const *arguments; /* NULL-terminated; [0] is the program's path */
        double timeout_ms;            /* then SIGTERM to the group, SIGKILL 2 s later */
        size_t maximum_line_bytes;    /* longer lines are cut into several; default 8192 */
        size_t maximum_output_bytes;  /* of all; then the child is ended; default 4 MiB */
        bool whole;                   /* standard output is collected and given at the end, not by line */
        int priority;
};
struct child_handlers {
        void (*on_line)(bool is_error, const char *line, void *userdata); /* UTF-8, made safe to show */
        /* All output has been given. `output` (with whole) is NUL-terminated and borrowed. The child frees
         * itself afterwards. */
        void (*on_end)(enum wire_end end, int status, const char *output, size_t length, void *userdata);
        void *userdata;
};
int child_start(sd_event *event, const struct child_options *o, const struct child_handlers *h,
        struct child **ret, struct error *ret_error);
void child_cancel(struct child *c);        /* on_end comes with END_CANCELLED, soon */
struct child *child_free(struct child *c); /* kills the group, reaps, no callback */
