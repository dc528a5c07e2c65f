#include "update/run.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#define TICK_MS           250
#define END_MS            5000
#define EXIT_CANNOT_START 127
#define STATUS_FD         3
#define LINE_BYTES        4096

/* A file that is read while it grows. */
struct tail {
        int fd; /* -1: none */
        off_t at;
        char line[LINE_BYTES];
        size_t length;
};

static void tail_read(struct tail *t, void (*on_line)(const char *, void *), void *userdata)
{
        char data[LINE_BYTES];
        ssize_t n;

        if (t->fd < 0 || !on_line)
                return;
        while ((n = pread(t->fd, data, sizeof data, t->at)) > 0) {
                t->at += n;
                for (ssize_t i = 0; i < n; i++) {
                        /* dpkg draws its progress with returns. */
                        bool is_end = data[i] == '\n' || data[i] == '\r';

                        if (!is_end && data[i] != '\0' && t->length + 1 < sizeof t->line)
                                t->line[t->length++] = data[i];
                        if (!is_end || t->length == 0)
                                continue;
                        t->line[t->length] = '\0';
                        t->length = 0;
                        on_line(t->line, userdata);
                }
        }
}

static _Noreturn void become(const struct run_options *o, int status_fd, char **environment, pid_t parent)
{
        int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC), log = o->log_fd;
        sigset_t none;

        setpgid(0, 0);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        if (o->ends_with_us)
                prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (o->ends_with_us && getppid() != parent)
                _exit(EXIT_CANNOT_START);
        /* Away from the numbers that are to be taken. */
        log = log >= 0 ? fcntl(log, F_DUPFD_CLOEXEC, 10) : open("/dev/null", O_WRONLY | O_CLOEXEC);
        status_fd = status_fd >= 0 ? fcntl(status_fd, F_DUPFD_CLOEXEC, 10) : -1;
        if (chdir(o->folder ? o->folder : "/") < 0)
                _exit(EXIT_CANNOT_START);
        if (nothing < 0 || log < 0 || dup2(nothing, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
                dup2(log, STDERR_FILENO) < 0 || (status_fd >= 0 && dup2(status_fd, STATUS_FD) < 0))
                _exit(EXIT_CANNOT_START);
        close_range(status_fd >= 0 ? STATUS_FD + 1 : STATUS_FD, ~0U, 0);
        execve(o->arguments[0], (char *const *)o->arguments, environment);
        _exit(EXIT_CANNOT_START);
}

/* What every child has, and nothing of ours: no terminal's names, no locale but C. */
static char **make_environment(const char *const *more)
{
        static const char *const always[] = {
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                "HOME=/root", "DEBIAN_FRONTEND=noninteractive", "DEBCONF_NONINTERACTIVE_SEEN=true",
                "APT_LISTCHANGES_FRONTEND=none", "UCF_FORCE_CONFFOLD=1"};
        size_t count = ELEMENTS(always), extra = 0;
        char **list;

        while (more && more[extra])
                extra++;
        list = xcalloc(count + extra + 1, sizeof *list);
        memcpy(list, always, sizeof always);
        if (extra)
                memcpy(list + count, more, extra * sizeof *list);
        return list;
}

static int wait_status(pid_t pid)
{
        int status = 0;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return WIFEXITED(status) ? WEXITSTATUS(status) : RUN_SIGNAL + WTERMSIG(status);
}

static int follow(const struct run_options *o, pid_t pid, struct tail *output, struct tail *status)
{
        _cleanup_close_ int pidfd = pidfd_open(pid, 0);
        double began_ms = clock_monotonic_ms(), killed_ms = 0;
        int result = 0;

        for (;;) {
                struct pollfd p = {.fd = pidfd, .events = POLLIN};
                bool is_over = poll(&p, 1, TICK_MS) > 0;
                double now_ms = clock_monotonic_ms();
                int r = 0;

                tail_read(output, o->on_line, o->userdata);
                tail_read(status, o->on_status, o->userdata);
                if (is_over)
                        break;
                if (killed_ms == 0 && o->on_tick)
                        r = o->on_tick(o->userdata);
                if (r == 0 && killed_ms == 0 && o->timeout_ms > 0 && now_ms - began_ms > o->timeout_ms)
                        r = -ETIMEDOUT;
                if (r < 0) {
                        result = r;
                        killed_ms = now_ms;
                        kill(-pid, SIGTERM);
                }
                if (killed_ms > 0 && now_ms - killed_ms > END_MS)
                        kill(-pid, SIGKILL);
        }
        return result;
}

int run_program(const struct run_options *o, struct error *ret_error)
{
        struct tail output = {.fd = -1}, status = {.fd = -1};
        _cleanup_close_ int output_fd = -1, status_fd = -1, written_fd = -1;
        _cleanup_free_ char **environment = make_environment(o->environment);
        pid_t parent = getpid(), pid;
        int r, ended;

        if (o->on_line)
                output.fd = output_fd = open(o->log_path, O_RDONLY | O_CLOEXEC);
        if (output.fd >= 0)
                output.at = lseek(output.fd, 0, SEEK_END);
        if (o->status_path) {
                unlink(o->status_path);
                written_fd = open(o->status_path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
                status.fd = status_fd = open(o->status_path, O_RDONLY | O_CLOEXEC);
                if (written_fd < 0 || status.fd < 0)
                        return error_set(ret_error, errno, "update.failed", "cannot make %s: %s",
                                o->status_path, strerror(errno));
        }
        pid = fork();
        if (pid == 0)
                become(o, written_fd, environment, parent);
        if (pid < 0)
                return error_set(ret_error, errno, "update.failed", "cannot start %s: %s", o->arguments[0],
                        strerror(errno));
        r = follow(o, pid, &output, &status);
        ended = wait_status(pid);
        if (r < 0)
                return error_set(
                        ret_error, -r, "update.ended", "%s was ended: %s", o->arguments[0], strerror(-r));
        if (ended == EXIT_CANNOT_START)
                return error_set(
                        ret_error, ENOENT, "update.failed", "cannot start %s: is it there?", o->arguments[0]);
        return ended;
}
