/* Events and reports of all nodes, stored many at a time in one transaction (what comes within 20 ms, at most
 * 256) and acknowledged after its commit, never before. Also finds the incidents among them. */
#pragma once

#include "base/inet.h"
#include "plane/store.h"
#include "wire/wire.h"

#include <systemd/sd-event.h>

struct batch; /* opaque */

struct batch_handlers {
        /* A new one as the API shows it, borrowed: "event", or "report" without its measurements. */
        void (*on_stored)(const struct plane_node *node, const char *kind, json_t *value, void *userdata);
        void (*on_acknowledge)(const char *node, const struct wire_ack *ack, void *userdata);
        void (*on_refused)(const char *node, const char *what, const struct error *e, void *userdata);
        void (*on_incident)(const char *organisation, json_t *incident /* borrowed */, void *userdata);
        void *userdata;
};
struct batch_counts {
        uint64_t events, duplicates, reports;
};
/* `ranges` are the profile's: incidents are told by them. */
int batch_new(sd_event *event, struct plane_store *store, const struct cidr *ranges, size_t range_count,
        const struct batch_handlers *h, struct batch **ret, struct error *ret_error);
struct batch *batch_free(struct batch *b); /* what waits is not stored: the nodes send it again */
/* Takes one message of a node: TOPIC_EVENT or TOPIC_REPORT, bytes from outside. */
void batch_add(struct batch *b, enum topic_kind kind, const char *node, const void *payload, size_t length);
void batch_forget_node(struct batch *b, const char *organisation, const char *node);
void batch_counts(const struct batch *b, struct batch_counts *ret);
