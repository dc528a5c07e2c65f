// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"
#include "diagnose/plan.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* A run without a network and without a clock: what the plan asks for is answered by a world, or not at all.
 * Time goes on in ticks. */

#define TICK_MS 20.0
#define RTT_MS  20.0

struct asked {
        struct probe_spec spec;
        double at_ms;
        bool pending;
};

struct run {
        struct story story;
        /* NULL: it stays silent. Otherwise an outcome and, if it likes, more. */
        bool (*world)(const struct run *r, struct measurement *m);
        struct asked *asked;
        size_t asked_count, allocated;
        double now_ms, rtt_ms, patience_ms, most_patience_ms;
        bool stopped;
};

static void run_done(struct run *r)
{
        story_done(&r->story);
        free(r->asked);
}
#define _run_ _cleanup_(run_done) struct run

static void note_asked(struct run *r, const struct probe_spec *s)
{
        for (size_t i = 0; i < r->asked_count; i++)
                if (probe_spec_equal(&r->asked[i].spec, s)) {
                        char target[320];

                        probe_spec_target_text(s, target, sizeof target);
                        fail_msg("asked twice: %s %s", measurement_kind_to_string(s->kind), target);
                }
        if (r->asked_count == r->allocated) {
                r->allocated = r->allocated ? r->allocated * 2 : 256;
                r->asked = xrealloc_array(r->asked, r->allocated, sizeof *r->asked);
        }
        r->asked[r->asked_count++] = (struct asked){.spec = *s, .at_ms = r->now_ms, .pending = true};
}

static void plan(struct run *r)
{
        struct plan_pending *pending = xcalloc(r->asked_count + 1, sizeof *pending);
        struct plan_output out = {0};
        struct plan_input in = {.done = &r->story.list,
                .pending = pending,
                .now_ms = r->now_ms,
                .budget_ms = 3000,
                .can_capture = true};

        for (size_t i = 0; i < r->asked_count; i++)
                if (r->asked[i].pending)
                        pending[in.pending_count++] =
                                (struct plan_pending){&r->asked[i].spec, r->now_ms - r->asked[i].at_ms};
        plan_next(&in, &out);
        for (size_t i = 0; i < out.count; i++)
                note_asked(r, &out.specs[i]);
        r->patience_ms = out.patience_ms;
        if (out.patience_ms > r->most_patience_ms)
                r->most_patience_ms = out.patience_ms;
        r->stopped = out.may_stop;
        if (out.may_stop)
                assert_int_equal(out.count, 0);
        plan_output_done(&out);
        free(pending);
}

static bool is_local(enum measurement_kind k)
{
        return k == MEASUREMENT_LINK || k == MEASUREMENT_ADDRESS || k == MEASUREMENT_ROUTE ||
               k == MEASUREMENT_NEIGHBOUR;
}

/* Answers what is due. */
static void answer(struct run *r)
{
        for (size_t i = 0; i < r->asked_count; i++) {
                struct asked *a = &r->asked[i];
                double age_ms = r->now_ms - a->at_ms;
                struct measurement *m;

                if (!a->pending || (!is_local(a->spec.kind) && age_ms < r->rtt_ms))
                        continue;
                m = measurement_new(&a->spec);
                m->at_ms = a->at_ms;
                m->took_ms = age_ms;
                if (!r->world(r, m)) {
                        if (age_ms < r->patience_ms) {
                                measurement_free(m);
                                continue;
                        }
                        m->outcome = OUTCOME_TIMEOUT;
                        m->left_host = YES;
                        m->reply_seen = NO;
                }
                a->pending = false;
                measurement_list_take(&r->story.list, m);
        }
}

static void abandon(struct run *r)
{
        for (size_t i = 0; i < r->asked_count; i++)
                if (r->asked[i].pending) {
                        struct measurement *m = measurement_new(&r->asked[i].spec);

                        m->outcome = OUTCOME_NOT_TESTED;
                        m->reason = xstrdup("its answer was no longer needed");
                        measurement_list_take(&r->story.list, m);
                        r->asked[i].pending = false;
                }
}

