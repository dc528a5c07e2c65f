#include "plane/incidents.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#define T0     INT64_C(1795255320000) /* 2026-11-21T10:02:00Z */
#define MINUTE INT64_C(60000)

static const char *const range_texts[] = {"198.51.100.16/28", "203.0.113.192/28", "2001:db8:1::/48"};

static int setup(void **state)
{
        struct cidr ranges[ELEMENTS(range_texts)];

        for (size_t i = 0; i < ELEMENTS(range_texts); i++)
                assert_int_equal(cidr_parse(range_texts[i], &ranges[i]), 0);
        *state = incidents_new(ranges, ELEMENTS(range_texts));
        return 0;
}

static int teardown(void **state)
{
        assert_null(incidents_free(*state));
        assert_null(incidents_free(NULL));
        return 0;
}

static json_t *diagnosis(const char *code, const char *target)
{
        return json_pack("{s:s, s:[{s:s, s:s, s:[s]}]}", "verdict", "blocked", "causes", "code", code,
                "severity", "critical", "targets", target);
}

static void fails(struct incidents *i, const char *organisation, int node, int site, const char *code,
        const char *target, int64_t at)
{
        char id[32], name[32];
        json_t *d = diagnosis(code, target);

        snprintf(id, sizeof id, "n-%d", node);
        snprintf(name, sizeof name, "site-%d", site);
        incidents_report(i, organisation, id, name, "repo", d, at);
        json_decref(d);
}

static void drops(struct incidents *i, int node, int site, int64_t at)
{
        fails(i, "o-1", node, site, "tcp.dropped", "198.51.100.20:443", at);
}

static void works(struct incidents *i, int node, int64_t at)
{
        char id[32];

        snprintf(id, sizeof id, "n-%d", node);
        incidents_report(i, "o-1", id, "", "repo", NULL, at);
}

/* The only change, without its organisation, which must be the wanted one. */
static json_t *take_one(struct incidents *i, const char *organisation, int64_t at)
{
        json_t *changes = incidents_take_changes(i, at), *one;

        assert_int_equal(json_array_size(changes), 1);
        one = json_array_get(changes, 0);
        assert_string_equal(json_string_value(json_object_get(one, "organisation")), organisation);
        one = json_incref(json_object_get(one, "incident"));
        json_decref(changes);
        return one;
}

static void take_none(struct incidents *i, int64_t at)
{
        json_t *changes = incidents_take_changes(i, at);

        assert_int_equal(json_array_size(changes), 0);
        json_decref(changes);
}

static void assert_text(const json_t *incident, const char *member, const char *wanted)
{
        assert_non_null(json_string_value(json_object_get(incident, member)));
        assert_string_equal(json_string_value(json_object_get(incident, member)), wanted);
}

static void assert_number(const json_t *incident, const char *member, int wanted)
{
        assert_int_equal(json_integer_value(json_object_get(incident, member)), wanted);
}

static void test_31_nodes_of_4_sites(void **state)
{
        struct incidents *i = *state;
        json_t *incident;

        for (int n = 0; n < 31; n++)
                drops(i, n, n % 4, T0 + n * 1000);
        incident = take_one(i, "o-1", T0 + MINUTE);
        assert_text(incident, "summary", "31 nodes of 4 sites lost 198.51.100.16/28:443 since 10:02 UTC");
        assert_text(incident, "cause", "tcp.dropped");
        assert_text(incident, "target", "198.51.100.16/28:443");
        assert_text(incident, "since", "2026-11-21T10:02:00.000Z");
        assert_true(json_is_null(json_object_get(incident, "until")));
        assert_number(incident, "nodes", 31);
        assert_number(incident, "sites", 4);
        assert_number(incident, "still", 31);
        assert_int_equal(json_array_size(json_object_get(incident, "node_ids")), 31);
        json_decref(incident);
        take_none(i, T0 + 2 * MINUTE);
}

