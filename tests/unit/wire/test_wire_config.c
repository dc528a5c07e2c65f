#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "payload.h"

static const char config[] = "{\"schema\":1,\"version\":7,\"dns\":[\"198.51.100.53\",\"2001:db8::53\"],"
                             "\"lan\":[{\"interface\":\"eth1\","
                             "\"address\":\"10.20.0.2/24\",\"routes\":[{\"destination\":\"10.30.0.0/"
                             "16\",\"next_hop\":\"10.20.0.1\","
                             "\"description\":\"caf\xc3\xa9\"},{\"destination\":\"10.40.0.0/"
                             "16\",\"next_hop\":\"10.20.0.1\"}]},{\"interface\":"
                             "\"eth2.100\",\"address\":\"2001:db8:1::2/"
                             "64\",\"routes\":[{\"destination\":\"::/0\",\"next_hop\":\"fe80::1\"}]},"
                             "{\"interface\":\"eth3\",\"routes\":[]}],\"guard\":false,\"schedule\":{"
                             "\"update\":{\"days\":[\"mon\",\"sun\"],"
                             "\"start\":\"02:05\",\"minutes\":120}}}";

static void test_whole(void **state)
{
        struct wire_config c;
        char text[INET_ADDR_TEXT];

        (void)state;
        PARSE(wire_config_parse, config, &c);
        assert_int_equal(c.version, 7);
        assert_int_equal(c.dns_count, 2);
        assert_string_equal(inet_addr_format(&c.dns[1], text), "2001:db8::53");
        assert_int_equal(c.lan_count, 3);
        assert_string_equal(c.lans[0].interface, "eth1");
        assert_true(c.lans[0].has_address);
        assert_int_equal(c.lans[0].route_count, 2);
        assert_string_equal(c.lans[0].routes[0].description, "caf\xc3\xa9");
        assert_null(c.lans[0].routes[1].description);
        assert_string_equal(cidr_format(&c.lans[1].routes[0].destination, text), "::/0");
        assert_false(c.lans[2].has_address);
        assert_false(c.guard);
        assert_true(c.schedule.has_update);
        assert_int_equal(c.schedule.days, 1 << 0 | 1 << 6);
        assert_int_equal(c.schedule.minute, 125);
        assert_int_equal(c.schedule.length_minutes, 120);
        ASSERT_WRITES(wire_config_to_json(&c), config);
        wire_config_done(&c);
        assert_int_equal(c.lan_count, 0);
        wire_config_done(&c);
}

static void test_least(void **state)
{
        struct wire_config c;

        (void)state;
        PARSE(wire_config_parse, "{\"schema\":1,\"version\":1}", &c);
        assert_true(c.guard);
        assert_false(c.schedule.has_update);
        assert_int_equal(c.dns_count + c.lan_count, 0);
        ASSERT_WRITES(
                wire_config_to_json(&c), "{\"schema\":1,\"version\":1,\"dns\":[],\"lan\":[],\"guard\":true}");
        wire_config_done(&c);
        PARSE(wire_config_parse, "{\"schema\":1,\"version\":1,\"schedule\":{},\"dns\":null,\"lan\":null}",
                &c);
        assert_false(c.schedule.has_update);
        wire_config_done(&c);
}

#define V       "{\"schema\":1,\"version\":1,"
#define LAN     V "\"lan\":[{\"interface\":\"eth1\",\"address\":\"10.20.0.2/24\""
#define R(d, h) "{\"destination\":\"" d "\",\"next_hop\":\"" h "\"}"

static void test_refused_parts(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1}", "configuration: member 'version' is missing"},
                {V "\"mtu\":1400}", "configuration: member 'mtu' is not known here"},
                {V "\"lan\":[{\"interface\":\"eth1\",\"mtu\":9000}]}",
                        "configuration: lan 0: member 'mtu' is not known here"},
                {LAN ",\"routes\":[{\"destination\":\"10.30.0.0/"
                     "16\",\"next_hop\":\"10.20.0.1\",\"metric\":1}]}]}",
                        "configuration: route 0 of eth1: member 'metric' is not known here"},
                {V "\"schedule\":{\"reboot\":{}}}",
                        "configuration: schedule: member 'reboot' is not known here"},
                {V "\"dns\":[\"198.51.100.53\",\"dns.example\"]}",
                        "configuration: member 'dns' item 1 is not a server's address"},
                {V "\"dns\":[\"0.0.0.0\"]}", "configuration: member 'dns' item 0 is not a server's address"},
                {V "\"dns\":[\"224.0.0.1\"]}",
                        "configuration: member 'dns' item 0 is not a server's address"},
                {V "\"dns\":[7]}", "configuration: member 'dns' item 0 is not a server's address"},
                {V "\"dns\":[\"1.1.1.1\",\"1.1.1.1\"]}", "configuration: member 'dns' item 1 is given twice"},
                {V "\"dns\":[\"1.1.1.1\",\"1.1.1.2\",\"1.1.1.3\",\"1.1.1.4\",\"1.1.1.5\",\"1.1.1.6\",\"1.1.1."
                   "7\","
                   "\"1.1.1.8\",\"1.1.1.9\"]}",
                        "configuration: member 'dns' has 9 items, more than 8"},
                {V "\"lan\":[7]}", "configuration: lan 0 is not an object"},
                {V "\"lan\":[{\"interface\":\"eth1]\"}]}",
                        "configuration: lan 0: member 'interface' is not an interface's name"},
                {V "\"lan\":[{\"interface\":\"..\"}]}",
                        "configuration: lan 0: member 'interface' is not an interface's name"},
                {V "\"lan\":[{\"interface\":\"0123456789abcdef\"}]}",
                        "configuration: lan 0: member 'interface' is longer than 15 bytes"},
                {V "\"lan\":[{\"interface\":\"eth1\"},{\"interface\":\"eth1\"}]}",
                        "configuration: member 'lan' has eth1 twice"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_config_parse, struct wire_config, cases);
}

