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
#include <time.h>

static json_t *list_of(struct world *w, const char *organisation, const struct event_filter *f)
{
        struct page p = {.limit = 500};
        struct error e = {0};
        json_t *list = NULL;

        must(plane_event_list(w->store, organisation, f, &p, &list, &e), &e);
        return list;
}

/* The numbers of the events that the filter leaves, newest first: "3 1". */
static void assert_seqs(
        struct world *w, const char *organisation, const struct event_filter *f, const char *wanted)
{
        json_t *list = list_of(w, organisation, f), *row;
        struct text seqs = {0};
        size_t i;

        json_array_foreach(items_of(list), i, row)
        {
                text_addf(&seqs, "%s%s", i ? " " : "", strrchr(text_of(row, "id"), '.') + 1);
        }
        assert_string_equal(text_string(&seqs), wanted);
        text_done(&seqs);
        json_decref(list);
}

static void test_an_event_as_shown(void **state)
{
        struct world *w = *state;
        struct wire_event event = {.epoch = "e-7",
                .seq = 12,
                .generated_unix_ms = NOW - 5000,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = (char *)"Repo connectivity failed: h\xc3\xa9 \"x\"",
                .severity = WIRE_ERROR,
                .service = (char *)"repo",
                .report_seq = 13};
        struct error e = {0};
        json_t *value = NULL, *list;
        char id[128];
        bool is_new = false;

        event.diagnosis = json_pack("{s:s, s:[{s:s}, {s:s}, {s:s}, {s:i}]}", "verdict", "blocked", "causes",
                "code", "tcp.dropped", "code", "tls.intercepted", "code", "tcp.dropped", "code", 5);
        must(plane_event_add(w->store, w->node, &event, NOW, &is_new, &value, &e), &e);
        assert_true(is_new);
        snprintf(id, sizeof id, "%s.e-7.12", w->node);
        assert_string_equal(text_of(value, "id"), id);
        snprintf(id, sizeof id, "%s.e-7.13", w->node);
        assert_string_equal(text_of(value, "report"), id);
        assert_string_equal(text_of(value, "node"), w->node);
        assert_string_equal(text_of(value, "node_name"), "branch-1");
        assert_string_equal(text_of(value, "site"), "north");
        assert_string_equal(text_of(value, "generated"), "2026-11-21T03:01:55.000Z");
        assert_string_equal(text_of(value, "received"), "2026-11-21T03:02:00.000Z");
        assert_string_equal(text_of(value, "name"), "Repo Connectivity");
        assert_string_equal(text_of(value, "severity"), "ERROR");
        assert_string_equal(text_of(value, "message"), event.message);
        assert_string_equal(text_of(value, "service"), "repo");
        assert_string_equal(text_of(value, "cause"), "tcp.dropped");
        assert_true(json_equal(json_object_get(value, "diagnosis"), event.diagnosis));
        /* The list shows the same. */
        list = list_of(w, w->ours, NULL);
        assert_true(json_equal(json_array_get(items_of(list), 0), value));
        json_decref(list);
        json_decref(value);
        json_decref(event.diagnosis);
}

static void test_again(void **state)
{
        struct world *w = *state;
        struct wire_event event = {.epoch = "e-1",
                .seq = 1,
                .generated_unix_ms = NOW,
                .name = (char *)"x",
                .message = (char *)"other text"};
        struct error e = {0};
        json_t *value = NULL;
        bool is_new = true;

        json_decref(world_event(w, w->node, 1, NOW, "Repo Connectivity", NULL));
        must(plane_event_add(w->store, w->node, &event, NOW + 1, &is_new, &value, &e), &e);
        assert_false(is_new);
        assert_null(value);
        assert_seqs(w, w->ours, NULL, "1");
        /* Another store of the node, and another node, count for themselves. */
        strcpy(event.epoch, "e-2");
        must(plane_event_add(w->store, w->node, &event, NOW + 1, &is_new, &value, &e), &e);
        assert_true(is_new);
        json_decref(value);
        json_decref(world_event(w, w->other, 1, NOW, "Repo Connectivity", NULL));
        assert_seqs(w, w->ours, NULL, "1 1");
        assert_seqs(w, w->theirs, NULL, "1");
}

