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
#include <stdlib.h>
#include <string.h>

#define DAY INT64_C(86400000)

static const char key_a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
static const char key_b[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

static void create(struct world *w, const char *name, char ret_id[65], char ret_token[64])
{
        struct error e = {0};
        int64_t expires;

        must(plane_node_create(
                     w->store, &w->us, w->ours, name, "north", NOW, ret_id, ret_token, &expires, &e),
                &e);
        assert_int_equal(expires, NOW + DAY);
        assert_true(wire_id_is_valid(ret_id));
        assert_true(str_starts_with(ret_token, "gnt_"));
}

/* ---- making, finding ---- */

static void test_create(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct plane_node n;
        char id[65], token[64], long_name[70];
        int64_t expires;

        create(w, "branch-2.example", id, token);
        must(plane_node_find(w->store, w->ours, "branch-2.example", &n, &e), &e);
        assert_string_equal(n.id, id);
        assert_string_equal(n.state, "new");
        assert_string_equal(n.site, "north");
        assert_string_equal(n.organisation, w->ours);
        assert_false(n.connected);
        must(plane_node_find(w->store, w->ours, id, &n, &e), &e);
        must(plane_node_find(w->store, NULL, id, &n, &e), &e);
        /* By any organisation: by id only. */
        assert_int_equal(plane_node_find(w->store, NULL, "branch-2.example", &n, &e), -ENOENT);
        /* A name is the organisation's own: theirs has a branch-1, too. */
        assert_int_equal(
                plane_node_create(w->store, &w->us, w->ours, "branch-1", "x", NOW, id, token, &expires, &e),
                -EEXIST);
        assert_string_equal(e.code, "node.exists");
        memset(long_name, 'x', 64);
        long_name[64] = 0;
        static const char *const bad[] = {"", "-a", "a-", ".", "A", "a b", "a/b", "a_b", "\xc3\xa9"};
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(plane_node_create(w->store, &w->us, w->ours, bad[i], "x", NOW, id, token,
                                         &expires, &e),
                        -EINVAL);
        assert_int_equal(
                plane_node_create(w->store, &w->us, w->ours, long_name, "x", NOW, id, token, &expires, &e),
                -EINVAL);
        assert_int_equal(
                plane_node_create(w->store, &w->us, w->ours, "b", "a\nb", NOW, id, token, &expires, &e),
                -EINVAL);
        assert_int_equal(
                plane_node_create(w->store, &w->us, w->ours, "b", "\xff", NOW, id, token, &expires, &e),
                -EINVAL);
        must(plane_node_create(w->store, &w->us, w->ours, "b", NULL, NOW, id, token, &expires, &e), &e);
}

/* A node that is named as another's id does not stand for it. */
static void test_named_as_an_id(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct plane_node n;
        char id[65], token[64];

        create(w, w->node, id, token);
        must(plane_node_find(w->store, w->ours, w->node, &n, &e), &e);
        assert_string_equal(n.id, w->node);
}

static void test_nothing_crosses(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct plane_node n = {.id = "untouched"};
        struct node_filter f = {.connected = -1};
        json_t *value = NULL;
        char id[65] = "", token[64] = "";
        int64_t expires;

        assert_int_equal(plane_node_find(w->store, w->theirs, w->node, &n, &e), -ENOENT);
        assert_string_equal(n.id, "untouched");
        must(plane_node_find(w->store, w->theirs, "branch-1", &n, &e), &e);
        assert_string_equal(n.id, w->other);
        assert_int_equal(plane_node_show(w->store, w->theirs, w->node, &value, &e), -ENOENT);
        /* Neither as somebody of the other organisation, nor by an organisation that is not the node's. */
        assert_int_equal(plane_node_remove(w->store, &w->them, w->theirs, w->node, NOW, &e), -ENOENT);
        assert_int_equal(plane_node_remove(w->store, &w->them, w->ours, w->node, NOW, &e), -ENOENT);
        assert_int_equal(plane_node_remove(w->store, &w->root, w->theirs, w->node, NOW, &e), -ENOENT);
        assert_int_equal(
                plane_node_new_token(w->store, &w->them, w->theirs, w->node, NOW, token, &expires, &e),
                -ENOENT);
        assert_int_equal(plane_node_new_token(w->store, &w->them, w->ours, w->node, NOW, token, &expires, &e),
                -ENOENT);
        assert_int_equal(
                plane_node_create(w->store, &w->them, w->ours, "spy", "x", NOW, id, token, &expires, &e),
                -ENOENT);
        assert_int_equal(
                plane_node_create(w->store, &w->root, "o-none", "spy", "x", NOW, id, token, &expires, &e),
                -ENOENT);
        assert_string_equal(token, "");
        must(plane_node_list(w->store, w->theirs, &f, NULL, &value, &e), &e);
        assert_int_equal(json_array_size(items_of(value)), 1);
        assert_string_equal(text_of(json_array_get(items_of(value), 0), "id"), w->other);
        json_decref(value);
        /* The machine's own administrator may, where the node is. */
        must(plane_node_remove(w->store, &w->root, w->ours, w->node, NOW, &e), &e);
}

/* ---- registering ---- */

static void test_redeem(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct plane_node n;
        char id[65], token[64];

        create(w, "branch-2", id, token);
        assert_int_equal(plane_node_redeem(w->store, "gnt_wrong", key_a, NOW, &n, &e), -ENOENT);
        assert_string_equal(e.code, "token.unknown");
        assert_int_equal(plane_node_redeem(w->store, "", key_a, NOW, &n, &e), -ENOENT);
        assert_int_equal(plane_node_redeem(w->store, token, "", NOW, &n, &e), -EINVAL);
        assert_int_equal(plane_node_redeem(w->store, token, key_a, NOW + DAY, &n, &e), -ESTALE);
        assert_string_equal(e.code, "token.expired");
        must(plane_node_redeem(w->store, token, key_a, NOW + DAY - 1, &n, &e), &e);
        assert_string_equal(n.id, id);
        assert_string_equal(n.organisation, w->ours);
        assert_string_equal(n.state, "registered");
        /* The same again: the answer was lost. Another machine: no. */
        must(plane_node_redeem(w->store, token, key_a, NOW + DAY + 5, &n, &e), &e);
        assert_string_equal(n.id, id);
        assert_string_equal(n.state, "registered");
        assert_int_equal(plane_node_redeem(w->store, token, key_b, NOW + 1, &n, &e), -EEXIST);
        assert_string_equal(e.code, "token.used");
}

/* Only a hash is kept of the token. */
static void test_token_is_not_kept(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65], token[64], hash[STORE_HASH_TEXT];
        int64_t found;

        store_hash("abc", hash);
        assert_string_equal(hash, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        create(w, "branch-2", id, token);
        store_hash(token, hash);
        must(db_query_integer(plane_store_db(w->store), &e, 0, &found,
                     "SELECT count(*) FROM enrolments WHERE hash = ? AND node = ?", "ss", hash, id),
                &e);
        assert_int_equal(found, 1);
        must(db_query_integer(plane_store_db(w->store), &e, 0, &found,
                     "SELECT count(*) FROM audit WHERE instr(detail, ?)", "s", token),
                &e);
        assert_int_equal(found, 0);
}

static void test_new_token(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct plane_node n;
        struct strv revoked = {0};
        char id[65], old[64], token[64];
        int64_t expires;

        create(w, "branch-2", id, old);
        must(plane_node_new_token(w->store, &w->us, w->ours, id, NOW + 5, token, &expires, &e), &e);
        assert_int_equal(expires, NOW + 5 + DAY);
        assert_int_equal(plane_node_redeem(w->store, old, key_a, NOW, &n, &e), -ENOENT);
        must(plane_node_redeem(w->store, token, key_a, NOW, &n, &e), &e);
        must(plane_certificate_add(w->store, id, "01", key_a, NOW + 90 * DAY, "PEM", NOW, &e), &e);
        /* The machine is replaced: when the new one has registered, the old one is out. */
        must(plane_node_new_token(w->store, &w->us, w->ours, id, NOW, token, &expires, &e), &e);
        must(plane_certificate_check(w->store, id, "01", &e), &e);
        must(plane_node_redeem(w->store, token, key_b, NOW, &n, &e), &e);
        must(plane_certificate_add(w->store, id, "02", key_b, NOW + 90 * DAY, "PEM", NOW, &e), &e);
        assert_int_equal(plane_certificate_check(w->store, id, "01", &e), -EACCES);
        assert_string_equal(e.code, "certificate.revoked");
        must(plane_certificate_check(w->store, id, "02", &e), &e);
        must(plane_certificates_revoked(w->store, NOW, &revoked, &e), &e);
        assert_int_equal(revoked.count, 1);
        assert_string_equal(revoked.items[0], "01");
        strv_done(&revoked);
}

/* ---- certificates ---- */

static void test_certificates(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char *pem = NULL;

        assert_int_equal(plane_certificate_find(w->store, w->node, key_a, &pem, &e), -ENOENT);
        must(plane_certificate_add(w->store, w->node, "0a", key_a, NOW + 90 * DAY, "PEM-1", NOW, &e), &e);
        must(plane_certificate_add(w->store, w->node, "0b", key_a, NOW + 95 * DAY, "PEM-2", NOW + DAY, &e),
                &e);
        must(plane_certificate_find(w->store, w->node, key_a, &pem, &e), &e);
        assert_string_equal(pem, "PEM-2");
        free(pem);
        pem = NULL;
        assert_int_equal(plane_certificate_find(w->store, w->node, key_b, &pem, &e), -ENOENT);
        assert_int_equal(plane_certificate_find(w->store, w->other, key_a, &pem, &e), -ENOENT);
        assert_null(pem);
        /* A serial number speaks for its own node. */
        must(plane_certificate_check(w->store, w->node, "0a", &e), &e);
        assert_int_equal(plane_certificate_check(w->store, w->other, "0a", &e), -EACCES);
        assert_string_equal(e.code, "certificate.unknown");
        assert_int_equal(plane_certificate_check(w->store, "n-none", "0a", &e), -EACCES);
        assert_string_equal(e.code, "node.unknown");
        assert_int_equal(
                plane_certificate_add(w->store, w->other, "0a", key_b, NOW + DAY, "PEM", NOW, &e), -EEXIST);
        assert_int_equal(
                plane_certificate_add(w->store, "n-none", "0c", key_b, NOW, "PEM", NOW, &e), -ENOENT);
}

/* ---- removing ---- */

static void test_remove(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct plane_node n;
        struct strv revoked = {0};
        char id[65], token[64], *pem = NULL;
        json_t *value = NULL;
        int64_t expires;

        must(plane_certificate_add(w->store, w->node, "0a", key_a, NOW + DAY, "PEM", NOW, &e), &e);
        must(plane_certificate_add(w->store, w->other, "0b", key_a, NOW + DAY, "PEM", NOW, &e), &e);
        must(plane_node_new_token(w->store, &w->us, w->ours, w->node, NOW, token, &expires, &e), &e);
        json_decref(world_event(w, w->node, 1, NOW, "Repo Connectivity", NULL));
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        must(plane_certificates_revoked(w->store, NOW, &revoked, &e), &e);
        assert_int_equal(revoked.count, 1);
        assert_string_equal(revoked.items[0], "0a");
        strv_done(&revoked);
        /* What has ended by itself needs no list. */
        must(plane_certificates_revoked(w->store, NOW + DAY, &revoked, &e), &e);
        assert_int_equal(revoked.count, 0);
        assert_int_equal(plane_certificate_check(w->store, w->node, "0a", &e), -EACCES);
        assert_int_equal(plane_certificate_find(w->store, w->node, key_a, &pem, &e), -ENOENT);
        assert_int_equal(plane_node_redeem(w->store, token, key_a, NOW, &n, &e), -ENOENT);
        assert_int_equal(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), -ENOENT);
        assert_int_equal(
                plane_node_new_token(w->store, &w->us, w->ours, w->node, NOW, token, &expires, &e), -ENOENT);
        /* Its name is free, its id is not; what it was stays to be seen. */
        assert_int_equal(plane_node_find(w->store, w->ours, "branch-1", &n, &e), -ENOENT);
        create(w, "branch-1", id, token);
        assert_string_not_equal(id, w->node);
        must(plane_node_show(w->store, w->ours, w->node, &value, &e), &e);
        assert_string_equal(text_of(value, "state"), "removed");
        assert_int_equal(json_array_size(json_object_get(value, "last_events")), 1);
        json_decref(value);
}

