// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <string.h>

static void not_tested(struct measurement *m, const char *reason)
{
        m->outcome = OUTCOME_NOT_TESTED;
        free(m->reason);
        m->reason = xstrdup(reason);
}

static bool is_remote(const struct measurement *m)
{
        return m->spec.kind >= MEASUREMENT_DNS && m->spec.kind <= MEASUREMENT_HTTP;
}

/* The budget was over before anything came back: not tested is never failed. */
static void test_budget_over(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (size_t i = 0; i < s.list.count; i++)
                if (is_remote(s.list.items[i]))
                        not_tested(s.list.items[i], "the time was over");
        assert_story(&s, "undetermined", "");
        assert_string_equal(story_states(&s), "repo=not-tested control=not-tested");
        for (size_t i = 0; i < s.list.count; i++)
                if (is_remote(s.list.items[i])) {
                        assert_int_equal(s.list.items[i]->status, STATUS_NOT_TESTED);
                        assert_string_equal(s.list.items[i]->reason, "the time was over");
                }
}

/* Interrupted at once: nothing is known. */
static void test_interrupted_at_once(void **state)
{
        _story_ s = {0};

        (void)state;
        story_configured(&s);
        assert_story(&s, "undetermined", "");
        assert_int_equal(verdict_exit_code(s.conclusion.verdict), 2);
}

/* Connected, and the handshakes were not finished: TCP alone proves nothing of the service. */
static void test_connected_only(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->spec.kind == MEASUREMENT_TLS ||
                        s.list.items[i]->spec.kind == MEASUREMENT_HTTP)
                        not_tested(s.list.items[i], "interrupted");
        assert_story(&s, "undetermined", "");
}

/* One service is done, and the other was not reached in time. */
static void test_half_done(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (size_t i = 0; i < s.list.count; i++)
                if (is_remote(s.list.items[i]) && s.list.items[i]->spec.target.port == 8443)
                        not_tested(s.list.items[i], "the time was over");
        assert_story(&s, "undetermined", "");
        assert_string_equal(story_states(&s), "repo=ok control=not-tested");
}

/* What is known to be blocked stays so. */
static void test_blocked_and_not_tested(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        for (size_t i = 0; i < s.list.count; i++)
                if (is_remote(s.list.items[i]) && s.list.items[i]->spec.target.port == 8443)
                        not_tested(s.list.items[i], "the time was over");
        assert_story(&s, "blocked", "tcp.dropped");
        assert_string_equal(story_states(&s), "repo=blocked control=not-tested");
}

static void test_no_profile(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_drop(&s, MEASUREMENT_PROFILE, NULL);
        story_drop(&s, MEASUREMENT_SERVICE, NULL);
        assert_story(&s, "healthy", "");
        assert_int_equal(s.conclusion.service_count, 0);
        assert_non_null(strstr(s.conclusion.summary, "no profile"));
}

static void test_nothing_at_all(void **state)
{
        _story_ s = {0};

        (void)state;
        story_conclude(&s);
        assert_int_equal(s.conclusion.cause_count, 0);
        assert_non_null(s.conclusion.summary);
}

/* The same measurements give the same conclusion, word for word, however often. */
static void test_again(void **state)
{
        _story_ s = {0};
        char *summary;

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, NULL);
        story_port(&s, 443, OUTCOME_TIMEOUT);
        story_trace(&s, REPO1, 1);
        story_trace(&s, REPO2, 1);
        assert_story(&s, "blocked", "tcp.dropped (dns.unreachable)");
        summary = xstrdup(s.conclusion.summary);
        assert_story(&s, "blocked", "tcp.dropped (dns.unreachable)");
        assert_string_equal(s.conclusion.summary, summary);
        free(summary);
}

/* What blocks comes first, and evidence is ascending and without doubles. */
static void test_order(void **state)
{
        _story_ s = {0};
        const struct cause *c;

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, DNS2);
        story_rejected(&s, CONTROL1, GATEWAY);
        story_rejected(&s, CONTROL2, GATEWAY);
        story_tls(&s, REPO2, OUTCOME_NOT_TLS);
        /* The other server answers: that one is not why control is blocked. */
        assert_story(&s, "blocked", "tcp.rejected (dns.unreachable) (tls.not_tls)");
        assert_true(str_starts_with(s.conclusion.summary, GATEWAY));
        for (size_t i = 0; i < s.conclusion.cause_count; i++) {
                c = &s.conclusion.causes[i];
                for (size_t k = 1; k < c->evidence_count; k++)
                        assert_true(c->evidence[k - 1] < c->evidence[k]);
        }
}

