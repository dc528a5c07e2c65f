// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <string.h>

/* ---- can it be asked ---- */

static void test_second_server_dead(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, DNS2);
        assert_story(&s, "degraded", "(dns.unreachable)");
        assert_string_equal(story_targets(&s, "dns.unreachable"), DNS2);
        assert_string_equal(story_states(&s), "repo=degraded control=degraded");
}

/* One lost datagram beside answers is no dead server. */
static void test_one_lost_question(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server_row(&s, DNS1, TRANSPORT_UDP, REPO)->reply_seen = NO;
        story_server_row(&s, DNS1, TRANSPORT_UDP, REPO)->answered = NO;
        story_server_row(&s, DNS1, TRANSPORT_UDP, REPO)->outcome = OUTCOME_TIMEOUT;
        assert_story(&s, "healthy", "");
}

static void test_both_dead(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, NULL);
        /* The profile's addresses are what the node falls back to. */
        assert_story(&s, "degraded", "(dns.unreachable)");
        assert_string_equal(story_targets(&s, "dns.unreachable"), DNS1 " " DNS2);
}

static void test_both_dead_without_addresses(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_addresses(&s);
        story_server_dead(&s, NULL);
        story_drop(&s, MEASUREMENT_TCP, NULL);
        story_drop(&s, MEASUREMENT_TLS, NULL);
        story_drop(&s, MEASUREMENT_HTTP, NULL);
        assert_story(&s, "blocked", "dns.unreachable");
        assert_string_equal(story_states(&s), "repo=blocked control=blocked");
}

static void test_rejected_by_firewall(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS1, TRANSPORT_UDP, OUTCOME_REJECTED);
        story_server(&s, DNS1, TRANSPORT_TCP, OUTCOME_REJECTED);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->spec.kind == MEASUREMENT_DNS &&
                        s.list.items[i]->outcome == OUTCOME_REJECTED &&
                        s.list.items[i]->spec.purpose == PURPOSE_SERVICE)
                        inet_addr_parse(GATEWAY, &s.list.items[i]->by);
        assert_story(&s, "degraded", "(dns.unreachable)");
        assert_true(story_cause(&s, "dns.unreachable")->by.known);
        assert_int_equal(story_cause(&s, "dns.unreachable")->by.hop, 1);
}

static void test_udp_blocked(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, NULL, TRANSPORT_UDP, OUTCOME_TIMEOUT);
        assert_story(&s, "degraded", "(dns.udp_blocked)");
}

static void test_tcp_blocked(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, NULL, TRANSPORT_TCP, OUTCOME_TIMEOUT);
        /* Works today. */
        assert_story(&s, "healthy", "(dns.tcp_blocked)");
}

/* UDP dead at one server, TCP at the other: each by itself. */
static void test_one_transport_each(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS1, TRANSPORT_UDP, OUTCOME_TIMEOUT);
        story_server(&s, DNS2, TRANSPORT_TCP, OUTCOME_TIMEOUT);
        assert_story(&s, "degraded", "(dns.udp_blocked) (dns.tcp_blocked)");
        assert_string_equal(story_targets(&s, "dns.udp_blocked"), DNS1);
        assert_string_equal(story_targets(&s, "dns.tcp_blocked"), DNS2);
}

/* Nothing listens there: the server's own port unreachable, and its own RST. */
static void test_no_service(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS1, TRANSPORT_UDP, OUTCOME_REJECTED);
        story_server(&s, DNS1, TRANSPORT_TCP, OUTCOME_RESET);
        for (size_t i = 0; i < s.list.count; i++) {
                struct measurement *m = s.list.items[i];

                if (m->spec.kind != MEASUREMENT_DNS || m->spec.purpose != PURPOSE_SERVICE)
                        continue;
                if (m->outcome == OUTCOME_REJECTED)
                        m->by = m->spec.target.address;
                if (m->outcome == OUTCOME_RESET)
                        m->reply_ttl = STORY_TTL;
        }
        assert_story(&s, "degraded", "(dns.refused)");
        assert_string_equal(story_targets(&s, "dns.refused"), DNS1);
}

/* A server that serves UDP alone, and a firewall that resets TCP 53 in its name. */
static void test_reset_on_tcp(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS1, TRANSPORT_TCP, OUTCOME_RESET);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->outcome == OUTCOME_RESET)
                        s.list.items[i]->reply_ttl = STORY_TTL;
        assert_story(&s, "healthy", "(dns.refused)");
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->outcome == OUTCOME_RESET)
                        s.list.items[i]->reply_ttl = 64;
        assert_story(&s, "healthy", "(dns.tcp_blocked)");
}

/* ---- what it says ---- */

