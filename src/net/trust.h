/* Pinned trust: the profile's root and the node's own certificate, as OpenSSL objects. */
#pragma once

#include "base/error.h"
#include "base/text.h"

#include <openssl/ssl.h>
#include <stdbool.h>

struct trust; /* opaque */

/* No honest chain is longer; of a presented one that is, the first are judged alone. */
#define TRUST_CHAIN_MAX 17

struct trust_options {
        const char *root_ca_path; /* PEM; NULL when only the subject is known */
        const char *root_subject; /* "O = …, CN = …" compared component by component, spaces ignored */
        const char *certificate_path, *key_path; /* the node's identity; may not exist */
};

/* What verifying a presented chain found; times and name are judged apart from signatures. */
struct trust_verdict {
        bool trusted; /* signatures lead to the pinned root (or, by subject only, to a last certificate issued
                         by that name), at any time */
        bool by_name_only; /* the root's key is not known: only its name was compared */
        bool name_matches;
        bool time_valid;
        int64_t not_before_unix, not_after_unix; /* intersection over the chain */
        int error;                               /* X509_V_ERR_* of the first failing check, 0 none */
};

/* A client certificate that is missing is no error (see trust_has_certificate); one that is unreadable or
 * does not fit its key is reported by trust_certificate_problem. 0 or -errno. */
int trust_new(const struct trust_options *o, struct trust **ret, struct error *ret_error);
struct trust *trust_free(struct trust *t);
bool trust_has_certificate(const struct trust *t);
const char *trust_certificate_problem(const struct trust *t); /* NULL: none */
const char *trust_certificate_serial(const struct trust *t);  /* hex, NULL without */
int64_t trust_certificate_not_after(const struct trust *t);
/* The shared client SSL_CTX: TLS 1.2 or better, no system trust, no verification by itself (callers judge
 * with trust_judge before they send anything). With `mutual` the node's certificate is offered. Borrowed. */
SSL_CTX *trust_context(struct trust *t, bool mutual);
/* Makes both contexts, and a ClientHello for nobody: what OpenSSL looks up at its first handshake takes 2 ms,
 * which is nothing while packets are on their way and much when their answers are there. */
void trust_warm_up(struct trust *t);
/* A client context of the same settings with no trust and no certificate of its own: for looking at a peer
 * that there is nothing to verify against, and as the model for libraries that make their own. The caller's.
 */
SSL_CTX *trust_context_new(void);
/* Puts the node's certificate, its chain and its key into a context; nothing happens without a certificate.
 */
void trust_offer_certificate(const struct trust *t, SSL_CTX *c);
/* Pure. `chain` leaf first as presented; `host` may be NULL (name_matches = true). Without trust (NULL) only
 * the name and the times are judged. `now_unix` is the local clock. */
void trust_judge(struct trust *t, STACK_OF(X509) * chain, const char *host, int64_t now_unix,
        struct trust_verdict *ret);
