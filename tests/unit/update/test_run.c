#include "update/run.h"

#include "base/clock.h"
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

static char log_path[] = "/tmp/gridnode-run-XXXXXX";
static int log_fd;

static int set_up(void **state)
{
        (void)state;
        log_fd = mkostemp(log_path, O_APPEND);
        return log_fd < 0;
}

static int tear_down(void **state)
{
        (void)state;
        close(log_fd);
        return unlink(log_path);
}

static void take(const char *line, void *userdata)
{
        strv_add(userdata, line);
}

static void test_output_is_in_the_log_and_told(void **state)
{
        (void)state;
        static const char *const words[] = {"/bin/sh", "-c",
                "echo one; echo two >&2; printf '5%%\\r10%%\\r'; echo status:3 >&3; exit 7", NULL};
        struct strv lines = {0};
        struct run_options o = {.arguments = words,
                .log_fd = log_fd,
                .log_path = log_path,
                .status_path = "/tmp/gridnode-run-status",
                .on_line = take,
                .on_status = take,
                .userdata = &lines};
        struct stat st;
        struct error e;

        assert_int_equal(run_program(&o, &e), 7);
        assert_int_equal(lines.count, 5);
        assert_true(
                strv_contains(&lines, "one") && strv_contains(&lines, "two") && strv_contains(&lines, "10%"));
        assert_true(strv_contains(&lines, "status:3"));
        assert_int_equal(fstat(log_fd, &st), 0);
        assert_int_equal(st.st_size, strlen("one\ntwo\n5%\r10%\r"));
        strv_done(&lines);
        unlink("/tmp/gridnode-run-status");
}

static void test_environment_and_descriptors(void **state)
{
        (void)state;
        static const char *const words[] = {"/bin/sh", "-c",
                "echo $DEBIAN_FRONTEND-$MORE-$HOME-$SECRET; ls /proc/self/fd | wc -l; read x || echo no "
                "input; pwd",
                NULL};
        static const char *const more[] = {"MORE=yes", NULL};
        struct strv lines = {0};
        struct run_options o = {.arguments = words,
                .environment = more,
                .folder = "/usr",
                .log_fd = log_fd,
                .log_path = log_path,
                .on_line = take,
                .userdata = &lines};
        struct error e;

        setenv("SECRET", "of ours", 1);
        assert_int_equal(run_program(&o, &e), 0);
        assert_string_equal(lines.items[0], "noninteractive-yes-/root-");
        assert_string_equal(lines.items[1], "4"); /* 0, 1, 2 and ls's own of the folder */
        assert_string_equal(lines.items[2], "no input");
        assert_string_equal(lines.items[3], "/usr");
        strv_done(&lines);
}

static int stop_it(void *userdata)
{
        return ++*(int *)userdata > 1 ? -ECANCELED : 0;
}

static void test_ends(void **state)
{
        (void)state;
        static const char *const sleeps[] = {"/bin/sh", "-c", "sleep 100 & wait", NULL},
                                 *const dies[] = {"/bin/sh", "-c", "kill -9 $$", NULL},
                                 *const nothing[] = {"/nonexistent/program", NULL};
        struct run_options o = {.arguments = sleeps, .log_fd = -1, .timeout_ms = 300};
        double began_ms = clock_monotonic_ms();
        struct error e;
        int ticks = 0;

        assert_int_equal(run_program(&o, &e), -ETIMEDOUT);
        o = (struct run_options){.arguments = sleeps, .log_fd = -1, .on_tick = stop_it, .userdata = &ticks};
        assert_int_equal(run_program(&o, &e), -ECANCELED);
        assert_true(clock_monotonic_ms() - began_ms < 10000);
        o = (struct run_options){.arguments = dies, .log_fd = -1};
        assert_int_equal(run_program(&o, &e), 128 + SIGKILL);
        o = (struct run_options){.arguments = nothing, .log_fd = -1};
        assert_int_equal(run_program(&o, &e), -ENOENT);
        assert_non_null(strstr(e.text, "/nonexistent/program"));
}

/* Whoever started dpkg may be killed: dpkg goes on. What only fetches ends. */
static void survives(bool ends_with_us, bool expected)
{
        char mark[] = "/tmp/gridnode-run-mark-XXXXXX", script[160];
        const char *const words[] = {"/bin/sh", "-c", script, NULL};
        int fd = mkstemp(mark);
        struct stat st;
        pid_t pid;

        assert_true(fd >= 0);
        snprintf(script, sizeof script, "sleep 1; echo still here; echo done > %s", mark);
        pid = fork();
        if (pid == 0) {
                struct run_options o = {.arguments = words,
                        .log_fd = log_fd,
                        .log_path = log_path,
                        .ends_with_us = ends_with_us};

                run_program(&o, NULL);
                _exit(0);
        }
        usleep(300000);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        usleep(1500000);
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size > 0, expected);
        close(fd);
        unlink(mark);
}

static void test_killed_parent(void **state)
{
        (void)state;
        survives(false, true);
        survives(true, false);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_output_is_in_the_log_and_told),
                cmocka_unit_test(test_environment_and_descriptors),
                cmocka_unit_test(test_ends),
                cmocka_unit_test(test_killed_parent),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