static void run(struct run *r)
{
        r->rtt_ms = r->rtt_ms > 0 ? r->rtt_ms : RTT_MS;
        for (plan(r); !r->stopped && r->now_ms < 20000; plan(r)) {
                r->now_ms += TICK_MS;
                answer(r);
        }
        assert_true(r->stopped);
        abandon(r);
}

/* ---- worlds ---- */

static void answer_locally(struct measurement *m)
{
        m->outcome = OUTCOME_OK;
        m->source_is_here = YES;
        m->link_up = m->carrier = YES;
        if (m->spec.kind == MEASUREMENT_ADDRESS)
                strv_add(&m->addresses, "192.0.2.10/24");
        if (m->spec.kind == MEASUREMENT_ROUTE) {
                str_copy(m->route_interface, sizeof m->route_interface, "eth0");
                str_copy(m->route_prefix, sizeof m->route_prefix, "default");
                inet_addr_parse(GATEWAY, &m->next_hop);
                m->route_text = xstrdup("default via " GATEWAY);
        }
}

static void answer_question(struct measurement *m)
{
        if (m->spec.purpose == PURPOSE_INTERCEPTION) {
                m->outcome = OUTCOME_REJECTED;
                m->by = m->spec.target.address;
                return;
        }
        m->answered = YES;
        m->outcome = m->spec.dns_type == 1 ? OUTCOME_OK : OUTCOME_NO_DATA;
        if (m->spec.dns_type != 1)
                return;
        strv_add(&m->addresses, str_equal(m->spec.name, REPO) ? "198.51.100.20" : "198.51.100.21");
        strv_add(&m->addresses, str_equal(m->spec.name, REPO) ? "203.0.113.200" : "203.0.113.201");
}

static void answer_hop(struct measurement *m)
{
        m->outcome = OUTCOME_OK;
        m->hop_answer = m->spec.ttl < 3 ? HOP_TIME_EXCEEDED : HOP_SYN_ACK;
        inet_addr_parse(m->spec.ttl == 1 ? GATEWAY : ROUTER, &m->by);
}

static bool healthy(const struct run *r, struct measurement *m)
{
        m->rtt_ms = r->rtt_ms;
        m->left_host = m->reply_seen = YES;
        m->reply_ttl = STORY_TTL;
        if (is_local(m->spec.kind)) {
                answer_locally(m);
        } else if (m->spec.kind == MEASUREMENT_DNS) {
                answer_question(m);
        } else if (m->spec.kind == MEASUREMENT_HOP) {
                answer_hop(m);
        } else {
                if (m->spec.kind == MEASUREMENT_ARP && m->spec.purpose == PURPOSE_CONFLICT)
                        return false;
                m->outcome = OUTCOME_OK;
                m->chain_trusted = m->chain_name_matches = m->chain_time_valid = YES;
                m->stage = m->spec.kind == MEASUREMENT_HTTP ? STAGE_HTTP : STAGE_TLS;
                m->http_status = m->spec.kind == MEASUREMENT_HTTP ? 200 : 0;
        }
        return true;
}

/* The firewall drops SYNs to 443 at its exit: a trace ends after hop 1. */
static bool drops_443(const struct run *r, struct measurement *m)
{
        bool over = m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_HTTP ||
                    (m->spec.kind == MEASUREMENT_HOP && m->spec.ttl > 1);

        return !(over && m->spec.target.port == 443) && healthy(r, m);
}

static bool resets_443(const struct run *r, struct measurement *m)
{
        if (m->spec.target.port != 443 || m->spec.kind < MEASUREMENT_TCP)
                return healthy(r, m);
        m->outcome = OUTCOME_RESET;
        m->stage = STAGE_TCP;
        m->reply_ttl = 64;
        m->hop_answer = HOP_RESET;
        return true;
}

static bool nothing_beyond_the_gateway(const struct run *r, struct measurement *m)
{
        return (is_local(m->spec.kind) || m->spec.kind == MEASUREMENT_ARP ||
                       (m->spec.kind == MEASUREMENT_HOP && m->spec.ttl == 1)) &&
               healthy(r, m);
}

static bool hello_vanishes(const struct run *r, struct measurement *m)
{
        if (m->spec.target.port == 443 &&
                (m->spec.kind == MEASUREMENT_TLS || m->spec.kind == MEASUREMENT_HTTP)) {
                m->stage = STAGE_TLS;
                m->hello_acked = NO;
                return false;
        }
        return healthy(r, m);
}

