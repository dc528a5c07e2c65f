#include "base/alloc.h"
#include "base/cleanup.h"
#include "probe/capture.h"
#include "probe/socket.h"
#include "probe/syn.h"
#include "probe/tls_facts.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/epoll.h>

#define FIRST_BYTES     160
#define TEXT_WAIT_MS    100   /* how long more of a text is waited for, once it is clear that it is not TLS */
#define TURN_BYTES      65536 /* taken in one turn of the loop: others want theirs, too */
#define HANDSHAKE_BYTES (1 << 20) /* OpenSSL would read empty messages for ever */
#define VERDICT_WAIT_MS 60 /* on top of two round trips: a server needs a moment to check a certificate */

/* One handshake. OpenSSL works on memory, so that the peer's first bytes and the moment of each are seen. */
enum state {
        STATE_CONNECTING,
        STATE_HANDSHAKE, /* from the ClientHello on */
        STATE_LISTENING, /* our side is through; the server may still reject our certificate (TLS 1.3) */
        STATE_TEXT,      /* it is not TLS: some more of it is gathered */
};

struct probe_tls {
        struct syn_burst burst; /* first: the probe is in it */
        enum state state;
        int fd;
        sd_event_source *io, *timer;
        SSL_CTX *own_context; /* without trust there is none to share */
        SSL *ssl;
        BIO *in, *out; /* the SSL's */
        struct tls_facts facts;
        double rtt_ms;                /* of the TCP handshake, 0 unknown */
        double hello_ms, progress_ms; /* probe's age: ClientHello sent; last bytes received, 0 none */
        uint64_t acked_before, hello_bytes;
        int send_error;
        bool has_icmp;
        struct socket_icmp icmp;
        size_t received_bytes;
        uint8_t first[FIRST_BYTES];
        size_t first_count;
};

static struct probe_tls *of(struct probe *p)
{
        return (struct probe_tls *)p;
}

static struct measurement *result(struct probe_tls *t)
{
        return t->burst.probe.result;
}

/* Sends what OpenSSL has to say. A failure is remembered only: what the peer said before counts more. */
static void flush(struct probe_tls *t)
{
        char *data, scratch[512];
        long length;
        bool blocked = false;

        while (!blocked && t->send_error == 0 && (length = BIO_get_mem_data(t->out, &data)) > 0) {
                ssize_t n = send(t->fd, data, (size_t)length, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        blocked = errno == EAGAIN;
                        t->send_error = blocked ? 0 : errno;
                        break;
                }
                while (n > 0) {
                        int taken = BIO_read(t->out, scratch,
                                n < (ssize_t)sizeof(scratch) ? (int)n : (int)sizeof(scratch));

                        if (taken <= 0)
                                break;
                        n -= taken;
                }
        }
        sd_event_source_set_io_events(t->io, EPOLLIN | (blocked ? EPOLLOUT : 0));
}

/* ---- the end ---- */

static void fill_counters(struct probe_tls *t)
{
        struct measurement *m = result(t);
        struct tls_facts_tcp tcp;

        if (t->fd < 0 || t->hello_bytes == 0 || !tls_facts_read_tcp(t->fd, m, &tcp))
                return;
        m->hello_acked = tcp.bytes_acked - t->acked_before >= t->hello_bytes ? YES : NO;
        if (m->server_hello_seen == UNKNOWN)
                m->server_hello_seen = NO;
}

static void snapshot(struct probe *p)
{
        struct probe_tls *t = of(p);

        if (t->state == STATE_CONNECTING && t->fd < 0)
                syn_burst_describe(&t->burst, NULL);
        fill_counters(t);
        if (p->context->capture && t->fd >= 0)
                capture_annotate(p->context->capture, TRANSPORT_TCP, p->result->local_port, p->result);
}

static void finish(struct probe_tls *t, enum measurement_outcome outcome)
{
        if (t->burst.probe.finished)
                return;
        if (t->ssl && t->first_count > 0 && SSL_is_init_finished(t->ssl))
                tls_facts_settled(&t->facts, t->ssl);
        snapshot(&t->burst.probe);
        probe_finish(&t->burst.probe, outcome);
}

