// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <string.h>

static const char *const all[] = {REPO1, REPO2, CONTROL1, CONTROL2};

/* ---- certificates ---- */

static struct measurement *resigned(struct story *s, const char *target, const char *issuer)
{
        struct measurement *m = story_tls(s, target, OUTCOME_UNTRUSTED);

        m->chain_trusted = NO;
        strv_add(&m->chain_subjects, "CN=" REPO);
        strv_add(&m->chain_issuers, issuer);
        return m;
}

static void test_intercepted(void **state)
{
        _story_ s = {0};
        struct cause *c;

        (void)state;
        story_healthy(&s);
        resigned(&s, REPO1, "O = Fortinet, CN = Fortinet Untrusted CA");
        resigned(&s, REPO2, "O = Fortinet, CN = Fortinet Untrusted CA");
        assert_story(&s, "blocked", "tls.intercepted");
        c = story_cause(&s, "tls.intercepted");
        assert_string_equal(c->interceptor, "Fortinet");
        assert_string_equal(story_targets(&s, "tls.intercepted"), REPO1 " " REPO2);
        assert_string_equal(story_states(&s), "repo=blocked control=ok");
}

/* The intermediate gives it away though the leaf's issuer is a company's own. */
static void test_interceptor_of_any_certificate(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = resigned(&s, REPO1, "O = ACME, CN = ACME Web Gateway");
        strv_add(&m->chain_subjects, "O = ACME, CN = ACME Web Gateway");
        strv_add(&m->chain_issuers, "O = Zscaler Inc., CN = Zscaler Root CA");
        assert_story(&s, "degraded", "(tls.intercepted)");
        assert_string_equal(story_cause(&s, "tls.intercepted")->interceptor, "Zscaler");
}

static void test_interceptor_unknown(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        resigned(&s, REPO1, "O = ACME, CN = ACME CA");
        assert_story(&s, "degraded", "(tls.intercepted)");
        assert_null(story_cause(&s, "tls.intercepted")->interceptor);
        assert_non_null(strstr(story_cause(&s, "tls.intercepted")->summary, "ACME CA"));
}

/* Two products, two causes: each is named for what it does. */
static void test_two_interceptors(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        resigned(&s, REPO1, "O = Fortinet, CN = Fortinet Untrusted CA");
        resigned(&s, REPO2, "O = ACME, CN = ACME CA");
        assert_story(&s, "blocked", "tls.intercepted tls.intercepted");
}

static void test_wrong_name(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        m = story_tls(&s, REPO2, OUTCOME_UNTRUSTED);
        m->chain_name_matches = NO;
        m->leaf_names = xstrdup(CONTROL);
        assert_story(&s, "degraded", "(tls.name_mismatch)");
        assert_int_equal(story_cause(&s, "tls.name_mismatch")->fixed_by, FIXED_BY_CONTROL_PLANE);
}

/* ---- time ---- */

static void not_valid_now(struct story *s, const char *target, int64_t from_days, int64_t to_days)
{
        struct measurement *m = story_tls(s, target, OUTCOME_UNTRUSTED);

        m->chain_time_valid = NO;
        m->not_before_unix = STORY_NOW + from_days * DAYS;
        m->not_after_unix = STORY_NOW + to_days * DAYS;
}

static void test_expired(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        not_valid_now(&s, REPO1, -90, -3);
        not_valid_now(&s, REPO2, -90, -3);
        story_peer_time(&s, REPO1, 2);
        story_peer_time(&s, REPO2, -1);
        assert_story(&s, "blocked", "tls.certificate_expired");
        assert_int_equal(story_cause(&s, "tls.certificate_expired")->fixed_by, FIXED_BY_CONTROL_PLANE);
}

/* Nobody states the time, and the other service's chain is valid by the same clock. */
static void test_expired_beside_a_valid_chain(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_drop(&s, MEASUREMENT_HTTP, NULL);
        not_valid_now(&s, REPO1, -90, -3);
        not_valid_now(&s, REPO2, -90, -3);
        assert_story(&s, "blocked", "tls.certificate_expired");
}

