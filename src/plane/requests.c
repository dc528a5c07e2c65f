#include "plane/requests.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"
#include "base/timer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

#define GRACE_MS        10000.0   /* beyond the node's own timeout, and after a cancel */
#define KEEP_MS         3600000.0 /* after the end */
#define OUTPUT_MAXIMUM  ((size_t)1 << 20)
#define ALL_MAXIMUM     ((size_t)64 << 20) /* of all requests together: the oldest that ended go first */
#define COUNT_MAXIMUM   1024
#define RUNNING_MAXIMUM 2   /* of a node */
#define LINE_COST       128 /* what a line costs beside its text */

struct request {
        struct requests *all;
        char id[RANDOM_ID_TEXT], node[65], organisation[65], by[80];
        char *tool;
        struct strv arguments;
        struct wire_line *lines;
        size_t line_count, line_allocated, size_bytes;
        int64_t expected; /* the node's number of the next line: some may be lost, or cut off here */
        bool is_cut;
        enum wire_end end; /* END_NONE: it runs */
        int status;
        char *error;
        sd_event_source *timer;      /* running: it is lost then; ended: it is forgotten then */
        struct request *prev, *next; /* the oldest first */
        UT_hash_handle hh;
};

struct requests {
        sd_event *event;
        struct broker *broker;
        struct plane_store *store;
        void (*on_change)(const char *organisation, const char *request, void *userdata);
        void *userdata;
        struct request *by_id, *oldest;
        size_t size_bytes, running;
};

static void cleanup_request(struct wire_request *r)
{
        wire_request_done(r);
}

struct requests *requests_new(sd_event *event, struct broker *broker, struct plane_store *store,
        void (*on_change)(const char *organisation, const char *request, void *userdata), void *userdata)
{
        struct requests *r = xcalloc(1, sizeof *r);

        r->event = sd_event_ref(event);
        r->broker = broker;
        r->store = store;
        r->on_change = on_change;
        r->userdata = userdata;
        return r;
}

static void forget(struct request *q)
{
        HASH_DEL(q->all->by_id, q);
        DL_DELETE(q->all->oldest, q);
        q->all->size_bytes -= q->size_bytes;
        if (q->end == END_NONE)
                q->all->running--;
        sd_event_source_disable_unref(q->timer);
        for (size_t i = 0; i < q->line_count; i++)
                free(q->lines[i].text);
        free(q->lines);
        strv_done(&q->arguments);
        free(q->tool);
        free(q->error);
        free(q);
}

struct requests *requests_free(struct requests *r)
{
        if (!r)
                return NULL;
        while (r->oldest)
                forget(r->oldest);
        sd_event_unref(r->event);
        free(r);
        return NULL;
}

/* ---- output ---- */

static void add_line(struct request *q, bool is_error, const char *text)
{
        size_t cost = strlen(text) + LINE_COST;

        if (q->is_cut)
                return;
        if (q->size_bytes + cost > OUTPUT_MAXIMUM) {
                q->is_cut = true;
                text = "[the rest is not kept: the output has more than 1 MiB]";
                is_error = true;
                cost = strlen(text) + LINE_COST;
        }
        if (q->line_count == q->line_allocated) {
                q->line_allocated = q->line_allocated ? q->line_allocated * 2 : 16;
                q->lines = xrealloc_array(q->lines, q->line_allocated, sizeof *q->lines);
        }
        q->lines[q->line_count++] = (struct wire_line){is_error, xstrdup(text)};
        q->size_bytes += cost;
        q->all->size_bytes += cost;
}

static void add_lines(struct request *q, const struct wire_output *o)
{
        int64_t known = 0;

        if (o->first > q->expected) {
                _cleanup_free_ char *text =
                        xasprintf("[%lld lines were lost on the way]", (long long)(o->first - q->expected));

                add_line(q, true, text);
        } else
                known = q->expected - o->first; /* sent again: the beginning is here already */
        for (int64_t i = known; i < (int64_t)o->line_count; i++)
                add_line(q, o->lines[i].is_error, o->lines[i].text);
        if (o->first + (int64_t)o->line_count > q->expected)
                q->expected = o->first + (int64_t)o->line_count;
}

