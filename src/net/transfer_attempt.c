#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "net/dial.h"

#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define BUFFER_BYTES  65536L
#define LEAST_BUFFER  1024
#define LEAST_RECEIVE 16384

/* ---- dialling ---- */

/* A budget is kept by not reading: what the kernel takes in meanwhile must be little. */
static void bound_buffers(int fd, uint64_t limit)
{
        int bytes = (int)fmin(fmax((double)limit / 5, LEAST_RECEIVE), 4 << 20);

        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
        struct attempt *a = userdata;
        struct transfer_engine *e = a->engine;

        (void)purpose;
        a->fd = dial_socket(address, &e->source, e->device, &a->failure);
        if (a->fd < 0)
                return CURL_SOCKET_BAD;
        if (a->limit)
                bound_buffers(a->fd, a->limit);
        return a->fd;
}

/* The peer's chain, before a byte of the request is sent. */
static int judge(X509_STORE_CTX *context, void *userdata)
{
        struct attempt *a = userdata;
        STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(context);
        struct trust_verdict v;

        trust_judge(a->engine->trust, chain, a->host, time(NULL), &v);
        if (v.trusted && v.name_matches && v.time_valid)
                return 1;
        https_failure_verdict(&a->failure, &v, chain, a->host);
        X509_STORE_CTX_set_error(context, v.error);
        return 0;
}

static CURLcode set_context(CURL *easy, void *ssl_context, void *userdata)
{
        struct attempt *a = userdata;
        SSL_CTX *c = ssl_context;

        (void)easy;
        a->reached = HTTPS_STAGE_TLS;
        a->fd = -1; /* connected: libcurl may close it at any time */
        SSL_CTX_set_cert_verify_callback(c, judge, a);
        /* It would be judged again, long after this attempt is gone: the connection outlives it. */
        SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION);
        if (a->mutual)
                trust_offer_certificate(a->engine->trust, c);
        return CURLE_OK;
}

void attempt_dial(struct attempt *a, struct transfer_engine *e, const char *host, uint16_t port,
        const char *path, bool mutual)
{
        /* The URL keeps the port of the request: Host and cookies of the service do not depend on the way. */
        _cleanup_free_ char *url = dial_url(host, port, path);
        char endpoint[INET_ADDR_TEXT];
        CURL *c = curl_easy_init();

        if (!c)
                abort();
        a->engine = e;
        a->easy = c;
        a->host = host;
        a->mutual = mutual;
        a->fd = -1;
        a->reached = HTTPS_STAGE_TCP;
        a->limit = e->budget ? budget_limit(e->budget) : 0;
        dial_apply(c, e->proxy);
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_ERRORBUFFER, a->error_text);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, a);
        curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, set_context);
        curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, a);
        curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)(TCP_PATIENCE_MS + TLS_PATIENCE_MS));
        if (!e->proxy) {
                /* "any host, any port, to this endpoint": nothing is left to look up. */
                _cleanup_free_ char *entry = xasprintf("::%s", endpoint_format(&a->to, endpoint));

                a->connect_to = curl_slist_append(NULL, entry);
                curl_easy_setopt(c, CURLOPT_CONNECT_TO, a->connect_to);
        } else if (a->to.port && a->to.port != port) {
                _cleanup_free_ char *entry = xasprintf("::%s:%u", host, a->to.port);

                a->connect_to = curl_slist_append(NULL, entry);
                curl_easy_setopt(c, CURLOPT_CONNECT_TO, a->connect_to);
        }
}

void attempt_undial(struct attempt *a)
{
        curl_easy_cleanup(a->easy);
        curl_slist_free_all(a->headers);
        curl_slist_free_all(a->connect_to);
        a->easy = NULL;
        a->headers = a->connect_to = NULL;
}

static void free_attempt(struct transfer *t)
{
        struct attempt *a = t->attempt;

        t->attempt = NULL;
        attempt_undial(a);
        free(a);
}

