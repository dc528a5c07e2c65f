/* What the repositories have. reprepro's database is what counts; this says also who added it and when, and
 * is what lists are read from. */
#include "plane/packages_internal.h"
#include "plane/store_internal.h"

#include "base/json.h"

#include <errno.h>

#define COLUMNS "name, version, architecture, channel, size, sha256, file, added, actor"

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o}", "package", store_text(row, 0),
                "version", store_text(row, 1), "architecture", store_text(row, 2), "channel",
                store_text(row, 3), "size_bytes", (json_int_t)db_integer(row, 4), "sha256",
                store_text(row, 5), "file", store_text(row, 6), "added", store_time(row, 7), "added_by",
                store_text(row, 8));
}

int plane_package_list(struct plane_store *s, const char *organisation, const char *channel, const char *name,
        const struct page *p, json_t **ret, struct error *e)
{
        static const char sql[] =
                "SELECT " COLUMNS ", name, channel || '/' || architecture FROM packages"
                " WHERE organisation = ?1 AND (name, channel || '/' || architecture) > (?2, ?3)"
                " AND (?4 IS NULL OR channel = ?4) AND (?5 IS NULL OR name = ?5)"
                " ORDER BY name, channel || '/' || architecture LIMIT ?6";
        struct store_list l;
        int r = store_list_begin(&l, 'p', to_json, p, "", "", e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l, sql, "sssssi", organisation, l.after[0], l.after[1],
                channel, name, store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

static int on_item(sqlite3_stmt *row, void *userdata)
{
        json_array_append_new(userdata, to_json(row));
        return 0;
}

int plane_package_all(struct plane_store *s, const char *organisation, json_t **ret, struct error *e)
{
        json_t *items = json_array();
        int r = db_query(s->db, e, on_item, items,
                "SELECT " COLUMNS " FROM packages WHERE organisation = ? ORDER BY channel, name", "s",
                organisation);

        if (r < 0)
                json_decref(items);
        else
                *ret = items;
        return r;
}

int plane_package_get(struct plane_store *s, const char *organisation, const char *channel, const char *name,
        const char *architecture, json_t **ret, struct error *e)
{
        json_auto_t *items = json_array();
        int r = db_query(s->db, e, on_item, items,
                "SELECT " COLUMNS " FROM packages WHERE organisation = ? AND channel = ? AND name = ?"
                " AND architecture = ?",
                "ssss", organisation, channel, name, architecture);

        if (r < 0)
                return r;
        if (json_array_size(items) == 0)
                return error_set(e, ENOENT, "package.unknown", "%s has no package %s", channel, name);
        *ret = json_incref(json_array_get(items, 0));
        return 0;
}

int plane_package_find(struct plane_store *s, const char *organisation, const char *channel, const char *name,
        const char *version, const char *architecture, struct error *e)
{
        static const char sql[] = "SELECT count(*) FROM packages WHERE organisation = ?1 AND channel = ?2"
                                  " AND (?3 IS NULL OR name = ?3) AND (?4 IS NULL OR version = ?4)"
                                  " AND (?5 IS NULL OR architecture = ?5)";
        int64_t count = 0;
        int r = db_query_integer(
                s->db, e, 0, &count, sql, "sssss", organisation, channel, name, version, architecture);

        if (r < 0 || count > 0)
                return r;
        return error_set(e, ENOENT, "package.unknown", "%s has no package%s%s%s%s%s%s", channel,
                name ? " " : "", name ? name : "", version ? " " : "", version ? version : "",
                architecture ? " for " : "", architecture ? architecture : "");
}

static int on_hash(sqlite3_stmt *row, void *userdata)
{
        store_copy(userdata, 65, row, 0);
        return 1;
}

int plane_package_conflict(struct plane_store *s, const char *organisation, const char *name,
        const char *version, const char *architecture, const char *sha256, struct error *e)
{
        char there[65] = "";
        int r = db_query(s->db, e, on_hash, there,
                "SELECT sha256 FROM packages WHERE organisation = ? AND name = ? AND version = ?"
                " AND architecture = ? AND sha256 <> ?",
                "sssss", organisation, name, version, architecture, sha256);

        if (r <= 0)
                return r;
        return error_set(e, EEXIST, "package.exists",
                "%s %s for %s is in the repository with other content (SHA-256 %.12s…); a version's content "
                "never changes: give it a new version",
                name, version, architecture, there);
}

/* ---- after a change ---- */

static int put_row(struct plane_store *s, const struct plane_package_change *c, const struct package_row *row,
        int64_t round, int64_t now, struct error *e)
{
        static const char sql[] =
                "INSERT INTO packages (organisation, channel, name, architecture, version, size, sha256, "
                "file,"
                " added, actor, seen) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)"
                " ON CONFLICT (organisation, channel, name, architecture) DO UPDATE SET"
                " added = CASE WHEN sha256 = excluded.sha256 THEN added ELSE excluded.added END,"
                " actor = CASE WHEN sha256 = excluded.sha256 THEN actor ELSE excluded.actor END,"
                " version = excluded.version, size = excluded.size, sha256 = excluded.sha256,"
                " file = excluded.file, seen = excluded.seen";

        return db_run(s->db, e, sql, "sssssissisi", c->organisation, c->channel, row->name, row->architecture,
                row->version, row->size_bytes, row->sha256, row->file, now, c->by->name, round);
}

static int put_rows(struct plane_store *s, const struct plane_package_change *c, const char *list,
        int64_t round, int64_t now, struct error *e)
{
        struct package_row row;
        int r;

        while ((r = package_row_next(&list, &row, e)) > 0) {
                r = put_row(s, c, &row, round, now, e);
                if (r < 0)
                        return r;
        }
        return r;
}

/* One entry for each package that came or went, as far as somebody asked for it. */
static int audit(struct plane_store *s, const struct plane_package_change *c, json_t *items, int64_t now,
        struct error *e)
{
        json_t *item;
        size_t i;
        int r = 0;

        json_array_foreach(items, i, item)
        {
                json_t *detail = json_pack("{s:s, s:O, s:O, s:O}", "channel", c->channel, "version",
                        json_object_get(item, "version"), "architecture",
                        json_object_get(item, "architecture"), "sha256", json_object_get(item, "sha256"));

                if (c->from)
                        json_object_set_new(detail, "from", json_string(c->from));
                r = plane_audit(s, c->by, c->organisation, c->action,
                        json_string_value(json_object_get(item, "package")), detail, now, e);
                if (r < 0)
                        return r;
        }
        return r;
}

static int sync_all(struct plane_store *s, const struct plane_package_change *c, const char *list,
        int64_t now, json_t *came, json_t *went, struct error *e)
{
        int64_t round = 0;
        int r = db_query_integer(s->db, e, 0, &round,
                "SELECT coalesce(max(seen), 0) + 1 FROM packages WHERE organisation = ? AND channel = ?",
                "ss", c->organisation, c->channel);

        if (r == 0)
                r = put_rows(s, c, list, round, now, e);
        if (r == 0)
                r = db_query(s->db, e, on_item, came,
                        "SELECT " COLUMNS " FROM packages WHERE organisation = ? AND channel = ?"
                        " AND added = ? AND actor = ? AND seen = ?",
                        "ssisi", c->organisation, c->channel, now, c->by->name, round);
        if (r == 0)
                r = db_query(s->db, e, on_item, went,
                        "SELECT " COLUMNS " FROM packages WHERE organisation = ? AND channel = ?"
                        " AND seen <> ?",
                        "ssi", c->organisation, c->channel, round);
        if (r == 0)
                r = db_run(s->db, e,
                        "DELETE FROM packages WHERE organisation = ? AND channel = ? AND seen <> ?", "ssi",
                        c->organisation, c->channel, round);
        if (r == 0 && c->action)
                r = audit(s, c, came, now, e);
        if (r == 0 && c->action)
                r = audit(s, c, went, now, e);
        return r;
}

int plane_package_sync(struct plane_store *s, const struct plane_package_change *c, const char *list,
        int64_t now, json_t **ret, struct error *e)
{
        json_t *came = json_array(), *went = json_array();
        int r = db_begin(s->db, e);

        if (r == 0)
                r = store_end(s, sync_all(s, c, list, now, came, went, e), e);
        if (r == 0) {
                json_decref(*ret);
                json_array_extend(came, went);
                *ret = json_pack("{s:O}", "items", came);
        }
        json_decref(came);
        json_decref(went);
        return r;
}
