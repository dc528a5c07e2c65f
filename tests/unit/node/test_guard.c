#include "node/guard.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

/* One case: the LAN eth1 is 10.20.0.2/24 behind which some routes lead; the WAN is eth0. */
struct scene {
        struct wire_config config;
        struct config_lan lans[2];
        struct config_route routes[2][8];
        struct inet_addr dns[4], known[4];
        struct cidr wan[2], ranges[4];
        struct inet_addr service[2];
        struct profile_service services[1];
        struct profile profile;
        struct guard_input in;
        struct guard_output out;
};

static struct inet_addr address_of(const char *text)
{
        struct inet_addr a = {0};

        if (text && inet_addr_parse(text, &a) < 0)
                fail_msg("%s", text);
        return a;
}

static struct cidr cidr_of(const char *text)
{
        struct cidr c;

        if (cidr_parse(text, &c) < 0)
                fail_msg("%s", text);
        return c;
}

static void scene_begin(struct scene *s)
{
        memset(s, 0, sizeof *s);
        s->config.guard = true;
        s->config.lan_count = 1;
        for (size_t i = 0; i < ELEMENTS(s->lans); i++)
                s->lans[i].routes = s->routes[i];
        str_copy(s->lans[0].interface, IFNAMSIZ, "eth1");
        str_copy(s->lans[1].interface, IFNAMSIZ, "eth2");
        s->lans[0].has_address = true;
        s->lans[0].address = cidr_of("10.20.0.2/24");
        s->wan[0] = cidr_of("192.0.2.10/24");
        s->profile = (struct profile){.name = "grid", .ranges = s->ranges, .services = s->services};
        s->services[0] = (struct profile_service){.name = "repo", .addresses = s->service};
        s->in = (struct guard_input){.config = &s->config,
                .dns = s->dns,
                .profile = &s->profile,
                .known = s->known,
                .wan_gateway = address_of("192.0.2.1"),
                .wan_networks = s->wan,
                .wan_network_count = 1,
                .container_network = cidr_of("172.18.0.0/16")};
        str_copy(s->in.wan_interface, IFNAMSIZ, "eth0");
}

static void add_route(struct scene *s, size_t lan, const char *destination, const char *hop)
{
        struct config_lan *l = &s->lans[lan];

        l->routes[l->route_count++] =
                (struct config_route){.destination = cidr_of(destination), .next_hop = address_of(hop)};
}

static void add_dns(struct scene *s, const char *server)
{
        s->dns[s->in.dns_count++] = address_of(server);
}

static void add_range(struct scene *s, const char *range)
{
        s->ranges[s->profile.range_count++] = cidr_of(range);
}

static void plan(struct scene *s)
{
        memcpy(s->config.lans, s->lans, sizeof s->lans);
        guard_plan(&s->in, &s->out);
}

/* All routes of the guard, as "DESTINATION via HOP|", in their order. */
static void assert_kept(const struct scene *s, const char *wanted)
{
        _cleanup_free_ char *text = xstrdup("");
        char destination[INET_ADDR_TEXT], hop[INET_ADDR_TEXT];

        for (size_t i = 0; i < s->out.network.route_count; i++) {
                const struct helper_route *r = &s->out.network.routes[i];
                char *longer;

                if (r->metric != GUARD_METRIC)
                        continue;
                assert_string_equal(r->interface, s->in.wan_interface);
                longer = xasprintf("%s%s via %s|", text, cidr_format(&r->destination, destination),
                        inet_addr_format(&r->next_hop, hop));
                free(text);
                text = longer;
        }
        assert_string_equal(text, wanted);
}

static void assert_warned(const struct scene *s, size_t index, const char *wanted)
{
        assert_true(index < s->out.warnings.count);
        assert_string_equal(s->out.warnings.items[index], wanted);
}

