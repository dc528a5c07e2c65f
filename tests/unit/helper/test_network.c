#include "helper/network.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

/* The machine is a namespace of this process's own: eth0 is the WAN, 192.0.2.10/24 with a default route; eth1
 * and eth2 are down and have nothing. */

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void run(const char *format, ...)
{
        char command[1024];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(command, sizeof command, format, arguments);
        va_end(arguments);
        if (system(command) != 0)
                fail_msg("%s", command);
}

/* Everything that matters, as text. */
static char *machine(void)
{
        FILE *f =
                popen("ip -o addr show | sed 's/valid_lft.*//; s/^[0-9]*: //' | grep -v 'inet6 fe80' | sort;"
                      "ip route | sed 's/ linkdown//; s/ *$//' | sort; ip -6 route | grep -v ^fe80 | "
                      "sed 's/ linkdown//; s/ pref medium//; s/ *$//' | sort; "
                      "ip -o link show up | cut -d: -f2",
                        "r");
        struct text all = {0};
        char line[1024];

        assert_non_null(f);
        while (fgets(line, sizeof line, f))
                text_add(&all, line);
        assert_int_equal(pclose(f), 0);
        return text_take(&all);
}

static bool there_is(const char *what)
{
        _cleanup_free_ char *all = machine();

        return strstr(all, what);
}

static void assert_there(const char *what)
{
        _cleanup_free_ char *all = machine();

        if (!strstr(all, what))
                fail_msg("'%s' is not in:\n%s", what, all);
}

static void assert_machine(const char *wanted)
{
        _cleanup_free_ char *all = machine();

        assert_string_equal(all, wanted);
}

static int set_up(void **state)
{
        (void)state;
        assert_int_equal(unshare(CLONE_NEWNET), 0);
        run("sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0; ip link set lo up;"
            "for i in 0 1 2; do ip link add eth$i type veth peer name far$i; ip link set far$i up; done;"
            "ip link set eth0 up; ip addr add 192.0.2.10/24 dev eth0; ip route add default via 192.0.2.1;"
            "ip addr add 2001:db8:1::2/64 dev eth0");
        return 0;
}

/* ---- what is wanted ---- */

struct wish {
        struct helper_network n;
};

static void wish_up(struct wish *w, const char *interface)
{
        w->n.up = xrealloc_array(w->n.up, w->n.up_count + 1, sizeof *w->n.up);
        w->n.up[w->n.up_count++] = xstrdup(interface);
}

static void wish_address(struct wish *w, const char *interface, const char *address)
{
        struct helper_address *a;

        w->n.addresses = xrealloc_array(w->n.addresses, w->n.address_count + 1, sizeof *w->n.addresses);
        a = &w->n.addresses[w->n.address_count++];
        *a = (struct helper_address){0};
        str_copy(a->interface, sizeof a->interface, interface);
        assert_int_equal(cidr_parse(address, &a->address), 0);
}

static void wish_route(
        struct wish *w, const char *interface, const char *destination, const char *hop, unsigned metric)
{
        struct helper_route *r;

        w->n.routes = xrealloc_array(w->n.routes, w->n.route_count + 1, sizeof *w->n.routes);
        r = &w->n.routes[w->n.route_count++];
        *r = (struct helper_route){.metric = metric};
        str_copy(r->interface, sizeof r->interface, interface);
        assert_int_equal(cidr_parse(destination, &r->destination), 0);
        if (hop)
                assert_int_equal(inet_addr_parse(hop, &r->next_hop), 0);
}

static void grant(struct wish *w)
{
        struct error e = {0};

        if (helper_network_apply(&w->n, &e) < 0)
                fail_msg("%s", e.text);
        helper_network_done(&w->n);
}

/* Refused with this error and this in its text, and nothing has changed. */
static void refuse(struct wish *w, int number, const char *part)
{
        _cleanup_free_ char *before = machine();
        struct error e = {0};

        assert_int_equal(helper_network_apply(&w->n, &e), -number);
        assert_int_equal(e.number, number);
        if (!strstr(e.text, part))
                fail_msg("'%s' is not in: %s", part, e.text);
        assert_machine(before);
        helper_network_done(&w->n);
}

/* An ordinary LAN with a route, and the guard's route on the WAN. */
static struct wish ordinary(void)
{
        struct wish w = {0};

        wish_up(&w, "eth1");
        wish_address(&w, "eth1", "10.20.0.2/24");
        wish_route(&w, "eth1", "198.51.100.0/24", "10.20.0.1", 1024);
        wish_route(&w, "eth0", "198.51.100.53/32", "192.0.2.1", 64);
        return w;
}

