#include "base/timer.h"

#define LONG_MS          5000
#define ACCURACY_US      1000
#define ACCURACY_LONG_US 250000

void timer_arm(sd_event *event, sd_event_source **source, double delay_ms, sd_event_time_handler_t handler,
        void *userdata)
{
        uint64_t delay_us = delay_ms > 0 ? (uint64_t)(delay_ms * 1000) : 0;

        *source = sd_event_source_disable_unref(*source);
        sd_event_add_time_relative(event, source, CLOCK_MONOTONIC, delay_us,
                delay_ms > LONG_MS ? ACCURACY_LONG_US : ACCURACY_US, handler, userdata);
}
