/* Who is there, and which configuration is in force: what the broker keeps of each node. */
#include "plane/broker_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/db.h"
#include "base/json.h"
#include "base/timer.h"

#include <errno.h>
#include <string.h>
#include <utlist.h>

/* A broker that came back: who has not by then is gone. (A test waits less long.) */
#ifndef ABSENT_AFTER_MS
#define ABSENT_AFTER_MS 90000
#endif
#define ABSENT_AT_ONCE  100
#define ABSENT_AGAIN_MS 100
#ifndef AGAIN_MS
#define AGAIN_MS 10000 /* what the database did not take */
#endif
#define SETTLE_LOOK_MS (PRESENCE_SETTLED_MS / 18.0)
#define UNLOCK_LOOK_MS 200
#define WAITING_BYTES  ((size_t)16 << 20) /* of states, while another process has the database */

static const char *const retained_filters[] = {"node/+/status", "node/+/config/applied"};

static int64_t now_monotonic_ms(const struct broker *b)
{
        uint64_t now_us;

        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        return (int64_t)(now_us / 1000);
}

/* ---- what the store does not take ---- */

static int on_again(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct broker *b = userdata;

        (void)source, (void)at_us;
        for (size_t i = 0; i < ELEMENTS(retained_filters) && b->counts.connected; i++)
                mqtt_subscribe(b->mqtt, retained_filters[i], 1);
        return 0;
}

/* All that the broker keeps is sent once more for a subscription (MQTT 5, 3.8.4). */
static void ask_again_later(struct broker *b)
{
        timer_arm(b->event, &b->again, AGAIN_MS, on_again, b);
}

/* What a retained message said could not be taken. The disk's fault: all of them are asked of the broker
 * again later. Its own: it is refused, and one of a node that is none is cleared. Another process has the
 * database
 * (-EBUSY): the caller keeps it. */
static void not_taken(struct broker *b, const char *node, enum topic_kind kind, int r, const struct error *e)
{
        uint64_t now_us;
        unsigned suppressed;

        if (r == -EBUSY)
                return;
        if (r == -ENOENT || r == -EINVAL || r == -EPERM || r == -EBADMSG) {
                broker_refuse(b, node, kind == TOPIC_STATUS ? "status" : "config/applied", e);
                if (r == -ENOENT)
                        broker_clear_retained(b, node, kind);
                return;
        }
        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        if (log_limit_allows(&b->problems, now_us, BROKER_LOG_WINDOW_US, &suppressed))
                log_event(LOG_LEVEL_ERROR, "the nodes' states cannot be stored; they are asked for again",
                        "reason", e->text, NULL);
        ask_again_later(b);
}

/* ---- what is told ---- */

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

/* `event` is given away. */
static void tell_event(struct broker *b, const char *node, json_t *event)
{
        struct plane_node n;
        struct error e = {0};

        if (event && plane_node_find(b->store, NULL, node, &n, &e) == 0)
                b->handlers.on_change(n.organisation, "event", event, b->handlers.userdata);
        json_decref(event);
}

static int add_event(struct broker *b, const char *node, bool online, const char *how, const char *address,
        const char *reason, json_t **ret, struct error *e)
{
        _cleanup_free_ char *message = NULL;

        if (online)
                message = xasprintf("Node connected%s%s%s", how,
                        str_is_empty(address) ? "" : " from its WAN address ",
                        str_is_empty(address) ? "" : address);
        else
                message = xasprintf("Node disconnected%s: %s", how,
                        str_is_empty(reason) ? "the broker heard no more of it, and it had not said goodbye"
                                             : reason);
        return plane_event_own(b->store, node, online ? EVENT_NODE_CONNECT : EVENT_NODE_DISCONNECT,
                online ? WIRE_INFO : WIRE_ERROR, message, clock_unix_ms(), ret, e);
}

/* ---- who flapped, and stays as it is ---- */

