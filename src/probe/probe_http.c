#include "base/alloc.h"
#include "base/cleanup.h"
#include "net/http_answer.h"
#include "net/http_engine.h"
#include "probe/capture.h"
#include "probe/http_request.h"
#include "probe/socket.h"
#include "probe/syn.h"
#include "probe/tls_facts.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>

#define EXCERPT_MAX   512         /* bytes of a body that are shown */
#define BODY_READ_MAX (64 * 1024) /* and read at most, beyond what is expected */

/* sd_event_source_set_priority(3); all else is 0 */
#define PRIORITY_BULK    (-20)
#define PRIORITY_REQUEST (-10)

/* One request over a connection of our own, which libcurl is handed when it stands: so it looks up no name,
 * and the socket is bound and watched as for every other probe. */
struct probe_http {
        struct syn_burst burst; /* first: the probe is in it */
        struct http_request request;
        struct probe_spec hop; /* the spec with the connection's real target: a proxy, where there is one */
        int fd;                /* connected, not yet libcurl's; -1 otherwise */
        CURL *easy;
        struct tls_facts facts;
        struct http_answer answer;
        sd_event_source *timer;
        double phase_ms, progress_ms; /* probe's age: this stage began; the last byte came, 0 none */
        double body_first_ms, body_last_ms;
        uint8_t tcp_state; /* as last seen before libcurl used the socket; kept from the first end that was
                              seen */
        bool has_icmp;
        struct socket_icmp icmp;
        bool request_sent; /* what comes now is the server's own answer, not a proxy's to CONNECT */
        bool head_complete, has_enough;
        char *body; /* the beginning: an excerpt, or a problem document */
        size_t body_kept;
        char error_text[CURL_ERROR_SIZE];
};

static struct probe_http *of(struct probe *p)
{
        return (struct probe_http *)p;
}

static struct measurement *result(struct probe_http *h)
{
        return h->burst.probe.result;
}

static const struct probe_spec *spec_of(struct probe_http *h)
{
        return probe_spec_of(&h->burst.probe);
}

/* Every stage has its patience anew. */
static void enter_stage(struct probe_http *h, enum probe_stage stage)
{
        result(h)->stage = stage;
        h->phase_ms = probe_age_ms(&h->burst.probe);
        h->progress_ms = 0;
}

/* ---- the end ---- */

static void fill_head(struct probe_http *h)
{
        struct measurement *m = result(h);
        long connect_status = 0;

        if (h->request.has_proxy) {
                curl_easy_getinfo(h->easy, CURLINFO_HTTP_CONNECTCODE, &connect_status);
                m->proxy_status = (int)connect_status;
        }
        if (h->head_complete)
                m->http_status = h->answer.status;
        m->peer_unix = h->answer.date_unix;
        m->location = TAKE_PTR(h->answer.location);
        m->server_header = TAKE_PTR(h->answer.server);
        m->via = TAKE_PTR(h->answer.via);
        m->proxy_authenticate = TAKE_PTR(h->answer.proxy_authenticate);
        if (http_answer_is_problem(&h->answer) && h->body)
                m->problem_type = http_answer_problem_type(h->body, h->body_kept);
        m->content_type = TAKE_PTR(h->answer.content_type);
}

static void fill_body(struct probe_http *h)
{
        struct measurement *m = result(h);
        bool is_bulk = spec_of(h)->purpose == PURPOSE_PAYLOAD && h->answer.status == 200;

        if (h->body_kept > 0 && !is_bulk)
                m->body_excerpt = str_excerpt(h->body, h->body_kept, EXCERPT_MAX);
        if (m->body_bytes > 0 && h->body_last_ms > h->body_first_ms)
                m->bytes_per_s = (double)m->body_bytes * 1000 / (h->body_last_ms - h->body_first_ms);
}

static void snapshot(struct probe *p)
{
        struct probe_http *h = of(p);
        struct measurement *m = p->result;

        if (!h->easy) {
                if (h->burst.count > 0 && m->stage == STAGE_TCP)
                        syn_burst_describe(&h->burst, NULL);
                return;
        }
        /* Ends the connection, and on_close takes the counters from the socket while it is there. */
        http_engine_remove(p->context->http, h->easy);
        fill_head(h);
        fill_body(h);
        if (h->error_text[0] && !m->error_text)
                m->error_text = str_excerpt(h->error_text, strlen(h->error_text), CURL_ERROR_SIZE);
        if (m->stage == STAGE_TLS && m->server_hello_seen == UNKNOWN)
                m->server_hello_seen = NO;
        if (p->context->capture)
                capture_annotate(p->context->capture, TRANSPORT_TCP, m->local_port, m);
}