static void test_clock_slow(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 4; i++) {
                /* Two years behind: everything begins in the future. */
                not_valid_now(&s, all[i], 700, 800);
                story_peer_time(&s, all[i], -730 * DAYS);
        }
        assert_story(&s, "blocked", "clock.wrong");
        assert_non_null(strstr(story_cause(&s, "clock.wrong")->summary, "730 days slow"));
        assert_int_equal(story_cause(&s, "clock.wrong")->fixed_by, FIXED_BY_NODE);
}

static void test_clock_fast(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 4; i++) {
                not_valid_now(&s, all[i], -400, -300);
                story_peer_time(&s, all[i], 350 * DAYS);
        }
        assert_story(&s, "blocked", "clock.wrong");
        assert_non_null(strstr(story_cause(&s, "clock.wrong")->summary, "350 days fast"));
}

/* Nobody says what time it is. */
static void test_no_peer_time(void **state)
{
        _story_ s = {0};
        struct cause *c;

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 4; i++)
                not_valid_now(&s, all[i], -400, -300);
        assert_story(&s, "undetermined", "undetermined");
        c = story_cause(&s, "undetermined");
        assert_true(strv_contains(&c->candidates, "clock.wrong"));
        assert_true(strv_contains(&c->candidates, "tls.certificate_expired"));
}

/* A clock that is off and harms nothing is nobody's fault. */
static void test_clock_off_and_chains_valid(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_find(&s, MEASUREMENT_HTTP, PURPOSE_SERVICE, REPO1)->peer_unix = STORY_NOW - 7200;
        assert_story(&s, "healthy", "");
}

/* ---- cuts and silence ---- */

static void ab(struct story *s, const char *target, enum measurement_outcome repeat,
        enum measurement_outcome no_name, enum measurement_outcome clamp)
{
        story_tls_ab(s, target, PURPOSE_REPEAT, repeat)->spec.attempt = 1;
        story_tls_ab(s, target, PURPOSE_NO_NAME, no_name);
        story_tls_ab(s, target, PURPOSE_NEUTRAL_NAME, no_name);
        if (clamp == OUTCOME_NOT_TESTED)
                return;
        story_tls_ab(s, target, PURPOSE_CLAMP, clamp);
        story_tls_ab(s, target, PURPOSE_CLAMP, clamp)->spec.attempt = 1;
}

static void test_cut(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 2; i++) {
                story_tls(&s, all[i], OUTCOME_RESET);
                ab(&s, all[i], OUTCOME_RESET, OUTCOME_RESET, OUTCOME_NOT_TESTED);
        }
        assert_story(&s, "blocked", "tls.reset");
}

static void test_cut_by_fin(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO2, OUTCOME_CLOSED);
        ab(&s, REPO2, OUTCOME_CLOSED, OUTCOME_CLOSED, OUTCOME_NOT_TESTED);
        assert_story(&s, "degraded", "(tls.reset)");
}

static void test_name_filtered(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 2; i++) {
                story_tls(&s, all[i], OUTCOME_RESET);
                ab(&s, all[i], OUTCOME_RESET, OUTCOME_OK, OUTCOME_NOT_TESTED);
        }
        assert_story(&s, "blocked", "tls.sni_filtered");
        assert_non_null(strstr(story_cause(&s, "tls.sni_filtered")->summary, REPO));
}

/* Dropped because of the name, not reset: small segments do not help, another name does. */
static void test_name_filtered_silently(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_TIMEOUT);
        ab(&s, REPO1, OUTCOME_TIMEOUT, OUTCOME_OK, OUTCOME_TIMEOUT);
        assert_story(&s, "degraded", "(tls.sni_filtered)");
}

/* Without SNI the server shows its default certificate: a ServerHello all the same. */
static void test_another_certificate_without_name(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_RESET);
        ab(&s, REPO1, OUTCOME_RESET, OUTCOME_UNTRUSTED, OUTCOME_NOT_TESTED);
        assert_story(&s, "degraded", "(tls.sni_filtered)");
}

static void test_stalled(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 2; i++) {
                story_tls(&s, all[i], OUTCOME_TIMEOUT);
                ab(&s, all[i], OUTCOME_TIMEOUT, OUTCOME_TIMEOUT, OUTCOME_TIMEOUT);
        }
        assert_story(&s, "blocked", "tls.stalled");
}

