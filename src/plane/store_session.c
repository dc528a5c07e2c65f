#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/random.h"
#include "base/text.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#define SESSION_LIFE_MS  INT64_C(43200000)
#define SESSION_IDLE_MS  INT64_C(3600000)
#define SESSIONS_OF_USER 32             /* the oldest goes */
#define USED_GRAIN_MS    INT64_C(60000) /* the last use is written once a minute */

/* ---- sessions ---- */

/* Derived, so that it need not be kept: who has the database has no session. */
static void csrf_of(const char *secret, char ret[64])
{
        char text[128];
        unsigned char hash[crypto_hash_sha256_BYTES];

        snprintf(text, sizeof text, "csrf:%s", secret);
        crypto_hash_sha256(hash, (const unsigned char *)text, strlen(text));
        sodium_bin2base64(ret, 64, hash, sizeof hash, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        sodium_memzero(text, sizeof text);
}

/* Wrong bytes from outside: at most as long as ours, so that nothing is cut off unseen. */
static bool is_secret(const char *secret, const char *prefix)
{
        return str_starts_with(secret, prefix) && strnlen(secret, 64) < 64;
}

static int add_session(
        struct plane_store *s, const char *user, const char *hash, int64_t now, struct error *e)
{
        int r = db_run(s->db, e,
                "INSERT INTO sessions (hash, organisation, user, created, used)"
                " SELECT ?, organisation, id, ?, ? FROM users WHERE id = ?",
                "siis", hash, now, now, user);

        if (r == 0 && db_changes(s->db) == 0)
                return error_set(e, ENOENT, "user.unknown", "there is no such user");
        if (r < 0)
                return r;
        return db_run(s->db, e,
                "DELETE FROM sessions WHERE hash IN (SELECT o.hash FROM users u JOIN sessions o"
                " ON o.organisation = u.organisation AND o.user = u.id WHERE u.id = ?"
                " ORDER BY o.created DESC, o.rowid DESC LIMIT -1 OFFSET ?)",
                "si", user, (int64_t)SESSIONS_OF_USER);
}

int plane_session_add(struct plane_store *s, const char *user, int64_t now, char ret_secret[64],
        char ret_csrf[64], struct error *e)
{
        char secret[RANDOM_SECRET_TEXT], hash[STORE_HASH_TEXT];
        int r = db_begin(s->db, e);

        if (r < 0)
                return r;
        random_secret("gps_", secret);
        store_hash(secret, hash);
        r = store_end(s, add_session(s, user, hash, now, e), e);
        if (r == 0) {
                str_copy(ret_secret, 64, secret);
                csrf_of(secret, ret_csrf);
        }
        sodium_memzero(secret, sizeof secret);
        return r;
}

struct found {
        struct actor actor;
        char hash[STORE_HASH_TEXT];
        int64_t created, used, expires;
};

static int on_session(sqlite3_stmt *row, void *userdata)
{
        struct found *f = userdata;

        STORE_COPY(f->actor.organisation, row, 0);
        STORE_COPY(f->actor.name, row, 1);
        f->actor.role = (enum role)db_integer(row, 2);
        STORE_COPY(f->hash, row, 3);
        f->created = db_integer(row, 4);
        f->used = db_integer(row, 5);
        return 1;
}

static int no_session(struct error *e)
{
        return error_set(e, ENOENT, "session.unknown", "the session is not known: sign in");
}

int plane_session_find(struct plane_store *s, const char *secret, int64_t now, struct actor *ret,
        char ret_csrf[64], struct error *e)
{
        struct found f = {0};
        char hash[STORE_HASH_TEXT];
        int r;

        if (!is_secret(secret, "gps_"))
                return no_session(e);
        store_hash(secret, hash);
        r = db_query(s->db, e, on_session, &f,
                "SELECT u.organisation, u.name, u.role, s.hash, s.created, s.used FROM sessions s"
                " JOIN users u ON u.organisation = s.organisation AND u.id = s.user WHERE s.hash = ?",
                "s", hash);
        if (r < 0)
                return r;
        if (r == 0 || sodium_memcmp(f.hash, hash, sizeof hash) != 0)
                return no_session(e);
        if (now >= f.created + SESSION_LIFE_MS || now >= f.used + SESSION_IDLE_MS)
                return error_set(e, ESTALE, "session.expired",
                        "the session has ended: they live 12 hours, and 1 hour without use; sign in");
        if (now >= f.used + USED_GRAIN_MS) {
                r = db_run(s->db, e, "UPDATE sessions SET used = ? WHERE hash = ?", "is", now, hash);
                if (r < 0 && r != -EBUSY) /* who it is, is known all the same */
                        return r;
        }
        *ret = f.actor;
        csrf_of(secret, ret_csrf);
        return 0;
}

int plane_session_remove(struct plane_store *s, const char *secret, struct error *e)
{
        char hash[STORE_HASH_TEXT];

        store_hash(secret, hash);
        return db_run(s->db, e, "DELETE FROM sessions WHERE hash = ?", "s", hash);
}

/* ---- API tokens ---- */

struct new_token {
        const char *id, *name, *hash;
        enum role role;
        int64_t expires;
};

static int add_token(struct plane_store *s, const struct actor *by, const char *organisation,
        const struct new_token *t, int64_t now, struct error *e)
{
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = db_run(s->db, e,
                        "INSERT INTO tokens (id, organisation, name, role, hash, created, expires)"
                        " VALUES (?, ?, ?, ?, ?, ?, nullif(?, 0))",
                        "sssisii", t->id, organisation, t->name, (int64_t)t->role, t->hash, now, t->expires);
        if (r == -EEXIST)
                return error_set(e, EEXIST, "token.exists", "there is a token '%s' already", t->name);
        if (r < 0)
                return r;
        return plane_audit(s, by, organisation, "token.create", t->id,
                json_pack("{s:s, s:s}", "name", t->name, "role", role_to_string(t->role)), now, e);
}

int plane_token_add(struct plane_store *s, const struct actor *by, const char *organisation, const char *name,
        enum role role, int64_t expires, int64_t now, char ret_id[65], char ret_secret[64], struct error *e)
{
        char id[RANDOM_ID_TEXT], secret[RANDOM_SECRET_TEXT], hash[STORE_HASH_TEXT];
        const struct new_token t = {.id = id, .name = name, .hash = hash, .role = role, .expires = expires};
        int r = store_check_person("a token", name, e);

        if (r < 0)
                return r;
        if (expires < 0 || (expires && expires <= now))
                return error_set(
                        e, EINVAL, "token.expires", "the token would have expired before it is made");
        random_id("t", id);
        random_secret("gpt_", secret);
        store_hash(secret, hash);
        r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, add_token(s, by, organisation, &t, now, e), e);
        if (r == 0) {
                str_copy(ret_id, 65, id);
                str_copy(ret_secret, 64, secret);
        }
        sodium_memzero(secret, sizeof secret);
        return r;
}