static void scene_end(struct scene *s, size_t warnings)
{
        if (s->out.warnings.count != warnings)
                fail_msg("%zu warnings, the last: %s", s->out.warnings.count,
                        s->out.warnings.count ? s->out.warnings.items[s->out.warnings.count - 1] : "");
        guard_output_done(&s->out);
}

/* ---- what is to be applied ---- */

static void test_network(void **state)
{
        (void)state;
        const struct helper_network *n;
        struct scene s;
        char text[INET_ADDR_TEXT];

        scene_begin(&s);
        s.config.lan_count = 2; /* eth2 has no address */
        add_route(&s, 0, "10.30.0.0/16", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        add_range(&s, "198.51.100.16/28");
        plan(&s);
        n = &s.out.network;
        assert_int_equal(n->up_count, 2);
        assert_string_equal(n->up[0], "eth1");
        assert_string_equal(n->up[1], "eth2");
        assert_int_equal(n->address_count, 1);
        assert_string_equal(n->addresses[0].interface, "eth1");
        assert_string_equal(cidr_format(&n->addresses[0].address, text), "10.20.0.2/24");
        assert_int_equal(n->route_count, 1);
        assert_string_equal(n->routes[0].interface, "eth1");
        assert_string_equal(cidr_format(&n->routes[0].destination, text), "10.30.0.0/16");
        assert_string_equal(inet_addr_format(&n->routes[0].next_hop, text), "10.20.0.1");
        assert_int_equal(n->routes[0].metric, GUARD_LAN_METRIC);
        assert_kept(&s, "");
        scene_end(&s, 0);
}

static void test_nothing(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.config.lan_count = 0;
        s.in.profile = NULL;
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_int_equal(s.out.network.up_count + s.out.network.address_count + s.out.network.route_count, 0);
        scene_end(&s, 0);
        scene_end(&s, 0); /* twice is once */
}

/* ---- DNS servers ---- */

static void test_route_covers_dns(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "198.51.100.0/24", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        add_dns(&s, "203.0.113.53");
        add_dns(&s, "127.0.0.53");
        plan(&s);
        assert_kept(&s, "198.51.100.53/32 via 192.0.2.1|");
        assert_warned(&s, 0,
                "The route 198.51.100.0/24 via 10.20.0.1 on eth1 captures the DNS server 198.51.100.53: a "
                "route "
                "on the WAN keeps it reachable.");
        /* The LAN's route is wanted all the same. */
        assert_int_equal(s.out.network.route_count, 2);
        scene_end(&s, 1);
}

static void test_route_is_dns(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "198.51.100.53/32", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_kept(&s, "198.51.100.53/32 via 192.0.2.1|");
        assert_int_equal(s.out.network.route_count, 2);
        scene_end(&s, 1);
}

/* Two routes of which one is inside the other: the host is kept once, and from both. */
static void test_nested_routes(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "198.51.0.0/16", "10.20.0.1");
        add_route(&s, 0, "198.51.100.0/24", "10.20.0.3");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_kept(&s, "198.51.100.53/32 via 192.0.2.1|");
        scene_end(&s, 2);
}

static void test_guard_off(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.config.guard = false;
        add_route(&s, 0, "198.51.100.0/24", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        add_range(&s, "198.51.100.16/28");
        plan(&s);
        assert_kept(&s, "");
        assert_int_equal(s.out.network.route_count, 1);
        assert_warned(&s, 0,
                "The route 198.51.100.0/24 via 10.20.0.1 on eth1 captures the DNS server 198.51.100.53: the "
                "guard is off, so that packets to it go there.");
        scene_end(&s, 2);
}

/* ---- the control plane ---- */

static void test_default_in_halves(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "0.0.0.0/1", "10.20.0.1");
        add_route(&s, 0, "128.0.0.0/1", "10.20.0.1");
        add_dns(&s, "9.9.9.9");
        add_range(&s, "198.51.100.16/28");
        add_range(&s, "2001:db8:16::/48");
        plan(&s);
        assert_kept(&s, "9.9.9.9/32 via 192.0.2.1|198.51.100.16/28 via 192.0.2.1|");
        /* Both, and what they do to the containers. */
        scene_end(&s, 3);
}

