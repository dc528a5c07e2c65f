/* Users, API tokens, organisations and the audit log: what administrators see to. */
#include "plane/api_internal.h"

#include "plane/api_credentials.h"

#include "base/alloc.h"

#include <string.h>

static bool take_role(struct json_reader *r, const char *text, enum role *ret)
{
        if (!text)
                return false;
        if (role_from_string(text, ret) < 0)
                json_reader_fail(r, "role", "is none of viewer, operator, admin");
        return true;
}

static bool password_is_fine(struct exchange *x, const char *password)
{
        struct error e = {0};
        int r = password_is_acceptable(password, &e);

        if (r < 0)
                api_problem(x, MHD_HTTP_BAD_REQUEST, e.code ? e.code : "password.refused", "%s", e.text);
        return r == 0;
}

/* ---- what they have in common ---- */

typedef int (*list_function)(
        struct plane_store *s, const char *organisation, const struct page *p, json_t **ret, struct error *e);
typedef int (*remove_function)(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *id, int64_t now, struct error *e);

/* A page of what the organisation has. */
static void reply_list(struct exchange *x, list_function list)
{
        struct error e = {0};
        json_t *found = NULL;
        struct list_filter filter;
        struct page page;
        int r;

        if (!api_query_list(x, &filter, &page))
                return;
        r = list(x->api->options.store, x->organisation, &page, &found, &e);
        api_reply_result(x, r, found, &e);
}

/* Who may less than before is not to hear on of what he might no more. */
static void reply_changed(struct exchange *x, int r, const struct error *e)
{
        if (r < 0) {
                api_problem_error(x, r, e);
                return;
        }
        api_streams_end(x->api, x->organisation);
        api_reply_empty(x, MHD_HTTP_NO_CONTENT);
}

/* The one that the path names. */
static void remove_named(struct exchange *x, remove_function remove_it)
{
        struct error e = {0};
        int r = remove_it(
                x->api->options.store, &x->actor, x->organisation, x->values[0], clock_unix_ms(), &e);

        reply_changed(x, r, &e);
}

/* ---- users ---- */

struct user_change {
        char id[65], name[API_NAME_MAXIMUM + 1];
        bool has_role;
        enum role role;
};

void api_users_list(struct exchange *x)
{
        reply_list(x, plane_user_list);
}

static void reply_hash_failed(struct exchange *x)
{
        api_problem(x, MHD_HTTP_INTERNAL_SERVER_ERROR, "internal",
                "the password could not be hashed; nothing was changed");
}

static void on_new_hash(struct exchange *x, const char *hash)
{
        const struct user_change *c = x->context;
        char id[65];
        struct error e = {0};
        int r;

        if (!hash) {
                reply_hash_failed(x);
                return;
        }
        r = plane_user_add(x->api->options.store, &x->actor, x->organisation, c->name, c->role, hash,
                clock_unix_ms(), id, &e);
        if (r < 0)
                api_problem_error(x, r, &e);
        else
                api_reply_json(x, MHD_HTTP_CREATED,
                        json_pack("{s:s, s:s, s:s}", "id", id, "name", c->name, "role",
                                role_to_string(c->role)));
}

static struct user_change *change_new(struct exchange *x)
{
        struct user_change *c = xcalloc(1, sizeof *c);

        x->context = c;
        x->context_size = sizeof *c;
        return c;
}

