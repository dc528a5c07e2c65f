#include "plane/broker.h"

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/db.h"
#include "base/json.h"
#include "base/log.h"
#include "base/timer.h"
#include "net/mqtt.h"
#include "plane/batch.h"
#include "plane/broker_sent.h"
#include "plane/broker_target.h"
#include "plane/expulsions.h"
#include "plane/presence.h"

#include <errno.h>
#include <string.h>
#include <uthash.h>

#define CLIENT_ID "plane"
#define TOLD_AT   3
/* A broker that came back: who has not by then is gone. (A test waits less long.) */
#ifndef ABSENT_AFTER_MS
#define ABSENT_AFTER_MS 90000
#endif
#define ABSENT_AT_ONCE  100
#define ABSENT_AGAIN_MS 100
#ifndef AGAIN_MS
#define AGAIN_MS 10000 /* what the database did not take */
#endif
#define LOG_WINDOW_US    ((uint64_t)60 * 1000000)
#define NODES_REMEMBERED 100000

/* What is remembered of a node while the plane runs. */
struct peer {
        char id[WIRE_ID_MAXIMUM + 1];
        struct presence presence;
        struct log_limit refusals;
        int64_t notice_version; /* retained: published again to a broker that came back; 0: none */
        unsigned heard_in;      /* the connection to the broker that brought its status */
        UT_hash_handle hh;
};

struct broker {
        sd_event *event;
        const struct plane_settings *settings;
        struct plane_store *store;
        struct broker_handlers handlers;
        struct broker_target target;
        struct mqtt *mqtt;
        struct backoff backoff;
        sd_event_source *retry, *absent, *again;
        struct batch *batch;
        struct peer *peers;
        struct expulsions *expulsions;
        struct broker_sent *sent;
        struct broker_counts counts;
        unsigned connections;      /* to the broker, so far */
        struct log_limit problems; /* of the database */
};

/* What the broker keeps of each node. */
static const char *const retained_filters[] = {"node/+/status", "node/+/config/applied"};

static int start_connection(struct broker *b);

static struct peer *peer_of(struct broker *b, const char *node)
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

static void refuse(struct broker *b, const char *node, const char *what, const struct error *e)
{
        struct peer *p = peer_of(b, node);
        uint64_t now_us;
        unsigned suppressed;

        b->counts.refused++;
        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        if (!p || !log_limit_allows(&p->refusals, now_us, LOG_WINDOW_US, &suppressed))
                return;
        log_event(LOG_LEVEL_WARNING, "refused a message of a node", "node", node, "what", what, "reason",
                e->text, NULL);
}

static void clear_retained(struct broker *b, const char *node, enum topic_kind kind)
{
        char topic[TOPIC_MAXIMUM];

        topic_format(topic, kind, node, NULL);
        if (b->counts.connected)
                mqtt_publish(b->mqtt, topic, NULL, 0, 1, true, NULL);
}

/* ---- status: who is there ---- */

static int64_t now_monotonic_ms(const struct broker *b)
{
        uint64_t now_us;

        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        return (int64_t)(now_us / 1000);
}

/* The event of its coming or going, or what stands for it; *ret stays NULL where there is nothing to tell. */
static int add_event(struct broker *b, const char *node, const struct wire_status *s,
        struct presence *presence, json_t **ret, struct error *e)
{
        _cleanup_free_ char *message = NULL;

        switch (presence_changed(presence, now_monotonic_ms(b))) {
        case PRESENCE_TELL:
                break;
        case PRESENCE_FLAPPING:
                return plane_event_own(b->store, node, EVENT_FLAPPING, WIRE_WARNING,
                        "The node connected and disconnected ten times within 5 minutes", clock_unix_ms(),
                        ret, e);
        case PRESENCE_QUIET:
                return 0;
        }
        if (s->online)
                message = xasprintf(
                        "Node connected%s%s", s->address[0] ? " from its WAN address " : "", s->address);
        else
                message = xasprintf("Node disconnected: %s",
                        s->reason[0] ? s->reason
                                     : "the broker heard no more of it, and it had not said goodbye");
        return plane_event_own(b->store, node, s->online ? EVENT_NODE_CONNECT : EVENT_NODE_DISCONNECT,
                s->online ? WIRE_INFO : WIRE_ERROR, message, clock_unix_ms(), ret, e);
}

