#include "plane/store_update.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "plane/store_internal.h"
#include "store_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MINUTE INT64_C(60000)
#define DAY    INT64_C(86400000)

/* An event of an update, as a node writes it: `ended` 0 while it goes on. */
static int tell(struct world *w, const char *node, int64_t seq, const char *job, const char *status,
        int64_t started, int64_t ended, int64_t generated, struct error *e)
{
        json_t *update =
                json_pack("{s:i, s:{s:s, s:s, s:s, s:s}, s:s, s:o, s:o, s:s, s:s, s:[{s:s, s:s}], s:s}",
                        "schema", 1, "job", "id", job, "action", "now", "channel", "stable", "by",
                        "upgrade:g-1", "status", status, "started", json_time(started), "ended",
                        ended ? json_time(ended) : json_null(), "from", "0.1.0", "to", "0.2.0", "steps",
                        "name", "prepare", "state", "done", "log", "the end of the log");
        struct wire_event event = {.epoch = "e-1",
                .seq = seq,
                .generated_unix_ms = generated,
                .name = (char *)EVENT_UPDATE,
                .message = (char *)"an update",
                .update = update};
        json_t *value = NULL;
        bool is_new = false;
        int r = plane_event_add(w->store, node, &event, NOW, &is_new, &value, e);

        json_decref(value);
        json_decref(update);
        return r;
}

static void told(struct world *w, const char *node, int64_t seq, const char *job, const char *status,
        int64_t started, int64_t ended, int64_t generated)
{
        struct error e = {0};

        must(tell(w, node, seq, job, status, started, ended, generated, &e), &e);
}

static json_t *list(struct world *w, const char *organisation, const struct update_filter *f)
{
        struct error e = {0};
        json_t *ret = NULL;

        must(plane_update_list(w->store, organisation, f, NULL, &ret, &e), &e);
        return ret;
}

static json_t *shown(struct world *w, const char *node)
{
        struct error e = {0};
        json_t *value = NULL;

        must(plane_node_show(w->store, w->ours, node, &value, &e), &e);
        return value;
}

static void test_as_its_events_tell(void **state)
{
        struct world *w = *state;
        struct update_filter all = {0};
        json_t *l, *value = NULL, *node;
        struct error e = {0};
        char id[160];

        node = shown(w, w->node);
        assert_true(json_is_null(json_object_get(node, "update")));
        json_decref(node);
        told(w, w->node, 1, "u-1", "In Progress", NOW, 0, NOW);
        node = shown(w, w->node);
        assert_string_equal(text_of(json_object_get(node, "update"), "status"), "In Progress");
        json_decref(node);
        told(w, w->node, 3, "u-1", "Completed", NOW, NOW + 5 * MINUTE, NOW + 5 * MINUTE);
        /* One that was sent again, and comes late, changes nothing. */
        told(w, w->node, 2, "u-1", "In Progress", NOW, 0, NOW + MINUTE);
        l = list(w, w->ours, &all);
        assert_int_equal(json_array_size(items_of(l)), 1);
        value = json_array_get(items_of(l), 0);
        assert_string_equal(text_of(value, "status"), "Completed");
        assert_string_equal(text_of(value, "by"), "upgrade:g-1");
        assert_string_equal(text_of(value, "ended"), "2026-11-21T03:07:00.000Z");
        assert_string_equal(text_of(value, "node_name"), "branch-1");
        snprintf(id, sizeof id, "%s", text_of(value, "id"));
        json_decref(l);
        node = shown(w, w->node);
        assert_string_equal(text_of(json_object_get(node, "update"), "version"), "0.2.0");
        assert_string_equal(text_of(json_object_get(node, "update"), "at"), "2026-11-21T03:07:00.000Z");
        json_decref(node);

        must(plane_update_get(w->store, w->ours, id, &value, &e), &e);
        assert_string_equal(text_of(json_object_get(value, "update"), "log"), "the end of the log");
        assert_int_equal(json_array_size(json_object_get(json_object_get(value, "update"), "steps")), 1);
        json_decref(value);
        /* Another organisation's is not there. */
        assert_int_equal(plane_update_get(w->store, w->theirs, id, &value, &e), -ENOENT);
        assert_int_equal(plane_update_get(w->store, w->ours, "nothing", &value, &e), -ENOENT);
        l = list(w, w->theirs, &all);
        assert_int_equal(json_array_size(items_of(l)), 0);
        json_decref(l);
}

