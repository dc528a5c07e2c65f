/* One question to one server over one transport (RFC 1035, 7766), from a socket of our own.
 *
 * UDP: tries at 0, 150, 400 and 800 ms and then every 800 ms, each with an id of its own; the first two offer
 * EDNS0, the later ones do not, for devices that drop what they do not know. Only an answer from the address
 * that was asked, with the id of one of the tries and our question, counts; what else arrives is told in
 * error_text. TCP: SYNs at 0, 300 and 700 ms and then every second, each from a socket of its own; the first
 * that is answered carries the question.
 *
 * Silence ends with a timeout when the context's patience is over: for UDP and for the connection since the
 * start, for the answer over TCP since the connection, however slowly its bytes drip. A truncated answer that
 * holds no address is ok, with `truncated`: the server answers, and only TCP could tell more. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "net/netlink.h"
#include "probe/capture.h"
#include "probe/dns_message.h"
#include "probe/syn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#define EDNS_BYTES     1232 /* what passes everywhere unfragmented (DNS Flag Day 2020) */
#define EDNS_TRIES     2
#define TURN_DATAGRAMS 64 /* taken in one turn of the loop, however many wait */
#define MAX_TRIES      16
#define UDP_MAX_BYTES  4096
/* The framing allows 64 KiB; no address answer comes near this, and what claims more is not read. */
#define TCP_MAX_BYTES 16384

enum { RCODE_FORMERR = 1, RCODE_NOTIMP = 4 };

struct query {
        uint16_t id;
        bool edns;
        double sent_ms; /* since the probe's start */
};

struct dns_probe {
        struct syn_burst burst; /* first; over UDP only its probe is used */
        int fd;
        sd_event_source *io, *retry, *deadline;
        struct query queries[MAX_TRIES]; /* over TCP one */
        unsigned query_count;
        double asked_ms; /* when the wait for the answer began, since the probe's start */
        bool edns_refused;

        /* UDP: what came and did not count */
        unsigned strangers, mismatches, garbage;
        struct inet_addr stranger;

        /* TCP */
        uint8_t *buffer;
        size_t got, due; /* with the two bytes of the length */
};

static struct dns_probe *dns_of(struct probe *p)
{
        return (struct dns_probe *)p;
}

static struct probe *probe_of(struct dns_probe *d)
{
        return &d->burst.probe;
}

static bool is_udp(const struct dns_probe *d)
{
        return d->burst.probe.result->spec.transport == TRANSPORT_UDP;
}

/* ---- what was found ---- */

/* Where the context leaves the source to the kernel, an unconnected socket does not know it. */
static void note_source(struct dns_probe *d)
{
        struct measurement *m = probe_of(d)->result;
        struct netlink_query q = {.destination = m->spec.target.address};
        struct netlink_answer answer;
        struct netlink *n;

        socket_local_address(d->fd, m->source);
        if (m->source[0] || netlink_open(&n) < 0)
                return;
        str_copy(q.interface, sizeof q.interface, m->spec.interface);
        if (netlink_lookup(n, &q, &answer) == 0)
                inet_addr_format(&answer.route.preferred_source, m->source);
        netlink_close(n);
}

static void note_ignored(struct dns_probe *d)
{
        struct measurement *m = probe_of(d)->result;
        struct text t = {0};

        if (d->strangers) {
                char address[INET_ADDR_TEXT];

                text_addf(&t, "%u from another address (%s)", d->strangers,
                        inet_addr_format(&d->stranger, address));
        }
        if (d->mismatches)
                text_addf(&t, "%s%u with another id or question", t.length ? ", " : "", d->mismatches);
        if (d->garbage)
                text_addf(&t, "%s%u that are no DNS answers", t.length ? ", " : "", d->garbage);
        if (t.length && !m->error_text)
                m->error_text = xasprintf("ignored datagrams: %s", text_string(&t));
        text_done(&t);
}

