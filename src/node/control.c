#include "node/control.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/local_socket.h"
#include "base/text.h"
#include "node/control_internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define CLIENTS_MAX       32
#define PENDING_MAX_BYTES ((size_t)8 << 20) /* of answers that a client has not read */
#define PATIENCE_US       (30 * 1000000ULL) /* with one that reads nothing at all */
#define PAUSE_US          1000000ULL        /* of accepting, when no descriptor is left */
#define BACKLOG           16

struct control_client {
        struct control *control;
        int fd;
        sd_event_source *io, *next, *patience; /* next: looks for a whole line in `in` */
        char in[CONTROL_LINE_MAX];
        size_t in_length;
        char *out;
        size_t out_length, out_sent;
        bool busy;       /* a request of its is being answered */
        bool deaf;       /* nothing more comes from it, or is wanted */
        bool is_dropped; /* shut down: goes at the next turn of the loop */
};

struct control {
        sd_event *event;
        struct control_handlers handlers;
        struct local_socket socket;
        sd_event_source *listener, *pause;
        struct control_client *clients[CLIENTS_MAX];
        size_t count;
};

DEFINE_CLEANUP(struct control *, control_free);

/* ---- requests ---- */

static void read_update(struct json_reader *r, struct update_job *ret)
{
        const char *action = json_take_text(r, "action", 16);
        const char *channel = json_take_optional_text(r, "channel", sizeof ret->channel - 1);
        const char *by = json_take_optional_text(r, "by", sizeof ret->by - 1);

        if (action && update_action_from_string(action, &ret->action) < 0)
                json_reader_fail(r, "action", "is not check, dry-run, download or now");
        if (channel && !update_channel_is_valid(channel))
                json_reader_fail(r, "channel", "is not a channel's name: a-z, 0-9 and -");
        str_copy(ret->channel, sizeof ret->channel, channel ? channel : "");
        ret->again = json_take_optional_boolean(r, "again", false);
        ret->reboot = json_take_optional_boolean(r, "reboot", true);
        str_copy(ret->by, sizeof ret->by, by ? by : "local");
        /* Root's side takes nothing else. */
        for (char *c = ret->by; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
}

static void read_id(struct json_reader *r, char ret[WIRE_ID_MAXIMUM + 1])
{
        const char *id = json_take_optional_text(r, "id", WIRE_ID_MAXIMUM);

        if (id && !wire_id_is_valid(id))
                json_reader_fail(r, "id", "is no id");
        str_copy(ret, WIRE_ID_MAXIMUM + 1, id ? id : "");
}

static void read_operation(struct json_reader *r, struct control_request *ret)
{
        const char *op = json_take_text(r, "op", 32);

        if (str_equal(op, "status")) {
                ret->operation = CONTROL_STATUS;
        } else if (str_equal(op, "events")) {
                ret->operation = CONTROL_EVENTS;
                ret->count =
                        json_take_optional_integer(r, "count", 1, CONTROL_EVENTS_MAX, CONTROL_EVENTS_DEFAULT);
                ret->follow = json_take_optional_boolean(r, "follow", false);
        } else if (str_equal(op, "diag")) {
                ret->operation = CONTROL_DIAG;
                ret->budget_s = json_take_optional_number(r, "budget_s", 0.1, 600, 5);
        } else if (str_equal(op, "update")) {
                ret->operation = CONTROL_UPDATE;
                read_update(r, &ret->job);
        } else if (str_equal(op, "update.cancel")) {
                ret->operation = CONTROL_UPDATE_CANCEL;
                read_id(r, ret->id);
        } else if (str_equal(op, "update.history")) {
                ret->operation = CONTROL_UPDATE_HISTORY;
                ret->count =
                        json_take_optional_integer(r, "count", 1, CONTROL_EVENTS_MAX, CONTROL_EVENTS_DEFAULT);
        } else {
                json_reader_fail(
                        r, "op", "is not status, events, diag, update, update.cancel or update.history");
        }
}

int control_request_parse(
        const char *line, size_t length, struct control_request *ret, struct error *ret_error)
{
        struct control_request request = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = json_parse(line, length, CONTROL_LINE_MAX, "request", &object, ret_error);

        if (r < 0)
                return r;
        json_reader_init(&reader, object, "request", ret_error);
        read_operation(&reader, &request);
        r = json_reader_done(&reader, true);
        if (r == 0)
                *ret = request;
        return r;
}

/* ---- a client ---- */

static struct control_client *client_free(struct control_client *c)
{
        sd_event_source_disable_unref(c->io);
        sd_event_source_disable_unref(c->next);
        sd_event_source_disable_unref(c->patience);
        close(c->fd);
        free(c->out);
        free(c);
        return NULL;
}

static void client_remove(struct control_client *c)
{
        struct control *control = c->control;

        for (size_t i = 0; i < control->count; i++)
                if (control->clients[i] == c)
                        control->clients[i] = control->clients[--control->count];
        c->is_dropped = true;
        if (c->busy)
                control->handlers.on_gone(c, control->handlers.userdata);
        client_free(c);
}

/* Not at once: whoever is sending to it goes on to use the pointer. The loop then hears of the end. */
static void client_drop(struct control_client *c)
{
        c->is_dropped = true;
        c->out_length = c->out_sent = 0;
        shutdown(c->fd, SHUT_RDWR);
        sd_event_source_set_io_events(c->io, EPOLLIN);
        sd_event_source_set_enabled(c->patience, SD_EVENT_OFF);
}

/* What the loop is to wait for: the client's next line unless one is being answered, or room for the rest. */
static void client_watch(struct control_client *c)
{
        bool wants_line = !c->deaf && !c->busy && c->in_length < sizeof c->in;
        uint32_t events =
                (wants_line ? (uint32_t)EPOLLIN : 0) | (c->out_length > c->out_sent ? (uint32_t)EPOLLOUT : 0);

        sd_event_source_set_io_events(c->io, events);
}

static void client_write(struct control_client *c)
{
        bool moved = false;

        while (!c->is_dropped && c->out_sent < c->out_length) {
                ssize_t n = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent,
                        MSG_NOSIGNAL | MSG_DONTWAIT);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        client_drop(c);
                        return;
                }
                c->out_sent += (size_t)n;
                moved = true;
        }
        if (c->out_sent == c->out_length) {
                free(c->out);
                c->out = NULL;
                c->out_length = c->out_sent = 0;
                sd_event_source_set_enabled(c->patience, SD_EVENT_OFF);
        } else if (moved || sd_event_source_get_enabled(c->patience, NULL) == 0) {
                sd_event_source_set_time_relative(c->patience, PATIENCE_US);
                sd_event_source_set_enabled(c->patience, SD_EVENT_ONESHOT);
        }
        client_watch(c);
}

