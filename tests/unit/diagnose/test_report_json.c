// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "diagnose/report.h"
#include "golden.h"
#include "reports.h"

#include "base/alloc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static json_t *json_of(void (*build)(struct report *ret))
{
        struct report r;
        json_t *j;

        build(&r);
        j = report_to_json(&r);
        report_done(&r);
        return j;
}

static const char *word(const json_t *j, const char *member)
{
        return json_string_value(json_object_get(j, member));
}

static json_t *first_cause(const json_t *j)
{
        return json_array_get(json_object_get(j, "causes"), 0);
}

static void test_members_in_order(void **state)
{
        static const char *const members[] = {"schema", "node", "profile", "started", "elapsed_ms", "source",
                "verdict", "summary", "services", "causes", "measurements"};
        json_t *j = json_of(report_dropped);
        const char *key;
        json_t *v;
        size_t i = 0;

        (void)state;
        json_object_foreach(j, key, v)
        {
                assert_true(i < sizeof members / sizeof members[0]);
                assert_string_equal(key, members[i++]);
        }
        assert_int_equal(i, sizeof members / sizeof members[0]);
        assert_string_equal(word(j, "started"), "2026-11-21T03:00:00.000Z");
        assert_string_equal(word(j, "verdict"), "blocked");
        assert_string_equal(word(json_object_get(j, "source"), "interface"), "eth0");
        json_decref(j);
}

static void test_cause_members(void **state)
{
        json_t *j = json_of(report_dropped), *c = first_cause(j);

        (void)state;
        assert_string_equal(word(c, "code"), "tcp.dropped");
        assert_true(json_is_null(json_object_get(c, "by")));
        assert_string_equal(word(json_object_get(c, "after"), "address"), "192.0.2.1");
        assert_int_equal(json_integer_value(json_object_get(json_object_get(c, "after"), "hop")), 1);
        assert_null(json_object_get(c, "interface"));
        assert_null(json_object_get(c, "interceptor"));
        assert_null(json_object_get(c, "candidates"));
        json_decref(j);

        j = json_of(report_captured);
        c = first_cause(j);
        assert_string_equal(word(c, "interface"), "eth1");
        assert_string_equal(word(c, "route"), "198.51.100.48/28 via 10.20.0.1");
        assert_true(json_is_true(json_object_get(c, "configured")));
        json_decref(j);

        j = json_of(report_intercepted);
        assert_string_equal(word(first_cause(j), "interceptor"), "Fortinet");
        json_decref(j);

        j = json_of(report_undetermined);
        assert_int_equal(json_array_size(json_object_get(first_cause(j), "candidates")), 2);
        json_decref(j);
}

static void test_unknown_is_null(void **state)
{
        struct report r = {0};
        json_t *j = report_to_json(&r), *source = json_object_get(j, "source");

        (void)state;
        assert_true(json_is_null(json_object_get(j, "profile")));
        assert_true(json_is_null(json_object_get(source, "interface")));
        assert_true(json_is_null(json_object_get(source, "address")));
        json_decref(j);
}

/* What is stored and read back is the same frame and the same measurements. */
static void test_replay(void **state)
{
        static void (*const all[])(struct report *) = {
                report_healthy, report_dropped, report_captured, report_intercepted, report_many};

        (void)state;
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
                json_t *stored = json_of(all[i]), *again;
                char *text = json_dumps(stored, 0);
                struct error error = {0};
                struct report r;
                size_t k;
                json_t *m;

                if (report_from_json_text(text, strlen(text), &r, &error) < 0)
                        fail_msg("%s", error.text);
                again = report_to_json(&r);
                assert_string_equal(word(again, "node"), word(stored, "node"));
                assert_string_equal(word(again, "profile"), word(stored, "profile"));
                assert_string_equal(word(again, "started"), word(stored, "started"));
                assert_true(json_equal(json_object_get(again, "source"), json_object_get(stored, "source")));
                json_array_foreach(json_object_get(stored, "measurements"), k, m)
                {
                        json_t *n = json_array_get(json_object_get(again, "measurements"), k);

                        /* Whether it counts is concluded anew. */
                        json_object_del(m, "status");
                        json_object_del(n, "status");
                        json_object_del(json_object_get(m, "detail"), "voided_by");
                        json_object_del(json_object_get(n, "detail"), "voided_by");
                        json_object_del(json_object_get(m, "detail"), "reason");
                        json_object_del(json_object_get(n, "detail"), "reason");
                        assert_true(json_equal(m, n));
                }
                report_done(&r);
                json_decref(again);
                json_decref(stored);
                free(text);
        }
}

#define FRAME "\"schema\":1,\"node\":\"n\",\"started\":\"2026-11-21T03:00:00.000Z\",\"elapsed_ms\":1"

