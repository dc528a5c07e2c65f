/* Updates, tags and upgrades from the operators' side, with the runner of upgrades below; the broker is
 * played. */
#include "api_world.h"

#include "base/alloc.h"
#include "plane/store_update.h"
#include "plane/upgrades.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
#define ROLLOUT "{\"name\":\"spring\",\"include\":[\"ring=a\"],\"waves\":[50,100],\"stop_at_percent\":100}"

static struct upgrades *runner;
static int told;

static void on_change(const char *organisation, const char *kind, json_t *value, void *userdata)
{
        (void)organisation;
        (void)value;
        (void)userdata;
        told += str_equal(kind, "upgrade");
}

static void patch_tags(struct world *w, const char *node, const char *body)
{
        _cleanup_free_ char *path = xasprintf("/api/v1/nodes/%s/tags", node);

        json_decref(world_get(w, 200, ASK("PATCH", path, .token = w->operator, .body = body)));
}

/* Connected nodes of ring a. */
static void make_nodes(struct world *w, struct enrolled *nodes, size_t count)
{
        for (size_t i = 0; i < count; i++) {
                char name[32];

                snprintf(name, sizeof name, "branch-%zu", i);
                nodes[i] = world_enrol(w, w->organisation, name);
                world_connect(w, nodes[i].id, true);
                patch_tags(w, nodes[i].id, "{\"set\":{\"ring\":\"a\"}}");
        }
}

/* The node tells how its update by this upgrade stands. */
static void tell(struct world *w, const char *node, int64_t seq, const char *by, const char *status)
{
        int64_t now = clock_unix_ms();
        bool is_over = !str_equal(status, "In Progress"), is_new;
        json_t *update = json_pack(
                "{s:i, s:{s:s, s:s, s:s, s:s}, s:s, s:o, s:o, s:s, s:s, s:[{s:s, s:s, s:s}], s:s}", "schema",
                1, "job", "id", "u-1", "action", "now", "channel", "stable", "by", by, "status", status,
                "started", json_time(now), "ended", is_over ? json_time(now) : json_null(), "from", "0.1.0",
                "to", "0.2.0", "steps", "name", "own", "state", is_over ? "done" : "running", "text",
                "unpacked", "error", str_equal(status, "Failed") ? "the disk is full" : "");
        struct wire_event event = {.epoch = "e-1",
                .seq = seq,
                .generated_unix_ms = now,
                .name = (char *)EVENT_UPDATE,
                .message = (char *)"an update",
                .update = update};
        struct error e = {0};
        json_t *value = NULL;

        if (plane_event_add(w->store, node, &event, now, &is_new, &value, &e) < 0)
                fail_msg("%s", e.text);
        json_decref(value);
        json_decref(update);
        upgrades_look(runner);
}

static json_t *get(struct world *w, const char *path)
{
        return world_get(w, 200, ASK("GET", path, .token = w->viewer));
}

static long long count_of(struct world *w, const char *id, const char *state)
{
        _cleanup_free_ char *path = xasprintf("/api/v1/upgrades/%s", id);
        json_t *o = get(w, path);
        long long count = json_integer_value(json_object_get(json_object_get(o, "counts"), state));

        json_decref(o);
        return count;
}

static char *plan(struct world *w, const char *body)
{
        json_t *o = world_get(w, 201, ASK("POST", "/api/v1/upgrades", .token = w->operator, .body = body));
        char *id = xstrdup(text_of(o, "id"));

        assert_string_equal(text_of(o, "state"), "planned");
        json_decref(o);
        return id;
}

static void act(struct world *w, const char *id, const char *action)
{
        _cleanup_free_ char *path = xasprintf("/api/v1/upgrades/%s/%s", id, action);

        json_decref(world_get(w, 200, ASK("POST", path, .token = w->operator)));
        upgrades_look(runner);
        world_run(w, 1500);
}

static struct answer ask_act(struct world *w, const char *id, const char *action, const char *token)
{
        _cleanup_free_ char *path = xasprintf("/api/v1/upgrades/%s/%s", id, action);

        return world_ask(w, ASK("POST", path, .token = token));
}

