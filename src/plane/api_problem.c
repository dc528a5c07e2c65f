#include "plane/api_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_US       UINT64_C(60000000)
#define LOCKED_AGAIN_MS 2000

void api_reply(struct exchange *x, unsigned status, struct MHD_Response *response)
{
        if (x->response) { /* the first word counts */
                MHD_destroy_response(response);
                return;
        }
        x->response = response;
        x->status = status;
        api_reply_header(x, MHD_HTTP_HEADER_X_CONTENT_TYPE_OPTIONS, "nosniff");
        api_reply_header(x, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
        x->api->replies[status / 100]++;
}

void api_reply_header(struct exchange *x, const char *name, const char *value)
{
        MHD_add_response_header(x->response, name, value);
}

void api_reply_text(struct exchange *x, unsigned status, const char *type, char *text)
{
        size_t length = strlen(text);

        api_reply(x, status, MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE));
        api_reply_header(x, MHD_HTTP_HEADER_CONTENT_TYPE, type);
}

void api_reply_json(struct exchange *x, unsigned status, json_t *value)
{
        api_reply_text(x, status, "application/json", json_to_text(value));
        json_decref(value);
}

void api_reply_empty(struct exchange *x, unsigned status)
{
        api_reply(x, status, MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT));
}

static const char *title_of(unsigned status)
{
        const char *title = MHD_get_reason_phrase_for(status);

        return title ? title : "Error";
}

static void reply_problem(struct exchange *x, unsigned status, const char *code, const char *detail)
{
        json_auto_t *o = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title",
                title_of(status), "status", (int)status, "detail", detail, "code", code);

        /* A detail may quote the client's bytes. */
        if (!o) {
                _cleanup_free_ char *shown = str_printable(detail, strlen(detail), SIZE_MAX);

                o = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", "about:blank", "title", title_of(status),
                        "status", (int)status, "detail", shown, "code", code);
        }
        api_reply_text(x, status, "application/problem+json", json_to_text(o));
        if (status == MHD_HTTP_UNAUTHORIZED)
                api_reply_header(x, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"gridplane\"");
}

void api_problem(struct exchange *x, unsigned status, const char *code, const char *format, ...)
{
        _cleanup_free_ char *detail = NULL;
        va_list arguments;

        va_start(arguments, format);
        detail = xvasprintf(format, arguments);
        va_end(arguments);
        reply_problem(x, status, code, detail);
}

void api_problem_wait(
        struct exchange *x, unsigned status, const char *code, int64_t wait_ms, const char *text)
{
        char seconds[24];

        snprintf(seconds, sizeof seconds, "%lld", (long long)((wait_ms + 999) / 1000));
        reply_problem(x, status, code, text);
        api_reply_header(x, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
}

static unsigned status_of(int number)
{
        switch (number) {
        case ENOENT:
                return MHD_HTTP_NOT_FOUND;
        case EEXIST:
        case ENOTCONN:
                return MHD_HTTP_CONFLICT;
        case ESTALE:
                return MHD_HTTP_PRECONDITION_FAILED;
        case EINVAL:
        case EBADMSG:
        case ERANGE:
                return MHD_HTTP_BAD_REQUEST;
        case EFBIG:
                return MHD_HTTP_CONTENT_TOO_LARGE;
        case EACCES:
        case EPERM:
                return MHD_HTTP_FORBIDDEN;
        case EBUSY:
                return MHD_HTTP_TOO_MANY_REQUESTS;
        case EAGAIN:
                return MHD_HTTP_SERVICE_UNAVAILABLE;
        case ENOSPC:
                return MHD_HTTP_INSUFFICIENT_STORAGE;
        default:
                return MHD_HTTP_INTERNAL_SERVER_ERROR;
        }
}

static void log_internal(struct exchange *x, const struct error *e)
{
        unsigned suppressed = 0;
        char count[16];

        if (!log_limit_allows(
                    &x->api->internal_log, (uint64_t)clock_unix_ms() * 1000, MINUTE_US, &suppressed))
                return;
        snprintf(count, sizeof count, "%u", suppressed);
        log_event(LOG_LEVEL_ERROR, "A request of the API failed by a fault of this machine's", "method",
                x->method, "path", x->route ? x->route->path : NULL, "error", e->text, "suppressed",
                suppressed ? count : NULL, NULL);
}

void api_problem_error(struct exchange *x, int result, const struct error *e)
{
        struct error unnamed = {0};
        unsigned status = status_of(-result);

        if (!e || !e->text[0]) {
                error_set(&unnamed, -result, "internal", "%s", strerror(-result));
                e = &unnamed;
        }
        if (str_equal(e->code, "db.busy")) { /* the log has it already */
                api_problem_wait(x, MHD_HTTP_SERVICE_UNAVAILABLE, "database.locked", LOCKED_AGAIN_MS,
                        "the control plane's database is locked by another process on its machine; nothing "
                        "was changed: try again in a few seconds");
                return;
        }
        if (status == MHD_HTTP_INTERNAL_SERVER_ERROR || status == MHD_HTTP_INSUFFICIENT_STORAGE) {
                log_internal(x, e);
                reply_problem(x, status, status == MHD_HTTP_INSUFFICIENT_STORAGE ? "disk.full" : "internal",
                        status == MHD_HTTP_INSUFFICIENT_STORAGE
                                ? "the control plane's disk is full; nothing was changed"
                                : "the control plane failed at this; its log says how");
                return;
        }
        reply_problem(x, status, e->code ? e->code : "internal", e->text);
}

void api_reply_result(struct exchange *x, int result, json_t *value, const struct error *e)
{
        if (result < 0)
                api_problem_error(x, result, e);
        else
                api_reply_json(x, MHD_HTTP_OK, value);
}
