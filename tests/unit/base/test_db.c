#include "base/db.h"

#include "testdb.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening ---- */

static int keep_text(sqlite3_stmt *row, void *userdata)
{
        str_copy(userdata, 32, db_text(row, 0));
        return 0;
}

static void test_open(void **state)
{
        mode_t before = umask(0);
        char mode[32] = "";
        struct stat st;
        struct db *d = testdb_new();

        (void)state;
        umask(before);
        assert_int_equal(stat("db", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(stat("db-wal", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(db_query(d, NULL, keep_text, mode, "PRAGMA journal_mode", ""), 0);
        assert_string_equal(mode, "wal");
        assert_int_equal(testdb_integer(d, "PRAGMA synchronous"), 2);
        assert_int_equal(testdb_integer(d, "PRAGMA foreign_keys"), 1);
        assert_int_equal(testdb_integer(d, "PRAGMA busy_timeout"), 5000);
        assert_int_equal(testdb_integer(d, "PRAGMA user_version"), 1);
        assert_true(db_size_bytes(d) > 0);
        testdb_add(d, "x");
        db_close(d);
        d = testdb_open();
        assert_int_equal(testdb_count(d), 1);
        db_close(d);
        assert_null(db_close(NULL));
}

static void test_open_fails(void **state)
{
        struct error e = {0};
        struct db *d = NULL;

        (void)state;
        assert_int_equal(db_open("missing/db", testdb_scripts, 1, &d, &e), -ENOENT);
        assert_non_null(strstr(e.text, "missing/db"));
        assert_int_equal(mkdir("below", 0700), 0);
        assert_true(db_open("below", testdb_scripts, 1, &d, &e) < 0);
        assert_non_null(strstr(e.text, "below"));
        assert_null(d);
        assert_int_equal(rmdir("below"), 0);
}

static void test_migrations(void **state)
{
        static const char *const three[] = {"CREATE TABLE a (x)",
                "CREATE TABLE b (x); INSERT INTO b VALUES (7)",
                "CREATE TABLE c (x); INSERT INTO nowhere VALUES (1)"};
        struct error e = {0};
        struct db *d = NULL;

        (void)state;
        testdb_remove();
        assert_int_equal(db_open("db", three, 1, &d, &e), 0);
        d = db_close(d);
        assert_int_equal(db_open("db", three, 2, &d, &e), 0);
        assert_int_equal(testdb_integer(d, "SELECT x FROM b"), 7);
        d = db_close(d);
        /* A script that fails leaves nothing of itself, and what was before. */
        assert_int_equal(db_open("db", three, 3, &d, &e), -EINVAL);
        assert_non_null(strstr(e.text, "nowhere"));
        assert_null(d);
        assert_int_equal(db_open("db", three, 2, &d, &e), 0);
        assert_int_equal(testdb_integer(d, "PRAGMA user_version"), 2);
        assert_int_equal(testdb_integer(d, "SELECT count(*) FROM sqlite_schema WHERE name = 'c'"), 0);
        d = db_close(d);
}

/* ---- statements ---- */

static int check_row(sqlite3_stmt *row, void *userdata)
{
        _cleanup_free_ char *copy = db_copy_text(row, 1), *none = db_copy_text(row, 4);

        (*(int *)userdata)++;
        assert_int_equal(db_integer(row, 0), INT64_MIN);
        assert_string_equal(db_text(row, 1), "caf\xc3\xa9");
        assert_string_equal(copy, "caf\xc3\xa9");
        assert_int_equal(sqlite3_column_bytes(row, 2), 3);
        assert_memory_equal(sqlite3_column_blob(row, 2), "a\0b", 3);
        assert_true(sqlite3_column_double(row, 3) == 2.5);
        assert_null(db_text(row, 4));
        assert_null(none);
        assert_true(db_is_null(row, 4));
        assert_false(db_is_null(row, 1));
        assert_int_equal(db_integer(row, 4), 0);
        return 0;
}

static void test_types(void **state)
{
        struct db *d = testdb_new();
        int rows = 0;

        (void)state;
        assert_int_equal(db_query(d, NULL, check_row, &rows, "SELECT ?, ?, ?, ?, ?", "isbrs", INT64_MIN,
                                 "caf\xc3\xa9", "a\0b", (size_t)3, 2.5, NULL),
                0);
        assert_int_equal(rows, 1);
        assert_int_equal(
                db_run(d, NULL, "INSERT INTO t (id, name) VALUES (?, ?)", "is", (int64_t)77, "x"), 0);
        assert_int_equal(db_last_id(d), 77);
        assert_int_equal(db_changes(d), 1);
        db_close(d);
}

static void test_wrong_statements(void **state)
{
        struct db *d = testdb_new();
        struct error e = {0};

        (void)state;
        assert_int_equal(db_run(d, &e, "INSERT INTO nowhere VALUES (1)", ""), -EINVAL);
        assert_non_null(strstr(e.text, "nowhere"));
        assert_int_equal(db_run(d, &e, "SELECT ?", ""), -EINVAL);
        assert_int_equal(db_run(d, &e, "SELECT ?", "is", (int64_t)1, "x"), -EINVAL);
        assert_int_equal(db_run(d, &e, "SELECT ?", "?"), -EINVAL);
        assert_int_equal(db_run(d, &e, "DELETE FROM t; DELETE FROM t", ""), -EINVAL);
        assert_int_equal(db_run(d, &e, "", ""), -EINVAL);
        db_close(d);
}

struct nested {
        struct db *d;
        int depth, rows;
};

static const char nested_sql[] = "SELECT id FROM t ORDER BY id";

/* Asks the same again for each row. */
static int on_nested(sqlite3_stmt *row, void *userdata)
{
        struct nested *n = userdata;
        struct nested inner = {n->d, n->depth + 1, 0};

        n->rows++;
        assert_int_equal(db_integer(row, 0), n->rows);
        if (n->depth < 2) {
                assert_int_equal(db_query(n->d, NULL, on_nested, &inner, nested_sql, ""), 0);
                assert_int_equal(inner.rows, 3);
        }
        return 0;
}

static void test_nested_queries(void **state)
{
        struct db *d = testdb_new();
        struct nested n = {d, 0, 0};

        (void)state;
        testdb_add(d, "a");
        testdb_add(d, "b");
        testdb_add(d, "c");
        assert_int_equal(db_query(d, NULL, on_nested, &n, nested_sql, ""), 0);
        assert_int_equal(n.rows, 3);
        db_close(d);
}

static int stop(sqlite3_stmt *row, void *userdata)
{
        (void)row;
        return *(int *)userdata;
}

static void test_stops(void **state)
{
        struct db *d = testdb_new();
        int64_t value = 5;

        (void)state;
        testdb_add(d, "a");
        testdb_add(d, "b");
        assert_int_equal(db_query(d, NULL, stop, &(int){7}, "SELECT id FROM t", ""), 7);
        assert_int_equal(db_query(d, NULL, stop, &(int){-ECANCELED}, "SELECT id FROM t", ""), -ECANCELED);
        assert_int_equal(db_query(d, NULL, stop, &(int){0}, "SELECT id FROM t", ""), 0);
        assert_int_equal(db_query_integer(d, NULL, 9, &value, "SELECT id FROM t WHERE 0", ""), 0);
        assert_int_equal(value, 9);
        /* A query that was left early holds nothing back. */
        testdb_run(d, "DROP TABLE child");
        db_close(d);
}

/* SQL that was built in the same place is another statement. */
static void test_sql_at_the_same_address(void **state)
{
        struct db *d = testdb_new();
        char sql[32];

        (void)state;
        for (int i = 0; i < 600; i++) {
                snprintf(sql, sizeof sql, "SELECT %d", i);
                assert_int_equal(testdb_integer(d, sql), i);
        }
        db_close(d);
}

/* ---- transactions ---- */

static void test_constraint_goes_on(void **state)
{
        struct db *d = testdb_new();
        struct error e = {0};

        (void)state;
        assert_int_equal(db_begin(d, &e), 0);
        testdb_add(d, "a");
        assert_int_equal(db_run(d, &e, "INSERT INTO t (name) VALUES (?)", "s", "a"), -EEXIST);
        assert_int_equal(e.number, EEXIST);
        assert_int_equal(db_run(d, &e, "INSERT INTO child VALUES (99)", ""), -EEXIST);
        testdb_add(d, "b");
        assert_int_equal(db_commit(d, &e), 0);
        assert_int_equal(testdb_count(d), 2);
        db_close(d);
}

static void test_transactions_nest(void **state)
{
        struct db *d = testdb_new();
        struct error e = {0};

        (void)state;
        assert_int_equal(db_begin(d, &e), 0);
        assert_int_equal(db_begin(d, &e), 0);
        testdb_add(d, "a");
        assert_int_equal(db_commit(d, &e), 0);
        testdb_add(d, "b");
        db_rollback(d);
        assert_int_equal(testdb_count(d), 0);
        db_rollback(d);
        assert_int_equal(db_commit(d, &e), -ECANCELED);
        testdb_add(d, "c");
        assert_int_equal(testdb_count(d), 1);
        db_close(d);
}

static void test_rollback_within(void **state)
{
        struct db *d = testdb_new();
        struct error e = {0};
        int64_t value;

        (void)state;
        assert_int_equal(db_begin(d, &e), 0);
        testdb_add(d, "a");
        assert_int_equal(db_begin(d, &e), 0);
        testdb_add(d, "b");
        db_rollback(d);
        /* Nothing that follows may be stored on its own. */
        assert_int_equal(db_run(d, &e, "INSERT INTO t (name) VALUES ('c')", ""), -ECANCELED);
        assert_int_equal(db_query_integer(d, &e, 0, &value, "SELECT 1", ""), -ECANCELED);
        assert_int_equal(db_begin(d, &e), -ECANCELED);
        assert_int_equal(db_commit(d, &e), -ECANCELED);
        assert_int_equal(testdb_count(d), 0);
        assert_int_equal(db_begin(d, &e), 0);
        testdb_add(d, "d");
        assert_int_equal(db_commit(d, &e), 0);
        assert_int_equal(testdb_count(d), 1);
        db_close(d);
}

static void test_busy(void **state)
{
        struct db *d = testdb_new(), *other = testdb_open();
        struct error e = {0};

        (void)state;
        testdb_run(other, "PRAGMA busy_timeout = 50");
        assert_int_equal(db_begin(d, &e), 0);
        testdb_add(d, "a");
        assert_int_equal(db_begin(other, &e), -EBUSY);
        assert_int_equal(db_run(other, &e, "INSERT INTO t (name) VALUES ('z')", ""), -EBUSY);
        assert_int_equal(testdb_count(other), 0);
        assert_int_equal(db_commit(d, &e), 0);
        assert_int_equal(testdb_count(other), 1);
        db_close(other);
        db_close(d);
}

struct lock_news {
        int begun, ended;
};

static void on_locked(bool is_locked, void *userdata)
{
        struct lock_news *n = userdata;

        n->begun += is_locked;
        n->ended += !is_locked;
}

/* The patience is had once; reading goes on; and each lock is told once, with its end. */
static void test_patience(void **state)
{
        struct db *holder = testdb_new(), *d = testdb_open();
        struct lock_news news = {0};
        struct error e = {0};

        (void)state;
        db_set_patience(d, 100);
        db_watch_lock(d, on_locked, &news);
        for (int lock = 1; lock <= 2; lock++) {
                double began_ms;

                assert_int_equal(db_begin(holder, &e), 0);
                began_ms = clock_monotonic_ms();
                assert_int_equal(db_begin(d, &e), -EBUSY);
                assert_true(clock_monotonic_ms() - began_ms >= 95);
                assert_string_equal(e.code, "db.busy");
                assert_non_null(strstr(e.text, "another process"));
                began_ms = clock_monotonic_ms();
                for (int i = 0; i < 20; i++) {
                        assert_int_equal(db_run(d, &e, "INSERT INTO t (name) VALUES ('z')", ""), -EBUSY);
                        assert_int_equal(testdb_count(d), lock - 1);
                }
                assert_true(clock_monotonic_ms() - began_ms < 90);
                assert_int_equal(news.begun, lock);
                assert_int_equal(news.ended, lock - 1);
                db_rollback(holder);
                if (lock == 1)
                        testdb_add(d, "a");
                else
                        assert_int_equal(db_begin(d, &e), 0);
                assert_int_equal(news.ended, lock);
        }
        db_rollback(d);
        db_close(d);
        db_close(holder);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_open),
                cmocka_unit_test(test_open_fails),
                cmocka_unit_test(test_migrations),
                cmocka_unit_test(test_types),
                cmocka_unit_test(test_wrong_statements),
                cmocka_unit_test(test_nested_queries),
                cmocka_unit_test(test_stops),
                cmocka_unit_test(test_sql_at_the_same_address),
                cmocka_unit_test(test_constraint_goes_on),
                cmocka_unit_test(test_transactions_nest),
                cmocka_unit_test(test_rollback_within),
                cmocka_unit_test(test_busy),
                cmocka_unit_test(test_patience),
        };

        return cmocka_run_group_tests(tests, testdb_make_folder, testdb_remove_folder);
}
