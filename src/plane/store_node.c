#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/random.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>

#define TOKEN_LIFE_MS INT64_C(86400000)
#define SITE_MAXIMUM  64

static int unknown(struct error *e)
{
        return error_set(e, ENOENT, "node.unknown", "there is no such node, or it was removed");
}

/* ---- making ---- */

/* Text of a site's name: it is shown and filtered by. */
static int check_site(const char *site, struct error *e)
{
        json_t *text = json_string(site); /* NULL: no UTF-8 */
        bool good = text && strlen(site) <= SITE_MAXIMUM;

        json_decref(text);
        for (; good && *site; site++)
                good = (unsigned char)*site >= ' ' && *site != 0x7f;
        if (good)
                return 0;
        return error_set(e, EINVAL, "site.bad",
                "the name of a site has at most %d bytes of UTF-8 and no control characters", SITE_MAXIMUM);
}

/* The old ones die. */
static int put_token(struct plane_store *s, const char *organisation, const char *node, const char *token,
        int64_t now, struct error *e)
{
        char hash[STORE_HASH_TEXT];
        int r = db_run(s->db, e, "DELETE FROM enrolments WHERE node = ?", "s", node);

        store_hash(token, hash);
        if (r < 0)
                return r;
        return db_run(s->db, e,
                "INSERT INTO enrolments (hash, organisation, node, created, expires) VALUES (?, ?, ?, ?, ?)",
                "sssii", hash, organisation, node, now, now + TOKEN_LIFE_MS);
}

static int create(struct plane_store *s, const struct actor *by, const char *organisation,
        const struct plane_node *n, const char *token, int64_t now, struct error *e)
{
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = db_run(s->db, e,
                        "INSERT INTO nodes (id, organisation, name, site, state, created)"
                        " VALUES (?, ?, ?, ?, 'new', ?)",
                        "ssssi", n->id, organisation, n->name, n->site, now);
        if (r == -EEXIST)
                return error_set(e, EEXIST, "node.exists", "there is a node '%s' already", n->name);
        if (r == 0)
                r = put_token(s, organisation, n->id, token, now, e);
        if (r < 0)
                return r;
        return plane_audit(s, by, organisation, "node.create", n->id,
                json_pack("{s:s, s:s}", "name", n->name, "site", n->site), now, e);
}

int plane_node_create(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *name, const char *site, int64_t now, char ret_id[65], char ret_token[64],
        int64_t *ret_expires, struct error *e)
{
        struct plane_node n = {0};
        char id[RANDOM_ID_TEXT], token[RANDOM_SECRET_TEXT];
        int r = store_check_name("a node", name, e);

        if (r == 0)
                r = check_site(site ? site : "", e);
        if (r < 0)
                return r;
        random_id("n", id);
        random_secret("gnt_", token);
        str_copy(n.id, sizeof n.id, id);
        str_copy(n.name, sizeof n.name, name);
        str_copy(n.site, sizeof n.site, site ? site : "");
        r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, create(s, by, organisation, &n, token, now, e), e);
        if (r < 0)
                return r;
        str_copy(ret_id, 65, id);
        str_copy(ret_token, 64, token);
        *ret_expires = now + TOKEN_LIFE_MS;
        return 0;
}

/* 0 when it is there and not removed. */
static int check_own(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *node, struct error *e)
{
        struct plane_node n;
        int r = store_check_actor(s, by, organisation, e);

        if (r == 0)
                r = plane_node_find(s, organisation, node, &n, e);
        if (r == 0 && (str_equal(n.state, "removed") || !str_equal(n.id, node)))
                return unknown(e);
        return r;
}

#define NAME_OF "SELECT name FROM nodes WHERE id = ? AND organisation = ?"

static int new_token(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *node, const char *token, int64_t now, struct error *e)
{
        json_auto_t *detail = NULL;
        int r = check_own(s, by, organisation, node, e);

        if (r == 0)
                r = put_token(s, organisation, node, token, now, e);
        if (r == 0)
                r = store_named(s, NAME_OF, node, organisation, &detail, e);
        return r < 0 ? r : plane_audit(s, by, organisation, "node.token", node, TAKE_PTR(detail), now, e);
}

int plane_node_new_token(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *node, int64_t now, char ret_token[64], int64_t *ret_expires, struct error *e)
{
        char token[RANDOM_SECRET_TEXT];
        int r = db_begin(s->db, e);

        random_secret("gnt_", token);
        if (r == 0)
                r = store_end(s, new_token(s, by, organisation, node, token, now, e), e);
        if (r < 0)
                return r;
        str_copy(ret_token, 64, token);
        *ret_expires = now + TOKEN_LIFE_MS;
        return 0;
}

/* ---- finding ---- */

#define COLUMNS "SELECT id, organisation, name, site, state, connected FROM nodes"

static int on_node(sqlite3_stmt *row, void *userdata)
{
        struct plane_node *n = userdata;

        STORE_COPY(n->id, row, 0);
        STORE_COPY(n->organisation, row, 1);
        STORE_COPY(n->name, row, 2);
        STORE_COPY(n->site, row, 3);
        STORE_COPY(n->state, row, 4);
        n->connected = db_integer(row, 5) != 0;
        return 1;
}

int plane_node_find(struct plane_store *s, const char *organisation, const char *name_or_id,
        struct plane_node *ret, struct error *e)
{
        struct plane_node n = {0};
        int r;

