#include "node/certificate.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "net/x509.h"

#include <errno.h>

#define CERTIFICATE_MAX_BYTES ((size_t)64 << 10)

int node_certificate_times(const struct node_settings *s, int64_t *ret_renew_unix, int64_t *ret_end_unix,
        struct error *ret_error)
{
        const char *path = s->site->certificate_path;
        _cleanup_free_ char *pem = NULL;
        int64_t begin, end;
        size_t length;
        X509 *x;
        int r = file_read(path, CERTIFICATE_MAX_BYTES, &pem, &length, ret_error);

        if (r < 0)
                return r;
        x = x509_from_pem(pem, length);
        if (!x)
                return error_set(
                        ret_error, EBADMSG, "certificate.unreadable", "%s: is no certificate in PEM", path);
        begin = x509_time_to_unix(X509_get0_notBefore(x));
        end = x509_time_to_unix(X509_get0_notAfter(x));
        X509_free(x);
        *ret_renew_unix = begin + (end - begin) / 3 * 2;
        *ret_end_unix = end;
        return 0;
}
