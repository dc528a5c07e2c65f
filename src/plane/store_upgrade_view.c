/* Upgrades as the API shows them. */
#include "plane/store_upgrade.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "plane/store_internal.h"

#include <errno.h>

#define COUNT(state)                                                                            \
        "'" state "', (SELECT count(*) FROM upgrade_nodes m WHERE m.upgrade = u.id AND m.state" \
        " = '" state "')"
#define COLUMNS                                                                                  \
        "SELECT u.id, u.name, u.state, u.reason, u.plan, u.version, u.wave, u.created, u.actor," \
        " u.started, u.ended, json_object(" COUNT("NEW") ", " COUNT("READY") ", " COUNT(         \
                "WORKING") ", " COUNT("DONE") ", " COUNT("SKIPPED") ", " COUNT("ERROR") ")"

/* Every state, also those that nobody is in. */
static json_t *no_counts(void)
{
        json_t *counts = json_object();

        for (int i = 0; i < UPGRADE_NODE_STATES; i++)
                json_object_set_new(
                        counts, upgrade_node_state_to_string((enum upgrade_node_state)i), json_integer(0));
        return counts;
}

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o}", "id",
                store_text(row, 0), "name", store_text(row, 1), "state", store_text(row, 2), "reason",
                store_text(row, 3), "plan", store_json(row, 4), "version", store_text(row, 5), "wave",
                (json_int_t)db_integer(row, 6), "created", store_time(row, 7), "by", store_text(row, 8),
                "started", store_time(row, 9), "ended", store_time(row, 10), "counts", store_json(row, 11));
}

/* ?1 organisation ?2 state ?3, ?4 key ?5 limit */
int plane_upgrade_list(struct plane_store *s, const char *organisation, const char *state,
        const struct page *p, json_t **ret, struct error *e)
{
        static const char sql[] =
                COLUMNS ", u.created, u.id FROM upgrades u INDEXED BY upgrades_newest"
                        " WHERE u.organisation = ?1 AND (?2 IS NULL OR u.state = ?2)"
                        " AND (u.created, u.id) < (?3, ?4) ORDER BY u.created DESC, u.id DESC LIMIT ?5";
        struct store_list l;
        int r = store_list_begin(&l, 'g', to_json, p, STORE_NEWEST, "", e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l, sql, "ssisi", organisation, state,
                store_list_number(&l, 0), l.after[1], store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

/* ---- one ---- */

static int on_upgrade(sqlite3_stmt *row, void *userdata)
{
        *(json_t **)userdata = to_json(row);
        return 1;
}

static int on_count(sqlite3_stmt *row, void *userdata)
{
        json_t *wave = json_array_get(userdata, (size_t)db_integer(row, 0));

        json_object_set_new(
                json_object_get(wave, "counts"), db_text(row, 1), json_integer(db_integer(row, 2)));
        return 0;
}

/* An object for each wave of the plan, after one for those who were left out. */
static json_t *empty_waves(const json_t *plan)
{
        json_t *waves = json_array(), *percents = json_object_get(plan, "waves"), *percent;
        size_t i;

        json_array_append_new(
                waves, json_pack("{s:i, s:n, s:o}", "wave", 0, "percent", "counts", no_counts()));
        json_array_foreach(percents, i, percent)
        {
                json_array_append_new(waves, json_pack("{s:i, s:O, s:o}", "wave", (int)i + 1, "percent",
                                                     percent, "counts", no_counts()));
        }
        return waves;
}

int plane_upgrade_show(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e)
{
        json_t *value = NULL, *waves;
        int r = db_query(s->db, e, on_upgrade, &value,
                COLUMNS " FROM upgrades u WHERE u.id = ? AND u.organisation = ?", "ss", id, organisation);

        if (r == 0)
                return error_set(e, ENOENT, "upgrade.unknown", "there is no such upgrade");
        if (r < 0)
                return r;
        waves = empty_waves(json_object_get(value, "plan"));
        json_object_set_new(value, "waves", waves);
        r = db_query(s->db, e, on_count, waves,
                "SELECT wave, state, count(*) FROM upgrade_nodes WHERE upgrade = ? GROUP BY state, wave", "s",
                id);
        if (r < 0)
                json_decref(value);
        else
                *ret = value;
        return r < 0 ? r : 0;
}

/* ---- its nodes, its timeline ---- */

static json_t *node_to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:I, s:o}", "node", store_text(row, 0),
                "name", store_text(row, 1), "site", store_text(row, 2), "wave",
                (json_int_t)db_integer(row, 3), "state", store_text(row, 4), "reason", store_text(row, 5),
                "since", store_time(row, 6), "asked", store_time(row, 7), "tries",
                (json_int_t)db_integer(row, 8), "update", store_text(row, 9));
}

/* ?1 organisation ?2 upgrade ?3 state ?4 wave ?5 key ?6 limit */
int plane_upgrade_nodes(struct plane_store *s, const char *organisation, const char *id,
        const struct upgrade_filter *f, const struct page *p, json_t **ret, struct error *e)
{
        static const char sql[] =
                "SELECT m.node, n.name, n.site, m.wave, m.state, m.reason, m.since, m.asked, m.tries,"
                " CASE WHEN m.job <> '' THEN m.node || '.' || m.job END, m.place, 0"
                " FROM upgrade_nodes m INDEXED BY upgrade_nodes_place CROSS JOIN nodes n ON n.id = m.node"
                " WHERE m.upgrade = ?2 AND m.organisation = ?1 AND (?3 IS NULL OR m.state = ?3)"
                " AND (?4 < 0 OR m.wave = ?4) AND m.place > ?5 ORDER BY m.place LIMIT ?6";
        struct store_list l;
        int r = store_list_begin(&l, 'm', node_to_json, p, "-1", "0", e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l, sql, "sssiii", organisation, id, f->state, f->wave,
                store_list_number(&l, 0), store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

static json_t *line_to_json(sqlite3_stmt *row)
{
        return json_pack("{s:I, s:o, s:o, s:o, s:o}", "id", (json_int_t)db_integer(row, 0), "at",
                store_time(row, 1), "by", store_text(row, 2), "node", store_text(row, 3), "text",
                store_text(row, 4));
}

int plane_upgrade_timeline(struct plane_store *s, const char *organisation, const char *id,
        const struct page *p, json_t **ret, struct error *e)
{
        struct store_list l;
        int r = store_list_begin(&l, 'l', line_to_json, p, STORE_NEWEST, "0", e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l,
                "SELECT id, at, actor, node, text, id, 0 FROM upgrade_log"
                " WHERE organisation = ? AND upgrade = ? AND id < ? ORDER BY id DESC LIMIT ?",
                "ssii", organisation, id, store_list_number(&l, 0), store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}
