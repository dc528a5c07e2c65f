// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "world.h"

#include "base/alloc.h"

static bool resets_443(const struct run *r, struct measurement *m)
{
        if (m->spec.target.port != 443 || m->spec.kind < MEASUREMENT_TCP)
                return world_healthy(r, m);
        m->outcome = OUTCOME_RESET;
        m->stage = STAGE_TCP;
        m->reply_ttl = 64;
        m->hop_answer = HOP_RESET;
        return true;
}

static void test_reset_port(void **state)
{
        _run_ r = {.world = resets_443};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "tcp.reset");
        /* Another port of the same host is the control. */
        assert_true(world_was_asked(&r, MEASUREMENT_TCP, "198.51.100.20:8443"));
}

static bool hello_vanishes(const struct run *r, struct measurement *m)
{
        if (m->spec.target.port == 443 &&
                (m->spec.kind == MEASUREMENT_TLS || m->spec.kind == MEASUREMENT_HTTP)) {
                m->stage = STAGE_TLS;
                m->hello_acked = NO;
                return false;
        }
        return world_healthy(r, m);
}

static void test_silent_hello(void **state)
{
        _run_ r = {.world = hello_vanishes};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "tls.stalled");
        assert_int_equal(world_count(&r, MEASUREMENT_TLS, PURPOSE_REPEAT), 2);
        assert_int_equal(world_count(&r, MEASUREMENT_TLS, PURPOSE_CLAMP), 4);
        assert_true(r.now_ms < 3000);
}

static bool captures_repo(const struct run *r, struct measurement *m)
{
        bool captured = (m->spec.target.port == 443 || m->spec.target.port == 53) &&
                        m->spec.target.address.bytes[0] == 198;

        if (captured && m->spec.kind != MEASUREMENT_ROUTE && !m->spec.interface[0])
                return false;
        world_healthy(r, m);
        if (captured && m->spec.kind == MEASUREMENT_ROUTE) {
                str_copy(m->route_interface, sizeof m->route_interface, "eth1");
                str_copy(m->route_prefix, sizeof m->route_prefix, "198.51.100.0/24");
        }
        return true;
}

/* A captured route gets its A/B, bound to the WAN device. */
static void test_captured_route(void **state)
{
        _run_ r = {.world = captures_repo};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "degraded", "(route.captured)");
        assert_string_equal(story_targets(&r.story, "route.captured"), DNS1 " " REPO1);
        assert_int_equal(world_count(&r, MEASUREMENT_TCP, PURPOSE_DEVICE), 1);
        assert_true(world_count(&r, MEASUREMENT_DNS, PURPOSE_DEVICE) > 0);
        for (size_t i = 0; i < r.asked_count; i++)
                if (r.asked[i].spec.purpose == PURPOSE_DEVICE)
                        assert_string_equal(r.asked[i].spec.interface, "eth0");
}

static bool clock_is_slow(const struct run *r, struct measurement *m)
{
        bool answered = world_healthy(r, m);

        if (m->spec.kind == MEASUREMENT_TLS || m->spec.kind == MEASUREMENT_HTTP) {
                m->local_unix = STORY_NOW;
                m->not_before_unix = STORY_NOW + 100 * DAYS;
                m->not_after_unix = STORY_NOW + 190 * DAYS;
                m->chain_time_valid = NO;
                m->peer_unix = STORY_NOW + 120 * DAYS;
                if (m->spec.purpose != PURPOSE_TIME) {
                        m->outcome = OUTCOME_UNTRUSTED;
                        m->stage = STAGE_TLS;
                        m->peer_unix = 0;
                }
        }
        return answered;
}

static void test_peers_are_asked_for_the_time(void **state)
{
        _run_ r = {.world = clock_is_slow};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "clock.wrong");
        assert_true(world_count(&r, MEASUREMENT_HTTP, PURPOSE_TIME) >= 1);
}

static bool cuts_bulk_data(const struct run *r, struct measurement *m)
{
        bool answered = world_healthy(r, m);

        if (m->spec.purpose == PURPOSE_PAYLOAD) {
                m->outcome = OUTCOME_CLOSED;
                m->body_bytes = 65536;
        }
        return answered;
}

static void test_bulk_data(void **state)
{
        _run_ r = {.world = world_healthy}, cut = {.world = cuts_bulk_data};
        static const char path[] = "/payload?bytes=262144";

        (void)state;
        story_configured(&r.story);
        story_configured(&cut.story);
        story_find(&r.story, MEASUREMENT_SERVICE, PURPOSE_SERVICE, NULL)->payload_path = xstrdup(path);
        story_find(&cut.story, MEASUREMENT_SERVICE, PURPOSE_SERVICE, NULL)->payload_path = xstrdup(path);
        world_run(&r);
        assert_int_equal(world_count(&r, MEASUREMENT_HTTP, PURPOSE_PAYLOAD), 1);
        world_run(&cut);
        /* Once more, and at the other address. */
        assert_int_equal(world_count(&cut, MEASUREMENT_HTTP, PURPOSE_PAYLOAD), 4);
        assert_story(&cut.story, "blocked", "transfer.cut");
}

static void test_proxy(void **state)
{
        _run_ literal = {.world = world_healthy}, named = {.world = world_healthy};
        bool found = false;

        (void)state;
        story_configured(&literal.story);
        str_copy(story_find(&literal.story, MEASUREMENT_SITE, PURPOSE_SERVICE, NULL)->spec.proxy, 256,
                "http://192.0.2.80:3128");
        world_run(&literal);
        assert_int_equal(world_count(&literal, MEASUREMENT_HTTP, PURPOSE_PROXY), 2);
        assert_int_equal(world_count(&literal, MEASUREMENT_DNS, PURPOSE_PROXY), 0);

        /* Its name is asked of the configured servers, and of nobody else. */
        story_configured(&named.story);
        str_copy(story_find(&named.story, MEASUREMENT_SITE, PURPOSE_SERVICE, NULL)->spec.proxy, 256,
                "http://" REPO ":3128");
        world_run(&named);
        assert_int_equal(world_count(&named, MEASUREMENT_DNS, PURPOSE_PROXY), 2);
        for (size_t i = 0; i < named.asked_count; i++)
                if (named.asked[i].spec.kind == MEASUREMENT_HTTP &&
                        named.asked[i].spec.purpose == PURPOSE_PROXY)
                        found |= str_equal(named.asked[i].spec.proxy, "http://198.51.100.20:3128");
        assert_true(found);
}

static bool bad_request(const struct run *r, struct measurement *m)
{
        bool answered = world_healthy(r, m);

        if (m->spec.kind == MEASUREMENT_HTTP && m->spec.target.port == 8443) {
                m->http_status = 400;
                if (m->spec.http_get)
                        m->body_excerpt = xstrdup("400 The SSL certificate error");
        }
        return answered;
}

/* A HEAD's 400 says nothing of the reason: the page is asked for. */
static void test_reason_of_bad_request(void **state)
{
        _run_ r = {.world = bad_request};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "tls.client_rejected");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reset_port),
                cmocka_unit_test(test_silent_hello),
                cmocka_unit_test(test_captured_route),
                cmocka_unit_test(test_peers_are_asked_for_the_time),
                cmocka_unit_test(test_bulk_data),
                cmocka_unit_test(test_proxy),
                cmocka_unit_test(test_reason_of_bad_request),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
