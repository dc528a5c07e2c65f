/* People: signing in and out, the CSRF header, users, API tokens, organisations, the audit log. */
#include "api_world.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

static const char password[] = "correct horse battery";

static void add_user(struct world *w, const char *name, const char *role)
{
        _cleanup_free_ char *body =
                xasprintf("{\"name\":\"%s\",\"role\":\"%s\",\"password\":\"%s\"}", name, role, password);

        json_decref(world_get(w, 201, ASK("POST", "/api/v1/users", .token = w->admin, .body = body)));
}

static struct answer sign_in(struct world *w, const char *name, const char *with)
{
        _cleanup_free_ char *body = xasprintf("{\"name\":\"%s\",\"password\":\"%s\"}", name, with);

        return world_ask(w, ASK("POST", "/api/v1/session", .body = body));
}

struct session {
        char cookie[256], csrf[128];
};

static struct session open_session(struct world *w, const char *name)
{
        struct answer a = sign_in(w, name, password);
        const char *cookie = answer_header(&a, "Set-Cookie");
        struct session s = {0};

        assert_int_equal(a.status, 201);
        assert_non_null(cookie);
        assert_non_null(strstr(cookie, "; HttpOnly"));
        assert_non_null(strstr(cookie, "; Secure"));
        assert_non_null(strstr(cookie, "; SameSite=Strict"));
        assert_non_null(strstr(cookie, "; Path=/"));
        snprintf(s.cookie, sizeof s.cookie, "Cookie: %.*s", (int)strcspn(cookie, ";"), cookie);
        snprintf(s.csrf, sizeof s.csrf, "X-CSRF-Token: %s", text_of(a.json, "csrf"));
        assert_null(strstr(a.body, s.cookie + strlen("Cookie: gridplane=")));
        answer_done(&a);
        return s;
}

static void test_session(void **state)
{
        struct world *w = *state;
        struct session s;
        struct answer a;
        json_t *o;

        add_user(w, "alice", "operator");
        s = open_session(w, "alice");
        o = world_get(w, 200, ASK("GET", "/api/v1/session", .headers = {s.cookie}));
        assert_string_equal(text_of(o, "name"), "alice");
        assert_string_equal(text_of(o, "role"), "operator");
        assert_string_equal(text_of(o, "csrf"), s.csrf + strlen("X-CSRF-Token: "));
        json_decref(o);
        a = world_ask(w, ASK("DELETE", "/api/v1/session", .headers = {s.cookie, s.csrf}));
        assert_int_equal(a.status, 204);
        assert_non_null(strstr(answer_header(&a, "Set-Cookie"), "gridplane=; Path=/; Max-Age=0;"));
        answer_done(&a);
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/session", .headers = {s.cookie})), 401, "session.over");
        assert_problem(
                world_ask(w, ASK("DELETE", "/api/v1/session", .token = w->viewer)), 409, "session.none");
}

static void test_csrf(void **state)
{
        struct world *w = *state;
        const char *path = "/api/v1/nodes", *body = "{\"name\":\"n1\"}";
        struct session s;
        char wrong[160];

        add_user(w, "alice", "operator");
        s = open_session(w, "alice");
        assert_problem(world_ask(w, ASK("POST", path, .body = body, .headers = {s.cookie})), 403, "csrf");
        assert_problem(
                world_ask(w, ASK("POST", path, .body = body, .headers = {s.cookie, "X-CSRF-Token: x"})), 403,
                "csrf");
        assert_problem(world_ask(w, ASK("POST", path, .body = body, .headers = {s.cookie, "X-CSRF-Token;"})),
                403, "csrf");
        snprintf(wrong, sizeof wrong, "%sx", s.csrf);
        assert_problem(
                world_ask(w, ASK("POST", path, .body = body, .headers = {s.cookie, wrong})), 403, "csrf");
        str_copy(wrong, sizeof wrong, s.csrf);
        wrong[strlen(wrong) - 1] ^= 1;
        assert_problem(
                world_ask(w, ASK("POST", path, .body = body, .headers = {s.cookie, wrong})), 403, "csrf");
        json_decref(world_get(w, 201, ASK("POST", path, .body = body, .headers = {s.cookie, s.csrf})));
        /* The role is the session's: what it may not, the header does not open. */
        assert_problem(world_ask(w, ASK("GET", "/api/v1/users", .headers = {s.cookie, s.csrf})), 403,
                "role.insufficient");
}