/* The network answers with an address of the local net, and would like to be asked about it. */
static bool lies(const struct run *r, struct measurement *m)
{
        bool answered = healthy(r, m);

        if (m->spec.kind == MEASUREMENT_DNS && m->addresses.count) {
                strv_done(&m->addresses);
                strv_add(&m->addresses, "10.0.0.1");
        }
        return answered;
}

static bool second_server_is_dead(const struct run *r, struct measurement *m)
{
        return !(m->spec.kind == MEASUREMENT_DNS && m->spec.target.address.bytes[0] == 203 &&
                       m->spec.purpose == PURPOSE_SERVICE) &&
               healthy(r, m);
}

/* ---- what was asked ---- */

static size_t count_asked(const struct run *r, enum measurement_kind kind, enum probe_purpose purpose)
{
        size_t n = 0;

        for (size_t i = 0; i < r->asked_count; i++)
                n += r->asked[i].spec.kind == kind && r->asked[i].spec.purpose == purpose;
        return n;
}

static bool was_asked(const struct run *r, enum measurement_kind kind, const char *target)
{
        struct endpoint e;

        endpoint_parse(target, &e);
        for (size_t i = 0; i < r->asked_count; i++)
                if (r->asked[i].spec.kind == kind && endpoint_equal(&r->asked[i].spec.target, &e))
                        return true;
        return false;
}

/* Independent faults are found together only when all is asked at once, and a firewall's port is asked for
 * before any name is known. */
static void test_start(void **state)
{
        _run_ r = {.world = healthy};

        (void)state;
        story_configured(&r.story);
        plan(&r);
        assert_int_equal(count_asked(&r, MEASUREMENT_LINK, PURPOSE_SERVICE), 1);
        assert_int_equal(count_asked(&r, MEASUREMENT_ADDRESS, PURPOSE_SERVICE), 1);
        assert_int_equal(count_asked(&r, MEASUREMENT_ARP, PURPOSE_GATEWAY), 1);
        assert_int_equal(count_asked(&r, MEASUREMENT_ARP, PURPOSE_CONFLICT), 1);
        /* Two servers, two names, A and AAAA, UDP and TCP. */
        assert_int_equal(count_asked(&r, MEASUREMENT_DNS, PURPOSE_SERVICE), 16);
        assert_int_equal(count_asked(&r, MEASUREMENT_DNS, PURPOSE_INTERCEPTION), 2);
        assert_int_equal(count_asked(&r, MEASUREMENT_TCP, PURPOSE_SERVICE), 4);
        assert_true(was_asked(&r, MEASUREMENT_TCP, REPO1) && was_asked(&r, MEASUREMENT_TCP, CONTROL2));
        assert_true(was_asked(&r, MEASUREMENT_ROUTE, REPO1) && was_asked(&r, MEASUREMENT_ROUTE, DNS2));
        /* Nothing is suspect yet. */
        assert_int_equal(count_asked(&r, MEASUREMENT_HOP, PURPOSE_SERVICE), 0);
        assert_int_equal(count_asked(&r, MEASUREMENT_TLS, PURPOSE_SERVICE), 0);
        assert_false(r.stopped);
}

static void test_nothing_configured(void **state)
{
        _run_ r = {.world = healthy};

        (void)state;
        plan(&r);
        assert_int_equal(r.asked_count, 0);
        assert_true(r.stopped);
}

static void test_healthy_site(void **state)
{
        _run_ r = {.world = healthy};

        (void)state;
        story_configured(&r.story);
        run(&r);
        assert_story(&r.story, "healthy", "");
        assert_int_equal(count_asked(&r, MEASUREMENT_TLS, PURPOSE_SERVICE), 4);
        assert_int_equal(count_asked(&r, MEASUREMENT_HTTP, PURPOSE_SERVICE), 2);
        assert_int_equal(count_asked(&r, MEASUREMENT_HOP, PURPOSE_SERVICE), 0);
        assert_int_equal(count_asked(&r, MEASUREMENT_TLS, PURPOSE_REPEAT), 0);
}