/* The node of this place in the order in which they are asked. */
static char *node_at(struct world *w, const char *id, size_t place)
{
        _cleanup_free_ char *path = xasprintf("/api/v1/upgrades/%s/nodes", id);
        json_t *o = get(w, path);
        char *node = xstrdup(text_of(json_array_get(json_object_get(o, "items"), place), "node"));

        json_decref(o);
        return node;
}

static void test_tags(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        json_t *o;

        played.notices = 0;
        patch_tags(w, "branch-1", "{\"set\":{\"ring\":\"a\",\"owner\":\"us\"}}");
        assert_int_equal(played.notices, 0);
        o = get(w, "/api/v1/nodes?tag=ring%3Da");
        assert_int_equal(json_array_size(json_object_get(o, "items")), 1);
        json_decref(o);
        o = get(w, "/api/v1/nodes?tag=ring%3Db");
        assert_int_equal(json_array_size(json_object_get(o, "items")), 0);
        json_decref(o);
        patch_tags(w, "branch-1", "{\"set\":{\"manualupdate\":\"true\"},\"remove\":[\"owner\"]}");
        assert_int_equal(played.notices, 1); /* its node is told to fetch its configuration */
        assert_int_equal(played.version, 1);
        assert_problem(world_ask(w, ASK("PATCH", "/api/v1/nodes/branch-1/tags", .token = w->viewer,
                                            .body = "{\"set\":{\"x\":\"y\"}}")),
                403, "role.insufficient");
        assert_problem(world_ask(w, ASK("PATCH", "/api/v1/nodes/branch-1/tags", .token = w->stranger,
                                            .body = "{\"set\":{\"x\":\"y\"}}")),
                404, "node.unknown");
        assert_problem(world_ask(w, ASK("PATCH", "/api/v1/nodes/branch-1/tags", .token = w->operator,
                                            .body = "{\"set\":{\"X\":\"y\"}}")),
                400, "tag.bad");
        assert_problem(
                world_ask(w, ASK("PATCH", "/api/v1/nodes/branch-1/tags", .token = w->operator, .body = "{}")),
                400, "body.malformed");
        assert_problem(world_ask(w, ASK("PATCH", "/api/v1/nodes/branch-1/tags", .token = w->operator,
                                            .body = "{\"remove\":[\"none\"]}")),
                404, "tag.unknown");
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/nodes?tag=", .token = w->viewer)), 400, "query.malformed");
        enrolled_done(&n);
}

static void test_updates(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        _cleanup_free_ char *path = xasprintf("/api/v1/updates/%s.u-1", n.id);
        json_t *o, *item;

        tell(w, n.id, 1, "alice", "In Progress");
        tell(w, n.id, 2, "alice", "Completed");
        o = get(w, "/api/v1/updates?node=branch-1&status=Completed");
        item = json_array_get(json_object_get(o, "items"), 0);
        assert_string_equal(text_of(item, "to"), "0.2.0");
        json_decref(o);
        o = get(w, "/api/v1/nodes/branch-1/updates");
        assert_int_equal(json_array_size(json_object_get(o, "items")), 1);
        json_decref(o);
        o = get(w, "/api/v1/updates?since=2100-01-01T00:00:00.000Z");
        assert_int_equal(json_array_size(json_object_get(o, "items")), 0);
        json_decref(o);
        o = get(w, path);
        assert_string_equal(text_of(json_object_get(o, "update"), "status"), "Completed");
        json_decref(o);
        o = get(w, "/api/v1/nodes/branch-1");
        assert_string_equal(text_of(json_object_get(o, "update"), "version"), "0.2.0");
        json_decref(o);
        assert_problem(world_ask(w, ASK("GET", path, .token = w->stranger)), 404, "update.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/updates?status=x", .token = w->viewer)), 400,
                "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/updates?node=none", .token = w->viewer)), 404,
                "node.unknown");
        enrolled_done(&n);
}

