/* Server-sent events (HTML, section 9.2): what changes, as it changes. A stream is a response without an end:
 * while it has nothing to send its connection is suspended, and each frame resumes it. */
#include "plane/api_internal.h"

#include "base/alloc.h"
#include "base/random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <utlist.h>

#define HEARTBEAT_US UINT64_C(15000000)
#define STREAM_LONGEST_US \
        UINT64_C(3600000000) /* then it begins anew: who lost his rights does not come back */
#define WAITING_MAXIMUM      ((size_t)256 << 10)
#define STREAMS_MAXIMUM      512
#define STREAMS_ORGANISATION 128
#define BLOCK_BYTES          ((size_t)16 << 10)
#define FRAMES_KEPT          1024 /* for who comes back with Last-Event-ID */
#define FRAMES_KEPT_BYTES    ((size_t)1 << 20)

struct frame {
        uint64_t number;
        char organisation[65]; /* "": all */
        bool is_for_admins;
        char *text;
        struct frame *prev, *next; /* the oldest first */
};

struct stream {
        struct hub *hub;
        struct exchange *exchange;
        char organisation[65];
        char request[WIRE_ID_MAXIMUM + 1]; /* ""; of changes */
        int64_t next_line;                 /* of that request */
        struct text waiting;
        size_t sent; /* of `waiting` */
        bool is_admin, is_suspended, is_ended, is_broken;
        int fd;
        uint64_t began_us;
        sd_event_source *hangup;
        struct stream *prev, *next;
};

struct hub {
        struct api *api;
        char boot[RANDOM_ID_TEXT]; /* numbers count within it */
        uint64_t number;
        int64_t audited; /* of the audit log: what was pushed last */
        struct frame *frames;
        size_t frame_count, frame_bytes;
        struct stream *streams;
        size_t count;
        sd_event_source *heartbeat;
};

/* ---- one stream ---- */

static void wake(struct stream *s)
{
        if (!s->is_suspended)
                return;
        s->is_suspended = false;
        MHD_resume_connection(s->exchange->connection);
        api_kick(s->exchange->listener);
}

static void end(struct stream *s)
{
        s->is_ended = true;
        wake(s);
}

/* Its end must not wait for a reader who does not read. */
static void break_off(struct stream *s)
{
        s->is_broken = true;
        text_done(&s->waiting);
        s->sent = 0;
        shutdown(s->fd, SHUT_RDWR);
        wake(s);
}

static void push(struct stream *s, const char *text)
{
        if (s->is_ended || s->is_broken)
                return;
        text_add(&s->waiting, text);
        if (s->waiting.length - s->sent > WAITING_MAXIMUM)
                break_off(s);
        else
                wake(s);
}

static ssize_t on_read(void *userdata, uint64_t position, char *buffer, size_t size)
{
        struct stream *s = userdata;
        size_t length = s->waiting.length - s->sent;

        (void)position;
        if (s->is_broken)
                return MHD_CONTENT_READER_END_WITH_ERROR;
        if (length == 0) {
                if (s->is_ended)
                        return MHD_CONTENT_READER_END_OF_STREAM;
                s->is_suspended = true;
                MHD_suspend_connection(s->exchange->connection);
                return 0;
        }
        if (length > size)
                length = size;
        memcpy(buffer, s->waiting.data + s->sent, length);
        s->sent += length;
        if (s->sent == s->waiting.length) {
                text_done(&s->waiting);
                s->sent = 0;
        }
        return (ssize_t)length;
}

/* libmicrohttpd does not look at a suspended connection; so it is us who see that its client went away. */
static int on_hangup(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct stream *s = userdata;

        (void)fd;
        (void)events;
        sd_event_source_set_enabled(source, SD_EVENT_OFF);
        break_off(s);
        return 0;
}

static struct stream *stream_new(struct exchange *x)
{
        struct hub *h = x->api->hub;
        struct stream *s = xcalloc(1, sizeof *s);

        s->hub = h;
        s->exchange = x;
        str_copy(s->organisation, sizeof s->organisation, x->organisation);
        s->is_admin = x->actor.role >= ROLE_ADMIN;
        s->fd = MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        sd_event_now(x->api->options.event, CLOCK_MONOTONIC, &s->began_us);
        sd_event_add_io(x->api->options.event, &s->hangup, s->fd, EPOLLRDHUP, on_hangup, s);
        DL_APPEND(h->streams, s);
        h->count++;
        x->stream = s;
        return s;
}

void api_stream_free(struct stream *s)
{
        if (!s)
                return;
        DL_DELETE(s->hub->streams, s);
        s->hub->count--;
        sd_event_source_disable_unref(s->hangup);
        text_done(&s->waiting);
        free(s);
}

