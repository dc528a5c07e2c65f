#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define CATCH_UP_BYTES          ((size_t)1 << 20) /* hashed in one turn of the loop */
#define VALIDATOR_MAXIMUM_BYTES 1024
/* What fsync may not have reached when the power went: one that is under way, and what came meanwhile. */
#define UNSURE_BYTES (3 * TRANSFER_SYNC_BYTES)

static int fail(const struct transfer_file *f, int number, struct error *ret_error)
{
        if (number == ENOSPC || number == EDQUOT)
                return error_set(ret_error, number, "disk.full",
                        "%s: %s; make room, and the transfer goes on from where it is", f->partial,
                        strerror(number));
        if (number == ELOOP)
                return error_set(ret_error, number, "disk.failed",
                        "%s is a symbolic link, and nothing is written through one", f->partial);
        return error_set(ret_error, number, "disk.failed", "%s: %s", f->partial, strerror(number));
}

/* ---- what vouches for it ---- */

static void forget_validator(struct transfer_file *f)
{
        free(TAKE_PTR(f->etag));
        free(TAKE_PTR(f->last_modified));
}

static void load_validator(struct transfer_file *f)
{
        _cleanup_free_ char *data = NULL;
        json_auto_t *object = NULL;
        struct json_reader r;
        const char *etag, *last_modified;
        size_t length;

        if (!f->validator_path || f->length == 0 ||
                file_read(f->validator_path, VALIDATOR_MAXIMUM_BYTES, &data, &length, NULL) < 0 ||
                json_parse(data, length, VALIDATOR_MAXIMUM_BYTES, f->validator_path, &object, NULL) < 0)
                return;
        json_reader_init(&r, object, f->validator_path, NULL);
        etag = json_take_optional_text(&r, "etag", 127);
        last_modified = json_take_optional_text(&r, "last_modified", 63);
        if (json_reader_done(&r, false) < 0)
                return;
        f->etag = xstrdup(etag);
        f->last_modified = xstrdup(last_modified);
}

void file_set_validator(struct transfer_file *f, const char *etag, const char *last_modified)
{
        json_auto_t *object = NULL;
        _cleanup_free_ char *text = NULL;

        /* A weak one does not vouch for bytes (RFC 9110, 13.1.5). */
        if (etag && (str_starts_with(etag, "W/") || !*etag))
                etag = NULL;
        if (str_equal(etag, f->etag) && str_equal(last_modified, f->last_modified))
                return;
        forget_validator(f);
        f->etag = xstrdup(etag);
        f->last_modified = xstrdup(last_modified);
        if (!f->validator_path)
                return;
        object = json_pack("{s:s?,s:s?}", "etag", etag, "last_modified", last_modified);
        text = json_to_text(object);
        /* Without it, the next process begins anew: no reason to end this one. */
        file_save(f->validator_path, text, strlen(text), 0600, NULL);
}

/* ---- opening ---- */

/* Written before this boot: its end may never have reached the disk. A machine without a clock of its own
 * begins in the past, where what was written before lies in the future. */
static bool is_of_another_boot(const struct stat *st)
{
        struct timespec real, boot;

        clock_gettime(CLOCK_REALTIME, &real);
        clock_gettime(CLOCK_BOOTTIME, &boot);
        return st->st_mtim.tv_sec < real.tv_sec - boot.tv_sec || st->st_mtim.tv_sec > real.tv_sec + 1;
}

/* Between open and lock, its owner may have finished it: what is locked then is the finished file. */
static bool is_still_there(const struct transfer_file *f, const struct stat *st)
{
        struct stat now;

        return lstat(f->partial, &now) == 0 && now.st_dev == st->st_dev && now.st_ino == st->st_ino;
}

