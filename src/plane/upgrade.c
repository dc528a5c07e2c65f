#include "plane/upgrade.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MINUTE_MS INT64_C(60000)
/* Who has been away for less comes back perhaps: a restart, a line that is renewed. */
#define AWAY_MS         (5 * MINUTE_MS)
#define ASK_AGAIN_MS    MINUTE_MS /* doubled with each try */
#define ASK_AGAIN_LIMIT (10 * MINUTE_MS)

static const char *const node_states[] = {[UPGRADE_NEW] = "NEW",
        [UPGRADE_READY] = "READY",
        [UPGRADE_WORKING] = "WORKING",
        [UPGRADE_DONE] = "DONE",
        [UPGRADE_SKIPPED] = "SKIPPED",
        [UPGRADE_ERROR] = "ERROR"};
static const char *const states[] = {[UPGRADE_PLANNED] = "planned",
        [UPGRADE_RUNNING] = "running",
        [UPGRADE_PAUSED] = "paused",
        [UPGRADE_STOPPED] = "stopped",
        [UPGRADE_CANCELLED] = "cancelled",
        [UPGRADE_COMPLETED] = "completed"};

static int find_word(const char *const *words, size_t count, const char *s)
{
        for (size_t i = 0; i < count; i++)
                if (str_equal(words[i], s))
                        return (int)i;
        return -EINVAL;
}

const char *upgrade_node_state_to_string(enum upgrade_node_state s)
{
        return node_states[s];
}

int upgrade_node_state_from_string(const char *s, enum upgrade_node_state *ret)
{
        int found = find_word(node_states, ELEMENTS(node_states), s);

        if (found >= 0)
                *ret = (enum upgrade_node_state)found;
        return found < 0 ? found : 0;
}

const char *upgrade_state_to_string(enum upgrade_state s)
{
        return states[s];
}

int upgrade_state_from_string(const char *s, enum upgrade_state *ret)
{
        int found = find_word(states, ELEMENTS(states), s);

        if (found >= 0)
                *ret = (enum upgrade_state)found;
        return found < 0 ? found : 0;
}

void upgrade_done(struct upgrade *u)
{
        for (size_t i = 0; i < u->node_count; i++)
                strv_done(&u->nodes[i].tags);
        for (size_t i = 0; i < u->line_count; i++)
                free(u->lines[i].text);
        free(u->nodes);
        free(u->lines);
        upgrade_plan_done(&u->plan);
        *u = (struct upgrade){0};
}

struct upgrade_node *upgrade_add_node(struct upgrade *u)
{
        struct upgrade_node *n;

        if (u->node_count == u->node_allocated) {
                u->node_allocated = u->node_allocated ? u->node_allocated * 2 : 64;
                u->nodes = xrealloc_array(u->nodes, u->node_allocated, sizeof *u->nodes);
        }
        n = &u->nodes[u->node_count++];
        *n = (struct upgrade_node){0};
        return n;
}

/* ---- what is told, and the one place where a state changes ---- */

static void tell(struct upgrade *u, const char *node, char *text)
{
        u->lines = xrealloc_array(u->lines, u->line_count + 1, sizeof *u->lines);
        u->lines[u->line_count++] = (struct upgrade_line){node, text};
}

static void set_reason(struct upgrade_node *n, const char *reason)
{
        if (str_equal(n->reason, reason))
                return;
        str_copy(n->reason, sizeof n->reason, reason);
        n->is_changed = true;
}

static void enter(struct upgrade *u, struct upgrade_node *n, enum upgrade_node_state state,
        const char *reason, int64_t now)
{
        set_reason(n, reason);
        if (n->state == state)
                return;
        tell(u, n->id,
                xasprintf("%s: %s to %s%s%s", n->name, node_states[n->state], node_states[state],
                        *n->reason ? ", " : "", n->reason));
        n->state = state;
        n->since = now;
        n->is_changed = true;
}

static void enter_whole(struct upgrade *u, enum upgrade_state state, const char *reason, int64_t now)
{
        bool is_over = state == UPGRADE_CANCELLED || state == UPGRADE_COMPLETED;

        u->state = state;
        str_copy(u->reason, sizeof u->reason, reason);
        u->ended = is_over ? now : 0;
        u->is_changed = true;
        tell(u, NULL, xasprintf("%s%s%s", states[state], *reason ? ": " : "", reason));
}

