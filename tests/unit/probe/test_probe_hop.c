#include "base/cleanup.h"
#include "testnet.h"

#include <errno.h>
#include <stdarg.h>

#include <setjmp.h>

#include <cmocka.h>

static struct measurement *hop_with_patience(const char *target, uint8_t ttl, double patience_ms)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_HOP, target);
        struct probe_context c;
        struct measurement *m;

        assert_int_equal(probe_context_init(&c), 0);
        c.patience_ms = patience_ms;
        spec.ttl = ttl;
        m = testnet_probe(&c, &spec);
        probe_context_done(&c);
        return m;
}

static struct measurement *hop(const char *target, uint8_t ttl)
{
        return hop_with_patience(target, ttl, 1000);
}

static void expect(
        const struct measurement *m, enum measurement_outcome outcome, enum hop_answer answer, const char *by)
{
        char text[INET_ADDR_TEXT];

        assert_int_equal(m->outcome, outcome);
        assert_int_equal(m->hop_answer, answer);
        assert_string_equal(inet_addr_format(&m->by, text), by);
}

static void test_router_and_host(void **state)
{
        (void)state;
        _measured_ struct measurement *router4 = hop(TESTNET_HOST4, 1), *host4 = hop(TESTNET_HOST4, 2);
        _measured_ struct measurement *router6 = hop(TESTNET_HOST6, 1), *host6 = hop(TESTNET_HOST6, 2);

        expect(router4, OUTCOME_OK, HOP_TIME_EXCEEDED, "10.1.0.1");
        assert_int_equal(router4->icmp_type, 11);
        assert_int_equal(router4->error_number, 0);
        assert_true(router4->rtt_ms > 0);
        expect(router6, OUTCOME_OK, HOP_TIME_EXCEEDED, "2001:db8:1::1");
        assert_int_equal(router6->icmp_type, 3);
        expect(host4, OUTCOME_OK, HOP_SYN_ACK, "");
        expect(host6, OUTCOME_OK, HOP_SYN_ACK, "");
        assert_string_equal(host4->source, TESTNET_NODE);
}

/* A Linux router rejects only what it would forward: its own hop still answers time exceeded. */
static void test_refusals(void **state)
{
        (void)state;
        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 reject with icmpx type admin-prohibited");
        _measured_ struct measurement *before = hop(TESTNET_HOST4, 1), *refused = hop(TESTNET_HOST4, 2);
        expect(before, OUTCOME_OK, HOP_TIME_EXCEEDED, "10.1.0.1");
        expect(refused, OUTCOME_REJECTED, HOP_UNREACHABLE, "10.1.0.1");
        assert_int_equal(refused->icmp_type, 3);
        assert_int_equal(refused->icmp_code, 13);
        testnet_clear(NULL);

        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 reject with tcp reset");
        _measured_ struct measurement *reset = hop(TESTNET_HOST4, 2);
        expect(reset, OUTCOME_RESET, HOP_RESET, "");
}

static void test_silence(void **state)
{
        (void)state;
        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 drop");
        _measured_ struct measurement *m = hop(TESTNET_HOST4, 2);
        expect(m, OUTCOME_TIMEOUT, HOP_SILENT, "");
        assert_int_equal(m->tries, 3);
        assert_true(m->took_ms >= 600 && m->took_ms < 1500);

        _measured_ struct measurement *slow_path = hop_with_patience(TESTNET_HOST4, 2, 1500);
        assert_int_equal(slow_path->tries, 3);
        assert_true(slow_path->took_ms >= 1100 && slow_path->took_ms < 2500);

        _measured_ struct measurement *hurried = hop_with_patience(TESTNET_HOST4, 2, 200);
        assert_int_equal(hurried->tries, 2);
        assert_true(hurried->took_ms < 550);
}

/* A router that limits its ICMP passes over the first probe. */
static void test_asks_again(void **state)
{
        (void)state;
        testnet_rule(TESTNET_ROUTER_NS, "prerouting", "tcp dport 443 numgen inc mod 8 < 1 drop");
        _measured_ struct measurement *m = hop(TESTNET_HOST4, 1);
        expect(m, OUTCOME_OK, HOP_TIME_EXCEEDED, "10.1.0.1");
        assert_int_equal(m->tries, 2);
        assert_int_equal(m->syns_unanswered, 1);
        assert_true(m->took_ms >= 150);
}

static void test_errors_of_this_machine(void **state)
{
        (void)state;
        testnet_run(TESTNET_NODE_NS, "ip route add unreachable 203.0.113.0/24");
        _measured_ struct measurement *m = hop("203.0.113.7:443", 3);
        expect(m, OUTCOME_LOCAL_ERROR, HOP_SILENT, "");
        assert_int_equal(m->error_number, EHOSTUNREACH);
        testnet_run(TESTNET_NODE_NS, "ip route del unreachable 203.0.113.0/24");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_router_and_host),
                cmocka_unit_test_teardown(test_refusals, testnet_clear),
                cmocka_unit_test_teardown(test_silence, testnet_clear),
                cmocka_unit_test_teardown(test_asks_again, testnet_clear),
                cmocka_unit_test(test_errors_of_this_machine),
        };

        return cmocka_run_group_tests(tests, testnet_up, testnet_down);
}
