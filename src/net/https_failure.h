/* Why an attempt of https.h failed: stage and reason, and of several attempts one sentence. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "net/trust.h"

#include <curl/curl.h>
#include <stdint.h>

/* In the order in which they are passed. */
enum https_stage { HTTPS_STAGE_NONE, HTTPS_STAGE_TCP, HTTPS_STAGE_PROXY, HTTPS_STAGE_TLS, HTTPS_STAGE_HTTP };

struct https_failure {
        enum https_stage stage; /* NONE: nothing failed */
        int number;
        const char *code;
        char text[384];
};
/* The first failure is kept. */
void https_failure_set(struct https_failure *f, enum https_stage stage, int number, const char *code,
        const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The socket could not be bound to source or device (NULL: none). */
void https_failure_source(
        struct https_failure *f, int number, const struct inet_addr *source, const char *device);
/* The chain was not good enough. */
void https_failure_verdict(
        struct https_failure *f, const struct trust_verdict *v, STACK_OF(X509) * chain, const char *host);
/* What libcurl says, unless a failure is there already. `text` is its error buffer, `reached` how far the
 * attempt came at least. */
void https_failure_curl(struct https_failure *f, CURL *easy, CURLcode code, const char *text,
        enum https_stage reached, double share_ms);
/* "cannot reach HOST:PORT: ADDRESS: tcp: REASON; …": shortest first, as far as they fit; number and code are
 * those of the attempt that came furthest. `where` holds `count` texts. */
int https_failure_report(const struct https_failure *list, const char *const *where, size_t count,
        const char *host, uint16_t port, struct error *ret_error);