/* That it came or went is stored together with the event that tells it, or neither is. */
static int store_status(struct broker *b, const char *node, const struct wire_status *s,
        struct presence *presence, json_t **ret_event, struct error *e)
{
        struct db *db = plane_store_db(b->store);
        json_t *event = NULL;
        bool changed = false;
        int r = db_begin(db, e);

        if (r < 0)
                return r;
        r = plane_node_status(b->store, node, s, clock_unix_ms(), &changed, e);
        if (r == 0 && changed)
                r = add_event(b, node, s, presence, &event, e);
        if (r < 0)
                db_rollback(db);
        else
                r = db_commit(db, e);
        if (r < 0)
                json_decref(event);
        else
                *ret_event = event;
        return r;
}

static int on_again(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct broker *b = userdata;

        (void)source, (void)at_us;
        for (size_t i = 0; i < ELEMENTS(retained_filters) && b->counts.connected; i++)
                mqtt_subscribe(b->mqtt, retained_filters[i], 1);
        return 0;
}

/* What a retained message said could not be taken. The disk's or the database's fault: all of them are asked
 * of the broker again later (MQTT 5, 3.8.4). Its own: it is refused, and one of a node that is none is
 * cleared. */
static void not_taken(struct broker *b, const char *node, enum topic_kind kind, int r, const struct error *e)
{
        uint64_t now_us;
        unsigned suppressed;

        if (r == -ENOENT || r == -EINVAL || r == -EPERM || r == -EBADMSG) {
                refuse(b, node, kind == TOPIC_STATUS ? "status" : "config/applied", e);
                if (r == -ENOENT)
                        clear_retained(b, node, kind);
                return;
        }
        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        if (log_limit_allows(&b->problems, now_us, LOG_WINDOW_US, &suppressed))
                log_event(LOG_LEVEL_ERROR, "the nodes' states cannot be stored; they are asked for again",
                        "reason", e->text, NULL);
        timer_arm(b->event, &b->again, AGAIN_MS, on_again, b);
}

static void tell_node(struct broker *b, const char *node)
{
        struct plane_node n;
        struct error e = {0};
        json_t *value = NULL;

        if (plane_node_find(b->store, NULL, node, &n, &e) < 0 ||
                plane_node_show(b->store, n.organisation, node, &value, &e) < 0)
                return;
        b->handlers.on_change(n.organisation, "node", value, b->handlers.userdata);
        json_decref(value);
}

static int take_status(struct broker *b, const char *node, const struct wire_status *s)
{
        struct peer *p = peer_of(b, node);
        struct presence presence = p ? p->presence : (struct presence){0};
        struct plane_node n;
        struct error e = {0};
        json_t *event = NULL;
        int r = store_status(b, node, s, &presence, &event, &e);

        if (r < 0) {
                not_taken(b, node, TOPIC_STATUS, r, &e);
                return r;
        }
        if (p)
                p->presence = presence;
        if (event && plane_node_find(b->store, NULL, node, &n, &e) == 0)
                b->handlers.on_change(n.organisation, "event", event, b->handlers.userdata);
        json_decref(event);
        b->handlers.on_status(node, s, b->handlers.userdata);
        tell_node(b, node);
        return 0;
}

static void on_status(struct broker *b, const char *node, const struct mqtt_message *m)
{
        struct wire_status s = {0};
        struct error e = {0};
        struct peer *p;

        if (wire_status_parse(m->payload, m->length, &s, &e) < 0) {
                refuse(b, node, "status", &e);
                return;
        }
        p = peer_of(b, node);
        if (p)
                p->heard_in = b->connections;
        take_status(b, node, &s);
        wire_status_done(&s);
}

/* The will of a connection that a dead broker had was sent to nobody: who has not come back by now is gone.
 * Some at a time, so that the loop goes on meanwhile. Whom this connection brought is counted, not timed: the
 * clock may have been set. */
