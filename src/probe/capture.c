#include "probe/capture.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/late_close.h"
#include "probe/pcapng.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if_arp.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <pcap/pcap.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <uthash.h>

enum {
        SLL2_LENGTH = 20,          /* https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html */
        SNAPLEN = 128,             /* SLL2, IPv6, an ICMPv6 error and the headers it quotes */
        SNAPLEN_FILE = 256,        /* somewhat more for people to look at */
        BUFFER_BYTES = 512 * 1024, /* the kernel grants what net.core.rmem_max allows */
        PACKETS_PER_WAKE_UP = 64,
        PACKETS_PER_DRAIN = 4096, /* a flood must not hold the loop for ever */
        MAX_EXTENSION_HEADERS = 8,
        TCP_FLAG_SYN = 0x02,
        TCP_FLAG_RST = 0x04,
        TCP_FLAG_ACK = 0x10
};

/* Without a file nothing but the opening and the refusal of TCP connections is asked of the kernel: a node
 * that forwards a site's traffic carries far more packets than anybody could look at. */
static const char filter_facts[] = "tcp[tcpflags] & (tcp-syn|tcp-rst) != 0"
                                   " or (ip6 and ip6[6] = 6 and ip6[53] & 6 != 0)"
                                   " or udp port 53 or icmp[icmptype] = 3 or icmp[icmptype] = 11"
                                   " or (ip6 and ip6[6] = 58 and ip6[40] < 5)";
static const char filter_file[] = "tcp or udp port 53 or icmp[icmptype] = 3 or icmp[icmptype] = 11"
                                  " or (ip6 and ip6[6] = 58 and ip6[40] < 5)";

/* No padding: hashed as bytes. */
struct watch_key {
        uint8_t address[16];
        uint16_t port;
        uint16_t local_port; /* 0: the endpoint as such, whatever the local port */
        uint8_t family, transport;
};

struct watch {
        struct watch_key key;
        struct capture_facts facts;
        unsigned foreign_count; /* endpoint as such: left the host from ports nobody registered */
        UT_hash_handle hh;
};

struct capture {
        int fd;
        sd_event_source *io;
        struct pcapng *file;
        struct watch *watches;
        unsigned dropped;
        size_t snaplen;
        int named_ifindex; /* the interface whose name was looked up last */
        char name[IFNAMSIZ];
};

/* ---- frames ---- */

/* What is left of a packet: every step forward is checked against the length. */
struct cursor {
        const uint8_t *at;
        size_t left;
};

static bool advance(struct cursor *c, size_t length)
{
        if (length > c->left)
                return false;
        c->at += length;
        c->left -= length;
        return true;
}

static uint16_t read_u16(const uint8_t *p)
{
        return (uint16_t)(p[0] << 8 | p[1]);
}

static int parse_ipv4(struct cursor *c, struct capture_packet *p, uint8_t *ret_protocol)
{
        size_t header;

        if (c->left < sizeof(struct iphdr) || c->at[0] >> 4 != 4)
                return -EBADMSG;
        header = (size_t)(c->at[0] & 15) * 4;
        if (header < sizeof(struct iphdr) || (read_u16(c->at + 6) & IP_OFFMASK) != 0)
                return -EBADMSG; /* later fragments carry no ports */
        p->ttl = c->at[8];
        *ret_protocol = c->at[9];
        p->from.address.family = p->to.address.family = AF_INET;
        memcpy(p->from.address.bytes, c->at + 12, 4);
        memcpy(p->to.address.bytes, c->at + 16, 4);
        return advance(c, header) ? 0 : -EBADMSG;
}

static int parse_ipv6(struct cursor *c, struct capture_packet *p, uint8_t *ret_protocol)
{
        uint8_t next;

        if (c->left < sizeof(struct ip6_hdr) || c->at[0] >> 4 != 6)
                return -EBADMSG;
        next = c->at[6];
        p->ttl = c->at[7];
        p->from.address.family = p->to.address.family = AF_INET6;
        memcpy(p->from.address.bytes, c->at + 8, 16);
        memcpy(p->to.address.bytes, c->at + 24, 16);
        advance(c, sizeof(struct ip6_hdr));
        for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
                size_t header = 8;

                if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
                        next != IPPROTO_FRAGMENT) {
                        *ret_protocol = next;
                        return 0;
                }
                if (c->left < header)
                        return -EBADMSG;
                if (next != IPPROTO_FRAGMENT)
                        header += (size_t)c->at[1] * 8;
                else if ((read_u16(c->at + 2) & 0xfff8) != 0)
                        return -EBADMSG;
                next = c->at[0];
                if (!advance(c, header))
                        return -EBADMSG;
        }
        return -EBADMSG;
}