static bool has_room(struct exchange *x)
{
        const struct hub *h = x->api->hub;
        size_t count = 0;

        for (const struct stream *s = h->streams; s; s = s->next)
                count += str_equal(s->organisation, x->organisation);
        if (h->count < STREAMS_MAXIMUM && count < STREAMS_ORGANISATION)
                return true;
        api_problem_wait(x, MHD_HTTP_SERVICE_UNAVAILABLE, "streams.full", 15000,
                "there are as many event streams as this control plane gives; end some");
        return false;
}

/* Replies with the stream; NULL after replying otherwise. HEAD gets what a stream begins with. */
static struct stream *begin(struct exchange *x)
{
        struct stream *s = NULL;

        if (!has_room(x))
                return NULL;
        if (x->is_head)
                api_reply_empty(x, MHD_HTTP_OK);
        else {
                s = stream_new(x);
                api_reply(x, MHD_HTTP_OK,
                        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK_BYTES, on_read, s, NULL));
        }
        api_reply_header(x, MHD_HTTP_HEADER_CONTENT_TYPE, "text/event-stream");
        api_reply_header(x, "X-Accel-Buffering", "no");
        return s;
}

/* ---- changes ---- */

static void forget_oldest(struct hub *h)
{
        struct frame *f = h->frames;

        DL_DELETE(h->frames, f);
        h->frame_count--;
        h->frame_bytes -= strlen(f->text);
        free(f->text);
        free(f);
}

static struct frame *keep(struct hub *h, const char *organisation, bool is_for_admins, char *text)
{
        struct frame *f = xcalloc(1, sizeof *f);

        f->number = h->number;
        str_copy(f->organisation, sizeof f->organisation, organisation);
        f->is_for_admins = is_for_admins;
        f->text = text;
        DL_APPEND(h->frames, f);
        h->frame_count++;
        h->frame_bytes += strlen(text);
        while (h->frame_count > FRAMES_KEPT || (h->frame_bytes > FRAMES_KEPT_BYTES && h->frame_count > 1))
                forget_oldest(h);
        return f;
}

static bool is_for(const struct stream *s, const struct frame *f)
{
        return !s->request[0] && (!f->organisation[0] || str_equal(s->organisation, f->organisation)) &&
               (!f->is_for_admins || s->is_admin);
}

static void spread(
        struct hub *h, const char *organisation, bool is_for_admins, const char *kind, const json_t *value)
{
        _cleanup_free_ char *json = json_to_text(value);
        const struct frame *f;

        h->number++;
        f = keep(h, organisation, is_for_admins,
                xasprintf("event: %s\nid: %s.%llu\ndata: %s\n\n", kind, h->boot,
                        (unsigned long long)h->number, json));
        for (struct stream *s = h->streams; s; s = s->next)
                if (is_for(s, f))
                        push(s, f->text);
}

void api_changed(struct api *a, const char *organisation, const char *kind, json_t *value)
{
        if (a)
                spread(a->hub, organisation, false, kind, value);
}

/* Users, tokens, configurations, requests: whatever somebody changes is in the audit log. */
void api_audit_changed(struct api *a)
{
        json_auto_t *news = NULL;
        json_t *n;
        size_t i;

        if (!a->hub || plane_audit_since(a->options.store, &a->hub->audited, &news, NULL) < 0)
                return;
        json_array_foreach(news, i, n)
        {
                spread(a->hub, json_string_value(json_object_get(n, "organisation")), true, "audit",
                        json_object_get(n, "entry"));
        }
}

/* The number of "BOOT.NUMBER"; false when it is of another life of the plane, or none at all. */
static bool parse_last_id(const struct hub *h, const char *id, uint64_t *ret)
{
        size_t length = strlen(h->boot);
        unsigned long number;

        if (strncmp(id, h->boot, length) != 0 || id[length] != '.' ||
                str_to_ulong(id + length + 1, 0, h->number, &number) < 0)
                return false;
        *ret = number;
        return true;
}

/* What the client missed; or that something is missing, and it is to read the lists again. */
static void catch_up(struct stream *s, const char *last_id)
{
        const struct hub *h = s->hub;
        uint64_t last = 0;

        if (!parse_last_id(h, last_id, &last) ||
                (last < h->number && (!h->frames || h->frames->number > last + 1))) {
                push(s, "event: gap\ndata: {}\n\n");
                return;
        }
        for (const struct frame *f = h->frames; f; f = f->next)
                if (f->number > last && is_for(s, f))
                        push(s, f->text);
}

