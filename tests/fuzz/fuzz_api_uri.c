/* The target of a request. */
#include "fuzz.h"

#include "base/alloc.h"
#include "plane/api_uri.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *target = xstrndup((const char *)data, size), *text;
        struct uri u = {0};
        struct error error;

        if (uri_parse(target, &u, &error) == 0) {
                for (size_t i = 0; i < u.segments.count; i++)
                        if (!*u.segments.items[i] || strchr(u.segments.items[i], '/'))
                                abort();
                for (size_t i = 0; i < u.names.count; i++)
                        if (uri_query(&u, u.names.items[i]) != u.values.items[i])
                                abort();
        }
        uri_done(&u);
        text = uri_decode_text(target, size / 2);
        free(text);
        free(target);
        return 0;
}
