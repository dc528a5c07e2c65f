/* One end of an MQTT connection in a test, and what it heard. */
#pragma once

#include "broker.h"
#include "net/mqtt.h"

/* The loop must never be kept busy so long, sanitizers and a busy machine included. */
#define LONGEST_MS 400

extern sd_event *end_event;
extern pid_t end_broker;

struct end {
        struct mqtt *mqtt;
        bool connected, closed, published, got, is_heard;
        unsigned messages, publications, closings;
        size_t bytes, last_length;
        char last[64], last_topic[64];
        struct error error;
        bool free_on_message, free_on_connected;
};

/* Namespace, broker, and with `nginx` nginx before it. */
int end_set_up(void **state);
int end_set_up_with_nginx(void **state);
int end_tear_down(void **state);
/* A test of its own, the last one: no descriptor is left, and the loop was never kept busy. */
void end_test_nothing_left(void **state);

struct mqtt_handlers end_handlers(struct end *e);
struct mqtt_options end_options_unix(const char *id);
struct mqtt_options end_options_tcp(const char *address, uint16_t port);
/* By the names of the files that broker_set_up() makes; `name` NULL: no certificate. */
SSL_CTX *end_context(const char *root, const char *host, const char *name);

void end_open(struct end *e, const struct mqtt_options *o);    /* begins */
void end_connect(struct end *e, const struct mqtt_options *o); /* and is connected */
/* The connection fails with this code, and these words in its text. */
void end_assert_fails(const struct mqtt_options *o, double within_ms, const char *code, const char *words);
void end_subscribe(struct end *e, const char *filter);
void end_publish(struct end *e, const char *topic, const char *payload, bool retain); /* until it is taken */
