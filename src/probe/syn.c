#include "probe/syn.h"

#include "base/text.h"
#include "probe/capture.h"

#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>

static void close_try(struct syn_try *t)
{
        t->io = sd_event_source_disable_unref(t->io);
        if (t->fd >= 0)
                close(t->fd);
        t->fd = -1;
}

void syn_burst_stop(struct syn_burst *b)
{
        b->timer = sd_event_source_disable_unref(b->timer);
        for (unsigned i = 0; i < b->count; i++)
                close_try(&b->tries[i]);
}

/* "Fragmentation needed" is a hint for the path's packet size; nobody refuses anything with it. */
static bool is_size_hint(const struct socket_icmp *i)
{
        if (i->by.family == AF_INET6)
                return i->type == ICMP6_PACKET_TOO_BIG;
        return i->type == ICMP_DEST_UNREACH && i->code == ICMP_FRAG_NEEDED;
}

static bool read_icmp(struct syn_try *t)
{
        struct socket_icmp icmp;
        bool found = false;

        while (socket_read_icmp(t->fd, &icmp) > 0) {
                if (found || is_size_hint(&icmp))
                        continue;
                t->icmp = icmp;
                found = true;
        }
        return found;
}

static void set_answer(struct syn_try *t, enum syn_answer answer)
{
        t->answer = answer;
        t->rtt_ms = probe_context_now_ms(t->burst->probe.context) - t->started_ms;
}

/* The kernel's own figure is free of the time that this program took to look. It has none when the SYN had to
 * be repeated and the peer sends no time stamps. */
static void set_connected(struct syn_try *t, const struct tcp_info *info)
{
        set_answer(t, SYN_CONNECTED);
        t->is_usable = info->tcpi_state != TCP_CLOSE;
        if (info->tcpi_rtt > 0 && info->tcpi_rtt < t->rtt_ms * 1000)
                t->rtt_ms = info->tcpi_rtt / 1000.0;
}

/* Decides what has come to one socket. SO_ERROR clears what it tells, hence it is read of dead sockets only:
 * a reset that follows a connection belongs to whoever uses that connection. */
