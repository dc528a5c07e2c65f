/* The short form of a diagnosis, as five nodes send it and the plane counts it; and an incident that was
 * kept. */
#include "fuzz.h"

#include "plane/incidents.h"

#include <stdio.h>

#define NOW INT64_C(1795230120000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        json_t *value = json_loadb((const char *)data, size, 0, NULL);
        struct incidents *i;
        struct cidr ranges[2];

        if (!value)
                return 0;
        if (cidr_parse("198.51.100.16/28", &ranges[0]) < 0 || cidr_parse("2001:db8::/32", &ranges[1]) < 0)
                return 0;
        i = incidents_new(ranges, 2);
        incidents_resume(i, "o-1", value);
        for (int n = 0; n < 5; n++) {
                char id[16];

                snprintf(id, sizeof id, "n-%d", n);
                incidents_report(i, "o-1", id, id, "repo", value, NOW);
        }
        json_decref(incidents_take_changes(i, NOW));
        incidents_forget(i, "o-1", "n-1");
        for (int n = 0; n < 5; n++) {
                char id[16];

                snprintf(id, sizeof id, "n-%d", n);
                incidents_report(i, "o-1", id, id, "repo", NULL, NOW);
        }
        json_decref(incidents_take_changes(i, NOW));
        incidents_free(i);
        json_decref(value);
        return 0;
}
