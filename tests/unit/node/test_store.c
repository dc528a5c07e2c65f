/* Numbers, order, history; damage and kill -9. */
#include "store_place.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- numbers, order, history ---- */

static void test_report_and_events_are_one(void **state)
{
        struct store *s = open_store(NULL);
        struct wire_report report = {.generated_unix_ms = NOW,
                .trigger = (char *)"monitor",
                .report = json_pack("{s:i}", "schema", 1)};
        struct wire_event events[2] = {
                make_event(WIRE_ERROR, "Repo connectivity failed"), make_event(WIRE_INFO, "second")};
        struct collected c = {0};
        struct wire_event read;

        (void)state;
        assert_int_equal(store_add(s, &report, events, 2, NOW, NULL), 0);
        assert_int_equal(report.seq, 1);
        assert_int_equal(events[0].seq, 2);
        assert_int_equal(events[1].seq, 3);
        assert_int_equal(events[0].report_seq, 1);
        assert_int_equal(store_waiting(s), 3);
        collect(s, &c);
        assert_int_equal(c.count, 3);
        assert_int_equal(c.kinds[0], TOPIC_REPORT);
        assert_int_equal(c.kinds[1], TOPIC_EVENT);
        read = parse_event(c.payloads.items[1]);
        assert_int_equal(read.seq, 2);
        assert_int_equal(read.report_seq, 1);
        assert_string_equal(read.epoch, store_epoch(s));
        assert_string_equal(read.message, "Repo connectivity failed");
        wire_event_done(&read);
        strv_done(&c.payloads);
        json_decref(report.report);
        store_close(s);
}

static void test_pages_and_the_end_by_the_callback(void **state)
{
        struct store *s = open_store(NULL);
        struct collected c = {.stop_after = 3};

        (void)state;
        for (int i = 0; i < 10; i++)
                add(s, WIRE_INFO, "x");
        assert_int_equal(store_each_unsent(s, 4, 100, on_item, &c, NULL), 7);
        assert_int_equal(c.count, 3);
        assert_int_equal(c.seqs[0], 5);
        c.count = c.stop_after = 0;
        assert_int_equal(store_each_unsent(s, 4, 2, on_item, &c, NULL), 0);
        assert_int_equal(c.count, 2);
        strv_done(&c.payloads);
        store_close(s);
}

static void test_acknowledged_leaves_the_outbox_and_stays_in_the_history(void **state)
{
        struct store *s = open_store(NULL);
        struct wire_ack a = {.refused = {3}, .refused_count = 1};
        json_t *events;

        (void)state;
        for (int i = 0; i < 3; i++)
                add(s, WIRE_INFO, "x");
        acknowledge(s, "e-another", 1);
        assert_int_equal(store_waiting(s), 3);
        acknowledge(s, store_epoch(s), 99);
        acknowledge(s, store_epoch(s), -1);
        acknowledge(s, store_epoch(s), INT64_MIN);
        assert_int_equal(store_waiting(s), 3);
        acknowledge(s, store_epoch(s), 2);
        acknowledge(s, store_epoch(s), 2);
        assert_int_equal(store_waiting(s), 2);
        str_copy(a.epoch, sizeof a.epoch, store_epoch(s));
        assert_int_equal(store_acknowledge(s, &a, NULL), 0);
        assert_int_equal(store_waiting(s), 1);
        events = store_events(s, 2, NULL);
        assert_int_equal(json_array_size(events), 2);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(events, 0), "seq")), 3);
        json_decref(events);
        s = store_close(s);
        s = open_store(NULL);
        assert_int_equal(store_waiting(s), 1);
        store_close(s);
}

static void test_numbers_are_never_used_again(void **state)
{
        struct store_limits limits = {.history_count = 1};
        struct store *s = open_store(&limits);
        _cleanup_free_ char *epoch = xstrdup(store_epoch(s));
        json_t *events;

        (void)state;
        for (int i = 1; i <= 5; i++) {
                assert_int_equal(add(s, WIRE_INFO, "x"), i);
                acknowledge(s, epoch, i);
        }
        events = store_events(s, 100, NULL);
        assert_int_equal(json_array_size(events), 1);
        json_decref(events);
        store_close(s);
        s = open_store(&limits);
        assert_string_equal(store_epoch(s), epoch);
        assert_int_equal(add(s, WIRE_INFO, "x"), 6);
        store_close(s);
}

