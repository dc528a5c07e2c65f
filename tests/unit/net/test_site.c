/* What a site file may say, and how it is told what is wrong: see test_site_machine.c for the rest. */
#include "net/site.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

static struct site *parse(const char *text)
{
        struct site *s = NULL;
        struct error e;

        if (site_parse("/etc/gridnode/site.conf", text, strlen(text), &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

/* Refused, with exactly this message after the file's name. */
static void assert_error(const char *text, const char *wanted)
{
        struct site *s = NULL;
        struct error e = {0};

        assert_int_equal(site_parse("s", text, strlen(text), &s, &e), -EINVAL);
        assert_null(s);
        assert_int_equal(e.number, EINVAL);
        assert_non_null(e.code);
        assert_string_equal(e.text, wanted);
}

static void assert_accepted(const char *text)
{
        site_free(parse(text));
}

static void assert_addr(const struct inet_addr *a, const char *wanted)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(inet_addr_format(a, text), wanted);
}

static void assert_cidr(const struct cidr *c, const char *wanted)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(cidr_format(c, text), wanted);
}

/* ---- what is right ---- */

static const char whole[] = "[node]\n"
                            "name = branch-12\n"
                            "certificate = /var/lib/gridnode/other.crt\n"
                            "key = node.key\n"
                            "profile = grid\n"
                            "[wan]\n"
                            "interface = eth0\n"
                            "address = 192.0.2.10/24\n"
                            "gateway = 192.0.2.1\n"
                            "dns = 198.51.100.53; 203.0.113.53 ;;\n"
                            "proxy = http://10.20.0.9:3128\n"
                            "[lan eth1]\n"
                            "address = 10.20.0.2/24\n"
                            "routes = 10.30.0.0/16 via 10.20.0.1;10.40.0.0/16  via\t10.20.0.1;\n"
                            "[lan eth2.100]\n"
                            "address = 2001:db8:1::2/64\n"
                            "routes = 2001:db8:2::/48 via 2001:db8:1::1; 2001:db8:3::/48 via fe80::1\n"
                            "[lan eth3]\n";

static void test_whole(void **state)
{
        (void)state;
        struct site *s = parse(whole);

        assert_string_equal(s->path, "/etc/gridnode/site.conf");
        assert_string_equal(s->name, "branch-12");
        assert_string_equal(s->certificate_path, "/var/lib/gridnode/other.crt");
        assert_string_equal(s->key_path, "/etc/gridnode/node.key");
        assert_string_equal(s->profile, "grid");
        assert_string_equal(s->wan.interface, "eth0");
        assert_int_equal(s->wan.mode, SITE_ADDRESS_STATIC);
        assert_cidr(&s->wan.address, "192.0.2.10/24");
        assert_addr(&s->wan.gateway, "192.0.2.1");
        assert_true(s->wan.dns_is_configured);
        assert_int_equal(s->wan.dns_count, 2);
        assert_addr(&s->wan.dns[0], "198.51.100.53");
        assert_addr(&s->wan.dns[1], "203.0.113.53");
        assert_string_equal(s->wan.proxy, "http://10.20.0.9:3128");
        assert_string_equal(s->wan.proxy_from, "site file");
        site_free(s);
        assert_null(site_free(NULL));
}

static void test_lans(void **state)
{
        (void)state;
        struct site *s = parse(whole);

        assert_int_equal(s->lan_count, 3);
        assert_string_equal(s->lans[0].interface, "eth1");
        assert_true(s->lans[0].has_address);
        assert_cidr(&s->lans[0].address, "10.20.0.2/24");
        assert_int_equal(s->lans[0].route_count, 2);
        assert_cidr(&s->lans[0].routes[1].destination, "10.40.0.0/16");
        assert_addr(&s->lans[0].routes[1].next_hop, "10.20.0.1");
        assert_string_equal(s->lans[1].interface, "eth2.100");
        assert_int_equal(s->lans[1].route_count, 2);
        assert_addr(&s->lans[1].routes[1].next_hop, "fe80::1");
        assert_string_equal(s->lans[2].interface, "eth3");
        assert_false(s->lans[2].has_address);
        assert_int_equal(s->lans[2].route_count, 0);
        site_free(s);
}

static void test_silent_file(void **state)
{
        (void)state;
        struct site *s = parse("");

        assert_null(s->name);
        assert_string_equal(s->certificate_path, "/var/lib/gridnode/node.crt");
        assert_string_equal(s->key_path, "/var/lib/gridnode/node.key");
        assert_null(s->profile);
        assert_string_equal(s->wan.interface, "");
        assert_int_equal(s->wan.mode, SITE_ADDRESS_NONE);
        assert_false(inet_addr_is_set(&s->wan.gateway));
        assert_int_equal(s->wan.dns_count, 0);
        assert_null(s->wan.proxy);
        assert_int_equal(s->lan_count, 0);
        site_free(s);
        assert_accepted("[node]\n[wan]\n");
}

static void test_profile_paths(void **state)
{
        (void)state;
        struct site *s = parse("[node]\nprofile = ./grid.profile\n");

        assert_string_equal(s->profile, "/etc/gridnode/./grid.profile");
        site_free(s);
        s = parse("[node]\nprofile = grid.profile\n");
        assert_string_equal(s->profile, "/etc/gridnode/grid.profile");
        site_free(s);
        s = parse("[node]\nprofile = /p/grid.profile\n");
        assert_string_equal(s->profile, "/p/grid.profile");
        site_free(s);
}

static void test_accepted(void **state)
{
        (void)state;
        assert_accepted("[wan]\naddress = dhcp\ngateway = 203.0.113.1\n");
        assert_accepted("[wan]\naddress = none\n");
        assert_accepted("[wan]\naddress = 192.0.2.10/31\ngateway = 192.0.2.11\n");
        assert_accepted("[wan]\naddress = 192.0.2.10/32\n");
        assert_accepted("[wan]\naddress = 2001:db8::10/64\ngateway = fe80::1\n");
        /* The order of keys and sections in the file does not matter. */
        assert_accepted("[wan]\ngateway = 192.0.2.1\naddress = 192.0.2.10/24\n");
        assert_accepted(
                "[lan eth1]\nroutes = 10.3.0.0/16 via 10.2.0.1\naddress = 10.2.0.2/24\n[wan]\ninterface=e\n");
        assert_accepted("[wan]\ndns = 127.0.0.53;10.0.0.1;2001:db8::53\n");
        assert_accepted("[lan a23456789012345]\n");
        assert_accepted("[node]\nname = K\xc3\xb6ln 2\n");
        assert_accepted("[lan eth1]\naddress = 10.2.0.2/24\nroutes =\n");
        assert_accepted(
                "[lan eth1]\naddress = 10.2.0.2/24\nroutes = 0.0.0.0/0 via 10.2.0.1;10.9.9.9 via 10.2.0.1\n");
}

static void test_dns_given_twice_counts_once(void **state)
{
        (void)state;
        struct site *s = parse("[wan]\ndns = 198.51.100.53;198.51.100.53\n");

        assert_int_equal(s->wan.dns_count, 1);
        site_free(s);
}

/* ---- what is wrong ---- */

static void test_unknown(void **state)
{
        (void)state;
        assert_error("[wan]\ninterface = eth0\ndsn = 192.0.2.1\n",
                "s:3: [wan] dsn = 192.0.2.1: unknown key; known here: interface, address, gateway, dns, "
                "proxy");
        assert_error("[lan eth1]\ngateway = 10.0.0.1\n",
                "s:2: [lan eth1] gateway = 10.0.0.1: unknown key; known here: address, routes");
        assert_error("[wann]\n", "s:1: [wann]: unknown section; a site file has [node], [wan], [lan "
                                 "INTERFACE], [monitor] and [transfer]");
        assert_error("[lane eth1]\n", "s:1: [lane eth1]: unknown section; a site file has [node], [wan], "
                                      "[lan INTERFACE], [monitor] and [transfer]");
        assert_error("[WAN]\n", "s:1: [WAN]: unknown section; a site file has [node], [wan], [lan "
                                "INTERFACE], [monitor] and [transfer]");
}

static void test_twice(void **state)
{
        (void)state;
        assert_error("[node]\nname = a\nname = b\n", "s:3: [node] name is given twice, first at line 2");
        assert_error("[lan eth1]\n[lan eth1]\n",
                "s:2: [lan eth1] is given twice, first at line 1; put its keys together");
        assert_error("[lan eth1]\n[lan  eth1]\n",
                "s:2: [lan  eth1]: this LAN is given twice; put its keys together");
        assert_error("[wan]\ninterface = eth0\n[lan eth0]\n",
                "s:3: [lan eth0]: this interface is the WAN already; name another in one of the two places");
        assert_error("[wan]\n[wan]\n", "s:2: [wan] is given twice, first at line 1; put its keys together");
}

static void test_bad_node(void **state)
{
        (void)state;
        char *name = xasprintf("[node]\nname = %0254d\n", 1);
        struct site *s = NULL;

        assert_error("[node]\nname =\n", "s:2: [node] name = : not a name; write 1 to 253 bytes of printable "
                                         "UTF-8, or leave the key out for "
                                         "the host's name");
        assert_int_equal(site_parse("s", name, strlen(name), &s, NULL), -EINVAL);
        assert_int_equal(site_parse("s", "[node]\nname = \xff\n", 16, &s, NULL), -EINVAL);
        assert_error("[node]\nkey =\n", "s:2: [node] key = : a file's path is missing; or leave the key out");
        assert_error("[node]\nprofile =\n",
                "s:2: [node] profile = : a profile's name or path is missing; or leave the key out");
        free(name);
}

static void test_bad_interface(void **state)
{
        (void)state;
        static const char *const wrong[] = {
                "", "a234567890123456", "a b", "a/b", "a:1", ".", "..", "\xc3\xb6"};
        char text[100], wanted[200];

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                snprintf(text, sizeof(text), "[wan]\ninterface = %s\n", wrong[i]);
                snprintf(wanted, sizeof(wanted),
                        "s:2: [wan] interface = %s: not an interface name; it has 1 to 15 bytes without "
                        "blank, / or "
                        ":, as in ip link",
                        wrong[i]);
                assert_error(text, wanted);
                snprintf(text, sizeof(text), "[lan %s]\n", wrong[i]);
                snprintf(wanted, sizeof(wanted),
                        "s:1: [lan%s%s]: not an interface name; write [lan eth1], with a name of 1 to 15 "
                        "bytes",
                        *wrong[i] ? " " : "", wrong[i]);
                assert_error(text, wanted);
        }
        assert_error("[lan]\n",
                "s:1: [lan]: not an interface name; write [lan eth1], with a name of 1 to 15 bytes");
}

