/* The two clocks (clock_gettime(2)). */
#pragma once

#include <stdint.h>

int64_t clock_unix_ms(void);     /* since the epoch; somebody may set it, so it may jump */
double clock_monotonic_ms(void); /* since some moment in the past; never goes back */