static void test_a_clock_that_jumps_back_changes_no_order(void **state)
{
        struct store *s = open_store(NULL);
        struct collected c = {0};

        (void)state;
        for (int i = 0; i < 5; i++) {
                struct wire_event event = make_event(WIRE_INFO, "x");

                event.generated_unix_ms = NOW - i * 86400000LL;
                assert_int_equal(store_add(s, NULL, &event, 1, event.generated_unix_ms, NULL), 0);
        }
        collect(s, &c);
        for (size_t i = 0; i < c.count; i++) {
                struct wire_event event = parse_event(c.payloads.items[i]);

                assert_int_equal(c.seqs[i], i + 1);
                assert_int_equal(event.generated_unix_ms, NOW - (int64_t)i * 86400000LL);
                wire_event_done(&event);
        }
        strv_done(&c.payloads);
        store_close(s);
}

static void test_what_is_too_large_goes_in_short(void **state)
{
        struct store *s = open_store(NULL);
        struct wire_report report = {.generated_unix_ms = NOW,
                .trigger = (char *)"person",
                .report = json_pack("{s:i}", "schema", 1)};
        struct wire_event event = make_event(WIRE_INFO, "x");
        json_t *list = json_array();
        struct collected c = {0};

        (void)state;
        for (int i = 0; i < 20000; i++)
                json_array_append_new(list, json_string("thirty characters of something"));
        json_object_set_new(report.report, "measurements", list);
        event.diagnosis = json_pack("{s:O}", "all", list);
        assert_int_equal(store_add(s, &report, &event, 1, NOW, NULL), 0);
        assert_int_equal(json_array_size(list), 20000); /* the caller's is as it was */
        collect(s, &c);
        assert_int_equal(c.count, 2);
        assert_in_range(strlen(c.payloads.items[0]), 1, 1000);
        assert_in_range(strlen(c.payloads.items[1]), 1, 1000);
        json_decref(event.diagnosis);
        json_decref(report.report);
        strv_done(&c.payloads);
        store_close(s);
}

/* An event and the note that it was told. */
static void test_event_with_its_note(void **state)
{
        struct store *s = open_store(NULL);
        _cleanup_free_ char *value = NULL, *kept = NULL, *long_one = xcalloc(WIRE_EVENT_MAXIMUM + 1, 1);
        struct wire_event event = make_event(WIRE_INFO, "started"), bad;

        (void)state;
        assert_int_equal(store_add_noting(s, &event, "update.told", "one", NOW, NULL), 0);
        assert_true(event.seq > 0);
        assert_string_equal(value = store_get(s, "update.told"), "one");
        /* What cannot be stored is not noted either. */
        memset(long_one, 'x', WIRE_EVENT_MAXIMUM);
        bad = make_event(WIRE_INFO, long_one);
        assert_int_equal(store_add_noting(s, &bad, "update.told", "two", NOW, NULL), -EFBIG);
        assert_string_equal(kept = store_get(s, "update.told"), "one");
        assert_int_equal(store_waiting(s), 1);
        store_close(s);
}

static void test_update_that_is_too_large_goes_without(void **state)
{
        struct store *s = open_store(NULL);
        struct wire_event event = make_event(WIRE_INFO, "completed"), back;
        _cleanup_free_ char *log = xcalloc(WIRE_EVENT_MAXIMUM + 1, 1);
        struct collected *c = xcalloc(1, sizeof *c);

        (void)state;
        memset(log, 'x', WIRE_EVENT_MAXIMUM);
        event.update = json_pack("{s:s}", "log", log);
        assert_int_equal(store_add(s, NULL, &event, 1, NOW, NULL), 0);
        json_decref(event.update);
        collect(s, c);
        back = parse_event(c->payloads.items[0]);
        assert_string_equal(back.message, "completed");
        assert_null(back.update);
        wire_event_done(&back);
        strv_done(&c->payloads);
        free(c);
        store_close(s);
}

static void test_values(void **state)
{
        struct store *s = open_store(NULL);
        char *v;

        (void)state;
        assert_null(store_get(s, "config.version"));
        assert_int_equal(store_set(s, "config.version", "7", NULL), 0);
        assert_int_equal(store_set(s, "config.version", "8", NULL), 0);
        store_close(s);
        s = open_store(NULL);
        v = store_get(s, "config.version");
        assert_string_equal(v, "8");
        free(v);
        assert_int_equal(store_set(s, "config.version", NULL, NULL), 0);
        assert_int_equal(store_set(s, "config.version", NULL, NULL), 0);
        assert_null(store_get(s, "config.version"));
        store_close(s);
}

/* ---- damage ---- */

