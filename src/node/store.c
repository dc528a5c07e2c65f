#include "node/store_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OUTBOX_BYTES  ((int64_t)64 << 20)
#define HISTORY_COUNT 10000
#define FREE_BYTES    ((int64_t)32 << 20)
#define ROUNDS        4 /* of making room on a full disk */

DEFINE_CLEANUP(struct store *, store_close);

static const char *const migrations[] = {
        "CREATE TABLE item("
        " seq INTEGER PRIMARY KEY AUTOINCREMENT," /* no number is ever used again */
        " kind INTEGER NOT NULL, importance INTEGER NOT NULL, generated INTEGER NOT NULL,"
        " waiting INTEGER NOT NULL DEFAULT 1, bytes INTEGER NOT NULL, payload TEXT NOT NULL) STRICT;"
        "CREATE INDEX item_waiting ON item(importance, seq) WHERE waiting = 1;"
        "CREATE INDEX item_unsent ON item(seq) WHERE waiting = 1;"
        "CREATE INDEX item_acknowledged ON item(kind, seq) WHERE waiting = 0;"
        "CREATE INDEX item_kind ON item(kind, seq);"
        /* Beside the event that says so. `seen`: it was given out to be sent, and is not changed any more. */
        "CREATE TABLE dropped("
        " seq INTEGER PRIMARY KEY REFERENCES item(seq) ON DELETE CASCADE, seen INTEGER NOT NULL DEFAULT 0,"
        " reports INTEGER NOT NULL, infos INTEGER NOT NULL, warnings INTEGER NOT NULL,"
        " errors INTEGER NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL) STRICT;"
        "CREATE TABLE value(name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;",
};

/* ---- opening ---- */

static int on_counts(sqlite3_stmt *row, void *userdata)
{
        struct store_counts *c = userdata;
        int64_t count = db_integer(row, 2), bytes = db_integer(row, 3);

        if (db_integer(row, 0)) {
                c->waiting += count;
                c->waiting_bytes += bytes;
        } else {
                c->acknowledged += count;
                c->acknowledged_bytes += bytes;
        }
        *(db_integer(row, 1) == STORE_REPORT ? &c->reports : &c->events) += count;
        return 0;
}

static int load_epoch(struct store *s, struct error *ret_error)
{
        _cleanup_free_ char *known = store_get(s, "epoch");
        char made[RANDOM_ID_TEXT];
        int r;

        if (!known) {
                random_id("e", made);
                r = store_set(s, "epoch", made, ret_error);
                if (r < 0)
                        return r;
        }
        str_copy(s->epoch, sizeof s->epoch, known ? known : made);
        return 0;
}

static int open_once(
        const char *path, const struct store_limits *limits, struct store **ret, struct error *ret_error)
{
        _cleanup_(store_close_p) struct store *s = xcalloc(1, sizeof *s);
        int r;

        s->path = xstrdup(path);
        s->reserve_path = xasprintf("%s.reserve", path);
        s->limits = *limits;
        r = db_open(path, migrations, ELEMENTS(migrations), &s->db, ret_error);
        if (r == -ENOSPC) {
                store_spend_reserve(s);
                r = db_open(path, migrations, ELEMENTS(migrations), &s->db, ret_error);
        }
        /* A short log: on a full disk it must find room in the database. */
        if (r == 0)
                r = db_query(s->db, ret_error, NULL, NULL, "PRAGMA wal_autocheckpoint = 64", "");
        if (r == 0)
                r = db_query(s->db, ret_error, on_counts, &s->counts,
                        "SELECT waiting, kind, count(*), sum(bytes) FROM item GROUP BY waiting, kind", "");
        if (r == 0)
                r = load_epoch(s, ret_error);
        if (r < 0)
                return r;
        store_keep_reserve(s);
        *ret = TAKE_PTR(s);
        return 0;
}

