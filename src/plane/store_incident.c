#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>

/* When it began by its own member; `now` when that is no time. */
static int64_t since_of(const json_t *incident, int64_t now)
{
        const char *text = json_string_value(json_object_get(incident, "since"));
        int64_t since;

        return text && time_parse_utc(text, &since) == 0 ? since : now;
}

int plane_incident_save(struct plane_store *s, const char *organisation, const char *id, json_t *incident,
        bool open, int64_t now, struct error *e)
{
        _cleanup_free_ char *document = NULL;

        if (!wire_id_is_valid(id) || !json_is_object(incident))
                return error_set(e, EINVAL, "incident.bad", "an incident without an id or content");
        document = json_to_text(incident);
        return db_run(s->db, e,
                "INSERT INTO incidents (organisation, id, since, saved, open, document)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (organisation, id) DO UPDATE SET"
                " saved = excluded.saved, open = excluded.open, document = excluded.document",
                "ssiiis", organisation, id, since_of(incident, now), now, (int64_t)open, document);
}

static json_t *to_json(sqlite3_stmt *row)
{
        json_t *value = store_json(row, 0);

        json_object_set_new(value, "open", json_boolean(db_integer(row, 1)));
        return value;
}

int plane_incident_list(struct plane_store *s, const char *organisation, int open, const struct page *p,
        json_t **ret, struct error *e)
{
        static const char both[] = "SELECT document, open, since, id FROM incidents"
                                   " WHERE organisation = ?1 AND (since, id) < (?2, ?3) AND since >= ?6"
                                   " ORDER BY since DESC, id DESC LIMIT ?4";
        static const char some[] = "SELECT document, open, since, id FROM incidents"
                                   " WHERE organisation = ?1 AND (since, id) < (?2, ?3) AND open = ?5"
                                   " AND since >= ?6"
                                   " ORDER BY since DESC, id DESC LIMIT ?4";
        const struct list_filter *f = page_filter(p);
        struct store_list l;
        int64_t before;
        int r = store_list_begin(&l, 'i', to_json, p, STORE_NEWEST, "", e);

        if (r < 0)
                return r;
        before = store_list_number(&l, 0);
        if (f->until && f->until <= before) {
                before = f->until;
                l.after[1][0] = 0; /* none of that very moment */
        }
        r = db_query(s->db, e, store_list_on_row, &l, open < 0 ? both : some, "sisiii", organisation, before,
                l.after[1], store_list_fetch(&l), (int64_t)(open != 0), f->since);
        return store_list_end(&l, r, ret);
}

static int on_open(sqlite3_stmt *row, void *userdata)
{
        json_array_append_new(userdata,
                json_pack("{s:o, s:o}", "organisation", store_text(row, 0), "incident", store_json(row, 1)));
        return 0;
}

int plane_incidents_open(struct plane_store *s, json_t **ret, struct error *e)
{
        json_t *incidents = json_array();
        int r = db_query(s->db, e, on_open, incidents,
                "SELECT i.organisation, i.document FROM organisations o CROSS JOIN incidents i"
                " INDEXED BY incidents_open ON i.organisation = o.id WHERE i.open = 1 ORDER BY o.id, i.since",
                "");

        if (r < 0)
                json_decref(incidents);
        else
                *ret = incidents;
        return r;
}