static void nothing(void)
{
        struct wish w = {0};

        grant(&w);
}

/* ---- what is granted ---- */

static void test_apply(void **state)
{
        (void)state;
        struct wish w = ordinary();
        _cleanup_free_ char *before = machine(), *after = NULL;

        grant(&w);
        after = machine();
        assert_there("eth1    inet 10.20.0.2/24 brd 10.20.0.255 scope global eth1");
        assert_there("\n198.51.100.0/24 via 10.20.0.1 dev eth1 proto 173 metric 1024\n");
        assert_there("\n198.51.100.53 via 192.0.2.1 dev eth0 proto 173 metric 64\n");
        assert_there("\n10.20.0.0/24 dev eth1 proto kernel scope link src 10.20.0.2\n");
        assert_there("\ndefault via 192.0.2.1 dev eth0\n");
        w = ordinary();
        grant(&w);
        assert_machine(after);
        nothing();
        run("ip link set eth1 down");
        assert_machine(before);
}

static void test_changes(void **state)
{
        (void)state;
        struct wish w = ordinary();

        grant(&w);
        w = ordinary();
        w.n.route_count = 0;
        wish_route(&w, "eth1", "198.51.100.0/24", "10.20.0.9", 1024); /* another hop */
        wish_route(&w, "eth1", "10.40.0.0/16", "10.20.0.9", 1024);
        wish_address(&w, "eth1", "10.21.0.2/24");
        grant(&w);
        assert_there("\n198.51.100.0/24 via 10.20.0.9 dev eth1 proto 173 metric 1024\n");
        assert_there("\n10.40.0.0/16 via 10.20.0.9 dev eth1");
        assert_there("inet 10.21.0.2/24");
        assert_false(there_is("via 10.20.0.1 "));
        assert_false(there_is("198.51.100.53"));
        nothing();
        assert_false(there_is("10.2"));
        assert_false(there_is("proto 173"));
}

/* Another address in the same network: the old one is the primary, and takes the new one along when it goes.
 */
static void test_address_changes(void **state)
{
        (void)state;

        for (int promote = 0; promote < 2; promote++) {
                struct wish w = ordinary();

                run("sysctl -qw net.ipv4.conf.all.promote_secondaries=%d "
                    "net.ipv4.conf.eth1.promote_secondaries=%d",
                        promote, promote);
                grant(&w);
                w = ordinary();
                w.n.address_count = 0;
                wish_address(&w, "eth1", "10.20.0.3/24");
                grant(&w);
                assert_there("inet 10.20.0.3/24");
                assert_false(there_is("10.20.0.2/"));
                assert_there("\n198.51.100.0/24 via 10.20.0.1 dev eth1 proto 173");
                w = ordinary();
                w.n.address_count = 0;
                wish_address(&w, "eth1", "10.20.0.3/16"); /* another prefix */
                grant(&w);
                assert_there("inet 10.20.0.3/16");
                assert_false(there_is("10.20.0.3/24"));
                assert_there("\n198.51.100.0/24 via 10.20.0.1 dev eth1 proto 173");
                w = ordinary();
                w.n.address_count = w.n.route_count = 0;
                wish_up(&w, "eth2");
                wish_address(&w, "eth2", "10.20.0.3/16"); /* another interface */
                grant(&w);
                assert_there("eth2    inet 10.20.0.3/16");
                assert_false(there_is("eth1    inet"));
                nothing();
        }
}

static void test_ipv6(void **state)
{
        (void)state;
        struct wish w = {0};

        wish_up(&w, "eth1");
        wish_address(&w, "eth1", "2001:db8:20::2/64");
        wish_route(&w, "eth1", "2001:db8:f000::/36", "2001:db8:20::1", 1024);
        wish_route(&w, "eth1", "2001:db8:e000::/36", "fe80::1", 1024);
        wish_route(&w, "eth0", "2001:db8:f053::53/128", "2001:db8:1::1", 64);
        grant(&w);
        assert_there("inet6 2001:db8:20::2/64");
        assert_there("\n2001:db8:f000::/36 via 2001:db8:20::1 dev eth1 proto 173 metric 1024");
        assert_there("\n2001:db8:e000::/36 via fe80::1 dev eth1 proto 173 metric 1024");
        assert_there("\n2001:db8:f053::53 via 2001:db8:1::1 dev eth0 proto 173 metric 64");
        w = (struct wish){0};
        wish_up(&w, "eth1");
        wish_address(&w, "eth1", "2001:db8:20::2/48"); /* the same, with another prefix */
        grant(&w);
        assert_there("inet6 2001:db8:20::2/48");
        assert_false(there_is("2001:db8:20::2/64"));
        assert_false(there_is("proto 173"));
        nothing();
        assert_false(there_is("2001:db8:20::"));
        assert_there("inet6 2001:db8:1::2/64");
}

