#include "store_world.h"

#include "base/json.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct wire_config some(const char *server)
{
        struct wire_config c = {.version = 99, .dns_count = 1, .guard = false};

        assert_int_equal(inet_addr_parse(server, &c.dns[0]), 0);
        return c;
}

static int64_t wanted(struct world *w, const char *node)
{
        struct error e = {0};
        json_t *value = NULL;
        int64_t version;

        must(plane_node_show(w->store, w->ours, node, &value, &e), &e);
        version = json_integer_value(json_object_get(json_object_get(value, "configuration"), "wanted"));
        json_decref(value);
        return version;
}

static void test_versions(void **state)
{
        struct world *w = *state;
        struct wire_config first = some("198.51.100.53"), second = some("203.0.113.53"), back = {0};
        struct error e = {0};
        json_t *value = NULL;
        int64_t version = -1;
        char *text;

        /* When none was ever put: version 0, as in the site file. */
        must(plane_config_get(w->store, w->ours, w->node, 0, &value, &e), &e);
        assert_int_equal(json_integer_value(json_object_get(value, "version")), 0);
        assert_true(json_is_true(json_object_get(value, "guard")));
        json_decref(value);
        must(plane_config_put(w->store, &w->us, w->ours, w->node, &first, 0, NOW, &version, &e), &e);
        assert_int_equal(version, 1);
        must(plane_config_put(w->store, &w->us, w->ours, w->node, &second, -1, NOW, &version, &e), &e);
        assert_int_equal(version, 2);
        assert_int_equal(wanted(w, w->node), 2);
        /* Who replaces what is not the newest is told, and nothing is changed. */
        assert_int_equal(
                plane_config_put(w->store, &w->us, w->ours, w->node, &first, 1, NOW, &version, &e), -ESTALE);
        assert_string_equal(e.code, "config.stale");
        assert_non_null(strstr(e.text, "version 1"));
        assert_int_equal(
                plane_config_put(w->store, &w->us, w->ours, w->node, &first, 3, NOW, &version, &e), -ESTALE);
        assert_int_equal(
                plane_config_put(w->store, &w->us, w->ours, w->node, &first, 0, NOW, &version, &e), -ESTALE);
        assert_int_equal(version, 2);
        assert_int_equal(wanted(w, w->node), 2);

        /* The newest, as a node would take it. */
        must(plane_config_get(w->store, w->ours, w->node, 0, &value, &e), &e);
        text = json_to_text(value);
        must(wire_config_parse(text, strlen(text), &back, &e), &e);
        assert_int_equal(back.version, 2);
        assert_true(inet_addr_equal(&back.dns[0], &second.dns[0]));
        assert_false(back.guard);
        wire_config_done(&back);
        free(text);
        json_decref(value);
        must(plane_config_get(w->store, w->ours, w->node, 1, &value, &e), &e);
        assert_int_equal(json_integer_value(json_object_get(value, "version")), 1);
        json_decref(value);
        value = NULL;
        assert_int_equal(plane_config_get(w->store, w->ours, w->node, 3, &value, &e), -ENOENT);
        assert_int_equal(plane_config_get(w->store, w->ours, "n-none", 0, &value, &e), -ENOENT);
        assert_int_equal(plane_config_get(w->store, w->ours, "branch-1", 0, &value, &e), -ENOENT);
        assert_null(value);
}

static void test_nothing_crosses(void **state)
{
        struct world *w = *state;
        struct wire_config c = some("198.51.100.53");
        struct error e = {0};
        json_t *value = NULL;
        int64_t version = -1;

        must(plane_config_put(w->store, &w->us, w->ours, w->node, &c, 0, NOW, &version, &e), &e);
        assert_int_equal(
                plane_config_put(w->store, &w->them, w->theirs, w->node, &c, -1, NOW, &version, &e), -ENOENT);
        assert_int_equal(
                plane_config_put(w->store, &w->them, w->ours, w->node, &c, -1, NOW, &version, &e), -ENOENT);
        assert_int_equal(
                plane_config_put(w->store, &w->root, w->theirs, w->node, &c, -1, NOW, &version, &e), -ENOENT);
        assert_int_equal(plane_config_get(w->store, w->theirs, w->node, 0, &value, &e), -ENOENT);
        assert_int_equal(plane_config_get(w->store, w->theirs, w->node, 1, &value, &e), -ENOENT);
        assert_null(value);
        assert_int_equal(version, 1);
        must(plane_config_put(w->store, &w->them, w->theirs, w->other, &c, 0, NOW, &version, &e), &e);
        assert_int_equal(version, 1);
}

static void test_removed_node(void **state)
{
        struct world *w = *state;
        struct wire_applied applied = {.version = 1, .state = "applied", .at_unix_ms = NOW};
        struct wire_config c = some("198.51.100.53");
        struct error e = {0};
        int64_t version = -1;

        must(plane_config_applied(w->store, w->node, &applied, NOW, &e), &e);
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        assert_int_equal(plane_config_applied(w->store, w->node, &applied, NOW, &e), -ENOENT);
        assert_int_equal(plane_config_applied(w->store, "n-none", &applied, NOW, &e), -ENOENT);
        assert_int_equal(
                plane_config_put(w->store, &w->us, w->ours, w->node, &c, -1, NOW, &version, &e), -ENOENT);
}

/* "applied" after "failed" leaves nothing of the error. */
static void test_applied(void **state)
{
        struct world *w = *state;
        struct wire_applied failed = {.version = 1,
                                    .state = "failed",
                                    .at_unix_ms = NOW,
                                    .error = (char *)"no",
                                    .warnings = {.items = (char *[]){(char *)"captures 198.51.100.53"},
                                            .count = 1}},
                            done = {.version = 2, .state = "applied", .at_unix_ms = NOW + 1000};
        struct error e = {0};
        json_t *value = NULL, *part;

        must(plane_config_applied(w->store, w->node, &failed, NOW, &e), &e);
        must(plane_config_applied(w->store, w->node, &done, NOW + 1000, &e), &e);
        must(plane_node_show(w->store, w->ours, w->node, &value, &e), &e);
        part = json_object_get(value, "configuration");
        assert_string_equal(text_of(part, "state"), "applied");
        assert_string_equal(text_of(part, "at"), "2026-11-21T03:02:01.000Z");
        assert_true(json_is_null(json_object_get(part, "error")));
        assert_int_equal(json_array_size(json_object_get(part, "warnings")), 0);
        json_decref(value);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
                T(test_versions),
                T(test_nothing_crosses),
                T(test_removed_node),
                T(test_applied),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
