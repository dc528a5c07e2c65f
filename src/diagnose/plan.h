/* What to measure next. Pure: a function of what is known, what is under way and the time, called again
 * whenever one of them changes; it asks for the same spec at most once. */
#pragma once

#include "probe/measurement.h"

struct plan_pending {
        const struct probe_spec *spec;
        double age_ms;
};

struct plan_input {
        const struct measurement_list *done;
        const struct plan_pending *pending;
        size_t pending_count;
        double now_ms; /* since the run's start */
};

struct plan_output {
        struct probe_spec *specs; /* to start now */
        size_t count, allocated;
        double patience_ms; /* how long silence is waited out, from the RTTs and the loss seen so far */
        bool may_stop;      /* everything that is still pending can be left: conclusions would not change */
};
void plan_next(const struct plan_input *in, struct plan_output *ret /* must be empty */);
void plan_output_done(struct plan_output *o);
