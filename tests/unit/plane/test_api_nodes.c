/* Nodes from the operators' side: made, listed, configured, removed; their events. */
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

static char *create(struct world *w, const char *name, const char *site)
{
        _cleanup_free_ char *body = xasprintf("{\"name\":\"%s\",\"site\":\"%s\"}", name, site);
        json_t *o = world_get(w, 201, ASK("POST", "/api/v1/nodes", .token = w->operator, .body = body));
        char *id = xstrdup(text_of(o, "id"));

        assert_string_equal(text_of(o, "name"), name);
        assert_int_equal(strncmp(text_of(o, "token"), "gnt_", 4), 0);
        assert_true(*text_of(o, "expires"));
        json_decref(o);
        return id;
}

static void test_create_and_show(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *id = create(w, "branch-1", "Berlin"), *path = xasprintf("/api/v1/nodes/%s", id);
        struct answer a;
        json_t *o = world_get(w, 200, ASK("GET", path, .token = w->viewer));

        assert_string_equal(text_of(o, "name"), "branch-1");
        assert_string_equal(text_of(o, "site"), "Berlin");
        assert_string_equal(text_of(o, "state"), "new");
        json_decref(o);
        o = world_get(w, 200, ASK("GET", "/api/v1/nodes/branch-1", .token = w->viewer));
        assert_string_equal(text_of(o, "id"), id);
        json_decref(o);
        assert_problem(world_ask(w, ASK("GET", path, .token = w->stranger)), 404, "node.unknown");
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/nodes/none", .token = w->viewer)), 404, "node.unknown");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/nodes", .token = w->operator,
                                            .body = "{\"name\":\"branch-1\"}")),
                409, "node.exists");
        assert_problem(world_ask(w, ASK("POST", "/api/v1/nodes", .token = w->operator,
                                            .body = "{\"name\":\"Branch\"}")),
                400, "name.bad");
        a = world_ask(w, ASK("POST", "/api/v1/nodes/branch-1/token", .token = w->operator));
        assert_int_equal(a.status, 201);
        assert_string_equal(answer_header(&a, "Location"), path);
        answer_done(&a);
        assert_problem(world_ask(w, ASK("POST", "/api/v1/nodes/branch-1/token", .token = w->stranger)), 404,
                "node.unknown");
}

static size_t count(struct world *w, const char *path)
{
        json_t *o = world_get(w, 200, ASK("GET", path, .token = w->viewer));
        size_t n = json_array_size(json_object_get(o, "items"));

        json_decref(o);
        return n;
}

static void test_list(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *one = create(w, "branch-1", "Berlin"), *two = create(w, "branch-2", "Bern"),
                            *next = NULL;
        json_t *o;

        world_connect(w, one, true);
        assert_int_equal(count(w, "/api/v1/nodes"), 2);
        assert_int_equal(count(w, "/api/v1/nodes?name=nch-2"), 1);
        assert_int_equal(count(w, "/api/v1/nodes?site=Bern"), 1);
        assert_int_equal(count(w, "/api/v1/nodes?connected=true"), 1);
        assert_int_equal(count(w, "/api/v1/nodes?connected=false"), 1);
        assert_int_equal(count(w, "/api/v1/nodes?state=registered"), 0);
        assert_int_equal(count(w, "/api/v1/nodes?cause=tcp.dropped"), 0);
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes?connected=yes", .token = w->viewer)), 400,
                "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes?state=old", .token = w->viewer)), 400,
                "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes?colour=red", .token = w->viewer)), 400,
                "query.unknown");
        o = world_get(w, 200, ASK("GET", "/api/v1/nodes?limit=1", .token = w->viewer));
        next = xasprintf("/api/v1/nodes?limit=1&after=%s", text_of(o, "next"));
        json_decref(o);
        o = world_get(w, 200, ASK("GET", next, .token = w->viewer));
        assert_string_equal(text_of(json_array_get(json_object_get(o, "items"), 0), "id"), two);
        assert_true(json_is_null(json_object_get(o, "next")));
        json_decref(o);
        /* A cursor of another list is none of this one. */
        next[strlen("/api/v1/")] = 'n';
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/nodes?after=6e", .token = w->viewer)), 400, "page.cursor");
        assert_int_equal(
                json_array_size(json_object_get(
                        (o = world_get(w, 200, ASK("GET", "/api/v1/nodes", .token = w->stranger))), "items")),
                0);
        json_decref(o);
}