/* All that does not hang on the outcome. */
static void snapshot(struct probe *p)
{
        struct dns_probe *d = dns_of(p);
        struct measurement *m = p->result;

        if (is_udp(d)) {
                m->tries = (int)d->query_count;
                note_ignored(d);
                if (p->context->capture && m->local_port)
                        capture_annotate(p->context->capture, TRANSPORT_UDP, m->local_port, m);
        } else if (d->fd < 0 && m->tries == 0) {
                syn_burst_describe(&d->burst, NULL);
        }
}

static void finish(struct dns_probe *d, enum measurement_outcome outcome)
{
        struct measurement *m = probe_of(d)->result;

        snapshot(probe_of(d));
        /* What came in was read here, and was no answer: nobody discarded one. */
        if (outcome == OUTCOME_TIMEOUT && d->mismatches + d->garbage > 0) {
                m->reply_seen = UNKNOWN;
                m->reply_interface[0] = '\0';
        }
        probe_finish(probe_of(d), outcome);
}

static void finish_errno(struct dns_probe *d, int error_number)
{
        probe_of(d)->result->error_number = error_number;
        finish(d, OUTCOME_LOCAL_ERROR);
}

static void take_answer(struct dns_probe *d, const struct query *q, struct dns_answer *a)
{
        struct measurement *m = probe_of(d)->result;
        bool any = a->record_count > 0 || a->truncated;

        m->answered = YES;
        m->rcode = a->rcode;
        m->truncated = a->truncated ? YES : NO;
        m->authoritative = a->authoritative ? YES : NO;
        m->recursion_available = a->recursion_available ? YES : NO;
        m->ttl_s = a->ttl_s;
        m->canonical_name = TAKE_PTR(a->canonical_name);
        strv_done(&m->addresses);
        m->addresses = a->addresses;
        a->addresses = (struct strv){0};
        m->rtt_ms = probe_age_ms(probe_of(d)) - q->sent_ms;
        if (is_udp(d))
                m->syns_unanswered = (int)(q - d->queries);
        finish(d, a->rcode != 0 ? OUTCOME_RCODE : any ? OUTCOME_OK : OUTCOME_NO_DATA);
}

/* ---- the question ---- */

static int random_id(uint16_t *ret)
{
        return getrandom(ret, sizeof *ret, 0) == sizeof *ret ? 0 : -EIO;
}

static struct dns_question question_of(const struct dns_probe *d, const struct query *q)
{
        const struct probe_spec *s = &d->burst.probe.result->spec;

        return (struct dns_question){
                .name = s->name, .type = s->dns_type, .id = q->id, .edns_bytes = q->edns ? EDNS_BYTES : 0};
}

/* The next query's bytes; the query is counted. */
static int build(struct dns_probe *d, uint8_t ret[DNS_MESSAGE_MAX_QUESTION], size_t *ret_length)
{
        struct query *q = &d->queries[d->query_count];
        struct dns_question question;
        int r = random_id(&q->id);

        if (r < 0)
                return r;
        q->edns = is_udp(d) && d->query_count < EDNS_TRIES && !d->edns_refused;
        q->sent_ms = probe_age_ms(probe_of(d));
        question = question_of(d, q);
        r = dns_message_build(&question, ret, ret_length);
        if (r == 0)
                d->query_count++;
        return r;
}

/* ---- UDP ---- */

static double udp_due_ms(unsigned count)
{
        static const double early_ms[] = {0, 150, 400, 800};

        if (count < ELEMENTS(early_ms))
                return early_ms[count];
        return early_ms[ELEMENTS(early_ms) - 1] + 800.0 * (count - (ELEMENTS(early_ms) - 1));
}

/* An ICMP error that is waiting ends the probe: true. */
static bool end_by_icmp(struct dns_probe *d)
{
        struct measurement *m = probe_of(d)->result;
        struct socket_icmp icmp;

        while (socket_read_icmp(d->fd, &icmp) > 0) {
                /* A hint for the packet size refuses nothing. */
                if ((icmp.by.family == AF_INET6 && icmp.type == ICMP6_PACKET_TOO_BIG) ||
                        (icmp.by.family == AF_INET && icmp.type == ICMP_DEST_UNREACH &&
                                icmp.code == ICMP_FRAG_NEEDED))
                        continue;
                finish(d, socket_icmp_to_measurement(&icmp, m));
                return true;
        }
        return false;
}

