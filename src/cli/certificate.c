#include "cli/certificate.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "net/x509.h"

#include <errno.h>
#include <string.h>

int certificate_read(const char *pem, struct certificate_facts *ret)
{
        _cleanup_(X509_free_p) X509 *x = x509_from_pem(pem, strlen(pem));
        struct certificate_facts f = {0};

        if (!x)
                return -EBADMSG;
        x509_fingerprint(x, f.sha256);
        f.not_before_unix = x509_time_to_unix(X509_get0_notBefore(x));
        f.not_after_unix = x509_time_to_unix(X509_get0_notAfter(x));
        *ret = f;
        return 0;
}
