/* The probes that read what the kernel knows of an interface: link, address, neighbour. */
#include "testnet.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static struct probe_context c;

static int begin(void **state)
{
        (void)state;
        assert_int_equal(probe_context_init(&c), 0);
        return inet_addr_parse(TESTNET_NODE, &c.source);
}

static int end(void **state)
{
        (void)state;
        probe_context_done(&c);
        return 0;
}

static struct measurement *ask(enum measurement_kind kind, const char *interface)
{
        struct probe_spec spec = {.kind = kind};

        str_copy(spec.interface, sizeof spec.interface, interface);
        return testnet_probe(&c, &spec);
}

static void a_link_that_works(void **state)
{
        _measured_ struct measurement *m = ask(MEASUREMENT_LINK, "eth0");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->link_up, YES);
        assert_int_equal(m->carrier, YES);
        assert_string_equal(m->operstate, "up");
        assert_int_equal(m->mtu, 1500);
        assert_int_equal(strlen(m->mac), 17);
        assert_int_equal(m->ifindex, if_nametoindex("eth0"));
}

static void loopback_is_no_link_that_is_down(void **state)
{
        _measured_ struct measurement *m = ask(MEASUREMENT_LINK, "lo");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_string_equal(m->operstate, "unknown");
}

static void no_carrier_and_switched_off_are_down(void **state)
{
        (void)state;
        testnet_run(TESTNET_ROUTER_NS, "ip link set lan0 down");
        _measured_ struct measurement *unplugged = ask(MEASUREMENT_LINK, "eth0");
        testnet_run(TESTNET_ROUTER_NS, "ip link set lan0 up");
        testnet_run(TESTNET_NODE_NS, "ip link add down0 type veth peer name down1");
        _measured_ struct measurement *off = ask(MEASUREMENT_LINK, "down0");
        assert_int_equal(unplugged->outcome, OUTCOME_DOWN);
        assert_int_equal(unplugged->link_up, YES);
        assert_int_equal(unplugged->carrier, NO);
        assert_int_equal(off->outcome, OUTCOME_DOWN);
        assert_int_equal(off->link_up, NO);
}

static void an_absent_interface_is_missing(void **state)
{
        _measured_ struct measurement *link = ask(MEASUREMENT_LINK, "none0");
        _measured_ struct measurement *address = ask(MEASUREMENT_ADDRESS, "none0");

        (void)state;
        assert_int_equal(link->outcome, OUTCOME_MISSING);
        assert_int_equal(link->error_number, ENODEV);
        assert_int_equal(address->outcome, OUTCOME_MISSING);
        assert_int_equal(address->source_is_here, YES);
}

static void addresses_and_the_source(void **state)
{
        _measured_ struct measurement *m = ask(MEASUREMENT_ADDRESS, "eth0");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_true(strv_contains(&m->addresses, "10.1.0.2/24"));
        assert_true(strv_contains(&m->addresses, "2001:db8:1::2/64"));
        assert_int_equal(m->source_is_here, YES);
        assert_int_equal(m->only_link_local, NO);
        assert_string_equal(m->source, TESTNET_NODE);
        assert_int_equal(inet_addr_parse("192.0.2.99", &c.source), 0);
        _measured_ struct measurement *foreign = ask(MEASUREMENT_ADDRESS, "eth0");
        assert_int_equal(foreign->outcome, OUTCOME_OK);
        assert_int_equal(foreign->source_is_here, NO);
        c.source = (struct inet_addr){0};
        _measured_ struct measurement *unset = ask(MEASUREMENT_ADDRESS, "eth0");
        assert_int_equal(unset->source_is_here, UNKNOWN);
}

static void only_link_local_or_none_is_missing(void **state)
{
        (void)state;
        testnet_run(TESTNET_NODE_NS, "sh -ec 'ip link add ll0 type veth peer name ll1; ip link set ll0 up;"
                                     " ip link set ll1 up'");
        _measured_ struct measurement *none = ask(MEASUREMENT_ADDRESS, "ll0");
        testnet_run(TESTNET_NODE_NS, "ip addr add 169.254.3.4/16 dev ll0");
        _measured_ struct measurement *local = ask(MEASUREMENT_ADDRESS, "ll0");
        assert_int_equal(none->outcome, OUTCOME_MISSING);
        assert_int_equal(none->only_link_local, NO);
        assert_int_equal(local->outcome, OUTCOME_MISSING);
        assert_int_equal(local->only_link_local, YES);
        assert_true(strv_contains(&local->addresses, "169.254.3.4/16"));
}

static struct measurement *neighbour(const char *target)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_NEIGHBOUR, target);

        strcpy(spec.interface, "eth0");
        return testnet_probe(&c, &spec);
}

static void neighbours_and_their_states(void **state)
{
        (void)state;
        testnet_run(TESTNET_NODE_NS,
                "sh -ec 'ip neigh flush dev eth0; ip neigh add 10.1.0.8 dev eth0"
                " lladdr 02:00:00:00:00:08 nud stale; ip neigh add 10.1.0.9 dev eth0 nud failed'");
        _measured_ struct measurement *stale = neighbour("10.1.0.8");
        _measured_ struct measurement *failed = neighbour("10.1.0.9");
        _measured_ struct measurement *none = neighbour("10.1.0.10");
        assert_int_equal(stale->outcome, OUTCOME_OK);
        assert_string_equal(stale->neighbour_state, "stale");
        assert_string_equal(stale->mac, "02:00:00:00:00:08");
        assert_int_equal(failed->outcome, OUTCOME_MISSING);
        assert_string_equal(failed->neighbour_state, "failed");
        assert_int_equal(none->outcome, OUTCOME_MISSING);
        assert_string_equal(none->neighbour_state, "none");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(a_link_that_works),
                TEST(loopback_is_no_link_that_is_down),
                TEST(no_carrier_and_switched_off_are_down),
                TEST(an_absent_interface_is_missing),
                TEST(addresses_and_the_source),
                TEST(only_link_local_or_none_is_missing),
                TEST(neighbours_and_their_states),
        };

        return cmocka_run_group_tests(tests, testnet_up, testnet_down);
}
