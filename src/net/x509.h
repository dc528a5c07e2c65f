/* Certificates and keys in PEM form (RFC 7468) by OpenSSL: what several parts read of them. Each leaves
 * OpenSSL's queue of errors as x509_reason() needs it, or empty. */
#pragma once

#include "base/cleanup.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <stddef.h>
#include <stdint.h>

DEFINE_CLEANUP(BIO *, BIO_free_all);
DEFINE_CLEANUP(X509 *, X509_free);
DEFINE_CLEANUP(X509_STORE *, X509_STORE_free);
DEFINE_CLEANUP(X509_STORE_CTX *, X509_STORE_CTX_free);
DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free);

#define X509_SERIAL_TEXT      65
#define X509_FINGERPRINT_TEXT 65

/* The next certificate; NULL at the end or at what is none. The caller's. Nobody is asked for a passphrase,
 * as PEM_read_bio_X509(3) by itself asks for that of an encrypted block. */
X509 *x509_read(BIO *bio);
/* The first certificate of the text, or its private key without a passphrase; NULL when there is none. The
 * caller's. */
X509 *x509_from_pem(const char *pem, size_t length);
EVP_PKEY *x509_key_from_pem(const char *pem, size_t length);
/* Seconds since the epoch; 0 for what is no time. */
int64_t x509_time_to_unix(const ASN1_TIME *t);
/* Upper-case hexadecimal, as in nginx's $ssl_client_serial; "" for a number that is too long. */
void x509_serial_to_text(const ASN1_INTEGER *serial, char ret[X509_SERIAL_TEXT]);
/* SHA-256 of the DER form, lower-case hexadecimal. */
void x509_fingerprint(const X509 *x, char ret[X509_FINGERPRINT_TEXT]);
/* What OpenSSL said last, for an error's text; empties the queue. Static. */
const char *x509_reason(void);
