// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include <string.h>

/* ---- dropped ---- */

static void test_dropped(void **state)
{
        _story_ s = {0};
        struct cause *c;

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        assert_story(&s, "blocked", "tcp.dropped");
        c = story_cause(&s, "tcp.dropped");
        assert_true(c->after.known);
        assert_int_equal(c->after.hop, 1);
        assert_false(c->by.known);
        assert_string_equal(story_targets(&s, "tcp.dropped"), REPO1 " " REPO2);
        assert_string_equal(story_states(&s), "repo=blocked control=ok");
}

static void test_dropped_further_on(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 2);
        story_trace(&s, REPO2, 2);
        assert_story(&s, "blocked", "tcp.dropped");
        assert_int_equal(story_cause(&s, "tcp.dropped")->after.hop, 2);
}

static void test_dropped_one_range(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_range(&s, "203.0.113.", 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO2, 1);
        assert_story(&s, "degraded", "(tcp.dropped)");
        assert_string_equal(story_targets(&s, "tcp.dropped"), REPO2);
        assert_string_equal(story_addresses(&s, "repo"), "198.51.100.20=ok 203.0.113.200=blocked");
}

static void test_dropped_both_services(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_port(&s, 8443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_trace(&s, CONTROL1, 1);
        story_trace(&s, CONTROL2, 1);
        assert_story(&s, "blocked", "tcp.dropped tcp.dropped");
        assert_string_equal(story_targets(&s, "tcp.dropped"), REPO1 " " REPO2 " " CONTROL1 " " CONTROL2);
}

/* A way that is only slow: the second SYN was answered. */
static void test_slow_is_not_dropped(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_tcp(&s, REPO1, OUTCOME_OK);
        m->syns_unanswered = 1;
        m->rtt_ms = 790;
        assert_story(&s, "healthy", "");
}

/* ---- dropped, seen badly ---- */

/* Without the right to watch, but the way was traced: the SYN did leave. */
static void test_dropped_without_capture(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_no_capture(&s);
        assert_story(&s, "blocked", "tcp.dropped");
}

/* Without the right and without a trace it may be this host's own firewall. */
static void test_blind(void **state)
{
        _story_ s = {0};
        struct cause *c;

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 0);
        story_no_capture(&s);
        assert_story(&s, "undetermined", "undetermined");
        c = story_cause(&s, "undetermined");
        assert_true(strv_contains(&c->candidates, "tcp.dropped"));
        assert_true(strv_contains(&c->candidates, "firewall.local"));
}

/* No router tells its name. Asked again after the limits on ICMP, and silent still: dropped. */
static void test_silent_way(void **state)
{
        _story_ s = {0};
        struct cause *c;

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 0);
        assert_story(&s, "undetermined", "undetermined");
        c = story_cause(&s, "undetermined");
        assert_true(strv_contains(&c->candidates, "tcp.rejected"));
        story_repeat(&s, REPO1, OUTCOME_TIMEOUT);
        story_repeat(&s, REPO2, OUTCOME_TIMEOUT);
        assert_story(&s, "blocked", "tcp.dropped");
        assert_false(story_cause(&s, "tcp.dropped")->after.known);
}

/* ---- rejected ---- */

static void test_rejected(void **state)
{
        _story_ s = {0};
        struct cause *c;

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO1, GATEWAY);
        story_rejected(&s, REPO2, GATEWAY);
        assert_story(&s, "blocked", "tcp.rejected");
        c = story_cause(&s, "tcp.rejected");
        assert_int_equal(c->by.hop, 1);
        assert_false(c->after.known);
}

/* A Linux router rejects what it would forward: its refusal first appears one TTL beyond its own hop. */
static void test_rejected_by_the_second_router(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO1, ROUTER);
        story_rejected(&s, REPO2, ROUTER);
        story_hop(&s, REPO1, 1, HOP_TIME_EXCEEDED, GATEWAY);
        story_hop(&s, REPO1, 3, HOP_UNREACHABLE, ROUTER);
        story_hop(&s, REPO1, 4, HOP_UNREACHABLE, ROUTER);
        assert_story(&s, "blocked", "tcp.rejected");
        assert_int_equal(story_cause(&s, "tcp.rejected")->by.hop, 2);
}

/* Its bucket of ICMP errors was empty for the second address: that one is rejected as well, not dropped. */
static void test_rejected_within_icmp_limits(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO1, GATEWAY);
        story_tcp(&s, REPO2, OUTCOME_TIMEOUT);
        assert_story(&s, "blocked", "tcp.rejected");
        assert_string_equal(story_targets(&s, "tcp.rejected"), REPO1 " " REPO2);
}

/* The same, and the second address's way is known to have told: it is dropped. */
static void test_rejected_and_dropped(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO1, GATEWAY);
        story_tcp(&s, REPO2, OUTCOME_TIMEOUT);
        story_trace(&s, REPO2, 1);
        story_repeat(&s, REPO2, OUTCOME_TIMEOUT);
        assert_story(&s, "blocked", "tcp.dropped tcp.rejected");
        assert_string_equal(story_targets(&s, "tcp.dropped"), REPO2);
}

