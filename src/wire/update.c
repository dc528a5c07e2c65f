#include "wire/update.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "wire/wire_internal.h"

#include <errno.h>
#include <string.h>

#define STATE_MAXIMUM_BYTES ((size_t)192 << 10)
#define LOG_MAXIMUM_BYTES   ((size_t)32 << 10)
#define MOST_BYTES          (INT64_C(1) << 50)

static const char *const action_names[] = {"check", "dry-run", "download", "now"};
static const char *const status_names[] = {"In Progress", "Completed", "Failed"};
static const char *const step_names[] = {"prepare", "look-up", "connect", "download", "keep", "own", "judge",
        "security", "restart", "restore"};
static const char *const state_names[] = {"pending", "running", "waiting", "done", "failed", "skipped"};

_Static_assert(ELEMENTS(step_names) == UPDATE_STEPS, "each step has a name");

static int find(const char *const *names, size_t count, const char *s)
{
        for (size_t i = 0; i < count; i++)
                if (str_equal(names[i], s))
                        return (int)i;
        return -EINVAL;
}

const char *update_action_to_string(enum update_action a)
{
        return action_names[a];
}

int update_action_from_string(const char *s, enum update_action *ret)
{
        int i = find(action_names, ELEMENTS(action_names), s);

        if (i < 0)
                return i;
        *ret = (enum update_action)i;
        return 0;
}

const char *update_status_to_string(enum update_status s)
{
        return status_names[s];
}

int update_status_from_string(const char *s, enum update_status *ret)
{
        int i = find(status_names, ELEMENTS(status_names), s);

        if (i < 0)
                return i;
        *ret = (enum update_status)i;
        return 0;
}

const char *update_step_to_string(enum update_step_name s)
{
        return step_names[s];
}

const char *update_step_state_to_string(enum update_step_state s)
{
        return state_names[s];
}

const struct update_step *update_running_step(const struct update_state *s)
{
        for (size_t i = 0; i < UPDATE_STEPS; i++)
                if (s->steps[i].state == STEP_RUNNING || s->steps[i].state == STEP_WAITING)
                        return &s->steps[i];
        return NULL;
}

void update_state_done(struct update_state *s)
{
        free(s->packages);
        free(s->log);
        *s = (struct update_state){0};
}

/* ---- the job ---- */

json_t *update_job_to_json(const struct update_job *j)
{
        return json_pack("{s:s,s:s,s:s,s:b,s:b,s:s}", "id", j->id, "action",
                update_action_to_string(j->action), "channel", j->channel, "reboot", j->reboot, "again",
                j->again, "by", j->by);
}

/* A suite of the repository, which becomes a part of a path and of a file of apt's. */
bool update_channel_is_valid(const char *s)
{
        return s && *s && *s != '-' && strlen(s) < sizeof(((struct update_job *)0)->channel) &&
               strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(s);
}

static bool is_printable(const char *s)
{
        for (; *s; s++)
                if (*s < ' ' || *s > '~')
                        return false;
        return true;
}

/* For a member that must be one of some words. */
static int read_word(struct json_reader *r, const char *name, const char *const *names, size_t count)
{
        const char *s = json_take_text(r, name, 32);
        int i = s ? find(names, count, s) : 0;

        if (i < 0)
                json_reader_fail(r, name, "is not known");
        return i < 0 ? 0 : i;
}

int update_job_from_json(const json_t *j, struct update_job *ret, struct error *ret_error)
{
        struct update_job job = {0};
        struct json_reader r;
        const char *channel;
        int result;

        json_reader_init(&r, (json_t *)j, "job", ret_error);
        wire_read_short(&r, "id", job.id, sizeof(job.id));
        if (!wire_id_is_valid(job.id))
                json_reader_fail(&r, "id", "is not an id");
        job.action = (enum update_action)read_word(&r, "action", action_names, ELEMENTS(action_names));
        channel = json_take_text(&r, "channel", sizeof(job.channel) - 1);
        if (channel && !update_channel_is_valid(channel))
                json_reader_fail(&r, "channel", "is not a channel's name");
        str_copy(job.channel, sizeof(job.channel), channel ? channel : "");
        job.reboot = json_take_optional_boolean(&r, "reboot", false);
        job.again = json_take_optional_boolean(&r, "again", false);
        wire_read_short(&r, "by", job.by, sizeof(job.by));
        if (!is_printable(job.by))
                json_reader_fail(&r, "by", "is not printable");
        result = json_reader_done(&r, true);
        if (result == 0)
                *ret = job;
        return result;
}