static void client_add(struct control_client *c, json_t *line)
{
        _cleanup_free_ char *text = json_to_text(line);
        size_t length = strlen(text);

        json_decref(line);
        if (c->is_dropped)
                return;
        if (c->out_length - c->out_sent > PENDING_MAX_BYTES) {
                client_drop(c);
                return;
        }
        if (c->out_sent > 0)
                memmove(c->out, c->out + c->out_sent, c->out_length - c->out_sent);
        c->out_length -= c->out_sent;
        c->out_sent = 0;
        c->out = xrealloc_array(c->out, c->out_length + length + 1, 1);
        memcpy(c->out + c->out_length, text, length);
        c->out[c->out_length + length] = '\n';
        c->out_length += length + 1;
        client_write(c);
}

void control_send(struct control_client *c, const char *member, json_t *value)
{
        client_add(c, json_pack("{s:o}", member, value ? value : json_null()));
}

void control_end(struct control_client *c, const struct error *e)
{
        c->busy = false;
        if (e) {
                _cleanup_free_ char *text = str_printable(e->text, strlen(e->text), sizeof e->text);

                client_add(
                        c, json_pack("{s:{s:s,s:s,s:i}}", "error", "code",
                                   e->code ? e->code : "control.failed", "text", text, "number", e->number));
        } else {
                client_add(c, json_pack("{s:b}", "done", 1));
        }
        if (!c->is_dropped)
                sd_event_source_set_enabled(c->next, SD_EVENT_ONESHOT);
}

/* ---- its lines ---- */

static void refuse(struct control_client *c, const struct error *e)
{
        control_end(c, e);
        c->deaf = true;
        c->in_length = 0;
}

static void take_line(struct control_client *c, size_t length)
{
        struct control_request request;
        struct error e = {0};
        int r = control_request_parse(c->in, length, &request, &e);

        c->in_length -= length + 1;
        memmove(c->in, c->in + length + 1, c->in_length);
        if (r < 0) {
                control_end(c, &e);
                return;
        }
        c->busy = true;
        c->control->handlers.on_request(c, &request, c->control->handlers.userdata);
}

/* One line at a turn of the loop, so that nobody who sends many keeps the rest waiting. */
static int on_next(sd_event_source *source, void *userdata)
{
        struct control_client *c = userdata;
        const char *newline = memchr(c->in, '\n', c->in_length);
        struct error e = {0};

        (void)source;
        if (c->is_dropped || c->busy)
                return 0;
        if (newline) {
                take_line(c, (size_t)(newline - c->in));
        } else if (c->in_length == sizeof c->in) {
                error_set(&e, EFBIG, "control.too-long", "request: a line of more than %zu bytes",
                        sizeof c->in);
                refuse(c, &e);
        }
        /* It has said all, and has been told all. */
        if (c->deaf && !c->busy && c->out_length == 0 && !memchr(c->in, '\n', c->in_length)) {
                client_remove(c);
                return 0;
        }
        client_watch(c);
        return 0;
}

