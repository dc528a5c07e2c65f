/* The pure parts of the API: targets, credentials, the two ways of slowing guesses down. */
#include "plane/api_credentials.h"
#include "plane/api_limit.h"
#include "plane/api_login.h"
#include "plane/api_uri.h"
#include "plane/password.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- targets ---- */

static void assert_uri(const char *target, const char *path, const char *query)
{
        _cleanup_free_ char *segments = NULL, *names = NULL, *values = NULL, *both = NULL;
        struct uri u = {0};
        struct error e = {0};

        if (uri_parse(target, &u, &e) < 0)
                fail_msg("%s: %s", target, e.text);
        segments = strv_join(&u.segments, "|");
        names = strv_join(&u.names, "|");
        values = strv_join(&u.values, "|");
        both = xasprintf("%s=%s", names, values);
        assert_string_equal(segments, path);
        assert_string_equal(both, query);
        uri_done(&u);
}

static void assert_no_uri(const char *target, int r)
{
        struct uri u = {0};
        struct error e = {0};

        if (uri_parse(target, &u, &e) != r)
                fail_msg("%.200s: not %d", target, r);
        assert_non_null(e.code);
        assert_int_equal(u.segments.count, 0);
}

static void test_targets(void **state)
{
        (void)state;
        assert_uri("/", "", "=");
        assert_uri("/api/v1/nodes", "api|v1|nodes", "=");
        assert_uri("/a%62c/%C3%A9?x=1&y=", "abc|\xc3\xa9", "x|y=1|");
        assert_uri("/a?b=c%20d+e&f&&g=%3d=", "a", "b|f|g=c d e||==");
        assert_uri("/a+b", "a+b", "=");
        assert_uri("/a?", "a", "=");
        assert_uri("/...", "...", "=");
}

static void test_targets_that_are_none(void **state)
{
        _cleanup_free_ char *longest = xcalloc(1, URI_MAXIMUM + 2), *many = xcalloc(1, 512);

        (void)state;
        assert_no_uri("", -EINVAL);
        assert_no_uri("*", -EINVAL);
        assert_no_uri("a/b", -EINVAL);
        assert_no_uri("http://control.grid.example/", -EINVAL);
        assert_no_uri("//", -EINVAL);
        assert_no_uri("//a", -EINVAL);
        assert_no_uri("/a/", -EINVAL);
        assert_no_uri("/a//b", -EINVAL);
        assert_no_uri("/./a", -EINVAL);
        assert_no_uri("/a/..", -EINVAL);
        assert_no_uri("/a/%2e%2e/b", -EINVAL);
        assert_no_uri("/a%2fb", -EINVAL);
        assert_no_uri("/a%00b", -EINVAL);
        assert_no_uri("/a%0ab", -EINVAL);
        assert_no_uri("/a%7f", -EINVAL);
        assert_no_uri("/a%", -EINVAL);
        assert_no_uri("/a%4", -EINVAL);
        assert_no_uri("/a%4g", -EINVAL);
        assert_no_uri("/a%ff", -EINVAL);
        assert_no_uri("/\xff", -EINVAL);
        assert_no_uri("/a?b=%ff", -EINVAL);
        assert_no_uri("/a?=b", -EINVAL);
        assert_no_uri("/a?b=1&b=2", -EINVAL);
        assert_no_uri("/a?b=%0d%0a", -EINVAL);
        assert_no_uri("/a#b", -EINVAL);
        memset(longest, 'a', URI_MAXIMUM + 1);
        longest[0] = '/';
        assert_no_uri(longest, -E2BIG);
        strcpy(many, "/a?");
        for (int i = 0; i <= URI_MAXIMUM_QUERY; i++)
                snprintf(many + strlen(many), 16, "p%d=1&", i);
        assert_no_uri(many, -EINVAL);
        assert_no_uri("/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17", -EINVAL);
}

static void test_text_of_a_header(void **state)
{
        _cleanup_free_ char *text = uri_decode_text("a%0Ab+c%2B", 64);

        (void)state;
        assert_string_equal(text, "a\nb+c+");
        assert_null(uri_decode_text("a%00", 64));
        assert_null(uri_decode_text("a%1b", 64));
        assert_null(uri_decode_text("%e", 64));
        assert_null(uri_decode_text("12345", 4));
}

/* ---- credentials ---- */

