#include "plane/store_internal.h"
#include "plane/store_update.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>

static int insert(struct plane_store *s, const struct actor *by, const char *organisation, const char *node,
        const struct wire_config *config, int64_t now, struct error *e)
{
        json_t *value = wire_config_to_json(config);
        _cleanup_free_ char *document = json_to_text(value);
        int r;

        json_decref(value);
        r = db_run(s->db, e,
                "INSERT INTO configurations (organisation, node, version, document, actor, created)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                "ssissi", organisation, node, config->version, document, by->name, now);
        if (r == 0)
                r = db_run(s->db, e, "UPDATE nodes SET wanted = ? WHERE id = ?", "is", config->version, node);
        if (r < 0)
                return r;
        return plane_audit(s, by, organisation, "config.put", node,
                json_pack("{s:I}", "version", (json_int_t)config->version), now, e);
}

static int put(struct plane_store *s, const struct actor *by, const char *organisation, const char *node,
        struct wire_config *config, int64_t expected, int64_t now, struct error *e)
{
        int64_t newest;
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = db_query_integer(s->db, e, -1, &newest,
                        "SELECT wanted FROM nodes WHERE id = ? AND organisation = ? AND state <> 'removed'",
                        "ss", node, organisation);
        if (r < 0)
                return r;
        if (newest < 0)
                return error_set(e, ENOENT, "node.unknown", "there is no such node, or it was removed");
        if (expected >= 0 && expected != newest)
                return error_set(e, ESTALE, "config.stale",
                        "the configuration was changed meanwhile: version %lld was to be replaced, but the "
                        "newest is %lld; read it and put the change into that",
                        (long long)expected, (long long)newest);
        config->version = newest + 1;
        return insert(s, by, organisation, node, config, now, e);
}

int plane_config_put(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *node, const struct wire_config *config, int64_t expected, int64_t now,
        int64_t *ret_version, struct error *e)
{
        struct wire_config numbered = *config; /* its lists are borrowed */
        int r = db_begin(s->db, e);

        if (r == 0)
                r = store_end(s, put(s, by, organisation, node, &numbered, expected, now, e), e);
        if (r == 0)
                *ret_version = numbered.version;
        return r;
}

static int on_document(sqlite3_stmt *row, void *userdata)
{
        *(json_t **)userdata = store_json(row, 0);
        return 1;
}

/* As if none was ever put: everything as in the site file. */
static int get_nothing(
        struct plane_store *s, const char *organisation, const char *node, json_t **ret, struct error *e)
{
        const struct wire_config nothing = {.guard = true};
        struct plane_node n;
        int r = plane_node_find(s, organisation, node, &n, e);

        if (r < 0)
                return r;
        if (!str_equal(n.id, node))
                return error_set(e, ENOENT, "node.unknown", "there is no such node");
        *ret = wire_config_to_json(&nothing);
        return 0;
}

int plane_config_get(struct plane_store *s, const char *organisation, const char *node, int64_t version,
        json_t **ret, struct error *e)
{
        int r;

        if (version == 0)
                r = db_query(s->db, e, on_document, ret,
                        "SELECT document FROM configurations WHERE node = ? AND organisation = ?"
                        " ORDER BY version DESC LIMIT 1",
                        "ss", node, organisation);
        else
                r = db_query(s->db, e, on_document, ret,
                        "SELECT document FROM configurations"
                        " WHERE node = ? AND organisation = ? AND version = ?",
                        "ssi", node, organisation, version);
        if (r != 0)
                return r < 0 ? r : 0;
        if (version != 0)
                return error_set(e, ENOENT, "config.unknown", "there is no version %lld of a configuration",
                        (long long)version);
        return get_nothing(s, organisation, node, ret, e);
}

int plane_config_for_node(
        struct plane_store *s, const char *organisation, const char *node, json_t **ret, struct error *e)
{
        json_t *config = NULL, *schedule, *update;
        bool is_manual = false;
        int r = plane_config_get(s, organisation, node, 0, &config, e);

        if (r == 0)
                r = plane_node_is_manual(s, node, &is_manual, e);
        if (r < 0) {
                json_decref(config);
                return r;
        }
        if (is_manual) {
                if (!json_is_object(json_object_get(config, "schedule")))
                        json_object_set_new(config, "schedule", json_object());
                schedule = json_object_get(config, "schedule");
                if (!json_is_object(json_object_get(schedule, "update")))
                        json_object_set_new(
                                schedule, "update", json_pack("{s:b}", "reboot", 0)); /* as without it */
                update = json_object_get(schedule, "update");
                json_object_set_new(update, "manual", json_true());
        }
        *ret = config;
        return 0;
}

int plane_config_applied(struct plane_store *s, const char *node, const struct wire_applied *applied,
        int64_t now, struct error *e)
{
        _cleanup_free_ char *warnings = NULL;
        char organisation[65];
        json_t *list;
        int r = store_live_node(s, node, organisation, e);

        if (r < 0)
                return r;
        list = json_array();
        for (size_t i = 0; i < applied->warnings.count; i++)
                json_array_append_new(list, json_string(applied->warnings.items[i]));
        warnings = json_to_text(list);
        json_decref(list);
        return db_run(s->db, e,
                "UPDATE nodes SET applied = ?, applied_state = ?, applied_at = ?, applied_error = ?,"
                " applied_warnings = ?, last_seen = max(coalesce(last_seen, 0), ?)"
                " WHERE id = ? AND organisation = ?",
                "isississ", applied->version, applied->state, applied->at_unix_ms, applied->error, warnings,
                now, node, organisation);
}
