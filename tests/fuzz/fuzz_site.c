#include "fuzz.h"

#include "net/site.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct site *s = NULL;
        struct error error;

        if (site_parse("fuzz.conf", (const char *)data, size, &s, &error) == 0)
                site_free(s);
        return 0;
}
