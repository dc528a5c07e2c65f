// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "world.h"

#include "base/alloc.h"

#include <stdio.h>
#include <time.h>

/* Independent faults are found together only when all is asked at once, and a firewall's port is asked for
 * before any name is known. */
static void test_start(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        story_configured(&r.story);
        world_plan(&r);
        assert_int_equal(world_count(&r, MEASUREMENT_LINK, PURPOSE_SERVICE), 1);
        assert_int_equal(world_count(&r, MEASUREMENT_ADDRESS, PURPOSE_SERVICE), 1);
        assert_int_equal(world_count(&r, MEASUREMENT_ARP, PURPOSE_GATEWAY), 1);
        assert_int_equal(world_count(&r, MEASUREMENT_ARP, PURPOSE_CONFLICT), 1);
        /* Two servers, two names, A and AAAA, UDP and TCP. */
        assert_int_equal(world_count(&r, MEASUREMENT_DNS, PURPOSE_SERVICE), 16);
        assert_int_equal(world_count(&r, MEASUREMENT_DNS, PURPOSE_INTERCEPTION), 2);
        assert_int_equal(world_count(&r, MEASUREMENT_TCP, PURPOSE_SERVICE), 4);
        assert_true(world_was_asked(&r, MEASUREMENT_TCP, REPO1) &&
                    world_was_asked(&r, MEASUREMENT_TCP, CONTROL2));
        assert_true(world_was_asked(&r, MEASUREMENT_ROUTE, REPO1) &&
                    world_was_asked(&r, MEASUREMENT_ROUTE, DNS2));
        /* Nothing is suspect yet. */
        assert_int_equal(world_count(&r, MEASUREMENT_HOP, PURPOSE_SERVICE), 0);
        assert_int_equal(world_count(&r, MEASUREMENT_TLS, PURPOSE_SERVICE), 0);
        assert_false(r.stopped);
}

static void test_nothing_configured(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        world_plan(&r);
        assert_int_equal(r.asked_count, 0);
        assert_true(r.stopped);
}

static void test_healthy_site(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "healthy", "");
        assert_int_equal(world_count(&r, MEASUREMENT_TLS, PURPOSE_SERVICE), 4);
        assert_int_equal(world_count(&r, MEASUREMENT_HTTP, PURPOSE_SERVICE), 2);
        assert_int_equal(world_count(&r, MEASUREMENT_HOP, PURPOSE_SERVICE), 0);
        assert_int_equal(world_count(&r, MEASUREMENT_TLS, PURPOSE_REPEAT), 0);
}

/* The ARP conflict probe is the only one that waits for silence. */
static void test_healthy_site_stops_early(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        story_configured(&r.story);
        for (world_plan(&r); r.now_ms < 200; world_plan(&r)) {
                r.rtt_ms = WORLD_RTT_MS;
                r.now_ms += WORLD_TICK_MS;
                world_answer(&r);
                for (size_t i = 0; i < r.asked_count; i++)
                        if (r.asked[i].pending)
                                assert_true(r.asked[i].spec.kind == MEASUREMENT_ARP ||
                                            r.now_ms - r.asked[i].at_ms < WORLD_RTT_MS);
        }
        assert_true(r.now_ms < 300);
}

static bool second_server_is_dead(const struct run *r, struct measurement *m)
{
        return !(m->spec.kind == MEASUREMENT_DNS && m->spec.target.address.bytes[0] == 203 &&
                       m->spec.purpose == PURPOSE_SERVICE) &&
               world_healthy(r, m);
}

static void test_dead_server_waits_once(void **state)
{
        _run_ r = {.world = second_server_is_dead};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_story(&r.story, "degraded", "(dns.unreachable)");
        assert_true(r.now_ms < 2000);
}

/* The network answers with an address of the local net, and would like to be asked about it. */
static bool lies(const struct run *r, struct measurement *m)
{
        bool answered = world_healthy(r, m);

        if (m->spec.kind == MEASUREMENT_DNS && m->addresses.count) {
                strv_done(&m->addresses);
                strv_add(&m->addresses, "10.0.0.1");
        }
        return answered;
}

