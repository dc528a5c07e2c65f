#include "helper/protocol.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "base/version.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct cidr cidr_of(const char *text)
{
        struct cidr c;

        assert_int_equal(cidr_parse(text, &c), 0);
        return c;
}

static struct helper_address an_address(const char *interface, const char *text)
{
        struct helper_address a = {.address = cidr_of(text)};

        str_copy(a.interface, sizeof a.interface, interface);
        return a;
}

static struct helper_route a_route(
        const char *interface, const char *destination, const char *hop, unsigned metric)
{
        struct helper_route r = {.destination = cidr_of(destination), .metric = metric};

        str_copy(r.interface, sizeof r.interface, interface);
        if (hop)
                assert_int_equal(inet_addr_parse(hop, &r.next_hop), 0);
        return r;
}

static char *text_of(const struct helper_request *r)
{
        json_t *object = helper_request_to_json(r);
        char *text = json_to_text(object);

        json_decref(object);
        return text;
}

static int parse(const char *text, struct helper_request *ret, struct error *e)
{
        return helper_request_parse(text, strlen(text), ret, e);
}

/* ---- requests ---- */

static void test_hello(void **state)
{
        (void)state;
        struct helper_request r = {.operation = HELPER_HELLO}, back = {.operation = HELPER_NETWORK_APPLY};
        _cleanup_free_ char *text = text_of(&r);
        struct error e;

        assert_string_equal(text, "{\"op\":\"hello\"}");
        assert_int_equal(parse(text, &back, &e), 0);
        assert_int_equal(back.operation, HELPER_HELLO);
        helper_request_done(&back);
}

static void test_update(void **state)
{
        (void)state;
        struct helper_request r = {.operation = HELPER_UPDATE_START,
                                      .job = {.id = "u-1",
                                              .action = UPDATE_NOW,
                                              .channel = "stable",
                                              .reboot = true,
                                              .by = "alice"}},
                              back = {0};
        _cleanup_free_ char *start = text_of(&r), *cancel = NULL;
        struct error e;

        assert_int_equal(parse(start, &back, &e), 0);
        assert_int_equal(back.operation, HELPER_UPDATE_START);
        assert_string_equal(back.job.id, "u-1");
        assert_int_equal(back.job.action, UPDATE_NOW);
        assert_string_equal(back.job.channel, "stable");
        assert_true(back.job.reboot && !back.job.again);
        assert_string_equal(back.job.by, "alice");
        helper_request_done(&back);
        r.operation = HELPER_UPDATE_CANCEL;
        str_copy(r.update_id, sizeof r.update_id, "u-1");
        cancel = text_of(&r);
        assert_string_equal(cancel, "{\"op\":\"update.cancel\",\"id\":\"u-1\"}");
        assert_int_equal(parse(cancel, &back, &e), 0);
        assert_int_equal(back.operation, HELPER_UPDATE_CANCEL);
        assert_string_equal(back.update_id, "u-1");
        helper_request_done(&back);
}

static const char network_text[] =
        "{\"op\":\"network.apply\",\"up\":[\"eth1\",\"eth2.100\"],"
        "\"addresses\":[{\"interface\":\"eth1\",\"address\":\"10.20.0.2/24\"},"
        "{\"interface\":\"eth2.100\",\"address\":\"2001:db8:20::2/64\"}],"
        "\"routes\":[{\"interface\":\"eth1\",\"next_hop\":\"10.20.0.1\",\"metric\":1024,"
        "\"to\":[\"10.30.0.0/16\",\"198.51.100.0/24\"]},"
        "{\"interface\":\"eth0\",\"metric\":64,\"to\":[\"198.51.100.53/32\"]},"
        "{\"interface\":\"eth2.100\",\"next_hop\":\"fe80::1\",\"metric\":1024,\"to\":[\"2001:db8:30::/"
        "48\"]}]}";

