#include "plane/store_internal.h"

#include "base/json.h"
#include "base/text.h"

#include <errno.h>

#define LAST_EVENTS 10

#define COLUMNS                                                                                        \
        "SELECT n.id, n.organisation, n.name, n.site, n.state, n.created, n.registered, n.removed,"    \
        " n.connected, n.connected_since, n.last_seen, n.status_at, n.version, n.address, n.services," \
        " n.reason, n.wanted, n.applied, n.applied_state, n.applied_at, n.applied_error,"              \
        " n.applied_warnings, n.events,"                                                               \
        " (SELECT json_object('id', u.node || '.' || u.id, 'status', u.status, 'version',"             \
        " CASE u.status WHEN 'Completed' THEN coalesce(nullif(u.version_to, ''), u.version_from)"      \
        " ELSE u.version_to END, 'at', CASE u.ended WHEN 0 THEN u.started ELSE u.ended END)"           \
        " FROM node_update u WHERE u.node = n.id AND u.action = 'now'"                                 \
        " ORDER BY u.started DESC LIMIT 1),"                                                           \
        " (SELECT json_group_object(t.key, t.value) FROM node_tags t WHERE t.node = n.id)"             \
        ", n.name, n.id FROM nodes n"

static json_t *configuration(sqlite3_stmt *row)
{
        json_t *warnings = store_json(row, 21);

        if (!json_is_array(warnings)) {
                json_decref(warnings);
                warnings = json_array();
        }
        return json_pack("{s:I, s:o, s:o, s:o, s:o, s:o}", "wanted", (json_int_t)db_integer(row, 16),
                "applied", db_is_null(row, 17) ? json_null() : json_integer(db_integer(row, 17)), "state",
                store_text(row, 18), "at", store_time(row, 19), "error", store_text(row, 20), "warnings",
                warnings);
}

/* {id, status, version, at} of the last one that was to install something; null. */
static json_t *update(sqlite3_stmt *row)
{
        json_t *value = store_json(row, 23);

        if (json_is_object(value))
                json_object_set_new(value, "at", json_time(json_integer_value(json_object_get(value, "at"))));
        return value;
}

/* Members of a list's item and of the whole view alike. */
static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o,"
                         " s:o, s:I, s:o, s:o}",
                "id", store_text(row, 0), "organisation", store_text(row, 1), "name", store_text(row, 2),
                "site", store_text(row, 3), "state", store_text(row, 4), "created", store_time(row, 5),
                "registered", store_time(row, 6), "removed", store_time(row, 7), "connected",
                (int)db_integer(row, 8), "connected_since", store_time(row, 9), "last_seen",
                store_time(row, 10), "status_at", store_time(row, 11), "version", store_text(row, 12),
                "address", store_text(row, 13), "services", store_json(row, 14), "reason",
                store_text(row, 15), "configuration", configuration(row), "event_count",
                (json_int_t)db_integer(row, 22), "update", update(row), "tags", store_json(row, 24));
}

/* ---- the list ---- */

/* ?1 organisation ?2 part of the name ?3 site ?4 state ?5 connected ?6 cause ?7, ?8 key ?9 limit ?10, ?11 tag
 */
#define FILTERS                                                                             \
        " WHERE n.organisation = ?1 AND (?2 IS NULL OR instr(n.name, ?2) > 0)"              \
        " AND (?3 IS NULL OR n.site = ?3)"                                                  \
        " AND CASE WHEN ?4 IS NULL THEN n.state <> 'removed' ELSE n.state = ?4 END"         \
        " AND (?5 < 0 OR n.connected = ?5)"                                                 \
        " AND (?6 IS NULL OR EXISTS (SELECT 1 FROM node_causes c WHERE c.organisation = ?1" \
        " AND c.cause = ?6 AND c.node = n.id))"                                             \
        " AND (?10 IS NULL OR EXISTS (SELECT 1 FROM node_tags t WHERE t.node = n.id"        \
        " AND t.key = ?10 AND (?11 IS NULL OR t.value = ?11)))"                             \
        " AND (n.name, n.id) > (?7, ?8) ORDER BY n.name, n.id LIMIT ?9"

int plane_node_list(struct plane_store *s, const char *organisation, const struct node_filter *f,
        const struct page *p, json_t **ret, struct error *e)
{
        static const char sql[] = COLUMNS " INDEXED BY nodes_list" FILTERS;
        static const struct node_filter all = {.connected = -1};
        struct store_list l;
        int r = store_list_begin(&l, 'n', to_json, p, "", "", e);

        if (r < 0)
                return r;
        if (!f)
                f = &all;
        r = db_query(s->db, e, store_list_on_row, &l, sql, "ssssisssiss", organisation, f->name, f->site,
                f->state, (int64_t)f->connected, f->cause, l.after[0], l.after[1], store_list_fetch(&l),
                f->tag, f->tag_value);
        return store_list_end(&l, r, ret);
}

/* ---- one node ---- */

static int on_node(sqlite3_stmt *row, void *userdata)
{
        *(json_t **)userdata = to_json(row);
        return 1;
}

static int on_certificate(sqlite3_stmt *row, void *userdata)
{
        json_object_set_new(userdata, "certificate",
                json_pack("{s:o, s:o, s:o, s:b}", "serial", store_text(row, 0), "issued", store_time(row, 1),
                        "not_after", store_time(row, 2), "revoked", !db_is_null(row, 3)));
        return 1;
}

static int on_token(sqlite3_stmt *row, void *userdata)
{
        json_object_set_new(userdata, "token_expires", store_time(row, 0));
        return 1;
}

static int add_rest(
        struct plane_store *s, const char *organisation, const char *id, json_t *node, struct error *e)
{
        json_t *events = NULL;
        int r;

        json_object_set_new(node, "certificate", json_null());
        json_object_set_new(node, "token_expires", json_null());
        r = db_query(s->db, e, on_certificate, node,
                "SELECT serial, issued, not_after, revoked FROM certificates"
                " WHERE node = ? AND organisation = ? ORDER BY issued DESC, not_after DESC LIMIT 1",
                "ss", id, organisation);
        if (r >= 0)
                r = db_query(s->db, e, on_token, node,
                        "SELECT expires FROM enrolments"
                        " WHERE node = ? AND organisation = ? AND key IS NULL LIMIT 1",
                        "ss", id, organisation);
        if (r >= 0)
                r = store_last_events(s, organisation, id, LAST_EVENTS, &events, e);
        if (r >= 0)
                json_object_set_new(node, "last_events", events);
        return r < 0 ? r : 0;
}

int plane_node_show(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e)
{
        json_t *node = NULL;
        int r = db_query(s->db, e, on_node, &node, COLUMNS " WHERE n.id = ? AND n.organisation = ?", "ss", id,
                organisation);

        if (r == 0)
                return error_set(e, ENOENT, "node.unknown", "there is no such node");
        if (r > 0)
                r = add_rest(s, organisation, id, node, e);
        if (r < 0) {
                json_decref(node);
                return r;
        }
        *ret = node;
        return 0;
}
