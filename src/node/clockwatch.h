/* Tells when the machine's clock was set, at once (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). The time that
 * a machine slept is no step: its clock went on meanwhile. */
#pragma once

#include <systemd/sd-event.h>

#define CLOCK_STEP_MS 30000 /* less is not worth telling: time servers correct by that much */

struct clockwatch; /* opaque */
/* `on_set`: the clock was set by `step_ms`, forwards where that is positive; at least CLOCK_STEP_MS either
 * way since the last call, so that many small steps are told, too. 0 or -errno. */
int clockwatch_new(sd_event *event, void (*on_set)(double step_ms, void *userdata), void *userdata,
        struct clockwatch **ret);
struct clockwatch *clockwatch_free(struct clockwatch *w);
/* Looks now, and calls `on_set` as above: for what the kernel did not tell. */
void clockwatch_look(struct clockwatch *w);
