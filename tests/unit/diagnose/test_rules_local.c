// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include <errno.h>
#include <string.h>

static void test_local_drop(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_find(&s, MEASUREMENT_TCP, PURPOSE_SERVICE, REPO1)->left_host = NO;
        story_find(&s, MEASUREMENT_TCP, PURPOSE_SERVICE, REPO2)->left_host = NO;
        assert_story(&s, "blocked", "firewall.local");
        assert_int_equal(story_cause(&s, "firewall.local")->fixed_by, FIXED_BY_NODE);
}

static void test_local_reject(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO1, "192.0.2.10")->left_host = NO;
        story_rejected(&s, REPO2, "127.0.0.1")->left_host = NO;
        assert_story(&s, "blocked", "firewall.local");
}

static void test_local_reset(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 2; i++) {
                m = story_reset(&s, i ? REPO2 : REPO1, 64);
                str_copy(m->reply_interface, sizeof m->reply_interface, "lo");
                m->left_host = NO;
        }
        assert_story(&s, "blocked", "firewall.local");
}

static void test_local_eperm(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server(&s, DNS1, TRANSPORT_UDP, OUTCOME_LOCAL_ERROR);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->outcome == OUTCOME_LOCAL_ERROR)
                        s.list.items[i]->error_number = EPERM;
        assert_story(&s, "degraded", "(firewall.local)");
}

/* A silent neighbour on our own segment: the SYN waits for ARP and never leaves either. */
static void test_silent_neighbour(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_route(&s, DNS1, "192.0.2.0/24", "eth0");
        story_server(&s, DNS1, TRANSPORT_UDP, OUTCOME_TIMEOUT);
        story_server(&s, DNS1, TRANSPORT_TCP, OUTCOME_LOCAL_ERROR);
        for (size_t i = 0; i < s.list.count; i++) {
                struct measurement *m = s.list.items[i];

                if (m->spec.kind == MEASUREMENT_DNS && m->spec.purpose == PURPOSE_SERVICE &&
                        m->outcome != OUTCOME_OK && m->outcome != OUTCOME_NO_DATA) {
                        m->left_host = NO;
                        m->error_number = m->outcome == OUTCOME_LOCAL_ERROR ? EHOSTUNREACH : 0;
                }
        }
        assert_story(&s, "degraded", "(dns.unreachable)");
}

/* The gateway does not answer ARP: nothing can leave, and no rule of ours holds it back. */
static void test_waits_for_the_gateway(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_find(&s, MEASUREMENT_ARP, PURPOSE_GATEWAY, NULL)->outcome = OUTCOME_TIMEOUT;
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->outcome == OUTCOME_TIMEOUT)
                        s.list.items[i]->left_host = NO;
        assert_story(&s, "blocked", "gateway.unreachable");
}

/* ---- answers thrown away ---- */

static void test_discarded(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 2; i++) {
                m = story_tcp(&s, i ? REPO2 : REPO1, OUTCOME_TIMEOUT);
                m->reply_seen = YES;
                str_copy(m->reply_interface, sizeof m->reply_interface, "eth0");
        }
        assert_story(&s, "blocked", "reply.discarded");
        assert_int_equal(story_cause(&s, "reply.discarded")->fixed_by, FIXED_BY_NODE);
}

/* They come in by another interface: the reverse-path filter. */
static void test_discarded_by_rp_filter(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_tcp(&s, REPO2, OUTCOME_TIMEOUT);
        m->reply_seen = YES;
        str_copy(m->reply_interface, sizeof m->reply_interface, "eth1");
        assert_story(&s, "degraded", "(reply.discarded)");
        assert_non_null(strstr(story_cause(&s, "reply.discarded")->summary, "reverse-path"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_local_drop),
                cmocka_unit_test(test_local_reject),
                cmocka_unit_test(test_local_reset),
                cmocka_unit_test(test_local_eperm),
                cmocka_unit_test(test_silent_neighbour),
                cmocka_unit_test(test_waits_for_the_gateway),
                cmocka_unit_test(test_discarded),
                cmocka_unit_test(test_discarded_by_rp_filter),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
