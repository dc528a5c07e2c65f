#include "node/channel_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/version.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define DEFAULT_KEEPALIVE_S 20
/* TCP, TLS and CONNACK together; many nodes that come back at once make a broker slow. */
#define CONNECT_TIMEOUT_MS 15000
#define FIRST_DELAY_MS     1000
#define LONGEST_DELAY_MS   60000
#define LEAST_DELAY_MS     100
/* As long as there are addresses that were not tried since the connection was lost. */
#define LONGEST_DELAY_UNTRIED_MS 3000
/* A connection that ends sooner is no reason to begin again with the short delays. */
#define STABLE_MS 10000
/* Who loses one that was stable has probably lost it together with thousands of others, since the broker
 * ended. It makes some 600 TLS handshakes a second, and its queue is short: who comes while it is full waits
 * for longer than it takes to come later. */
#define SPREAD_MS 8000
/* "Try now" is heard at most so often; an attempt that is older may be given up for a new one. */
#define LEAST_BETWEEN_TRIES_MS 2000
/* Not answered: ask for the addresses again. */
#define ASK_AGAIN_MS 30000

static void try_in(struct channel *c, double delay_ms);

const char *channel_state_to_string(enum channel_state s)
{
        switch (s) {
        case CHANNEL_WAITING:
                return "waiting";
        case CHANNEL_RESOLVING:
                return "resolving";
        case CHANNEL_CONNECTING:
                return "connecting";
        case CHANNEL_CONNECTED:
                return "connected";
        }
        return "";
}

/* ---- the state: changed here and nowhere else ---- */

static void enter_state(struct channel *c, enum channel_state state, const struct error *why)
{
        bool was_connected = c->state == CHANNEL_CONNECTED, is_connected = state == CHANNEL_CONNECTED;

        if (c->state == state)
                return;
        c->state = state;
        if (was_connected != is_connected)
                c->since_unix_ms = clock_unix_ms();
        if (is_connected) {
                c->connected_ms = clock_monotonic_ms();
                c->attempts = 0;
        }
        if (was_connected) {
                c->untried = c->address_count;
                if (clock_monotonic_ms() - c->connected_ms >= STABLE_MS)
                        backoff_reset(&c->backoff);
        }
        if (why)
                c->last_error = *why;
        else if (is_connected)
                c->last_error = (struct error){0};
        if (state == CHANNEL_CONNECTING || is_connected) {
                sd_event_source_set_enabled(c->retry, SD_EVENT_OFF);
                c->retry_at_ms = 0;
        }
        if (!is_connected)
                channel_outbox_stop(c);
        if (c->handlers.on_state)
                c->handlers.on_state(state, why, c->handlers.userdata);
}

/* ---- addresses ---- */

void channel_set_addresses(struct channel *c, const struct inet_addr *addresses, size_t count)
{
        struct inet_addr ordered[CHANNEL_MAX_ADDRESSES];
        size_t n = inet_addr_alternate(ordered, CHANNEL_MAX_ADDRESSES, addresses, count);

        /* DNS that is dead takes nothing away that was known. */
        if (n == 0 || (n == c->address_count && memcmp(ordered, c->addresses, n * sizeof *ordered) == 0))
                return;
        memcpy(c->addresses, ordered, n * sizeof *ordered);
        c->address_count = c->untried = n;
        c->next = 0;
        if (c->started && c->state == CHANNEL_RESOLVING)
                try_in(c, 0);
}

/* ---- when to try ---- */

static void try_in(struct channel *c, double delay_ms)
{
        c->retry_at_ms = clock_monotonic_ms() + delay_ms;
        sd_event_source_set_time_relative(c->retry, (uint64_t)(delay_ms * 1000));
        sd_event_source_set_enabled(c->retry, SD_EVENT_ONESHOT);
}

static bool is_stable(const struct channel *c)
{
        return c->state == CHANNEL_CONNECTED && clock_monotonic_ms() - c->connected_ms >= STABLE_MS;
}

