// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <string.h>

/* ---- who answers in the service's name ---- */

/* The sign-in page: plain HTTP on the service's own port, and a redirect on port 80. */
static struct measurement *portal(struct story *s, const char *target, int status, const char *location)
{
        struct measurement *m = story_add(s, MEASUREMENT_HTTP, target);

        str_copy(m->spec.service, sizeof m->spec.service, "repo");
        str_copy(m->spec.name, sizeof m->spec.name, REPO);
        m->spec.purpose = PURPOSE_PORTAL;
        m->spec.tls = SERVICE_TLS_NONE;
        m->spec.target.port = 80;
        m->stage = STAGE_HTTP;
        m->http_status = status;
        m->location = xstrdup(location);
        return m;
}

static void test_captive_portal(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_NOT_TLS)->first_bytes = xstrdup("HTTP/1.1 302 Found");
        story_tls(&s, REPO2, OUTCOME_NOT_TLS)->first_bytes = xstrdup("HTTP/1.1 302 Found");
        portal(&s, REPO1, 302, "http://login.hotel.example/?next=1");
        assert_story(&s, "blocked", "http.captive_portal");
        assert_non_null(strstr(story_cause(&s, "http.captive_portal")->summary, "login.hotel.example"));
}

static void test_captive_portal_511(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_NOT_TLS);
        story_tls(&s, REPO2, OUTCOME_NOT_TLS);
        portal(&s, REPO1, 511, NULL);
        assert_story(&s, "blocked", "http.captive_portal");
}

/* Port 80 sends to HTTPS of the same host: that is what web servers do. */
static void test_redirect_to_https(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tls(&s, REPO1, OUTCOME_NOT_TLS)->first_bytes = xstrdup("HTTP/1.1 400 Bad Request");
        story_tls(&s, REPO2, OUTCOME_NOT_TLS)->first_bytes = xstrdup("HTTP/1.1 400 Bad Request");
        portal(&s, REPO1, 301, "https://" REPO "/");
        assert_story(&s, "blocked", "tls.not_tls");
}

/* A redirect on port 80 and a service that works: nobody stands in the way. */
static void test_redirect_beside_a_healthy_service(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        portal(&s, REPO1, 302, "http://login.hotel.example/");
        assert_story(&s, "healthy", "");
}

/* ---- without TLS somebody else can speak ---- */

static void plain_repo(struct story *s)
{
        struct measurement *m;

        story_drop(s, MEASUREMENT_TLS, REPO1);
        story_drop(s, MEASUREMENT_TLS, REPO2);
        for (size_t i = 0; i < s->list.count; i++) {
                m = s->list.items[i];
                if (m->spec.kind == MEASUREMENT_SERVICE && str_equal(m->spec.service, "repo"))
                        m->spec.tls = SERVICE_TLS_NONE;
        }
}

static void test_plain_service(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        plain_repo(&s);
        assert_story(&s, "healthy", "");
}

static void test_filtered(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        plain_repo(&s);
        story_http(&s, REPO1, 403)->body_excerpt = xstrdup("Access blocked by policy");
        story_http(&s, REPO2, 403)->body_excerpt = xstrdup("Access blocked by policy");
        assert_story(&s, "blocked", "http.filtered");
}

/* The same 403 over genuine TLS: no filter can have said it, nor does it say that the node is unknown. */
static void test_forbidden_by_the_genuine(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_http(&s, CONTROL1, 403);
        story_http(&s, CONTROL2, 403);
        story_conclude(&s);
        assert_null(strstr(story_codes(&s), "http.filtered"));
        assert_null(strstr(story_codes(&s), "http.unauthorized"));
        assert_story(&s, "undetermined", "undetermined");
}

static void test_proxy_demands_sign_in(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        plain_repo(&s);
        for (int i = 0; i < 2; i++) {
                m = story_http(&s, i ? REPO2 : REPO1, 407);
                m->proxy_authenticate = xstrdup("Basic");
        }
        assert_story(&s, "blocked", "http.proxy_required");
}

/* ---- the service itself ---- */

static void test_unauthorized(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_http(&s, CONTROL1, 403)->problem_type =
                xstrdup("https://grid.example/problems/node-not-authorized");
        story_http(&s, CONTROL2, 401)->problem_type =
                xstrdup("https://grid.example/problems/node-not-authorized");
        assert_story(&s, "blocked", "http.unauthorized");
}

/* Another problem document is another problem. */
static void test_other_problem(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_http(&s, CONTROL1, 403)->problem_type = xstrdup("https://grid.example/problems/quota");
        story_http(&s, CONTROL2, 403)->problem_type = xstrdup("https://grid.example/problems/quota");
        story_conclude(&s);
        assert_null(strstr(story_codes(&s), "http.unauthorized"));
}

static void test_server_error(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_http(&s, REPO1, 503);
        story_http(&s, REPO2, 503);
        assert_story(&s, "blocked", "service.down");
        assert_int_equal(story_cause(&s, "service.down")->fixed_by, FIXED_BY_CONTROL_PLANE);
}

static void test_not_found_is_an_answer(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_http(&s, REPO1, 404);
        assert_story(&s, "healthy", "");
}

/* Down on one address by its RST, and by 503 on the other: two facts, two sentences. */
static void test_down_in_two_ways(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_reset(&s, REPO2, STORY_TTL);
        story_http(&s, REPO1, 503);
        assert_story(&s, "blocked", "service.down service.down");
}

