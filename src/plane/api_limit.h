/* How often an address may be wrong: a token bucket for each address and one for all of them. Only failures
 * take tokens, so that a thousand wrong ones of one address keep nobody else out: an address that was never
 * wrong is let through while the common bucket is empty. Pure; {0} is not ready, see limit_new. */
#pragma once

#include "base/inet.h"

#include <stdint.h>

struct limit; /* opaque */

#define LIMIT_ADDRESS_BURST 10   /* failures of one address at once … */
#define LIMIT_ADDRESS_MS    6000 /* … and then one in this time */
#define LIMIT_COMMON_BURST  500  /* of all that were ever wrong */
#define LIMIT_COMMON_MS     20
#define LIMIT_ADDRESSES     4096 /* remembered; the one that is quiet for longest is forgotten */

struct limit *limit_new(void);
struct limit *limit_free(struct limit *l);
/* 0: may try. Else milliseconds to wait. */
int64_t limit_wait_ms(struct limit *l, const struct inet_addr *a, int64_t now_ms);
void limit_failed(struct limit *l, const struct inet_addr *a, int64_t now_ms);
