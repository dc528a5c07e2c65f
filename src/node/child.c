#include "node/child.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define DEFAULT_LINE_BYTES   8192
#define DEFAULT_OUTPUT_BYTES ((size_t)4 << 20)
#define KILL_AFTER_US        2000000
#define READ_BYTES           16384
#define READS_PER_TURN       4
/* A killed process is gone in no time, unless the kernel itself hangs: then it is left to its fate. */
#define REAP_MS 200

enum { OUT, ERR };

struct stream {
        struct child *child;
        sd_event_source *io;
        int fd; /* -1: closed */
        struct text pending;
        bool is_error;
};

struct child {
        struct child_handlers handlers;
        struct stream streams[2];
        struct text output; /* whole */
        sd_event_source *exit, *timer;
        int pidfd;
        pid_t pid; /* 0: reaped */
        size_t maximum_line_bytes, maximum_output_bytes, output_bytes;
        enum wire_end end; /* why it is made to end; END_NONE: by itself */
        bool whole, is_terminated;
        unsigned depth;
        bool is_freed;
};

/* ---- the end ---- */

static void close_stream(struct stream *s)
{
        s->io = sd_event_source_disable_unref(s->io);
        if (s->fd >= 0)
                close(s->fd);
        s->fd = -1;
}

/* The group is killed before its leader is reaped: until then nobody else can have its number. */
static void reap(struct child *c)
{
        struct pollfd p = {.fd = c->pidfd, .events = POLLIN};

        if (c->pid <= 0)
                return;
        kill(-c->pid, SIGKILL);
        kill(c->pid, SIGKILL); /* which has no group yet when it is as young as that */
        while (poll(&p, 1, REAP_MS) < 0 && errno == EINTR)
                ;
        waitpid(c->pid, NULL, WNOHANG);
        c->pid = 0;
}

static void destroy(struct child *c)
{
        reap(c);
        for (size_t i = 0; i < ELEMENTS(c->streams); i++) {
                close_stream(&c->streams[i]);
                text_done(&c->streams[i].pending);
        }
        text_done(&c->output);
        sd_event_source_disable_unref(c->exit);
        sd_event_source_disable_unref(c->timer);
        if (c->pidfd >= 0)
                close(c->pidfd);
        free(c);
}

struct child *child_free(struct child *c)
{
        if (!c)
                return NULL;
        c->is_freed = true;
        if (c->depth == 0)
                destroy(c);
        return NULL;
}

static void leave(struct child *c)
{
        if (--c->depth == 0 && c->is_freed)
                destroy(c);
}

static void terminate(struct child *c, enum wire_end why)
{
        if (c->end != END_NONE)
                return;
        c->end = why;
        if (c->pid <= 0)
                return;
        kill(-c->pid, SIGTERM);
        c->is_terminated = true;
        sd_event_source_set_time_relative(c->timer, KILL_AFTER_US);
        sd_event_source_set_enabled(c->timer, SD_EVENT_ONESHOT);
}

void child_cancel(struct child *c)
{
        if (c->pid > 0 && !c->is_freed)
                terminate(c, END_CANCELLED);
}

static int on_timer(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct child *c = userdata;

        (void)source, (void)now_us;
        if (c->is_terminated)
                kill(-c->pid, SIGKILL);
        else
                terminate(c, END_TIMEOUT);
        return 0;
}

/* ---- output ---- */

/* Where a text can be cut so that no character is. */
static size_t cut_at(const char *s, size_t length, size_t most)
{
        size_t at = most;

        if (length <= most)
                return length;
        while (at > 0 && at + 4 > most && ((unsigned char)s[at] & 0xc0) == 0x80)
                at--;
        return at > 0 && ((unsigned char)s[at] & 0xc0) != 0x80 ? at : most;
}

/* One line of the program: safe to show, and in pieces when it is too long. */
static void give_line(struct stream *s, const char *line, size_t length)
{
        struct child *c = s->child;
        _cleanup_free_ char *copy = NULL, *safe = NULL;
        size_t left;

        if (!c->handlers.on_line)
                return;
        if (length > 0 && line[length - 1] == '\r')
                length--;
        copy = xmalloc(length + 1);
        memcpy(copy, line, length);
        for (size_t i = 0; i < length; i++)
                if (copy[i] == '\t')
                        copy[i] = ' ';
        safe = str_printable(copy, length, length);
        left = strlen(safe);
        for (char *at = safe; !c->is_freed;) {
                size_t n = cut_at(at, left, c->maximum_line_bytes);
                char next = at[n];

                at[n] = 0;
                c->handlers.on_line(s->is_error, at, c->handlers.userdata);
                at[n] = next;
                at += n;
                left -= n;
                if (left == 0)
                        break;
        }
}

