/* The API's surface: paths, methods, parameters, bodies, and who may ask what. */
#include "api_world.h"

#include "base/alloc.h"
#include "base/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- paths and methods ---- */

static void test_paths(void **state)
{
        struct world *w = *state;

        assert_problem(world_ask(w, ASK("GET", "/")), 404, "path.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1")), 404, "path.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes/a/b/c")), 404, "path.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v2/health")), 404, "path.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/health/")), 400, "uri.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/../health")), 400, "uri.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes/%ff")), 400, "uri.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/health?verbose=1")), 400, "query.unknown");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes?limit=1&limit=2", .token = w->viewer)), 400,
                "uri.malformed");
        json_decref(world_get(w, 200, ASK("GET", "/api/v1/%68ealth")));
}

static void test_methods(void **state)
{
        struct world *w = *state;
        struct answer a = world_ask(w, ASK("PUT", "/api/v1/nodes"));

        assert_string_equal(answer_header(&a, "Allow"), "GET, HEAD, POST, OPTIONS");
        assert_problem(a, 405, "method.unknown");
        assert_problem(world_ask(w, ASK("BREW", "/api/v1/health")), 405, "method.unknown");
        a = world_ask(w, ASK("OPTIONS", "/api/v1/nodes/x/config"));
        assert_int_equal(a.status, 204);
        assert_string_equal(answer_header(&a, "Allow"), "GET, HEAD, PUT, OPTIONS");
        answer_done(&a);
        a = world_ask(w, ASK("HEAD", "/api/v1/health"));
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "");
        assert_string_equal(answer_header(&a, "Content-Type"), "application/json");
        assert_true(atoi(answer_header(&a, "Content-Length")) > 0);
        answer_done(&a);
}

static void test_headers_of_every_answer(void **state)
{
        struct world *w = *state;
        struct answer a = world_ask(w, ASK("GET", "/api/v1/health"));

        assert_string_equal(answer_header(&a, "X-Content-Type-Options"), "nosniff");
        assert_string_equal(answer_header(&a, "Cache-Control"), "no-store");
        answer_done(&a);
}

/* ---- bodies ---- */

static void test_bodies(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *large = xcalloc(1, BODY_MAXIMUM + 200), *huge = xcalloc(1, 3 << 20);
        const char *path = "/api/v1/nodes";

        assert_problem(
                world_ask(w, ASK("POST", path, .token = w->operator, .body = "{}", .type = "text/plain")),
                415, "body.type");
        assert_problem(world_ask(w, ASK("POST", path, .token = w->operator)), 415, "body.type");
        assert_problem(
                world_ask(w, ASK("POST", path, .token = w->operator, .body = "{")), 400, "body.malformed");
        assert_problem(
                world_ask(w, ASK("POST", path, .token = w->operator, .body = "[]")), 400, "body.malformed");
        assert_problem(world_ask(w, ASK("POST", path, .token = w->operator,
                                            .body = "{\"name\":\"a\",\"name\":\"b\"}")),
                400, "body.malformed");
        assert_problem(world_ask(w, ASK("POST", path, .token = w->operator, .body = "{\"name\":\"\xff\"}")),
                400, "body.malformed");
        assert_problem(
                world_ask(w, ASK("POST", path, .token = w->operator, .body = "{\"name\":\"a\",\"more\":1}")),
                400, "body.malformed");
        assert_problem(world_ask(w, ASK("POST", path, .token = w->operator, .body = "{\"name\":7}")), 400,
                "body.malformed");
        memset(large, ' ', BODY_MAXIMUM + 100);
        memcpy(large, "{\"name\":\"a\"}", 12);
        assert_problem(
                world_ask(w, ASK("POST", path, .token = w->operator, .body = large)), 413, "body.large");
        memset(huge, ' ', (3 << 20) - 1);
        assert_problem(
                world_ask(w, ASK("POST", path, .token = w->operator, .body = huge)), 413, "body.large");
        assert_problem(world_ask(w, ASK("DELETE", "/api/v1/nodes/x", .token = w->operator, .body = "{}")),
                400, "body.unexpected");
        json_decref(world_get(w, 201,
                ASK("POST", path, .token = w->operator, .body = "{\"name\":\"a\"}",
                        .type = "Application/JSON; charset=utf-8")));
}