/* The same job of another node is another update. */
static void test_filters(void **state)
{
        struct world *w = *state;
        struct update_filter f = {0};
        char second[65];
        json_t *l;

        world_node(w, &w->us, "branch-2", "north", second);
        told(w, w->node, 1, "u-1", "Failed", NOW, NOW + MINUTE, NOW + MINUTE);
        told(w, second, 1, "u-1", "In Progress", NOW + 2 * MINUTE, 0, NOW + 2 * MINUTE);
        told(w, w->other, 1, "u-1", "In Progress", NOW, 0, NOW);
        l = list(w, w->ours, &f);
        assert_int_equal(json_array_size(items_of(l)), 2);
        assert_string_equal(text_of(json_array_get(items_of(l), 0), "node"), second); /* the newest first */
        json_decref(l);
        f.node = second;
        l = list(w, w->ours, &f);
        assert_int_equal(json_array_size(items_of(l)), 1);
        json_decref(l);
        f = (struct update_filter){.status = "Failed"};
        l = list(w, w->ours, &f);
        assert_int_equal(json_array_size(items_of(l)), 1);
        assert_string_equal(text_of(json_array_get(items_of(l), 0), "node"), w->node);
        json_decref(l);
        f = (struct update_filter){.since = NOW + 1};
        l = list(w, w->ours, &f);
        assert_int_equal(json_array_size(items_of(l)), 1);
        json_decref(l);
}

static void test_pages(void **state)
{
        struct world *w = *state;
        struct update_filter f = {0};
        struct page p = {.limit = 2};
        struct error e = {0};
        json_t *l = NULL, *rest = NULL;
        char job[16];

        for (int i = 0; i < 3; i++) {
                snprintf(job, sizeof job, "u-%d", i);
                told(w, w->node, i + 1, job, "Failed", NOW, NOW + 1, NOW + 1); /* all at one moment */
        }
        must(plane_update_list(w->store, w->ours, &f, &p, &l, &e), &e);
        assert_int_equal(json_array_size(items_of(l)), 2);
        p.after = text_of(l, "next");
        must(plane_update_list(w->store, w->ours, &f, &p, &rest, &e), &e);
        assert_int_equal(json_array_size(items_of(rest)), 1);
        assert_true(json_is_null(json_object_get(rest, "next")));
        json_decref(l);
        json_decref(rest);
}

static void test_what_is_none_is_refused(void **state)
{
        struct world *w = *state;
        struct update_filter f = {0};
        struct error e = {0};
        int64_t events = -1;
        json_t *l;

        assert_int_equal(tell(w, w->node, 1, "u-1", "Perhaps", NOW, 0, NOW, &e), -EBADMSG);
        assert_int_equal(tell(w, w->node, 1, "U 1", "Failed", NOW, 0, NOW, &e), -EBADMSG);
        must(db_query_integer(w->store->db, &e, -1, &events, "SELECT count(*) FROM events", ""), &e);
        assert_int_equal(events, 0);
        l = list(w, w->ours, &f);
        assert_int_equal(json_array_size(items_of(l)), 0);
        json_decref(l);
}

static void test_bounded(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        int64_t count = 0;
        char job[16];

        for (int i = 0; i < UPDATES_OF_NODE + 5; i++) {
                snprintf(job, sizeof job, "u-%d", i);
                told(w, w->node, i + 1, job, "Failed", NOW + i, NOW + i, NOW + i);
        }
        must(db_query_integer(w->store->db, &e, 0, &count, "SELECT count(*) FROM node_update", ""), &e);
        assert_int_equal(count, UPDATES_OF_NODE);
        must(db_query_integer(
                     w->store->db, &e, 0, &count, "SELECT count(*) FROM node_update WHERE id = 'u-4'", ""),
                &e);
        assert_int_equal(count, 0); /* the oldest went */
        /* 30 days after it was heard of. */
        must(plane_store_tidy(w->store, NOW + 30 * DAY, &e), &e);
        must(db_query_integer(w->store->db, &e, 0, &count, "SELECT count(*) FROM node_update", ""), &e);
        assert_int_equal(count, UPDATES_OF_NODE);
        must(plane_store_tidy(w->store, NOW + 30 * DAY + 1, &e), &e);
        must(db_query_integer(w->store->db, &e, 0, &count, "SELECT count(*) FROM node_update", ""), &e);
        assert_int_equal(count, 0);
}

/* ---- tags ---- */

static int tag(struct world *w, const char *set, const char *remove, int64_t *ret_version, struct error *e)
{
        json_auto_t *add = set ? json_loads(set, 0, NULL) : NULL,
                    *take = remove ? json_loads(remove, 0, NULL) : NULL;

        *ret_version = -1;
        return plane_node_tag(w->store, &w->us, w->ours, w->node, add, take, NOW, ret_version, e);
}

