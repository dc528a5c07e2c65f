#include "base/text.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---- lists ---- */

static void assert_split(const char *s, char separator, const char *joined)
{
        struct strv v = {0};
        char *text;

        strv_split(&v, s, separator);
        text = strv_join(&v, "|");
        assert_string_equal(text, joined);
        free(text);
        strv_done(&v);
}

static void test_split(void **state)
{
        (void)state;
        assert_split("a;b;c", ';', "a|b|c");
        assert_split("  a ;\tb c ; ", ';', "a|b c");
        assert_split(";;a;;", ';', "a");
        assert_split("", ';', "");
        assert_split(" ; \t;", ';', "");
        assert_split(NULL, ';', "");
        assert_split("a,b", ';', "a,b");
}

static void test_list(void **state)
{
        (void)state;
        struct strv v = {0}, copy = {0};
        char *text;

        text = strv_join(&v, ", ");
        assert_string_equal(text, "");
        free(text);
        for (int i = 0; i < 100; i++)
                strv_add(&v, i % 2 ? "odd" : "even");
        assert_int_equal(v.count, 100);
        assert_true(strv_contains(&v, "odd"));
        assert_false(strv_contains(&v, "other"));
        strv_add_unique(&v, "odd");
        assert_int_equal(v.count, 100);
        strv_add_unique(&v, "other");
        assert_int_equal(v.count, 101);
        strv_copy(&copy, &v);
        strv_done(&v);
        assert_null(v.items);
        assert_int_equal(v.count, 0);
        assert_int_equal(copy.count, 101);
        assert_string_equal(copy.items[100], "other");
        strv_done(&copy);
        strv_done(&copy);
}

/* ---- growing ---- */

static void test_text(void **state)
{
        (void)state;
        struct text t = {0};
        char *s;

        assert_string_equal(text_string(&t), "");
        text_add(&t, NULL);
        text_add(&t, "");
        assert_string_equal(text_string(&t), "");
        for (int i = 0; i < 1000; i++) {
                text_add(&t, "ab");
                text_addf(&t, "%d%s", i % 10, "");
        }
        assert_int_equal(t.length, 3000);
        assert_int_equal(strlen(text_string(&t)), 3000);
        assert_memory_equal(text_string(&t) + 2994, "ab8ab9", 6);
        text_addf(&t, "%s", "");
        assert_int_equal(t.length, 3000);
        s = text_take(&t);
        assert_int_equal(strlen(s), 3000);
        free(s);
        s = text_take(&t);
        assert_string_equal(s, "");
        free(s);
        text_done(&t);
}

/* ---- strings ---- */

static void test_compare(void **state)
{
        (void)state;
        assert_true(str_equal(NULL, NULL));
        assert_true(str_equal("a", "a"));
        assert_false(str_equal("a", NULL));
        assert_false(str_equal(NULL, "a"));
        assert_false(str_equal("a", "b"));
        assert_true(str_is_empty(NULL));
        assert_true(str_is_empty(""));
        assert_false(str_is_empty(" "));
        assert_true(str_starts_with("gridnode", "grid"));
        assert_true(str_starts_with("grid", ""));
        assert_false(str_starts_with("gri", "grid"));
        assert_false(str_starts_with(NULL, "grid"));
        assert_true(str_ends_with("x.profile", ".profile"));
        assert_true(str_ends_with(".profile", ".profile"));
        assert_false(str_ends_with("profile", ".profile"));
        assert_false(str_ends_with(NULL, "x"));
}

static void test_copy(void **state)
{
        (void)state;
        char small[4] = "xyz";

        str_copy(small, sizeof(small), "abcdef");
        assert_string_equal(small, "abc");
        str_copy(small, sizeof(small), "a");
        assert_string_equal(small, "a");
        str_copy(small, sizeof(small), NULL);
        assert_string_equal(small, "");
        str_copy(small, 1, "abc");
        assert_string_equal(small, "");
        strcpy(small, "ab");
        str_copy(small, 0, "z");
        assert_string_equal(small, "ab");
        str_copy(small, sizeof(small), small);
        assert_string_equal(small, "ab");
}

static void test_numbers(void **state)
{
        (void)state;
        unsigned long n = 7;

        assert_int_equal(str_to_ulong("443", 1, 65535, &n), 0);
        assert_int_equal(n, 443);
        assert_int_equal(str_to_ulong("65535", 1, 65535, &n), 0);
        assert_int_equal(str_to_ulong("18446744073709551615", 0, ULONG_MAX, &n), 0);
        assert_true(n == ULONG_MAX);
        n = 7;
        assert_int_equal(str_to_ulong("18446744073709551616", 0, ULONG_MAX, &n), -ERANGE);
        assert_int_equal(str_to_ulong("99999999999999999999999", 0, ULONG_MAX, &n), -ERANGE);
        assert_int_equal(str_to_ulong("0", 1, 65535, &n), -ERANGE);
        assert_int_equal(str_to_ulong("65536", 1, 65535, &n), -ERANGE);
        static const char *const wrong[] = {"", " 1", "1 ", "-1", "+1", "0x10", "1e3", "4 4", "٣", "1\n"};
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_int_equal(str_to_ulong(wrong[i], 0, 100, &n), -EINVAL);
        assert_int_equal(str_to_ulong(NULL, 0, 100, &n), -EINVAL);
        assert_int_equal(n, 7);
}