static void test_four_nodes_or_one_site_are_none(void **state)
{
        struct incidents *i = *state;
        json_t *incident;

        for (int n = 0; n < 4; n++)
                drops(i, n, n, T0);
        take_none(i, T0);
        for (int n = 10; n < 40; n++)
                fails(i, "o-1", n, 1, "tcp.reset", "198.51.100.20:443", T0);
        take_none(i, T0);
        fails(i, "o-1", 40, 2, "tcp.reset", "198.51.100.20:443", T0);
        incident = take_one(i, "o-1", T0);
        assert_number(incident, "nodes", 31);
        assert_number(incident, "sites", 2);
        json_decref(incident);
}

/* One node that fails again and again, of several services, is one node. */
static void test_flapping_node_counts_once(void **state)
{
        struct incidents *i = *state;
        json_t *d = diagnosis("tcp.dropped", "198.51.100.20:443"), *incident;

        drops(i, 1, 1, T0);
        drops(i, 2, 2, T0);
        drops(i, 3, 3, T0);
        for (int k = 0; k < 20; k++) {
                drops(i, 4, 4, T0 + k * 1000);
                drops(i, 4, 4, T0 + k * 1000);
                incidents_report(i, "o-1", "n-4", "site-4", "control", d, T0 + k * 1000);
                works(i, 4, T0 + k * 1000 + 500);
        }
        take_none(i, T0 + MINUTE);
        drops(i, 5, 5, T0 + MINUTE); /* "control" of node 4 still has it */
        incident = take_one(i, "o-1", T0 + MINUTE);
        assert_number(incident, "nodes", 5);
        json_decref(incident);
        /* Within the incident as well. */
        drops(i, 4, 4, T0 + 2 * MINUTE);
        works(i, 4, T0 + 2 * MINUTE);
        drops(i, 4, 4, T0 + 3 * MINUTE);
        take_none(i, T0 + 3 * MINUTE);
        json_decref(d);
}

static void test_what_is_not_the_same(void **state)
{
        struct incidents *i = *state;
        json_t *d;

        for (int n = 0; n < 4; n++) {
                drops(i, n, n, T0);
                fails(i, "o-1", 10 + n, n, "tcp.reset", "198.51.100.20:443", T0);    /* another cause */
                fails(i, "o-1", 20 + n, n, "tcp.dropped", "203.0.113.200:443", T0);  /* another range */
                fails(i, "o-1", 30 + n, n, "tcp.dropped", "198.51.100.20:8443", T0); /* another port */
                fails(i, "o-2", 40 + n, n, "tcp.dropped", "198.51.100.20:443", T0); /* another organisation */
                fails(i, "o-1", 50 + n, n, "tcp.dropped", "[2001:db8:1::1]:443", T0);
        }
        for (int n = 0; n < 10; n++) {
                fails(i, "o-1", 60 + n, n, "dns.refused", "10.0.0.1:53", T0); /* each site's own */
                fails(i, "o-1", 80 + n, n, "route.captured", "default", T0);
        }
        d = json_pack("{s:[{s:s, s:s, s:[s]}]}", "causes", "code", "tcp.slow", "severity", "warning",
                "targets", "198.51.100.20:443");
        for (int n = 0; n < 10; n++) {
                char id[16];

                snprintf(id, sizeof id, "w-%d", n);
                incidents_report(i, "o-1", id, id, "repo", d, T0);
        }
        json_decref(d);
        take_none(i, T0);
}

