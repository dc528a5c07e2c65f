// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include <errno.h>
#include <string.h>

static struct inet_addr address(const char *text)
{
        struct inet_addr a;

        assert_int_equal(inet_addr_parse(text, &a), 0);
        return a;
}

static struct endpoint endpoint(const char *text)
{
        struct endpoint e;

        assert_int_equal(endpoint_parse(text, &e), 0);
        return e;
}

static void clean(struct facts *f)
{
        facts_done(f);
}
#define _facts_ _cleanup_(clean) struct facts

static struct target *target(struct facts *f, const char *text)
{
        struct endpoint e = endpoint(text);
        struct target *t = facts_target(f, &e, "");

        assert_non_null(t);
        return t;
}

static void test_empty(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        struct inet_addr a = address("198.51.100.20");

        (void)state;
        facts_build(&f, &s.list);
        assert_null(f.site);
        assert_int_equal(f.service_count, 0);
        assert_string_equal(facts_wan(&f), "");
        assert_true(facts_in_ranges(&f, &a));
        assert_int_equal(facts_range_of(&f, &a), -1);
}

static void test_healthy(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};

        (void)state;
        story_healthy(&s);
        facts_build(&f, &s.list);
        assert_int_equal(f.service_count, 2);
        assert_int_equal(f.server_count, 2);
        assert_int_equal(f.range_count, 2);
        assert_int_equal(f.services[0].target_count, 2);
        assert_true(f.services[0].resolved);
        assert_string_equal(facts_wan(&f), "eth0");
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(f.servers[i].endpoint.port, 53);
                assert_int_equal(f.servers[i].udp, TRANSPORT_ANSWERS);
                assert_int_equal(f.servers[i].tcp, TRANSPORT_ANSWERS);
                assert_false(f.servers[i].captured);
        }
        assert_non_null(f.link);
        assert_non_null(f.address);
        assert_non_null(f.arp_gateway);
        assert_int_equal(f.arp_conflict->spec.purpose, PURPOSE_CONFLICT);
        assert_int_equal(f.lost, 0);
        assert_true(f.rtt_max_ms >= 20 && f.rtt_max_ms < 22);
}

static void test_target(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        struct target *t;

        (void)state;
        story_healthy(&s);
        facts_build(&f, &s.list);
        t = target(&f, REPO2);
        assert_true(t->from_profile && t->from_dns);
        assert_int_equal(t->range, 1);
        assert_ptr_equal(t->service, &f.services[0]);
        assert_non_null(t->tcp);
        assert_non_null(t->tls);
        assert_non_null(t->route);
        assert_null(t->http);
        assert_non_null(target(&f, REPO1)->http);
        assert_null(facts_target(&f, &t->endpoint, "control"));
}

/* Answers outside the ranges give no target. */
static void test_strangers_are_no_targets(void **state)
{
        _story_ s = {0};
        _facts_ f = {0}, anything = {0};

        (void)state;
        story_healthy(&s);
        story_no_addresses(&s);
        story_answer(&s, NULL, REPO, "203.0.113.99");
        facts_build(&f, &s.list);
        assert_int_equal(f.services[0].target_count, 0);
        assert_false(f.services[0].resolved);
        assert_int_equal(f.services[1].target_count, 2);
        /* Without ranges nothing says that it is a stranger. */
        story_no_ranges(&s);
        facts_build(&anything, &s.list);
        assert_int_equal(anything.services[0].target_count, 1);
        assert_int_equal(anything.services[0].targets[0].range, -1);
}

/* What answers in other hosts' names, and what a proxy's name resolves to, gives none either. */
static void test_other_questions_give_no_targets(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_find(&s, MEASUREMENT_DNS, PURPOSE_INTERCEPTION, "198.51.100.20:53");
        m->outcome = OUTCOME_OK;
        m->answered = YES;
        strv_add(&m->addresses, "198.51.100.30");
        facts_build(&f, &s.list);
        assert_int_equal(f.services[0].target_count, 2);
}

