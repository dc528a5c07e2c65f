#include "plane/batch.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "plane/batch_order.h"
#include "plane/incidents.h"
#include "wire/update.h"

#include <errno.h>
#include <string.h>

#define GATHER_US     20000
#define ITEMS_MAX     256
#define BYTES_MAX     ((size_t)16 << 20)
#define LOCKED_US     100000 /* between tries while another process has the database */
#define LOG_WINDOW_US ((uint64_t)60 * 1000000)

struct item {
        enum topic_kind kind;
        char node[WIRE_ID_MAXIMUM + 1];
        struct wire_event event;   /* TOPIC_EVENT */
        struct wire_report report; /* TOPIC_REPORT */
        /* what became of it */
        int result;
        struct error error;
        json_t *stored; /* as the API shows it in a list; NULL: a duplicate */
        bool is_new;
        struct plane_node of;
};

struct batch {
        sd_event *event;
        struct plane_store *store;
        struct batch_handlers handlers;
        struct incidents *incidents;
        struct batch_order *order;
        struct batch_counts counts;
        struct log_limit problems;
        sd_event_source *timer;
        struct item items[ITEMS_MAX];
        size_t count, bytes; /* of their payloads */
        json_t *unsaved;     /* changes of incidents */
};

static void item_done(struct item *i)
{
        wire_event_done(&i->event);
        wire_report_done(&i->report);
        json_decref(i->stored);
        memset(i, 0, sizeof *i);
}

static const char *item_epoch(const struct item *i)
{
        return i->kind == TOPIC_EVENT ? i->event.epoch : i->report.epoch;
}

static const char *kind_of(const struct item *i)
{
        return i->kind == TOPIC_EVENT ? "event" : "report";
}

static int64_t item_seq(const struct item *i)
{
        return i->kind == TOPIC_EVENT ? i->event.seq : i->report.seq;
}

static void flush_after(struct batch *b, uint64_t delay_us)
{
        uint64_t now_us;

        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        sd_event_source_set_time(b->timer, now_us + delay_us);
        sd_event_source_set_enabled(b->timer, SD_EVENT_ONESHOT);
}

/* ---- storing ---- */

/* What is wrong with the item itself will not mend: it is refused. Anything else is the database's or the
 * disk's. */
static bool is_refusal(int r)
{
        return r == -ENOENT || r == -EINVAL || r == -EBADMSG || r == -EPERM;
}

static void store_item(struct batch *b, struct item *i, int64_t now_ms)
{
        i->result = plane_node_find(b->store, NULL, i->node, &i->of, &i->error);
        if (i->result < 0)
                return;
        if (i->kind == TOPIC_EVENT)
                i->result = plane_event_add(
                        b->store, i->node, &i->event, now_ms, &i->is_new, &i->stored, &i->error);
        else
                i->result = plane_report_add(b->store, i->node, &i->report, now_ms, &i->is_new, &i->error);
        if (i->result == 0 && i->is_new && i->kind == TOPIC_REPORT)
                i->result = plane_report_summary(
                        b->store, i->node, i->report.epoch, i->report.seq, &i->stored, &i->error);
}

/* All of them in one transaction. 0, or -errno when it is not known to be on the disk: then nothing is
 * stored. */
static int store_items(struct batch *b, struct item *items, size_t count, struct error *ret_error)
{
        struct db *db = plane_store_db(b->store);
        int64_t now_ms = clock_unix_ms();
        int r = db_begin(db, ret_error);

        if (r < 0)
                return r;
        for (size_t i = 0; i < count; i++) {
                json_decref(items[i].stored);
                items[i].stored = NULL;
                store_item(b, &items[i], now_ms);
                if (items[i].result < 0 && !is_refusal(items[i].result)) {
                        *ret_error = items[i].error;
                        db_rollback(db);
                        return items[i].result;
                }
        }
        return db_commit(db, ret_error);
}

/* ---- afterwards ---- */

static void count_item(struct batch *b, const struct item *i)
{
        if (i->result < 0)
                return;
        if (!i->is_new)
                b->counts.duplicates++;
        else if (i->kind == TOPIC_EVENT)
                b->counts.events++;
        else
                b->counts.reports++;
}

