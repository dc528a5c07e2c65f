/* The ways to suspects: traces, a few TTLs at a time. */
#include "diagnose/plan_internal.h"

#define HOP_WAVE_WAIT_MS 90.0
#define HOP_MAX          24
#define HOP_TIME_MS      500.0 /* no further wave is begun after that and some round trips */
#define TRACES_MAX       4     /* targets traced in a run */
#define TRACES_AT_ONCE   2

void plan_way_trace(struct planner *p, const struct endpoint *to, const char *device, int first_ttl)
{
        struct probe_spec s = {.kind = MEASUREMENT_HOP, .target = *to};
        int highest = first_ttl - 1, last_answered = highest, silent_pending = 0;
        double youngest_ms = 1e9, begun_ms = p->in->now_ms;

        if (device)
                str_copy(s.interface, sizeof s.interface, device);
        for (size_t i = 0; i < p->in->done->count; i++) {
                const struct measurement *m = p->in->done->items[i];

                if (m->spec.kind != MEASUREMENT_HOP || !endpoint_equal(&m->spec.target, to))
                        continue;
                if (m->hop_answer != HOP_SILENT && m->hop_answer != HOP_TIME_EXCEEDED)
                        return; /* the end of the way is known */
                if (m->at_ms < begun_ms)
                        begun_ms = m->at_ms;
                if (m->spec.ttl > highest)
                        highest = m->spec.ttl;
                if (m->hop_answer == HOP_TIME_EXCEEDED && m->spec.ttl > last_answered)
                        last_answered = m->spec.ttl;
        }
        for (size_t i = 0; i < p->in->pending_count; i++) {
                const struct plan_pending *q = &p->in->pending[i];

                if (q->spec->kind != MEASUREMENT_HOP || !endpoint_equal(&q->spec->target, to))
                        continue;
                silent_pending++;
                if (q->spec->ttl > highest)
                        highest = q->spec->ttl;
                if (q->age_ms < youngest_ms)
                        youngest_ms = q->age_ms;
        }
        if (silent_pending && youngest_ms < p->rtt_max_ms + HOP_WAVE_WAIT_MS)
                return;
        if (p->in->now_ms - begun_ms > HOP_TIME_MS + p->rtt_max_ms * 6 || highest + PLAN_HOP_WAVE > HOP_MAX)
                return;
        if (highest - last_answered >= PLAN_HOP_WAVE)
                return; /* a whole wave without an answer: nothing further forwards, or nothing further tells
                         */
        /* Downwards, so that where a router spends its last ICMP token it spends it on a refusal, not on the
         * time-exceeded of its own hop: then a refusal is not taken for a drop. */
        for (int i = PLAN_HOP_WAVE; i > 0; i--) {
                s.ttl = (uint8_t)(highest + i);
                plan_want(p, &s);
        }
}

static bool tcp_is_blocked(const struct target *t)
{
        return t->tcp && (t->tcp->outcome == OUTCOME_TIMEOUT || t->tcp->outcome == OUTCOME_REJECTED ||
                                 t->tcp->outcome == OUTCOME_RESET);
}

/* The way of this target wants a trace: blocked or suspiciously silent, and its trace would tell something
 * new. */
static bool wants_trace(const struct planner *p, const struct target *t)
{
        if (t->captured)
                return t->tcp_device && t->tcp_device->outcome == OUTCOME_TIMEOUT;
        if (t->tcp && t->tcp->outcome == OUTCOME_REJECTED)
                /* The refuser is named already; only its distance is asked, and the gateway's is known. */
                return inet_addr_is_set(&t->tcp->by) && !facts_is_own_address(&p->facts, &t->tcp->by) &&
                       !inet_addr_equal(&t->tcp->by, &p->facts.site->gateway);
        return tcp_is_blocked(t) || (!t->tcp && plan_is_suspect(p, plan_find_pending(p, MEASUREMENT_TCP,
                                                                           PURPOSE_SERVICE, &t->endpoint)));
}