static void test_tags(void **state)
{
        struct world *w = *state;
        struct node_filter f = {.connected = -1, .tag = "ring"};
        struct error e = {0};
        json_t *value = NULL, *audit = NULL;
        int64_t version;

        must(tag(w, "{\"ring\":\"canary\",\"owner\":\"it@leeds\"}", NULL, &version, &e), &e);
        assert_int_equal(version, 0); /* nothing that its node must know */
        must(tag(w, "{\"ring\":\"wide\"}", "[\"owner\"]", &version, &e), &e);
        value = shown(w, w->node);
        assert_string_equal(text_of(json_object_get(value, "tags"), "ring"), "wide");
        assert_int_equal(json_object_size(json_object_get(value, "tags")), 1);
        json_decref(value);
        must(plane_node_list(w->store, w->ours, &f, NULL, &value, &e), &e);
        assert_int_equal(json_array_size(items_of(value)), 1);
        json_decref(value);
        f.tag_value = "canary";
        must(plane_node_list(w->store, w->ours, &f, NULL, &value, &e), &e);
        assert_int_equal(json_array_size(items_of(value)), 0);
        json_decref(value);
        must(plane_audit_list(w->store, w->ours, NULL, &audit, &e), &e);
        assert_string_equal(text_of(json_array_get(items_of(audit), 0), "action"), "node.tag");
        json_decref(audit);

        assert_int_equal(tag(w, NULL, "[\"owner\"]", &version, &e), -ENOENT);
        assert_int_equal(tag(w, "{\"Ring\":\"x\"}", NULL, &version, &e), -EINVAL);
        assert_int_equal(tag(w, "{\"ring\":\"two words\"}", NULL, &version, &e), -EINVAL);
        assert_int_equal(tag(w, "{\"ring\":7}", NULL, &version, &e), -EINVAL);
        assert_int_equal(
                plane_node_tag(w->store, &w->them, w->theirs, w->node, NULL, NULL, NOW, &version, &e),
                -ENOENT);
        assert_int_equal(
                plane_node_tag(w->store, &w->them, w->ours, w->node, NULL, NULL, NOW, &version, &e), -ENOENT);
}

static bool is_manual(struct world *w, int64_t *ret_version)
{
        struct error e = {0};
        json_t *value = NULL;
        bool ret;

        must(plane_config_for_node(w->store, w->ours, w->node, &value, &e), &e);
        *ret_version = json_integer_value(json_object_get(value, "version"));
        ret = json_is_true(
                json_object_get(json_object_get(json_object_get(value, "schedule"), "update"), "manual"));
        json_decref(value);
        return ret;
}

/* The node itself leaves itself alone, too: it is told by its configuration. */
static void test_manual(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *text = NULL;
        struct wire_config config = {0};
        struct error e = {0};
        json_t *value = NULL;
        int64_t version;

        assert_false(is_manual(w, &version));
        assert_int_equal(version, 0);
        must(tag(w, "{\"manualupdate\":\"true\"}", NULL, &version, &e), &e);
        assert_int_equal(version, 1);
        must(tag(w, "{\"manualupdate\":\"true\"}", NULL, &version, &e), &e);
        assert_int_equal(version, 0); /* no change */
        assert_true(is_manual(w, &version));
        assert_int_equal(version, 1);
        /* A node understands it, and its LANs stay those of its site file. */
        must(plane_config_for_node(w->store, w->ours, w->node, &value, &e), &e);
        text = json_to_text(value);
        json_decref(value);
        must(wire_config_parse(text, strlen(text), &config, &e), &e);
        assert_false(config.has_lan);
        assert_true(config.schedule.manual);
        assert_false(config.schedule.reboot);
        wire_config_done(&config);
        /* What people put is theirs: it holds again when the tag goes. */
        config = (struct wire_config){.guard = true, .has_lan = true};
        must(plane_config_put(w->store, &w->us, w->ours, w->node, &config, 1, NOW, &version, &e), &e);
        assert_true(is_manual(w, &version));
        must(plane_config_get(w->store, w->ours, w->node, 0, &value, &e), &e);
        assert_null(json_object_get(value, "schedule"));
        json_decref(value);
        must(tag(w, NULL, "[\"manualupdate\"]", &version, &e), &e);
        assert_int_equal(version, 3);
        assert_false(is_manual(w, &version));
        must(tag(w, "{\"manualupdate\":\"no\"}", NULL, &version, &e), &e);
        assert_false(is_manual(w, &version));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_as_its_events_tell), TEST(test_filters),
                TEST(test_pages), TEST(test_what_is_none_is_refused), TEST(test_bounded), TEST(test_tags),
                TEST(test_manual)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
