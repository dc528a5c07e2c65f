/* gridnode-helper as the daemon's child, and on a socket of its own; under systemd it is tried in
 * tests/lab/test_units.py. */
#include "helper/protocol.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sysexits.h>

#define HELLO "{\"op\":\"hello\"}"

static pid_t start(int fd)
{
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                int quiet = open("/dev/null", O_WRONLY);

                if (fd == 3)
                        fcntl(fd, F_SETFD, 0);
                else if (dup2(fd, 3) < 0)
                        _exit(1);
                dup2(quiet, STDERR_FILENO);
                execl(HELPER_PROGRAM, HELPER_PROGRAM, "--user", "nobody", NULL);
                _exit(1);
        }
        close(fd);
        return pid;
}

static int status_of(pid_t pid)
{
        int status;

        assert_int_equal(waitpid(pid, &status, 0), pid);
        return status;
}

static void say(int fd, const void *data, size_t length)
{
        assert_int_equal(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

/* The answer; "" when the connection was closed. */
static const char *hear(int fd)
{
        static char data[4096];
        ssize_t n = recv(fd, data, sizeof data - 1, 0);

        data[n > 0 ? n : 0] = 0;
        return data;
}

static bool is_ok(const char *answer)
{
        struct error result, e;

        return helper_answer_parse(answer, strlen(answer), &result, &e) == 0 && result.number == 0;
}

static pid_t start_child(int *ret_fd)
{
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        *ret_fd = pair[0];
        return start(pair[1]);
}

static void test_child_ends_with_daemon(void **state)
{
        (void)state;
        int fd;
        pid_t pid = start_child(&fd);

        for (int i = 0; i < 3; i++) {
                say(fd, HELLO, strlen(HELLO));
                assert_true(is_ok(hear(fd)));
        }
        close(fd);
        assert_int_equal(status_of(pid), 0);
}

/* Whatever is not of the table ends it; what was asked before is answered. */
static void test_child_ends_with_garbage(void **state)
{
        (void)state;
        static const char *const garbage[] = {"x", "{}", "{\"op\":\"reboot\"}", HELLO "\n" HELLO};

        for (size_t i = 0; i < ELEMENTS(garbage); i++) {
                int fd;
                pid_t pid = start_child(&fd);

                say(fd, HELLO, strlen(HELLO));
                say(fd, garbage[i], strlen(garbage[i]));
                assert_true(is_ok(hear(fd)));
                assert_non_null(strstr(hear(fd), "\"ok\":false"));
                assert_string_equal(hear(fd), "");
                assert_int_equal(status_of(pid), 0);
                close(fd);
        }
}

static void test_too_long(void **state)
{
        (void)state;
        _cleanup_free_ char *data = xcalloc(1, HELPER_MESSAGE_MAXIMUM + 1);
        int fd, size = 4 << 20;
        pid_t pid = start_child(&fd);

        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size), 0);
        memset(data, ' ', HELPER_MESSAGE_MAXIMUM + 1);
        say(fd, data, HELPER_MESSAGE_MAXIMUM + 1);
        assert_string_equal(hear(fd), "");
        assert_int_equal(status_of(pid), 0);
        close(fd);
}

/* Asks and asks and reads nothing: it is not waited for. */
static void test_does_not_read(void **state)
{
        (void)state;
        int fd;
        pid_t pid = start_child(&fd);

        while (send(fd, HELLO, strlen(HELLO), MSG_NOSIGNAL) > 0)
                ;
        assert_int_equal(status_of(pid), 0);
        close(fd);
}

static void test_signal(void **state)
{
        (void)state;
        int fd;
        pid_t pid = start_child(&fd);

        say(fd, HELLO, strlen(HELLO));
        assert_true(is_ok(hear(fd)));
        kill(pid, SIGTERM);
        assert_int_equal(status_of(pid), 0);
        close(fd);
}

static void test_no_socket(void **state)
{
        (void)state;
        int status = status_of(start(open("/dev/null", O_RDONLY | O_CLOEXEC)));

        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), EX_USAGE);
        status = status_of(start(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)));
        assert_int_equal(WEXITSTATUS(status), EX_USAGE);
}

/* ---- listening, as under systemd ---- */

static int connect_to(const struct sockaddr_un *address)
{
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        assert_int_equal(connect(fd, (const struct sockaddr *)address, sizeof *address), 0);
        return fd;
}

/* True when this user is answered. */
static bool is_answered(const struct sockaddr_un *address, uid_t uid)
{
        pid_t pid = fork();

        if (pid == 0) {
                int fd;

                if (setresuid(uid, uid, uid) < 0)
                        _exit(2);
                fd = connect_to(address);
                send(fd, HELLO, strlen(HELLO), MSG_NOSIGNAL);
                _exit(is_ok(hear(fd)) ? 0 : 1);
        }
        return status_of(pid) == 0;
}

static void test_listening(void **state)
{
        (void)state;
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), fds[12];
        pid_t pid;

        /* An abstract name (unix(7)): anybody may connect. */
        snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "gridnode-test-main-%d", (int)getpid());
        assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(listener, 32), 0);
        pid = start(listener);
        assert_true(is_answered(&address, 0));
        assert_true(is_answered(&address, 65534)); /* nobody, who is --user */
        assert_false(is_answered(&address, 65533));
        /* More than it serves at once wait until one goes. */
        for (size_t i = 0; i < ELEMENTS(fds); i++) {
                fds[i] = connect_to(&address);
                say(fds[i], HELLO, strlen(HELLO));
        }
        for (size_t i = 0; i < ELEMENTS(fds); i++) {
                assert_true(is_ok(hear(fds[i])));
                say(fds[i], "garbage", 7);
                assert_non_null(strstr(hear(fds[i]), "\"ok\":false"));
                close(fds[i]);
        }
        assert_true(is_answered(&address, 0));
        kill(pid, SIGTERM);
        assert_int_equal(status_of(pid), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_child_ends_with_daemon),
                cmocka_unit_test(test_child_ends_with_garbage),
                cmocka_unit_test(test_too_long),
                cmocka_unit_test(test_does_not_read),
                cmocka_unit_test(test_signal),
                cmocka_unit_test(test_no_socket),
                cmocka_unit_test(test_listening),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