/* The log goes with its database: it may hold what somebody wants to save. */
static int put_aside(const char *path, char **ret_note, struct error *e)
{
        static const char *const ends[] = {"", "-wal", "-shm"};
        _cleanup_free_ char *why = xstrdup(e->text), *aside = NULL;

        aside = xasprintf("%s.damaged-%lld", path, (long long)clock_unix_ms());
        for (size_t i = 0; i < ELEMENTS(ends); i++) {
                _cleanup_free_ char *from = xasprintf("%s%s", path, ends[i]),
                                    *to = xasprintf("%s%s", aside, ends[i]);

                if (rename(from, to) < 0 && errno != ENOENT)
                        return error_set(e, errno, "store.damaged", "%s; it cannot be renamed to %s: %s", why,
                                to, strerror(errno));
        }
        *ret_note = xasprintf("%s; it is kept as %s, and a new one was begun", why, aside);
        return 0;
}

int store_open(const char *path, const struct store_limits *limits, struct store **ret, char **ret_note,
        struct error *ret_error)
{
        struct store_limits l = limits ? *limits : (struct store_limits){0};
        _cleanup_free_ char *note = NULL;
        struct error e = {0};
        int r;

        l.outbox_bytes = l.outbox_bytes > 0 ? l.outbox_bytes : OUTBOX_BYTES;
        l.history_count = l.history_count > 0 ? l.history_count : HISTORY_COUNT;
        l.free_bytes = l.free_bytes > 0 ? l.free_bytes : FREE_BYTES;
        r = open_once(path, &l, ret, &e);
        if (r == -EBADMSG) {
                r = put_aside(path, &note, &e);
                if (r == 0)
                        r = open_once(path, &l, ret, &e);
        }
        if (r < 0 && ret_error)
                *ret_error = e;
        if (r == 0 && ret_note)
                *ret_note = TAKE_PTR(note);
        return r;
}

struct store *store_close(struct store *s)
{
        if (!s)
                return NULL;
        db_close(s->db);
        free(s->path);
        free(s->reserve_path);
        free(s);
        return NULL;
}

const char *store_epoch(const struct store *s)
{
        return s->epoch;
}

int64_t store_waiting(struct store *s)
{
        return s->counts.waiting;
}

/* ---- adding ---- */

int store_next_seq(struct store *s, int64_t *ret, struct error *ret_error)
{
        int r = db_query_integer(
                s->db, ret_error, 0, ret, "SELECT seq FROM sqlite_sequence WHERE name = 'item'", "");

        if (r == 0)
                (*ret)++;
        return r;
}

int store_insert(
        struct store *s, const struct store_item *i, struct store_counts *counts, struct error *ret_error)
{
        int64_t bytes = (int64_t)strlen(i->payload);
        int r = db_run(s->db, ret_error,
                "INSERT INTO item(seq, kind, importance, generated, bytes, payload) VALUES(?, ?, ?, ?, ?, ?)",
                "iiiiis", i->seq, (int64_t)i->kind, (int64_t)i->importance, i->generated_unix_ms, bytes,
                i->payload);

        if (r < 0)
                return r;
        counts->waiting++;
        counts->waiting_bytes += bytes;
        *(i->kind == STORE_REPORT ? &counts->reports : &counts->events) += 1;
        return 0;
}

static char *to_text(json_t *j /* owned */)
{
        char *text = j ? json_to_text(j) : NULL;

        json_decref(j);
        return text;
}

static enum store_importance importance_of(const struct wire_event *e)
{
        if (str_equal(e->name, EVENT_RECORDS_DROPPED))
                return IMPORTANCE_DROPPED;
        return e->severity == WIRE_ERROR     ? IMPORTANCE_ERROR
               : e->severity == WIRE_WARNING ? IMPORTANCE_WARNING
                                             : IMPORTANCE_INFO;
}

/* What the broker would refuse must not wait in the outbox: the measurements go first. */
static char *report_text(const struct wire_report *r)
{
        char *text = to_text(wire_report_to_json(r));
        struct wire_report small = *r;

        if (!text || strlen(text) <= WIRE_MESSAGE_MAXIMUM)
                return text;
        free(text);
        small.report = json_copy(r->report);
        json_object_set_new(small.report, "measurements", json_array());
        text = to_text(wire_report_to_json(&small));
        json_decref(small.report);
        return text;
}

