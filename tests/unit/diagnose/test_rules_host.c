// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <errno.h>
#include <string.h>

static void everything_fails(struct story *s, int error_number)
{
        story_silence(s);
        for (size_t i = 0; i < s->list.count; i++)
                if (s->list.items[i]->spec.kind == MEASUREMENT_TCP ||
                        s->list.items[i]->spec.kind == MEASUREMENT_DNS) {
                        s->list.items[i]->outcome = OUTCOME_LOCAL_ERROR;
                        s->list.items[i]->error_number = error_number;
                        s->list.items[i]->left_host = NO;
                }
}

static void test_healthy(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        assert_story(&s, "healthy", "");
        assert_string_equal(story_states(&s), "repo=ok control=ok");
}

/* ---- the link ---- */

static void test_link_down(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_find(&s, MEASUREMENT_LINK, PURPOSE_SERVICE, NULL);
        m->outcome = OUTCOME_DOWN;
        m->link_up = NO;
        everything_fails(&s, ENETUNREACH);
        story_no_route(&s, NULL, "");
        assert_story(&s, "blocked", "link.down");
        assert_string_equal(story_states(&s), "repo=blocked control=blocked");
        assert_non_null(strstr(story_cause(&s, "link.down")->summary, "switched off"));
        /* What failed out there says nothing. */
        m = story_find(&s, MEASUREMENT_TCP, PURPOSE_SERVICE, REPO1);
        assert_int_equal(m->status, STATUS_VOID);
        assert_string_equal(m->voided_by, "link.down");
}

static void test_no_carrier(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_find(&s, MEASUREMENT_LINK, PURPOSE_SERVICE, NULL);
        m->outcome = OUTCOME_DOWN;
        m->carrier = NO;
        story_silence(&s);
        assert_story(&s, "blocked", "link.down");
        assert_non_null(strstr(story_cause(&s, "link.down")->summary, "without a carrier"));
}

/* A LAN port without a cable is nobody's fault. */
static void test_lan_link_down(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_lan(&s, "eth1", NULL);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->spec.kind == MEASUREMENT_LINK &&
                        str_equal(s.list.items[i]->spec.interface, "eth1"))
                        s.list.items[i]->outcome = OUTCOME_DOWN;
        assert_story(&s, "healthy", "");
}

/* ---- the address ---- */

static void test_no_address(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_find(&s, MEASUREMENT_ADDRESS, PURPOSE_SERVICE, NULL);
        strv_done(&m->addresses);
        m->outcome = OUTCOME_MISSING;
        m->only_link_local = YES;
        everything_fails(&s, ENETUNREACH);
        story_no_route(&s, NULL, "");
        assert_story(&s, "blocked", "address.missing");
        assert_non_null(strstr(story_cause(&s, "address.missing")->summary, "link-local"));
}

static void test_source_is_elsewhere(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_find(&s, MEASUREMENT_ADDRESS, PURPOSE_SERVICE, NULL)->source_is_here = NO;
        everything_fails(&s, EADDRNOTAVAIL);
        assert_story(&s, "blocked", "address.missing");
        assert_non_null(strstr(story_cause(&s, "address.missing")->summary, "192.0.2.10"));
}

/* A link-local address beside a good one is no fault. */
static void test_second_address(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        strv_add(&story_find(&s, MEASUREMENT_ADDRESS, PURPOSE_SERVICE, NULL)->addresses, "169.254.7.7/16");
        assert_story(&s, "healthy", "");
}

static struct measurement *foreign_mac(struct story *s)
{
        struct measurement *m = story_find(s, MEASUREMENT_ARP, PURPOSE_CONFLICT, NULL);

        m->outcome = OUTCOME_OK;
        str_copy(m->mac, sizeof m->mac, "02:00:00:00:00:66");
        return m;
}

