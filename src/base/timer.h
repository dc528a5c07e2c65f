/* One-shot timers of an event loop. */
#pragma once

#include <systemd/sd-event.h>

/* In place of what *source was (NULL: nothing): `handler` is called once, after the delay from this turn of
 * the loop on. Waits of more than 5 s may be 250 ms longer, so that the machine wakes up less often. The
 * source is the caller's, and NULL when there is neither memory nor a descriptor for it. */
void timer_arm(sd_event *event, sd_event_source **source, double delay_ms, sd_event_time_handler_t handler,
        void *userdata);
