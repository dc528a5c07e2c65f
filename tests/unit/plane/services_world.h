/* A control plane's servers for tests: the real ones, in a network namespace and a folder of the test's own.
 */
#pragma once

#include "plane/ca.h"
#include "plane/services.h"

#include <mosquitto.h>
#include <systemd/sd-event.h>

#define WORLD_DOMAIN "grid.example"
#define WORLD_HTTPS  1443
#define WORLD_MIXED  1444

struct world {
        char root[40];
        struct plane_settings settings;
        struct ca *ca;
        sd_event *event;
        struct services *services;
        int api_pid; /* a program that answers on api.sock with the request that it got */
        char *node_certificate[2], *node_key[2]; /* files */
        char node_serial[2][65];
};
#define WORLD_NODE_A "n-aaaa"
#define WORLD_NODE_B "n-bbbb"

void world_init(struct world *w);         /* folder, settings, CA, two nodes, API */
void world_new_services(struct world *w); /* in a child, where those of its parent do not work */
void world_start(struct world *w);        /* and waits until all is ready */
void world_done(struct world *w);         /* stops all and removes the folder */
bool world_wait(struct world *w, bool (*is_so)(struct world *w), int timeout_ms);
bool world_is_ready(struct world *w);
struct service_view world_view(const struct world *w, const char *name);

/* One TLS connection to `port` asking for `name`: sends `request`, returns all that comes until the end (at
 * most 1 MiB), "" when the handshake fails. `node` -1: without a certificate. The caller's. */
char *world_ask(const struct world *w, unsigned port, const char *name, int node, const char *request);
/* The same of one GET with "Connection: close"; `headers` are whole lines. */
char *world_get(const struct world *w, unsigned port, int node, const char *host, const char *path,
        const char *headers);

/* An MQTT client with what it heard. */
struct client {
        struct mosquitto *m;
        int connack; /* -1: none yet */
        int puback;  /* reason of the last one, -1 */
        int subscribed, disconnected, messages;
        char last[128]; /* topic and payload of the last message: "TOPIC PAYLOAD" */
};
/* As a node through the port of both; `id` NULL: none given. */
void client_node(struct client *c, const struct world *w, int node, const char *id);
/* As the plane, on broker.sock. */
void client_plane(struct client *c, const struct world *w, const char *id);
/* Pumps clients (NULL-terminated) until *value is not `old`; false after 4 s. */
bool client_wait(struct client *const *clients, const int *value, int old);
void client_done(struct client *c);
