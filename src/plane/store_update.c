#include "plane/store_update.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "plane/store_internal.h"
#include "wire/update.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)

#define COLUMNS                                                                              \
        "SELECT u.node || '.' || u.id, u.node, n.name, n.site, u.action, u.actor, u.status," \
        " u.version_from, u.version_to, u.started, u.ended, u.received"
#define FROM    " FROM node_update u"
#define NODE_OF " CROSS JOIN nodes n ON n.id = u.node"

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id",
                store_text(row, 0), "node", store_text(row, 1), "node_name", store_text(row, 2), "site",
                store_text(row, 3), "action", store_text(row, 4), "by", store_text(row, 5), "status",
                store_text(row, 6), "from", store_text(row, 7), "to", store_text(row, 8), "started",
                store_time(row, 9), "ended", store_time(row, 10), "received", store_time(row, 11));
}

/* ---- storing ---- */

/* What it waits for, or why it failed. */
static void describe(const struct update_state *u, char *ret, size_t size_bytes)
{
        if (u->status == UPDATE_IN_PROGRESS && u->waiting_since_unix_ms)
                snprintf(ret, size_bytes, "waits: %s", u->waiting_for);
        else
                str_copy(ret, size_bytes, u->error);
}

/* Records are sent again until they are acknowledged, so that one may come after a later one. */
static int upsert(struct plane_store *s, const char *organisation, const char *node, int64_t event,
        const struct wire_event *from, const struct update_state *u, int64_t now, struct error *e)
{
        static const char sql[] =
                "INSERT INTO node_update (organisation, node, id, event, action, actor, status, version_from,"
                " version_to, started, ended, generated, received, text, packages, document)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (node, id) DO UPDATE "
                "SET"
                " event = excluded.event, action = excluded.action, actor = excluded.actor,"
                " status = excluded.status, version_from = excluded.version_from,"
                " version_to = excluded.version_to, started = excluded.started, ended = excluded.ended,"
                " generated = excluded.generated, received = excluded.received, text = excluded.text,"
                " packages = excluded.packages, document = excluded.document"
                " WHERE (excluded.ended > 0) > (node_update.ended > 0) OR"
                " ((excluded.ended > 0) = (node_update.ended > 0)"
                " AND excluded.generated >= node_update.generated)";
        _cleanup_free_ char *document = json_to_text(from->update);

        char text[600];

        describe(u, text, sizeof text);
        return db_run(s->db, e, sql, "sssisssssiiiisis", organisation, node, u->job.id, event,
                update_action_to_string(u->job.action), u->job.by, update_status_to_string(u->status),
                u->version_from, u->version_to, u->started_unix_ms, u->ended_unix_ms, from->generated_unix_ms,
                now, text, (int64_t)u->package_count, document);
}

static int bound(struct plane_store *s, const char *node, struct error *e)
{
        return db_run(s->db, e,
                "DELETE FROM node_update WHERE node = ?1 AND id IN (SELECT id FROM node_update"
                " WHERE node = ?1 ORDER BY started DESC, id DESC LIMIT -1 OFFSET ?2)",
                "si", node, (int64_t)UPDATES_OF_NODE);
}

int store_update_add(struct plane_store *s, const char *organisation, const char *node, int64_t event,
        const struct wire_event *e, int64_t now, struct error *ret_error)
{
        struct update_state u = {0};
        int r = update_state_from_json(e->update, &u, ret_error);

        if (r < 0)
                return r;
        if (u.started_unix_ms == 0) /* not begun; it is listed by that */
                u.started_unix_ms = e->generated_unix_ms;
        if (u.status != UPDATE_IN_PROGRESS && u.ended_unix_ms == 0)
                u.ended_unix_ms = e->generated_unix_ms;
        r = upsert(s, organisation, node, event, e, &u, now, ret_error);
        if (r == 0)
                r = bound(s, node, ret_error);
        update_state_done(&u);
        return r;
}

/* Some at a time: gives how many went. What is under way goes, too, when nothing was heard for so long. */
int store_updates_tidy(struct plane_store *s, int64_t now, int64_t most, struct error *e)
{
        int r = db_run(s->db, e,
                "DELETE FROM node_update WHERE rowid IN"
                " (SELECT rowid FROM node_update WHERE received < ? ORDER BY received LIMIT ?)",
                "ii", now - UPDATES_KEPT_DAYS * DAY_MS, most);

        return r < 0 ? r : (int)db_changes(s->db);
}

/* ---- reading ---- */

/* ?1 organisation ?2 node ?3 status ?4 since ?5, ?6 key ?7 limit */
#define WHERE                                                                \
        NODE_OF " WHERE u.organisation = ?1 AND (?2 IS NULL OR u.node = ?2)" \
                " AND (?3 IS NULL OR u.status = ?3) AND u.started >= ?4"     \
                " AND (u.started, u.rowid) < (?5, ?6)"
#define NEWEST " ORDER BY u.started DESC, u.rowid DESC LIMIT ?7"
#define KEYS   ", u.started, u.rowid"

int plane_update_list(struct plane_store *s, const char *organisation, const struct update_filter *f,
        const struct page *p, json_t **ret, struct error *e)
{
        static const char all[] = COLUMNS KEYS FROM " INDEXED BY node_update_newest" WHERE NEWEST;
        static const char of_node[] =
                COLUMNS KEYS FROM " INDEXED BY node_update_node" WHERE " AND u.node = ?2" NEWEST;
        struct store_list l;
        int r = store_list_begin(&l, 's', to_json, p, STORE_NEWEST, STORE_NEWEST, e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l, f->node ? of_node : all, "sssiiii", organisation,
                f->node, f->status, f->since, store_list_number(&l, 0), store_list_number(&l, 1),
                store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

static int on_update(sqlite3_stmt *row, void *userdata)
{
        json_t *value = to_json(row);

        json_object_set_new(value, "update", store_json(row, 12));
        *(json_t **)userdata = value;
        return 1;
}

int plane_update_get(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e)
{
        const char *dot = strchr(id, '.');
        char node[65];
        int r = 0;

        if (dot && dot - id < (ptrdiff_t)sizeof node) {
                str_copy(node, (size_t)(dot - id) + 1, id);
                r = db_query(s->db, e, on_update, ret,
                        COLUMNS ", u.document" FROM NODE_OF
                                " WHERE u.node = ? AND u.id = ? AND u.organisation = ?",
                        "sss", node, dot + 1, organisation);
        }
        if (r != 0)
                return r < 0 ? r : 0;
        return error_set(e, ENOENT, "update.unknown",
                "there is no such update, or it was more than %d days ago", UPDATES_KEPT_DAYS);
}