static void test_remove(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        _cleanup_free_ char *certificate = certificate_header(n.certificate);

        json_decref(world_get(w, 204,
                ASK("GET", "/api/v1/node/config", .headers = {"X-Client-Verify: SUCCESS", certificate})));
        assert_problem(world_ask(w, ASK("DELETE", "/api/v1/nodes/branch-1", .token = w->stranger)), 404,
                "node.unknown");
        assert_problem(world_ask(w, ASK("DELETE", "/api/v1/nodes/branch-1", .token = w->viewer)), 403,
                "role.insufficient");
        json_decref(world_get(w, 204, ASK("DELETE", "/api/v1/nodes/branch-1", .token = w->operator)));
        assert_int_equal(played.expelled, 1);
        assert_int_equal(played.revoked, 1);
        assert_string_equal(played.node, n.id);
        assert_problem(world_ask(w, ASK("DELETE", "/api/v1/nodes/branch-1", .token = w->operator)), 404,
                "node.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/node/config",
                                            .headers = {"X-Client-Verify: SUCCESS", certificate})),
                403, "certificate.revoked");
        enrolled_done(&n);
}

/* ---- configurations ---- */

static const char config[] =
        "{\"dns\":[\"198.51.100.53\"],\"lan\":[{\"interface\":\"eth1\",\"address\":\"10.20.0.2/"
        "24\",\"routes\":["
        "{\"destination\":\"10.30.0.0/16\",\"next_hop\":\"10.20.0.1\"}]}],\"guard\":true}";

static void test_config(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *id = create(w, "branch-1", "");
        const char *path = "/api/v1/nodes/branch-1/config";
        struct answer a = world_ask(w, ASK("GET", path, .token = w->viewer));

        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "ETag"), "\"0\"");
        answer_done(&a);
        a = world_ask(
                w, ASK("PUT", path, .token = w->operator, .body = config, .headers = {"If-Match: \"0\""}));
        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "ETag"), "\"1\"");
        assert_int_equal(json_integer_value(json_object_get(a.json, "version")), 1);
        answer_done(&a);
        assert_int_equal(played.notices, 1);
        assert_int_equal(played.version, 1);
        assert_string_equal(played.node, id);
        assert_problem(world_ask(w, ASK("PUT", path, .token = w->operator, .body = config,
                                            .headers = {"If-Match: \"0\""})),
                412, "config.changed");
        assert_problem(world_ask(w, ASK("PUT", path, .token = w->operator, .body = config,
                                            .headers = {"If-Match: 1"})),
                400, "header.malformed");
        assert_problem(world_ask(w, ASK("PUT", path, .token = w->operator, .body = config,
                                            .headers = {"If-Match: W/\"1\""})),
                400, "header.malformed");
        assert_int_equal(played.notices, 1);
        json_decref(world_get(w, 200, ASK("PUT", path, .token = w->operator, .body = config)));
        assert_int_equal(played.version, 2);
        a = world_ask(w, ASK("GET", path, .token = w->viewer));
        assert_string_equal(answer_header(&a, "ETag"), "\"2\"");
        assert_non_null(strstr(a.body, "10.30.0.0/16"));
        answer_done(&a);
        assert_problem(world_ask(w, ASK("GET", path, .token = w->stranger)), 404, "node.unknown");
        assert_problem(
                world_ask(w, ASK("PUT", path, .token = w->stranger, .body = config)), 404, "node.unknown");
}

