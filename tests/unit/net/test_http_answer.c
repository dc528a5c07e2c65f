#include "net/http_answer.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static void add(struct http_answer *a, const char *line)
{
        http_answer_add_line(a, line, strlen(line));
}

static void status_lines(void **state)
{
        static const struct {
                const char *line;
                int status;
        } cases[] = {{"HTTP/1.1 200 OK\r\n", 200}, {"HTTP/1.0 302 Found", 302}, {"HTTP/2 511\r\n", 511},
                {"HTTP/1.1 099 x", 0}, {"HTTP/1.1 600 x", 0}, {"HTTP/1.1 2000 x", 0}, {"HTTP/1.1 20", 0},
                {"HTTP/1.1", 0}, {"HTTP/", 0}, {"ICY 200 OK", 0}, {"HTTP/1.1  200 OK", 0}, {"", 0},
                {"\r\n", 0}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct http_answer a = {0};

                add(&a, cases[i].line);
                assert_int_equal(a.status, cases[i].status);
                http_answer_done(&a);
        }
}

static void headers(void **state)
{
        struct http_answer a = {0};

        (void)state;
        add(&a, "HTTP/1.1 407 Proxy Authentication Required\r\n");
        add(&a, "Proxy-Authenticate: Negotiate\r\n");
        add(&a, "\r\n");
        add(&a, "HTTP/1.1 302 Found\r\n");
        add(&a, "LOCATION:  http://login.example/?a=b:c \t\r\n");
        add(&a, "Server:nginx\r\n");
        add(&a, "Server: second\r\n");
        add(&a, "Via: 1.1 \x1b[31mproxy\r\n");
        add(&a, "Date: Sat, 21 Nov 2026 03:00:00 GMT\r\n");
        add(&a, "Content-Type: application/problem+json; charset=utf-8\r\n");
        add(&a, "no colon here\r\n");
        add(&a, ": no name\r\n");
        assert_int_equal(a.status, 302);
        assert_string_equal(a.location, "http://login.example/?a=b:c");
        assert_string_equal(a.server, "nginx");
        assert_string_equal(a.via, "1.1 \\x1b[31mproxy");
        assert_string_equal(a.proxy_authenticate, "Negotiate");
        assert_int_equal(a.date_unix, 1795230000);
        assert_true(http_answer_is_problem(&a));
        http_answer_done(&a);
        assert_null(a.location);
}

static void dates(void **state)
{
        static const char *const bad[] = {
                "Date:", "Date: yesterday", "Date: Thu, 01 Jan 1970 00:00:00 GMT", "Date: -1"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                struct http_answer a = {0};

                add(&a, bad[i]);
                assert_int_equal(a.date_unix, 0);
                http_answer_done(&a);
        }
}

static void long_values(void **state)
{
        struct http_answer a = {0};
        char line[5000] = "Location: ";

        (void)state;
        memset(line + 10, 'x', sizeof(line) - 10);
        http_answer_add_line(&a, line, sizeof(line));
        assert_int_equal(strlen(a.location), HTTP_ANSWER_VALUE_MAX);
        http_answer_done(&a);
}

static void problem_documents(void **state)
{
        static const char *const without[] = {"", "{", "[]", "null", "{\"type\": 7}", "{\"title\": \"x\"}",
                "{\"type\":\"a\",\"type\":\"b\"}", "{\"type\":\"a\"} trailing"};
        static const char good[] =
                "{\"type\": \"https://grid.example/problems/node-not-authorized\", \"status\": 403}";
        _cleanup_free_ char *type = http_answer_problem_type(good, strlen(good));
        char *large = calloc(1, HTTP_ANSWER_PROBLEM_MAX + 1);

        (void)state;
        assert_string_equal(type, "https://grid.example/problems/node-not-authorized");
        for (size_t i = 0; i < ELEMENTS(without); i++)
                assert_null(http_answer_problem_type(without[i], strlen(without[i])));
        memset(large, '[', HTTP_ANSWER_PROBLEM_MAX + 1);
        assert_null(http_answer_problem_type(large, HTTP_ANSWER_PROBLEM_MAX));
        assert_null(http_answer_problem_type(large, HTTP_ANSWER_PROBLEM_MAX + 1));
        free(large);
}

static void problem_types(void **state)
{
        static const struct {
                const char *type;
                bool is_problem;
        } cases[] = {{"application/problem+json", true}, {"Application/Problem+JSON;charset=x", true},
                {"application/problem+jsonx", false}, {"application/json", false}, {"", false},
                {NULL, false}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct http_answer a = {.content_type = (char *)cases[i].type};

                assert_int_equal(http_answer_is_problem(&a), cases[i].is_problem);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(status_lines), cmocka_unit_test(headers),
                cmocka_unit_test(dates), cmocka_unit_test(long_values), cmocka_unit_test(problem_documents),
                cmocka_unit_test(problem_types)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
