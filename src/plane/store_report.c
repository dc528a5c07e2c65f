#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

#define TIME_LATEST INT64_C(253402300799999) /* the last millisecond of the year 9999 */

static const char *text_member(const json_t *report, const char *name)
{
        return json_string_value(json_object_get(report, name));
}

int plane_report_add(struct plane_store *s, const char *node, const struct wire_report *report, int64_t now,
        bool *ret_new, struct error *e)
{
        _cleanup_free_ char *document = NULL;
        char organisation[65];
        int r;

        if (!wire_id_is_valid(report->epoch) || report->seq < 1 || report->generated_unix_ms < 0 ||
                report->generated_unix_ms > TIME_LATEST || !report->trigger ||
                !json_is_object(report->report))
                return error_set(e, EINVAL, "report.bad",
                        "a report without an epoch, a number, a time from 1970 to 9999, what triggered it, "
                        "or content");
        r = store_live_node(s, node, organisation, e);
        if (r < 0)
                return r;
        document = json_to_text(report->report);
        r = db_run(s->db, e,
                "INSERT INTO reports (organisation, node, epoch, seq, generated, received, trigger, verdict,"
                " summary, document) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (node, epoch, seq) DO NOTHING",
                "sssiiissss", organisation, node, report->epoch, report->seq, report->generated_unix_ms, now,
                report->trigger, text_member(report->report, "verdict"),
                text_member(report->report, "summary"), document);
        if (r == 0)
                *ret_new = db_changes(s->db) > 0;
        return r;
}

/* ---- as the API shows it ---- */

#define COLUMNS \
        "SELECT e.node, n.name, e.epoch, e.seq, e.generated, e.received, e.trigger, e.verdict, e.summary"

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
                json_sprintf("%s.%s.%lld", db_text(row, 0), db_text(row, 2), (long long)db_integer(row, 3)),
                "node", store_text(row, 0), "node_name", store_text(row, 1), "generated",
                json_time(db_integer(row, 4)), "received", json_time(db_integer(row, 5)), "trigger",
                store_text(row, 6), "verdict", store_text(row, 7), "summary", store_text(row, 8));
}

static int on_report(sqlite3_stmt *row, void *userdata)
{
        json_t *value = to_json(row);

        json_object_set_new(value, "report", store_json(row, 9));
        *(json_t **)userdata = value;
        return 1;
}

static int on_summary(sqlite3_stmt *row, void *userdata)
{
        *(json_t **)userdata = to_json(row);
        return 1;
}

int plane_report_summary(struct plane_store *s, const char *node, const char *epoch, int64_t seq,
        json_t **ret, struct error *e)
{
        int r = db_query(s->db, e, on_summary, ret,
                COLUMNS " FROM reports e CROSS JOIN nodes n ON n.id = e.node"
                        " WHERE e.node = ? AND e.epoch = ? AND e.seq = ?",
                "ssi", node, epoch, seq);

        return r != 0 ? (r < 0 ? r : 0) : error_set(e, ENOENT, "report.unknown", "there is no such report");
}

/* "NODE.EPOCH.SEQ" */
static int parse_id(const char *id, char ret_node[65], char ret_epoch[65], unsigned long *ret_seq)
{
        const char *first = strchr(id, '.'), *second = first ? strchr(first + 1, '.') : NULL;

        if (!second || first - id > 64 || second - first - 1 > 64)
                return -EINVAL;
        str_copy(ret_node, (size_t)(first - id) + 1, id);
        str_copy(ret_epoch, (size_t)(second - first), first + 1);
        return str_to_ulong(second + 1, 1, INT64_MAX, ret_seq);
}

int plane_report_get(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e)
{
        char node[65], epoch[65];
        unsigned long seq;
        int r = 0;

        if (parse_id(id, node, epoch, &seq) == 0)
                r = db_query(s->db, e, on_report, ret,
                        COLUMNS ", e.document FROM reports e CROSS JOIN nodes n ON n.id = e.node"
                                " WHERE e.node = ? AND e.epoch = ? AND e.seq = ? AND e.organisation = ?",
                        "ssis", node, epoch, (int64_t)seq, organisation);
        if (r != 0)
                return r < 0 ? r : 0;
        return error_set(e, ENOENT, "report.unknown", "there is no such report");
}

/* ?1 organisation ?2 node ?3, ?4 key ?5 limit ?6 since ?7 verdict */
#define WHERE                                                                                 \
        " CROSS JOIN nodes n ON n.id = e.node"                                                \
        " WHERE e.organisation = ?1 AND (e.generated, e.id) < (?3, ?4) AND e.generated >= ?6" \
        " AND (?7 IS NULL OR e.verdict = ?7)"
#define NEWEST " ORDER BY e.generated DESC, e.id DESC LIMIT ?5"

int plane_report_list(struct plane_store *s, const char *organisation, const char *node, const struct page *p,
        json_t **ret, struct error *e)
{
        static const char all[] =
                COLUMNS ", e.generated, e.id FROM reports e INDEXED BY reports_newest" WHERE NEWEST;
        static const char of_node[] = COLUMNS
                ", e.generated, e.id FROM reports e INDEXED BY reports_node" WHERE " AND e.node = ?2" NEWEST;
        const struct list_filter *f = page_filter(p);
        struct store_list l;
        int64_t before, id;
        int r = store_list_begin(&l, 'r', to_json, p, STORE_NEWEST, STORE_NEWEST, e);

        if (r < 0)
                return r;
        before = store_list_number(&l, 0);
        id = store_list_number(&l, 1);
        if (f->until && f->until <= before) {
                before = f->until;
                id = 0; /* none of that very moment */
        }
        r = db_query(s->db, e, store_list_on_row, &l, node ? of_node : all, "ssiiiis", organisation, node,
                before, id, store_list_fetch(&l), f->since, f->verdict);
        return store_list_end(&l, r, ret);
}