#define NO_HOST "no host can have this address in this subnet; write the interface's own address"

static void test_bad_address(void **state)
{
        (void)state;
        static const char *const wrong[] = {
                "", "DHCP", "192.0.2.10/33", "192.0.2.300/24", "192.0.2.10/", "eth0"};
        static const char *const hostless[] = {"192.0.2.0/24", "192.0.2.255/24", "0.0.0.0/0", "224.0.0.1/4",
                "127.0.0.1/8", "192.0.2.1/0", "255.255.255.255/32", "::/64", "ff02::1/64", "::1/128",
                "0.0.0.0/32"};
        char text[100], message[200];

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                snprintf(text, sizeof(text), "[wan]\n\naddress = %s\n", wrong[i]);
                snprintf(message, sizeof(message),
                        "s:3: [wan] address = %s: not an address with its prefix; write 192.0.2.10/24, dhcp "
                        "or none",
                        wrong[i]);
                assert_error(text, message);
        }
        for (size_t i = 0; i < ELEMENTS(hostless); i++) {
                snprintf(text, sizeof(text), "[wan]\naddress = %s\n", hostless[i]);
                snprintf(message, sizeof(message), "s:2: [wan] address = %s: " NO_HOST, hostless[i]);
                assert_error(text, message);
        }
        assert_error("[wan]\naddress = 192.0.2.10\n",
                "s:2: [wan] address = 192.0.2.10: the prefix is missing; write 192.0.2.10/24, say");
        assert_error("[lan eth1]\naddress = dhcp\n",
                "s:2: [lan eth1] address = dhcp: not an address with its prefix; write 192.0.2.10/24");
}

