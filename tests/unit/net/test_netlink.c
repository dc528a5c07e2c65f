/* Against the kernel itself, in a network namespace that the test makes for itself. */
#include "net/netlink.h"

#include "../scaffold.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

static struct netlink *n;

static void ip(const char *batch)
{
        FILE *f = popen("ip -batch -", "we");

        assert_non_null(f);
        fputs(batch, f);
        assert_int_equal(pclose(f), 0);
}

static int set_up(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        ip("link set lo up\n"
           "link add wan0 address 02:00:00:00:00:01 mtu 1400 type veth peer name far0 address "
           "02:00:00:00:00:02\n"
           "link add lan0 type veth peer name far1\n"
           "link add down0 type veth peer name far2\n"
           "link set wan0 up\n"
           "link set far0 up\n"
           "link set lan0 up\n"
           "link set far1 up\n"
           "address add 192.0.2.10/24 dev wan0\n"
           "address add 10.20.0.2/24 dev lan0\n"
           "address add 2001:db8::10/64 dev wan0 nodad\n"
           "route add default via 192.0.2.1\n"
           "route add default via 2001:db8::1\n"
           "neighbour add 192.0.2.1 lladdr 02:00:00:00:00:09 dev wan0 nud permanent\n"
           "route add 198.51.100.0/24 via 10.20.0.1\n"
           "route add 10.30.0.0/16 dev lan0\n"
           "route add unreachable 203.0.113.0/26\n"
           "route add prohibit 203.0.113.64/26\n"
           "route add blackhole 203.0.113.128/26\n"
           "route add default via 10.20.0.1 table 100\n"
           "route add throw 203.0.113.200/32 table 100\n"
           "route add blackhole 203.0.113.201/32 table 300\n"
           "rule add priority 100 ipproto tcp dport 8443 lookup 100\n"
           "rule add priority 101 from 192.0.2.0/24 to 203.0.113.240/32 lookup 300\n"
           "rule add priority 102 to 203.0.113.201/32 lookup 300\n"
           "rule add priority 103 to 203.0.113.250/32 uidrange 4242-4242 prohibit\n"
           "rule add priority 104 to 203.0.113.251/32 unreachable\n"
           "rule add priority 105 to 203.0.113.252/32 blackhole\n");
        return netlink_open(&n);
}

static int tear_down(void **state)
{
        (void)state;
        n = netlink_close(n);
        return 0;
}

static struct inet_addr address(const char *s)
{
        struct inet_addr a;

        assert_int_equal(inet_addr_parse(s, &a), 0);
        return a;
}

static void assert_address(const struct inet_addr *a, const char *expected)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(inet_addr_format(a, text), expected);
}

static struct netlink_answer look_up(const char *to, uint8_t protocol, uint16_t port)
{
        struct netlink_query q = {.destination = address(to), .protocol = protocol, .destination_port = port};
        struct netlink_answer answer;

        q.source = address(q.destination.family == AF_INET ? "192.0.2.10" : "2001:db8::10");
        assert_int_equal(netlink_lookup(n, &q, &answer), 0);
        return answer;
}

static void assert_route(const struct netlink_answer *a, const char *expected)
{
        char text[NETLINK_ROUTE_TEXT];

        assert_true(a->matched);
        assert_string_equal(netlink_route_format(&a->route, text), expected);
}

static void finds_links(void **state)
{
        _cleanup_free_ struct netlink_link *links = NULL;
        char mac[NETLINK_MAC_TEXT];
        struct netlink_link l;
        size_t count;

        (void)state;
        assert_int_equal(netlink_find_link(n, "wan0", &l), 0);
        assert_true(l.up && l.carrier);
        assert_string_equal(l.operstate, "up");
        assert_int_equal(l.mtu, 1400);
        assert_int_equal(l.ifindex, if_nametoindex("wan0"));
        assert_string_equal(netlink_mac_format(l.mac, l.mac_length, mac), "02:00:00:00:00:01");
        assert_int_equal(netlink_find_link(n, "down0", &l), 0);
        assert_false(l.up || l.carrier);
        assert_string_equal(l.operstate, "down");
        assert_int_equal(netlink_find_link(n, "none0", &l), -ENODEV);
        assert_int_equal(netlink_find_link(n, "a-name-longer-than-any", &l), -EINVAL);
        assert_int_equal(netlink_list_links(n, &links, &count), 0);
        assert_int_equal(count, 7);
        assert_string_equal(links[0].name, "lo");
}