static void test_refused_addresses(void **state)
{
        static const char *const bad[] = {"10.20.0.2", "10.20.0.0/24", "10.20.0.255/24", "10.20.0.2/33",
                "127.0.0.1/8", "0.0.0.0/24", "224.0.0.1/24", "10.20.0.2/0", "x/24", "", "::1/128",
                "255.255.255.255/32"};
        static const char *const good[] = {
                "10.20.0.2/24", "10.20.0.0/31", "10.20.0.1/32", "2001:db8::/64", "fe80::2/64"};
        char text[256];
        struct wire_config c;

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                snprintf(text, sizeof text, V "\"lan\":[{\"interface\":\"eth1\",\"address\":\"%s\"}]}",
                        bad[i]);
                ASSERT_REFUSED(wire_config_parse, struct wire_config, text, strlen(text), EBADMSG,
                        "configuration: lan 0: member 'address' is not a host's address with its prefix, "
                        "such as "
                        "10.20.0.2/24");
        }
        for (size_t i = 0; i < ELEMENTS(good); i++) {
                snprintf(text, sizeof text, V "\"lan\":[{\"interface\":\"eth1\",\"address\":\"%s\"}]}",
                        good[i]);
                PARSE(wire_config_parse, text, &c);
                wire_config_done(&c);
        }
}