/* Any address of the range is the range. */
static void test_ranges(void **state)
{
        struct incidents *i = *state;
        json_t *incident;
        char target[64];

        for (int n = 0; n < 5; n++) {
                snprintf(target, sizeof target, "198.51.100.%d:443", 17 + n);
                fails(i, "o-1", n, n, "tcp.dropped", target, T0);
        }
        incident = take_one(i, "o-1", T0);
        assert_text(incident, "target", "198.51.100.16/28:443");
        json_decref(incident);
        for (int n = 0; n < 5; n++) {
                snprintf(target, sizeof target, "[2001:db8:1:%d::1]:443", n);
                fails(i, "o-1", n, n, "tcp.dropped", target, T0);
        }
        /* The same nodes have another one now: the first ends, a second begins. */
        json_t *changes = incidents_take_changes(i, T0);
        assert_int_equal(json_array_size(changes), 2);
        assert_text(json_object_get(json_array_get(changes, 1), "incident"), "summary",
                "5 nodes of 5 sites lost [2001:db8:1::/48]:443 since 10:02 UTC");
        json_decref(changes);
}

/* Failures that come one an hour are no incident; five within ten minutes are, beside older ones. */
static void test_window(void **state)
{
        struct incidents *i = *state;
        json_t *incident;

        for (int n = 0; n < 8; n++)
                drops(i, n, n, T0 - (int64_t)(8 - n) * 60 * MINUTE);
        take_none(i, T0);
        for (int n = 10; n < 14; n++)
                drops(i, n, n, T0);
        take_none(i, T0);
        drops(i, 14, 14, T0 + 10 * MINUTE + 1); /* too late for those four */
        take_none(i, T0 + 11 * MINUTE);
        for (int n = 20; n < 24; n++)
                drops(i, n, n, T0 + 12 * MINUTE);
        incident = take_one(i, "o-1", T0 + 12 * MINUTE);
        assert_number(incident, "nodes", 5); /* the old ones are something else */
        assert_text(incident, "since", "2026-11-21T10:12:00.001Z");
        json_decref(incident);
        works(i, 1, T0 + 13 * MINUTE);
        take_none(i, T0 + 13 * MINUTE);
}

static void test_it_grows_and_ends_and_begins_anew(void **state)
{
        struct incidents *i = *state;
        char id[64];
        json_t *incident;

        for (int n = 0; n < 5; n++)
                drops(i, n, n % 2, T0);
        incident = take_one(i, "o-1", T0);
        str_copy(id, sizeof id, json_string_value(json_object_get(incident, "id")));
        json_decref(incident);
        drops(i, 5, 7, T0 + 30 * MINUTE); /* long after: still the same */
        incident = take_one(i, "o-1", T0 + 30 * MINUTE);
        assert_text(incident, "id", id);
        assert_text(incident, "summary", "6 nodes of 3 sites lost 198.51.100.16/28:443 since 10:02 UTC");
        json_decref(incident);
        for (int n = 0; n < 4; n++)
                works(i, n, T0 + 38 * MINUTE);
        take_none(i, T0 + 38 * MINUTE); /* two still have it */
        works(i, 4, T0 + 38 * MINUTE);
        incident = take_one(i, "o-1", T0 + 38 * MINUTE);
        assert_text(incident, "id", id);
        assert_text(incident, "until", "2026-11-21T10:40:00.000Z");
        assert_number(incident, "nodes", 6);
        assert_number(incident, "still", 1);
        assert_text(
                incident, "summary", "6 nodes of 3 sites lost 198.51.100.16/28:443 from 10:02 to 10:40 UTC");
        json_decref(incident);
        works(i, 5, T0 + 39 * MINUTE);
        take_none(i, T0 + 39 * MINUTE);
        for (int n = 0; n < 5; n++)
                drops(i, n, n, T0 + 60 * MINUTE);
        incident = take_one(i, "o-1", T0 + 60 * MINUTE);
        assert_string_not_equal(json_string_value(json_object_get(incident, "id")), id);
        assert_text(incident, "since", "2026-11-21T11:02:00.000Z");
        json_decref(incident);
}

