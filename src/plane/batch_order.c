#include "plane/batch_order.h"

#include "base/alloc.h"
#include "base/text.h"

#include <stdlib.h>
#include <uthash.h>

struct left {
        char node[WIRE_ID_MAXIMUM + 1], epoch[WIRE_ID_MAXIMUM + 1];
        int64_t seq, until_ms;
        UT_hash_handle hh;
};

struct batch_order {
        struct left *nodes;
};

struct batch_order *batch_order_new(void)
{
        return xcalloc(1, sizeof(struct batch_order));
}

static void forget(struct batch_order *o, struct left *l)
{
        HASH_DEL(o->nodes, l);
        free(l);
}

struct batch_order *batch_order_free(struct batch_order *o)
{
        struct left *l, *next;

        if (!o)
                return NULL;
        HASH_ITER(hh, o->nodes, l, next)
        {
                HASH_DEL(o->nodes, l);
                free(l);
        }
        free(o);
        return NULL;
}

static struct left *find(const struct batch_order *o, const char *node)
{
        struct left *l;

        HASH_FIND_STR(o->nodes, node, l);
        return l;
}

void batch_order_left(struct batch_order *o, const char *node, const char *epoch, int64_t seq, int64_t now_ms)
{
        struct left *l = find(o, node);

        if (l && str_equal(l->epoch, epoch) && l->seq <= seq)
                return;
        if (!l) {
                l = xcalloc(1, sizeof(*l));
                str_copy(l->node, sizeof(l->node), node);
                HASH_ADD_STR(o->nodes, node, l);
        }
        str_copy(l->epoch, sizeof(l->epoch), epoch);
        l->seq = seq;
        l->until_ms = now_ms + BATCH_ORDER_WAIT_MS;
}

bool batch_order_allows(
        struct batch_order *o, const char *node, const char *epoch, int64_t seq, int64_t now_ms)
{
        struct left *l = find(o, node);

        if (!l)
                return true;
        /* A store that was begun anew has numbers of its own; a clock that was set back is no reason to wait.
         */
        if (str_equal(l->epoch, epoch) && seq > l->seq && now_ms < l->until_ms &&
                now_ms > l->until_ms - 2 * (int64_t)BATCH_ORDER_WAIT_MS)
                return false;
        if (seq >= l->seq || !str_equal(l->epoch, epoch))
                forget(o, l);
        return true;
}