static void lists_addresses(void **state)
{
        _cleanup_free_ struct netlink_address *all = NULL, *wan = NULL;
        char text[INET_ADDR_TEXT];
        size_t count;

        (void)state;
        assert_int_equal(netlink_list_addresses(n, 0, AF_INET, &all, &count), 0);
        assert_int_equal(count, 3);
        assert_int_equal(netlink_list_addresses(n, (int)if_nametoindex("wan0"), AF_INET, &wan, &count), 0);
        assert_int_equal(count, 1);
        assert_string_equal(cidr_format(&wan[0].address, text), "192.0.2.10/24");
        assert_true(wan[0].usable);
}

static void tells_link_local_from_usable(void **state)
{
        _cleanup_free_ struct netlink_address *list = NULL;
        size_t count;

        (void)state;
        ip("address add 169.254.7.7/16 dev far1\n");
        assert_int_equal(netlink_list_addresses(n, (int)if_nametoindex("far1"), AF_INET, &list, &count), 0);
        ip("address del 169.254.7.7/16 dev far1\n");
        assert_int_equal(count, 1);
        assert_false(list[0].usable);
}

static void finds_neighbours(void **state)
{
        struct inet_addr gateway = address("192.0.2.1"), nobody = address("192.0.2.77");
        struct netlink_neighbour e;
        char mac[NETLINK_MAC_TEXT];

        (void)state;
        assert_int_equal(netlink_find_neighbour(n, (int)if_nametoindex("wan0"), &gateway, &e), 0);
        assert_string_equal(e.state, "permanent");
        assert_string_equal(netlink_mac_format(e.mac, e.mac_length, mac), "02:00:00:00:00:09");
        assert_int_equal(netlink_find_neighbour(n, (int)if_nametoindex("wan0"), &nobody, &e), 0);
        assert_string_equal(e.state, "none");
        assert_int_equal(e.mac_length, 0);
}

static void finds_the_default_route_and_its_source(void **state)
{
        struct netlink_route r;
        struct inet_addr source;

        (void)state;
        assert_int_equal(netlink_default_route(n, AF_INET, &r), 0);
        assert_string_equal(r.interface, "wan0");
        assert_address(&r.next_hop, "192.0.2.1");
        assert_int_equal(netlink_route_source(n, &r, &source), 0);
        assert_address(&source, "192.0.2.10");
        assert_int_equal(netlink_default_route(n, AF_INET6, &r), 0);
        assert_address(&r.next_hop, "2001:db8::1");
        assert_int_equal(netlink_route_source(n, &r, &source), 0);
        assert_address(&source, "2001:db8::10");
}

/* The kernel tells a route that its link lost the carrier a moment later (linkwatch, within a second). */
static struct netlink_route await_default_route(const char *interface)
{
        struct netlink_route r = {0};

        for (int i = 0; i < 300; i++) {
                assert_int_equal(netlink_default_route(n, AF_INET, &r), 0);
                if (strcmp(r.interface, interface) == 0)
                        break;
                usleep(10000);
        }
        return r;
}

