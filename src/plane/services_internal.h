/* The parts of the supervisor among themselves. */
#pragma once

#include "plane/services.h"

#include <sys/types.h>

/* ---- services_files.c ---- */

/* Below STATE. The caller's. */
char *service_folder(const struct plane_settings *s, const char *name); /* STATE/services/NAME */
char *service_file(const struct plane_settings *s, const char *name, const char *file);
char *service_log(const struct plane_settings *s, const char *name);           /* STATE/log/NAME.log */
int services_prepare(const struct plane_settings *p, struct error *ret_error); /* the folders */
/* Configurations, and what they name. */
int services_write(const struct plane_settings *p, struct ca *ca, struct error *ret_error);
const char *services_find_stream_module(void); /* of nginx, static; NULL */
/* Of our servers: made or renewed when it is time. */
int services_certificate(const struct plane_settings *s, struct ca *ca, bool *ret_changed,
        char **ret_certificate, char **ret_key, struct error *ret_error);
#define SERVICE_LOG_BYTES ((off_t)32 << 20)
/* A log of what a child writes with O_APPEND: when it is large it goes to LOG.1, and begins anew. */
void service_cut_log(const char *log);

/* ---- services_process.c: one child ---- */

struct service_command {
        const char *program;     /* path */
        const char *const *argv; /* NULL-terminated */
        const char *folder;      /* it runs there, which is also what it is known by */
        const char *log;         /* takes standard output and standard error; NULL: output_fd does */
        int output_fd;
        int error_fd;                   /* takes standard error; 0: as standard output */
        const char *const *environment; /* NULL-terminated; NULL: ours */
};
/* A child in a process group of its own that gets SIGTERM when we die. 0 or -errno. */
int service_spawn(const struct service_command *c, pid_t *ret, struct error *ret_error);
/* Runs to its end within `timeout_ms`; 0, or -EBADMSG with the last line that it said (to `log`), -ETIMEDOUT,
 * or, when it is ended by a signal again and again, -EINTR. */
int service_run(const struct service_command *c, int timeout_ms, struct error *ret_error);
/* Ends every process that has `program`'s name and runs in `folder`: SIGTERM, after 3 s SIGKILL. Returns how
 * many there were. */
size_t service_sweep(const char *program, const char *folder);
/* Whether `folder` is the working folder of a process. */
bool service_works_in(pid_t pid, const char *folder);
/* The last line of a log that was written from `offset` on; the caller's, NULL for none. */
char *service_last_line(const char *log, off_t offset);

/* ---- services_answer.c ---- */

/* Not by connecting: both servers would complain in their logs. An old socket was removed before the start.
 */
bool service_socket_is_there(const char *path);
/* Each takes a connection; one of every address is asked at 127.0.0.1. */
bool service_ports_answer(const struct endpoint *list, size_t count);
