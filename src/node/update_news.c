#include "node/update_news.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"

#include <stdlib.h>
#include <string.h>

/* An event's other members, and the outbox's, have the rest. */
#define UPDATE_MAX_BYTES (WIRE_EVENT_MAXIMUM - (16 << 10))

static const char *const phase_names[] = {"none", "started", "waits", "goes-on", "ended"};

json_t *update_told_to_json(const struct update_told *t)
{
        return json_pack("{s:s,s:s,s:i,s:I}", "id", t->id, "phase", phase_names[t->phase], "step",
                t->waiting_step, "bytes", (json_int_t)t->waiting_bytes);
}

void update_told_from_json(const json_t *j, struct update_told *ret)
{
        const char *id = json_string_value(json_object_get(j, "id"));
        const char *phase = json_string_value(json_object_get(j, "phase"));

        *ret = (struct update_told){0};
        if (!id || !wire_id_is_valid(id))
                return;
        str_copy(ret->id, sizeof ret->id, id);
        for (size_t i = 0; i < ELEMENTS(phase_names); i++)
                if (str_equal(phase, phase_names[i]))
                        ret->phase = (enum update_phase)i;
        ret->waiting_step = (int)json_integer_value(json_object_get(j, "step"));
        ret->waiting_bytes = (uint64_t)json_integer_value(json_object_get(j, "bytes"));
}

/* ---- words ---- */

static size_t count_security(const struct update_state *s)
{
        size_t n = 0;

        for (size_t i = 0; i < s->package_count; i++)
                n += s->packages[i].security;
        return n;
}

char *update_summary(const struct update_state *s)
{
        size_t security = count_security(s);
        struct text t = {0};

        if (s->version_to[0] && !str_equal(s->version_from, s->version_to))
                text_addf(&t, "%s → %s", s->version_from[0] ? s->version_from : "none", s->version_to);
        else if (s->version_from[0])
                text_addf(&t, "%s stays", s->version_from);
        else
                text_add(&t, "no newer version");
        if (security > 0)
                text_addf(&t, ", %zu security package%s", security, security == 1 ? "" : "s");
        return text_take(&t);
}

static const char *noun(const struct update_state *s)
{
        return s->job.action == UPDATE_DOWNLOAD ? "Download of an update" : "Software update";
}

static char *say_started(const struct update_state *s)
{
        return s->job.by[0] ? xasprintf("%s started, asked for by %s", noun(s), s->job.by)
                            : xasprintf("%s started", noun(s));
}

static char *say_waits(const struct update_state *s)
{
        char since[32];

        time_format_utc(s->waiting_since_unix_ms, since);
        return xasprintf("%s waits since %s: %s", noun(s), since,
                s->waiting_for[0]    ? s->waiting_for
                : s->waiting_code[0] ? s->waiting_code
                                     : "the way to the repository is not open");
}

static char *say_goes_on(const struct update_state *s)
{
        return s->way ? xasprintf("%s goes on by %u", noun(s), s->way) : xasprintf("%s goes on", noun(s));
}

static char *say_ended(const struct update_state *s)
{
        _cleanup_free_ char *summary = update_summary(s);

        if (s->status == UPDATE_COMPLETED)
                return xasprintf("%s completed: %s", noun(s), summary);
        return xasprintf("%s failed: %s", noun(s), s->error[0] ? s->error : "no reason was given");
}

/* ---- what is news ---- */

static bool is_waiting(const struct update_state *s)
{
        return s->status == UPDATE_IN_PROGRESS && s->waiting_since_unix_ms > 0;
}

/* UPDATE_STEPS: none. */
static int step_of(const struct update_state *s)
{
        const struct update_step *step = update_running_step(s);

        return step ? (int)(step - s->steps) : UPDATE_STEPS;
}

/* Another attempt is under way at each turn; that it got further shows that the way is open. */
static bool goes_on(const struct update_told *told, const struct update_state *s)
{
        return !is_waiting(s) && (step_of(s) != told->waiting_step || s->bytes > told->waiting_bytes);
}

