#include "fuzz.h"

#include "net/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct profile *p = NULL;
        struct inet_addr a;
        struct error error;

        if (profile_parse("fuzz.profile", (const char *)data, size, &p, &error) < 0)
                return 0;
        if (inet_addr_parse("198.51.100.20", &a) == 0)
                profile_ranges_contain(p, &a);
        profile_free(p);
        return 0;
}
