#include "net/http_engine.h"

#include "base/alloc.h"
#include "base/timer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>

#define MOST_POKED 64

/* One running easy handle; found again by CURLOPT_PRIVATE. */
struct transfer {
        struct http_engine *engine;
        struct transfer *previous, *next;
        CURL *easy;
        struct http_engine_handlers handlers;
};

/* One socket that libcurl wants watched; libcurl keeps the pointer for us (curl_multi_assign). */
struct watch {
        struct http_engine *engine;
        struct watch *previous, *next;
        struct transfer *transfer;
        sd_event_source *io, *hold;
};

struct http_engine {
        CURLM *multi;
        sd_event *event;
        sd_event_source *timer;
        struct transfer *transfers;
        struct watch *watches;
        int priority; /* of the timer: the first of all transfers' */
        double (*on_turn)(void *userdata);
        void *turn_userdata;
};

static struct transfer *transfer_of(CURL *easy)
{
        char *private = NULL;

        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &private);
        return (struct transfer *)private;
}

static void drop_transfer(struct transfer *t)
{
        struct http_engine *e = t->engine;

        for (struct watch *w = e->watches; w; w = w->next)
                if (w->transfer == t)
                        w->transfer = NULL;
        if (t->previous)
                t->previous->next = t->next;
        else
                e->transfers = t->next;
        if (t->next)
                t->next->previous = t->previous;
        curl_easy_setopt(t->easy, CURLOPT_PRIVATE, NULL);
        free(t);
}

static void drop_watch(struct watch *w)
{
        if (w->previous)
                w->previous->next = w->next;
        else
                w->engine->watches = w->next;
        if (w->next)
                w->next->previous = w->previous;
        sd_event_source_disable_unref(w->io);
        sd_event_source_disable_unref(w->hold);
        free(w);
}

static void report_done(struct http_engine *e)
{
        CURLMsg *message;
        int left;

        while ((message = curl_multi_info_read(e->multi, &left))) {
                CURL *easy = message->easy_handle;
                CURLcode code = message->data.result;
                struct transfer *t = transfer_of(easy);
                struct http_engine_handlers handlers;

                if (message->msg != CURLMSG_DONE)
                        continue;
                handlers = t->handlers;
                curl_multi_remove_handle(e->multi, easy);
                drop_transfer(t);
                handlers.on_done(easy, code, handlers.userdata);
        }
}

static int end_hold(sd_event_source *source, uint64_t usec, void *userdata);

/* True: the socket is left alone for now. */
static bool is_held(struct watch *w)
{
        const struct http_engine *e = w->engine;
        double wait_ms = e->on_turn ? e->on_turn(e->turn_userdata) : 0;

        if (wait_ms <= 0 || sd_event_source_set_enabled(w->io, SD_EVENT_OFF) < 0)
                return false;
        timer_arm(w->engine->event, &w->hold, wait_ms, end_hold, w);
        if (w->hold)
                return true;
        /* Without a timer nobody would wake it. */
        sd_event_source_set_enabled(w->io, SD_EVENT_ON);
        return false;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct watch *w = userdata;
        struct http_engine *e = w->engine;
        int flags = 0, running;

        (void)source;
        if (is_held(w))
                return 0;
        if (w->transfer && w->transfer->handlers.on_ready)
                w->transfer->handlers.on_ready(fd, events, w->transfer->handlers.userdata);
        if (events & (EPOLLIN | EPOLLHUP))
                flags |= CURL_CSELECT_IN;
        if (events & EPOLLOUT)
                flags |= CURL_CSELECT_OUT;
        if (events & EPOLLERR)
                flags |= CURL_CSELECT_ERR;
        curl_multi_socket_action(e->multi, fd, flags, &running);
        report_done(e);
        return 0;
}

/* What libcurl has taken from the kernel and kept (a record, frames of HTTP/2) no longer makes the socket
 * ready: it is asked for, too. */
static int end_hold(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct watch *w = userdata;
        int r = sd_event_source_set_enabled(w->io, SD_EVENT_ON);

        (void)source, (void)usec;
        return r < 0 ? r : on_io(w->io, sd_event_source_get_io_fd(w->io), EPOLLIN, w);
}

void http_engine_poke(struct http_engine *e)
{
        int fds[MOST_POKED], count = 0, running;

        for (const struct watch *w = e->watches; w && count < MOST_POKED; w = w->next) {
                int enabled = SD_EVENT_OFF;

                if (sd_event_source_get_enabled(w->io, &enabled) > 0)
                        fds[count++] = sd_event_source_get_io_fd(w->io);
        }
        for (int i = 0; i < count; i++)
                curl_multi_socket_action(e->multi, fds[i], CURL_CSELECT_IN, &running);
        report_done(e);
}