static void assert_same_words(struct answer a, struct answer b)
{
        assert_int_equal(a.status, b.status);
        assert_string_equal(a.body, b.body);
        answer_done(&a);
        answer_done(&b);
}

/* Five wrong ones slow the sixth, whether there is such a user or not, and in the same words. */
static void test_wrong_passwords(void **state)
{
        struct world *w = *state;
        struct answer a;

        add_user(w, "alice", "viewer");
        assert_problem(sign_in(w, "alice", "wrong"), 401, "login.wrong");
        for (int i = 0; i < 4; i++)
                assert_same_words(sign_in(w, "alice", "wrong"), sign_in(w, "nobody", "wrong"));
        assert_problem(sign_in(w, "nobody", "wrong"), 401, "login.wrong");
        a = sign_in(w, "alice", password); /* the right one, too soon */
        assert_int_equal(a.status, 429);
        assert_true(atoi(answer_header(&a, "Retry-After")) >= 1);
        assert_same_words(a, sign_in(w, "nobody", "wrong"));
        world_run(w, 1050);
        a = sign_in(w, "alice", password);
        assert_int_equal(a.status, 201);
        answer_done(&a);
        assert_problem(sign_in(w, "alice", "wrong"), 401, "login.wrong"); /* the count began anew */
        assert_problem(sign_in(w, "alice", "wrong"), 401, "login.wrong");
}

static void test_sign_in_elsewhere(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *body =
                xasprintf("{\"name\":\"alice\",\"password\":\"%s\",\"organisation\":\"other\"}", password);

        add_user(w, "alice", "viewer");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/session", .body = body)), 401, "login.wrong");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/session", .body = "{\"name\":\"alice\"}")), 400,
                "body.malformed");
        assert_problem(
                world_ask(w,
                        ASK("POST", "/api/v1/session",
                                .body = "{\"name\":\"alice\",\"password\":\"x\",\"organisation\":\"none\"}")),
                401, "login.wrong");
}

static void test_users(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *path = NULL;
        struct session s;
        json_t *o;

        add_user(w, "alice", "viewer");
        s = open_session(w, "alice");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/users", .token = w->admin,
                                            .body = "{\"name\":\"alice\",\"role\":\"viewer\",\"password\":"
                                                    "\"123456789012\"}")),
                409, "user.exists");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/users", .token = w->admin,
                                            .body = "{\"name\":\"bob\",\"role\":\"king\",\"password\":"
                                                    "\"123456789012\"}")),
                400, "body.malformed");
        assert_problem(
                world_ask(
                        w, ASK("POST", "/api/v1/users", .token = w->admin,
                                   .body = "{\"name\":\"bob\",\"role\":\"viewer\",\"password\":\"short\"}")),
                400, "password.short");
        o = world_get(w, 200, ASK("GET", "/api/v1/users", .token = w->admin));
        assert_int_equal(json_array_size(json_object_get(o, "items")), 1);
        path = xasprintf("/api/v1/users/%s", text_of(json_array_get(json_object_get(o, "items"), 0), "id"));
        json_decref(o);
        assert_problem(
                world_ask(w, ASK("PATCH", path, .token = w->admin, .body = "{}")), 400, "body.malformed");
        assert_problem(world_ask(w, ASK("PATCH", path, .token = w->stranger, .body = "{\"role\":\"admin\"}")),
                404, "user.unknown");
        json_decref(world_get(w, 204, ASK("PATCH", path, .token = w->admin, .body = "{\"role\":\"admin\"}")));
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/session", .headers = {s.cookie})), 401, "session.over");
        json_decref(world_get(w, 204,
                ASK("PATCH", path, .token = w->admin, .body = "{\"password\":\"another password\"}")));
        assert_problem(sign_in(w, "alice", password), 401, "login.wrong");
        assert_problem(world_ask(w, ASK("DELETE", path, .token = w->stranger)), 404, "user.unknown");
        json_decref(world_get(w, 204, ASK("DELETE", path, .token = w->admin)));
        assert_problem(world_ask(w, ASK("DELETE", path, .token = w->admin)), 404, "user.unknown");
}