/* Silent at first, refused when asked again. */
static void test_rejected_when_asked_again(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        for (int i = 0; i < 2; i++) {
                m = story_repeat(&s, i ? REPO2 : REPO1, OUTCOME_REJECTED);
                inet_addr_parse(GATEWAY, &m->by);
                m->icmp_type = 3;
                m->icmp_code = 13;
        }
        assert_story(&s, "blocked", "tcp.rejected");
}

/* "Port unreachable" from the host itself is no device on the way. */
static void test_rejected_by_the_host_itself(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO1, "198.51.100.20")->icmp_code = 3;
        story_rejected(&s, REPO2, "203.0.113.200")->icmp_code = 3;
        assert_story(&s, "blocked", "service.down");
        assert_int_equal(story_cause(&s, "service.down")->fixed_by, FIXED_BY_CONTROL_PLANE);
}

/* ---- reset ---- */

static void test_reset(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO1, 64);
        story_reset(&s, REPO2, 64);
        assert_story(&s, "blocked", "tcp.reset");
        assert_int_equal(story_cause(&s, "tcp.reset")->fixed_by, FIXED_BY_SITE);
}

/* Nearer than the host, whose other port answers. */
static void test_reset_further_on(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO1, 63);
        story_reset(&s, REPO2, 63);
        assert_story(&s, "blocked", "tcp.reset");
}

/* The host's own TTL: nothing listens there. */
static void test_service_down(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO1, STORY_TTL);
        story_reset(&s, REPO2, STORY_TTL);
        assert_story(&s, "blocked", "service.down");
        assert_int_equal(story_cause(&s, "service.down")->fixed_by, FIXED_BY_CONTROL_PLANE);
}

static void test_service_down_on_one_address(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO2, STORY_TTL);
        assert_story(&s, "degraded", "(service.down)");
        assert_string_equal(story_targets(&s, "service.down"), REPO2);
}

/* Somebody who wears the host's TTL: it answers at a TTL that does not reach the host. That may be a forger,
 * or a transparent proxy whose server is down: no name, and above all not the control plane's. */
static void test_reset_with_borrowed_ttl(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO1, STORY_TTL);
        story_reset(&s, REPO2, STORY_TTL);
        for (int i = 0; i < 2; i++) {
                story_hop(&s, i ? REPO2 : REPO1, 1, HOP_TIME_EXCEEDED, GATEWAY);
                story_hop(&s, i ? REPO2 : REPO1, 2, HOP_RESET, NULL);
                story_hop(&s, i ? CONTROL2 : CONTROL1, 2, HOP_TIME_EXCEEDED, ROUTER);
                story_hop(&s, i ? CONTROL2 : CONTROL1, 3, HOP_SYN_ACK, NULL);
        }
        assert_story(&s, "undetermined", "undetermined");
}

/* Everything refuses and nothing of the host answers: nothing tells who it is. */
static void test_reset_without_a_sibling(void **state)
{
        _story_ s = {0};
        static const char *const all[] = {REPO1, REPO2, CONTROL1, CONTROL2};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 4; i++)
                story_reset(&s, all[i], 62);
        assert_story(&s, "undetermined", "undetermined");
        assert_true(strv_contains(&story_cause(&s, "undetermined")->candidates, "service.down"));
        assert_true(strv_contains(&story_cause(&s, "undetermined")->candidates, "tcp.reset"));
}

static void test_reset_without_capture(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO1, 64);
        story_reset(&s, REPO2, 64);
        story_no_capture(&s);
        assert_story(&s, "undetermined", "undetermined");
}

/* A transparent proxy answers 8443 in the hosts' names from hop 1; the true hosts, further off, refuse 443:
 * hop distance alone proves nothing. */
static void test_reset_beside_a_transparent_proxy(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO1, 61);
        story_reset(&s, REPO2, 61);
        story_tcp(&s, CONTROL1, OUTCOME_OK)->reply_ttl = 64;
        story_tcp(&s, CONTROL2, OUTCOME_OK)->reply_ttl = 64;
        assert_story(&s, "undetermined", "undetermined");
}

/* One that takes all over and changes nothing. */
static void test_transparent_proxy(void **state)
{
        _story_ s = {0};
        static const char *const all[] = {REPO1, REPO2, CONTROL1, CONTROL2};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 4; i++) {
                story_tcp(&s, all[i], OUTCOME_OK)->reply_ttl = 64;
                story_hop(&s, all[i], 1, HOP_SYN_ACK, NULL);
        }
        assert_story(&s, "healthy", "");
}

/* ---- a proxy ---- */

static void test_proxy_required(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_proxy(&s, REPO1, 200);
        assert_story(&s, "degraded", "(http.proxy_required)");
        assert_string_equal(story_states(&s), "repo=degraded control=ok");
}

/* A proxy that passes what passes without it as well is not required. */
static void test_proxy_not_required(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_proxy(&s, REPO1, 200);
        assert_story(&s, "healthy", "");
}