static char *event_text(const struct wire_event *e)
{
        char *text = to_text(wire_event_to_json(e));
        struct wire_event small = *e;

        if (!text || strlen(text) <= WIRE_EVENT_MAXIMUM)
                return text;
        free(text);
        small.diagnosis = NULL;
        small.update = NULL;
        return to_text(wire_event_to_json(&small));
}

static int check_text(const char *text, size_t maximum_bytes, const char *what, struct error *ret_error)
{
        if (!text)
                return error_set(ret_error, EINVAL, "store.not-text",
                        "the %s cannot be written as JSON: a text of it is not valid UTF-8", what);
        if (strlen(text) > maximum_bytes)
                return error_set(ret_error, EFBIG, "store.too-large",
                        "the %s has %zu bytes, and no more than %zu can be sent", what, strlen(text),
                        maximum_bytes);
        return 0;
}

/* What is to be added, rendered with the numbers that it gets. */
struct addition {
        struct store_item *items;
        size_t count;
        int64_t bytes;
        enum store_importance most;
};

static void addition_done(struct addition *a)
{
        for (size_t i = 0; i < a->count; i++)
                free((char *)a->items[i].payload);
        free(a->items);
        *a = (struct addition){0};
}

static void addition_take(struct addition *a, struct store_item item)
{
        a->items[a->count++] = item;
        a->bytes += (int64_t)strlen(item.payload);
        if (item.importance > a->most)
                a->most = item.importance;
}

static int render(struct store *s, int64_t seq, const struct wire_report *report,
        const struct wire_event *events, size_t event_count, struct addition *a, struct error *ret_error)
{
        int64_t report_seq = report ? seq : 0;
        int r;

        a->items = xcalloc(event_count + 1, sizeof *a->items);
        if (report) {
                struct wire_report copy = *report;
                char *text;

                str_copy(copy.epoch, sizeof copy.epoch, s->epoch);
                copy.seq = seq++;
                text = report_text(&copy);
                r = check_text(text, WIRE_MESSAGE_MAXIMUM, "report", ret_error);
                if (r < 0) {
                        free(text);
                        return r;
                }
                addition_take(a, (struct store_item){copy.seq, STORE_REPORT, IMPORTANCE_REPORT,
                                         copy.generated_unix_ms, text});
        }
        for (size_t i = 0; i < event_count; i++) {
                struct wire_event copy = events[i];
                char *text;

                str_copy(copy.epoch, sizeof copy.epoch, s->epoch);
                copy.seq = seq++;
                copy.report_seq = report ? report_seq : copy.report_seq;
                text = event_text(&copy);
                r = check_text(text, WIRE_EVENT_MAXIMUM, "event", ret_error);
                if (r < 0) {
                        free(text);
                        return r;
                }
                addition_take(a, (struct store_item){copy.seq, STORE_EVENT, importance_of(&copy),
                                         copy.generated_unix_ms, text});
        }
        return 0;
}

static int insert_all(struct store *s, const struct addition *a, int round, struct store_counts *counts,
        struct store_dropped *dropped, struct error *ret_error)
{
        int r = 0;

        if (round > 0 || store_disk_is_low(s))
                r = store_make_room(
                        s, (a->bytes * 5 / 4 + (32 << 10)) << round, a->most, counts, dropped, ret_error);
        for (size_t i = 0; r == 0 && i < a->count; i++)
                r = store_insert(s, &a->items[i], counts, ret_error);
        if (r == 0)
                r = store_trim_outbox(s, counts, dropped, ret_error);
        return r == 0 ? store_trim_history(s, counts, ret_error) : r;
}

/* A small value that is stored in the same transaction. */
struct note {
        const char *name, *value;
};