/* A body without a length, in chunks, is bounded as well. */
static void test_chunked_bodies(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *head =
                xasprintf("POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n"
                          "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
                        w->operator);
        _cleanup_free_ char *answer = NULL, *chunk = xcalloc(1, 70008), *second = NULL;
        int fd = raw_open(w, false);

        raw_send(w, fd, head, strlen(head));
        raw_send(w, fd, "5\r\n{\"nam\r\n", 10);
        world_run(w, 20);
        raw_send(w, fd, "9\r\ne\":\"c-1\"}\r\n0\r\n\r\n", 19);
        answer = raw_read(w, fd, "\"token\"", 3000);
        assert_non_null(strstr(answer, "201 Created"));
        close(fd);

        fd = raw_open(w, false);
        raw_send(w, fd, head, strlen(head));
        memset(chunk, ' ', 70000);
        memcpy(chunk, "11170\r\n", 7); /* 70,000 */
        raw_send(w, fd, chunk, 7);
        memset(chunk, ' ', 70000);
        raw_send(w, fd, chunk, 70000);
        raw_send(w, fd, "\r\n0\r\n\r\n", 7);
        second = raw_read(w, fd, "body.large", 3000);
        assert_non_null(strstr(second, "413 "));
        close(fd);
}

/* Who will not be heard is told before he sends. */
static void test_refusal_before_the_body(void **state)
{
        struct world *w = *state;
        static const char request[] =
                "POST /api/v1/nodes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                "Content-Length: 60000\r\nExpect: 100-continue\r\n\r\n";
        _cleanup_free_ char *answer = NULL;
        int fd = raw_open(w, false);

        raw_send(w, fd, request, strlen(request));
        answer = raw_read(w, fd, "session.missing", 3000);
        assert_non_null(strstr(answer, "401 "));
        assert_null(strstr(answer, "100 Continue"));
        close(fd);
}

static void test_bytes_that_are_no_http(void **state)
{
        struct world *w = *state;
        static const char *const wrong[] = {
                "\r\n\r\n\r\n",
                "GET\r\n\r\n",
                "GET / HTTP/1.1\r\n\r\n",
                "GET / HTTP/9.9\r\nHost: x\r\n\r\n",
                "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                "POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: "
                "application/json\r\nContent-Length: -1\r\n\r\n",
                "POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: "
                "application/json\r\nContent-Length: 5\r\n"
                "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /api/v1/nodes HTTP/1.1\r\n\r\n",
                "GET /api/v1/health HTTP/1.1\r\nHost: x\r\nBroken header\r\n\r\n",
                "GET /api/v1/health\r\n",
        };
        _cleanup_free_ char *headers = xcalloc(1, 200 << 10);

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                int fd = raw_open(w, false);
                _cleanup_free_ char *answer = NULL;

                raw_send(w, fd, wrong[i], strlen(wrong[i]));
                answer = raw_read(w, fd, "\r\n\r\n", 100);
                assert_null(strstr(answer, " 200 OK\r\n") && !strstr(wrong[i], "Broken") ? answer : NULL);
                close(fd);
        }
        strcpy(headers, "GET /api/v1/health HTTP/1.1\r\nHost: x\r\n");
        memset(headers + strlen(headers), 'a', 150 << 10);
        {
                int fd = raw_open(w, false);
                _cleanup_free_ char *answer = NULL;

                raw_send(w, fd, headers, strlen(headers));
                answer = raw_read(w, fd, "\r\n\r\n", 300);
                assert_null(strstr(answer, "200 OK"));
                close(fd);
        }
        world_run(w, 30);
        json_decref(world_get(w, 200, ASK("GET", "/api/v1/health")));
}

/* Two requests in one packet get an answer each, in order. */
static void test_pipelined_requests(void **state)
{
        struct world *w = *state;
        static const char request[] = "GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\n"
                                      "GET /api/v1/none HTTP/1.1\r\nHost: x\r\n\r\n";
        _cleanup_free_ char *answer = NULL;
        int fd = raw_open(w, false);

        raw_send(w, fd, request, strlen(request));
        answer = raw_read(w, fd, "path.unknown", 3000);
        assert_non_null(strstr(answer, "200 OK"));
        assert_true(strstr(answer, "404 ") > strstr(answer, "200 OK"));
        close(fd);
}

static void test_a_byte_at_a_time(void **state)
{
        struct world *w = *state;
        static const char request[] = "GET /api/v1/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        _cleanup_free_ char *answer = NULL;
        int fd = raw_open(w, false);

        for (size_t i = 0; i < strlen(request); i++) {
                raw_send(w, fd, request + i, 1);
                world_run(w, 1);
        }
        answer = raw_read(w, fd, NULL, 3000);
        assert_non_null(strstr(answer, "200 OK"));
        close(fd);
}

/* ---- who may ask what ---- */

