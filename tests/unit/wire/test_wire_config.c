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
                             "\"update\":{\"windows\":[\"Mon,Sun 02:05-04:05\",\"daily 22:00-01:00\"],"
                             "\"manual\":false,\"hold_until\":\"2026-12-01\",\"channel\":\"testing\","
                             "\"reboot\":false}},\"transfer\":{\"limit\":\"5Mbit/s; 08:00-18:00 1Mbit/s\","
                             "\"fallback\":\"none\"}}";

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
        assert_int_equal(c.schedule.window_count, 2);
        assert_int_equal(c.schedule.windows[0].days, 1 << 0 | 1 << 6);
        assert_int_equal(c.schedule.windows[0].from_minute, 125);
        assert_int_equal(c.schedule.windows[1].length_minutes, 180);
        assert_string_equal(c.schedule.hold_until, "2026-12-01");
        assert_string_equal(c.schedule.channel, "testing");
        assert_false(c.schedule.reboot);
        assert_true(c.transfer.has_limit && c.transfer.has_fallback && c.transfer.no_fallback);
        assert_int_equal(c.transfer.limit.otherwise, 625000);
        assert_int_equal(budget_plan_rate(&c.transfer.limit, 9 * 60), 125000);
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
        /* Nobody has said when: at night, and nobody has allowed a restart of the machine. */
        assert_int_equal(c.schedule.window_count, 1);
        assert_int_equal(c.schedule.windows[0].days, 0x7f);
        assert_string_equal(c.schedule.channel, "stable");
        assert_false(c.schedule.reboot);
        assert_false(c.transfer.has_limit || c.transfer.has_fallback);
        assert_int_equal(c.dns_count + c.lan_count, 0);
        ASSERT_WRITES(wire_config_to_json(&c), "{\"schema\":1,\"version\":1,\"dns\":[],\"guard\":true}");
        wire_config_done(&c);
        /* No LAN is not the same as nothing said of LANs. */
        PARSE(wire_config_parse, "{\"schema\":1,\"version\":1,\"lan\":[]}", &c);
        assert_true(c.has_lan);
        ASSERT_WRITES(
                wire_config_to_json(&c), "{\"schema\":1,\"version\":1,\"dns\":[],\"lan\":[],\"guard\":true}");
        wire_config_done(&c);
        PARSE(wire_config_parse, "{\"schema\":1,\"version\":1,\"schedule\":{},\"dns\":null,\"lan\":null}",
                &c);
        assert_false(c.schedule.has_update);
        assert_false(c.has_lan);
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

#define UPDATE(u) V "\"schedule\":{\"update\":{" u "}}}"
#define WHERE     "configuration: schedule of updates: member "
#define NO_WINDOW " is no window such as 'Sun 02:00-04:00' or 'daily 02:00-04:00'"
#define NO_DATE   WHERE "'hold_until' is not a date such as 2026-12-01"

static void test_defaults_of_a_schedule(void **state)
{
        struct wire_config c;

        (void)state;
        PARSE(wire_config_parse, UPDATE("\"manual\":true"), &c);
        assert_true(c.schedule.has_update && c.schedule.manual && c.schedule.reboot);
        assert_int_equal(c.schedule.window_count, 0);
        assert_string_equal(c.schedule.channel, "stable");
        assert_string_equal(c.schedule.hold_until, "");
        wire_config_done(&c);
        PARSE(wire_config_parse, UPDATE("\"windows\":[\"Sat 23:30-00:30\"],\"hold_until\":\"2028-02-29\""),
                &c);
        assert_int_equal(c.schedule.windows[0].length_minutes, 60);
        wire_config_done(&c);
        PARSE(wire_config_parse, V "\"transfer\":{\"fallback\":\"8443\"}}", &c);
        assert_true(c.transfer.has_fallback && !c.transfer.no_fallback && !c.transfer.has_limit);
        wire_config_done(&c);
}

static void test_refused_schedules(void **state)
{
        static const struct payload_case cases[] = {
                {UPDATE(""),
                        WHERE "'windows' has no window; write \"manual\": true for updates that are asked "
                              "for only"},
                {UPDATE("\"windows\":[\"02:00-04:00\"]"), WHERE "'windows' item 0" NO_WINDOW},
                {UPDATE("\"windows\":[\"Sun 02:00-04:00\",7]"), WHERE "'windows' item 1" NO_WINDOW},
                {UPDATE("\"windows\":[\"Sun 02:00-02:00\"]"), WHERE "'windows' item 0" NO_WINDOW},
                {UPDATE("\"windows\":[\"Sun 25:00-26:00\"]"), WHERE "'windows' item 0" NO_WINDOW},
                {UPDATE("\"manual\":true,\"hold_until\":\"2026-02-29\""), NO_DATE},
                {UPDATE("\"manual\":true,\"hold_until\":\"2026-13-01\""), NO_DATE},
                {UPDATE("\"manual\":true,\"hold_until\":\"2026-12-1\""), NO_DATE},
                {UPDATE("\"manual\":true,\"hold_until\":\"tomorrow\""), NO_DATE},
                {UPDATE("\"manual\":true,\"channel\":\"../stable\""),
                        WHERE "'channel' is not a channel's name: a-z, 0-9 and -"},
                {UPDATE("\"manual\":true,\"channel\":\"\""),
                        WHERE "'channel' is not a channel's name: a-z, 0-9 and -"},
                {UPDATE("\"days\":[\"mon\"],\"manual\":true"), WHERE "'days' is not known here"},
                {V "\"schedule\":[]}", "configuration: member 'schedule' is not an object"},
                {V "\"transfer\":{\"limit\":\"fast\"}}", "configuration: transfer: member 'limit' is no "
                                                         "bandwidth such as '5Mbit/s; 08:00-18:00 "
                                                         "1Mbit/s'"},
                {V "\"transfer\":{\"fallback\":\"443\"}}",
                        "configuration: transfer: member 'fallback' is not 8443 or none"},
                {V "\"transfer\":{\"ways\":1}}", "configuration: transfer: member 'ways' is not known here"},
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
                cmocka_unit_test(test_defaults_of_a_schedule),
                cmocka_unit_test(test_refused_schedules),
                cmocka_unit_test(test_harm),
                cmocka_unit_test(test_many_routes),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
