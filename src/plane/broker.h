/* The plane's own connection to the broker: takes events, reports and states of all nodes, stores them many
 * at a time in one transaction (what comes within 20 ms, at most 256), acknowledges after the commit, sends
 * requests and notices. Payloads are outside bytes: what is wrong in them is refused, counted and logged once
 * a minute a node. */
#pragma once

#include "plane/settings.h"
#include "plane/store.h"
#include "wire/wire.h"

#include <systemd/sd-event.h>

struct broker; /* opaque */

struct broker_handlers {
        /* Something changed that operators watch: `kind` "event", "node", "incident", "request" …; borrowed.
         */
        void (*on_change)(const char *organisation, const char *kind, json_t *value, void *userdata);
        void (*on_output)(const char *node, const char *request, const struct wire_output *o, void *userdata);
        /* A request reached nobody: the node does not listen at the broker. NULL: not told. */
        void (*on_unheard)(const char *node, const char *request, void *userdata);
        /* A node's status arrived: online or not. */
        void (*on_status)(const char *node, const struct wire_status *status, void *userdata);
        void *userdata;
};
struct broker_counts {
        uint64_t events, duplicates, reports, refused, messages;
        bool connected;
        int64_t connected_since_unix_ms; /* since when `connected` is what it is */
};
int broker_new(sd_event *event, const struct plane_settings *settings, struct plane_store *store,
        const struct broker_handlers *h, struct broker **ret, struct error *ret_error);
struct broker *broker_free(struct broker *b);
/* -ENOTCONN: not connected now. */
int broker_request(struct broker *b, const char *node, const struct wire_request *r);
/* Retained: kept and sent again when the broker comes back. */
int broker_notice(struct broker *b, const char *node, int64_t version);
/* A removed node: its connection is ended, its retained messages are cleared; -ENOTCONN: that is done when
 * the broker is back. */
int broker_expel(struct broker *b, const char *organisation, const char *node);
void broker_counts(const struct broker *b, struct broker_counts *ret);
