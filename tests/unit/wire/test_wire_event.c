#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "payload.h"

#define BEGIN "{\"schema\":1,\"epoch\":\"e-1\",\"seq\":7,\"generated\":\"2026-11-21T03:00:00.007Z\","

static const char event[] =
        BEGIN "\"name\":\"Repo Connectivity\",\"severity\":\"ERROR\",\"message\":\"Repo connectivity "
              "failed\",\"service\":"
              "\"repo\",\"diagnosis\":{\"verdict\":\"blocked\",\"causes\":[]},\"report\":6}";
static const char small_event[] = BEGIN "\"name\":\"Node Connect\",\"severity\":\"INFO\",\"message\":\"\"}";
static const char report[] =
        BEGIN "\"trigger\":\"monitor\",\"report\":{\"schema\":1,\"verdict\":\"healthy\"}}";

static void test_event(void **state)
{
        struct wire_event e;

        (void)state;
        PARSE(wire_event_parse, event, &e);
        assert_string_equal(e.epoch, "e-1");
        assert_int_equal(e.seq, 7);
        assert_int_equal(e.generated_unix_ms, 1795230000007);
        assert_string_equal(e.name, EVENT_REPO_CONNECTIVITY);
        assert_string_equal(e.message, "Repo connectivity failed");
        assert_int_equal(e.severity, WIRE_ERROR);
        assert_string_equal(e.service, "repo");
        assert_string_equal(json_string_value(json_object_get(e.diagnosis, "verdict")), "blocked");
        assert_int_equal(e.report_seq, 6);
        ASSERT_WRITES(wire_event_to_json(&e), event);
        wire_event_done(&e);
        assert_null(e.name);
        wire_event_done(&e);
}

static void test_small_event(void **state)
{
        struct wire_event e;

        (void)state;
        PARSE(wire_event_parse, small_event, &e);
        assert_null(e.service);
        assert_null(e.diagnosis);
        assert_int_equal(e.report_seq, 0);
        ASSERT_WRITES(wire_event_to_json(&e), small_event);
        wire_event_done(&e);
        /* A newer node's members. */
        PARSE(wire_event_parse,
                BEGIN
                "\"name\":\"x\",\"severity\":\"INFO\",\"message\":\"\",\"new\":{\"x\":[1]},\"service\":null}",
                &e);
        wire_event_done(&e);
}

static const char update_event[] =
        BEGIN "\"name\":\"Software Update\",\"severity\":\"INFO\",\"message\":\"started\","
              "\"update\":{\"job\":{\"id\":\"u-1\"},\"status\":\"In Progress\"}}";

static void test_event_of_an_update(void **state)
{
        struct wire_event e;

        (void)state;
        PARSE(wire_event_parse, update_event, &e);
        assert_string_equal(e.name, EVENT_UPDATE);
        assert_string_equal(json_string_value(json_object_get(e.update, "status")), "In Progress");
        ASSERT_WRITES(wire_event_to_json(&e), update_event);
        wire_event_done(&e);
        assert_null(e.update);
}

static void test_event_refused(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":2}", "event: member 'schema' is 2, not between 1 and 1"},
                {"{}", "event: member 'schema' is missing"},
                {"{\"schema\":1,\"epoch\":\"E\"}", "event: member 'epoch' is not an id"},
                {"{\"schema\":1,\"epoch\":\"../x\"}", "event: member 'epoch' is not an id"},
                {"{\"schema\":1,\"epoch\":\"e\",\"seq\":0}",
                        "event: member 'seq' is 0, not between 1 and 9223372036854775807"},
                {"{\"schema\":1,\"epoch\":\"e\",\"seq\":1.5}", "event: member 'seq' is not an integer"},
                {"{\"schema\":1,\"epoch\":\"e\",\"seq\":1,\"generated\":7}",
                        "event: member 'generated' is not a text"},
                {BEGIN "\"name\":\"\"}", "event: member 'name' is empty"},
                {BEGIN "\"name\":\"x\",\"severity\":\"error\"}",
                        "event: member 'severity' is not INFO, WARNING or ERROR"},
                {BEGIN "\"name\":\"x\",\"severity\":\"INFO\"}", "event: member 'message' is missing"},
                {BEGIN "\"name\":\"x\",\"severity\":\"INFO\",\"message\":\"\",\"diagnosis\":[]}",
                        "event: member 'diagnosis' is not an object"},
                {BEGIN "\"name\":\"x\",\"severity\":\"INFO\",\"message\":\"\",\"report\":-1}",
                        "event: member 'report' is -1, not between 0 and 9223372036854775807"},
                {"[]", "event: no JSON object"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_event_parse, struct wire_event, cases);
        ASSERT_BEARS_HARM(wire_event_parse, wire_event_done, struct wire_event, event);
}

