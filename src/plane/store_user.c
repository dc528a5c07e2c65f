#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/random.h"
#include "base/text.h"
#include "plane/password.h"

#include <errno.h>
#include <string.h>

static int unknown(struct error *e)
{
        return error_set(e, ENOENT, "user.unknown", "there is no such user");
}

static int check_password_hash(const char *hash, struct error *e)
{
        struct plane_user u;

        if (!str_is_empty(hash) && strnlen(hash, sizeof u.password_hash) < sizeof u.password_hash)
                return 0;
        return error_set(e, EINVAL, "user.password", "the hash of a password is empty or too long");
}

static int add(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        const char *name, enum role role, const char *password_hash, int64_t now, struct error *e)
{
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = db_run(s->db, e,
                        "INSERT INTO users (id, organisation, name, role, password, created)"
                        " VALUES (?, ?, ?, ?, ?, ?)",
                        "sssisi", id, organisation, name, (int64_t)role, password_hash, now);
        if (r == -EEXIST)
                return error_set(e, EEXIST, "user.exists", "there is a user '%s' already", name);
        if (r < 0)
                return r;
        return plane_audit(s, by, organisation, "user.create", id,
                json_pack("{s:s, s:s}", "name", name, "role", role_to_string(role)), now, e);
}

int plane_user_add(struct plane_store *s, const struct actor *by, const char *organisation, const char *name,
        enum role role, const char *password_hash, int64_t now, char ret_id[65], struct error *e)
{
        char id[RANDOM_ID_TEXT];
        int r = store_check_person("a user", name, e);

        if (r == 0)
                r = check_password_hash(password_hash, e);
        if (r < 0)
                return r;
        random_id("u", id);
        r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, add(s, by, organisation, id, name, role, password_hash, now, e), e);
        if (r == 0)
                str_copy(ret_id, 65, id);
        return r;
}

static int on_user(sqlite3_stmt *row, void *userdata)
{
        struct plane_user *u = userdata;

        STORE_COPY(u->id, row, 0);
        STORE_COPY(u->organisation, row, 1);
        STORE_COPY(u->name, row, 2);
        u->role = (enum role)db_integer(row, 3);
        STORE_COPY(u->password_hash, row, 4);
        u->failures = db_integer(row, 5);
        u->blocked_until = db_integer(row, 6);
        return 1;
}

int plane_user_find(struct plane_store *s, const char *organisation, const char *name, struct plane_user *ret,
        struct error *e)
{
        struct plane_user u = {0};
        int r = db_query(s->db, e, on_user, &u,
                "SELECT id, organisation, name, role, password, failures, blocked_until FROM users"
                " WHERE organisation = ? AND name = ?",
                "ss", organisation, name);

        if (r < 0)
                return r;
        if (r == 0)
                return unknown(e);
        *ret = u;
        return 0;
}

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:s, s:o}", "id", store_text(row, 0), "name", store_text(row, 1), "role",
                role_to_string((enum role)db_integer(row, 2)), "created", store_time(row, 3));
}

int64_t store_role_wanted(const char *name)
{
        enum role role;

        return name && role_from_string(name, &role) == 0 ? (int64_t)role : -1;
}

int plane_user_list(
        struct plane_store *s, const char *organisation, const struct page *p, json_t **ret, struct error *e)
{
        const struct list_filter *f = page_filter(p);
        struct store_list l;
        int r = store_list_begin(&l, 'u', to_json, p, "", "", e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l,
                "SELECT id, name, role, created, name, id FROM users"
                " WHERE organisation = ?1 AND name > ?2 AND (?3 IS NULL OR instr(name, ?3) > 0)"
                " AND (?4 < 0 OR role = ?4) ORDER BY name LIMIT ?5",
                "sssii", organisation, l.after[0], f->name, store_role_wanted(f->role), store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

#define NAME_OF "SELECT name FROM users WHERE id = ? AND organisation = ?"

static int update(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        const enum role *role, const char *password_hash, int64_t now, struct error *e)
{
        json_t *detail;
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = db_run(s->db, e,
                        "UPDATE users SET role = CASE WHEN ?1 < 0 THEN role ELSE ?1 END,"
                        " password = coalesce(?2, password) WHERE id = ?3 AND organisation = ?4",
                        "isss", role ? (int64_t)*role : (int64_t)-1, password_hash, id, organisation);
        if (r == 0 && db_changes(s->db) == 0)
                return unknown(e);
        if (r == 0)
                r = db_run(s->db, e, "DELETE FROM sessions WHERE organisation = ? AND user = ?", "ss",
                        organisation, id);
        if (r == 0)
                r = store_named(s, NAME_OF, id, organisation, &detail, e);
        if (r < 0)
                return r;
        json_object_set_new(detail, "password", json_boolean(password_hash != NULL));
        if (role)
                json_object_set_new(detail, "role", json_string(role_to_string(*role)));
        return plane_audit(s, by, organisation, "user.update", id, detail, now, e);
}

int plane_user_update(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        const enum role *role, const char *password_hash, int64_t now, struct error *e)
{
        int r = password_hash ? check_password_hash(password_hash, e) : 0;

        if (r == 0)
                r = db_begin(s->db, e);
        return r < 0 ? r : store_end(s, update(s, by, organisation, id, role, password_hash, now, e), e);
}

static int remove_user(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *id, int64_t now, struct error *e)
{
        json_auto_t *detail = NULL;
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = store_named(s, NAME_OF, id, organisation, &detail, e);
        if (r == 0)
                r = db_run(s->db, e, "DELETE FROM users WHERE id = ? AND organisation = ?", "ss", id,
                        organisation);
        if (r == 0 && db_changes(s->db) == 0)
                return unknown(e);
        return r < 0 ? r : plane_audit(s, by, organisation, "user.remove", id, TAKE_PTR(detail), now, e);
}

int plane_user_remove(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        int64_t now, struct error *e)
{
        int r = db_begin(s->db, e);

        return r < 0 ? r : store_end(s, remove_user(s, by, organisation, id, now, e), e);
}

/* ---- wrong passwords ---- */

static int fail_once(
        struct plane_store *s, const char *id, int64_t now, int64_t *ret_blocked_until, struct error *e)
{
        int64_t failures, delay_ms, until;
        int r = db_run(s->db, e, "UPDATE users SET failures = failures + 1 WHERE id = ?", "s", id);

        if (r == 0)
                r = db_query_integer(
                        s->db, e, 0, &failures, "SELECT failures FROM users WHERE id = ?", "s", id);
        if (r < 0)
                return r;
        if (failures == 0)
                return unknown(e);
        delay_ms = password_delay_ms(failures);
        until = delay_ms ? now + delay_ms : 0;
        r = db_run(s->db, e, "UPDATE users SET blocked_until = ? WHERE id = ?", "is", until, id);
        if (r == 0)
                *ret_blocked_until = until;
        return r;
}

int plane_user_failed(
        struct plane_store *s, const char *id, int64_t now, int64_t *ret_blocked_until, struct error *e)
{
        int r = db_begin(s->db, e);

        return r < 0 ? r : store_end(s, fail_once(s, id, now, ret_blocked_until, e), e);
}

int plane_user_succeeded(struct plane_store *s, const char *id, struct error *e)
{
        return db_run(s->db, e,
                "UPDATE users SET failures = 0, blocked_until = 0 WHERE id = ? AND failures > 0", "s", id);
}
