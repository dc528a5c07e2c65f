/* A folder for an authority of a test, and what nodes would send to it. */
#pragma once

#include "plane/ca.h"

#include <openssl/x509.h>

#define NOW INT64_C(1795230000) /* 2026-11-21 */
#define DAY INT64_C(86400)

struct place {
        char base[64], ca[80];
};

struct issued {
        EVP_PKEY *key;
        char *csr, *pem, serial[65];
        int64_t not_after;
};

void run(char *const arguments[], int expected);
int make_place(void **state);
int remove_place(void **state);
struct ca *open_at(const struct place *p, int64_t now);
void fail_open(const struct place *p, int64_t now, int number, const char *code);
char *inside(const struct place *p, const char *name);
char *read_all(const char *path);
unsigned mode_of(const char *path);
unsigned count(const char *text, const char *what);
char *csr_of(EVP_PKEY *key, EVP_PKEY *signed_by, const char *common_name);
X509 *first_certificate(const char *pem);
struct issued issue(struct ca *c, const char *node, int64_t now);
void issued_done(struct issued *i);
void save(const char *path, const char *text);
