/* A line of mosquitto's log: what is found in it lies in it. */
#include "fuzz.h"

#include "plane/mosquitto_log.h"

#include <stdlib.h>
#include <string.h>

static void must_be_inside(const char *line, size_t size, const char *part, size_t length)
{
        if (part < line || part > line + size || length > (size_t)(line + size - part))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *line = malloc(size ? size : 1); /* exactly so long: one byte more is an error */
        struct mosquitto_denial d;

        if (!line)
                return 0;
        if (size)
                memcpy(line, data, size);
        if (mosquitto_line_parse(line, size, &d) == MOSQUITTO_DENIED) {
                must_be_inside(line, size, d.client, d.client_length);
                must_be_inside(line, size, d.topic, d.topic_length);
                if (d.client_length == 0 || d.client + d.client_length > d.topic)
                        abort();
        }
        free(line);
        return 0;
}