static int set_value(struct store *s, const char *name, const char *value, struct error *ret_error)
{
        static const char remove[] = "DELETE FROM value WHERE name = ?";
        static const char set[] = "INSERT INTO value(name, value) VALUES(?, ?)"
                                  " ON CONFLICT(name) DO UPDATE SET value = excluded.value"
                                  " WHERE value <> excluded.value";

        return value ? db_run(s->db, ret_error, set, "ss", name, value)
                     : db_run(s->db, ret_error, remove, "s", name);
}

static int add_once(struct store *s, const struct wire_report *report, const struct wire_event *events,
        size_t event_count, const struct note *note, int64_t now_unix_ms, int round, int64_t *ret_seq,
        struct error *ret_error)
{
        struct store_counts counts = s->counts;
        struct store_dropped dropped = {0};
        struct addition a = {0};
        int64_t seq = 0;
        int r = db_begin(s->db, ret_error);

        if (r < 0)
                return r;
        r = store_next_seq(s, &seq, ret_error);
        if (r == 0)
                r = render(s, seq, report, events, event_count, &a, ret_error);
        if (r == 0)
                r = insert_all(s, &a, round, &counts, &dropped, ret_error);
        if (r == 0)
                r = store_record_dropped(s, &dropped, now_unix_ms, &counts, ret_error);
        if (r == 0 && note)
                r = set_value(s, note->name, note->value, ret_error);
        addition_done(&a);
        if (r < 0) {
                db_rollback(s->db);
                return r;
        }
        r = db_commit(s->db, ret_error);
        if (r == 0) {
                s->counts = counts;
                *ret_seq = seq;
        }
        return r;
}

/* What the log holds goes into the database, so that the log is written anew from its beginning. */
static void find_room(struct store *s)
{
        store_spend_reserve(s);
        db_query(s->db, NULL, NULL, NULL, "PRAGMA wal_checkpoint(RESTART)", "");
}

static int add(struct store *s, struct wire_report *report, struct wire_event *events, size_t event_count,
        const struct note *note, int64_t now_unix_ms, struct error *ret_error)
{
        int64_t seq = 0;
        int r = -ENOSPC;

        if (!report && event_count == 0)
                return 0;
        for (int round = 0; r == -ENOSPC && round < ROUNDS; round++) {
                if (round > 0)
                        find_room(s);
                r = add_once(s, report, events, event_count, note, now_unix_ms, round, &seq, ret_error);
        }
        if (r < 0)
                return r;
        store_keep_reserve(s);
        if (report) {
                str_copy(report->epoch, sizeof report->epoch, s->epoch);
                report->seq = seq++;
        }
        for (size_t i = 0; i < event_count; i++) {
                str_copy(events[i].epoch, sizeof events[i].epoch, s->epoch);
                events[i].seq = seq++;
                if (report)
                        events[i].report_seq = report->seq;
        }
        return 0;
}

int store_add(struct store *s, struct wire_report *report, struct wire_event *events, size_t event_count,
        int64_t now_unix_ms, struct error *ret_error)
{
        return add(s, report, events, event_count, NULL, now_unix_ms, ret_error);
}

int store_add_noting(struct store *s, struct wire_event *event, const char *name, const char *value,
        int64_t now_unix_ms, struct error *ret_error)
{
        const struct note note = {name, value};

        return add(s, NULL, event, 1, &note, now_unix_ms, ret_error);
}

/* ---- sending ---- */

struct each {
        int (*on_item)(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata);
        void *userdata;
};

static int on_unsent(sqlite3_stmt *row, void *userdata)
{
        const struct each *e = userdata;
        const char *payload = db_text(row, 2);

        return e->on_item(db_integer(row, 0), db_integer(row, 1) == STORE_REPORT ? TOPIC_REPORT : TOPIC_EVENT,
                payload, strlen(payload), e->userdata);
}