static void note_incident(struct batch *b, const struct item *i)
{
        const struct wire_event *e = &i->event;
        int64_t now_ms = clock_unix_ms();
        int64_t at_ms = e->generated_unix_ms < now_ms ? e->generated_unix_ms : now_ms;

        if (i->kind != TOPIC_EVENT || i->result < 0 || !i->is_new || !e->service)
                return;
        if (e->severity == WIRE_INFO || e->diagnosis)
                incidents_report(b->incidents, i->of.organisation, i->node, i->of.site, e->service,
                        e->severity == WIRE_INFO ? NULL : e->diagnosis, at_ms);
}

static int save_incident(struct batch *b, const json_t *change)
{
        const char *organisation = json_string_value(json_object_get(change, "organisation"));
        json_t *incident = json_object_get(change, "incident");
        const char *id = json_string_value(json_object_get(incident, "id"));
        bool open = json_is_null(json_object_get(incident, "until"));
        struct error e = {0};
        int r = plane_incident_save(b->store, organisation, id, incident, open, clock_unix_ms(), &e);

        if (r < 0 && r != -EBUSY)
                log_event(
                        LOG_LEVEL_ERROR, "cannot store an incident", "incident", id, "reason", e.text, NULL);
        return r;
}

/* In order; what another process keeps out of the database is tried again. */
static void save_incidents(struct batch *b)
{
        while (json_array_size(b->unsaved) > 0) {
                if (save_incident(b, json_array_get(b->unsaved, 0)) == -EBUSY) {
                        flush_after(b, LOCKED_US);
                        return;
                }
                json_array_remove(b->unsaved, 0);
        }
}

static void tell_incidents(struct batch *b)
{
        json_t *changes = incidents_take_changes(b->incidents, clock_unix_ms()), *change;
        size_t index;

        json_array_foreach(changes, index, change)
        {
                b->handlers.on_incident(json_string_value(json_object_get(change, "organisation")),
                        json_object_get(change, "incident"), b->handlers.userdata);
        }
        json_array_extend(b->unsaved, changes);
        json_decref(changes);
        save_incidents(b);
}

/* One acknowledgement for the items of one node and epoch from `first` on. */
static void acknowledge(struct batch *b, const struct item *items, size_t first, size_t count, bool *done)
{
        struct wire_ack ack = {0};

        str_copy(ack.epoch, sizeof ack.epoch, item_epoch(&items[first]));
        for (size_t i = first; i < count; i++) {
                const struct item *it = &items[i];

                if (done[i] || !str_equal(it->node, items[first].node) ||
                        !str_equal(item_epoch(it), ack.epoch))
                        continue;
                done[i] = true;
                if (it->result == 0) {
                        ack.seqs[ack.count++] = item_seq(it);
                        continue;
                }
                ack.refused[ack.refused_count++] = item_seq(it);
                if (!ack.reason[0])
                        str_copy(ack.reason, sizeof ack.reason, it->error.text);
                b->handlers.on_refused(it->node, kind_of(it), &it->error, b->handlers.userdata);
        }
        b->handlers.on_acknowledge(items[first].node, &ack, b->handlers.userdata);
}

static void tell_items(struct batch *b, struct item *items, size_t count)
{
        bool done[ITEMS_MAX] = {0};

        for (size_t i = 0; i < count; i++)
                if (!done[i])
                        acknowledge(b, items, i, count, done);
        for (size_t i = 0; i < count; i++) {
                count_item(b, &items[i]);
                note_incident(b, &items[i]);
                if (items[i].stored)
                        b->handlers.on_stored(
                                &items[i].of, kind_of(&items[i]), items[i].stored, b->handlers.userdata);
        }
        tell_incidents(b);
}

/* It may be one item that spoils the transaction, rather than the disk or a lock. */
static bool is_of_one_item(int r)
{
        return r == -ECANCELED || r == -EEXIST;
}

/* A full disk fails some fifty times a second. */
static void say_unstored(struct batch *b, const struct error *e)
{
        uint64_t now_us;
        unsigned suppressed;

        sd_event_now(b->event, CLOCK_MONOTONIC, &now_us);
        if (log_limit_allows(&b->problems, now_us, LOG_WINDOW_US, &suppressed))
                log_event(LOG_LEVEL_ERROR, "events cannot be stored; the nodes keep them and send them again",
                        "reason", e->text, NULL);
}