/* ---- what others made ---- */

static void test_foreign(void **state)
{
        (void)state;
        struct wish w = ordinary();
        _cleanup_free_ char *before = NULL;

        run("ip link set eth1 up; ip addr add 10.20.0.2/24 dev eth1; ip route add 10.90.0.0/16 via 10.20.0.9;"
            "ip route add 198.51.100.53/32 via 192.0.2.1 metric 64 proto static");
        before = machine();
        grant(&w);
        assert_there("\n198.51.100.0/24 via 10.20.0.1 dev eth1 proto 173");
        assert_there("\n198.51.100.53 via 192.0.2.1 dev eth0 proto static metric 64\n");
        nothing();
        assert_machine(before);
        run("ip addr del 10.20.0.2/24 dev eth1; ip route del 198.51.100.53/32 metric 64; ip link set eth1 "
            "down");
}

/* The last of ours goes, and a foreign route stays, since the interface keeps an address. */
static void test_foreign_route_stays(void **state)
{
        (void)state;
        struct wish w = ordinary();

        run("sysctl -qw net.ipv4.conf.all.promote_secondaries=1");
        grant(&w);
        run("ip route add 10.90.0.0/16 via 10.20.0.9 dev eth1");
        w = ordinary();
        w.n.address_count = 0;
        wish_address(&w, "eth1", "10.20.0.3/24");
        grant(&w);
        assert_there("\n10.90.0.0/16 via 10.20.0.9 dev eth1\n");
        nothing();
}

/* ---- what is refused ---- */

static void test_refused(void **state)
{
        (void)state;
        struct wish w = ordinary();

        wish_address(&w, "lo", "10.9.9.9/32");
        refuse(&w, EPERM, "lo is the loopback interface");
        w = ordinary();
        wish_address(&w, "eth0", "10.9.9.9/24");
        refuse(&w, EPERM, "eth0 is the WAN");
        w = ordinary();
        wish_up(&w, "eth0");
        refuse(&w, EPERM, "eth0 is the WAN");
        w = ordinary();
        wish_up(&w, "eth7");
        refuse(&w, ENODEV, "there is no interface eth7");
        w = ordinary();
        wish_route(&w, "eth7", "10.40.0.0/16", "10.20.0.1", 1024);
        refuse(&w, ENODEV, "there is no interface eth7");
        w = ordinary();
        wish_route(&w, "eth1", "10.40.0.0/16", "10.21.0.1", 1024);
        refuse(&w, EPERM, "10.40.0.0/16 via 10.21.0.1: the next hop is on no network of eth1");
        w = ordinary();
        wish_route(&w, "eth1", "10.40.0.0/16", "10.20.0.2", 1024); /* itself */
        refuse(&w, EPERM, "the next hop is on no network");
        w = ordinary();
        wish_route(&w, "eth1", "10.40.0.0/16", "192.0.2.1", 1024); /* the WAN's gateway, elsewhere */
        refuse(&w, EPERM, "the next hop is on no network");
        w = ordinary();
        grant(&w);
        w = ordinary();
        w.n.address_count = 0;
        wish_address(&w, "eth1", "10.21.0.2/24"); /* the next hop's network goes with the address before */
        refuse(&w, EPERM, "the next hop is on no network");
        w = ordinary();
        wish_route(&w, "eth1", "10.40.0.0/16", NULL, 1024);
        refuse(&w, EPERM, "has no next hop, and eth1 is not the WAN");
        w = ordinary();
        wish_route(&w, "eth1", "0.0.0.0/0", "10.20.0.1", 1024);
        refuse(&w, EPERM, "the default route is left alone");
}

static void test_on_link_wan(void **state)
{
        (void)state;
        struct wish w = ordinary();

        wish_route(&w, "eth0", "192.0.2.53/32", NULL, 64);
        grant(&w);
        assert_there("\n192.0.2.53 dev eth0 proto 173 scope link metric 64\n");
        nothing();
        /* A gateway that is on no network, as some providers have it. */
        run("ip route del default; ip route add default via 10.255.255.1 dev eth0 onlink");
        w = (struct wish){0};
        wish_route(&w, "eth0", "198.51.100.53/32", "10.255.255.1", 64);
        grant(&w);
        assert_there("\n198.51.100.53 via 10.255.255.1 dev eth0 proto 173 metric 64 onlink\n");
        nothing();
        run("ip route del default; ip route add default via 192.0.2.1");
}

