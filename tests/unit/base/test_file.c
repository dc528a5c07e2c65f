#include "base/file.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/gridnode-test-file-XXXXXX";

static int make_folder(void **state)
{
        (void)state;
        return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int count_entries(void)
{
        struct dirent *entry;
        DIR *d = opendir(".");
        int n = 0;

        assert_non_null(d);
        while ((entry = readdir(d)))
                n += !str_equal(entry->d_name, ".") && !str_equal(entry->d_name, "..");
        closedir(d);
        return n;
}

static int remove_folder(void **state)
{
        (void)state;
        /* Each test removes what it made, temporary files of file_save() included. */
        return count_entries() == 0 && chdir("/") == 0 ? rmdir(folder) : -1;
}

static void test_save_and_read(void **state)
{
        (void)state;
        _cleanup_free_ char *data = NULL;
        struct error e = {0};
        size_t length = 0;
        struct stat st;

        assert_int_equal(file_save("a", "one\0two", 7, 0600, &e), 0);
        assert_int_equal(file_read("a", 100, &data, &length, &e), 0);
        assert_int_equal(length, 7);
        assert_memory_equal(data, "one\0two", 8);
        assert_int_equal(stat("a", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(file_save("a", "x", 1, 0644, &e), 0);
        assert_int_equal(stat("a", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        assert_int_equal(st.st_size, 1);
        assert_int_equal(count_entries(), 1);
        unlink("a");
}

static void test_empty(void **state)
{
        (void)state;
        _cleanup_free_ char *data = NULL;
        size_t length = 9;

        assert_int_equal(file_save("empty", NULL, 0, 0600, NULL), 0);
        assert_int_equal(file_read("empty", 0, &data, &length, NULL), 0);
        assert_int_equal(length, 0);
        assert_string_equal(data, "");
        unlink("empty");
}

static void test_limit(void **state)
{
        (void)state;
        static char big[100000];
        char *data = NULL;
        struct error e;

        memset(big, 'x', sizeof(big));
        assert_int_equal(file_save("big", big, sizeof(big), 0600, &e), 0);
        assert_int_equal(file_read("big", sizeof(big) - 1, &data, NULL, &e), -EFBIG);
        assert_null(data);
        assert_int_equal(e.number, EFBIG);
        assert_string_equal(e.code, "file.too-large");
        assert_non_null(strstr(e.text, "big"));
        assert_int_equal(file_read("big", sizeof(big), &data, NULL, &e), 0);
        assert_memory_equal(data, big, sizeof(big));
        free(data);
        unlink("big");
}

/* Files of /proc have a size of 0 and contents all the same. */
static void test_size_is_a_hint(void **state)
{
        (void)state;
        _cleanup_free_ char *data = NULL;
        size_t length = 0;

        assert_int_equal(file_read("/proc/self/status", 1 << 20, &data, &length, NULL), 0);
        assert_true(length > 100);
        assert_int_equal(data[length], '\0');
}

static void test_unreadable(void **state)
{
        (void)state;
        char *data = NULL;
        struct error e;

        assert_int_equal(file_read("missing", 10, &data, NULL, &e), -ENOENT);
        assert_string_equal(e.text, "cannot read missing: No such file or directory");
        assert_int_equal(file_read("/", 10, &data, NULL, &e), -EISDIR);
        assert_int_equal(file_read("/dev/null", 10, &data, NULL, &e), -EINVAL);
        assert_int_equal(mkfifo("fifo", 0600), 0);
        assert_int_equal(file_read("fifo", 10, &data, NULL, &e), -EINVAL);
        assert_non_null(strstr(e.text, "not a regular file"));
        assert_null(data);
        unlink("fifo");
}

static void test_unwritable(void **state)
{
        (void)state;
        struct error e;
        struct stat st;

        assert_int_equal(file_save("no/such/folder", "x", 1, 0600, &e), -ENOENT);
        assert_non_null(strstr(e.text, "no/such/folder"));
        assert_int_equal(mkdir("d", 0700), 0);
        assert_int_equal(file_save("d", "x", 1, 0600, &e), -EISDIR);
        rmdir("d");
        /* A device is not replaced by a file. */
        assert_int_equal(mkfifo("pipe", 0600), 0);
        assert_int_equal(file_save("pipe", "x", 1, 0600, &e), -EINVAL);
        assert_int_equal(lstat("pipe", &st), 0);
        assert_true(S_ISFIFO(st.st_mode));
        unlink("pipe");
        assert_int_equal(count_entries(), 0);
}

static void assert_beside(const char *file, const char *path, const char *wanted)
{
        char *s = file_beside(file, path);

        assert_string_equal(s, wanted);
        free(s);
}

static void test_beside(void **state)
{
        (void)state;
        assert_beside("/etc/gridnode/site.conf", "node.crt", "/etc/gridnode/node.crt");
        assert_beside("/etc/gridnode/site.conf", "/var/node.crt", "/var/node.crt");
        assert_beside("site.conf", "node.crt", "node.crt");
        assert_beside("./site.conf", "../node.crt", "./../node.crt");
        assert_beside("/site.conf", "node.crt", "/node.crt");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_save_and_read),
                cmocka_unit_test(test_empty),
                cmocka_unit_test(test_limit),
                cmocka_unit_test(test_size_is_a_hint),
                cmocka_unit_test(test_unreadable),
                cmocka_unit_test(test_unwritable),
                cmocka_unit_test(test_beside),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