static int open_locked(struct transfer_file *f, mode_t mode, struct stat *ret, struct error *ret_error)
{
        for (;;) {
                f->fd = open(f->partial, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, mode);
                if (f->fd < 0)
                        return fail(f, errno, ret_error);
                if (fstat(f->fd, ret) < 0)
                        return fail(f, errno, ret_error);
                if (!S_ISREG(ret->st_mode))
                        return error_set(
                                ret_error, EINVAL, "disk.failed", "%s is no regular file", f->partial);
                if (flock(f->fd, LOCK_EX | LOCK_NB) < 0)
                        return error_set(ret_error, EBUSY, "disk.busy",
                                "%s: another transfer writes it; wait for its end, or choose another file",
                                f->partial);
                if (is_still_there(f, ret))
                        return fstat(f->fd, ret) < 0 ? fail(f, errno, ret_error) : 0;
                close(f->fd);
        }
}

static int open_partial(struct transfer_file *f, mode_t mode, struct error *ret_error)
{
        struct stat st;
        int r = open_locked(f, mode, &st, ret_error);

        if (r < 0)
                return r;
        f->length = (uint64_t)st.st_size;
        if (f->length > 0 && is_of_another_boot(&st)) {
                f->length = f->length > UNSURE_BYTES ? f->length - UNSURE_BYTES : 0;
                if (ftruncate(f->fd, (off_t)f->length) < 0)
                        return fail(f, errno, ret_error);
        }
        f->synced = f->syncing = f->length;
        return 0;
}

int file_open(struct transfer_file *f, mode_t mode, bool with_hash, struct error *ret_error)
{
        int r = open_partial(f, mode, ret_error);

        if (r < 0) {
                file_close(f);
                return r;
        }
        load_validator(f);
        if (with_hash) {
                f->digest = EVP_MD_CTX_new();
                if (!f->digest || !EVP_DigestInit_ex(f->digest, EVP_sha256(), NULL))
                        abort();
        }
        return 0;
}

void file_close(struct transfer_file *f)
{
        f->catch_up = sd_event_source_disable_unref(f->catch_up);
        if (f->sync)
                sync_forget(f->sync, f);
        if (f->fd >= 0)
                close(f->fd);
        f->fd = -1;
        EVP_MD_CTX_free(f->digest);
        f->digest = NULL;
        forget_validator(f);
}

/* ---- writing ---- */

static void on_synced(int result, void *userdata);

static void sync_more(struct transfer_file *f)
{
        if (f->is_syncing || f->length - f->synced < TRANSFER_SYNC_BYTES)
                return;
        f->syncing = f->length;
        f->is_syncing = sync_start(f->sync, f->fd, on_synced, f) == 0;
}

bool file_is_behind(const struct transfer_file *f)
{
        return f->is_syncing && f->length - f->synced > UNSURE_BYTES - TRANSFER_SYNC_BYTES;
}

int file_append(struct transfer_file *f, const void *data, size_t length, struct error *ret_error)
{
        const char *p = data;
        size_t left = length;

        if (f->error.number) {
                /* What fsync could not write: no more of it. */
                if (ret_error)
                        *ret_error = f->error;
                return -f->error.number;
        }
        while (left > 0) {
                ssize_t n = pwrite(f->fd, p, left, (off_t)(f->length + (length - left)));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return fail(f, n < 0 ? errno : ENOSPC, ret_error);
                p += n;
                left -= (size_t)n;
        }
        if (f->digest && f->hashed == f->length) {
                if (!EVP_DigestUpdate(f->digest, data, length))
                        abort();
                f->hashed += length;
        }
        f->length += length;
        sync_more(f);
        return 0;
}

int file_restart(struct transfer_file *f, struct error *ret_error)
{
        if (ftruncate(f->fd, 0) < 0)
                return fail(f, errno, ret_error);
        /* An fsync that is under way says nothing of what comes now. */
        f->length = f->hashed = f->synced = f->syncing = 0;
        f->catch_up = sd_event_source_disable_unref(f->catch_up);
        forget_validator(f);
        if (f->validator_path)
                unlink(f->validator_path);
        if (f->digest && !EVP_DigestInit_ex(f->digest, EVP_sha256(), NULL))
                abort();
        return 0;
}

