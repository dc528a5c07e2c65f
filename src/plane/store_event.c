#include "plane/store_internal.h"
#include "plane/store_update.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "wire/update.h"

#include <errno.h>
#include <string.h>

#define MAX_CAUSES  8
#define TIME_LATEST INT64_C(253402300799999) /* the last millisecond of the year 9999 */

/* ---- as the API shows it ---- */

#define COLUMNS                                                                                       \
        "SELECT e.node, n.name, n.site, e.epoch, e.seq, e.generated, e.received, e.name, e.severity," \
        " e.message, e.service, e.cause, e.diagnosis, e.report, e.generated, e.id "

static json_t *number_of(sqlite3_stmt *row, int seq)
{
        return json_sprintf("%s.%s.%lld", db_text(row, 0), db_text(row, 3), (long long)db_integer(row, seq));
}

static json_t *to_json(sqlite3_stmt *row)
{
        enum wire_severity severity = (enum wire_severity)db_integer(row, 8);

        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o}", "id",
                number_of(row, 4), "node", store_text(row, 0), "node_name", store_text(row, 1), "site",
                store_text(row, 2), "generated", json_time(db_integer(row, 5)), "received",
                json_time(db_integer(row, 6)), "name", store_text(row, 7), "severity",
                wire_severity_to_string(severity), "message", store_text(row, 9), "service",
                store_text(row, 10), "cause", store_text(row, 11), "diagnosis", store_json(row, 12), "report",
                db_is_null(row, 13) ? json_null() : number_of(row, 13));
}

static int on_event(sqlite3_stmt *row, void *userdata)
{
        *(json_t **)userdata = to_json(row);
        return 1;
}

static int get(struct plane_store *s, int64_t id, json_t **ret, struct error *e)
{
        json_t *value = NULL;
        int r = db_query(s->db, e, on_event, &value,
                COLUMNS "FROM events e CROSS JOIN nodes n ON n.id = e.node WHERE e.id = ?", "i", id);

        if (r == 0)
                return error_set(e, EIO, "event.missing", "an event is not there after it was stored");
        if (r > 0)
                *ret = value;
        return r < 0 ? r : 0;
}

/* ---- storing ---- */

struct row {
        const char *organisation, *node, *epoch, *name, *message, *service;
        int64_t seq, generated, report_seq;
        enum wire_severity severity;
        const json_t *diagnosis;
        const struct wire_event *update; /* the event that tells of one; NULL */
};

/* The code of the cause at this place; NULL when there is none, or nothing that can be one. */
static const char *cause_at(const json_t *diagnosis, size_t at)
{
        const char *code = json_string_value(
                json_object_get(json_array_get(json_object_get(diagnosis, "causes"), at), "code"));

        return code && strlen(code) <= 64 ? code : NULL;
}

static int add_causes(struct plane_store *s, const struct row *w, int64_t event, struct error *e)
{
        int r = 0;

        for (size_t i = 0; i < MAX_CAUSES && r == 0; i++) {
                const char *code = cause_at(w->diagnosis, i);

                if (code)
                        r = db_run(s->db, e,
                                "INSERT OR IGNORE INTO event_causes (organisation, cause, generated, event)"
                                " VALUES (?, ?, ?, ?)",
                                "ssii", w->organisation, code, w->generated, event);
        }
        return r;
}

/* Which services fail, for what must know it after a restart. */
static int keep_failure(struct plane_store *s, const struct row *w, const char *diagnosis, struct error *e)
{
        if (!w->service)
                return 0;
        if (w->severity == WIRE_INFO)
                return db_run(s->db, e, "DELETE FROM failures WHERE node = ? AND service = ?", "ss", w->node,
                        w->service);
        if (!diagnosis)
                return 0;
        return db_run(s->db, e,
                "INSERT INTO failures (organisation, node, service, since, diagnosis) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT (node, service) DO UPDATE SET diagnosis = excluded.diagnosis",
                "sssis", w->organisation, w->node, w->service, w->generated, diagnosis);
}

/* Gives 1 for a new one, 0 for one that is there. */
static int insert(struct plane_store *s, const struct row *w, const char *diagnosis, int64_t now,
        int64_t *ret_id, struct error *e)
{
        static const char with_report[] =
                "INSERT INTO events (organisation, node, epoch, seq, generated, received, name, severity,"
                " message, service, cause, diagnosis, report) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                " nullif(?, 0)) ON CONFLICT (node, epoch, seq) DO NOTHING";
        int r = db_run(s->db, e, with_report, "sssiiisissssi", w->organisation, w->node, w->epoch, w->seq,
                w->generated, now, w->name, (int64_t)w->severity, w->message, w->service,
                cause_at(w->diagnosis, 0), diagnosis, w->report_seq);

        if (r < 0)
                return r;
        *ret_id = db_last_id(s->db);
        return db_changes(s->db) > 0;
}