/* ---- states ---- */

static int on_forget(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)source;
        (void)now_us;
        forget(userdata);
        return 0;
}

/* The one place where a request ends. */
static void end(struct request *q, enum wire_end why, int status, const char *error)
{
        struct requests *r = q->all;

        q->end = why;
        q->status = status;
        q->error = xstrdup(error);
        r->running--;
        timer_arm(r->event, &q->timer, KEEP_MS, on_forget, q);
        if (r->on_change)
                r->on_change(q->organisation, q->id, r->userdata);
}

static int on_lost(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)source;
        (void)now_us;
        end(userdata, END_LOST, 0, "the node did not say how it ended, within its time and 10 s");
        return 0;
}

static int on_cancel_unanswered(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)source;
        (void)now_us;
        end(userdata, END_LOST, 0, "it was cancelled, but the node did not confirm it within 10 s");
        return 0;
}

static void make_room(struct requests *r)
{
        struct request *next;

        for (struct request *q = r->oldest; q; q = next) {
                next = q->next;
                if (HASH_COUNT(r->by_id) < COUNT_MAXIMUM && r->size_bytes < ALL_MAXIMUM)
                        return;
                if (q->end != END_NONE)
                        forget(q);
        }
}

static size_t running_on(const struct requests *r, const char *node)
{
        size_t count = 0;

        for (const struct request *q = r->oldest; q; q = q->next)
                count += q->end == END_NONE && str_equal(q->node, node);
        return count;
}

static struct request *find(struct requests *r, const char *id)
{
        struct request *q;

        HASH_FIND_STR(r->by_id, id, q);
        return q;
}

/* ---- start and cancel ---- */

static int audit_start(struct requests *r, const struct actor *by, const struct plane_node *node,
        const struct wire_request *w, int64_t now, struct error *e)
{
        json_t *arguments = json_array();

        for (size_t i = 0; i < w->arguments.count; i++)
                json_array_append_new(arguments, json_string(w->arguments.items[i]));
        return plane_audit(r->store, by, node->organisation, "request.start", node->id,
                json_pack("{s:s, s:s, s:o}", "request", w->id, "tool", w->tool, "arguments", arguments), now,
                e);
}

static struct request *request_new(
        struct requests *r, const struct plane_node *node, const struct wire_request *w)
{
        struct request *q = xcalloc(1, sizeof *q);

        q->all = r;
        str_copy(q->id, sizeof q->id, w->id);
        str_copy(q->node, sizeof q->node, node->id);
        str_copy(q->organisation, sizeof q->organisation, node->organisation);
        str_copy(q->by, sizeof q->by, w->by);
        q->tool = xstrdup(w->tool);
        strv_copy(&q->arguments, &w->arguments);
        HASH_ADD_STR(r->by_id, id, q);
        DL_APPEND(r->oldest, q);
        r->running++;
        timer_arm(r->event, &q->timer, w->timeout_s * 1000 + GRACE_MS, on_lost, q);
        return q;
}

static int offline(const struct plane_node *node, struct error *e)
{
        return error_set(
                e, ENOTCONN, "node.offline", "node '%s' is not connected; try again when it is", node->name);
}

int requests_start(struct requests *r, const struct actor *by, const struct plane_node *node,
        const char *tool, const struct strv *arguments, double timeout_s, int64_t now, char ret_id[65],
        struct error *e)
{
        _cleanup_(cleanup_request) struct wire_request w = {.tool = xstrdup(tool), .timeout_s = timeout_s};
        int rc;

        if (!node->connected)
                return offline(node, e);
        if (running_on(r, node->id) >= RUNNING_MAXIMUM)
                return error_set(e, EBUSY, "request.busy",
                        "%d tools run on node '%s' already; wait for one to end", RUNNING_MAXIMUM,
                        node->name);
        random_id("r", w.id);
        strv_copy(&w.arguments, arguments);
        w.by = xstrdup(by->name);
        rc = audit_start(r, by, node, &w, now, e);
        if (rc < 0)
                return rc;
        rc = broker_request(r->broker, node->id, &w);
        if (rc == -ENOTCONN)
                return offline(node, e);
        if (rc < 0)
                return error_set(e, -rc, "request.unsent", "the request could not be sent to node '%s': %s",
                        node->name, strerror(-rc));
        make_room(r);
        str_copy(ret_id, 65, request_new(r, node, &w)->id);
        return 0;
}