static void test_network(void **state)
{
        (void)state;
        char *up[] = {"eth1", "eth2.100"};
        struct helper_address addresses[] = {
                an_address("eth1", "10.20.0.2/24"), an_address("eth2.100", "2001:db8:20::2/64")};
        struct helper_route routes[] = {a_route("eth1", "10.30.0.0/16", "10.20.0.1", 1024),
                a_route("eth1", "198.51.100.0/24", "10.20.0.1", 1024),
                a_route("eth0", "198.51.100.53/32", NULL, 64),
                a_route("eth2.100", "2001:db8:30::/48", "fe80::1", 1024)};
        struct helper_request r = {.operation = HELPER_NETWORK_APPLY,
                .network = {up, ELEMENTS(up), addresses, ELEMENTS(addresses), routes, ELEMENTS(routes)}};
        struct helper_request back;
        _cleanup_free_ char *text = text_of(&r), *again = NULL;
        struct error e;

        assert_string_equal(text, network_text);
        if (parse(text, &back, &e) < 0)
                fail_msg("%s", e.text);
        again = text_of(&back);
        assert_string_equal(again, network_text);
        assert_int_equal(back.network.route_count, 4);
        assert_false(inet_addr_is_set(&back.network.routes[2].next_hop));
        assert_int_equal(back.network.routes[2].metric, 64);
        helper_request_done(&back);
        helper_request_done(&back);
}

/* As many routes as there may be fit into a message, and one more does not pass. */
static void test_many_routes(void **state)
{
        (void)state;
        struct helper_request r = {.operation = HELPER_NETWORK_APPLY}, back;
        struct error e;

        r.network.route_count = HELPER_MAX_ROUTES;
        r.network.routes = xcalloc(HELPER_MAX_ROUTES + 1, sizeof *r.network.routes);
        for (unsigned i = 0; i < HELPER_MAX_ROUTES + 1; i++) {
                r.network.routes[i] = a_route("eth1", "2001:db8:ffff:ffff:ffff:ffff:ffff:0/128",
                        "2001:db8:eeee:eeee:eeee:eeee:eeee:eeee", 1024);
                r.network.routes[i].destination.address.bytes[14] = (uint8_t)(i >> 8);
                r.network.routes[i].destination.address.bytes[15] = (uint8_t)i;
        }
        for (int more = 0; more < 2; more++) {
                _cleanup_free_ char *text = NULL;

                r.network.route_count += (size_t)more;
                text = text_of(&r);
                /* What an unprivileged socket takes by default: twice net.core.wmem_max. */
                assert_in_range(strlen(text), 100000, 2 * 212992 - 1024);
                assert_int_equal(parse(text, &back, &e), more ? -EBADMSG : 0);
                if (!more) {
                        assert_int_equal(back.network.route_count, HELPER_MAX_ROUTES);
                        helper_request_done(&back);
                }
        }
        helper_request_done(&r);
}

static void assert_refused(const char *text, int number, const char *part)
{
        struct helper_request r = {.operation = 77};
        struct error e = {0};

        assert_int_equal(parse(text, &r, &e), -number);
        assert_int_equal(r.operation, 77);
        assert_int_equal(e.number, number);
        if (!strstr(e.text, part))
                fail_msg("'%s' is not in: %s", part, e.text);
}

