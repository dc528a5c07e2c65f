/* From single results to states: hysteresis, recovery, flapping. */
#include "node/monitor_internal.h"

#include "base/alloc.h"

#include <math.h>
#include <string.h>

#define CONFIRM_MS   1000.0  /* until a recovery's second attempt */
#define HOLD_MS      10000.0 /* for the others to recover as well, before it is told */
#define FORGET_AFTER 2       /* answers without an address */

/* ---- targets ---- */

long monitor_find(const struct subject *s, const struct inet_addr *address, size_t service)
{
        for (size_t i = 0; i < s->count; i++)
                if (inet_addr_equal(&s->targets[i].address, address) &&
                        (s->service || s->targets[i].service == service))
                        return (long)i;
        return -1;
}

long monitor_learn(struct subject *s, const struct inet_addr *address)
{
        long at = monitor_find(s, address, 0);

        if (at >= 0 || !inet_addr_is_set(address))
                return at;
        if (s->count >= MONITOR_MAX_TARGETS)
                return -1;
        s->targets = xrealloc_array(s->targets, s->count + 1, sizeof *s->targets);
        s->targets[s->count] = (struct target){.address = *address,
                .last_ms = -HUGE_VAL,
                .last_fail_ms = -HUGE_VAL,
                .retry_ms = HUGE_VAL,
                .not_before_ms = -HUGE_VAL};
        return (long)s->count++;
}

static void forget_target(struct subject *s, size_t at)
{
        memmove(&s->targets[at], &s->targets[at + 1], (s->count - at - 1) * sizeof *s->targets);
        s->count--;
}

static size_t count_bad(const struct subject *s)
{
        size_t n = 0;

        for (size_t i = 0; i < s->count; i++)
                n += s->targets[i].is_bad;
        return n;
}

/* A name that no server resolves is a failure; anything less is a weakness. */
static enum monitor_state state_of_bad_dns(const struct monitor *m, const struct subject *s)
{
        size_t names = m->o.profile->service_count ? m->o.profile->service_count : 1;
        bool any = false;

        for (size_t name = 0; name < names; name++) {
                size_t bad = 0;

                for (size_t i = 0; i < s->count; i++)
                        bad += s->targets[i].service == name && s->targets[i].is_bad;
                if (bad > 0 && bad == m->o.dns_count)
                        return MONITOR_FAILED;
                any |= bad > 0;
        }
        return any ? MONITOR_DEGRADED : MONITOR_OK;
}

enum monitor_state monitor_state_of_bad(const struct monitor *m, const struct subject *s)
{
        if (!s->service)
                return state_of_bad_dns(m, s);
        if (count_bad(s) == 0)
                return MONITOR_OK;
        for (size_t i = 0; i < s->count; i++)
                if (!s->targets[i].is_bad && s->targets[i].has_result && s->targets[i].last_good)
                        return MONITOR_DEGRADED;
        return MONITOR_FAILED;
}

/* ---- states ---- */

void monitor_show(struct subject *s, double now_ms)
{
        enum monitor_state shown = s->state;

        for (size_t i = 0; i < s->count && s->state <= MONITOR_OK; i++)
                if (s->targets[i].fails > 0)
                        shown = MONITOR_SUSPECT;
        if (shown == s->shown)
                return;
        s->shown = shown;
        s->since_ms = now_ms;
}

static void forget_cause(struct subject *s)
{
        free(s->cause);
        free(s->summary);
        s->cause = s->summary = NULL;
}

/* The diagnosis was right, and what it found is over: the next failure is a new one, not the same question
 * again. */
static void end_pauses(struct subject *s)
{
        for (size_t i = 0; i < s->count; i++) {
                s->targets[i].not_before_ms = -HUGE_VAL;
                s->targets[i].pause_ms = 0;
        }
}

void monitor_enter(
        struct monitor *m, struct subject *s, enum monitor_state state, bool has_diagnosis, double now_ms)
{
        s->state = state;
        s->hold_until_ms = HUGE_VAL;
        if (state == MONITOR_OK) {
                forget_cause(s);
                s->is_beyond_probes = false;
                s->recheck_pause_ms = 0;
                if (s->told > MONITOR_OK && !s->is_flapping)
                        end_pauses(s);
        }
        if (state != s->told && !s->is_flapping) {
                monitor_tell_state(m, s, has_diagnosis);
                s->told = state;
        }
        monitor_show(s, now_ms);
}