static int on_udp_retry(sd_event_source *source, uint64_t usec, void *userdata);

static int send_datagram(struct dns_probe *d)
{
        uint8_t bytes[DNS_MESSAGE_MAX_QUESTION];
        struct sockaddr_storage to;
        socklen_t to_length = endpoint_to_sockaddr(&probe_of(d)->result->spec.target, &to);
        size_t length;
        int r = build(d, bytes, &length);

        if (r < 0)
                return r;
        while (sendto(d->fd, bytes, length, 0, (struct sockaddr *)&to, to_length) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

static void arm_retry(struct dns_probe *d)
{
        double due_ms = udp_due_ms(d->query_count);

        if (d->query_count < MAX_TRIES)
                probe_timer(probe_of(d), &d->retry, due_ms - probe_age_ms(probe_of(d)), on_udp_retry);
}

static int on_udp_retry(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct dns_probe *d = userdata;
        int r = send_datagram(d);

        (void)source, (void)usec;
        /* A socket tells of an ICMP error by failing the next call. */
        if (r < 0 && end_by_icmp(d))
                return 0;
        if (r < 0 && r != -EAGAIN && r != -ENOBUFS && r != -ECONNREFUSED)
                finish_errno(d, -r);
        else
                arm_retry(d);
        return 0;
}

/* True when the probe is over. */
static bool take_datagram(struct dns_probe *d, const uint8_t *bytes, size_t length)
{
        struct measurement *m = probe_of(d)->result;
        const struct query *q = NULL;
        struct dns_question question;
        struct dns_answer answer;
        int r;

        for (unsigned i = 0; i < d->query_count && length >= 2 && !q; i++)
                if (d->queries[i].id == (bytes[0] << 8 | bytes[1]))
                        q = &d->queries[i];
        /* Of no try of ours: read all the same, to tell a wrong id from what is no DNS at all. */
        question = question_of(d, q ? q : &d->queries[0]);
        r = dns_message_parse(bytes, length, &question, &answer);
        if (r == -EBADMSG && q) {
                m->error_text = xasprintf("%zu bytes with our id that are no DNS answer", length);
                finish(d, OUTCOME_MALFORMED);
                return true;
        }
        if (r < 0) {
                d->mismatches += r == -ENOMSG;
                d->garbage += r == -EBADMSG;
                return false;
        }
        if (q->edns && !d->edns_refused && (answer.rcode == RCODE_FORMERR || answer.rcode == RCODE_NOTIMP)) {
                /* A server from before EDNS0 (RFC 6891 section 7): once more without. */
                d->edns_refused = true;
                m->answered = YES;
                m->rcode = answer.rcode;
                dns_answer_done(&answer);
                if (d->query_count < MAX_TRIES)
                        on_udp_retry(NULL, 0, d);
                return probe_of(d)->finished;
        }
        take_answer(d, q, &answer);
        dns_answer_done(&answer);
        return true;
}

static int on_udp_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct dns_probe *d = userdata;
        const struct endpoint *target = &probe_of(d)->result->spec.target;
        uint8_t bytes[UDP_MAX_BYTES];

        (void)source, (void)events;
        for (unsigned i = 0; i < TURN_DATAGRAMS; i++) {
                struct sockaddr_storage from = {0};
                socklen_t from_length = sizeof from;
                ssize_t length = recvfrom(fd, bytes, sizeof bytes, 0, (struct sockaddr *)&from, &from_length);
                struct endpoint sender = {0};

                if (length < 0 && errno == EINTR)
                        continue;
                if (length < 0)
                        break; /* nothing more, or an error whose origin is in the error queue */
                endpoint_from_sockaddr((struct sockaddr *)&from, &sender);
                if (!endpoint_equal(&sender, target)) {
                        d->stranger = sender.address;
                        d->strangers++;
                } else if (take_datagram(d, bytes, (size_t)length)) {
                        return 0;
                }
        }
        end_by_icmp(d);
        return 0;
}

static int start_udp(struct dns_probe *d)
{
        struct probe *p = probe_of(d);
        struct measurement *m = p->result;
        int r;

        m->stage = STAGE_DNS;
        d->fd = socket_open(p->context, &m->spec, SOCK_DGRAM);
        if (d->fd < 0) {
                r = d->fd;
                inet_addr_format(&p->context->source, m->source);
                probe_finish_errno(
                        p, r == -EPERM || r == -EACCES ? OUTCOME_NOT_PERMITTED : OUTCOME_LOCAL_ERROR, -r);
                return 0;
        }
        m->local_port = socket_local_port(d->fd);
        note_source(d);
        if (p->context->capture)
                capture_watch(p->context->capture, TRANSPORT_UDP, m->local_port, &m->spec.target);
        r = sd_event_add_io(p->context->event, &d->io, d->fd, EPOLLIN, on_udp_readable, d);
        return r < 0 ? r : on_udp_retry(NULL, 0, d);
}

/* ---- TCP ---- */

static double tcp_due_ms(unsigned count)
{
        static const double early_ms[] = {0, 300, 700};

        if (count < ELEMENTS(early_ms))
                return early_ms[count];
        return early_ms[ELEMENTS(early_ms) - 1] + 1000.0 * (count - (ELEMENTS(early_ms) - 1));
}

static double tcp_patience_ms(const struct probe *p)
{
        return p->context->patience_ms;
}

static void end_stream(struct dns_probe *d, int error_number)
{
        struct measurement *m = probe_of(d)->result;

        if (error_number != 0 && end_by_icmp(d))
                return;
        m->error_number = error_number;
        if (error_number == 0) {
                if (d->got > 0)
                        m->error_text = xasprintf("closed after %zu of %zu bytes", d->got, d->due);
                finish(d, OUTCOME_CLOSED);
        } else if (error_number == ECONNRESET || error_number == EPIPE) {
                finish(d, OUTCOME_RESET);
        } else if (error_number == ETIMEDOUT) {
                finish(d, OUTCOME_TIMEOUT);
        } else {
                finish(d, OUTCOME_LOCAL_ERROR);
        }
}

static void take_stream(struct dns_probe *d)
{
        struct measurement *m = probe_of(d)->result;
        struct dns_question question = question_of(d, &d->queries[0]);
        struct dns_answer answer;
        int r = dns_message_parse(d->buffer + 2, d->due - 2, &question, &answer);

        if (r < 0) {
                m->error_text = xasprintf(r == -ENOMSG ? "an answer of %zu bytes to another question"
                                                       : "%zu bytes that are no DNS answer",
                        d->due - 2);
                finish(d, OUTCOME_MALFORMED);
                return;
        }
        take_answer(d, &d->queries[0], &answer);
        dns_answer_done(&answer);
}

/* The length has come: true to read on. */
static bool take_length(struct dns_probe *d)
{
        size_t length = (size_t)(d->buffer[0] << 8 | d->buffer[1]);

        if (length == 0 || length > TCP_MAX_BYTES) {
                probe_of(d)->result->error_text = xasprintf("announced a message of %zu bytes", length);
                finish(d, OUTCOME_MALFORMED);
                return false;
        }
        d->due = 2 + length;
        d->buffer = xrealloc_array(d->buffer, d->due, 1);
        return true;
}

static int on_tcp_readable(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct dns_probe *d = userdata;

        (void)source, (void)events;
        for (;;) {
                ssize_t length = recv(fd, d->buffer + d->got, d->due - d->got, 0);

                if (length < 0 && errno == EINTR)
                        continue;
                if (length < 0 && errno == EAGAIN)
                        return 0;
                if (length <= 0) {
                        end_stream(d, length < 0 ? errno : 0);
                        return 0;
                }
                d->got += (size_t)length;
                if (d->got < d->due)
                        continue;
                if (d->due > 2) {
                        take_stream(d);
                        return 0;
                }
                if (!take_length(d))
                        return 0;
        }
}

static int ask_by_stream(struct dns_probe *d)
{
        uint8_t bytes[2 + DNS_MESSAGE_MAX_QUESTION];
        size_t length;
        ssize_t sent;
        int r = build(d, bytes + 2, &length);

        if (r < 0)
                return r;
        bytes[0] = (uint8_t)(length >> 8);
        bytes[1] = (uint8_t)length;
        /* A new connection's send buffer holds far more than this. */
        sent = send(d->fd, bytes, length + 2, MSG_NOSIGNAL);
        if (sent != (ssize_t)length + 2)
                return sent < 0 ? -errno : -EPROTO;
        d->due = 2;
        d->buffer = xmalloc(2);
        return sd_event_add_io(probe_of(d)->context->event, &d->io, d->fd, EPOLLIN, on_tcp_readable, d);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata);

static void on_connected(struct probe *p, struct syn_try *settled)
{
        struct dns_probe *d = dns_of(p);
        enum measurement_outcome outcome = syn_try_outcome(settled);
        int r;

        syn_burst_describe(&d->burst, settled);
        if (outcome != OUTCOME_OK) {
                probe_finish(p, outcome);
                return;
        }
        p->result->stage = STAGE_DNS;
        settled->io = sd_event_source_disable_unref(settled->io);
        d->fd = TAKE_FD(settled->fd);
        syn_burst_stop(&d->burst);
        d->asked_ms = probe_age_ms(p);
        r = settled->is_usable ? ask_by_stream(d) : -ECONNRESET;
        if (r == 0)
                r = probe_timer(p, &d->deadline, p->context->patience_ms, on_deadline);
        if (r < 0)
                end_stream(d, -r);
}

static int start_tcp(struct dns_probe *d)
{
        probe_of(d)->result->stage = STAGE_TCP;
        d->burst.due_ms = tcp_due_ms;
        d->burst.patience_ms = tcp_patience_ms;
        d->burst.on_answer = on_connected;
        return syn_burst_start(&d->burst);
}

/* ---- both ---- */

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct dns_probe *d = userdata;
        struct probe *p = probe_of(d);
        double left_ms = d->asked_ms + p->context->patience_ms - probe_age_ms(p);

        (void)source, (void)usec;
        if (left_ms > 0.5) {
                probe_timer(p, &d->deadline, left_ms, on_deadline);
                return 0;
        }
        /* What came while the loop was busy elsewhere still counts. */
        if (is_udp(d))
                on_udp_readable(NULL, d->fd, EPOLLIN, d);
        else
                on_tcp_readable(NULL, d->fd, EPOLLIN, d);
        if (p->finished)
                return 0;
        if (p->result->answered == YES)
                finish(d, OUTCOME_RCODE); /* EDNS was refused, and the plain question not answered */
        else
                finish(d, d->garbage > 0 ? OUTCOME_MALFORMED : OUTCOME_TIMEOUT);
        return 0;
}

