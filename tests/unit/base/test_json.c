#include "base/json.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static json_t *parse(const char *text)
{
        json_t *value = NULL;
        struct error e = {0};

        if (json_parse(text, strlen(text), 65536, "x", &value, &e) < 0)
                fail_msg("%s", e.text);
        return value;
}

/* ---- json_parse ---- */

static void assert_refused(const char *text, size_t length, size_t maximum, int number)
{
        json_t *value = NULL;
        struct error e = {0};

        assert_int_equal(json_parse(text, length, maximum, "message", &value, &e), -number);
        assert_null(value);
        assert_int_equal(e.number, number);
        assert_true(str_starts_with(e.text, "message: "));
}

static void test_parse_refuses(void **state)
{
        static const char *const bad[] = {"", " ", "null", "[]", "7", "\"x\"", "{", "{}x", "{}{}",
                "{\"a\":1,}", "{\"a\":1,\"a\":2}", "{\"a\":{\"b\":1,\"b\":1}}", "{a:1}", "{'a':1}",
                "{\"a\":01}", "{\"a\":NaN}", "{\"a\":1e999}", "{\"a\":99999999999999999999}",
                "{\"a\":\"\\u0000\"}", "{\"a\\u0000\":1}", "{\"a\":\"\xff\"}", "{\"a\":\"\xc0\x80\"}",
                "{\"a\":\"\\ud800\"}", "{\"a\":\"\n\"}", "\xef\xbb\xbf{}"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_refused(bad[i], strlen(bad[i]), 1000, EBADMSG);
        assert_refused("{}\0", 3, 1000, EBADMSG);
        assert_refused("{\"a\":\0}", 7, 1000, EBADMSG);
        assert_refused("{\"a\":1}", 7, 6, EFBIG);
        assert_int_equal(json_parse("[]", 2, 10, "x", NULL, NULL), -EBADMSG);
}

static void nest(char *ret, int depth)
{
        *ret = '\0';
        for (int i = 0; i < depth; i++)
                strcat(ret, i % 2 ? "[" : "{\"a\":");
        strcat(ret, "1");
        for (int i = depth; i-- > 0;)
                strcat(ret, i % 2 ? "]" : "}");
}

static void test_parse_depth(void **state)
{
        char text[1000];

        (void)state;
        nest(text, 32);
        json_decref(parse(text));
        nest(text, 33);
        assert_refused(text, strlen(text), 1000, EBADMSG);
        /* Brackets within texts do not count, nor do escaped quotes end them. */
        json_decref(parse("{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"}"));
}

static void test_parse_very_deep(void **state)
{
        size_t length = 400000;
        _cleanup_free_ char *text = malloc(length);

        (void)state;
        assert_non_null(text);
        memset(text, '[', length);
        assert_refused(text, length, length, EBADMSG);
}

/* ---- the reader ---- */

static void test_reads(void **state)
{
        json_auto_t *o =
                parse("{\"t\":\"text\",\"i\":-5,\"b\":true,\"w\":\"2026-11-21T03:00:00.007Z\",\"o\":{},"
                      "\"a\":[1,2],\"n\":null,\"d\":2.5,\"e\":3}");
        struct json_reader r;
        struct error e = {0};

        (void)state;
        json_reader_init(&r, o, "thing", &e);
        assert_string_equal(json_take_text(&r, "t", 4), "text");
        assert_null(json_take_optional_text(&r, "n", 4));
        assert_null(json_take_optional_text(&r, "missing", 4));
        assert_int_equal(json_take_integer(&r, "i", -5, -5), -5);
        assert_int_equal(json_take_optional_integer(&r, "missing", 1, 2, 77), 77);
        assert_int_equal(json_take_optional_integer(&r, "n", 1, 2, 77), 77);
        assert_true(json_take_optional_boolean(&r, "b", false));
        assert_true(json_take_optional_boolean(&r, "missing", true));
        assert_int_equal(json_take_time(&r, "w"), 1795230000007);
        assert_true(json_is_object(json_take_object(&r, "o")));
        assert_null(json_take_optional_object(&r, "n"));
        assert_int_equal(json_array_size(json_take_array(&r, "a", 2)), 2);
        assert_null(json_take_optional_array(&r, "missing", 2));
        assert_true(json_take_optional_number(&r, "d", 0, 10, 1) == 2.5);
        assert_int_equal(json_reader_done(&r, false), 0);
        assert_int_equal(json_reader_done(&r, true), -EBADMSG);
        assert_string_equal(e.text, "thing: member 'e' is not known here");
        json_reader_init(&r, o, "thing", &e);
        assert_true(json_take_optional_number(&r, "e", 0, 10, 1) == 3);
        assert_true(json_take_optional_number(&r, "missing", 0, 10, 1.5) == 1.5);
        assert_int_equal(json_reader_done(&r, false), 0);
}

/* Each of these calls fails on {"v": VALUE} with this reason. */
enum call { TEXT, INTEGER, NUMBER, BOOLEAN, TIME, OBJECT, ARRAY };

static void assert_member_error(enum call call, const char *value, const char *reason)
{
        char text[256], wanted[256];
        json_auto_t *o = NULL;
        struct error e = {0};
        struct json_reader r;

        snprintf(text, sizeof text, "{%s%s}", value ? "\"v\":" : "", value ? value : "");
        o = parse(text);
        json_reader_init(&r, o, "thing", &e);
        switch (call) {
        case TEXT:
                assert_null(json_take_text(&r, "v", 3));
                break;
        case INTEGER:
                assert_int_equal(json_take_integer(&r, "v", 1, 9), 0);
                break;
        case NUMBER:
                assert_true(json_take_optional_number(&r, "v", 1, 9, 4) == 4);
                break;
        case BOOLEAN:
                assert_false(json_take_optional_boolean(&r, "v", false));
                break;
        case TIME:
                assert_int_equal(json_take_time(&r, "v"), 0);
                break;
        case OBJECT:
                assert_null(json_take_object(&r, "v"));
                break;
        case ARRAY:
                assert_null(json_take_array(&r, "v", 2));
                break;
        }
        snprintf(wanted, sizeof wanted, "thing: member 'v' %s", reason);
        assert_string_equal(e.text, wanted);
        assert_int_equal(e.number, EBADMSG);
        /* The first failure stays. */
        assert_null(json_take_text(&r, "other", 3));
        assert_string_equal(e.text, wanted);
        assert_int_equal(json_reader_done(&r, false), -EBADMSG);
}

static void test_member_errors(void **state)
{
        (void)state;
        assert_member_error(TEXT, NULL, "is missing");
        assert_member_error(TEXT, "null", "is missing");
        assert_member_error(TEXT, "7", "is not a text");
        assert_member_error(TEXT, "\"four\"", "is longer than 3 bytes");
        assert_member_error(INTEGER, NULL, "is missing");
        assert_member_error(INTEGER, "\"7\"", "is not an integer");
        assert_member_error(INTEGER, "7.0", "is not an integer");
        assert_member_error(INTEGER, "0", "is 0, not between 1 and 9");
        assert_member_error(INTEGER, "10", "is 10, not between 1 and 9");
        assert_member_error(NUMBER, "\"7\"", "is not a number");
        assert_member_error(NUMBER, "9.5", "is 9.5, not between 1 and 9");
        assert_member_error(BOOLEAN, "1", "is not true or false");
        assert_member_error(TIME, "\"now\"", "is not a time such as 2026-11-21T03:00:00.000Z");
        assert_member_error(
                TIME, "\"2026-02-30T03:00:00.000Z\"", "is not a time such as 2026-11-21T03:00:00.000Z");
        assert_member_error(OBJECT, "[]", "is not an object");
        assert_member_error(OBJECT, NULL, "is missing");
        assert_member_error(ARRAY, "{}", "is not an array");
        assert_member_error(ARRAY, "[1,2,3]", "has 3 items, more than 2");
}

static void test_reader_of_no_object(void **state)
{
        json_auto_t *array = json_array();
        struct json_reader r;
        struct error e = {0};

        (void)state;
        json_reader_init(&r, array, "item", &e);
        assert_string_equal(e.text, "item is not an object");
        assert_null(json_take_text(&r, "x", 9));
        assert_int_equal(json_reader_done(&r, true), -EBADMSG);
        json_reader_init(&r, NULL, "item", NULL);
        assert_int_equal(json_reader_done(&r, true), -EBADMSG);
}

static void test_own_failure(void **state)
{
        json_auto_t *o = parse("{\"a\\u001b\":1}");
        struct json_reader r;
        struct error e = {0};

        (void)state;
        json_reader_init(&r, o, "thing", &e);
        assert_int_equal(json_reader_done(&r, true), -EBADMSG);
        assert_string_equal(e.text, "thing: member 'a\\x1b' is not known here");
        json_reader_init(&r, o, "thing", &e);
        json_reader_fail(&r, "a", "costs %d", 7);
        json_reader_fail(&r, "a", "costs %d", 8);
        assert_string_equal(e.text, "thing: member 'a' costs 7");
}

static void test_nul_in_text(void **state)
{
        json_auto_t *o = json_object();
        struct json_reader r;
        struct error e = {0};

        (void)state;
        json_object_set_new(o, "v", json_stringn("a\0b", 3));
        json_reader_init(&r, o, "thing", &e);
        assert_null(json_take_text(&r, "v", 9));
        assert_string_equal(e.text, "thing: member 'v' has a NUL in it");
}

/* ---- writing ---- */

static void test_to_text(void **state)
{
        static const char text[] = "{\"z\":1,\"a\":[true,null,\"\xc3\xa9\"],\"t\":{}}";
        json_auto_t *o = parse(text), *time = json_time(1795230000007);
        _cleanup_free_ char *s = json_to_text(o), *t = json_to_text(time);

        (void)state;
        assert_string_equal(s, text);
        assert_string_equal(t, "\"2026-11-21T03:00:00.007Z\"");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_parse_refuses),
                cmocka_unit_test(test_parse_depth),
                cmocka_unit_test(test_parse_very_deep),
                cmocka_unit_test(test_reads),
                cmocka_unit_test(test_member_errors),
                cmocka_unit_test(test_reader_of_no_object),
                cmocka_unit_test(test_own_failure),
                cmocka_unit_test(test_nul_in_text),
                cmocka_unit_test(test_to_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
