#include "cli/event_line.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>

#define PART_MAX_BYTES    400
#define SUMMARY_MAX_BYTES 1000

void event_line_write(const json_t *event, bool with_node)
{
        static const struct {
                const char *member;
                int width;
                bool of_plane;
        } parts[] = {
                {"generated", 24}, {"severity", 7}, {"node_name", 16, true}, {"name", 20}, {"message", 0}};
        const char *why = json_string_value(json_object_get(json_object_get(event, "diagnosis"), "summary"));

        for (size_t i = 0; i < ELEMENTS(parts); i++) {
                const char *value = json_string_value(json_object_get(event, parts[i].member));
                _cleanup_free_ char *safe =
                        str_excerpt(value ? value : "-", strlen(value ? value : "-"), PART_MAX_BYTES);

                if (!parts[i].of_plane || with_node)
                        printf("%-*s%s", parts[i].width, safe, parts[i].width ? "  " : "\n");
        }
        if (why) {
                _cleanup_free_ char *safe = str_excerpt(why, strlen(why), SUMMARY_MAX_BYTES);

                printf("    %s\n", safe);
        }
}
