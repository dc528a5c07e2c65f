/* Remote tools and server-sent events: what arrives where, and what a bad reader costs. */
#include "api_world.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)

static char *get_request(const char *path, const char *token, const char *more)
{
        return xasprintf("GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n", path, token,
                more ? more : "");
}

/* Reads the head and no byte more: what follows is the test's. */
static int open_stream(struct world *w, const char *path, const char *token, const char *more)
{
        _cleanup_free_ char *request = get_request(path, token, more);
        char head[2048] = "";
        int fd = raw_open(w, false);

        raw_send(w, fd, request, strlen(request));
        for (int tries = 0; tries < 2000 && !strstr(head, "\r\n\r\n");) {
                size_t length = strlen(head);

                if (length + 1 < sizeof head && read(fd, head + length, 1) == 1)
                        continue;
                sd_event_run(w->event, 1000);
                tries++;
        }
        if (!strstr(head, "200 OK") || !strstr(head, "text/event-stream"))
                fail_msg("%s", head);
        return fd;
}

static void change(struct world *w, const char *organisation, const char *kind, const char *text)
{
        json_t *value = json_pack("{s:s}", "text", text);

        api_changed(w->api, organisation, kind, value);
        json_decref(value);
}

/* The id of the last event in what was read. */
static void last_id(const char *text, char ret[64])
{
        const char *found = NULL;

        for (const char *at = text; (at = strstr(at, "\nid: ")); at++)
                found = at + 5;
        assert_non_null(found);
        snprintf(ret, 64, "%.*s", (int)strcspn(found, "\r\n"), found);
}

/* ---- changes ---- */

static void test_changes(void **state)
{
        struct world *w = *state;
        int own = open_stream(w, "/api/v1/events/stream", w->viewer, NULL),
            strange = open_stream(w, "/api/v1/events/stream", w->stranger, NULL);
        _cleanup_free_ char *text = NULL, *other = NULL;

        assert_int_equal(api_streams_count(w->api), 2);
        change(w, w->organisation, "event", "one");
        change(w, w->other, "event", "two");
        change(w, "", "incident", "three\nlines");
        text = raw_read(w, own, "three", 2000);
        assert_non_null(strstr(text, "event: event\nid: "));
        assert_non_null(strstr(text, "data: {\"text\":\"one\"}\n\n"));
        assert_non_null(strstr(text, "data: {\"text\":\"three\\nlines\"}\n\n"));
        assert_null(strstr(text, "two"));
        other = raw_read(w, strange, "three", 2000);
        assert_null(strstr(other, "one"));
        assert_non_null(strstr(other, "two"));
        close(own);
        close(strange);
        world_run(w, 50);
        assert_int_equal(api_streams_count(w->api), 0);
}

/* Whatever somebody changes is in the audit log, and what is new in it goes to administrators alone. */
static void test_the_audit_log(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *text = NULL, *own = NULL, *other = NULL;
        int admin, viewer, strange;

        json_decref(world_get(
                w, 201, ASK("POST", "/api/v1/nodes", .token = w->operator, .body = "{\"name\":\"before\"}")));
        world_run(w, 50);
        admin = open_stream(w, "/api/v1/events/stream", w->admin, NULL);
        viewer = open_stream(w, "/api/v1/events/stream", w->viewer, NULL);
        strange = open_stream(w, "/api/v1/events/stream", w->stranger, NULL);
        json_decref(world_get(
                w, 201, ASK("POST", "/api/v1/nodes", .token = w->operator, .body = "{\"name\":\"branch\"}")));
        text = raw_read(w, admin, "node.create", 2000);
        assert_non_null(strstr(text, "event: audit\nid: "));
        assert_non_null(strstr(text, "\"actor\":\"token:o\""));
        assert_non_null(strstr(text, "\"detail\":{\"name\":\"branch\""));
        assert_null(strstr(text, "before")); /* of before it was opened */
        change(w, "", "event", "last");
        own = raw_read(w, viewer, "last", 2000);
        assert_non_null(strstr(own, "event: node\n"));
        assert_null(strstr(own, "audit"));
        other = raw_read(w, strange, "last", 2000);
        assert_null(strstr(other, "node.create"));
        assert_null(strstr(other, "branch"));
        close(admin);
        close(viewer);
        close(strange);
}

