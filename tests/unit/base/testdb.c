#include "testdb.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

static char folder[] = "/tmp/gridnode-test-db-XXXXXX";

const char *const testdb_scripts[1] = {
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE, body BLOB, size REAL);"
        "CREATE TABLE child (t INTEGER NOT NULL REFERENCES t (id))"};

void testdb_remove(void)
{
        unlink("db");
        unlink("db-wal");
        unlink("db-shm");
}

int testdb_make_folder(void **state)
{
        (void)state;
        return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

int testdb_remove_folder(void **state)
{
        (void)state;
        testdb_remove();
        return chdir("/") == 0 ? rmdir(folder) : -1;
}

struct db *testdb_open(void)
{
        struct db *d = NULL;
        struct error e = {0};

        if (db_open("db", testdb_scripts, 1, &d, &e) < 0)
                fail_msg("%s", e.text);
        return d;
}

struct db *testdb_new(void)
{
        testdb_remove();
        return testdb_open();
}

void testdb_run(struct db *d, const char *sql)
{
        struct error e = {0};

        if (db_run(d, &e, sql, "") < 0)
                fail_msg("%s", e.text);
}

int64_t testdb_integer(struct db *d, const char *sql)
{
        struct error e = {0};
        int64_t value;

        if (db_query_integer(d, &e, -1, &value, sql, "") < 0)
                fail_msg("%s", e.text);
        return value;
}

void testdb_add(struct db *d, const char *name)
{
        struct error e = {0};

        if (db_run(d, &e, "INSERT INTO t (name) VALUES (?)", "s", name) < 0)
                fail_msg("%s", e.text);
}

int64_t testdb_count(struct db *d)
{
        return testdb_integer(d, "SELECT count(*) FROM t");
}
