/* The part of node/store.h that the channel needs, in memory: thousands of nodes in one process have no
 * database each. Tells how long each event took to be acknowledged. */
#pragma once

#include "node/store.h"

typedef void (*swarm_acknowledged_t)(int64_t seq, double latency_ms, void *userdata);

struct store *swarm_store_new(const char *node, swarm_acknowledged_t on_acknowledged, void *userdata);
void swarm_store_free(struct store *s);
/* An event as a node's monitor makes them: failures with a diagnosis, and their ends, in turns. */
void swarm_store_add(struct store *s, int64_t now_unix_ms, double now_ms);
