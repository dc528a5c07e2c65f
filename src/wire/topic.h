/* The topics of node and plane. A node may publish below node/ID/ only, and its ID is its certificate's
 * common name (the broker sees to both). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum topic_kind {
        TOPIC_STATUS,         /* node/ID/status           node → plane, retained, last will */
        TOPIC_EVENT,          /* node/ID/event            node → plane, QoS 1, from the outbox */
        TOPIC_REPORT,         /* node/ID/report           node → plane, QoS 1, from the outbox */
        TOPIC_ACK,            /* node/ID/ack              plane → node: what is stored there */
        TOPIC_CONFIG,         /* node/ID/config           plane → node, retained: there is a version */
        TOPIC_CONFIG_APPLIED, /* node/ID/config/applied   node → plane, retained */
        TOPIC_REQUEST,        /* node/ID/request          plane → node: run a tool, or cancel it */
        TOPIC_OUT,            /* node/ID/out/REQUEST      node → plane: its output */
};

#define WIRE_ID_MAXIMUM 64 /* bytes of a node's or a request's id */
#define TOPIC_MAXIMUM   192

/* 1 to 64 of a-z, 0-9, '-'; no hyphen at either end. */
bool wire_id_is_valid(const char *s);
/* `request` only for TOPIC_OUT. */
void topic_format(char ret[TOPIC_MAXIMUM], enum topic_kind kind, const char *node, const char *request);
/* 0, or -EBADMSG for a topic that is none of these. ret_request is "" but for TOPIC_OUT. */
int topic_parse(const char *topic, enum topic_kind *ret_kind, char ret_node[WIRE_ID_MAXIMUM + 1],
        char ret_request[WIRE_ID_MAXIMUM + 1]);