static void test_event_too_large(void **state)
{
        _cleanup_free_ char *text = calloc(1, WIRE_EVENT_MAXIMUM + 2);
        struct wire_event e;

        (void)state;
        assert_non_null(text);
        memset(text, ' ', WIRE_EVENT_MAXIMUM + 1);
        memcpy(text, small_event, strlen(small_event));
        assert_int_equal(wire_event_parse(text, WIRE_EVENT_MAXIMUM, &e, NULL), 0);
        wire_event_done(&e);
        ASSERT_REFUSED(wire_event_parse, struct wire_event, text, WIRE_EVENT_MAXIMUM + 1, EFBIG,
                "event: 65537 bytes, more than the 65536 allowed");
}

/* What a writer is given is not always UTF-8. */
static void test_event_of_odd_bytes(void **state)
{
        struct wire_event e = {.epoch = "e", .seq = 1, .name = (char *)"x", .message = (char *)"caf\xe9"};
        struct wire_event back;
        _cleanup_free_ char *text = NULL;
        json_t *j = wire_event_to_json(&e);

        (void)state;
        text = json_to_text(j);
        json_decref(j);
        PARSE(wire_event_parse, text, &back);
        assert_string_equal(back.message, "caf\\xe9");
        wire_event_done(&back);
}

static void test_severities(void **state)
{
        enum wire_severity s = WIRE_ERROR;

        (void)state;
        for (int i = WIRE_INFO; i <= WIRE_ERROR; i++) {
                assert_int_equal(
                        wire_severity_from_string(wire_severity_to_string((enum wire_severity)i), &s), 0);
                assert_int_equal(s, i);
        }
        assert_int_equal(wire_severity_from_string("", &s), -EINVAL);
        assert_int_equal(wire_severity_from_string(NULL, &s), -EINVAL);
}

static void test_report(void **state)
{
        static const struct payload_case cases[] = {
                {BEGIN "\"trigger\":\"\",\"report\":{}}", "report: member 'trigger' is empty"},
                {BEGIN "\"trigger\":\"x\",\"report\":[]}", "report: member 'report' is not an object"},
                {BEGIN "\"trigger\":\"x\"}", "report: member 'report' is missing"},
        };
        struct wire_report r;

        (void)state;
        PARSE(wire_report_parse, report, &r);
        assert_string_equal(r.epoch, "e-1");
        assert_int_equal(r.seq, 7);
        assert_int_equal(r.generated_unix_ms, 1795230000007);
        assert_string_equal(r.trigger, "monitor");
        assert_string_equal(json_string_value(json_object_get(r.report, "verdict")), "healthy");
        ASSERT_WRITES(wire_report_to_json(&r), report);
        wire_report_done(&r);
        assert_null(r.report);
        ASSERT_CASES_REFUSED(wire_report_parse, struct wire_report, cases);
        ASSERT_BEARS_HARM(wire_report_parse, wire_report_done, struct wire_report, report);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_event),
                cmocka_unit_test(test_small_event),
                cmocka_unit_test(test_event_of_an_update),
                cmocka_unit_test(test_event_refused),
                cmocka_unit_test(test_event_too_large),
                cmocka_unit_test(test_event_of_odd_bytes),
                cmocka_unit_test(test_severities),
                cmocka_unit_test(test_report),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