static void finish_with_text(struct probe_tls *t, enum measurement_outcome outcome, char *text /* taken */)
{
        if (!t->burst.probe.finished && !result(t)->error_text)
                result(t)->error_text = TAKE_PTR(text);
        free(text);
        finish(t, outcome);
}

static void finish_not_tls(struct probe_tls *t)
{
        if (!t->burst.probe.finished)
                result(t)->first_bytes = str_excerpt(t->first, t->first_count, FIRST_BYTES);
        finish(t, OUTCOME_NOT_TLS);
}

/* The handshake is through, and nobody objects. */
static void finish_content(struct probe_tls *t)
{
        bool untimely = t->burst.probe.context->trust && result(t)->chain_time_valid == NO;

        SSL_shutdown(t->ssl); /* a proper end, since servers log anything else */
        flush(t);
        finish(t, untimely ? OUTCOME_UNTRUSTED : OUTCOME_OK);
}

/* An ICMP error ends an established connection, too (IP_RECVERR, tcp(7)), but Linux puts none into the error
 * queue then: the errno is all there is, and nobody's address. */
static bool is_icmp_errno(int error)
{
        return error == EHOSTUNREACH || error == ENETUNREACH || error == ECONNREFUSED ||
               error == ENOPROTOOPT || error == EHOSTDOWN || error == ENONET;
}

static void finish_cut(struct probe_tls *t, int error)
{
        result(t)->error_number = error;
        if (t->state == STATE_TEXT)
                finish_not_tls(t);
        else if (error == 0)
                finish(t, OUTCOME_CLOSED);
        else if (error == ECONNRESET || error == EPIPE)
                finish(t, OUTCOME_RESET);
        else if (error == ETIMEDOUT)
                finish(t, OUTCOME_TIMEOUT);
        else if (t->has_icmp)
                finish(t, socket_icmp_to_measurement(&t->icmp, result(t)));
        else if (is_icmp_errno(error))
                finish(t, OUTCOME_REJECTED);
        else
                finish(t, OUTCOME_LOCAL_ERROR);
}

static void stop(struct probe *p)
{
        struct probe_tls *t = of(p);

        syn_burst_stop(&t->burst);
        t->io = sd_event_source_disable_unref(t->io);
        t->timer = sd_event_source_disable_unref(t->timer);
        SSL_free(t->ssl);
        t->ssl = NULL;
        SSL_CTX_free(t->own_context);
        t->own_context = NULL;
        if (t->fd >= 0)
                close(TAKE_FD(t->fd));
}

/* ---- bytes ---- */

static void fail_tls(struct probe_tls *t)
{
        char *text = tls_facts_take_error();

        flush(t); /* the alert, so that the server's log tells the same story */
        if (t->facts.refused)
                finish_with_text(t, OUTCOME_UNTRUSTED, text);
        else if (result(t)->alert_seen == YES)
                finish_with_text(t, OUTCOME_ALERT, text);
        else
                finish_with_text(t, OUTCOME_PROTOCOL, text);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static void handshake_done(struct probe_tls *t)
{
        struct measurement *m = result(t);
        double rtt_ms = t->rtt_ms > m->rtt_ms ? t->rtt_ms : m->rtt_ms;

        tls_facts_settled(&t->facts, t->ssl);
        /* In TLS 1.2 the server's last word comes after it has checked our certificate. In TLS 1.3 it comes
         * before. */
        if (m->spec.tls != SERVICE_TLS_MUTUAL || SSL_version(t->ssl) < TLS1_3_VERSION ||
                m->client_certificate_asked != YES) {
                finish_content(t);
                return;
        }
        t->state = STATE_LISTENING;
        if (probe_timer(&t->burst.probe, &t->timer, 2 * rtt_ms + VERDICT_WAIT_MS, on_timer) < 0)
                finish_content(t);
}

static void listen_on(struct probe_tls *t)
{
        char buffer[1024];
        int n = SSL_read(t->ssl, buffer, sizeof(buffer));

        flush(t);
        if (n > 0 || (t->facts.ticket_seen && SSL_get_error(t->ssl, n) == SSL_ERROR_WANT_READ)) {
                finish_content(t);
                return;
        }
        switch (SSL_get_error(t->ssl, n)) {
        case SSL_ERROR_WANT_READ:
        case SSL_ERROR_WANT_WRITE:
                return;
        case SSL_ERROR_ZERO_RETURN:
                finish(t, OUTCOME_CLOSED);
                return;
        default:
                fail_tls(t);
        }
}

static void drive(struct probe_tls *t)
{
        ERR_clear_error();
        if (t->state == STATE_HANDSHAKE) {
                int r = SSL_do_handshake(t->ssl), error = SSL_get_error(t->ssl, r);

                flush(t);
                if (r == 1)
                        handshake_done(t);
                else if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE)
                        fail_tls(t);
        }
        if (t->state == STATE_LISTENING && !t->burst.probe.finished)
                listen_on(t);
}