static void wait_and_try(struct channel *c, const struct error *why)
{
        bool round_is_over = c->untried == 0;

        c->backoff.longest_ms = round_is_over ? LONGEST_DELAY_MS : LONGEST_DELAY_UNTRIED_MS;
        if (is_stable(c))
                try_in(c, fmax(SPREAD_MS * backoff_random(), LEAST_DELAY_MS));
        else
                try_in(c, backoff_next_ms(&c->backoff, backoff_random()));
        enter_state(c, CHANNEL_WAITING, why);
        if (!round_is_over)
                return;
        /* Nobody answers where the control plane used to be: it may have moved. */
        c->untried = c->address_count;
        if (c->handlers.on_resolve)
                c->handlers.on_resolve(c->handlers.userdata);
}

static void resolve(struct channel *c)
{
        try_in(c, ASK_AGAIN_MS);
        enter_state(c, CHANNEL_RESOLVING, NULL);
        if (c->handlers.on_resolve)
                c->handlers.on_resolve(c->handlers.userdata);
}

/* Something speaks for trying at once. Not more often than now and then: whoever calls may be flapping. */
static void try_soon(struct channel *c)
{
        double since_ms = clock_monotonic_ms() - c->tried_ms;
        double delay_ms = since_ms < LEAST_BETWEEN_TRIES_MS ? LEAST_BETWEEN_TRIES_MS - since_ms : 0;

        if (!c->started || c->state == CHANNEL_CONNECTED)
                return;
        if (c->state == CHANNEL_CONNECTING) {
                /* A SYN that was lost is repeated by the kernel later and later. */
                if (delay_ms > 0)
                        return;
                c->mqtt = mqtt_free(c->mqtt, false);
                enter_state(c, CHANNEL_WAITING, NULL);
        }
        backoff_reset(&c->backoff);
        if (c->retry_at_ms == 0 || clock_monotonic_ms() + delay_ms < c->retry_at_ms)
                try_in(c, delay_ms);
}

/* ---- what MQTT says ---- */

static void attempt_failed(struct channel *c, const struct error *e)
{
        if (c->handlers.on_attempt)
                c->handlers.on_attempt(&c->current, e, c->handlers.userdata);
        wait_and_try(c, e);
}

static void on_closed(const struct error *e, void *userdata)
{
        struct channel *c = userdata;
        struct error why = *e;

        c->mqtt = mqtt_free(c->mqtt, false);
        if (c->state == CHANNEL_CONNECTED)
                wait_and_try(c, &why);
        else
                attempt_failed(c, &why);
}

static void publish_kept(struct channel *c, enum topic_kind kind, struct kept *k)
{
        char topic[TOPIC_MAXIMUM];

        if (!k->payload || !mqtt_is_connected(c->mqtt))
                return;
        topic_format(topic, kind, c->node, NULL);
        k->is_behind = mqtt_publish(c->mqtt, topic, k->payload, strlen(k->payload), 1, true, NULL) < 0;
}

void channel_publish_kept(struct channel *c, bool all)
{
        if (all || c->status.is_behind)
                publish_kept(c, TOPIC_STATUS, &c->status);
        if (all || c->applied.is_behind)
                publish_kept(c, TOPIC_CONFIG_APPLIED, &c->applied);
}

static void on_connected(void *userdata)
{
        static const enum topic_kind wanted[] = {TOPIC_ACK, TOPIC_CONFIG, TOPIC_REQUEST};
        struct channel *c = userdata;
        char topic[TOPIC_MAXIMUM];

        mqtt_set_user_timeout(c->mqtt, 2 * c->keepalive_s * 1000);
        for (size_t i = 0; i < ELEMENTS(wanted); i++) {
                topic_format(topic, wanted[i], c->node, NULL);
                mqtt_subscribe(c->mqtt, topic, 1);
        }
        if (c->handlers.on_attempt)
                c->handlers.on_attempt(&c->current, NULL, c->handlers.userdata);
        enter_state(c, CHANNEL_CONNECTED, NULL);
        channel_publish_kept(c, true);
        channel_outbox_start(c);
}

static void on_message(const struct mqtt_message *m, void *userdata)
{
        struct channel *c = userdata;
        char node[WIRE_ID_MAXIMUM + 1], request[WIRE_ID_MAXIMUM + 1];
        enum topic_kind kind;

        if (topic_parse(m->topic, &kind, node, request) < 0 || !str_equal(node, c->node))
                return;
        if (kind == TOPIC_ACK)
                channel_outbox_acknowledged(c, m->payload, m->length);
        else if ((kind == TOPIC_CONFIG || kind == TOPIC_REQUEST) && c->handlers.on_message)
                c->handlers.on_message(kind, m->payload, m->length, c->handlers.userdata);
}

