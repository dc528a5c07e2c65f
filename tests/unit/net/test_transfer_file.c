#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/paths.h"
#include "base/text.h"

#include "../scaffold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[64], *partial, *final, *validator;
static sd_event *event;
static struct sync *sync_thread;

static int set_up(void **state)
{
        (void)state;
        strcpy(folder, "/tmp/test_transfer-XXXXXX");
        if (!mkdtemp(folder) || sd_event_new(&event) < 0 || sync_new(event, &sync_thread) < 0)
                return -1;
        partial = path_join(folder, "file.part");
        final = path_join(folder, "file");
        validator = path_join(folder, "file.part.validator");
        return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

static int tear_down(void **state)
{
        (void)state;
        sync_thread = sync_free(sync_thread);
        event = sd_event_unref(event);
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        free(partial);
        free(final);
        free(validator);
        return 0;
}

static struct transfer_file new_file(void)
{
        return (struct transfer_file){.partial = partial,
                .final = final,
                .validator_path = validator,
                .sync = sync_thread,
                .event = event,
                .fd = -1};
}

struct finished {
        bool is;
        int result;
        char sha256[65];
};

static void on_finished(int result, const char *sha256, void *userdata)
{
        struct finished *f = userdata;

        f->is = true;
        f->result = result;
        str_copy(f->sha256, sizeof(f->sha256), sha256);
}

static void put(const char *path, const void *data, size_t length)
{
        FILE *f = fopen(path, "w");

        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, length, f), length);
        fclose(f);
}

static uint64_t size_of(const char *path)
{
        struct stat st;

        return stat(path, &st) < 0 ? UINT64_MAX : (uint64_t)st.st_size;
}

#define HELLO_WORLD "b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9" /* "hello world" */

static void finish(struct transfer_file *f, const char *sha256)
{
        struct finished done = {0};
        struct error e;

        file_finish(f, on_finished, &done);
        assert_false(done.is); /* later */
        assert_true(scaffold_run_until(event, &done.is, 5000));
        assert_int_equal(done.result, 0);
        assert_string_equal(done.sha256, sha256);
        assert_int_equal(file_commit(f, &e), 0);
}

static void test_whole_and_resumed(void **state)
{
        struct transfer_file f = new_file();
        struct error e;

        (void)state;
        assert_int_equal(file_open(&f, 0640, true, &e), 0);
        assert_int_equal(file_append(&f, "hello", 5, &e), 0);
        file_set_validator(&f, "\"abc\"", "Sat, 21 Nov 2026 10:00:00 GMT");
        file_close(&f);
        assert_int_equal(size_of(final), UINT64_MAX);
        f = new_file();
        assert_int_equal(file_open(&f, 0640, true, &e), 0);
        assert_int_equal(f.length, 5);
        assert_string_equal(f.etag, "\"abc\"");
        assert_string_equal(f.last_modified, "Sat, 21 Nov 2026 10:00:00 GMT");
        assert_int_equal(file_append(&f, " world", 6, &e), 0);
        finish(&f, HELLO_WORLD);
        assert_int_equal(size_of(final), 11);
        assert_int_equal(size_of(partial), UINT64_MAX);
        assert_int_equal(size_of(validator), UINT64_MAX);
        file_close(&f);
}

static void test_weak_etag_vouches_for_nothing(void **state)
{
        struct transfer_file f = new_file();
        struct error e;

        (void)state;
        assert_int_equal(file_open(&f, 0644, false, &e), 0);
        file_set_validator(&f, "W/\"abc\"", NULL);
        assert_null(f.etag);
        file_set_validator(&f, "\"a\"", NULL);
        file_append(&f, "x", 1, &e);
        file_close(&f);
        put(validator, "{\"etag\": 1}", 11);
        f = new_file();
        assert_int_equal(file_open(&f, 0644, false, &e), 0);
        assert_null(f.etag);
        file_close(&f);
}

static void test_of_a_former_boot(void **state)
{
        const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
        struct timespec future[2];
        struct transfer_file f = new_file();
        struct error e;

        (void)state;
        clock_gettime(CLOCK_REALTIME, &future[0]);
        future[0].tv_sec += 86400;
        future[1] = future[0];
        for (int i = 0; i < 2; i++) {
                put(partial, "", 0);
                assert_int_equal(truncate(partial, 28 << 20), 0);
                assert_int_equal(utimensat(AT_FDCWD, partial, i ? future : old, 0), 0);
                f = new_file();
                assert_int_equal(file_open(&f, 0644, false, &e), 0);
                assert_int_equal(f.length, 4 << 20); /* 24 MiB may never have reached the disk */
                assert_int_equal(size_of(partial), 4 << 20);
                file_close(&f);
        }
        put(partial, "short", 5);
        utimensat(AT_FDCWD, partial, old, 0);
        f = new_file();
        assert_int_equal(file_open(&f, 0644, false, &e), 0);
        assert_int_equal(f.length, 0);
        file_close(&f);
        put(partial, "of this boot", 12);
        f = new_file();
        assert_int_equal(file_open(&f, 0644, false, &e), 0);
        assert_int_equal(f.length, 12);
        file_close(&f);
}