/* ---- counting ---- */

static bool has_ended(const struct upgrade_node *n)
{
        return n->state >= UPGRADE_DONE;
}

/* The lowest wave with a node that has not ended; the last one when all have. */
static unsigned current_wave(const struct upgrade *u, bool *ret_all_ended)
{
        unsigned lowest = 0, last = 0;

        for (size_t i = 0; i < u->node_count; i++) {
                const struct upgrade_node *n = &u->nodes[i];

                if (n->wave > last)
                        last = n->wave;
                if (!has_ended(n) && (!lowest || n->wave < lowest))
                        lowest = n->wave;
        }
        *ret_all_ended = lowest == 0;
        return lowest ? lowest : last;
}

unsigned upgrade_failures(const struct upgrade *u, size_t *ret_failed, size_t *ret_begun)
{
        bool all_ended;
        unsigned wave = current_wave(u, &all_ended);

        *ret_failed = *ret_begun = 0;
        for (size_t i = 0; i < u->node_count; i++) {
                const struct upgrade_node *n = &u->nodes[i];

                if (n->wave == 0 || n->wave > wave || n->state == UPGRADE_SKIPPED)
                        continue;
                *ret_begun += 1;
                *ret_failed += n->state == UPGRADE_ERROR;
        }
        return *ret_begun ? (unsigned)(*ret_failed * 100 / *ret_begun) : 0;
}

/* Compared as whole numbers: 1 of 9 is more than 11 per cent. */
static bool too_many_failed(const struct upgrade *u, size_t *ret_failed, size_t *ret_begun)
{
        upgrade_failures(u, ret_failed, ret_begun);
        return *ret_failed * 100 > *ret_begun * u->plan.stop_at_percent;
}

/* ---- what is seen of a node ---- */

static int64_t limit_ms(const struct upgrade *u)
{
        return u->plan.limit_minutes * MINUTE_MS;
}

static void describe_away(const struct upgrade_node *n, char ret[96])
{
        char at[32];

        if (!n->gone_since) {
                str_copy(ret, 96, "offline: it was never connected");
                return;
        }
        time_format_utc(n->gone_since, at);
        snprintf(ret, 96, "offline since %s", at);
}

static void describe_versions(const struct upgrade_node *n, char ret[UPGRADE_REASON_BYTES])
{
        if (n->seen_to[0] && !str_equal(n->seen_from, n->seen_to))
                snprintf(ret, UPGRADE_REASON_BYTES, "%s → %s", n->seen_from, n->seen_to);
        else
                snprintf(ret, UPGRADE_REASON_BYTES, "%zu packages of the operating system; gridnode stays %s",
                        n->seen_packages, n->seen_from);
}

static void take_completed(struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        bool is_newer = n->seen_to[0] && !str_equal(n->seen_from, n->seen_to);
        char reason[UPGRADE_REASON_BYTES];

        if (!is_newer && n->seen_packages == 0) {
                snprintf(reason, sizeof reason, "already %s", n->seen_from);
                enter(u, n, UPGRADE_SKIPPED, reason, now);
                return;
        }
        describe_versions(n, reason);
        enter(u, n, UPGRADE_DONE, reason, now);
}

/* Whether what its update tells is still to be heard. One that was given up may have ended after all, and one
 * that was cancelled here may have been asked just before. */
static bool listens(const struct upgrade_node *n)
{
        if (n->seen_event <= n->after_event)
                return false;
        switch (n->state) {
        case UPGRADE_NEW:
        case UPGRADE_SKIPPED:
                return n->asked > 0;
        case UPGRADE_READY:
        case UPGRADE_WORKING:
                return true;
        case UPGRADE_ERROR:
                return n->seen_status == UPDATE_COMPLETED;
        case UPGRADE_DONE:
        case UPGRADE_NODE_STATES:
                break;
        }
        return false;
}