/* ---- status ---- */

static struct wire_status online(json_t *services)
{
        return (struct wire_status){.online = true,
                .since_unix_ms = NOW,
                .version = "0.1.0",
                .epoch = "e-1",
                .address = "192.0.2.10",
                .services = services};
}

static void test_status(void **state)
{
        struct world *w = *state;
        struct wire_status on = online(json_pack("{s:{s:s, s:s}, s:{s:s}}", "repo", "state", "blocked",
                                   "cause", "tcp.dropped", "control", "state", "ok")),
                           off = {.reason = "the machine goes down"};
        struct strv nodes = {0};
        struct error e = {0};
        struct plane_node n;
        json_t *value = NULL;
        bool changed = false;

        must(plane_node_status(w->store, w->node, &on, NOW, &changed, &e), &e);
        assert_true(changed);
        must(plane_node_status(w->store, w->node, &on, NOW + 1000, &changed, &e), &e);
        assert_false(changed);
        must(plane_node_find(w->store, w->ours, w->node, &n, &e), &e);
        assert_true(n.connected);
        must(plane_node_show(w->store, w->ours, w->node, &value, &e), &e);
        assert_string_equal(text_of(value, "connected_since"), "2026-11-21T03:02:00.000Z");
        assert_string_equal(text_of(value, "last_seen"), "2026-11-21T03:02:01.000Z");
        json_decref(value);
        value = NULL;
        must(plane_nodes_unheard(w->store, NOW + 1000, &nodes, &e), &e);
        assert_int_equal(nodes.count, 0);
        must(plane_nodes_unheard(w->store, NOW + 1001, &nodes, &e), &e);
        assert_int_equal(nodes.count, 1);
        assert_string_equal(nodes.items[0], w->node);
        strv_done(&nodes);

        must(plane_node_status(w->store, w->node, &off, NOW + 5000, &changed, &e), &e);
        assert_true(changed);
        off.reason[0] = 0; /* the will that comes besides does not know why */
        must(plane_node_status(w->store, w->node, &off, NOW + 9000, &changed, &e), &e);
        assert_false(changed);
        str_copy(off.reason, sizeof off.reason, "the connection was lost");
        must(plane_node_status(w->store, w->node, &off, NOW + 9000, &changed, &e), &e);
        assert_false(changed);
        must(plane_node_show(w->store, w->ours, w->node, &value, &e), &e);
        assert_true(json_is_false(json_object_get(value, "connected")));
        assert_true(json_is_null(json_object_get(value, "connected_since")));
        assert_string_equal(text_of(value, "last_seen"), "2026-11-21T03:02:05.000Z");
        assert_string_equal(text_of(value, "reason"), "the machine goes down");
        assert_string_equal(text_of(value, "version"), "0.1.0"); /* as it was last */
        assert_string_equal(text_of(value, "address"), "192.0.2.10");
        assert_true(json_equal(json_object_get(value, "services"), on.services));
        json_decref(value);
        value = NULL;
        must(plane_node_status(w->store, w->node, &on, NOW + 10000, &changed, &e), &e);
        must(plane_node_status(w->store, w->node, &off, NOW + 11000, &changed, &e), &e);
        must(plane_node_show(w->store, w->ours, w->node, &value, &e), &e);
        assert_string_equal(
                text_of(value, "reason"), "the connection was lost"); /* another time, another reason */
        json_decref(value);

        assert_int_equal(plane_node_status(w->store, "n-none", &on, NOW, &changed, &e), -ENOENT);
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        assert_int_equal(plane_node_status(w->store, w->node, &on, NOW, &changed, &e), -ENOENT);
        json_decref(on.services);
}