static int on_absent(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct broker *b = userdata;
        struct wire_status gone = {.reason = "the broker restarted, and the node has not come back"};
        struct strv nodes = {0};
        struct error e = {0};
        size_t told = 0;
        int r = plane_nodes_unheard(b->store, INT64_MAX, &nodes, &e);

        (void)source, (void)at_us;
        if (r < 0)
                log_event(LOG_LEVEL_ERROR, "cannot look for nodes that did not come back", "reason", e.text,
                        NULL);
        for (size_t i = 0; i < nodes.count && r == 0 && told < ABSENT_AT_ONCE; i++) {
                const struct peer *p = peer_of(b, nodes.items[i]);

                if (!p || p->heard_in == b->connections)
                        continue;
                gone.since_unix_ms = clock_unix_ms();
                r = take_status(b, nodes.items[i], &gone);
                r = r == -ENOENT ? 0 : r; /* it was removed meanwhile */
                told++;
        }
        strv_done(&nodes);
        if (r < 0 || told == ABSENT_AT_ONCE)
                timer_arm(b->event, &b->absent, r < 0 ? AGAIN_MS : ABSENT_AGAIN_MS, on_absent, b);
        return 0;
}

/* ---- configuration, output ---- */

static void on_applied(struct broker *b, const char *node, const struct mqtt_message *m)
{
        struct wire_applied a = {0};
        struct error e = {0};

        int r = wire_applied_parse(m->payload, m->length, &a, &e);

        if (r < 0) {
                refuse(b, node, "config/applied", &e);
                return;
        }
        r = plane_config_applied(b->store, node, &a, clock_unix_ms(), &e);
        if (r < 0)
                not_taken(b, node, TOPIC_CONFIG_APPLIED, r, &e);
        else
                tell_node(b, node);
        wire_applied_done(&a);
}

static void on_output(struct broker *b, const char *node, const char *request, const struct mqtt_message *m)
{
        struct wire_output o = {0};
        struct error e = {0};

        if (wire_output_parse(m->payload, m->length, &o, &e) < 0)
                refuse(b, node, "output", &e);
        else
                b->handlers.on_output(node, request, &o, b->handlers.userdata);
        wire_output_done(&o);
}

/* ---- events and reports ---- */

static void on_stored(const struct plane_node *node, json_t *event, void *userdata)
{
        struct broker *b = userdata;

        b->handlers.on_change(node->organisation, "event", event, b->handlers.userdata);
}

static void on_incident(const char *organisation, json_t *incident, void *userdata)
{
        struct broker *b = userdata;

        b->handlers.on_change(organisation, "incident", incident, b->handlers.userdata);
}

static void on_refused(const char *node, const char *what, const struct error *e, void *userdata)
{
        refuse(userdata, node, what, e);
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
                on_status(b, node, m);
                break;
        case TOPIC_EVENT:
        case TOPIC_REPORT:
                batch_add(b->batch, kind, node, m->payload, m->length);
                break;
        case TOPIC_CONFIG_APPLIED:
                on_applied(b, node, m);
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
        if (b->absent)
                sd_event_source_set_enabled(b->absent, SD_EVENT_OFF);
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
        for (size_t i = 0; i < ELEMENTS(retained_filters); i++)
                mqtt_subscribe(b->mqtt, retained_filters[i], 1);
        for (size_t i = 0; i < ELEMENTS(filters); i++)
                mqtt_subscribe(b->mqtt, filters[i], 1);
        for (struct peer *p = b->peers; p; p = p->hh.next)
                if (p->notice_version)
                        publish_notice(b, p);
        timer_arm(b->event, &b->absent, ABSENT_AFTER_MS, on_absent, b);
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
        struct peer *p = peer_of(b, node);

        if (!p)
                return -ENOBUFS;
        p->notice_version = version;
        if (!b->counts.connected)
                return -ENOTCONN;
        publish_notice(b, p);
        return 0;
}

/* ---- removal of a node ---- */

int broker_expel(struct broker *b, const char *organisation, const char *node)
{
        static const enum topic_kind retained[] = {TOPIC_STATUS, TOPIC_CONFIG, TOPIC_CONFIG_APPLIED};
        struct peer *p = peer_of(b, node);
        int r;

        if (p) {
                HASH_DEL(b->peers, p);
                free(p);
        }
        batch_forget_node(b->batch, organisation, node);
        if (!b->counts.connected)
                return -ENOTCONN;
        r = expulsions_add(b->expulsions, node);
        for (size_t i = 0; i < ELEMENTS(retained); i++)
                clear_retained(b, node, retained[i]);
        return r;
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
        b->expulsions = expulsions_new(event, &b->target);
        r = broker_target_init(settings, &b->target, ret_error);
        if (r < 0) {
                broker_free(b);
                return r;
        }
        r = new_batch(b, ret_error);
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
        sd_event_source_disable_unref(b->absent);
        sd_event_source_disable_unref(b->again);
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