static void test_garbage(void **state)
{
        (void)state;
        struct helper_request r;
        struct error e;
        _cleanup_free_ char *long_text = xmalloc(HELPER_MESSAGE_MAXIMUM + 1);

        assert_refused("", EBADMSG, "no JSON");
        assert_refused("[]", EBADMSG, "no JSON object");
        assert_refused("{}", EBADMSG, "'op' is missing");
        assert_refused("{\"op\":7}", EBADMSG, "'op' is not a text");
        assert_refused("{\"op\":\"reboot\"}", EBADMSG, "is no operation");
        assert_refused("{\"op\":\"hello\",\"path\":\"/etc/shadow\"}", EBADMSG, "'path' is not known");
        assert_refused("{\"op\":\"hello\",\"op\":\"hello\"}", EBADMSG, "no JSON");
        assert_refused("{\"op\":\"hello\"} x", EBADMSG, "no JSON");
        assert_refused("{\"op\":\"network.apply\"}", EBADMSG, "'up' is missing");
        assert_refused("{\"op\":\"network.apply\",\"up\":[],\"addresses\":[],\"routes\":[],\"x\":1}", EBADMSG,
                "'x' is not known");
        /* What becomes part of a path and of apt's files. */
        assert_refused("{\"op\":\"update.start\"}", EBADMSG, "'job' is missing");
        assert_refused("{\"op\":\"update.start\",\"job\":{\"id\":\"../x\",\"action\":\"now\",\"channel\":"
                       "\"stable\",\"by\":\"\"}}",
                EBADMSG, "is not an id");
        assert_refused("{\"op\":\"update.start\",\"job\":{\"id\":\"u\",\"action\":\"now\",\"channel\":"
                       "\"a b\",\"by\":\"\"}}",
                EBADMSG, "is not a channel's name");
        assert_refused("{\"op\":\"update.start\",\"job\":{\"id\":\"u\",\"action\":\"now\",\"channel\":"
                       "\"stable\",\"by\":\"\",\"command\":\"reboot\"}}",
                EBADMSG, "'command' is not known");
        assert_refused("{\"op\":\"update.start\",\"job\":{\"id\":\"u\",\"action\":\"erase\",\"channel\":"
                       "\"stable\",\"by\":\"\"}}",
                EBADMSG, "'action' is not known");
        assert_refused("{\"op\":\"update.cancel\"}", EBADMSG, "'id' is missing");
        assert_refused("{\"op\":\"update.cancel\",\"id\":\"a/b\"}", EBADMSG, "is not an id");
        memset(long_text, ' ', HELPER_MESSAGE_MAXIMUM + 1);
        assert_int_equal(helper_request_parse(long_text, HELPER_MESSAGE_MAXIMUM + 1, &r, &e), -EFBIG);
}

/* Each is wrong in one place of an otherwise right request. */
static const struct {
        const char *up, *addresses, *routes, *part;
} refused_networks[] = {
        {"[\"eth1\",7]", "[]", "[]", "'up'"},
        {"[\"eth1/..\"]", "[]", "[]", "'up'"},
        {"[\"\"]", "[]", "[]", "'up'"},
        {"[\"..\"]", "[]", "[]", "'up'"},
        {"[\"sixteen-bytes-ab\"]", "[]", "[]", "'up'"},
        {"[\"eth1\\u0000x\"]", "[]", "[]", ""},
        {"{}", "[]", "[]", "'up' is not an array"},
        {"[]", "[7]", "[]", "not an object"},
        {"[]", "[{\"interface\":\"eth1\"}]", "[]", "'address' is missing"},
        {"[]", "[{\"interface\":\"e h\",\"address\":\"10.0.0.1/8\"}]", "[]", "'interface'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"10.0.0.1\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"10.0.0.1/7\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"10.0.0.0/24\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"10.0.0.255/24\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"127.0.0.1/24\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"224.0.0.5/24\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"255.255.255.255/32\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"::1/128\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"2001:db8::1/15\"}]", "[]", "'address'"},
        {"[]", "[{\"interface\":\"eth1\",\"address\":\"10.0.0.1/8\",\"x\":1}]", "[]", "'x'"},
        {"[]",
                "[{\"interface\":\"eth1\",\"address\":\"10.0.0.1/8\"},"
                "{\"interface\":\"eth2\",\"address\":\"10.0.0.1/24\"}]",
                "[]", "10.0.0.1 twice"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"next_hop\":\"10.0.0.1\",\"metric\":1}]", "'to'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[]}]", "'to' is empty"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":0,\"to\":[\"10.0.0.0/8\"]}]", "'metric'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":4294967296,\"to\":[\"10.0.0.0/8\"]}]", "'metric'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"0.0.0.0/0\"]}]", "default route"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"::/0\"]}]", "default route"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"10.0.0.1/8\"]}]", "'to'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"10.0.0.0/33\"]}]", "'to'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"127.0.0.0/8\"]}]", "'to'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"224.0.0.0/24\"]}]", "'to'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[7]}]", "'to'"},
        {"[]", "[]",
                "[{\"interface\":\"eth1\",\"next_hop\":\"fe80::1\",\"metric\":1,\"to\":[\"10.0.0.0/"
                "8\"]}]",
                "IP version"},
        {"[]", "[]",
                "[{\"interface\":\"eth1\",\"next_hop\":\"0.0.0.0\",\"metric\":1,\"to\":[\"10.0.0.0/"
                "8\"]}]",
                "'next_hop'"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"10.0.0.0/8\"],\"table\":100}]",
                "'table' is not known"},
        {"[]", "[]", "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"10.0.0.0/8\"],\"protocol\":4}]",
                "'protocol' is not known"},
        {"[]", "[]",
                "[{\"interface\":\"eth1\",\"metric\":1,\"to\":[\"10.0.0.0/8\"]},"
                "{\"interface\":\"eth2\",\"metric\":1,\"to\":[\"10.0.0.0/8\"]}]",
                "10.0.0.0/8 twice"},
};

