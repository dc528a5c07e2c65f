// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include <string.h>

static void test_upstream_dead(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_trace(&s, REPO1, 1);
        assert_story(&s, "blocked", "upstream.dead");
        assert_null(strstr(s.conclusion.summary, "443"));
        assert_int_equal(story_cause(&s, "upstream.dead")->after.hop, 1);
}

static void test_upstream_dead_further_on(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_trace(&s, REPO1, 2);
        assert_story(&s, "blocked", "upstream.dead");
        assert_int_equal(story_cause(&s, "upstream.dead")->after.hop, 2);
}

static void test_upstream_says_unreachable(void **state)
{
        _story_ s = {0};
        static const char *const all[] = {REPO1, REPO2, CONTROL1, CONTROL2};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        for (int i = 0; i < 4; i++)
                story_rejected(&s, all[i], GATEWAY)->icmp_code = 0;
        assert_story(&s, "blocked", "upstream.dead");
        assert_true(story_cause(&s, "upstream.dead")->by.known);
}

/* One DNS server answers: then it is those ports, and the other server. */
static void test_one_server_answers(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->spec.kind == MEASUREMENT_DNS &&
                        s.list.items[i]->spec.purpose == PURPOSE_SERVICE &&
                        s.list.items[i]->spec.target.address.bytes[0] == 198) {
                        s.list.items[i]->outcome = OUTCOME_NO_DATA;
                        if (s.list.items[i]->spec.dns_type == 1) {
                                s.list.items[i]->outcome = OUTCOME_OK;
                                strv_add(&s.list.items[i]->addresses,
                                        str_equal(s.list.items[i]->spec.name, REPO) ? "198.51.100.20"
                                                                                    : "198.51.100.21");
                        }
                        s.list.items[i]->answered = YES;
                }
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_trace(&s, CONTROL1, 1);
        story_trace(&s, CONTROL2, 1);
        assert_story(&s, "blocked", "tcp.dropped tcp.dropped (dns.unreachable)");
}

/* The far host's own "port unreachable" for the interception probe came back: something is there. */
static void test_port_unreachable_from_beyond(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_silence(&s);
        story_find(&s, MEASUREMENT_DNS, PURPOSE_INTERCEPTION, "198.51.100.20:53")->outcome = OUTCOME_REJECTED;
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        story_trace(&s, CONTROL1, 1);
        story_trace(&s, CONTROL2, 1);
        story_repeat(&s, REPO1, OUTCOME_TIMEOUT);
        story_repeat(&s, REPO2, OUTCOME_TIMEOUT);
        story_repeat(&s, CONTROL1, OUTCOME_TIMEOUT);
        story_repeat(&s, CONTROL2, OUTCOME_TIMEOUT);
        assert_story(&s, "blocked", "tcp.dropped tcp.dropped (dns.unreachable)");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_upstream_dead),
                cmocka_unit_test(test_upstream_dead_further_on),
                cmocka_unit_test(test_upstream_says_unreachable),
                cmocka_unit_test(test_one_server_answers),
                cmocka_unit_test(test_port_unreachable_from_beyond),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
