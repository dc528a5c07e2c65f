#include "plane/api_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define CONNECTIONS_MAXIMUM 1024U
#define CONNECTION_MEMORY   ((size_t)64 << 10) /* its first line and headers among it */
#define INACTIVITY_S        30U
#define DRAIN_MAXIMUM       ((size_t)1 << 20) /* of a body that nobody wants: read, so that the answer arrives */
#define CONNECTION_BACKLOG  512

const char *api_header(const struct exchange *x, const char *name)
{
        return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* ---- one request ---- */

static void *on_target(void *userdata, const char *target, struct MHD_Connection *connection)
{
        struct listener *l = userdata;
        struct exchange *x = xcalloc(1, sizeof *x);

        x->api = l->api;
        x->listener = l;
        x->connection = connection;
        x->uri_result = uri_parse(target, &x->uri, &x->uri_error);
        return x;
}

static void on_completed(void *userdata, struct MHD_Connection *connection, void **of_request,
        enum MHD_RequestTerminationCode code)
{
        struct exchange *x = *of_request;

        (void)userdata;
        (void)connection;
        (void)code;
        *of_request = NULL;
        if (!x)
                return;
        if (x->is_handled && !x->is_head && !str_equal(x->method, "GET"))
                api_audit_changed(x->api);
        api_stream_free(x->stream);
        api_upload_free(x->upload);
        if (x->response)
                MHD_destroy_response(x->response);
        if (x->body) {
                explicit_bzero(x->body, x->body_length);
                free(x->body);
        }
        if (x->context)
                explicit_bzero(x->context, x->context_size);
        free(x->context);
        uri_done(&x->uri);
        explicit_bzero(x, sizeof *x);
        free(x);
}

static bool is_type(const char *type, const char *wanted)
{
        size_t length = strcspn(type, "; \t");

        return length == strlen(wanted) && strncasecmp(type, wanted, length) == 0;
}

static bool is_accepted(const struct route *route, const char *type)
{
        static const char *const json[] = {"application/json", NULL};
        const char *const *types = route->sink ? route->sink->types : json;

        for (; *types; types++)
                if (is_type(type, *types))
                        return true;
        return false;
}

static bool has_body(const struct exchange *x)
{
        const char *length = api_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);

        return api_header(x, MHD_HTTP_HEADER_TRANSFER_ENCODING) || (length && !str_equal(length, "0"));
}

static unsigned long long declared_length(const struct exchange *x)
{
        const char *length = api_header(x, MHD_HTTP_HEADER_CONTENT_LENGTH);

        return length ? strtoull(length, NULL, 10) : 0;
}

static void body_too_long(struct exchange *x)
{
        api_problem(x, MHD_HTTP_CONTENT_TOO_LARGE, "body.large", "the body has more than %zu bytes",
                x->route->body_maximum);
}

/* What the headers say of the body is looked at before a byte of it is kept. */
static void check_body(struct exchange *x)
{
        const char *type = api_header(x, MHD_HTTP_HEADER_CONTENT_TYPE);

        if (x->route->body_maximum == 0) {
                if (has_body(x))
                        api_problem(x, MHD_HTTP_BAD_REQUEST, "body.unexpected", "%s takes no body here",
                                x->method);
        } else if (!type || !is_accepted(x->route, type))
                api_problem(x, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "body.type",
                        "the body is to be %s, and its Content-Type is to say so",
                        x->route->sink ? x->route->sink->types[0] : "application/json");
        else if (declared_length(x) > x->route->body_maximum)
                body_too_long(x);
}

static void check_query(struct exchange *x)
{
        struct strv known = {0};

        strv_split(&known, x->route->query ? x->route->query : "", ' ');
        for (size_t i = 0; i < x->uri.names.count && !x->response; i++)
                if (!strv_contains(&known, x->uri.names.items[i]))
                        api_problem(x, MHD_HTTP_BAD_REQUEST, "query.unknown",
                                "there is no parameter '%s' here", x->uri.names.items[i]);
        strv_done(&known);
}

