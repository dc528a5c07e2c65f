#include "helper/client.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/local_socket.h"
#include "base/text.h"
#include "helper/spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define ANSWER_TIMEOUT_US  ((uint64_t)10 * 1000 * 1000)
#define QUEUE_MAXIMUM      16
#define ANSWER_MAXIMUM     ((size_t)4096)
#define CHILD_END_WAIT_MS  2000
#define SEND_BUFFER_WANTED ((int)HELPER_MESSAGE_MAXIMUM)

struct ask {
        struct ask *next;
        struct helper_client *client;
        char *message;
        bool is_sent;
        struct error failure;       /* number 0: none; told in the next turn of the loop */
        helper_on_answer on_answer; /* NULL: it was told already, and its answer will come too late */
        void *userdata;
        sd_event_source *timer;
};

struct helper_client {
        sd_event *event;
        char *socket_path; /* NULL: the supervisor gives us connections */
        pid_t supervisor;
        int supervisor_fd; /* -1: none, or it has ended: without root's rights there will be no other */
        int fd;            /* -1: not connected */
        sd_event_source *io, *supervisor_io, *defer;
        struct ask *first, **last;
        size_t count;
};

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata);
static int on_supervisor(sd_event_source *s, int fd, uint32_t revents, void *userdata);

/* ---- the queue ---- */

static struct ask *ask_free(struct ask *a)
{
        if (!a)
                return NULL;
        sd_event_source_disable_unref(a->timer);
        free(a->message);
        free(a);
        return NULL;
}

static struct ask *pop(struct helper_client *c)
{
        struct ask *a = c->first;

        if (!a)
                return NULL;
        c->first = a->next;
        if (!c->first)
                c->last = &c->first;
        c->count--;
        return a;
}

static void unlink_ask(struct helper_client *c, struct ask *a)
{
        struct ask **at = &c->first;

        while (*at != a)
                at = &(*at)->next;
        *at = a->next;
        if (!a->next)
                c->last = at;
        c->count--;
}

/* Tells the asker, once. */
static void tell(struct ask *a, const struct error *e)
{
        helper_on_answer on_answer = a->on_answer;

        a->on_answer = NULL;
        a->timer = sd_event_source_disable_unref(a->timer);
        if (on_answer)
                on_answer(-e->number, e, a->userdata);
}

/* ---- the connection ---- */

static void disconnect(struct helper_client *c)
{
        c->io = sd_event_source_disable_unref(c->io);
        if (c->fd >= 0)
                close(c->fd);
        c->fd = -1;
}

static int attach(struct helper_client *c, int fd, struct error *ret_error)
{
        int r = sd_event_add_io(c->event, &c->io, fd, EPOLLIN, on_io, c);

        if (r < 0) {
                close(fd);
                return error_set(ret_error, -r, "helper.failed", "cannot watch the helper: %s", strerror(-r));
        }
        c->fd = fd;
        return 0;
}

static int connect_socket(struct helper_client *c, struct error *ret_error)
{
        int wanted = SEND_BUFFER_WANTED, fd,
            r = local_connect(c->socket_path, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, &fd);

        if (r < 0)
                return error_set(ret_error, -r, "helper.failed",
                        "cannot reach the helper at %s: %s; is gridnode-helper.socket started?",
                        c->socket_path, strerror(-r));
        /* A message has to fit into the buffer whole: beyond the system's limit only root may go. */
        if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof wanted) < 0)
                setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
        return attach(c, fd, ret_error);
}

/* ---- a helper of our own ---- */

static void leave_supervisor(struct helper_client *c)
{
        c->supervisor_io = sd_event_source_disable_unref(c->supervisor_io);
        if (c->supervisor_fd >= 0)
                close(c->supervisor_fd);
        c->supervisor_fd = -1;
}

/* It ends by itself when it was left, and the helper when it has no connection; we may have no right to kill
 * either any more. */
static void reap_supervisor(struct helper_client *c)
{
        _cleanup_close_ int pidfd = -1;
        struct pollfd p;

        if (c->supervisor <= 0)
                return;
        pidfd = pidfd_open(c->supervisor, 0);
        p = (struct pollfd){.fd = pidfd, .events = POLLIN};
        if (pidfd >= 0 && poll(&p, 1, CHILD_END_WAIT_MS) <= 0)
                kill(c->supervisor, SIGKILL);
        waitpid(c->supervisor, NULL, WNOHANG);
        c->supervisor = 0;
}

static int start_supervisor(
        struct helper_client *c, const char *program, const char *root, struct error *ret_error)
{
        int pair[2], r;

