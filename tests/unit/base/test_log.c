#include "base/log.h"

#include "base/cleanup.h"
#include "base/text.h"

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
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static int saved_stderr = -1, pipe_fds[2] = {-1, -1};

/* Standard error leads into a pipe from here on. */
static void capture(void)
{
        assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
        saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        assert_true(saved_stderr >= 0);
        assert_true(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
        close(pipe_fds[1]);
}

static void captured(char *ret, size_t size_bytes)
{
        ssize_t n;

        assert_true(dup2(saved_stderr, STDERR_FILENO) >= 0);
        close(saved_stderr);
        n = read(pipe_fds[0], ret, size_bytes - 1);
        close(pipe_fds[0]);
        assert_true(n >= 0);
        ret[n] = '\0';
}

/* After the time at its beginning. */
static void assert_line(const char *line, const char *wanted)
{
        int64_t unix_ms;
        char when[25];

        str_copy(when, sizeof when, line);
        assert_int_equal(time_parse_utc(when, &unix_ms), 0);
        assert_string_equal(line + 24, wanted);
}

static void test_line(void **state)
{
        char line[4096];

        (void)state;
        capture();
        log_open("test", LOG_LEVEL_INFO);
        log_event(LOG_LEVEL_WARNING, "lost the way", "node", "n-1", "why", "it said \"no\"", "left-out", NULL,
                "empty", "", NULL);
        captured(line, sizeof line);
        assert_line(line, " warning lost the way node=n-1 why=\"it said \\\"no\\\"\" empty=\"\"\n");
}

static void test_escapes(void **state)
{
        char line[4096];

        (void)state;
        capture();
        log_open("test", LOG_LEVEL_INFO);
        log_event(LOG_LEVEL_ERROR, "one\ntwo", "id", "a\nERROR forged\033[2J", NULL);
        captured(line, sizeof line);
        assert_line(line, " error one\\x0atwo id=\"a\\x0aERROR forged\\x1b[2J\"\n");
}

static void test_levels(void **state)
{
        char line[4096];

        (void)state;
        capture();
        log_open("test", LOG_LEVEL_WARNING);
        errno = 77;
        log_event(LOG_LEVEL_INFO, "unheard", NULL);
        log_text(LOG_LEVEL_DEBUG, "unheard %d", 1);
        log_text(LOG_LEVEL_ERROR, "heard %d", 2);
        assert_int_equal(errno, 77);
        captured(line, sizeof line);
        assert_line(line, " error heard 2\n");
}

static void test_long_value_and_many_fields(void **state)
{
        static char value[10000], line[65536];

        (void)state;
        memset(value, 'x', sizeof value - 1);
        capture();
        log_open("test", LOG_LEVEL_INFO);
        log_event(LOG_LEVEL_INFO, "m", "a", value, NULL);
        captured(line, sizeof line);
        assert_in_range(strlen(line), 4096, 4200);
}

static void test_nobody_reads(void **state)
{
        int before = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3), fds[2];

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
        assert_true(dup2(fds[1], STDERR_FILENO) >= 0);
        log_open("test", LOG_LEVEL_INFO);
        for (int i = 0; i < 5000; i++)
                log_text(LOG_LEVEL_INFO, "a full pipe does not stop the one who logs");
        assert_true(dup2(before, STDERR_FILENO) >= 0);
        close(before);
        close(fds[0]);
        close(fds[1]);
}

/* A variable that names another stream than standard error is somebody else's. */
static void test_foreign_journal_stream(void **state)
{
        static const char *const streams[] = {"1:1", "", "x", "1:1:1", "99999999999999999999:1"};
        char line[4096];

        (void)state;
        for (size_t i = 0; i < ELEMENTS(streams); i++) {
                assert_int_equal(setenv("JOURNAL_STREAM", streams[i], 1), 0);
                capture();
                log_open("test", LOG_LEVEL_INFO);
                log_text(LOG_LEVEL_INFO, "here");
                captured(line, sizeof line);
                assert_line(line, " info here\n");
        }
        unsetenv("JOURNAL_STREAM");
}

