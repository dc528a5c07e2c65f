#include "probe/capture.h"

#include "base/cleanup.h"
#include "probe/socket.h"
#include "testnet.h"

#include <errno.h>
#include <linux/capability.h>
#include <pcap/pcap.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <setjmp.h>

#include <cmocka.h>

/* ---- frames ---- */

/* A frame under construction. */
struct frame {
        uint8_t bytes[512];
        size_t length;
};

static void add(struct frame *f, const void *bytes, size_t length)
{
        assert_true(f->length + length <= sizeof(f->bytes));
        memcpy(f->bytes + f->length, bytes, length);
        f->length += length;
}

#define ADD(f, ...) add(f, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void add_sll2(struct frame *f, bool v6, bool outgoing, bool loopback)
{
        ADD(f, v6 ? 0x86 : 0x08, v6 ? 0xdd : 0, 0, 0, 0, 1, 0, 2, loopback ? 3 : 0, loopback ? 4 : 1,
                outgoing ? 4 : 0, 6, 1, 2, 3, 4, 5, 6, 0, 0);
}

static void add_ipv4(struct frame *f, uint8_t protocol, uint8_t ttl)
{
        ADD(f, 0x45, 0, 0, 40, 0, 0, 0x40, 0, ttl, protocol, 0, 0, 10, 1, 0, 2, 198, 51, 100, 20);
}

static void add_ipv6(struct frame *f, uint8_t next, uint8_t ttl)
{
        ADD(f, 0x60, 0, 0, 0, 0, 20, next, ttl, 0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x20,
                1, 0x0d, 0xb8, 0, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x20);
}

/* 40000 → 443 */
static void add_tcp(struct frame *f, uint8_t flags)
{
        ADD(f, 0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0, 0, 0, 0, 0, 0);
}

/* Every shorter version must be refused without being read past its end (a sanitizer watches), and leave the
 * result alone. */
static struct capture_packet parse(const struct frame *f, size_t needed)
{
        struct capture_packet p, untouched;

        memset(&untouched, 0x5a, sizeof(untouched));
        for (size_t length = 0; length < f->length; length++) {
                uint8_t *exact = malloc(length ? length : 1);

                memcpy(exact, f->bytes, length);
                p = untouched;
                if (length < needed) {
                        assert_int_equal(capture_parse_frame(exact, length, &p), -EBADMSG);
                        assert_memory_equal(&p, &untouched, sizeof(p));
                } else
                        assert_int_equal(capture_parse_frame(exact, length, &p), 0);
                free(exact);
        }
        assert_int_equal(capture_parse_frame(f->bytes, f->length, &p), 0);
        return p;
}

static void expect_ends(const struct capture_packet *p, const char *from, const char *to)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(endpoint_format(&p->from, text), from);
        assert_string_equal(endpoint_format(&p->to, text), to);
}

static void test_tcp_frames(void **state)
{
        struct frame f4 = {0}, f6 = {0};
        struct capture_packet p;

        (void)state;
        add_sll2(&f4, false, true, false);
        add_ipv4(&f4, 6, 64);
        add_tcp(&f4, 0x02);
        p = parse(&f4, 20 + 20 + 14);
        expect_ends(&p, "10.1.0.2:40000", "198.51.100.20:443");
        assert_true(p.outgoing && p.is_tcp);
        assert_false(p.loopback || p.is_udp || p.is_icmp);
        assert_int_equal(p.ifindex, 65538);
        assert_int_equal(p.ttl, 64);
        assert_int_equal(p.tcp_flags, 0x02);

        add_sll2(&f6, true, false, true);
        add_ipv6(&f6, 6, 63);
        add_tcp(&f6, 0x14);
        p = parse(&f6, 20 + 40 + 14);
        expect_ends(&p, "[2001:db8:1::2]:40000", "[2001:db8:ff::20]:443");
        assert_true(p.loopback && p.is_tcp);
        assert_false(p.outgoing);
        assert_int_equal(p.ttl, 63);
        assert_int_equal(p.tcp_flags, 0x14);
}

static void test_headers_in_between(void **state)
{
        struct frame f4 = {0}, f6 = {0};
        struct capture_packet p;

        (void)state;
        add_sll2(&f4, false, false, false);
        ADD(&f4, 0x46, 0, 0, 40, 0, 0, 0, 0, 64, 17, 0, 0, 10, 1, 0, 2, 198, 51, 100, 20, 1, 1, 1, 1);
        ADD(&f4, 0, 53, 0x9c, 0x40, 0, 8, 0, 0);
        p = parse(&f4, 20 + 24 + 4);
        expect_ends(&p, "10.1.0.2:53", "198.51.100.20:40000");
        assert_true(p.is_udp);

        add_sll2(&f6, true, false, false);
        add_ipv6(&f6, 0, 60);
        ADD(&f6, 60, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0); /* hop by hop, 16 bytes */
        ADD(&f6, 43, 0, 0, 0, 0, 0, 0, 0);                         /* destination options */
        ADD(&f6, 44, 0, 0, 0, 0, 0, 0, 0);                         /* routing */
        ADD(&f6, 6, 0, 0, 1, 0, 0, 0, 7);                          /* first fragment */
        add_tcp(&f6, 0x12);
        p = parse(&f6, 20 + 40 + 40 + 14);
        expect_ends(&p, "[2001:db8:1::2]:40000", "[2001:db8:ff::20]:443");
        assert_int_equal(p.tcp_flags, 0x12);
}