static void test_plan_and_preview(void **state)
{
        struct world *w = *state;
        struct enrolled nodes[3];
        _cleanup_free_ char *id = NULL, *path = NULL;
        json_t *o;

        make_nodes(w, nodes, 3);
        patch_tags(w, nodes[1].id, "{\"set\":{\"manualupdate\":\"true\"}}");
        id = plan(w, ROLLOUT);
        path = xasprintf("/api/v1/upgrades/%s/dry-run", id);
        o = get(w, path);
        assert_int_equal(json_array_size(json_object_get(o, "waves")), 2);
        assert_int_equal(
                json_array_size(json_object_get(json_array_get(json_object_get(o, "waves"), 0), "nodes")), 1);
        assert_string_equal(text_of(json_array_get(json_object_get(o, "skipped"), 0), "node"), nodes[1].id);
        assert_string_equal(
                text_of(json_array_get(json_object_get(o, "skipped"), 0), "reason"), "manualupdate=true");
        json_decref(o);
        assert_int_equal(count_of(w, id, "NEW"), 0); /* nothing has begun */
        o = get(w, "/api/v1/upgrades?state=planned");
        assert_int_equal(json_array_size(json_object_get(o, "items")), 1);
        json_decref(o);
        assert_problem(world_ask(w, ASK("GET", path, .token = w->stranger)), 404, "upgrade.unknown");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/upgrades", .token = w->viewer, .body = ROLLOUT)),
                403, "role.insufficient");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/upgrades", .token = w->operator,
                                            .body = "{\"name\":\"x\",\"waves\":[5]}")),
                400, "body.malformed");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/upgrades", .token = w->operator,
                                            .body = "{\"name\":\"x\",\"wave\":[100]}")),
                400, "body.malformed");
        assert_problem(ask_act(w, id, "start", w->viewer), 403, "role.insufficient");
        assert_problem(ask_act(w, id, "start", w->stranger), 404, "upgrade.unknown");
        assert_problem(ask_act(w, id, "pause", w->operator), 409, "upgrade.state");
        for (size_t i = 0; i < 3; i++)
                enrolled_done(&nodes[i]);
}

/* Waves, one active, pause, resume, retry, cancel; and a plane that begins anew in between. */
static void test_run(void **state)
{
        struct world *w = *state;
        struct enrolled nodes[4];
        _cleanup_free_ char *id = NULL, *second = NULL, *by = NULL, *first = NULL, *other = NULL,
                            *timeline = NULL;
        json_t *o;

        make_nodes(w, nodes, 4);
        played.requests = 0;
        runner = upgrades_new(w->event, w->store, w->requests, on_change, NULL);
        id = plan(w, ROLLOUT);
        second = plan(w, "{\"name\":\"summer\"}");
        by = xasprintf("upgrade:%s", id);
        act(w, "spring", "start"); /* by its name */
        assert_int_equal(played.requests, 2);
        assert_int_equal(count_of(w, id, "READY"), 2);
        assert_problem(ask_act(w, second, "start", w->operator), 409, "upgrade.active");
        first = node_at(w, id, 0);
        other = node_at(w, id, 1);
        tell(w, first, 1, by, "In Progress");
        world_run(w, 1500);
        assert_int_equal(count_of(w, id, "WORKING"), 1);
        /* As after a kill: nothing but the database is left. */
        runner = upgrades_free(runner);
        tell(w, first, 2, by, "Completed");
        tell(w, other, 1, by, "Failed");
        runner = upgrades_new(w->event, w->store, w->requests, on_change, NULL);
        world_run(w, 2500);
        assert_int_equal(count_of(w, id, "DONE"), 1);
        assert_int_equal(count_of(w, id, "ERROR"), 1);
        assert_int_equal(count_of(w, id, "READY"), 2); /* the second wave */
        act(w, id, "pause");
        assert_int_equal(count_of(w, id, "NEW"), 2);
        act(w, id, "retry");
        assert_int_equal(count_of(w, id, "NEW"), 3);
        act(w, id, "resume");
        assert_int_equal(count_of(w, id, "READY"), 1);
        act(w, id, "cancel");
        assert_int_equal(count_of(w, id, "SKIPPED"), 3);
        assert_true(told > 0);
        timeline = xasprintf("/api/v1/upgrades/%s/timeline?limit=500", id);
        o = get(w, timeline);
        assert_true(json_array_size(json_object_get(o, "items")) > 10);
        json_decref(o);
        act(w, second, "start"); /* it may, now */
        runner = upgrades_free(runner);
        for (size_t i = 0; i < 4; i++)
                enrolled_done(&nodes[i]);
}