/* The ARP conflict probe is the only one that waits for silence. */
static void test_healthy_site_stops_early(void **state)
{
        _run_ r = {.world = healthy};

        (void)state;
        story_configured(&r.story);
        for (plan(&r); r.now_ms < 200; plan(&r)) {
                r.rtt_ms = RTT_MS;
                r.now_ms += TICK_MS;
                answer(&r);
                for (size_t i = 0; i < r.asked_count; i++)
                        if (r.asked[i].pending)
                                assert_true(r.asked[i].spec.kind == MEASUREMENT_ARP ||
                                            r.now_ms - r.asked[i].at_ms < RTT_MS);
        }
        assert_true(r.now_ms < 300);
}

static void test_dropped_port(void **state)
{
        _run_ r = {.world = drops_443};

        (void)state;
        story_configured(&r.story);
        run(&r);
        assert_story(&r.story, "blocked", "tcp.dropped");
        assert_int_equal(story_cause(&r.story, "tcp.dropped")->after.hop, 1);
        assert_true(was_asked(&r, MEASUREMENT_HOP, REPO1));
        assert_false(was_asked(&r, MEASUREMENT_HOP, CONTROL1));
        assert_true(r.now_ms <= 2000);
}

/* A suspect's trace starts while its connect still waits. */
static void test_suspects_are_traced_at_once(void **state)
{
        _run_ r = {.world = drops_443, .rtt_ms = RTT_MS};

        (void)state;
        story_configured(&r.story);
        for (plan(&r); r.now_ms < 500; plan(&r)) {
                r.now_ms += TICK_MS;
                answer(&r);
        }
        assert_true(was_asked(&r, MEASUREMENT_HOP, REPO1));
        for (size_t i = 0; i < r.asked_count; i++)
                if (r.asked[i].spec.kind == MEASUREMENT_TCP && r.asked[i].spec.target.port == 443)
                        assert_true(r.asked[i].pending);
}

static void test_reset_port(void **state)
{
        _run_ r = {.world = resets_443};

        (void)state;
        story_configured(&r.story);
        run(&r);
        assert_story(&r.story, "blocked", "tcp.reset");
        /* Another port of the same host is the control. */
        assert_true(was_asked(&r, MEASUREMENT_TCP, "198.51.100.20:8443"));
}

static void test_nothing_answers(void **state)
{
        _run_ r = {.world = nothing_beyond_the_gateway};

        (void)state;
        story_configured(&r.story);
        run(&r);
        assert_story(&r.story, "blocked", "upstream.dead");
        assert_true(r.now_ms < 3000);
}

static void test_silent_hello(void **state)
{
        _run_ r = {.world = hello_vanishes};

        (void)state;
        story_configured(&r.story);
        run(&r);
        assert_story(&r.story, "blocked", "tls.stalled");
        assert_int_equal(count_asked(&r, MEASUREMENT_TLS, PURPOSE_REPEAT), 2);
        assert_int_equal(count_asked(&r, MEASUREMENT_TLS, PURPOSE_CLAMP), 4);
        assert_true(r.now_ms < 3000);
}

static void test_dead_server_waits_once(void **state)
{
        _run_ r = {.world = second_server_is_dead};

        (void)state;
        story_configured(&r.story);
        run(&r);
        assert_story(&r.story, "degraded", "(dns.unreachable)");
        assert_true(r.now_ms < 2000);
}

/* An answer outside the ranges is nobody whom the node may talk to. */
static void test_keeps_away_from_strangers(void **state)
{
        _run_ r = {.world = lies};

        (void)state;
        story_configured(&r.story);
        story_no_addresses(&r.story);
        run(&r);
        assert_story(&r.story, "blocked", "dns.wrong_answer");
        for (size_t i = 0; i < r.asked_count; i++)
                assert_int_not_equal(r.asked[i].spec.target.address.bytes[0], 10);
        assert_int_equal(count_asked(&r, MEASUREMENT_TCP, PURPOSE_SERVICE), 0);
}

/* Addresses inside the ranges that the profile does not list are tested as well. */
static void test_resolved_addresses_are_tested(void **state)
{
        _run_ r = {.world = healthy};

        (void)state;
        story_configured(&r.story);
        story_no_addresses(&r.story);
        run(&r);
        assert_story(&r.story, "healthy", "");
        assert_true(was_asked(&r, MEASUREMENT_TCP, REPO2) && was_asked(&r, MEASUREMENT_TCP, CONTROL1));
}

