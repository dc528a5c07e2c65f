#include "base/backoff.h"

#include "base/random.h"

/* Powers of two by multiplying: exact as well, and the helper is 0.4 MB smaller without the library for
 * ldexp(3). */
#define DOUBLE_BITS 53

double backoff_next_ms(struct backoff *b, double random)
{
        /* Beyond 2^60 the longest delay is long reached. */
        double most = b->first_ms * (double)(UINT64_C(1) << (b->attempt < 60 ? b->attempt : 60));
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
        /* What a double holds exactly. */
        return (double)random_below(UINT64_C(1) << DOUBLE_BITS) / (double)(UINT64_C(1) << DOUBLE_BITS);
}
