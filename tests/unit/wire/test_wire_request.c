#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "payload.h"

static const char request[] =
        "{\"schema\":1,\"id\":\"r-1\",\"tool\":\"tcp\",\"arguments\":[\"--count\",\"3\",\"\"],"
        "\"timeout_s\":30.0,\"by\":\"anna\"}";
static const char output[] = "{\"schema\":1,\"first\":12,\"lines\":[{\"stream\":\"out\",\"text\":\"one\"},{"
                             "\"stream\":\"err\",\"text\":\"\"}],"
                             "\"end\":{\"reason\":\"exited\",\"status\":3,\"error\":\"why\"}}";

static void test_request(void **state)
{
        struct wire_request r;

        (void)state;
        PARSE(wire_request_parse, request, &r);
        assert_string_equal(r.id, "r-1");
        assert_false(r.cancel);
        assert_string_equal(r.tool, "tcp");
        assert_int_equal(r.arguments.count, 3);
        assert_string_equal(r.arguments.items[1], "3");
        assert_true(r.timeout_s == 30);
        assert_string_equal(r.by, "anna");
        ASSERT_WRITES(wire_request_to_json(&r), request);
        wire_request_done(&r);
        PARSE(wire_request_parse, "{\"schema\":1,\"id\":\"r\",\"tool\":\"x\",\"timeout_s\":7}", &r);
        assert_true(r.timeout_s == 7);
        assert_int_equal(r.arguments.count, 0);
        wire_request_done(&r);
}

static void test_cancel(void **state)
{
        static const char cancel[] = "{\"schema\":1,\"id\":\"r-1\",\"cancel\":true}";
        struct wire_request r;

        (void)state;
        PARSE(wire_request_parse, cancel, &r);
        assert_true(r.cancel);
        assert_null(r.tool);
        ASSERT_WRITES(wire_request_to_json(&r), cancel);
        wire_request_done(&r);
}

static void test_request_refused(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1}", "request: member 'id' is missing"},
                {"{\"schema\":1,\"id\":\"r\"}", "request: member 'tool' is missing"},
                {"{\"schema\":1,\"id\":\"r\",\"tool\":\"\"}", "request: member 'tool' is empty"},
                {"{\"schema\":1,\"id\":\"r\",\"tool\":\"x\",\"arguments\":\"-x\"}",
                        "request: member 'arguments' is not an array"},
                {"{\"schema\":1,\"id\":\"r\",\"tool\":\"x\",\"arguments\":[\"a\",7]}",
                        "request: member 'arguments' item 1 is not a text of at most 1024 bytes"},
                {"{\"schema\":1,\"id\":\"r\",\"tool\":\"x\",\"timeout_s\":0.5}",
                        "request: member 'timeout_s' is 0.5, not between 1 and 600"},
                {"{\"schema\":1,\"id\":\"r\",\"tool\":\"x\",\"timeout_s\":601}",
                        "request: member 'timeout_s' is 601, not between 1 and 600"},
                {"{\"schema\":1,\"id\":\"r\",\"cancel\":\"yes\"}",
                        "request: member 'cancel' is not true or false"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_request_parse, struct wire_request, cases);
        ASSERT_BEARS_HARM(wire_request_parse, wire_request_done, struct wire_request, request);
}

static void test_most_arguments(void **state)
{
        struct wire_request r = {.id = "r", .tool = (char *)"x", .timeout_s = 1}, back;
        char argument[1025];

        (void)state;
        memset(argument, 'x', sizeof argument);
        argument[1024] = '\0';
        for (int count = 64; count <= 65; count++) {
                _cleanup_free_ char *text = NULL;
                json_t *j;

                while ((int)r.arguments.count < count)
                        strv_add(&r.arguments, argument);
                j = wire_request_to_json(&r);
                text = json_to_text(j);
                json_decref(j);
                if (count == 65) {
                        ASSERT_REFUSED(wire_request_parse, struct wire_request, text, strlen(text), EBADMSG,
                                "request: member 'arguments' has 65 items, more than 64");
                        continue;
                }
                PARSE(wire_request_parse, text, &back);
                assert_int_equal(back.arguments.count, 64);
                wire_request_done(&back);
        }
        strv_done(&r.arguments);
}

static void test_output(void **state)
{
        struct wire_output o;

        (void)state;
        PARSE(wire_output_parse, output, &o);
        assert_int_equal(o.first, 12);
        assert_int_equal(o.line_count, 2);
        assert_false(o.lines[0].is_error);
        assert_string_equal(o.lines[0].text, "one");
        assert_true(o.lines[1].is_error);
        assert_string_equal(o.lines[1].text, "");
        assert_int_equal(o.end, END_EXITED);
        assert_int_equal(o.status, 3);
        assert_string_equal(o.error, "why");
        ASSERT_WRITES(wire_output_to_json(&o), output);
        wire_output_done(&o);
        assert_null(o.lines);
        PARSE(wire_output_parse, "{\"schema\":1,\"first\":0,\"lines\":[]}", &o);
        assert_int_equal(o.line_count, 0);
        assert_int_equal(o.end, END_NONE);
        wire_output_done(&o);
}

static void test_ends(void **state)
{
        (void)state;
        for (int i = END_EXITED; i <= END_LOST; i++) {
                struct wire_output o = {.end = (enum wire_end)i}, back;
                json_t *j = wire_output_to_json(&o);
                _cleanup_free_ char *text = json_to_text(j);

                json_decref(j);
                PARSE(wire_output_parse, text, &back);
                assert_int_equal(back.end, i);
                wire_output_done(&back);
        }
}

static void test_output_refused(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1}", "output: member 'first' is missing"},
                {"{\"schema\":1,\"first\":-1}",
                        "output: member 'first' is -1, not between 0 and 9223372036854775551"},
                {"{\"schema\":1,\"first\":0,\"lines\":[7]}", "output: a line is not an object"},
                {"{\"schema\":1,\"first\":0,\"lines\":[{\"stream\":\"out\",\"text\":\"a\"},{\"stream\":"
                 "\"out\"}]}",
                        "output: a line: member 'text' is missing"},
                {"{\"schema\":1,\"first\":0,\"lines\":[{\"stream\":\"in\",\"text\":\"a\"}]}",
                        "output: a line: member 'stream' is not out or err"},
                {"{\"schema\":1,\"first\":0,\"lines\":[{\"stream\":\"out\",\"text\":\"a\\nb\"}]}",
                        "output: a line: member 'text' is more than one line"},
                {"{\"schema\":1,\"first\":0,\"end\":{\"reason\":\"none\"}}",
                        "output: its end: member 'reason' is none that is known"},
                {"{\"schema\":1,\"first\":0,\"end\":{\"reason\":\"exited\",\"status\":256}}",
                        "output: its end: member 'status' is 256, not between 0 and 255"},
                /* The first failure is the one that is told. */
                {"{\"schema\":1,\"first\":0,\"lines\":[7],\"end\":7}", "output: a line is not an object"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_output_parse, struct wire_output, cases);
        ASSERT_BEARS_HARM(wire_output_parse, wire_output_done, struct wire_output, output);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_request),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_request_refused),
                cmocka_unit_test(test_most_arguments),
                cmocka_unit_test(test_output),
                cmocka_unit_test(test_ends),
                cmocka_unit_test(test_output_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
