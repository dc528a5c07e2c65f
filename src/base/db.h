/* SQLite for state that must not be lost: WAL, synchronous=FULL, foreign keys, a busy timeout of 5 s. */
#pragma once

#include "base/error.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db; /* opaque */

/* Opens or makes the database, 0600. `migrations` are SQL scripts; script i takes user_version from i to i +
 * 1, each in a transaction of its own. A database that is newer than the last script is refused (-EPROTO). A
 * file that is no database or is damaged: -EBADMSG, and nothing is changed. */
int db_open(const char *path, const char *const *migrations, size_t count, struct db **ret,
        struct error *ret_error);
struct db *db_close(struct db *d);
/* For a loop that must not stand still: waits at most so long for another process that holds the database,
 * and then fails (-EBUSY, code "db.busy") at once, without any wait, until that process has let go of it. */
void db_set_patience(struct db *d, double patience_ms);
/* Told when that begins, by the first that fails, and when it is over, by the first that writes again. It
 * must not use the database. */
void db_watch_lock(struct db *d, void (*on_locked)(bool is_locked, void *userdata), void *userdata);
/* Each takes SQL with ? parameters and `types`, a letter for each: i int64_t, r double, s const char *
 * (NULL: null), b const void * and size_t. Statements are kept by the address of their SQL, so it is
 * best static. Errors carry SQLite's own words; a full disk is -ENOSPC, a failing one -EIO, a broken
 * constraint -EEXIST, damage -EBADMSG. Within a transaction all of these but -EEXIST roll it back at once:
 * whatever follows in it, its commit included, is -ECANCELED. */
int db_run(struct db *d, struct error *ret_error, const char *sql, const char *types, ...);
/* `on_row` is called for each row; what it returns other than 0 ends the query and is returned (> 0 too). */
int db_query(struct db *d, struct error *ret_error, int (*on_row)(sqlite3_stmt *row, void *userdata),
        void *userdata, const char *sql, const char *types, ...);
/* The first column of the first row; `otherwise` when there is no row. */
int db_query_integer(struct db *d, struct error *ret_error, int64_t otherwise, int64_t *ret, const char *sql,
        const char *types, ...);
int64_t db_last_id(const struct db *d);
int64_t db_changes(const struct db *d);
/* Transactions nest: only the outermost begins and commits. A rollback within ends the outermost with a
 * rollback, too (its commit gives -ECANCELED). A commit that fails has ended its level and rolled back: no
 * db_rollback after it. */
int db_begin(struct db *d, struct error *ret_error);
int db_commit(struct db *d, struct error *ret_error);
void db_rollback(struct db *d);
int64_t db_size_bytes(struct db *d); /* of the used pages; 0 when they cannot be counted */

/* Columns of a row: text is borrowed until the row ends, "" and 0 for null where not otherwise said. */
const char *db_text(sqlite3_stmt *row, int column); /* NULL for null */
char *db_copy_text(sqlite3_stmt *row, int column);  /* the caller's; NULL for null */
int64_t db_integer(sqlite3_stmt *row, int column);
bool db_is_null(sqlite3_stmt *row, int column);