static int parse_ip(struct cursor *c, uint16_t ethertype, struct capture_packet *p, uint8_t *ret_protocol)
{
        if (ethertype == ETHERTYPE_IP)
                return parse_ipv4(c, p, ret_protocol);
        if (ethertype == ETHERTYPE_IPV6)
                return parse_ipv6(c, p, ret_protocol);
        return -EBADMSG;
}

static int parse_ports(const struct cursor *c, uint8_t protocol, struct capture_packet *p)
{
        if ((protocol != IPPROTO_TCP && protocol != IPPROTO_UDP) || c->left < 4)
                return -EBADMSG;
        p->is_tcp = protocol == IPPROTO_TCP;
        p->is_udp = protocol == IPPROTO_UDP;
        p->from.port = read_u16(c->at);
        p->to.port = read_u16(c->at + 2);
        return 0;
}

static bool is_icmp_error(uint16_t ethertype, uint8_t type)
{
        if (ethertype == ETHERTYPE_IPV6)
                return type >= ICMP6_DST_UNREACH && type <= ICMP6_PARAM_PROB;
        return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* The quoted packet gives the endpoints: eight bytes of its transport header are all that RFC 792 promises.
 */
static int parse_icmp(struct cursor *c, uint16_t ethertype, struct capture_packet *p)
{
        uint8_t ttl = p->ttl, protocol;
        int r;

        if (c->left < 8 || !is_icmp_error(ethertype, c->at[0]))
                return -EBADMSG;
        advance(c, 8);
        p->is_icmp = true;
        r = parse_ip(c, ethertype, p, &protocol);
        if (r == 0)
                r = parse_ports(c, protocol, p);
        p->ttl = ttl;
        return r;
}

int capture_parse_frame(const uint8_t *frame, size_t length, struct capture_packet *ret)
{
        struct cursor c = {.at = frame, .left = length};
        struct capture_packet p = {0};
        uint16_t ethertype;
        uint8_t protocol;
        int r;

        if (length < SLL2_LENGTH)
                return -EBADMSG;
        ethertype = read_u16(frame);
        p.ifindex = (int)((uint32_t)read_u16(frame + 4) << 16 | read_u16(frame + 6));
        p.loopback = read_u16(frame + 8) == ARPHRD_LOOPBACK;
        p.outgoing = frame[10] == PACKET_OUTGOING;
        advance(&c, SLL2_LENGTH);
        r = parse_ip(&c, ethertype, &p, &protocol);
        if (r < 0)
                return r;
        if (protocol == (ethertype == ETHERTYPE_IP ? IPPROTO_ICMP : IPPROTO_ICMPV6))
                r = parse_icmp(&c, ethertype, &p);
        else {
                r = parse_ports(&c, protocol, &p);
                if (r == 0 && p.is_tcp && c.left < 14)
                        r = -EBADMSG;
                if (r == 0 && p.is_tcp)
                        p.tcp_flags = c.at[13];
        }
        if (r < 0)
                return r;
        *ret = p;
        return 0;
}

/* ---- what is watched ---- */

static struct watch_key make_key(
        enum probe_transport transport, uint16_t local_port, const struct endpoint *to)
{
        struct watch_key key = {.port = to->port,
                .local_port = local_port,
                .family = (uint8_t)to->address.family,
                .transport = (uint8_t)transport};

        memcpy(key.address, to->address.bytes, inet_addr_bits(&to->address) / 8);
        return key;
}

static struct watch *find(
        struct capture *c, enum probe_transport transport, uint16_t local_port, const struct endpoint *to)
{
        struct watch_key key = make_key(transport, local_port, to);
        struct watch *found;

        HASH_FIND(hh, c->watches, &key, sizeof(key), found);
        return found;
}

static void add_watch(
        struct capture *c, enum probe_transport transport, uint16_t local_port, const struct endpoint *to)
{
        struct watch *w = find(c, transport, local_port, to);

        if (w)
                return;
        w = xcalloc(1, sizeof(*w));
        w->key = make_key(transport, local_port, to);
        HASH_ADD(hh, c->watches, key, sizeof(w->key), w);
}

void capture_watch(
        struct capture *c, enum probe_transport transport, uint16_t local_port, const struct endpoint *to)
{
        if (!c || local_port == 0)
                return;
        add_watch(c, transport, local_port, to);
        add_watch(c, transport, 0, to);
}

static void note_name(struct capture *c, int ifindex)
{
        if (c->named_ifindex == ifindex)
                return;
        c->named_ifindex = ifindex;
        if (!if_indextoname((unsigned)ifindex, c->name))
                c->name[0] = 0;
}

/* A bridge's port hands its packets on to the bridge, so that the last sighting is the interface whose routes
 * and rules apply. */
static void count_incoming(struct capture *c, const struct capture_packet *p, struct capture_facts *f)
{
        bool syn_ack = (p->tcp_flags & (TCP_FLAG_SYN | TCP_FLAG_ACK)) == (TCP_FLAG_SYN | TCP_FLAG_ACK);

        if (p->is_udp) {
                f->data_count += !p->loopback;
                f->data_ttl = p->ttl;
                str_copy(f->data_interface, sizeof(f->data_interface), c->name);
        } else if (p->loopback) {
                f->rst_lo_count += (p->tcp_flags & TCP_FLAG_RST) != 0;
                f->syn_ack_lo_count += syn_ack;
        } else if (p->tcp_flags & TCP_FLAG_RST) {
                f->rst_count++;
                f->rst_ttl = p->ttl;
                str_copy(f->rst_interface, sizeof(f->rst_interface), c->name);
        } else if (syn_ack) {
                f->syn_ack_count++;
                f->syn_ack_ttl = p->ttl;
                str_copy(f->syn_ack_interface, sizeof(f->syn_ack_interface), c->name);
        }
}

/* Whether the packet is one of ours. */
static bool count_packet(struct capture *c, const struct capture_packet *p)
{
        enum probe_transport transport = p->is_udp ? TRANSPORT_UDP : TRANSPORT_TCP;
        bool ours_to_remote = p->outgoing || p->is_icmp;
        const struct endpoint *local = ours_to_remote ? &p->from : &p->to;
        const struct endpoint *remote = ours_to_remote ? &p->to : &p->from;
        struct watch *w = find(c, transport, local->port, remote);

        if (!w) {
                w = p->outgoing && !p->is_icmp && !p->loopback ? find(c, transport, 0, remote) : NULL;
                if (w)
                        w->foreign_count++;
                return false;
        }
        note_name(c, p->ifindex);
        if (p->is_icmp)
                w->facts.icmp_count += !p->outgoing && !p->loopback;
        else if (!p->outgoing)
                count_incoming(c, p, &w->facts);
        else if (p->loopback)
                w->facts.out_lo_count++;
        else
                w->facts.out_count++;
        return true;
}

/* ---- reading ---- */

static void put_sll2(uint8_t *frame, const struct sockaddr_ll *from)
{
        uint32_t ifindex = htonl((uint32_t)from->sll_ifindex);
        uint16_t hardware = htons(from->sll_hatype);

        memset(frame, 0, SLL2_LENGTH);
        memcpy(frame, &from->sll_protocol, 2); /* in network byte order as it comes */
        memcpy(frame + 4, &ifindex, 4);
        memcpy(frame + 8, &hardware, 2);
        frame[10] = from->sll_pkttype;
        frame[11] = from->sll_halen;
        memcpy(frame + 12, from->sll_addr, sizeof(from->sll_addr));
}

static int64_t time_of(struct msghdr *message)
{
        struct timespec t;

        clock_gettime(CLOCK_REALTIME, &t);
        for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h))
                if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SO_TIMESTAMPNS)
                        memcpy(&t, CMSG_DATA(h), sizeof(t));
        return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void take_frame(
        struct capture *c, uint8_t *frame, size_t captured, size_t original, struct msghdr *message)
{
        struct capture_packet p;