static void leave(struct batch *b, const struct item *i)
{
        batch_order_left(b->order, i->node, item_epoch(i), item_seq(i), (int64_t)clock_monotonic_ms());
}

/* An item that spoils the transaction of the others is tried alone; after one that was left, no other of its
 * node is taken. */
static void flush_one_by_one(struct batch *b, size_t count)
{
        struct error e = {0};
        int r = 0;

        for (size_t i = 0; i < count; i++) {
                struct item *it = &b->items[i];
                bool is_tried = (r == 0 || is_of_one_item(r)) &&
                                batch_order_allows(b->order, it->node, item_epoch(it), item_seq(it),
                                        (int64_t)clock_monotonic_ms());

                if (!is_tried) {
                        leave(b, it);
                        continue;
                }
                r = store_items(b, it, 1, &e);
                if (r == 0)
                        tell_items(b, it, 1);
                else
                        say_unstored(b, &e);
                /* What is wrong with one alone may never mend: the others of its node do not wait for it. */
                if (r < 0 && !is_of_one_item(r))
                        leave(b, it);
        }
}

/* What the disk does not take now is left: the nodes send it again. What another process keeps out of the
 * database waits here. */
static void flush(struct batch *b)
{
        struct error e = {0};
        size_t count = b->count;
        int r = store_items(b, b->items, count, &e);

        if (r == -EBUSY) {
                flush_after(b, LOCKED_US);
                return;
        }
        if (r == 0)
                tell_items(b, b->items, count);
        else if (is_of_one_item(r) && count > 1)
                flush_one_by_one(b, count);
        else {
                say_unstored(b, &e);
                for (size_t i = 0; i < count; i++)
                        leave(b, &b->items[i]);
        }
        for (size_t i = 0; i < count; i++)
                item_done(&b->items[i]);
        b->count = b->bytes = 0;
}

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct batch *b = userdata;

        (void)source;
        (void)at_us;
        save_incidents(b);
        if (b->count > 0)
                flush(b);
        return 0;
}

/* ---- taking ---- */

/* What cannot be parsed, but has a number, is refused by it, so that the node does not send it for ever. */
static void refuse_unparsed(struct batch *b, const char *node, const char *what, const void *payload,
        size_t length, const struct error *e)
{
        struct wire_ack ack = {.refused_count = 1};
        struct json_reader r;
        const char *epoch;
        json_t *j;

        b->handlers.on_refused(node, what, e, b->handlers.userdata);
        if (json_parse(payload, length, WIRE_MESSAGE_MAXIMUM, what, &j, NULL) < 0)
                return;
        json_reader_init(&r, j, what, NULL);
        epoch = json_take_text(&r, "epoch", WIRE_ID_MAXIMUM);
        ack.refused[0] = json_take_integer(&r, "seq", 1, INT64_MAX);
        if (json_reader_done(&r, false) == 0 && wire_id_is_valid(epoch)) {
                str_copy(ack.epoch, sizeof ack.epoch, epoch);
                str_copy(ack.reason, sizeof ack.reason, e->text);
                b->handlers.on_acknowledge(node, &ack, b->handlers.userdata);
        }
        json_decref(j);
}

/* What was told stays told, where how the update stands cannot be read. */
static void check_update(struct batch *b, const char *node, struct wire_event *event)
{
        struct update_state u = {0};
        struct error e = {0};

        if (event->update && update_state_from_json(event->update, &u, &e) < 0) {
                b->handlers.on_refused(node, "update of an event", &e, b->handlers.userdata);
                json_decref(event->update);
                event->update = NULL;
        }
        update_state_done(&u);
}

/* False: there is no room (the database is locked, and enough waits), or one before it was left; the node
 * sends both again. */
static bool has_turn(struct batch *b, const struct item *i)
{
        if (b->count < ITEMS_MAX && b->bytes <= BYTES_MAX &&
                batch_order_allows(
                        b->order, i->node, item_epoch(i), item_seq(i), (int64_t)clock_monotonic_ms()))
                return true;
        leave(b, i);
        return false;
}

