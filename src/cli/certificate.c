#include "cli/certificate.h"

#include "base/cleanup.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

DEFINE_CLEANUP(BIO *, BIO_free_all);
DEFINE_CLEANUP(X509 *, X509_free);

static int64_t to_unix(const ASN1_TIME *t)
{
        struct tm broken = {0};

        return ASN1_TIME_to_tm(t, &broken) == 1 ? (int64_t)timegm(&broken) : 0;
}

int certificate_read(const char *pem, struct certificate_facts *ret)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new_mem_buf(pem, (int)strlen(pem));
        _cleanup_(X509_free_p) X509 *x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
        struct certificate_facts f = {0};
        unsigned char digest[EVP_MAX_MD_SIZE];
        unsigned length = 0;

        if (!x || X509_digest(x, EVP_sha256(), digest, &length) != 1 || length * 2 >= sizeof f.sha256)
                return -EBADMSG;
        for (unsigned i = 0; i < length; i++)
                snprintf(f.sha256 + i * 2, 3, "%02x", digest[i]);
        f.not_before_unix = to_unix(X509_get0_notBefore(x));
        f.not_after_unix = to_unix(X509_get0_notAfter(x));
        *ret = f;
        return 0;
}
