/* What the files of the plane's client share: broker.c has the connection and what is said on it,
 * broker_status.c who is there and what is in force. Nobody else includes it. */
#pragma once

#include "plane/broker.h"

#include "base/backoff.h"
#include "base/log.h"
#include "net/mqtt.h"
#include "plane/batch.h"
#include "plane/broker_sent.h"
#include "plane/broker_target.h"
#include "plane/expulsions.h"
#include "plane/presence.h"

#include <uthash.h>

#define BROKER_LOG_WINDOW_US ((uint64_t)60 * 1000000)

/* What is remembered of a node while the plane runs. */
struct peer {
        char id[WIRE_ID_MAXIMUM + 1];
        struct presence presence;
        struct log_limit refusals;
        int64_t notice_version; /* retained: published again to a broker that came back; 0: none */
        unsigned heard_in;      /* the connection to the broker that brought its status */
        UT_hash_handle hh;
};

/* A state that came while another process had the database. */
struct waiting_state {
        enum topic_kind kind;
        char node[WIRE_ID_MAXIMUM + 1];
        size_t length;
        struct waiting_state *prev, *next; /* in the order in which they came */
        char payload[];
};

struct broker {
        sd_event *event;
        const struct plane_settings *settings;
        struct plane_store *store;
        struct broker_handlers handlers;
        struct broker_target target;
        struct mqtt *mqtt;
        struct backoff backoff;
        sd_event_source *retry, *absent, *again, *settle, *unlock;
        struct batch *batch;
        struct peer *peers;
        struct expulsions *expulsions;
        struct broker_sent *sent;
        struct waiting_state *waiting;
        size_t waiting_bytes;
        struct broker_counts counts;
        unsigned connections;      /* to the broker, so far */
        struct log_limit problems; /* of the database */
};

/* NULL: there are too many. */
struct peer *broker_peer(struct broker *b, const char *node);
/* Counts it, and logs it once a minute for each node. */
void broker_refuse(struct broker *b, const char *node, const char *what, const struct error *e);
void broker_clear_retained(struct broker *b, const char *node, enum topic_kind kind);

/* ---- broker_status.c ---- */

/* Once, before the first connection: nodes that were left in the midst of a flapping. */
int broker_states_begin(struct broker *b, struct error *ret_error);
void broker_states_end(struct broker *b);
/* What the broker keeps of each node is asked for, now and whenever some of it could not be taken. */
void broker_states_connected(struct broker *b);
void broker_states_closed(struct broker *b);
/* TOPIC_STATUS or TOPIC_CONFIG_APPLIED. */
void broker_state(
        struct broker *b, enum topic_kind kind, const char *node, const void *payload, size_t length);