/* ---- flapping ---- */

/* All targets go down in one outage, and come up after it: that is one change, and one more. */
static void note_flip(struct monitor *m, struct subject *s, bool to, double now_ms)
{
        double oldest, *last = &s->flips[(s->flip_at + MONITOR_FLIPS - 1) % MONITOR_FLIPS];

        if (*last != -HUGE_VAL && s->flipped_to == to) {
                *last = now_ms;
                return;
        }
        s->flipped_to = to;
        s->flips[s->flip_at] = now_ms;
        s->flip_at = (s->flip_at + 1) % MONITOR_FLIPS;
        oldest = s->flips[s->flip_at];
        if (!s->is_flapping && now_ms - oldest > MONITOR_FLAP_MS)
                return;
        s->is_flapping = true;
        if (now_ms - s->flap_told_ms < MONITOR_SILENCE_MS)
                return;
        s->flap_told_ms = now_ms;
        monitor_tell_flapping(m, s);
}

static double last_flip_ms(const struct subject *s)
{
        return s->flips[(s->flip_at + MONITOR_FLIPS - 1) % MONITOR_FLIPS];
}

/* It was quiet for long enough: what is true now is told, unless it is a failure that was told before. */
static void end_flapping(struct monitor *m, struct subject *s)
{
        s->is_flapping = false;
        for (size_t i = 0; i < MONITOR_FLIPS; i++)
                s->flips[i] = -HUGE_VAL;
        if (s->state == MONITOR_UNKNOWN || (s->state != MONITOR_OK && s->state == s->told))
                return;
        monitor_tell_state(m, s, false);
        s->told = s->state;
}

/* ---- recovery ---- */

/* When one is back, the others are asked, so that one event tells how far it went. */
static void begin_hold(struct subject *s, double now_ms)
{
        if (s->hold_until_ms != HUGE_VAL || s->is_beyond_probes)
                return;
        s->hold_until_ms = now_ms + HOLD_MS;
        for (size_t i = 0; i < s->count; i++)
                if (s->targets[i].is_bad) {
                        s->targets[i].is_checked = false;
                        s->targets[i].retry_ms = now_ms;
                }
}

static void settle(struct monitor *m, struct subject *s, double now_ms)
{
        if (s->hold_until_ms == HUGE_VAL)
                return;
        for (size_t i = 0; i < s->count && now_ms < s->hold_until_ms; i++)
                if (s->targets[i].is_bad && !s->targets[i].is_checked)
                        return;
        s->hold_until_ms = HUGE_VAL;
        for (size_t i = 0; i < s->count; i++)
                if (s->targets[i].is_bad)
                        s->targets[i].retry_ms = HUGE_VAL;
        monitor_enter(m, s, monitor_state_of_bad(m, s), false, now_ms);
}

static void judge_good(struct monitor *m, struct subject *s, struct target *t, double now_ms)
{
        t->fails = 0;
        t->retry_ms = HUGE_VAL;
        t->goods += t->goods < 1000;
        s->last_ok_ms = now_ms;
        if (t->is_bad && t->goods >= 2) {
                t->is_bad = false;
                begin_hold(s, now_ms);
        } else if (t->is_bad) {
                t->retry_ms = now_ms + CONFIRM_MS;
        } else if (s->state == MONITOR_UNKNOWN && (t->goods >= 2 || s->told == MONITOR_OK)) {
                monitor_enter(m, s, MONITOR_OK, false, now_ms);
        } else if (s->state == MONITOR_FAILED && t->goods >= 2) {
                begin_hold(s, now_ms);
        } else if (s->state == MONITOR_FAILED || s->state == MONITOR_UNKNOWN) {
                t->retry_ms = now_ms + CONFIRM_MS;
        }
        settle(m, s, now_ms);
}

/* ---- failure ---- */