/* ---- views ---- */

static void test_show(void **state)
{
        struct world *w = *state;
        struct wire_applied applied = {.version = 1,
                .state = "failed",
                .at_unix_ms = NOW,
                .error = (char *)"eth1 is not there",
                .warnings = {.items = (char *[]){(char *)"w1", (char *)"w2"}, .count = 2}};
        struct wire_config config = {.guard = true};
        struct error e = {0};
        json_t *value = NULL, *part;
        int64_t version;

        for (int i = 1; i <= 12; i++)
                json_decref(world_event(w, w->node, i, NOW + i, "Repo Connectivity", NULL));
        must(plane_certificate_add(w->store, w->node, "0a", key_a, NOW + DAY, "PEM", NOW, &e), &e);
        must(plane_config_put(w->store, &w->us, w->ours, w->node, &config, 0, NOW, &version, &e), &e);
        must(plane_config_put(w->store, &w->us, w->ours, w->node, &config, 1, NOW, &version, &e), &e);
        must(plane_config_applied(w->store, w->node, &applied, NOW, &e), &e);
        must(plane_node_show(w->store, w->ours, w->node, &value, &e), &e);
        assert_string_equal(text_of(value, "id"), w->node);
        assert_string_equal(text_of(value, "organisation"), w->ours);
        assert_string_equal(text_of(value, "name"), "branch-1");
        assert_string_equal(text_of(value, "site"), "north");
        assert_string_equal(text_of(value, "state"), "registered");
        assert_int_equal(json_integer_value(json_object_get(value, "event_count")), 12);
        assert_int_equal(json_array_size(json_object_get(value, "last_events")), 10);
        part = json_object_get(value, "certificate");
        assert_string_equal(text_of(part, "serial"), "0a");
        assert_string_equal(text_of(part, "not_after"), "2026-11-22T03:02:00.000Z");
        assert_true(json_is_false(json_object_get(part, "revoked")));
        part = json_object_get(value, "configuration");
        assert_int_equal(json_integer_value(json_object_get(part, "wanted")), 2);
        assert_int_equal(json_integer_value(json_object_get(part, "applied")), 1);
        assert_string_equal(text_of(part, "state"), "failed");
        assert_string_equal(text_of(part, "error"), "eth1 is not there");
        assert_int_equal(json_array_size(json_object_get(part, "warnings")), 2);
        assert_true(json_is_null(json_object_get(value, "token_expires")));
        json_decref(value);
        /* A node that nobody has heard of yet. */
        char id[65], token[64];
        create(w, "branch-2", id, token);
        must(plane_node_show(w->store, w->ours, id, &value, &e), &e);
        assert_true(json_is_null(json_object_get(value, "certificate")));
        assert_true(json_is_null(json_object_get(value, "services")));
        assert_string_equal(text_of(value, "token_expires"), "2026-11-22T03:02:00.000Z");
        assert_true(json_is_null(json_object_get(json_object_get(value, "configuration"), "applied")));
        json_decref(value);
}

