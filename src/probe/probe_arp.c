/* Our own ARP requests (RFC 826) on a packet socket, packet(7): whatever the kernel's neighbour table
 * believes, only an answer to a request of ours proves that the other side hears us.
 *
 * Gateway: requests for the target from our address at 0, 150 and 350 ms; an answer is ok, silence a timeout
 * once the context's patience is over. Conflict: probes as in RFC 5227 section 2.1.1 (sender 0.0.0.0, so that
 * no one's table is touched) for our own address, the spec's target, at 0, 25 and 50 ms; any ARP packet in
 * which a machine other than this one claims the address is ok, with its hardware address; silence until 80
 * ms is a timeout and the healthy case. The bound is short and fixed, since the segment is local: a run that
 * has all else may abandon the probe rather than wait for it. */
#include "probe/probe.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/late_close.h"
#include "base/text.h"
#include "net/netlink.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if_arp.h>
#include <netinet/if_ether.h>
#include <string.h>
#include <sys/epoll.h>

#define CONFLICT_MS 80.0
#define TRIES       3

static const double gateway_tries_ms[TRIES] = {0, 150, 350};
static const double conflict_tries_ms[TRIES] = {0, 25, 50};

/* One packet socket an interface, shared by the probes on it and kept until the context ends. */
struct arp_socket {
        struct arp_socket *next;
        int fd, ifindex;
        sd_event_source *io;
        struct arp_probe *probes; /* those that listen */
};

struct arp_probe {
        struct probe p; /* first */
        struct arp_socket *socket;
        struct arp_probe *next; /* of the socket's list */
        sd_event_source *retry, *deadline;
        struct inet_addr sender;
        uint8_t mac[ETH_ALEN];
        double sent_ms; /* of the last request */
        int tries;      /* sends attempted */
        struct {
                uint8_t mac[8];
        } * own; /* conflict: hardware addresses of this machine */
        size_t own_count;
};

static struct arp_probe *arp_of(struct probe *p)
{
        return (struct arp_probe *)p;
}

static bool is_conflict(const struct arp_probe *a)
{
        return a->p.result->spec.purpose == PURPOSE_CONFLICT;
}

/* ---- the socket ---- */

static bool frame_is_arp_of_ipv4(const struct ether_arp *f, size_t length)
{
        return length >= sizeof *f && f->ea_hdr.ar_hrd == htons(ARPHRD_ETHER) &&
               f->ea_hdr.ar_pro == htons(ETHERTYPE_IP) && f->ea_hdr.ar_hln == ETH_ALEN &&
               f->ea_hdr.ar_pln == 4;
}

static bool mac_is_own(const struct arp_probe *a, const uint8_t mac[ETH_ALEN])
{
        if (memcmp(mac, a->mac, ETH_ALEN) == 0)
                return true;
        /* Another interface of this machine on the same segment may answer too (arp_ignore, ip-sysctl). */
        for (size_t i = 0; i < a->own_count; i++)
                if (memcmp(mac, a->own[i].mac, ETH_ALEN) == 0)
                        return true;
        return false;
}

static void on_frame(struct arp_probe *a, const struct ether_arp *f)
{
        struct measurement *m = a->p.result;

        if (a->p.finished || memcmp(f->arp_spa, m->spec.target.address.bytes, 4) != 0)
                return;
        if (is_conflict(a)) {
                if (mac_is_own(a, f->arp_sha))
                        return;
        } else if (f->ea_hdr.ar_op != htons(ARPOP_REPLY) || memcmp(f->arp_tpa, a->sender.bytes, 4) != 0)
                /* That the gateway asks, or announces itself, does not say that it hears us. */
                return;
        netlink_mac_format(f->arp_sha, ETH_ALEN, m->mac);
        m->by = m->spec.target.address;
        m->rtt_ms = probe_age_ms(&a->p) - a->sent_ms;
        probe_finish(&a->p, OUTCOME_OK);
}

static int on_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct arp_socket *s = userdata;
        struct ether_arp frame;

        (void)source;
        (void)events;
        for (;;) {
                struct sockaddr_ll from = {0};
                socklen_t from_length = sizeof from;
                ssize_t length =
                        recvfrom(fd, &frame, sizeof frame, 0, (struct sockaddr *)&from, &from_length);

                if (length < 0 && errno == EINTR)
                        continue;
                if (length < 0)
                        /* ENETDOWN is told once when the link goes away; the probes' own deadlines end them.
                         */
                        return 0;
                if (from.sll_pkttype == PACKET_OUTGOING || !frame_is_arp_of_ipv4(&frame, (size_t)length))
                        continue;
                /* on_frame may take the probe off the list. */
                for (struct arp_probe *a = s->probes, *next; a; a = next) {
                        next = a->next;
                        on_frame(a, &frame);
                }
        }
}

