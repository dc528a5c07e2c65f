#include "base/loop.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define WATCHDOG_US "200000"
#define PATIENCE_US 5000000ULL

/* It waits until the loop runs: nothing is lost that comes while a daemon starts. */
static void test_ends_with_a_signal(void **state)
{
        static const int signals[] = {SIGTERM, SIGINT};

        (void)state;
        for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
                sd_event *event = NULL;

                assert_int_equal(loop_new(&event, NULL), 0);
                assert_int_equal(sd_event_run(event, 0), 0); /* nothing yet */
                assert_int_equal(kill(getpid(), signals[i]), 0);
                assert_int_equal(sd_event_loop(event), 0);
                assert_int_equal(sd_event_get_state(event), SD_EVENT_FINISHED);
                sd_event_unref(event);
        }
}

static int on_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        *(int *)userdata = info->si_status;
        return sd_event_exit(sd_event_source_get_event(source), 0);
}

static void test_watches_children(void **state)
{
        sd_event *event = NULL;
        sigset_t mask;
        int status = -1;
        pid_t child;

        (void)state;
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        assert_int_equal(sigprocmask(SIG_UNBLOCK, &mask, NULL), 0);
        assert_int_equal(loop_new(&event, NULL), 0);
        assert_int_equal(sigprocmask(SIG_BLOCK, NULL, &mask), 0);
        assert_int_equal(sigismember(&mask, SIGCHLD), 1);
        child = fork();
        if (child == 0)
                _exit(7);
        assert_true(sd_event_add_child(event, NULL, child, WEXITED, on_child, &status) >= 0);
        assert_int_equal(sd_event_loop(event), 0);
        assert_int_equal(status, 7);
        sd_event_unref(event);
}

/* systemd's end of the watchdog, as sd_notify(3) and sd_watchdog_enabled(3) have it. */
static int listen_as_systemd(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        char name[64], pid[16];

        snprintf(name, sizeof name, "@gridnode-test-loop-%d", (int)getpid());
        snprintf(pid, sizeof pid, "%d", (int)getpid());
        memcpy(address.sun_path + 1, name + 1, strlen(name) - 1);
        assert_int_equal(bind(fd, (struct sockaddr *)&address,
                                 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
                0);
        setenv("NOTIFY_SOCKET", name, 1);
        setenv("WATCHDOG_USEC", WATCHDOG_US, 1);
        setenv("WATCHDOG_PID", pid, 1);
        return fd;
}

static int on_late(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)now_us;
        (void)userdata;
        return sd_event_exit(sd_event_source_get_event(source), ETIMEDOUT);
}

static int on_notice(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        char text[128];
        ssize_t n = recv(fd, text, sizeof text - 1, 0);
        int *count = userdata;

        (void)events;
        assert_true(n > 0);
        text[n] = '\0';
        assert_string_equal(text, "WATCHDOG=1");
        return ++*count == 3 ? sd_event_exit(sd_event_source_get_event(source), 0) : 0;
}

static void test_feeds_the_watchdog(void **state)
{
        sd_event *event = NULL;
        int fd = listen_as_systemd(), count = 0;

        (void)state;
        assert_int_equal(loop_new(&event, NULL), 0);
        assert_true(sd_event_get_watchdog(event) > 0);
        assert_true(sd_event_add_io(event, NULL, fd, EPOLLIN, on_notice, &count) >= 0);
        assert_true(
                sd_event_add_time_relative(event, NULL, CLOCK_MONOTONIC, PATIENCE_US, 0, on_late, NULL) >= 0);
        assert_int_equal(sd_event_loop(event), 0);
        assert_int_equal(count, 3);
        sd_event_unref(event);
        close(fd);
        unsetenv("NOTIFY_SOCKET");
        unsetenv("WATCHDOG_USEC");
        unsetenv("WATCHDOG_PID");
        /* Without systemd there is none, and that is no error. */
        assert_int_equal(loop_new(&event, NULL), 0);
        assert_int_equal(sd_event_get_watchdog(event), 0);
        sd_event_unref(event);
}

static void test_no_descriptor_is_left(void **state)
{
        sd_event *event = NULL;
        struct rlimit before, none;
        struct error e = {0};

        (void)state;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
        assert_int_equal(loop_new(&event, &e), -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
        assert_null(event);
        assert_int_equal(e.number, EMFILE);
        assert_string_equal(e.text, "cannot make the event loop: Too many open files");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ends_with_a_signal),
                cmocka_unit_test(test_watches_children),
                cmocka_unit_test(test_feeds_the_watchdog),
                cmocka_unit_test(test_no_descriptor_is_left),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
