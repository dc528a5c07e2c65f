/* The bounds of the store: what goes when there is no room, and the record of it. */
#include "node/store_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define REPORTS_KEPT     200
#define RECORD_BYTES     1024                /* more than a record of what was dropped takes */
#define FLOOR_BYTES      ((int64_t)1 << 20)  /* a store of this size may have its room in any case */
#define RESERVE_BYTES    ((int64_t)1 << 20)  /* more than twice the log */
#define ROOM_BYTES_LIMIT ((int64_t)16 << 20) /* given up at once for one addition */

/* ---- rows go ---- */

struct victim {
        bool found;
        int64_t seq, bytes, generated_unix_ms;
        enum store_kind kind;
        enum store_importance importance;
};

static int on_victim(sqlite3_stmt *row, void *userdata)
{
        *(struct victim *)userdata = (struct victim){.found = true,
                .seq = db_integer(row, 0),
                .bytes = db_integer(row, 1),
                .generated_unix_ms = db_integer(row, 2),
                .kind = (enum store_kind)db_integer(row, 3),
                .importance = (enum store_importance)db_integer(row, 4)};
        return 1;
}

static void note_time(struct store_dropped *d, int64_t first_unix_ms, int64_t last_unix_ms)
{
        if (!d->any || first_unix_ms < d->first_unix_ms)
                d->first_unix_ms = first_unix_ms;
        if (!d->any || last_unix_ms > d->last_unix_ms)
                d->last_unix_ms = last_unix_ms;
        d->any = true;
}

static int on_dropped(sqlite3_stmt *row, void *userdata)
{
        struct store_dropped *d = userdata;

        for (int i = 0; i < IMPORTANCE_DROPPED; i++)
                d->of[i] += db_integer(row, i);
        note_time(d, db_integer(row, IMPORTANCE_DROPPED), db_integer(row, IMPORTANCE_DROPPED + 1));
        return 0;
}

/* A record of what was dropped: the next one tells what it told. */
static int absorb(struct store *s, int64_t seq, struct store_dropped *dropped, struct error *ret_error)
{
        return db_query(s->db, ret_error, on_dropped, dropped,
                "SELECT reports, infos, warnings, errors, first, last FROM dropped WHERE seq = ?", "i", seq);
}

static int remove_item(struct store *s, const struct victim *v, bool is_waiting, struct store_counts *counts,
        struct error *ret_error)
{
        int r = db_run(s->db, ret_error, "DELETE FROM item WHERE seq = ?", "i", v->seq);

        if (r < 0)
                return r;
        *(is_waiting ? &counts->waiting : &counts->acknowledged) -= 1;
        *(is_waiting ? &counts->waiting_bytes : &counts->acknowledged_bytes) -= v->bytes;
        *(v->kind == STORE_REPORT ? &counts->reports : &counts->events) -= 1;
        return 0;
}

/* The oldest acknowledged item, of one kind. 1: there was none. */
static int forget_one(
        struct store *s, enum store_kind kind, struct store_counts *counts, struct error *ret_error)
{
        struct victim v = {0};
        int r = db_query(s->db, ret_error, on_victim, &v,
                "SELECT seq, bytes, generated, kind, importance FROM item WHERE waiting = 0 AND kind = ?"
                " ORDER BY seq LIMIT 1",
                "i", (int64_t)kind);

        if (r < 0)
                return r;
        return v.found ? remove_item(s, &v, false, counts, ret_error) : 1;
}

/* The oldest of the least important that waits; nothing above `most`. 1: there was none. */
static int drop_one(struct store *s, enum store_importance most, struct store_counts *counts,
        struct store_dropped *dropped, struct error *ret_error)
{
        struct victim v = {0};
        int r = db_query(s->db, ret_error, on_victim, &v,
                "SELECT seq, bytes, generated, kind, importance FROM item WHERE waiting = 1"
                " ORDER BY importance, seq LIMIT 1",
                "");

