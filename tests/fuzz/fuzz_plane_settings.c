#include "fuzz.h"

#include "plane/settings.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const struct plane_options o = {.root = "/srv/fuzz"};
        struct plane_settings s;
        struct error error;

        if (plane_settings_parse(&o, "fuzz.conf", (const char *)data, size, &s, &error) == 0) {
                free(plane_settings_profile(&s));
                plane_settings_done(&s);
        }
        return 0;
}