/* Nodes that were cut off altogether tell of it when it is over, one after the other. */
static void test_told_when_it_is_over(void **state)
{
        struct incidents *i = *state;
        char id[64] = "";

        for (int n = 0; n < 31; n++) {
                json_t *changes, *incident;

                drops(i, n, n % 4, T0 + (n * 7 % 31) * 1000);
                works(i, n, T0 + 20 * MINUTE + (n * 5 % 31) * 1000);
                changes = incidents_take_changes(i, T0 + 25 * MINUTE);
                assert_int_equal(json_array_size(changes), n < 4 ? 0 : 1);
                incident = json_object_get(json_array_get(changes, 0), "incident");
                if (n == 4)
                        str_copy(id, sizeof id, json_string_value(json_object_get(incident, "id")));
                if (n >= 4) {
                        assert_text(incident, "id", id);
                        assert_number(incident, "nodes", n + 1);
                        assert_number(incident, "still", 0);
                        assert_true(json_is_string(json_object_get(incident, "until")));
                }
                if (n == 30) {
                        assert_text(incident, "summary",
                                "31 nodes of 4 sites lost 198.51.100.16/28:443 from 10:02 to 10:22 UTC");
                        assert_text(incident, "since", "2026-11-21T10:02:00.000Z");
                        assert_text(incident, "until", "2026-11-21T10:22:30.000Z");
                }
                json_decref(changes);
        }
        take_none(i, T0 + 26 * MINUTE);
}

/* As above, but each tells of its end a while after its beginning, so that some tell of both at once. */
static void test_told_late_and_mixed(void **state)
{
        struct incidents *i = *state;
        json_t *incident = NULL, *changes;
        char id[64] = "";

        for (int n = 0; n < 20; n++) {
                if (n < 17)
                        drops(i, n, n % 4, T0);
                if (n >= 3)
                        works(i, n - 3, T0 + 20 * MINUTE);
                changes = incidents_take_changes(i, T0 + 25 * MINUTE);
                assert_true(json_array_size(changes) <= 1);
                if (json_array_size(changes)) {
                        json_decref(incident);
                        incident = json_incref(json_object_get(json_array_get(changes, 0), "incident"));
                        if (!id[0])
                                str_copy(id, sizeof id, json_string_value(json_object_get(incident, "id")));
                        assert_text(incident, "id", id);
                }
                json_decref(changes);
        }
        assert_text(
                incident, "summary", "17 nodes of 4 sites lost 198.51.100.16/28:443 from 10:02 to 10:22 UTC");
        json_decref(incident);
}

/* Within ten minutes, but one after the other: that is not the same time. */
static void test_one_after_the_other(void **state)
{
        struct incidents *i = *state;

        for (int n = 0; n < 9; n++) {
                drops(i, n, n, T0 + n * MINUTE);
                works(i, n, T0 + n * MINUTE + MINUTE - 1);
                take_none(i, T0 + (n + 1) * MINUTE);
        }
}

/* What is over is not kept for ever, and what begins again soon is the same. */
static void test_what_is_over(void **state)
{
        struct incidents *i = *state;
        char id[64];
        json_t *incident;

        for (int n = 0; n < 4; n++) {
                drops(i, n, n, T0);
                works(i, n, T0 + 5 * MINUTE);
        }
        take_none(i, T0 + 5 * MINUTE);
        take_none(i, T0 + 15 * MINUTE); /* forgotten */
        drops(i, 4, 4, T0);
        take_none(i, T0 + 15 * MINUTE);
        for (int n = 0; n < 4; n++)
                drops(i, n, n, T0 + MINUTE);
        incident = take_one(i, "o-1", T0 + 16 * MINUTE);
        str_copy(id, sizeof id, json_string_value(json_object_get(incident, "id")));
        assert_number(incident, "nodes", 5);
        json_decref(incident);
        for (int n = 0; n < 5; n++)
                works(i, n, T0 + 17 * MINUTE);
        incident = take_one(i, "o-1", T0 + 17 * MINUTE);
        assert_text(incident, "until", "2026-11-21T10:19:00.000Z");
        json_decref(incident);
        drops(i, 7, 7, T0 + 20 * MINUTE);
        incident = take_one(i, "o-1", T0 + 20 * MINUTE);
        assert_text(incident, "id", id);
        assert_number(incident, "nodes", 6);
        assert_text(incident, "until", "2026-11-21T10:19:00.000Z");
        json_decref(incident);
        drops(i, 8, 8, T0 + 21 * MINUTE);
        incident = take_one(i, "o-1", T0 + 21 * MINUTE);
        assert_text(incident, "id", id);
        assert_text(incident, "summary", "7 nodes of 7 sites lost 198.51.100.16/28:443 since 10:02 UTC");
        json_decref(incident);
        works(i, 7, T0 + 22 * MINUTE);
        json_decref(take_one(i, "o-1", T0 + 22 * MINUTE));
        works(i, 8, T0 + 23 * MINUTE); /* the last one tells nothing new */
        take_none(i, T0 + 23 * MINUTE);
        take_none(i, T0 + 33 * MINUTE);
        for (int n = 0; n < 5; n++)
                drops(i, n, n, T0 + 34 * MINUTE);
        incident = take_one(i, "o-1", T0 + 34 * MINUTE);
        assert_string_not_equal(json_string_value(json_object_get(incident, "id")), id);
        json_decref(incident);
}

