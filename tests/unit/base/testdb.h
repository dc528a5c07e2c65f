/* A database in a folder of its own, for the tests of base/db.h. */
#pragma once

#include "base/db.h"

extern const char *const testdb_scripts[1];

/* Of the group: makes a temporary folder and works in it, removes it. */
int testdb_make_folder(void **state);
int testdb_remove_folder(void **state);
void testdb_remove(void); /* the file and its log */
struct db *testdb_open(void);
struct db *testdb_new(void);
/* Fail the test when the statement does. */
void testdb_run(struct db *d, const char *sql);
int64_t testdb_integer(struct db *d, const char *sql);
void testdb_add(struct db *d, const char *name);
int64_t testdb_count(struct db *d);