/* A way that comes and goes is not told each time. */
static bool is_long_wait(const struct update_state *s, enum update_phase phase, int64_t now_unix_ms)
{
        int64_t least_ms = phase == PHASE_GOES_ON ? UPDATE_WAIT_AGAIN_MS : UPDATE_WAIT_TOLD_MS;

        return is_waiting(s) && now_unix_ms - s->waiting_since_unix_ms >= least_ms;
}

/* Whether its beginning is worth a word, before anything else was said of it. */
static bool is_worth_it(const struct update_state *s, int64_t now_unix_ms)
{
        bool is_asked_for = s->job.by[0] && !str_equal(s->job.by, "schedule");

        if (s->job.action != UPDATE_NOW && s->job.action != UPDATE_DOWNLOAD)
                return false;
        if (s->status == UPDATE_FAILED || is_long_wait(s, PHASE_NONE, now_unix_ms))
                return true;
        if (s->job.action == UPDATE_DOWNLOAD)
                return is_asked_for;
        return is_asked_for || s->package_count > 0 || s->version_to[0];
}

static void tell(enum wire_severity severity, char *message, enum update_phase phase, struct update_news *ret)
{
        ret->severity = severity;
        ret->message = message;
        ret->told.phase = phase;
}

bool update_news(const struct update_told *told, const struct update_state *now, int64_t now_unix_ms,
        struct update_news *ret)
{
        bool is_same = str_equal(told->id, now->job.id);
        enum update_phase phase = is_same ? told->phase : PHASE_NONE;

        *ret = (struct update_news){0};
        str_copy(ret->told.id, sizeof ret->told.id, now->job.id);
        if (is_same) {
                ret->told.waiting_step = told->waiting_step;
                ret->told.waiting_bytes = told->waiting_bytes;
        }
        if (phase == PHASE_ENDED)
                return false;
        if (phase == PHASE_NONE) {
                if (!is_worth_it(now, now_unix_ms))
                        return false;
                tell(WIRE_INFO, say_started(now), PHASE_STARTED, ret);
        } else if (now->status != UPDATE_IN_PROGRESS) {
                tell(now->status == UPDATE_FAILED ? WIRE_ERROR : WIRE_INFO, say_ended(now), PHASE_ENDED, ret);
        } else if (phase == PHASE_WAITS && goes_on(told, now)) {
                tell(WIRE_INFO, say_goes_on(now), PHASE_GOES_ON, ret);
        } else if (is_long_wait(now, phase, now_unix_ms) && phase != PHASE_WAITS) {
                tell(WIRE_WARNING, say_waits(now), PHASE_WAITS, ret);
                ret->told.waiting_step = step_of(now);
                ret->told.waiting_bytes = now->bytes;
        } else {
                return false;
        }
        return true;
}

/* ---- what goes with it ---- */

static size_t size_of(const json_t *j)
{
        return json_dumpb(j, NULL, 0, JSON_COMPACT);
}

/* The last so many bytes of it, from the beginning of a line on. */
static void shorten_log(json_t *j, const char *log, size_t keep)
{
        size_t length = strlen(log);
        const char *from = log + (length > keep ? length - keep : 0), *line = strchr(from, '\n');

        if (from > log)
                from = line ? line + 1 : "";
        if (*from)
                json_object_set_new(j, "log", json_string(from));
        else
                json_object_del(j, "log");
}

json_t *update_for_event(const struct update_state *s)
{
        json_t *j = update_state_to_json(s);

        for (size_t keep = 32 << 10; size_of(j) > UPDATE_MAX_BYTES && json_object_get(j, "log"); keep /= 2)
                shorten_log(j, s->log, keep > 512 ? keep : 0);
        /* The longest list has a number of its own to be told by. */
        for (json_t *list = json_object_get(j, "packages");
                size_of(j) > UPDATE_MAX_BYTES && json_array_size(list) > 0;)
                json_array_remove(list, json_array_size(list) - 1);
        return j;
}