void api_stream_events(struct exchange *x)
{
        const char *last_id = api_header(x, "Last-Event-ID");
        _cleanup_free_ char *greeting = NULL;
        struct stream *s = begin(x);

        if (!s)
                return;
        if (last_id)
                catch_up(s, last_id);
        greeting =
                xasprintf("retry: 2000\nid: %s.%llu\n\n", s->hub->boot, (unsigned long long)s->hub->number);
        push(s, greeting);
}

/* ---- the output of one request ---- */

static void push_event(struct stream *s, const char *kind, int64_t id, json_t *value)
{
        _cleanup_free_ char *json = json_to_text(value), *text = NULL;

        text = id < 0 ? xasprintf("event: %s\ndata: %s\n\n", kind, json)
                      : xasprintf("event: %s\nid: %lld\ndata: %s\n\n", kind, (long long)id, json);
        push(s, text);
}

static void push_output(struct stream *s)
{
        json_auto_t *value = NULL;
        json_t *lines, *line;
        size_t i;

        if (requests_get(s->hub->api->options.requests, s->organisation, s->request, s->next_line, &value,
                    NULL) < 0) {
                end(s);
                return;
        }
        lines = json_object_get(value, "lines");
        json_array_foreach(lines, i, line)
        {
                push_event(s, "line", s->next_line + (int64_t)i, line);
        }
        s->next_line = json_integer_value(json_object_get(value, "next"));
        if (str_equal(json_string_value(json_object_get(value, "state")), "ended")) {
                json_object_del(value, "lines");
                push_event(s, "end", -1, value);
                end(s);
        }
}

void api_stream_request(struct exchange *x)
{
        const char *last_id = api_header(x, "Last-Event-ID");
        json_auto_t *value = NULL;
        struct error e = {0};
        unsigned long last;
        struct stream *s;
        int64_t first;
        int r;

        if (!api_query_integer(x, "first", 0, INT32_MAX, 0, &first))
                return;
        if (last_id && str_to_ulong(last_id, 0, INT32_MAX - 1, &last) == 0)
                first = (int64_t)last + 1;
        r = requests_get(x->api->options.requests, x->organisation, x->values[0], INT32_MAX, &value, &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        s = begin(x);
        if (!s)
                return;
        str_copy(s->request, sizeof s->request, x->values[0]);
        s->next_line = first;
        push_output(s);
}

void api_request_changed(struct api *a, const char *organisation, const char *request)
{
        json_auto_t *value = NULL;

        if (!a)
                return;
        for (struct stream *s = a->hub->streams; s; s = s->next)
                if (str_equal(s->request, request) && str_equal(s->organisation, organisation))
                        push_output(s);
        if (requests_get(a->options.requests, organisation, request, INT32_MAX, &value, NULL) < 0 ||
                !str_equal(json_string_value(json_object_get(value, "state")), "ended"))
                return;
        json_object_del(value, "lines");
        api_changed(a, organisation, "request", value);
}

/* ---- the hub ---- */

static int on_heartbeat(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct hub *h = userdata;

        for (struct stream *s = h->streams; s; s = s->next) {
                push(s, ":\n\n");
                if (now_us > s->began_us + STREAM_LONGEST_US)
                        end(s);
        }
        sd_event_source_set_time(source, now_us + HEARTBEAT_US);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

int api_hub_new(struct api *a)
{
        struct hub *h = xcalloc(1, sizeof *h);
        json_auto_t *none = NULL;
        uint64_t now_us = 0;

        a->hub = h;
        h->api = a;
        random_id("s", h->boot);
        h->audited = -1;
        plane_audit_since(a->options.store, &h->audited, &none, NULL);
        sd_event_now(a->options.event, CLOCK_MONOTONIC, &now_us);
        return sd_event_add_time(a->options.event, &h->heartbeat, CLOCK_MONOTONIC, now_us + HEARTBEAT_US,
                       1000000, on_heartbeat, h) < 0
                       ? -ENOMEM
                       : 0;
}

void api_streams_end(struct api *a, const char *organisation)
{
        for (struct stream *s = a->hub->streams; s; s = s->next)
                if (!organisation || str_equal(s->organisation, organisation))
                        end(s);
}

size_t api_streams_count(const struct api *a)
{
        return a->hub->count;
}

void api_hub_stop(struct api *a)
{
        if (a->hub)
                api_streams_end(a, NULL);
}

void api_hub_free(struct api *a)
{
        struct hub *h = a->hub;

        if (!h)
                return;
        while (h->frames)
                forget_oldest(h);
        sd_event_source_disable_unref(h->heartbeat);
        free(h);
        a->hub = NULL;
}
