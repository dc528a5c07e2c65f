/* Sessions of browsers: opened with name and password, kept by a cookie. */
#include "plane/api_internal.h"

#include "plane/api_credentials.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SESSION_S 43200 /* plane_session_add: 12 h */
#define MINUTE_US UINT64_C(60000000)

struct signing_in {
        char organisation[65]; /* id; of an unknown one what was given: it is as good for counting */
        char name[API_NAME_MAXIMUM + 1];
        struct plane_user user; /* id "": there is none */
};

static json_t *session_to_json(const struct exchange *x)
{
        return json_pack("{s:s, s:s, s:s, s:o}", "name", x->actor.name, "organisation", x->organisation,
                "role", role_to_string(x->actor.role), "csrf",
                x->csrf[0] ? json_string(x->csrf) : json_null());
}

static void set_cookie(struct exchange *x, const char *value, int max_age_s)
{
        char cookie[256];

        snprintf(cookie, sizeof cookie, "%s=%s; Path=/; Max-Age=%d; HttpOnly; Secure; SameSite=Strict",
                SESSION_COOKIE, value, max_age_s);
        api_reply_header(x, MHD_HTTP_HEADER_SET_COOKIE, cookie);
        explicit_bzero(cookie, sizeof cookie);
}

static void slowed(struct exchange *x, int64_t wait_ms)
{
        api_problem_wait(x, MHD_HTTP_TOO_MANY_REQUESTS, "login.slowed", wait_ms,
                "too many wrong passwords for this name; wait before the next try");
}

static void log_wrong(struct exchange *x, const struct signing_in *s)
{
        const char *from = api_header(x, "X-Forwarded-For");
        unsigned suppressed = 0;
        char count[16];

        if (!log_limit_allows(&x->api->login_log, (uint64_t)clock_unix_ms() * 1000, MINUTE_US, &suppressed))
                return;
        snprintf(count, sizeof count, "%u", suppressed);
        log_event(LOG_LEVEL_WARNING, "A sign-in with a wrong name or password", "name", s->name, "from", from,
                "suppressed", suppressed ? count : NULL, NULL);
}

static void refuse(struct exchange *x, const struct signing_in *s)
{
        log_wrong(x, s);
        api_problem(x, MHD_HTTP_UNAUTHORIZED, "login.wrong", "the name or the password is wrong");
}

static void open_session(struct exchange *x, const struct signing_in *s, int64_t now)
{
        struct plane_store *store = x->api->options.store;
        char secret[64] = "", csrf[64] = "";
        struct error e = {0};
        int r = plane_user_succeeded(store, s->user.id, &e);

        if (r == 0)
                r = plane_session_add(store, s->user.id, now, secret, csrf, &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                return;
        }
        str_copy(x->actor.name, sizeof x->actor.name, s->user.name);
        str_copy(x->csrf, sizeof x->csrf, csrf);
        str_copy(x->organisation, sizeof x->organisation, s->user.organisation);
        x->actor.role = s->user.role;
        api_reply_json(x, MHD_HTTP_CREATED, session_to_json(x));
        set_cookie(x, secret, SESSION_S);
        explicit_bzero(secret, sizeof secret);
}

static void on_verified(struct exchange *x, bool right)
{
        const struct signing_in *s = x->context;

        if (right && s->user.id[0])
                open_session(x, s, clock_unix_ms());
        else
                refuse(x, s);
}

/* Counts this guess as a wrong one until it proves right. False after replying. */
static bool may_guess(struct exchange *x, const struct signing_in *s, int64_t now)
{
        int64_t blocked_until = 0, wait_ms;
        struct error e = {0};
        int r = 0;

        if (!s->user.id[0])
                wait_ms = logins_try(x->api->logins, s->organisation, s->name, now);
        else {
                wait_ms = s->user.blocked_until - now;
                if (wait_ms <= 0)
                        r = plane_user_failed(x->api->options.store, s->user.id, now, &blocked_until, &e);
        }
        if (r < 0)
                api_problem_error(x, r, &e);
        else if (wait_ms > 0)
                slowed(x, wait_ms);
        return r == 0 && wait_ms <= 0;
}

/* Whoever there is not takes the same way and the same time. */
static void find_user(struct exchange *x, struct signing_in *s, const char *organisation)
{
        struct plane_store *store = x->api->options.store;
        struct error e = {0};

        str_copy(s->organisation, sizeof s->organisation, organisation);
        if (plane_org_find(store, organisation, s->organisation, &e) < 0 ||
                plane_user_find(store, s->organisation, s->name, &s->user, &e) < 0)
                s->user = (struct plane_user){0};
}

void api_session_open(struct exchange *x)
{
        json_auto_t *body = NULL;
        struct signing_in *s = xcalloc(1, sizeof *s);
        const char *name, *password, *organisation;
        struct json_reader r;
        struct error e = {0};
        int64_t now = clock_unix_ms();

        x->context = s;
        x->context_size = sizeof *s;
        if (!api_body(x, &body))
                return;
        json_reader_init(&r, body, "the body", &e);
        name = json_take_text(&r, "name", API_NAME_MAXIMUM);
        password = json_take_text(&r, "password", PASSWORD_MAXIMUM - 1);
        organisation = json_take_optional_text(&r, "organisation", API_NAME_MAXIMUM);
        if (!api_read_done(x, &r))
                return;
        str_copy(s->name, sizeof s->name, name);
        find_user(x, s, organisation ? organisation : ORGANISATION_DEFAULT);
        if (may_guess(x, s, now))
                api_verify_password(x, password, s->user.id[0] ? s->user.password_hash : NULL, on_verified);
}

void api_session_show(struct exchange *x)
{
        api_reply_json(x, MHD_HTTP_OK, session_to_json(x));
}

void api_session_close(struct exchange *x)
{
        struct error e = {0};
        int r;

        if (!x->has_session) {
                api_problem(x, MHD_HTTP_CONFLICT, "session.none",
                        "this was not asked with a session, so none can end");
                return;
        }
        r = plane_session_remove(x->api->options.store, x->secret, &e);
        if (r < 0 && r != -ENOENT) {
                api_problem_error(x, r, &e);
                return;
        }
        api_streams_end(x->api, x->organisation);
        api_reply_empty(x, MHD_HTTP_NO_CONTENT);
        set_cookie(x, "", 0);
}
