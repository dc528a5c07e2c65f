#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "payload.h"

static json_t *parse(const char *text)
{
        json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);

        assert_non_null(j);
        return j;
}

static void assert_short(const char *report, const char *wanted)
{
        json_auto_t *j = parse(report);

        ASSERT_WRITES(wire_diagnosis(j), wanted);
}

static void test_whole(void **state)
{
        (void)state;
        assert_short(
                "{\"schema\":1,\"node\":\"x\",\"verdict\":\"blocked\",\"summary\":\"s\",\"services\":[],"
                "\"causes\":[{"
                "\"code\":\"tcp.dropped\",\"severity\":\"critical\",\"services\":[\"repo\"],\"targets\":["
                "\"198.51.100.20:443\"],\"by\":null,\"after\":{\"address\":\"192.0.2.1\",\"hop\":1},"
                "\"interface\":"
                "\"eth1\",\"route\":\"198.51.100.0/24 via "
                "10.20.0.1\",\"configured\":true,\"interceptor\":\"F\","
                "\"candidates\":[\"a\"],\"summary\":\"cs\",\"remedy\":\"r\",\"fixed_by\":\"site\","
                "\"evidence\":[3]}],"
                "\"measurements\":[{}]}",
                "{\"verdict\":\"blocked\",\"summary\":\"s\",\"causes\":[{\"code\":\"tcp.dropped\","
                "\"severity\":"
                "\"critical\",\"summary\":\"cs\",\"remedy\":\"r\",\"fixed_by\":\"site\",\"interface\":"
                "\"eth1\",\"route\":"
                "\"198.51.100.0/24 via "
                "10.20.0.1\",\"interceptor\":\"F\",\"services\":[\"repo\"],\"targets\":["
                "\"198.51.100.20:443\"],\"candidates\":[\"a\"],\"after\":{\"address\":\"192.0.2.1\",\"hop\":"
                "1}}]}");
}

static void test_wrong_types(void **state)
{
        (void)state;
        assert_short("{\"verdict\":\"healthy\"}", "{\"verdict\":\"healthy\",\"causes\":[]}");
        assert_short("{\"verdict\":7,\"summary\":[],\"causes\":[]}", "{\"causes\":[]}");
        assert_short("{\"verdict\":\"x\",\"causes\":{\"a\":1}}", "{\"verdict\":\"x\",\"causes\":[]}");
        assert_short("{\"causes\":[7,null,\"x\",[],{\"code\":7,\"services\":\"x\",\"targets\":[1,\"t\",null],"
                     "\"by\":\"x\","
                     "\"after\":{\"address\":1,\"hop\":\"2\"},\"route\":null,\"interface\":\"\"}]}",
                "{\"causes\":[{\"targets\":[\"t\"],\"after\":{}}]}");
}

static void test_no_report(void **state)
{
        static const char *const none[] = {
                "{}", "[]", "7", "\"x\"", "null", "{\"verdict\":1}", "{\"causes\":{}}"};

        (void)state;
        assert_null(wire_diagnosis(NULL));
        for (size_t i = 0; i < ELEMENTS(none); i++) {
                json_auto_t *j = parse(none[i]);

                assert_null(wire_diagnosis(j));
        }
}

static json_t *report_of(size_t causes, size_t targets, const char *text)
{
        json_t *j = json_pack("{s:s}", "verdict", "blocked"), *list = json_array();

        for (size_t i = 0; i < causes; i++) {
                json_t *cause = json_pack("{s:s,s:s}", "code", "x", "summary", text), *array = json_array();

                for (size_t k = 0; k < targets; k++)
                        json_array_append_new(array, json_string("198.51.100.20:443"));
                json_object_set_new(cause, "targets", array);
                json_array_append_new(list, cause);
        }
        json_object_set_new(j, "causes", list);
        return j;
}

static void test_bounds(void **state)
{
        json_auto_t *report = report_of(20, 200, "s"), *diagnosis = wire_diagnosis(report);
        const json_t *causes = json_object_get(diagnosis, "causes");

        (void)state;
        assert_int_equal(json_array_size(causes), 8);
        assert_int_equal(json_array_size(json_object_get(json_array_get(causes, 7), "targets")), 64);
}

/* Cut at 2048 bytes, never within a character. */
static void test_long_text(void **state)
{
        char text[4001];

        (void)state;
        for (int shift = 0; shift < 2; shift++) {
                json_auto_t *report = NULL, *diagnosis = NULL;
                const char *s;

                memset(text, 'x', sizeof text);
                for (size_t i = (size_t)shift; i + 2 < sizeof text; i += 2)
                        memcpy(text + i, "\xc3\xa9", 2);
                text[3000] = '\0';
                if (shift)
                        text[2999] = '\0';
                report = report_of(1, 0, text);
                diagnosis = wire_diagnosis(report);
                s = json_string_value(
                        json_object_get(json_array_get(json_object_get(diagnosis, "causes"), 0), "summary"));
                assert_non_null(s);
                assert_int_equal(strlen(s), shift ? 2047 : 2048);
                assert_memory_equal(s, text, strlen(s));
        }
}

/* Whatever comes, an event can carry it. */
static void test_total(void **state)
{
        char controls[2049];
        json_auto_t *report = NULL, *diagnosis = NULL;

        (void)state;
        memset(controls, 1, sizeof controls - 1); /* six bytes each in JSON */
        controls[sizeof controls - 1] = '\0';
        report = report_of(8, 64, controls);
        diagnosis = wire_diagnosis(report);
        assert_in_range(json_dumpb(diagnosis, NULL, 0, JSON_COMPACT), 12000, WIRE_EVENT_MAXIMUM / 2);
        assert_in_range(json_array_size(json_object_get(diagnosis, "causes")), 1, 7);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole),
                cmocka_unit_test(test_wrong_types),
                cmocka_unit_test(test_no_report),
                cmocka_unit_test(test_bounds),
                cmocka_unit_test(test_long_text),
                cmocka_unit_test(test_total),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