/* One lossy handshake: the same again went through. */
static void test_one_lossy_handshake(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_TIMEOUT);
        ab(&s, REPO1, OUTCOME_OK, OUTCOME_OK, OUTCOME_OK);
        assert_story(&s, "healthy", "");
        assert_string_equal(story_addresses(&s, "repo"), "198.51.100.20=ok 203.0.113.200=ok");
}

/* Nothing to compare with: the time was over. */
static void test_silence_asked_once(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_TIMEOUT);
        story_tls(&s, REPO2, OUTCOME_TIMEOUT);
        assert_story(&s, "undetermined", "undetermined");
}

static void test_mtu_black_hole(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 4; i++) {
                story_tls(&s, all[i], OUTCOME_TIMEOUT);
                ab(&s, all[i], OUTCOME_TIMEOUT, OUTCOME_TIMEOUT, OUTCOME_OK);
        }
        assert_story(&s, "blocked", "path.mtu_black_hole");
        assert_int_equal(s.conclusion.cause_count, 1);
}

/* Small segments pass once and are silent once: that is loss, and no black hole. */
static void test_clamp_passes_by_luck(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_TIMEOUT);
        ab(&s, REPO1, OUTCOME_TIMEOUT, OUTCOME_TIMEOUT, OUTCOME_NOT_TESTED);
        story_tls_ab(&s, REPO1, PURPOSE_CLAMP, OUTCOME_OK);
        story_tls_ab(&s, REPO1, PURPOSE_CLAMP, OUTCOME_TIMEOUT)->spec.attempt = 1;
        story_conclude(&s);
        assert_null(strstr(story_codes(&s), "path.mtu_black_hole"));
}

/* ---- not TLS ---- */

static void test_not_tls(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_NOT_TLS)->first_bytes = xstrdup("SSH-2.0-OpenSSH_9.2");
        assert_story(&s, "degraded", "(tls.not_tls)");
        assert_non_null(strstr(story_cause(&s, "tls.not_tls")->summary, "SSH-2.0"));
}

/* ---- the node's own certificate ---- */

static struct measurement *alert(struct story *s, const char *target, int number)
{
        struct measurement *m = story_tls(s, target, OUTCOME_ALERT);

        m->alert = number;
        m->alert_seen = YES;
        m->client_certificate_asked = YES;
        return m;
}

static void test_client_rejected(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        for (int i = 2; i < 4; i++) {
                m = alert(&s, all[i], 45);
                m->client_serial = xstrdup("4D2");
                m->client_not_after_unix = STORY_NOW - 3 * DAYS;
                m->local_unix = STORY_NOW;
        }
        assert_story(&s, "blocked", "tls.client_rejected");
        assert_non_null(strstr(story_cause(&s, "tls.client_rejected")->summary, "4D2"));
        assert_non_null(strstr(story_cause(&s, "tls.client_rejected")->summary, "expired"));
        assert_string_equal(story_states(&s), "repo=ok control=blocked");
}

/* No certificate on this node: the client's half is not tested, and that is no block. */
static void test_no_client_certificate(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_no_certificate(&s);
        alert(&s, CONTROL1, 116);
        alert(&s, CONTROL2, 116);
        assert_story(&s, "healthy", "");
}

/* nginx completes the handshake and answers 400. */
static void test_client_rejected_by_http(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_http(&s, CONTROL1, 400)->body_excerpt = xstrdup("The SSL certificate error");
        story_http(&s, CONTROL2, 400)->body_excerpt = xstrdup("The SSL certificate error");
        assert_story(&s, "blocked", "tls.client_rejected");
        story_no_certificate(&s);
        assert_story(&s, "healthy", "");
}

/* A 400 that speaks of something else is the request's. */
static void test_other_bad_request(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_http(&s, CONTROL1, 400)->body_excerpt = xstrdup("no such member");
        assert_story(&s, "healthy", "");
}

