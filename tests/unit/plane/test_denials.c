/* What the operator reads when a node tries what it may not. */
#include "plane/denials.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/log.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_MOST   (1 << 20)
#define REMEMBERED 100 /* as denials.c is compiled for this test */

static struct {
        sd_event *event;
        struct denials *denials;
        int stderr_fd;
        char log[32];
} t;

static int setup(void **state)
{
        int fd;

        (void)state;
        strcpy(t.log, "/tmp/test_denials.XXXXXX");
        fd = mkostemp(t.log, O_CLOEXEC | O_APPEND);
        assert_true(fd >= 0);
        t.stderr_fd = dup(STDERR_FILENO);
        assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
        close(fd);
        log_open("test", LOG_LEVEL_INFO);
        assert_true(sd_event_new(&t.event) >= 0);
        t.denials = denials_new(t.event);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        dup2(t.stderr_fd, STDERR_FILENO);
        close(t.stderr_fd);
        denials_free(t.denials);
        sd_event_unref(t.event);
        unlink(t.log);
        return 0;
}

static void add(const char *client, const char *topic)
{
        const struct mosquitto_denial d = {.client = client,
                .client_length = strlen(client),
                .topic = topic,
                .topic_length = strlen(topic)};

        denials_add(t.denials, &d);
}

static char *said(size_t *ret_lines)
{
        char *text = NULL;
        size_t length;

        assert_int_equal(file_read(t.log, LOG_MOST, &text, &length, NULL), 0);
        *ret_lines = 0;
        for (const char *c = text; (c = strchr(c, '\n')); c++)
                ++*ret_lines;
        return text;
}

static void test_once_for_each(void **state)
{
        _cleanup_free_ char *text = NULL;
        size_t lines;

        (void)state;
        for (int i = 0; i < 10000; i++) {
                char topic[32];

                snprintf(topic, sizeof topic, "node/n-b/%d", i);
                add("n-aaaa", topic);
                add("n-cccc", topic);
        }
        text = said(&lines);
        assert_int_equal(lines, 2);
        assert_non_null(strstr(text, " warning "));
        assert_non_null(strstr(text, " node=n-aaaa topic=node/n-b/0\n"));
        assert_non_null(strstr(text, " node=n-cccc topic=node/n-b/0\n"));
}

static void test_what_it_shows_is_safe(void **state)
{
        _cleanup_free_ char *text = NULL, *long_name = xasprintf("%0500d", 0);
        size_t lines;

        (void)state;
        add("n-aaaa", "a\x1b[31m\n2026 forged\xff");
        add("n-bbbb", long_name);
        for (int i = 0; i < 100; i++) /* no node's: they share one limit */
                add(long_name, "x");
        text = said(&lines);
        assert_int_equal(lines, 3);
        assert_null(strchr(text, '\x1b'));
        assert_non_null(strstr(text, "topic=\"a\\x1b[31m\\x0a2026 forged\\xff\"\n"));
        assert_true(strlen(text) < 1200);
}

/* More names than are remembered: the rest have one line together. */
static void test_so_many(void **state)
{
        _cleanup_free_ char *text = NULL;
        size_t lines;

        (void)state;
        for (int i = 0; i < REMEMBERED + 1000; i++) {
                char client[16];

                snprintf(client, sizeof client, "n-%d", i);
                add(client, "x");
        }
        text = said(&lines);
        assert_int_equal(lines, REMEMBERED + 1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        static const struct CMUnitTest tests[] = {
                TEST(test_once_for_each),
                TEST(test_what_it_shows_is_safe),
                TEST(test_so_many),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