static void test_refused_networks(void **state)
{
        (void)state;
        for (size_t i = 0; i < ELEMENTS(refused_networks); i++) {
                _cleanup_free_ char *text = xasprintf(
                        "{\"op\":\"network.apply\",\"up\":%s,\"addresses\":%s,\"routes\":%s}",
                        refused_networks[i].up, refused_networks[i].addresses, refused_networks[i].routes);

                assert_refused(text, EBADMSG, refused_networks[i].part);
        }
}

/* ---- answers ---- */

static char *answer_text(const struct error *e)
{
        json_t *object = helper_answer_to_json(e);
        char *text = json_to_text(object);

        json_decref(object);
        return text;
}

static void test_answers(void **state)
{
        (void)state;
        _cleanup_free_ char *good = answer_text(NULL), *bad = NULL;
        struct error sent = {0}, got = {.number = 7}, e;

        assert_string_equal(good, "{\"ok\":true,\"version\":\"" GRIDNODE_VERSION "\"}");
        assert_int_equal(helper_answer_parse(good, strlen(good), &got, &e), 0);
        assert_int_equal(got.number, 0);
        error_set(&sent, ENODEV, "helper.interface", "there is no interface %s", "eth7");
        bad = answer_text(&sent);
        assert_int_equal(helper_answer_parse(bad, strlen(bad), &got, &e), 0);
        assert_int_equal(got.number, ENODEV);
        assert_string_equal(got.code, "helper.interface");
        assert_string_equal(got.text, "there is no interface eth7");
}

static void test_bad_answers(void **state)
{
        (void)state;
        static const char *const answers[] = {"", "{}", "{\"ok\":1}", "{\"ok\":false}", "{\"ok\":true}",
                "{\"ok\":false,\"number\":0,\"code\":\"helper.route\",\"error\":\"x\"}",
                "{\"ok\":false,\"number\":99999,\"code\":\"helper.route\",\"error\":\"x\"}",
                "{\"ok\":false,\"number\":1,\"error\":\"x\"}", "{\"ok\":true,\"version\":\"1\",\"x\":1}"};
        static const char stranger[] = "{\"ok\":false,\"number\":1,\"code\":\"new.code\",\"error\":\"x\"}";
        struct error got = {.number = 7}, e;

        for (size_t i = 0; i < ELEMENTS(answers); i++) {
                assert_int_equal(helper_answer_parse(answers[i], strlen(answers[i]), &got, &e), -EBADMSG);
                assert_int_equal(got.number, 7);
        }
        assert_int_equal(helper_answer_parse(stranger, strlen(stranger), &got, &e), 0);
        assert_int_equal(got.number, 1);
        assert_string_equal(got.code, "helper.failed");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_hello),
                cmocka_unit_test(test_update),
                cmocka_unit_test(test_network),
                cmocka_unit_test(test_many_routes),
                cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_refused_networks),
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_bad_answers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
