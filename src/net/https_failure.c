#include "net/https_failure.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define MAX_NAME_BYTES 120 /* of a certificate's issuer in a sentence */

static const char *stage_to_string(enum https_stage s)
{
        switch (s) {
        case HTTPS_STAGE_NONE:
        case HTTPS_STAGE_TCP:
                return "tcp";
        case HTTPS_STAGE_PROXY:
                return "proxy";
        case HTTPS_STAGE_TLS:
                return "tls";
        case HTTPS_STAGE_HTTP:
                return "http";
        }
        return "?";
}

void https_failure_set(struct https_failure *f, enum https_stage stage, int number, const char *code,
        const char *format, ...)
{
        va_list arguments;

        if (f->stage != HTTPS_STAGE_NONE)
                return;
        f->stage = stage;
        f->number = number;
        f->code = code;
        va_start(arguments, format);
        vsnprintf(f->text, sizeof(f->text), format, arguments);
        va_end(arguments);
}

void https_failure_source(
        struct https_failure *f, int number, const struct inet_addr *source, const char *device)
{
        char address[INET_ADDR_TEXT];

        if (number == ENODEV && device)
                https_failure_set(f, HTTPS_STAGE_TCP, number, "tcp.no-interface",
                        "there is no interface '%.32s'", device);
        else if (number == EADDRNOTAVAIL)
                https_failure_set(f, HTTPS_STAGE_TCP, number, "tcp.no-source",
                        "%s is no address of this machine", inet_addr_format(source, address));
        else
                https_failure_set(
                        f, HTTPS_STAGE_TCP, number, "tcp.no-source", "no socket: %s", strerror(number));
}

/* The issuer of the last certificate, which is who should be trusted. */
static char *last_issuer(const STACK_OF(X509) * chain)
{
        int count = chain ? sk_X509_num(chain) : 0;
        X509_NAME *name;
        BIO *bio;
        char *data, *text;
        long length;

        if (count == 0)
                return xstrdup("nobody");
        name = X509_get_issuer_name(sk_X509_value(chain, count - 1));
        bio = BIO_new(BIO_s_mem());
        if (!bio)
                abort();
        X509_NAME_print_ex(bio, name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB);
        length = BIO_get_mem_data(bio, &data);
        text = str_excerpt(data, (size_t)length, MAX_NAME_BYTES);
        BIO_free(bio);
        return text;
}

void https_failure_verdict(
        struct https_failure *f, const struct trust_verdict *v, STACK_OF(X509) * chain, const char *host)
{
        _cleanup_free_ char *issuer = last_issuer(chain);
        char from[32], to[32];

        if (!v->trusted) {
                https_failure_set(f, HTTPS_STAGE_TLS, EACCES, "tls.untrusted",
                        "its certificate does not lead to the pinned root: %s; it was issued by %s. Either "
                        "this is the wrong root, or somebody in between answers",
                        X509_verify_cert_error_string(v->error), issuer);
                return;
        }
        if (!v->name_matches) {
                https_failure_set(f, HTTPS_STAGE_TLS, EACCES, "tls.wrong-name",
                        "its certificate is not for %.128s: %s", host,
                        X509_verify_cert_error_string(v->error));
                return;
        }
        time_format_utc(v->not_before_unix * 1000, from);
        time_format_utc(v->not_after_unix * 1000, to);
        https_failure_set(f, HTTPS_STAGE_TLS, EACCES, "tls.not-in-force",
                "its certificate is valid from %.10s to %.10s, and not now: %s; is the clock right?", from,
                to, X509_verify_cert_error_string(v->error));
}

/* ---- libcurl's ---- */

static enum https_stage stage_of(CURL *easy, CURLcode code, enum https_stage reached)
{
        curl_off_t encrypted = 0;
        long proxy_status = 0;

        curl_easy_getinfo(easy, CURLINFO_APPCONNECT_TIME_T, &encrypted);
        curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &proxy_status);
        if (reached == HTTPS_STAGE_TCP && proxy_status)
                return HTTPS_STAGE_PROXY;
        if (reached == HTTPS_STAGE_TLS && encrypted && code != CURLE_SSL_CONNECT_ERROR &&
                code != CURLE_PEER_FAILED_VERIFICATION)
                return HTTPS_STAGE_HTTP;
        return reached;
}