static void test_refused(void **state)
{
        struct world *w = *state;
        const struct wire_event good = {.epoch = "e-1",
                .seq = 1,
                .generated_unix_ms = NOW,
                .name = (char *)"x",
                .message = (char *)"y"};
        struct wire_event bad[8];
        struct error e = {0};
        json_t *value = NULL;
        bool is_new;

        for (size_t i = 0; i < ELEMENTS(bad); i++)
                bad[i] = good;
        strcpy(bad[0].epoch, "");
        strcpy(bad[1].epoch, "plane");
        strcpy(bad[2].epoch, "a.b");
        bad[3].seq = 0;
        bad[4].generated_unix_ms = -1;
        bad[5].generated_unix_ms = INT64_MAX;
        bad[6].name = NULL;
        bad[7].severity = (enum wire_severity)9;
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(
                        plane_event_add(w->store, w->node, &bad[i], NOW, &is_new, &value, &e), -EINVAL);
        assert_int_equal(plane_event_add(w->store, "n-none", &good, NOW, &is_new, &value, &e), -ENOENT);
        assert_seqs(w, w->ours, NULL, "");
}

/* A node that was removed stores nothing; what it stored stays. In a transaction of many, only its own part
 * is refused. */
static void test_removed_node(void **state)
{
        struct world *w = *state;
        const struct wire_event event = {.epoch = "e-1",
                .seq = 2,
                .generated_unix_ms = NOW,
                .name = (char *)"x",
                .message = (char *)"y"};
        const struct wire_report report = {.epoch = "e-1",
                .seq = 1,
                .generated_unix_ms = NOW,
                .trigger = (char *)"monitor",
                .report = json_object()};
        struct error e = {0};
        json_t *value = NULL;
        bool is_new;

        json_decref(world_event(w, w->node, 1, NOW, "Repo Connectivity", NULL));
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        must(db_begin(plane_store_db(w->store), &e), &e);
        json_decref(world_event(w, w->other, 1, NOW, "Repo Connectivity", NULL));
        assert_int_equal(plane_event_add(w->store, w->node, &event, NOW, &is_new, &value, &e), -ENOENT);
        assert_int_equal(plane_report_add(w->store, w->node, &report, NOW, &is_new, &e), -ENOENT);
        assert_int_equal(
                plane_event_own(w->store, w->node, EVENT_NODE_CONNECT, WIRE_INFO, "x", NOW, &value, &e),
                -ENOENT);
        json_decref(world_event(w, w->other, 2, NOW, "Repo Connectivity", NULL));
        must(db_commit(plane_store_db(w->store), &e), &e);
        assert_null(value);
        assert_seqs(w, w->ours, NULL, "1");
        assert_seqs(w, w->theirs, NULL, "2 1");
        json_decref(report.report);
}

static void test_own_events(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *value = NULL;

        for (int i = 1; i <= 3; i++) {
                must(plane_event_own(w->store, w->node, EVENT_NODE_CONNECT, WIRE_INFO, "Node connected",
                             NOW + i, &value, &e),
                        &e);
                assert_string_equal(text_of(value, "name"), "Node Connect");
                assert_true(json_is_null(json_object_get(value, "report")));
                json_decref(value);
        }
        assert_seqs(w, w->ours, NULL, "3 2 1");
        assert_seqs(w, w->theirs, NULL, "");
}

static void test_filters(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char second[65];
        json_t *value = NULL;

        world_node(w, &w->us, "branch-2", "north", second);
        json_decref(world_event(w, w->node, 1, NOW + 10, "Repo Connectivity", "tcp.dropped"));
        json_decref(world_event(w, w->node, 2, NOW + 20, "Repo Connectivity", NULL));
        json_decref(world_event(w, w->node, 3, NOW + 30, "DNS Resolution", "dns.refused"));
        json_decref(world_event(w, second, 4, NOW + 25, "Repo Connectivity", "tcp.dropped"));
        json_decref(world_event(w, second, 5, NOW + 5, "Repo Connectivity", NULL));
        json_decref(world_event(w, w->other, 6, NOW + 15, "Repo Connectivity", "tcp.dropped"));
        must(plane_event_own(
                     w->store, second, "Connection Flapping", WIRE_WARNING, "x", NOW + 40, &value, &e),
                &e);
        json_decref(value); /* seq 1 */

#define F(...)        S(-1, __VA_ARGS__)
#define S(least, ...) (&(const struct event_filter){.severity = (least), __VA_ARGS__})
        assert_seqs(w, w->ours, F(.node = NULL), "1 3 4 2 1 5");
        assert_seqs(w, w->theirs, F(.node = NULL), "6");
        assert_seqs(w, w->ours, F(.node = w->node), "3 2 1");
        assert_seqs(w, w->ours, F(.node = w->other), "");
        assert_seqs(w, w->ours, F(.name = "Repo Connectivity"), "4 2 1 5");
        assert_seqs(w, w->ours, F(.cause = "tcp.dropped"), "4 1");
        assert_seqs(w, w->theirs, F(.cause = "tcp.dropped"), "6");
        assert_seqs(w, w->theirs, F(.cause = "dns.refused"), "");
        assert_seqs(w, w->ours, F(.node = second, .cause = "tcp.dropped"), "4");
        assert_seqs(w, w->ours, F(.name = "DNS Resolution", .cause = "tcp.dropped"), "");
        assert_seqs(w, w->ours, F(.name = "Repo Connectivity", .node = w->node, .cause = "tcp.dropped"), "1");
        assert_seqs(w, w->ours, S(WIRE_INFO, .node = NULL), "1 3 4 2 1 5");
        assert_seqs(w, w->ours, S(WIRE_WARNING, .node = NULL), "1 3 4 1");
        assert_seqs(w, w->ours, S(WIRE_ERROR, .node = NULL), "3 4 1");
        assert_seqs(w, w->ours, S(WIRE_ERROR, .name = "Repo Connectivity"), "4 1");
        assert_seqs(w, w->ours, S(WIRE_ERROR, .cause = "dns.refused"), "3");
        /* From since, before until. */
        assert_seqs(w, w->ours, F(.since = NOW + 20), "1 3 4 2");
        assert_seqs(w, w->ours, F(.until = NOW + 20), "1 5");
        assert_seqs(w, w->ours, F(.since = NOW + 10, .until = NOW + 30), "4 2 1");
        assert_seqs(w, w->ours, F(.since = NOW + 30, .until = NOW + 10), "");
        assert_seqs(w, w->ours, F(.cause = "tcp.dropped", .since = NOW + 11, .until = NOW + 26), "4");
}

