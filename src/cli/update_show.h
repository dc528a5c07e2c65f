/* How an update stands, for people and for programs. */
#pragma once

#include "wire/update.h"

#include <jansson.h>

/* What was written so far, so that each step is written once. */
struct update_shown {
        enum update_step_state steps[UPDATE_STEPS];
        bool waits; /* it was said what for, at this step and with so many bytes there */
        char waiting_for[512];
        int waiting_step;
        uint64_t waiting_bytes;
};
/* Lines for the steps that ended since; on a terminal what is under way, too. With `json` a line each time.
 */
void update_show_progress(const struct update_state *s, struct update_shown *shown, bool json);
/* Its end, with the list of what changed or would. */
void update_show_end(const struct update_state *s);
/* "In Progress: download, 12 % of 3.1 MB by 443", "Completed at …"; the caller's. */
char *update_show_line(const struct update_state *s);
/* An array of update_state_to_json. */
void update_show_history(const json_t *list, bool csv, bool json);