static void on_published(int message_id, bool is_heard, void *userdata)
{
        channel_outbox_published(userdata, message_id, is_heard);
}

/* ---- an attempt ---- */

/* What is told of us when we are gone, by the broker or by ourselves. */
static char *make_farewell(const struct channel *c, const char *why)
{
        struct wire_status s = {.since_unix_ms = clock_unix_ms()};
        json_t *j;
        char *text;

        str_copy(s.epoch, sizeof s.epoch, store_epoch(c->store));
        str_copy(s.version, sizeof s.version, GRIDNODE_VERSION);
        str_copy(s.reason, sizeof s.reason, why);
        j = wire_status_to_json(&s);
        text = json_to_text(j);
        json_decref(j);
        return text;
}

static int connect_now(struct channel *c, struct error *ret_error)
{
        struct mqtt_handlers h = {.on_connected = on_connected,
                .on_closed = on_closed,
                .on_message = on_message,
                .on_published = on_published,
                .userdata = c};
        _cleanup_free_ char *will = make_farewell(c, "the connection was lost");
        char will_topic[TOPIC_MAXIMUM];
        struct mqtt_options o = {.client_id = c->node,
                .address = c->current,
                .source = c->source,
                .keepalive_s = c->keepalive_s,
                .connect_timeout_ms = CONNECT_TIMEOUT_MS,
                .maximum_message_bytes = WIRE_MESSAGE_MAXIMUM,
                .will_topic = will_topic,
                .will_payload = will};
        int r = mqtt_tls_context(
                c->root_ca_path, c->host, c->certificate_path, c->key_path, &o.tls, ret_error);

        if (r < 0)
                return r;
        /* A source of the other family would make the kernel refuse what it could reach. */
        if (o.source.family != o.address.address.family)
                o.source = (struct inet_addr){0};
        topic_format(will_topic, TOPIC_STATUS, c->node, NULL);
        r = mqtt_connect(c->event, &o, &h, &c->mqtt, ret_error);
        SSL_CTX_free(o.tls);
        return r;
}

static int on_retry(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct channel *c = userdata;
        struct error e = {0};

        (void)source, (void)now_us;
        c->retry_at_ms = 0;
        if (c->address_count == 0) {
                resolve(c);
                return 0;
        }
        c->current = (struct endpoint){.address = c->addresses[c->next], .port = c->port};
        c->next = (c->next + 1) % c->address_count;
        c->untried -= c->untried > 0;
        c->attempts++;
        c->tried_ms = clock_monotonic_ms();
        enter_state(c, CHANNEL_CONNECTING, NULL);
        if (connect_now(c, &e) < 0)
                attempt_failed(c, &e);
        return 0;
}

/* ---- for the daemon ---- */

struct channel *channel_new(const struct channel_options *o, const struct channel_handlers *h)
{
        struct channel *c = xcalloc(1, sizeof *c);

        c->event = sd_event_ref(o->event);
        c->store = o->store;
        c->node = xstrdup(o->node);
        c->host = xstrdup(o->host);
        c->port = o->port;
        c->root_ca_path = xstrdup(o->root_ca_path);
        c->certificate_path = xstrdup(o->certificate_path);
        c->key_path = xstrdup(o->key_path);
        c->source = o->source;
        c->keepalive_s = o->keepalive_s ? o->keepalive_s : DEFAULT_KEEPALIVE_S;
        c->handlers = *h;
        c->since_unix_ms = clock_unix_ms();
        c->tried_ms = -LEAST_BETWEEN_TRIES_MS;
        c->backoff = (struct backoff)BACKOFF_INIT(FIRST_DELAY_MS, LONGEST_DELAY_MS, LEAST_DELAY_MS);
        /* Without timers there is no channel: the loop is out of memory. */
        if (sd_event_add_time_relative(c->event, &c->retry, CLOCK_MONOTONIC, 0, 1000, on_retry, c) < 0 ||
                sd_event_source_set_enabled(c->retry, SD_EVENT_OFF) < 0 || channel_outbox_init(c) < 0)
                abort();
        return c;
}