static void test_tokens(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *path = NULL;
        char secret[64];
        json_t *o = world_get(w, 201,
                ASK("POST", "/api/v1/tokens", .token = w->admin,
                        .body = "{\"name\":\"ci\",\"role\":\"operator\",\"expires\":\"2126-01-01T00:00:00."
                                "000Z\"}"));

        str_copy(secret, sizeof secret, text_of(o, "secret"));
        assert_int_equal(strncmp(secret, "gpt_", 4), 0);
        assert_string_equal(text_of(o, "expires"), "2126-01-01T00:00:00.000Z");
        path = xasprintf("/api/v1/tokens/%s", text_of(o, "id"));
        json_decref(o);
        o = world_get(w, 200, ASK("GET", "/api/v1/session", .token = secret));
        assert_string_equal(text_of(o, "name"), "token:ci");
        json_decref(o);
        assert_problem(world_ask(w, ASK("POST", "/api/v1/tokens", .token = w->admin,
                                            .body = "{\"name\":\"c2\",\"role\":\"viewer\",\"expires\":\"2020-"
                                                    "01-01T00:00:00.000Z\"}")),
                400, "body.malformed");
        assert_problem(world_ask(w, ASK("DELETE", path, .token = w->stranger)), 404, "token.unknown");
        json_decref(world_get(w, 204, ASK("DELETE", path, .token = w->admin)));
        assert_problem(world_ask(w, ASK("GET", "/api/v1/session", .token = secret)), 401, "token.refused");
        o = world_get(w, 200, ASK("GET", "/api/v1/tokens", .token = w->admin));
        assert_int_equal(json_array_size(json_object_get(o, "items")), 3);
        json_decref(o);
}

static void test_organisations(void **state)
{
        struct world *w = *state;
        json_t *o;

        assert_problem(world_ask(w, ASK("POST", "/api/v1/organisations", .token = w->admin,
                                            .body = "{\"name\":\"third\"}")),
                403, "role.insufficient");
        o = world_get(
                w, 201, ASK("POST", "/api/v1/organisations", .local = true, .body = "{\"name\":\"third\"}"));
        assert_string_equal(text_of(o, "name"), "third");
        json_decref(o);
        assert_problem(world_ask(w, ASK("POST", "/api/v1/organisations", .local = true,
                                            .body = "{\"name\":\"third\"}")),
                409, "organisation.exists");
        o = world_get(w, 200, ASK("GET", "/api/v1/organisations", .local = true));
        assert_int_equal(json_array_size(json_object_get(o, "items")), 3);
        json_decref(o);
        o = world_get(w, 200, ASK("GET", "/api/v1/organisations", .token = w->admin));
        assert_int_equal(json_array_size(json_object_get(o, "items")), 1);
        json_decref(o);
}

/* Who, when, what; page by page; nothing of another organisation, no secret. */
static void test_audit(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *next = NULL;
        struct answer a;
        json_t *o, *first;

        add_user(w, "alice", "viewer");
        json_decref(world_get(
                w, 201, ASK("POST", "/api/v1/nodes", .token = w->operator, .body = "{\"name\":\"n1\"}")));
        a = world_ask(w, ASK("GET", "/api/v1/audit?limit=1", .token = w->admin));
        assert_int_equal(a.status, 200);
        first = json_array_get(json_object_get(a.json, "items"), 0);
        assert_string_equal(text_of(first, "action"), "node.create");
        assert_string_equal(text_of(first, "actor"), "token:o");
        assert_true(*text_of(first, "at"));
        next = xasprintf("/api/v1/audit?limit=1&after=%s", text_of(a.json, "next"));
        answer_done(&a);
        a = world_ask(w, ASK("GET", next, .token = w->admin));
        assert_string_equal(
                text_of(json_array_get(json_object_get(a.json, "items"), 0), "action"), "user.create");
        assert_null(strstr(a.body, password));
        answer_done(&a);
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/audit?after=zz", .token = w->admin)), 400, "page.cursor");
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/audit?limit=0", .token = w->admin)), 400, "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/audit?limit=501", .token = w->admin)), 400,
                "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/audit?limit=-1", .token = w->admin)), 400,
                "query.malformed");
        o = world_get(w, 200, ASK("GET", "/api/v1/audit", .token = w->stranger));
        json_t *item;
        size_t i;
        json_array_foreach(json_object_get(o, "items"), i, item)
                assert_string_not_equal(text_of(item, "action"), "node.create");
        json_decref(o);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_session),
                TEST(test_csrf),
                TEST(test_wrong_passwords),
                TEST(test_sign_in_elsewhere),
                TEST(test_users),
                TEST(test_tokens),
                TEST(test_organisations),
                TEST(test_audit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