static void finish(struct probe_http *h, enum measurement_outcome outcome)
{
        struct probe *p = &h->burst.probe;

        if (p->finished)
                return;
        snapshot(p);
        probe_finish(p, outcome);
}

static void stop(struct probe *p)
{
        struct probe_http *h = of(p);

        syn_burst_stop(&h->burst);
        h->timer = sd_event_source_disable_unref(h->timer);
        if (h->easy) {
                http_engine_remove(p->context->http, h->easy);
                curl_easy_cleanup(TAKE_PTR(h->easy));
        }
        if (h->fd >= 0)
                close(TAKE_FD(h->fd));
        http_request_done(&h->request);
        http_answer_done(&h->answer);
        free(TAKE_PTR(h->body));
}

/* How a connection that ended too early ended, by the state in which the kernel left it. */
static enum measurement_outcome cut_outcome(struct probe_http *h)
{
        if (h->tcp_state == TCP_CLOSE) {
                result(h)->error_number = ECONNRESET;
                return OUTCOME_RESET;
        }
        if (h->tcp_state == TCP_CLOSE_WAIT || !h->has_icmp)
                return OUTCOME_CLOSED;
        return socket_icmp_to_measurement(&h->icmp, result(h));
}

/* An answer without a length ends with the connection: only the expected size can tell that it was cut. */
static bool is_cut_short(struct probe_http *h)
{
        curl_off_t announced = -1;
        const struct probe_spec *s = spec_of(h);

        curl_easy_getinfo(h->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
        return s->purpose == PURPOSE_PAYLOAD && h->answer.status == 200 && announced < 0 &&
               result(h)->body_bytes < s->expect_bytes && h->tcp_state != TCP_ESTABLISHED;
}

static enum measurement_outcome tls_outcome(struct probe_http *h)
{
        result(h)->stage = STAGE_TLS;
        if (h->facts.refused)
                return OUTCOME_UNTRUSTED;
        if (result(h)->alert_seen == YES) {
                /* libcurl's words may be those of what failed because of it. */
                str_copy(h->error_text, sizeof(h->error_text), SSL_alert_desc_string_long(result(h)->alert));
                return OUTCOME_ALERT;
        }
        if (h->facts.record_seen && !h->facts.record_is_tls)
                return OUTCOME_NOT_TLS;
        if (h->tcp_state == TCP_CLOSE || h->tcp_state == TCP_CLOSE_WAIT || h->has_icmp)
                return cut_outcome(h);
        return OUTCOME_PROTOCOL;
}

static enum measurement_outcome outcome_of(struct probe_http *h, CURLcode code)
{
        if (h->has_enough)
                return OUTCOME_OK;
        if (h->facts.is_endless) {
                str_copy(h->error_text, sizeof(h->error_text), "handshake messages without end");
                return OUTCOME_PROTOCOL;
        }
        /* In TLS 1.3 the server's word on our certificate comes when the request is under way. */
        if (result(h)->stage == STAGE_TLS || (code != CURLE_OK && result(h)->alert_seen == YES))
                return tls_outcome(h);
        switch (code) {
        case CURLE_OK:
                return is_cut_short(h) ? cut_outcome(h) : OUTCOME_OK;
        case CURLE_GOT_NOTHING:
        case CURLE_PARTIAL_FILE:
        case CURLE_SEND_ERROR:
                return cut_outcome(h);
        case CURLE_RECV_ERROR:
                /* Also what libcurl calls a proxy's refusal; its status tells, then. */
                return !h->request_sent && h->answer.status ? OUTCOME_PROTOCOL : cut_outcome(h);
        case CURLE_WEIRD_SERVER_REPLY:
        case CURLE_UNSUPPORTED_PROTOCOL:
                return OUTCOME_MALFORMED;
        case CURLE_URL_MALFORMAT:
        case CURLE_OUT_OF_MEMORY:
                return OUTCOME_LOCAL_ERROR;
        default:
                return OUTCOME_PROTOCOL;
        }
}

static void on_done(CURL *easy, CURLcode code, void *userdata)
{
        struct probe_http *h = userdata;

        (void)easy;
        if (h->has_enough)
                h->error_text[0] = '\0';
        else {
                result(h)->curl_code = (int)code;
                if (code != CURLE_OK && !h->error_text[0])
                        str_copy(h->error_text, sizeof(h->error_text), curl_easy_strerror(code));
        }
        finish(h, outcome_of(h, code));
}

/* ---- libcurl's callbacks; none of them may end the probe ---- */

static curl_socket_t on_open(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
        struct probe_http *h = userdata;

        (void)purpose, (void)address;
        h->facts.fd = h->fd >= 0 ? h->fd : 0;
        return h->fd >= 0 ? TAKE_FD(h->fd) : CURL_SOCKET_BAD; /* there is one connection, and no other */
}

static int on_opened(void *userdata, curl_socket_t fd, curlsocktype purpose)
{
        (void)userdata, (void)fd, (void)purpose;
        return CURL_SOCKOPT_ALREADY_CONNECTED;
}

/* What libcurl itself says on closing may provoke a reset, so the first end that was seen counts. */
static void look_at_state(struct probe_http *h, int fd, struct measurement *m)
{
        struct tls_facts_tcp tcp;

        if (tls_facts_read_tcp(fd, m, &tcp) && h->tcp_state != TCP_CLOSE && h->tcp_state != TCP_CLOSE_WAIT)
                h->tcp_state = tcp.state;
}

static void on_ready(int fd, uint32_t epoll_events, void *userdata)
{
        struct probe_http *h = userdata;

        (void)epoll_events;
        look_at_state(h, fd, NULL);
        while (socket_read_icmp(fd, &h->icmp) > 0)
                h->has_icmp = true;
}

static int on_close(void *userdata, curl_socket_t fd)
{
        struct probe_http *h = userdata;

        look_at_state(h, fd, result(h));
        h->facts.fd = 0;
        return close(fd);
}

static CURLcode on_context(CURL *easy, void *context, void *userdata)
{
        struct probe_http *h = userdata;
        struct trust *trust = h->burst.probe.context->trust;

        (void)easy;
        enter_stage(h, STAGE_TLS);
        tls_facts_attach_context(&h->facts, context);
        if (trust && spec_of(h)->tls == SERVICE_TLS_MUTUAL)
                trust_offer_certificate(trust, context);
        return CURLE_OK;
}

/* The way stands, and the request is about to be sent. */
static int on_request(void *userdata, char *peer, char *local, int peer_port, int local_port)
{
        struct probe_http *h = userdata;
        struct curl_tlssessioninfo *session = NULL;

        (void)peer, (void)local, (void)peer_port, (void)local_port;
        if (curl_easy_getinfo(h->easy, CURLINFO_TLS_SSL_PTR, &session) == CURLE_OK && session &&
                session->backend == CURLSSLBACKEND_OPENSSL && session->internals)
                tls_facts_settled(&h->facts, session->internals);
        enter_stage(h, STAGE_HTTP);
        h->request_sent = true;
        return CURL_PREREQFUNC_OK;
}

static size_t on_header(char *line, size_t size, size_t count, void *userdata)
{
        struct probe_http *h = userdata;
        size_t length = size * count;

        h->progress_ms = probe_age_ms(&h->burst.probe);
        if (h->request_sent && result(h)->first_byte_ms == 0)
                result(h)->first_byte_ms = h->progress_ms;
        http_answer_add_line(&h->answer, line, length);
        /* An empty line ends the head; that of an interim answer is not the last. */
        if (h->request_sent && length > 0 && (line[0] == '\r' || line[0] == '\n'))
                h->head_complete = h->answer.status >= 200;
        return length;
}

static void keep_body(struct probe_http *h, const char *data, size_t length)
{
        size_t maximum = http_answer_is_problem(&h->answer) ? HTTP_ANSWER_PROBLEM_MAX : EXCERPT_MAX;
        size_t room = maximum > h->body_kept ? maximum - h->body_kept : 0;
        size_t kept = length < room ? length : room;

        if (kept == 0)
                return;
        h->body = xrealloc_array(h->body, h->body_kept + kept, 1);
        memcpy(h->body + h->body_kept, data, kept);
        h->body_kept += kept;
}

static size_t on_body(char *data, size_t size, size_t count, void *userdata)
{
        struct probe_http *h = userdata;
        struct measurement *m = result(h);
        const struct probe_spec *s = spec_of(h);
        size_t length = size * count;

        h->progress_ms = h->body_last_ms = probe_age_ms(&h->burst.probe);
        if (m->body_bytes == 0)
                h->body_first_ms = h->progress_ms;
        m->body_bytes += length;
        keep_body(h, data, length);
        if (m->body_bytes >= (uint64_t)s->expect_bytes + BODY_READ_MAX)
                h->has_enough = true;
        if (s->purpose == PURPOSE_PAYLOAD && h->answer.status == 200 && s->expect_bytes > 0 &&
                m->body_bytes >= s->expect_bytes)
                h->has_enough = true;
        return h->has_enough ? 0 : length; /* fewer than given ends the transfer */
}

static void set_callbacks(struct probe_http *h)
{
        curl_easy_setopt(h->easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
        curl_easy_setopt(h->easy, CURLOPT_OPENSOCKETDATA, h);
        curl_easy_setopt(h->easy, CURLOPT_SOCKOPTFUNCTION, on_opened);
        curl_easy_setopt(h->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close);
        curl_easy_setopt(h->easy, CURLOPT_CLOSESOCKETDATA, h);
        curl_easy_setopt(h->easy, CURLOPT_SSL_CTX_FUNCTION, on_context);
        curl_easy_setopt(h->easy, CURLOPT_SSL_CTX_DATA, h);
        curl_easy_setopt(h->easy, CURLOPT_PREREQFUNCTION, on_request);
        curl_easy_setopt(h->easy, CURLOPT_PREREQDATA, h);
        curl_easy_setopt(h->easy, CURLOPT_HEADERFUNCTION, on_header);
        curl_easy_setopt(h->easy, CURLOPT_HEADERDATA, h);
        curl_easy_setopt(h->easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(h->easy, CURLOPT_WRITEDATA, h);
        curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, h->error_text);
}

/* ---- time ---- */

/* Every stage is given the context's patience, and as much again while bytes come. A bulk transfer may go on
 * for as long as they do: the caller's budget bounds it. */
static double deadline_ms(struct probe_http *h)
{
        double patience_ms = h->burst.probe.context->patience_ms;
        double until_ms = (h->progress_ms > 0 ? h->progress_ms : h->phase_ms) + patience_ms;
        bool is_bounded = spec_of(h)->purpose != PURPOSE_PAYLOAD || result(h)->body_bytes == 0;

        if (is_bounded && until_ms > h->phase_ms + 2 * patience_ms)
                until_ms = h->phase_ms + 2 * patience_ms;
        return until_ms;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct probe_http *h = of(userdata);
        double left_ms = deadline_ms(h) - probe_age_ms(&h->burst.probe);

        (void)source, (void)usec;
        if (left_ms <= 0 || probe_timer(&h->burst.probe, &h->timer, left_ms, on_timer) < 0)
                finish(h, OUTCOME_TIMEOUT);
        return 0;
}

/* ---- the beginning ---- */

/* Hands the connection to libcurl. */
static int begin(struct probe_http *h)
{
        const struct http_engine_handlers handlers = {
                .on_done = on_done, .on_ready = on_ready, .userdata = h, .priority = h->burst.priority};
        struct probe_context *c = h->burst.probe.context;
        const struct probe_spec *s = spec_of(h);
        CURL *easy;
        int r;

        easy = curl_easy_init();
        if (!easy)
                return -ENOMEM;
        h->easy = easy;
        h->facts = (struct tls_facts){.m = result(h),
                .trust = c->trust,
                .host = s->verify_name[0] ? s->verify_name : s->name,
                .refuse_invalid_time = s->purpose != PURPOSE_TIME};
        http_request_apply(&h->request, s, easy);
        set_callbacks(h);
        h->tcp_state = TCP_ESTABLISHED;
        enter_stage(h, STAGE_HTTP);
        r = http_engine_add(c->http, easy, &handlers);
        return r < 0 ? r : probe_timer(&h->burst.probe, &h->timer, c->patience_ms, on_timer);
}

static void on_answer(struct probe *p, struct syn_try *settled)
{
        struct probe_http *h = of(p);
        int r;

        syn_burst_describe(&h->burst, settled);
        if (!settled || settled->answer != SYN_CONNECTED) {
                probe_finish(p, syn_try_outcome(settled));
                return;
        }
        settled->io = sd_event_source_disable_unref(settled->io);
        h->fd = TAKE_FD(settled->fd);
        syn_burst_stop(&h->burst);
        r = begin(h);
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
        struct probe_http *h = of(p);
        struct error error;
        int r;

        h->fd = -1;
        p->result->stage = STAGE_TCP;
        r = http_request_make(spec_of(h), &h->request, &error);
        if (r < 0) {
                p->result->error_text = xstrdup(error.text);
                probe_finish_errno(p, OUTCOME_LOCAL_ERROR, -r);
                return 0;
        }
        p->result->http_url = xstrdup(h->request.url);
        h->hop = *spec_of(h);
        h->hop.target = h->request.connect;
        h->burst.spec = &h->hop;
        h->burst.due_ms = due_ms;
        h->burst.patience_ms = patience_ms;
        h->burst.on_answer = on_answer;
        /* The longest chain of round trips goes first when several answers come at once. */
        h->burst.priority = spec_of(h)->purpose == PURPOSE_PAYLOAD ? PRIORITY_BULK : PRIORITY_REQUEST;
        r = syn_burst_start(&h->burst);
        /* libcurl is made ready while the SYN is on its way. */
        if (r == 0 && !p->context->http)
                r = http_engine_new(p->context->event, &p->context->http);
        return r;
}

const struct probe_class probe_http_class = {.kind = MEASUREMENT_HTTP,
        .size_bytes = sizeof(struct probe_http),
        .start = start,
        .snapshot = snapshot,
        .stop = stop};
