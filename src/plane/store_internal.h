/* What the store_*.c share. */
#pragma once

#include "base/db.h"
#include "plane/store.h"

struct plane_store {
        struct db *db;
};

/* ---- refusals and checks (store.c) ---- */

#define STORE_HASH_TEXT 65
/* SHA-256 of a text, in hex: all that is kept of a secret. */
void store_hash(const char *secret, char ret[STORE_HASH_TEXT]);
/* Names of organisations and nodes: a-z, 0-9, '-', '.', 1 to 63 bytes, a letter or digit at both ends. */
int store_check_name(const char *what, const char *name, struct error *e);
/* Names of users and tokens: letters, digits and "._@+-", 1 to 64 bytes. */
int store_check_person(const char *what, const char *name, struct error *e);
/* The organisation exists, and the actor is of it or the machine's own administrator. */
int store_check_actor(
        struct plane_store *s, const struct actor *by, const char *organisation, struct error *e);
/* Ends the transaction: commits after 0, rolls back after a failure. Gives the result. */
int store_end(struct plane_store *s, int result, struct error *e);
/* The organisation and name of a node that is not removed; -ENOENT. */
int store_live_node(struct plane_store *s, const char *node, char ret_organisation[65], struct error *e);

/* {"name": …} of what `query` finds by id and organisation, for the audit log: after a removal nobody could
 * tell whose id it was. New reference; without the name where there is none. */
int store_named(struct plane_store *s, const char *query, const char *id, const char *organisation,
        json_t **ret, struct error *e);

/* Copies a column into a fixed field: "" for null. */
#define STORE_COPY(field, row, column) store_copy((field), sizeof(field), (row), (column))
void store_copy(char *ret, size_t size_bytes, sqlite3_stmt *row, int column);
json_t *store_text(sqlite3_stmt *row, int column); /* null for null */
json_t *store_time(sqlite3_stmt *row, int column); /* null for null and 0 */
json_t *store_json(sqlite3_stmt *row, int column); /* what was stored as JSON; null for null */

/* ---- pages of lists (store_page.c) ---- */

#define STORE_KEY_TEXT 72
struct store_list {
        /* One row as the API shows it. The last two columns of the row are its key, integers or texts
         * without a blank, by which the list is sorted. */
        json_t *(*to_json)(sqlite3_stmt *row);
        char kind; /* of the list, so that a cursor of another one is refused */
        int limit;
        char after[2]
                  [STORE_KEY_TEXT]; /* the key that the page begins after; what was given, without a cursor */
        char last[2][STORE_KEY_TEXT];
        json_t *items;
        bool more;
};
/* Lists sorted by a time or number, newest first, begin after these. */
#define STORE_NEWEST "9223372036854775807"
/* `first` and `second` are used where there is no cursor. -EINVAL for a bad cursor or limit. After success
 * store_list_end must be called. */
int store_list_begin(struct store_list *l, char kind, json_t *(*to_json)(sqlite3_stmt *row),
        const struct page *p, const char *first, const char *second, struct error *e);
int store_list_on_row(sqlite3_stmt *row, void *list); /* for db_query */
int64_t store_list_number(const struct store_list *l, size_t key);
int64_t store_list_fetch(const struct store_list *l); /* for LIMIT: one more than is shown */
/* Gives *ret unless `result` is a failure; gives the result. */
int store_list_end(struct store_list *l, int result, json_t **ret);

/* A role of a filter as its column has it; -1: any. */
int64_t store_role_wanted(const char *name);

/* ---- parts of nodes ---- */

#define STORE_OWN_EPOCH "plane" /* of the events that the plane itself makes; no node may use it */
/* The last events of a node, newest first, as the API shows them (store_event.c). */
int store_last_events(struct plane_store *s, const char *organisation, const char *node, int count,
        json_t **ret, struct error *e);
/* Everything that speaks for a node ends: revokes its certificates but those of `key` (NULL: all). */
int store_revoke(struct plane_store *s, const char *node, const char *key, int64_t now, struct error *e);

/* plane_store_tidy with other limits. */
int store_tidy_to(struct plane_store *s, int64_t events, int64_t reports, int64_t now, struct error *e);
