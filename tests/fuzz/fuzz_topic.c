/* A topic; one that is taken is written the same. */
#include "fuzz.h"

#include "wire/topic.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char node[WIRE_ID_MAXIMUM + 1], request[WIRE_ID_MAXIMUM + 1], again[TOPIC_MAXIMUM];
        char *topic = malloc(size + 1);
        enum topic_kind kind;

        if (!topic)
                return 0;
        memcpy(topic, data, size);
        topic[size] = '\0';
        if (topic_parse(topic, &kind, node, request) == 0) {
                topic_format(again, kind, node, request);
                if (strcmp(topic, again) != 0)
                        abort();
        }
        free(topic);
        return 0;
}