static void on_done(CURL *easy, CURLcode code, void *userdata)
{
        struct attempt *a = userdata;
        struct transfer *t = a->transfer;
        enum outcome o = answer_judge(a, code);
        double retry_after_ms = a->retry_after_ms;

        (void)easy;
        /* Before the handle goes: libcurl's own headers die with it. */
        t->retry_after_ms = retry_after_ms;
        free_attempt(t);
        transfer_attempt_ended(t, o);
}

/* ---- the request ---- */

static void add_header(struct attempt *a, char *line /* taken */)
{
        a->headers = curl_slist_append(a->headers, line);
        if (!a->headers)
                abort();
        free(line);
}

static void add_range(struct attempt *a)
{
        struct transfer *t = a->transfer;
        struct transfer_file *f = &t->file;
        char range[32];

        /* Who answers now may have another file: nothing vouches for what came before. */
        if (f->length > 0 && !t->request.sha256 && !f->etag && !f->last_modified &&
                file_restart(f, NULL) == 0)
                t->view.bytes = t->view.resumed = 0;
        a->offset = f->length;
        if (f->length == 0)
                return;
        snprintf(range, sizeof(range), "%llu-", (unsigned long long)f->length);
        curl_easy_setopt(a->easy, CURLOPT_RANGE, range);
        if (f->etag)
                add_header(a, xasprintf("If-Range: %s", f->etag));
        else if (f->last_modified)
                add_header(a, xasprintf("If-Range: %s", f->last_modified));
}

static void add_date(struct attempt *a)
{
        int64_t when = a->transfer->request.modified_since_unix;
        char date[32];

        time_format_http(when, date);
        if (when > 0 && date[0])
                add_header(a, xasprintf("If-Modified-Since: %s", date));
}

/* libcurl fills its buffer up to a hundred times before it returns to the loop, as long as there is something
 * to read: by a near server, that is what a budget is overdrawn by. */
static long buffer_bytes(uint64_t limit)
{
        return limit ? (long)fmin(fmax((double)limit / 4 / 100, LEAST_BUFFER), BUFFER_BYTES) : BUFFER_BYTES;
}

static void apply_request(struct attempt *a)
{
        const struct transfer_request *r = &a->transfer->request;
        CURL *c = a->easy;

        add_header(a, xstrdup("Expect:"));
        add_header(a, xstrdup("Accept-Encoding: identity"));
        for (size_t i = 0; r->headers && r->headers[i]; i++)
                add_header(a, xstrdup(r->headers[i]));
        if (r->body_path) {
                curl_easy_setopt(c, CURLOPT_UPLOAD, 1L);
                curl_easy_setopt(c, CURLOPT_READFUNCTION, answer_give_body);
                curl_easy_setopt(c, CURLOPT_READDATA, a);
                curl_easy_setopt(c, CURLOPT_INFILESIZE_LARGE, (curl_off_t)r->body_length);
        } else if (a->transfer->file.fd >= 0)
                add_range(a);
        if (str_equal(r->method, "HEAD"))
                curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        else if (r->method)
                curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
        add_date(a);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, a->headers);
        curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
        curl_easy_setopt(c, CURLOPT_PIPEWAIT, 1L);
        curl_easy_setopt(c, CURLOPT_BUFFERSIZE, buffer_bytes(a->limit));
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, answer_take_body);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
        /* A connection of before may be dead without anybody knowing. */
        if (a->transfer->view.attempts > 1 || a->transfer->is_anew)
                curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
}

int attempt_start(struct transfer *t, const struct endpoint *to)
{
        struct attempt *a = t->attempt = xcalloc(1, sizeof(*a));
        struct http_engine *http = lane_http(t->engine, t->request.priority);
        struct http_engine_handlers h = {.on_done = on_done, .userdata = a};
        int r;

        a->transfer = t;
        a->to = *to;
        a->began_ms = engine_now_ms();
        attempt_dial(a, t->engine, t->request.host, t->request.port, t->request.path, t->request.mutual);
        apply_request(a);
        t->is_anew = false;
        r = http ? http_engine_add(http, a->easy, &h) : -ENOMEM;
        if (r < 0)
                free_attempt(t);
        return r;
}