/* An answer outside the ranges is nobody whom the node may talk to. */
static void test_keeps_away_from_strangers(void **state)
{
        _run_ r = {.world = lies};

        (void)state;
        story_configured(&r.story);
        story_no_addresses(&r.story);
        world_run(&r);
        assert_story(&r.story, "blocked", "dns.wrong_answer");
        for (size_t i = 0; i < r.asked_count; i++)
                assert_int_not_equal(r.asked[i].spec.target.address.bytes[0], 10);
        assert_int_equal(world_count(&r, MEASUREMENT_TCP, PURPOSE_SERVICE), 0);
}

/* Addresses inside the ranges that the profile does not list are tested as well. */
static void test_resolved_addresses_are_tested(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        story_configured(&r.story);
        story_no_addresses(&r.story);
        world_run(&r);
        assert_story(&r.story, "healthy", "");
        assert_true(world_was_asked(&r, MEASUREMENT_TCP, REPO2) &&
                    world_was_asked(&r, MEASUREMENT_TCP, CONTROL1));
}

static void test_no_profile(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        story_configured(&r.story);
        story_drop(&r.story, MEASUREMENT_PROFILE, NULL);
        story_drop(&r.story, MEASUREMENT_SERVICE, NULL);
        world_run(&r);
        assert_story(&r.story, "healthy", "");
        assert_int_equal(world_count(&r, MEASUREMENT_TCP, PURPOSE_SERVICE), 0);
        assert_true(world_count(&r, MEASUREMENT_DNS, PURPOSE_SERVICE) > 0);
}

/* LAN interfaces are looked at: a route of theirs may be in force, or not yet. */
static void test_lan_links(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        story_configured(&r.story);
        story_lan(&r.story, "eth1", NULL);
        story_drop(&r.story, MEASUREMENT_LINK, NULL);
        world_plan(&r);
        assert_int_equal(world_count(&r, MEASUREMENT_LINK, PURPOSE_SERVICE), 2);
}

static void test_patience_grows_with_the_round_trip(void **state)
{
        _run_ fast = {.world = world_healthy, .rtt_ms = 20}, slow = {.world = world_healthy, .rtt_ms = 800};

        (void)state;
        story_configured(&fast.story);
        story_configured(&slow.story);
        world_run(&fast);
        world_run(&slow);
        assert_story(&fast.story, "healthy", "");
        assert_story(&slow.story, "healthy", "(path.slow)");
        /* As long as an answer may still come in time. */
        assert_true(slow.patience_ms >= 2 * 800);
        assert_true(slow.patience_ms > fast.patience_ms);
        assert_true(fast.most_patience_ms <= 1000);
}

static bool loses_first_syns(const struct run *r, struct measurement *m)
{
        bool answered = world_healthy(r, m);

        if (m->spec.kind == MEASUREMENT_TCP)
                m->syns_unanswered = 1;
        return answered;
}

static void test_patience_grows_with_loss(void **state)
{
        _run_ r = {.world = loses_first_syns};

        (void)state;
        story_configured(&r.story);
        world_run(&r);
        assert_true(r.most_patience_ms > 1500);
}

static void add_many(struct story *s, unsigned services)
{
        char name[32], host[64], address[32];

        for (unsigned i = 0; i < services; i++) {
                struct measurement *m = story_add(s, MEASUREMENT_SERVICE, NULL);

                snprintf(name, sizeof name, "s%u", i);
                snprintf(host, sizeof host, "s%u.grid.example", i);
                snprintf(address, sizeof address, "198.51.100.%u", 16 + i % 16);
                str_copy(m->spec.service, sizeof m->spec.service, name);
                str_copy(m->spec.name, sizeof m->spec.name, host);
                m->spec.target.port = (uint16_t)(1000 + i);
                strv_add(&m->addresses, address);
        }
}

