/* Remote tools from the plane's side; the broker is played. */
#include "plane/requests.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOW INT64_C(1700000000000)

struct world {
        char folder[64], db[96];
        sd_event *event;
        struct plane_store *store;
        struct requests *requests;
        struct plane_node node;
        int changes;
};
static const struct actor alice = {.name = "alice", .role = ROLE_OPERATOR};
static int broker_answer, sent, cancelled;

int broker_request(struct broker *b, const char *node, const struct wire_request *r)
{
        (void)b;
        assert_true(wire_id_is_valid(node));
        assert_true(wire_id_is_valid(r->id));
        if (broker_answer == 0 && r->cancel)
                cancelled++;
        else if (broker_answer == 0) {
                assert_string_equal(r->by, "alice");
                assert_string_equal(r->arguments.items[0], "; rm -rf /");
                sent++;
        }
        return broker_answer;
}

static void on_change(const char *organisation, const char *request, void *userdata)
{
        struct world *w = userdata;

        assert_string_equal(organisation, w->node.organisation);
        assert_true(*request);
        w->changes++;
}

static int setup(void **state)
{
        struct world *w = xcalloc(1, sizeof *w);
        struct error e = {0};

        broker_answer = sent = cancelled = 0;
        assert_true(sd_event_new(&w->event) >= 0);
        str_copy(w->folder, sizeof w->folder, "/tmp/test-requests-XXXXXX");
        assert_non_null(mkdtemp(w->folder));
        snprintf(w->db, sizeof w->db, "%s/plane.db", w->folder);
        if (plane_store_open(w->db, &w->store, &e) < 0 ||
                plane_org_find(w->store, ORGANISATION_DEFAULT, w->node.organisation, &e) < 0)
                fail_msg("%s", e.text);
        str_copy(w->node.id, sizeof w->node.id, "n-1");
        str_copy(w->node.name, sizeof w->node.name, "branch-1");
        w->node.connected = true;
        w->requests = requests_new(w->event, NULL, w->store, on_change, w);
        *state = w;
        return 0;
}

static int teardown(void **state)
{
        struct world *w = *state;

        requests_free(w->requests);
        plane_store_close(w->store);
        unlink(w->db);
        rmdir(w->folder);
        sd_event_unref(w->event);
        free(w);
        return 0;
}

static int start(struct world *w, double timeout_s, char id[65], struct error *e)
{
        struct strv arguments = {0};
        struct actor by = alice;
        int r;

        str_copy(by.organisation, sizeof by.organisation, w->node.organisation);
        strv_add(&arguments, "; rm -rf /");
        r = requests_start(w->requests, &by, &w->node, "tcp", &arguments, timeout_s, NOW, id, e);
        strv_done(&arguments);
        return r;
}

static json_t *get(struct world *w, const char *id, int64_t first)
{
        struct error e = {0};
        json_t *value = NULL;

        if (requests_get(w->requests, w->node.organisation, id, first, &value, &e) < 0)
                fail_msg("%s", e.text);
        return value;
}

static void assert_ended(struct world *w, const char *id, const char *how)
{
        json_t *value = get(w, id, 0);

        assert_string_equal(json_string_value(json_object_get(value, "state")), "ended");
        assert_string_equal(json_string_value(json_object_get(value, "end")), how);
        json_decref(value);
}

static void say(
        struct world *w, const char *node, const char *id, int64_t first, size_t count, enum wire_end end)
{
        struct wire_line lines[4] = {
                {false, (char *)"a"}, {true, (char *)"b"}, {false, (char *)"c"}, {false, (char *)"d"}};
        struct wire_output o = {.first = first, .lines = lines, .line_count = count, .end = end, .status = 1};

        requests_output(w->requests, node, id, &o);
}

static void assert_lines(struct world *w, const char *id, int64_t first, const char *wanted)
{
        json_t *value = get(w, id, first), *line;
        struct text t = {0};
        size_t i;

        json_array_foreach(json_object_get(value, "lines"), i, line)
                text_addf(&t, "%s|", json_string_value(json_object_get(line, "text")));
        assert_string_equal(text_string(&t), wanted);
        text_done(&t);
        json_decref(value);
}

static void test_output(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65];

        assert_int_equal(start(w, 30, id, &e), 0);
        assert_int_equal(requests_running(w->requests), 1);
        say(w, "n-1", id, 0, 2, END_NONE);
        say(w, "n-1", id, 0, 3, END_NONE); /* sent again, with one more */
        say(w, "n-1", id, 0, 2, END_NONE); /* and again */
        assert_lines(w, id, 0, "a|b|c|");
        assert_lines(w, id, 2, "c|");
        assert_lines(w, id, 99, "");
        assert_lines(w, id, -1, "a|b|c|");
        say(w, "n-1", id, 5, 1, END_NONE);
        assert_lines(w, id, 3, "[2 lines were lost on the way]|a|");
        say(w, "n-1", id, 6, 0, END_EXITED);
        assert_ended(w, id, "exited");
        assert_int_equal(requests_running(w->requests), 0);
        say(w, "n-1", id, 6, 1, END_NONE); /* after the end: nothing */
        assert_lines(w, id, 5, "");
        assert_int_equal(w->changes, 5);
}

/* Another node's output, and another organisation's question, reach nothing. */
static void test_others(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *value = NULL;
        struct actor by = alice;
        char id[65];

        assert_int_equal(start(w, 30, id, &e), 0);
        say(w, "n-2", id, 0, 2, END_EXITED);
        assert_lines(w, id, 0, "");
        assert_int_equal(requests_running(w->requests), 1);
        say(w, "n-1", "r-none", 0, 1, END_NONE);
        assert_int_equal(requests_get(w->requests, "o-2", id, 0, &value, &e), -ENOENT);
        assert_int_equal(requests_cancel(w->requests, &by, "o-2", id, NOW, &e), -ENOENT);
        assert_int_equal(cancelled, 0);
}

