/* What the daemon must not lose, in SQLite (STATE/state.db): the outbox of events and reports until the plane
 * has stored them, the history that people read, the last known addresses, the configuration's state. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "wire/wire.h"

struct store; /* opaque */

struct store_limits {
        int64_t outbox_bytes;  /* default 64 MiB: full → the oldest of the least important goes first */
        int64_t history_count; /* default 10000 events, 200 reports, acknowledged ones first */
        int64_t free_bytes;    /* keep so much of the file system free; default 32 MiB */
};

/* A damaged database is put aside as state.db.damaged-TIME (and said so in *ret_note, the caller's), never
 * deleted. */
int store_open(const char *path, const struct store_limits *limits, struct store **ret, char **ret_note,
        struct error *ret_error);
struct store *store_close(struct store *s);
const char *store_epoch(const struct store *s); /* made with the database */

/* One transaction: the report (may be NULL) and then the events that it explains, all numbered here;
 * report_seq of the events is set. Their seq and epoch are written back. When the store is full, less
 * important records are dropped first (order: reports, INFO, WARNING, ERROR; the oldest first) and an
 * EVENT_RECORDS_DROPPED says what went; as long as nobody has seen that one, the next takes its place. A full
 * disk: -ENOSPC only when even that did not help; nothing is half there, and the caller may try again. What
 * could not be sent at its size goes without its measurements or its diagnosis. -EINVAL: a text in it is not
 * UTF-8. */
int store_add(struct store *s, struct wire_report *report, struct wire_event *events, size_t event_count,
        int64_t now_unix_ms, struct error *ret_error);

/* The same, and a small value with it, as store_set does: both or neither are there after a crash. */
int store_add_noting(struct store *s, struct wire_event *event, const char *name, const char *value,
        int64_t now_unix_ms, struct error *ret_error);

/* What is to be sent, in order: items with seq > `after`, at most `maximum`. `topic_kind` is TOPIC_EVENT or
 * TOPIC_REPORT; the payload is ready to send. What the callback returns other than 0 ends it and is returned.
 */
int store_each_unsent(struct store *s, int64_t after, size_t maximum,
        int (*on_item)(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata),
        void *userdata, struct error *ret_error);
/* They leave the outbox and stay in the history. Of another epoch: ignored. */
int store_acknowledge(struct store *s, const struct wire_ack *a, struct error *ret_error);
int64_t store_waiting(struct store *s); /* items in the outbox */

/* History, newest first: payloads as JSON objects in an array. New reference, NULL on failure. */
json_t *store_events(struct store *s, size_t maximum, struct error *ret_error);

/* Small values by name: "config.version", "addresses.control" … */
int store_set(
        struct store *s, const char *name, const char *value, struct error *ret_error); /* NULL removes */
char *store_get(struct store *s, const char *name); /* the caller's; NULL: none */
