/* What the two files of the database share: db_check.c says whether a file is one, db.c works with it. */
#pragma once

#include "base/db.h"

/* The errno that stands for SQLite's result code. `handle` may be NULL. */
int db_number_of(sqlite3 *handle, int code);
int db_damaged(const char *path, const char *why, struct error *ret_error); /* -EBADMSG */
/* The first column of the first row of `sql`; SQLITE_OK, or why there is none. */
int db_ask(sqlite3 *handle, const char *sql, char ret[256]);
/* -EBADMSG where the file is damaged; nothing is written. `busy_ms`: how long another process is waited for.
 */
int db_check_file(const char *path, int busy_ms, struct error *ret_error);
