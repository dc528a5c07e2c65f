#include "base/cleanup.h"
#include "probe/probe.h"
#include "probe/syn.h"

#include <math.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

/* Who answers a SYN that lives for `ttl` hops. */

/* Three, paced: a router that limits its ICMP (Linux: six at once, then one a second) may pass over the
 * first. */
static double due_ms(unsigned count)
{
        static const double paced_ms[] = {0, 150, 350};

        return count < ELEMENTS(paced_ms) ? paced_ms[count] : INFINITY;
}

/* Many hops never answer at all, so that a hop is not worth the whole patience; on a path so slow that the
 * patience was raised above its usual second, it waits as much longer. */
static double patience_ms(const struct probe *p)
{
        return fmax(fmin(p->context->patience_ms, 600), p->context->patience_ms - 400);
}

static bool is_time_exceeded(const struct socket_icmp *i)
{
        return i->by.family == AF_INET6 ? i->type == ICMP6_TIME_EXCEEDED : i->type == ICMP_TIME_EXCEEDED;
}

static void on_answer(struct probe *p, struct syn_try *settled)
{
        struct measurement *m = p->result;
        enum measurement_outcome outcome = syn_try_outcome(settled);

        syn_burst_describe((struct syn_burst *)p, settled);
        if (outcome == OUTCOME_OK)
                m->hop_answer = HOP_SYN_ACK;
        else if (outcome == OUTCOME_RESET)
                m->hop_answer = HOP_RESET;
        else if (outcome == OUTCOME_REJECTED && is_time_exceeded(&settled->icmp)) {
                m->hop_answer = HOP_TIME_EXCEEDED;
                m->error_number = 0;
                outcome = OUTCOME_OK;
        } else if (outcome == OUTCOME_REJECTED)
                m->hop_answer = HOP_UNREACHABLE;
        probe_finish(p, outcome);
}

static int start(struct probe *p)
{
        struct syn_burst *b = (struct syn_burst *)p;

        b->due_ms = due_ms;
        b->patience_ms = patience_ms;
        b->on_answer = on_answer;
        return syn_burst_start(b);
}

static void snapshot(struct probe *p)
{
        syn_burst_describe((struct syn_burst *)p, NULL);
}

static void stop(struct probe *p)
{
        syn_burst_stop((struct syn_burst *)p);
}

const struct probe_class probe_hop_class = {.kind = MEASUREMENT_HOP,
        .size_bytes = sizeof(struct syn_burst),
        .start = start,
        .snapshot = snapshot,
        .stop = stop};