static void test_refusals(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65];

        w->node.connected = false;
        assert_int_equal(start(w, 30, id, &e), -ENOTCONN);
        assert_string_equal(e.code, "node.offline");
        w->node.connected = true;
        broker_answer = -ENOTCONN;
        assert_int_equal(start(w, 30, id, &e), -ENOTCONN);
        broker_answer = -ENOMEM;
        assert_int_equal(start(w, 30, id, &e), -ENOMEM);
        broker_answer = 0;
        assert_int_equal(start(w, 30, id, &e), 0);
        assert_int_equal(start(w, 30, id, &e), 0);
        assert_int_equal(start(w, 30, id, &e), -EBUSY);
        assert_int_equal(sent, 2);
        say(w, "n-1", id, 0, 0, END_EXITED);
        assert_int_equal(start(w, 30, id, &e), 0);
}

static void test_node_gone(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65];

        assert_int_equal(start(w, 30, id, &e), 0);
        requests_node_gone(w->requests, "n-2");
        assert_int_equal(requests_running(w->requests), 1);
        requests_node_gone(w->requests, "n-1");
        assert_ended(w, id, "lost");
        assert_int_equal(requests_running(w->requests), 0);
}

/* The broker had nobody to give it to: it is not waited for. */
static void test_unheard(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        char id[65];

        assert_int_equal(start(w, 30, id, &e), 0);
        requests_unheard(w->requests, "n-2", id);
        requests_unheard(w->requests, "n-1", "r-unknown");
        assert_int_equal(requests_running(w->requests), 1);
        requests_unheard(w->requests, "n-1", id);
        assert_ended(w, id, "lost");
        requests_unheard(w->requests, "n-1", id);
        assert_int_equal(requests_running(w->requests), 0);
}

static void test_cancel(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        struct actor by = alice;
        char id[65], second[65];

        str_copy(by.organisation, sizeof by.organisation, w->node.organisation);
        assert_int_equal(start(w, 30, id, &e), 0);
        assert_int_equal(requests_cancel(w->requests, &by, w->node.organisation, id, NOW, &e), 0);
        assert_int_equal(cancelled, 1);
        say(w, "n-1", id, 0, 0, END_CANCELLED);
        assert_ended(w, id, "cancelled");
        assert_int_equal(
                requests_cancel(w->requests, &by, w->node.organisation, id, NOW, &e), 0); /* it is over */
        assert_int_equal(cancelled, 1);
        assert_int_equal(start(w, 30, second, &e), 0);
        broker_answer = -ENOTCONN;
        assert_int_equal(requests_cancel(w->requests, &by, w->node.organisation, second, NOW, &e), 0);
        assert_ended(w, second, "lost");
}

/* No more than 1 MiB is kept of one, and that is said. */
static void test_bounds(void **state)
{
        struct world *w = *state;
        _cleanup_free_ char *text = xcalloc(1, 8193);
        struct wire_line line = {false, text};
        struct error e = {0};
        json_t *value;
        size_t count;
        char id[65];

        memset(text, 'x', 8192);
        assert_int_equal(start(w, 30, id, &e), 0);
        for (int i = 0; i < 300; i++)
                requests_output(w->requests, "n-1", id,
                        &(struct wire_output){.first = i, .lines = &line, .line_count = 1});
        value = get(w, id, 0);
        count = json_array_size(json_object_get(value, "lines"));
        assert_in_range(count, 120, 128);
        assert_non_null(strstr(json_string_value(json_object_get(
                                       json_array_get(json_object_get(value, "lines"), count - 1), "text")),
                "1 MiB"));
        json_decref(value);
        say(w, "n-1", id, 300, 0, END_EXITED);
        assert_ended(w, id, "exited");
}

/* The oldest that ended are forgotten; what runs is not. */
static void test_many(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *value = NULL;
        char first[65], second[65], id[65];

        assert_int_equal(start(w, 30, first, &e), 0);
        assert_int_equal(start(w, 30, second, &e), 0);
        say(w, "n-1", second, 0, 1, END_EXITED);
        for (int i = 0; i < 1100; i++) {
                assert_int_equal(start(w, 30, id, &e), 0);
                say(w, "n-1", id, 0, 1, END_EXITED);
        }
        assert_int_equal(requests_get(w->requests, w->node.organisation, second, 0, &value, &e), -ENOENT);
        json_decref(get(w, first, 0));
        json_decref(get(w, id, 0));
        assert_int_equal(requests_running(w->requests), 1);
}

static void test_audit(void **state)
{
        struct world *w = *state;
        struct error e = {0};
        json_t *list = NULL, *item;
        char id[65];

        assert_int_equal(start(w, 30, id, &e), 0);
        assert_int_equal(plane_audit_list(w->store, w->node.organisation, NULL, &list, &e), 0);
        item = json_array_get(json_object_get(list, "items"), 0);
        assert_string_equal(json_string_value(json_object_get(item, "actor")), "alice");
        assert_string_equal(json_string_value(json_object_get(item, "action")), "request.start");
        assert_string_equal(json_string_value(json_object_get(item, "object")), "n-1");
        assert_string_equal(
                json_string_value(json_object_get(json_object_get(item, "detail"), "tool")), "tcp");
        json_decref(list);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(test_output),
                TEST(test_others),
                TEST(test_refusals),
                TEST(test_node_gone),
                TEST(test_unheard),
                TEST(test_cancel),
                TEST(test_bounds),
                TEST(test_many),
                TEST(test_audit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
