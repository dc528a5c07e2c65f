// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "world.h"

#include "base/alloc.h"
#include "diagnose/plan.h"

void world_done(struct run *r)
{
        story_done(&r->story);
        free(r->asked);
}

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

void world_plan(struct run *r)
{
        struct plan_pending *pending = xcalloc(r->asked_count + 1, sizeof *pending);
        struct plan_output out = {0};
        struct plan_input in = {.done = &r->story.list, .pending = pending, .now_ms = r->now_ms};

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

bool world_is_local(enum measurement_kind k)
{
        return k == MEASUREMENT_LINK || k == MEASUREMENT_ADDRESS || k == MEASUREMENT_ROUTE ||
               k == MEASUREMENT_NEIGHBOUR;
}

/* Answers what is due. */
void world_answer(struct run *r)
{
        for (size_t i = 0; i < r->asked_count; i++) {
                struct asked *a = &r->asked[i];
                double age_ms = r->now_ms - a->at_ms;
                struct measurement *m;

                if (!a->pending || (!world_is_local(a->spec.kind) && age_ms < r->rtt_ms))
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

void world_run(struct run *r)
{
        r->rtt_ms = r->rtt_ms > 0 ? r->rtt_ms : WORLD_RTT_MS;
        for (world_plan(r); !r->stopped && r->now_ms < 20000; world_plan(r)) {
                r->now_ms += WORLD_TICK_MS;
                world_answer(r);
        }
        assert_true(r->stopped);
        abandon(r);
}

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

bool world_healthy(const struct run *r, struct measurement *m)
{
        m->rtt_ms = r->rtt_ms;
        m->left_host = m->reply_seen = YES;
        m->reply_ttl = STORY_TTL;
        if (world_is_local(m->spec.kind)) {
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

size_t world_count(const struct run *r, enum measurement_kind kind, enum probe_purpose purpose)
{
        size_t n = 0;

        for (size_t i = 0; i < r->asked_count; i++)
                n += r->asked[i].spec.kind == kind && r->asked[i].spec.purpose == purpose;
        return n;
}

bool world_was_asked(const struct run *r, enum measurement_kind kind, const char *target)
{
        struct endpoint e;

        endpoint_parse(target, &e);
        for (size_t i = 0; i < r->asked_count; i++)
                if (r->asked[i].spec.kind == kind && endpoint_equal(&r->asked[i].spec.target, &e))
                        return true;
        return false;
}
