#include "base/cleanup.h"
#include "probe/capture.h"
#include "probe/syn.h"
#include "testnet.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <sys/resource.h>

#include <setjmp.h>

#include <cmocka.h>

static const char *const both[] = {TESTNET_HOST4, TESTNET_HOST6};

static struct probe_context context(double patience_ms)
{
        struct probe_context c;

        assert_int_equal(probe_context_init(&c), 0);
        c.patience_ms = patience_ms;
        return c;
}

/* With everything at its usual: capture on, 400 ms of patience. */
static struct measurement *connect_to(const char *target)
{
        struct probe_context c = context(400);
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, target);
        struct measurement *m;
        struct error e;

        assert_int_equal(capture_start(c.event, NULL, &c.capture, &e), 0);
        m = testnet_probe(&c, &spec);
        capture_free(c.capture);
        probe_context_done(&c);
        return m;
}

static void test_connects(void **state)
{
        (void)state;
        for (size_t i = 0; i < ELEMENTS(both); i++) {
                _measured_ struct measurement *m = connect_to(both[i]);

                assert_int_equal(m->outcome, OUTCOME_OK);
                assert_int_equal(m->tries, 1);
                assert_int_equal(m->syns_unanswered, 0);
                assert_true(m->rtt_ms > 0 && m->rtt_ms < 100);
                assert_string_equal(m->source, i ? "2001:db8:1::2" : TESTNET_NODE);
                assert_true(m->local_port > 0);
                assert_int_equal(m->left_host, YES);
                assert_int_equal(m->reply_seen, YES);
                assert_string_equal(m->reply_interface, "eth0");
                assert_int_equal(m->reply_ttl, 63);
                assert_int_equal(m->error_number, 0);
        }
}

static void test_connected_socket_is_kept_for_tls_only(void **state)
{
        struct probe_context c = context(400);
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, TESTNET_HOST4);
        double rtt_ms = 0;
        int fd;

        (void)state;
        measurement_free(testnet_probe(&c, &spec)); /* a service without TLS */
        spec.tls = SERVICE_TLS_SERVER;
        spec.purpose = PURPOSE_SIBLING;
        measurement_free(testnet_probe(&c, &spec));
        spec.purpose = PURPOSE_SERVICE;
        assert_null(c.kept);
        measurement_free(testnet_probe(&c, &spec));
        fd = probe_take_socket(&c, &spec, &rtt_ms);
        assert_true(fd >= 0);
        assert_true(rtt_ms > 0);
        assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
        close(fd);
        assert_int_equal(probe_take_socket(&c, &spec, &rtt_ms), -1);
        strcpy(spec.interface, "eth0");
        measurement_free(testnet_probe(&c, &spec));
        assert_null(c.kept);
        probe_context_done(&c);
}

static void test_reset_by_host_and_by_router(void **state)
{
        (void)state;
        for (size_t i = 0; i < ELEMENTS(both); i++) {
                struct endpoint closed;
                char text[INET_ADDR_TEXT];

                assert_int_equal(endpoint_parse(both[i], &closed), 0);
                closed.port = 81;
                _measured_ struct measurement *m = connect_to(endpoint_format(&closed, text));
                assert_int_equal(m->outcome, OUTCOME_RESET);
                assert_int_equal(m->error_number, ECONNREFUSED);
                assert_false(inet_addr_is_set(&m->by));
                assert_int_equal(m->reply_seen, NO);
                assert_string_equal(m->reply_interface, "eth0");
                assert_int_equal(m->reply_ttl, 63);

                testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 reject with tcp reset");
                _measured_ struct measurement *forged = connect_to(both[i]);
                assert_int_equal(forged->outcome, OUTCOME_RESET);
                assert_int_equal(forged->reply_ttl, 64);
                testnet_clear(NULL);
        }
}

static void expect_rejected(const char *target, const char *by, int type, int code)
{
        _measured_ struct measurement *m = connect_to(target);
        char text[INET_ADDR_TEXT];

        assert_int_equal(m->outcome, OUTCOME_REJECTED);
        assert_string_equal(inet_addr_format(&m->by, text), by);
        assert_int_equal(m->icmp_type, type);
        assert_int_equal(m->icmp_code, code);
        assert_true(m->error_number > 0);
        assert_true(m->took_ms < 390);
}

