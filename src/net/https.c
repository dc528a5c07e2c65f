#include "net/https.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "net/dial.h"
#include "net/https_failure.h"

#include <curl/curl.h>
#include <errno.h>
#include <openssl/err.h>
#include <string.h>

#define HEAD_MAX_BYTES ((size_t)64 << 10)
#define LEAST_SHARE_MS 1
#define MAX_CODE_BYTES 48
#define MAX_CODES      32

DEFINE_CLEANUP(CURL *, curl_easy_cleanup);

static void free_list(struct curl_slist **p)
{
        curl_slist_free_all(*p);
}

/* One attempt at one address. */
struct attempt {
        const struct https_request *request;
        CURL *easy;
        struct https_failure failure; /* what our callbacks saw go wrong */
        enum https_stage reached;
        char *body; /* always terminated, once there is any */
        size_t length, allocated;
        size_t head_bytes;
};

void https_answer_done(struct https_answer *a)
{
        free(a->body);
        free(a->content_type);
        free(a->etag);
        *a = (struct https_answer){0};
}

/* ---- callbacks ---- */

static curl_socket_t open_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
        struct attempt *a = userdata;
        int fd = dial_socket(address, &a->request->source, a->request->device, &a->failure);

        (void)purpose;
        return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* libcurl's own times say that a connection was made only when TLS is through, too. */
static int close_socket(void *userdata, curl_socket_t fd)
{
        struct attempt *a = userdata;
        struct sockaddr_storage sa;
        socklen_t length = sizeof(sa);

        if (a->reached == HTTPS_STAGE_TCP && getpeername(fd, (struct sockaddr *)&sa, &length) == 0)
                a->reached = a->request->proxy ? HTTPS_STAGE_PROXY : HTTPS_STAGE_TLS;
        return close(fd);
}

/* The peer's chain, before a byte of the request is sent. */
static int judge(X509_STORE_CTX *context, void *userdata)
{
        struct attempt *a = userdata;
        STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(context);
        struct trust_verdict v;

        if (!a->request->trust)
                return 1;
        trust_judge(a->request->trust, chain, a->request->host, time(NULL), &v);
        if (v.trusted && v.name_matches && v.time_valid)
                return 1;
        https_failure_verdict(&a->failure, &v, chain, a->request->host);
        X509_STORE_CTX_set_error(context, v.error);
        return 0;
}

static CURLcode set_context(CURL *easy, void *ssl_context, void *userdata)
{
        struct attempt *a = userdata;
        SSL_CTX *c = ssl_context;

        (void)easy;
        a->reached = HTTPS_STAGE_TLS;
        SSL_CTX_set_cert_verify_callback(c, judge, a);
        if (a->request->mutual && a->request->trust)
                trust_offer_certificate(a->request->trust, c);
        return CURLE_OK;
}

static size_t take_body(char *data, size_t size, size_t count, void *userdata)
{
        struct attempt *a = userdata;
        size_t length = size * count;

        if (length > a->request->maximum_bytes - a->length) {
                https_failure_set(&a->failure, HTTPS_STAGE_HTTP, EFBIG, "http.too-large",
                        "the answer is longer than %zu bytes", a->request->maximum_bytes);
                return 0;
        }
        if (a->length + length >= a->allocated) {
                a->allocated = 2 * (a->length + length) + 1;
                a->body = xrealloc_array(a->body, a->allocated, 1);
        }
        memcpy(a->body + a->length, data, length);
        a->length += length;
        a->body[a->length] = '\0';
        return length;
}

static size_t take_head(char *data, size_t size, size_t count, void *userdata)
{
        struct attempt *a = userdata;
        size_t length = size * count;

        (void)data;
        a->head_bytes += length;
        if (a->head_bytes <= HEAD_MAX_BYTES)
                return length;
        https_failure_set(&a->failure, HTTPS_STAGE_HTTP, EFBIG, "http.too-large",
                "the head of the answer is longer than %zu bytes", HEAD_MAX_BYTES);
        return 0;
}

/* ---- what to ask ---- */

static bool is_printable(const char *s)
{
        for (; *s; s++)
                if (*s <= ' ' || *s > '~')
                        return false;
        return true;
}