static int start(struct probe *p)
{
        struct dns_probe *d = dns_of(p);
        const struct dns_question question = {.name = p->result->spec.name, .type = p->result->spec.dns_type};
        uint8_t bytes[DNS_MESSAGE_MAX_QUESTION];
        size_t length;
        int r = dns_message_build(&question, bytes, &length);

        d->fd = -1;
        if (r < 0)
                return r;
        if (!is_udp(d))
                return start_tcp(d);
        r = start_udp(d);
        if (r == 0 && !p->finished)
                r = probe_timer(p, &d->deadline, p->context->patience_ms, on_deadline);
        return r;
}

static void stop(struct probe *p)
{
        struct dns_probe *d = dns_of(p);

        d->io = sd_event_source_disable_unref(d->io);
        d->retry = sd_event_source_disable_unref(d->retry);
        d->deadline = sd_event_source_disable_unref(d->deadline);
        syn_burst_stop(&d->burst);
        if (d->fd >= 0)
                close(d->fd);
        d->fd = -1;
        free(d->buffer);
        d->buffer = NULL;
}

const struct probe_class probe_dns_class = {
        .kind = MEASUREMENT_DNS,
        .size_bytes = sizeof(struct dns_probe),
        .start = start,
        .snapshot = snapshot,
        .stop = stop,
};
