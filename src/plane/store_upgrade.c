/* Upgrades: reading and writing them for the machine that decides (upgrade.h). */
#include "plane/store_upgrade.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/random.h"
#include "plane/store_internal.h"
#include "plane/store_update.h"

#include <errno.h>
#include <string.h>

#define PLANS_MAXIMUM 1000 /* of an organisation: the oldest that are over go */

static int unknown(struct error *e)
{
        return error_set(e, ENOENT, "upgrade.unknown", "there is no such upgrade");
}

/* ---- making ---- */

static int tidy(struct plane_store *s, const char *organisation, struct error *e)
{
        return db_run(s->db, e,
                "DELETE FROM upgrades WHERE id IN (SELECT id FROM upgrades WHERE organisation = ?1"
                " AND state NOT IN ('running', 'paused') AND watched = 0"
                " ORDER BY created DESC, id DESC LIMIT -1 OFFSET ?2)",
                "si", organisation, (int64_t)PLANS_MAXIMUM);
}

static int create(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        const char *name, const struct upgrade_plan *plan, int64_t now, struct error *e)
{
        json_t *value = upgrade_plan_to_json(plan);
        _cleanup_free_ char *text = json_to_text(value);
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = db_run(s->db, e,
                        "INSERT INTO upgrades (organisation, id, name, state, plan, created, actor)"
                        " VALUES (?, ?, ?, 'planned', ?, ?, ?)",
                        "ssssis", organisation, id, name, text, now, by->name);
        if (r == 0)
                r = tidy(s, organisation, e);
        if (r < 0) {
                json_decref(value);
                return r;
        }
        return plane_audit(s, by, organisation, "upgrade.plan", id,
                json_pack("{s:s, s:o}", "name", name, "plan", value), now, e);
}

int plane_upgrade_create(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *name, const struct upgrade_plan *plan, int64_t now, char ret_id[65], struct error *e)
{
        char id[RANDOM_ID_TEXT];
        int r = store_check_name("an upgrade", name, e);

        random_id("g", id);
        if (r == 0)
                r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, create(s, by, organisation, id, name, plan, now, e), e);
        if (r == 0)
                str_copy(ret_id, 65, id);
        return r;
}

static int on_id(sqlite3_stmt *row, void *userdata)
{
        store_copy(userdata, 65, row, 0);
        return 1;
}

int plane_upgrade_find(struct plane_store *s, const char *organisation, const char *name_or_id,
        char ret_id[65], struct error *e)
{
        int r = db_query(s->db, e, on_id, ret_id, "SELECT id FROM upgrades WHERE id = ? AND organisation = ?",
                "ss", name_or_id, organisation);

        if (r == 0)
                r = db_query(s->db, e, on_id, ret_id,
                        "SELECT id FROM upgrades WHERE organisation = ? AND name = ?"
                        " ORDER BY created DESC, id DESC LIMIT 1",
                        "ss", organisation, name_or_id);
        return r > 0 ? 0 : r < 0 ? r : unknown(e);
}

/* ---- reading ---- */

struct reading {
        struct upgrade *upgrade;
        struct error *error;
        int result;
};

static int on_upgrade(sqlite3_stmt *row, void *userdata)
{
        struct reading *of = userdata;
        struct upgrade *u = of->upgrade;
        json_auto_t *plan = store_json(row, 5);
        struct json_reader r;

        STORE_COPY(u->id, row, 0);
        STORE_COPY(u->organisation, row, 1);
        STORE_COPY(u->name, row, 2);
        if (upgrade_state_from_string(db_text(row, 3), &u->state) < 0)
                of->result =
                        error_set(of->error, EBADMSG, "upgrade.bad", "an upgrade has a state that is none");
        STORE_COPY(u->reason, row, 4);
        u->wave = (unsigned)db_integer(row, 6);
        u->started = db_integer(row, 7);
        u->ended = db_integer(row, 8);
        STORE_COPY(u->newest, row, 9);
        u->newest_event = db_integer(row, 10);
        json_reader_init(&r, plan, "the plan", of->error);
        if (of->result == 0)
                of->result = upgrade_plan_read(&r, &u->plan);
        return 1;
}

/* The channel's version, where it is one for all architectures. */
#define NEWEST                                                                              \
        "(SELECT CASE WHEN min(p.version) = max(p.version) THEN max(p.version) ELSE '' END" \
        " FROM packages p WHERE p.organisation = u.organisation"                            \
        " AND p.channel = json_extract(u.plan, '$.channel') AND p.name = 'gridnode')"

static int load_upgrade(struct plane_store *s, const char *id, struct upgrade *ret, struct error *e)
{
        struct reading of = {.upgrade = ret, .error = e};
        int r = db_query(s->db, e, on_upgrade, &of,
                "SELECT u.id, u.organisation, u.name, u.state, u.reason, u.plan, u.wave, u.started, "
                "u.ended, " NEWEST ", (SELECT max(id) FROM events) FROM upgrades u WHERE u.id = ?",
                "s", id);

        return r < 0 ? r : r == 0 ? unknown(e) : of.result;
}

