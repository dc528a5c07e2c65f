/* Runs without a network and without a clock: what the plan asks for is answered by a world, or not at all.
 * Time goes on in ticks of 20 ms. The site is that of story.h. */
#pragma once

#include "story.h"

#define WORLD_TICK_MS 20.0
#define WORLD_RTT_MS  20.0

struct asked {
        struct probe_spec spec;
        double at_ms;
        bool pending;
};

struct run {
        struct story story; /* what is configured, and what was answered */
        /* False: it stays silent. Otherwise it fills in what came back. */
        bool (*world)(const struct run *r, struct measurement *m);
        double rtt_ms; /* 0: 20 */
        struct asked *asked;
        size_t asked_count, allocated;
        double now_ms, patience_ms, most_patience_ms;
        bool stopped;
};
void world_done(struct run *r);
#define _run_ _cleanup_(world_done) struct run

/* The whole run, to its end. */
void world_run(struct run *r);
/* One step each: what is asked for now (fails the test when it was asked for before), and what is answered.
 */
void world_plan(struct run *r);
void world_answer(struct run *r);

/* Everything is as it should be; other worlds begin with it. */
bool world_healthy(const struct run *r, struct measurement *m);
bool world_is_local(enum measurement_kind k); /* asked of this host's kernel */

size_t world_count(const struct run *r, enum measurement_kind kind, enum probe_purpose purpose);
bool world_was_asked(const struct run *r, enum measurement_kind kind, const char *target);