/* handshake_failure says nothing of the node's certificate. */
static void test_other_alert(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        alert(&s, REPO1, 40)->client_certificate_asked = NO;
        alert(&s, REPO2, 40)->client_certificate_asked = NO;
        assert_story(&s, "undetermined", "undetermined");
}

/* Two riddles at once stay two. */
static void test_riddles_are_kept_apart(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO1, 0);
        story_reset(&s, REPO2, 0);
        alert(&s, CONTROL1, 40);
        alert(&s, CONTROL2, 40);
        assert_story(&s, "undetermined", "undetermined undetermined");
        assert_string_equal(story_targets(&s, "undetermined"), REPO1 " " REPO2 " " CONTROL1 " " CONTROL2);
        for (int i = 0; i < 2; i++)
                assert_int_equal(s.conclusion.causes[i].candidates.count, 2);
}

/* The span is said in what people count in. */
static void test_clock_off_by_hours(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        not_valid_now(&s, REPO1, 0, 90);
        story_find(&s, MEASUREMENT_TLS, PURPOSE_SERVICE, REPO1)->not_before_unix = STORY_NOW + 60;
        story_peer_time(&s, REPO1, -5 * 3600);
        assert_story(&s, "degraded", "(clock.wrong)");
        assert_non_null(strstr(story_cause(&s, "clock.wrong")->summary, "5 hours slow"));
        story_find(&s, MEASUREMENT_HTTP, PURPOSE_TIME, REPO1)->peer_unix = STORY_NOW + 1500;
        assert_story(&s, "degraded", "(clock.wrong)");
        assert_non_null(strstr(story_cause(&s, "clock.wrong")->summary, "25 minutes slow"));
}

/* "Access denied" before anybody asked for a certificate is a filter's word, or a server's on something else.
 */
static void test_denied_before_the_certificate(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        alert(&s, CONTROL1, 49)->client_certificate_asked = NO;
        alert(&s, CONTROL2, 49)->client_certificate_asked = NO;
        story_conclude(&s);
        assert_null(strstr(story_codes(&s), "tls.client_rejected"));
        assert_story(&s, "undetermined", "undetermined");
}

/* One product, all services: the sentence names every host that it hurts. */
static void test_intercepted_everywhere(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (int i = 0; i < 4; i++)
                resigned(&s, all[i], "O = Fortinet, CN = Fortinet Untrusted CA");
        assert_story(&s, "blocked", "tls.intercepted");
        assert_non_null(
                strstr(story_cause(&s, "tls.intercepted")->summary, "for " REPO " and " CONTROL " ("));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_intercepted),
                cmocka_unit_test(test_interceptor_of_any_certificate),
                cmocka_unit_test(test_interceptor_unknown),
                cmocka_unit_test(test_two_interceptors),
                cmocka_unit_test(test_wrong_name),
                cmocka_unit_test(test_expired),
                cmocka_unit_test(test_expired_beside_a_valid_chain),
                cmocka_unit_test(test_clock_slow),
                cmocka_unit_test(test_clock_fast),
                cmocka_unit_test(test_no_peer_time),
                cmocka_unit_test(test_clock_off_and_chains_valid),
                cmocka_unit_test(test_cut),
                cmocka_unit_test(test_cut_by_fin),
                cmocka_unit_test(test_name_filtered),
                cmocka_unit_test(test_name_filtered_silently),
                cmocka_unit_test(test_another_certificate_without_name),
                cmocka_unit_test(test_stalled),
                cmocka_unit_test(test_one_lossy_handshake),
                cmocka_unit_test(test_silence_asked_once),
                cmocka_unit_test(test_mtu_black_hole),
                cmocka_unit_test(test_clamp_passes_by_luck),
                cmocka_unit_test(test_not_tls),
                cmocka_unit_test(test_client_rejected),
                cmocka_unit_test(test_no_client_certificate),
                cmocka_unit_test(test_client_rejected_by_http),
                cmocka_unit_test(test_other_bad_request),
                cmocka_unit_test(test_other_alert),
                cmocka_unit_test(test_riddles_are_kept_apart),
                cmocka_unit_test(test_clock_off_by_hours),
                cmocka_unit_test(test_denied_before_the_certificate),
                cmocka_unit_test(test_intercepted_everywhere),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
