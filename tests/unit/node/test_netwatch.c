/* Against the kernel, in a namespace of the test's own. */
#include "node/netwatch.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static sd_event *event;
static struct netwatch *watch;
static unsigned changes;

static void on_change(void *userdata)
{
        assert_ptr_equal(userdata, &changes);
        changes++;
}

static double now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void run_for(double time_ms)
{
        double end = now_ms() + time_ms;

        while (now_ms() < end)
                assert_true(sd_event_run(event, (uint64_t)((end - now_ms()) * 1000) + 1) >= 0);
}

static void run(const char *command)
{
        if (system(command) != 0)
                fail_msg("%s", command);
}

/* What the command does is told, and not at once; at most so many times: the kernel looks at carriers once a
 * second, which is a change of its own. */
static void assert_change(const char *command, unsigned most)
{
        double began;

        do {
                changes = 0;
                run_for(1300);
        } while (changes > 0);
        began = now_ms();
        run(command);
        while (changes == 0 && now_ms() < began + 3000)
                run_for(10);
        assert_true(now_ms() - began >= 150);
        run_for(400);
        if (changes < 1 || changes > most)
                fail_msg("%u changes for '%s'", changes, command);
}

static void test_changes(void **state)
{
        (void)state;
        assert_change("ip link add gB-v0 type veth peer name gB-v1 && "
                      "ip link set gB-v0 addrgenmode none && ip link set gB-v1 addrgenmode none",
                2);
        assert_change("ip link set gB-v0 up && ip link set gB-v1 up", 2);
        assert_change("ip addr add 203.0.113.2/24 dev gB-v0", 1);
        assert_change("ip route add 198.51.100.0/24 via 203.0.113.1", 1);
        assert_change("ip route del 198.51.100.0/24", 1);
        assert_change("ip rule add from 203.0.113.2 table 100", 1);
        assert_change("ip -6 route add 2001:db8:1::/48 dev gB-v0", 1);
        assert_change("ip addr del 203.0.113.2/24 dev gB-v0", 1);
        assert_change("ip link set gB-v1 down", 2);
        assert_change("ip link del gB-v0", 2);
}

/* More than the socket holds: that is heard of, too, and only once. */
static void test_flood(void **state)
{
        (void)state;
        run("ip link add gB-v0 type veth peer name gB-v1 && ip addr add 203.0.113.2/24 dev gB-v0 && "
            "ip link set gB-v0 up");
        assert_change("for i in $(seq 1 3000); do "
                      "echo route add 10.$((i/250)).$((i%250)).0/24 via 203.0.113.1 onlink dev gB-v0; "
                      "echo route del 10.$((i/250)).$((i%250)).0/24; done | ip -batch -",
                2);
        assert_change("ip link del gB-v0", 2);
}

static void test_silence(void **state)
{
        (void)state;
        run_for(500);
        changes = 0;
        run("ip neigh show; ip route get 127.0.0.1 > /dev/null");
        run_for(500);
        assert_int_equal(changes, 0);
}

static void test_freed_while_gathering(void **state)
{
        (void)state;
        changes = 0;
        run("ip link add gB-v0 type veth peer name gB-v1");
        run_for(50);
        watch = netwatch_free(watch);
        run_for(400);
        assert_int_equal(changes, 0);
        assert_null(netwatch_free(NULL));
}

static void write_text(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        close(fd);
}

/* As root a network namespace is enough; else a user namespace comes with it, in which we are root. */
static int set_up(void **state)
{
        char map[64];
        uid_t uid = getuid();

        (void)state;
        if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0) {
                assert_int_equal(unshare(CLONE_NEWUSER | CLONE_NEWNET), 0);
                write_text("/proc/self/setgroups", "deny");
                snprintf(map, sizeof map, "0 %u 1", uid);
                write_text("/proc/self/uid_map", map);
        }
        run("ip link set lo up");
        if (sd_event_new(&event) < 0)
                return -1;
        return netwatch_new(event, on_change, &changes, &watch);
}

static int tear_down(void **state)
{
        (void)state;
        netwatch_free(watch);
        sd_event_unref(event);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_changes),
                cmocka_unit_test(test_flood),
                cmocka_unit_test(test_silence),
                cmocka_unit_test(test_freed_while_gathering),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
