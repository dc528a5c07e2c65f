#include "plane/store_update.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "plane/store_internal.h"
#include "plane/upgrade.h"

#include <errno.h>

int plane_node_is_manual(struct plane_store *s, const char *node, bool *ret, struct error *e)
{
        int64_t is_manual = 0;
        int r = db_query_integer(s->db, e, 0, &is_manual,
                "SELECT 1 FROM node_tags WHERE node = ? AND key = '" TAG_MANUAL "' AND value = 'true'", "s",
                node);

        if (r == 0)
                *ret = is_manual != 0;
        return r;
}

/* ---- checks ---- */

static int check_set(const json_t *set, struct error *e)
{
        const char *key;
        json_t *value;

        json_object_foreach((json_t *)set, key, value)
        {
                const char *text = json_string_value(value);

                if (!upgrade_tag_key_is_valid(key))
                        return error_set(e, EINVAL, "tag.bad",
                                "the name of a tag has 1 to 63 of a-z, 0-9, '.', '-' and '_', a letter or "
                                "digit first");
                if (!text || !upgrade_tag_value_is_valid(text))
                        return error_set(e, EINVAL, "tag.bad",
                                "the value of tag '%s' is not a text of at most 128 letters and digits of "
                                "ASCII and of '._:/@+-'",
                                key);
        }
        return 0;
}

static int check_count(struct plane_store *s, const char *node, struct error *e)
{
        int64_t count = 0;
        int r = db_query_integer(
                s->db, e, 0, &count, "SELECT count(*) FROM node_tags WHERE node = ?", "s", node);

        if (r < 0 || count <= TAGS_OF_NODE)
                return r;
        return error_set(e, EINVAL, "tag.many", "a node has at most %d tags", TAGS_OF_NODE);
}

/* ---- changing ---- */

static int set_tags(
        struct plane_store *s, const char *organisation, const char *node, const json_t *set, struct error *e)
{
        const char *key;
        json_t *value;

        json_object_foreach((json_t *)set, key, value)
        {
                int r = db_run(s->db, e,
                        "INSERT INTO node_tags (organisation, node, key, value) VALUES (?, ?, ?, ?)"
                        " ON CONFLICT (node, key) DO UPDATE SET value = excluded.value",
                        "ssss", organisation, node, key, json_string_value(value));

                if (r < 0)
                        return r;
        }
        return check_count(s, node, e);
}

static int remove_tags(struct plane_store *s, const char *node, const json_t *remove, struct error *e)
{
        json_t *key;
        size_t i;

        json_array_foreach(remove, i, key)
        {
                int r = db_run(s->db, e, "DELETE FROM node_tags WHERE node = ? AND key = ?", "ss", node,
                        json_string_value(key));

                if (r < 0)
                        return r;
                if (db_changes(s->db) == 0)
                        return error_set(
                                e, ENOENT, "tag.unknown", "the node has no tag '%s'", json_string_value(key));
        }
        return 0;
}

/* The node asks for its configuration only when there is a newer one. */
static int renew_config(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *node, int64_t now, int64_t *ret_version, struct error *e)
{
        _cleanup_free_ char *document = NULL;
        json_auto_t *value = NULL;
        int64_t version;
        int r = plane_config_get(s, organisation, node, 0, &value, e);

        if (r < 0)
                return r;
        version = json_integer_value(json_object_get(value, "version")) + 1;
        json_object_set_new(value, "version", json_integer(version));
        document = json_to_text(value);
        r = db_run(s->db, e,
                "INSERT INTO configurations (organisation, node, version, document, actor, created)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                "ssissi", organisation, node, version, document, by->name, now);
        if (r == 0)
                r = db_run(s->db, e, "UPDATE nodes SET wanted = ? WHERE id = ?", "is", version, node);
        if (r == 0)
                *ret_version = version;
        return r;
}

static int change(struct plane_store *s, const struct actor *by, const char *organisation, const char *node,
        const json_t *set, const json_t *remove, int64_t now, int64_t *ret_version, struct error *e)
{
        bool was_manual = false, is_manual = false;
        char own[65];
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = store_live_node(s, node, own, e);
        if (r == 0 && !str_equal(own, organisation))
                r = error_set(e, ENOENT, "node.unknown", "there is no such node, or it was removed");
        if (r == 0)
                r = plane_node_is_manual(s, node, &was_manual, e);
        if (r == 0)
                r = set_tags(s, organisation, node, set, e);
        if (r == 0)
                r = remove_tags(s, node, remove, e);
        if (r == 0)
                r = plane_node_is_manual(s, node, &is_manual, e);
        if (r == 0 && is_manual != was_manual)
                r = renew_config(s, by, organisation, node, now, ret_version, e);
        if (r < 0)
                return r;
        return plane_audit(s, by, organisation, "node.tag", node,
                json_pack("{s:O?, s:O?}", "set", set, "remove", remove), now, e);
}

int plane_node_tag(struct plane_store *s, const struct actor *by, const char *organisation, const char *node,
        const json_t *set, const json_t *remove, int64_t now, int64_t *ret_version, struct error *e)
{
        int64_t version = 0;
        int r = check_set(set, e);

        if (r == 0)
                r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, change(s, by, organisation, node, set, remove, now, &version, e), e);
        if (r == 0)
                *ret_version = version;
        return r;
}

/* ---- reading ---- */

static int on_tag(sqlite3_stmt *row, void *userdata)
{
        json_object_set_new(userdata, db_text(row, 0), store_text(row, 1));
        return 0;
}

int plane_node_tags(
        struct plane_store *s, const char *organisation, const char *node, json_t **ret, struct error *e)
{
        json_t *tags = json_object();
        int r = db_query(s->db, e, on_tag, tags,
                "SELECT key, value FROM node_tags WHERE node = ? AND organisation = ? ORDER BY key", "ss",
                node, organisation);

        if (r < 0)
                json_decref(tags);
        else
                *ret = tags;
        return r < 0 ? r : 0;
}