static void test_a_damaged_database_is_put_aside(void **state)
{
        struct store *s = open_store(NULL);
        _cleanup_free_ char *epoch = xstrdup(store_epoch(s)), *note = NULL, *kept = NULL;
        char *aside;
        struct stat st;
        int fd;

        (void)state;
        add(s, WIRE_INFO, "x");
        store_close(s);
        fd = open(path, O_WRONLY | O_CLOEXEC);
        assert_int_equal(pwrite(fd, "this is no database, and never was one", 38, 0), 38);
        close(fd);
        assert_int_equal(store_open(path, NULL, &s, &note, NULL), 0);
        assert_non_null(note);
        aside = strstr(note, "kept as ");
        assert_non_null(aside);
        kept = xstrndup(aside + 8, strcspn(aside + 8, ","));
        assert_true(str_starts_with(kept, path));
        assert_int_equal(stat(kept, &st), 0);
        /* Its numbers begin anew, so its epoch is another. */
        assert_string_not_equal(store_epoch(s), epoch);
        assert_int_equal(add(s, WIRE_INFO, "x"), 1);
        store_close(s);
}

static void test_a_folder_that_is_not_there(void **state)
{
        struct error e = {0};
        struct store *s = NULL;

        (void)state;
        assert_true(store_open("/tmp/gG-no-such-folder/state.db", NULL, &s, NULL, &e) < 0);
        assert_null(s);
        assert_int_not_equal(e.number, 0);
}

/* ---- kill -9 ---- */

/* Adds without end, and tells each number once it is stored. */
static void __attribute__((noreturn)) add_without_end(int out)
{
        struct store *s = open_store(NULL);

        for (;;) {
                struct wire_event event = make_event(WIRE_INFO, "x");

                if (store_add(s, NULL, &event, 1, NOW, NULL) < 0)
                        _exit(1);
                if (write(out, &event.seq, sizeof event.seq) != (ssize_t)sizeof event.seq)
                        _exit(1);
        }
}

static void test_killed_at_any_point_it_has_what_it_said(void **state)
{
        static bool told[1 << 20];
        struct collected *c;
        struct store *s;
        int64_t seq, most = 0;
        size_t found = 0, total = 0;
        unsigned seed = 4711;

        (void)state;
        store_close(open_store(NULL));
        for (int i = 0; i < 50; i++) {
                int pipes[2], status;
                pid_t child;
                struct pollfd p;

                assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
                child = fork();
                if (child == 0) {
                        close(pipes[0]);
                        add_without_end(pipes[1]);
                }
                close(pipes[1]);
                /* It works now: then at a random moment. */
                p = (struct pollfd){.fd = pipes[0], .events = POLLIN};
                assert_int_equal(poll(&p, 1, 10000), 1);
                usleep((useconds_t)(rand_r(&seed) % 15000));
                assert_int_equal(kill(child, SIGKILL), 0);
                assert_int_equal(waitpid(child, &status, 0), child);
                assert_true(WIFSIGNALED(status));
                while (read(pipes[0], &seq, sizeof seq) == (ssize_t)sizeof seq) {
                        assert_in_range(seq, most + 1, ELEMENTS(told) - 1);
                        most = seq;
                        told[seq] = true;
                        total++;
                }
                close(pipes[0]);
        }
        s = open_store(NULL);
        c = xcalloc(1, sizeof *c);
        for (int64_t after = 0;;) {
                c->count = 0;
                strv_done(&c->payloads);
                assert_int_equal(store_each_unsent(s, after, 1000, on_item, c, NULL), 0);
                if (c->count == 0)
                        break;
                for (size_t i = 0; i < c->count; i++) {
                        assert_true(c->seqs[i] > after); /* in order, and once */
                        after = c->seqs[i];
                        assert_in_range(after, 1, ELEMENTS(told) - 1);
                        found += told[after];
                }
        }
        assert_int_equal(found, total);
        assert_true(total > 50);
        free(c);
        store_close(s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        static const struct CMUnitTest tests[] = {
                TEST(test_report_and_events_are_one),
                TEST(test_pages_and_the_end_by_the_callback),
                TEST(test_acknowledged_leaves_the_outbox_and_stays_in_the_history),
                TEST(test_numbers_are_never_used_again),
                TEST(test_a_clock_that_jumps_back_changes_no_order),
                TEST(test_what_is_too_large_goes_in_short),
                TEST(test_event_with_its_note),
                TEST(test_update_that_is_too_large_goes_without),
                TEST(test_values),
                TEST(test_a_damaged_database_is_put_aside),
                TEST(test_a_folder_that_is_not_there),
                TEST(test_killed_at_any_point_it_has_what_it_said),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
