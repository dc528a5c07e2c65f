/* Whether a node's coming and going is told: ten changes within 5 minutes are one "Connection Flapping", then
 * it is silence for as long as it goes on, told again once in 120 minutes. Pure; the time is a monotonic
 * clock's, greater than 0. */
#pragma once

#include <stdint.h>

#define PRESENCE_CHANGES 10

struct presence {                             /* of one node; {0} */
        int64_t changes_ms[PRESENCE_CHANGES]; /* a ring: when it came or went */
        unsigned next;
        int64_t flapping_told_ms; /* 0: it is not flapping */
};

enum presence_news {
        PRESENCE_TELL,     /* the change itself */
        PRESENCE_FLAPPING, /* that it is flapping, in place of the change */
        PRESENCE_QUIET,
};
enum presence_news presence_changed(struct presence *p, int64_t now_ms);
