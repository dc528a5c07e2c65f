#include "peers.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

static void write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
}

void peers_enter_namespace(void)
{
        struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
        unsigned uid = geteuid();
        char map[64];
        int fd;

        /* As root a network namespace is enough; else a user namespace comes with it, in which we are root.
         */
        if (uid != 0 || unshare(CLONE_NEWNET) < 0) {
                assert_int_equal(unshare(CLONE_NEWUSER | CLONE_NEWNET), 0);
                snprintf(map, sizeof(map), "0 %u 1", uid);
                write_file("/proc/self/setgroups", "deny");
                write_file("/proc/self/uid_map", map);
        }
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
        close(fd);
        signal(SIGPIPE, SIG_IGN);
}

struct endpoint peers_endpoint(uint16_t port)
{
        struct endpoint e = {.port = port};

        assert_int_equal(inet_addr_parse("127.0.0.1", &e.address), 0);
        return e;
}

static int open_socket(uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_length)
{
        struct endpoint e = peers_endpoint(port);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        *ret_length = endpoint_to_sockaddr(&e, ret);
        return fd;
}

static bool is_listening(uint16_t port)
{
        struct sockaddr_storage sa;
        socklen_t length;
        int fd = open_socket(port, &sa, &length);
        bool yes = connect(fd, (struct sockaddr *)&sa, length) == 0;

        close(fd);
        return yes;
}

pid_t peers_start(const char *const argv[], uint16_t port, const char *log)
{
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                dup2(in, 0);
                dup2(out, 1);
                dup2(out, 2);
                execvp(argv[0], (char *const *)argv);
                _exit(127);
        }
        for (int i = 0; i < 500 && !is_listening(port); i++) {
                assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
                usleep(20000);
        }
        assert_true(is_listening(port));
        return pid;
}

pid_t peers_misbehave(uint16_t port, void (*behave)(int fd))
{
        struct sockaddr_storage sa;
        socklen_t length;
        int listener = open_socket(port, &sa, &length), one = 1;
        pid_t pid;

        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        assert_int_equal(bind(listener, (struct sockaddr *)&sa, length), 0);
        assert_int_equal(listen(listener, 16), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;) {
                        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

                        if (fd < 0)
                                _exit(1);
                        behave(fd);
                        close(fd);
                }
        }
        close(listener);
        return pid;
}

void peers_stop(pid_t pid)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        (void)p;
        *(struct measurement **)userdata = m;
}

struct measurement *peers_measure(struct probe_context *c, const struct probe_spec *spec)
{
        struct measurement *m = NULL;
        double until_ms = probe_context_now_ms(c) + 20000;

        assert_int_equal(probe_start(c, spec, on_result, &m, NULL), 0);
        while (!m && probe_context_now_ms(c) < until_ms)
                assert_true(sd_event_run(c->event, 1000000) >= 0);
        assert_non_null(m);
        return m;
}

void peers_read_some(int fd)
{
        char buffer[4096];

        if (read(fd, buffer, sizeof(buffer)) < 0)
                return;
}

void peers_send(int fd, const void *bytes, size_t length)
{
        if (write(fd, bytes, length) < 0)
                return;
}

void peers_close_with_reset(int fd)
{
        struct linger linger = {.l_onoff = 1};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void peers_stay_silent(int fd)
{
        char buffer[4096];

        while (read(fd, buffer, sizeof(buffer)) > 0)
                ;
}