static uint32_t to_epoll(int what)
{
        switch (what) {
        case CURL_POLL_IN:
                return EPOLLIN;
        case CURL_POLL_OUT:
                return EPOLLOUT;
        case CURL_POLL_INOUT:
                return EPOLLIN | EPOLLOUT;
        }
        return 0;
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socket_data)
{
        struct http_engine *e = userdata;
        struct watch *w = socket_data;

        if (what == CURL_POLL_REMOVE) {
                if (w)
                        drop_watch(w);
                return 0;
        }
        if (!w) {
                w = xcalloc(1, sizeof(*w));
                w->engine = e;
                if (sd_event_add_io(e->event, &w->io, fd, to_epoll(what), on_io, w) < 0) {
                        free(w);
                        return -1;
                }
                w->next = e->watches;
                if (w->next)
                        w->next->previous = w;
                e->watches = w;
                curl_multi_assign(e->multi, fd, w);
        } else if (sd_event_source_set_io_events(w->io, to_epoll(what)) < 0)
                return -1;
        w->transfer = transfer_of(easy);
        if (w->transfer)
                sd_event_source_set_priority(w->io, w->transfer->handlers.priority);
        return 0;
}

static int on_timeout(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct http_engine *e = userdata;
        /* libcurl goes on reading from here, too, where there was more than it takes at once. */
        double wait_ms = e->on_turn ? e->on_turn(e->turn_userdata) : 0;
        int running;

        (void)usec;
        if (wait_ms > 0 && sd_event_source_set_time_relative(source, (uint64_t)(wait_ms * 1000)) >= 0 &&
                sd_event_source_set_enabled(source, SD_EVENT_ONESHOT) >= 0)
                return 0;
        curl_multi_socket_action(e->multi, CURL_SOCKET_TIMEOUT, 0, &running);
        report_done(e);
        return 0;
}

static int on_timer_change(CURLM *multi, long timeout_ms, void *userdata)
{
        struct http_engine *e = userdata;

        (void)multi;
        if (timeout_ms < 0)
                return sd_event_source_set_enabled(e->timer, SD_EVENT_OFF) < 0 ? -1 : 0;
        if (sd_event_source_set_time_relative(e->timer, (uint64_t)timeout_ms * 1000) < 0)
                return -1;
        return sd_event_source_set_enabled(e->timer, SD_EVENT_ONESHOT) < 0 ? -1 : 0;
}

static int init_curl(void)
{
        static bool is_ready;

        if (is_ready)
                return 0;
        /* Never undone: curl_global_cleanup would take OpenSSL's state with it, which others use too. */
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return -ENOMEM;
        is_ready = true;
        return 0;
}

int http_engine_new(sd_event *event, struct http_engine **ret)
{
        struct http_engine *e;
        int r = init_curl();

        if (r < 0)
                return r;
        e = xcalloc(1, sizeof(*e));
        e->event = sd_event_ref(event);
        e->multi = curl_multi_init();
        if (!e->multi) {
                http_engine_free(e);
                return -ENOMEM;
        }
        r = sd_event_add_time_relative(event, &e->timer, CLOCK_MONOTONIC, 0, 500, on_timeout, e);
        if (r >= 0)
                r = sd_event_source_set_enabled(e->timer, SD_EVENT_OFF);
        if (r < 0) {
                http_engine_free(e);
                return r;
        }
        curl_multi_setopt(e->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
        curl_multi_setopt(e->multi, CURLMOPT_SOCKETDATA, e);
        curl_multi_setopt(e->multi, CURLMOPT_TIMERFUNCTION, on_timer_change);
        curl_multi_setopt(e->multi, CURLMOPT_TIMERDATA, e);
        *ret = e;
        return 0;
}

struct http_engine *http_engine_free(struct http_engine *e)
{
        if (!e)
                return NULL;
        for (struct transfer *t = e->transfers, *next; t; t = next) {
                next = t->next;
                curl_multi_remove_handle(e->multi, t->easy);
                drop_transfer(t);
        }
        if (e->multi)
                curl_multi_cleanup(e->multi);
        while (e->watches)
                drop_watch(e->watches);
        e->timer = sd_event_source_disable_unref(e->timer);
        e->event = sd_event_unref(e->event);
        free(e);
        return NULL;
}

void http_engine_set_turn(struct http_engine *e, double (*on_turn)(void *userdata), void *userdata)
{
        e->on_turn = on_turn;
        e->turn_userdata = userdata;
}

int http_engine_add(struct http_engine *e, CURL *easy, const struct http_engine_handlers *handlers)
{
        struct transfer *t = xcalloc(1, sizeof(*t));

        *t = (struct transfer){.engine = e, .next = e->transfers, .easy = easy, .handlers = *handlers};
        curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
        if (t->next)
                t->next->previous = t;
        e->transfers = t;
        e->priority = handlers->priority < e->priority ? handlers->priority : e->priority;
        sd_event_source_set_priority(e->timer, e->priority);
        if (curl_multi_add_handle(e->multi, easy) != CURLM_OK) {
                drop_transfer(t);
                return -EINVAL;
        }
        return 0;
}

void http_engine_remove(struct http_engine *e, CURL *easy)
{
        struct transfer *t = transfer_of(easy);

        if (!t)
                return;
        curl_multi_remove_handle(e->multi, easy);
        drop_transfer(t);
}