/* An answer outweighs any failure, and a refusal silence. */
static void test_transports(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, DNS1);
        story_server(&s, DNS2, TRANSPORT_UDP, OUTCOME_TIMEOUT);
        m = story_server_row(&s, DNS2, TRANSPORT_UDP, CONTROL);
        m->outcome = OUTCOME_REJECTED;
        m->by = address(GATEWAY);
        story_server(&s, DNS2, TRANSPORT_TCP, OUTCOME_TIMEOUT);
        story_server_row(&s, DNS2, TRANSPORT_TCP, CONTROL)->outcome = OUTCOME_OK;
        facts_build(&f, &s.list);
        assert_int_equal(f.servers[0].udp, TRANSPORT_DEAD);
        assert_int_equal(f.servers[0].tcp, TRANSPORT_DEAD);
        assert_int_equal(f.servers[1].udp, TRANSPORT_REJECTED);
        assert_ptr_equal(f.servers[1].udp_row, m);
        assert_int_equal(f.servers[1].tcp, TRANSPORT_ANSWERS);
}

static void test_transport_words(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};

        (void)state;
        story_healthy(&s);
        /* Nobody on our own segment answers ARP: silence. No route: this host's own error. */
        story_server(&s, DNS1, TRANSPORT_UDP, OUTCOME_LOCAL_ERROR);
        story_server(&s, DNS1, TRANSPORT_TCP, OUTCOME_RESET);
        story_server(&s, DNS2, TRANSPORT_UDP, OUTCOME_LOCAL_ERROR);
        story_server(&s, DNS2, TRANSPORT_TCP, OUTCOME_NOT_TESTED);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->outcome == OUTCOME_LOCAL_ERROR)
                        s.list.items[i]->error_number = s.list.items[i]->spec.target.address.bytes[0] == 198
                                                                ? EHOSTUNREACH
                                                                : ENETUNREACH;
        facts_build(&f, &s.list);
        assert_int_equal(f.servers[0].udp, TRANSPORT_DEAD);
        assert_int_equal(f.servers[0].tcp, TRANSPORT_REFUSED);
        assert_int_equal(f.servers[1].udp, TRANSPORT_HOST_ERROR);
        assert_int_equal(f.servers[1].tcp, TRANSPORT_UNTESTED);
}

static void test_captured(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};

        (void)state;
        story_healthy(&s);
        story_route(&s, DNS2, "203.0.113.0/24 via 10.20.0.1", "eth1");
        story_route(&s, REPO2, "203.0.113.0/24 via 10.20.0.1", "eth1");
        /* A DNS server of this very host. */
        story_route(&s, DNS1, "198.51.100.53/32", "lo");
        facts_build(&f, &s.list);
        assert_true(f.servers[1].captured);
        assert_false(f.servers[0].captured);
        assert_true(target(&f, REPO2)->captured);
        assert_false(target(&f, REPO1)->captured);
}

static void test_own_addresses(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        static const char *const own[] = {"192.0.2.10", "127.0.0.1", "::1"};
        static const char *const foreign[] = {"192.0.2.1", "192.0.2.100", "192.0.2.101", "198.51.100.20"};
        struct inet_addr a;

        (void)state;
        story_healthy(&s);
        facts_build(&f, &s.list);
        for (size_t i = 0; i < ELEMENTS(own); i++) {
                a = address(own[i]);
                assert_true(facts_is_own_address(&f, &a));
        }
        for (size_t i = 0; i < ELEMENTS(foreign); i++) {
                a = address(foreign[i]);
                assert_false(facts_is_own_address(&f, &a));
        }
}

static void test_answers(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        struct measurement *ok, *silent, *refused, *own, *lo;

        (void)state;
        story_healthy(&s);
        ok = story_tcp(&s, REPO1, OUTCOME_OK);
        silent = story_tcp(&s, REPO2, OUTCOME_TIMEOUT);
        refused = story_rejected(&s, CONTROL1, GATEWAY);
        own = story_rejected(&s, CONTROL2, "192.0.2.10");
        lo = story_repeat(&s, REPO1, OUTCOME_RESET);
        str_copy(lo->reply_interface, sizeof lo->reply_interface, "lo");
        facts_build(&f, &s.list);
        assert_true(facts_is_answer(&f, ok));
        assert_false(facts_is_answer(&f, silent));
        assert_true(facts_is_answer(&f, refused));
        assert_false(facts_is_answer(&f, own));
        assert_false(facts_is_answer(&f, lo));
}