static void test_route_inside_range(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "198.51.100.20/30", "10.20.0.1");
        add_route(&s, 0, "198.51.100.28/32", "10.20.0.1");
        add_range(&s, "198.51.100.16/28");
        plan(&s);
        assert_kept(&s, "198.51.100.20/30 via 192.0.2.1|198.51.100.28/32 via 192.0.2.1|");
        assert_warned(&s, 0,
                "The route 198.51.100.20/30 via 10.20.0.1 on eth1 captures a part of the control plane's "
                "range "
                "198.51.100.16/28: a route on the WAN keeps it reachable.");
        scene_end(&s, 2);
}

/* One route covers the range and another is inside it: the part is kept from the one, the whole from the
 * other. */
static void test_range_twice(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "198.51.100.0/24", "10.20.0.1");
        add_route(&s, 0, "198.51.100.24/29", "10.20.0.3");
        add_range(&s, "198.51.100.16/28");
        plan(&s);
        assert_kept(&s, "198.51.100.16/28 via 192.0.2.1|198.51.100.24/29 via 192.0.2.1|");
        scene_end(&s, 2);
}

static void test_known_addresses(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "203.0.113.0/24", "10.20.0.1");
        add_range(&s, "203.0.113.192/28");
        s.profile.service_count = 1;
        s.service[0] = address_of("203.0.113.200"); /* in the range */
        s.service[1] = address_of("203.0.113.7");
        s.services[0].address_count = 2;
        s.known[0] = address_of("203.0.113.8");
        s.known[1] = address_of("203.0.113.7");
        s.known[2] = address_of("203.0.113.201");
        s.known[3] = address_of("169.254.1.1");
        s.in.known_count = 4;
        plan(&s);
        assert_kept(&s,
                "203.0.113.192/28 via 192.0.2.1|203.0.113.7/32 via 192.0.2.1|203.0.113.8/32 via 192.0.2.1|");
        assert_warned(&s, 1,
                "The route 203.0.113.0/24 via 10.20.0.1 on eth1 captures the control plane's address "
                "203.0.113.7: a route on the WAN keeps it reachable.");
        scene_end(&s, 3);
}

/* ---- the LAN's own network ---- */

static void test_own_network(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.lans[0].address = cidr_of("198.51.100.18/28");
        add_range(&s, "198.51.100.16/28");
        add_dns(&s, "198.51.100.30");
        plan(&s);
        /* The kernel's own route has metric 0: only its halves are better. */
        assert_kept(&s, "198.51.100.30/32 via 192.0.2.1|198.51.100.16/29 via 192.0.2.1|198.51.100.24/29 via "
                        "192.0.2.1|");
        assert_warned(&s, 1,
                "The network 198.51.100.16/28 of eth1 captures the control plane's range 198.51.100.16/28: a "
                "route on the WAN keeps it reachable.");
        scene_end(&s, 2);
}

static void test_own_network_inside_range(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.lans[0].address = cidr_of("198.51.100.18/31");
        add_range(&s, "198.51.100.16/28");
        plan(&s);
        assert_kept(&s, "198.51.100.18/32 via 192.0.2.1|198.51.100.19/32 via 192.0.2.1|");
        scene_end(&s, 1);
}

static void test_own_address(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.lans[0].address = cidr_of("198.51.100.53/24");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_kept(&s, "");
        assert_warned(&s, 0,
                "The network 198.51.100.0/24 of eth1 captures the DNS server 198.51.100.53: it is this "
                "node's own "
                "address there, so that nothing can keep it.");
        scene_end(&s, 1);
}

/* ---- the WAN's own network ---- */

