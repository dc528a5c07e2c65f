/* The commands' end of the control socket. */
#include "node/control.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/local_socket.h"
#include "base/text.h"
#include "node/control_internal.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ANSWER_MAX_BYTES ((size_t)64 << 20) /* of one line: a report with all its measurements */
#define ERRNO_MAX        4095

/* ---- asking ---- */

struct question {
        int fd, stop_fd;
        const char *path;
        char *data; /* what came and is not taken yet */
        size_t length, allocated;
};

static int failed(const struct question *q, int number, struct error *ret_error)
{
        return error_set(ret_error, number, "control.failed", "cannot ask the daemon at %s: %s", q->path,
                strerror(number));
}

static int cannot_connect(const char *path, int number, struct error *ret_error)
{
        if (number == ENOENT || number == ECONNREFUSED)
                return error_set(ret_error, number, "control.not-running",
                        "no daemon answers at %s; start it with 'systemctl start gridnode' or 'gridnode run'",
                        path);
        if (number == EACCES)
                return error_set(ret_error, number, "control.not-permitted",
                        "%s is open to the group gridnode alone; add this user to it ('usermod -aG gridnode "
                        "USER') or "
                        "ask as root",
                        path);
        return error_set(ret_error, number, "control.failed", "cannot ask the daemon at %s: %s", path,
                strerror(number));
}

/* The connection itself does not wait but for a daemon that accepts nobody. */
static int connect_to(const char *path, int *ret_fd, struct error *ret_error)
{
        int r = local_connect(path, SOCK_STREAM | SOCK_CLOEXEC, ret_fd);

        return r < 0 ? cannot_connect(path, -r, ret_error) : 0;
}

static int say(struct question *q, const json_t *request, struct error *ret_error)
{
        _cleanup_free_ char *text = json_to_text(request), *line = xasprintf("%s\n", text);
        size_t length = strlen(line), sent = 0;

        while (sent < length) {
                ssize_t n = send(q->fd, line + sent, length - sent, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                /* One that was turned away: the reason is there to be read. */
                if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
                        return 0;
                if (n < 0)
                        return failed(q, errno, ret_error);
                sent += (size_t)n;
        }
        return 0;
}

/* Waits for more of the answer. */
static int hear(struct question *q, struct error *ret_error)
{
        struct pollfd fds[] = {{q->fd, POLLIN, 0}, {q->stop_fd, POLLIN, 0}};
        ssize_t n;

        if (poll(fds, 2, -1) < 0)
                return errno == EINTR ? 0 : failed(q, errno, ret_error);
        if (fds[1].revents)
                return error_set(
                        ret_error, EINTR, "control.stopped", "stopped before the daemon's answer was over");
        if (q->length + 1 >= q->allocated) {
                q->allocated = q->allocated * 2 + 65536;
                q->data = xrealloc_array(q->data, q->allocated, 1);
        }
        n = recv(q->fd, q->data + q->length, q->allocated - q->length - 1, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return 0;
        if (n < 0)
                return failed(q, errno, ret_error);
        if (n == 0)
                return error_set(ret_error, ECONNRESET, "control.ended",
                        "the daemon at %s ended before its answer was over; see its log", q->path);
        q->length += (size_t)n;
        if (q->length > ANSWER_MAX_BYTES)
                return error_set(ret_error, EFBIG, "control.failed", "the daemon at %s does not end its line",
                        q->path);
        return 0;
}

static int daemons_error(const json_t *e, struct error *ret_error)
{
        static char code[64]; /* struct error borrows it */
        const char *given = json_string_value(json_object_get(e, "code"));
        const char *text = json_string_value(json_object_get(e, "text"));
        json_int_t number = json_integer_value(json_object_get(e, "number"));

        str_copy(code, sizeof code, given ? given : "control.failed");
        return error_set(ret_error, number > 0 && number <= ERRNO_MAX ? (int)number : EREMOTEIO, code, "%s",
                text ? text : "the daemon failed");
}

/* One line: 0 when there are more to come, > 0 at the end, or the error. */
static int take(struct question *q, size_t length, int (*on_line)(const char *, json_t *, void *),
        void *userdata, struct error *ret_error)
{
        json_auto_t *object = NULL;
        const char *member;
        json_t *value;
        int r = json_parse(q->data, length, ANSWER_MAX_BYTES, "the daemon's answer", &object, ret_error);

        if (r < 0)
                return r;
        json_object_foreach(object, member, value)
        {
                if (str_equal(member, "done"))
                        return 1;
                if (str_equal(member, "error"))
                        return daemons_error(value, ret_error);
                r = on_line(member, value, userdata);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int converse(struct question *q, int (*on_line)(const char *, json_t *, void *), void *userdata,
        struct error *ret_error)
{
        size_t looked = 0; /* no newline before this */
        int r = 0;

        while (r == 0) {
                char *newline =
                        q->length > looked ? memchr(q->data + looked, '\n', q->length - looked) : NULL;
                size_t length;

                if (!newline) {
                        looked = q->length;
                        r = hear(q, ret_error);
                        continue;
                }
                length = (size_t)(newline - q->data);
                r = take(q, length, on_line, userdata, ret_error);
                q->length -= length + 1;
                memmove(q->data, newline + 1, q->length);
                looked = 0;
        }
        return r > 0 ? 0 : r;
}

int control_ask(const char *path, const json_t *request,
        int (*on_line)(const char *member, json_t *value, void *userdata), void *userdata, int stop_fd,
        struct error *ret_error)
{
        struct question q = {.path = path, .stop_fd = stop_fd, .fd = -1};
        _cleanup_close_ int fd = -1;
        int r = connect_to(path, &fd, ret_error);

        if (r < 0)
                return r;
        q.fd = fd;
        r = say(&q, request, ret_error);
        if (r == 0)
                r = converse(&q, on_line, userdata, ret_error);
        free(q.data);
        return r;
}