static void test_conflict(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        foreign_mac(&s);
        assert_story(&s, "healthy", "(address.conflict)");
        assert_non_null(strstr(story_cause(&s, "address.conflict")->summary, "02:00:00:00:00:66"));
}

/* What falls silent beside it is no firewall's doing. */
static void test_conflict_takes_answers(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        foreign_mac(&s);
        story_silence(&s);
        assert_story(&s, "blocked", "address.conflict");
}

static void test_no_conflict_without_right(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_find(&s, MEASUREMENT_ARP, PURPOSE_CONFLICT, NULL)->outcome = OUTCOME_NOT_PERMITTED;
        assert_story(&s, "healthy", "");
}

/* ---- the gateway ---- */

static void test_gateway_dead(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_find(&s, MEASUREMENT_ARP, PURPOSE_GATEWAY, NULL)->outcome = OUTCOME_TIMEOUT;
        story_find(&s, MEASUREMENT_NEIGHBOUR, PURPOSE_SERVICE, NULL)->outcome = OUTCOME_OK;
        story_silence(&s);
        /* The neighbour entry says "reachable", and is no proof: a gateway deaf to us may still ask. */
        assert_story(&s, "blocked", "gateway.unreachable");
        assert_string_equal(story_targets(&s, "gateway.unreachable"), GATEWAY);
}

/* The kernel's "no route to host" is the same silence. */
static void test_gateway_dead_host_unreachable(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_find(&s, MEASUREMENT_ARP, PURPOSE_GATEWAY, NULL)->outcome = OUTCOME_TIMEOUT;
        everything_fails(&s, EHOSTUNREACH);
        assert_story(&s, "blocked", "gateway.unreachable");
}

/* A router that ignores our ARP probe and forwards all the same. */
static void test_gateway_deaf_to_arp(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_find(&s, MEASUREMENT_ARP, PURPOSE_GATEWAY, NULL)->outcome = OUTCOME_TIMEOUT;
        assert_story(&s, "healthy", "");
}

static void test_gateway_without_right(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_no_capture(&s);
        m = story_find(&s, MEASUREMENT_NEIGHBOUR, PURPOSE_SERVICE, NULL);
        str_copy(m->neighbour_state, sizeof m->neighbour_state, "failed");
        assert_story(&s, "blocked", "gateway.unreachable");
        /* It answers ARP: then what is behind it is dead. */
        str_copy(m->neighbour_state, sizeof m->neighbour_state, "reachable");
        assert_story(&s, "blocked", "upstream.dead");
}

/* ---- no route ---- */

static void test_no_route(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        everything_fails(&s, ENETUNREACH);
        story_no_route(&s, NULL, "");
        assert_story(&s, "blocked", "route.missing");
}

static void test_no_default_at_all(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        everything_fails(&s, ENETUNREACH);
        story_find(&s, MEASUREMENT_SITE, PURPOSE_SERVICE, NULL)->spec.interface[0] = 0;
        assert_story(&s, "blocked", "route.missing");
}

static void test_refusing_route_is_named(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_route(&s, REPO2, "blackhole");
        story_tcp(&s, REPO2, OUTCOME_LOCAL_ERROR)->error_number = EINVAL;
        assert_story(&s, "degraded", "(route.missing)");
        assert_string_equal(story_targets(&s, "route.missing"), REPO2);
        assert_non_null(strstr(story_cause(&s, "route.missing")->summary, "blackhole"));
        assert_string_equal(story_states(&s), "repo=degraded control=ok");
}

/* A router that says "network unreachable" is not this host's routing. */
static void test_unreachable_from_a_router(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO2, ROUTER)->icmp_code = 0;
        assert_story(&s, "degraded", "(tcp.rejected)");
}

/* ---- captured routes ---- */

#define LAN_ROUTE "198.51.100.0/24 via 10.20.0.1"