/* Who is stopped says so; the will, which comes besides, is for when that gets no further than our buffers.
 */
static void say_goodbye(struct channel *c)
{
        _cleanup_free_ char *text = make_farewell(c, "gridnode was stopped");
        char topic[TOPIC_MAXIMUM];

        topic_format(topic, TOPIC_STATUS, c->node, NULL);
        mqtt_publish(c->mqtt, topic, text, strlen(text), 1, true, NULL);
}

struct channel *channel_free(struct channel *c)
{
        if (!c)
                return NULL;
        if (mqtt_is_connected(c->mqtt))
                say_goodbye(c);
        mqtt_free(c->mqtt, false);
        sd_event_source_disable_unref(c->retry);
        channel_outbox_done(c);
        sd_event_unref(c->event);
        free(c->status.payload);
        free(c->applied.payload);
        free(c->node);
        free(c->host);
        free(c->root_ca_path);
        free(c->certificate_path);
        free(c->key_path);
        free(c);
        return NULL;
}

void channel_start(struct channel *c)
{
        if (c->started)
                return;
        c->started = true;
        try_in(c, 0);
}

void channel_network_changed(struct channel *c, const struct inet_addr *source)
{
        struct inet_addr own = {0};
        struct error why = {0};

        if (source)
                c->source = *source;
        if (c->mqtt)
                mqtt_local_address(c->mqtt, &own);
        /* An address that is gone for a moment only may come back: then keepalive decides. */
        if (c->mqtt && inet_addr_is_set(&c->source) && own.family == c->source.family &&
                !inet_addr_equal(&own, &c->source)) {
                char text[2][INET_ADDR_TEXT];

                error_set(&why, ENETDOWN, "mqtt.lost",
                        "this host's address changed from %s to %s: the connection is made anew",
                        inet_addr_format(&own, text[0]), inet_addr_format(&c->source, text[1]));
                c->mqtt = mqtt_free(c->mqtt, false);
                enter_state(c, CHANNEL_WAITING, &why);
                c->tried_ms = -LEAST_BETWEEN_TRIES_MS;
        }
        try_soon(c);
}

void channel_way_open(struct channel *c)
{
        try_soon(c);
}

void channel_credentials_changed(struct channel *c)
{
        struct error why = {0};

        if (!c->mqtt)
                return;
        error_set(
                &why, ECONNRESET, "mqtt.renewed", "the certificate was renewed: the connection is made anew");
        /* With a goodbye, so that no will is sent: the node is not away, and nobody is to be told so. */
        c->mqtt = mqtt_free(c->mqtt, true);
        enter_state(c, CHANNEL_WAITING, &why);
        try_in(c, 0);
}

static int publish_output(struct channel *c, const char *request, const char *text)
{
        char topic[TOPIC_MAXIMUM];

        if (!request || !wire_id_is_valid(request))
                return -EINVAL;
        topic_format(topic, TOPIC_OUT, c->node, request);
        return mqtt_publish(c->mqtt, topic, text, strlen(text), 1, false, NULL);
}

int channel_publish(struct channel *c, enum topic_kind kind, const char *request, const json_t *payload)
{
        struct kept *k = kind == TOPIC_STATUS           ? &c->status
                         : kind == TOPIC_CONFIG_APPLIED ? &c->applied
                                                        : NULL;
        _cleanup_free_ char *text = json_to_text(payload);

        if (kind == TOPIC_OUT)
                return publish_output(c, request, text);
        if (!k)
                return -EINVAL;
        free(k->payload);
        k->payload = TAKE_PTR(text);
        publish_kept(c, kind, k);
        return 0;
}

void channel_view(const struct channel *c, struct channel_view *ret)
{
        double left_ms = c->retry_at_ms > 0 ? c->retry_at_ms - clock_monotonic_ms() : 0;

        *ret = (struct channel_view){.state = c->state,
                .address = c->current,
                .since_unix_ms = c->since_unix_ms,
                .attempts = c->attempts,
                .next_attempt_ms = left_ms > 0 ? left_ms : 0,
                .last_error = c->last_error,
                .unacknowledged = c->outbox.count};
}