/* ---- half done is not done ---- */

static void test_rollback(void **state)
{
        (void)state;
        struct wish w = ordinary();
        _cleanup_free_ char *bare = NULL;

        run("ip link set eth1 down; ip link set eth2 down");
        bare = machine();
        /* From nothing: even the link is down again. */
        run("ip route add 203.0.113.0/24 via 192.0.2.1 metric 1024");
        wish_route(&w, "eth1", "203.0.113.0/24", "10.20.0.1", 1024);
        refuse(&w, EEXIST,
                "cannot add the route 203.0.113.0/24 via 10.20.0.1 (eth1, metric 1024): File exists; "
                "somebody "
                "else's route is in its place");
        /* From something that is to go. */
        w = ordinary();
        grant(&w);
        wish_up(&w, "eth2");
        wish_address(&w, "eth2", "10.22.0.2/24");
        wish_route(&w, "eth2", "10.44.0.0/16", "10.22.0.1", 1024);
        wish_route(&w, "eth2", "203.0.113.0/24", "10.22.0.1", 1024);
        refuse(&w, EEXIST, "203.0.113.0/24");
        assert_there("\n198.51.100.0/24 via 10.20.0.1 dev eth1 proto 173");
        run("ip route del 203.0.113.0/24 via 192.0.2.1 metric 1024");
        nothing();
        run("ip link set eth1 down");
        assert_machine(bare);
}

/* A process that is killed anywhere leaves nothing that the next one does not mend. */
static void test_killed(void **state)
{
        (void)state;
        _cleanup_free_ char *bare = NULL;

        run("ip link set eth1 down; ip link set eth2 down");
        bare = machine();
        srandom(20);
        for (int i = 0; i < 60; i++) {
                struct timespec nap = {.tv_nsec = (random() % 3000) * 1000};
                pid_t pid = fork();

                if (pid == 0) {
                        for (;;) {
                                struct wish w = ordinary();
                                struct error e;

                                wish_address(&w, "eth1", "10.20.0.3/24");
                                for (int k = 0; k < 50; k++)
                                        wish_route(
                                                &w, "eth1", "10.64.0.0/16", "10.20.0.1", 2000 + (unsigned)k);
                                helper_network_apply(&w.n, &e);
                                helper_network_done(&w.n);
                                helper_network_apply(&w.n, &e);
                        }
                }
                nanosleep(&nap, NULL);
                kill(pid, SIGKILL);
                assert_int_equal(waitpid(pid, NULL, 0), pid);
                if (i % 2) {
                        nothing();
                        run("ip link set eth1 down");
                        assert_machine(bare);
                } else {
                        struct wish w = ordinary();

                        grant(&w);
                        assert_there("inet 10.20.0.2/24");
                        assert_false(there_is("10.20.0.3"));
                        assert_false(there_is("10.64"));
                }
        }
        nothing();
        run("ip link set eth1 down");
        assert_machine(bare);
}

static void test_many(void **state)
{
        (void)state;
        struct wish w = {0};
        struct timespec began, ended;
        double seconds;

        wish_up(&w, "eth1");
        wish_address(&w, "eth1", "10.20.0.2/24");
        for (unsigned i = 0; i < HELPER_MAX_ROUTES; i++) {
                char text[32];

                snprintf(text, sizeof text, "10.%u.%u.0/24", 64 + i / 256, i % 256);
                wish_route(&w, "eth1", text, "10.20.0.1", 1024);
        }
        clock_gettime(CLOCK_MONOTONIC, &began);
        grant(&w);
        clock_gettime(CLOCK_MONOTONIC, &ended);
        assert_there("\n10.79.255.0/24 via 10.20.0.1 dev eth1 proto 173");
        nothing();
        assert_false(there_is("proto 173"));
        seconds = (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
        print_message("%d routes in %.3f s\n", HELPER_MAX_ROUTES, seconds);
        assert_true(seconds < 5);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_apply),
                cmocka_unit_test(test_changes),
                cmocka_unit_test(test_address_changes),
                cmocka_unit_test(test_ipv6),
                cmocka_unit_test(test_foreign),
                cmocka_unit_test(test_foreign_route_stays),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_on_link_wan),
                cmocka_unit_test(test_rollback),
                cmocka_unit_test(test_killed),
                cmocka_unit_test(test_many),
        };

        return cmocka_run_group_tests(tests, set_up, NULL);
}
