/* The outbox on its way: in order, a window at a time, until the control plane says that it has stored them.
 * That the broker has them means nothing. */
#include "node/channel_internal.h"

#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define AGAIN_MS 20000
/* What the connection did not take is offered again. */
#define BLOCKED_MS 1000

/* One pass over the store's items. */
struct pass {
        struct channel *c;
        double due_ms;      /* sent before: due */
        size_t most;        /* to be sent in this pass */
        size_t seen;        /* of the window, when it is sent again */
        struct wire_ack no; /* what the broker will never take */
        bool is_blocked;
};

/* At least one item, however long. */
#define WINDOW_BYTES ((size_t)1 << 20)

static int publish(struct pass *p, int64_t seq, enum topic_kind kind, const char *payload, size_t length)
{
        char topic[TOPIC_MAXIMUM];
        int r;

        topic_format(topic, kind, p->c->node, NULL);
        r = mqtt_publish(p->c->mqtt, topic, payload, length, 1, false, &p->c->outbox.published_id);
        if (r == -EMSGSIZE || r == -EINVAL) {
                /* It would stand in the way of everything behind it. */
                p->no.refused[p->no.refused_count++] = seq;
                return 0;
        }
        p->is_blocked |= r < 0;
        return r;
}

static int on_new_item(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata)
{
        struct pass *p = userdata;
        struct channel *c = p->c;
        size_t refused = p->no.refused_count, under_way = 0;
        int r;

        for (size_t i = 0; i < c->outbox.count; i++)
                under_way += c->outbox.items[i].length;
        if (c->outbox.count > 0 && under_way + length > WINDOW_BYTES)
                return 1;
        /* Whether anybody listens shows with the first: the others behind it would be lost, or stored
         * before it. */
        if (!c->outbox.is_heard && c->outbox.count > 0)
                return 1;
        r = publish(p, seq, kind, payload, length);
        if (r < 0)
                return r;
        c->outbox.last = seq;
        if (p->no.refused_count == refused)
                c->outbox.items[c->outbox.count++] =
                        (struct outbox_item){.seq = seq, .length = length, .sent_ms = clock_monotonic_ms()};
        return 0;
}

static int on_old_item(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata)
{
        struct pass *p = userdata;
        struct channel *c = p->c;

        /* What the store has dropped meanwhile is not waited for. */
        while (p->seen < c->outbox.count && c->outbox.items[p->seen].seq < seq) {
                c->outbox.count--;
                memmove(&c->outbox.items[p->seen], &c->outbox.items[p->seen + 1],
                        (c->outbox.count - p->seen) * sizeof *c->outbox.items);
        }
        if (p->seen == c->outbox.count || c->outbox.items[p->seen].seq != seq)
                return 1;
        if (c->outbox.items[p->seen].sent_ms <= p->due_ms && p->most > 0) {
                int r = publish(p, seq, kind, payload, length);

                if (r < 0)
                        return r;
                p->most--;
                c->outbox.items[p->seen].sent_ms = clock_monotonic_ms();
        }
        p->seen++;
        return 0;
}

static void forget(struct channel *c, const int64_t *seqs, size_t count)
{
        size_t kept = 0;

        for (size_t i = 0; i < c->outbox.count; i++) {
                bool is_gone = false;

                for (size_t k = 0; k < count && !is_gone; k++)
                        is_gone = seqs[k] == c->outbox.items[i].seq;
                if (!is_gone)
                        c->outbox.items[kept++] = c->outbox.items[i];
        }
        c->outbox.count = kept;
}

static void give_up_refused(struct pass *p)
{
        struct channel *c = p->c;

        if (p->no.refused_count == 0)
                return;
        str_copy(p->no.epoch, sizeof p->no.epoch, store_epoch(c->store));
        str_copy(p->no.reason, sizeof p->no.reason, "larger than the broker takes");
        forget(c, p->no.refused, p->no.refused_count);
        store_acknowledge(c->store, &p->no, NULL);
}

static void arm(struct channel *c, bool is_blocked)
{
        double next_ms = is_blocked ? clock_monotonic_ms() + BLOCKED_MS : HUGE_VAL, left_ms;

        for (size_t i = 0; i < c->outbox.count; i++)
                next_ms = fmin(next_ms, c->outbox.items[i].sent_ms + AGAIN_MS);
        /* While the plane is quiet one item is asked for now and then, not the whole window. */
        if (c->outbox.is_quiet && !is_blocked && c->outbox.count > 0)
                next_ms = c->outbox.items[0].sent_ms + AGAIN_MS;
        if (isinf(next_ms)) {
                sd_event_source_set_enabled(c->outbox.timer, SD_EVENT_OFF);
                return;
        }
        left_ms = fmax(next_ms - clock_monotonic_ms(), 0);
        sd_event_source_set_time_relative(c->outbox.timer, (uint64_t)(left_ms * 1000) + 1000);
        sd_event_source_set_enabled(c->outbox.timer, SD_EVENT_ONESHOT);
}

