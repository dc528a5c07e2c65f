#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/json.h"

int plane_audit(struct plane_store *s, const struct actor *by, const char *organisation, const char *action,
        const char *object, json_t *detail, int64_t now, struct error *e)
{
        _cleanup_free_ char *text = detail ? json_to_text(detail) : NULL;
        int r;

        json_decref(detail);
        r = store_check_actor(s, by, organisation, e);
        if (r < 0)
                return r;
        return db_run(s->db, e,
                "INSERT INTO audit (organisation, at, actor, action, object, detail)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                "sissss", organisation, now, by->name, action, object, text);
}

static int on_name(sqlite3_stmt *row, void *userdata)
{
        json_object_set_new(userdata, "name", store_text(row, 0));
        return 1;
}

int store_named(struct plane_store *s, const char *query, const char *id, const char *organisation,
        json_t **ret, struct error *e)
{
        json_t *detail = json_object();
        int r = db_query(s->db, e, on_name, detail, query, "ss", id, organisation);

        if (r < 0)
                json_decref(detail);
        else
                *ret = detail;
        return r < 0 ? r : 0;
}

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "id", store_text(row, 0), "at", store_time(row, 1),
                "actor", store_text(row, 2), "action", store_text(row, 3), "object", store_text(row, 4),
                "detail", store_json(row, 5));
}

int plane_audit_list(
        struct plane_store *s, const char *organisation, const struct page *p, json_t **ret, struct error *e)
{
        const struct list_filter *f = page_filter(p);
        struct store_list l;
        int r = store_list_begin(&l, 'a', to_json, p, STORE_NEWEST, "0", e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l,
                "SELECT id, at, actor, action, object, detail, id, 0 FROM audit"
                " WHERE organisation = ?1 AND id < ?2 AND (?3 IS NULL OR actor = ?3)"
                " AND (?4 IS NULL OR action = ?4) AND (?5 IS NULL OR object = ?5"
                " OR json_extract(detail, '$.name') = ?5) AND at >= ?6 AND (?7 = 0 OR at < ?7)"
                " ORDER BY id DESC LIMIT ?8",
                "sisssiii", organisation, store_list_number(&l, 0), f->actor, f->action, f->object, f->since,
                f->until, store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

struct news {
        json_t *items;
        int64_t last;
};

static int on_news(sqlite3_stmt *row, void *userdata)
{
        struct news *n = userdata;

        json_array_append_new(
                n->items, json_pack("{s:o, s:o}", "organisation", store_text(row, 6), "entry", to_json(row)));
        n->last = db_integer(row, 0);
        return 0;
}

int plane_audit_since(struct plane_store *s, int64_t *after, json_t **ret, struct error *e)
{
        struct news n = {.items = json_array(), .last = *after};
        int r;

        if (*after < 0)
                r = db_query_integer(s->db, e, 0, &n.last, "SELECT max(id) FROM audit", "");
        else
                r = db_query(s->db, e, on_news, &n,
                        "SELECT id, at, actor, action, object, detail, organisation FROM audit"
                        " WHERE id > ? ORDER BY id LIMIT 100",
                        "i", *after);
        if (r < 0) {
                json_decref(n.items);
                return r;
        }
        *after = n.last;
        *ret = n.items;
        return 0;
}
