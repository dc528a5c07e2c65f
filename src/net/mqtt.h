/* One MQTT 5 connection (libmosquitto) inside an sd-event loop, without a thread. Connects once, to a literal
 * address or a Unix socket; when to try again, and where, is the caller's. Nothing here waits: not for TCP,
 * not for TLS. */
#pragma once

#include "base/error.h"
#include "base/inet.h"

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct mqtt; /* opaque */

struct mqtt_message {
        const char *topic;
        const void *payload; /* not terminated */
        size_t length;
};

struct mqtt_options {
        const char *client_id;
        struct endpoint address; /* the broker; or */
        const char *unix_path;   /* … a socket on this machine */
        struct inet_addr source; /* unset: the kernel chooses */
        SSL_CTX *tls;            /* NULL: none. Verifies the peer by itself (mqtt_tls_context). Referenced */
        unsigned keepalive_s;    /* a dead peer is noticed within twice this */
        double connect_timeout_ms; /* TCP, TLS and CONNACK together */
        size_t maximum_message_bytes;
        const char *will_topic; /* NULL: none; retained, QoS 1 */
        const char *will_payload;
        int priority; /* of its events */
};

struct mqtt_handlers {
        void (*on_connected)(void *userdata);
        /* Once, for a connection that failed as well as for one that ended; the object may be freed from
         * here. The error's code is the stage: "mqtt.tcp", "mqtt.tls", "mqtt.refused" (CONNACK, with its
         * reason), "mqtt.timeout", "mqtt.lost" (was connected); its text has address and reason. */
        void (*on_closed)(const struct error *e, void *userdata);
        void (*on_message)(const struct mqtt_message *m, void *userdata);
        /* QoS 1: the broker has it; `is_heard` false: nobody subscribes to its topic now (MQTT 5, 3.4.2.1).
         */
        void (*on_published)(int message_id, bool is_heard, void *userdata);
        void *userdata;
};

/* Starts to connect. Callbacks never come from within this call: what the network refuses at once comes by
 * on_closed, too. 0, or -errno for options that cannot be. */
int mqtt_connect(sd_event *event, const struct mqtt_options *o, const struct mqtt_handlers *h,
        struct mqtt **ret, struct error *ret_error);
/* Sends DISCONNECT when connected (so that no will is sent only with `clean`), closes. No callback. */
struct mqtt *mqtt_free(struct mqtt *m, bool clean);
bool mqtt_is_connected(const struct mqtt *m);
/* The address of this host that the connection has; unset when there is none (yet), or by a Unix socket. */
void mqtt_local_address(const struct mqtt *m, struct inet_addr *ret);
/* 0 or -errno (-ENOTCONN, -EMSGSIZE, -ENOBUFS). *ret_message_id may be NULL. */
int mqtt_publish(struct mqtt *m, const char *topic, const void *payload, size_t length, int qos, bool retain,
        int *ret_message_id);
int mqtt_subscribe(struct mqtt *m, const char *filter, int qos);
/* Bytes to the peer not yet acknowledged by its TCP end the connection after this long (TCP_USER_TIMEOUT). */
void mqtt_set_user_timeout(struct mqtt *m, unsigned timeout_ms);

/* A client context that verifies by itself: the root of `root_ca_path` and nothing else, `host` by RFC 6125,
 * the client's certificate and key, TLS 1.2 or better, ALPN "mqtt", and `host` as SNI although the address is
 * a literal. The caller's. */
int mqtt_tls_context(const char *root_ca_path, const char *host, const char *certificate_path,
        const char *key_path, SSL_CTX **ret, struct error *ret_error);