/* Many of one moment: every event on exactly one page, whatever comes meanwhile. */
static void check_pages(struct world *w, const struct event_filter *f, int64_t *next)
{
        struct page p = {.limit = 7};
        struct error e = {0};
        bool seen[60] = {false};
        char cursor[400] = "";
        json_t *list = NULL, *row;
        size_t i;

        do {
                must(plane_event_list(w->store, w->ours, f, &p, &list, &e), &e);
                json_array_foreach(items_of(list), i, row)
                {
                        long seq = strtol(strrchr(text_of(row, "id"), '.') + 1, NULL, 10);

                        if (seq >= 1000)
                                continue;
                        assert_in_range(seq, 1, 59);
                        assert_false(seen[seq]);
                        seen[seq] = true;
                }
                str_copy(cursor, sizeof cursor, text_of(list, "next"));
                p.after = cursor;
                json_decref(list);
                json_decref(world_event(w, w->node, ++*next, NOW + 100, "Repo Connectivity", "tcp.dropped"));
        } while (cursor[0]);
        for (i = 1; i < ELEMENTS(seen); i++)
                assert_true(seen[i]);
}

static void test_pages(void **state)
{
        struct world *w = *state;
        int64_t next = 1000;

        for (int64_t i = 1; i < 60; i++)
                json_decref(world_event(w, w->node, i, NOW + i / 20, "Repo Connectivity", "tcp.dropped"));
        check_pages(w, F(.node = NULL), &next);
        check_pages(w, F(.node = w->node), &next);
        check_pages(w, F(.cause = "tcp.dropped"), &next);
        check_pages(w, F(.name = "Repo Connectivity"), &next);
        check_pages(w, &(const struct event_filter){.severity = WIRE_ERROR}, &next);
}

/* A cursor that another list gave. */
static void test_cursor_of_another_list(void **state)
{
        struct world *w = *state;
        struct page p = {.limit = 1};
        struct error e = {0};
        json_t *list = NULL, *other = NULL;

        must(plane_audit_list(w->store, w->ours, &p, &list, &e), &e);
        p.after = text_of(list, "next");
        assert_string_not_equal(p.after, "");
        assert_int_equal(plane_event_list(w->store, w->ours, NULL, &p, &other, &e), -EINVAL);
        assert_int_equal(plane_report_list(w->store, w->ours, NULL, &p, &other, &e), -EINVAL);
        assert_int_equal(plane_node_list(w->store, w->ours, NULL, &p, &other, &e), -EINVAL);
        assert_null(other);
        json_decref(list);
}

/* ---- reports ---- */

