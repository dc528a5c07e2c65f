#include "base/backoff.h"

#include "base/random.h"

#include <math.h>

double backoff_next_ms(struct backoff *b, double random)
{
        /* Beyond 2^60 the longest delay is long reached. */
        double most = ldexp(b->first_ms, b->attempt < 60 ? (int)b->attempt : 60);
        double delay;

        if (most > b->longest_ms)
                most = b->longest_ms;
        delay = most * random;
        if (b->attempt < UINT32_MAX)
                b->attempt++;
        return delay < b->least_ms ? b->least_ms : delay;
}

void backoff_reset(struct backoff *b)
{
        b->attempt = 0;
}

double backoff_random(void)
{
        /* The 53 bits that a double holds exactly. */
        return ldexp((double)random_below(UINT64_C(1) << 53), -53);
}