/* Sends what is new, as far as the window goes. True when the connection took all that it was offered. */
static bool send_new(struct channel *c)
{
        struct pass p = {.c = c};

        if (c->outbox.count < OUTBOX_WINDOW) {
                if (store_each_unsent(c->store, c->outbox.last, OUTBOX_WINDOW - c->outbox.count, on_new_item,
                            &p, NULL) < 0)
                        p.is_blocked = true;
                give_up_refused(&p);
        }
        return !p.is_blocked;
}

static bool send_again(struct channel *c, double due_ms, size_t most)
{
        struct pass p = {.c = c, .due_ms = due_ms, .most = most};

        if (c->outbox.count == 0)
                return true;
        if (store_each_unsent(c->store, c->outbox.items[0].seq - 1, c->outbox.count, on_old_item, &p, NULL) <
                0)
                p.is_blocked = true;
        /* What comes after the last one that the store still has. */
        if (p.seen < c->outbox.count && !p.is_blocked)
                c->outbox.count = p.seen;
        give_up_refused(&p);
        return !p.is_blocked;
}

static int on_timer(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct channel *c = userdata;
        bool ok = true;

        (void)source, (void)now_us;
        if (!mqtt_is_connected(c->mqtt))
                return 0;
        channel_publish_kept(c, false);
        if (c->outbox.count > 0 && c->outbox.items[0].sent_ms <= clock_monotonic_ms() - AGAIN_MS) {
                ok = send_again(c, clock_monotonic_ms() - AGAIN_MS, c->outbox.is_quiet ? 1 : OUTBOX_WINDOW);
                c->outbox.is_quiet = true;
        }
        ok = send_new(c) && ok;
        arm(c, !ok || c->status.is_behind || c->applied.is_behind);
        return 0;
}

int channel_outbox_init(struct channel *c)
{
        int r = sd_event_add_time_relative(
                c->event, &c->outbox.timer, CLOCK_MONOTONIC, 0, 100000, on_timer, c);

        return r < 0 ? r : sd_event_source_set_enabled(c->outbox.timer, SD_EVENT_OFF);
}

void channel_outbox_done(struct channel *c)
{
        sd_event_source_disable_unref(c->outbox.timer);
}

static void begin_anew(struct channel *c)
{
        c->outbox.count = 0;
        c->outbox.last = 0;
        c->outbox.published_id = 0;
        c->outbox.is_quiet = c->outbox.is_heard = false;
}

void channel_outbox_start(struct channel *c)
{
        begin_anew(c);
        channel_outbox_changed(c);
}

void channel_outbox_published(struct channel *c, int message_id, bool is_heard)
{
        if (!is_heard) {
                /* The broker is there and the plane is not, yet. */
                begin_anew(c);
                arm(c, true);
        } else if (!c->outbox.is_heard && message_id == c->outbox.published_id) {
                c->outbox.is_heard = true;
                channel_outbox_changed(c);
        }
}

void channel_outbox_stop(struct channel *c)
{
        c->outbox.count = 0;
        sd_event_source_set_enabled(c->outbox.timer, SD_EVENT_OFF);
}

void channel_outbox_changed(struct channel *c)
{
        if (mqtt_is_connected(c->mqtt))
                arm(c, !send_new(c));
}

void channel_outbox_acknowledged(struct channel *c, const void *payload, size_t length)
{
        struct wire_ack a;
        bool ok = true;

        if (wire_ack_parse(payload, length, &a, NULL) < 0 || !str_equal(a.epoch, store_epoch(c->store)))
                return;
        /* What could not be noted stays in the store and in the window, and is sent again. */
        if (store_acknowledge(c->store, &a, NULL) < 0)
                return;
        forget(c, a.seqs, a.count);
        forget(c, a.refused, a.refused_count);
        if (c->outbox.is_quiet) {
                /* It is back: what it may have missed goes at once. */
                c->outbox.is_quiet = false;
                ok = send_again(c, clock_monotonic_ms() - BLOCKED_MS, OUTBOX_WINDOW);
        }
        ok = send_new(c) && ok;
        arm(c, !ok);
}