        if (capture_parse_frame(frame, captured, &p) < 0 || !count_packet(c, &p) || !c->file)
                return;
        pcapng_add(c->file, &(struct pcapng_packet){.ifindex = p.ifindex,
                                    .interface = c->name,
                                    .outgoing = p.outgoing,
                                    .unix_ns = time_of(message),
                                    .data = frame,
                                    .captured = captured,
                                    .original = original});
}

static void drain(struct capture *c, unsigned maximum)
{
        for (unsigned i = 0; i < maximum; i++) {
                uint8_t frame[SNAPLEN_FILE];
                struct sockaddr_ll from = {0};
                union {
                        struct cmsghdr align;
                        char bytes[CMSG_SPACE(sizeof(struct timespec)) + 64];
                } control;
                struct iovec iov = {.iov_base = frame + SLL2_LENGTH, .iov_len = c->snaplen - SLL2_LENGTH};
                struct msghdr message = {.msg_name = &from,
                        .msg_namelen = sizeof(from),
                        .msg_iov = &iov,
                        .msg_iovlen = 1,
                        .msg_control = control.bytes,
                        .msg_controllen = sizeof(control.bytes)};
                ssize_t length = recvmsg(c->fd, &message, MSG_DONTWAIT | MSG_TRUNC);

                if (length < 0 && errno == EAGAIN)
                        return;
                if (length < 0)
                        continue; /* an interface went down or a signal came: what is queued is still to be
                                     had */
                put_sll2(frame, &from);
                take_frame(c, frame,
                        SLL2_LENGTH + ((size_t)length < iov.iov_len ? (size_t)length : iov.iov_len),
                        SLL2_LENGTH + (size_t)length, &message);
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        (void)source, (void)fd, (void)events;
        drain(userdata, PACKETS_PER_WAKE_UP);
        return 0;
}

/* ---- start and end ---- */

static int attach_filter(int fd, const char *expression, struct error *ret_error)
{
        /* A datagram packet socket gives packets from the network header onwards: raw IP to the compiler. */
        pcap_t *compiler = pcap_open_dead(DLT_RAW, 65535);
        struct bpf_program program;
        struct sock_fprog attached;
        int r = 0;

        if (!compiler)
                return error_set(ret_error, ENOMEM, "capture.filter", "cannot start libpcap's compiler");
        if (pcap_compile(compiler, &program, expression, 1, PCAP_NETMASK_UNKNOWN) < 0) {
                r = error_set(ret_error, EINVAL, "capture.filter", "cannot compile the capture filter: %s",
                        pcap_geterr(compiler));
                pcap_close(compiler);
                return r;
        }
        /* The two structures are the same, see pcap(3) and socket(7). */
        _Static_assert(sizeof(struct bpf_insn) == sizeof(struct sock_filter), "one instruction");
        attached.len = (unsigned short)program.bf_len;
        attached.filter = (struct sock_filter *)program.bf_insns;
        if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &attached, sizeof(attached)) < 0)
                r = error_set(ret_error, errno, "capture.filter", "cannot attach the capture filter: %m");
        pcap_freecode(&program);
        pcap_close(compiler);
        return r;
}

