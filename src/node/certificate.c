#include "node/certificate.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <string.h>
#include <time.h>

#define CERTIFICATE_MAX_BYTES ((size_t)64 << 10)

static int64_t unix_of(const ASN1_TIME *t)
{
        struct tm tm;

        return ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : 0;
}

int node_certificate_times(const struct settings_node *s, int64_t *ret_renew_unix, int64_t *ret_end_unix,
        struct error *ret_error)
{
        const char *path = s->site->certificate_path;
        _cleanup_free_ char *pem = NULL;
        int64_t begin, end;
        size_t length;
        BIO *bio;
        X509 *x;
        int r = file_read(path, CERTIFICATE_MAX_BYTES, &pem, &length, ret_error);

        if (r < 0)
                return r;
        bio = BIO_new_mem_buf(pem, (int)length);
        x = bio ? PEM_read_bio_X509(bio, NULL, NULL, NULL) : NULL;
        BIO_free(bio);
        if (!x)
                return error_set(
                        ret_error, EBADMSG, "certificate.unreadable", "%s: is no certificate in PEM", path);
        begin = unix_of(X509_get0_notBefore(x));
        end = unix_of(X509_get0_notAfter(x));
        X509_free(x);
        *ret_renew_unix = begin + (end - begin) / 3 * 2;
        *ret_end_unix = end;
        return 0;
}