/* ---- the journal, played by a socket in a mount namespace of our own ---- */

#define JOURNAL "/run/systemd/journal"

static int journal_socket(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = JOURNAL "/socket"};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                mount("tmpfs", "/run", "tmpfs", 0, NULL) < 0)
                return -1;
        if (mkdir("/run/systemd", 0755) < 0 || mkdir(JOURNAL, 0755) < 0 ||
                bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
                return -1;
        return fd;
}

/* 0: as wanted; else the line that is not. In a process of its own. */
static int play_journal(int not_stderr)
{
        char stream[64], message[8192];
        struct stat st;
        int fd = journal_socket();
        ssize_t n;

        if (fd < 0 || dup2(not_stderr, STDERR_FILENO) < 0 || fstat(STDERR_FILENO, &st) < 0)
                return __LINE__;
        snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
                (unsigned long long)st.st_ino);
        setenv("JOURNAL_STREAM", stream, 1);
        log_open("daemon", LOG_LEVEL_INFO);
        log_event(LOG_LEVEL_WARNING, "lost the way", "node", "n-1", "exit-code", "7\nPRIORITY=0", NULL);
        n = recv(fd, message, sizeof message - 1, MSG_DONTWAIT);
        if (n < 0)
                return __LINE__;
        message[n] = '\0';
        if (!strstr(message, "MESSAGE=lost the way\n") || !strstr(message, "PRIORITY=4\n"))
                return __LINE__;
        if (!strstr(message, "SYSLOG_IDENTIFIER=daemon\n") || !strstr(message, "\nNODE=n-1\n"))
                return __LINE__;
        if (!strstr(message, "EXIT_CODE=7\\x0aPRIORITY=0\n") || strstr(message, "\nPRIORITY=0"))
                return __LINE__;
        /* Standard error was redirected since: it is the journal no more. */
        setenv("JOURNAL_STREAM", "1:1", 1);
        log_open("daemon", LOG_LEVEL_INFO);
        log_text(LOG_LEVEL_INFO, "on the pipe");
        return recv(fd, message, sizeof message, MSG_DONTWAIT) < 0 ? 0 : __LINE__;
}

static void test_journal(void **state)
{
        char line[4096] = "";
        int fds[2], status;
        ssize_t n;
        pid_t pid;

        (void)state;
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                        _exit(254);
                _exit(play_journal(fds[1]) ? 1 : 0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        close(fds[1]);
        n = read(fds[0], line, sizeof line - 1);
        close(fds[0]);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 254)
                skip();
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
        assert_true(n > 24);
        assert_line(line, " info on the pipe\n");
}

static void test_limit(void **state)
{
        struct log_limit l = {0};
        unsigned suppressed = 99;

        (void)state;
        assert_true(log_limit_allows(&l, 0, 1000, &suppressed));
        assert_int_equal(suppressed, 0);
        suppressed = 99;
        assert_false(log_limit_allows(&l, 1, 1000, &suppressed));
        assert_false(log_limit_allows(&l, 999, 1000, &suppressed));
        assert_int_equal(suppressed, 99);
        assert_true(log_limit_allows(&l, 1001, 1000, &suppressed));
        assert_int_equal(suppressed, 2);
        assert_false(log_limit_allows(&l, 2000, 1000, &suppressed));
        /* The clock went back. */
        assert_true(log_limit_allows(&l, 500, 1000, &suppressed));
        assert_int_equal(suppressed, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_line),
                cmocka_unit_test(test_escapes),
                cmocka_unit_test(test_levels),
                cmocka_unit_test(test_long_value_and_many_fields),
                cmocka_unit_test(test_nobody_reads),
                cmocka_unit_test(test_foreign_journal_stream),
                cmocka_unit_test(test_journal),
                cmocka_unit_test(test_limit),
        };

        unsetenv("JOURNAL_STREAM");
        return cmocka_run_group_tests(tests, NULL, NULL);
}