void batch_add(struct batch *b, enum topic_kind kind, const char *node, const void *payload, size_t length)
{
        struct item item = {.kind = kind};
        struct error e = {0};
        int r;

        if (kind == TOPIC_EVENT)
                r = wire_event_parse(payload, length, &item.event, &e);
        else
                r = wire_report_parse(payload, length, &item.report, &e);
        if (r < 0) {
                refuse_unparsed(b, node, kind == TOPIC_EVENT ? "event" : "report", payload, length, &e);
                return;
        }
        if (kind == TOPIC_EVENT)
                check_update(b, node, &item.event);
        str_copy(item.node, sizeof item.node, node);
        if (!has_turn(b, &item)) {
                item_done(&item);
                return;
        }
        b->items[b->count] = item;
        b->bytes += length;
        if (++b->count == ITEMS_MAX || b->bytes > BYTES_MAX)
                flush(b);
        else if (b->count == 1)
                flush_after(b, GATHER_US);
}

/* ---- life ---- */

static void resume_incidents(struct batch *b, const json_t *open)
{
        const json_t *o;
        size_t index;

        json_array_foreach(open, index, o)
        {
                incidents_resume(b->incidents, json_string_value(json_object_get(o, "organisation")),
                        json_object_get(o, "incident"));
        }
}

static void report_failures(struct batch *b, const json_t *failures)
{
        const json_t *f;
        size_t index;

        json_array_foreach(failures, index, f)
        {
                incidents_report(b->incidents, json_string_value(json_object_get(f, "organisation")),
                        json_string_value(json_object_get(f, "node")),
                        json_string_value(json_object_get(f, "site")),
                        json_string_value(json_object_get(f, "service")), json_object_get(f, "diagnosis"),
                        json_integer_value(json_object_get(f, "since_unix_ms")));
        }
}

/* What had failed before the plane ended goes on failing, and its incidents go on under their ids. */
static int restore(struct batch *b, struct error *ret_error)
{
        json_t *open = NULL, *failures = NULL;
        int r = plane_incidents_open(b->store, &open, ret_error);

        if (r >= 0)
                r = plane_failures(b->store, &failures, ret_error);
        if (r >= 0) {
                resume_incidents(b, open);
                report_failures(b, failures);
                tell_incidents(b); /* those whose nodes are well ended meanwhile */
        }
        json_decref(open);
        json_decref(failures);
        return r < 0 ? r : 0;
}

int batch_new(sd_event *event, struct plane_store *store, const struct cidr *ranges, size_t range_count,
        const struct batch_handlers *h, struct batch **ret, struct error *ret_error)
{
        struct batch *b = xcalloc(1, sizeof *b);
        int r;

        b->event = event;
        b->store = store;
        b->handlers = *h;
        b->incidents = incidents_new(ranges, range_count);
        b->order = batch_order_new();
        b->unsaved = json_array();
        r = sd_event_add_time(event, &b->timer, CLOCK_MONOTONIC, 0, 1000, on_timer, b);
        if (r >= 0)
                r = sd_event_source_set_enabled(b->timer, SD_EVENT_OFF);
        if (r < 0)
                error_set(
                        ret_error, -r, "broker.loop", "cannot set up the broker's client: %s", strerror(-r));
        else
                r = restore(b, ret_error);
        if (r < 0) {
                batch_free(b);
                return r;
        }
        *ret = b;
        return 0;
}

struct batch *batch_free(struct batch *b)
{
        if (!b)
                return NULL;
        sd_event_source_disable_unref(b->timer);
        for (size_t i = 0; i < b->count; i++)
                item_done(&b->items[i]);
        incidents_free(b->incidents);
        batch_order_free(b->order);
        json_decref(b->unsaved);
        free(b);
        return NULL;
}

void batch_forget_node(struct batch *b, const char *organisation, const char *node)
{
        incidents_forget(b->incidents, organisation, node);
        tell_incidents(b);
}

void batch_counts(const struct batch *b, struct batch_counts *ret)
{
        *ret = b->counts;
}