/* A server that fails for one name needs no diagnosis for failing for the next. */
static bool is_known_to_fail(const struct subject *s, const struct target *t)
{
        if (s->service)
                return s->state == MONITOR_FAILED;
        for (size_t i = 0; i < s->count; i++)
                if (s->targets[i].is_bad && inet_addr_equal(&s->targets[i].address, &t->address))
                        return true;
        return false;
}

static void judge_bad(struct monitor *m, struct subject *s, struct target *t, double now_ms)
{
        t->goods = 0;
        t->retry_ms = HUGE_VAL;
        if (t->is_bad) {
                t->is_checked = true;
                settle(m, s, now_ms);
                return;
        }
        /* Two transfers that break at once are one attempt. */
        if (t->fails == 0 || now_ms - t->last_fail_ms >= fmin(1000, m->o.suspect_ms / 2)) {
                t->fails += t->fails < 1000;
                t->last_fail_ms = now_ms;
        }
        if (t->fails < 2) {
                t->retry_ms = now_ms + m->o.suspect_ms * (1 + 0.2 * monitor_random(m));
        } else if (is_known_to_fail(s, t)) {
                t->is_bad = t->is_checked = true;
                if (s->hold_until_ms == HUGE_VAL && !s->is_beyond_probes)
                        monitor_enter(m, s, monitor_state_of_bad(m, s), false, now_ms);
        } else {
                t->retry_ms = now_ms + m->o.failed_ms * (0.8 + 0.4 * monitor_random(m));
        }
}

void monitor_judge(struct monitor *m, struct subject *s, size_t at, bool ok, double now_ms)
{
        struct target *t = &s->targets[at];

        /* What the newest answers no longer name is not the service's any more. */
        if (!ok && !t->is_fixed && s->service && t->named_by == 0 && t->unseen >= FORGET_AFTER) {
                forget_target(s, at);
                if (s->state == MONITOR_DEGRADED && count_bad(s) == 0)
                        begin_hold(s, now_ms);
                settle(m, s, now_ms);
                monitor_show(s, now_ms);
                return;
        }
        if (t->has_result && t->last_good != ok)
                note_flip(m, s, ok, now_ms);
        t->has_result = true;
        t->last_good = ok;
        t->last_ms = now_ms;
        if (ok)
                judge_good(m, s, t, now_ms);
        else
                judge_bad(m, s, t, now_ms);
        monitor_show(s, now_ms);
}

/* ---- time ---- */

static double tick_subject(struct monitor *m, struct subject *s, double now_ms)
{
        double next_ms = HUGE_VAL;

        settle(m, s, now_ms);
        next_ms = s->hold_until_ms;
        if (s->is_flapping && now_ms - last_flip_ms(s) >= MONITOR_FLAP_MS)
                end_flapping(m, s);
        if (s->is_flapping)
                next_ms = fmin(next_ms, last_flip_ms(s) + MONITOR_FLAP_MS);
        return next_ms;
}

/* When it wants a diagnosis: two failures in a row, or what no probe can see the end of. HUGE_VAL: not. */
static double wants_from_ms(const struct subject *s)
{
        double from_ms = s->is_beyond_probes ? s->recheck_ms : HUGE_VAL;

        for (size_t i = 0; i < s->count; i++)
                if (!s->targets[i].is_bad && s->targets[i].fails >= 2)
                        from_ms = fmin(from_ms, s->targets[i].not_before_ms);
        return from_ms;
}

double monitor_tick(struct monitor *m, double now_ms)
{
        double next_ms = HUGE_VAL, wants_ms = HUGE_VAL;

        for (size_t i = 0; i <= m->o.profile->service_count; i++) {
                struct subject *s = i < m->o.profile->service_count ? &m->services[i] : &m->dns;

                next_ms = fmin(next_ms, tick_subject(m, s, now_ms));
                wants_ms = fmin(wants_ms, wants_from_ms(s));
        }
        if (!m->wants_diagnosis && wants_ms <= now_ms) {
                m->wants_diagnosis = true;
                m->wanted_ms = now_ms;
        }
        return m->wants_diagnosis ? next_ms : fmin(next_ms, wants_ms);
}
