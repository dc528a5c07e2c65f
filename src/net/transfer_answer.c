/* What an attempt brings: the answer's head, where its body belongs, and what it means in the end. */
#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LONGEST_RETRY_MS 3600000.0
#define MOST_OF_REFUSAL  65536

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

static const char *take_number(const char *s, uint64_t *ret)
{
        char *end;

        if (*s < '0' || *s > '9')
                return NULL;
        errno = 0;
        *ret = strtoull(s, &end, 10);
        return errno ? NULL : end;
}

int content_range_parse(const char *s, uint64_t *ret_first, uint64_t *ret_size)
{
        uint64_t first = 0, last = 0, size = 0;
        bool has_range;

        if (strncasecmp(s, "bytes ", 6) != 0)
                return -EINVAL;
        s += 6 + strspn(s + 6, " ");
        has_range = *s != '*';
        if (!has_range)
                s++;
        else if (!(s = take_number(s, &first)) || *s++ != '-' || !(s = take_number(s, &last)))
                return -EINVAL;
        if (*s++ != '/' || !(s = take_number(s, &size)) || *s || size > INT64_MAX)
                return -EINVAL;
        if (has_range && (first > last || last >= size))
                return -EINVAL;
        *ret_first = has_range ? first : size;
        *ret_size = size;
        return 0;
}