static void look_at(struct syn_try *t)
{
        struct tcp_info info = {0};
        socklen_t length = sizeof(info), error_length = sizeof(int);
        bool icmp = read_icmp(t);
        int error = 0;

        if (getsockopt(t->fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
                error = errno;
        else if (info.tcpi_state != TCP_SYN_SENT && info.tcpi_state != TCP_CLOSE) {
                set_connected(t, &info);
                return;
        }
        if (error == 0 && getsockopt(t->fd, SOL_SOCKET, SO_ERROR, &error, &error_length) < 0)
                error = errno;
        /* In SYN-SENT a reset is ECONNREFUSED; ECONNRESET and EPIPE need an earlier SYN-ACK. */
        if (error == ECONNRESET || error == EPIPE)
                set_connected(t, &info);
        else if (icmp)
                set_answer(t, SYN_ICMP);
        else if (error == ECONNREFUSED)
                set_answer(t, SYN_RESET);
        else if (error == ETIMEDOUT)
                close_try(t); /* the kernel has stopped repeating: silence all the same */
        else if (error != 0) {
                t->error_number = error;
                set_answer(t, SYN_LOCAL_ERROR);
        }
}

/* Everything that has come up to now is looked at before anything is concluded: a connection is worth more
 * than a refusal of another try. Otherwise the first word counts. */
static struct syn_try *look_at_all(struct syn_burst *b, struct syn_try *first)
{
        struct pollfd fds[SYN_MAX_TRIES];

        for (unsigned i = 0; i < b->count; i++)
                fds[i] = (struct pollfd){.fd = b->tries[i].fd, .events = POLLOUT};
        if (poll(fds, b->count, 0) <= 0)
                return first->answer != SYN_SILENT ? first : NULL;
        for (unsigned i = 0; i < b->count; i++)
                if (fds[i].fd >= 0 && fds[i].revents && b->tries[i].answer == SYN_SILENT)
                        look_at(&b->tries[i]);
        for (unsigned i = 0; i < b->count; i++)
                if (b->tries[i].answer == SYN_CONNECTED)
                        return &b->tries[i];
        if (first->answer != SYN_SILENT)
                return first;
        for (unsigned i = 0; i < b->count; i++)
                if (b->tries[i].answer != SYN_SILENT)
                        return &b->tries[i];
        return NULL;
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct syn_try *t = userdata, *settled = look_at_all(t->burst, t);

        (void)source, (void)fd, (void)events;
        if (settled)
                t->burst->on_answer(&t->burst->probe, settled);
        return 0;
}

static bool is_shortage(int error)
{
        return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS || error == EAGAIN ||
               error == EADDRINUSE;
}

static int send_syn(struct syn_burst *b)
{
        struct probe_context *c = b->probe.context;
        const struct probe_spec *spec = b->spec ? b->spec : probe_spec_of(&b->probe);
        struct syn_try *t = &b->tries[b->count];
        int r;

        *t = (struct syn_try){.burst = b, .fd = -1, .started_ms = probe_context_now_ms(c)};
        r = socket_open(c, spec, SOCK_STREAM);
        if (r < 0 && is_shortage(-r))
                return r;
        b->count++;
        if (r >= 0) {
                t->fd = r;
                t->local_port = socket_local_port(t->fd);
                if (c->capture)
                        capture_watch(c->capture, TRANSPORT_TCP, t->local_port, &spec->target);
                r = socket_connect(t->fd, &spec->target);
                if (r == 0 || r == -EINPROGRESS) {
                        r = sd_event_add_io(c->event, &t->io, t->fd, EPOLLOUT, on_io, t);
                        return r < 0 ? r : sd_event_source_set_priority(t->io, b->priority);
                }
                if (r == -ECONNREFUSED) { /* to this very machine, the answer is there at once */
                        look_at(t);
                        if (t->answer == SYN_SILENT)
                                set_answer(t, SYN_RESET);
                        return 0;
                }
        }
        t->error_number = -r;
        set_answer(t, SYN_LOCAL_ERROR);
        return 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static bool is_due_before(const struct syn_burst *b, double age_ms)
{
        return !b->is_complete && b->count < SYN_MAX_TRIES && b->due_ms(b->count) <= age_ms;
}

/* Arms the timer for the next try or the end, whichever comes first. */
static int wait_on(struct syn_burst *b)
{
        double age_ms = probe_age_ms(&b->probe), until_ms = b->patience_ms(&b->probe);

        if (is_due_before(b, until_ms))
                until_ms = b->due_ms(b->count);
        return probe_timer(&b->probe, &b->timer, until_ms - age_ms, on_timer);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct syn_burst *b = userdata;
        double age_ms = probe_age_ms(&b->probe);

        (void)source, (void)usec;
        /* An answer may wait in its socket while the loop was busy elsewhere. */
        if (age_ms >= b->patience_ms(&b->probe)) {
                b->on_answer(&b->probe, b->count ? look_at_all(b, &b->tries[0]) : NULL);
                return 0;
        }
        if (is_due_before(b, age_ms)) {
                b->is_complete = send_syn(b) < 0;
                if (!b->is_complete && b->tries[b->count - 1].answer != SYN_SILENT) {
                        b->on_answer(&b->probe, look_at_all(b, &b->tries[b->count - 1]));
                        return 0;
                }
        }
        if (wait_on(b) < 0)
                b->on_answer(&b->probe, NULL);
        return 0;
}

int syn_burst_start(struct syn_burst *b)
{
        int r = send_syn(b);

        if (r < 0)
                return r;
        if (b->tries[0].answer != SYN_SILENT) {
                b->on_answer(&b->probe, &b->tries[0]);
                return 0;
        }
        return wait_on(b);
}

static void describe_settled(const struct syn_try *t, struct measurement *m)
{
        switch (t->answer) {
        case SYN_ICMP:
                socket_icmp_to_measurement(&t->icmp, m);
                break;
        case SYN_LOCAL_ERROR:
                m->error_number = t->error_number;
                return;
        case SYN_RESET:
                m->error_number = ECONNREFUSED;
                break;
        case SYN_SILENT:
        case SYN_CONNECTED:
                break;
        }
        m->rtt_ms = t->rtt_ms;
}

void syn_burst_describe(struct syn_burst *b, const struct syn_try *settled)
{
        struct measurement *m = b->probe.result;
        const struct syn_try *told = settled ? settled : &b->tries[0];
        struct capture *capture = b->probe.context->capture;

        m->tries = (int)b->count;
        m->syns_unanswered = (int)b->count;
        if (settled) {
                m->syns_unanswered = 0;
                for (const struct syn_try *t = b->tries; t < settled; t++)
                        m->syns_unanswered += t->answer == SYN_SILENT;
                describe_settled(settled, m);
        }
        if (b->count == 0)
                return;
        m->local_port = told->local_port;
        if (told->fd >= 0)
                socket_local_address(told->fd, m->source);
        if (!m->source[0])
                inet_addr_format(&b->probe.context->source, m->source);
        if (!capture)
                return;
        /* The settled try first: where several tries were answered, its reply is the one to tell of. */
        if (told->local_port)
                capture_annotate(capture, TRANSPORT_TCP, told->local_port, m);
        for (const struct syn_try *t = b->tries; t < b->tries + b->count; t++)
                if (t != told && t->local_port)
                        capture_annotate(capture, TRANSPORT_TCP, t->local_port, m);
}

enum measurement_outcome syn_try_outcome(const struct syn_try *settled)
{
        struct measurement scratch = {0};

        if (!settled)
                return OUTCOME_TIMEOUT;
        switch (settled->answer) {
        case SYN_CONNECTED:
                return OUTCOME_OK;
        case SYN_RESET:
                return OUTCOME_RESET;
        case SYN_ICMP:
                return socket_icmp_to_measurement(&settled->icmp, &scratch);
        case SYN_LOCAL_ERROR:
                /* Without a port not even the socket was granted: no word of any firewall. */
                if (!settled->local_port &&
                        (settled->error_number == EPERM || settled->error_number == EACCES))
                        return OUTCOME_NOT_PERMITTED;
                return OUTCOME_LOCAL_ERROR;
        case SYN_SILENT:
                break;
        }
        return OUTCOME_TIMEOUT;
}