/* What was changed can be seen afterwards: each version is kept. */
static void test_former_configs(void **state)
{
        struct world *w = *state;
        json_t *o;

        free(create(w, "branch-1", ""));
        json_decref(world_get(
                w, 200, ASK("PUT", "/api/v1/nodes/branch-1/config", .token = w->operator, .body = config)));
        json_decref(world_get(w, 200,
                ASK("PUT", "/api/v1/nodes/branch-1/config", .token = w->operator,
                        .body = "{\"guard\":false}")));
        o = world_get(w, 200, ASK("GET", "/api/v1/nodes/branch-1/config?version=1", .token = w->viewer));
        assert_int_equal(json_integer_value(json_object_get(o, "version")), 1);
        assert_true(json_array_size(json_object_get(o, "lan")) > 0);
        json_decref(o);
        o = world_get(w, 200, ASK("GET", "/api/v1/nodes/branch-1/config?version=2", .token = w->viewer));
        assert_int_equal(json_array_size(json_object_get(o, "lan")), 0);
        json_decref(o);
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/nodes/branch-1/config?version=3", .token = w->viewer)), 404,
                "config.unknown");
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/nodes/branch-1/config?version=0", .token = w->viewer)), 400,
                "query.malformed");
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/nodes/branch-1/config?version=1", .token = w->stranger)),
                404, "node.unknown");
}

static void test_config_that_is_wrong(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *id = create(w, "branch-1", "");
        static const char *const wrong[] = {
                "{\"dns\":[\"nonsense\"]}",
                "{\"colour\":\"red\"}",
                "{\"lan\":[{\"interface\":\"eth1\",\"address\":\"10.20.0.2/"
                "24\",\"routes\":[{\"destination\":\"10.30.0.0/16\","
                "\"next_hop\":\"10.99.0.1\"}]}]}",
                "{\"schema\":2}",
        };

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                struct answer a = world_ask(w,
                        ASK("PUT", "/api/v1/nodes/branch-1/config", .token = w->operator, .body = wrong[i]));

                if (a.status != 400)
                        fail_msg("%s: %ld", wrong[i], a.status);
                answer_done(&a);
        }
        assert_string_not_equal(played.node, id); /* nobody was told */
        assert_int_equal(played.notices, 0);
}

/* ---- events ---- */

static void add_event(struct world *w, const char *node, int64_t seq, const char *message, const char *cause)
{
        struct wire_event event = {.epoch = "e1",
                .seq = seq,
                .generated_unix_ms = 1700000000000 + seq * 1000,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = (char *)message,
                .severity = cause ? WIRE_ERROR : WIRE_INFO,
                .service = (char *)"repo"};
        json_t *value = NULL;
        struct error e = {0};
        bool is_new;

        if (cause)
                event.diagnosis = json_pack("{s:s, s:s, s:[{s:s}]}", "verdict", "blocked", "summary", "s",
                        "causes", "code", cause);
        if (plane_event_add(w->store, node, &event, clock_unix_ms(), &is_new, &value, &e) < 0)
                fail_msg("%s", e.text);
        json_decref(event.diagnosis);
        json_decref(value);
}

static void test_events(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *one = create(w, "branch-1", "Berlin"), *two = create(w, "branch-2", "");

        add_event(w, one, 1, "Repo connectivity failed", "tcp.dropped");
        add_event(w, one, 2, "Repo connectivity re-established", NULL);
        add_event(w, two, 1, "Repo connectivity failed", "tcp.refused");
        assert_int_equal(count(w, "/api/v1/events"), 3);
        assert_int_equal(count(w, "/api/v1/events?node=branch-1"), 2);
        assert_int_equal(count(w, "/api/v1/events?cause=tcp.refused"), 1);
        assert_int_equal(count(w, "/api/v1/events?severity=ERROR"), 2);
        assert_int_equal(count(w, "/api/v1/events?name=Repo+Connectivity"), 3);
        assert_int_equal(count(w, "/api/v1/events?since=2023-11-14T22:13:22.000Z"), 1);
        assert_int_equal(count(w, "/api/v1/events?until=2023-11-14T22:13:22.000Z"), 2);
        assert_problem(world_ask(w, ASK("GET", "/api/v1/events?node=none", .token = w->viewer)), 404,
                "node.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/events?severity=BAD", .token = w->viewer)), 400,
                "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/events?since=yesterday", .token = w->viewer)), 400,
                "query.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/events?node=branch-1", .token = w->stranger)), 404,
                "node.unknown");
        assert_int_equal(count(w, "/api/v1/incidents?open=true"), 0);
        assert_int_equal(count(w, "/api/v1/reports"), 0);
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/reports/a.b.1", .token = w->viewer)), 404, "report.unknown");
}

