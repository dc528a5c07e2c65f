#include "testnet.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static struct probe_context c;

static int set_up(void **state)
{
        testnet_up(state);
        testnet_run(TESTNET_NODE_NS,
                "sh -ec 'ip link add lan1 type veth peer name far1; ip link set lan1 up; ip link set far1 up;"
                " ip addr add 10.20.0.2/24 dev lan1; ip route add 198.51.100.0/28 via 10.20.0.1;"
                " ip route add prohibit 203.0.113.0/28; ip route add default via 10.20.0.1 table 100;"
                " ip rule add ipproto udp dport 53 lookup 100'");
        return 0;
}

static int begin(void **state)
{
        (void)state;
        assert_int_equal(inet_addr_parse(TESTNET_NODE, &c.source), 0);
        return 0;
}

static struct measurement *route(const char *target, enum probe_transport transport, const char *interface)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_ROUTE, target);
        struct inet_addr source;
        struct measurement *m;

        spec.transport = transport;
        str_copy(spec.interface, sizeof spec.interface, interface);
        source = c.source;
        assert_int_equal(probe_context_init(&c), 0);
        c.source = source;
        m = testnet_probe(&c, &spec);
        probe_context_done(&c);
        return m;
}

static void names_the_way(void **state)
{
        _measured_ struct measurement *m = route("198.51.100.20:443", TRANSPORT_TCP, "");
        char text[INET_ADDR_TEXT];

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_string_equal(m->route_interface, "eth0");
        assert_string_equal(m->route_prefix, "default");
        assert_string_equal(m->route_text, "default via 10.1.0.1");
        assert_string_equal(m->route_type, "unicast");
        assert_int_equal(m->route_table, 254);
        assert_string_equal(inet_addr_format(&m->next_hop, text), "10.1.0.1");
        assert_null(m->rule_text);
        assert_string_equal(m->source, TESTNET_NODE);
}

static void names_a_captured_way(void **state)
{
        _measured_ struct measurement *m = route("198.51.100.5:443", TRANSPORT_TCP, "");
        _measured_ struct measurement *bound = route("198.51.100.5:443", TRANSPORT_TCP, "eth0");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_string_equal(m->route_interface, "lan1");
        assert_string_equal(m->route_prefix, "198.51.100.0/28");
        assert_string_equal(m->route_text, "198.51.100.0/28 via 10.20.0.1");
        assert_int_equal(bound->outcome, OUTCOME_OK);
        assert_string_equal(bound->route_interface, "eth0");
}

static void names_a_rule_by_port(void **state)
{
        _measured_ struct measurement *udp = route("198.51.100.20:53", TRANSPORT_UDP, "");
        _measured_ struct measurement *tcp = route("198.51.100.20:53", TRANSPORT_TCP, "");

        (void)state;
        assert_string_equal(udp->route_interface, "lan1");
        assert_string_equal(udp->route_text, "table 100: default via 10.20.0.1");
        assert_string_equal(udp->rule_text, "ipproto udp dport 53 lookup 100");
        assert_int_equal(udp->route_table, 100);
        assert_string_equal(tcp->route_interface, "eth0");
        assert_null(tcp->rule_text);
}

static void names_what_refuses(void **state)
{
        _measured_ struct measurement *m = route("203.0.113.7:443", TRANSPORT_TCP, "");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_MISSING);
        assert_int_equal(m->error_number, EACCES);
        assert_string_equal(m->route_type, "prohibit");
        assert_string_equal(m->route_text, "prohibit 203.0.113.0/28");
}

static void tells_that_there_is_none(void **state)
{
        (void)state;
        testnet_run(TESTNET_NODE_NS, "ip route del default via 10.1.0.1");
        _measured_ struct measurement *m = route("198.51.100.20:443", TRANSPORT_TCP, "");
        testnet_run(TESTNET_NODE_NS, "ip route add default via 10.1.0.1");
        assert_int_equal(m->outcome, OUTCOME_MISSING);
        assert_int_equal(m->error_number, ENETUNREACH);
        assert_null(m->route_text);
        assert_string_equal(m->route_type, "");
}

static void tells_what_is_not_on_this_machine(void **state)
{
        (void)state;
        assert_int_equal(inet_addr_parse("192.0.2.99", &c.source), 0);
        _measured_ struct measurement *source = route("198.51.100.20:443", TRANSPORT_TCP, "");
        _measured_ struct measurement *device = route("198.51.100.20:443", TRANSPORT_TCP, "none0");
        assert_int_equal(source->outcome, OUTCOME_LOCAL_ERROR);
        assert_int_equal(source->error_number, EADDRNOTAVAIL);
        assert_int_equal(device->outcome, OUTCOME_LOCAL_ERROR);
        assert_int_equal(device->error_number, ENODEV);
}

static void lets_the_kernel_choose_the_source(void **state)
{
        (void)state;
        c.source = (struct inet_addr){0};
        _measured_ struct measurement *m = route("198.51.100.5:443", TRANSPORT_TCP, "");
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_string_equal(m->source, "10.20.0.2");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup(names_the_way, begin),
                cmocka_unit_test_setup(names_a_captured_way, begin),
                cmocka_unit_test_setup(names_a_rule_by_port, begin),
                cmocka_unit_test_setup(names_what_refuses, begin),
                cmocka_unit_test_setup(tells_that_there_is_none, begin),
                cmocka_unit_test_setup(tells_what_is_not_on_this_machine, begin),
                cmocka_unit_test_setup(lets_the_kernel_choose_the_source, begin),
        };

        return cmocka_run_group_tests(tests, set_up, testnet_down);
}