static void test_rejected_with_any_icmp(void **state)
{
        static const struct {
                const char *word;
                int code4, code6;
        } rejections[] = {{"admin-prohibited", 13, 1}, {"port-unreachable", 3, 4}, {"host-unreachable", 1, 3},
                {"no-route", 0, 0}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(rejections); i++) {
                char rule[128];

                snprintf(rule, sizeof(rule), "tcp dport 443 reject with icmpx type %s", rejections[i].word);
                testnet_rule(TESTNET_ROUTER_NS, "forward", rule);
                expect_rejected(TESTNET_HOST4, "10.1.0.1", 3, rejections[i].code4);
                expect_rejected(TESTNET_HOST6, "2001:db8:1::1", 1, rejections[i].code6);
                testnet_clear(NULL);
        }
        testnet_rule(TESTNET_NODE_NS, "output", "tcp dport 443 reject");
        expect_rejected(TESTNET_HOST4, TESTNET_NODE, 3, 3);
        expect_rejected(TESTNET_HOST6, "2001:db8:1::2", 1, 4);
}

static void test_silence(void **state)
{
        (void)state;
        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 drop");
        for (size_t i = 0; i < ELEMENTS(both); i++) {
                _measured_ struct measurement *m = connect_to(both[i]);

                assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
                assert_int_equal(m->tries, 3); /* at 0, 100 and 250 of 400 ms */
                assert_int_equal(m->syns_unanswered, 3);
                assert_true(m->took_ms >= 400 && m->took_ms < 1500);
                assert_int_equal(m->left_host, YES);
                assert_int_equal(m->reply_seen, NO);
                assert_string_equal(m->source, i ? "2001:db8:1::2" : TESTNET_NODE);
        }
}

static void test_this_machine_drops_what_goes_out(void **state)
{
        (void)state;
        testnet_rule(TESTNET_NODE_NS, "output", "tcp dport 443 drop");
        _measured_ struct measurement *dropped = connect_to(TESTNET_HOST4);
        assert_int_equal(dropped->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(dropped->left_host, NO);
        assert_int_equal(dropped->reply_seen, NO);
        testnet_clear(NULL);

        testnet_rule(TESTNET_NODE_NS, "output", "tcp dport 443 reject with tcp reset");
        _measured_ struct measurement *reset = connect_to(TESTNET_HOST4);
        assert_int_equal(reset->outcome, OUTCOME_RESET);
        assert_int_equal(reset->left_host, NO);
        assert_string_equal(reset->reply_interface, "lo");
}

static void test_this_machine_discards_what_comes_in(void **state)
{
        (void)state;
        testnet_rule(TESTNET_NODE_NS, "input", "tcp sport 443 drop");
        for (size_t i = 0; i < ELEMENTS(both); i++) {
                _measured_ struct measurement *m = connect_to(both[i]);

                assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
                assert_int_equal(m->left_host, YES);
                assert_int_equal(m->reply_seen, YES);
                assert_string_equal(m->reply_interface, "eth0");
                assert_int_equal(m->reply_ttl, 63);
        }
}

/* Ports that are rewritten on the way out cannot be recognised: nothing is claimed of them. */
static void test_rewritten_ports_are_unknown_and_not_missing(void **state)
{
        (void)state;
        testnet_run(TESTNET_NODE_NS,
                "nft 'add table ip n; add chain ip n p { type nat hook postrouting priority 100; }; "
                "add rule ip n p masquerade random'");
        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 drop");
        _measured_ struct measurement *m = connect_to(TESTNET_HOST4);
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(m->left_host, UNKNOWN);
        assert_int_equal(m->reply_seen, UNKNOWN);
}

static void test_a_lost_syn_costs_little(void **state)
{
        (void)state;
        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 ct state new numgen inc mod 8 < 1 drop");
        _measured_ struct measurement *m = connect_to(TESTNET_HOST4);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->tries, 2);
        assert_int_equal(m->syns_unanswered, 1);
        assert_true(m->took_ms >= 100 && m->took_ms < 390);
        assert_true(m->rtt_ms < 100);
}

static void expect_local_error(struct probe_context *c, const struct probe_spec *spec, int error_number)
{
        _measured_ struct measurement *m = testnet_probe(c, spec);

        assert_int_equal(m->outcome, OUTCOME_LOCAL_ERROR);
        assert_int_equal(m->error_number, error_number);
        assert_false(inet_addr_is_set(&m->by));
}

static void test_errors_of_this_machine(void **state)
{
        static const struct {
                const char *type;
                int error_number;
        } routes[] = {{"unreachable", EHOSTUNREACH}, {"prohibit", EACCES}, {"blackhole", EINVAL},
                {"throw", ENETUNREACH}};
        struct probe_context c = context(300);
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, "203.0.113.7:443");

        (void)state;
        testnet_run(TESTNET_NODE_NS, "ip route del default");
        expect_local_error(&c, &spec, ENETUNREACH);
        for (size_t i = 0; i < ELEMENTS(routes); i++) {
                testnet_run(TESTNET_NODE_NS, "ip route add %s 203.0.113.0/24", routes[i].type);
                expect_local_error(&c, &spec, routes[i].error_number);
                testnet_run(TESTNET_NODE_NS, "ip route del %s 203.0.113.0/24", routes[i].type);
        }
        testnet_run(TESTNET_NODE_NS, "ip route add default via 10.1.0.1");
        strcpy(spec.interface, "nosuch0");
        expect_local_error(&c, &spec, ENODEV);
        spec.interface[0] = 0;
        assert_int_equal(inet_addr_parse("10.1.0.99", &c.source), 0);
        expect_local_error(&c, &spec, EADDRNOTAVAIL);
        probe_context_done(&c);
}