static void fill(const char *pattern, char *ret, size_t size)
{
        size_t n = 0;

        for (; *pattern && n + 2 < size; pattern++)
                ret[n++] = *pattern == '*' ? 'x' : *pattern;
        ret[n] = '\0';
}

static long status_for(struct world *w, const struct route *r, const char *token, bool local)
{
        char path[128];
        struct answer a;
        long status;

        fill(r->path, path, sizeof path);
        a = world_ask(w,
                ASK(r->method, path, .token = token, .body = r->body_maximum ? "{}" : NULL, .local = local));
        status = a.status;
        answer_done(&a);
        return status;
}

static bool is_refusal(long status)
{
        return status == 401 || status == 403;
}

/* The whole table: each row for nobody, and for each role. */
static void test_roles(void **state)
{
        struct world *w = *state;

        for (size_t i = 0; i < api_route_count; i++) {
                const struct route *r = &api_routes[i];
                const char *tokens[] = {w->viewer, w->operator, w->admin };
                static const enum access least[] = {ACCESS_VIEWER, ACCESS_OPERATOR, ACCESS_ADMIN};

                if (strstr(r->path, "/stream") || strstr(r->path, "/internal/") || r->access < ACCESS_NODE)
                        continue;
                assert_int_equal(status_for(w, r, NULL, false), 401);
                for (size_t k = 0; k < ELEMENTS(tokens); k++) {
                        bool may = r->access >= ACCESS_VIEWER && r->access <= least[k];
                        long status = status_for(w, r, tokens[k], false);

                        if (is_refusal(status) == may && !(may && strstr(r->path, "session")))
                                fail_msg("%s %s with token %zu: %ld", r->method, r->path, k, status);
                }
        }
}

static void test_wrong_credentials(void **state)
{
        struct world *w = *state;
        struct answer a = world_ask(w, ASK("GET", "/api/v1/nodes"));

        assert_string_equal(answer_header(&a, "WWW-Authenticate"), "Bearer realm=\"gridplane\"");
        assert_problem(a, 401, "session.missing");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes", .token = "gpt_wrong")), 401, "token.refused");
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/nodes", .token = "nonsense")), 401, "token.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes", .headers = {"Authorization: Basic eDp5"})),
                401, "token.malformed");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes", .headers = {"Cookie: gridplane=wrong"})), 401,
                "session.over");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes", .headers = {"Cookie: a=b"})), 401,
                "session.missing");
        /* What only nginx may say, said without a certificate that is ours, opens nothing. */
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/node/config", .headers = {"X-Client-Verify: SUCCESS"})), 403,
                "certificate.foreign");
        assert_problem(world_ask(w, ASK("GET", "/api/v1/nodes", .headers = {"X-Organisation: default"})), 401,
                "session.missing");
}