static void test_bad_input_names_the_member(void **state)
{
        static const struct {
                const char *text, *says;
        } rows[] = {
                {"", "line"},
                {"{", "line 1"},
                {"[]", "not a JSON object"},
                {"{}", "schema"},
                {"{\"schema\":2}", "schema"},
                {"{\"schema\":1,\"schema\":1}", "line 1"},
                {"{\"schema\":1}", "\"node\""},
                {"{\"schema\":1,\"node\":5}", "\"node\""},
                {"{\"schema\":1,\"node\":\"a\\u0000b\"}", "line 1"},
                {"{\"schema\":1,\"node\":\"n\",\"profile\":[]}", "\"profile\""},
                {"{\"schema\":1,\"node\":\"n\",\"started\":\"yesterday\"}", "\"started\""},
                {"{\"schema\":1,\"node\":\"n\",\"started\":\"2026-11-21T03:00:00.000Z\"}", "\"elapsed_ms\""},
                {"{\"schema\":1,\"node\":\"n\",\"started\":\"2026-11-21T03:00:00.000Z\",\"elapsed_ms\":-1}",
                        "\"elapsed_ms\""},
                {"{" FRAME "}", "\"measurements\""},
                {"{" FRAME ",\"measurements\":{}}", "\"measurements\""},
                {"{" FRAME ",\"source\":3,\"measurements\":[]}", "\"source\""},
                {"{" FRAME ",\"source\":{\"address\":\"there\"},\"measurements\":[]}", "source.address"},
                {"{" FRAME ",\"source\":{\"interface\":\"a-very-long-interface\"},\"measurements\":[]}",
                        "source.interface"},
                {"{" FRAME ",\"measurements\":[{}]}", "measurements[0]"},
                {"{" FRAME
                 ",\"measurements\":[{\"kind\":\"tcp\",\"outcome\":\"ok\",\"target\":\"192.0.2.1:1\","
                 "\"detail\":{\"local_port\":70000}}]}",
                        "local_port"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                struct report r = {.elapsed_ms = 42};
                struct error error = {0};

                assert_true(report_from_json_text(rows[i].text, strlen(rows[i].text), &r, &error) < 0);
                if (!strstr(error.text, rows[i].says))
                        fail_msg("%s: %s", rows[i].text, error.text);
                assert_true(r.elapsed_ms == 42); /* untouched */
        }
}

static void test_least_report(void **state)
{
        static const char text[] = "{" FRAME ",\"measurements\":[],\"more\":true}";
        struct error error = {0};
        struct report r;

        (void)state;
        assert_int_equal(report_from_json_text(text, strlen(text), &r, &error), 0);
        assert_string_equal(r.node, "n");
        assert_string_equal(r.profile, "");
        assert_int_equal(r.measurements.count, 0);
        report_done(&r);
}

static void test_bounds(void **state)
{
        struct text t = {0};
        struct error error = {0};
        struct report r;

        (void)state;
        assert_true(report_from_json_text("", ((size_t)64 << 20) + 1, &r, &error) < 0);
        assert_non_null(strstr(error.text, "64 MiB"));
        text_add(&t, "{" FRAME ",\"measurements\":[0");
        for (int i = 0; i < 100000; i++)
                text_add(&t, ",0");
        text_add(&t, "]}");
        assert_true(report_from_json_text(text_string(&t), t.length, &r, &error) < 0);
        assert_non_null(strstr(error.text, "100001 measurements"));
        text_done(&t);
        /* Nesting that would exhaust a stack. */
        for (int i = 0; i < 100000; i++)
                text_add(&t, "[");
        assert_true(report_from_json_text(text_string(&t), t.length, &r, &error) < 0);
        text_done(&t);
}

static void test_schema_knows_every_code(void **state)
{
        char *data = golden_source_file("docs/diag.schema.json");
        json_t *schema = json_loads(data, 0, NULL), *codes = NULL;
        size_t i;
        json_t *code;

        (void)state;
        assert_non_null(schema);
        json_unpack(schema, "{s:{s:{s:{s:{s:o}}}}}", "definitions", "cause", "properties", "code", "enum",
                &codes);
        assert_int_equal(json_array_size(codes), CAUSE_COUNT);
        json_array_foreach(codes, i, code)
                assert_string_equal(json_string_value(code), cause_info((int)i)->text);
        json_decref(schema);
        free(data);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_members_in_order),
                cmocka_unit_test(test_cause_members),
                cmocka_unit_test(test_unknown_is_null),
                cmocka_unit_test(test_replay),
                cmocka_unit_test(test_bad_input_names_the_member),
                cmocka_unit_test(test_least_report),
                cmocka_unit_test(test_bounds),
                cmocka_unit_test(test_schema_knows_every_code),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