static void test_bad_gateway(void **state)
{
        (void)state;
        assert_error("[wan]\ngateway = x\n", "s:2: [wan] gateway = x: not an address; write 192.0.2.1, say");
        assert_error("[wan]\ngateway = 192.0.2.1/24\n",
                "s:2: [wan] gateway = 192.0.2.1/24: not an address; write 192.0.2.1, say");
        assert_error("[wan]\ngateway = 0.0.0.0\n",
                "s:2: [wan] gateway = 0.0.0.0: no gateway can have this address");
        assert_error("[wan]\naddress = 192.0.2.10/24\ngateway = 198.51.100.1\n",
                "s:3: [wan] gateway = 198.51.100.1: the gateway is not in the interface's subnet, "
                "192.0.2.10/24; "
                "correct one of them");
        assert_error("[wan]\naddress = 192.0.2.10/24\ngateway = 192.0.2.10\n",
                "s:3: [wan] gateway = 192.0.2.10: the gateway is the interface's own address, 192.0.2.10/24; "
                "correct "
                "one of them");
        assert_error("[wan]\naddress = 192.0.2.10/24\ngateway = 2001:db8::1\n",
                "s:3: [wan] gateway = 2001:db8::1: the gateway is of another IP version than the interface's "
                "address, "
                "192.0.2.10/24; correct one of them");
}