        if (access(program, X_OK) < 0)
                return error_set(ret_error, errno, "helper.failed", "cannot start the helper %s: %s", program,
                        strerror(errno));
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return error_set(
                        ret_error, errno, "helper.failed", "cannot start the helper: %s", strerror(errno));
        c->supervisor = helper_spawn(program, HELPER_SUPERVISE, root, pair[1]);
        close(pair[1]);
        c->supervisor_fd = pair[0];
        if (c->supervisor < 0)
                return error_set(ret_error, -c->supervisor, "helper.failed", "cannot start the helper: %s",
                        strerror(-c->supervisor));
        r = sd_event_add_io(c->event, &c->supervisor_io, pair[0], EPOLLIN, on_supervisor, c);
        if (r < 0)
                return error_set(ret_error, -r, "helper.failed", "cannot watch the helper: %s", strerror(-r));
        return 0;
}

/* The connection to another helper: 1, 0 when there is none yet, or -errno when there will be none any more.
 */
static int take_connection(int supervisor_fd, int *ret)
{
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        char byte;
        struct iovec data = {.iov_base = &byte, .iov_len = sizeof byte};
        struct msghdr message = {.msg_iov = &data,
                .msg_iovlen = 1,
                .msg_control = control.space,
                .msg_controllen = sizeof control.space};
        struct cmsghdr *header;
        ssize_t n = recvmsg(supervisor_fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        header = CMSG_FIRSTHDR(&message);
        if (n == 0 || !header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS ||
                header->cmsg_len != CMSG_LEN(sizeof *ret))
                return -EPIPE;
        memcpy(ret, CMSG_DATA(header), sizeof *ret);
        return 1;
}

/* ---- talking ---- */

static struct ask *take_all(struct helper_client *c)
{
        struct ask *all = c->first;

        c->first = NULL;
        c->last = &c->first;
        c->count = 0;
        return all;
}

/* Who is told may free the client. */
static void tell_all(struct ask *gone, const struct error *e)
{
        while (gone) {
                struct ask *a = gone;

                gone = a->next;
                tell(a, e);
                ask_free(a);
        }
}

/* Everybody who waits hears of it; those who ask meanwhile belong to the next connection. */
static void fail_connection(struct helper_client *c, int number, const char *why)
{
        struct error e;

        error_set(&e, number, "helper.failed", "the connection to the helper has ended: %s", why);
        disconnect(c);
        tell_all(take_all(c), &e);
}

static int on_defer(sd_event_source *s, void *userdata);

static void no_helper(struct error *ret)
{
        error_set(ret, EPIPE, "helper.failed",
                "the helper and what starts it have ended; it starts again with the daemon");
}

/* Sends the first of the queue; the next goes when its answer came. */
static void send_next(struct helper_client *c)
{
        struct ask *a = c->first;
        ssize_t n;

        if (!a || a->is_sent)
                return;
        if (c->fd < 0 && a->failure.number == 0) {
                if (c->socket_path)
                        connect_socket(c, &a->failure);
                else if (c->supervisor_fd >= 0)
                        return; /* until there is another helper */
                else
                        no_helper(&a->failure);
        }
        if (a->failure.number > 0) {
                sd_event_source_set_enabled(c->defer, SD_EVENT_ONESHOT);
                return;
        }
        n = send(c->fd, a->message, strlen(a->message), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
                sd_event_source_set_io_events(c->io, EPOLLIN | EPOLLOUT);
                return;
        }
        sd_event_source_set_io_events(c->io, EPOLLIN);
        if (n >= 0) {
                a->is_sent = true;
                return;
        }
        error_set(&a->failure, errno, "helper.failed", "cannot ask the helper (%zu bytes): %s",
                strlen(a->message), strerror(errno));
        sd_event_source_set_enabled(c->defer, SD_EVENT_ONESHOT);
}

/* A question that could not be sent. The loop calls, never the asker's own call. */
static int on_defer(sd_event_source *s, void *userdata)
{
        struct helper_client *c = userdata;
        struct ask *a = c->first;

        (void)s;
        if (a && a->failure.number == EPIPE && c->fd >= 0) {
                fail_connection(c, EPIPE, strerror(EPIPE));
        } else if (a && a->failure.number > 0) {
                struct error e = a->failure;

                pop(c);
                /* Before the asker is told, who may ask anew, or free the client. */
                send_next(c);
                tell(a, &e);
                ask_free(a);
        }
        return 0;
}

static void take_answer(struct helper_client *c, const char *data, size_t length)
{
        struct error answer, e;
        struct ask *a;

        if (!c->first || !c->first->is_sent) {
                fail_connection(c, EBADMSG, "it answered what nobody asked");
                return;
        }
        if (helper_answer_parse(data, length, &answer, &e) < 0) {
                fail_connection(c, e.number, e.text);
                return;
        }
        a = pop(c);
        send_next(c);
        tell(a, &answer);
        ask_free(a);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct helper_client *c = userdata;
        char data[ANSWER_MAXIMUM];
        ssize_t n;

        (void)s;
        if (revents & EPOLLOUT)
                send_next(c);
        if (!(revents & (EPOLLIN | EPOLLHUP | EPOLLERR)))
                return 0;
        n = recv(fd, data, sizeof data, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > (ssize_t)sizeof data)
                fail_connection(c, EMSGSIZE, strerror(EMSGSIZE));
        else if (n < 0 && errno != ECONNRESET)
                fail_connection(c, errno, strerror(errno));
        else if (n <= 0) /* a reset: it ended with our question unread */
                fail_connection(c, EPIPE, "it ended");
        else
                take_answer(c, data, (size_t)n);
        return 0;
}

/* Another helper, or the end of who starts them: then the one that we have goes on as long as it lives. */
static int on_supervisor(sd_event_source *s, int fd, uint32_t revents, void *userdata)
{
        struct helper_client *c = userdata;
        struct ask *gone = NULL;
        int connection = -1, r = take_connection(fd, &connection);
        struct error e;

        (void)s;
        (void)revents;
        if (r > 0) {
                error_set(&e, EPIPE, "helper.failed", "the connection to the helper has ended: it ended");
                if (c->fd >= 0) /* we have not heard of its end yet */
                        gone = take_all(c);
                disconnect(c);
                if (attach(c, connection, NULL) == 0)
                        send_next(c);
        } else if (r < 0) {
                no_helper(&e);
                if (c->fd < 0)
                        gone = take_all(c);
                leave_supervisor(c);
                reap_supervisor(c);
        }
        tell_all(gone, &e);
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct ask *a = userdata;
        struct error e;

        (void)s;
        (void)usec;
        error_set(&e, ETIMEDOUT, "helper.failed",
                a->client->fd < 0
                        ? "the helper has ended and did not start again within %llu s; the log says why"
                        : "the helper did not answer within %llu s",
                (unsigned long long)(ANSWER_TIMEOUT_US / 1000000));
        /* What was sent stays in the queue, so that its answer, should it still come, is not taken for the
         * next one's; what was not must never be done. */
        if (a->is_sent) {
                tell(a, &e);
        } else {
                unlink_ask(a->client, a);
                tell(a, &e);
                ask_free(a);
        }
        return 0;
}

int helper_client_ask(
        struct helper_client *c, const struct helper_request *r, helper_on_answer on_answer, void *userdata)
{
        struct ask *a;
        json_t *object;
        int result;

        if (c->count >= QUEUE_MAXIMUM)
                return -ENOBUFS;
        a = xcalloc(1, sizeof *a);
        *a = (struct ask){.client = c, .on_answer = on_answer, .userdata = userdata};
        result = sd_event_add_time_relative(
                c->event, &a->timer, CLOCK_MONOTONIC, ANSWER_TIMEOUT_US, 0, on_timeout, a);
        if (result < 0) {
                ask_free(a);
                return result;
        }
        object = helper_request_to_json(r);
        a->message = json_to_text(object);
        json_decref(object);
        *c->last = a;
        c->last = &a->next;
        c->count++;
        send_next(c);
        return 0;
}

/* ---- beginning and end ---- */

int helper_client_new(sd_event *event, const char *socket_path, const char *program, const char *root,
        struct helper_client **ret, struct error *ret_error)
{
        struct helper_client *c = xcalloc(1, sizeof *c);
        int r;

        c->event = sd_event_ref(event);
        c->socket_path = xstrdup(socket_path);
        c->fd = c->supervisor_fd = -1;
        c->last = &c->first;
        r = sd_event_add_defer(event, &c->defer, on_defer, c);
        if (r >= 0)
                r = sd_event_source_set_enabled(c->defer, SD_EVENT_OFF);
        if (r < 0)
                error_set(ret_error, -r, "helper.failed", "cannot watch the helper: %s", strerror(-r));
        else
                r = socket_path ? connect_socket(c, ret_error)
                                : start_supervisor(c, program, root, ret_error);
        if (r < 0) {
                helper_client_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

struct helper_client *helper_client_free(struct helper_client *c)
{
        struct ask *a;

        if (!c)
                return NULL;
        while ((a = pop(c)))
                ask_free(a);
        leave_supervisor(c); /* first, so that it does not wonder at the helper's end */
        disconnect(c);
        reap_supervisor(c);
        sd_event_source_disable_unref(c->defer);
        sd_event_unref(c->event);
        free(c->socket_path);
        free(c);
        return NULL;
}
