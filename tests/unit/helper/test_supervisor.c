/* The real helper without systemd: it is killed, its supervisor is killed, both are. */
#include "helper/client.h"
#include "helper/spawn.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BACK_WITHIN_MS 5000

struct heard {
        int count, result;
        struct error error;
};

struct run {
        sd_event *event;
        struct helper_client *client;
        struct heard heard;
        pid_t supervisor;
};

static void on_answer(int result, const struct error *e, void *userdata)
{
        struct heard *h = userdata;

        h->count++;
        h->result = result;
        h->error = *e;
}

/* Its first child; 0: it has none. */
static pid_t child_of(pid_t pid)
{
        char path[64];
        FILE *f;
        int child = 0;

        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
        f = fopen(path, "re");
        if (f && fscanf(f, "%d", &child) != 1)
                child = 0;
        if (f)
                fclose(f);
        return child;
}

static void begin(struct run *r)
{
        struct error e;

        *r = (struct run){0};
        assert_true(sd_event_new(&r->event) >= 0);
        if (helper_client_new(r->event, NULL, HELPER_PROGRAM, NULL, &r->client, &e) < 0)
                fail_msg("%s", e.text);
        r->supervisor = child_of(getpid());
        assert_true(r->supervisor > 0);
}

/* Nothing of it is left, and it was waited for. */
static void end(struct run *r)
{
        helper_client_free(r->client);
        sd_event_unref(r->event);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

static void start_asking(struct run *r)
{
        static const struct helper_request hello = {.operation = HELPER_HELLO};

        r->heard = (struct heard){0};
        assert_int_equal(helper_client_ask(r->client, &hello, on_answer, &r->heard), 0);
}

static int answer(struct run *r)
{
        double began = clock_monotonic_ms();

        while (r->heard.count == 0 && clock_monotonic_ms() - began < BACK_WITHIN_MS)
                assert_true(sd_event_run(r->event, 50000) >= 0);
        assert_int_equal(r->heard.count, 1);
        return r->heard.result;
}

static int ask(struct run *r)
{
        start_asking(r);
        return answer(r);
}

static void turn(struct run *r, int ms)
{
        double until = clock_monotonic_ms() + ms;

        while (clock_monotonic_ms() < until)
                assert_true(sd_event_run(r->event, 10000) >= 0);
}

/* The helper that serves now. */
static pid_t helper_of(struct run *r)
{
        double began = clock_monotonic_ms();
        pid_t helper;

        while (!(helper = child_of(r->supervisor)) && clock_monotonic_ms() - began < BACK_WITHIN_MS)
                turn(r, 10);
        assert_true(helper > 0);
        return helper;
}

/* SIGKILL, and until it is no process any more. */
static void kill_it(pid_t pid)
{
        int fd = pidfd_open(pid, 0);
        struct pollfd p = {.fd = fd, .events = POLLIN};

        assert_true(fd >= 0);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(poll(&p, 1, 5000), 1);
        close(fd);
}

static size_t open_descriptors(void)
{
        DIR *folder = opendir("/proc/self/fd");
        size_t count = 0;

        assert_non_null(folder);
        while (readdir(folder))
                count++;
        closedir(folder);
        return count;
}

/* ---- the helper dies ---- */

static void test_comes_back(void **state)
{
        (void)state;
        size_t descriptors;
        struct run r;

        begin(&r);
        assert_int_equal(ask(&r), 0);
        descriptors = open_descriptors();
        for (int i = 0; i < 4; i++) {
                pid_t helper = helper_of(&r);

                kill_it(helper);
                turn(&r, 20); /* the daemon hears of it */
                assert_int_equal(ask(&r), 0);
                assert_int_not_equal(helper_of(&r), helper);
        }
        assert_int_equal(open_descriptors(), descriptors);
        assert_int_equal(child_of(getpid()), r.supervisor);
        end(&r);
}

/* With a question that it has, and one behind it: both hear of it at once, and the next one is answered. */
static void test_dies_while_asked(void **state)
{
        (void)state;
        struct heard second = {0};
        static const struct helper_request hello = {.operation = HELPER_HELLO};
        double began;
        pid_t helper;
        struct run r;

        begin(&r);
        assert_int_equal(ask(&r), 0);
        helper = helper_of(&r);
        kill(helper, SIGSTOP);
        start_asking(&r);
        assert_int_equal(helper_client_ask(r.client, &hello, on_answer, &second), 0);
        turn(&r, 50);
        assert_int_equal(r.heard.count, 0);
        began = clock_monotonic_ms();
        kill_it(helper);
        assert_int_equal(answer(&r), -EPIPE);
        assert_in_range((int)(clock_monotonic_ms() - began), 0, 1000);
        assert_int_equal(second.result, -EPIPE);
        assert_int_equal(ask(&r), 0);
        end(&r);
}

/* Before it has served anybody, and before the daemon has looked. */
static void test_dies_at_once(void **state)
{
        (void)state;
        struct run r;

        begin(&r);
        kill_it(helper_of(&r));
        start_asking(&r);
        if (answer(&r) != 0) { /* it went to the one that was killed */
                assert_int_equal(r.heard.result, -EPIPE);
                assert_int_equal(ask(&r), 0);
        }
        end(&r);
}

/* ---- the supervisor dies ---- */

static void test_supervisor_dies(void **state)
{
        (void)state;
        struct run r;
        pid_t helper;

        begin(&r);
        assert_int_equal(ask(&r), 0);
        helper = helper_of(&r);
        kill_it(r.supervisor);
        turn(&r, 50);
        assert_int_equal(ask(&r), 0); /* by the helper that is still there */
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        kill_it(helper);
        turn(&r, 50);
        assert_int_equal(ask(&r), -EPIPE);
        assert_non_null(strstr(r.heard.error.text, "starts again with the daemon"));
        end(&r);
}

/* What it leaves ends with the daemon's connection. */
static void test_orphan_ends(void **state)
{
        (void)state;
        struct pollfd p = {.events = POLLIN};
        struct run r;

        begin(&r);
        assert_int_equal(ask(&r), 0);
        p.fd = pidfd_open(helper_of(&r), 0);
        assert_true(p.fd >= 0);
        kill_it(r.supervisor);
        turn(&r, 50);
        end(&r);
        assert_int_equal(poll(&p, 1, 5000), 1);
        close(p.fd);
}

/* Stopped, it starts nobody; killed then, who waits hears of it and does not wait for the end of his time. */
static void test_both_die(void **state)
{
        (void)state;
        double began;
        struct run r;

        begin(&r);
        assert_int_equal(ask(&r), 0);
        kill(r.supervisor, SIGSTOP);
        kill(helper_of(&r), SIGKILL);
        turn(&r, 50);
        start_asking(&r);
        turn(&r, 100);
        assert_int_equal(r.heard.count, 0);
        began = clock_monotonic_ms();
        kill_it(r.supervisor);
        assert_int_equal(answer(&r), -EPIPE);
        assert_in_range((int)(clock_monotonic_ms() - began), 0, 1000);
        end(&r);
}

/* ---- the daemon ---- */

/* It goes before it has taken a connection. */
static void test_daemon_goes_at_once(void **state)
{
        (void)state;
        int pair[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
        assert_true(helper_spawn(HELPER_PROGRAM, HELPER_SUPERVISE, NULL, pair[1]) > 0);
        close(pair[1]);
        close(pair[0]);
        for (int i = 0; i < 500 && waitpid(-1, NULL, WNOHANG) == 0; i++)
                poll(NULL, 0, 10);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        assert_int_equal(errno, ECHILD);
}

/* As many routes as may be, on an interface that there is not. */
static int ask_for_much(struct run *r)
{
        char *up[] = {"nowhere0"};
        struct helper_route *routes = xcalloc(HELPER_MAX_ROUTES, sizeof *routes);
        struct helper_request request = {.operation = HELPER_NETWORK_APPLY,
                .network = {.up = up, .up_count = 1, .routes = routes, .route_count = HELPER_MAX_ROUTES}};
        char text[64];

        for (unsigned i = 0; i < HELPER_MAX_ROUTES; i++) {
                snprintf(text, sizeof text, "2001:db8:%x:%x::/64", i, i);
                assert_int_equal(cidr_parse(text, &routes[i].destination), 0);
                snprintf(text, sizeof text, "2001:db8::%x", i + 1);
                assert_int_equal(inet_addr_parse(text, &routes[i].next_hop), 0);
                str_copy(routes[i].interface, sizeof routes[i].interface, "nowhere0");
                routes[i].metric = i + 1;
        }
        r->heard = (struct heard){0};
        assert_int_equal(helper_client_ask(r->client, &request, on_answer, &r->heard), 0);
        free(routes);
        return answer(r);
}

/* A helper that came when the daemon's rights had gone gets as long a message as the first one. */
static void test_rights_are_gone(void **state)
{
        (void)state;
        int status;
        pid_t daemon;

        if (geteuid() != 0)
                skip();
        daemon = fork();
        assert_true(daemon >= 0);
        if (daemon == 0) {
                struct run r;

                begin(&r);
                if (ask_for_much(&r) != -ENODEV)
                        _exit(1);
                kill_it(helper_of(&r));
                if (setresuid(65534, 65534, 65534) < 0)
                        _exit(2);
                turn(&r, 20);
                if (ask_for_much(&r) != -ENODEV) {
                        fprintf(stderr, "%s\n", r.heard.error.text);
                        _exit(3);
                }
                helper_client_free(r.client);
                sd_event_unref(r.event);
                _exit(waitpid(-1, NULL, WNOHANG) == -1 ? 0 : 4);
        }
        assert_int_equal(waitpid(daemon, &status, 0), daemon);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_comes_back),
                cmocka_unit_test(test_dies_while_asked),
                cmocka_unit_test(test_dies_at_once),
                cmocka_unit_test(test_supervisor_dies),
                cmocka_unit_test(test_orphan_ends),
                cmocka_unit_test(test_both_die),
                cmocka_unit_test(test_daemon_goes_at_once),
                cmocka_unit_test(test_rights_are_gone),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