/* The kernel gives the neighbour up by an ICMP error to itself. */
static void test_neighbour_that_does_not_answer(void **state)
{
        struct probe_context c = context(2000);
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, "10.1.0.77:443");

        (void)state;
        testnet_run(TESTNET_NODE_NS, "sh -c 'echo 200 >/proc/sys/net/ipv4/neigh/eth0/retrans_time_ms'");
        _measured_ struct measurement *m = testnet_probe(&c, &spec);
        assert_int_equal(m->outcome, OUTCOME_LOCAL_ERROR);
        assert_int_equal(m->error_number, EHOSTUNREACH);
        assert_true(m->took_ms >= 500 && m->took_ms < 1900);
        probe_context_done(&c);
}

static int on_raise(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        ((struct probe_context *)userdata)->patience_ms = 900;
        return 0;
}

static void test_patience_may_grow(void **state)
{
        struct probe_context c = context(300);
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, TESTNET_HOST4);
        sd_event_source *raise = NULL;

        (void)state;
        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 drop");
        assert_true(
                sd_event_add_time_relative(c.event, &raise, CLOCK_MONOTONIC, 200000, 0, on_raise, &c) >= 0);
        _measured_ struct measurement *m = testnet_probe(&c, &spec);
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(m->tries, 5);
        assert_true(m->took_ms >= 900 && m->took_ms < 2000);
        sd_event_source_disable_unref(raise);
        probe_context_done(&c);
}

struct crowd {
        unsigned reported, timed_out, tries;
};

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        struct crowd *crowd = userdata;

        (void)p;
        crowd->reported++;
        crowd->timed_out += m->outcome == OUTCOME_TIMEOUT;
        crowd->tries += (unsigned)m->tries;
        measurement_free(m);
}

/* As many as a large profile has, with fewer descriptors than all their tries would take. */
static void test_many_at_once_with_few_descriptors(void **state)
{
        struct probe_context c = context(400);
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, TESTNET_HOST4);
        struct rlimit before, few = {.rlim_cur = 100};
        struct crowd crowd = {0};

        (void)state;
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
        few.rlim_max = before.rlim_max;
        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 drop");
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
        for (int i = 0; i < 64; i++)
                assert_int_equal(probe_start(&c, &spec, on_result, &crowd, NULL), 0);
        while (crowd.reported < 64)
                assert_true(sd_event_run(c.event, UINT64_MAX) >= 0);
        assert_int_equal(crowd.timed_out, 64);
        assert_in_range(crowd.tries, 65, 100);
        assert_true(probe_context_now_ms(&c) < 2000);
        probe_context_done(&c);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
}

static void test_abandoned(void **state)
{
        struct probe_context c = context(5000);
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, TESTNET_HOST4);
        struct crowd crowd = {0};
        struct probe *p = NULL;

        (void)state;
        assert_int_equal(probe_start(&c, &spec, on_result, &crowd, &p), 0);
        probe_abandon(p, "the time was up");
        assert_int_equal(crowd.reported, 1);
        assert_int_equal(crowd.timed_out, 0);
        assert_int_equal(crowd.tries, 1);
        probe_context_done(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_connects),
                cmocka_unit_test(test_connected_socket_is_kept_for_tls_only),
                cmocka_unit_test_teardown(test_reset_by_host_and_by_router, testnet_clear),
                cmocka_unit_test_teardown(test_rejected_with_any_icmp, testnet_clear),
                cmocka_unit_test_teardown(test_silence, testnet_clear),
                cmocka_unit_test_teardown(test_this_machine_drops_what_goes_out, testnet_clear),
                cmocka_unit_test_teardown(test_this_machine_discards_what_comes_in, testnet_clear),
                cmocka_unit_test_teardown(test_rewritten_ports_are_unknown_and_not_missing, testnet_clear),
                cmocka_unit_test_teardown(test_a_lost_syn_costs_little, testnet_clear),
                cmocka_unit_test(test_errors_of_this_machine),
                cmocka_unit_test(test_neighbour_that_does_not_answer),
                cmocka_unit_test_teardown(test_patience_may_grow, testnet_clear),
                cmocka_unit_test_teardown(test_many_at_once_with_few_descriptors, testnet_clear),
                cmocka_unit_test(test_abandoned),
        };

        return cmocka_run_group_tests(tests, testnet_up, testnet_down);
}