/* ---- bytes from outside ---- */

static void assert_printable(const char *bytes, size_t length, size_t maximum, const char *wanted)
{
        char *s = str_printable(bytes, length, maximum);

        assert_string_equal(s, wanted);
        free(s);
}

#define ASSERT_PRINTABLE(literal, wanted) assert_printable(literal, sizeof(literal) - 1, SIZE_MAX, wanted)

static void test_printable(void **state)
{
        (void)state;
        ASSERT_PRINTABLE("", "");
        ASSERT_PRINTABLE("HTTP/1.1 200", "HTTP/1.1 200");
        ASSERT_PRINTABLE("\x1b[31mred", "\\x1b[31mred");
        ASSERT_PRINTABLE("a\0b\r\n\t\x7f", "a\\x00b\\x0d\\x0a\\x09\\x7f");
        ASSERT_PRINTABLE(
                "K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x98\x80", "K\xc3\xb6ln \xe2\x82\xac \xf0\x9f\x98\x80");
}

static void test_printable_invalid(void **state)
{
        (void)state;
        ASSERT_PRINTABLE("\xff\xfe", "\\xff\\xfe");
        ASSERT_PRINTABLE("\x80z", "\\x80z");
        ASSERT_PRINTABLE("\xc3", "\\xc3");
        ASSERT_PRINTABLE("\xc3(", "\\xc3(");
        ASSERT_PRINTABLE("\xe2\x82", "\\xe2\\x82");
        ASSERT_PRINTABLE("\xc0\xaf", "\\xc0\\xaf");                            /* overlong / */
        ASSERT_PRINTABLE("\xe0\x80\xaf", "\\xe0\\x80\\xaf");                   /* the same in three */
        ASSERT_PRINTABLE("\xed\xa0\x80", "\\xed\\xa0\\x80");                   /* a surrogate */
        ASSERT_PRINTABLE("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80");          /* past U+10FFFF */
        ASSERT_PRINTABLE("\xf8\x88\x80\x80\x80", "\\xf8\\x88\\x80\\x80\\x80"); /* five bytes */
}

static void test_printable_unsafe(void **state)
{
        (void)state;
        ASSERT_PRINTABLE("\xc2\x9b"
                         "31m",
                "\\xc2\\x9b31m"); /* CSI as a C1 control */
        ASSERT_PRINTABLE("\xe2\x80\xae"
                         "x",
                "\\xe2\\x80\\xaex");                         /* right-to-left override */
        ASSERT_PRINTABLE("\xe2\x80\xa8", "\\xe2\\x80\\xa8"); /* line separator */
        ASSERT_PRINTABLE("\xef\xbb\xbf", "\\xef\\xbb\\xbf"); /* byte order mark */
}

static void test_printable_limit(void **state)
{
        (void)state;
        assert_printable("abcdef", 6, 3, "abc");
        assert_printable("abcdef", 6, 0, "");
        /* The character that the limit would cut is left out whole. */
        assert_printable("ab\xc3\xb6", 4, 3, "ab");
        assert_printable("ab\xc3\xb6", 4, 4, "ab\xc3\xb6");
        assert_printable("ab\xc3", 3, 3, "ab\\xc3");
}

static void test_excerpt(void **state)
{
        (void)state;
        char bytes[64];

        memset(bytes, 0x1b, sizeof(bytes));
        /* The bound is that of the result, whatever becomes of the input. */
        for (size_t length = 0; length <= sizeof(bytes); length++)
                for (size_t maximum = 0; maximum <= sizeof(bytes); maximum++) {
                        char *s = str_excerpt(bytes, length, maximum);

                        assert_true(strlen(s) <= maximum && strlen(s) % 4 == 0);
                        free(s);
                }
        char *s = str_excerpt("HTTP/1.1 200 OK", 15, 8);
        assert_string_equal(s, "HTTP/1.1");
        free(s);
        s = str_excerpt("HTTP", 4, 80);
        assert_string_equal(s, "HTTP");
        free(s);
}

/* ---- host names ---- */

