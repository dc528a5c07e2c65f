/* The tap with real pipes and real children. */
#include "plane/services_tap.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOG_MOST    (8 << 20)
#define LINE        "kept, a line of about forty bytes or so\n"
#define MANY_LINES  200000 /* eight times what the pipe holds */
#define PATIENCE_MS 20000

static struct {
        char folder[32], log[64];
        sd_event *event;
        struct service_tap *tap;
        int output_fd;
        size_t seen;
} t;

static bool begins_with_k(const char *line, size_t length, void *userdata)
{
        assert_ptr_equal(userdata, &t);
        t.seen++;
        return length > 0 && *line == 'k';
}

static int setup(void **state)
{
        struct error e = {0};

        (void)state;
        memset(&t, 0, sizeof t);
        strcpy(t.folder, "/tmp/test_tap.XXXXXX");
        assert_non_null(mkdtemp(t.folder));
        snprintf(t.log, sizeof t.log, "%s/log", t.folder);
        assert_true(sd_event_new(&t.event) >= 0);
        assert_int_equal(service_tap_new(t.event, t.log, begins_with_k, &t, &t.tap, &t.output_fd, &e), 0);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        service_tap_free(t.tap);
        if (t.output_fd >= 0)
                close(t.output_fd);
        sd_event_unref(t.event);
        unlink(t.log);
        rmdir(t.folder);
        return 0;
}

static void say(const char *words)
{
        assert_int_equal(write(t.output_fd, words, strlen(words)), strlen(words));
}

static void hear(void)
{
        while (sd_event_run(t.event, 50000) > 0)
                ;
}

static void assert_log(const char *wanted)
{
        _cleanup_free_ char *text = NULL;
        size_t length;

        assert_int_equal(file_read(t.log, LOG_MOST, &text, &length, NULL), 0);
        assert_string_equal(text, wanted);
}

static void test_lines(void **state)
{
        struct stat st;

        (void)state;
        say("k1\nx2\nk3 and ha");
        hear();
        assert_log("k1\n");
        say("lf\n\nx");
        hear();
        assert_log("k1\nk3 and half\n");
        say("5\nk6, its last words");
        service_tap_drain(t.tap);
        assert_log("k1\nk3 and half\nk6, its last words\n");
        assert_int_equal(t.seen, 6);
        assert_int_equal(stat(t.log, &st), 0);
        assert_int_equal(st.st_mode & 0777 & ~0640, 0);
}

/* What the log has is kept, and a log that was cut goes on from its beginning. */
static void test_the_log_is_appended_to(void **state)
{
        struct error e = {0};

        (void)state;
        say("k1\n");
        t.tap = service_tap_free(t.tap); /* without a turn of the loop */
        close(t.output_fd);
        assert_int_equal(service_tap_new(t.event, t.log, begins_with_k, &t, &t.tap, &t.output_fd, &e), 0);
        say("k2\n");
        hear();
        assert_log("k1\nk2\n");
        assert_int_equal(truncate(t.log, 0), 0);
        say("k3\n");
        hear();
        assert_log("k3\n");
}

static void test_a_line_without_an_end(void **state)
{
        _cleanup_free_ char *text = NULL;
        static char words[100000];
        size_t length;

        (void)state;
        memset(words, 'k', sizeof words);
        assert_int_equal(write(t.output_fd, words, sizeof words), sizeof words);
        say("\n");
        hear();
        assert_int_equal(file_read(t.log, LOG_MOST, &text, &length, NULL), 0);
        assert_int_equal(length, sizeof words + 2); /* it is two lines then */
}

/* The loop ends its watch on a pipe that nobody writes to any more, instead of turning for ever. */
static void test_the_child_closes_it(void **state)
{
        int turns = 0;

        (void)state;
        say("k1\n");
        close(t.output_fd);
        t.output_fd = -1;
        while (turns < 100 && sd_event_run(t.event, 50000) > 0)
                turns++;
        assert_in_range(turns, 1, 5);
        assert_log("k1\n");
}

/* As mosquitto does: standard error, a line a write, SIGPIPE ignored. */
static pid_t start_talker(void)
{
        pid_t pid = fork();

        if (pid != 0)
                return pid;
        signal(SIGPIPE, SIG_IGN);
        dup2(t.output_fd, STDERR_FILENO);
        for (int i = 0; i < MANY_LINES; i++)
                fprintf(stderr, LINE);
        _exit(0);
}

static void assert_ends(pid_t pid)
{
        double until_ms = clock_monotonic_ms() + PATIENCE_MS;
        int status = -1;
        pid_t ended;

        while ((ended = waitpid(pid, &status, WNOHANG)) == 0 && clock_monotonic_ms() < until_ms)
                usleep(10000);
        if (ended == 0)
                kill(pid, SIGKILL);
        assert_int_equal(ended, pid);
        assert_int_equal(status, 0);
}

static void test_nobody_reads_for_long(void **state)
{
        _cleanup_free_ char *text = NULL;
        size_t length, lines;

        (void)state;
        assert_ends(start_talker());
        hear();
        assert_int_equal(file_read(t.log, LOG_MOST, &text, &length, NULL), 0);
        lines = length / (sizeof LINE - 1);
        assert_int_equal(length % (sizeof LINE - 1), 0);
        assert_true(lines > 1000 && lines < MANY_LINES);
        for (size_t i = 0; i < lines; i++) /* a line is there, or is not: no part of one */
                assert_memory_equal(text + i * (sizeof LINE - 1), LINE, sizeof LINE - 1);
        assert_int_equal(fcntl(t.output_fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        say("k, and it goes on\n");
        hear();
        free(text);
        assert_int_equal(file_read(t.log, LOG_MOST, &text, &length, NULL), 0);
        assert_true(str_ends_with(text, "k, and it goes on\n"));
}

static void test_the_reader_is_gone(void **state)
{
        (void)state;
        t.tap = service_tap_free(t.tap);
        assert_ends(start_talker());
}

static void test_a_log_that_cannot_be(void **state)
{
        char path[80];
        struct service_tap *tap = NULL;
        struct error e = {0};
        int fd = -1;

        (void)state;
        snprintf(path, sizeof path, "%s/none/log", t.folder);
        assert_int_equal(service_tap_new(t.event, path, begins_with_k, &t, &tap, &fd, &e), -ENOENT);
        assert_non_null(strstr(e.text, path));
        snprintf(path, sizeof path, "%s/link", t.folder);
        assert_int_equal(symlink(t.log, path), 0);
        assert_int_equal(service_tap_new(t.event, path, begins_with_k, &t, &tap, &fd, &e), -ELOOP);
        unlink(path);
        assert_null(tap);
        assert_int_equal(fd, -1);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        static const struct CMUnitTest tests[] = {
                TEST(test_lines),
                TEST(test_the_log_is_appended_to),
                TEST(test_a_line_without_an_end),
                TEST(test_the_child_closes_it),
                TEST(test_nobody_reads_for_long),
                TEST(test_the_reader_is_gone),
                TEST(test_a_log_that_cannot_be),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
