#include "store_world.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "plane/store_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MINUTE INT64_C(60000)
#define HOUR   (60 * MINUTE)

static const char hash[] = "$argon2id$v=19$m=65536,t=2,p=1$c2FsdA$aGFzaA";

static void add(struct world *w, const char *name, enum role role, char ret_id[65])
{
        struct error e = {0};

        must(plane_user_add(w->store, &w->us, w->ours, name, role, hash, NOW, ret_id, &e), &e);
}

/* ---- users ---- */

static void test_users(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct plane_user u;
        json_t *list = NULL;
        char id[65], other[65], text[200];

        add(w, "carol@example.net", ROLE_OPERATOR, id);
        must(plane_user_find(w->store, w->ours, "carol@example.net", &u, &e), &e);
        assert_string_equal(u.id, id);
        assert_string_equal(u.organisation, w->ours);
        assert_int_equal(u.role, ROLE_OPERATOR);
        assert_string_equal(u.password_hash, hash);
        assert_int_equal(u.failures, 0);
        assert_int_equal(plane_user_add(w->store, &w->us, w->ours, "carol@example.net", ROLE_ADMIN, hash, NOW,
                                 other, &e),
                -EEXIST);
        assert_string_equal(e.code, "user.exists");
        /* Nobody can be named as a token or as the machine's own administrator. */
        static const char *const bad[] = {"", "token:ci", "local:root", "a b", "a\n", "\xc3\xa9", "a/b"};
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(
                        plane_user_add(w->store, &w->us, w->ours, bad[i], ROLE_ADMIN, hash, NOW, other, &e),
                        -EINVAL);
        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = 0;
        assert_int_equal(
                plane_user_add(w->store, &w->us, w->ours, text, ROLE_ADMIN, hash, NOW, other, &e), -EINVAL);
        assert_int_equal(
                plane_user_add(w->store, &w->us, w->ours, "d", ROLE_ADMIN, text, NOW, other, &e), -EINVAL);
        assert_int_equal(
                plane_user_add(w->store, &w->us, w->ours, "d", ROLE_ADMIN, "", NOW, other, &e), -EINVAL);
        must(plane_user_list(w->store, w->ours, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 1);
        assert_string_equal(text_of(json_array_get(items_of(list), 0), "role"), "operator");
        assert_null(json_object_get(json_array_get(items_of(list), 0), "password_hash"));
        json_decref(list);
        must(plane_user_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);
        assert_int_equal(plane_user_find(w->store, w->ours, "carol@example.net", &u, &e), -ENOENT);
        assert_int_equal(plane_user_remove(w->store, &w->us, w->ours, id, NOW, &e), -ENOENT);
}

static void test_nothing_crosses(void **state)
{
        struct world *w = *state;
        const enum role admin = ROLE_ADMIN;
        struct error e = {0};
        struct plane_user u;
        json_t *list = NULL;
        char id[65], other[65], secret[64];

        add(w, "carol", ROLE_VIEWER, id);
        assert_int_equal(plane_user_find(w->store, w->theirs, "carol", &u, &e), -ENOENT);
        assert_int_equal(plane_user_add(w->store, &w->them, w->ours, "spy", ROLE_ADMIN, hash, NOW, other, &e),
                -ENOENT);
        assert_int_equal(
                plane_user_update(w->store, &w->them, w->theirs, id, &admin, hash, NOW, &e), -ENOENT);
        assert_int_equal(plane_user_update(w->store, &w->them, w->ours, id, &admin, hash, NOW, &e), -ENOENT);
        assert_int_equal(plane_user_remove(w->store, &w->them, w->theirs, id, NOW, &e), -ENOENT);
        assert_int_equal(plane_user_remove(w->store, &w->them, w->ours, id, NOW, &e), -ENOENT);
        must(plane_user_find(w->store, w->ours, "carol", &u, &e), &e);
        assert_int_equal(u.role, ROLE_VIEWER);
        must(plane_user_list(w->store, w->theirs, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 0);
        json_decref(list);
        /* One name in two organisations is two people. */
        must(plane_user_add(w->store, &w->them, w->theirs, "carol", ROLE_ADMIN, hash, NOW, other, &e), &e);
        assert_string_not_equal(id, other);

        must(plane_token_add(w->store, &w->us, w->ours, "ci", ROLE_VIEWER, 0, NOW, id, secret, &e), &e);
        assert_int_equal(
                plane_token_add(w->store, &w->them, w->ours, "spy", ROLE_ADMIN, 0, NOW, other, secret, &e),
                -ENOENT);
        assert_int_equal(plane_token_remove(w->store, &w->them, w->theirs, id, NOW, &e), -ENOENT);
        assert_int_equal(plane_token_remove(w->store, &w->them, w->ours, id, NOW, &e), -ENOENT);
        must(plane_token_list(w->store, w->theirs, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 0);
        json_decref(list);
}

/* The newest line of the audit log. */
static void assert_audit(struct world *w, const char *action, const char *object, const char *name)
{
        const struct page p = {.limit = 1};
        json_t *list = NULL, *newest;
        struct error e = {0};

        must(plane_audit_list(w->store, w->ours, &p, &list, &e), &e);
        newest = json_array_get(items_of(list), 0);
        assert_string_equal(text_of(newest, "action"), action);
        assert_string_equal(text_of(newest, "object"), object);
        assert_string_equal(text_of(json_object_get(newest, "detail"), "name"), name);
        json_decref(list);
}

/* Once somebody is removed, only the log can tell whose id it was. */
static void test_the_audit_log_names_who_is_removed(void **state)
{
        const enum role admin = ROLE_ADMIN;
        struct world *w = *state;
        struct error e = {0};
        char id[65], secret[64];
        int64_t expires;

        add(w, "carol", ROLE_VIEWER, id);
        must(plane_user_update(w->store, &w->us, w->ours, id, &admin, NULL, NOW, &e), &e);
        assert_audit(w, "user.update", id, "carol");
        must(plane_user_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);
        assert_audit(w, "user.remove", id, "carol");
        must(plane_token_add(w->store, &w->us, w->ours, "ci", ROLE_VIEWER, 0, NOW, id, secret, &e), &e);
        must(plane_token_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);
        assert_audit(w, "token.remove", id, "ci");
        must(plane_node_new_token(w->store, &w->us, w->ours, w->node, NOW, secret, &expires, &e), &e);
        assert_audit(w, "node.token", w->node, "branch-1");
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        assert_audit(w, "node.remove", w->node, "branch-1");
}

/* ---- wrong passwords ---- */

static void test_five_wrong_passwords_slow_the_sixth(void **state)
{
        static const int64_t delays[] = {0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900};
        struct world *w = *state;
        struct error e = {0};
        struct plane_user u;
        char id[65];
        int64_t until;

        add(w, "carol", ROLE_VIEWER, id);
        for (size_t i = 0; i < ELEMENTS(delays); i++) {
                must(plane_user_failed(w->store, id, NOW, &until, &e), &e);
                assert_int_equal(until, delays[i] ? NOW + delays[i] * 1000 : 0);
                must(plane_user_find(w->store, w->ours, "carol", &u, &e), &e);
                assert_int_equal(u.failures, i + 1);
                assert_int_equal(u.blocked_until, until);
        }
        must(plane_user_succeeded(w->store, id, &e), &e);
        must(plane_user_find(w->store, w->ours, "carol", &u, &e), &e);
        assert_int_equal(u.failures, 0);
        assert_int_equal(u.blocked_until, 0);
        must(plane_user_failed(w->store, id, NOW, &until, &e), &e);
        assert_int_equal(until, 0);
        assert_int_equal(plane_user_failed(w->store, "u-none", NOW, &until, &e), -ENOENT);
}

/* ---- sessions ---- */

static void test_session(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct actor a;
        char id[65], secret[64], csrf[64], again[64];
        int64_t at;

        add(w, "carol", ROLE_OPERATOR, id);
        must(plane_session_add(w->store, id, NOW, secret, csrf, &e), &e);
        assert_true(str_starts_with(secret, "gps_"));
        assert_int_equal(strlen(csrf), 43);
        assert_null(strstr(secret, csrf));
        must(plane_session_find(w->store, secret, NOW, &a, again, &e), &e);
        assert_string_equal(again, csrf);
        assert_string_equal(a.name, "carol");
        assert_string_equal(a.organisation, w->ours);
        assert_int_equal(a.role, ROLE_OPERATOR);
        /* An hour without use ends it, and use keeps it, up to 12 hours. */
        assert_int_equal(plane_session_find(w->store, secret, NOW + HOUR, &a, again, &e), -ESTALE);
        assert_string_equal(e.code, "session.expired");
        for (at = NOW; at < NOW + 12 * HOUR; at += 50 * MINUTE)
                must(plane_session_find(w->store, secret, at, &a, again, &e), &e);
        assert_int_equal(plane_session_find(w->store, secret, NOW + 12 * HOUR, &a, again, &e), -ESTALE);
        must(plane_session_find(w->store, secret, NOW + 12 * HOUR - 1, &a, again, &e), &e);
        must(plane_session_remove(w->store, secret, &e), &e);
        assert_int_equal(plane_session_find(w->store, secret, NOW, &a, again, &e), -ENOENT);
        must(plane_session_remove(w->store, secret, &e), &e);
}

static void test_bad_secrets(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct actor a;
        char id[65], secret[64], csrf[64], text[4000];

        memset(text, 'x', sizeof text - 1);
        text[sizeof text - 1] = 0;
        memcpy(text, "gps_", 4);
        assert_int_equal(plane_session_find(w->store, text, NOW, &a, csrf, &e), -ENOENT);
        assert_int_equal(plane_session_find(w->store, "", NOW, &a, csrf, &e), -ENOENT);
        memcpy(text, "gpt_", 4);
        assert_int_equal(plane_token_find(w->store, text, NOW, &a, &e), -ENOENT);
        assert_int_equal(plane_token_find(w->store, "", NOW, &a, &e), -ENOENT);
        assert_int_equal(plane_session_add(w->store, "u-none", NOW, secret, csrf, &e), -ENOENT);
        /* One is not the other. */
        add(w, "carol", ROLE_VIEWER, id);
        must(plane_session_add(w->store, id, NOW, secret, csrf, &e), &e);
        assert_int_equal(plane_token_find(w->store, secret, NOW, &a, &e), -ENOENT);
}

static bool works(struct world *w, const char *secret)
{
        struct error e = {0};
        struct actor a;
        char csrf[64];

        return plane_session_find(w->store, secret, NOW, &a, csrf, &e) == 0;
}

static void test_what_ends_sessions(void **state)
{
        struct world *w = *state;
        const enum role admin = ROLE_ADMIN;
        struct error e = {0};
        struct plane_user u;
        char id[65], other[65], secret[64], others[64], csrf[64];

        add(w, "carol", ROLE_VIEWER, id);
        add(w, "dave", ROLE_VIEWER, other);
        must(plane_session_add(w->store, other, NOW, others, csrf, &e), &e);
        must(plane_session_add(w->store, id, NOW, secret, csrf, &e), &e);
        assert_true(works(w, secret));
        must(plane_user_update(w->store, &w->us, w->ours, id, &admin, NULL, NOW, &e), &e);
        assert_false(works(w, secret));
        must(plane_user_find(w->store, w->ours, "carol", &u, &e), &e);
        assert_int_equal(u.role, ROLE_ADMIN);
        assert_string_equal(u.password_hash, hash);
        must(plane_session_add(w->store, id, NOW, secret, csrf, &e), &e);
        must(plane_user_update(w->store, &w->us, w->ours, id, NULL, "$other", NOW, &e), &e);
        assert_false(works(w, secret));
        must(plane_user_find(w->store, w->ours, "carol", &u, &e), &e);
        assert_int_equal(u.role, ROLE_ADMIN);
        assert_string_equal(u.password_hash, "$other");
        must(plane_session_add(w->store, id, NOW, secret, csrf, &e), &e);
        must(plane_user_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);
        assert_false(works(w, secret));
        assert_true(works(w, others));
}

/* A user has 32 at most: the oldest goes. */
static void test_many_sessions(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65], other[65], others[64], csrf[64], secrets[34][64];

        add(w, "carol", ROLE_VIEWER, id);
        add(w, "dave", ROLE_VIEWER, other);
        must(plane_session_add(w->store, other, NOW, others, csrf, &e), &e);
        for (int i = 0; i < 34; i++)
                must(plane_session_add(w->store, id, NOW, secrets[i], csrf, &e), &e);
        assert_false(works(w, secrets[0]));
        assert_false(works(w, secrets[1]));
        assert_true(works(w, secrets[2]));
        assert_true(works(w, secrets[33]));
        assert_true(works(w, others));
}

/* ---- tokens ---- */

static void test_tokens(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct actor a;
        json_t *list = NULL;
        char id[65], secret[64], other[64];

        must(plane_token_add(w->store, &w->us, w->ours, "ci", ROLE_OPERATOR, NOW + HOUR, NOW, id, secret, &e),
                &e);
        assert_true(str_starts_with(secret, "gpt_"));
        assert_int_equal(plane_token_add(w->store, &w->us, w->ours, "ci", ROLE_VIEWER, 0, NOW, id, other, &e),
                -EEXIST);
        assert_int_equal(
                plane_token_add(w->store, &w->us, w->ours, "late", ROLE_VIEWER, NOW, NOW, id, other, &e),
                -EINVAL);
        must(plane_token_find(w->store, secret, NOW + HOUR - 1, &a, &e), &e);
        assert_string_equal(a.name, "token:ci");
        assert_string_equal(a.organisation, w->ours);
        assert_int_equal(a.role, ROLE_OPERATOR);
        assert_int_equal(plane_token_find(w->store, secret, NOW + HOUR, &a, &e), -ESTALE);
        must(plane_token_list(w->store, w->ours, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 1);
        assert_string_equal(
                text_of(json_array_get(items_of(list), 0), "expires"), "2026-11-21T04:02:00.000Z");
        assert_string_equal(
                text_of(json_array_get(items_of(list), 0), "last_used"), "2026-11-21T04:01:59.999Z");
        json_decref(list);
        must(plane_token_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);
        assert_int_equal(plane_token_find(w->store, secret, NOW, &a, &e), -ENOENT);
        assert_int_equal(plane_token_remove(w->store, &w->us, w->ours, id, NOW, &e), -ENOENT);
        must(plane_token_add(w->store, &w->us, w->ours, "ever", ROLE_VIEWER, 0, NOW, id, secret, &e), &e);
        must(plane_token_find(w->store, secret, NOW + 10000 * HOUR, &a, &e), &e);
}

/* No secret is in the database's files. */
static void test_secrets_are_not_kept(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65], secret[64], csrf[64], token[64], path[128];
        static const char *const tails[] = {"", "-wal"};
        static char bytes[1 << 22];

        add(w, "carol", ROLE_VIEWER, id);
        must(plane_session_add(w->store, id, NOW, secret, csrf, &e), &e);
        must(plane_token_add(w->store, &w->us, w->ours, "ci", ROLE_VIEWER, 0, NOW, id, token, &e), &e);
        for (size_t i = 0; i < ELEMENTS(tails); i++) {
                FILE *f;
                size_t length;

                snprintf(path, sizeof path, "%s%s", w->path, tails[i]);
                f = fopen(path, "r");
                assert_non_null(f);
                length = fread(bytes, 1, sizeof bytes, f);
                fclose(f);
                assert_true(length > 0);
                assert_null(memmem(bytes, length, secret + 4, strlen(secret) - 4));
                assert_null(memmem(bytes, length, token + 4, strlen(token) - 4));
                assert_null(memmem(bytes, length, csrf, strlen(csrf)));
        }
}

static void test_tidy(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65], old[64], young[64], csrf[64];
        struct actor a;

        add(w, "carol", ROLE_VIEWER, id);
        must(plane_session_add(w->store, id, NOW, old, csrf, &e), &e);
        must(plane_session_add(w->store, id, NOW + 25 * HOUR, young, csrf, &e), &e);
        must(plane_store_tidy(w->store, NOW + 25 * HOUR, &e), &e);
        assert_int_equal(plane_session_find(w->store, old, NOW, &a, csrf, &e), -ENOENT);
        must(plane_session_find(w->store, young, NOW + 25 * HOUR, &a, csrf, &e), &e);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
                T(test_users),
                T(test_nothing_crosses),
                T(test_the_audit_log_names_who_is_removed),
                T(test_five_wrong_passwords_slow_the_sixth),
                T(test_session),
                T(test_bad_secrets),
                T(test_what_ends_sessions),
                T(test_many_sessions),
                T(test_tokens),
                T(test_secrets_are_not_kept),
                T(test_tidy),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