static void take_news(struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        if (!listens(n))
                return;
        if (!str_equal(n->job, n->seen_job)) {
                str_copy(n->job, sizeof n->job, n->seen_job);
                n->is_changed = true;
        }
        switch (n->seen_status) {
        case UPDATE_IN_PROGRESS:
                enter(u, n, UPGRADE_WORKING, n->seen_text, now);
                break;
        case UPDATE_COMPLETED:
                take_completed(u, n, now);
                break;
        case UPDATE_FAILED:
                enter(u, n, UPGRADE_ERROR, n->seen_text[0] ? n->seen_text : "the update failed", now);
                break;
        }
}

static void take_answer(struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        if (n->state != UPGRADE_READY)
                return;
        switch (n->answer) {
        case ANSWER_NONE:
                break;
        case ANSWER_ACCEPTED:
                set_reason(n, "asked: it takes the update up");
                break;
        case ANSWER_LATER:
                set_reason(n, n->answer_text);
                break;
        case ANSWER_REFUSED:
                enter(u, n, UPGRADE_ERROR, n->answer_text, now);
                break;
        }
}

static void give_up_ready(struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        char reason[UPGRADE_REASON_BYTES], away[96];

        if (!n->is_connected) {
                describe_away(n, away);
                enter(u, n, UPGRADE_SKIPPED, away, now);
                return;
        }
        snprintf(reason, sizeof reason, "it did not begin within %u minute%s, asked %u times; last: %.300s",
                u->plan.limit_minutes, u->plan.limit_minutes == 1 ? "" : "s", n->tries,
                *n->reason ? n->reason : "no answer");
        enter(u, n, UPGRADE_ERROR, reason, now);
}

static void take_time(struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        char text[96];

        if (n->state == UPGRADE_WORKING && now - n->since >= limit_ms(u)) {
                snprintf(text, sizeof text, "no end within %u minute%s", u->plan.limit_minutes,
                        u->plan.limit_minutes == 1 ? "" : "s");
                enter(u, n, UPGRADE_ERROR, text, now);
        } else if (n->state == UPGRADE_READY && now - n->ready >= limit_ms(u)) {
                give_up_ready(u, n, now);
        } else if (n->state == UPGRADE_READY && !n->is_connected) {
                describe_away(n, text);
                set_reason(n, text);
        }
}

static void look_at(struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        if (!n->is_there && !has_ended(n)) {
                enter(u, n, UPGRADE_SKIPPED, "the node was removed", now);
                return;
        }
        take_news(u, n, now);
        take_answer(u, n, now);
        take_time(u, n, now);
}

/* ---- going on ---- */

static void make_ready(struct upgrade *u, struct upgrade_node *n, int64_t now)
{
        char reason[96];

        if (n->is_manual) {
                enter(u, n, UPGRADE_SKIPPED, TAG_MANUAL "=true", now);
                return;
        }
        if (u->newest[0] && str_equal(n->version, u->newest)) {
                snprintf(reason, sizeof reason, "already %s", u->newest);
                enter(u, n, UPGRADE_SKIPPED, reason, now);
                return;
        }
        n->ready = now;
        n->asked = 0;
        n->tries = 0;
        n->after_event = u->newest_event;
        if (n->is_connected)
                reason[0] = 0;
        else
                describe_away(n, reason);
        enter(u, n, UPGRADE_READY, reason, now);
}

static bool is_away_for_long(const struct upgrade_node *n, int64_t now)
{
        return n->state == UPGRADE_READY && !n->is_connected && now - n->gone_since >= AWAY_MS;
}

/* Those who are not there do not hold up a wave that is over but for them. */
static void skip_the_away(struct upgrade *u, int64_t now)
{
        char away[96];

        for (size_t i = 0; i < u->node_count; i++) {
                const struct upgrade_node *n = &u->nodes[i];

                if (n->wave == u->wave && !has_ended(n) && !is_away_for_long(n, now))
                        return;
        }
        for (size_t i = 0; i < u->node_count; i++) {
                struct upgrade_node *n = &u->nodes[i];

                if (n->wave != u->wave || !is_away_for_long(n, now))
                        continue;
                describe_away(n, away);
                enter(u, n, UPGRADE_SKIPPED, away, now);
        }
}