/* The day is told when it is another one. */
static void test_day(void **state)
{
        struct incidents *i = *state;
        json_t *incident;

        for (int n = 0; n < 5; n++)
                drops(i, n, n, T0);
        incident = take_one(i, "o-1", T0 + 24 * 60 * MINUTE);
        assert_text(incident, "summary",
                "5 nodes of 5 sites lost 198.51.100.16/28:443 since 2026-11-21 10:02 UTC");
        json_decref(incident);
}

static void test_two_organisations(void **state)
{
        struct incidents *i = *state;
        json_t *changes;

        for (int n = 0; n < 5; n++) {
                drops(i, n, n, T0);
                fails(i, "o-2", n, n, "tcp.dropped", "198.51.100.20:443", T0); /* ids alike */
        }
        changes = incidents_take_changes(i, T0);
        assert_int_equal(json_array_size(changes), 2);
        json_decref(changes);
        for (int n = 0; n < 5; n++)
                works(i, n, T0); /* of o-1 */
        json_decref(take_one(i, "o-1", T0));
        incidents_forget(i, "o-1", "n-1");
        take_none(i, T0);
        for (int n = 0; n < 4; n++) {
                char id[16];

                snprintf(id, sizeof id, "n-%d", n);
                incidents_forget(i, "o-2", id);
        }
        json_decref(take_one(i, "o-2", T0));
}

/* Of several causes and targets each counts. */
static void test_many_causes(void **state)
{
        struct incidents *i = *state;
        json_t *d = json_pack("{s:[{s:s, s:[s,s,s]}, {s:s, s:[s]}]}", "causes", "code", "tcp.dropped",
                "targets", "198.51.100.20:443", "198.51.100.21:443", "203.0.113.200:443", "code",
                "tls.intercepted", "targets", "198.51.100.20:443");
        json_t *changes;

        for (int n = 0; n < 5; n++) {
                char id[16];

                snprintf(id, sizeof id, "n-%d", n);
                incidents_report(i, "o-1", id, "", "repo", d, T0); /* without a site */
        }
        changes = incidents_take_changes(i, T0);
        assert_int_equal(json_array_size(changes), 3);
        assert_number(json_object_get(json_array_get(changes, 0), "incident"), "nodes", 5);
        assert_number(json_object_get(json_array_get(changes, 0), "incident"), "sites", 5);
        json_decref(changes);
        json_decref(d);
}

