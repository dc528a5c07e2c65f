/* A presented chain, as one DER certificate after another: judged by a root that is known by its name, which
 * takes the same code as one known by its key, and reads the names besides. */
#include "fuzz.h"

#include "net/trust.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct trust_options options = {.root_subject = "O = Grid Inc, CN = Grid Root CA"};
        static struct trust *trust;
        STACK_OF(X509) *chain = sk_X509_new_null();
        const uint8_t *at = data;
        struct trust_verdict v, again;
        struct error error;
        X509 *x;

        if (!trust && trust_new(&options, &trust, &error) < 0)
                abort();
        while (at < data + size && (x = d2i_X509(NULL, &at, (long)(data + size - at))))
                sk_X509_push(chain, x);
        trust_judge(trust, chain, "repo.grid.example", 1795230000, &v);
        trust_judge(trust, chain, "repo.grid.example", 1795230000, &again); /* remembered */
        if (v.trusted != again.trusted || v.error != again.error || v.time_valid != again.time_valid)
                abort();
        trust_judge(NULL, chain, NULL, 0, &v);
        sk_X509_pop_free(chain, X509_free);
        return 0;
}
