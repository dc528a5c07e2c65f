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
/* One record as it stands in the file. What is of another type than ours is left out, so that whoever reads
 * the list need not look. 0, -EBADMSG, -EFBIG. */
int transfer_post_parse(const void *data, size_t length, json_t **ret);
/* {"job" (class of the budget), "name", "state", "bytes", "size", "bytes_per_second", "remaining_s", "way",
 * "waits_for", "pid"} of all that live, as an array. Where "service" (of the profile), "address"
 * ("198.51.100.20:443"), "attempts" and "stage" (of the last failure) are there as well, the daemon counts it
 * as a probe of that service. What was left behind is removed where that is permitted. */
json_t *transfer_post_list(const char *folder);