static void assert_cookie(const char *header, const char *wanted, int r)
{
        char value[CREDENTIAL_MAXIMUM] = "untouched";

        assert_int_equal(credentials_cookie(header, "gridplane", value), r);
        assert_string_equal(value, r == 0 ? wanted : "untouched");
}

static void test_cookies(void **state)
{
        char longest[300];

        (void)state;
        assert_cookie("gridplane=abc", "abc", 0);
        assert_cookie("a=b; gridplane=abc; c=d", "abc", 0);
        assert_cookie("a=b;gridplane=abc ;c", "abc", 0);
        assert_cookie("gridplane=abc; gridplane=abc", "abc", 0);
        assert_cookie("", NULL, -ENOENT);
        assert_cookie("xgridplane=abc; gridplanex=abc; a=gridplane=abc", NULL, -ENOENT);
        assert_cookie("gridplane=abc; gridplane=abd", NULL, -EINVAL);
        assert_cookie("gridplane=", NULL, -EINVAL);
        assert_cookie("gridplane=a\"b", NULL, -EINVAL);
        assert_cookie("gridplane=a b", NULL, -EINVAL);
        memset(longest, 'a', sizeof longest);
        memcpy(longest, "gridplane=", 10);
        longest[sizeof longest - 1] = '\0';
        assert_cookie(longest, NULL, -EINVAL);
}

static void test_bearer(void **state)
{
        char secret[CREDENTIAL_MAXIMUM];

        (void)state;
        assert_int_equal(credentials_bearer("Bearer gpt_x", secret), 0);
        assert_string_equal(secret, "gpt_x");
        assert_int_equal(credentials_bearer("bearer   gpt_y", secret), 0);
        assert_string_equal(secret, "gpt_y");
        assert_int_equal(credentials_bearer("Basic eDp5", secret), -ENOENT);
        assert_int_equal(credentials_bearer("Bearer", secret), -ENOENT);
        assert_int_equal(credentials_bearer("", secret), -ENOENT);
        assert_int_equal(credentials_bearer("Bearer ", secret), -EINVAL);
        assert_int_equal(credentials_bearer("Bearer a b", secret), -EINVAL);
        assert_int_equal(credentials_bearer("Bearer a\xff", secret), -EINVAL);
}

static void test_basic(void **state)
{
        char name[CREDENTIAL_MAXIMUM], password[PASSWORD_MAXIMUM];

        (void)state;
        assert_int_equal(credentials_basic("Basic YWxpY2U6Z3B0X3g6eQ==", name, password), 0);
        assert_string_equal(name, "alice");
        assert_string_equal(password, "gpt_x:y");
        assert_int_equal(credentials_basic("Bearer gpt_x", name, password), -ENOENT);
        assert_int_equal(credentials_basic("Basic !!!!", name, password), -EINVAL);
        assert_int_equal(credentials_basic("Basic YWxpY2U=", name, password), -EINVAL); /* no colon */
        assert_int_equal(credentials_basic("Basic OnB3", name, password), -EINVAL);     /* no name */
        assert_int_equal(credentials_basic("Basic YQBiOmM=", name, password), -EINVAL); /* a NUL */
        assert_int_equal(credentials_basic("Basic YWxpY2U6Z3B0X3g6eQ==x", name, password), -EINVAL);
}

static void assert_forwarded(const char *header, const char *wanted)
{
        struct inet_addr a;
        char text[INET_ADDR_TEXT];

        if (!wanted)
                assert_int_equal(credentials_forwarded(header, &a), -EINVAL);
        else {
                assert_int_equal(credentials_forwarded(header, &a), 0);
                assert_string_equal(inet_addr_format(&a, text), wanted);
        }
}