static void assert_names(struct world *w, const struct node_filter *f, const char *wanted)
{
        struct text names = {0};
        struct error e = {0};
        json_t *list = NULL, *row;
        size_t i;

        must(plane_node_list(w->store, w->ours, f, NULL, &list, &e), &e);
        json_array_foreach(items_of(list), i, row)
        {
                text_addf(&names, "%s%s", i ? " " : "", text_of(row, "name"));
        }
        assert_string_equal(text_string(&names), wanted);
        text_done(&names);
        json_decref(list);
}

static void test_filters(void **state)
{
        struct world *w = *state;
        json_t *blocked = json_pack("{s:{s:s, s:s}}", "repo", "state", "blocked", "cause", "tcp.dropped"),
               *well = json_pack("{s:{s:s}}", "repo", "state", "ok");
        struct wire_status status = online(blocked);
        struct error e = {0};
        char id[65], token[64];
        bool changed;

        must(plane_node_status(w->store, w->node, &status, NOW, &changed, &e), &e);
        must(plane_node_status(w->store, w->other, &status, NOW, &changed, &e), &e);
        world_node(w, &w->us, "branch-3", "south", id);
        create(w, "branch-2", id, token);
        create(w, "depot", id, token);
        must(plane_node_remove(w->store, &w->us, w->ours, id, NOW, &e), &e);

#define F(...)             C(-1, __VA_ARGS__)
#define C(connection, ...) (&(const struct node_filter){.connected = (connection), __VA_ARGS__})
        assert_names(w, NULL, "branch-1 branch-2 branch-3");
        assert_names(w, F(.name = "ch-2"), "branch-2");
        assert_names(w, F(.name = "%"), "");
        assert_names(w, F(.site = "north"), "branch-1 branch-2");
        assert_names(w, F(.state = "new"), "branch-2");
        assert_names(w, F(.state = "removed"), "depot");
        assert_names(w, F(.state = "registered"), "branch-1 branch-3");
        assert_names(w, C(1, .site = NULL), "branch-1");
        assert_names(w, C(0, .site = NULL), "branch-2 branch-3");
        assert_names(w, F(.cause = "tcp.dropped"), "branch-1");
        assert_names(w, F(.cause = "tcp.dropped", .site = "south"), "");
        status.services = well;
        must(plane_node_status(w->store, w->node, &status, NOW, &changed, &e), &e);
        assert_names(w, F(.cause = "tcp.dropped"), "");
        json_decref(blocked);
        json_decref(well);
}

