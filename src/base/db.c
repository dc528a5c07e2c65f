#include "base/db_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUSY_TIMEOUT_MS   5000
#define BUSY_PAUSE_US     2000
#define STATEMENTS_MAX    256
#define JOURNAL_MAX_BYTES "4194304"

struct statement {
        const char *sql; /* its address is the key */
        sqlite3_stmt *handle;
};

struct db {
        sqlite3 *handle;
        char *path;
        struct statement *statements;
        size_t count;
        unsigned depth; /* of nested transactions */
        bool doomed;    /* the transaction was rolled back within */
        /* for one that must not wait: db_set_patience() */
        double patience_ms, busy_since_ms;
        bool is_locked; /* by another process, for longer than that */
        void (*on_locked)(bool is_locked, void *userdata);
        void *userdata;
};

DEFINE_CLEANUP(struct db *, db_close);

/* ---- errors ---- */

static int fail(sqlite3 *handle, const char *path, int code, struct error *ret_error)
{
        const char *why = handle ? sqlite3_errmsg(handle) : sqlite3_errstr(code);
        int number = db_number_of(handle, code);

        if (number == EBADMSG)
                return db_damaged(path, why, ret_error);
        if (number == ENOSPC)
                return error_set(ret_error, ENOSPC, "db.full", "the database %s: %s; make room on its disk",
                        path, why);
        if (number == EEXIST)
                return error_set(ret_error, EEXIST, "db.constraint", "the database %s: %s", path, why);
        if (number == EBUSY)
                return error_set(ret_error, EBUSY, "db.busy",
                        "the database %s: %s: another process holds it; end that process, or wait until it "
                        "is done",
                        path, why);
        return error_set(
                ret_error, number, "db.failed", "the database %s: %s (%s)", path, why, strerror(number));
}

/* ---- another process has it ---- */

static void note_lock(struct db *d, bool is_locked)
{
        if (is_locked == d->is_locked || d->patience_ms == 0)
                return;
        d->is_locked = is_locked;
        if (d->on_locked)
                d->on_locked(is_locked, d->userdata);
}

/* SQLite asks whether to try once more. Patience is had once: while it stays locked, nothing waits for it. */
static int on_busy(void *userdata, int tries)
{
        struct db *d = userdata;

        if (tries == 0)
                d->busy_since_ms = clock_monotonic_ms();
        if (d->is_locked || clock_monotonic_ms() - d->busy_since_ms >= d->patience_ms)
                return 0;
        usleep(BUSY_PAUSE_US);
        return 1;
}

void db_set_patience(struct db *d, double patience_ms)
{
        d->patience_ms = patience_ms;
        sqlite3_busy_handler(d->handle, on_busy, d);
}

void db_watch_lock(struct db *d, void (*on_locked)(bool is_locked, void *userdata), void *userdata)
{
        d->on_locked = on_locked;
        d->userdata = userdata;
}

static bool is_held_by_another(int code)
{
        return (code & 0xff) == SQLITE_BUSY && code != SQLITE_BUSY_SNAPSHOT;
}

/* ---- opening ---- */

/* New files are made here, since SQLite takes its mode from the umask, and their folder entry is synced. */
static int make_file(const char *path, struct error *ret_error)
{
        _cleanup_free_ char *copy = xstrdup(path);
        _cleanup_close_ int folder = -1,
                            fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0600);

        if (fd < 0 && errno == EEXIST)
                return 0;
        if (fd >= 0)
                folder = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        /* Some file systems cannot sync a folder and say EINVAL. */
        if (fd < 0 || folder < 0 || (fsync(folder) < 0 && errno != EINVAL))
                return error_set(ret_error, errno, "db.failed", "cannot make the database %s: %s", path,
                        strerror(errno));
        return 0;
}

static int run_text(struct db *d, const char *sql, struct error *ret_error)
{
        int code = sqlite3_exec(d->handle, sql, NULL, NULL, NULL);

        if (is_held_by_another(code))
                note_lock(d, true);
        return code == SQLITE_OK ? 0 : fail(d->handle, d->path, code, ret_error);
}