static void add_report(struct world *w, const char *node)
{
        struct wire_report report = {.epoch = "e1",
                .seq = 7,
                .generated_unix_ms = 1700000000000,
                .trigger = (char *)"monitor",
                .report = json_pack("{s:s, s:s}", "verdict", "blocked", "summary", "443 is dropped")};
        struct error e = {0};
        bool is_new;

        if (plane_report_add(w->store, node, &report, clock_unix_ms(), &is_new, &e) < 0)
                fail_msg("%s", e.text);
        json_decref(report.report);
}

static void test_reports(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *one = create(w, "branch-1", "Berlin"),
                            *path = xasprintf("/api/v1/reports/%s.e1.7", one);
        json_t *o;

        add_report(w, one);
        assert_int_equal(count(w, "/api/v1/reports?node=branch-1"), 1);
        o = world_get(w, 200, ASK("GET", path, .token = w->viewer));
        assert_string_equal(text_of(json_object_get(o, "report"), "summary"), "443 is dropped");
        json_decref(o);
        assert_problem(world_ask(w, ASK("GET", path, .token = w->stranger)), 404, "report.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/reports?node=none", .token = w->viewer)), 404,
                "node.unknown");
}

static void test_incidents(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *incident = json_pack("{s:s, s:s, s:s, s:s, s:n, s:i, s:i, s:[], s:s}", "id", "i-1", "cause",
                "tcp.dropped", "target", "198.51.100.16/28:443", "since", "2026-11-21T10:02:00.000Z", "until",
                "nodes", 31, "sites", 4, "node_ids", "summary",
                "31 nodes of 4 sites lost 198.51.100.16/28:443 since 10:02 UTC");

        assert_int_equal(
                plane_incident_save(w->store, w->organisation, "i-1", incident, true, clock_unix_ms(), &e),
                0);
        json_decref(incident);
        assert_int_equal(count(w, "/api/v1/incidents"), 1);
        assert_int_equal(count(w, "/api/v1/incidents?open=true"), 1);
        assert_int_equal(count(w, "/api/v1/incidents?open=false"), 0);
        incident = world_get(w, 200, ASK("GET", "/api/v1/incidents", .token = w->stranger));
        assert_int_equal(json_array_size(json_object_get(incident, "items")), 0);
        json_decref(incident);
}

static size_t lines_of(const char *s)
{
        size_t n = 0;

        for (; (s = strstr(s, "\r\n")); s += 2)
                n++;
        return n;
}

