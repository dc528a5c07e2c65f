/* What the daemon sees of the WAN, in a network namespace of the test's own. */
#include "node/daemon_internal.h"

#include "../scaffold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
        struct node_settings settings;
        struct daemon d;
} t;

static void ip(const char *words)
{
        char command[256];

        snprintf(command, sizeof command, "ip %s", words);
        if (system(command) != 0)
                fail_msg("%s", command);
}

/* wan0 and lan0, both up, without an address. */
static int setup(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        memset(&t, 0, sizeof t);
        t.settings.site = site_new_default();
        t.d.settings = &t.settings;
        ip("link add wan0 type veth peer name wan1");
        ip("link add lan0 type veth peer name lan1");
        for (int i = 0; i < 2; i++) {
                ip(i ? "link set wan0 up" : "link set lan0 up");
                ip(i ? "link set wan1 up" : "link set lan1 up");
        }
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        site_free(t.settings.site);
        return 0;
}

static void expect_address(const char *text)
{
        char shown[INET_ADDR_TEXT];

        assert_string_equal(inet_addr_format(&t.d.wan_address, shown), text);
}

static void test_no_wan_and_then_one(void **state)
{
        (void)state;
        daemon_look_at_network(&t.d);
        assert_string_equal(t.d.wan_interface, "");
        expect_address("");
        assert_int_equal(t.d.wan_network_count, 0);
        assert_false(daemon_look_at_network(&t.d));
        ip("addr add 198.51.100.2/28 dev wan0");
        ip("route add default via 198.51.100.1 dev wan0");
        assert_true(daemon_look_at_network(&t.d));
        assert_string_equal(t.d.wan_interface, "wan0");
        expect_address("198.51.100.2");
        assert_true(t.d.wan_network_count >= 1);
        assert_false(daemon_look_at_network(&t.d));
}

static void test_only_ipv6(void **state)
{
        char shown[INET_ADDR_TEXT];

        (void)state;
        ip("addr add 2001:db8:1::2/64 dev wan0 nodad");
        ip("-6 route add default via 2001:db8:1::1 dev wan0");
        assert_true(daemon_look_at_network(&t.d));
        assert_string_equal(t.d.wan_interface, "wan0");
        expect_address("2001:db8:1::2");
        assert_string_equal(inet_addr_format(&t.d.wan_gateway6, shown), "2001:db8:1::1");
        assert_false(inet_addr_is_set(&t.d.wan_gateway));
        assert_false(daemon_look_at_network(&t.d));
        /* IPv4 comes as well, and is preferred. */
        ip("addr add 198.51.100.2/28 dev wan0");
        ip("route add default via 198.51.100.1 dev wan0");
        assert_true(daemon_look_at_network(&t.d));
        expect_address("198.51.100.2");
}

/* The link stays up, the gateway is the same, and yet the kernel has dropped every route. */
static void test_an_address_that_comes_back(void **state)
{
        (void)state;
        ip("addr add 198.51.100.2/28 dev wan0");
        ip("route add default via 198.51.100.1 dev wan0");
        daemon_look_at_network(&t.d);
        ip("addr flush dev wan0");
        daemon_look_at_network(&t.d);
        assert_string_equal(t.d.wan_interface, "wan0"); /* remembered */
        ip("addr add 198.51.100.2/28 dev wan0");
        ip("route add default via 198.51.100.1 dev wan0");
        assert_true(daemon_look_at_network(&t.d));
        assert_false(daemon_look_at_network(&t.d));
}

static void test_a_link_that_went_and_came(void **state)
{
        (void)state;
        daemon_look_at_network(&t.d);
        ip("link set lan0 down");
        assert_true(daemon_look_at_network(&t.d));
        ip("link set lan0 up");
        assert_true(daemon_look_at_network(&t.d));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_no_wan_and_then_one), TEST(test_only_ipv6),
                TEST(test_an_address_that_comes_back), TEST(test_a_link_that_went_and_came)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
