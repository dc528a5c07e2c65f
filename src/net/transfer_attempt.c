#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "net/dial.h"

#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TURN_BYTES       65536.0 /* of the budget, taken ahead */
#define BUFFER_BYTES     65536L
#define LEAST_RECEIVE    16384
#define LONGEST_RETRY_MS 3600000.0

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

/* ---- what comes ---- */

static void keep_header(struct attempt *a, const char *name, char *ret, size_t size_bytes)
{
        struct curl_header *h;

        ret[0] = '\0';
        if (curl_easy_header(a->easy, name, 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
                strlen(h->value) < size_bytes)
                str_copy(ret, size_bytes, h->value);
}

static void look_at_head(struct attempt *a)
{
        struct transfer *t = a->transfer;
        long status = 0;

        a->has_begun = true;
        curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
        a->status = (int)status;
        a->is_refusal = status < 200 || status >= 300;
        keep_header(a, "ETag", t->etag, sizeof(t->etag));
        keep_header(a, "Last-Modified", t->last_modified, sizeof(t->last_modified));
        keep_header(a, "Content-Type", t->content_type, sizeof(t->content_type));
        keep_header(a, "Location", t->location, sizeof(t->location));
        keep_header(a, "Range", t->range, sizeof(t->range));
        t->last_modified_unix = 0;
        if (t->last_modified[0]) {
                time_t when = curl_getdate(t->last_modified, NULL);

                t->last_modified_unix = when < 0 ? 0 : when;
        }
        t->view.way = a->to.port;
        way_worked(a->engine, t->request.host, t->request.port, &a->to);
}

/* "bytes 1000-1999/2000": whether it goes on where we are; the whole size. */
static bool content_range(struct attempt *a, uint64_t *ret_first, uint64_t *ret_size)
{
        unsigned long long first = 0, last = 0, size = 0;
        struct curl_header *h;

        if (curl_easy_header(a->easy, "Content-Range", 0, CURLH_HEADER, -1, &h) != CURLHE_OK ||
                sscanf(h->value, "bytes %llu-%llu/%llu", &first, &last, &size) != 3)
                return false;
        *ret_first = first;
        *ret_size = size;
        return first <= last && last < size;
}

static bool fail_http(struct attempt *a, int number, const char *code, const char *text)
{
        https_failure_set(&a->failure, HTTPS_STAGE_HTTP, number, code, "%s", text);
        return false;
}

static bool fail_disk(struct attempt *a, const struct error *e)
{
        https_failure_set(&a->failure, HTTPS_STAGE_HTTP, e->number, e->code, "%s", e->text);
        return false;
}

/* Of a download that is accepted: where its first byte belongs, and how many there will be. */
static bool place_body(struct attempt *a)
{
        struct transfer *t = a->transfer;
        struct transfer_file *f = &t->file;
        curl_off_t announced = -1;
        uint64_t first = 0, size = 0;
        struct error e;

        curl_easy_getinfo(a->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
        if (a->status == 206) {
                if (!content_range(a, &first, &size) || first != f->length)
                        return fail_http(a, EPROTO, "http.wrong-range",
                                "the server sent another range than was asked for");
        } else {
                if (f->length > 0 && file_restart(f, &e) < 0)
                        return fail_disk(a, &e);
                size = announced > 0 ? (uint64_t)announced : 0;
        }
        /* What was begun anew meanwhile is resumed no more. */
        if (t->view.resumed > f->length)
                t->view.resumed = f->length;
        t->view.bytes = f->length;
        if (t->request.size && size && size != t->request.size)
                return fail_http(
                        a, EPROTO, "http.wrong-size", "the server's file has another size than was told");
        t->view.size = t->request.size ? t->request.size : size;
        if (t->request.maximum_bytes && t->view.size > t->request.maximum_bytes)
                return fail_http(a, EFBIG, "http.too-large", "the server's file is larger than is allowed");
        file_set_validator(f, t->etag[0] ? t->etag : NULL, t->last_modified[0] ? t->last_modified : NULL);
        return true;
}

static bool begin_body(struct attempt *a)
{
        struct transfer *t = a->transfer;

        look_at_head(a);
        if (a->is_refusal || t->request.answer_maximum > 0 || t->file.fd < 0)
                return true;
        if (!place_body(a))
                return false;
        transfer_begun(t);
        return true;
}

static bool keep_answer(struct attempt *a, const void *data, size_t length)
{
        struct transfer *t = a->transfer;

        if (length > t->request.answer_maximum - t->body_length)
                return fail_http(a, EFBIG, "http.too-large", "the answer is longer than is allowed");
        memcpy(t->body + t->body_length, data, length);
        t->body_length += length;
        t->body[t->body_length] = '\0';
        return true;
}

static size_t take_body(char *data, size_t size, size_t count, void *userdata)
{
        struct attempt *a = userdata;
        struct transfer *t = a->transfer;
        size_t length = size * count;
        struct error e;

        if (!a->has_begun && !begin_body(a))
                return 0;
        a->got += length;
        transfer_moved(t, length, !a->is_refusal);
        if (t->request.answer_maximum > 0)
                return keep_answer(a, data, length) ? length : 0;
        if (a->is_refusal || t->file.fd < 0)
                return length;
        if ((t->view.size && length > t->view.size - t->file.length) ||
                (t->request.maximum_bytes && t->file.length + length > t->request.maximum_bytes)) {
                fail_http(a, EFBIG, "http.wrong-size", "the server sent more than it had told");
                return 0;
        }
        if (file_append(&t->file, data, length, &e) < 0) {
                fail_disk(a, &e);
                return 0;
        }
        t->view.bytes = t->file.length;
        return length;
}

static size_t give_body(char *buffer, size_t size, size_t count, void *userdata)
{
        struct attempt *a = userdata;
        struct transfer *t = a->transfer;
        uint64_t left = t->request.body_length - t->sent;
        size_t wanted = size * count < left ? size * count : (size_t)left;
        ssize_t n = pread(t->body_fd, buffer, wanted, (off_t)(t->request.body_offset + t->sent));

        if (n < 0 || (n == 0 && wanted > 0)) {
                https_failure_set(&a->failure, HTTPS_STAGE_HTTP, n < 0 ? errno : EIO, "disk.failed", "%s: %s",
                        t->request.body_path, n < 0 ? strerror(errno) : "it became shorter meanwhile");
                return CURL_READFUNC_ABORT;
        }
        t->sent += (uint64_t)n;
        t->view.bytes = t->sent;
        transfer_moved(t, (size_t)n, true);
        return (size_t)n;
}

/* ---- how it ended ---- */

static enum outcome of_status(struct attempt *a)
{
        struct transfer *t = a->transfer;
        curl_off_t wait_s = 0;

        switch (a->status) {
        case 304:
                return OUTCOME_UNCHANGED;
        case 408:
        case 425:
        case 429:
        case 500:
        case 502:
        case 503:
        case 504:
                curl_easy_getinfo(a->easy, CURLINFO_RETRY_AFTER, &wait_s);
                a->retry_after_ms = fmin((double)wait_s * 1000, LONGEST_RETRY_MS);
                transfer_fail(t, "http", EAGAIN, NULL, false, "%s answers with status %d", t->request.host,
                        a->status);
                return OUTCOME_BUSY;
        case 416:
                /* Nothing is left of what we ask for; whether all is there, the hash or the size says. */
                transfer_fail(t, "http", ERANGE, NULL, false, "%s has no bytes from %llu on (416)",
                        t->request.host, (unsigned long long)a->offset);
                return a->offset > 0 && (t->request.sha256 ||
                                                (t->request.size && t->request.size == a->offset))
                               ? OUTCOME_WHOLE
                               : OUTCOME_WRONG;
        default:
                transfer_fail(t, "http",
                        a->status == 404 || a->status == 410   ? ENOENT
                        : a->status == 401 || a->status == 403 ? EACCES
                                                               : EREMOTEIO,
                        NULL, true, "%s answers %s with status %d%s%s", t->request.host, t->request.path,
                        a->status, t->location[0] ? ", to be found at " : "", t->location);
                return OUTCOME_FINAL;
        }
}

static enum outcome of_success(struct attempt *a)
{
        struct transfer *t = a->transfer;

        /* An empty body calls no callback. */
        if (!a->has_begun && !begin_body(a)) {
                transfer_fail(t, "http", a->failure.number, a->failure.code, false, "%s", a->failure.text);
                return OUTCOME_WRONG;
        }
        t->view.failure.http_status = a->status;
        if (a->is_refusal)
                return of_status(a);
        if (t->file.fd >= 0 && t->view.size && t->file.length != t->view.size) {
                transfer_fail(t, "http", EPROTO, "transfer.cut", false,
                        "%s ended the body at byte %llu of %llu", t->request.host,
                        (unsigned long long)t->file.length, (unsigned long long)t->view.size);
                return OUTCOME_WAY;
        }
        return OUTCOME_WHOLE;
}

static const char *name_of(enum https_stage s)
{
        return s == HTTPS_STAGE_TLS     ? "tls"
               : s == HTTPS_STAGE_HTTP  ? "http"
               : s == HTTPS_STAGE_PROXY ? "proxy"
                                        : "tcp";
}

static enum outcome of_failure(struct attempt *a, CURLcode code)
{
        struct transfer *t = a->transfer;
        bool is_disk = a->failure.code && str_starts_with(a->failure.code, "disk.");
        bool is_ours = a->failure.stage == HTTPS_STAGE_HTTP && !is_disk;
        char address[INET_ADDR_TEXT];

        https_failure_curl(
                &a->failure, a->easy, code, a->error_text, a->reached, engine_now_ms() - a->began_ms);
        if (a->has_begun && a->failure.stage == HTTPS_STAGE_TLS)
                a->failure.stage = HTTPS_STAGE_HTTP;
        if (is_disk) {
                transfer_fail(t, "disk", a->failure.number, a->failure.code, true, "%s", a->failure.text);
                return OUTCOME_FINAL;
        }
        transfer_fail(t, name_of(a->failure.stage), a->failure.number, a->failure.code, false,
                "%s:%u%s%s: %s: %s", t->request.host, a->to.port, a->engine->proxy ? " by " : " at ",
                a->engine->proxy ? a->engine->proxy : inet_addr_format(&a->to.address, address),
                name_of(a->failure.stage), a->failure.text);
        if (is_ours && a->failure.number == EFBIG && t->request.maximum_bytes) {
                t->view.failure.is_permanent = true;
                return OUTCOME_FINAL;
        }
        if (is_ours && a->failure.number != ETIMEDOUT)
                return OUTCOME_WRONG;
        if (!a->has_begun)
                way_failed(a->engine, &a->to);
        return OUTCOME_WAY;
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
        enum outcome o = code == CURLE_OK ? of_success(a) : of_failure(a, code);
        double retry_after_ms = a->retry_after_ms;

        (void)easy;
        /* Before the handle goes: libcurl's own headers die with it. */
        t->retry_after_ms = retry_after_ms;
        free_attempt(t);
        transfer_attempt_ended(t, o);
}

/* ---- the budget ---- */

static double on_turn(void *userdata)
{
        struct attempt *a = userdata;
        struct transfer *t = a->transfer;
        struct budget *b = a->engine->budget;
        double wait_ms = 0, now_ms = engine_now_ms();

        if (!b || t->credit > 0)
                return 0;
        t->credit += (double)budget_take(
                b, t->request.priority, (size_t)(TURN_BYTES - t->credit), now_ms, &wait_ms);
        if (t->credit > 0)
                return 0;
        /* That nothing moves now is ours, and not the way's. */
        t->last_moved_ms = now_ms;
        transfer_alive(t, now_ms);
        t->was_held = true;
        return fmax(wait_ms, 1);
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
                curl_easy_setopt(c, CURLOPT_READFUNCTION, give_body);
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
        curl_easy_setopt(c, CURLOPT_BUFFERSIZE, BUFFER_BYTES);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
        /* A connection of before may be dead without anybody knowing. */
        if (a->transfer->view.attempts > 1)
                curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
}

int attempt_start(struct transfer *t, const struct endpoint *to)
{
        struct attempt *a = t->attempt = xcalloc(1, sizeof(*a));
        struct http_engine_handlers h = {.on_done = on_done, .on_turn = on_turn, .userdata = a};
        int r;

        a->transfer = t;
        a->to = *to;
        a->began_ms = engine_now_ms();
        attempt_dial(a, t->engine, t->request.host, t->request.port, t->request.path, t->request.mutual);
        apply_request(a);
        r = http_engine_add(t->engine->http, a->easy, &h);
        if (r < 0)
                free_attempt(t);
        return r;
}

void attempt_stop(struct transfer *t)
{
        if (!t->attempt)
                return;
        http_engine_remove(t->engine->http, t->attempt->easy);
        free_attempt(t);
}

/* ---- patience ---- */

static bool is_connected(int fd)
{
        struct tcp_info info;
        socklen_t length = sizeof(info);

        return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0 || info.tcpi_state != TCP_SYN_SENT;
}

/* As if libcurl had said so. */
static void end_by(struct transfer *t, enum https_stage stage, const char *code, char *text /* taken */)
{
        struct attempt *a = t->attempt;
        enum outcome o;

        https_failure_set(&a->failure, stage, ETIMEDOUT, code, "%s", text);
        free(text);
        o = of_failure(a, CURLE_OPERATION_TIMEDOUT);
        attempt_stop(t);
        transfer_attempt_ended(t, o);
}

/* The buffers of the socket fit the old limit. */
static void start_anew(struct transfer *t)
{
        struct endpoint to = t->attempt->to;

        attempt_stop(t);
        if (attempt_start(t, &to) < 0)
                transfer_try_now(t);
}

void attempt_tick(struct transfer *t, double now_ms)
{
        struct attempt *a = t->attempt;
        const struct transfer_request *r = &t->request;
        uint64_t limit = t->engine->budget ? budget_limit(t->engine->budget) : 0;

        if (a->reached == HTTPS_STAGE_TCP && a->fd >= 0 && now_ms - a->began_ms > TCP_PATIENCE_MS &&
                !is_connected(a->fd))
                end_by(t, HTTPS_STAGE_TCP, "tcp.timeout",
                        xasprintf("no answer to SYN within %.0f s", TCP_PATIENCE_MS / 1000));
        else if (transfer_has_no_way(t, now_ms))
                end_by(t, a->has_begun ? HTTPS_STAGE_HTTP : a->reached, "transfer.cut",
                        t->alive_bytes ? xasprintf("slower than %llu bytes/s for %.0f s",
                                                 (unsigned long long)r->minimum_bytes_per_second,
                                                 r->no_way_ms / 1000)
                                       : xasprintf("nothing came for %.0f s", r->no_way_ms / 1000));
        else if (now_ms - t->last_moved_ms > r->stall_ms)
                end_by(t, a->has_begun ? HTTPS_STAGE_HTTP : a->reached, "transfer.cut",
                        xasprintf("nothing moved for %.0f s", r->stall_ms / 1000));
        else if (r->minimum_bytes_per_second && now_ms - t->minute_began_ms > 60000) {
                bool is_slow = !t->was_held && t->minute_bytes < r->minimum_bytes_per_second * 60;

                t->minute_began_ms = now_ms;
                t->minute_bytes = 0;
                t->was_held = false;
                if (is_slow)
                        end_by(t, HTTPS_STAGE_HTTP, "transfer.cut",
                                xasprintf("slower than %llu bytes/s for a minute",
                                        (unsigned long long)r->minimum_bytes_per_second));
        } else if (limit != a->limit && a->has_begun && !r->body_path)
                start_anew(t);
}