static void begin_wave(struct upgrade *u, unsigned wave, int64_t now)
{
        size_t count = 0;

        for (size_t i = 0; i < u->node_count; i++)
                count += u->nodes[i].wave == wave && !has_ended(&u->nodes[i]);
        if (u->wave != wave) {
                u->wave = wave;
                u->is_changed = true;
                tell(u, NULL,
                        xasprintf("wave %u of %zu begins: %zu node%s", wave, u->plan.wave_count, count,
                                count == 1 ? "" : "s"));
        }
        for (size_t i = 0; i < u->node_count; i++)
                if (u->nodes[i].wave == wave && u->nodes[i].state == UPGRADE_NEW)
                        make_ready(u, &u->nodes[i], now);
        skip_the_away(u, now);
}

/* Who is READY waits for another attempt, of which nothing has been heard yet. */
static void hold_ready(struct upgrade *u, const char *reason, int64_t now)
{
        for (size_t i = 0; i < u->node_count; i++)
                if (u->nodes[i].state == UPGRADE_READY)
                        enter(u, &u->nodes[i], UPGRADE_NEW, reason, now);
}

static const struct upgrade_node *last_failure(const struct upgrade *u)
{
        const struct upgrade_node *last = NULL;

        for (size_t i = 0; i < u->node_count; i++)
                if (u->nodes[i].state == UPGRADE_ERROR && (!last || u->nodes[i].since >= last->since))
                        last = &u->nodes[i];
        return last;
}

static void complete(struct upgrade *u, int64_t now)
{
        size_t counts[UPGRADE_NODE_STATES] = {0};
        char reason[96];

        for (size_t i = 0; i < u->node_count; i++)
                counts[u->nodes[i].state]++;
        snprintf(reason, sizeof reason, "%zu done, %zu skipped, %zu failed", counts[UPGRADE_DONE],
                counts[UPGRADE_SKIPPED], counts[UPGRADE_ERROR]);
        enter_whole(u, UPGRADE_COMPLETED, reason, now);
}

static void advance(struct upgrade *u, int64_t now)
{
        for (unsigned i = 0; i <= UPGRADE_MAX_WAVES; i++) {
                size_t failed, begun;
                char reason[160];
                bool all_ended;
                unsigned wave = current_wave(u, &all_ended);

                if (all_ended) {
                        complete(u, now);
                        return;
                }
                if (too_many_failed(u, &failed, &begun)) {
                        snprintf(reason, sizeof reason,
                                "%zu of %zu nodes failed, more than %u %%: no further node begins", failed,
                                begun, u->plan.stop_at_percent);
                        enter_whole(u, UPGRADE_STOPPED, reason, now);
                        u->stopped_by = last_failure(u);
                        hold_ready(u, "the upgrade stopped itself", now);
                        return;
                }
                begin_wave(u, wave, now);
                if (current_wave(u, &all_ended) == wave && !all_ended)
                        return;
        }
}

static int64_t ask_at(const struct upgrade_node *n)
{
        int64_t delay_ms = ASK_AGAIN_MS;

        if (!n->asked || n->connected_since > n->asked)
                return 0;
        for (unsigned i = 1; i < n->tries && delay_ms < ASK_AGAIN_LIMIT; i++)
                delay_ms *= 2;
        return n->asked + (delay_ms < ASK_AGAIN_LIMIT ? delay_ms : ASK_AGAIN_LIMIT);
}

static void ask(struct upgrade *u, size_t may_ask, int64_t now)
{
        for (size_t i = 0; i < u->node_count && may_ask > 0; i++) {
                struct upgrade_node *n = &u->nodes[i];

                if (n->state != UPGRADE_READY || !n->is_connected || n->is_asking || now < ask_at(n))
                        continue;
                n->asked = now;
                n->tries++;
                n->is_changed = n->is_to_ask = true;
                may_ask--;
        }
}