static void test_refused_routes(void **state)
{
        static const struct payload_case cases[] = {
                {V "\"lan\":[{\"interface\":\"eth1\",\"routes\":[" R("10.30.0.0/16", "10.20.0.1") "]}]}",
                        "configuration: lan 0: member 'routes' needs the interface's address, to know their "
                        "next hops"},
                {LAN ",\"routes\":[" R("10.30.0.0", "10.20.0.1") "]}]}",
                        "configuration: route 0 of eth1: member 'destination' is not a network such as "
                        "10.30.0.0/16"},
                {LAN ",\"routes\":[" R("10.30.0.1/16", "10.20.0.1") "]}]}",
                        "configuration: route 0 of eth1: member 'destination' is 10.30.0.1/16, which has "
                        "bits beyond its "
                        "prefix"},
                {LAN ",\"routes\":[" R("10.30.0.0/16", "10.20.1.1") "]}]}",
                        "configuration: route 0 of eth1: member 'next_hop' is not on the interface's network "
                        "(to "
                        "10.30.0.0/16)"},
                {LAN ",\"routes\":[" R("10.30.0.0/16", "10.20.0.2") "]}]}",
                        "configuration: route 0 of eth1: member 'next_hop' is the interface's own address "
                        "(to "
                        "10.30.0.0/16)"},
                {LAN ",\"routes\":[" R("10.30.0.0/16", "fe80::1") "]}]}",
                        "configuration: route 0 of eth1: member 'next_hop' is of another IP version than the "
                        "destination "
                        "(to 10.30.0.0/16)"},
                {LAN ",\"routes\":[" R("2001:db8::/64", "fe80::1") "]}]}",
                        "configuration: route 0 of eth1: member 'next_hop' is of another IP version than the "
                        "interface's "
                        "address (to 2001:db8::/64)"},
                {LAN ",\"routes\":[" R("10.30.0.0/16", "gw") "]}]}",
                        "configuration: route 0 of eth1: member 'next_hop' is not an address (to "
                        "10.30.0.0/16)"},
                {LAN ",\"routes\":[" R("10.30.0.0/16", "127.0.0.1") "]}]}",
                        "configuration: route 0 of eth1: member 'next_hop' is not a host's address (to "
                        "10.30.0.0/16)"},
                {LAN ",\"routes\":[" R("10.30.0.0/16", "10.20.0.1") ",{\"destination\":\"10.31.0.0/16\"}]}]}",
                        "configuration: route 1 of eth1: member 'next_hop' is missing"},
                {LAN ",\"routes\":[" R("10.30.0.0/16", "10.20.0.1") "," R("10.30.0.0/16", "10.20.0.3") "]}]}",
                        "configuration: member 'lan' has the destination 10.30.0.0/16 twice"},
                {LAN ",\"routes\":[" R("10.30.0.0/16",
                         "10.20.0.1") "]},{\"interface\":\"eth2\",\"address\":\"10.21.0.2/24\","
                                      "\"routes\":[" R("10.30.0.0/17", "10.21.0.1") "," R(
                                              "10.30.0.0/16", "10.21.0.1") "]}]}",
                        "configuration: member 'lan' has the destination 10.30.0.0/16 twice"},
                {LAN ",\"routes\":[{\"destination\":\"10.30.0.0/"
                     "16\",\"next_hop\":\"10.20.0.1\",\"description\":\"a\\nb\"}]}]}",
                        "configuration: route 0 of eth1: member 'description' has bytes that cannot be "
                        "shown"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_config_parse, struct wire_config, cases);
}

#define UPDATE(d, s, m) V "\"schedule\":{\"update\":{\"days\":" d ",\"start\":\"" s "\",\"minutes\":" m "}}}"
#define WHERE           "configuration: schedule of updates: member "

static void test_refused_schedules(void **state)
{
        static const struct payload_case cases[] = {
                {UPDATE("[]", "02:00", "60"), WHERE "'days' has no day"},
                {UPDATE("[\"monday\"]", "02:00", "60"),
                        WHERE "'days' item 0 is not mon, tue, wed, thu, fri, sat or sun"},
                {UPDATE("[1]", "02:00", "60"),
                        WHERE "'days' item 0 is not mon, tue, wed, thu, fri, sat or sun"},
                {UPDATE("[\"mon\"]", "2:00", "60"), WHERE "'start' is not a time such as 02:00"},
                {UPDATE("[\"mon\"]", "24:00", "60"), WHERE "'start' is not a time of day"},
                {UPDATE("[\"mon\"]", "02:60", "60"), WHERE "'start' is not a time of day"},
                {UPDATE("[\"mon\"]", "02-00", "60"), WHERE "'start' is not a time such as 02:00"},
                {UPDATE("[\"mon\"]", "0a:00", "60"), WHERE "'start' is not a time such as 02:00"},
                {UPDATE("[\"mon\"]", "02:00", "0"), WHERE "'minutes' is 0, not between 1 and 1440"},
                {UPDATE("[\"mon\"]", "02:00", "1441"), WHERE "'minutes' is 1441, not between 1 and 1440"},
                {V "\"schedule\":{\"update\":{\"days\":[\"mon\"],\"start\":\"02:00\",\"minutes\":60,\"zone\":"
                   "1}}}",
                        WHERE "'zone' is not known here"},
                {V "\"schedule\":[]}", "configuration: member 'schedule' is not an object"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_config_parse, struct wire_config, cases);
}

static void test_harm(void **state)
{
        (void)state;
        ASSERT_BEARS_HARM(wire_config_parse, wire_config_done, struct wire_config, config);
}

/* As many as a message holds, in a moment. */
static void test_many_routes(void **state)
{
        json_t *j = json_loads(V "\"lan\":[]}", 0, NULL), *lan = json_object_get(j, "lan");
        _cleanup_free_ char *text = NULL;
        struct wire_config c;
        char word[64];

        (void)state;
        for (int l = 0; l < 2; l++) {
                json_t *one = json_object(), *routes = json_array();

                snprintf(word, sizeof word, "eth%d", l);
                json_object_set_new(one, "interface", json_string(word));
                snprintf(word, sizeof word, "10.20.%d.2/24", l);
                json_object_set_new(one, "address", json_string(word));
                for (int i = 0; i < CONFIG_MAX_ROUTES; i++) {
                        json_t *route = json_object();

                        snprintf(word, sizeof word, "10.%d.%d.%d/32", 100 + l, i / 256, i % 256);
                        json_object_set_new(route, "destination", json_string(word));
                        snprintf(word, sizeof word, "10.20.%d.1", l);
                        json_object_set_new(route, "next_hop", json_string(word));
                        json_array_append_new(routes, route);
                }
                json_object_set_new(one, "routes", routes);
                json_array_append_new(lan, one);
        }
        text = json_to_text(j);
        json_decref(j);
        assert_true(strlen(text) < WIRE_MESSAGE_MAXIMUM);
        PARSE(wire_config_parse, text, &c);
        assert_int_equal(c.lans[1].route_count, CONFIG_MAX_ROUTES);
        wire_config_done(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole),
                cmocka_unit_test(test_least),
                cmocka_unit_test(test_refused_parts),
                cmocka_unit_test(test_refused_addresses),
                cmocka_unit_test(test_refused_routes),
                cmocka_unit_test(test_refused_schedules),
                cmocka_unit_test(test_harm),
                cmocka_unit_test(test_many_routes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