/* From column `c` on: what is so of the node now. */
static void read_present(sqlite3_stmt *row, int c, struct upgrade_node *n)
{
        STORE_COPY(n->id, row, c);
        STORE_COPY(n->name, row, c + 1);
        STORE_COPY(n->site, row, c + 2);
        n->is_there = str_equal(db_text(row, c + 3), "registered");
        n->is_connected = db_integer(row, c + 4) != 0;
        n->connected_since = db_integer(row, c + 5);
        n->gone_since = db_integer(row, c + 6);
        STORE_COPY(n->version, row, c + 7);
        n->is_manual = db_integer(row, c + 8) != 0;
}

#define PRESENT                                                                                  \
        "n.id, n.name, n.site, n.state, n.connected, n.connected_since, n.last_seen, n.version," \
        " EXISTS (SELECT 1 FROM node_tags t WHERE t.node = n.id AND t.key = '" TAG_MANUAL "'"    \
        " AND t.value = 'true')"

static int on_node(sqlite3_stmt *row, void *userdata)
{
        struct reading *of = userdata;
        struct upgrade_node *n = upgrade_add_node(of->upgrade);

        read_present(row, 0, n);
        n->wave = (unsigned)db_integer(row, 9);
        if (upgrade_node_state_from_string(db_text(row, 10), &n->state) < 0)
                of->result = error_set(of->error, EBADMSG, "upgrade.bad", "a node has a state that is none");
        STORE_COPY(n->reason, row, 11);
        n->since = db_integer(row, 12);
        n->ready = db_integer(row, 13);
        n->asked = db_integer(row, 14);
        n->tries = (unsigned)db_integer(row, 15);
        n->after_event = db_integer(row, 16);
        STORE_COPY(n->job, row, 17);
        n->seen_event = db_integer(row, 18);
        if (n->seen_event == 0)
                return 0;
        if (update_status_from_string(db_text(row, 19), &n->seen_status) < 0)
                n->seen_event = 0;
        STORE_COPY(n->seen_job, row, 20);
        STORE_COPY(n->seen_from, row, 21);
        STORE_COPY(n->seen_to, row, 22);
        STORE_COPY(n->seen_text, row, 23);
        n->seen_packages = (size_t)db_integer(row, 24);
        return 0;
}

int plane_upgrade_load(struct plane_store *s, const char *id, struct upgrade *ret, struct error *e)
{
        struct upgrade u = {0};
        struct reading of = {.upgrade = &u, .error = e};
        int r = load_upgrade(s, id, &u, e);

        if (r == 0)
                r = db_query(s->db, e, on_node, &of,
                        "SELECT " PRESENT ", m.wave, m.state, m.reason, m.since, m.ready, m.asked, m.tries,"
                        " m.after_event, m.job, j.event, j.status, j.id, j.version_from, j.version_to, "
                        "j.text,"
                        " j.packages FROM upgrade_nodes m CROSS JOIN nodes n ON n.id = m.node"
                        " LEFT JOIN node_update j ON j.rowid = (SELECT k.rowid FROM node_update k"
                        " WHERE k.actor = 'upgrade:' || m.upgrade AND k.node = m.node"
                        " ORDER BY k.event DESC LIMIT 1) WHERE m.upgrade = ? ORDER BY m.place",
                        "s", id);
        if (r == 0)
                r = of.result;
        if (r < 0)
                upgrade_done(&u);
        else
                *ret = u;
        return r;
}

static int on_candidate(sqlite3_stmt *row, void *userdata)
{
        struct upgrade_node *n = upgrade_add_node(userdata);

        read_present(row, 0, n);
        strv_split(&n->tags, db_text(row, 9) ? db_text(row, 9) : "", '\n');
        return 0;
}

static int load_candidates(struct plane_store *s, struct upgrade *u, struct error *e)
{
        return db_query(s->db, e, on_candidate, u,
                "SELECT " PRESENT ", (SELECT group_concat(t.key || '=' || t.value, char(10)) FROM node_tags t"
                " WHERE t.node = n.id) FROM nodes n INDEXED BY nodes_list"
                " WHERE n.organisation = ? AND n.state = 'registered' ORDER BY n.name",
                "s", u->organisation);
}

/* ---- writing ---- */

static int save_node(struct plane_store *s, const struct upgrade *u, size_t place, struct error *e)
{
        const struct upgrade_node *n = &u->nodes[place];

        return db_run(s->db, e,
                "INSERT INTO upgrade_nodes (organisation, upgrade, node, wave, place, state, reason, since,"
                " ready, asked, tries, after_event, job) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (upgrade, node) DO UPDATE SET state = excluded.state, reason = excluded.reason,"
                " since = excluded.since, ready = excluded.ready, asked = excluded.asked,"
                " tries = excluded.tries, after_event = excluded.after_event, job = excluded.job",
                "sssiissiiiiis", u->organisation, u->id, n->id, (int64_t)n->wave, (int64_t)place,
                upgrade_node_state_to_string(n->state), n->reason, n->since, n->ready, n->asked,
                (int64_t)n->tries, n->after_event, n->job);
}