static int unknown(const char *id, struct error *e)
{
        return error_set(e, ENOENT, "request.unknown",
                "there is no request '%s', or it ended more than an hour ago", id);
}

int requests_cancel(struct requests *r, const struct actor *by, const char *organisation, const char *id,
        int64_t now, struct error *e)
{
        struct request *q = find(r, id);
        struct wire_request w = {.cancel = true};
        int rc;

        if (!q || !str_equal(q->organisation, organisation))
                return unknown(id, e);
        if (q->end != END_NONE)
                return 0;
        rc = plane_audit(r->store, by, organisation, "request.cancel", q->node,
                json_pack("{s:s}", "request", id), now, e);
        if (rc < 0)
                return rc;
        str_copy(w.id, sizeof w.id, id);
        rc = broker_request(r->broker, q->node, &w);
        if (rc < 0)
                end(q, END_LOST, 0, "it was cancelled, but the node could not be told: it is not connected");
        else
                timer_arm(r->event, &q->timer, GRACE_MS, on_cancel_unanswered, q);
        return 0;
}

/* ---- what nodes say ---- */

void requests_output(struct requests *r, const char *node, const char *id, const struct wire_output *o)
{
        struct request *q = find(r, id);

        /* Another node's request is none of this one's, whatever it sends. */
        if (!q || !str_equal(q->node, node) || q->end != END_NONE)
                return;
        add_lines(q, o);
        if (o->end != END_NONE)
                end(q, o->end, o->status, o->error);
        else if (r->on_change)
                r->on_change(q->organisation, q->id, r->userdata);
}

void requests_unheard(struct requests *r, const char *node, const char *id)
{
        struct request *q = find(r, id);

        if (q && str_equal(q->node, node) && q->end == END_NONE)
                end(q, END_LOST, 0, "the node is not at the broker just now; try again in a minute");
}

void requests_node_gone(struct requests *r, const char *node)
{
        for (struct request *q = r->oldest; q; q = q->next)
                if (q->end == END_NONE && str_equal(q->node, node))
                        end(q, END_LOST, 0, "the node went offline");
}

/* ---- what operators read ---- */

static json_t *lines_from(const struct request *q, int64_t first)
{
        json_t *lines = json_array();

        for (int64_t i = first < 0 ? 0 : first; i < (int64_t)q->line_count; i++)
                json_array_append_new(
                        lines, json_pack("{s:s, s:s}", "stream", q->lines[i].is_error ? "err" : "out", "text",
                                       q->lines[i].text));
        return lines;
}

static json_t *text_or_null(const char *s)
{
        return s ? json_string(s) : json_null();
}

int requests_get(struct requests *r, const char *organisation, const char *id, int64_t first, json_t **ret,
        struct error *e)
{
        const struct request *q = find(r, id);
        bool is_ended = q && q->end != END_NONE;
        bool has_status = q && (q->end == END_EXITED || q->end == END_SIGNALLED);
        json_t *arguments;

        if (!q || !str_equal(q->organisation, organisation))
                return unknown(id, e);
        arguments = json_array();
        for (size_t i = 0; i < q->arguments.count; i++)
                json_array_append_new(arguments, json_string(q->arguments.items[i]));
        *ret = json_pack("{s:s, s:s, s:s, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:I}", "id", q->id, "node",
                q->node, "tool", q->tool, "arguments", arguments, "by", q->by, "state",
                is_ended ? "ended" : "running", "end",
                text_or_null(is_ended ? wire_end_to_string(q->end) : NULL), "status",
                has_status ? json_integer(q->status) : json_null(), "error", text_or_null(q->error), "lines",
                lines_from(q, first), "next", (json_int_t)q->line_count);
        return 0;
}

size_t requests_running(const struct requests *r)
{
        return r->running;
}
