#include "plane/services_tap.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TURN_BYTES 65536 /* in one turn of the loop */
/* What the child may say while we are busy; the most that is had without privilege (pipe(7)). */
#define PIPE_BYTES (1 << 20)
#define DRAIN_MOST (2 * PIPE_BYTES / TURN_BYTES) /* turns: whoever else has its end could go on for ever */

struct service_tap {
        int in, out; /* the pipe's end, the log */
        service_line_judge is_kept;
        void *userdata;
        sd_event_source *source;
        size_t used;
        char buffer[TURN_BYTES + 1]; /* and a line's end in place of one that never came */
};

static void append(const struct service_tap *t, const char *line, size_t length)
{
        while (length > 0) {
                ssize_t n = write(t->out, line, length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return; /* a full disk: as for a child that writes by itself */
                line += n;
                length -= (size_t)n;
        }
}

/* `line` has its end, '\n' or what is put there. */
static void take_line(struct service_tap *t, char *line, size_t length)
{
        if (!t->is_kept(line, length, t->userdata))
                return;
        line[length] = '\n';
        append(t, line, length + 1);
}

static void take_lines(struct service_tap *t)
{
        char *at = t->buffer, *end = t->buffer + t->used, *newline;

        while ((newline = memchr(at, '\n', (size_t)(end - at)))) {
                take_line(t, at, (size_t)(newline - at));
                at = newline + 1;
        }
        t->used = (size_t)(end - at);
        memmove(t->buffer, at, t->used);
        if (t->used < TURN_BYTES)
                return;
        take_line(t, t->buffer, t->used); /* a line without an end */
        t->used = 0;
}

/* More than 0: there may be more; 0: all of them have closed it; -EAGAIN: nothing now. */
static int take_some(struct service_tap *t)
{
        ssize_t n = read(t->in, t->buffer + t->used, TURN_BYTES - t->used);

        if (n < 0)
                return errno == EINTR ? 1 : -errno;
        t->used += (size_t)n;
        take_lines(t);
        return n > 0;
}

static int on_words(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        int r = take_some(userdata);

        (void)fd, (void)events;
        if (r == 0 || (r < 0 && r != -EAGAIN))
                sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

void service_tap_drain(struct service_tap *t)
{
        for (int i = 0; i < DRAIN_MOST && take_some(t) > 0; i++)
                ;
        if (t->used > 0)
                take_line(t, t->buffer, t->used);
        t->used = 0;
}

static int open_both(struct service_tap *t, const char *log, int *ret_output_fd, struct error *ret_error)
{
        int ends[2];

        t->out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (t->out < 0)
                return error_set(
                        ret_error, errno, "service.log", "cannot write %s: %s", log, strerror(errno));
        if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
                return error_set(ret_error, errno, "service.log", "no pipe for what goes to %s: %s", log,
                        strerror(errno));
        t->in = ends[0];
        *ret_output_fd = ends[1];
        fcntl(t->in, F_SETPIPE_SZ, PIPE_BYTES); /* where that is too much it is 64 KiB */
        return 0;
}

int service_tap_new(sd_event *event, const char *log, service_line_judge is_kept, void *userdata,
        struct service_tap **ret, int *ret_output_fd, struct error *ret_error)
{
        struct service_tap *t = xcalloc(1, sizeof *t);
        _cleanup_close_ int output_fd = -1;
        int r;

        t->in = t->out = -1;
        t->is_kept = is_kept;
        t->userdata = userdata;
        r = open_both(t, log, &output_fd, ret_error);
        if (r == 0) {
                r = sd_event_add_io(event, &t->source, t->in, EPOLLIN, on_words, t);
                if (r < 0)
                        error_set(ret_error, -r, "service.log", "cannot watch what goes to %s: %s", log,
                                strerror(-r));
        }
        if (r < 0) {
                service_tap_free(t);
                return r;
        }
        *ret = t;
        *ret_output_fd = TAKE_FD(output_fd);
        return 0;
}

struct service_tap *service_tap_free(struct service_tap *t)
{
        if (!t)
                return NULL;
        sd_event_source_disable_unref(t->source);
        if (t->in >= 0) {
                service_tap_drain(t);
                close(t->in);
        }
        if (t->out >= 0)
                close(t->out);
        free(t);
        return NULL;
}