static int check_request(const struct https_request *r, struct error *ret_error)
{
        struct inet_addr literal;

        if (inet_addr_parse(r->host, &literal) < 0 && !str_is_host_name(r->host))
                return error_set(ret_error, EINVAL, "http.bad-name", "'%.253s' is no host name", r->host);
        if (r->path[0] != '/' || !is_printable(r->path))
                return error_set(ret_error, EINVAL, "http.bad-path", "'%.253s' is no path", r->path);
        if (r->etag && !is_printable(r->etag))
                return error_set(ret_error, EINVAL, "http.bad-etag", "an ETag holds bytes that it must not");
        if (!r->proxy && r->address_count == 0)
                return error_set(
                        ret_error, EHOSTUNREACH, "dns.no-address", "no address of %s is known", r->host);
        return 0;
}

static struct curl_slist *make_headers(const struct https_request *r)
{
        struct curl_slist *list =
                curl_slist_append(NULL, "Accept: application/json, application/problem+json");

        list = curl_slist_append(list, "Expect:");
        if (r->body)
                list = curl_slist_append(list, "Content-Type: application/json");
        if (r->etag) {
                _cleanup_free_ char *line = xasprintf("If-None-Match: %s", r->etag);

                list = curl_slist_append(list, line);
        }
        if (!list)
                abort();
        return list;
}

static void apply_callbacks(struct attempt *a)
{
        CURL *c = a->easy;

        curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, open_socket);
        curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, a);
        curl_easy_setopt(c, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
        curl_easy_setopt(c, CURLOPT_CLOSESOCKETDATA, a);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_body);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, a);
        curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take_head);
        curl_easy_setopt(c, CURLOPT_HEADERDATA, a);
}

static void apply_request(struct attempt *a, const struct curl_slist *headers, double share_ms)
{
        const struct https_request *r = a->request;
        _cleanup_free_ char *url = dial_url(r->host, r->port, r->path);
        CURL *c = a->easy;

        dial_apply(c, r->proxy);
        curl_easy_setopt(c, CURLOPT_URL, url);
        curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(c, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)share_ms);
        if (r->body) {
                curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE, (long)strlen(r->body));
                curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body);
        }
        if (str_equal(r->method, "HEAD"))
                curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
        else
                curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
        curl_easy_setopt(c, CURLOPT_SSL_CTX_FUNCTION, set_context);
        curl_easy_setopt(c, CURLOPT_SSL_CTX_DATA, a);
        apply_callbacks(a);
}

/* ---- asking ---- */

static char *take_header(CURL *easy, const char *name)
{
        struct curl_header *h;

        if (curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &h) != CURLHE_OK)
                return NULL;
        return str_excerpt(h->value, strlen(h->value), 255);
}

static void take_answer(struct attempt *a, const struct endpoint *where, struct https_answer *ret)
{
        long status = 0;

        curl_easy_getinfo(a->easy, CURLINFO_RESPONSE_CODE, &status);
        *ret = (struct https_answer){.status = (int)status,
                .body = a->body ? TAKE_PTR(a->body) : xstrdup(""),
                .length = a->length,
                .content_type = take_header(a->easy, "Content-Type"),
                .etag = take_header(a->easy, "ETag"),
                .address = *where};
}

/* `to` is where the connection goes: the address, or nothing with a proxy. */
static bool ask(const struct https_request *r, const struct endpoint *to, double share_ms,
        struct https_answer *ret, struct https_failure *ret_failure)
{
        _cleanup_(curl_easy_cleanup_p) CURL *easy = curl_easy_init();
        _cleanup_(free_list) struct curl_slist *headers = make_headers(r), *connect_to = NULL;
        char endpoint[INET_ADDR_TEXT], text[CURL_ERROR_SIZE] = "";
        struct attempt a = {.request = r, .easy = easy, .reached = HTTPS_STAGE_TCP};
        CURLcode code;

        if (!easy)
                abort();
        apply_request(&a, headers, share_ms);
        curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
        if (!r->proxy) {
                /* "any host, any port, to this address": nothing is left to look up. */
                _cleanup_free_ char *entry = xasprintf("::%s", endpoint_format(to, endpoint));

                connect_to = curl_slist_append(NULL, entry);
                curl_easy_setopt(easy, CURLOPT_CONNECT_TO, connect_to);
        }
        code = curl_easy_perform(easy);
        if (code == CURLE_OK)
                take_answer(&a, to, ret);
        else
                https_failure_curl(&a.failure, easy, code, text, a.reached, share_ms);
        free(a.body);
        *ret_failure = a.failure;
        return code == CURLE_OK;
}

