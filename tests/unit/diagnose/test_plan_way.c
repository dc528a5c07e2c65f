// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "world.h"

/* The firewall drops SYNs to 443 at its exit: a trace ends after hop 1. */
static bool drops_443(const struct run *r, struct measurement *m)
{
        bool over = m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_HTTP ||
                    (m->spec.kind == MEASUREMENT_HOP && m->spec.ttl > 1);

        return !(over && m->spec.target.port == 443) && world_healthy(r, m);
}

static void test_dropped_port(void **state)
{
        _run_ r = {.world = drops_443};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "tcp.dropped");
        assert_int_equal(story_cause(&r.story, "tcp.dropped")->after.hop, 1);
        assert_true(world_was_asked(&r, MEASUREMENT_HOP, REPO1));
        assert_true(r.now_ms <= 2000);
}

/* A suspect's trace starts while its connect still waits. */
static void test_suspects_are_traced_at_once(void **state)
{
        _run_ r = {.world = drops_443, .rtt_ms = WORLD_RTT_MS};

        (void)state;
        story_configured(&r.story);
        for (world_plan(&r); r.now_ms < 500; world_plan(&r)) {
                r.now_ms += WORLD_TICK_MS;
                world_answer(&r);
        }
        assert_true(world_was_asked(&r, MEASUREMENT_HOP, REPO1));
        for (size_t i = 0; i < r.asked_count; i++)
                if (r.asked[i].spec.kind == MEASUREMENT_TCP && r.asked[i].spec.target.port == 443)
                        assert_true(r.asked[i].pending);
}

static bool nothing_beyond_the_gateway(const struct run *r, struct measurement *m)
{
        return (world_is_local(m->spec.kind) || m->spec.kind == MEASUREMENT_ARP ||
                       (m->spec.kind == MEASUREMENT_HOP && m->spec.ttl == 1)) &&
               world_healthy(r, m);
}

static void test_nothing_answers(void **state)
{
        _run_ r = {.world = nothing_beyond_the_gateway};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "upstream.dead");
        assert_true(r.now_ms < 3000);
}

static bool refuses_443(const struct run *r, struct measurement *m)
{
        if (m->spec.target.port != 443 || m->spec.kind < MEASUREMENT_TCP)
                return world_healthy(r, m);
        /* The router's bucket is empty for the second address until it is asked again. */
        if (m->spec.target.address.bytes[0] == 203 && m->spec.purpose != PURPOSE_REPEAT)
                return false;
        m->outcome = OUTCOME_REJECTED;
        m->hop_answer = HOP_UNREACHABLE;
        m->icmp_type = 3;
        m->icmp_code = 13;
        inet_addr_parse(GATEWAY, &m->by);
        return true;
}

static void test_silence_beside_refusals_is_asked_again(void **state)
{
        _run_ r = {.world = refuses_443};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "tcp.rejected");
        assert_string_equal(story_targets(&r.story, "tcp.rejected"), REPO1 " " REPO2);
        assert_true(world_count(&r, MEASUREMENT_TCP, PURPOSE_REPEAT) >= 1);
}

static bool no_icmp_and_drops_443(const struct run *r, struct measurement *m)
{
        return m->spec.kind != MEASUREMENT_HOP && drops_443(r, m);
}

static void test_silent_way_is_asked_again(void **state)
{
        _run_ r = {.world = no_icmp_and_drops_443};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "tcp.dropped");
        assert_true(world_count(&r, MEASUREMENT_HOP, PURPOSE_REPEAT) > 0);
        assert_true(r.now_ms < 3500);
}

static bool only_silence(const struct run *r, struct measurement *m)
{
        return world_is_local(m->spec.kind) && world_healthy(r, m);
}

/* No address is known and no name can be looked up: the servers' own way is all there is to look at. */
static void test_way_to_the_servers(void **state)
{
        _run_ r = {.world = only_silence};

        (void)state;
        story_configured(&r.story);
        story_no_addresses(&r.story);
        world_run(&r);
        assert_true(world_was_asked(&r, MEASUREMENT_HOP, DNS1));
        assert_int_equal(world_count(&r, MEASUREMENT_TCP, PURPOSE_SERVICE), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_dropped_port),
                cmocka_unit_test(test_suspects_are_traced_at_once),
                cmocka_unit_test(test_nothing_answers),
                cmocka_unit_test(test_silence_beside_refusals_is_asked_again),
                cmocka_unit_test(test_silent_way_is_asked_again),
                cmocka_unit_test(test_way_to_the_servers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