/* Whether it is told where the body belongs; the whole size. */
static bool content_range(struct attempt *a, uint64_t *ret_first, uint64_t *ret_size)
{
        struct curl_header *h;

        return curl_easy_header(a->easy, "Content-Range", 0, CURLH_HEADER, -1, &h) == CURLHE_OK &&
               content_range_parse(h->value, ret_first, ret_size) == 0;
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

static bool fail_size(struct attempt *a, uint64_t size)
{
        https_failure_set(&a->failure, HTTPS_STAGE_HTTP, EPROTO, "http.wrong-size",
                "the server's file has %llu bytes and not %llu, as was told", (unsigned long long)size,
                (unsigned long long)a->transfer->request.size);
        return false;
}

/* Of a download that is accepted: where its first byte belongs, and how many there will be. */
static bool place_body(struct attempt *a)
{
        struct transfer *t = a->transfer;
        struct transfer_file *f = &t->file;
        curl_off_t announced = -1;
        uint64_t first = 0, size = 0;
        bool is_empty = false;
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
                is_empty = announced == 0;
        }
        /* What was begun anew meanwhile is resumed no more. */
        if (t->view.resumed > f->length)
                t->view.resumed = f->length;
        t->view.bytes = f->length;
        if (t->request.size && (size || is_empty) && size != t->request.size)
                return fail_size(a, size);
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

size_t answer_take_body(char *data, size_t size, size_t count, void *userdata)
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
        /* What a refusal says to people is not read to its end, which may never come. */
        if (a->is_refusal)
                return a->got < MOST_OF_REFUSAL ? length : 0;
        if (t->file.fd < 0)
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

size_t answer_give_body(char *buffer, size_t size, size_t count, void *userdata)
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

/* "repo.grid.example:443 at 192.0.2.1" */
static char *where(const struct attempt *a)
{
        char address[INET_ADDR_TEXT];

        if (a->engine->proxy)
                return xasprintf(
                        "%s:%u by the proxy %s", a->host, a->transfer->request.port, a->engine->proxy);
        return xasprintf("%s:%u at %s", a->host, a->to.port, inet_addr_format(&a->to.address, address));
}

static void fail_busy(struct attempt *a)
{
        _cleanup_free_ char *at = where(a);
        _cleanup_free_ char *patience = a->retry_after_ms > 0 ? xasprintf(", and asks for %.0f s of patience",
                                                                        a->retry_after_ms / 1000)
                                                              : xstrdup("");

        transfer_fail(a->transfer, "http", EAGAIN, NULL, false, "%s: http: status %d for %s%s", at, a->status,
                a->transfer->request.path, patience);
}

static const char *what_to_do(int status)
{
        switch (status) {
        case 301:
        case 302:
        case 303:
        case 307:
        case 308:
                return "; redirects are not followed: ask for that address, if it is the right one";
        case 401:
        case 403:
                return "; is this node registered, and with the organisation that owns it?";
        case 404:
        case 410:
                return "; there is no such file: is the path right?";
        default:
                return "; asking again would not mend it";
        }
}

static void fail_for_good(struct attempt *a)
{
        struct transfer *t = a->transfer;
        _cleanup_free_ char *at = where(a);
        int status = a->status, number;

        number = status == 404 || status == 410   ? ENOENT
                 : status == 401 || status == 403 ? EACCES
                                                  : EREMOTEIO;
        transfer_fail(t, "http", number, NULL, true, "%s: http: status %d for %s%s%s%s", at, status,
                t->request.path, t->location[0] ? ", to be found at " : "", t->location, what_to_do(status));
}

/* Nothing is left of what we ask for: whether that is because all is there. If-Range was asked, and a file
 * that had changed would have come whole. */
static bool is_all_there(struct attempt *a)
{
        const struct transfer *t = a->transfer;
        uint64_t first = 0, size = 0;

        if (a->offset == 0)
                return false;
        if (t->request.sha256 || (t->request.size && t->request.size == a->offset))
                return true;
        return (t->file.etag || t->file.last_modified) && content_range(a, &first, &size) &&
               size == a->offset;
}

static enum outcome of_status(struct attempt *a)
{
        struct transfer *t = a->transfer;
        curl_off_t wait_s = 0;

        if (a->status == 304 && (t->request.modified_since_unix || t->request.headers[0]))
                return OUTCOME_UNCHANGED;
        switch (a->status) {
        case 408:
        case 425:
        case 429:
        case 500:
        case 502:
        case 503:
        case 504:
                curl_easy_getinfo(a->easy, CURLINFO_RETRY_AFTER, &wait_s);
                a->retry_after_ms = fmin((double)wait_s * 1000, LONGEST_RETRY_MS);
                fail_busy(a);
                return OUTCOME_BUSY;
        case 416:
                /* Nothing is left of what we ask for; whether all is there, the hash or the size says. */
                transfer_fail(t, "http", ERANGE, NULL, false, "%s has no bytes from %llu on (416)",
                        t->request.host, (unsigned long long)a->offset);
                return is_all_there(a) ? OUTCOME_WHOLE : OUTCOME_WRONG;
        default:
                fail_for_good(a);
                return OUTCOME_FINAL;
        }
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
        _cleanup_free_ char *at = NULL;

        https_failure_curl(
                &a->failure, a->easy, code, a->error_text, a->reached, engine_now_ms() - a->began_ms);
        if (a->has_begun && a->failure.stage == HTTPS_STAGE_TLS)
                a->failure.stage = HTTPS_STAGE_HTTP;
        if (is_disk) {
                transfer_fail(t, "disk", a->failure.number, a->failure.code, true, "%s", a->failure.text);
                return OUTCOME_FINAL;
        }
        at = where(a);
        transfer_fail(t, name_of(a->failure.stage), a->failure.number, a->failure.code, false, "%s: %s: %s",
                at, name_of(a->failure.stage), a->failure.text);
        if (is_ours && a->failure.number == EFBIG && t->request.maximum_bytes) {
                t->view.failure.is_permanent = true;
                return OUTCOME_FINAL;
        }
        if (is_ours && a->failure.number != ETIMEDOUT)
                return OUTCOME_WRONG;
        round_note(t, name_of(a->failure.stage), a->failure.text);
        if (!a->has_begun)
                way_failed(a->engine, &a->to, t);
        return OUTCOME_WAY;
}

static enum outcome of_success(struct attempt *a)
{
        struct transfer *t = a->transfer;

        /* An empty body calls no callback. */
        if (!a->has_begun && !begin_body(a))
                return of_failure(a, CURLE_WRITE_ERROR);
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

enum outcome answer_judge(struct attempt *a, CURLcode code)
{
        if (code == CURLE_OK)
                return of_success(a);
        /* The status says it all, even where its text was cut. */
        if (a->has_begun && a->is_refusal)
                return of_status(a);
        return of_failure(a, code);
}
