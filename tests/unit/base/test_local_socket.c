#include "base/local_socket.h"

#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define STREAM (SOCK_STREAM | SOCK_CLOEXEC)

static char folder[] = "/tmp/local-socket-XXXXXX";

static void assert_nothing(const char *path)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), -1);
        assert_int_equal(errno, ENOENT);
}

static void assert_refused(const char *path, int number, const char *text)
{
        struct local_socket s = {.fd = -7};
        struct error e = {0};

        assert_int_equal(local_listen(path, 0600, NULL, 5, &s, &e), -number);
        assert_int_equal(e.number, number);
        assert_string_equal(e.text, text);
        assert_int_equal(s.fd, -7);
}

static void assert_speaks(const struct local_socket *s, const char *path)
{
        char byte = 0;
        int fd = -1, peer;

        assert_int_equal(local_connect(path, STREAM, &fd), 0);
        peer = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
        assert_true(peer >= 0);
        assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), 1);
        assert_int_equal(recv(peer, &byte, 1, 0), 1);
        assert_int_equal(byte, 'x');
        close(fd);
        close(peer);
}

static void leave_stale(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, STREAM, 0);

        str_copy(address.sun_path, sizeof address.sun_path, path);
        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
        close(fd);
}

static void test_listens(void **state)
{
        static const mode_t modes[] = {0600, 0660};
        mode_t before = umask(0077); /* the mode is the wanted one whatever this is, and this stays */

        (void)state;
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
                struct local_socket s;
                struct stat st;

                assert_int_equal(local_listen("socket", modes[i], NULL, 5, &s, NULL), 0);
                assert_int_equal(lstat("socket", &st), 0);
                assert_true(S_ISSOCK(st.st_mode));
                assert_int_equal(st.st_mode & 07777, modes[i]);
                assert_true(fcntl(s.fd, F_GETFL) & O_NONBLOCK);
                assert_true(fcntl(s.fd, F_GETFD) & FD_CLOEXEC);
                assert_speaks(&s, "socket");
                local_socket_done(&s);
                assert_nothing("socket");
                local_socket_done(&s); /* twice does no harm */
        }
        assert_int_equal(umask(before), 0077);
}

static void test_group(void **state)
{
        const struct group *group = getgrgid(1);
        struct local_socket s;
        struct stat st;

        (void)state;
        assert_int_equal(local_listen("socket", 0660, "no-such-group", 5, &s, NULL), 0);
        assert_int_equal(lstat("socket", &st), 0);
        assert_int_equal(st.st_gid, getegid());
        local_socket_done(&s);
        if (geteuid() != 0 || !group)
                return;
        assert_int_equal(local_listen("socket", 0660, group->gr_name, 5, &s, NULL), 0);
        assert_int_equal(lstat("socket", &st), 0);
        assert_int_equal(st.st_gid, 1);
        local_socket_done(&s);
}

static void test_stale(void **state)
{
        struct local_socket s;

        (void)state;
        leave_stale("socket");
        assert_int_equal(local_listen("socket", 0600, NULL, 5, &s, NULL), 0);
        assert_speaks(&s, "socket");
        local_socket_done(&s);
        assert_nothing("socket");
}

static void test_taken(void **state)
{
        struct local_socket s;

        (void)state;
        assert_int_equal(local_listen("socket", 0600, NULL, 5, &s, NULL), 0);
        assert_refused("socket", EADDRINUSE,
                "cannot listen on socket: another process answers there already; stop it first");
        close(accept4(s.fd, NULL, NULL, SOCK_CLOEXEC)); /* who tried */
        assert_speaks(&s, "socket");
        /* Another took the place by force: what it has there stays. */
        assert_int_equal(unlink("socket"), 0);
        leave_stale("socket");
        local_socket_done(&s);
        assert_int_equal(unlink("socket"), 0);
}

static void test_what_is_no_socket(void **state)
{
        struct stat st;

        (void)state;
        close(open("target", O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
        assert_int_equal(symlink("target", "socket"), 0);
        assert_refused("socket", ELOOP, "cannot listen on socket: a symbolic link is there; remove it");
        assert_int_equal(lstat("socket", &st), 0);
        assert_true(S_ISLNK(st.st_mode));
        assert_int_equal(stat("target", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0644);
        assert_int_equal(unlink("socket"), 0);
        /* One that leads nowhere, and one to a socket that would do. */
        assert_int_equal(symlink("nowhere", "socket"), 0);
        assert_refused("socket", ELOOP, "cannot listen on socket: a symbolic link is there; remove it");
        assert_nothing("nowhere");
        assert_int_equal(unlink("socket") + unlink("target"), 0);
        leave_stale("target");
        assert_int_equal(symlink("target", "socket"), 0);
        assert_refused("socket", ELOOP, "cannot listen on socket: a symbolic link is there; remove it");
        assert_int_equal(unlink("socket") + unlink("target") + mkdir("socket", 0700), 0);
        assert_refused(
                "socket", EEXIST, "cannot listen on socket: something that is no socket is there; remove it");
        assert_int_equal(rmdir("socket"), 0);
        assert_refused(
                "missing/socket", ENOENT, "cannot listen on missing/socket: No such file or directory");
}

static void test_long_path(void **state)
{
        char path[256], text[512], name[101], last[120];
        struct local_socket s;
        int fd;

        (void)state;
        memset(name, 'x', sizeof name);
        name[sizeof name - 1] = '\0';
        snprintf(path, sizeof path, "%s/%s/socket", folder, name);
        snprintf(text, sizeof text, "cannot open the folder of %s: No such file or directory", path);
        assert_refused(path, ENOENT, text);
        assert_int_equal(local_connect(path, STREAM, &fd), -ENOENT);
        assert_int_equal(mkdir(name, 0700), 0);
        assert_int_equal(local_listen(path, 0600, NULL, 5, &s, NULL), 0);
        assert_speaks(&s, path);
        local_socket_done(&s);
        assert_nothing(path);
        assert_int_equal(rmdir(name), 0);
        /* Its last part does not fit, wherever it is. */
        memset(last, 'y', sizeof last);
        last[sizeof last - 1] = '\0';
        snprintf(text, sizeof text,
                "%s is too long for a socket: its last part may have about 80 bytes; choose a shorter one",
                last);
        assert_refused(last, ENAMETOOLONG, text);
        assert_int_equal(local_connect(last, STREAM, &fd), -ENAMETOOLONG);
}

static void test_nobody_there(void **state)
{
        struct local_socket s;
        int fd = -7;

        (void)state;
        assert_int_equal(local_connect("socket", STREAM, &fd), -ENOENT);
        leave_stale("socket");
        assert_int_equal(local_connect("socket", STREAM, &fd), -ECONNREFUSED);
        assert_int_equal(unlink("socket"), 0);
        assert_int_equal(local_listen("socket", 0600, NULL, 5, &s, NULL), 0);
        assert_int_equal(local_connect("socket", SOCK_SEQPACKET | SOCK_CLOEXEC, &fd), -EPROTOTYPE);
        assert_int_equal(fd, -7);
        local_socket_done(&s);
}

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

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_listens),
                cmocka_unit_test(test_group),
                cmocka_unit_test(test_stale),
                cmocka_unit_test(test_taken),
                cmocka_unit_test(test_what_is_no_socket),
                cmocka_unit_test(test_long_path),
                cmocka_unit_test(test_nobody_there),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