        if (r < 0)
                return r;
        if (!v.found || v.importance > most)
                return 1;
        if (v.importance == IMPORTANCE_DROPPED) {
                r = absorb(s, v.seq, dropped, ret_error);
                if (r < 0)
                        return r;
        } else {
                dropped->of[v.importance]++;
                note_time(dropped, v.generated_unix_ms, v.generated_unix_ms);
        }
        return remove_item(s, &v, true, counts, ret_error);
}

/* ---- when ---- */

int store_trim_outbox(
        struct store *s, struct store_counts *counts, struct store_dropped *dropped, struct error *ret_error)
{
        int64_t bound = counts->waiting_bytes > s->limits.outbox_bytes ? s->limits.outbox_bytes - RECORD_BYTES
                                                                       : INT64_MAX;
        int r = 0;

        while (r == 0 && counts->waiting_bytes > bound)
                r = drop_one(s, IMPORTANCE_DROPPED, counts, dropped, ret_error);
        return r < 0 ? r : 0;
}

int store_trim_history(struct store *s, struct store_counts *counts, struct error *ret_error)
{
        int r;

        for (r = 0; r == 0 && counts->events > s->limits.history_count;)
                r = forget_one(s, STORE_EVENT, counts, ret_error);
        if (r < 0)
                return r;
        for (r = 0; r == 0 && counts->reports > REPORTS_KEPT;)
                r = forget_one(s, STORE_REPORT, counts, ret_error);
        if (r < 0)
                return r;
        /* The history has no more room than the outbox: reports go first, since they are the large ones. */
        for (r = 0;
                r >= 0 && counts->acknowledged > 0 && counts->acknowledged_bytes > s->limits.outbox_bytes;) {
                r = forget_one(s, STORE_REPORT, counts, ret_error);
                if (r == 1)
                        r = forget_one(s, STORE_EVENT, counts, ret_error);
        }
        return r < 0 ? r : 0;
}

static int unused_bytes(struct store *s, int64_t *ret, struct error *ret_error)
{
        int64_t pages = 0, page_bytes = 0;
        int r = db_query_integer(s->db, ret_error, 0, &pages, "PRAGMA freelist_count", "");

        if (r == 0)
                r = db_query_integer(s->db, ret_error, 4096, &page_bytes, "PRAGMA page_size", "");
        *ret = pages * page_bytes;
        return r;
}

int store_make_room(struct store *s, int64_t bytes, enum store_importance most, struct store_counts *counts,
        struct store_dropped *dropped, struct error *ret_error)
{
        int64_t before = counts->waiting_bytes + counts->acknowledged_bytes, unused = 0;
        int r = unused_bytes(s, &unused, ret_error);

        while (r == 0 && unused < bytes &&
                before - counts->waiting_bytes - counts->acknowledged_bytes < ROOM_BYTES_LIMIT) {
                r = forget_one(s, STORE_REPORT, counts, ret_error);
                if (r == 1)
                        r = forget_one(s, STORE_EVENT, counts, ret_error);
                if (r == 1)
                        r = drop_one(s, most, counts, dropped, ret_error);
                if (r == 0)
                        r = unused_bytes(s, &unused, ret_error);
        }
        return r < 0 ? r : 0;
}

/* ---- a disk that is full ---- */

static int64_t available_bytes(const struct store *s)
{
        struct statvfs v;

        return statvfs(s->path, &v) == 0 ? (int64_t)v.f_bavail * (int64_t)v.f_frsize : 0;
}

bool store_disk_is_low(const struct store *s)
{
        return available_bytes(s) < s->limits.free_bytes && db_size_bytes(s->db) > FLOOR_BYTES;
}

