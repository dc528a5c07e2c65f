/* Events (also as CSV), reports and incidents. */
#include "plane/api_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT_PAGE  500
#define EXPORT_BLOCK ((size_t)32 << 10)

/* ---- filters ---- */

bool api_query_node(struct exchange *x, char ret[65], const char **ret_id)
{
        const char *name = uri_query(&x->uri, "node");
        struct plane_node node;
        struct error e = {0};
        int r;

        *ret_id = NULL;
        if (!name)
                return true;
        r = plane_node_find(x->api->options.store, x->organisation, name, &node, &e);
        if (r == -ENOENT || r == -EINVAL)
                api_problem(x, MHD_HTTP_NOT_FOUND, "node.unknown", "there is no node '%s'", name);
        else if (r < 0)
                api_problem_error(x, r, &e);
        else {
                str_copy(ret, 65, node.id);
                *ret_id = ret;
        }
        return r == 0;
}

static bool query_events(struct exchange *x, struct event_filter *f, char node[65])
{
        const char *severity = uri_query(&x->uri, "severity");
        enum wire_severity least;

        *f = (struct event_filter){
                .name = uri_query(&x->uri, "name"), .cause = uri_query(&x->uri, "cause"), .severity = -1};
        if (severity) {
                if (wire_severity_from_string(severity, &least) < 0) {
                        api_problem(x, MHD_HTTP_BAD_REQUEST, "query.malformed",
                                "parameter 'severity': none of INFO, WARNING, ERROR");
                        return false;
                }
                f->severity = (int)least;
        }
        return api_query_time(x, "since", &f->since) && api_query_time(x, "until", &f->until) &&
               api_query_node(x, node, &f->node);
}

/* ---- CSV (RFC 4180), page by page as it is read ---- */

struct export
{
        struct exchange *exchange;
        struct event_filter filter; /* its texts are the exchange's */
        char node[65];
        char *after;
        struct text waiting;
        size_t sent;
        bool is_last;
};

static const char *const columns[] = {"id", "received", "generated", "node", "node_name", "site", "name",
        "severity", "message", "service", "cause"};

/* Spreadsheets run what begins like a formula; texts of nodes are somebody else's words. */
static bool is_formula(const char *s)
{
        return *s && strchr("=+-@\t\r", *s);
}

static void add_field(struct text *t, const char *s)
{
        const char *mark = is_formula(s) ? "'" : "";

        if (!strpbrk(s, "\",\r\n")) {
                text_addf(t, "%s%s", mark, s);
                return;
        }
        text_addf(t, "\"%s", mark);
        for (; *s; s++)
                text_addf(t, *s == '"' ? "\"%c" : "%c", *s);
        text_add(t, "\"");
}

static void add_row(struct text *t, const json_t *event)
{
        for (size_t i = 0; i < ELEMENTS(columns); i++) {
                const char *value = json_string_value(json_object_get(event, columns[i]));

                text_add(t, i ? "," : "");
                add_field(t, value ? value : "");
        }
        text_add(t, "\r\n");
}

static void add_header(struct text *t)
{
        for (size_t i = 0; i < ELEMENTS(columns); i++)
                text_addf(t, "%s%s", i ? "," : "", columns[i]);
        text_add(t, "\r\n");
}

static int next_page(struct export *p, struct error *e)
{
        struct page page = {.after = p->after, .limit = EXPORT_PAGE};
        json_auto_t *list = NULL;
        const char *next;
        json_t *event;
        size_t i;
        int r = plane_event_list(
                p->exchange->api->options.store, p->exchange->organisation, &p->filter, &page, &list, e);

        if (r < 0)
                return r;
        json_array_foreach(json_object_get(list, "items"), i, event)
        {
                add_row(&p->waiting, event);
        }
        next = json_string_value(json_object_get(list, "next"));
        free(p->after);
        p->after = xstrdup(next);
        p->is_last = !next;
        return 0;
}

static ssize_t on_read(void *userdata, uint64_t position, char *buffer, size_t size)
{
        struct export *p = userdata;
        size_t length;

        (void)position;
        if (p->sent == p->waiting.length) {
                text_done(&p->waiting);
                p->sent = 0;
                if (p->is_last)
                        return MHD_CONTENT_READER_END_OF_STREAM;
                if (next_page(p, NULL) < 0) /* cut off: the client sees that it is not all */
                        return MHD_CONTENT_READER_END_WITH_ERROR;
                if (p->waiting.length == 0)
                        return MHD_CONTENT_READER_END_OF_STREAM;
        }
        length = p->waiting.length - p->sent;
        if (length > size)
                length = size;
        memcpy(buffer, p->waiting.data + p->sent, length);
        p->sent += length;
        return (ssize_t)length;
}

static void export_free(void *userdata)
{
        struct export *p = userdata;

        text_done(&p->waiting);
        free(p->after);
        free(p);
}

static void reply_csv(struct exchange *x, const struct event_filter *f, const char *node)
{
        struct export *p = xcalloc(1, sizeof *p);
        struct error e = {0};
        int r;

        p->exchange = x;
        p->filter = *f;
        if (f->node) {
                str_copy(p->node, sizeof p->node, node);
                p->filter.node = p->node;
        }
        p->after = xstrdup(uri_query(&x->uri, "after"));
        add_header(&p->waiting);
        r = next_page(p, &e); /* what is wrong with the question is said before anything is sent */
        if (r < 0) {
                export_free(p);
                api_problem_error(x, r, &e);
                return;
        }
        api_reply(x, MHD_HTTP_OK,
                MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, EXPORT_BLOCK, on_read, p, export_free));
        api_reply_header(x, MHD_HTTP_HEADER_CONTENT_TYPE, "text/csv; charset=utf-8; header=present");
        api_reply_header(x, MHD_HTTP_HEADER_CONTENT_DISPOSITION, "attachment; filename=\"events.csv\"");
}

/* ---- lists ---- */

void api_events_list(struct exchange *x)
{
        const char *accept = api_header(x, MHD_HTTP_HEADER_ACCEPT);
        struct event_filter f;
        struct error e = {0};
        json_t *list = NULL;
        struct page page;
        char node[65] = "";
        int r;

        if (!query_events(x, &f, node) || !api_query_page(x, &page))
                return;
        if (accept && strstr(accept, "text/csv")) {
                reply_csv(x, &f, node);
                return;
        }
        r = plane_event_list(x->api->options.store, x->organisation, &f, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

void api_reports_list(struct exchange *x)
{
        const char *node;
        struct error e = {0};
        json_t *list = NULL;
        struct list_filter filter;
        struct page page;
        char id[65];
        int r;

        if (!api_query_node(x, id, &node) || !api_query_list(x, &filter, &page))
                return;
        r = plane_report_list(x->api->options.store, x->organisation, node, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

void api_reports_show(struct exchange *x)
{
        struct error e = {0};
        json_t *value = NULL;
        int r = plane_report_get(x->api->options.store, x->organisation, x->values[0], &value, &e);

        api_reply_result(x, r, value, &e);
}

void api_incidents_list(struct exchange *x)
{
        static const char *const truths[] = {"false", "true"};
        struct error e = {0};
        json_t *list = NULL;
        struct list_filter filter;
        struct page page;
        int open, r;

        if (!api_query_choice(x, "open", truths, ELEMENTS(truths), -1, &open) ||
                !api_query_list(x, &filter, &page))
                return;
        r = plane_incident_list(x->api->options.store, x->organisation, open, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}