static void test_pages(void **state)
{
        struct world *w = *state;
        struct page p = {.limit = 2};
        struct text names = {0};
        struct error e = {0};
        char cursor[400], name[32], id[65], token[64];
        json_t *list = NULL, *row;
        size_t i;

        for (int k = 2; k <= 5; k++) {
                snprintf(name, sizeof name, "branch-%d", k);
                create(w, name, id, token);
        }
        do {
                must(plane_node_list(w->store, w->ours, NULL, &p, &list, &e), &e);
                json_array_foreach(items_of(list), i, row)
                {
                        text_addf(&names, "%s ", text_of(row, "name") + strlen("branch-"));
                }
                str_copy(cursor, sizeof cursor, text_of(list, "next"));
                json_decref(list);
                if (!p.after)
                        create(w, "branch-0", id, token); /* before the page: the next goes on all the same */
                p.after = cursor;
        } while (cursor[0]);
        assert_string_equal(text_string(&names), "1 2 3 4 5 ");
        text_done(&names);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
                T(test_create),
                T(test_named_as_an_id),
                T(test_nothing_crosses),
                T(test_redeem),
                T(test_token_is_not_kept),
                T(test_new_token),
                T(test_certificates),
                T(test_remove),
                T(test_status),
                T(test_show),
                T(test_filters),
                T(test_pages),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