static size_t count_at(struct world *w, const char *path)
{
        json_t *o = world_get(w, 200, ASK("GET", path, .token = w->admin));
        size_t count = json_array_size(json_object_get(o, "items"));

        json_decref(o);
        return count;
}

/* Every list filters: what fits is there, what does not is not. */
static void test_filters_of_lists(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        struct wire_report report = {.epoch = "e-1",
                .seq = 1,
                .generated_unix_ms = INT64_C(1795230120000),
                .trigger = (char *)"monitor"};
        struct error e = {0};
        json_t *incident =
                json_pack("{s:s, s:s}", "since", "2026-11-21T03:02:00.000Z", "cause", "tcp.dropped");
        bool is_new;

        json_object_update_new(
                incident, json_pack("{s:s, s:s, s:n, s:i, s:i, s:s}", "id", "i-1", "target",
                                  "198.51.100.16/28", "until", "nodes", 5, "sites", 2, "summary", "x"));
        patch_tags(w, "branch-1", "{\"set\":{\"ring\":\"a\"}}");
        assert_int_equal(count_at(w, "/api/v1/audit?action=node.tag"), 1);
        assert_int_equal(count_at(w, "/api/v1/audit?action=node.none"), 0);
        assert_true(count_at(w, "/api/v1/audit?object=branch-1") > 0); /* by the name in its detail */
        assert_int_equal(count_at(w, "/api/v1/audit?actor=nobody"), 0);
        assert_int_equal(count_at(w, "/api/v1/audit?since=2100-01-01T00:00:00.000Z"), 0);
        assert_int_equal(count_at(w, "/api/v1/audit?until=2000-01-01T00:00:00.000Z"), 0);
        assert_true(count_at(w, "/api/v1/tokens") > count_at(w, "/api/v1/tokens?role=viewer"));
        assert_int_equal(count_at(w, "/api/v1/tokens?role=viewer"), 1);
        assert_int_equal(count_at(w, "/api/v1/tokens?name=no-such"), 0);
        assert_int_equal(count_at(w, "/api/v1/users?name=no-such&role=admin"), 0);
        assert_int_equal(count_at(w, "/api/v1/organisations?name=efaul"), 1);
        assert_int_equal(count_at(w, "/api/v1/organisations?name=other"), 0);
        report.report = json_pack("{s:s, s:s}", "verdict", "blocked", "summary", "x");
        assert_int_equal(plane_report_add(w->store, n.id, &report, clock_unix_ms(), &is_new, &e), 0);
        json_decref(report.report);
        assert_int_equal(count_at(w, "/api/v1/reports?verdict=blocked"), 1);
        assert_int_equal(count_at(w, "/api/v1/reports?verdict=healthy"), 0);
        assert_int_equal(count_at(w, "/api/v1/reports?since=2026-11-21T03:02:00.000Z"), 1);
        assert_int_equal(count_at(w, "/api/v1/reports?until=2026-11-21T03:02:00.000Z"), 0);
        assert_int_equal(
                plane_incident_save(w->store, w->organisation, "i-1", incident, true, clock_unix_ms(), &e),
                0);
        json_decref(incident);
        assert_int_equal(count_at(w, "/api/v1/incidents?open=true&since=2026-11-21T03:02:00.000Z"), 1);
        assert_int_equal(count_at(w, "/api/v1/incidents?since=2026-11-21T03:02:00.001Z"), 0);
        assert_int_equal(count_at(w, "/api/v1/incidents?until=2026-11-21T03:02:00.000Z"), 0);
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/users?role=x", .token = w->admin)), 400, "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/reports?verdict=x", .token = w->admin)), 400,
                "query.malformed");
        enrolled_done(&n);
}

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_tags), TEST(test_updates), TEST(test_plan_and_preview),
                TEST(test_run), TEST(test_filters_of_lists)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