static int add(
        struct plane_store *s, const struct row *w, int64_t now, bool *ret_new, json_t **ret, struct error *e)
{
        _cleanup_free_ char *diagnosis = w->diagnosis ? json_to_text(w->diagnosis) : NULL;
        int64_t id = 0;
        int r = insert(s, w, diagnosis, now, &id, e);

        if (r < 0)
                return r;
        *ret_new = r > 0;
        if (!*ret_new)
                return 0;
        r = add_causes(s, w, id, e);
        if (r == 0 && w->update)
                r = store_update_add(s, w->organisation, w->node, id, w->update, now, e);
        if (r == 0)
                r = keep_failure(s, w, diagnosis, e);
        return r < 0 ? r : get(s, id, ret, e);
}

static int store(
        struct plane_store *s, const struct row *w, int64_t now, bool *ret_new, json_t **ret, struct error *e)
{
        json_t *value = NULL;
        bool is_new = false;
        int r = db_begin(s->db, e);

        if (r == 0)
                r = store_end(s, add(s, w, now, &is_new, &value, e), e);
        if (r < 0) {
                json_decref(value);
                return r;
        }
        *ret_new = is_new;
        *ret = value;
        return 0;
}

static int bad(const char *what, struct error *e)
{
        return error_set(e, EINVAL, "event.bad", "%s", what);
}

static int check_number(const char *epoch, int64_t seq, int64_t generated, struct error *e)
{
        if (!wire_id_is_valid(epoch) || str_equal(epoch, STORE_OWN_EPOCH))
                return bad("the epoch is none of a node's", e);
        if (seq < 1)
                return bad("the number is not at least 1", e);
        if (generated < 0 || generated > TIME_LATEST)
                return bad("the time is not one of the years 1970 to 9999", e);
        return 0;
}

static int check_update(const json_t *update, struct error *e)
{
        struct update_state u = {0};
        int r = update ? update_state_from_json(update, &u, e) : 0;

        update_state_done(&u);
        return r;
}

/* Whatever is refused is refused before anything is written, since the caller's transaction goes on. */
int plane_event_add(struct plane_store *s, const char *node, const struct wire_event *event, int64_t now,
        bool *ret_new, json_t **ret, struct error *e)
{
        char organisation[65];
        struct row w = {
                .organisation = organisation,
                .node = node,
                .epoch = event->epoch,
                .name = event->name,
                .message = event->message,
                .service = event->service,
                .seq = event->seq,
                .generated = event->generated_unix_ms,
                .report_seq = event->report_seq > 0 ? event->report_seq : 0,
                .severity = event->severity,
                .diagnosis = event->diagnosis,
                .update = event->update ? event : NULL,
        };
        int r = check_number(w.epoch, w.seq, w.generated, e);

        if (r < 0)
                return r;
        if (str_is_empty(w.name) || !w.message || (unsigned)w.severity > WIRE_ERROR)
                return bad("an event without a name, message or severity", e);
        r = check_update(event->update, e);
        if (r == 0)
                r = store_live_node(s, node, organisation, e);
        return r < 0 ? r : store(s, &w, now, ret_new, ret, e);
}

int plane_event_own(struct plane_store *s, const char *node, const char *name, enum wire_severity severity,
        const char *message, int64_t now, json_t **ret, struct error *e)
{
        char organisation[65];
        struct row w = {.organisation = organisation,
                .node = node,
                .epoch = STORE_OWN_EPOCH,
                .name = name,
                .message = message,
                .generated = now,
                .severity = severity};
        bool is_new;
        int r = store_live_node(s, node, organisation, e);

        if (r == 0)
                r = db_begin(s->db, e);
        if (r < 0)
                return r;
        r = db_run(s->db, e, "UPDATE nodes SET own_events = own_events + 1 WHERE id = ?", "s", node);
        if (r == 0)
                r = db_query_integer(
                        s->db, e, 0, &w.seq, "SELECT own_events FROM nodes WHERE id = ?", "s", node);
        if (r == 0)
                r = store(s, &w, now, &is_new, ret, e);
        return store_end(s, r, e);
}

/* ---- lists ---- */