/* ---- the state, written ---- */

static json_t *time_or_null(int64_t unix_ms)
{
        return unix_ms > 0 ? json_time(unix_ms) : json_null();
}

static json_t *steps_to_json(const struct update_state *s)
{
        json_t *list = json_array();

        for (size_t i = 0; i < UPDATE_STEPS; i++) {
                const struct update_step *p = &s->steps[i];
                json_t *j;

                if (p->state == STEP_PENDING)
                        continue;
                j = json_pack("{s:s,s:s,s:o,s:o}", "name", step_names[i], "state", state_names[p->state],
                        "from", time_or_null(p->from_unix_ms), "to", time_or_null(p->to_unix_ms));
                wire_set_text(j, "text", p->text);
                json_array_append_new(list, j);
        }
        return list;
}

static json_t *packages_to_json(const struct update_state *s)
{
        json_t *list = json_array();

        for (size_t i = 0; i < s->package_count; i++) {
                const struct update_package *p = &s->packages[i];

                json_array_append_new(
                        list, json_pack("{s:s,s:s,s:s,s:b,s:I}", "name", p->name, "from", p->from, "to",
                                      p->to, "security", p->security, "bytes", (json_int_t)p->bytes));
        }
        return list;
}

json_t *update_state_to_json(const struct update_state *s)
{
        json_t *j = wire_new();

        json_object_set_new(j, "job", update_job_to_json(&s->job));
        json_object_set_new(j, "status", json_string(update_status_to_string(s->status)));
        json_object_set_new(j, "started", time_or_null(s->started_unix_ms));
        json_object_set_new(j, "ended", time_or_null(s->ended_unix_ms));
        json_object_set_new(j, "from", json_string(s->version_from));
        json_object_set_new(j, "to", json_string(s->version_to));
        json_object_set_new(j, "steps", steps_to_json(s));
        if (s->waiting_since_unix_ms)
                json_object_set_new(j, "waiting",
                        json_pack("{s:o,s:s,s:s}", "since", json_time(s->waiting_since_unix_ms), "code",
                                s->waiting_code, "for", s->waiting_for));
        json_object_set_new(j, "way", s->way ? json_integer(s->way) : json_null());
        json_object_set_new(j, "bytes", json_integer((json_int_t)s->bytes));
        json_object_set_new(j, "size", json_integer((json_int_t)s->size));
        json_object_set_new(j, "bytes_per_second", json_integer((json_int_t)s->bytes_per_second));
        json_object_set_new(j, "packages", packages_to_json(s));
        json_object_set_new(j, "needs_bytes", json_integer((json_int_t)s->needs_bytes));
        json_object_set_new(j, "free_bytes", json_integer((json_int_t)s->free_bytes));
        json_object_set_new(j, "eta_ms", s->eta_ms >= 0 ? json_integer((json_int_t)s->eta_ms) : json_null());
        json_object_set_new(j, "restart_needed", json_boolean(s->restart_needed));
        wire_set_text(j, "error", s->error);
        wire_set_text(j, "log", s->log);
        return j;
}

/* ---- read ---- */

static int64_t read_time(struct json_reader *r, const char *name)
{
        const char *s = json_take_optional_text(r, name, 31);
        int64_t ret = 0;

        if (s && time_parse_utc(s, &ret) < 0)
                json_reader_fail(r, name, "is no time");
        return ret;
}

static int read_step(json_t *item, struct update_state *s, struct error *ret_error)
{
        struct update_step *step;
        struct json_reader r;

        json_reader_init(&r, item, "step", ret_error);
        step = &s->steps[read_word(&r, "name", step_names, ELEMENTS(step_names))];
        step->state = (enum update_step_state)read_word(&r, "state", state_names, ELEMENTS(state_names));
        step->from_unix_ms = read_time(&r, "from");
        step->to_unix_ms = read_time(&r, "to");
        wire_read_short(&r, "text", step->text, sizeof(step->text));
        return json_reader_done(&r, false);
}

static int read_package(json_t *item, struct update_package *p, struct error *ret_error)
{
        struct json_reader r;

        json_reader_init(&r, item, "package", ret_error);
        wire_read_short(&r, "name", p->name, sizeof(p->name));
        wire_read_short(&r, "from", p->from, sizeof(p->from));
        wire_read_short(&r, "to", p->to, sizeof(p->to));
        p->security = json_take_optional_boolean(&r, "security", false);
        p->bytes = (uint64_t)json_take_optional_integer(&r, "bytes", 0, MOST_BYTES, 0);
        return json_reader_done(&r, false);
}