/* The machine's own administrator has every organisation, and is no node. */
static void test_admin_socket(void **state)
{
        struct world *w = *state;
        json_t *o = world_get(w, 200, ASK("GET", "/api/v1/session", .local = true));
        struct stat st;

        assert_string_equal(text_of(o, "name"), geteuid() == 0 ? "local:root" : text_of(o, "name"));
        assert_string_equal(text_of(o, "organisation"), w->organisation);
        assert_string_equal(text_of(o, "role"), "admin");
        json_decref(o);
        o = world_get(
                w, 200, ASK("GET", "/api/v1/session", .local = true, .headers = {"X-Organisation: other"}));
        assert_string_equal(text_of(o, "organisation"), w->other);
        json_decref(o);
        assert_problem(world_ask(w, ASK("GET", "/api/v1/session", .local = true,
                                            .headers = {"X-Organisation: none"})),
                404, "organisation.unknown");
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/node/config", .local = true)), 403, "certificate.missing");
        assert_int_equal(stat(w->settings.admin_socket, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(stat(w->settings.api_socket, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0660);
}

/* X-Organisation is the machine's own word; from elsewhere it says nothing. */
static void test_organisation_cannot_be_chosen(void **state)
{
        struct world *w = *state;
        json_t *o = world_get(w, 200,
                ASK("GET", "/api/v1/session", .token = w->stranger, .headers = {"X-Organisation: default"}));

        assert_string_equal(text_of(o, "organisation"), w->other);
        json_decref(o);
}

/* ---- health, description, metrics ---- */

static void test_health(void **state)
{
        struct world *w = *state;
        json_t *o = world_get(w, 200, ASK("GET", "/api/v1/health"));

        assert_string_equal(text_of(o, "status"), "ok");
        assert_int_equal(json_object_size(o), 1);
        json_decref(o);
        played.service_state = "waiting";
        o = world_get(w, 200, ASK("GET", "/api/v1/health", .token = w->viewer));
        assert_string_equal(text_of(o, "status"), "degraded");
        assert_string_equal(text_of(o, "version"), GRIDNODE_VERSION);
        assert_int_equal(json_array_size(json_object_get(o, "parts")), 3);
        json_decref(o);
}

static void test_description(void **state)
{
        struct world *w = *state;
        struct answer a = world_ask(w, ASK("GET", "/api/v1/openapi.yaml"));

        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "Content-Type"), "application/yaml");
        assert_int_equal(strncmp(a.body, "openapi: 3.1.", 13), 0);
        for (size_t i = 0; i < api_route_count; i++) /* whatever else it says, it knows each path */
                if (!strstr(api_routes[i].path, "*") && !strstr(api_routes[i].path, "/internal/"))
                        assert_non_null(strstr(a.body,
                                api_routes[i].path + (strncmp(api_routes[i].path, "/api/v1", 7) ? 0 : 7)));
        answer_done(&a);
}

/* Each line of the text format is a comment or NAME{LABELS} VALUE, and each name was introduced once. */
static void check_metrics(const char *body)
{
        _cleanup_free_ char *copy = xstrdup(body);
        struct strv known = {0};
        char *save = NULL;

        assert_int_equal(body[strlen(body) - 1], '\n');
        for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                size_t length = strspn(line, "abcdefghijklmnopqrstuvwxyz_");
                char name[64], *end;

                if (strncmp(line, "# TYPE ", 7) == 0) {
                        char type[16];

                        assert_int_equal(sscanf(line, "# TYPE %63s %15s", name, type), 2);
                        assert_true(str_equal(type, "gauge") || str_equal(type, "counter"));
                        assert_int_equal(str_ends_with(name, "_total"), str_equal(type, "counter"));
                        assert_false(strv_contains(&known, name));
                        strv_add(&known, name);
                        continue;
                }
                if (strncmp(line, "# HELP ", 7) == 0)
                        continue;
                assert_true(length > 10 && length < sizeof name);
                str_copy(name, length + 1, line);
                assert_true(strv_contains(&known, name));
                line = line[length] == '{' ? strchr(line, '}') + 1 : line + length;
                assert_int_equal(*line, ' ');
                strtod(line + 1, &end);
                assert_true(end > line + 1 && *end == '\0');
        }
        assert_true(known.count > 3 || known.count == 1);
        strv_done(&known);
}

static void test_metrics(void **state)
{
        struct world *w = *state;
        struct answer a;

        json_decref(world_get(
                w, 201, ASK("POST", "/api/v1/nodes", .token = w->operator, .body = "{\"name\":\"n1\"}")));
        assert_problem(world_ask(w, ASK("GET", "/metrics")), 401, "session.missing");
        a = world_ask(w, ASK("GET", "/metrics", .token = w->viewer));
        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
        check_metrics(a.body);
        assert_non_null(strstr(
                a.body, "gridplane_nodes{organisation=\"default\",state=\"new\",connected=\"no\"} 1\n"));
        assert_non_null(strstr(a.body, "gridplane_service_up{service=\"nginx\"} 1\n"));
        assert_non_null(strstr(a.body, "gridplane_events_stored_total 7\n"));
        assert_non_null(strstr(a.body, "gridplane_broker_connection_changed_timestamp_seconds 1795230000\n"));
        assert_non_null(strstr(a.body, "gridplane_messages_denied_total 9\n"));
        assert_non_null(strstr(a.body, "gridplane_http_replies_total{class=\"4xx\"} 1\n"));
        answer_done(&a);
        /* Another organisation sees its own nodes, and nothing of the plane. */
        a = world_ask(w, ASK("GET", "/metrics", .token = w->stranger));
        assert_int_equal(a.status, 200);
        assert_null(strstr(a.body, "default"));
        assert_null(strstr(a.body, "service_up"));
        answer_done(&a);
        a = world_ask(w, ASK("GET", "/metrics", .local = true));
        check_metrics(a.body);
        assert_non_null(strstr(a.body, "gridplane_sessions 0\n"));
        answer_done(&a);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_paths),
                TEST(test_methods),
                TEST(test_headers_of_every_answer),
                TEST(test_bodies),
                TEST(test_chunked_bodies),
                TEST(test_refusal_before_the_body),
                TEST(test_bytes_that_are_no_http),
                TEST(test_pipelined_requests),
                TEST(test_a_byte_at_a_time),
                TEST(test_roles),
                TEST(test_wrong_credentials),
                TEST(test_admin_socket),
                TEST(test_organisation_cannot_be_chosen),
                TEST(test_health),
                TEST(test_description),
                TEST(test_metrics),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
