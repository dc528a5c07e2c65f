#include "base/db.h"

#include "testdb.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_FILE ((size_t)64 << 20)

/* ---- files that are no databases ---- */

struct content {
        char *data;
        size_t length;
};

static struct content slurp(const char *path)
{
        struct content c = {0};
        struct error e = {0};

        if (access(path, F_OK) == 0 && file_read(path, MAX_FILE, &c.data, &c.length, &e) < 0)
                fail_msg("%s", e.text);
        return c;
}

static void spill(const char *path, const void *data, size_t length)
{
        struct error e = {0};

        if (file_save(path, data, length, 0600, &e) < 0)
                fail_msg("%s", e.text);
}

/* Refused, and not a byte of the file nor of its log changed. */
static void assert_refused(int number)
{
        struct content file = slurp("db"), log = slurp("db-wal");
        struct content file_after, log_after;
        struct error e = {0};
        struct db *d = NULL;

        assert_int_equal(db_open("db", testdb_scripts, 1, &d, &e), -number);
        assert_null(d);
        assert_int_equal(e.number, number);
        assert_true(str_starts_with(e.text, "the database db "));
        file_after = slurp("db");
        log_after = slurp("db-wal");
        assert_int_equal(file_after.length, file.length);
        assert_memory_equal(file_after.data, file.data, file.length);
        assert_int_equal(log_after.length, log.length);
        if (log.length)
                assert_memory_equal(log_after.data, log.data, log.length);
        free(file.data);
        free(log.data);
        free(file_after.data);
        free(log_after.data);
}

static void test_newer(void **state)
{
        struct db *d = testdb_new();

        (void)state;
        testdb_run(d, "PRAGMA user_version = 2");
        db_close(d);
        assert_refused(EPROTO);
        d = NULL;
        testdb_remove();
}

static void fill(struct db *d, int rows)
{
        assert_int_equal(db_begin(d, NULL), 0);
        for (int i = 0; i < rows; i++)
                assert_int_equal(db_run(d, NULL, "INSERT INTO t (name, body) VALUES (?, randomblob(300))",
                                         "i", (int64_t)i),
                        0);
        assert_int_equal(db_commit(d, NULL), 0);
}

static void test_garbage(void **state)
{
        char noise[8192];

        (void)state;
        testdb_remove();
        spill("db", "hello", 5);
        assert_refused(EBADMSG);
        memset(noise, 'x', sizeof noise);
        spill("db", noise, sizeof noise);
        assert_refused(EBADMSG);
        testdb_remove();
}

static void test_cut_off(void **state)
{
        struct db *d = testdb_new();
        struct content whole;

        (void)state;
        fill(d, 200);
        db_close(d);
        whole = slurp("db");
        assert_true(whole.length > 40000);
        for (size_t length = 1; length < whole.length; length += 1021) {
                testdb_remove();
                spill("db", whole.data, length);
                assert_refused(EBADMSG);
        }
        testdb_remove();
        free(whole.data);
}

/* Pages overwritten in the middle. */
static void test_holes(void **state)
{
        struct db *d = testdb_new();
        struct content whole;

        (void)state;
        fill(d, 200);
        db_close(d);
        whole = slurp("db");
        for (size_t at = 0; at + 4096 <= whole.length; at += 4096) {
                _cleanup_free_ char *copy = malloc(whole.length);

                assert_non_null(copy);
                memcpy(copy, whole.data, whole.length);
                memset(copy + at, 0xa5, 600);
                testdb_remove();
                spill("db", copy, whole.length);
                assert_refused(EBADMSG);
        }
        testdb_remove();
        free(whole.data);
}

/* SQLite itself would take the empty file for a new database and remove the log with all that is in it. */
static void test_emptied_with_a_log(void **state)
{
        struct db *d = testdb_new();
        struct content log;

        (void)state;
        fill(d, 10);
        log = slurp("db-wal");
        assert_true(log.length > 0);
        db_close(d);
        testdb_remove();
        spill("db", "", 0);
        spill("db-wal", log.data, log.length);
        assert_refused(EBADMSG);
        testdb_remove();
        free(log.data);
}

static void test_empty_is_new(void **state)
{
        (void)state;
        testdb_remove();
        spill("db", "", 0);
        db_close(testdb_open());
        testdb_remove();
}

/* Damage that comes while it is open. */
static void test_damaged_later(void **state)
{
        struct db *d = testdb_new();
        struct error e = {0};
        int64_t value;
        int fd;

        (void)state;
        fill(d, 200);
        db_close(d);
        d = testdb_open();
        fd = open("db", O_WRONLY | O_CLOEXEC);
        for (int i = 1; i < 12; i++)
                assert_int_equal(pwrite(fd, "\xa5\xa5\xa5\xa5\xa5\xa5\xa5\xa5\xa5", 9, i * 4096), 9);
        close(fd);
        assert_int_equal(db_query_integer(d, &e, 0, &value, "SELECT count(*) FROM t WHERE body = x'00'", ""),
                -EBADMSG);
        assert_string_equal(e.code, "db.damaged");
        db_close(d);
        testdb_remove();
}

/* ---- full ---- */