int store_each_unsent(struct store *s, int64_t after, size_t maximum,
        int (*on_item)(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata),
        void *userdata, struct error *ret_error)
{
        struct each e = {on_item, userdata};

        if (s->counts.waiting == 0)
                return 0;
        /* On a full disk it is not noted, and a later record may count some of these again: no reason not to
         * send, which is what makes room. */
        db_run(s->db, NULL, "UPDATE dropped SET seen = 1 WHERE seen = 0 AND seq > ?", "i", after);
        return db_query(s->db, ret_error, on_unsent, &e,
                "SELECT seq, kind, payload FROM item WHERE waiting = 1 AND seq > ? ORDER BY seq LIMIT ?",
                "ii", after, (int64_t)(maximum < INT32_MAX ? maximum : INT32_MAX));
}

static int acknowledge_one(struct store *s, int64_t seq, struct store_counts *counts, struct error *ret_error)
{
        int64_t bytes;
        int r = db_query_integer(s->db, ret_error, -1, &bytes,
                "SELECT bytes FROM item WHERE seq = ? AND waiting = 1", "i", seq);

        if (r < 0 || bytes < 0)
                return r;
        r = db_run(s->db, ret_error, "UPDATE item SET waiting = 0 WHERE seq = ?", "i", seq);
        if (r < 0)
                return r;
        counts->waiting--;
        counts->waiting_bytes -= bytes;
        counts->acknowledged++;
        counts->acknowledged_bytes += bytes;
        return 0;
}

static int acknowledge_all(struct store *s, const struct wire_ack *a, struct error *ret_error)
{
        struct store_counts counts = s->counts;
        int r = db_begin(s->db, ret_error);

        if (r < 0)
                return r;
        for (size_t i = 0; r == 0 && i < a->count; i++)
                r = acknowledge_one(s, a->seqs[i], &counts, ret_error);
        for (size_t i = 0; r == 0 && i < a->refused_count; i++)
                r = acknowledge_one(s, a->refused[i], &counts, ret_error);
        if (r == 0)
                r = store_trim_history(s, &counts, ret_error);
        if (r < 0) {
                db_rollback(s->db);
                return r;
        }
        r = db_commit(s->db, ret_error);
        if (r == 0)
                s->counts = counts;
        return r;
}

int store_acknowledge(struct store *s, const struct wire_ack *a, struct error *ret_error)
{
        int r;

        if (!str_equal(a->epoch, s->epoch) || (a->count == 0 && a->refused_count == 0))
                return 0;
        r = acknowledge_all(s, a, ret_error);
        if (r == -ENOSPC) {
                find_room(s);
                r = acknowledge_all(s, a, ret_error);
        }
        return r;
}

/* ---- history ---- */

static int on_payload(sqlite3_stmt *row, void *userdata)
{
        json_t *j = json_loads(db_text(row, 0), 0, NULL);

        /* Written by us and checked by nobody since: a line that is not JSON any more is left out. */
        if (j)
                json_array_append_new(userdata, j);
        return 0;
}

json_t *store_events(struct store *s, size_t maximum, struct error *ret_error)
{
        json_t *list = json_array();

        if (db_query(s->db, ret_error, on_payload, list,
                    "SELECT payload FROM item WHERE kind = ? ORDER BY seq DESC LIMIT ?", "ii",
                    (int64_t)STORE_EVENT, (int64_t)(maximum < INT32_MAX ? maximum : INT32_MAX)) == 0)
                return list;
        json_decref(list);
        return NULL;
}

/* ---- values ---- */

int store_set(struct store *s, const char *name, const char *value, struct error *ret_error)
{
        int r = -ENOSPC;

        for (int round = 0; r == -ENOSPC && round < 2; round++) {
                if (round > 0)
                        find_room(s);
                r = set_value(s, name, value, ret_error);
        }
        return r;
}

static int on_value(sqlite3_stmt *row, void *userdata)
{
        *(char **)userdata = db_copy_text(row, 0);
        return 1;
}

char *store_get(struct store *s, const char *name)
{
        char *value = NULL;

        db_query(s->db, NULL, on_value, &value, "SELECT value FROM value WHERE name = ?", "s", name);
        return value;
}