static int read_lists(json_t *steps, json_t *packages, struct update_state *s, struct error *ret_error)
{
        json_t *item;
        size_t i;
        int r = 0;

        json_array_foreach(steps, i, item)
        {
                if (r == 0)
                        r = json_is_object(item) ? read_step(item, s, ret_error)
                                                 : error_set(ret_error, EBADMSG, "wire.bad",
                                                           "update: a step is no object");
        }
        s->packages = xcalloc(json_array_size(packages) + 1, sizeof(*s->packages));
        json_array_foreach(packages, i, item)
        {
                if (r == 0)
                        r = json_is_object(item)
                                    ? read_package(item, &s->packages[s->package_count++], ret_error)
                                    : error_set(ret_error, EBADMSG, "wire.bad",
                                              "update: a package is no object");
        }
        return r;
}

static int read_waiting(json_t *waiting, struct update_state *s, struct error *ret_error)
{
        struct json_reader r;

        if (!waiting)
                return 0;
        json_reader_init(&r, waiting, "waiting", ret_error);
        s->waiting_since_unix_ms = json_take_time(&r, "since");
        wire_read_short(&r, "code", s->waiting_code, sizeof(s->waiting_code));
        wire_read_short(&r, "for", s->waiting_for, sizeof(s->waiting_for));
        return json_reader_done(&r, false);
}

static void read_numbers(struct json_reader *r, struct update_state *s)
{
        s->way = (uint16_t)json_take_optional_integer(r, "way", 0, 65535, 0);
        s->bytes = (uint64_t)json_take_optional_integer(r, "bytes", 0, MOST_BYTES, 0);
        s->size = (uint64_t)json_take_optional_integer(r, "size", 0, MOST_BYTES, 0);
        s->bytes_per_second = (double)json_take_optional_integer(r, "bytes_per_second", 0, MOST_BYTES, 0);
        s->needs_bytes = (uint64_t)json_take_optional_integer(r, "needs_bytes", 0, MOST_BYTES, 0);
        s->free_bytes = (uint64_t)json_take_optional_integer(r, "free_bytes", 0, MOST_BYTES, 0);
        s->eta_ms = (double)json_take_optional_integer(r, "eta_ms", 0, MOST_BYTES, -1);
        s->restart_needed = json_take_optional_boolean(r, "restart_needed", false);
}

int update_state_from_json(const json_t *j, struct update_state *ret, struct error *ret_error)
{
        _cleanup_(update_state_done) struct update_state s = {0};
        json_t *job, *steps, *packages, *waiting;
        const char *log;
        struct json_reader r;
        int result;

        json_reader_init(&r, (json_t *)j, "update", ret_error);
        job = json_take_object(&r, "job");
        s.status = (enum update_status)read_word(&r, "status", status_names, ELEMENTS(status_names));
        s.started_unix_ms = read_time(&r, "started");
        s.ended_unix_ms = read_time(&r, "ended");
        wire_read_short(&r, "from", s.version_from, sizeof(s.version_from));
        wire_read_short(&r, "to", s.version_to, sizeof(s.version_to));
        steps = json_take_optional_array(&r, "steps", UPDATE_STEPS);
        packages = json_take_optional_array(&r, "packages", UPDATE_MAX_PACKAGES);
        waiting = json_take_optional_object(&r, "waiting");
        read_numbers(&r, &s);
        wire_read_short(&r, "error", s.error, sizeof(s.error));
        log = json_take_optional_text(&r, "log", LOG_MAXIMUM_BYTES);
        s.log = xstrdup(log);
        result = json_reader_done(&r, false);
        if (result == 0)
                result = update_job_from_json(job, &s.job, ret_error);
        if (result == 0)
                result = read_waiting(waiting, &s, ret_error);
        if (result == 0)
                result = read_lists(steps, packages, &s, ret_error);
        if (result == 0) {
                *ret = s;
                s = (struct update_state){0};
        }
        return result;
}

int update_state_parse(const void *data, size_t length, struct update_state *ret, struct error *ret_error)
{
        json_auto_t *object = NULL;
        int r = json_parse(data, length, STATE_MAXIMUM_BYTES, "update", &object, ret_error);

        return r < 0 ? r : update_state_from_json(object, ret, ret_error);
}