/* Some bytes came. */
static void take_bytes(struct probe_tls *t, const uint8_t *bytes, size_t length)
{
        size_t room = sizeof(t->first) - t->first_count, kept = length < room ? length : room;
        double age_ms = probe_age_ms(&t->burst.probe);

        if (t->first_count == 0)
                result(t)->rtt_ms = age_ms - t->hello_ms;
        t->progress_ms = age_ms;
        memcpy(t->first + t->first_count, bytes, kept);
        t->first_count += kept;
        if (t->state == STATE_HANDSHAKE && !tls_facts_is_record(t->first, t->first_count)) {
                t->state = STATE_TEXT;
                if (probe_timer(&t->burst.probe, &t->timer, TEXT_WAIT_MS, on_timer) < 0)
                        finish_not_tls(t);
        }
        if (t->state == STATE_TEXT) {
                if (t->first_count == sizeof(t->first))
                        finish_not_tls(t);
                return;
        }
        if (BIO_write(t->in, bytes, (int)length) != (int)length)
                finish(t, OUTCOME_LOCAL_ERROR);
        else
                drive(t);
}

static void receive(struct probe_tls *t)
{
        uint8_t buffer[4096];
        size_t turn_bytes = 0;

        while (!t->burst.probe.finished && turn_bytes < TURN_BYTES) {
                ssize_t n = recv(t->fd, buffer, sizeof(buffer), 0);

                if (n > 0) {
                        turn_bytes += (size_t)n;
                        t->received_bytes += (size_t)n;
                        take_bytes(t, buffer, (size_t)n);
                        if (t->received_bytes > HANDSHAKE_BYTES)
                                finish_with_text(t, OUTCOME_PROTOCOL,
                                        xstrdup("1 MiB came, and the handshake has no end"));
                        continue;
                }
                if (n < 0 && errno == EINTR)
                        continue;
                /* The error of a reset is told once, and send() may have been the one to hear it. */
                if (n == 0 || (errno == EAGAIN && t->send_error))
                        finish_cut(t, t->send_error);
                else if (errno != EAGAIN)
                        finish_cut(t, errno);
                return;
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct probe_tls *t = userdata;

        (void)source;
        if (events & EPOLLERR)
                while (socket_read_icmp(fd, &t->icmp) > 0)
                        t->has_icmp = true;
        if (events & EPOLLOUT)
                flush(t);
        receive(t);
        return 0;
}

/* ---- time ---- */

/* Silence is waited out for the context's patience. Bytes that trickle in buy more, but not for ever. */
static double deadline_ms(const struct probe_tls *t)
{
        double patience_ms = t->burst.probe.context->patience_ms, until_ms = t->hello_ms + patience_ms;

        if (t->progress_ms > 0)
                until_ms = t->progress_ms + patience_ms;
        if (until_ms > t->hello_ms + 2 * patience_ms)
                until_ms = t->hello_ms + 2 * patience_ms;
        return until_ms;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe_tls *t = of(userdata);
        double left_ms;

        (void)source, (void)usec;
        receive(t); /* what came while the loop was busy elsewhere */
        if (t->burst.probe.finished)
                return 0;
        if (t->state == STATE_TEXT)
                finish_not_tls(t);
        else if (t->state == STATE_LISTENING)
                finish_content(t);
        else {
                left_ms = deadline_ms(t) - probe_age_ms(&t->burst.probe);
                if (left_ms <= 0 || probe_timer(&t->burst.probe, &t->timer, left_ms, on_timer) < 0)
                        finish(t, OUTCOME_TIMEOUT);
        }
        return 0;
}

/* ---- the beginning ---- */

static int make_ssl(struct probe_tls *t)
{
        struct trust *trust = t->burst.probe.context->trust;
        const struct probe_spec *spec = probe_spec_of(&t->burst.probe);
        struct inet_addr literal;
        SSL_CTX *context;

        if (!trust)
                t->own_context = trust_context_new();
        context = trust ? trust_context(trust, spec->tls == SERVICE_TLS_MUTUAL) : t->own_context;
        t->ssl = SSL_new(context);
        t->in = BIO_new(BIO_s_mem());
        t->out = BIO_new(BIO_s_mem());
        if (!t->ssl || !t->in || !t->out) {
                BIO_free(t->in);
                BIO_free(t->out);
                return -ENOMEM;
        }
        BIO_set_mem_eof_return(t->in, -1);
        SSL_set_bio(t->ssl, t->in, t->out);
        SSL_set_connect_state(t->ssl);
        t->facts = (struct tls_facts){.m = result(t),
                .trust = trust,
                .host = spec->verify_name[0] ? spec->verify_name : spec->name};
        tls_facts_attach(&t->facts, t->ssl);
        /* An address is no server name (RFC 6066, 3). */
        if (spec->name[0] && inet_addr_parse(spec->name, &literal) < 0)
                SSL_set_tlsext_host_name(t->ssl, spec->name);
        return 0;
}

/* Sends the ClientHello over t->fd, which is connected. */
static int begin(struct probe_tls *t)
{
        struct probe *p = &t->burst.probe;
        struct tls_facts_tcp tcp = {0};
        int one = 1, r;

        p->result->stage = STAGE_TLS;
        p->result->rtt_ms = 0; /* from here on it is the answer to the ClientHello */
        setsockopt(t->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        tls_facts_read_tcp(t->fd, NULL, &tcp);
        t->acked_before = tcp.bytes_acked;
        r = make_ssl(t);
        if (r >= 0)
                r = sd_event_add_io(p->context->event, &t->io, t->fd, EPOLLIN, on_io, t);
        if (r >= 0)
                r = probe_timer(p, &t->timer, p->context->patience_ms, on_timer);
        if (r < 0)
                return r;
        t->state = STATE_HANDSHAKE;
        t->hello_ms = probe_age_ms(p);
        ERR_clear_error();
        SSL_do_handshake(t->ssl);
        t->hello_bytes = BIO_number_written(t->out);
        if (t->hello_bytes == 0) {
                fail_tls(t);
                return 0;
        }
        flush(t);
        return 0;
}

static void on_answer(struct probe *p, struct syn_try *settled)
{
        struct probe_tls *t = of(p);
        int r;

        syn_burst_describe(&t->burst, settled);
        if (!settled || settled->answer != SYN_CONNECTED) {
                probe_finish(p, syn_try_outcome(settled));
                return;
        }
        settled->io = sd_event_source_disable_unref(settled->io);
        t->fd = TAKE_FD(settled->fd);
        t->rtt_ms = settled->rtt_ms;
        syn_burst_stop(&t->burst);
        r = begin(t);
        if (r < 0)
                probe_finish_errno(p, OUTCOME_LOCAL_ERROR, -r);
}

/* A lost SYN is repeated once; whether SYNs get through at all is another probe's question. */
static double due_ms(unsigned count)
{
        return count == 0 ? 0 : count == 1 ? 300 : 1e12;
}

static double patience_ms(const struct probe *p)
{
        return p->context->patience_ms;
}

static int start(struct probe *p)
{
        struct probe_tls *t = of(p);

        t->fd = probe_take_socket(p->context, probe_spec_of(p), &t->rtt_ms);
        p->result->stage = STAGE_TCP;
        if (t->fd >= 0) {
                p->result->local_port = socket_local_port(t->fd);
                socket_local_address(t->fd, p->result->source);
                return begin(t);
        }
        t->burst.due_ms = due_ms;
        t->burst.patience_ms = patience_ms;
        t->burst.on_answer = on_answer;
        return syn_burst_start(&t->burst);
}

const struct probe_class probe_tls_class = {.kind = MEASUREMENT_TLS,
        .size_bytes = sizeof(struct probe_tls),
        .start = start,
        .snapshot = snapshot,
        .stop = stop};