/* ---- the end ---- */

static void finish_more(struct transfer_file *f);

static void on_synced(int result, void *userdata)
{
        struct transfer_file *f = userdata;

        f->is_syncing = false;
        if (result < 0) {
                /* After a failed fsync nothing says what is on the disk (fsync(2), EIO). */
                fail(f, -result, &f->error);
        } else
                f->synced = f->syncing < f->length ? f->syncing : f->length;
        if (f->is_finishing)
                finish_more(f);
        else
                sync_more(f);
}

static int hash_some(sd_event_source *source, void *userdata)
{
        struct transfer_file *f = userdata;
        _cleanup_free_ char *buffer = xmalloc(CATCH_UP_BYTES);
        ssize_t n = pread(f->fd, buffer, CATCH_UP_BYTES, (off_t)f->hashed);

        (void)source;
        if (n < 0 && errno == EINTR)
                return 0;
        if (n <= 0)
                fail(f, n < 0 ? errno : EIO, &f->error);
        else {
                if (!EVP_DigestUpdate(f->digest, buffer, (size_t)n))
                        abort();
                f->hashed += (size_t)n;
        }
        if (f->error.number || f->hashed == f->length) {
                f->catch_up = sd_event_source_disable_unref(f->catch_up);
                finish_more(f);
        }
        return 0;
}

static void finish_more(struct transfer_file *f)
{
        unsigned char digest[32];
        char sha256[65] = "";

        if (f->catch_up || f->is_syncing)
                return;
        if (!f->error.number && f->digest && f->hashed < f->length) {
                if (sd_event_add_defer(f->event, &f->catch_up, hash_some, f) < 0 ||
                        sd_event_source_set_enabled(f->catch_up, SD_EVENT_ON) < 0)
                        fail(f, ENOMEM, &f->error);
                else
                        return;
        }
        if (!f->error.number && f->final && f->synced < f->length) {
                f->syncing = f->length;
                f->is_syncing = sync_start(f->sync, f->fd, on_synced, f) == 0;
                if (f->is_syncing)
                        return;
                fail(f, ENOMEM, &f->error);
        }
        if (!f->error.number && f->digest) {
                if (!EVP_DigestFinal_ex(f->digest, digest, NULL))
                        abort();
                hex_format(digest, sizeof(digest), sha256);
        }
        f->is_finishing = false;
        f->on_finished(-f->error.number, sha256, f->userdata);
}

static int finish_later(sd_event_source *source, void *userdata)
{
        struct transfer_file *f = userdata;

        (void)source;
        f->catch_up = sd_event_source_disable_unref(f->catch_up);
        finish_more(f);
        return 0;
}

void file_finish(struct transfer_file *f, void (*on_finished)(int result, const char *sha256, void *userdata),
        void *userdata)
{
        f->on_finished = on_finished;
        f->userdata = userdata;
        f->is_finishing = true;
        if (sd_event_add_defer(f->event, &f->catch_up, finish_later, f) < 0)
                abort(); /* memory */
}

static int sync_folder(const char *path)
{
        _cleanup_free_ char *folder = file_beside(path, ".");
        _cleanup_close_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        /* Some file systems have no fsync of folders, and need none. */
        return fd < 0 ? -errno : fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

int file_commit(struct transfer_file *f, struct error *ret_error)
{
        int r;

        if (f->validator_path)
                unlink(f->validator_path);
        if (!f->final)
                return 0;
        r = rename(f->partial, f->final) < 0 ? -errno : sync_folder(f->final);
        if (r < 0)
                return error_set(ret_error, -r, "disk.failed", "%s cannot become %s: %s", f->partial,
                        f->final, strerror(-r));
        return 0;
}
