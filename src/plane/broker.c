#include "plane/broker_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/timer.h"

#include <errno.h>
#include <string.h>

#define CLIENT_ID        "plane"
#define TOLD_AT          3
#define NODES_REMEMBERED 100000

static int start_connection(struct broker *b);

struct peer *broker_peer(struct broker *b, const char *node)
{
        struct peer *p;

        HASH_FIND_STR(b->peers, node, p);
        if (p || HASH_COUNT(b->peers) >= NODES_REMEMBERED)
                return p;
        p = xcalloc(1, sizeof *p);
        str_copy(p->id, sizeof p->id, node);
        HASH_ADD_STR(b->peers, id, p);
        return p;
}

void broker_refuse(struct broker *b, const char *node, const char *what, const struct error *e)
{
        struct peer *p = broker_peer(b, node);
        uint64_t now_us;
        unsigned suppressed;

        b->counts.refused++;
        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        if (!p || !log_limit_allows(&p->refusals, now_us, BROKER_LOG_WINDOW_US, &suppressed))
                return;
        log_event(LOG_LEVEL_WARNING, "refused a message of a node", "node", node, "what", what, "reason",
                e->text, NULL);
}

void broker_clear_retained(struct broker *b, const char *node, enum topic_kind kind)
{
        char topic[TOPIC_MAXIMUM];

        topic_format(topic, kind, node, NULL);
        if (b->counts.connected)
                mqtt_publish(b->mqtt, topic, NULL, 0, 1, true, NULL);
}

/* ---- output ---- */

static void on_output(struct broker *b, const char *node, const char *request, const struct mqtt_message *m)
{
        struct wire_output o = {0};
        struct error e = {0};

        if (wire_output_parse(m->payload, m->length, &o, &e) < 0)
                broker_refuse(b, node, "output", &e);
        else
                b->handlers.on_output(node, request, &o, b->handlers.userdata);
        wire_output_done(&o);
}

/* ---- events and reports ---- */

static void on_stored(const struct plane_node *node, const char *kind, json_t *value, void *userdata)
{
        struct broker *b = userdata;

        b->handlers.on_change(node->organisation, kind, value, b->handlers.userdata);
}

static void on_incident(const char *organisation, json_t *incident, void *userdata)
{
        struct broker *b = userdata;

        b->handlers.on_change(organisation, "incident", incident, b->handlers.userdata);
}

static void on_refused(const char *node, const char *what, const struct error *e, void *userdata)
{
        broker_refuse(userdata, node, what, e);
}

static void on_acknowledge(const char *node, const struct wire_ack *ack, void *userdata)
{
        struct broker *b = userdata;
        char topic[TOPIC_MAXIMUM];
        json_t *j = wire_ack_to_json(ack);
        _cleanup_free_ char *payload = json_to_text(j);

        json_decref(j);
        topic_format(topic, TOPIC_ACK, node, NULL);
        /* One that is lost is made up for: the node sends again, and it is known then. */
        if (b->mqtt)
                mqtt_publish(b->mqtt, topic, payload, strlen(payload), 0, false, NULL);
}

static void on_message(const struct mqtt_message *m, void *userdata)
{
        struct broker *b = userdata;
        char node[WIRE_ID_MAXIMUM + 1], request[WIRE_ID_MAXIMUM + 1];
        enum topic_kind kind;

        b->counts.messages++;
        if (topic_parse(m->topic, &kind, node, request) < 0 || m->length == 0)
                return; /* an empty payload is a retained message that was cleared */
        switch (kind) {
        case TOPIC_STATUS:
        case TOPIC_CONFIG_APPLIED:
                broker_state(b, kind, node, m->payload, m->length);
                break;
        case TOPIC_EVENT:
        case TOPIC_REPORT:
                batch_add(b->batch, kind, node, m->payload, m->length);
                break;
        case TOPIC_OUT:
                on_output(b, node, request, m);
                break;
        case TOPIC_ACK:
        case TOPIC_CONFIG:
        case TOPIC_REQUEST:
                break; /* our own */
        }
}

/* ---- the connection ---- */

static int on_retry(sd_event_source *source, uint64_t at_us, void *userdata)
{
        (void)source, (void)at_us;
        return start_connection(userdata), 0;
}

static void retry_later(struct broker *b)
{
        timer_arm(b->event, &b->retry, backoff_next_ms(&b->backoff, backoff_random()), on_retry, b);
}

static void on_closed(const struct error *e, void *userdata)
{
        struct broker *b = userdata;

        b->mqtt = mqtt_free(b->mqtt, false);
        broker_sent_clear(&b->sent);
        /* At the start the broker needs a moment; after that it is told once. */
        if (b->counts.connected || b->backoff.attempt == TOLD_AT)
                log_event(LOG_LEVEL_WARNING, "no connection to the broker", "code", e->code, "reason",
                        e->text, NULL);
        b->counts.connected = false;
        b->counts.connected_since_unix_ms = clock_unix_ms();
        broker_states_closed(b);
        expulsions_set_connected(b->expulsions, false);
        retry_later(b);
}

static void publish_notice(struct broker *b, const struct peer *p)
{
        char topic[TOPIC_MAXIMUM];
        json_t *j = wire_notice_to_json(p->notice_version);
        _cleanup_free_ char *payload = json_to_text(j);

        json_decref(j);
        topic_format(topic, TOPIC_CONFIG, p->id, NULL);
        mqtt_publish(b->mqtt, topic, payload, strlen(payload), 1, true, NULL);
}

