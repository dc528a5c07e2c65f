/* Against the kernel, in a namespace of the test's own. */
#include "node/netwatch.h"

#include "../scaffold.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static sd_event *event;
static struct netwatch *watch;
static unsigned changes;

static void on_change(void *userdata)
{
        assert_ptr_equal(userdata, &changes);
        changes++;
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
                scaffold_run_for(event, 1300);
        } while (changes > 0);
        began = clock_monotonic_ms();
        run(command);
        while (changes == 0 && clock_monotonic_ms() < began + 3000)
                scaffold_run_for(event, 10);
        assert_true(clock_monotonic_ms() - began >= 150);
        scaffold_run_for(event, 400);
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
        scaffold_run_for(event, 500);
        changes = 0;
        run("ip neigh show; ip route get 127.0.0.1 > /dev/null");
        scaffold_run_for(event, 500);
        assert_int_equal(changes, 0);
}

static void test_freed_while_gathering(void **state)
{
        (void)state;
        changes = 0;
        run("ip link add gB-v0 type veth peer name gB-v1");
        scaffold_run_for(event, 50);
        watch = netwatch_free(watch);
        scaffold_run_for(event, 400);
        assert_int_equal(changes, 0);
        assert_null(netwatch_free(NULL));
}

static int set_up(void **state)
{
        (void)state;
        scaffold_enter_namespace();
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