static void prefers_a_living_default_route(void **state)
{
        struct netlink_route r;

        (void)state;
        ip("route add default via 10.20.0.1 metric 50\n"
           "route del default via 192.0.2.1\n"
           "route add default via 192.0.2.1 metric 10\n");
        assert_int_equal(netlink_default_route(n, AF_INET, &r), 0);
        assert_string_equal(r.interface, "wan0");
        ip("link set far0 down\n");
        r = await_default_route("lan0");
        assert_string_equal(r.interface, "lan0");
        ip("route del default via 10.20.0.1 metric 50\n");
        assert_int_equal(netlink_default_route(n, AF_INET, &r), 0);
        assert_string_equal(r.interface, "wan0");
        assert_true(r.is_dead);
        ip("link set far0 up\n"
           "route add default via 192.0.2.1\n"
           "route del default via 192.0.2.1 metric 10\n");
}

static void names_the_route_that_is_taken(void **state)
{
        struct netlink_answer a;

        (void)state;
        a = look_up("198.51.100.20", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, 0);
        assert_route(&a, "198.51.100.0/24 via 10.20.0.1");
        assert_string_equal(a.route.interface, "lan0");
        assert_int_equal(a.route.table, RT_TABLE_MAIN);
        assert_string_equal(a.rule_text, "");
        a = look_up("10.30.7.7", 0, 0);
        assert_route(&a, "10.30.0.0/16 dev lan0");
        a = look_up("203.0.113.200", 0, 0);
        assert_route(&a, "default via 192.0.2.1");
        a = look_up("192.0.2.10", 0, 0);
        assert_string_equal(netlink_route_type_to_string(a.route.type), "local");
        a = look_up("2001:db8:1::1", 0, 0);
        assert_route(&a, "default via 2001:db8::1");
        assert_string_equal(a.route.interface, "wan0");
}

static void names_the_rule_that_chose_the_table(void **state)
{
        struct netlink_answer a;

        (void)state;
        a = look_up("203.0.113.220", IPPROTO_TCP, 8443);
        assert_route(&a, "table 100: default via 10.20.0.1");
        assert_string_equal(a.rule_text, "ipproto tcp dport 8443 lookup 100");
        assert_int_equal(a.rule_priority, 100);
        a = look_up("203.0.113.220", IPPROTO_UDP, 8443);
        assert_route(&a, "default via 192.0.2.1");
        /* "throw" gives the search back to the next rule. */
        a = look_up("203.0.113.200", IPPROTO_TCP, 8443);
        assert_route(&a, "default via 192.0.2.1");
        assert_string_equal(a.rule_text, "");
}

static void names_refusing_routes_and_rules(void **state)
{
        struct netlink_query by_user = {
                .destination = address("203.0.113.250"), .has_uid = true, .uid = 4242};
        struct netlink_answer a;

        (void)state;
        a = look_up("203.0.113.1", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, EHOSTUNREACH);
        assert_route(&a, "unreachable 203.0.113.0/26");
        a = look_up("203.0.113.65", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, EACCES);
        assert_route(&a, "prohibit 203.0.113.64/26");
        a = look_up("203.0.113.129", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, EINVAL);
        assert_route(&a, "blackhole 203.0.113.128/26");
        a = look_up("203.0.113.201", IPPROTO_TCP, 443);
        assert_route(&a, "table 300: blackhole 203.0.113.201/32");
        assert_string_equal(a.rule_text, "to 203.0.113.201/32 lookup 300");
        /* The source's rule leads to a table that says nothing: on to main. */
        a = look_up("203.0.113.240", IPPROTO_TCP, 443);
        assert_route(&a, "default via 192.0.2.1");

        a = look_up("203.0.113.251", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, ENETUNREACH);
        assert_false(a.matched);
        assert_string_equal(netlink_route_type_to_string(a.route.type), "unreachable");
        assert_string_equal(a.rule_text, "to 203.0.113.251/32 unreachable");
        a = look_up("203.0.113.252", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, EINVAL);
        assert_string_equal(a.rule_text, "to 203.0.113.252/32 blackhole");
        a = look_up("203.0.113.250", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, 0);
        assert_int_equal(netlink_lookup(n, &by_user, &a), 0);
        assert_int_equal(a.error_number, EACCES);
        assert_string_equal(a.rule_text, "to 203.0.113.250/32 uidrange 4242-4242 prohibit");
}

