/* Whether a node's coming and going is told: ten changes within 5 minutes are one "Connection Flapping", then
 * it is silence for as long as it goes on, told again once in 120 minutes. The last word is always the node's
 * true state: when it has stayed in one for a while after changes that were not told, that is told. Pure; the
 * time is a monotonic clock's, greater than 0. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define PRESENCE_CHANGES 10
/* Nodes try again within 60 s: whoever has not moved for longer stays. (A test waits less long.) */
#ifndef PRESENCE_SETTLED_MS
#define PRESENCE_SETTLED_MS 90000
#endif

struct presence {                             /* of one node; {0} */
        int64_t changes_ms[PRESENCE_CHANGES]; /* a ring: when it came or went */
        unsigned next;
        int64_t flapping_told_ms; /* 0: it is not flapping */
        int64_t untold_ms;        /* when it last came or went without a word of it; 0: all is told */
};

enum presence_news {
        PRESENCE_TELL,     /* the change itself */
        PRESENCE_FLAPPING, /* that it is flapping, in place of the change */
        PRESENCE_QUIET,
};
enum presence_news presence_changed(struct presence *p, int64_t now_ms);
/* Its state was not told (by whom is remembered elsewhere: the plane was started anew). */
void presence_untold(struct presence *p, int64_t now_ms);
/* It stays in the state that it is in, which nobody was told of: tell it, and then presence_told(). */
bool presence_is_settled(const struct presence *p, int64_t now_ms);
void presence_told(struct presence *p);