void attempt_stop(struct transfer *t)
{
        if (!t->attempt)
                return;
        http_engine_remove(lane_http(t->engine, t->request.priority), t->attempt->easy);
        free_attempt(t);
}

/* ---- patience ---- */

static bool is_connected(int fd)
{
        struct tcp_info info;
        socklen_t length = sizeof(info);

        return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 || info.tcpi_state != TCP_SYN_SENT;
}

/* Of a connection that others made, or are making, it is not known how far it is. */
static enum https_stage stage_now(const struct attempt *a)
{
        return a->has_begun || (a->reached == HTTPS_STAGE_TCP && a->fd < 0) ? HTTPS_STAGE_HTTP : a->reached;
}

/* As if libcurl had said so. */
static void end_by(struct transfer *t, enum https_stage stage, const char *code, char *text /* taken */)
{
        struct attempt *a = t->attempt;
        enum outcome o;

        https_failure_set(&a->failure, stage, ETIMEDOUT, code, "%s", text);
        free(text);
        o = answer_judge(a, CURLE_OPERATION_TIMEDOUT);
        /* Its connection may be dead, and the next transfer would wait on it in vain. */
        curl_easy_setopt(a->easy, CURLOPT_FORBID_REUSE, 1L);
        way_failed(t->engine, &a->to, t);
        attempt_stop(t);
        transfer_attempt_ended(t, o);
}

/* The buffers of the socket fit the old limit. */
static void start_anew(struct transfer *t)
{
        struct endpoint to = t->attempt->to;

        curl_easy_setopt(t->attempt->easy, CURLOPT_FORBID_REUSE, 1L);
        attempt_stop(t);
        t->is_anew = true;
        if (attempt_start(t, &to) < 0)
                transfer_try_now(t);
}

/* In the first round, the next address is tried soon: one that is dead must not cost seconds. */
static double tcp_patience_ms(const struct transfer *t)
{
        return t->rounds == 0 && t->round.next < t->round.count ? FIRST_TCP_PATIENCE_MS : TCP_PATIENCE_MS;
}

static bool is_too_slow(struct transfer *t, double now_ms)
{
        uint64_t minimum = t->request.minimum_bytes_per_second;
        bool is_slow = !t->was_held && t->minute_bytes < minimum * 60;

        if (!minimum || now_ms - t->minute_began_ms <= 60000)
                return false;
        t->minute_began_ms = now_ms;
        t->minute_bytes = 0;
        t->was_held = false;
        return is_slow;
}

void attempt_tick(struct transfer *t, double now_ms)
{
        struct attempt *a = t->attempt;
        const struct transfer_request *r = &t->request;
        uint64_t limit = t->engine->budget ? budget_limit(t->engine->budget) : 0;

        if (a->reached == HTTPS_STAGE_TCP && a->fd >= 0 && now_ms - a->began_ms > tcp_patience_ms(t) &&
                !is_connected(a->fd))
                end_by(t, HTTPS_STAGE_TCP, "tcp.timeout", xstrdup("no answer to SYN"));
        else if (transfer_has_no_way(t, now_ms))
                end_by(t, stage_now(a), "transfer.cut",
                        t->alive_bytes ? xasprintf("slower than %llu bytes/s for %.0f s",
                                                 (unsigned long long)r->minimum_bytes_per_second,
                                                 r->no_way_ms / 1000)
                                       : xasprintf("nothing came for %.0f s", r->no_way_ms / 1000));
        else if (now_ms - t->last_moved_ms > r->stall_ms)
                end_by(t, stage_now(a), "transfer.cut",
                        xasprintf("nothing moved for %.0f s", r->stall_ms / 1000));
        else if (is_too_slow(t, now_ms))
                end_by(t, HTTPS_STAGE_HTTP, "transfer.cut",
                        xasprintf("slower than %llu bytes/s for a minute",
                                (unsigned long long)r->minimum_bytes_per_second));
        else if (limit != a->limit && a->has_begun && !r->body_path)
                start_anew(t);
}