/* All pages at once; quotes, line ends and formulas of somebody else's words do no harm. */
static void test_events_as_csv(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *one = create(w, "branch-1", "Berlin");
        struct answer a;
        struct error e = {0};

        db_begin(plane_store_db(w->store), &e);
        for (int i = 1; i <= 1203; i++)
                add_event(w, one, i, "Repo connectivity failed", "tcp.dropped");
        db_commit(plane_store_db(w->store), &e);
        add_event(w, one, 2000, "=cmd|'x', \"quoted\"", NULL);
        a = world_ask(w, ASK("GET", "/api/v1/events", .token = w->viewer, .headers = {"Accept: text/csv"}));
        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "Content-Type"), "text/csv; charset=utf-8; header=present");
        assert_int_equal(lines_of(a.body), 1205);
        assert_int_equal(strncmp(a.body, "id,received,generated,node,", 27), 0);
        assert_non_null(strstr(a.body, ",\"'=cmd|'x', \"\"quoted\"\"\","));
        assert_non_null(strstr(a.body,
                ",branch-1,Berlin,Repo Connectivity,ERROR,Repo connectivity failed,repo,tcp.dropped\r\n"));
        answer_done(&a);
        a = world_ask(
                w, ASK("GET", "/api/v1/events?severity=INFO&node=branch-1&since=2023-11-14T22:40:00.000Z",
                           .token = w->viewer, .headers = {"Accept: text/csv"}));
        assert_int_equal(lines_of(a.body), 2);
        answer_done(&a);
        a = world_ask(w, ASK("GET", "/api/v1/events", .token = w->stranger, .headers = {"Accept: text/csv"}));
        assert_int_equal(lines_of(a.body), 1);
        answer_done(&a);
        assert_problem(world_ask(w, ASK("GET", "/api/v1/events?after=zz", .token = w->viewer,
                                            .headers = {"Accept: text/csv"})),
                400, "page.cursor");
}

/* A reader who goes away in the middle takes nothing with him. */
static void test_csv_reader_goes_away(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *one = create(w, "branch-1", "Berlin"), *some = NULL;
        _cleanup_free_ char *request =
                xasprintf("GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAccept: text/csv\r\n"
                          "Authorization: Bearer %s\r\n\r\n",
                        w->viewer);
        struct error e = {0};
        int fd;

        db_begin(plane_store_db(w->store), &e);
        for (int i = 1; i <= 3000; i++)
                add_event(w, one, i, "Repo connectivity failed", "tcp.dropped");
        db_commit(plane_store_db(w->store), &e);
        fd = raw_open(w, false);
        raw_send(w, fd, request, strlen(request));
        some = raw_read(w, fd, "received", 2000);
        assert_non_null(strstr(some, "200 OK"));
        close(fd);
        world_run(w, 50);
        assert_int_equal(count(w, "/api/v1/events?limit=1"), 1);
}

/* Another process has the database: what only reads goes on, what changes is refused at once and says when to
 * come again, and nothing is half done. */
static void test_the_database_is_locked(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *path = xasprintf("%s/plane.db", w->folder);
        struct ask changes[] = {
                *ASK("POST", "/api/v1/nodes", .token = w->operator, .body = "{\"name\":\"n\"}"),
                *ASK("POST", "/api/v1/tokens", .token = w->admin,
                        .body = "{\"name\":\"ci\",\"role\":\"viewer\"}"),
                *ASK("POST", "/api/v1/organisations", .local = true, .body = "{\"name\":\"acme\"}")};
        sqlite3 *other = NULL;

        assert_int_equal(sqlite3_open(path, &other), SQLITE_OK);
        assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
        for (size_t i = 0; i < ELEMENTS(changes); i++) {
                double began_ms = clock_monotonic_ms();
                struct answer a = world_ask(w, &changes[i]);

                assert_true(clock_monotonic_ms() - began_ms < 200);
                assert_string_equal(answer_header(&a, "Retry-After"), "2");
                assert_non_null(strstr(a.body, "locked by another process"));
                assert_problem(a, 503, "database.locked");
                /* A token that was never used: that it is now cannot be noted, and it is as good. */
                began_ms = clock_monotonic_ms();
                json_decref(world_get(w, 200, ASK("GET", "/api/v1/nodes", .token = w->viewer)));
                assert_true(clock_monotonic_ms() - began_ms < 200);
        }
        assert_int_equal(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(other);
        for (size_t i = 0; i < ELEMENTS(changes); i++)
                json_decref(world_get(w, 201, &changes[i]));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_create_and_show),
                TEST(test_list),
                TEST(test_remove),
                TEST(test_config),
                TEST(test_former_configs),
                TEST(test_config_that_is_wrong),
                TEST(test_events),
                TEST(test_reports),
                TEST(test_incidents),
                TEST(test_events_as_csv),
                TEST(test_csv_reader_goes_away),
                TEST(test_the_database_is_locked),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
