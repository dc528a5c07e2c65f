#include "node/store.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOW 1795230000000LL

static char folder[64], path[96];

static int set_up(void **state)
{
        (void)state;
        str_copy(folder, sizeof folder, "/tmp/gG-store-XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        snprintf(path, sizeof path, "%s/state.db", folder);
        return 0;
}

static int tear_down(void **state)
{
        DIR *d = opendir(folder);

        (void)state;
        for (struct dirent *e; d && (e = readdir(d));) {
                char name[512];

                snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
                unlink(name);
        }
        if (d)
                closedir(d);
        return rmdir(folder);
}

/* ---- helpers ---- */

static struct store *open_store(const struct store_limits *limits)
{
        struct store *s = NULL;
        struct error e = {0};
        char *note = NULL;

        if (store_open(path, limits, &s, &note, &e) < 0)
                fail_msg("%s", e.text);
        assert_null(note);
        return s;
}

static struct wire_event make_event(enum wire_severity severity, const char *message)
{
        return (struct wire_event){.generated_unix_ms = NOW,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = (char *)message,
                .severity = severity,
                .service = (char *)"repo"};
}

static int64_t add(struct store *s, enum wire_severity severity, const char *message)
{
        struct wire_event event = make_event(severity, message);
        struct error e = {0};

        if (store_add(s, NULL, &event, 1, NOW, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(event.epoch, store_epoch(s));
        return event.seq;
}

struct collected {
        size_t count, stop_after;
        int64_t seqs[4096];
        enum topic_kind kinds[4096];
        struct strv payloads;
};

static int on_item(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata)
{
        struct collected *c = userdata;

        assert_in_range(c->count, 0, ELEMENTS(c->seqs) - 1);
        assert_int_equal(length, strlen(payload));
        c->seqs[c->count] = seq;
        c->kinds[c->count++] = kind;
        strv_add(&c->payloads, payload);
        return c->stop_after && c->count == c->stop_after ? 7 : 0;
}

static void collect(struct store *s, struct collected *c)
{
        strv_done(&c->payloads);
        *c = (struct collected){0};
        assert_int_equal(store_each_unsent(s, 0, SIZE_MAX, on_item, c, NULL), 0);
}

static struct wire_event parse_event(const char *payload)
{
        struct wire_event event = {0};
        struct error e = {0};

        if (wire_event_parse(payload, strlen(payload), &event, &e) < 0)
                fail_msg("%s in %s", e.text, payload);
        return event;
}

static void acknowledge(struct store *s, const char *epoch, int64_t seq)
{
        struct wire_ack a = {.seqs = {seq}, .count = 1};

        str_copy(a.epoch, sizeof a.epoch, epoch);
        assert_int_equal(store_acknowledge(s, &a, NULL), 0);
}

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

/* ---- bounds ---- */

/* Sums what the records of dropped ones in the outbox say: reports, INFO, WARNING, ERROR. */
static size_t read_dropped(const struct collected *c, long long ret[4])
{
        static const char *const words[] = {"reports", "INFO", "WARNING", "ERROR"};
        size_t count = 0;

        memset(ret, 0, 4 * sizeof ret[0]);
        for (size_t i = 0; i < c->count; i++) {
                struct wire_event event;

                if (c->kinds[i] != TOPIC_EVENT)
                        continue;
                event = parse_event(c->payloads.items[i]);
                if (str_equal(event.name, EVENT_RECORDS_DROPPED)) {
                        count++;
                        for (size_t k = 0; k < 4; k++) {
                                char *at = strstr(event.message, words[k]);

                                ret[k] += at ? atoll(at + strlen(words[k])) : 0;
                        }
                }
                wire_event_done(&event);
        }
        return count;
}

static size_t count_messages(const struct collected *c, const char *message)
{
        size_t n = 0;

        for (size_t i = 0; i < c->count; i++)
                n += strstr(c->payloads.items[i], message) != NULL;
        return n;
}

static void test_a_full_outbox_drops_the_least_important_and_says_so(void **state)
{
        struct store_limits limits = {.outbox_bytes = 64 << 10};
        struct store *s = open_store(&limits);
        struct collected c = {0};
        long long dropped[4];
        size_t left;

        (void)state;
        for (int i = 0; i < 1000; i++)
                add(s, i % 20 == 0 ? WIRE_ERROR : WIRE_INFO, i % 20 == 0 ? "an-error" : "a-mere-info");
        collect(s, &c);
        assert_int_equal(count_messages(&c, "an-error"), 50);
        assert_int_equal(read_dropped(&c, dropped), 1);
        left = count_messages(&c, "a-mere-info");
        assert_in_range(left, 50, 949);
        assert_int_equal(dropped[1], 950 - (long long)left);
        assert_int_equal(dropped[3], 0);
        assert_int_equal(store_waiting(s), c.count);
        /* That one was seen now: it stays as it is, and a second one tells the rest. */
        for (int i = 0; i < 100; i++)
                add(s, WIRE_WARNING, "a-warning");
        collect(s, &c);
        assert_int_equal(read_dropped(&c, dropped), 2);
        assert_int_equal(dropped[1], 950 - (long long)count_messages(&c, "a-mere-info"));
        assert_int_equal(count_messages(&c, "a-warning"), 100);
        /* And when nothing but errors is left, the oldest of them. */
        for (int i = 0; i < 1000; i++)
                add(s, WIRE_ERROR, "a-late-error");
        collect(s, &c);
        read_dropped(&c, dropped);
        assert_int_equal(dropped[1], 950);
        assert_int_equal(dropped[2], 100);
        assert_int_equal(dropped[3], 1050 - (long long)count_messages(&c, "an-error") -
                                             (long long)count_messages(&c, "a-late-error"));
        assert_non_null(strstr(c.payloads.items[c.count - 2], "a-late-error"));
        strv_done(&c.payloads);
        store_close(s);
}

static void test_reports_go_first(void **state)
{
        struct store_limits limits = {.outbox_bytes = 64 << 10};
        struct store *s = open_store(&limits);
        struct collected c = {0};
        long long dropped[4];
        char *text = xmalloc(8001);

        (void)state;
        memset(text, 'm', 8000);
        text[8000] = 0;
        for (int i = 0; i < 20; i++) {
                struct wire_report report = {.generated_unix_ms = NOW + i,
                        .trigger = (char *)"monitor",
                        .report = json_pack("{s:i, s:s}", "schema", 1, "text", text)};
                struct wire_event event = make_event(WIRE_INFO, "a-mere-info");

                assert_int_equal(store_add(s, &report, &event, 1, NOW, NULL), 0);
                json_decref(report.report);
        }
        collect(s, &c);
        assert_int_equal(count_messages(&c, "a-mere-info"), 20);
        assert_int_equal(read_dropped(&c, dropped), 1);
        assert_in_range(dropped[0], 13, 15);
        assert_int_equal(dropped[1], 0);
        free(text);
        strv_done(&c.payloads);
        store_close(s);
}

static void test_the_history_is_bounded(void **state)
{
        struct store_limits limits = {.history_count = 20};
        struct store *s = open_store(&limits);
        json_t *events;

        (void)state;
        for (int i = 1; i <= 60; i++) {
                add(s, WIRE_INFO, "x");
                if (i > 30)
                        acknowledge(s, store_epoch(s), i);
        }
        /* What waits is never taken for history. */
        assert_int_equal(store_waiting(s), 30);
        events = store_events(s, 1000, NULL);
        assert_int_equal(json_array_size(events), 30);
        json_decref(events);
        store_close(s);
}

static void test_a_disk_with_little_room_is_not_filled(void **state)
{
        struct store_limits limits = {.free_bytes = INT64_MAX};
        struct store *s = open_store(&limits);
        struct collected c = {0};
        long long dropped[4];
        struct stat st;

        (void)state;
        for (int i = 0; i < 3900; i++) {
                char message[1100];

                memset(message, 'x', sizeof message);
                snprintf(message, sizeof message, "%s %0*d", i % 10 ? "a-mere-info" : "an-error", 1000, i);
                add(s, i % 10 ? WIRE_INFO : WIRE_ERROR, message);
        }
        assert_int_equal(stat(path, &st), 0);
        assert_in_range(st.st_size, 1 << 20, 3 << 20);
        collect(s, &c);
        assert_int_equal(count_messages(&c, "an-error"), 390);
        assert_int_equal(read_dropped(&c, dropped), 1);
        assert_int_equal(dropped[1], 3510 - (long long)count_messages(&c, "a-mere-info"));
        strv_done(&c.payloads);
        store_close(s);
}

/* ---- a disk that is full ---- */

static int try_add(struct store *s, enum wire_severity severity, const char *message)
{
        struct wire_event event = make_event(severity, message);

        return store_add(s, NULL, &event, 1, NOW, NULL);
}

static void fill_disk(const char *name)
{
        int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        char block[4096] = {1};

        assert_true(fd >= 0);
        while (write(fd, block, sizeof block) == (ssize_t)sizeof block)
                ;
        close(fd);
}

/* In a child with a mount namespace of its own: 0, or the line that failed. */
#define CHECK(condition)                 \
        do {                             \
                if (!(condition))        \
                        return __LINE__; \
        } while (0)

static int live_on_a_full_disk(void)
{
        char filler[96], message[600];
        struct store_limits limits = {.free_bytes = 1};
        struct collected *c = xcalloc(1, sizeof *c);
        struct wire_ack a = {.seqs = {1}, .count = 1};
        struct store *s;
        long long dropped[4];
        int kept = 0, r = 0;

        memset(message, 'x', sizeof message - 1);
        message[sizeof message - 1] = 0;
        snprintf(filler, sizeof filler, "%s/filler", folder);
        s = open_store(&limits);
        str_copy(a.epoch, sizeof a.epoch, store_epoch(s));
        for (int i = 0; i < 200; i++)
                CHECK(try_add(s, WIRE_INFO, message) == 0);
        fill_disk(filler);
        /* Errors find room, at the cost of INFO: or are refused as a whole. */
        for (int i = 0; i < 100 && r == 0; i++) {
                r = try_add(s, WIRE_ERROR, "an-error");
                CHECK(r == 0 || r == -ENOSPC);
                kept += r == 0;
        }
        collect(s, c);
        CHECK(count_messages(c, "an-error") == (size_t)kept);
        CHECK(kept == 100);
        CHECK((long long)store_waiting(s) == (long long)c->count);
        read_dropped(c, dropped);
        CHECK(count_messages(c, message) + (size_t)dropped[1] == 200);
        r = store_acknowledge(s, &a, NULL);
        CHECK(r == 0 || r == -ENOSPC);
        /* Room again: no restart is needed. */
        CHECK(unlink(filler) == 0);
        for (int i = 0; i < 100; i++)
                CHECK(try_add(s, WIRE_ERROR, "a-late-error") == 0);
        collect(s, c);
        CHECK(count_messages(c, "an-error") == (size_t)kept);
        CHECK(count_messages(c, "a-late-error") == 100);
        store_close(s);
        /* And what a full disk shows to a new start is an error, not a loss. */
        fill_disk(filler);
        s = NULL;
        r = store_open(path, &limits, &s, NULL, NULL);
        CHECK(r == 0 || r == -ENOSPC);
        store_close(s);
        CHECK(unlink(filler) == 0);
        s = open_store(&limits);
        collect(s, c);
        CHECK(count_messages(c, "a-late-error") == 100);
        CHECK(count_messages(c, "an-error") == (size_t)kept);
        store_close(s);
        strv_done(&c->payloads);
        free(c);
        return 0;
}

static void test_a_full_disk_loses_nothing(void **state)
{
        int status;
        pid_t child = fork();

        (void)state;
        if (child == 0) {
                if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                        _exit(255);
                if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                        mount("tmpfs", folder, "tmpfs", 0, "size=4m,mode=0700") < 0)
                        _exit(255);
                status = live_on_a_full_disk();
                if (status)
                        fprintf(stderr, "line %d\n", status);
                _exit(status ? 1 : 0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 255)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
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
                TEST(test_values),
                TEST(test_a_full_outbox_drops_the_least_important_and_says_so),
                TEST(test_reports_go_first),
                TEST(test_the_history_is_bounded),
                TEST(test_a_disk_with_little_room_is_not_filled),
                TEST(test_a_full_disk_loses_nothing),
                TEST(test_a_damaged_database_is_put_aside),
                TEST(test_a_folder_that_is_not_there),
                TEST(test_killed_at_any_point_it_has_what_it_said),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