static void test_bad_dns(void **state)
{
        (void)state;
        assert_error("[wan]\ndns = 198.51.100.53;nine\n",
                "s:2: [wan] dns = 198.51.100.53;nine: item 2 is not a server's address; write addresses "
                "separated by "
                ";");
        assert_error("[wan]\ndns = 198.51.100.53, 203.0.113.53\n",
                "s:2: [wan] dns = 198.51.100.53, 203.0.113.53: item 1 is not a server's address; write "
                "addresses "
                "separated by ;");
        assert_error("[wan]\ndns = 0.0.0.0\n",
                "s:2: [wan] dns = 0.0.0.0: item 1 is not a server's address; write addresses separated by ;");
        assert_error("[wan]\ndns = ;;\n",
                "s:2: [wan] dns = ;;: no server; write its address, or leave the key out for those of "
                "/etc/resolv.conf");
        assert_error("[wan]\ndns = "
                     "10.0.0.1;10.0.0.2;10.0.0.3;10.0.0.4;10.0.0.5;10.0.0.6;10.0.0.7;10.0.0.8;10.0.0.9\n",
                "s:2: [wan] dns = "
                "10.0.0.1;10.0.0.2;10.0.0.3;10.0.0.4;10.0.0.5;10.0.0.6;10.0.0.7;10.0.0.8;10.0.0.9: "
                "9 servers; at most 8 are used");
}

static void test_bad_proxy(void **state)
{
        (void)state;
        static const char *const wrong[] = {"", "10.20.0.9:3128", "https://10.20.0.9:3128",
                "http://10.20.0.9", "http://user:secret@10.20.0.9:3128", "http://10.20.0.9:70000",
                "socks5://10.20.0.9:1080"};
        char text[100], message[200];

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                snprintf(text, sizeof(text), "[wan]\nproxy = %s\n", wrong[i]);
                snprintf(message, sizeof(message),
                        "s:2: [wan] proxy = %s: not an HTTP proxy; write http://HOST:PORT, without user or "
                        "password",
                        wrong[i]);
                assert_error(text, message);
        }
}

#define LAN "[lan eth1]\naddress = 10.20.0.2/24\n"

static void test_bad_routes(void **state)
{
        (void)state;
        static const char *const wrong[] = {"10.30.0.0/16", "10.30.0.0/16 via", "via 10.20.0.1",
                "10.30.0.0/33 via 10.20.0.1", "10.30.0.0/16 dev 10.20.0.1", "10.30.0.0/16 via 10.20.0.1 x",
                "10.30.0.0/16 via router", "default via 10.20.0.1"};
        char text[200], message[300];

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                snprintf(text, sizeof(text), LAN "routes = %s\n", wrong[i]);
                snprintf(message, sizeof(message),
                        "s:3: [lan eth1] routes = %s: route 1 is not one; write 10.30.0.0/16 via 10.20.0.1, "
                        "separated "
                        "by ;",
                        wrong[i]);
                assert_error(text, message);
        }
        assert_error(LAN "routes = 10.30.0.1/16 via 10.20.0.1\n",
                "s:3: [lan eth1] routes = 10.30.0.1/16 via 10.20.0.1: the destination of route 1 has bits "
                "beyond its "
                "prefix; is 10.30.0.0/16 meant?");
        assert_error(LAN "routes = 10.3.0.0/16 via 10.20.0.1; 10.3.0.0/16 via 10.20.0.9\n",
                "s:3: [lan eth1] routes = 10.3.0.0/16 via 10.20.0.1; 10.3.0.0/16 via 10.20.0.9: route 2: "
                "10.3.0.0/16 "
                "is given twice; keep one of them");
        assert_error("[lan eth1]\nroutes = 10.30.0.0/16 via 10.20.0.1\n",
                "s:2: [lan eth1] routes = 10.30.0.0/16 via 10.20.0.1: routes need the interface's own "
                "address, to "
                "know their next hop; add address = to [lan eth1]");
}

