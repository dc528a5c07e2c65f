/* Remote tools: start, look, cancel. */
#include "plane/api_internal.h"

#include <stdio.h>
#include <string.h>

#define ARGUMENT_MAXIMUM 1024
#define TIMEOUT_DEFAULT  60
#define TIMEOUT_MAXIMUM  600

static void take_arguments(struct json_reader *r, struct strv *ret)
{
        json_t *items = json_take_optional_array(r, "arguments", REQUEST_MAX_ARGUMENTS), *item;
        size_t i;

        json_array_foreach(items, i, item)
        {
                const char *text = json_string_value(item);

                if (!text || strlen(text) != json_string_length(item) || strlen(text) > ARGUMENT_MAXIMUM) {
                        json_reader_fail(r, "arguments",
                                "has an item that is no text of at most %d bytes without NUL",
                                ARGUMENT_MAXIMUM);
                        return;
                }
                strv_add(ret, text);
        }
}

static void start(struct exchange *x, const struct plane_node *node, const char *tool,
        const struct strv *arguments, double timeout_s)
{
        struct requests *requests = x->api->options.requests;
        json_t *value = NULL;
        char id[65], location[96];
        struct error e = {0};
        int r = requests_start(
                requests, &x->actor, node, tool, arguments, timeout_s, clock_unix_ms(), id, &e);

        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        snprintf(location, sizeof location, "/api/v1/requests/%s", id);
        api_reply_json(x, MHD_HTTP_ACCEPTED, json_pack("{s:s}", "id", id));
        api_reply_header(x, MHD_HTTP_HEADER_LOCATION, location);
        if (requests_get(requests, x->organisation, id, INT32_MAX, &value, NULL) == 0) {
                json_object_del(value, "lines");
                api_changed(x->api, x->organisation, "request", value);
                json_decref(value);
        }
}

void api_requests_start(struct exchange *x)
{
        json_auto_t *body = NULL;
        struct strv arguments = {0};
        struct plane_node node;
        struct json_reader r;
        struct error e = {0};
        const char *tool;
        int64_t timeout_s;

        if (!api_path_node(x, &node) || !api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        tool = json_take_text(&r, "tool", WIRE_ID_MAXIMUM);
        take_arguments(&r, &arguments);
        timeout_s = json_take_optional_integer(&r, "timeout_s", 1, TIMEOUT_MAXIMUM, TIMEOUT_DEFAULT);
        if (tool && !wire_id_is_valid(tool))
                json_reader_fail(&r, "tool", "is no name of a tool");
        if (api_read_done(x, &r))
                start(x, &node, tool, &arguments, (double)timeout_s);
        strv_done(&arguments);
}

static void show(struct exchange *x, unsigned status, int64_t first)
{
        json_t *value = NULL;
        struct error e = {0};
        int r = requests_get(x->api->options.requests, x->organisation, x->values[0], first, &value, &e);

        if (r < 0)
                api_problem_error(x, r, &e);
        else
                api_reply_json(x, status, value);
}

void api_requests_show(struct exchange *x)
{
        int64_t first;

        if (api_query_integer(x, "first", 0, INT32_MAX, 0, &first))
                show(x, MHD_HTTP_OK, first);
}

void api_requests_cancel(struct exchange *x)
{
        struct error e = {0};
        int r = requests_cancel(
                x->api->options.requests, &x->actor, x->organisation, x->values[0], clock_unix_ms(), &e);

        if (r < 0)
                api_problem_error(x, r, &e);
        else
                show(x, MHD_HTTP_ACCEPTED, INT32_MAX);
}