static void test_icmp_tells_of_the_packet_that_it_quotes(void **state)
{
        struct frame f4 = {0}, f6 = {0};
        struct capture_packet p;

        (void)state;
        add_sll2(&f4, false, false, false);
        ADD(&f4, 0x45, 0, 0, 56, 0, 0, 0, 0, 255, 1, 0, 0, 10, 1, 0, 1, 10, 1, 0, 2, 11, 0, 0, 0, 0, 0, 0, 0);
        add_ipv4(&f4, 6, 1);
        ADD(&f4, 0x9c, 0x40, 1, 0xbb, 0, 0, 0, 1);
        p = parse(&f4, 20 + 20 + 8 + 20 + 4);
        expect_ends(&p, "10.1.0.2:40000", "198.51.100.20:443");
        assert_true(p.is_icmp && p.is_tcp);
        assert_int_equal(p.ttl, 255);
        assert_int_equal(p.tcp_flags, 0);

        add_sll2(&f6, true, false, false);
        add_ipv6(&f6, 58, 254);
        ADD(&f6, 1, 4, 0, 0, 0, 0, 0, 0);
        add_ipv6(&f6, 17, 1);
        ADD(&f6, 0x9c, 0x40, 0, 53, 0, 8, 0, 0);
        p = parse(&f6, 20 + 40 + 8 + 40 + 4);
        expect_ends(&p, "[2001:db8:1::2]:40000", "[2001:db8:ff::20]:53");
        assert_true(p.is_icmp && p.is_udp);
        assert_int_equal(p.ttl, 254);
}

static void expect_refused(struct frame *f)
{
        struct capture_packet p;

        assert_int_equal(capture_parse_frame(f->bytes, f->length, &p), -EBADMSG);
}

static void test_frames_of_no_interest(void **state)
{
        struct frame f = {0};

        (void)state;
        ADD(&f, 8, 6, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0,
                0); /* ARP, though the rest looks like IP */
        add_ipv4(&f, 6, 64);
        add_tcp(&f, 2);
        expect_refused(&f);
        f.length = 0;
        add_sll2(&f, true, false, false); /* version 4 in an IPv6 frame */
        add_ipv4(&f, 6, 64);
        add_tcp(&f, 2);
        expect_refused(&f);
        f.length = 0;
        add_sll2(&f, false, false, false); /* a later fragment */
        add_ipv4(&f, 6, 64);
        f.bytes[20 + 7] = 1;
        add_tcp(&f, 2);
        expect_refused(&f);
        f.bytes[20 + 7] = 0;
        f.bytes[20] = 0x44; /* a header shorter than a header */
        expect_refused(&f);
        f.length = 0;
        add_sll2(&f, false, false, false); /* a ping */
        add_ipv4(&f, 1, 64);
        ADD(&f, 8, 0, 0, 0, 0, 0, 0, 0);
        add_ipv4(&f, 6, 1);
        add_tcp(&f, 2);
        expect_refused(&f);
        f.length = 0;
        add_sll2(&f, true, false, false); /* extension headers without end */
        add_ipv6(&f, 0, 64);
        for (int i = 0; i < 20; i++)
                ADD(&f, 0, 0, 0, 0, 0, 0, 0, 0);
        expect_refused(&f);
        f.length = 0;
        add_sll2(&f, false, false, false); /* an ICMP error about an ICMP error */
        add_ipv4(&f, 1, 64);
        ADD(&f, 3, 1, 0, 0, 0, 0, 0, 0);
        add_ipv4(&f, 1, 64);
        ADD(&f, 3, 1, 0, 0, 0, 0, 0, 0);
        expect_refused(&f);
}

/* ---- on a network ---- */

struct watched {
        sd_event *event;
        struct capture *capture;
        struct endpoint target;
        int fd;
        uint16_t port;
};

static void start(struct watched *w, const char *target, int type, const char *file)
{
        struct probe_spec spec = testnet_spec(MEASUREMENT_TCP, target);
        struct probe_context c = {0};
        struct error e = {0};

        assert_int_equal(sd_event_new(&w->event), 0);
        if (capture_start(w->event, file, &w->capture, &e) < 0)
                fail_msg("%s", e.text);
        w->target = spec.target;
        w->fd = socket_open(&c, &spec, type);
        assert_true(w->fd >= 0);
        w->port = socket_local_port(w->fd);
}