static int on_token(sqlite3_stmt *row, void *userdata)
{
        struct found *f = userdata;

        STORE_COPY(f->actor.organisation, row, 0);
        snprintf(f->actor.name, sizeof f->actor.name, "token:%s", db_text(row, 1));
        f->actor.role = (enum role)db_integer(row, 2);
        STORE_COPY(f->hash, row, 3);
        f->expires = db_integer(row, 4);
        f->used = db_integer(row, 5);
        return 1;
}

static int no_token(struct error *e)
{
        return error_set(e, ENOENT, "token.unknown", "the API token is not known");
}

int plane_token_find(
        struct plane_store *s, const char *secret, int64_t now, struct actor *ret, struct error *e)
{
        struct found f = {0};
        char hash[STORE_HASH_TEXT];
        int r;

        if (!is_secret(secret, "gpt_"))
                return no_token(e);
        store_hash(secret, hash);
        r = db_query(s->db, e, on_token, &f,
                "SELECT organisation, name, role, hash, expires, used FROM tokens WHERE hash = ?", "s", hash);
        if (r < 0)
                return r;
        if (r == 0 || sodium_memcmp(f.hash, hash, sizeof hash) != 0)
                return no_token(e);
        if (f.expires && now >= f.expires)
                return error_set(e, ESTALE, "token.expired", "the API token has expired: make a new one");
        if (now >= f.used + USED_GRAIN_MS) {
                r = db_run(s->db, e, "UPDATE tokens SET used = ? WHERE hash = ?", "is", now, hash);
                if (r < 0 && r != -EBUSY) /* who it is, is known all the same */
                        return r;
        }
        *ret = f.actor;
        return 0;
}

static json_t *to_json(sqlite3_stmt *row)
{
        return json_pack("{s:o, s:o, s:s, s:o, s:o, s:o}", "id", store_text(row, 0), "name",
                store_text(row, 1), "role", role_to_string((enum role)db_integer(row, 2)), "created",
                store_time(row, 3), "expires", store_time(row, 4), "last_used", store_time(row, 5));
}

int plane_token_list(
        struct plane_store *s, const char *organisation, const struct page *p, json_t **ret, struct error *e)
{
        const struct list_filter *f = page_filter(p);
        struct store_list l;
        int r = store_list_begin(&l, 't', to_json, p, "", "", e);

        if (r < 0)
                return r;
        r = db_query(s->db, e, store_list_on_row, &l,
                "SELECT id, name, role, created, expires, used, name, id FROM tokens"
                " WHERE organisation = ?1 AND name > ?2 AND (?3 IS NULL OR instr(name, ?3) > 0)"
                " AND (?4 < 0 OR role = ?4) ORDER BY name LIMIT ?5",
                "sssii", organisation, l.after[0], f->name, store_role_wanted(f->role), store_list_fetch(&l));
        return store_list_end(&l, r, ret);
}

static int remove_token(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *id, int64_t now, struct error *e)
{
        json_auto_t *detail = NULL;
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = store_named(s, "SELECT name FROM tokens WHERE id = ? AND organisation = ?", id,
                        organisation, &detail, e);
        if (r == 0)
                r = db_run(s->db, e, "DELETE FROM tokens WHERE id = ? AND organisation = ?", "ss", id,
                        organisation);
        if (r == 0 && db_changes(s->db) == 0)
                return error_set(e, ENOENT, "token.unknown", "there is no such token");
        return r < 0 ? r : plane_audit(s, by, organisation, "token.remove", id, TAKE_PTR(detail), now, e);
}

int plane_token_remove(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *id, int64_t now, struct error *e)
{
        int r = db_begin(s->db, e);

        return r < 0 ? r : store_end(s, remove_token(s, by, organisation, id, now, e), e);
}
