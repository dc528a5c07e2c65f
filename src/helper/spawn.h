/* How a helper is started where systemd does not: by the daemon, and by the supervisor. */
#pragma once

#include <sys/types.h>

#define HELPER_FD        3             /* the helper's descriptor of whom it serves */
#define HELPER_SUPERVISE "--supervise" /* the argument that makes it the supervisor, see supervisor.h */
#define HELPER_ROOT      "--root"      /* where the files of updates are, below DIR */

/* Starts `program` (a path) with `argument` (NULL: none) and `--root root` (NULL: none) in a session of its
 * own: a Ctrl-C is the daemon's to hear. It has `fd` as HELPER_FD, our standard output and error, and no
 * other descriptor of ours; of our environment it has what tells it to speak to the journal. Its process id
 * or -errno; a program that cannot be executed ends with status 127. */
pid_t helper_spawn(const char *program, const char *argument, const char *root, int fd);