static void send_and_wait(struct watched *w)
{
        struct pollfd p = {.fd = w->fd, .events = POLLOUT};
        int r = socket_connect(w->fd, &w->target);

        assert_true(r == 0 || r == -EINPROGRESS);
        poll(&p, 1, 150);
}

static void end(struct watched *w)
{
        close(w->fd);
        assert_null(capture_free(w->capture));
        sd_event_unref(w->event);
}

static void test_connection_is_seen(void **state)
{
        static const char *const targets[] = {TESTNET_HOST4, TESTNET_HOST6};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(targets); i++) {
                struct capture_facts f;
                struct watched w;

                start(&w, targets[i], SOCK_STREAM, NULL);
                assert_false(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
                capture_watch(w.capture, TRANSPORT_TCP, w.port, &w.target);
                assert_true(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
                assert_int_equal(f.out_count, 0);
                send_and_wait(&w);
                assert_true(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
                assert_int_equal(f.out_count, 1);
                assert_int_equal(f.syn_ack_count, 1);
                assert_int_equal(f.syn_ack_ttl, 63);
                assert_string_equal(f.syn_ack_interface, "eth0");
                assert_int_equal(f.rst_count + f.rst_lo_count + f.icmp_count + f.out_lo_count, 0);
                assert_false(f.is_incomplete);
                assert_false(capture_facts(w.capture, TRANSPORT_UDP, w.port, &w.target, &f));
                w.target.port++;
                assert_false(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
                end(&w);
        }
}

static void test_resets_and_icmp_are_seen(void **state)
{
        struct capture_facts f;
        struct watched w;

        (void)state;
        start(&w, "198.51.100.20:81", SOCK_STREAM, NULL);
        capture_watch(w.capture, TRANSPORT_TCP, w.port, &w.target);
        send_and_wait(&w);
        assert_true(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
        assert_int_equal(f.rst_count, 1);
        assert_int_equal(f.rst_ttl, 63);
        assert_string_equal(f.rst_interface, "eth0");
        end(&w);

        testnet_rule(TESTNET_ROUTER_NS, "forward", "tcp dport 443 reject with icmpx type admin-prohibited");
        start(&w, TESTNET_HOST6, SOCK_STREAM, NULL);
        capture_watch(w.capture, TRANSPORT_TCP, w.port, &w.target);
        send_and_wait(&w);
        assert_true(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
        assert_int_equal(f.icmp_count, 1);
        assert_int_equal(f.syn_ack_count + f.rst_count, 0);
        end(&w);
}

static void test_own_firewall_is_seen_on_lo(void **state)
{
        struct capture_facts f;
        struct watched w;

        (void)state;
        testnet_rule(TESTNET_NODE_NS, "output", "tcp dport 443 reject with tcp reset");
        start(&w, TESTNET_HOST4, SOCK_STREAM, NULL);
        capture_watch(w.capture, TRANSPORT_TCP, w.port, &w.target);
        send_and_wait(&w);
        assert_true(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
        assert_int_equal(f.out_count, 0);
        assert_int_equal(f.rst_count, 0);
        assert_int_equal(f.rst_lo_count, 1);
        end(&w);
}

static void test_connections_of_others_are_not_ours(void **state)
{
        struct capture_facts f;
        struct watched w, other;

        (void)state;
        start(&w, TESTNET_HOST4, SOCK_STREAM, NULL);
        capture_watch(w.capture, TRANSPORT_TCP, w.port, &w.target);
        start(&other, TESTNET_HOST4, SOCK_STREAM, NULL);
        send_and_wait(&other);
        assert_true(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
        assert_int_equal(f.out_count + f.syn_ack_count, 0);
        assert_true(f.is_incomplete); /* it may be ours with its port rewritten */
        end(&other);
        end(&w);
}

static void test_udp_answers_are_seen(void **state)
{
        struct measurement m = {.spec = testnet_spec(MEASUREMENT_DNS, "198.51.100.20:53")};
        struct pollfd p = {.events = POLLIN};
        struct watched w;
        char byte;

        (void)state;
        start(&w, "198.51.100.20:53", SOCK_DGRAM, NULL);
        capture_watch(w.capture, TRANSPORT_UDP, w.port, &w.target);
        assert_int_equal(socket_connect(w.fd, &w.target), 0);
        assert_int_equal(send(w.fd, "x", 1, 0), 1);
        p.fd = w.fd;
        assert_int_equal(poll(&p, 1, 2000), 1);
        assert_int_equal(recv(w.fd, &byte, 1, 0), 1);
        capture_annotate(w.capture, TRANSPORT_UDP, w.port, &m);
        assert_int_equal(m.left_host, YES);
        assert_int_equal(m.reply_seen, YES);
        assert_string_equal(m.reply_interface, "eth0");
        assert_int_equal(m.reply_ttl, 63);
        end(&w);
}

static void test_file_holds_watched_packets_only(void **state)
{
        char path[] = "/tmp/test_capture.XXXXXX", message[PCAP_ERRBUF_SIZE];
        int fd = mkstemp(path), count = 0;
        struct pcap_pkthdr *header;
        struct watched w, other;
        const u_char *data;
        struct error e;

        (void)state;
        assert_true(fd >= 0);
        close(fd);
        start(&w, TESTNET_HOST4, SOCK_STREAM, path);
        start(&other, TESTNET_HOST4, SOCK_STREAM, NULL);
        capture_watch(w.capture, TRANSPORT_TCP, w.port, &w.target);
        send_and_wait(&other);
        send_and_wait(&w);
        assert_int_equal(capture_finish(w.capture, &e), 0);
        assert_int_equal(capture_finish(w.capture, &e), 0);
        end(&other);
        end(&w);

        pcap_t *reader = pcap_open_offline(path, message);
        assert_non_null(reader);
        while (pcap_next_ex(reader, &header, &data) == 1) {
                struct capture_packet p;

                count++;
                assert_int_equal(capture_parse_frame(data, header->caplen, &p), 0);
                assert_int_equal(p.outgoing ? p.from.port : p.to.port, w.port);
                assert_true(header->ts.tv_sec > 1600000000);
        }
        assert_int_equal(count, 3); /* SYN, SYN-ACK, ACK */
        pcap_close(reader);
        unlink(path);
}

static void test_loop_reads_by_itself(void **state)
{
        struct capture_facts f;
        struct watched w;

        (void)state;
        start(&w, TESTNET_HOST4, SOCK_STREAM, NULL);
        capture_watch(w.capture, TRANSPORT_TCP, w.port, &w.target);
        send_and_wait(&w);
        assert_true(sd_event_run(w.event, 1000000) > 0);
        assert_int_equal(sd_event_run(w.event, 0), 0);
        assert_true(capture_facts(w.capture, TRANSPORT_TCP, w.port, &w.target, &f));
        assert_int_equal(f.syn_ack_count, 1);
        end(&w);
}

static int without_right(void)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[2] = {0};
        struct capture *c = NULL;
        struct error e = {0};
        sd_event *event;

        if (syscall(SYS_capset, &header, data) < 0 || sd_event_new(&event) < 0)
                return 1;
        if (capture_start(event, "/tmp/never.pcapng", &c, &e) != -EPERM || c ||
                !strstr(e.text, "CAP_NET_RAW"))
                return 2;
        sd_event_unref(event);
        return access("/tmp/never.pcapng", F_OK) == 0 ? 3 : 0;
}

static void test_without_the_right(void **state)
{
        struct measurement m = {.spec = testnet_spec(MEASUREMENT_TCP, TESTNET_HOST4)};
        int status;
        pid_t pid = fork();

        (void)state;
        if (pid == 0)
                _exit(without_right());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        capture_watch(NULL, TRANSPORT_TCP, 1, &m.spec.target);
        capture_annotate(NULL, TRANSPORT_TCP, 1, &m);
        assert_int_equal(m.left_host, UNKNOWN);
        assert_int_equal(m.reply_seen, UNKNOWN);
        assert_int_equal(capture_finish(NULL, NULL), 0);
        assert_null(capture_free(NULL));
}

static void test_file_that_cannot_be_written(void **state)
{
        struct capture *c = NULL;
        struct error e = {0};
        sd_event *event;

        (void)state;
        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(capture_start(event, "/nonexistent/x", &c, &e), -ENOENT);
        assert_null(c);
        assert_non_null(strstr(e.text, "/nonexistent/x"));
        sd_event_unref(event);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tcp_frames),
                cmocka_unit_test(test_headers_in_between),
                cmocka_unit_test(test_icmp_tells_of_the_packet_that_it_quotes),
                cmocka_unit_test(test_frames_of_no_interest),
                cmocka_unit_test(test_connection_is_seen),
                cmocka_unit_test_teardown(test_resets_and_icmp_are_seen, testnet_clear),
                cmocka_unit_test_teardown(test_own_firewall_is_seen_on_lo, testnet_clear),
                cmocka_unit_test(test_connections_of_others_are_not_ours),
                cmocka_unit_test(test_udp_answers_are_seen),
                cmocka_unit_test(test_file_holds_watched_packets_only),
                cmocka_unit_test(test_loop_reads_by_itself),
                cmocka_unit_test(test_without_the_right),
                cmocka_unit_test(test_file_that_cannot_be_written),
        };

        return cmocka_run_group_tests(tests, testnet_up, testnet_down);
}