static int read_version(struct db *d, size_t newest, size_t *ret, struct error *ret_error)
{
        int64_t version;
        int r = db_query_integer(d, ret_error, 0, &version, "PRAGMA user_version", "");

        if (r < 0)
                return r;
        if (version < 0 || (uint64_t)version > newest)
                return error_set(ret_error, EPROTO, "db.newer",
                        "the database %s has version %lld, made by a newer program than this one (version "
                        "%zu); "
                        "install the newer one again",
                        d->path, (long long)version, newest);
        *ret = (size_t)version;
        return 0;
}

/* Writes nothing before the version is known to be ours. */
static int configure(struct db *d, size_t newest, struct error *ret_error)
{
        char mode[256] = "";
        size_t version;
        int code, r;

        sqlite3_busy_timeout(d->handle, BUSY_TIMEOUT_MS);
        sqlite3_extended_result_codes(d->handle, 1);
        r = read_version(d, newest, &version, ret_error);
        if (r < 0)
                return r;
        code = db_ask(d->handle, "PRAGMA journal_mode = WAL", mode);
        if (code != SQLITE_OK)
                return fail(d->handle, d->path, code, ret_error);
        if (strcmp(mode, "wal") != 0)
                return error_set(ret_error, EOPNOTSUPP, "db.failed",
                        "the database %s cannot have a write-ahead log (mode %s); its file system lacks what "
                        "that needs",
                        d->path, mode);
        return run_text(d,
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;"
                "PRAGMA cell_size_check = ON; PRAGMA journal_size_limit = " JOURNAL_MAX_BYTES,
                ret_error);
}

/* One script and its number, or nothing of both. Another process may have been quicker. */
static int migrate_once(struct db *d, const char *const *migrations, size_t count, size_t *ret_version,
        struct error *ret_error)
{
        char number[64];
        size_t version;
        int r = db_begin(d, ret_error);

        if (r < 0)
                return r;
        r = read_version(d, count, &version, ret_error);
        if (r == 0 && version < count) {
                snprintf(number, sizeof number, "PRAGMA user_version = %zu", version + 1);
                r = run_text(d, migrations[version], ret_error);
                if (r == 0)
                        r = run_text(d, number, ret_error);
                version++;
        }
        if (r < 0) {
                db_rollback(d);
                return r;
        }
        r = db_commit(d, ret_error);
        if (r == 0)
                *ret_version = version;
        return r;
}

static int migrate(struct db *d, const char *const *migrations, size_t count, struct error *ret_error)
{
        size_t version;
        int r = read_version(d, count, &version, ret_error);

        while (r == 0 && version < count)
                r = migrate_once(d, migrations, count, &version, ret_error);
        return r;
}

int db_open(const char *path, const char *const *migrations, size_t count, struct db **ret,
        struct error *ret_error)
{
        _cleanup_(db_close_p) struct db *d = NULL;
        int code, r = make_file(path, ret_error);