static void test_host_names(void **state)
{
        (void)state;
        static const char *const right[] = {"repo.grid.example", "a", "a.b", "repo.grid.example.",
                "3com.example", "1.2.3.example", "xn--mnchen-3ya.example", "A-B.EXAMPLE", "a1"};
        static const char *const wrong[] = {"", ".", "..", "a..b", ".a", "-a", "a-", "a-.b", "a.-b", "a_b",
                "a b", "a/b", "192.0.2.1", "1.2", "12", "m\xc3\xbcnchen.example", "a:443", "[::1]", "a.b..",
                "*.b"};
        char label[66], name[260];

        for (size_t i = 0; i < ELEMENTS(right); i++)
                assert_true(str_is_host_name(right[i]));
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_false(str_is_host_name(wrong[i]));
        assert_false(str_is_host_name(NULL));
        memset(label, 'a', sizeof(label));
        label[63] = '\0';
        assert_true(str_is_host_name(label));
        label[63] = 'a';
        label[64] = '\0';
        assert_false(str_is_host_name(label));
        for (size_t i = 0; i < sizeof(name); i++)
                name[i] = i % 2 ? '.' : 'a';
        name[253] = '\0';
        assert_true(str_is_host_name(name));
        name[253] = '.';
        name[254] = '\0';
        assert_true(str_is_host_name(name));
        name[254] = 'a';
        name[255] = '\0';
        assert_false(str_is_host_name(name));
}

/* ---- times ---- */

static void assert_time(int64_t unix_ms, const char *text)
{
        int64_t back = 1;
        char s[32];

        time_format_utc(unix_ms, s);
        assert_string_equal(s, text);
        assert_int_equal(time_parse_utc(text, &back), 0);
        assert_true(back == unix_ms);
}

static void test_times(void **state)
{
        (void)state;
        char s[32];

        assert_time(0, "1970-01-01T00:00:00.000Z");
        assert_time(1795230000000, "2026-11-21T03:00:00.000Z");
        assert_time(1709164799999, "2024-02-28T23:59:59.999Z");
        assert_time(1709164800000, "2024-02-29T00:00:00.000Z");
        assert_time(-1, "1969-12-31T23:59:59.999Z");
        assert_time(-1000, "1969-12-31T23:59:59.000Z");
        assert_time(253402300799999, "9999-12-31T23:59:59.999Z");
        assert_time(-62167219200000, "0000-01-01T00:00:00.000Z");
        time_format_utc(INT64_MAX, s);
        assert_string_equal(s, "9999-12-31T23:59:59.999Z");
        time_format_utc(INT64_MIN, s);
        assert_string_equal(s, "0000-01-01T00:00:00.000Z");
}

static void test_times_parsed(void **state)
{
        (void)state;
        int64_t t = 5;

        assert_int_equal(time_parse_utc("2026-11-21T03:00:00Z", &t), 0);
        assert_true(t == 1795230000000);
        t = 5;
        static const char *const wrong[] = {"", "2026", "2026-11-21", "2026-11-21 03:00:00.000Z",
                "2026-11-21T03:00:00.000", "2026-11-21T03:00:00.000Z ", "2026-11-21T03:00:00.00Z",
                "2026-11-21T03:00:00.0000Z", "2026-11-31T03:00:00.000Z", "2025-02-29T03:00:00.000Z",
                "2026-13-01T03:00:00.000Z", "2026-00-01T03:00:00.000Z", "2026-11-00T03:00:00.000Z",
                "2026-11-21T24:00:00.000Z", "2026-11-21T03:60:00.000Z", "2026-11-21T03:00:61.000Z",
                "-026-11-21T03:00:00.000Z", "2026-11-21T03:00:00.000+", "2026-11-21T03:00:0",
                "2026-11-21T03:00:00."};
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_int_equal(time_parse_utc(wrong[i], &t), -EINVAL);
        assert_int_equal(time_parse_utc(NULL, &t), -EINVAL);
        assert_true(t == 5);
}

static void test_interface_names(void **state)
{
        (void)state;
        static const char *const right[] = {"lo", "eth0", "eth0.100", "wg-site", "a123456789012345" + 1};
        static const char *const wrong[] = {
                "", ".", "..", "a1234567890123456", "a/b", "a:1", "a b", "a\n", "\x1b[m", "\xc3\xa9"};

        for (size_t i = 0; i < ELEMENTS(right); i++)
                assert_true(str_is_interface_name(right[i]));
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_false(str_is_interface_name(wrong[i]));
}

static void test_hexadecimal(void **state)
{
        (void)state;
        char text[9] = "--------";

        for (int c = 0; c < 256; c++) {
                const char *digits = "0123456789abcdef", *at = c ? strchr(digits, tolower(c)) : NULL;

                assert_int_equal(hex_digit((char)c), at ? at - digits : -1);
        }
        hex_format("\x00\x7f\xff", 3, text);
        assert_string_equal(text, "007fff");
        hex_format("", 0, text);
        assert_string_equal(text, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_split),
                cmocka_unit_test(test_list),
                cmocka_unit_test(test_text),
                cmocka_unit_test(test_compare),
                cmocka_unit_test(test_copy),
                cmocka_unit_test(test_numbers),
                cmocka_unit_test(test_printable),
                cmocka_unit_test(test_printable_invalid),
                cmocka_unit_test(test_printable_unsafe),
                cmocka_unit_test(test_printable_limit),
                cmocka_unit_test(test_excerpt),
                cmocka_unit_test(test_host_names),
                cmocka_unit_test(test_interface_names),
                cmocka_unit_test(test_hexadecimal),
                cmocka_unit_test(test_times),
                cmocka_unit_test(test_times_parsed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