static void test_refused(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rcode(&s, DNS1, NULL, 5);
        assert_story(&s, "degraded", "(dns.refused)");
        assert_non_null(strstr(story_cause(&s, "dns.refused")->summary, "REFUSED"));
}

static void test_no_such_name(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rcode(&s, NULL, NULL, 3);
        assert_story(&s, "degraded", "(dns.no_such_name)");
        assert_string_equal(story_targets(&s, "dns.no_such_name"), DNS1 " " DNS2);
}

static void test_no_data(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_data(&s, DNS1, REPO);
        assert_story(&s, "degraded", "(dns.no_such_name)");
        assert_string_equal(story_states(&s), "repo=degraded control=ok");
}

/* No IPv6 address is the rule, not a fault: story_healthy has NODATA for every AAAA. NXDOMAIN for AAAA alone
 * is a broken server that serves all the same. */
static void test_no_ipv6(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->spec.kind == MEASUREMENT_DNS && s.list.items[i]->spec.dns_type == 28) {
                        s.list.items[i]->outcome = OUTCOME_RCODE;
                        s.list.items[i]->rcode = 3;
                }
        assert_story(&s, "healthy", "");
}

static void test_server_failure(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rcode(&s, DNS2, NULL, 2);
        assert_story(&s, "degraded", "(dns.server_failure)");
        assert_string_equal(story_targets(&s, "dns.server_failure"), DNS2);
}

/* SERVFAIL over UDP at once, the answer over TCP: the name is there. */
static void test_failure_on_one_transport(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_server_row(&s, DNS1, TRANSPORT_UDP, REPO);
        m->outcome = OUTCOME_RCODE;
        m->rcode = 2;
        strv_done(&m->addresses);
        assert_story(&s, "healthy", "");
}

static void test_wrong_answer(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_answer(&s, DNS2, REPO, "203.0.113.99");
        assert_story(&s, "degraded", "(dns.wrong_answer)");
        assert_string_equal(story_targets(&s, "dns.wrong_answer"), DNS2);
        assert_non_null(strstr(story_cause(&s, "dns.wrong_answer")->summary, "203.0.113.99"));
}

static void test_sinkhole_is_named(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_answer(&s, NULL, REPO, "10.0.0.1");
        assert_story(&s, "degraded", "(dns.wrong_answer)");
        assert_non_null(strstr(story_cause(&s, "dns.wrong_answer")->summary, "private"));
}

static void test_sinkhole_without_addresses(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_addresses(&s);
        story_answer(&s, NULL, REPO, "0.0.0.0");
        assert_story(&s, "blocked", "dns.wrong_answer");
        assert_string_equal(story_states(&s), "repo=blocked control=ok");
}

/* A range that the profile knows, and an address that it does not list: fine. */
static void test_new_address_inside_the_ranges(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_answer(&s, DNS2, REPO, "203.0.113.200");
        assert_story(&s, "healthy", "");
}

/* ---- servers that differ ---- */

static void test_disagree_without_ranges(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_ranges(&s);
        story_no_addresses(&s);
        story_answer(&s, DNS1, REPO, "198.51.100.20");
        story_answer(&s, DNS2, REPO, "203.0.113.200");
        assert_story(&s, "degraded", "(dns.servers_disagree)");
}

/* The same servers, and a profile that says which is right. */
static void test_disagree_with_ranges(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_answer(&s, DNS1, REPO, "198.51.100.20");
        story_answer(&s, DNS2, REPO, "203.0.113.20");
        assert_story(&s, "degraded", "(dns.wrong_answer)");
        story_rcode(&s, DNS2, REPO, 3);
        assert_story(&s, "degraded", "(dns.no_such_name)");
}

/* Servers that hand the same addresses out in turns do not disagree. */
static void test_rotation(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_ranges(&s);
        story_answer(&s, DNS1, REPO, "198.51.100.20");
        assert_story(&s, "healthy", "");
        /* Each gives another one of those that the profile lists. */
        story_answer(&s, DNS2, REPO, "203.0.113.200");
        assert_story(&s, "healthy", "");
}

/* Without ranges a bogon is still no control plane. */
static void test_bogon_without_ranges(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_ranges(&s);
        story_answer(&s, NULL, REPO, "127.0.0.1");
        assert_story(&s, "degraded", "(dns.wrong_answer)");
}

/* ---- who answers ---- */

static void test_intercepted(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_interception(&s, "198.51.100.20:53");
        story_interception(&s, "203.0.113.200:53");
        /* It tells the truth for now. */
        assert_story(&s, "healthy", "(dns.intercepted)");
}

static void test_intercepted_lies(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_interception(&s, "198.51.100.20:53");
        story_interception(&s, "203.0.113.200:53");
        story_answer(&s, NULL, REPO, "203.0.113.99");
        /* Nobody knows what the configured servers would say. */
        assert_story(&s, "degraded", "(dns.intercepted)");
        assert_int_equal(story_server_row(&s, DNS1, TRANSPORT_UDP, REPO)->status, STATUS_VOID);
}