static void socket_free(struct arp_socket *s)
{
        sd_event_source_disable_unref(s->io);
        if (s->fd >= 0)
                late_close(s->fd);
        free(s);
}

static int socket_new(struct probe_context *c, int ifindex, struct arp_socket **ret)
{
        struct sockaddr_ll to = {
                .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ARP), .sll_ifindex = ifindex};
        struct arp_socket *s = xcalloc(1, sizeof *s);
        int r = 0;

        s->ifindex = ifindex;
        /* Protocol 0 at first: it hears nothing until it is bound, and binding it anew would block. */
        s->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&to, sizeof to) < 0)
                r = -errno;
        else
                r = sd_event_add_io(c->event, &s->io, s->fd, EPOLLIN, on_readable, s);
        if (r < 0) {
                socket_free(s);
                return r;
        }
        s->next = c->arp;
        c->arp = s;
        *ret = s;
        return 0;
}

void probe_arp_done(struct probe_context *c)
{
        while (c->arp) {
                struct arp_socket *s = c->arp;

                c->arp = s->next;
                socket_free(s);
        }
}

static int join_socket(struct arp_probe *a, int ifindex)
{
        struct arp_socket *s = a->p.context->arp;

        while (s && s->ifindex != ifindex)
                s = s->next;
        if (!s) {
                int r = socket_new(a->p.context, ifindex, &s);

                if (r < 0)
                        return r;
        }
        if (!s->probes) {
                char frame[sizeof(struct ether_arp)];

                /* What came while no one listened answers nobody. */
                while (recv(s->fd, frame, sizeof frame, 0) >= 0)
                        ;
                sd_event_source_set_enabled(s->io, SD_EVENT_ON);
        }
        a->socket = s;
        a->next = s->probes;
        s->probes = a;
        return 0;
}

static void leave_socket(struct arp_probe *a)
{
        struct arp_probe **at;

        if (!a->socket)
                return;
        for (at = &a->socket->probes; *at && *at != a; at = &(*at)->next)
                ;
        if (*at)
                *at = a->next;
        if (!a->socket->probes)
                sd_event_source_set_enabled(a->socket->io, SD_EVENT_OFF);
        a->socket = NULL;
}

/* ---- the probe ---- */

static double deadline_ms(const struct arp_probe *a)
{
        return is_conflict(a) ? CONFLICT_MS : a->p.context->patience_ms;
}

static int send_request(struct arp_probe *a)
{
        const struct measurement *m = a->p.result;
        struct sockaddr_ll to = {.sll_family = AF_PACKET,
                .sll_protocol = htons(ETH_P_ARP),
                .sll_ifindex = m->ifindex,
                .sll_halen = ETH_ALEN,
                .sll_addr = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
        struct ether_arp f = {.ea_hdr = {.ar_hrd = htons(ARPHRD_ETHER),
                                      .ar_pro = htons(ETHERTYPE_IP),
                                      .ar_hln = ETH_ALEN,
                                      .ar_pln = 4,
                                      .ar_op = htons(ARPOP_REQUEST)}};

        memcpy(f.arp_sha, a->mac, ETH_ALEN);
        memcpy(f.arp_spa, a->sender.bytes, 4);
        memcpy(f.arp_tpa, m->spec.target.address.bytes, 4);
        if (sendto(a->socket->fd, &f, sizeof f, 0, (struct sockaddr *)&to, sizeof to) < 0)
                return -errno;
        a->sent_ms = probe_age_ms(&a->p);
        a->p.result->arp_probes_sent++;
        return 0;
}

static int on_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct arp_probe *a = userdata;
        const double *tries_ms = is_conflict(a) ? conflict_tries_ms : gateway_tries_ms;
        int r;

        (void)source;
        (void)usec;
        r = send_request(a);
        /* A queue that is full for the moment (ENOBUFS) has the next try. */
        if (r < 0 && r != -EAGAIN && r != -ENOBUFS) {
                probe_finish_errno(&a->p, OUTCOME_LOCAL_ERROR, -r);
                return 0;
        }
        a->tries++;
        if (a->tries < TRIES)
                probe_timer(&a->p, &a->retry, tries_ms[a->tries] - probe_age_ms(&a->p), on_retry);
        return 0;
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct arp_probe *a = userdata;
        double left_ms = deadline_ms(a) - probe_age_ms(&a->p);

        (void)source;
        (void)usec;
        if (left_ms > 0.5) {
                probe_timer(&a->p, &a->deadline, left_ms, on_deadline);
                return 0;
        }
        /* What came while the loop was busy elsewhere still counts. */
        on_readable(NULL, a->socket->fd, EPOLLIN, a->socket);
        probe_finish(&a->p, OUTCOME_TIMEOUT);
        return 0;
}

