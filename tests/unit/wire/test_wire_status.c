#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "payload.h"

static const char status[] = "{\"schema\":1,\"online\":true,\"since\":\"2026-11-21T03:00:00.007Z\","
                             "\"version\":\"0.1.0\",\"epoch\":\"e-1\","
                             "\"address\":\"192.0.2.10\",\"services\":{\"repo\":{\"state\":\"blocked\","
                             "\"cause\":\"tcp.dropped\"},\"control\":{"
                             "\"state\":\"ok\"}}}";
static const char offline[] =
        "{\"schema\":1,\"online\":false,\"since\":\"2026-11-21T03:00:00.007Z\",\"reason\":\"stopped\"}";
static const char applied[] = "{\"schema\":1,\"version\":7,\"state\":\"failed\",\"at\":\"2026-11-21T03:00:00."
                              "007Z\",\"error\":\"no eth1\","
                              "\"warnings\":[\"a\",\"b\"]}";

static void test_status(void **state)
{
        struct wire_status s;

        (void)state;
        PARSE(wire_status_parse, status, &s);
        assert_true(s.online);
        assert_int_equal(s.since_unix_ms, 1795230000007);
        assert_string_equal(s.version, "0.1.0");
        assert_string_equal(s.epoch, "e-1");
        assert_string_equal(s.address, "192.0.2.10");
        assert_int_equal(json_object_size(s.services), 2);
        assert_string_equal(s.reason, "");
        ASSERT_WRITES(wire_status_to_json(&s), status);
        wire_status_done(&s);
        assert_null(s.services);
        PARSE(wire_status_parse, offline, &s);
        assert_false(s.online);
        assert_string_equal(s.reason, "stopped");
        ASSERT_WRITES(wire_status_to_json(&s), offline);
        wire_status_done(&s);
}

#define AT "{\"schema\":1,\"since\":\"2026-11-21T03:00:00.007Z\","

static void test_status_refused(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1}", "status: member 'since' is missing"},
                {AT "\"online\":1}", "status: member 'online' is not true or false"},
                {AT "\"version\":\"0123456789012345678901234567890123\"}",
                        "status: member 'version' is longer than 31 bytes"},
                {AT "\"epoch\":\"a/b\"}", "status: member 'epoch' is not an id"},
                {AT "\"address\":\"192.0.2\"}", "status: member 'address' is not an address"},
                {AT "\"services\":[]}", "status: member 'services' is not an object"},
                {AT "\"services\":{\"repo\":\"ok\"}}",
                        "status: member 'services' has a member without a state, or with what is no cause"},
                {AT "\"services\":{\"repo\":{\"state\":\"ok\",\"cause\":7}}}",
                        "status: member 'services' has a member without a state, or with what is no cause"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_status_parse, struct wire_status, cases);
        ASSERT_BEARS_HARM(wire_status_parse, wire_status_done, struct wire_status, status);
}

static void test_many_services(void **state)
{
        json_t *j = json_loads(offline, 0, NULL), *services = json_object();
        _cleanup_free_ char *text = NULL;
        char name[16];

        (void)state;
        for (int i = 0; i < 65; i++) {
                snprintf(name, sizeof name, "s%d", i);
                json_object_set_new(services, name, json_pack("{s:s}", "state", "ok"));
        }
        json_object_set_new(j, "services", services);
        text = json_to_text(j);
        json_decref(j);
        ASSERT_REFUSED(wire_status_parse, struct wire_status, text, strlen(text), EBADMSG,
                "status: member 'services' has more than 64 members");
}

static void test_applied(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1,\"version\":0}", "applied configuration: member 'version' is 0, not between "
                                                 "1 and 9223372036854775807"},
                {"{\"schema\":1,\"version\":1,\"state\":\"maybe\"}",
                        "applied configuration: member 'state' is not applied, failed or taken-back"},
                {"{\"schema\":1,\"version\":1,\"state\":\"applied\"}",
                        "applied configuration: member 'at' is missing"},
                {"{\"schema\":1,\"version\":1,\"state\":\"applied\",\"at\":\"2026-11-21T03:00:00.007Z\","
                 "\"warnings\":[1]}",
                        "applied configuration: member 'warnings' item 0 is not a text of at most 1024 "
                        "bytes"},
        };
        struct wire_applied a;

        (void)state;
        PARSE(wire_applied_parse, applied, &a);
        assert_int_equal(a.version, 7);
        assert_string_equal(a.state, "failed");
        assert_int_equal(a.at_unix_ms, 1795230000007);
        assert_string_equal(a.error, "no eth1");
        assert_int_equal(a.warnings.count, 2);
        assert_string_equal(a.warnings.items[1], "b");
        ASSERT_WRITES(wire_applied_to_json(&a), applied);
        wire_applied_done(&a);
        PARSE(wire_applied_parse,
                "{\"schema\":1,\"version\":7,\"state\":\"taken-back\",\"at\":\"2026-11-21T03:00:00.007Z\"}",
                &a);
        assert_string_equal(a.state, "taken-back");
        assert_null(a.error);
        wire_applied_done(&a);
        ASSERT_CASES_REFUSED(wire_applied_parse, struct wire_applied, cases);
        ASSERT_BEARS_HARM(wire_applied_parse, wire_applied_done, struct wire_applied, applied);
}

static void notice_done(int64_t *version)
{
        assert_true(*version > 0);
}

static void test_notice(void **state)
{
        static const char notice[] = "{\"schema\":1,\"version\":12}";
        static const struct payload_case cases[] = {
                {"{\"schema\":1}", "notice of a configuration: member 'version' is missing"},
                {"{\"schema\":1,\"version\":-1}", "notice of a configuration: member 'version' is -1, not "
                                                  "between 1 and 9223372036854775807"},
        };
        int64_t version;

        (void)state;
        PARSE(wire_notice_parse, notice, &version);
        assert_int_equal(version, 12);
        ASSERT_WRITES(wire_notice_to_json(12), notice);
        ASSERT_CASES_REFUSED(wire_notice_parse, int64_t, cases);
        ASSERT_BEARS_HARM(wire_notice_parse, notice_done, int64_t, notice);
        /* A retained message that was cleared is an empty one. */
        assert_int_equal(wire_notice_parse(NULL, 0, &version, NULL), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_status),
                cmocka_unit_test(test_status_refused),
                cmocka_unit_test(test_many_services),
                cmocka_unit_test(test_applied),
                cmocka_unit_test(test_notice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