/* Who was cut off because users changed hears how when he comes back. */
static void test_the_audit_log_of_users(void **state)
{
        struct world *w = *state;
        int fd = open_stream(w, "/api/v1/events/stream", w->admin, NULL);
        _cleanup_free_ char *text = NULL, *again = NULL;
        char id[64], header[128];
        struct answer a;

        change(w, w->organisation, "event", "one");
        text = raw_read(w, fd, "one", 2000);
        last_id(text, id);
        close(fd);
        a = world_ask(w, ASK("POST", "/api/v1/users", .token = w->admin,
                                 .body = "{\"name\":\"carol\",\"role\":\"viewer\","
                                         "\"password\":\"correct horse battery\"}"));
        assert_int_equal(a.status, 201);
        answer_done(&a);
        world_run(w, 50);
        snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", id);
        fd = open_stream(w, "/api/v1/events/stream", w->admin, header);
        again = raw_read(w, fd, "retry", 2000);
        assert_non_null(strstr(again, "user.create"));
        assert_non_null(strstr(again, "carol"));
        assert_null(strstr(again, "horse"));
        close(fd);
}

static void test_coming_back(void **state)
{
        struct world *w = *state;
        int fd = open_stream(w, "/api/v1/events/stream", w->viewer, NULL);
        _cleanup_free_ char *text = NULL, *again = NULL, *gap = NULL, *foreign = NULL;
        char id[64], header[128];

        change(w, w->organisation, "event", "one");
        text = raw_read(w, fd, "one", 2000);
        last_id(text, id);
        close(fd);
        change(w, w->organisation, "event", "two");
        change(w, w->other, "event", "secret");
        snprintf(header, sizeof header, "Last-Event-ID: %s\r\n", id);
        fd = open_stream(w, "/api/v1/events/stream", w->viewer, header);
        again = raw_read(w, fd, "retry", 2000);
        assert_non_null(strstr(again, "two"));
        assert_null(strstr(again, "\"one\""));
        assert_null(strstr(again, "secret"));
        assert_null(strstr(again, "gap"));
        close(fd);
        /* Further back than what is kept, or of another life of the plane: it is said that there is a gap. */
        for (int i = 0; i < 1100; i++)
                change(w, w->organisation, "event", "many");
        fd = open_stream(w, "/api/v1/events/stream", w->viewer, header);
        gap = raw_read(w, fd, "retry", 2000);
        assert_non_null(strstr(gap, "event: gap\n"));
        assert_null(strstr(gap, "many"));
        close(fd);
        fd = open_stream(w, "/api/v1/events/stream", w->viewer, "Last-Event-ID: s-0000.5\r\n");
        foreign = raw_read(w, fd, "retry", 2000);
        assert_non_null(strstr(foreign, "event: gap\n"));
        close(fd);
}

/* Who does not read is left behind; the others are not. */
static void test_a_reader_who_does_not_read(void **state)
{
        struct world *w = *state;
        int lazy = open_stream(w, "/api/v1/events/stream", w->viewer, NULL),
            keen = open_stream(w, "/api/v1/events/stream", w->viewer, NULL);
        _cleanup_free_ char *large = xcalloc(1, 8192), *last = NULL;

        memset(large, 'x', 8000);
        for (int i = 0; i < 200; i++) {
                _cleanup_free_ char *text = NULL;

                change(w, w->organisation, "event", large);
                text = raw_read(w, keen, "}\n\n", 1000);
                assert_non_null(strstr(text, "xxx"));
        }
        world_run(w, 50);
        assert_int_equal(api_streams_count(w->api), 1);
        change(w, w->organisation, "event", "last");
        last = raw_read(w, keen, "last", 1000);
        assert_non_null(strstr(last, "last"));
        close(lazy);
        close(keen);
}

static void test_streams_are_bounded(void **state)
{
        struct world *w = *state;
        int fds[128];

        for (size_t i = 0; i < ELEMENTS(fds); i++)
                fds[i] = open_stream(w, "/api/v1/events/stream", w->viewer, NULL);
        assert_problem(
                world_ask(w, ASK("GET", "/api/v1/events/stream", .token = w->viewer)), 503, "streams.full");
        close(open_stream(
                w, "/api/v1/events/stream", w->stranger, NULL)); /* another organisation's are its own */
        for (size_t i = 0; i < ELEMENTS(fds); i++)
                close(fds[i]);
        world_run(w, 100);
        assert_int_equal(api_streams_count(w->api), 0);
}

