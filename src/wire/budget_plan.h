/* How much a node may move, by time of day: what site file and configuration say of it. */
#pragma once

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* Rates by time of day, local time. The first period that contains the minute decides, else `otherwise`. */
#define BUDGET_MAX_PERIODS 8
struct budget_period {
        unsigned from_minute, to_minute; /* of the day; to < from: over midnight */
        uint64_t bytes_per_second;       /* 0: no limit */
};
struct budget_plan {
        uint64_t otherwise; /* bytes per second; 0: no limit */
        struct budget_period periods[BUDGET_MAX_PERIODS];
        size_t count;
};
/* "5Mbit/s", "600kB/s", "unlimited"; "5Mbit/s; 08:00-18:00 1Mbit/s". 0, or -EINVAL with what was expected. */
int budget_plan_parse(const char *s, struct budget_plan *ret, struct error *ret_error);
char *budget_plan_format(const struct budget_plan *p); /* the caller's */
uint64_t budget_plan_rate(const struct budget_plan *p, unsigned minute_of_day);