static void test_odd_diagnoses(void **state)
{
        struct incidents *i = *state;
        static const char *const texts[] = {"{}", "{\"causes\":5}", "{\"causes\":[1,null,{}]}",
                "{\"causes\":[{\"code\":7,\"targets\":[\"198.51.100.20:443\"]}]}",
                "{\"causes\":[{\"code\":\"x\",\"targets\":\"198.51.100.20:443\"}]}",
                "{\"causes\":[{\"code\":\"x\",\"targets\":[null,\"\",\"x:y:z\",\"198.51.100.20:99999\"]}]}"};

        for (size_t k = 0; k < ELEMENTS(texts); k++)
                for (int n = 0; n < 10; n++) {
                        json_t *d = json_loads(texts[k], 0, NULL);
                        char id[16];

                        snprintf(id, sizeof id, "n-%d", n);
                        incidents_report(i, "o-1", id, id, "repo", d, T0);
                        json_decref(d);
                }
        take_none(i, T0);
}

/* After a restart it goes on under its id when its nodes are there again; otherwise it ends. */
static void test_resume(void **state)
{
        struct incidents *i = *state;
        json_t *known, *incident;
        void *next;

        for (int n = 0; n < 8; n++)
                drops(i, n, n % 4, T0);
        works(i, 7, T0);
        known = take_one(i, "o-1", T0);
        setup(&next);
        incidents_resume(next, "o-1", known);
        for (int n = 0; n < 3; n++)
                drops(next, n, n % 4, T0);
        incident = take_one(next, "o-1", T0 + MINUTE);
        assert_text(incident, "id", json_string_value(json_object_get(known, "id")));
        assert_text(incident, "summary", "8 nodes of 4 sites lost 198.51.100.16/28:443 since 10:02 UTC");
        assert_number(incident, "still", 3);
        json_decref(incident);
        works(next, 0, T0 + MINUTE);
        works(next, 1, T0 + MINUTE);
        incident = take_one(next, "o-1", T0 + MINUTE);
        assert_text(incident, "until", "2026-11-21T10:03:00.000Z");
        json_decref(incident);
        teardown(&next);

        setup(&next);
        incidents_resume(next, "o-1", known);
        incidents_resume(next, "o-1", known);
        incident = take_one(next, "o-1", T0 + MINUTE);
        assert_text(incident, "until", "2026-11-21T10:03:00.000Z");
        json_decref(incident);
        take_none(next, T0 + MINUTE);
        json_object_set_new(known, "since", json_integer(5));
        incidents_resume(next, "o-1", known);
        incidents_resume(next, "o-1", NULL);
        take_none(next, T0 + MINUTE);
        teardown(&next);
        json_decref(known);
}

/* Names of services without end, causes without end: bounded. */
static void test_bounded(void **state)
{
        struct incidents *i = *state;
        char name[200], target[64];

        for (int n = 0; n < 300; n++) {
                json_t *d;

                snprintf(target, sizeof target, "198.51.100.20:%d", 1 + n);
                d = diagnosis("tcp.dropped", target);
                snprintf(name, sizeof name, "service-%d", n);
                incidents_report(i, "o-1", "n-1", "s", name, d, T0);
                memset(name, 'x', sizeof name - 1);
                name[sizeof name - 1] = 0;
                incidents_report(i, "o-1", "n-1", "s", name, d, T0);
                incidents_report(i, "o-1", name, "s", "repo", d, T0);
                incidents_report(i, name, "n-1", "s", "repo", d, T0);
                incidents_report(i, "o-1", "n-2", name, "repo", d, T0);
                json_decref(d);
        }
        take_none(i, T0);
        incidents_forget(i, "o-1", "n-1");
        incidents_forget(i, "o-1", "n-none");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(test_31_nodes_of_4_sites),
                T(test_four_nodes_or_one_site_are_none),
                T(test_flapping_node_counts_once),
                T(test_what_is_not_the_same),
                T(test_ranges),
                T(test_window),
                T(test_it_grows_and_ends_and_begins_anew),
                T(test_told_when_it_is_over),
                T(test_told_late_and_mixed),
                T(test_one_after_the_other),
                T(test_what_is_over),
                T(test_day),
                T(test_two_organisations),
                T(test_many_causes),
                T(test_odd_diagnoses),
                T(test_resume),
                T(test_bounded),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