static void tells_when_there_is_no_route(void **state)
{
        struct netlink_answer a;

        (void)state;
        ip("route del default via 192.0.2.1\n");
        a = look_up("203.0.113.220", IPPROTO_TCP, 443);
        ip("route add default via 192.0.2.1\n");
        assert_int_equal(a.error_number, ENETUNREACH);
        assert_false(a.matched);
        assert_int_equal(a.route.type, RTN_UNSPEC);
}

static void looks_up_bound_to_a_device(void **state)
{
        struct netlink_query q = {.destination = address("198.51.100.20"),
                .source = address("192.0.2.10"),
                .interface = "wan0"};
        struct netlink_answer a;

        (void)state;
        assert_int_equal(netlink_lookup(n, &q, &a), 0);
        assert_route(&a, "default via 192.0.2.1");
        /* No route by that device: the kernel takes the target to be on the link. */
        q.destination = address("203.0.113.220");
        str_copy(q.interface, sizeof q.interface, "lan0");
        assert_int_equal(netlink_lookup(n, &q, &a), 0);
        assert_int_equal(a.error_number, 0);
        assert_false(a.matched);
        assert_string_equal(a.route.interface, "lan0");
        str_copy(q.interface, sizeof q.interface, "none0");
        assert_int_equal(netlink_lookup(n, &q, &a), 0);
        assert_int_equal(a.error_number, ENODEV);
}

static void tells_a_foreign_source(void **state)
{
        struct netlink_query q = {.destination = address("198.51.100.20"), .source = address("192.0.2.99")};
        struct netlink_answer a;

        (void)state;
        assert_int_equal(netlink_lookup(n, &q, &a), 0);
        assert_int_equal(a.error_number, EADDRNOTAVAIL);
        q.destination = address("2001:db8:1::1");
        q.source = address("2001:db8::99");
        assert_int_equal(netlink_lookup(n, &q, &a), 0);
        assert_int_equal(a.error_number, EADDRNOTAVAIL);
        q.destination = (struct inet_addr){0};
        assert_int_equal(netlink_lookup(n, &q, &a), -EINVAL);
}

static void reads_a_multipath_route(void **state)
{
        struct netlink_answer a;

        (void)state;
        ip("route add 10.99.0.0/16 nexthop via 10.20.0.1 nexthop via 10.20.0.3\n");
        a = look_up("10.99.1.1", IPPROTO_TCP, 443);
        assert_int_equal(a.error_number, 0);
        assert_true(a.matched);
        assert_string_equal(a.route.interface, "lan0");
        assert_true(inet_addr_is_set(&a.route.next_hop));
}

static void formats_hardware_addresses(void **state)
{
        static const uint8_t bytes[8] = {0, 0x1b, 0xff, 1, 2, 3, 4, 5};
        char text[NETLINK_MAC_TEXT];

        (void)state;
        assert_string_equal(netlink_mac_format(bytes, 0, text), "");
        assert_string_equal(netlink_mac_format(bytes, 6, text), "00:1b:ff:01:02:03");
        assert_string_equal(netlink_mac_format(bytes, 20, text), "00:1b:ff:01:02:03:04:05");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(finds_links),
                cmocka_unit_test(lists_addresses),
                cmocka_unit_test(tells_link_local_from_usable),
                cmocka_unit_test(finds_neighbours),
                cmocka_unit_test(finds_the_default_route_and_its_source),
                cmocka_unit_test(prefers_a_living_default_route),
                cmocka_unit_test(names_the_route_that_is_taken),
                cmocka_unit_test(names_the_rule_that_chose_the_table),
                cmocka_unit_test(names_refusing_routes_and_rules),
                cmocka_unit_test(tells_when_there_is_no_route),
                cmocka_unit_test(looks_up_bound_to_a_device),
                cmocka_unit_test(tells_a_foreign_source),
                cmocka_unit_test(reads_a_multipath_route),
                cmocka_unit_test(formats_hardware_addresses),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