static void test_locked_linked_and_not_a_file(void **state)
{
        struct transfer_file f = new_file(), other = new_file();
        struct error e;

        (void)state;
        assert_int_equal(file_open(&f, 0644, false, &e), 0);
        assert_int_equal(file_open(&other, 0644, false, &e), -EBUSY);
        assert_string_equal(e.code, "disk.busy");
        file_close(&f);
        assert_int_equal(file_open(&other, 0644, false, &e), 0);
        file_close(&other);
        unlink(partial);
        assert_int_equal(symlink("/etc/hostname", partial), 0);
        assert_int_equal(file_open(&f, 0644, false, &e), -ELOOP);
        assert_non_null(strstr(e.text, "symbolic link"));
        unlink(partial);
        assert_int_equal(mkfifo(partial, 0600), 0);
        assert_int_equal(file_open(&f, 0644, false, &e), -EINVAL);
        unlink(partial);
        assert_int_equal(mkdir(partial, 0700), 0);
        assert_true(file_open(&f, 0644, false, &e) < 0);
        rmdir(partial);
        f.partial = "/nowhere/at/all";
        assert_int_equal(file_open(&f, 0644, false, &e), -ENOENT);
}

/* Many processes finish the same file, one after the other, as fast as they can: the finished file is never
 * written again, whoever opened it while it still had the other name. */
static void test_finished_file_is_left_alone(void **state)
{
        pid_t pids[6];

        (void)state;
        for (size_t i = 0; i < ELEMENTS(pids); i++)
                if ((pids[i] = fork()) == 0) {
                        for (int round = 0; round < 400; round++) {
                                struct transfer_file f = new_file();
                                struct error e;

                                if (file_open(&f, 0644, false, &e) < 0)
                                        continue;
                                /* The lock is ours: what it locks is not what others take for finished. */
                                if (size_of(final) != UINT64_MAX && f.length > 0)
                                        _exit(1);
                                if (file_restart(&f, &e) < 0 || file_append(&f, "hello world", 11, &e) < 0 ||
                                        file_commit(&f, &e) < 0)
                                        _exit(2);
                                if (size_of(final) != 11)
                                        _exit(3);
                                file_close(&f);
                        }
                        _exit(0);
                }
        for (size_t i = 0; i < ELEMENTS(pids); i++) {
                int status;

                assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
                assert_int_equal(status, 0);
        }
        assert_int_equal(size_of(final), 11);
}

static void test_full_disk(void **state)
{
        struct transfer_file f = new_file();
        _cleanup_free_ char *chunk = xcalloc(1, 300000);
        struct error e;
        int r = 0;

        (void)state;
        if (unshare(CLONE_NEWNS) < 0)
                scaffold_enter_namespace();
        assert_int_equal(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        assert_int_equal(mount("none", folder, "tmpfs", 0, "size=1m"), 0);
        assert_int_equal(file_open(&f, 0644, false, &e), 0);
        for (int i = 0; r == 0 && i < 10; i++)
                r = file_append(&f, chunk, 300000, &e);
        assert_int_equal(r, -ENOSPC);
        assert_string_equal(e.code, "disk.full");
        assert_non_null(strstr(e.text, partial));
        uint64_t there = f.length;
        assert_int_equal(there, 900000);
        file_close(&f);
        f = new_file();
        /* What was written of the last piece is not counted, and lies behind. */
        assert_int_equal(mount("none", folder, "tmpfs", MS_REMOUNT, "size=4m"), 0);
        assert_int_equal(file_open(&f, 0644, false, &e), 0);
        assert_true(f.length >= there);
        file_close(&f);
        umount(folder);
}

static void test_begun_anew_while_fsync_is_under_way(void **state)
{
        struct transfer_file f = new_file();
        _cleanup_free_ char *chunk = xcalloc(1, TRANSFER_SYNC_BYTES);
        struct error e;

        (void)state;
        assert_int_equal(file_open(&f, 0644, true, &e), 0);
        assert_int_equal(file_append(&f, chunk, TRANSFER_SYNC_BYTES, &e), 0);
        assert_true(f.is_syncing);
        assert_int_equal(file_restart(&f, &e), 0);
        assert_int_equal(file_append(&f, "hello world", 11, &e), 0);
        while (f.is_syncing)
                scaffold_run_for(event, 10);
        assert_int_equal(f.synced, 0); /* that was of what is no more */
        finish(&f, HELLO_WORLD);
        file_close(&f);
}

static void test_closed_while_fsync_is_under_way(void **state)
{
        _cleanup_free_ char *chunk = xcalloc(1, TRANSFER_SYNC_BYTES);
        unsigned before = scaffold_count_descriptors();

        (void)state;
        for (int i = 0; i < 5; i++) {
                struct transfer_file f = new_file();
                struct error e;

                assert_int_equal(file_open(&f, 0644, true, &e), 0);
                assert_int_equal(file_append(&f, chunk, TRANSFER_SYNC_BYTES, &e), 0);
                file_close(&f);
                unlink(partial);
        }
        scaffold_run_for(event, 300);
        sync_thread = sync_free(sync_thread);
        assert_true(sync_new(event, &sync_thread) == 0);
        assert_int_equal(scaffold_count_descriptors(), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_whole_and_resumed),
                TEST(test_weak_etag_vouches_for_nothing), TEST(test_of_a_former_boot),
                TEST(test_locked_linked_and_not_a_file), TEST(test_finished_file_is_left_alone),
                TEST(test_begun_anew_while_fsync_is_under_way), TEST(test_closed_while_fsync_is_under_way),
                TEST(test_full_disk)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