static void begin(struct exchange *x, const char *method)
{
        x->is_begun = true;
        str_copy(x->method, sizeof x->method, method);
        x->is_head = str_equal(x->method, "HEAD");
        if (x->uri_result < 0) {
                api_problem(x, x->uri_result == -E2BIG ? MHD_HTTP_URI_TOO_LONG : MHD_HTTP_BAD_REQUEST,
                        x->uri_error.code, "%s", x->uri_error.text);
                return;
        }
        x->route = api_route_find(x);
        if (!x->route || !api_identify(x))
                return;
        check_query(x);
        if (!x->response)
                check_body(x);
        if (!x->response && x->route->sink)
                x->route->sink->begin(x);
}

static enum MHD_Result send_reply(struct exchange *x)
{
        enum MHD_Result r = MHD_queue_response(x->connection, x->status, x->response);

        MHD_destroy_response(x->response);
        x->response = NULL;
        return r;
}

/* A refusal is sent before the body when the client waits to be asked for it, or when it is not worth
 * reading: the connection ends then. */
static bool is_answered_at_once(const struct exchange *x)
{
        return x->response && has_body(x) &&
               (api_header(x, MHD_HTTP_HEADER_EXPECT) || declared_length(x) > DRAIN_MAXIMUM);
}

static enum MHD_Result take_body(struct exchange *x, const char *data, size_t length)
{
        bool has_sink = x->route && x->route->sink;

        x->body_seen += length;
        if (x->body_seen > DRAIN_MAXIMUM + (has_sink ? x->route->body_maximum : 0))
                return MHD_NO;
        if (x->response)
                return MHD_YES;
        if (has_sink) {
                if (x->body_seen > x->route->body_maximum)
                        body_too_long(x);
                else
                        x->route->sink->take(x, data, length);
                return MHD_YES;
        }
        if (x->body_length + length > x->route->body_maximum) {
                body_too_long(x);
                return MHD_YES;
        }
        x->body = xrealloc_array(x->body, x->body_length + length, 1);
        memcpy(x->body + x->body_length, data, length);
        x->body_length += length;
        return MHD_YES;
}

static enum MHD_Result on_request(void *userdata, struct MHD_Connection *connection, const char *path,
        const char *method, const char *version, const char *data, size_t *length, void **of_request)
{
        struct exchange *x = *of_request;
        enum MHD_Result r;

        (void)userdata;
        (void)connection;
        (void)path;
        (void)version;
        if (!x->is_begun) {
                begin(x, method);
                return is_answered_at_once(x) ? send_reply(x) : MHD_YES;
        }
        if (*length > 0) {
                r = take_body(x, data, *length);
                *length = 0;
                return r;
        }
        if (!x->response && !x->is_handled) {
                x->is_handled = true;
                x->route->handle(x);
        }
        if (x->is_waiting)
                return MHD_YES;
        if (!x->response)
                api_problem(x, MHD_HTTP_INTERNAL_SERVER_ERROR, "internal", "the control plane had no answer");
        return send_reply(x);
}

void api_suspend(struct exchange *x)
{
        x->is_waiting = true;
        MHD_suspend_connection(x->connection);
}

void api_resume(struct exchange *x)
{
        x->is_waiting = false;
        MHD_resume_connection(x->connection);
        api_kick(x->listener);
}

/* ---- libmicrohttpd in the loop ---- */

static void run_again_in(struct listener *l, uint64_t wait_us)
{
        uint64_t now_us = 0;

        sd_event_now(l->api->options.event, CLOCK_MONOTONIC, &now_us);
        sd_event_source_set_time(l->timer, now_us + wait_us);
        sd_event_source_set_enabled(l->timer, SD_EVENT_ONESHOT);
}

void api_kick(struct listener *l)
{
        run_again_in(l, 0);
}

static void run(struct listener *l)
{
        MHD_UNSIGNED_LONG_LONG wait_ms;

        sd_event_source_set_enabled(l->timer, SD_EVENT_OFF);
        MHD_run(l->daemon);
        if (MHD_get_timeout(l->daemon, &wait_ms) != MHD_YES)
                return;
        /* A kick that came meanwhile is not put off. */
        if (wait_ms > 0) {
                int enabled = SD_EVENT_OFF;

                sd_event_source_get_enabled(l->timer, &enabled);
                if (enabled != SD_EVENT_OFF)
                        return;
        }
        run_again_in(l, (uint64_t)wait_ms * 1000);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        (void)source;
        (void)fd;
        (void)events;
        run(userdata);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)source;
        (void)now_us;
        run(userdata);
        return 0;
}