static void test_forwarded(void **state)
{
        (void)state;
        assert_forwarded("203.0.113.7", "203.0.113.7");
        assert_forwarded("198.51.100.1, 203.0.113.7 ", "203.0.113.7");
        assert_forwarded("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        assert_forwarded("", NULL);
        assert_forwarded("203.0.113.7,", NULL);
        assert_forwarded("203.0.113.7 x", NULL);
        assert_forwarded("unknown", NULL);
        assert_forwarded(
                "1111111111111111111111111111111111111111111111111111111111111111111111111111", NULL);
}

/* ---- slowing ---- */

static struct inet_addr address(unsigned n)
{
        struct inet_addr a;
        char text[INET_ADDR_TEXT];

        snprintf(text, sizeof text, "10.%u.%u.%u", n >> 16 & 255, n >> 8 & 255, n & 255);
        assert_int_equal(inet_addr_parse(text, &a), 0);
        return a;
}

static void test_limit_of_an_address(void **state)
{
        struct limit *l = limit_new();
        struct inet_addr one = address(1), two = address(2);

        (void)state;
        for (int i = 0; i < LIMIT_ADDRESS_BURST; i++) {
                assert_int_equal(limit_wait_ms(l, &one, 1000), 0);
                limit_failed(l, &one, 1000);
        }
        assert_int_equal(limit_wait_ms(l, &one, 1000), LIMIT_ADDRESS_MS);
        assert_int_equal(limit_wait_ms(l, &one, 1000 + LIMIT_ADDRESS_MS - 1), 1);
        assert_int_equal(limit_wait_ms(l, &one, 1000 + LIMIT_ADDRESS_MS), 0);
        limit_failed(l, &one, 1000 + LIMIT_ADDRESS_MS);
        assert_true(limit_wait_ms(l, &one, 1000 + LIMIT_ADDRESS_MS) > 0);
        /* A clock that goes back gives nothing. */
        assert_true(limit_wait_ms(l, &one, 5) > 0);
        assert_int_equal(limit_wait_ms(l, &two, 1000), 0);
        limit_free(l);
}

static void test_limit_of_all(void **state)
{
        struct limit *l = limit_new();
        struct inet_addr a, fresh = address(100000);

        (void)state;
        for (unsigned i = 0; i < LIMIT_COMMON_BURST; i++) {
                a = address(i);
                assert_int_equal(limit_wait_ms(l, &a, 1000), 0);
                limit_failed(l, &a, 1000);
        }
        a = address(3);
        assert_true(limit_wait_ms(l, &a, 1000) > 0); /* it was wrong once, and all together too often */
        assert_int_equal(limit_wait_ms(l, &fresh, 1000), 0);
        assert_int_equal(limit_wait_ms(l, &a, 1000 + LIMIT_COMMON_MS), 0);
        limit_free(l);
}

static void test_limit_is_bounded(void **state)
{
        struct limit *l = limit_new();
        struct inet_addr a;

        (void)state;
        for (unsigned i = 0; i < LIMIT_ADDRESSES + 100; i++) {
                a = address(i);
                limit_failed(l, &a, 1000 + i);
        }
        a = address(0);
        assert_int_equal(limit_wait_ms(l, &a, 5000), 0); /* forgotten */
        limit_free(l);
}

static void test_logins(void **state)
{
        struct logins *l = logins_new();

        (void)state;
        for (int i = 0; i < PASSWORD_FREE_FAILURES; i++)
                assert_int_equal(logins_try(l, "o", "alice", 1000), 0);
        assert_int_equal(logins_try(l, "o", "alice", 1000), PASSWORD_FIRST_DELAY_MS);
        assert_int_equal(logins_try(l, "o", "bob", 1000), 0);
        assert_int_equal(logins_try(l, "p", "alice", 1000), 0);
        assert_int_equal(logins_try(l, "o", "alice", 2000), 0);
        assert_int_equal(logins_try(l, "o", "alice", 2000), 2 * PASSWORD_FIRST_DELAY_MS);
        for (int i = 0; i < 40; i++)
                logins_try(l, "o", "alice", (int64_t)i * PASSWORD_LONGEST_DELAY_MS * 2);
        assert_int_equal(
                logins_try(l, "o", "alice", 39 * PASSWORD_LONGEST_DELAY_MS * 2), PASSWORD_LONGEST_DELAY_MS);
        for (int i = 0; i < LOGIN_NAMES + 10; i++) {
                char name[16];

                snprintf(name, sizeof name, "n%d", i);
                assert_int_equal(logins_try(l, "o", name, 1000), 0);
        }
        logins_free(l);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_targets),
                cmocka_unit_test(test_targets_that_are_none),
                cmocka_unit_test(test_text_of_a_header),
                cmocka_unit_test(test_cookies),
                cmocka_unit_test(test_bearer),
                cmocka_unit_test(test_basic),
                cmocka_unit_test(test_forwarded),
                cmocka_unit_test(test_limit_of_an_address),
                cmocka_unit_test(test_limit_of_all),
                cmocka_unit_test(test_limit_is_bounded),
                cmocka_unit_test(test_logins),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