static void describe(const struct https_request *r, const struct endpoint *to, char ret[256])
{
        char address[INET_ADDR_TEXT];

        if (r->proxy)
                snprintf(ret, 256, "by the proxy %.200s", r->proxy);
        else
                snprintf(ret, 256, "%s", inet_addr_format(&to->address, address));
}

static int try_all(
        const struct https_request *r, size_t count, struct https_answer *ret, struct error *ret_error)
{
        _cleanup_free_ struct https_failure *failures = xcalloc(count, sizeof(*failures));
        struct strv where = {0};
        double end_ms = clock_monotonic_ms() + r->timeout_ms;
        int result = -EIO;

        for (size_t i = 0; i < count; i++) {
                struct endpoint to = {.port = r->port};
                double share_ms = (end_ms - clock_monotonic_ms()) / (double)(count - i);
                char place[256];

                if (!r->proxy)
                        to.address = r->addresses[i];
                describe(r, &to, place);
                strv_add(&where, place);
                if (ask(r, &to, share_ms > LEAST_SHARE_MS ? share_ms : LEAST_SHARE_MS, ret, &failures[i])) {
                        result = 0;
                        break;
                }
        }
        if (result < 0)
                result = https_failure_report(
                        failures, (const char *const *)where.items, count, r->host, r->port, ret_error);
        strv_done(&where);
        return result;
}

int https_exchange(const struct https_request *r, struct https_answer *ret, struct error *ret_error)
{
        static bool is_ready;
        int e = check_request(r, ret_error);

        if (e == 0 && r->proxy)
                e = dial_check_proxy(r->proxy, ret_error);
        if (e < 0)
                return e;
        /* Never undone: curl_global_cleanup would take OpenSSL's state with it, which others use too. */
        if (!is_ready && curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return error_set(ret_error, ENOMEM, "http.failed", "libcurl does not start");
        is_ready = true;
        return try_all(r, r->proxy ? 1 : r->address_count, ret, ret_error);
}

/* ---- problems ---- */

static int number_for(int status)
{
        switch (status) {
        case 401:
                return EACCES;
        case 403:
                return EPERM;
        case 404:
                return ENOENT;
        case 409:
                return EEXIST;
        case 410:
                return ESTALE;
        case 429:
        case 503:
                return EAGAIN;
        }
        return EREMOTEIO;
}

/* An error's code lasts; those that are not known yet are kept as long as there is room. */
static const char *keep_code(const char *code)
{
        static char kept[MAX_CODES][MAX_CODE_BYTES];
        size_t i = 0;

        while (i < MAX_CODES && kept[i][0] && !str_equal(kept[i], code))
                i++;
        if (i == MAX_CODES)
                return "http.error";
        str_copy(kept[i], sizeof(kept[i]), code);
        return kept[i];
}

static bool is_code(const char *s)
{
        return s && *s && strlen(s) < MAX_CODE_BYTES &&
               strspn(s, "abcdefghijklmnopqrstuvwxyz.-") == strlen(s);
}

static char *printable_member(const json_t *object, const char *name)
{
        const char *s = json_string_value(json_object_get(object, name));

        return s ? str_excerpt(s, strlen(s), 300) : NULL;
}

int https_problem(const struct https_request *r, const struct https_answer *a, struct error *ret_error)
{
        _cleanup_free_ char *title = NULL, *detail = NULL;
        json_t *problem = NULL;
        const char *code = NULL;
        char status[32];

        snprintf(status, sizeof(status), "http.%d", a->status);
        if (a->content_type && str_starts_with(a->content_type, "application/problem+json") &&
                json_parse(a->body, a->length, HEAD_MAX_BYTES, "problem", &problem, NULL) == 0) {
                code = json_string_value(json_object_get(problem, "code"));
                title = printable_member(problem, "title");
                detail = printable_member(problem, "detail");
        }
        error_set(ret_error, number_for(a->status), keep_code(is_code(code) ? code : status),
                "%s says: %s%s%s (%d)", r->host, title ? title : "no reason", detail ? ": " : "",
                detail ? detail : "", a->status);
        json_decref(problem);
        return -number_for(a->status);
}