static void test_bad_next_hop(void **state)
{
        (void)state;
        static const struct {
                const char *hop, *problem;
        } cases[] = {
                {"10.21.0.1", "is not in the interface's subnet"},
                {"10.20.0.2", "is the interface's own address"},
                {"0.0.0.0", "is not a host's address"},
                {"127.0.0.1", "is not a host's address"},
                {"2001:db8::1", "is of another IP version than the interface's address"},
        };
        char text[200], message[400];

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                snprintf(text, sizeof(text), LAN "routes = 10.30.0.0/16 via %s\n", cases[i].hop);
                snprintf(message, sizeof(message),
                        "s:3: [lan eth1] routes = 10.30.0.0/16 via %s: the next hop %s of route 1 %s, "
                        "10.20.0.2/24; "
                        "name a router on this LAN",
                        cases[i].hop, cases[i].hop, cases[i].problem);
                assert_error(text, message);
        }
        assert_error(LAN "routes = 2001:db8::/32 via 10.20.0.1\n",
                "s:3: [lan eth1] routes = 2001:db8::/32 via 10.20.0.1: the next hop 10.20.0.1 of route 1 is "
                "of "
                "another IP version than the destination, 10.20.0.2/24; name a router on this LAN");
}

static void test_many_routes(void **state)
{
        (void)state;
        struct text t = {0};
        struct site *s = NULL;
        struct error e;

        text_add(&t, "[lan eth1]\naddress = 10.0.0.2/24\nroutes = ");
        for (unsigned i = 0; i < SITE_MAX_ROUTES; i++)
                text_addf(&t, "172.%u.%u.0/24 via 10.0.0.1;", 16 + i / 256, i % 256);
        s = parse(text_string(&t));
        assert_int_equal(s->lans[0].route_count, SITE_MAX_ROUTES);
        s = site_free(s);
        text_add(&t, "10.9.0.0/16 via 10.0.0.1");
        assert_int_equal(site_parse("s", text_string(&t), t.length, &s, &e), -EINVAL);
        assert_true(str_ends_with(e.text, ": 4097 routes; at most 4096 are taken"));
        text_done(&t);
}

static void test_syntax(void **state)
{
        (void)state;
        struct site *s = NULL;
        struct error e;

        assert_error("wan\n", "s:1: neither [section], key = value nor a comment: wan");
        assert_int_equal(site_parse("s", "[wan]\n\0\n", 8, &s, &e), -EINVAL);
        assert_string_equal(e.text, "s:2: a NUL byte; the file must be plain UTF-8 text");
        assert_int_equal(site_parse("s", "[wan]\n\0\n", 8, &s, NULL), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole),
                cmocka_unit_test(test_lans),
                cmocka_unit_test(test_silent_file),
                cmocka_unit_test(test_profile_paths),
                cmocka_unit_test(test_accepted),
                cmocka_unit_test(test_dns_given_twice_counts_once),
                cmocka_unit_test(test_unknown),
                cmocka_unit_test(test_twice),
                cmocka_unit_test(test_bad_node),
                cmocka_unit_test(test_bad_interface),
                cmocka_unit_test(test_bad_address),
                cmocka_unit_test(test_bad_gateway),
                cmocka_unit_test(test_bad_dns),
                cmocka_unit_test(test_bad_proxy),
                cmocka_unit_test(test_bad_routes),
                cmocka_unit_test(test_bad_next_hop),
                cmocka_unit_test(test_many_routes),
                cmocka_unit_test(test_syntax),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
