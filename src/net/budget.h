/* One bandwidth budget for everything that a node transfers, whichever process does it: a token bucket in a
 * file that they map (RUN/budget). Taking is one compare-and-swap, so that a process that is killed at any
 * point leaves nothing locked and nothing lost.
 *
 * Priorities: a class may take only what leaves the reserve of those above it in the bucket, so that what is
 * more urgent finds tokens at once and what is less urgent gets what is left over. */
#pragma once

#include "base/error.h"
#include "wire/budget_plan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct budget; /* opaque */

enum budget_class { BUDGET_CONTROL, BUDGET_LOGS, BUDGET_UPDATES, BUDGET_IMAGES, BUDGET_CLASSES };
const char *budget_class_to_string(enum budget_class c); /* "control", "logs", "updates", "images" */
int budget_class_from_string(const char *s, enum budget_class *ret);

/* Maps the file, making it (mode 0660, the folder's group) when it may. NULL path, or one that may not be
 * opened for writing: a bucket of this process alone. The file's content is from outside: what is not a
 * bucket of ours is begun anew. 0 or -errno. */
int budget_open(const char *path, struct budget **ret, struct error *ret_error);
struct budget *budget_close(struct budget *b);
/* Whoever knows the plan sets it (the daemon each minute and at each change; a lone command by itself). */
void budget_set_plan(struct budget *b, const struct budget_plan *p);
/* How much may be moved now: up to `wanted`, 0 to `wanted`, taken at once. *ret_wait_ms: when to ask again
 * where it was less than wanted. `now_ms` is CLOCK_BOOTTIME. */
size_t budget_take(struct budget *b, enum budget_class c, size_t wanted, double now_ms, double *ret_wait_ms);
uint64_t budget_limit(const struct budget *b);         /* bytes per second at present; 0: none */
void budget_give_back(struct budget *b, size_t bytes); /* taken and not used */
/* What was moved in truth lately, all processes together; for status and for the ETA of what is to
 * come: an average over some ten seconds of activity. 0: nothing measured yet. */
void budget_moved(struct budget *b, size_t bytes, double now_ms);
uint64_t budget_rate_seen(const struct budget *b);