/* Somebody else's refusal is not an answer. */
static void test_interception_probe_rejected(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        inet_addr_parse(
                GATEWAY, &story_find(&s, MEASUREMENT_DNS, PURPOSE_INTERCEPTION, "198.51.100.20:53")->by);
        story_find(&s, MEASUREMENT_DNS, PURPOSE_INTERCEPTION, "203.0.113.200:53")->outcome = OUTCOME_TIMEOUT;
        assert_story(&s, "healthy", "");
}

/* ---- a host without a profile ---- */

static void test_no_profile(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_drop(&s, MEASUREMENT_PROFILE, NULL);
        story_drop(&s, MEASUREMENT_SERVICE, NULL);
        story_drop(&s, MEASUREMENT_TCP, NULL);
        story_drop(&s, MEASUREMENT_TLS, NULL);
        story_drop(&s, MEASUREMENT_HTTP, NULL);
        assert_story(&s, "healthy", "");
        story_server_dead(&s, DNS1);
        assert_story(&s, "degraded", "(dns.unreachable)");
        /* Silent DNS servers alone are silent DNS servers. */
        story_server_dead(&s, NULL);
        assert_story(&s, "degraded", "(dns.unreachable)");
}

static void test_tcp_refused_by_firewall(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS1, TRANSPORT_TCP, OUTCOME_REJECTED);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->spec.kind == MEASUREMENT_DNS &&
                        s.list.items[i]->spec.transport == TRANSPORT_TCP &&
                        s.list.items[i]->outcome == OUTCOME_REJECTED)
                        inet_addr_parse(GATEWAY, &s.list.items[i]->by);
        assert_story(&s, "healthy", "(dns.tcp_blocked)");
        assert_non_null(strstr(story_cause(&s, "dns.tcp_blocked")->summary, GATEWAY));
}

/* Dropped over UDP and reset over TCP; and no UDP service where TCP answers. */
static void test_mixed_refusals(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS1, TRANSPORT_UDP, OUTCOME_TIMEOUT);
        story_server(&s, DNS1, TRANSPORT_TCP, OUTCOME_RESET);
        story_server(&s, DNS2, TRANSPORT_UDP, OUTCOME_RESET);
        assert_story(&s, "degraded", "(dns.refused)");
        assert_string_equal(story_targets(&s, "dns.refused"), DNS1 " " DNS2);
}

static void test_no_dns_message(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS2, TRANSPORT_UDP, OUTCOME_MALFORMED);
        story_server(&s, DNS2, TRANSPORT_TCP, OUTCOME_MALFORMED);
        assert_story(&s, "degraded", "(dns.server_failure)");
}

/* The time was over before anything came: not tested, and nobody's fault. */
static void test_not_tested(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS2, TRANSPORT_UDP, OUTCOME_NOT_TESTED);
        story_server(&s, DNS2, TRANSPORT_TCP, OUTCOME_NOT_TESTED);
        assert_story(&s, "healthy", "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_second_server_dead),
                cmocka_unit_test(test_one_lost_question),
                cmocka_unit_test(test_both_dead),
                cmocka_unit_test(test_both_dead_without_addresses),
                cmocka_unit_test(test_rejected_by_firewall),
                cmocka_unit_test(test_udp_blocked),
                cmocka_unit_test(test_tcp_blocked),
                cmocka_unit_test(test_one_transport_each),
                cmocka_unit_test(test_no_service),
                cmocka_unit_test(test_reset_on_tcp),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_no_such_name),
                cmocka_unit_test(test_no_data),
                cmocka_unit_test(test_no_ipv6),
                cmocka_unit_test(test_server_failure),
                cmocka_unit_test(test_failure_on_one_transport),
                cmocka_unit_test(test_wrong_answer),
                cmocka_unit_test(test_sinkhole_is_named),
                cmocka_unit_test(test_sinkhole_without_addresses),
                cmocka_unit_test(test_new_address_inside_the_ranges),
                cmocka_unit_test(test_disagree_without_ranges),
                cmocka_unit_test(test_disagree_with_ranges),
                cmocka_unit_test(test_rotation),
                cmocka_unit_test(test_bogon_without_ranges),
                cmocka_unit_test(test_intercepted),
                cmocka_unit_test(test_intercepted_lies),
                cmocka_unit_test(test_interception_probe_rejected),
                cmocka_unit_test(test_no_profile),
                cmocka_unit_test(test_tcp_refused_by_firewall),
                cmocka_unit_test(test_mixed_refusals),
                cmocka_unit_test(test_no_dns_message),
                cmocka_unit_test(test_not_tested),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