static bool answers_names_with_nothing(const struct run *r, struct measurement *m)
{
        bool answered = world_healthy(r, m);

        if (m->spec.kind == MEASUREMENT_DNS && m->spec.purpose == PURPOSE_SERVICE) {
                strv_done(&m->addresses);
                m->outcome = OUTCOME_RCODE;
                m->rcode = 3;
        }
        return answered;
}

static bool drops_everything_tcp(const struct run *r, struct measurement *m)
{
        return !(m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_HTTP ||
                       (m->spec.kind == MEASUREMENT_HOP && m->spec.ttl > 1)) &&
               answers_names_with_nothing(r, m);
}

static void test_many_targets(void **state)
{
        _run_ good = {.world = answers_names_with_nothing}, bad = {.world = drops_everything_tcp};
        size_t hops;

        (void)state;
        story_configured(&good.story);
        story_drop(&good.story, MEASUREMENT_SERVICE, NULL);
        add_many(&good.story, 64);
        world_run(&good);
        assert_story(&good.story, "degraded", "(dns.no_such_name)");
        /* A name costs eight questions; an address a route, a connect, a handshake and a request. */
        assert_true(good.asked_count < 64 * 12 + 30);

        story_configured(&bad.story);
        story_drop(&bad.story, MEASUREMENT_SERVICE, NULL);
        add_many(&bad.story, 64);
        world_run(&bad);
        hops = world_count(&bad, MEASUREMENT_HOP, PURPOSE_SERVICE) +
               world_count(&bad, MEASUREMENT_HOP, PURPOSE_REPEAT);
        assert_true(hops <= 64);
        assert_true(bad.asked_count < 64 * 12 + 120);
        assert_true(bad.now_ms < 4000);
}

/* The same endpoint serves two names: a connect is asked for once, however far apart the two are named. */
static void test_shared_endpoint(void **state)
{
        _run_ r = {.world = world_healthy};

        (void)state;
        story_configured(&r.story);
        add_many(&r.story, 40);

        for (size_t i = 0; i < r.story.list.count; i++) {
                struct measurement *m = r.story.list.items[i];

                if (m->spec.kind == MEASUREMENT_SERVICE && str_equal(m->spec.service, "s39")) {
                        m->spec.target.port = 1000;
                        strv_done(&m->addresses);
                        strv_add(&m->addresses, "198.51.100.16");
                }
        }
        world_run(&r);
}

static double seconds_for(size_t ranges)
{
        _run_ r = {.world = world_healthy};
        struct measurement *profile;
        clock_t begin;

        story_configured(&r.story);
        profile = story_find(&r.story, MEASUREMENT_PROFILE, PURPOSE_SERVICE, NULL);
        for (size_t i = 0; i < ranges; i++)
                strv_take(&profile->ranges, xasprintf("10.%zu.%zu.0/28", i / 256, i % 256));
        begin = clock();
        world_run(&r);
        story_conclude(&r.story);
        assert_int_equal(r.story.conclusion.verdict, VERDICT_HEALTHY);
        return (double)(clock() - begin) / CLOCKS_PER_SEC;
}

/* Ten times the ranges, and not a hundred times the work. */
static void test_many_ranges(void **state)
{
        double few, many;

        (void)state;
        few = seconds_for(1000);
        many = seconds_for(10000);
        print_message("1,000 ranges: %.3f s, 10,000 ranges: %.3f s\n", few, many);
        assert_true(many < few * 30 + 0.5);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_start),
                cmocka_unit_test(test_nothing_configured),
                cmocka_unit_test(test_healthy_site),
                cmocka_unit_test(test_healthy_site_stops_early),
                cmocka_unit_test(test_dead_server_waits_once),
                cmocka_unit_test(test_keeps_away_from_strangers),
                cmocka_unit_test(test_resolved_addresses_are_tested),
                cmocka_unit_test(test_no_profile),
                cmocka_unit_test(test_lan_links),
                cmocka_unit_test(test_patience_grows_with_the_round_trip),
                cmocka_unit_test(test_patience_grows_with_loss),
                cmocka_unit_test(test_many_targets),
                cmocka_unit_test(test_shared_endpoint),
                cmocka_unit_test(test_many_ranges),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