/* The socket hears nothing until it is bound, so that no packet gets past the filter. */
static int open_socket(bool for_file, int *ret, struct error *ret_error)
{
        _cleanup_close_ int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        struct sockaddr_ll everywhere = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
        int buffer = BUFFER_BYTES, on = 1, r;

        if (fd < 0)
                return error_set(ret_error, errno, "capture.socket",
                        "cannot watch packets: %m; CAP_NET_RAW is the right that is needed");
        r = attach_filter(fd, for_file ? filter_file : filter_facts, ret_error);
        if (r < 0)
                return r;
        /* Both only better the result: a smaller buffer may lose packets, which is counted, and without the
         * kernel's time stamp the time of reading is told. */
        (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
        if (for_file)
                (void)setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on));
        if (bind(fd, (struct sockaddr *)&everywhere, sizeof(everywhere)) < 0)
                return error_set(ret_error, errno, "capture.socket", "cannot watch packets: %m");
        *ret = TAKE_FD(fd);
        return 0;
}

int capture_start(sd_event *event, const char *pcapng_path, struct capture **ret, struct error *ret_error)
{
        struct capture *c = xcalloc(1, sizeof(*c));
        int r;

        c->fd = -1;
        c->snaplen = pcapng_path ? SNAPLEN_FILE : SNAPLEN;
        r = open_socket(pcapng_path != NULL, &c->fd, ret_error);
        if (r == 0 && pcapng_path)
                r = pcapng_open(pcapng_path, SNAPLEN_FILE, &c->file, ret_error);
        if (r == 0) {
                r = sd_event_add_io(event, &c->io, c->fd, EPOLLIN, on_io, c);
                if (r < 0)
                        error_set(ret_error, -r, "capture.loop", "cannot wait for packets: %s", strerror(-r));
        }
        if (r < 0) {
                capture_free(c);
                return r;
        }
        *ret = c;
        return 0;
}