static void client_read(struct control_client *c)
{
        ssize_t n = recv(c->fd, c->in + c->in_length, sizeof c->in - c->in_length, MSG_DONTWAIT);

        if (n < 0 && (errno == EINTR || errno == EAGAIN))
                return;
        if (n <= 0)
                c->deaf = true; /* it may still read */
        else
                c->in_length += (size_t)n;
        sd_event_source_set_enabled(c->next, SD_EVENT_ONESHOT);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct control_client *c = userdata;

        (void)source;
        (void)fd;
        if (c->is_dropped || events & (EPOLLHUP | EPOLLERR)) {
                client_remove(c);
                return 0;
        }
        if (events & EPOLLOUT) {
                client_write(c);
                if (c->out_length == 0 && !c->is_dropped)
                        sd_event_source_set_enabled(c->next, SD_EVENT_ONESHOT);
        }
        if (events & EPOLLIN && !c->is_dropped)
                client_read(c);
        if (!c->is_dropped)
                client_watch(c);
        return 0;
}

static int on_patience(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)source;
        (void)now_us;
        client_drop(userdata);
        return 0;
}

/* ---- accepting ---- */

static int client_new(struct control *control, int fd)
{
        struct control_client *c = xcalloc(1, sizeof *c);

        c->control = control;
        c->fd = fd;
        if (sd_event_add_io(control->event, &c->io, fd, EPOLLIN, on_io, c) < 0 ||
                sd_event_add_defer(control->event, &c->next, on_next, c) < 0 ||
                sd_event_source_set_enabled(c->next, SD_EVENT_OFF) < 0 ||
                sd_event_add_time_relative(
                        control->event, &c->patience, CLOCK_MONOTONIC, PATIENCE_US, 0, on_patience, c) < 0 ||
                sd_event_source_set_enabled(c->patience, SD_EVENT_OFF) < 0) {
                client_free(c);
                return -ENOMEM;
        }
        control->clients[control->count++] = c;
        return 0;
}

static void turn_away(int fd)
{
        static const char busy[] =
                "{\"error\":{\"code\":\"control.busy\",\"text\":\"the daemon has as many clients as it "
                "takes; end one of them\",\"number\":16}}\n";

        if (send(fd, busy, sizeof busy - 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
                errno = 0; /* it sees the end of the connection */
        close(fd);
}

static int on_pause_over(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct control *control = userdata;

        (void)source;
        (void)now_us;
        sd_event_source_set_enabled(control->listener, SD_EVENT_ON);
        return 0;
}

static int on_connect(sd_event_source *source, int listener, uint32_t events, void *userdata)
{
        struct control *control = userdata;
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        (void)source;
        (void)events;
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
                /* It stays readable, and the loop would do nothing else. */
                sd_event_source_set_enabled(control->listener, SD_EVENT_OFF);
                sd_event_source_set_time_relative(control->pause, PAUSE_US);
                sd_event_source_set_enabled(control->pause, SD_EVENT_ONESHOT);
        }
        if (fd < 0)
                return 0;
        if (control->count == CLIENTS_MAX)
                turn_away(fd);
        else
                client_new(control, fd);
        return 0;
}

/* ---- the socket ---- */

static int watch(struct control *control, struct error *ret_error)
{
        int r = sd_event_add_io(
                control->event, &control->listener, control->socket.fd, EPOLLIN, on_connect, control);

        if (r >= 0)
                r = sd_event_add_time_relative(control->event, &control->pause, CLOCK_MONOTONIC, PAUSE_US, 0,
                        on_pause_over, control);
        if (r >= 0)
                r = sd_event_source_set_enabled(control->pause, SD_EVENT_OFF);
        return r < 0 ? error_set(ret_error, -r, "control.socket", "cannot watch the control socket: %s",
                               strerror(-r))
                     : 0;
}

int control_new(sd_event *event, const char *path, const char *group, const struct control_handlers *h,
        struct control **ret, struct error *ret_error)
{
        _cleanup_(control_free_p) struct control *control = xcalloc(1, sizeof *control);
        int r;

        control->event = sd_event_ref(event);
        control->handlers = *h;
        r = local_listen(path, 0660, group, BACKLOG, &control->socket, ret_error);
        if (r == 0)
                r = watch(control, ret_error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(control);
        return 0;
}

struct control *control_free(struct control *control)
{
        if (!control)
                return NULL;
        while (control->count > 0)
                client_remove(control->clients[control->count - 1]);
        sd_event_source_disable_unref(control->listener);
        sd_event_source_disable_unref(control->pause);
        local_socket_done(&control->socket);
        sd_event_unref(control->event);
        free(control);
        return NULL;
}