static int save_whole(struct plane_store *s, const struct upgrade *u, struct error *e)
{
        int r = db_run(s->db, e,
                "UPDATE upgrades SET state = ?, reason = ?, wave = ?, watched = ?, started = nullif(?, 0),"
                " ended = nullif(?, 0), version = ? WHERE id = ?",
                "ssiiiiss", upgrade_state_to_string(u->state), u->reason, (int64_t)u->wave,
                (int64_t)u->is_watched, u->started, u->ended, u->newest, u->id);

        if (r != -EEXIST)
                return r;
        return error_set(e, EEXIST, "upgrade.active",
                "another upgrade of this organisation is running or paused: one at a time");
}

int plane_upgrade_save(
        struct plane_store *s, const struct upgrade *u, const char *by, int64_t now, struct error *e)
{
        int r = save_whole(s, u, e);

        for (size_t i = 0; i < u->node_count && r == 0; i++)
                if (u->nodes[i].is_changed)
                        r = save_node(s, u, i, e);
        for (size_t i = 0; i < u->line_count && r == 0; i++)
                r = db_run(s->db, e,
                        "INSERT INTO upgrade_log (organisation, upgrade, at, actor, node, text)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        "ssisss", u->organisation, u->id, now, by, u->lines[i].node, u->lines[i].text);
        return r;
}

static int on_watched(sqlite3_stmt *row, void *userdata)
{
        strv_add(userdata, db_text(row, 0));
        return 0;
}

int plane_upgrades_watched(struct plane_store *s, struct strv *ret, struct error *e)
{
        return db_query(s->db, e, on_watched, ret, "SELECT id FROM upgrades WHERE watched = 1", "");
}

/* ---- what people ask ---- */

static const struct {
        const char *name;
        int (*act)(struct upgrade *u, int64_t now, struct error *ret_error);
} actions[] = {[ACTION_START] = {"upgrade.start", upgrade_start},
        [ACTION_PAUSE] = {"upgrade.pause", upgrade_pause},
        [ACTION_RESUME] = {"upgrade.resume", upgrade_resume},
        [ACTION_CANCEL] = {"upgrade.cancel", upgrade_cancel},
        [ACTION_RETRY] = {"upgrade.retry", upgrade_retry}};

static int act(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        enum upgrade_action action, struct upgrade *u, int64_t now, struct error *e)
{
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = plane_upgrade_load(s, id, u, e);
        if (r == 0 && !str_equal(u->organisation, organisation))
                r = unknown(e);
        if (r == 0 && action == ACTION_START && u->state == UPGRADE_PLANNED) {
                r = load_candidates(s, u, e);
                if (r == 0)
                        upgrade_choose(u, now);
        }
        if (r == 0)
                r = actions[action].act(u, now, e);
        if (r < 0)
                return r;
        u->is_watched = true; /* the next step says whether it stays so */
        r = plane_upgrade_save(s, u, by->name, now, e);
        if (r < 0)
                return r;
        return plane_audit(s, by, organisation, actions[action].name, id,
                json_pack("{s:s, s:i}", "name", u->name, "nodes", (int)u->node_count), now, e);
}

int plane_upgrade_act(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        enum upgrade_action action, int64_t now, struct error *e)
{
        struct upgrade u = {0};
        int r = db_begin(s->db, e);

        if (r == 0)
                r = store_end(s, act(s, by, organisation, id, action, &u, now, e), e);
        upgrade_done(&u);
        return r;
}

/* ---- what would be ---- */

static json_t *preview_node(const struct upgrade_node *n)
{
        return json_pack("{s:s, s:s, s:s, s:s, s:b}", "node", n->id, "name", n->name, "site", n->site,
                "version", n->version, "connected", (int)n->is_connected);
}

static json_t *preview(const struct upgrade *u)
{
        json_t *waves = json_array(), *skipped = json_array();

        for (size_t i = 0; i < u->plan.wave_count; i++)
                json_array_append_new(waves, json_pack("{s:i, s:i, s:[]}", "wave", (int)i + 1, "percent",
                                                     (int)u->plan.waves[i], "nodes"));
        for (size_t i = 0; i < u->node_count; i++) {
                const struct upgrade_node *n = &u->nodes[i];
                json_t *value = preview_node(n);

                if (n->wave)
                        json_array_append_new(
                                json_object_get(json_array_get(waves, n->wave - 1), "nodes"), value);
                else {
                        json_object_set_new(value, "reason", json_string(n->reason));
                        json_array_append_new(skipped, value);
                }
        }
        return json_pack("{s:s, s:o, s:o}", "version", u->newest, "waves", waves, "skipped", skipped);
}

int plane_upgrade_preview(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e)
{
        struct upgrade u = {0};
        int r = plane_upgrade_load(s, id, &u, e);

        if (r == 0 && !str_equal(u.organisation, organisation))
                r = unknown(e);
        if (r == 0 && u.state == UPGRADE_PLANNED) {
                r = load_candidates(s, &u, e);
                if (r == 0)
                        upgrade_choose(&u, 0);
        }
        if (r == 0)
                *ret = preview(&u);
        upgrade_done(&u);
        return r;
}
