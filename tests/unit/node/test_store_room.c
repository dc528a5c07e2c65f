/* What goes when there is no room: in the outbox, in the history, on the disk. */
#include "store_place.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        static const struct CMUnitTest tests[] = {
                TEST(test_a_full_outbox_drops_the_least_important_and_says_so),
                TEST(test_reports_go_first),
                TEST(test_the_history_is_bounded),
                TEST(test_a_disk_with_little_room_is_not_filled),
                TEST(test_a_full_disk_loses_nothing),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