static void test_no_profile(void **state)
{
        _run_ r = {.world = healthy};

        (void)state;
        story_configured(&r.story);
        story_drop(&r.story, MEASUREMENT_PROFILE, NULL);
        story_drop(&r.story, MEASUREMENT_SERVICE, NULL);
        run(&r);
        assert_story(&r.story, "healthy", "");
        assert_int_equal(count_asked(&r, MEASUREMENT_TCP, PURPOSE_SERVICE), 0);
        assert_true(count_asked(&r, MEASUREMENT_DNS, PURPOSE_SERVICE) > 0);
}

/* ---- patience ---- */

static void test_patience_grows_with_the_round_trip(void **state)
{
        _run_ fast = {.world = healthy, .rtt_ms = 20}, slow = {.world = healthy, .rtt_ms = 800};

        (void)state;
        story_configured(&fast.story);
        story_configured(&slow.story);
        run(&fast);
        run(&slow);
        assert_story(&fast.story, "healthy", "");
        assert_story(&slow.story, "healthy", "(path.slow)");
        /* As long as an answer may still come in time. */
        assert_true(slow.patience_ms >= 2 * 800);
        assert_true(slow.patience_ms > fast.patience_ms);
        assert_true(fast.most_patience_ms <= 1000);
}

static bool loses_first_syns(const struct run *r, struct measurement *m)
{
        bool answered = healthy(r, m);

        if (m->spec.kind == MEASUREMENT_TCP)
                m->syns_unanswered = 1;
        return answered;
}

static void test_patience_grows_with_loss(void **state)
{
        _run_ r = {.world = loses_first_syns};

        (void)state;
        story_configured(&r.story);
        run(&r);
        assert_true(r.most_patience_ms > 1500);
}

/* ---- large profiles ---- */

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
        bool answered = healthy(r, m);

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
        run(&good);
        assert_story(&good.story, "degraded", "(dns.no_such_name)");
        /* A name costs eight questions; an address a route, a connect, a handshake and a request. */
        assert_true(good.asked_count < 64 * 12 + 30);

        story_configured(&bad.story);
        story_drop(&bad.story, MEASUREMENT_SERVICE, NULL);
        add_many(&bad.story, 64);
        run(&bad);
        hops = count_asked(&bad, MEASUREMENT_HOP, PURPOSE_SERVICE) +
               count_asked(&bad, MEASUREMENT_HOP, PURPOSE_REPEAT);
        assert_true(hops <= 64);
        assert_true(bad.asked_count < 64 * 12 + 120);
        assert_true(bad.now_ms < 4000);
}

/* The same endpoint serves two names: a connect is asked for once, however far apart the two are named. */
static void test_shared_endpoint(void **state)
{
        _run_ r = {.world = healthy};

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
        run(&r);
}

static double seconds_for(size_t ranges)
{
        _run_ r = {.world = healthy};
        struct measurement *profile;
        clock_t begin;

        story_configured(&r.story);
        profile = story_find(&r.story, MEASUREMENT_PROFILE, PURPOSE_SERVICE, NULL);
        for (size_t i = 0; i < ranges; i++)
                strv_take(&profile->ranges, xasprintf("10.%zu.%zu.0/28", i / 256, i % 256));
        begin = clock();
        run(&r);
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
                cmocka_unit_test(test_dropped_port),
                cmocka_unit_test(test_suspects_are_traced_at_once),
                cmocka_unit_test(test_reset_port),
                cmocka_unit_test(test_nothing_answers),
                cmocka_unit_test(test_silent_hello),
                cmocka_unit_test(test_dead_server_waits_once),
                cmocka_unit_test(test_keeps_away_from_strangers),
                cmocka_unit_test(test_resolved_addresses_are_tested),
                cmocka_unit_test(test_no_profile),
                cmocka_unit_test(test_patience_grows_with_the_round_trip),
                cmocka_unit_test(test_patience_grows_with_loss),
                cmocka_unit_test(test_many_targets),
                cmocka_unit_test(test_shared_endpoint),
                cmocka_unit_test(test_many_ranges),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
