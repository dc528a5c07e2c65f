#include "base/db_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define CHECK_MAX_BYTES ((int64_t)64 << 20) /* larger ones are not read through at every start */

/* ---- errors ---- */

int db_number_of(sqlite3 *handle, int code)
{
        switch (code & 0xff) {
        case SQLITE_FULL:
                return ENOSPC;
        case SQLITE_IOERR:
                return handle && sqlite3_system_errno(handle) == ENOSPC ? ENOSPC : EIO;
        case SQLITE_CONSTRAINT:
                return EEXIST;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return EBADMSG;
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return EBUSY;
        case SQLITE_CANTOPEN:
                return handle && sqlite3_system_errno(handle) ? sqlite3_system_errno(handle) : ENOENT;
        case SQLITE_READONLY:
                return EROFS;
        case SQLITE_NOMEM:
                return ENOMEM;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return EACCES;
        case SQLITE_TOOBIG:
                return EFBIG;
        default:
                return EINVAL;
        }
}

int db_damaged(const char *path, const char *why, struct error *ret_error)
{
        return error_set(ret_error, EBADMSG, "db.damaged",
                "the database %s is damaged: %s; move it away or put a saved copy in "
                "its place",
                path, why);
}

/* ---- is it one, and whole? ---- */

static int64_t size_of(const char *path)
{
        struct stat st;

        return stat(path, &st) == 0 ? (int64_t)st.st_size : 0;
}

/* The first column of the first row of `sql`; SQLITE_OK, or why there is none. */
int db_ask(sqlite3 *handle, const char *sql, char ret[256])
{
        sqlite3_stmt *s = NULL;
        int code = sqlite3_prepare_v2(handle, sql, -1, &s, NULL);

        if (code == SQLITE_OK)
                code = sqlite3_step(s);
        if (code == SQLITE_ROW) {
                snprintf(ret, 256, "%s", db_text(s, 0) ? db_text(s, 0) : "");
                code = SQLITE_OK;
        }
        sqlite3_finalize(s);
        return code;
}

/* Why the database cannot be right, in `why`; "" when nothing speaks against it. */
static void look(sqlite3 *handle, bool whole, char why[256])
{
        char answer[256] = "";
        int code = db_ask(handle, "PRAGMA schema_version", answer);

        if (code == SQLITE_OK && whole)
                code = db_ask(handle, "PRAGMA quick_check(1)", answer);
        if (db_number_of(handle, code) == EBADMSG)
                snprintf(why, 256, "%s", sqlite3_errmsg(handle));
        else if (code == SQLITE_OK && whole && strcmp(answer, "ok") != 0)
                memcpy(why, answer, sizeof answer);
}

/* Cut within its last page, which SQLite would fill with zeros (its file format, 1.3.2: the page size). While
 * there is a log, a page may have been half written, and comes from there. */
static bool is_cut_off(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        uint8_t size[2];
        int64_t page_bytes;

        if (fd < 0)
                return false;
        if (pread(fd, size, sizeof size, 16) != (ssize_t)sizeof size)
                return true; /* SQLite takes one of a single byte for a new one */
        page_bytes = size[0] << 8 | size[1];
        if (page_bytes == 1)
                page_bytes = 65536;
        return page_bytes >= 512 && size_of(path) % page_bytes != 0;
}

/* Through a connection that can only read, so that a damaged file stays as it is for whoever wants to save
 * something from it. What cannot be opened that way (a rollback journal is left) is SQLite's to mend. */
int db_check_file(const char *path, int busy_ms, struct error *ret_error)
{
        _cleanup_free_ char *log = xasprintf("%s-wal", path);
        sqlite3 *handle = NULL;
        char why[256] = "";

        if (size_of(path) == 0) /* SQLite would take it for a new one and remove the log */
                return size_of(log) > 0 ? db_damaged(path, "it is empty, but its log is not", ret_error) : 0;
        if (size_of(log) == 0 && is_cut_off(path))
                return db_damaged(path, "its end is missing", ret_error);
        if (sqlite3_open_v2(path, &handle, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) == SQLITE_OK) {
                sqlite3_busy_timeout(handle, busy_ms);
                look(handle, size_of(path) <= CHECK_MAX_BYTES, why);
        }
        sqlite3_close(handle);
        return why[0] ? db_damaged(path, why, ret_error) : 0;
}
