/* Runs a program as a child and waits for it, with what it says in the log. Its output goes into the log's
 * file itself, and is read from there: whoever started dpkg may be killed, and dpkg must not be ended by a
 * pipe that nobody reads any more. */
#pragma once

#include "base/error.h"

#include <stdbool.h>

struct run_options {
        const char *const *arguments;   /* NULL-terminated; [0] is the program's path */
        const char *const *environment; /* besides PATH, LC_ALL, HOME and DEBIAN_FRONTEND; NULL: none */
        const char *folder;             /* that it runs in; NULL: the root */
        int log_fd;                     /* appended to; readable as `log_path` */
        const char *log_path;
        const char *status_path; /* of its file descriptor 3, a file that is made anew; NULL: none */
        bool ends_with_us;       /* what only fetches is ended when we are; what changes the system is not */
        double timeout_ms;       /* 0: none. Then it is ended, SIGTERM and SIGKILL 5 s later */
        void (*on_line)(const char *line, void *userdata);   /* of its output; NULL: nobody asks */
        void (*on_status)(const char *line, void *userdata); /* of descriptor 3 */
        int (*on_tick)(void *userdata); /* each 250 ms; negative: it is ended, and that is the result */
        void *userdata;
};
/* Its exit status (128 + the signal that ended it), or -errno: what on_tick said, -ETIMEDOUT, or it could not
 * be started. */
#define RUN_SIGNAL 128 /* and its number: the program was ended by a signal */
int run_program(const struct run_options *o, struct error *ret_error);
