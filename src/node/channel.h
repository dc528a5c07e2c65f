/* The control channel: keeps one MQTT connection to the control plane, whatever happens. Takes addresses in
 * turn (every one of every range), backs off with full jitter from 1 s to 60 s (the first attempt after a
 * stable connection comes within 8 s: thousands lost theirs at the same time), tries at once when told that
 * the network changed, and never gives up. Sends the outbox in order, at most 32 unacknowledged at a time,
 * one at a time until the plane listens, and again what stays unacknowledged for 20 s. */
#pragma once

#include "net/mqtt.h"
#include "node/store.h"

struct channel; /* opaque */

enum channel_state { CHANNEL_WAITING, CHANNEL_RESOLVING, CHANNEL_CONNECTING, CHANNEL_CONNECTED };
const char *channel_state_to_string(enum channel_state s);

struct channel_options {
        sd_event *event;
        struct store *store;
        const char *node; /* id */
        const char *host; /* of the control service */
        uint16_t port;
        const char *root_ca_path, *certificate_path,
                *key_path; /* read anew for each attempt: they may be renewed */
        struct inet_addr source;
        unsigned keepalive_s; /* default 20: a half-dead connection is noticed within 45 s */
};
struct channel_handlers {
        /* Addresses of the host are wanted: answer by channel_set_addresses, at any time; none: DNS is dead.
         */
        void (*on_resolve)(void *userdata);
        /* Every attempt's outcome: which address, and why not (NULL: connected). */
        void (*on_attempt)(const struct endpoint *address, const struct error *e, void *userdata);
        void (*on_state)(enum channel_state state, const struct error *why, void *userdata);
        void (*on_message)(enum topic_kind kind, const void *payload, size_t length, void *userdata);
        void *userdata;
};
struct channel *channel_new(const struct channel_options *o, const struct channel_handlers *h);
struct channel *channel_free(struct channel *c);

void channel_start(struct channel *c);
/* Of the profile, of the store, of DNS: tried in an order that alternates between their networks (/24, /48).
 */
void channel_set_addresses(struct channel *c, const struct inet_addr *addresses, size_t count);
/* A route, link or address changed: a connection whose source is gone is closed; when not connected, tries
 * now. */
void channel_network_changed(struct channel *c, const struct inet_addr *source);
/* A way to the control service was seen open: tries now. */
void channel_way_open(struct channel *c);
void channel_credentials_changed(struct channel *c); /* connects anew with the renewed certificate */

/* Publishes below node/ID/: status and applied are retained and sent again with each connection. 0, or
 * -ENOTCONN (for output; the others are kept and sent when connected). */
int channel_publish(struct channel *c, enum topic_kind kind, const char *request, const json_t *payload);
/* There is something new in the outbox. */
void channel_outbox_changed(struct channel *c);

struct channel_view {
        enum channel_state state;
        struct endpoint address; /* connected to, or tried last */
        int64_t since_unix_ms;   /* of the state connected / not connected */
        unsigned attempts;       /* since the connection was lost */
        double next_attempt_ms;  /* from now; 0: under way or connected */
        struct error last_error;
        size_t unacknowledged;
};
void channel_view(const struct channel *c, struct channel_view *ret);