void api_users_add(struct exchange *x)
{
        json_auto_t *body = NULL;
        struct user_change *c = change_new(x);
        const char *name, *password;
        struct json_reader r;
        struct error e = {0};

        if (!api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        name = json_take_text(&r, "name", API_NAME_MAXIMUM);
        password = json_take_text(&r, "password", PASSWORD_MAXIMUM - 1);
        take_role(&r, json_take_text(&r, "role", API_NAME_MAXIMUM), &c->role);
        if (!api_read_done(x, &r) || !password_is_fine(x, password))
                return;
        str_copy(c->name, sizeof c->name, name);
        api_hash_password(x, password, on_new_hash);
}

static void update_user(struct exchange *x, const char *hash)
{
        const struct user_change *c = x->context;
        struct error e = {0};
        int r = plane_user_update(x->api->options.store, &x->actor, x->organisation, c->id,
                c->has_role ? &c->role : NULL, hash, clock_unix_ms(), &e);

        reply_changed(x, r, &e);
}

static void on_changed_hash(struct exchange *x, const char *hash)
{
        if (hash)
                update_user(x, hash);
        else
                reply_hash_failed(x);
}

void api_users_update(struct exchange *x)
{
        json_auto_t *body = NULL;
        struct user_change *c = change_new(x);
        const char *password;
        struct json_reader r;
        struct error e = {0};

        if (!api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        c->has_role = take_role(&r, json_take_optional_text(&r, "role", API_NAME_MAXIMUM), &c->role);
        password = json_take_optional_text(&r, "password", PASSWORD_MAXIMUM - 1);
        if (!api_read_done(x, &r))
                return;
        str_copy(c->id, sizeof c->id, x->values[0]);
        if (!c->has_role && !password)
                api_problem(
                        x, MHD_HTTP_BAD_REQUEST, "body.malformed", "neither role nor password is to change");
        else if (!password)
                update_user(x, NULL);
        else if (password_is_fine(x, password))
                api_hash_password(x, password, on_changed_hash);
}

void api_users_remove(struct exchange *x)
{
        remove_named(x, plane_user_remove);
}

/* ---- API tokens ---- */

void api_tokens_list(struct exchange *x)
{
        reply_list(x, plane_token_list);
}

static void add_token(struct exchange *x, const char *name, enum role role, int64_t expires)
{
        char id[65], secret[64];
        struct error e = {0};
        int r = plane_token_add(x->api->options.store, &x->actor, x->organisation, name, role, expires,
                clock_unix_ms(), id, secret, &e);

        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        api_reply_json(x, MHD_HTTP_CREATED,
                json_pack("{s:s, s:s, s:s, s:s, s:o}", "id", id, "name", name, "role", role_to_string(role),
                        "secret", secret, "expires", expires ? json_time(expires) : json_null()));
        explicit_bzero(secret, sizeof secret);
}

void api_tokens_add(struct exchange *x)
{
        json_auto_t *body = NULL;
        enum role role = ROLE_VIEWER;
        int64_t expires = 0;
        const char *name;
        struct json_reader r;
        struct error e = {0};

        if (!api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        name = json_take_text(&r, "name", API_NAME_MAXIMUM);
        take_role(&r, json_take_text(&r, "role", API_NAME_MAXIMUM), &role);
        if (json_object_get(body, "expires"))
                expires = json_take_time(&r, "expires");
        if (r.result == 0 && expires && expires <= clock_unix_ms())
                json_reader_fail(&r, "expires", "is over already");
        if (api_read_done(x, &r))
                add_token(x, name, role, expires);
}

void api_tokens_remove(struct exchange *x)
{
        remove_named(x, plane_token_remove);
}

/* ---- organisations, audit log ---- */

void api_organisations_list(struct exchange *x)
{
        struct error e = {0};
        json_t *list = NULL;
        struct list_filter filter;
        struct page page;
        int r;

        if (!api_query_list(x, &filter, &page))
                return;
        r = plane_org_list(x->api->options.store, &x->actor, &page, &list, &e);
        api_reply_result(x, r, list, &e);
}

void api_organisations_add(struct exchange *x)
{
        json_auto_t *body = NULL;
        const char *name;
        char id[65];
        struct json_reader r;
        struct error e = {0};
        int rc;

        if (!api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        name = json_take_text(&r, "name", API_NAME_MAXIMUM);
        if (!api_read_done(x, &r))
                return;
        rc = plane_org_add(x->api->options.store, &x->actor, name, clock_unix_ms(), id, &e);
        if (rc < 0)
                api_problem_error(x, rc, &e);
        else {
                if (x->api->options.packages)
                        packages_prepare(x->api->options.packages, id);
                api_reply_json(x, MHD_HTTP_CREATED, json_pack("{s:s, s:s}", "id", id, "name", name));
        }
}

void api_audit_list(struct exchange *x)
{
        reply_list(x, plane_audit_list);
}
