/* One event for people, as a line of gridnode events and of gridplane event list. */
#pragma once

#include <jansson.h>
#include <stdbool.h>

/* To standard output: time, severity, node (`with_node`), name, message; below it, when there is a diagnosis,
 * what it concluded. Strings may come from outside: what cannot be shown is escaped. */
void event_line_write(const json_t *event, bool with_node);