/* Gives the whole lines of what has come; with `all` the rest, too. */
static void give_lines(struct stream *s, bool all)
{
        struct child *c = s->child;
        size_t at = 0;

        while (at < s->pending.length && !c->is_freed) {
                const char *line = s->pending.data + at, *end = memchr(line, '\n', s->pending.length - at);
                size_t length = end ? (size_t)(end - line) : s->pending.length - at;

                if (!end && length < c->maximum_line_bytes && !all)
                        break;
                if (!end && !all) /* no end in sight */
                        length = cut_at(line, length, c->maximum_line_bytes);
                give_line(s, line, length);
                at += length + (end ? 1 : 0);
        }
        if (at == 0)
                return;
        s->pending.length -= at;
        memmove(s->pending.data, s->pending.data + at, s->pending.length);
}

/* Bytes, which may hold NUL. */
static void append(struct text *t, const char *data, size_t length)
{
        if (t->length + length + 1 > t->allocated) {
                t->allocated = 2 * (t->length + length + 1);
                t->data = xrealloc_array(t->data, t->allocated, 1);
        }
        memcpy(t->data + t->length, data, length);
        t->length += length;
        t->data[t->length] = 0;
}

/* Reads what is there: 0 when there is no more for now, 1 when there may be. */
static int read_some(struct stream *s)
{
        struct child *c = s->child;
        char block[READ_BYTES];
        ssize_t n = read(s->fd, block, sizeof block);

        if (n < 0 && errno == EINTR)
                return 1;
        if (n < 0 && errno == EAGAIN)
                return 0;
        if (n <= 0) {
                give_lines(s, true);
                close_stream(s);
                return 0;
        }
        if (c->output_bytes + (size_t)n > c->maximum_output_bytes) {
                n = (ssize_t)(c->maximum_output_bytes - c->output_bytes);
                terminate(c, END_LOST);
        }
        c->output_bytes += (size_t)n;
        if (n == 0) /* beyond the limit: read on so that it can end, and forget it */
                return 1;
        append(c->whole && !s->is_error ? &c->output : &s->pending, block, (size_t)n);
        if (!c->whole || s->is_error)
                give_lines(s, false);
        return 1;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct stream *s = userdata;
        struct child *c = s->child;

        (void)source, (void)fd, (void)events;
        c->depth++;
        for (int i = 0; i < READS_PER_TURN && s->fd >= 0 && !c->is_freed; i++)
                if (read_some(s) == 0)
                        break;
        leave(c);
        return 0;
}

/* It has ended: what is still readable, and not what a grandchild may yet write. */
static void drain(struct child *c)
{
        for (size_t i = 0; i < ELEMENTS(c->streams); i++) {
                struct stream *s = &c->streams[i];

                while (s->fd >= 0 && !c->is_freed && c->output_bytes < c->maximum_output_bytes)
                        if (read_some(s) == 0)
                                break;
                if (!c->is_freed)
                        give_lines(s, true);
        }
}

static int on_exit_seen(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct child *c = userdata;
        siginfo_t info = {0};
        enum wire_end end;

        (void)source, (void)fd, (void)events;
        if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0)
                return 0;
        c->depth++;
        kill(-c->pid, SIGKILL); /* what it leaves behind; its number is still its own */
        waitpid(c->pid, NULL, WNOHANG);
        c->pid = 0;
        c->exit = sd_event_source_disable_unref(c->exit);
        c->timer = sd_event_source_disable_unref(c->timer);
        drain(c);
        end = c->end != END_NONE ? c->end : info.si_code == CLD_EXITED ? END_EXITED : END_SIGNALLED;
        if (!c->is_freed && c->handlers.on_end)
                c->handlers.on_end(end, info.si_status, c->whole ? text_string(&c->output) : "",
                        c->whole ? c->output.length : 0, c->handlers.userdata);
        c->is_freed = true;
        leave(c);
        return 0;
}

/* ---- the beginning ---- */

/* In the child, between fork and exec. What fails is written to `report`. */
static void become(const struct child_options *o, const int pipes[2], int report, pid_t parent)
        __attribute__((noreturn));
static void become(const struct child_options *o, const int pipes[2], int report, pid_t parent)
{
        static const char *const environment[] = {
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
                "NO_COLOR=1", NULL};
        struct sigaction standard = {.sa_handler = SIG_DFL};
        sigset_t none;
        int null = open("/dev/null", O_RDWR), number;

        setpgid(0, 0);
        /* Asked for before it is checked: a parent that dies in between is noticed either way. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(127);
        for (int i = 1; i < NSIG; i++)
                sigaction(i, &standard, NULL); /* libraries ignore SIGPIPE for us */
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(pipes[OUT], STDOUT_FILENO) >= 0 &&
                dup2(pipes[ERR], STDERR_FILENO) >= 0 &&
                /* Descriptors that some library opened without close-on-exec, too. */
                close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) >= 0)
                execve(o->arguments[0], (char **)(uintptr_t)o->arguments, (char **)(uintptr_t)environment);
        number = errno;
        if (write(report, &number, sizeof number) < 0)
                _exit(126);
        _exit(127);
}