/* The machine's other hardware addresses. */
static int learn_own_macs(struct arp_probe *a, struct netlink *n)
{
        _cleanup_free_ struct netlink_link *links = NULL;
        size_t count;
        int r = netlink_list_links(n, &links, &count);

        if (r < 0)
                return r;
        a->own = xcalloc(count ? count : 1, sizeof *a->own);
        for (size_t i = 0; i < count; i++)
                if (links[i].mac_length == ETH_ALEN)
                        memcpy(a->own[a->own_count++].mac, links[i].mac, ETH_ALEN);
        return 0;
}

/* The sender of a request to the gateway: the run's source, else what a packet by this interface would start
 * from; without any the request is an RFC 5227 probe, which is answered as well. */
static void choose_sender(struct arp_probe *a, struct netlink *n)
{
        struct netlink_route by_link = {.ifindex = a->p.result->ifindex,
                .destination.address.family = AF_INET,
                .next_hop = a->p.result->spec.target.address};

        a->sender = (struct inet_addr){.family = AF_INET};
        if (is_conflict(a))
                return;
        if (a->p.context->source.family == AF_INET)
                a->sender = a->p.context->source;
        else if (netlink_route_source(n, &by_link, &a->sender) < 0)
                return;
        inet_addr_format(&a->sender, a->p.result->source);
}

static int prepare(struct arp_probe *a, struct netlink *n, enum measurement_outcome *ret_outcome)
{
        struct measurement *m = a->p.result;
        struct netlink_link l;
        int r = netlink_find_link(n, m->spec.interface, &l);

        *ret_outcome = r == -ENODEV ? OUTCOME_MISSING : OUTCOME_LOCAL_ERROR;
        if (r < 0)
                return r;
        m->ifindex = l.ifindex;
        if (l.hardware_type != ARPHRD_ETHER || l.mac_length != ETH_ALEN || l.flags & IFF_NOARP)
                return -EOPNOTSUPP;
        memcpy(a->mac, l.mac, ETH_ALEN);
        choose_sender(a, n);
        r = is_conflict(a) ? learn_own_macs(a, n) : 0;
        if (r == 0)
                r = join_socket(a, l.ifindex);
        if (r == -EPERM || r == -EACCES)
                *ret_outcome = OUTCOME_NOT_PERMITTED;
        return r;
}

static int start(struct probe *p)
{
        struct arp_probe *a = arp_of(p);
        enum measurement_outcome outcome = OUTCOME_LOCAL_ERROR;
        struct netlink *n = NULL;
        int r;

        if (p->result->spec.target.address.family != AF_INET)
                return -EINVAL;
        p->result->stage = STAGE_LINK;
        r = netlink_open(&n);
        if (r == 0)
                r = prepare(a, n, &outcome);
        netlink_close(n);
        if (r < 0) {
                if (outcome == OUTCOME_NOT_PERMITTED)
                        p->result->reason = xstrdup("no right to open a packet socket (CAP_NET_RAW)");
                probe_finish_errno(p, outcome, -r);
                return 0;
        }
        r = probe_timer(p, &a->deadline, deadline_ms(a), on_deadline);
        if (r < 0)
                return r;
        return on_retry(NULL, 0, a);
}

static void stop(struct probe *p)
{
        struct arp_probe *a = arp_of(p);

        a->retry = sd_event_source_disable_unref(a->retry);
        a->deadline = sd_event_source_disable_unref(a->deadline);
        leave_socket(a);
        free(a->own);
        a->own = NULL;
        a->own_count = 0;
}

const struct probe_class probe_arp_class = {
        .kind = MEASUREMENT_ARP,
        .size_bytes = sizeof(struct arp_probe),
        .start = start,
        .stop = stop,
};