static bool same_fate(const struct target *a, const struct target *b)
{
        enum measurement_outcome x = a->tcp ? a->tcp->outcome : OUTCOME_TIMEOUT;
        enum measurement_outcome y = b->tcp ? b->tcp->outcome : OUTCOME_TIMEOUT;

        return a->range == b->range && a->endpoint.port == b->endpoint.port && x == y &&
               (x != OUTCOME_REJECTED || inet_addr_equal(&a->tcp->by, &b->tcp->by));
}

/* The first traces have had the time for their first answers, or given up on one. */
static bool first_wave_is_through(const struct planner *p)
{
        for (size_t i = 0; i < p->in->pending_count; i++)
                if (p->in->pending[i].spec->kind == MEASUREMENT_HOP &&
                        p->in->pending[i].age_ms >= p->rtt_max_ms + HOP_WAVE_WAIT_MS)
                        return true;
        for (size_t i = 0; i < p->in->done->count; i++)
                if (p->in->done->items[i]->spec.kind == MEASUREMENT_HOP &&
                        p->in->done->items[i]->outcome == OUTCOME_TIMEOUT)
                        return true;
        return false;
}

/* A flow that passes, traced beside those that do not: where the routers behind the drop answer it, they
 * would have answered the others with a refusal, had they made one. The gateway's own hop is left out, to
 * spare its ICMP. */
static void plan_control_trace(struct planner *p)
{
        const struct endpoint *over_dns = NULL;

        for (size_t i = 0; i < p->in->done->count; i++) {
                const struct measurement *m = p->in->done->items[i];

                if (m->spec.purpose != PURPOSE_SERVICE || m->outcome != OUTCOME_OK)
                        continue;
                if (m->spec.kind == MEASUREMENT_TCP) {
                        plan_way_trace(p, &m->spec.target, NULL, 2);
                        return;
                }
                if (m->spec.kind == MEASUREMENT_DNS && m->spec.transport == TRANSPORT_TCP)
                        over_dns = &m->spec.target;
        }
        if (over_dns)
                plan_way_trace(p, over_dns, NULL, 2);
}

/* One trace for each group of targets with the same range, port and fate. */
void plan_way_all(struct planner *p)
{
        struct facts *f = &p->facts;
        const struct target *traced[TRACES_MAX];
        bool silent = false;
        /* Where nothing at all answers, one way tells as much as four. And a gateway has few ICMP errors to
         * spend: the later groups wait for the first answers. */
        size_t count = 0, most = p->rtt_max_ms == 0         ? 1
                                 : first_wave_is_through(p) ? TRACES_MAX
                                                            : TRACES_AT_ONCE;

        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++) {
                        const struct target *t = &f->services[i].targets[k];
                        bool known = false;

                        if (count == most || !wants_trace(p, t))
                                continue;
                        for (size_t n = 0; n < count; n++)
                                known |= same_fate(t, traced[n]);
                        if (known)
                                continue;
                        traced[count++] = t;
                        silent |= !t->tcp || t->tcp->outcome == OUTCOME_TIMEOUT;
                        plan_way_trace(p, &t->endpoint, t->captured ? facts_wan(f) : NULL, 1);
                }
        if (silent)
                plan_control_trace(p);
        /* Without any address to test, the servers' own way is all there is to look at. */
        for (size_t i = 0; !count && i < f->server_count; i++) {
                struct endpoint to = f->servers[i].endpoint;
                const struct plan_pending *q = plan_find_pending(p, MEASUREMENT_DNS, PURPOSE_SERVICE, &to);

                if (f->rtt_max_ms > 0 || (f->servers[i].tcp != TRANSPORT_DEAD && !plan_is_suspect(p, q)))
                        continue;
                plan_way_trace(p, &to, NULL, 1);
                break;
        }
}
