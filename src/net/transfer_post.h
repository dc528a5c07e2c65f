/* What a process moves at present, for `gridnode status` and for whoever waits for it: one small file a
 * process in RUN/transfers, opened while there are rights to, rewritten in place, and locked (flock(2)) for
 * as long as its owner lives, so that what a killed one left is not taken for the truth. */
#pragma once

#include "base/error.h"

#include <jansson.h>

struct transfer_post; /* opaque */

/* FOLDER/NAME-PID. Where it cannot be made (no daemon ever ran, no rights), posting does nothing. */
struct transfer_post *transfer_post_open(const char *folder, const char *name);
struct transfer_post *transfer_post_close(struct transfer_post *p);
/* At most TRANSFER_POST_BYTES as text; a longer one is left out. `value` is borrowed; NULL: nothing moves. */
#define TRANSFER_POST_BYTES 2048
void transfer_post_write(struct transfer_post *p, const json_t *value);
/* {"name", "state", "bytes", "size", "bytes_per_second", "remaining_s", "way", "waits_for", "pid"} of all
 * that live, as an array. What was left behind is removed where that is permitted. */
json_t *transfer_post_list(const char *folder);