/* Blocked, and the proxy does not answer either. */
static void test_proxy_is_no_help(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        m = story_proxy(&s, REPO1, 0);
        m->outcome = OUTCOME_TIMEOUT;
        m->stage = STAGE_TCP;
        assert_story(&s, "blocked", "tcp.dropped");
}

/* ---- several at once ---- */

static void test_independent_faults(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, NULL);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_rejected(&s, CONTROL2, ROUTER);
        assert_story(&s, "blocked", "tcp.dropped (dns.unreachable) (tcp.rejected)");
        assert_string_equal(story_states(&s), "repo=blocked control=degraded");
}

/* Blocked, and the configured proxy lets nobody through who does not sign in. */
static void test_proxy_demands_sign_in(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_proxy(&s, REPO1, 407);
        assert_story(&s, "blocked", "tcp.dropped http.proxy_required");
}

static void test_proxy_refuses(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_proxy(&s, REPO1, 403);
        assert_story(&s, "blocked", "tcp.dropped http.filtered");
        /* Where the service is reached without it, what the proxy refuses hurts nobody. */
        story_port(&s, 443, OUTCOME_OK);
        story_tls(&s, REPO1, OUTCOME_OK);
        story_tls(&s, REPO2, OUTCOME_OK);
        assert_story(&s, "healthy", "");
}

/* Each way of saying no has its words. */
static void test_words_of_refusal(void **state)
{
        static const struct {
                int code;
                const char *words;
        } rows[] = {{1, "host unreachable"}, {2, "protocol unreachable"}, {3, "port unreachable"},
                {13, "administratively prohibited"}, {7, "destination unreachable"}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _story_ s = {0};

                story_healthy(&s);
                story_rejected(&s, REPO1, GATEWAY)->icmp_code = rows[i].code;
                assert_story(&s, "degraded", "(tcp.rejected)");
                assert_non_null(strstr(story_cause(&s, "tcp.rejected")->summary, rows[i].words));
        }
}

/* A sign-in page that drops 443 and answers 80. */
static void test_portal_that_drops(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        m = story_add(&s, MEASUREMENT_HTTP, "198.51.100.20:80");
        str_copy(m->spec.service, sizeof m->spec.service, "repo");
        str_copy(m->spec.name, sizeof m->spec.name, REPO);
        m->spec.purpose = PURPOSE_PORTAL;
        m->spec.tls = SERVICE_TLS_NONE;
        m->stage = STAGE_HTTP;
        m->http_status = 511;
        assert_story(&s, "blocked", "http.captive_portal");
        /* The control plane's own web server on port 80 is no sign-in page. */
        m->http_status = 404;
        assert_story(&s, "blocked", "tcp.dropped");
}

/* Hop 1 told its name and nobody knows whether hop 2 ever would: its refusal may have fallen to its limits.
 */
static void test_next_hop_never_heard_of(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        for (int i = 0; i < 2; i++) {
                story_hop(&s, i ? REPO2 : REPO1, 1, HOP_TIME_EXCEEDED, GATEWAY);
                story_hop(&s, i ? REPO2 : REPO1, 2, HOP_SILENT, NULL);
        }
        assert_story(&s, "undetermined", "undetermined");
        /* Another flow heard of it. */
        story_hop(&s, CONTROL1, 2, HOP_TIME_EXCEEDED, ROUTER);
        assert_story(&s, "blocked", "tcp.dropped");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_dropped),
                cmocka_unit_test(test_dropped_further_on),
                cmocka_unit_test(test_dropped_one_range),
                cmocka_unit_test(test_dropped_both_services),
                cmocka_unit_test(test_slow_is_not_dropped),
                cmocka_unit_test(test_dropped_without_capture),
                cmocka_unit_test(test_blind),
                cmocka_unit_test(test_silent_way),
                cmocka_unit_test(test_rejected),
                cmocka_unit_test(test_rejected_by_the_second_router),
                cmocka_unit_test(test_rejected_within_icmp_limits),
                cmocka_unit_test(test_rejected_and_dropped),
                cmocka_unit_test(test_rejected_when_asked_again),
                cmocka_unit_test(test_rejected_by_the_host_itself),
                cmocka_unit_test(test_reset),
                cmocka_unit_test(test_reset_further_on),
                cmocka_unit_test(test_service_down),
                cmocka_unit_test(test_service_down_on_one_address),
                cmocka_unit_test(test_reset_with_borrowed_ttl),
                cmocka_unit_test(test_reset_without_a_sibling),
                cmocka_unit_test(test_reset_without_capture),
                cmocka_unit_test(test_reset_beside_a_transparent_proxy),
                cmocka_unit_test(test_transparent_proxy),
                cmocka_unit_test(test_proxy_required),
                cmocka_unit_test(test_proxy_not_required),
                cmocka_unit_test(test_proxy_is_no_help),
                cmocka_unit_test(test_independent_faults),
                cmocka_unit_test(test_proxy_demands_sign_in),
                cmocka_unit_test(test_proxy_refuses),
                cmocka_unit_test(test_words_of_refusal),
                cmocka_unit_test(test_portal_that_drops),
                cmocka_unit_test(test_next_hop_never_heard_of),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
