/* What people are told of an update, and what an event carries of it. Pure: what was told last, and how it
 * stands now. */
#pragma once

#include "wire/update.h"
#include "wire/wire.h"

enum update_phase { PHASE_NONE, PHASE_STARTED, PHASE_WAITS, PHASE_GOES_ON, PHASE_ENDED };
/* Outlives the daemon: each phase of an update is told once. */
struct update_told {
        char id[WIRE_ID_MAXIMUM + 1]; /* of the update; "": none was told yet */
        enum update_phase phase;
        /* Of the wait that was told: the step, and how much had come by then. A mere attempt is no going on.
         */
        int waiting_step;
        uint64_t waiting_bytes;
};
json_t *update_told_to_json(const struct update_told *t);
/* Anything may be given: what is not understood is as if nothing had been told. */
void update_told_from_json(const json_t *j, struct update_told *ret);

struct update_news {
        enum wire_severity severity;
        char *message; /* the caller's */
        struct update_told told;
};
/* The next event that `now` calls for; false: none at this time. To be asked again after each: what began and
 * ended unseen is told as both. Looking and trying out are not told; nor is, where nobody asked for it, an
 * update that finds nothing to do, or a download that goes well. A wait is told when it has lasted
 * UPDATE_WAIT_TOLD_MS, and a further one of the same update after UPDATE_WAIT_AGAIN_MS. */
#define UPDATE_WAIT_TOLD_MS  5000
#define UPDATE_WAIT_AGAIN_MS 60000
bool update_news(const struct update_told *told, const struct update_state *now, int64_t now_unix_ms,
        struct update_news *ret);
/* For an event's member "update": small enough for the event, with as much of the log's end as has room when
 * it is there. */
json_t *update_for_event(const struct update_state *s);
/* "0.1.0 → 0.2.0, 3 security packages"; the caller's. */
char *update_summary(const struct update_state *s);