/* ---- bulk data ---- */

static void test_transfer_cut(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_payload(&s, REPO1, 0, OUTCOME_CLOSED);
        story_payload(&s, REPO1, 1, OUTCOME_CLOSED);
        story_payload(&s, REPO2, 0, OUTCOME_CLOSED);
        story_payload(&s, REPO2, 1, OUTCOME_CLOSED);
        assert_story(&s, "blocked", "transfer.cut");
        assert_non_null(strstr(story_cause(&s, "transfer.cut")->summary, "65536"));
}

/* Cut once, whole the second time: loss. */
static void test_transfer_cut_once(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_payload(&s, REPO1, 0, OUTCOME_RESET);
        story_payload(&s, REPO1, 1, OUTCOME_OK);
        assert_story(&s, "healthy", "");
}

static void test_transfer_whole(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_payload(&s, REPO1, 0, OUTCOME_OK);
        assert_story(&s, "healthy", "");
}

/* The time ran out in the middle: not tested, not cut. */
static void test_transfer_not_finished(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_payload(&s, REPO1, 0, OUTCOME_TIMEOUT);
        story_payload(&s, REPO1, 1, OUTCOME_NOT_TESTED);
        assert_story(&s, "healthy", "");
}

/* ---- quality ---- */

static void test_slow(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        for (size_t i = 0; i < s.list.count; i++)
                if (s.list.items[i]->rtt_ms > 0)
                        s.list.items[i]->rtt_ms = 800;
        assert_story(&s, "healthy", "(path.slow)");
}

static void test_one_slow_answer(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tcp(&s, REPO2, OUTCOME_OK)->rtt_ms = 900;
        assert_story(&s, "healthy", "");
}

static void test_lossy(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_tcp(&s, REPO1, OUTCOME_OK)->syns_unanswered = 2;
        story_tcp(&s, CONTROL2, OUTCOME_OK)->syns_unanswered = 1;
        assert_story(&s, "healthy", "(path.lossy)");
}

/* A refuser that limits its ICMP errors loses nothing. */
static void test_limited_refusals_are_no_loss(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        story_rejected(&s, REPO1, GATEWAY)->syns_unanswered = 4;
        story_rejected(&s, REPO2, GATEWAY)->syns_unanswered = 4;
        assert_story(&s, "blocked", "tcp.rejected");
}

static void test_portal_on_a_plain_service(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        plain_repo(&s);
        story_http(&s, REPO1, 302)->location = xstrdup("http://login.hotel.example/");
        story_http(&s, REPO2, 302)->location = xstrdup("http://login.hotel.example/");
        assert_story(&s, "blocked", "http.captive_portal");
}

/* Hosts of the service's own domain are no strangers. */
static void test_redirect_within_the_domain(void **state)
{
        _story_ s = {0};

        (void)state;
        story_healthy(&s);
        plain_repo(&s);
        story_http(&s, REPO1, 302)->location = xstrdup("http://mirror.grid.example/");
        assert_story(&s, "healthy", "");
}

/* TLS is complete, and then nothing, twice. */
static void test_no_answer_twice(void **state)
{
        _story_ s = {0};
        struct measurement *m;

        (void)state;
        story_healthy(&s);
        story_drop(&s, MEASUREMENT_HTTP, REPO1);
        for (unsigned i = 0; i < 2; i++) {
                m = story_add(&s, MEASUREMENT_HTTP, REPO1);
                m->spec = story_find(&s, MEASUREMENT_TLS, PURPOSE_SERVICE, REPO1)->spec;
                m->spec.kind = MEASUREMENT_HTTP;
                m->spec.attempt = i;
                m->outcome = OUTCOME_CLOSED;
                m->stage = STAGE_HTTP;
                if (i == 0)
                        assert_story(&s, "healthy", "");
        }
        assert_story(&s, "undetermined", "(undetermined)");
        assert_true(strv_contains(&story_cause(&s, "undetermined")->candidates, "service.down"));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_captive_portal),
                cmocka_unit_test(test_captive_portal_511),
                cmocka_unit_test(test_redirect_to_https),
                cmocka_unit_test(test_redirect_beside_a_healthy_service),
                cmocka_unit_test(test_plain_service),
                cmocka_unit_test(test_filtered),
                cmocka_unit_test(test_forbidden_by_the_genuine),
                cmocka_unit_test(test_proxy_demands_sign_in),
                cmocka_unit_test(test_unauthorized),
                cmocka_unit_test(test_other_problem),
                cmocka_unit_test(test_server_error),
                cmocka_unit_test(test_not_found_is_an_answer),
                cmocka_unit_test(test_down_in_two_ways),
                cmocka_unit_test(test_transfer_cut),
                cmocka_unit_test(test_transfer_cut_once),
                cmocka_unit_test(test_transfer_whole),
                cmocka_unit_test(test_transfer_not_finished),
                cmocka_unit_test(test_slow),
                cmocka_unit_test(test_one_slow_answer),
                cmocka_unit_test(test_lossy),
                cmocka_unit_test(test_limited_refusals_are_no_loss),
                cmocka_unit_test(test_portal_on_a_plain_service),
                cmocka_unit_test(test_redirect_within_the_domain),
                cmocka_unit_test(test_no_answer_twice),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