static void test_captured_range(void **state)
{
        _story_ s = {0};
        struct cause *c;

        (void)state;
        story_healthy(&s);
        story_lan(&s, "eth1", LAN_ROUTE);
        story_route(&s, REPO1, LAN_ROUTE, "eth1");
        story_tcp(&s, REPO1, OUTCOME_TIMEOUT);
        story_device(&s, REPO1, OUTCOME_OK);
        assert_story(&s, "degraded", "(route.captured) (route.capture_pending)");
        c = story_cause(&s, "route.captured");
        assert_string_equal(c->route, LAN_ROUTE);
        assert_string_equal(c->interface, "eth1");
        assert_int_equal(c->configured, YES);
        assert_int_equal(story_find(&s, MEASUREMENT_TCP, PURPOSE_SERVICE, REPO1)->status, STATUS_VOID);
        assert_string_equal(story_addresses(&s, "repo"), "198.51.100.20=blocked 203.0.113.200=ok");
}

/* Strict reverse-path filtering discards what the A/B got: the same capture, not reply.discarded. */
static void test_captured_with_rp_filter(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_route(&s, REPO1, LAN_ROUTE, "eth1");
        story_tcp(&s, REPO1, OUTCOME_TIMEOUT);
        story_device(&s, REPO1, OUTCOME_TIMEOUT)->reply_seen = YES;
        assert_story(&s, "degraded", "(route.captured)");
        assert_int_equal(story_cause(&s, "route.captured")->configured, NO);
}

/* Captured by route, and dropped on the WAN too: two faults. */
static void test_captured_and_dropped(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_route(&s, REPO1, LAN_ROUTE, "eth1");
        story_tcp(&s, REPO1, OUTCOME_TIMEOUT);
        story_device(&s, REPO1, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 2);
        assert_story(&s, "degraded", "(route.captured) (tcp.dropped)");
}

/* A second way out that works is nobody's fault, unless the site file put it there. */
static void test_other_way_that_works(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_route(&s, REPO1, LAN_ROUTE, "eth1");
        story_device(&s, REPO1, OUTCOME_OK);
        assert_story(&s, "healthy", "");
        story_lan(&s, "eth1", LAN_ROUTE);
        assert_story(&s, "healthy", "(route.captured) (route.capture_pending)");
}

static void test_captured_server(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_route(&s, DNS1, LAN_ROUTE, "eth1");
        story_server_dead(&s, DNS1);
        assert_story(&s, "degraded", "(route.captured)");
        assert_string_equal(story_targets(&s, "route.captured"), DNS1);
}

static void test_rule_is_named(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_route(&s, REPO1, "default via 10.20.0.1", "eth1");
        m->rule_text = xstrdup("from all dport 443 lookup 100");
        story_tcp(&s, REPO1, OUTCOME_TIMEOUT);
        story_device(&s, REPO1, OUTCOME_OK);
        assert_story(&s, "degraded", "(route.captured)");
        assert_non_null(strstr(story_cause(&s, "route.captured")->remedy, "dport 443 lookup 100"));
}

/* ---- pending and overruled ---- */

static void test_pending(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_lan(&s, "eth1", LAN_ROUTE);
        assert_story(&s, "healthy", "(route.capture_pending)");
        assert_string_equal(story_targets(&s, "route.capture_pending"), DNS1 " " REPO1 " " CONTROL1);
}

static void test_overruled(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_lan(&s, "eth1", LAN_ROUTE);
        story_route(&s, DNS1, "198.51.100.53/32 via " GATEWAY, "eth0");
        story_route(&s, REPO1, "198.51.100.16/28 via " GATEWAY, "eth0");
        story_route(&s, CONTROL1, "198.51.100.16/28 via " GATEWAY, "eth0");
        assert_story(&s, "healthy", "");
}

static void test_unrelated_lan_route(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_lan(&s, "eth1", "10.30.0.0/16 via 10.20.0.1");
        assert_story(&s, "healthy", "");
}