        if (r == 0)
                r = db_check_file(path, BUSY_TIMEOUT_MS, ret_error);
        if (r < 0)
                return r;
        d = xcalloc(1, sizeof *d);
        d->path = xstrdup(path);
        code = sqlite3_open_v2(path, &d->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
        if (code != SQLITE_OK)
                return fail(d->handle, path, code, ret_error);
        r = configure(d, count, ret_error);
        if (r == 0)
                r = migrate(d, migrations, count, ret_error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(d);
        return 0;
}

struct db *db_close(struct db *d)
{
        if (!d)
                return NULL;
        for (size_t i = 0; i < d->count; i++)
                sqlite3_finalize(d->statements[i].handle);
        free(d->statements);
        sqlite3_close(d->handle);
        free(d->path);
        free(d);
        return NULL;
}

/* ---- statements ---- */

/* *ret_kept: it stays in the list. One that is in use (a query's on_row asks the same) is made once more. */
static int prepare(struct db *d, const char *sql, sqlite3_stmt **ret, bool *ret_kept, struct error *ret_error)
{
        const char *rest = "";
        bool known = false;
        int code;

        for (size_t i = 0; i < d->count; i++) {
                if (d->statements[i].sql != sql || strcmp(sqlite3_sql(d->statements[i].handle), sql) != 0)
                        continue;
                known = true;
                if (sqlite3_stmt_busy(d->statements[i].handle))
                        continue;
                *ret = d->statements[i].handle;
                *ret_kept = true;
                return 0;
        }
        code = sqlite3_prepare_v3(d->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret, &rest);
        if (code != SQLITE_OK)
                return fail(d->handle, d->path, code, ret_error);
        if (!*ret || *rest) {
                sqlite3_finalize(*ret);
                return error_set(ret_error, EINVAL, "db.failed", "the database %s: not one statement: %s",
                        d->path, sql);
        }
        *ret_kept = !known && d->count < STATEMENTS_MAX;
        if (*ret_kept) {
                d->statements = xrealloc_array(d->statements, d->count + 1, sizeof *d->statements);
                d->statements[d->count++] = (struct statement){sql, *ret};
        }
        return 0;
}

static int bind_one(sqlite3_stmt *s, int at, char type, va_list *arguments)
{
        const void *bytes;

        switch (type) {
        case 'i':
                return sqlite3_bind_int64(s, at, va_arg(*arguments, int64_t));
        case 'r':
                return sqlite3_bind_double(s, at, va_arg(*arguments, double));
        case 's':
                return sqlite3_bind_text(s, at, va_arg(*arguments, const char *), -1, SQLITE_STATIC);
        case 'b':
                bytes = va_arg(*arguments, const void *);
                return sqlite3_bind_blob64(s, at, bytes, va_arg(*arguments, size_t), SQLITE_STATIC);
        default:
                return SQLITE_MISUSE;
        }
}

static int bind(struct db *d, sqlite3_stmt *s, const char *types, va_list *arguments, struct error *ret_error)
{
        int code = SQLITE_OK;

        if (sqlite3_bind_parameter_count(s) != (int)strlen(types))
                return error_set(ret_error, EINVAL, "db.failed",
                        "the database %s: %d parameters, but types \"%s\": %s", d->path,
                        sqlite3_bind_parameter_count(s), types, sqlite3_sql(s));
        for (int i = 0; types[i] && code == SQLITE_OK; i++)
                code = bind_one(s, i + 1, types[i], arguments);
        return code == SQLITE_OK ? 0 : fail(d->handle, d->path, code, ret_error);
}

/* ---- transactions ---- */

static void roll_back_now(struct db *d)
{
        if (!sqlite3_get_autocommit(d->handle))
                sqlite3_exec(d->handle, "ROLLBACK", NULL, NULL, NULL);
}

static int cancelled(const struct db *d, struct error *ret_error)
{
        return error_set(ret_error, ECANCELED, "db.cancelled",
                "the database %s: the transaction was rolled back before, so nothing of it is stored",
                d->path);
}

/* After some failures SQLite has left the transaction by itself, and what follows would be committed one by
 * one; after others a part of it would be. */
static void doom(struct db *d, int code)
{
        switch (db_number_of(d->handle, code)) {
        case ENOSPC:
        case EIO:
        case EBADMSG:
        case ENOMEM:
                break;
        default:
                if (!sqlite3_get_autocommit(d->handle))
                        return;
        }
        if (d->depth == 0)
                return;
        d->doomed = true;
        roll_back_now(d);
}

int db_begin(struct db *d, struct error *ret_error)
{
        int r = 0;

        if (d->doomed)
                return cancelled(d, ret_error);
        if (d->depth == 0)
                r = run_text(d, "BEGIN IMMEDIATE", ret_error);
        if (r < 0)
                return r;
        if (d->depth++ == 0)
                note_lock(d, false);
        return 0;
}

int db_commit(struct db *d, struct error *ret_error)
{
        bool gone = d->depth == 0 || d->doomed || sqlite3_get_autocommit(d->handle);
        int r = 0;

        if (d->depth > 0 && --d->depth > 0)
                return gone ? cancelled(d, ret_error) : 0;
        d->doomed = false;
        r = gone ? cancelled(d, ret_error) : run_text(d, "COMMIT", ret_error);
        if (r < 0)
                roll_back_now(d);
        return r;
}

void db_rollback(struct db *d)
{
        if (d->depth == 0)
                return;
        d->doomed = --d->depth > 0;
        roll_back_now(d);
}

/* ---- running ---- */

/* Steps to the end, or until on_row wants no more. */
static int step(struct db *d, sqlite3_stmt *s, int (*on_row)(sqlite3_stmt *, void *), void *userdata,
        struct error *ret_error)
{
        int code, r;

        while ((code = sqlite3_step(s)) == SQLITE_ROW) {
                r = on_row ? on_row(s, userdata) : 0;
                if (r != 0)
                        return r;
        }
        if (code == SQLITE_DONE) {
                if (!sqlite3_stmt_readonly(s))
                        note_lock(d, false);
                return 0;
        }
        if (is_held_by_another(code))
                note_lock(d, true);
        r = fail(d->handle, d->path, code, ret_error);
        doom(d, code);
        return r;
}

static int run(struct db *d, int (*on_row)(sqlite3_stmt *, void *), void *userdata, const char *sql,
        const char *types, va_list *arguments, struct error *ret_error)
{
        sqlite3_stmt *s = NULL;
        bool kept = false;
        int r;

        if (d->depth > 0 && (d->doomed || sqlite3_get_autocommit(d->handle)))
                return cancelled(d, ret_error);
        r = prepare(d, sql, &s, &kept, ret_error);
        if (r < 0)
                return r;
        r = bind(d, s, types, arguments, ret_error);
        if (r == 0)
                r = step(d, s, on_row, userdata, ret_error);
        sqlite3_reset(s);
        sqlite3_clear_bindings(s);
        if (!kept)
                sqlite3_finalize(s);
        return r;
}

int db_run(struct db *d, struct error *ret_error, const char *sql, const char *types, ...)
{
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = run(d, NULL, NULL, sql, types, &arguments, ret_error);
        va_end(arguments);
        return r;
}

int db_query(struct db *d, struct error *ret_error, int (*on_row)(sqlite3_stmt *row, void *userdata),
        void *userdata, const char *sql, const char *types, ...)
{
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = run(d, on_row, userdata, sql, types, &arguments, ret_error);
        va_end(arguments);
        return r;
}

static int on_integer(sqlite3_stmt *row, void *userdata)
{
        *(int64_t *)userdata = db_integer(row, 0);
        return 1;
}

int db_query_integer(struct db *d, struct error *ret_error, int64_t otherwise, int64_t *ret, const char *sql,
        const char *types, ...)
{
        int64_t value = otherwise;
        va_list arguments;
        int r;

        va_start(arguments, types);
        r = run(d, on_integer, &value, sql, types, &arguments, ret_error);
        va_end(arguments);
        if (r < 0)
                return r;
        *ret = value;
        return 0;
}

/* ---- facts and columns ---- */

int64_t db_last_id(const struct db *d)
{
        return sqlite3_last_insert_rowid(d->handle);
}

int64_t db_changes(const struct db *d)
{
        return sqlite3_changes64(d->handle);
}

int64_t db_size_bytes(struct db *d)
{
        int64_t pages, unused, page_bytes;

        if (db_query_integer(d, NULL, 0, &pages, "PRAGMA page_count", "") < 0 ||
                db_query_integer(d, NULL, 0, &unused, "PRAGMA freelist_count", "") < 0 ||
                db_query_integer(d, NULL, 0, &page_bytes, "PRAGMA page_size", "") < 0)
                return 0;
        return (pages - unused) * page_bytes;
}

const char *db_text(sqlite3_stmt *row, int column)
{
        return (const char *)sqlite3_column_text(row, column);
}

char *db_copy_text(sqlite3_stmt *row, int column)
{
        return xstrdup(db_text(row, column));
}

int64_t db_integer(sqlite3_stmt *row, int column)
{
        return sqlite3_column_int64(row, column);
}

bool db_is_null(sqlite3_stmt *row, int column)
{
        return sqlite3_column_type(row, column) == SQLITE_NULL;
}
