/* The headers that say who asks: cookies, Authorization, X-Forwarded-For. */
#include "fuzz.h"

#include "base/alloc.h"
#include "plane/api_credentials.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *header = xstrndup((const char *)data, size);
        char name[CREDENTIAL_MAXIMUM], password[PASSWORD_MAXIMUM];
        struct inet_addr a;

        credentials_cookie(header, "gridplane", name);
        credentials_bearer(header, name);
        credentials_basic(header, name, password);
        credentials_forwarded(header, &a);
        free(header);
        return 0;
}
