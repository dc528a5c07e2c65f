#include "plane/api_limit.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

struct bucket { /* in milliseconds: each token is `per` of them */
        int64_t credit_ms, seen_ms;
};

struct address {
        struct inet_addr key;
        struct bucket bucket;
        struct address *prev, *next; /* the quietest first */
        UT_hash_handle hh;
};

struct limit {
        struct bucket common;
        struct address *by_key, *quietest;
};

struct limit *limit_new(void)
{
        struct limit *l = xcalloc(1, sizeof *l);

        l->common.credit_ms = (int64_t)LIMIT_COMMON_BURST * LIMIT_COMMON_MS;
        return l;
}

static void forget(struct limit *l, struct address *a)
{
        HASH_DEL(l->by_key, a);
        DL_DELETE(l->quietest, a);
        free(a);
}

struct limit *limit_free(struct limit *l)
{
        if (!l)
                return NULL;
        while (l->quietest)
                forget(l, l->quietest);
        free(l);
        return NULL;
}

/* A clock that was put back gives nothing and takes nothing. */
static void fill(struct bucket *b, int64_t burst, int64_t per_ms, int64_t now_ms)
{
        if (now_ms > b->seen_ms && b->seen_ms)
                b->credit_ms += now_ms - b->seen_ms;
        if (b->credit_ms > burst * per_ms)
                b->credit_ms = burst * per_ms;
        b->seen_ms = now_ms;
}

static struct address *find(struct limit *l, const struct inet_addr *a)
{
        struct inet_addr key;
        struct address *found;

        memset(&key, 0, sizeof key); /* padding and the unused half of the union, too */
        key.family = a->family;
        memcpy(key.bytes, a->bytes, inet_addr_bits(a) / 8);
        HASH_FIND(hh, l->by_key, &key, sizeof key, found);
        return found;
}

int64_t limit_wait_ms(struct limit *l, const struct inet_addr *a, int64_t now_ms)
{
        struct address *known = find(l, a);

        if (!known)
                return 0;
        fill(&known->bucket, LIMIT_ADDRESS_BURST, LIMIT_ADDRESS_MS, now_ms);
        fill(&l->common, LIMIT_COMMON_BURST, LIMIT_COMMON_MS, now_ms);
        if (known->bucket.credit_ms < LIMIT_ADDRESS_MS)
                return LIMIT_ADDRESS_MS - known->bucket.credit_ms;
        if (l->common.credit_ms < LIMIT_COMMON_MS)
                return LIMIT_COMMON_MS - l->common.credit_ms;
        return 0;
}

void limit_failed(struct limit *l, const struct inet_addr *a, int64_t now_ms)
{
        struct address *known = find(l, a);

        if (!known) {
                if (HASH_COUNT(l->by_key) >= LIMIT_ADDRESSES)
                        forget(l, l->quietest);
                known = xcalloc(1, sizeof *known);
                known->key.family = a->family;
                memcpy(known->key.bytes, a->bytes, inet_addr_bits(a) / 8);
                known->bucket = (struct bucket){(int64_t)LIMIT_ADDRESS_BURST * LIMIT_ADDRESS_MS, now_ms};
                HASH_ADD(hh, l->by_key, key, sizeof known->key, known);
        } else
                DL_DELETE(l->quietest, known);
        DL_APPEND(l->quietest, known);
        fill(&known->bucket, LIMIT_ADDRESS_BURST, LIMIT_ADDRESS_MS, now_ms);
        fill(&l->common, LIMIT_COMMON_BURST, LIMIT_COMMON_MS, now_ms);
        known->bucket.credit_ms -= known->bucket.credit_ms < LIMIT_ADDRESS_MS ? 0 : LIMIT_ADDRESS_MS;
        l->common.credit_ms -= l->common.credit_ms < LIMIT_COMMON_MS ? 0 : LIMIT_COMMON_MS;
}
