/* What the files of an MQTT connection share: mqtt.c runs it in the loop, mqtt_connect.c begins it and hears
 * libmosquitto, mqtt_tls.c makes its context. */
#pragma once

#include "net/mqtt.h"

#include <mosquitto.h>
#include <stddef.h>

enum mqtt_stage { MQTT_STAGE_TCP, MQTT_STAGE_TLS, MQTT_STAGE_MQTT, MQTT_STAGE_CONNECTED, MQTT_STAGE_CLOSED };

struct mqtt {
        struct mosquitto *client; /* NULL once it is closed */
        struct mqtt_handlers handlers;
        struct error error; /* why it was closed */
        enum mqtt_stage stage;
        /* A copy of the client's descriptor: it stays ours when libmosquitto closes its own, so that the
         * loop never watches a number that has become something else. */
        int fd;
        sd_event_source *io, *deadline, *look, *later;
        SSL_CTX *tls;
        char *peer; /* for messages */
        unsigned keepalive_s;
        double connect_timeout_ms;
        size_t maximum_message_bytes, unsent_bytes;
        char library_error[256]; /* the first that libmosquitto logged in this call */
        int reason;              /* of CONNACK or DISCONNECT */
        int early_number;        /* what the socket said before the loop could ask it */
        bool is_refused, is_accepted, is_told, broken;
        /* Calls into libmosquitto and the caller that are under way: what is freed meanwhile goes after. */
        unsigned depth;
        bool is_freed, is_freed_clean;
        uint8_t *untaken; /* a bit for each message id of QoS 1 under way; made by the first */
        size_t untaken_count;
};

/* Ends the connection; the first reason counts. What is told of it comes from the loop. */
void mqtt_close_with(struct mqtt *m, int number, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* Why TLS ended, in the words of whoever knows most; `number` is an errno or 0. Borrowed. */
const char *mqtt_tls_reason(const struct mqtt *m, int number);
/* Why the last handshake did not verify the peer; NULL: it did, or the context is not of mqtt_tls_context().
 * Borrowed. */
const char *mqtt_tls_problem(const SSL_CTX *c);
int mqtt_add_sources(struct mqtt *m, sd_event *event, int priority);
void mqtt_destroy(struct mqtt *m);
