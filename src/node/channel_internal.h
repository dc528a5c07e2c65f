/* What the files of the channel share: channel.c connects, channel_outbox.c sends what must not be lost. */
#pragma once

#include "base/backoff.h"
#include "base/clock.h"
#include "node/channel.h"

#include <systemd/sd-event.h>

#define CHANNEL_MAX_ADDRESSES 256
#define OUTBOX_WINDOW         32

struct kept { /* a retained message, sent again with each connection */
        char *payload;
        bool is_behind; /* the broker does not have it yet */
};

struct outbox_item {
        int64_t seq;
        size_t length;
        double sent_ms;
};

struct channel {
        sd_event *event;
        struct store *store;
        char *node, *host, *root_ca_path, *certificate_path, *key_path;
        uint16_t port;
        struct inet_addr source;
        unsigned keepalive_s;
        struct channel_handlers handlers;

        enum channel_state state;
        bool started;
        int64_t since_unix_ms;
        double connected_ms, tried_ms; /* when, by the monotonic clock */
        struct error last_error;
        unsigned attempts;
        struct inet_addr addresses[CHANNEL_MAX_ADDRESSES];
        size_t address_count, next, untried;
        struct endpoint current;
        struct backoff backoff;
        sd_event_source *retry;
        double retry_at_ms; /* 0: not armed */
        struct mqtt *mqtt;
        struct kept status, applied;

        struct {
                struct outbox_item items[OUTBOX_WINDOW]; /* not acknowledged, ascending */
                size_t count;
                int64_t last;     /* the highest that was sent with this connection */
                bool is_quiet;    /* nothing was acknowledged since something was sent again */
                bool is_heard;    /* with this connection: the plane listens; until then one at a time */
                int published_id; /* MQTT's, of what was sent last */
                sd_event_source *timer;
        } outbox;
};

/* The retained messages: all, or those that the broker did not take. */
void channel_publish_kept(struct channel *c, bool all);

int channel_outbox_init(struct channel *c);
void channel_outbox_done(struct channel *c);
void channel_outbox_start(struct channel *c); /* connected: sends from the beginning */
void channel_outbox_stop(struct channel *c);
/* The broker has what was published; `is_heard` false: and nobody to give it to. */
void channel_outbox_published(struct channel *c, int message_id, bool is_heard);
void channel_outbox_acknowledged(struct channel *c, const void *payload, size_t length);
