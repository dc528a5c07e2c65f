#include "net/x509.h"

#include "base/text.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <string.h>
#include <time.h>

static int no_passphrase(char *buffer, int size, int is_write, void *userdata)
{
        (void)buffer, (void)size, (void)is_write, (void)userdata;
        return -1; /* never ask on a terminal */
}

X509 *x509_read(BIO *bio)
{
        return bio ? PEM_read_bio_X509(bio, NULL, no_passphrase, NULL) : NULL;
}

X509 *x509_from_pem(const char *pem, size_t length)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new_mem_buf(pem, (int)length);

        ERR_clear_error();
        return x509_read(bio);
}

EVP_PKEY *x509_key_from_pem(const char *pem, size_t length)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new_mem_buf(pem, (int)length);

        ERR_clear_error();
        return bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
}

int64_t x509_time_to_unix(const ASN1_TIME *t)
{
        struct tm tm;

        /* Bounded by what ASN.1 can say: years 1 to 9999. */
        return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

void x509_serial_to_text(const ASN1_INTEGER *serial, char ret[X509_SERIAL_TEXT])
{
        BIGNUM *number = ASN1_INTEGER_to_BN(serial, NULL);
        char *hex = number ? BN_bn2hex(number) : NULL;

        str_copy(ret, X509_SERIAL_TEXT, hex && strlen(hex) < X509_SERIAL_TEXT ? hex : "");
        OPENSSL_free(hex);
        BN_free(number);
        ERR_clear_error();
}

void x509_fingerprint(const X509 *x, char ret[X509_FINGERPRINT_TEXT])
{
        unsigned char digest[SHA256_DIGEST_LENGTH] = {0};

        X509_digest(x, EVP_sha256(), digest, NULL);
        hex_format(digest, sizeof digest, ret);
}

const char *x509_reason(void)
{
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());

        ERR_clear_error();
        return reason ? reason : "OpenSSL does not say why";
}