/* Adds in one transaction until it does not go on; 0 when all went in. */
static int add_many(struct db *d, int rows)
{
        struct error e = {0};
        int r = db_begin(d, &e);

        assert_int_equal(r, 0);
        for (int i = 0; i < rows && r == 0; i++)
                r = db_run(d, &e, "INSERT INTO t (body) VALUES (randomblob(2000))", "");
        if (r < 0) {
                assert_int_equal(r, -ENOSPC);
                assert_string_equal(e.code, "db.full");
                /* Neither the rest nor what went in before is stored. */
                assert_int_equal(db_run(d, &e, "INSERT INTO t (name) VALUES ('late')", ""), -ECANCELED);
                assert_int_equal(db_commit(d, &e), -ECANCELED);
                return r;
        }
        r = db_commit(d, &e);
        if (r < 0)
                assert_int_equal(r, -ENOSPC);
        return r;
}

static void test_full(void **state)
{
        struct db *d = testdb_new();

        (void)state;
        testdb_add(d, "before");
        testdb_run(d, "PRAGMA max_page_count = 20");
        assert_int_equal(add_many(d, 100), -ENOSPC);
        assert_int_equal(testdb_count(d), 1);
        assert_int_equal(add_many(d, 3), 0);
        assert_int_equal(testdb_count(d), 4);
        testdb_run(d, "PRAGMA max_page_count = 10000");
        assert_int_equal(add_many(d, 100), 0);
        assert_int_equal(testdb_count(d), 104);
        db_close(d);
        d = testdb_open();
        assert_int_equal(testdb_count(d), 104);
        db_close(d);
}

/* On a real file system of 512 KiB, in a process and a mount namespace of its own. The line that is not as
 * wanted, or 0. */
static int fill_disk(void)
{
        struct error e = {0};
        struct db *d = NULL;
        int64_t before = 0, after = 0;
        int r = 0;

        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                mount("tmpfs", "/mnt", "tmpfs", 0, "size=512k") < 0)
                return -1;
        if (db_open("/mnt/db", testdb_scripts, 1, &d, &e) < 0)
                return __LINE__;
        for (int i = 0; i < 1000 && r == 0; i++) {
                if (db_query_integer(d, &e, 0, &before, "SELECT count(*) FROM t", "") < 0 || before != i * 3)
                        return __LINE__;
                r = add_many(d, 3);
        }
        if (r != -ENOSPC || before == 0)
                return __LINE__;
        /* The next start finds the same, on the disk that is still full. */
        if (db_query_integer(d, &e, 0, &after, "SELECT count(*) FROM t", "") < 0 || after != before)
                return __LINE__;
        d = db_close(d);
        r = db_open("/mnt/db", testdb_scripts, 1, &d, &e);
        if (r < 0)
                return r == -ENOSPC ? 0 : __LINE__;
        if (db_query_integer(d, &e, 0, &after, "SELECT count(*) FROM t", "") < 0 || after != before)
                return __LINE__;
        db_close(d);
        return 0;
}

static void test_full_disk(void **state)
{
        int status, line;
        pid_t pid = fork();

        (void)state;
        assert_true(pid >= 0);
        if (pid == 0) {
                if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
                        _exit(254);
                line = fill_disk();
                if (line > 0)
                        fprintf(stderr, "test_db_damage.c:%d\n", line);
                _exit(line == 0 ? 0 : line < 0 ? 254 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 254)
                skip();
        assert_int_equal(WEXITSTATUS(status), 0);
}

/* ---- kill -9 ---- */

/* Transactions of two rows until it is killed; each that is stored is told by a byte. */
static void write_forever(int told)
{
        struct db *d = NULL;

        if (db_open("db", testdb_scripts, 1, &d, NULL) < 0)
                _exit(1);
        for (;;) {
                if (db_begin(d, NULL) < 0 ||
                        db_run(d, NULL, "INSERT INTO t (body) VALUES (randomblob(900))", "") < 0 ||
                        db_run(d, NULL, "INSERT INTO t (body) VALUES (randomblob(900))", "") < 0 ||
                        db_commit(d, NULL) < 0 || write(told, "x", 1) != 1)
                        _exit(1);
        }
}

static void test_killed(void **state)
{
        int64_t told = 0;

        (void)state;
        testdb_remove();
        for (int round = 0; round < 20; round++) {
                int fds[2], status;
                struct db *d;
                char c;
                pid_t pid;

                assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
                pid = fork();
                assert_true(pid >= 0);
                if (pid == 0)
                        write_forever(fds[1]);
                close(fds[1]);
                /* The first round ends while the tables are being made, perhaps. */
                usleep((useconds_t)(500 + 1700 * round));
                assert_int_equal(kill(pid, SIGKILL), 0);
                while (read(fds[0], &c, 1) == 1)
                        told++;
                close(fds[0]);
                assert_int_equal(waitpid(pid, &status, 0), pid);
                assert_true(WIFSIGNALED(status));
                d = testdb_open();
                assert_int_equal(testdb_count(d) % 2, 0);
                assert_true(testdb_count(d) >= told * 2);
                assert_true(testdb_count(d) <= (told + round + 1) * 2);
                db_close(d);
        }
        assert_true(told > 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_newer),
                cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_cut_off),
                cmocka_unit_test(test_holes),
                cmocka_unit_test(test_emptied_with_a_log),
                cmocka_unit_test(test_empty_is_new),
                cmocka_unit_test(test_damaged_later),
                cmocka_unit_test(test_full),
                cmocka_unit_test(test_full_disk),
                cmocka_unit_test(test_killed),
        };

        return cmocka_run_group_tests(tests, testdb_make_folder, testdb_remove_folder);
}