static int on_settle(sd_event_source *source, uint64_t at_us, void *userdata);

static void look_for_settled_later(struct broker *b)
{
        if (!b->settle || sd_event_source_get_enabled(b->settle, NULL) == 0)
                timer_arm(b->event, &b->settle, SETTLE_LOOK_MS, on_settle, b);
}

/* Whether it is there is only known of one that this connection to the broker brought. The others are gone
 * when on_absent() says so, which is a change of its own. */
static int settle(struct broker *b, struct peer *p)
{
        json_auto_t *shown = NULL;
        json_t *event = NULL;
        struct plane_node n;
        struct error e = {0};
        int r = plane_node_find(b->store, NULL, p->id, &n, &e);

        if (r == 0 && n.connected && p->heard_in != b->connections)
                return -EAGAIN;
        if (r == 0)
                r = plane_node_show(b->store, n.organisation, p->id, &shown, &e);
        if (r == 0)
                r = add_event(b, p->id, n.connected, " and stayed so after its connection had flapped",
                        json_string_value(json_object_get(shown, "address")),
                        json_string_value(json_object_get(shown, "reason")), &event, &e);
        if (r < 0 && r != -ENOENT) /* -ENOENT: it was removed */
                return r;
        presence_told(&p->presence);
        tell_event(b, p->id, event);
        return 0;
}

static int on_settle(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct broker *b = userdata;
        int64_t now_ms = now_monotonic_ms(b);
        bool is_left = false;

        (void)source, (void)at_us;
        for (struct peer *p = b->peers; p; p = p->hh.next)
                if (p->presence.untold_ms)
                        is_left |= !b->counts.connected || !presence_is_settled(&p->presence, now_ms) ||
                                   settle(b, p) < 0;
        if (is_left)
                look_for_settled_later(b);
        return 0;
}

/* ---- status: who is there ---- */