static void test_wan_network(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "192.0.0.0/8", "10.20.0.1");
        add_route(&s, 0, "192.0.2.0/24", "10.20.0.1");
        add_dns(&s, "192.0.2.53");
        add_range(&s, "192.0.2.64/28");
        plan(&s);
        assert_kept(&s, "");
        scene_end(&s, 0);
        /* More specific than that network: captured, and kept on the link. */
        scene_begin(&s);
        add_route(&s, 0, "192.0.2.0/25", "10.20.0.1");
        add_dns(&s, "192.0.2.53");
        add_dns(&s, "192.0.2.153");
        plan(&s);
        assert_kept(&s, "192.0.2.53/32 via |");
        scene_end(&s, 1);
        /* Not known: as any other. */
        scene_begin(&s);
        s.in.wan_network_count = 0;
        add_route(&s, 0, "192.0.2.0/24", "10.20.0.1");
        add_dns(&s, "192.0.2.53");
        plan(&s);
        assert_kept(&s, "192.0.2.53/32 via 192.0.2.1|");
        scene_end(&s, 1);
}

static void test_wan_without_gateway(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.in.wan_gateway = (struct inet_addr){0};
        add_route(&s, 0, "198.51.100.0/24", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_kept(&s, "198.51.100.53/32 via |");
        scene_end(&s, 1);
        scene_begin(&s);
        s.in.wan_interface[0] = 0;
        add_route(&s, 0, "198.51.100.0/24", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_kept(&s, "");
        assert_non_null(strstr(s.out.warnings.items[0], "the WAN is not known"));
        scene_end(&s, 1);
}

/* ---- IPv6 ---- */

static void test_ipv6(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.lans[0].address = cidr_of("2001:db8:20::2/64");
        s.wan[1] = cidr_of("2001:db8:1::2/64");
        s.in.wan_network_count = 2;
        s.in.wan_gateway6 = address_of("fe80::1");
        add_route(&s, 0, "2001:db8:f000::/36", "2001:db8:20::1");
        add_route(&s, 0, "2001:db8:1:0:8000::/65", "fe80::7");
        add_dns(&s, "2001:db8:f053::53");
        add_dns(&s, "2001:db8:1:0:8000::53");
        add_dns(&s, "2001:db8:1::53");
        add_range(&s, "2001:db8:20::/64");
        add_range(&s, "2001:db8:f800::/37");
        plan(&s);
        /* Here the kernel's own route has metric 256, and the guard's is better as it is. */
        assert_kept(&s, "2001:db8:f053::53/128 via fe80::1|2001:db8:1:0:8000::53/128 via |2001:db8:20::/64 "
                        "via fe80::1|"
                        "2001:db8:f800::/37 via fe80::1|");
        scene_end(&s, 4);
}

static void test_ipv6_without_gateway(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.lans[0].address = cidr_of("2001:db8:20::2/64");
        add_route(&s, 0, "2001:db8:53::/48", "2001:db8:20::1");
        add_dns(&s, "2001:db8:53::53");
        plan(&s);
        assert_kept(&s, "");
        assert_non_null(
                strstr(s.out.warnings.items[0], ": no IPv6 gateway of the WAN is known to keep it by."));
        scene_end(&s, 1);
        /* Nor is an IPv6 gateway one for IPv4. */
        scene_begin(&s);
        s.in.wan_gateway = address_of("fe80::1");
        add_route(&s, 0, "198.51.100.0/24", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_kept(&s, "");
        assert_non_null(
                strstr(s.out.warnings.items[0], ": no IPv4 gateway of the WAN is known to keep it by."));
        scene_end(&s, 1);
}

/* ---- containers, mistakes, numbers ---- */

static void test_containers(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "172.16.0.0/12", "10.20.0.1");
        add_route(&s, 0, "172.18.7.0/24", "10.20.0.1");
        add_route(&s, 0, "172.19.0.0/16", "10.20.0.1");
        plan(&s);
        assert_kept(&s, "");
        assert_int_equal(s.out.network.route_count, 3);
        assert_warned(&s, 0,
                "The route 172.16.0.0/12 via 10.20.0.1 on eth1 holds the container network 172.18.0.0/16: at "
                "these addresses only containers can be reached, nothing behind eth1.");
        assert_warned(&s, 1,
                "The route 172.18.7.0/24 via 10.20.0.1 on eth1 captures a part of the container network "
                "172.18.0.0/16: containers with these addresses cannot be reached.");
        scene_end(&s, 2);
}

static void test_hop_not_on_lan(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        s.config.lan_count = 2;
        add_route(&s, 0, "198.51.100.0/24", "10.21.0.1");
        add_route(&s, 0, "198.51.0.0/16", "10.20.0.2"); /* itself */
        add_route(&s, 1, "198.0.0.0/8", "10.20.0.1");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_int_equal(s.out.network.route_count, 0);
        assert_warned(&s, 0,
                "The route 198.51.100.0/24 via 10.21.0.1 on eth1 is left out: its next hop is not on that "
                "interface's network, 10.20.0.2/24.");
        assert_warned(&s, 2,
                "The route 198.0.0.0/8 via 10.20.0.1 on eth2 is left out: that interface has no address.");
        scene_end(&s, 3);
}

/* It would make the helper refuse everything else, too. */
static void test_the_default_route_is_left_out(void **state)
{
        (void)state;
        struct scene s;

        scene_begin(&s);
        add_route(&s, 0, "0.0.0.0/0", "10.20.0.1");
        add_route(&s, 0, "10.30.0.0/16", "10.20.0.1");
        add_route(&s, 0, "::/0", "fe80::1");
        add_dns(&s, "198.51.100.53");
        plan(&s);
        assert_int_equal(s.out.network.route_count, 1);
        assert_warned(&s, 0,
                "The route 0.0.0.0/0 via 10.20.0.1 on eth1 is left out: the default route is the WAN's.");
        assert_warned(
                &s, 1, "The route ::/0 via fe80::1 on eth1 is left out: the default route is the WAN's.");
        scene_end(&s, 2);
}

/* Many routes within a range: every part is kept, and only so much is said. */
static void test_many(void **state)
{
        (void)state;
        struct scene s;
        size_t count = 200;

        scene_begin(&s);
        s.lans[0].routes = calloc(count, sizeof *s.lans[0].routes);
        for (size_t i = 0; i < count; i++)
                add_route(&s, 0, "198.51.100.0/32", "10.20.0.1");
        for (size_t i = 0; i < count; i++)
                s.lans[0].routes[i].destination.address.bytes[3] = (uint8_t)i;
        add_range(&s, "198.51.100.0/24");
        plan(&s);
        assert_int_equal(s.out.network.route_count, 2 * count);
        assert_warned(&s, GUARD_MAX_WARNINGS - 1, "169 more warnings of this kind are left out.");
        scene_end(&s, GUARD_MAX_WARNINGS);
        free(s.lans[0].routes);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_network),
                cmocka_unit_test(test_nothing),
                cmocka_unit_test(test_route_covers_dns),
                cmocka_unit_test(test_route_is_dns),
                cmocka_unit_test(test_nested_routes),
                cmocka_unit_test(test_guard_off),
                cmocka_unit_test(test_default_in_halves),
                cmocka_unit_test(test_route_inside_range),
                cmocka_unit_test(test_range_twice),
                cmocka_unit_test(test_known_addresses),
                cmocka_unit_test(test_own_network),
                cmocka_unit_test(test_own_network_inside_range),
                cmocka_unit_test(test_own_address),
                cmocka_unit_test(test_wan_network),
                cmocka_unit_test(test_wan_without_gateway),
                cmocka_unit_test(test_ipv6),
                cmocka_unit_test(test_ipv6_without_gateway),
                cmocka_unit_test(test_containers),
                cmocka_unit_test(test_hop_not_on_lan),
                cmocka_unit_test(test_the_default_route_is_left_out),
                cmocka_unit_test(test_many),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
