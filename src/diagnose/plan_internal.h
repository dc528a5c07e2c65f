/* Inside the plan: what its files share. plan.c keeps the set of specs and asks about this host and DNS,
 * plan_way.c traces, plan_service.c connects, greets and requests. */
#pragma once

#include "diagnose/facts.h"
#include "diagnose/plan.h"

#define PLAN_HOP_WAVE 4 /* TTLs asked at once: few, since routers limit their ICMP answers */

struct planner {
        const struct plan_input *in;
        struct plan_output *out;
        struct facts facts;
        /* Open-addressing set of what is done, under way or asked for, so that a large profile stays linear:
         * the number of each plus one, 0 for an empty slot. */
        uint32_t *known;
        size_t known_size;
        double rtt_max_ms;
        bool lossy;
};

/* Asks for it, unless that was done before. */
void plan_want(struct planner *p, const struct probe_spec *s);
void plan_route(struct planner *p, const struct endpoint *to, enum probe_transport transport);
/* The one under way, or NULL. */
const struct plan_pending *plan_find_pending(const struct planner *p, enum measurement_kind kind,
        enum probe_purpose purpose, const struct endpoint *target);
/* Silent for so long that more evidence is worth gathering beside it. NULL is not. */
bool plan_is_suspect(const struct planner *p, const struct plan_pending *q);

/* The next TTLs towards a target, from `first_ttl` on: a few at once, and on as long as something answers.
 * `device` may be NULL. */
void plan_way_trace(struct planner *p, const struct endpoint *to, const char *device, int first_ttl);
void plan_way_all(struct planner *p);
void plan_service_all(struct planner *p);