#define PARAMETERS "ssssiiiii"
/* ?1 organisation ?2 node ?3 name ?4 cause ?5 severity ?6, ?7 key ?8 since ?9 limit */
#define NODE_OF " CROSS JOIN nodes n ON n.id = e.node"
#define WHERE                                                                                         \
        NODE_OF " WHERE e.organisation = ?1 AND (e.generated, e.id) < (?6, ?7) AND e.generated >= ?8" \
                " AND e.severity >= ?5"
#define AND_NODE " AND (?2 IS NULL OR e.node = ?2)"
#define AND_NAME " AND (?3 IS NULL OR e.name = ?3)"
#define AND_CAUSE                                                                                        \
        " AND (?4 IS NULL OR EXISTS (SELECT 1 FROM event_causes c WHERE c.organisation = e.organisation" \
        " AND c.cause = ?4 AND c.generated = e.generated AND c.event = e.id))"
#define NEWEST " ORDER BY e.generated DESC, e.id DESC LIMIT ?9"

static const char by_time[] = COLUMNS "FROM events e INDEXED BY events_newest" WHERE NEWEST;
static const char by_badness[] =
        COLUMNS "FROM events e INDEXED BY events_bad" WHERE " AND e.severity >= 1" NEWEST;
static const char by_name[] = COLUMNS "FROM events e INDEXED BY events_name" WHERE " AND e.name = ?3" NEWEST;
static const char by_node[] =
        COLUMNS "FROM events e INDEXED BY events_node" WHERE " AND e.node = ?2" AND_NAME AND_CAUSE NEWEST;
static const char by_cause[] =
        COLUMNS "FROM event_causes c CROSS JOIN events e ON e.id = c.event" NODE_OF
                " WHERE c.organisation = ?1 AND c.cause = ?4 AND (c.generated, c.event) < (?6, ?7)"
                " AND c.generated >= ?8 AND e.severity >= ?5" AND_NAME AND_NODE
                " ORDER BY c.generated DESC, c.event DESC LIMIT ?9";

/* The index that leaves the least to look through. */
static const char *way_of(const struct event_filter *f)
{
        if (f->node)
                return by_node;
        if (f->cause)
                return by_cause;
        if (f->name)
                return by_name;
        return f->severity >= WIRE_WARNING ? by_badness : by_time;
}

int plane_event_list(struct plane_store *s, const char *organisation, const struct event_filter *f,
        const struct page *p, json_t **ret, struct error *e)
{
        static const struct event_filter all = {.severity = -1};
        struct store_list l;
        int64_t before, id;
        int r = store_list_begin(&l, 'e', to_json, p, STORE_NEWEST, STORE_NEWEST, e);

        if (r < 0)
                return r;
        if (!f)
                f = &all;
        before = store_list_number(&l, 0);
        id = store_list_number(&l, 1);
        if (f->until && f->until <= before) {
                before = f->until;
                id = 0; /* none of that very moment */
        }
        r = db_query(s->db, e, store_list_on_row, &l, way_of(f), PARAMETERS, organisation, f->node, f->name,
                f->cause, (int64_t)f->severity, before, id, f->since, store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

int store_last_events(struct plane_store *s, const char *organisation, const char *node, int count,
        json_t **ret, struct error *e)
{
        const struct event_filter f = {.node = node, .severity = -1};
        const struct page p = {.limit = count};
        json_t *list = NULL;
        int r = plane_event_list(s, organisation, &f, &p, &list, e);

        if (r < 0)
                return r;
        *ret = json_incref(json_object_get(list, "items"));
        json_decref(list);
        return 0;
}

static int on_failure(sqlite3_stmt *row, void *userdata)
{
        json_t *failures = userdata;

        json_array_append_new(failures,
                json_pack("{s:o, s:o, s:o, s:o, s:I, s:o}", "organisation", store_text(row, 0), "node",
                        store_text(row, 1), "site", store_text(row, 2), "service", store_text(row, 3),
                        "since_unix_ms", (json_int_t)db_integer(row, 4), "diagnosis", store_json(row, 5)));
        return 0;
}

int plane_failures(struct plane_store *s, json_t **ret, struct error *e)
{
        json_t *failures = json_array();
        int r = db_query(s->db, e, on_failure, failures,
                "SELECT f.organisation, f.node, n.site, f.service, f.since, f.diagnosis"
                " FROM failures f JOIN nodes n ON n.id = f.node WHERE n.state <> 'removed' ORDER BY f.since",
                "");

        if (r < 0)
                json_decref(failures);
        else
                *ret = failures;
        return r;
}
