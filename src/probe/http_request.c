#include "probe/http_request.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/version.h"

#include <errno.h>
#include <string.h>

/* libcurl allocates it for each transfer; only bulk data gains by more. */
#define BUFFER_BYTES      (4 * 1024L)
#define BULK_BUFFER_BYTES (16 * 1024L)

DEFINE_CLEANUP(CURLU *, curl_url_cleanup);
DEFINE_CLEANUP(char *, curl_free);

static bool is_plain(const struct probe_spec *s)
{
        return s->tls == SERVICE_TLS_NONE || s->purpose == PURPOSE_PORTAL;
}

static int make_url(const struct probe_spec *s, struct http_request *r, struct error *ret_error)
{
        char address[INET_ADDR_TEXT], port[8] = "";
        const char *host = s->name, *path = s->path;
        struct inet_addr literal;
        bool v6;

        inet_addr_format(&s->target.address, address);
        if (!host[0])
                host = address;
        if (inet_addr_parse(host, &literal) < 0) {
                literal.family = 0;
                if (!str_is_host_name(host))
                        return error_set(ret_error, EINVAL, "http.bad-name", "'%s' is no host name", host);
        }
        for (const char *c = path; *c; c++)
                if (*c <= ' ' || *c > '~')
                        return error_set(ret_error, EINVAL, "http.bad-path",
                                "a request's path holds the byte 0x%02x", (unsigned)(unsigned char)*c);
        v6 = literal.family == AF_INET6;
        if (s->target.port != (is_plain(s) ? 80 : 443))
                snprintf(port, sizeof(port), ":%u", s->target.port);
        r->url = xasprintf("%s://%s%s%s%s%s%s", is_plain(s) ? "http" : "https", v6 ? "[" : "", host,
                v6 ? "]" : "", port, path[0] == '/' ? "" : "/", path);
        return 0;
}

/* libcurl's own parser says what a proxy's URL means; ours would only disagree with it somewhere. */
static int read_proxy(const char *proxy, struct endpoint *ret, struct error *ret_error)
{
        _cleanup_(curl_url_cleanup_p) CURLU *url = curl_url();
        _cleanup_(curl_free_p) char *scheme = NULL, *host = NULL, *port = NULL;
        struct endpoint e = {0};
        unsigned long number = 1080; /* libcurl's default for a proxy */
        size_t length;

        if (!url ||
                curl_url_set(url, CURLUPART_URL, proxy, CURLU_NON_SUPPORT_SCHEME | CURLU_GUESS_SCHEME) !=
                        CURLUE_OK ||
                curl_url_get(url, CURLUPART_HOST, &host, 0) != CURLUE_OK)
                return error_set(ret_error, EINVAL, "http.bad-proxy", "the proxy's URL cannot be read");
        if (curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK && !str_equal(scheme, "http") &&
                !str_equal(scheme, "socks5h"))
                return error_set(ret_error, EINVAL, "http.bad-proxy",
                        "a proxy of the kind %s:// cannot be asked; http:// and socks5h:// can", scheme);
        if (curl_url_get(url, CURLUPART_PORT, &port, 0) == CURLUE_OK &&
                str_to_ulong(port, 1, 65535, &number) < 0)
                return error_set(ret_error, EINVAL, "http.bad-proxy", "the proxy's port is out of range");
        length = strlen(host);
        if (host[0] == '[' && host[length - 1] == ']') {
                host[length - 1] = '\0';
                memmove(host, host + 1, length - 1);
        }
        if (inet_addr_parse(host, &e.address) < 0)
                return error_set(ret_error, EINVAL, "http.proxy-name",
                        "the proxy %.200s is given by name, and no address of it is known", host);
        e.port = (uint16_t)number;
        *ret = e;
        return 0;
}

int http_request_make(const struct probe_spec *s, struct http_request *ret, struct error *ret_error)
{
        struct http_request r = {.connect = s->target, .has_proxy = s->proxy[0]};
        int e = make_url(s, &r, ret_error);

        if (e >= 0 && r.has_proxy)
                e = read_proxy(s->proxy, &r.connect, ret_error);
        if (e < 0) {
                http_request_done(&r);
                return e;
        }
        if (!r.has_proxy) {
                char endpoint[INET_ADDR_TEXT];
                _cleanup_free_ char *entry = NULL;

                /* "any host, any port, to this address": nothing is left to look up. */
                entry = xasprintf("::%s", endpoint_format(&s->target, endpoint));
                r.connect_to = curl_slist_append(NULL, entry);
        }
        *ret = r;
        return 0;
}

void http_request_done(struct http_request *r)
{
        free(r->url);
        curl_slist_free_all(r->connect_to);
        *r = (struct http_request){0};
}

static void apply_tls(CURL *easy)
{
        /* The chain is judged by our own callback. No certificate store is read: that of the system costs
         * memory and time, and would trust what must not be trusted. */
        curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        curl_easy_setopt(easy, CURLOPT_SSL_EC_CURVES, "X25519:P-256:P-384");
        curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
}

void http_request_apply(const struct http_request *r, const struct probe_spec *s, CURL *easy)
{
        curl_easy_setopt(easy, CURLOPT_URL, r->url);
        curl_easy_setopt(easy, CURLOPT_NOBODY, s->http_get ? 0L : 1L);
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "gridnode/" GRIDNODE_VERSION);
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
        /* Empty values, or libcurl asks the environment. */
        curl_easy_setopt(easy, CURLOPT_PROXY, s->proxy);
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, r->connect_to);
        curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
        curl_easy_setopt(
                easy, CURLOPT_BUFFERSIZE, s->purpose == PURPOSE_PAYLOAD ? BULK_BUFFER_BYTES : BUFFER_BYTES);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 1L);
        apply_tls(easy);
}
