#include "testnet.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

/* The place's process; 0 is this one. */
static pid_t places[3];

static void listen_on(uint16_t port)
{
        struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
        int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), off = 0;

        /* Nobody accepts: the backlog shakes hands. */
        if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
                bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 || listen(fd, 1024) < 0)
                _exit(1);
}

/* A socket for datagrams to port 53. Answers leave with the source that the route names. */
static int bind_datagrams(void)
{
        struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(53)};
        int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0)
                _exit(1);
        return fd;
}

/* Sends every datagram back. */
static void echo_datagrams(int fd)
{
        struct sockaddr_in peer;
        socklen_t length = sizeof(peer);
        char buffer[512];
        ssize_t n = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&peer, &length);

        if (n >= 0)
                sendto(fd, buffer, (size_t)n, 0, (struct sockaddr *)&peer, length);
}

/* What a child does until it is killed. */
static void be_place(enum testnet_place place, int ready)
{
        int datagrams = -1;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (unshare(CLONE_NEWNET) < 0)
                _exit(1);
        if (place == TESTNET_HOST_NS) {
                listen_on(443);
                listen_on(8443);
                datagrams = bind_datagrams();
        }
        if (write(ready, "", 1) != 1)
                _exit(1);
        for (;;)
                if (datagrams >= 0)
                        echo_datagrams(datagrams);
                else
                        pause();
}

static pid_t start_place(enum testnet_place place)
{
        int ready[2];
        char byte;
        pid_t pid;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                be_place(place, ready[1]);
        close(ready[1]);
        assert_int_equal(read(ready[0], &byte, 1), 1);
        close(ready[0]);
        return pid;
}

void testnet_run(enum testnet_place place, const char *format, ...)
{
        char command[8192];
        int length = 0, status;
        va_list arguments;

        if (places[place] > 0)
                length = snprintf(command, sizeof(command), "exec nsenter -n -t %d ", (int)places[place]);
        va_start(arguments, format);
        vsnprintf(command + length, sizeof(command) - (size_t)length, format, arguments);
        va_end(arguments);
        status = system(command);
        if (status != 0)
                fail_msg("%s: status %d", command, status);
}

void testnet_rule(enum testnet_place place, const char *hook, const char *rule)
{
        testnet_run(place,
                "nft 'add table inet t; add chain inet t %s { type filter hook %s priority 0; }; "
                "add rule inet t %s %s'",
                hook, hook, hook, rule);
}

/* Duplicate address detection would take a second of every test. */
static void add_links(void)
{
        static const enum testnet_place all[] = {TESTNET_NODE_NS, TESTNET_ROUTER_NS, TESTNET_HOST_NS};

        for (size_t i = 0; i < ELEMENTS(all); i++)
                testnet_run(all[i],
                        "sh -c 'echo 0 >/proc/sys/net/ipv6/conf/all/accept_dad;"
                        " echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up'");
        testnet_run(TESTNET_NODE_NS, "ip link add eth0 type veth peer name lan0 netns %d",
                (int)places[TESTNET_ROUTER_NS]);
        testnet_run(TESTNET_ROUTER_NS, "ip link add wan0 type veth peer name eth0 netns %d",
                (int)places[TESTNET_HOST_NS]);
}

static void add_addresses(void)
{
        testnet_run(TESTNET_NODE_NS,
                "sh -ec 'ip link set eth0 up; ip addr add 10.1.0.2/24 dev eth0;"
                " ip addr add 2001:db8:1::2/64 dev eth0; ip route add default via 10.1.0.1;"
                " ip route add default via 2001:db8:1::1'");
        testnet_run(TESTNET_ROUTER_NS,
                "sh -ec 'ip link set lan0 up; ip link set wan0 up;"
                " ip addr add 10.1.0.1/24 dev lan0; ip addr add 2001:db8:1::1/64 dev lan0;"
                " ip addr add 10.2.0.1/24 dev wan0; ip addr add 2001:db8:2::1/64 dev wan0;"
                " ip route add 198.51.100.0/24 via 10.2.0.2; ip route add 2001:db8:ff::/64 via 2001:db8:2::2;"
                " echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding'");
        testnet_run(TESTNET_HOST_NS,
                "sh -ec 'ip link set eth0 up;"
                " ip addr add 10.2.0.2/24 dev eth0; ip addr add 2001:db8:2::2/64 dev eth0;"
                " ip addr add 198.51.100.20/32 dev lo; ip addr add 2001:db8:ff::20/128 dev lo;"
                " ip route add default via 10.2.0.1 src 198.51.100.20; ip route add default via "
                "2001:db8:2::1'");
}

/* Links, routes and IPv6 neighbours take a moment to settle. */
static void wait_until_reachable(const char *target)
{
        const struct timeval patience = {.tv_usec = 200000};
        struct sockaddr_storage sa;
        struct endpoint e;
        socklen_t length;

        assert_int_equal(endpoint_parse(target, &e), 0);
        length = endpoint_to_sockaddr(&e, &sa);
        for (int i = 0; i < 100; i++) {
                int fd = socket(e.address.family, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

                assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
                r = connect(fd, (struct sockaddr *)&sa, length);
                close(fd);
                if (r == 0)
                        return;
                usleep(20000);
        }
        fail_msg("%s cannot be reached", target);
}

int testnet_up(void **state)
{
        (void)state;
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        places[TESTNET_ROUTER_NS] = start_place(TESTNET_ROUTER_NS);
        places[TESTNET_HOST_NS] = start_place(TESTNET_HOST_NS);
        add_links();
        add_addresses();
        wait_until_reachable(TESTNET_HOST4);
        wait_until_reachable(TESTNET_HOST6);
        return 0;
}

int testnet_down(void **state)
{
        (void)state;
        for (size_t i = 0; i < ELEMENTS(places); i++)
                if (places[i] > 0) {
                        kill(places[i], SIGKILL);
                        waitpid(places[i], NULL, 0);
                }
        return 0;
}

int testnet_clear(void **state)
{
        (void)state;
        for (int i = TESTNET_NODE_NS; i <= TESTNET_HOST_NS; i++)
                testnet_run(i, "nft flush ruleset");
        return 0;
}

struct probe_spec testnet_spec(enum measurement_kind kind, const char *target)
{
        struct probe_spec spec = {.kind = kind, .tls = SERVICE_TLS_NONE};

        assert_int_equal(endpoint_parse(target, &spec.target), 0);
        return spec;
}

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        (void)p;
        *(struct measurement **)userdata = m;
}

struct measurement *testnet_probe(struct probe_context *c, const struct probe_spec *spec)
{
        struct measurement *m = NULL;

        assert_int_equal(probe_start(c, spec, on_result, &m, NULL), 0);
        assert_null(m);
        while (!m)
                assert_true(sd_event_run(c->event, UINT64_MAX) >= 0);
        return m;
}
