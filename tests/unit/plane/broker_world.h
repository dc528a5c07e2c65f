/* The plane's client at a real mosquitto, on a Unix socket in a folder of the test's own; the nodes are
 * clients of the same socket. What a node may do at the real listeners is test_services_broker.c's. */
#pragma once

#include "plane/broker.h"

#include "store_world.h"

#include "net/mqtt.h"

#include <sys/types.h>

#define ABSENT   1500 /* as broker_status.c is compiled for these tests */
#define SETTLED  1500 /* as presence.h is */
#define PATIENCE 15000

struct node {
        char id[65];
        struct mqtt *mqtt;
        bool is_connected, is_closed, is_subscribed;
        int acks, notices, requests;
        struct wire_ack ack;
        int64_t notice;
};

struct table { /* and what the plane's client said */
        struct world *w;
        char folder[64], socket[96], conf[96], last_message[160];
        pid_t mosquitto;
        sd_event *event;
        struct plane_settings settings;
        struct broker *broker;
        int connects, disconnects, flappings, events, statuses, outputs, unheard, node_changes;
};
extern struct table t;

/* For cmocka: a world a test. */
int broker_setup(void **state);
int broker_teardown(void **state);

void start_mosquitto(void);
void stop_mosquitto(int how);
void make_broker(void);

/* The loop runs for so long, or until it is so; then what is waited for must be so. */
void run(double ms);
bool wait_for(bool (*is_true)(void *userdata), void *userdata);
void wait_count(const int *value, int wanted);
bool is_flag(void *flag); /* for wait_for() */
bool broker_is_connected(void *userdata);
bool broker_is_away(void *userdata);

/* A node, and what it says. */
void connect_node(struct node *n, const char *id);
void say(struct node *n, enum topic_kind kind, const char *request, json_t *stolen, bool retain);
void say_status(struct node *n, bool online);
void say_event(struct node *n, int64_t seq);

/* What the database has. */
bool shown_connected(const char *id);
void limit_pages(int64_t count); /* 0: as many as there are */
