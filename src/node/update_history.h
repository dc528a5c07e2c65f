/* The updates of the last weeks, as root's side keeps them (UPDATE/history), for the daemon and for the
 * commands: everybody may read them. */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stddef.h>

/* update_state_to_json of each, without its log, the newest first, at most `maximum`. What cannot be read is
 * left out. New reference. */
json_t *update_history(const char *folder, size_t maximum);