static void test_loss(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};

        (void)state;
        story_healthy(&s);
        story_tcp(&s, REPO1, OUTCOME_OK)->syns_unanswered = 2;
        /* Silence beside a refusal is the router's limit. */
        story_rejected(&s, CONTROL1, GATEWAY)->syns_unanswered = 3;
        /* And nobody knows what silence alone is. */
        story_tcp(&s, REPO2, OUTCOME_TIMEOUT)->syns_unanswered = 5;
        facts_build(&f, &s.list);
        assert_int_equal(f.lost, 2);
}

static void test_trace(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        struct endpoint repo = endpoint(REPO1), control = endpoint(CONTROL1);
        struct inet_addr gateway = address(GATEWAY), router = address(ROUTER), other = address("10.9.9.9");
        struct trace_facts t;

        (void)state;
        story_healthy(&s);
        story_hop(&s, REPO1, 4, HOP_UNREACHABLE, ROUTER);
        story_hop(&s, REPO1, 3, HOP_UNREACHABLE, ROUTER);
        story_hop(&s, REPO1, 2, HOP_SILENT, NULL);
        story_hop(&s, REPO1, 1, HOP_TIME_EXCEEDED, GATEWAY);
        facts_build(&f, &s.list);
        facts_trace(&f, &repo, &t);
        assert_true(t.traced);
        assert_int_equal(t.last.hop, 1);
        assert_true(inet_addr_equal(&t.last.address, &gateway));
        assert_int_equal(t.answer_ttl, 3);
        assert_int_equal(t.answer, HOP_UNREACHABLE);
        facts_trace(&f, &control, &t);
        assert_false(t.traced);
        assert_false(t.last.known);
        /* A router refuses what it would forward: its first refusal comes one TTL beyond its own hop. */
        assert_int_equal(facts_hop_of(&f, &router), 2);
        assert_int_equal(facts_hop_of(&f, &gateway), 1);
        assert_int_equal(facts_hop_of(&f, &other), 0);
}

/* The gateway is hop 1 though nothing was traced. */
static void test_gateway_is_hop_one(void **state)
{
        _story_ s = {0};
        _facts_ f = {0};
        struct inet_addr gateway = address(GATEWAY);

        (void)state;
        story_healthy(&s);
        facts_build(&f, &s.list);
        assert_int_equal(facts_hop_of(&f, &gateway), 1);
}

static void test_next_hop(void **state)
{
        _story_ s = {0};
        _facts_ before = {0}, f = {0};
        struct endpoint repo = endpoint(REPO1);
        struct trace_facts t;

        (void)state;
        story_healthy(&s);
        story_hop(&s, REPO1, 1, HOP_TIME_EXCEEDED, GATEWAY);
        story_hop(&s, REPO1, 2, HOP_SILENT, NULL);
        facts_build(&before, &s.list);
        facts_trace(&before, &repo, &t);
        assert_false(facts_next_hop_speaks(&before, &t));
        story_hop(&s, CONTROL1, 2, HOP_TIME_EXCEEDED, ROUTER);
        facts_build(&f, &s.list);
        facts_trace(&f, &repo, &t);
        assert_true(facts_next_hop_speaks(&f, &t));
        /* Who asked earlier may have got the last error that there was. */
        s.list.items[s.list.count - 2]->at_ms = 20;
        s.list.items[s.list.count - 1]->at_ms = 10;
        assert_false(facts_next_hop_speaks(&f, &t));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_empty),
                cmocka_unit_test(test_healthy),
                cmocka_unit_test(test_target),
                cmocka_unit_test(test_strangers_are_no_targets),
                cmocka_unit_test(test_other_questions_give_no_targets),
                cmocka_unit_test(test_transports),
                cmocka_unit_test(test_transport_words),
                cmocka_unit_test(test_captured),
                cmocka_unit_test(test_own_addresses),
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_loss),
                cmocka_unit_test(test_trace),
                cmocka_unit_test(test_gateway_is_hop_one),
                cmocka_unit_test(test_next_hop),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
