/* The channel against a real mosquitto with the plane's access rules, and a client that stands in for the
 * plane. */
#pragma once

#include "node/channel_internal.h"

#include "../net/broker.h"

#include <sys/types.h>

extern const char acl[];
extern sd_event *event;
extern pid_t broker;
extern struct store *store;
extern struct channel *channel;

/* What the channel said. */
struct said {
        struct text attempts; /* "ADDRESS:CODE|", "ADDRESS:ok|" */
        unsigned attempt_count, resolves;
        bool resolved, connected, disconnected, got;
        struct error why, attempt_error;
        enum topic_kind kind;
        char payload[256];
};
extern struct said said;

/* What the plane heard. */
struct plane {
        struct mqtt *mqtt;
        bool connected;
        struct text seqs; /* "1 2 3 " */
        unsigned records, statuses, goodbyes;
        char status[512], output[256], output_topic[128], applied[256];
};
extern struct plane plane;

void on_plane_closed(const struct error *e, void *userdata);
void connect_plane(void);
void publish(const char *topic, const char *payload);
/* Acknowledges from `first` to `last`. */
void acknowledge(const char *epoch, int64_t first, int64_t last, bool refuse);
/* The numbers from `first` to `last` as plane.seqs has them. */
void assert_seqs(int64_t first, int64_t last);
void forget_seqs(void);
/* Runs until so many records came, and then a little more: no further one comes. */
void wait_for_records(unsigned count);
struct channel_options options(void);
void make_channel(const struct channel_options *o);
void set_addresses(const char *list);
void connect_channel(void);
void add_events(unsigned count);
void publish_status(const char *version);
enum channel_state state_now(void);
int set_up(void **state);
int tear_down(void **state);