static void set_timeout(struct https_failure *f, enum https_stage stage, double share_ms)
{
        static const char *const codes[] = {[HTTPS_STAGE_TCP] = "tcp.timeout",
                [HTTPS_STAGE_PROXY] = "proxy.timeout",
                [HTTPS_STAGE_TLS] = "tls.timeout",
                [HTTPS_STAGE_HTTP] = "http.timeout"};

        https_failure_set(f, stage, ETIMEDOUT, codes[stage], "no answer within %.1f s", share_ms / 1000);
}

static void set_tcp(struct https_failure *f, CURL *easy, const char *reason)
{
        long number = 0;

        curl_easy_getinfo(easy, CURLINFO_OS_ERRNO, &number);
        if (number == ECONNREFUSED)
                https_failure_set(
                        f, HTTPS_STAGE_TCP, ECONNREFUSED, "tcp.refused", "%s", strerror(ECONNREFUSED));
        else if (number)
                https_failure_set(
                        f, HTTPS_STAGE_TCP, (int)number, "tcp.unreachable", "%s", strerror((int)number));
        else
                https_failure_set(f, HTTPS_STAGE_TCP, EHOSTUNREACH, "tcp.unreachable", "%s", reason);
}

static void set_proxy(struct https_failure *f, CURL *easy, const char *reason)
{
        long status = 0;

        curl_easy_getinfo(easy, CURLINFO_HTTP_CONNECTCODE, &status);
        if (status)
                https_failure_set(f, HTTPS_STAGE_PROXY, EACCES, "proxy.refused",
                        "the proxy refuses the connection with status %ld", status);
        else
                https_failure_set(f, HTTPS_STAGE_PROXY, EPROTO, "proxy.failed", "%s", reason);
}

void https_failure_curl(struct https_failure *f, CURL *easy, CURLcode code, const char *text,
        enum https_stage reached, double share_ms)
{
        enum https_stage stage = stage_of(easy, code, reached);
        const char *raw = *text ? text : curl_easy_strerror(code);
        _cleanup_free_ char *reason = str_excerpt(raw, strlen(raw), 200);

        ERR_clear_error();
        if (f->stage != HTTPS_STAGE_NONE)
                return;
        if (code == CURLE_OPERATION_TIMEDOUT) {
                set_timeout(f, stage, share_ms);
                return;
        }
        switch (stage) {
        case HTTPS_STAGE_NONE:
        case HTTPS_STAGE_TCP:
                set_tcp(f, easy, reason);
                return;
        case HTTPS_STAGE_PROXY:
                set_proxy(f, easy, reason);
                return;
        case HTTPS_STAGE_TLS:
                https_failure_set(f, stage, EPROTO, "tls.failed", "%s", reason);
                return;
        case HTTPS_STAGE_HTTP:
                https_failure_set(f, stage, EPROTO, "http.failed", "%s", reason);
                return;
        }
}

/* ---- one sentence ---- */

static int compare_lengths(const void *a, const void *b)
{
        size_t x = strlen(*(const char *const *)a), y = strlen(*(const char *const *)b);

        return x < y ? -1 : x > y;
}

int https_failure_report(const struct https_failure *list, const char *const *where, size_t count,
        const char *host, uint16_t port, struct error *ret_error)
{
        const struct https_failure *furthest = &list[0];
        struct strv parts = {0};
        struct error e;
        size_t left = 0;

        for (size_t i = 0; i < count; i++) {
                strv_take(&parts,
                        xasprintf("%s: %s: %s", where[i], stage_to_string(list[i].stage), list[i].text));
                if (list[i].stage > furthest->stage)
                        furthest = &list[i];
        }
        qsort(parts.items, parts.count, sizeof(*parts.items), compare_lengths);
        error_set(&e, furthest->number, furthest->code, "cannot reach %.128s:%u", host, port);
        for (size_t i = 0; i < parts.count; i++) {
                size_t used = strlen(e.text);

                if (i > 0 && used + strlen(parts.items[i]) + 24 > sizeof(e.text)) {
                        left = parts.count - i;
                        break;
                }
                snprintf(e.text + used, sizeof(e.text) - used, "%s%s", i ? "; " : ": ", parts.items[i]);
        }
        if (left) {
                size_t used = strlen(e.text);

                snprintf(e.text + used, sizeof(e.text) - used, "; and %zu more", left);
        }
        strv_done(&parts);
        if (ret_error)
                *ret_error = e;
        return -e.number;
}
