/* The parts of the store, for store_*.c only. */
#pragma once

#include "base/db.h"
#include "node/store.h"

enum store_kind { STORE_EVENT, STORE_REPORT };

/* What goes first when there is no room: the order of the enum, and the oldest of each. Records of what was
 * dropped stay longest: without them nobody knew. */
enum store_importance {
        IMPORTANCE_REPORT,
        IMPORTANCE_INFO,
        IMPORTANCE_WARNING,
        IMPORTANCE_ERROR,
        IMPORTANCE_DROPPED,
};

/* Kept in memory, so that no query counts 100000 rows. */
struct store_counts {
        int64_t waiting, waiting_bytes;
        int64_t events, reports; /* waiting or not */
        int64_t acknowledged, acknowledged_bytes;
};

struct store {
        struct db *db;
        char *path, *reserve_path;
        bool has_reserve;
        char epoch[WIRE_ID_MAXIMUM + 1];
        struct store_limits limits;
        struct store_counts counts;
};

/* What was dropped within one transaction. */
struct store_dropped {
        bool any;
        int64_t of[IMPORTANCE_DROPPED]; /* by importance */
        int64_t first_unix_ms, last_unix_ms;
};

/* One row of the outbox. The payload is ready to send. */
struct store_item {
        int64_t seq;
        enum store_kind kind;
        enum store_importance importance;
        int64_t generated_unix_ms;
        const char *payload;
};
int store_insert(
        struct store *s, const struct store_item *i, struct store_counts *counts, struct error *ret_error);
/* The number that the next item gets: never one that was given before. */
int store_next_seq(struct store *s, int64_t *ret, struct error *ret_error);

/* ---- store_room.c ---- */

/* Within a transaction: frees so much within the database that `bytes` more need no new room on the disk, as
 * far as what is acknowledged or no more important than `most` gives. */
int store_make_room(struct store *s, int64_t bytes, enum store_importance most, struct store_counts *counts,
        struct store_dropped *dropped, struct error *ret_error);
/* Within a transaction: bring outbox and history back under their limits. */
int store_trim_outbox(
        struct store *s, struct store_counts *counts, struct store_dropped *dropped, struct error *ret_error);
int store_trim_history(struct store *s, struct store_counts *counts, struct error *ret_error);
/* Within a transaction: one event that says what was dropped, in the place of an earlier one that nobody has
 * seen yet. Nothing happens when nothing was dropped. */
int store_record_dropped(struct store *s, const struct store_dropped *dropped, int64_t now_unix_ms,
        struct store_counts *counts, struct error *ret_error);
/* Whether the file system has less room than is to be kept free. */
bool store_disk_is_low(const struct store *s);
/* A file beside the database that only takes room, to be given up when the disk is full. Made when there is
 * room for it; nothing happens when it is there. */
void store_keep_reserve(struct store *s);
void store_spend_reserve(struct store *s);
