#include "plane/presence.h"

#define WINDOW_MS     ((int64_t)5 * 60 * 1000)
#define TELL_AGAIN_MS ((int64_t)120 * 60 * 1000)

enum presence_news presence_changed(struct presence *p, int64_t now_ms)
{
        int64_t oldest;

        p->changes_ms[p->next] = now_ms;
        p->next = (p->next + 1) % PRESENCE_CHANGES;
        oldest = p->changes_ms[p->next]; /* of the last ten with this one; 0: there were fewer */
        if (!oldest || now_ms - oldest > WINDOW_MS) {
                p->flapping_told_ms = 0;
                p->untold_ms = 0;
                return PRESENCE_TELL;
        }
        p->untold_ms = now_ms;
        if (p->flapping_told_ms && now_ms - p->flapping_told_ms < TELL_AGAIN_MS)
                return PRESENCE_QUIET;
        p->flapping_told_ms = now_ms;
        return PRESENCE_FLAPPING;
}

void presence_untold(struct presence *p, int64_t now_ms)
{
        p->untold_ms = now_ms;
}

/* What was told of the flapping stays, so that one who flaps, rests and flaps again is not told anew each
 * time. */
bool presence_is_settled(const struct presence *p, int64_t now_ms)
{
        return p->untold_ms && now_ms - p->untold_ms >= PRESENCE_SETTLED_MS;
}

void presence_told(struct presence *p)
{
        p->untold_ms = 0;
}
