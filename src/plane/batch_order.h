/* What a node tells is stored in its order, although some of it may find no room: where one record was left
 * to be sent again, those behind it are left, too, until it has come. Pure: `now_ms` is a parameter. */
#pragma once

#include "wire/topic.h"

#include <stdbool.h>
#include <stdint.h>

struct batch_order; /* opaque */

/* A node that has dropped the record itself meanwhile (its store was full) never sends it: who waits for it
 * waits for so long, three repetitions of a node's. */
#define BATCH_ORDER_WAIT_MS 60000

struct batch_order *batch_order_new(void);
struct batch_order *batch_order_free(struct batch_order *o);
/* The record was not taken. */
void batch_order_left(
        struct batch_order *o, const char *node, const char *epoch, int64_t seq, int64_t now_ms);
/* Whether it may be taken: nothing before it was left. The one that was left may, and its node has order
 * again. */
bool batch_order_allows(
        struct batch_order *o, const char *node, const char *epoch, int64_t seq, int64_t now_ms);