static void test_reports(void **state)
{
        struct world *w = *state;
        struct wire_report r = {.epoch = "e-1",
                .seq = 13,
                .generated_unix_ms = NOW - 1,
                .trigger = (char *)"monitor",
                .report = json_pack(
                        "{s:s, s:s, s:i}", "verdict", "blocked", "summary", "443 is dropped", "schema", 1)};
        struct error e = {0};
        json_t *list = NULL, *got = NULL;
        char id[128];
        bool is_new = false;

        must(plane_report_add(w->store, w->node, &r, NOW, &is_new, &e), &e);
        assert_true(is_new);
        must(plane_report_add(w->store, w->node, &r, NOW, &is_new, &e), &e);
        assert_false(is_new);
        snprintf(id, sizeof id, "%s.e-1.13", w->node);
        must(plane_report_get(w->store, w->ours, id, &got, &e), &e);
        assert_string_equal(text_of(got, "id"), id);
        assert_string_equal(text_of(got, "trigger"), "monitor");
        assert_string_equal(text_of(got, "verdict"), "blocked");
        assert_true(json_equal(json_object_get(got, "report"), r.report));
        json_decref(got);
        got = NULL;
        assert_int_equal(plane_report_get(w->store, w->theirs, id, &got, &e), -ENOENT);
        assert_int_equal(plane_report_get(w->store, w->ours, "", &got, &e), -ENOENT);
        assert_int_equal(plane_report_get(w->store, w->ours, "..", &got, &e), -ENOENT);
        assert_int_equal(plane_report_get(w->store, w->ours, "a.b.99999999999999999999", &got, &e), -ENOENT);
        must(plane_report_list(w->store, w->ours, NULL, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 1);
        assert_null(json_object_get(json_array_get(items_of(list), 0), "report"));
        json_decref(list);
        must(plane_report_list(w->store, w->ours, w->node, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 1);
        json_decref(list);
        must(plane_report_list(w->store, w->theirs, NULL, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 0);
        json_decref(list);
        must(plane_report_list(w->store, w->theirs, w->node, NULL, &list, &e), &e);
        assert_int_equal(json_array_size(items_of(list)), 0);
        json_decref(list);
        r.seq = 0;
        assert_int_equal(plane_report_add(w->store, w->node, &r, NOW, &is_new, &e), -EINVAL);
        json_decref(r.report);
}

/* ---- failures ---- */

static void test_failures(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *list = NULL, *one;

        json_decref(world_event(w, w->node, 1, NOW + 1, "Repo Connectivity", "tcp.dropped"));
        json_decref(world_event(w, w->node, 2, NOW + 2, "Repo Connectivity", "tcp.reset"));
        json_decref(world_event(w, w->other, 1, NOW + 3, "Repo Connectivity", "tcp.dropped"));
        json_decref(world_event(w, w->other, 2, NOW + 4, "Repo Connectivity", NULL));
        must(plane_failures(w->store, &list, &e), &e);
        assert_int_equal(json_array_size(list), 1);
        one = json_array_get(list, 0);
        assert_string_equal(text_of(one, "organisation"), w->ours);
        assert_string_equal(text_of(one, "node"), w->node);
        assert_string_equal(text_of(one, "site"), "north");
        assert_string_equal(text_of(one, "service"), "repo");
        assert_int_equal(json_integer_value(json_object_get(one, "since_unix_ms")), NOW + 1);
        assert_string_equal(
                text_of(json_array_get(json_object_get(json_object_get(one, "diagnosis"), "causes"), 0),
                        "code"),
                "tcp.reset");
        json_decref(list);
        must(plane_node_remove(w->store, &w->us, w->ours, w->node, NOW, &e), &e);
        must(plane_failures(w->store, &list, &e), &e);
        assert_int_equal(json_array_size(list), 0);
        json_decref(list);
}

/* ---- speed ---- */

static double now_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* As the broker does it: 256 in a transaction. The bound is far below what it does, so that a busy machine
 * and a sanitizer do not fail it. */
static void test_thousands_a_second(void **state)
{
        struct world *w = *state;
        double began = now_s(), took;
        struct error e = {0};
        int64_t seq = 0;

        for (int batch = 0; batch < 16; batch++) {
                must(db_begin(plane_store_db(w->store), &e), &e);
                for (int i = 0; i < 256; i++) {
                        seq++;
                        json_decref(
                                world_event(w, w->node, seq, NOW + seq, "Repo Connectivity", "tcp.dropped"));
                }
                must(db_commit(plane_store_db(w->store), &e), &e);
        }
        took = now_s() - began;
        print_message("%.0f events a second\n", (double)seq / took);
        assert_true((double)seq / took > 600);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
                T(test_an_event_as_shown),
                T(test_again),
                T(test_refused),
                T(test_removed_node),
                T(test_own_events),
                T(test_filters),
                T(test_pages),
                T(test_cursor_of_another_list),
                T(test_reports),
                T(test_failures),
                T(test_thousands_a_second),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