/* The event of its coming or going, or what stands for it; *ret stays NULL where there is nothing to tell. */
static int add_news(struct broker *b, const char *node, const struct wire_status *s,
        struct presence *presence, json_t **ret, struct error *e)
{
        switch (presence_changed(presence, now_monotonic_ms(b))) {
        case PRESENCE_TELL:
                return add_event(b, node, s->online, "", s->address, s->reason, ret, e);
        case PRESENCE_FLAPPING:
                return plane_event_own(b->store, node, EVENT_FLAPPING, WIRE_WARNING,
                        "The node connected and disconnected ten times within 5 minutes", clock_unix_ms(),
                        ret, e);
        case PRESENCE_QUIET:
                break;
        }
        return 0;
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
                r = add_news(b, node, s, presence, &event, e);
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

static int take_status(struct broker *b, const char *node, const struct wire_status *s)
{
        struct peer *p = broker_peer(b, node);
        struct presence presence = p ? p->presence : (struct presence){0};
        struct error e = {0};
        json_t *event = NULL;
        int r = store_status(b, node, s, &presence, &event, &e);

        if (r < 0) {
                not_taken(b, node, TOPIC_STATUS, r, &e);
                return r;
        }
        if (p)
                p->presence = presence;
        if (presence.untold_ms)
                look_for_settled_later(b);
        tell_event(b, node, event);
        b->handlers.on_status(node, s, b->handlers.userdata);
        tell_node(b, node);
        return 0;
}

static int on_status(struct broker *b, const char *node, const void *payload, size_t length)
{
        struct wire_status s = {0};
        struct error e = {0};
        struct peer *p;
        int r;

        if (wire_status_parse(payload, length, &s, &e) < 0) {
                broker_refuse(b, node, "status", &e);
                return 0;
        }
        p = broker_peer(b, node);
        if (p)
                p->heard_in = b->connections;
        r = take_status(b, node, &s);
        wire_status_done(&s);
        return r;
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
                const struct peer *p = broker_peer(b, nodes.items[i]);

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

/* ---- configuration ---- */

static int on_applied(struct broker *b, const char *node, const void *payload, size_t length)
{
        struct wire_applied a = {0};
        struct error e = {0};
        int r = wire_applied_parse(payload, length, &a, &e);

        if (r < 0) {
                broker_refuse(b, node, "config/applied", &e);
                return 0;
        }
        r = plane_config_applied(b->store, node, &a, clock_unix_ms(), &e);
        if (r < 0)
                not_taken(b, node, TOPIC_CONFIG_APPLIED, r, &e);
        else
                tell_node(b, node);
        wire_applied_done(&a);
        return r;
}

/* ---- while another process has the database ---- */

static int take(struct broker *b, enum topic_kind kind, const char *node, const void *payload, size_t length)
{
        return kind == TOPIC_STATUS ? on_status(b, node, payload, length)
                                    : on_applied(b, node, payload, length);
}

static void drop_first(struct broker *b)
{
        struct waiting_state *w = b->waiting;

        DL_DELETE(b->waiting, w);
        b->waiting_bytes -= sizeof *w + w->length;
        free(w);
}

static int on_unlock(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct broker *b = userdata;

        (void)source, (void)at_us;
        while (b->waiting) {
                const struct waiting_state *w = b->waiting;

                if (take(b, w->kind, w->node, w->payload, w->length) == -EBUSY) {
                        timer_arm(b->event, &b->unlock, UNLOCK_LOOK_MS, on_unlock, b);
                        break;
                }
                drop_first(b);
        }
        return 0;
}

/* In order: one who went and came again did both. */
static void wait_for_unlock(
        struct broker *b, enum topic_kind kind, const char *node, const void *payload, size_t length)
{
        struct waiting_state *w;

        if (b->waiting_bytes + sizeof *w + length > WAITING_BYTES) {
                ask_again_later(b);
                return;
        }
        if (!b->waiting)
                timer_arm(b->event, &b->unlock, UNLOCK_LOOK_MS, on_unlock, b);
        w = xcalloc(1, sizeof *w + length);
        w->kind = kind;
        str_copy(w->node, sizeof w->node, node);
        memcpy(w->payload, payload, length);
        w->length = length;
        b->waiting_bytes += sizeof *w + length;
        DL_APPEND(b->waiting, w);
}

void broker_state(
        struct broker *b, enum topic_kind kind, const char *node, const void *payload, size_t length)
{
        if (b->waiting || take(b, kind, node, payload, length) == -EBUSY)
                wait_for_unlock(b, kind, node, payload, length);
}

/* ---- the connection to the broker ---- */

int broker_states_begin(struct broker *b, struct error *ret_error)
{
        struct strv nodes = {0};
        int r = plane_nodes_untold(b->store, &nodes, ret_error);

        if (r < 0)
                return r;
        for (size_t i = 0; i < nodes.count; i++) {
                struct peer *p = broker_peer(b, nodes.items[i]);

                if (p)
                        presence_untold(&p->presence, now_monotonic_ms(b));
        }
        if (nodes.count > 0)
                look_for_settled_later(b);
        strv_done(&nodes);
        return 0;
}

void broker_states_end(struct broker *b)
{
        sd_event_source_disable_unref(b->absent);
        sd_event_source_disable_unref(b->again);
        sd_event_source_disable_unref(b->settle);
        sd_event_source_disable_unref(b->unlock);
        while (b->waiting)
                drop_first(b);
}

void broker_states_connected(struct broker *b)
{
        for (size_t i = 0; i < ELEMENTS(retained_filters); i++)
                mqtt_subscribe(b->mqtt, retained_filters[i], 1);
        timer_arm(b->event, &b->absent, ABSENT_AFTER_MS, on_absent, b);
}

void broker_states_closed(struct broker *b)
{
        if (b->absent)
                sd_event_source_set_enabled(b->absent, SD_EVENT_OFF);
}
