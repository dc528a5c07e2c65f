/* Exponential backoff with full jitter: the n-th delay is uniform in [0, min(longest, first * 2^n)], but
 * never below `least`. Thousands that lost the same server come back spread out. */
#pragma once

#include <stdint.h>

struct backoff {
        double first_ms, longest_ms, least_ms;
        unsigned attempt; /* failures so far */
};

#define BACKOFF_INIT(first, longest, least)                                       \
        {                                                                         \
                .first_ms = (first), .longest_ms = (longest), .least_ms = (least) \
        }
/* The delay before the next attempt, and counts it. `random` is uniform in [0, 1). */
double backoff_next_ms(struct backoff *b, double random);
void backoff_reset(struct backoff *b);
/* Uniform in [0, 1), for the above. */
double backoff_random(void);