static void test_streams_end_with_rights(void **state)
{
        struct world *w = *state;
        json_t *o = world_get(w, 201,
                ASK("POST", "/api/v1/tokens", .token = w->admin,
                        .body = "{\"name\":\"t\",\"role\":\"viewer\"}"));
        _cleanup_free_ char *path = xasprintf("/api/v1/tokens/%s", text_of(o, "id")), *text = NULL;
        int fd = open_stream(w, "/api/v1/events/stream", text_of(o, "secret"), NULL);

        json_decref(world_get(w, 204, ASK("DELETE", path, .token = w->admin)));
        text = raw_read(w, fd, "\r\n0\r\n\r\n", 2000);
        assert_non_null(strstr(text, "0\r\n\r\n")); /* an end, not a break */
        assert_int_equal(api_streams_count(w->api), 0);
        close(fd);
        json_decref(o);
}

static void test_head_of_a_stream(void **state)
{
        struct world *w = *state;
        struct answer a = world_ask(w, ASK("HEAD", "/api/v1/events/stream", .token = w->viewer));

        assert_int_equal(a.status, 200);
        assert_string_equal(answer_header(&a, "Content-Type"), "text/event-stream");
        assert_int_equal(api_streams_count(w->api), 0);
        answer_done(&a);
}

/* The plane stops while streams are open and a password is being looked at. */
static void test_stopping(void **state)
{
        struct world *w = *state;
        static const char request[] =
                "POST /api/v1/session HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                "Content-Length: 44\r\n\r\n{\"name\":\"alice\",\"password\":\"wrong password\"}";
        int stream = open_stream(w, "/api/v1/events/stream", w->viewer, NULL), login = raw_open(w, false);

        raw_send(w, login, request, strlen(request));
        for (int i = 0; i < 1000 && !w->api->waits; i++)
                sd_event_run(w->event, 1000);
        assert_non_null(w->api->waits);
        w->api = api_free(w->api);
        assert_int_equal(access(w->settings.api_socket, F_OK), -1);
        world_run(w, 500); /* what the worker says then finds nobody, and harms nobody */
        close(stream);
        close(login);
}

/* ---- remote tools ---- */

static struct wire_output lines(int64_t first, struct wire_line *l, size_t count)
{
        return (struct wire_output){.first = first, .lines = l, .line_count = count};
}

static void test_request(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        struct wire_line l[] = {{false, (char *)"one"}, {true, (char *)"two"}};
        struct wire_output o = lines(0, l, 2);
        _cleanup_free_ char *path = NULL, *stream = NULL, *text = NULL;
        json_t *answer;
        int fd;

        assert_problem(world_ask(w, ASK("POST", "/api/v1/nodes/branch-1/requests", .token = w->operator,
                                            .body = "{\"tool\":\"tcp\"}")),
                409, "node.offline");
        world_connect(w, n.id, true);
        answer = world_get(w, 202,
                ASK("POST", "/api/v1/nodes/branch-1/requests", .token = w->operator,
                        .body = "{\"tool\":\"tcp\",\"arguments\":[\"198.51.100.20\",\"443\"],\"timeout_s\":"
                                "30}"));
        path = xasprintf("/api/v1/requests/%s", text_of(answer, "id"));
        stream = xasprintf("%s/stream", path);
        json_decref(answer);
        assert_int_equal(played.requests, 1);
        fd = open_stream(w, stream, w->viewer, NULL);
        requests_output(w->requests, n.id, played.request, &o);
        text = raw_read(w, fd, "two", 2000);
        assert_non_null(strstr(text, "event: line\nid: 0\ndata: {\"stream\":\"out\",\"text\":\"one\"}\n\n"));
        assert_non_null(strstr(text, "event: line\nid: 1\ndata: {\"stream\":\"err\",\"text\":\"two\"}\n\n"));
        free(text);
        o = (struct wire_output){.first = 2, .end = END_EXITED, .status = 3};
        requests_output(w->requests, n.id, played.request, &o);
        text = raw_read(w, fd, "\r\n0\r\n\r\n", 2000);
        assert_non_null(strstr(text, "event: end\ndata: {"));
        assert_non_null(strstr(text, "\"end\":\"exited\",\"status\":3"));
        close(fd);
        answer = world_get(w, 200, ASK("GET", path, .token = w->viewer));
        assert_string_equal(text_of(answer, "by"), "token:o");
        assert_string_equal(text_of(answer, "state"), "ended");
        assert_int_equal(json_array_size(json_object_get(answer, "lines")), 2);
        assert_int_equal(json_integer_value(json_object_get(answer, "next")), 2);
        json_decref(answer);
        assert_problem(world_ask(w, ASK("GET", path, .token = w->stranger)), 404, "request.unknown");
        assert_problem(world_ask(w, ASK("GET", stream, .token = w->stranger)), 404, "request.unknown");
        assert_problem(world_ask(w, ASK("DELETE", path, .token = w->stranger)), 404, "request.unknown");
        enrolled_done(&n);
}

/* Back where it was: the lines after the last one that came. */
static void test_request_stream_again(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        struct wire_line l[] = {{false, (char *)"zero"}, {false, (char *)"one"}, {false, (char *)"two"}};
        struct wire_output o = {.lines = l, .line_count = 3, .end = END_EXITED};
        _cleanup_free_ char *stream = NULL, *text = NULL, *whole = NULL;
        json_t *answer;
        int fd;

        world_connect(w, n.id, true);
        answer = world_get(w, 202,
                ASK("POST", "/api/v1/nodes/branch-1/requests", .token = w->operator,
                        .body = "{\"tool\":\"diag\"}"));
        stream = xasprintf("/api/v1/requests/%s/stream", text_of(answer, "id"));
        json_decref(answer);
        requests_output(w->requests, n.id, played.request, &o);
        fd = open_stream(w, stream, w->viewer, "Last-Event-ID: 1\r\n");
        text = raw_read(w, fd, "\r\n0\r\n\r\n", 2000);
        assert_null(strstr(text, "\"one\""));
        assert_non_null(strstr(text, "\"two\""));
        assert_non_null(strstr(text, "event: end"));
        close(fd);
        fd = open_stream(w, stream, w->viewer, NULL);
        whole = raw_read(w, fd, "\r\n0\r\n\r\n", 2000);
        assert_non_null(strstr(whole, "\"zero\""));
        close(fd);
        enrolled_done(&n);
}

static void test_requests_that_are_wrong(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        static const char *const wrong[] = {
                "{}",
                "{\"tool\":\"\"}",
                "{\"tool\":\"../sh\"}",
                "{\"tool\":\"tcp\",\"arguments\":\"x\"}",
                "{\"tool\":\"tcp\",\"arguments\":[1]}",
                "{\"tool\":\"tcp\",\"arguments\":[\"a\\u0000b\"]}",
                "{\"tool\":\"tcp\",\"timeout_s\":0}",
                "{\"tool\":\"tcp\",\"timeout_s\":601}",
                "{\"tool\":\"tcp\",\"by\":\"somebody else\"}",
        };

        world_connect(w, n.id, true);
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_problem(world_ask(w, ASK("POST", "/api/v1/nodes/branch-1/requests",
                                                    .token = w->operator, .body = wrong[i])),
                        400, "body.malformed");
        assert_int_equal(played.requests, 0);
        played.broker_is_away = true;
        assert_problem(world_ask(w, ASK("POST", "/api/v1/nodes/branch-1/requests", .token = w->operator,
                                            .body = "{\"tool\":\"tcp\"}")),
                409, "node.offline");
        enrolled_done(&n);
}

static void test_cancel(void **state)
{
        struct world *w = *state;
        struct enrolled n = world_enrol(w, w->organisation, "branch-1");
        struct wire_output o = {.end = END_CANCELLED};
        _cleanup_free_ char *path = NULL;
        json_t *answer;

        world_connect(w, n.id, true);
        for (int i = 0; i < 2; i++)
                json_decref(world_get(w, 202,
                        ASK("POST", "/api/v1/nodes/branch-1/requests", .token = w->operator,
                                .body = "{\"tool\":\"trace\"}")));
        assert_problem(world_ask(w, ASK("POST", "/api/v1/nodes/branch-1/requests", .token = w->operator,
                                            .body = "{\"tool\":\"trace\"}")),
                429, "request.busy");
        path = xasprintf("/api/v1/requests/%s", played.request);
        assert_problem(world_ask(w, ASK("DELETE", path, .token = w->viewer)), 403, "role.insufficient");
        answer = world_get(w, 202, ASK("DELETE", path, .token = w->operator));
        assert_string_equal(text_of(answer, "state"), "running");
        json_decref(answer);
        assert_int_equal(played.cancels, 1);
        requests_output(w->requests, n.id, played.request, &o);
        answer = world_get(w, 200, ASK("GET", path, .token = w->viewer));
        assert_string_equal(text_of(answer, "end"), "cancelled");
        json_decref(answer);
        enrolled_done(&n);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_changes),
                TEST(test_the_audit_log),
                TEST(test_the_audit_log_of_users),
                TEST(test_coming_back),
                TEST(test_a_reader_who_does_not_read),
                TEST(test_streams_are_bounded),
                TEST(test_streams_end_with_rights),
                TEST(test_head_of_a_stream),
                TEST(test_stopping),
                TEST(test_request),
                TEST(test_request_stream_again),
                TEST(test_requests_that_are_wrong),
                TEST(test_cancel),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
