/* The parts of the certificate authority among themselves. */
#pragma once

#include "plane/ca.h"

#include "base/cleanup.h"
#include "net/x509.h"

#include <stddef.h>

typedef STACK_OF(X509) ca_stack;

/* The elements are borrowed. */
static inline void ca_stack_free(ca_stack *s)
{
        sk_X509_free(s);
}

DEFINE_CLEANUP(X509_CRL *, X509_CRL_free);
DEFINE_CLEANUP(X509_REQ *, X509_REQ_free);
DEFINE_CLEANUP(ca_stack *, ca_stack_free);

#define CA_DAY_S             ((int64_t)86400)
#define CA_CLOCK_TOLERANCE_S 3600 /* certificates begin that much early: clocks of nodes differ */

/* Of each PEM text from outside or from disk. */
#define CA_PEM_MAXIMUM     ((size_t)64 << 10)
#define CA_REQUEST_MAXIMUM ((size_t)8 << 10)
#define CA_MAX_ISSUERS     32

struct ca_issuer {
        X509 *certificate;
        EVP_PKEY *key; /* NULL: taken away */
        char *pem;     /* of the certificate */
        unsigned generation;
};

struct ca {
        char *folder, *root_path, *root_key_path, *bundle_path, *crl_path;
        struct ca_issuer root;
        struct ca_issuer intermediates[CA_MAX_ISSUERS]; /* newest first; those that have ended, too */
        size_t intermediate_count;
        char *chain_pem;
        struct strv revoked; /* serials, as in the CRL */
};

/* ---- ca_make.c: keys and certificates ---- */

enum ca_kind { CA_KIND_ROOT, CA_KIND_INTERMEDIATE, CA_KIND_SERVER, CA_KIND_NODE };

struct ca_subject {
        enum ca_kind kind;
        const char *organisation, *common_name;
        const struct strv *hosts; /* CA_KIND_SERVER */
        EVP_PKEY *key;            /* the subject's; its public half is certified */
        int64_t not_before_unix, not_after_unix;
};

/* What OpenSSL said last, as an error -EIO "ca.crypto": "cannot DOING: REASON". */
int ca_crypto_error(struct error *ret_error, const char *doing);
int ca_make_key(EVP_PKEY **ret, struct error *ret_error);
/* `issuer` NULL: self-signed by the subject's key. */
int ca_make_certificate(
        const struct ca_subject *s, const struct ca_issuer *issuer, X509 **ret, struct error *ret_error);
char *ca_certificate_to_pem(X509 *x);
int ca_save_key(const char *path, EVP_PKEY *key, struct error *ret_error);
/* The first certificate of a PEM text, or the private key. -EBADMSG naming `where`. */
int ca_parse_certificate(
        const char *pem, size_t length, const char *where, X509 **ret, struct error *ret_error);
int ca_load_certificate(const char *path, X509 **ret, struct error *ret_error);
int ca_load_key(const char *path, EVP_PKEY **ret, struct error *ret_error);
int ca_key_sha256(EVP_PKEY *key, char ret[65], struct error *ret_error);
/* Two thirds of its life are over, or its beginning is yet to come. */
bool ca_certificate_is_due(const X509 *x, int64_t now_unix);

/* ---- ca.c ---- */

/* The newest intermediate that is in force and whose key is there; -ESTALE. */
int ca_signing_issuer(
        const struct ca *c, int64_t now_unix, const struct ca_issuer **ret, struct error *ret_error);
/* The chain from `leaf` to our root, times and purpose (X509_PURPOSE_*) apart. X509_V_OK or its error. */
int ca_verify_chain(const struct ca *c, X509 *leaf, int purpose);

/* ---- ca_crl.c ---- */

/* Takes over the serials of the file, when there is one; whether it is right is ca_crl_is_due's to say. */
void ca_crl_load(struct ca *c);
/* Missing, not of every intermediate, or two thirds of its time are over. */
bool ca_crl_is_due(const struct ca *c, int64_t now_unix);
int ca_crl_save(struct ca *c, int64_t now_unix, struct error *ret_error);