/* Nothing answers, and the gateway was not to be asked: whose silence it is stays open. */
static void test_gateway_not_seen(void **state)
{
        _story_ s = {0};
        struct measurement *m;
        struct cause *c;

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_no_capture(&s);
        m = story_find(&s, MEASUREMENT_NEIGHBOUR, PURPOSE_SERVICE, NULL);
        str_copy(m->neighbour_state, sizeof m->neighbour_state, "stale");
        assert_story(&s, "undetermined", "undetermined");
        c = story_cause(&s, "undetermined");
        assert_true(strv_contains(&c->candidates, "gateway.unreachable"));
        assert_true(strv_contains(&c->candidates, "upstream.dead"));
}

static void test_no_such_interface(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_find(&s, MEASUREMENT_LINK, PURPOSE_SERVICE, NULL)->outcome = OUTCOME_MISSING;
        assert_story(&s, "blocked", "link.down");
        assert_non_null(strstr(story_cause(&s, "link.down")->summary, "no interface named eth0"));
}

/* One route, several targets: one cause. A failure to look a route up is no word on routes. */
static void test_one_route_one_cause(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        story_route(&s, REPO1, LAN_ROUTE, "eth1");
        story_route(&s, CONTROL1, LAN_ROUTE, "eth1");
        story_tcp(&s, REPO1, OUTCOME_TIMEOUT);
        story_tcp(&s, CONTROL1, OUTCOME_TIMEOUT);
        story_device(&s, REPO1, OUTCOME_OK);
        story_device(&s, CONTROL1, OUTCOME_OK);
        m = story_find(&s, MEASUREMENT_ROUTE, PURPOSE_SERVICE, CONTROL2);
        m->outcome = OUTCOME_LOCAL_ERROR;
        m->error_number = EMFILE;
        assert_story(&s, "degraded", "(route.captured)");
        assert_string_equal(story_targets(&s, "route.captured"), REPO1 " " CONTROL1);
}

/* Without a profile the host itself is still judged. */
static void test_link_down_without_profile(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_drop(&s, MEASUREMENT_PROFILE, NULL);
        story_drop(&s, MEASUREMENT_SERVICE, NULL);
        story_find(&s, MEASUREMENT_LINK, PURPOSE_SERVICE, NULL)->outcome = OUTCOME_DOWN;
        assert_story(&s, "blocked", "link.down");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_healthy),
                cmocka_unit_test(test_link_down),
                cmocka_unit_test(test_no_carrier),
                cmocka_unit_test(test_lan_link_down),
                cmocka_unit_test(test_no_address),
                cmocka_unit_test(test_source_is_elsewhere),
                cmocka_unit_test(test_second_address),
                cmocka_unit_test(test_conflict),
                cmocka_unit_test(test_conflict_takes_answers),
                cmocka_unit_test(test_no_conflict_without_right),
                cmocka_unit_test(test_gateway_dead),
                cmocka_unit_test(test_gateway_dead_host_unreachable),
                cmocka_unit_test(test_gateway_deaf_to_arp),
                cmocka_unit_test(test_gateway_without_right),
                cmocka_unit_test(test_no_route),
                cmocka_unit_test(test_no_default_at_all),
                cmocka_unit_test(test_refusing_route_is_named),
                cmocka_unit_test(test_unreachable_from_a_router),
                cmocka_unit_test(test_captured_range),
                cmocka_unit_test(test_captured_with_rp_filter),
                cmocka_unit_test(test_captured_and_dropped),
                cmocka_unit_test(test_other_way_that_works),
                cmocka_unit_test(test_captured_server),
                cmocka_unit_test(test_rule_is_named),
                cmocka_unit_test(test_pending),
                cmocka_unit_test(test_overruled),
                cmocka_unit_test(test_unrelated_lan_route),
                cmocka_unit_test(test_gateway_not_seen),
                cmocka_unit_test(test_no_such_interface),
                cmocka_unit_test(test_one_route_one_cause),
                cmocka_unit_test(test_link_down_without_profile),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