static void __attribute__((format(printf, 2, 0)))
on_daemon_message(void *userdata, const char *format, va_list arguments)
{
        _cleanup_free_ char *text = NULL;

        (void)userdata;
        text = xvasprintf(format, arguments);
        text[strcspn(text, "\n")] = '\0';
        log_text(LOG_LEVEL_DEBUG, "API: %s", text);
}

/* Targets are split and decoded by api_uri.c alone. */
static size_t leave_escapes(void *userdata, struct MHD_Connection *connection, char *s)
{
        (void)userdata;
        (void)connection;
        return strlen(s);
}

static struct MHD_Daemon *start_daemon(struct listener *l, int fd)
{
        return MHD_start_daemon(MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL,
                on_request, l, MHD_OPTION_EXTERNAL_LOGGER, on_daemon_message, NULL, MHD_OPTION_LISTEN_SOCKET,
                fd, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAXIMUM, MHD_OPTION_CONNECTION_TIMEOUT,
                INACTIVITY_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY,
                MHD_OPTION_URI_LOG_CALLBACK, on_target, l, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL,
                MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                MHD_OPTION_END);
}

static int listener_open(struct listener *l, const char *path, mode_t mode, struct error *ret_error)
{
        const union MHD_DaemonInfo *info;
        sd_event *event = l->api->options.event;
        int r = local_listen(path, mode, NULL, CONNECTION_BACKLOG, &l->socket, ret_error);

        if (r < 0)
                return r;
        l->daemon = start_daemon(l, l->socket.fd);
        if (!l->daemon)
                return error_set(
                        ret_error, EIO, "api.socket", "%s: the HTTP server could not be started", path);
        l->socket.fd = -1; /* the daemon's now */
        info = MHD_get_daemon_info(l->daemon, MHD_DAEMON_INFO_EPOLL_FD);
        r = sd_event_add_io(event, &l->io, info->epoll_fd, EPOLLIN, on_io, l);
        if (r >= 0)
                r = sd_event_add_time(event, &l->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, l);
        if (r < 0)
                return error_set(ret_error, -r, "api.socket", "%s: the event loop takes no more: %s", path,
                        strerror(-r));
        return 0;
}

static void listener_close(struct listener *l)
{
        if (l->daemon)
                MHD_stop_daemon(l->daemon);
        sd_event_source_unref(l->io);
        sd_event_source_unref(l->timer);
        local_socket_done(&l->socket);
}

int api_new(const struct api_options *o, struct api **ret, struct error *ret_error)
{
        struct api *a = xcalloc(1, sizeof *a);
        int r;

        a->options = *o;
        a->limit = limit_new();
        a->logins = logins_new();
        a->listeners[0] = (struct listener){.api = a};
        a->listeners[1] = (struct listener){.api = a, .is_local = true};
        r = api_hub_new(a);
        if (r < 0)
                error_set(ret_error, -r, "api.stream", "the event loop takes no more: %s", strerror(-r));
        if (r == 0)
                r = listener_open(&a->listeners[0], o->settings->api_socket, 0660, ret_error);
        if (r == 0)
                r = listener_open(&a->listeners[1], o->settings->admin_socket, 0600, ret_error);
        if (r < 0) {
                api_free(a);
                return r;
        }
        *ret = a;
        return 0;
}

struct api *api_free(struct api *a)
{
        if (!a)
                return NULL;
        /* Nothing may be suspended when its daemon stops. */
        api_waits_end(a);
        api_hub_stop(a);
        for (size_t i = 0; i < ELEMENTS(a->listeners); i++)
                listener_close(&a->listeners[i]);
        api_hub_free(a);
        logins_free(a->logins);
        limit_free(a->limit);
        free(a);
        return NULL;
}