/* Waits until the child is the other program: 0, or what kept it from that. */
static int read_report(int fd)
{
        int number = 0;
        ssize_t n;

        do
                n = read(fd, &number, sizeof number);
        while (n < 0 && errno == EINTR);
        return n == sizeof number ? -number : 0;
}

/* Pipes must not take the places of the standard streams, which a daemon may have closed. */
static int make_pipe(int ret[2])
{
        int raw[2];

        if (pipe2(raw, O_CLOEXEC) < 0)
                return -errno;
        for (int i = 0; i < 2; i++) {
                ret[i] = raw[i] > STDERR_FILENO ? raw[i] : fcntl(raw[i], F_DUPFD_CLOEXEC, 3);
                if (ret[i] != raw[i])
                        close(raw[i]);
        }
        return ret[0] < 0 || ret[1] < 0 ? -EMFILE : 0;
}

static void close_pair(int p[2])
{
        for (int i = 0; i < 2; i++) {
                if (p[i] >= 0)
                        close(p[i]);
                p[i] = -1;
        }
}

/* Forks and executes; on success the reading ends are the streams'. */
static int launch(struct child *c, const struct child_options *o)
{
        int out[2] = {-1, -1}, err[2] = {-1, -1}, report[2] = {-1, -1}, r;
        pid_t parent = getpid();

        r = make_pipe(out);
        if (r == 0)
                r = make_pipe(err);
        if (r == 0)
                r = make_pipe(report);
        if (r == 0) {
                c->pid = fork();
                if (c->pid == 0)
                        become(o, (const int[]){out[1], err[1]}, report[1], parent);
                r = c->pid < 0 ? -errno : 0;
        }
        if (r == 0) {
                setpgid(c->pid, c->pid); /* whoever of both is first */
                c->pidfd = pidfd_open(c->pid, 0);
                r = c->pidfd < 0 ? -errno : 0;
        }
        if (report[1] >= 0)
                close(report[1]);
        report[1] = -1;
        if (r == 0)
                r = read_report(report[0]);
        if (r == 0) {
                c->streams[OUT].fd = TAKE_FD(out[0]);
                c->streams[ERR].fd = TAKE_FD(err[0]);
                fcntl(c->streams[OUT].fd, F_SETFL, O_NONBLOCK);
                fcntl(c->streams[ERR].fd, F_SETFL, O_NONBLOCK);
        }
        close_pair(out);
        close_pair(err);
        close_pair(report);
        return r;
}

static int watch(struct child *c, sd_event *event, const struct child_options *o)
{
        uint64_t timeout_us = (uint64_t)(o->timeout_ms * 1000);
        int r = sd_event_add_io(event, &c->exit, c->pidfd, EPOLLIN, on_exit_seen, c);

        for (size_t i = 0; i < ELEMENTS(c->streams) && r >= 0; i++) {
                struct stream *s = &c->streams[i];

                r = sd_event_add_io(event, &s->io, s->fd, EPOLLIN, on_io, s);
                if (r >= 0)
                        r = sd_event_source_set_priority(s->io, o->priority);
        }
        if (r >= 0)
                r = sd_event_source_set_priority(c->exit, o->priority);
        if (r >= 0)
                r = sd_event_add_time_relative(event, &c->timer, CLOCK_MONOTONIC, timeout_us, 1, on_timer, c);
        if (r >= 0)
                r = sd_event_source_set_priority(c->timer, o->priority);
        return r;
}

int child_start(sd_event *event, const struct child_options *o, const struct child_handlers *h,
        struct child **ret, struct error *ret_error)
{
        struct child *c = xcalloc(1, sizeof *c);
        int r;

        c->handlers = *h;
        c->pidfd = -1;
        c->whole = o->whole;
        c->maximum_line_bytes = o->maximum_line_bytes ? o->maximum_line_bytes : DEFAULT_LINE_BYTES;
        c->maximum_output_bytes = o->maximum_output_bytes ? o->maximum_output_bytes : DEFAULT_OUTPUT_BYTES;
        for (size_t i = 0; i < ELEMENTS(c->streams); i++)
                c->streams[i] = (struct stream){.child = c, .fd = -1, .is_error = i == ERR};
        r = launch(c, o);
        if (r == 0)
                r = watch(c, event, o);
        if (r < 0) {
                destroy(c);
                return error_set(
                        ret_error, -r, "child.start", "%s: cannot be run: %s", o->arguments[0], strerror(-r));
        }
        *ret = c;
        return 0;
}
