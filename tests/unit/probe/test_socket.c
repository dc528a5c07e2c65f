#include "probe/socket.h"

#include "base/cleanup.h"
#include "testnet.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static int option(int fd, int level, int name)
{
        int value = -1;
        socklen_t length = sizeof(value);

        assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
        return value;
}

static void test_port_is_known_before_anything_is_sent(void **state)
{
        static const char *const targets[] = {TESTNET_HOST4, TESTNET_HOST6};
        struct probe_context c = {0};
        char source[INET_ADDR_TEXT];

        (void)state;
        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, targets[i]);
                _cleanup_close_ int fd = socket_open(&c, &spec, SOCK_STREAM);

                assert_true(fd >= 0);
                assert_true(socket_local_port(fd) > 0);
                socket_local_address(fd, source);
                assert_string_equal(source, "");
                assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
                assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        }
}

static void test_options_of_the_spec(void **state)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_HOP, TESTNET_HOST4);
        struct probe_context c = {0};
        char source[INET_ADDR_TEXT], device[IFNAMSIZ] = "";
        socklen_t length = sizeof(device);

        (void)state;
        assert_int_equal(inet_addr_parse(TESTNET_NODE, &c.source), 0);
        spec.ttl = 3;
        spec.mss = 1000;
        strcpy(spec.interface, "eth0");
        {
                _cleanup_close_ int fd = socket_open(&c, &spec, SOCK_STREAM);

                assert_true(fd >= 0);
                assert_int_equal(option(fd, IPPROTO_IP, IP_TTL), 3);
                assert_int_equal(option(fd, IPPROTO_IP, IP_RECVERR), 1);
                assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, &length), 0);
                assert_string_equal(device, "eth0");
                socket_local_address(fd, source);
                assert_string_equal(source, TESTNET_NODE);
        }
        spec = testnet_spec(MEASUREMENT_HOP, TESTNET_HOST6);
        spec.ttl = 4;
        {
                _cleanup_close_ int fd = socket_open(&c, &spec, SOCK_DGRAM);

                assert_true(fd >= 0); /* an IPv4 source is not for an IPv6 target */
                assert_int_equal(option(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS), 4);
                assert_int_equal(option(fd, IPPROTO_IPV6, IPV6_RECVERR), 1);
        }
}

static void test_what_cannot_be_opened(void **state)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, TESTNET_HOST4);
        struct probe_context c = {0};

        (void)state;
        assert_int_equal(inet_addr_parse("10.1.0.99", &c.source), 0);
        assert_int_equal(socket_open(&c, &spec, SOCK_STREAM), -EADDRNOTAVAIL);
        c = (struct probe_context){0};
        strcpy(spec.interface, "nosuch0");
        assert_int_equal(socket_open(&c, &spec, SOCK_STREAM), -ENODEV);
        spec = (struct probe_spec){0};
        assert_int_equal(socket_open(&c, &spec, SOCK_STREAM), -EAFNOSUPPORT);
        assert_int_equal(socket_local_port(-1), 0);
}

/* Sends a datagram to a port where nobody listens and gives the ICMP error that comes back. */
static struct socket_icmp refused(const char *target)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_DNS, target);
        struct probe_context c = {0};
        _cleanup_close_ int fd = socket_open(&c, &spec, SOCK_DGRAM);
        struct pollfd p = {.fd = fd};
        struct socket_icmp icmp;

        assert_true(fd >= 0);
        assert_int_equal(socket_read_icmp(fd, &icmp), 0);
        assert_int_equal(socket_connect(fd, &spec.target), 0);
        /* This machine's own firewall refuses at once, and then the send itself fails. */
        if (send(fd, "x", 1, 0) < 0)
                assert_true(errno == EPERM || errno == ECONNREFUSED);
        assert_int_equal(poll(&p, 1, 2000), 1);
        assert_int_equal(socket_read_icmp(fd, &icmp), 1);
        struct socket_icmp result = icmp;
        assert_int_equal(socket_read_icmp(fd, &icmp), 0);
        return result;
}

static void expect_icmp(struct socket_icmp i, const char *by, int type, int code, bool is_local)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(inet_addr_format(&i.by, text), by);
        assert_int_equal(i.error_number, ECONNREFUSED);
        assert_int_equal(i.type, type);
        assert_int_equal(i.code, code);
        assert_int_equal(i.is_local, is_local);
}

static void test_sender_of_icmp(void **state)
{
        (void)state;
        expect_icmp(refused("198.51.100.20:54"), "198.51.100.20", 3, 3, false);
        expect_icmp(refused("[2001:db8:ff::20]:54"), "2001:db8:ff::20", 1, 4, false);
        expect_icmp(refused("127.0.0.1:54"), "127.0.0.1", 3, 3, true);
        expect_icmp(refused("10.1.0.2:54"), "10.1.0.2", 3, 3, true);
        testnet_rule(TESTNET_ROUTER_NS, "forward", "udp dport 54 reject with icmpx type port-unreachable");
        expect_icmp(refused("198.51.100.20:54"), "10.1.0.1", 3, 3, false);
        expect_icmp(refused("[2001:db8:ff::20]:54"), "2001:db8:1::1", 1, 4, false);
        testnet_clear(NULL);
        testnet_rule(TESTNET_NODE_NS, "output", "udp dport 54 reject with icmpx type port-unreachable");
        expect_icmp(refused("198.51.100.20:54"), "10.1.0.2", 3, 3, true);
}

static enum measurement_outcome outcome_of(const char *by, int type, int code, bool is_local)
{
        struct socket_icmp i = {
                .error_number = EHOSTUNREACH, .type = type, .code = code, .is_local = is_local};
        struct measurement m = {0};
        enum measurement_outcome outcome;

        if (by)
                assert_int_equal(inet_addr_parse(by, &i.by), 0);
        outcome = socket_icmp_to_measurement(&i, &m);
        assert_int_equal(m.error_number, EHOSTUNREACH);
        assert_int_equal(m.icmp_type, type);
        assert_int_equal(m.icmp_code, code);
        assert_true(inet_addr_equal(&m.by, &i.by));
        assert_int_equal(m.outcome, outcome);
        return outcome;
}

static void test_outcome_of_icmp(void **state)
{
        (void)state;
        assert_int_equal(outcome_of("10.1.0.1", 3, 1, false), OUTCOME_REJECTED);
        assert_int_equal(outcome_of("10.1.0.1", 3, 13, false), OUTCOME_REJECTED);
        assert_int_equal(outcome_of("10.1.0.2", 3, 3, true), OUTCOME_REJECTED);
        assert_int_equal(outcome_of("10.1.0.2", 3, 1, true), OUTCOME_LOCAL_ERROR);
        assert_int_equal(outcome_of("2001:db8:1::2", 1, 3, true), OUTCOME_LOCAL_ERROR);
        assert_int_equal(outcome_of("2001:db8:1::2", 1, 4, true), OUTCOME_REJECTED);
        assert_int_equal(outcome_of("2001:db8:1::1", 1, 3, false), OUTCOME_REJECTED);
        assert_int_equal(outcome_of(NULL, 0, 0, true), OUTCOME_LOCAL_ERROR);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_port_is_known_before_anything_is_sent),
                cmocka_unit_test(test_options_of_the_spec),
                cmocka_unit_test(test_what_cannot_be_opened),
                cmocka_unit_test_teardown(test_sender_of_icmp, testnet_clear),
                cmocka_unit_test(test_outcome_of_icmp),
        };

        return cmocka_run_group_tests(tests, testnet_up, testnet_down);
}
