#include "base/folder.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/gridnode-test-folder-XXXXXX";

static int make_folder(void **state)
{
        (void)state;
        return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
        (void)state;
        return chdir("/") == 0 ? rmdir(folder) : -1;
}

static unsigned mode_of(const char *path)
{
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        return st.st_mode & 07777;
}

static void write_file(const char *path, mode_t mode)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(fchmod(fd, mode), 0);
}

static void assert_not_prepared(const char *path, int number)
{
        struct error e = {0};

        assert_int_equal(folder_prepare(path, 0700, &e), -number);
        assert_int_equal(e.number, number);
        assert_non_null(strstr(e.text, path));
}

static void test_makes_with_parents(void **state)
{
        mode_t before = umask(077);
        struct error e = {0};

        (void)state;
        assert_int_equal(folder_prepare("a/b/c", 0750, &e), 0);
        assert_int_equal(mode_of("a/b/c"), 0750);
        assert_int_equal(folder_prepare("a/b/c", 0700, &e), 0);
        assert_int_equal(mode_of("a/b/c"), 0750); /* what is there keeps its mode */
        assert_int_equal(folder_prepare("a/b/c/", 0700, &e), 0);
        umask(before);
        assert_int_equal(rmdir("a/b/c") + rmdir("a/b") + rmdir("a"), 0);
}

static void test_refuses_symlink_and_file(void **state)
{
        (void)state;
        assert_int_equal(mkdir("real", 0700) + symlink("real", "link"), 0);
        assert_not_prepared("link", ELOOP);
        assert_int_equal(folder_prepare("link/", 0700, NULL), -ELOOP);
        assert_int_equal(unlink("link") + symlink("nowhere", "link"), 0);
        assert_not_prepared("link", ELOOP);
        write_file("file", 0600);
        assert_not_prepared("file", ENOTDIR);
        assert_not_prepared("file/below", ENOTDIR);
        assert_int_equal(unlink("link") + unlink("file") + rmdir("real"), 0);
}

static void test_refuses_what_others_may_write(void **state)
{
        (void)state;
        assert_int_equal(mkdir("open", 0700) + chmod("open", 0777), 0);
        assert_not_prepared("open", EPERM);
        assert_int_equal(chmod("open", 0720), 0);
        assert_not_prepared("open", EPERM);
        assert_int_equal(chmod("open", 0755), 0);
        assert_int_equal(folder_prepare("open", 0700, NULL), 0);
        if (geteuid() == 0) {
                assert_int_equal(chown("open", 12345, (gid_t)-1), 0);
                assert_not_prepared("open", EPERM);
        }
        assert_int_equal(rmdir("open"), 0);
}

static void assert_file_refused(const char *name, int number)
{
        struct error e = {0};

        assert_int_equal(folder_check_file(".", name, &e), -number);
        assert_int_equal(e.number, number);
        assert_non_null(strstr(e.text, name));
}

static void test_files(void **state)
{
        (void)state;
        assert_int_equal(folder_check_file(".", "missing", NULL), 0);
        write_file("plain", 0600);
        assert_int_equal(folder_check_file(".", "plain", NULL), 0);
        assert_int_equal(symlink("plain", "link"), 0);
        assert_file_refused("link", ELOOP);
        assert_int_equal(unlink("link") + symlink("nowhere", "link"), 0);
        assert_file_refused("link", ELOOP);
        assert_int_equal(mkfifo("fifo", 0600) + mkdir("below", 0700), 0);
        assert_file_refused("fifo", EINVAL);
        assert_file_refused("below", EINVAL);
        assert_int_equal(chmod("plain", 0606), 0);
        assert_file_refused("plain", EPERM);
        assert_int_equal(unlink("link") + unlink("fifo") + rmdir("below") + unlink("plain"), 0);
}

static void test_lock(void **state)
{
        struct error e = {0};
        char wanted[64];
        int fd = -1, second = -1;

        (void)state;
        assert_int_equal(folder_lock(".", &fd, &e), 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        assert_int_equal(folder_lock(".", &second, &e), -EBUSY);
        assert_int_equal(second, -1);
        snprintf(wanted, sizeof wanted, "process %d,", (int)getpid());
        assert_non_null(strstr(e.text, wanted));
        close(fd);
        assert_int_equal(folder_lock(".", &fd, &e), 0);
        /* Whatever is written there does not make up a process. */
        assert_int_equal(pwrite(fd, "-4\033[2J", 7, 0), 7);
        assert_int_equal(folder_lock(".", &second, &e), -EBUSY);
        assert_non_null(strstr(e.text, "another process"));
        close(fd);
        assert_int_equal(unlink("lock"), 0);
}

static void test_lock_ends_with_its_process(void **state)
{
        int fd = -1, ready[2], status;
        char c;
        pid_t pid;

        (void)state;
        assert_int_equal(pipe(ready), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (folder_lock(".", &fd, NULL) == 0 && write(ready[1], "x", 1) == 1)
                        pause();
                _exit(1);
        }
        assert_int_equal(read(ready[0], &c, 1), 1);
        assert_int_equal(folder_lock(".", &fd, NULL), -EBUSY);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(folder_lock(".", &fd, NULL), 0);
        close(fd);
        close(ready[0]);
        close(ready[1]);
        assert_int_equal(unlink("lock"), 0);
}

static void test_lock_follows_nothing(void **state)
{
        struct error e = {0};
        int fd = -1;

        (void)state;
        assert_int_equal(symlink("elsewhere", "lock"), 0);
        assert_int_equal(folder_lock(".", &fd, &e), -ELOOP);
        assert_int_equal(access("elsewhere", F_OK), -1);
        assert_int_equal(unlink("lock"), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_makes_with_parents),
                cmocka_unit_test(test_refuses_symlink_and_file),
                cmocka_unit_test(test_refuses_what_others_may_write),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_lock),
                cmocka_unit_test(test_lock_ends_with_its_process),
                cmocka_unit_test(test_lock_follows_nothing),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