/* A cause that is there without evidence in this list would be a riddle in a report. */
static void test_evidence_is_in_the_list(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, DNS1);
        story_port(&s, 8443, OUTCOME_TIMEOUT);
        story_trace(&s, CONTROL1, 2);
        story_conclude(&s);
        for (size_t i = 0; i < s.conclusion.cause_count; i++)
                for (size_t k = 0; k < s.conclusion.causes[i].evidence_count; k++) {
                        bool found = false;

                        for (size_t n = 0; n < s.list.count; n++)
                                found |= s.list.items[n]->id == s.conclusion.causes[i].evidence[k];
                        assert_true(found);
                }
}

/* A failure that no rule knows makes the verdict undetermined, never healthy. */
static void test_unexplained_failure(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_PROTOCOL);
        story_tls(&s, REPO2, OUTCOME_PROTOCOL);
        assert_story(&s, "undetermined", "undetermined");
        assert_true(story_cause(&s, "undetermined")->candidates.count >= 2);
        assert_string_equal(story_states(&s), "repo=blocked control=ok");
}

/* It is so beside an established cause of the other service as well. */
static void test_unexplained_beside_explained(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_PROTOCOL);
        story_tls(&s, REPO2, OUTCOME_PROTOCOL);
        story_rejected(&s, CONTROL1, GATEWAY);
        story_rejected(&s, CONTROL2, GATEWAY);
        assert_story(&s, "undetermined", "tcp.rejected undetermined");
}

/* A dead DNS server is not why the handshakes of addresses fail that are known without it. */
static void test_unexplained_beside_dead_dns(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_server_dead(&s, NULL);
        story_tls(&s, REPO1, OUTCOME_PROTOCOL);
        story_tls(&s, REPO2, OUTCOME_PROTOCOL);
        assert_story(&s, "undetermined", "undetermined (dns.unreachable)");
}

/* An unexplained failure on one address of two. */
static void test_unexplained_on_one_address(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO2, OUTCOME_PROTOCOL);
        assert_story(&s, "undetermined", "(undetermined)");
        assert_string_equal(story_states(&s), "repo=degraded control=ok");
}

static void test_summaries_of_health(void **state)
{
        _story_ one = {0}, three = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&one);
        for (size_t i = 0; i < one.list.count; i++)
                if (one.list.items[i]->spec.kind == MEASUREMENT_SERVICE &&
                        str_equal(one.list.items[i]->spec.service, "control"))
                        one.list.items[i]->spec.kind = MEASUREMENT_CAPTURE;
        assert_story(&one, "healthy", "");
        assert_string_equal(one.conclusion.summary, REPO ":443 is reachable and genuine.");

        story_healthy(&three);
        m = story_add(&three, MEASUREMENT_SERVICE, NULL);
        str_copy(m->spec.service, sizeof m->spec.service, "repo2");
        str_copy(m->spec.name, sizeof m->spec.name, REPO);
        m->spec.target.port = 443;
        m->spec.tls = SERVICE_TLS_NONE;
        strv_add(&m->addresses, "198.51.100.20");
        story_conclude(&three);
        assert_int_equal(three.conclusion.service_count, 3);
        assert_string_equal(
                three.conclusion.summary, "All 3 services of the control plane are reachable and genuine.");
}

/* The same endpoint serves two services by two names, of which one is refused by its certificate's name. */
static void test_two_services_on_one_endpoint(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_add(&s, MEASUREMENT_SERVICE, NULL);
        str_copy(m->spec.service, sizeof m->spec.service, "mirror");
        str_copy(m->spec.name, sizeof m->spec.name, "mirror.grid.example");
        m->spec.target.port = 443;
        strv_add(&m->addresses, "198.51.100.20");
        m = story_add(&s, MEASUREMENT_TLS, REPO1);
        str_copy(m->spec.service, sizeof m->spec.service, "mirror");
        m->outcome = OUTCOME_UNTRUSTED;
        m->stage = STAGE_TLS;
        m->chain_trusted = YES;
        m->chain_name_matches = NO;
        assert_story(&s, "blocked", "tls.name_mismatch");
        assert_string_equal(story_states(&s), "repo=ok control=ok mirror=blocked");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_budget_over),
                cmocka_unit_test(test_interrupted_at_once),
                cmocka_unit_test(test_connected_only),
                cmocka_unit_test(test_half_done),
                cmocka_unit_test(test_blocked_and_not_tested),
                cmocka_unit_test(test_no_profile),
                cmocka_unit_test(test_nothing_at_all),
                cmocka_unit_test(test_again),
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_evidence_is_in_the_list),
                cmocka_unit_test(test_unexplained_failure),
                cmocka_unit_test(test_unexplained_beside_explained),
                cmocka_unit_test(test_unexplained_beside_dead_dns),
                cmocka_unit_test(test_unexplained_on_one_address),
                cmocka_unit_test(test_summaries_of_health),
                cmocka_unit_test(test_two_services_on_one_endpoint),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