int capture_finish(struct capture *c, struct error *ret_error)
{
        int r = 0;

        if (!c || !c->file)
                return 0;
        drain(c, PACKETS_PER_DRAIN);
        r = pcapng_finish(c->file, ret_error);
        c->file = pcapng_free(c->file);
        return r;
}

struct capture *capture_free(struct capture *c)
{
        struct watch *all;

        if (!c)
                return NULL;
        capture_finish(c, NULL);
        all = c->watches;
        HASH_CLEAR(hh, c->watches); /* frees the table; the watches are still a list */
        while (all) {
                struct watch *w = all;

                all = w->hh.next;
                free(w);
        }
        sd_event_source_disable_unref(c->io);
        if (c->fd >= 0)
                late_close(c->fd);
        free(c);
        return NULL;
}

/* ---- telling ---- */

static void count_drops(struct capture *c)
{
        struct tpacket_stats stats = {0};
        socklen_t length = sizeof(stats);

        /* Reading sets the kernel's counters back. */
        if (getsockopt(c->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &length) == 0)
                c->dropped += stats.tp_drops;
}

bool capture_facts(struct capture *c, enum probe_transport transport, uint16_t local_port,
        const struct endpoint *to, struct capture_facts *ret)
{
        const struct watch *w, *endpoint;

        if (!c || local_port == 0)
                return false;
        drain(c, PACKETS_PER_DRAIN);
        count_drops(c);
        w = find(c, transport, local_port, to);
        if (!w)
                return false;
        endpoint = find(c, transport, 0, to);
        *ret = w->facts;
        ret->is_incomplete =
                c->dropped > 0 || (w->facts.out_count == 0 && endpoint && endpoint->foreign_count > 0);
        return true;
}

static void tell_reply(struct measurement *m, const char *interface, int ttl)
{
        str_copy(m->reply_interface, sizeof(m->reply_interface), interface);
        m->reply_ttl = ttl;
}

void capture_annotate(
        struct capture *c, enum probe_transport transport, uint16_t local_port, struct measurement *m)
{
        struct capture_facts f;
        bool replied;

        if (!capture_facts(c, transport, local_port, &m->spec.target, &f))
                return;
        replied = f.syn_ack_count > 0 || f.data_count > 0;
        if (f.out_count > 0)
                m->left_host = YES;
        else if (m->left_host == UNKNOWN && !f.is_incomplete)
                m->left_host = NO;
        if (replied && m->reply_seen != YES) {
                m->reply_seen = YES;
                if (f.syn_ack_count)
                        tell_reply(m, f.syn_ack_interface, f.syn_ack_ttl);
                else
                        tell_reply(m, f.data_interface, f.data_ttl);
        } else if (!replied && m->reply_seen == UNKNOWN && !f.is_incomplete)
                m->reply_seen = NO;
        if (m->reply_interface[0])
                return;
        if (f.rst_count)
                tell_reply(m, f.rst_interface, f.rst_ttl);
        else if (f.rst_lo_count || f.syn_ack_lo_count)
                tell_reply(m, "lo", 0);
}