        /* An id goes before a name, so that no name can stand for another's id. */
        if (!organisation)
                r = db_query(s->db, e, on_node, &n, COLUMNS " WHERE id = ?", "s", name_or_id);
        else
                r = db_query(s->db, e, on_node, &n, COLUMNS " WHERE id = ? AND organisation = ?", "ss",
                        name_or_id, organisation);
        if (r == 0 && organisation)
                r = db_query(s->db, e, on_node, &n,
                        COLUMNS " WHERE organisation = ? AND name = ? AND state <> 'removed'", "ss",
                        organisation, name_or_id);
        if (r == 0)
                return unknown(e);
        if (r < 0)
                return r;
        *ret = n;
        return 0;
}

/* ---- removing ---- */

static int end_node(struct plane_store *s, const char *node, int64_t now, struct error *e)
{
        int r = db_run(s->db, e,
                "UPDATE nodes SET state = 'removed', removed = ?, connected = 0, connected_since = NULL,"
                " last_seen = CASE connected WHEN 1 THEN ?1 ELSE last_seen END WHERE id = ?",
                "is", now, node);

        if (r == 0)
                r = store_revoke(s, node, NULL, now, e);
        if (r == 0)
                r = db_run(s->db, e, "DELETE FROM enrolments WHERE node = ?", "s", node);
        if (r == 0)
                r = db_run(s->db, e, "DELETE FROM node_causes WHERE node = ?", "s", node);
        if (r == 0)
                r = db_run(s->db, e, "DELETE FROM failures WHERE node = ?", "s", node);
        return r;
}

static int remove_node(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *id, int64_t now, struct error *e)
{
        json_auto_t *detail = NULL;
        int r = check_own(s, by, organisation, id, e);

        if (r == 0)
                r = end_node(s, id, now, e);
        if (r == 0)
                r = store_named(s, NAME_OF, id, organisation, &detail, e);
        return r < 0 ? r : plane_audit(s, by, organisation, "node.remove", id, TAKE_PTR(detail), now, e);
}

int plane_node_remove(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        int64_t now, struct error *e)
{
        int r = db_begin(s->db, e);

        return r < 0 ? r : store_end(s, remove_node(s, by, organisation, id, now, e), e);
}

/* ---- registering ---- */

struct enrolment {
        char node[65], key[STORE_HASH_TEXT];
        int64_t expires;
};

static int on_enrolment(sqlite3_stmt *row, void *userdata)
{
        struct enrolment *t = userdata;

        STORE_COPY(t->node, row, 0);
        STORE_COPY(t->key, row, 1);
        t->expires = db_integer(row, 2);
        return 1;
}

static int use(struct plane_store *s, const char *hash, const char *key, const struct plane_node *n,
        int64_t now, struct error *e)
{
        struct actor self = {.role = ROLE_VIEWER};
        int r = db_run(
                s->db, e, "UPDATE enrolments SET key = ?, used = ? WHERE hash = ?", "sis", key, now, hash);

        str_copy(self.name, sizeof self.name, "node:");
        str_copy(self.name + strlen("node:"), sizeof self.name - strlen("node:"), n->id);
        str_copy(self.organisation, sizeof self.organisation, n->organisation);
        if (r == 0)
                r = db_run(s->db, e,
                        "UPDATE nodes SET state = 'registered', registered = ? WHERE id = ?"
                        " AND state <> 'removed'",
                        "is", now, n->id);
        /* The machine was replaced: the old one speaks for the node no longer. */
        if (r == 0)
                r = store_revoke(s, n->id, key, now, e);
        if (r < 0)
                return r;
        return plane_audit(s, &self, n->organisation, "node.register", n->id,
                json_pack("{s:s}", "public_key_sha256", key), now, e);
}

static int redeem(struct plane_store *s, const char *token, const char *key, int64_t now,
        struct plane_node *ret, struct error *e)
{
        struct enrolment t = {0};
        char hash[STORE_HASH_TEXT];
        int r;

        store_hash(token, hash);
        r = db_query(s->db, e, on_enrolment, &t, "SELECT node, key, expires FROM enrolments WHERE hash = ?",
                "s", hash);
        if (r < 0)
                return r;
        if (r == 0)
                return error_set(e, ENOENT, "token.unknown",
                        "the token is not known: make a new one on the control plane (gridplane node token)");
        if (t.key[0] && !str_equal(t.key, key))
                return error_set(e, EEXIST, "token.used",
                        "the token was used by another machine: make a new one on the control plane");
        if (!t.key[0] && t.expires <= now)
                return error_set(e, ESTALE, "token.expired",
                        "the token has expired, they live 24 hours: make a new one on the control plane");
        r = plane_node_find(s, NULL, t.node, ret, e);
        if (r < 0 || t.key[0])
                return r;
        str_copy(ret->state, sizeof ret->state, "registered");
        return use(s, hash, key, ret, now, e);
}

int plane_node_redeem(struct plane_store *s, const char *token, const char *public_key_sha256, int64_t now,
        struct plane_node *ret, struct error *e)
{
        struct plane_node n;
        int r;

        if (str_is_empty(public_key_sha256) || strlen(public_key_sha256) != STORE_HASH_TEXT - 1)
                return error_set(e, EINVAL, "token.key", "a token is redeemed by the SHA-256 of a key");
        r = db_begin(s->db, e);
        if (r == 0)
                r = store_end(s, redeem(s, token, public_key_sha256, now, &n, e), e);
        if (r == 0)
                *ret = n;
        return r;
}