void upgrade_step(struct upgrade *u, size_t may_ask, int64_t now)
{
        u->is_watched = false;
        for (size_t i = 0; i < u->node_count; i++)
                look_at(u, &u->nodes[i], now);
        if (u->state == UPGRADE_RUNNING)
                advance(u, now);
        if (u->state == UPGRADE_RUNNING)
                ask(u, may_ask, now);
        /* A node that begins although the whole is over was asked before. */
        for (size_t i = 0; i < u->node_count; i++) {
                const struct upgrade_node *n = &u->nodes[i];

                u->is_watched |= n->state == UPGRADE_WORKING || (n->asked && !has_ended(n)) ||
                                 (n->state == UPGRADE_SKIPPED && n->asked && now - n->asked < limit_ms(u));
        }
        u->is_watched |= u->state == UPGRADE_RUNNING || u->state == UPGRADE_PAUSED;
}

/* ---- what people ask ---- */

static int not_now(const struct upgrade *u, const char *what, const char *wanted, struct error *e)
{
        return error_set(e, EEXIST, "upgrade.state", "the upgrade is %s: %s is for one that is %s",
                states[u->state], what, wanted);
}

int upgrade_start(struct upgrade *u, int64_t now, struct error *ret_error)
{
        if (u->state != UPGRADE_PLANNED)
                return not_now(u, "start", "planned", ret_error);
        if (u->node_count == 0)
                return error_set(ret_error, EINVAL, "upgrade.empty",
                        "no node is of this upgrade: look at its tags and sites, and at 'upgrade dry-run'");
        u->started = now;
        enter_whole(u, UPGRADE_RUNNING, "", now);
        return 0;
}

int upgrade_pause(struct upgrade *u, int64_t now, struct error *ret_error)
{
        if (u->state != UPGRADE_RUNNING)
                return not_now(u, "pause", "running", ret_error);
        enter_whole(u, UPGRADE_PAUSED, "", now);
        hold_ready(u, "the upgrade is paused", now);
        return 0;
}

int upgrade_resume(struct upgrade *u, int64_t now, struct error *ret_error)
{
        size_t failed, begun;

        if (u->state != UPGRADE_PAUSED && u->state != UPGRADE_STOPPED)
                return not_now(u, "resume", "paused or stopped", ret_error);
        if (u->state == UPGRADE_STOPPED && too_many_failed(u, &failed, &begun))
                return error_set(ret_error, EEXIST, "upgrade.failures",
                        "%zu of %zu nodes failed, still more than %u %%: 'retry' takes them up again", failed,
                        begun, u->plan.stop_at_percent);
        enter_whole(u, UPGRADE_RUNNING, "", now);
        return 0;
}

int upgrade_cancel(struct upgrade *u, int64_t now, struct error *ret_error)
{
        if (u->state == UPGRADE_CANCELLED || u->state == UPGRADE_COMPLETED)
                return not_now(u, "cancel", "not over", ret_error);
        enter_whole(u, UPGRADE_CANCELLED, "", now);
        for (size_t i = 0; i < u->node_count; i++)
                if (u->nodes[i].state == UPGRADE_NEW || u->nodes[i].state == UPGRADE_READY)
                        enter(u, &u->nodes[i], UPGRADE_SKIPPED, "cancelled", now);
        return 0;
}

/* What an earlier attempt still tells is not heard: its events are before `after_event`. */
int upgrade_retry(struct upgrade *u, int64_t now, struct error *ret_error)
{
        size_t count = 0;

        if (u->state == UPGRADE_PLANNED || u->state == UPGRADE_CANCELLED)
                return not_now(u, "retry", "running, paused, stopped or completed", ret_error);
        for (size_t i = 0; i < u->node_count; i++) {
                struct upgrade_node *n = &u->nodes[i];

                if (n->state != UPGRADE_ERROR)
                        continue;
                n->after_event = u->newest_event;
                n->asked = n->ready = 0;
                n->tries = 0;
                enter(u, n, UPGRADE_NEW, "", now);
                count++;
        }
        if (count == 0)
                return error_set(
                        ret_error, EEXIST, "upgrade.no-errors", "no node of this upgrade is in ERROR");
        if (u->state == UPGRADE_STOPPED || u->state == UPGRADE_COMPLETED)
                enter_whole(u, UPGRADE_RUNNING, "", now);
        return 0;
}
