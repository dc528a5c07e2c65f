/* Requests that the broker has not yet said it took, by the number of their MQTT message. */
#pragma once

#include "wire/topic.h"

#include <uthash.h>

struct broker_sent {
        int message_id;
        char node[WIRE_ID_MAXIMUM + 1], request[WIRE_ID_MAXIMUM + 1];
        UT_hash_handle hh;
};
/* A number that is used again takes the place of the earlier one. */
void broker_sent_add(struct broker_sent **list, int message_id, const char *node, const char *request);
/* Takes it out; the caller's (free), NULL: there is none. */
struct broker_sent *broker_sent_take(struct broker_sent **list, int message_id);
void broker_sent_clear(struct broker_sent **list);