static void on_connected(void *userdata)
{
        static const char *const filters[] = {"node/+/event", "node/+/report", "node/+/out/+"};
        struct broker *b = userdata;

        backoff_reset(&b->backoff);
        b->counts.connected = true;
        b->counts.connected_since_unix_ms = clock_unix_ms();
        b->connections++;
        broker_states_connected(b);
        for (size_t i = 0; i < ELEMENTS(filters); i++)
                mqtt_subscribe(b->mqtt, filters[i], 1);
        for (struct peer *p = b->peers; p; p = p->hh.next)
                if (p->notice_version)
                        publish_notice(b, p);
        expulsions_set_connected(b->expulsions, true);
        log_event(LOG_LEVEL_INFO, "connected to the broker", NULL);
}

static void on_published(int message_id, bool is_heard, void *userdata)
{
        struct broker *b = userdata;
        _cleanup_free_ struct broker_sent *s = broker_sent_take(&b->sent, message_id);

        if (s && !is_heard && b->handlers.on_unheard)
                b->handlers.on_unheard(s->node, s->request, b->handlers.userdata);
}

static int start_connection(struct broker *b)
{
        struct mqtt_handlers h = {.on_connected = on_connected,
                .on_closed = on_closed,
                .on_message = on_message,
                .on_published = on_published,
                .userdata = b};
        struct error e = {0};
        int r = broker_target_connect(&b->target, b->event, CLIENT_ID, &h, &b->mqtt, &e);

        if (r < 0)
                retry_later(b);
        return r;
}

/* ---- what the plane says ---- */

int broker_request(struct broker *b, const char *node, const struct wire_request *r)
{
        char topic[TOPIC_MAXIMUM];
        json_auto_t *j = wire_request_to_json(r);
        _cleanup_free_ char *payload = json_to_text(j);
        int message_id, rc;

        if (!b->counts.connected)
                return -ENOTCONN;
        topic_format(topic, TOPIC_REQUEST, node, NULL);
        rc = mqtt_publish(b->mqtt, topic, payload, strlen(payload), 1, false, &message_id);
        if (rc >= 0)
                broker_sent_add(&b->sent, message_id, node, r->id);
        return rc;
}

int broker_notice(struct broker *b, const char *node, int64_t version)
{
        struct peer *p = broker_peer(b, node);

        if (!p)
                return -ENOBUFS;
        p->notice_version = version;
        if (!b->counts.connected)
                return -ENOTCONN;
        publish_notice(b, p);
        return 0;
}

/* ---- removal of a node ---- */

static void on_expulsion(const char *node, void *userdata)
{
        static const enum topic_kind retained[] = {TOPIC_STATUS, TOPIC_CONFIG, TOPIC_CONFIG_APPLIED};

        for (size_t i = 0; i < ELEMENTS(retained); i++)
                broker_clear_retained(userdata, node, retained[i]);
}

int broker_expel(struct broker *b, const char *organisation, const char *node)
{
        struct peer *p = broker_peer(b, node);

        if (p) {
                HASH_DEL(b->peers, p);
                free(p);
        }
        batch_forget_node(b->batch, organisation, node);
        return expulsions_add(b->expulsions, node);
}

void broker_counts(const struct broker *b, struct broker_counts *ret)
{
        struct batch_counts stored;

        batch_counts(b->batch, &stored);
        *ret = b->counts;
        ret->events = stored.events;
        ret->duplicates = stored.duplicates;
        ret->reports = stored.reports;
}

/* ---- life ---- */

static int new_batch(struct broker *b, struct error *ret_error)
{
        struct batch_handlers h = {.on_stored = on_stored,
                .on_acknowledge = on_acknowledge,
                .on_refused = on_refused,
                .on_incident = on_incident,
                .userdata = b};
        const struct strv *texts = &b->settings->ranges;
        struct cidr *ranges = xcalloc(texts->count + 1, sizeof *ranges);
        size_t count = 0;
        int r;

        for (size_t i = 0; i < texts->count; i++)
                if (cidr_parse(texts->items[i], &ranges[count]) == 0)
                        count++;
        r = batch_new(b->event, b->store, ranges, count, &h, &b->batch, ret_error);
        free(ranges);
        return r;
}

int broker_new(sd_event *event, const struct plane_settings *settings, struct plane_store *store,
        const struct broker_handlers *h, struct broker **ret, struct error *ret_error)
{
        struct broker *b = xcalloc(1, sizeof *b);
        int r;

        b->event = event;
        b->settings = settings;
        b->store = store;
        b->handlers = *h;
        b->backoff = (struct backoff)BACKOFF_INIT(200, 5000, 50);
        b->expulsions = expulsions_new(event, &b->target, on_expulsion, b);
        r = broker_target_init(settings, &b->target, ret_error);
        if (r < 0) {
                broker_free(b);
                return r;
        }
        r = new_batch(b, ret_error);
        if (r >= 0)
                r = broker_states_begin(b, ret_error);
        if (r < 0) {
                broker_free(b);
                return r;
        }
        b->counts.connected_since_unix_ms = clock_unix_ms();
        start_connection(b);
        *ret = b;
        return 0;
}

struct broker *broker_free(struct broker *b)
{
        struct peer *p, *next;

        if (!b)
                return NULL;
        expulsions_free(b->expulsions);
        sd_event_source_disable_unref(b->retry);
        broker_states_end(b);
        mqtt_free(b->mqtt, true);
        batch_free(b->batch);
        broker_sent_clear(&b->sent);
        broker_target_done(&b->target);
        HASH_ITER(hh, b->peers, p, next)
        {
                HASH_DEL(b->peers, p);
                free(p);
        }
        free(b);
        return NULL;
}
