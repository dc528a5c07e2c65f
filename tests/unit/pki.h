/* A certificate authority for tests: real EC certificates, made in memory. */
#pragma once

#include <openssl/x509.h>
#include <stdbool.h>

struct pki_pair {
        X509 *certificate;
        EVP_PKEY *key;
};

struct pki_request {
        const char *organisation, *common_name; /* either may be NULL */
        const char *host;                       /* subjectAltName, e.g. "DNS:repo.grid.example"; NULL: none */
        const char *usage;                      /* extendedKeyUsage, NULL: none */
        bool is_authority;
        long from_s, to_s;             /* validity from now; both 0: one hour around now */
        const struct pki_pair *issuer; /* NULL: self-signed */
};

struct pki_pair pki_issue(const struct pki_request *r); /* asserts */
void pki_pair_done(struct pki_pair *p);
/* Appends to a file (created when missing). */
void pki_save_certificate(const char *path, const struct pki_pair *p);
void pki_save_key(const char *path, const struct pki_pair *p);
