/* What mosquitto 2.0 says with "log_type debug", the only one with which it tells that it refused to pass a
 * message on (src/handle_publish.c, src/logging.c of its sources). Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum mosquitto_line {
        MOSQUITTO_OTHER,  /* what it says without debug, too; and what is not known here */
        MOSQUITTO_PACKET, /* a packet that came or went: several a message */
        MOSQUITTO_DENIED, /* it refused a PUBLISH: the access rules have no such topic for that client */
};

/* Outside bytes, parts of the line and not terminated. */
struct mosquitto_denial {
        const char *client, *topic;
        size_t client_length, topic_length;
        bool is_cut; /* mosquitto cuts a line at 999 bytes: the topic is longer */
};

/* `line` is without its end; *ret is set for MOSQUITTO_DENIED only. A denial whose client or topic is not
 * found is MOSQUITTO_OTHER, so that it is seen. */
enum mosquitto_line mosquitto_line_parse(const char *line, size_t length, struct mosquitto_denial *ret);
