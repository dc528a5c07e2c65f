#include "net/transfer_internal.h"
#include "net/transfer_post.h"

#include "base/cleanup.h"
#include "base/paths.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- Content-Range ---- */

static void test_content_range(void **state)
{
        static const char *const bad[] = {"", "bytes", "bytes ", "bytes 1", "bytes 1-", "bytes 1-2",
                "bytes 1-2/", "bytes 1-2/*", "bytes 2-1/9", "bytes 1-9/9", "bytes -1-2/9", "bytes 1--2/9",
                "bytes +1-2/9", "bytes */", "bytes */x", "items 1-2/9", "bytes 1-2/9 ", "bytes 1-2/9x",
                "bytes */-1", "bytes 0-18446744073709551615/18446744073709551616",
                "bytes 0-1/18446744073709551615"};
        uint64_t first = 7, size = 7;

        (void)state;
        assert_int_equal(content_range_parse("bytes 1000-1999/2000", &first, &size), 0);
        assert_int_equal(first, 1000);
        assert_int_equal(size, 2000);
        assert_int_equal(content_range_parse("Bytes  0-0/1", &first, &size), 0);
        assert_int_equal(content_range_parse("bytes */1234", &first, &size), 0);
        assert_int_equal(first, 1234);
        for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
                if (content_range_parse(bad[i], &first, &size) != -EINVAL)
                        fail_msg("'%s' is taken", bad[i]);
}

/* ---- what is told to others ---- */

static char folder[64];

static int make_folder(void **state)
{
        (void)state;
        strcpy(folder, "/tmp/test_post-XXXXXX");
        return mkdtemp(folder) ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

static int remove_folder(void **state)
{
        (void)state;
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        return 0;
}

static void post(struct transfer_post *p, const char *name, unsigned bytes)
{
        json_auto_t *j = json_pack(
                "{s:s,s:s,s:i,s:s}", "name", name, "state", "moving", "bytes", (int)bytes, "unknown", "x");

        transfer_post_write(p, j);
}

/* Another process, so that the lock is another's. */
static pid_t begin_owner(const char *name, bool forever)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe(ready), 0);
        pid = fork();
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                struct transfer_post *p = transfer_post_open(folder, "apt");

                post(p, name, 5);
                if (write(ready[1], "x", 1) != 1)
                        _exit(1);
                while (forever)
                        pause();
                transfer_post_close(p);
                _exit(0);
        }
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

static unsigned count_files(void)
{
        json_auto_t *list = transfer_post_list(folder);
        unsigned count = (unsigned)json_array_size(list);

        return count;
}

static void test_who_lives_is_listed(void **state)
{
        pid_t a = begin_owner("file-a", true), b = begin_owner("file-b", true);

        (void)state;
        json_auto_t *list = transfer_post_list(folder);
        assert_int_equal(json_array_size(list), 2);
        for (size_t i = 0; i < 2; i++) {
                json_t *one = json_array_get(list, i);

                assert_non_null(strstr(json_string_value(json_object_get(one, "name")), "file-"));
                assert_int_equal(json_integer_value(json_object_get(one, "bytes")), 5);
                assert_null(json_object_get(one, "unknown"));
                pid_t pid = (pid_t)json_integer_value(json_object_get(one, "pid"));
                assert_true(pid == a || pid == b);
        }
        kill(a, SIGKILL);
        waitpid(a, NULL, 0);
        assert_int_equal(count_files(), 1);
        kill(b, SIGKILL);
        waitpid(b, NULL, 0);
        assert_int_equal(count_files(), 0);
        assert_int_equal(rmdir(folder), 0); /* what they left is gone */
        assert_int_equal(mkdir(folder, 0700), 0);
}

/* Readers that look at it all the time take nobody's file away. */
static void test_many_readers(void **state)
{
        pid_t readers[4];

        (void)state;
        for (size_t i = 0; i < 4; i++)
                if ((readers[i] = fork()) == 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0)
                        for (;;) {
                                json_t *list = transfer_post_list(folder);

                                json_decref(list);
                                usleep(500);
                        }
        for (int i = 0; i < 100; i++) {
                pid_t owner = begin_owner("file", true);
                json_auto_t *list = transfer_post_list(folder);

                if (json_array_size(list) != 1)
                        fail_msg("%zu are listed in round %d", json_array_size(list), i);
                kill(owner, SIGKILL);
                waitpid(owner, NULL, 0);
        }
        for (size_t i = 0; i < 4; i++) {
                kill(readers[i], SIGKILL);
                waitpid(readers[i], NULL, 0);
        }
}

static void test_foreign_files(void **state)
{
        _cleanup_free_ char *text = path_join(folder, "text-1"), *pipe_path = path_join(folder, "pipe-2"),
                            *link = path_join(folder, "link-3"), *sub = path_join(folder, "sub-4");
        FILE *f = fopen(text, "w");

        (void)state;
        fputs("no JSON", f);
        fclose(f);
        assert_int_equal(mkfifo(pipe_path, 0600), 0);
        assert_int_equal(symlink("/etc/hostname", link), 0);
        assert_int_equal(mkdir(sub, 0700), 0);
        assert_int_equal(count_files(), 0);
        assert_int_equal(access("/etc/hostname", F_OK), 0);
}

static void test_where_it_cannot_be(void **state)
{
        struct transfer_post *p = transfer_post_open("/nowhere/at/all", "x");

        (void)state;
        post(p, "x", 1);
        transfer_post_write(p, NULL);
        transfer_post_close(p);
        json_auto_t *list = transfer_post_list("/nowhere/at/all");
        assert_int_equal(json_array_size(list), 0);
}

static void test_records(void **state)
{
        json_t *j = NULL;

        (void)state;
        static const char record[] =
                "{\"job\": \"updates\", \"name\": \"a\", \"bytes\": -1, \"size\": \"5\", \"way\": 443}";

        assert_int_equal(transfer_post_parse(record, strlen(record), &j), 0);
        assert_int_equal(json_object_size(j), 3);
        assert_string_equal(json_string_value(json_object_get(j, "job")), "updates");
        json_decref(j);
        assert_true(transfer_post_parse("[]", 2, &j) < 0);
        assert_true(transfer_post_parse("", 0, &j) < 0);
        char large[TRANSFER_POST_BYTES + 2];
        memset(large, ' ', sizeof(large));
        large[0] = '{';
        large[1] = '}';
        assert_true(transfer_post_parse(large, sizeof(large), &j) < 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_content_range),
                TEST(test_who_lives_is_listed), TEST(test_many_readers), TEST(test_foreign_files),
                cmocka_unit_test(test_where_it_cannot_be), cmocka_unit_test(test_records)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