/* SQLite needs room to make room: its log must go into the database before it can be written anew. */
void store_keep_reserve(struct store *s)
{
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (s->has_reserve || available_bytes(s) < 2 * RESERVE_BYTES)
                return;
        fd = open(s->reserve_path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return;
        if (posix_fallocate(fd, 0, RESERVE_BYTES) == 0)
                s->has_reserve = true;
        else
                unlink(s->reserve_path);
}

void store_spend_reserve(struct store *s)
{
        unlink(s->reserve_path);
        s->has_reserve = false;
}

/* ---- and the record of it ---- */

static char *message_of(const struct store_dropped *d)
{
        static const char *const what[] = {"reports", "INFO", "WARNING", "ERROR"};
        struct text t = {0};
        char first[32], last[32];
        int64_t sum = 0;

        for (size_t i = 0; i < ELEMENTS(what); i++)
                sum += d->of[i];
        text_addf(&t, "%lld record%s dropped, since there was no room (", (long long)sum,
                sum == 1 ? " was" : "s were");
        for (size_t i = 0, told = 0; i < ELEMENTS(what); i++)
                if (d->of[i] > 0)
                        text_addf(&t, "%s%s %lld", told++ ? ", " : "", what[i], (long long)d->of[i]);
        time_format_utc(d->first_unix_ms, first);
        time_format_utc(d->last_unix_ms, last);
        text_addf(&t, "), generated from %s to %s", first, last);
        return text_take(&t);
}

/* Those that nobody has seen go into the new one. */
static int absorb_unseen(
        struct store *s, struct store_counts *counts, struct store_dropped *all, struct error *ret_error)
{
        int r = 0;

        while (r == 0) {
                struct victim v = {0};

                r = db_query(s->db, ret_error, on_victim, &v,
                        "SELECT item.seq, bytes, generated, kind, importance FROM dropped JOIN item USING "
                        "(seq)"
                        " WHERE seen = 0 AND waiting = 1 LIMIT 1",
                        "");
                if (r < 0 || !v.found)
                        break;
                r = absorb(s, v.seq, all, ret_error);
                if (r == 0)
                        r = remove_item(s, &v, true, counts, ret_error);
        }
        return r < 0 ? r : 0;
}

static int insert_record(struct store *s, const struct store_dropped *all, int64_t now_unix_ms,
        struct store_counts *counts, struct error *ret_error)
{
        struct wire_event e = {.generated_unix_ms = now_unix_ms, .severity = WIRE_WARNING};
        struct store_item item = {
                .kind = STORE_EVENT, .importance = IMPORTANCE_DROPPED, .generated_unix_ms = now_unix_ms};
        _cleanup_free_ char *message = message_of(all), *payload = NULL;
        json_t *j;
        int r = store_next_seq(s, &e.seq, ret_error);

        if (r < 0)
                return r;
        str_copy(e.epoch, sizeof e.epoch, s->epoch);
        e.name = (char *)EVENT_RECORDS_DROPPED;
        e.message = message;
        j = wire_event_to_json(&e);
        payload = json_to_text(j);
        json_decref(j);
        item.seq = e.seq;
        item.payload = payload;
        r = store_insert(s, &item, counts, ret_error);
        if (r < 0)
                return r;
        return db_run(s->db, ret_error,
                "INSERT INTO dropped(seq, reports, infos, warnings, errors, first, last)"
                " VALUES(?, ?, ?, ?, ?, ?, ?)",
                "iiiiiii", e.seq, all->of[IMPORTANCE_REPORT], all->of[IMPORTANCE_INFO],
                all->of[IMPORTANCE_WARNING], all->of[IMPORTANCE_ERROR], all->first_unix_ms,
                all->last_unix_ms);
}

int store_record_dropped(struct store *s, const struct store_dropped *dropped, int64_t now_unix_ms,
        struct store_counts *counts, struct error *ret_error)
{
        struct store_dropped all = *dropped;
        int r;

        if (!all.any)
                return 0;
        r = absorb_unseen(s, counts, &all, ret_error);
        return r < 0 ? r : insert_record(s, &all, now_unix_ms, counts, ret_error);
}
