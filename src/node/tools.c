#include "node/tools.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#define GATHER_US 20000
/* So that a message stays far below WIRE_MESSAGE_MAXIMUM, escapes included. */
#define GATHER_BYTES ((size_t)64 << 10)
/* Ids that were seen; a plane that begins again with an old one has lost its mind. */
#define IDS_KEPT 256

struct run {
        struct tools *tools; /* NULL: not in use */
        char id[WIRE_ID_MAXIMUM + 1];
        struct child *child;
        sd_event_source *timer; /* enabled while lines are gathered */
        struct wire_line lines[OUTPUT_MAX_LINES];
        size_t line_count, bytes;
        int64_t first; /* number of lines[0] */
};

struct tools {
        struct tools_options options;
        char *program, *config_path, *root;
        struct run runs[TOOLS_AT_ONCE];
        char seen[IDS_KEPT][WIRE_ID_MAXIMUM + 1];
        size_t next_seen;
};

/* ---- what goes out ---- */

static void say(struct tools *t, const char *id, const struct wire_output *o)
{
        t->options.on_output(id, o, t->options.userdata);
}

static void send_end(
        struct tools *t, const char *id, int64_t first, enum wire_end end, int status, const char *why)
{
        struct wire_output o = {.first = first, .end = end, .status = status};
        _cleanup_free_ char *text = xstrdup(why);

        o.error = text;
        say(t, id, &o);
}

static void send_lines(struct run *r)
{
        struct wire_output o = {.first = r->first, .lines = r->lines, .line_count = r->line_count};

        sd_event_source_set_enabled(r->timer, SD_EVENT_OFF);
        if (r->line_count == 0)
                return;
        say(r->tools, r->id, &o);
        r->first += (int64_t)r->line_count;
        for (size_t i = 0; i < r->line_count; i++)
                free(r->lines[i].text);
        r->line_count = r->bytes = 0;
}

static int on_timer(sd_event_source *source, uint64_t now_us, void *userdata)
{
        (void)source, (void)now_us;
        send_lines(userdata);
        return 0;
}

/* ---- a child's life ---- */

static void on_line(bool is_error, const char *line, void *userdata)
{
        struct run *r = userdata;
        size_t length = strlen(line);
        int enabled = SD_EVENT_OFF;

        if (r->line_count == OUTPUT_MAX_LINES || r->bytes + length > GATHER_BYTES)
                send_lines(r);
        r->lines[r->line_count++] = (struct wire_line){.is_error = is_error, .text = xstrdup(line)};
        r->bytes += length;
        /* A person waits for the first one. */
        if (r->first == 0) {
                send_lines(r);
                return;
        }
        sd_event_source_get_enabled(r->timer, &enabled);
        if (enabled != SD_EVENT_OFF)
                return;
        sd_event_source_set_time_relative(r->timer, GATHER_US);
        sd_event_source_set_enabled(r->timer, SD_EVENT_ONESHOT);
}

static void release(struct run *r)
{
        sd_event_source_disable_unref(r->timer);
        for (size_t i = 0; i < r->line_count; i++)
                free(r->lines[i].text);
        *r = (struct run){0};
}

static void on_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct run *r = userdata;
        struct tools *t = r->tools;
        char id[WIRE_ID_MAXIMUM + 1];
        int64_t first;

        (void)output, (void)length;
        send_lines(r);
        str_copy(id, sizeof id, r->id);
        first = r->first;
        release(r); /* the place is free for whoever hears of the end */
        send_end(t, id, first, end, status,
                end == END_LOST ? "it wrote too much: the rest is left out" : NULL);
}

/* ---- requests ---- */

static struct run *find_run(struct tools *t, const char *id)
{
        for (size_t i = 0; i < ELEMENTS(t->runs); i++)
                if (t->runs[i].tools && (!id || str_equal(t->runs[i].id, id)))
                        return &t->runs[i];
        return NULL;
}

static bool was_seen(const struct tools *t, const char *id)
{
        for (size_t i = 0; i < IDS_KEPT; i++)
                if (str_equal(t->seen[i], id))
                        return true;
        return false;
}

static void cancel(struct tools *t, const char *id)
{
        struct run *r = find_run(t, id);

        if (r)
                child_cancel(r->child);
        else if (!was_seen(t, id))
                send_end(t, id, 0, END_LOST, 0, "the node does not know it: its daemon was started anew");
}

static int start(struct tools *t, struct run *run, const struct wire_request *r, struct strv *arguments,
        struct error *ret_error)
{
        struct child_handlers h = {.on_line = on_line, .on_end = on_end, .userdata = run};
        struct child_options o = {.timeout_ms = r->timeout_s * 1000};
        int result;

        strv_take(arguments, NULL); /* the list's end, as execve wants it */
        o.arguments = (const char *const *)arguments->items;
        result = sd_event_add_time_relative(
                t->options.event, &run->timer, CLOCK_MONOTONIC, GATHER_US, 1000, on_timer, run);
        if (result >= 0)
                result = sd_event_source_set_enabled(run->timer, SD_EVENT_OFF);
        if (result < 0)
                return error_set(ret_error, -result, "tool.start", "cannot be run: %s", strerror(-result));
        run->tools = t;
        str_copy(run->id, sizeof run->id, r->id);
        return child_start(t->options.event, &o, &h, &run->child, ret_error);
}

void tools_request(struct tools *t, const struct wire_request *r)
{
        struct strv arguments = {0};
        struct error e = {0};
        struct run *run = NULL;

        if (r->cancel) {
                cancel(t, r->id);
                return;
        }
        if (find_run(t, r->id)) /* delivered twice: it is being answered */
                return;
        if (was_seen(t, r->id)) {
                send_end(t, r->id, 0, END_REFUSED, 0, "a request with this id was here before");
                return;
        }
        str_copy(t->seen[t->next_seen++ % IDS_KEPT], sizeof t->seen[0], r->id);
        for (size_t i = 0; i < ELEMENTS(t->runs) && !run; i++)
                if (!t->runs[i].tools)
                        run = &t->runs[i];
        if (!run) {
                send_end(t, r->id, 0, END_REFUSED, 0, "two tools run at this node already");
                return;
        }
        if (tools_arguments(&t->options.place, r, &arguments, &e) < 0) {
                send_end(t, r->id, 0, END_REFUSED, 0, e.text);
        } else if (start(t, run, r, &arguments, &e) < 0) {
                release(run);
                send_end(t, r->id, 0, END_LOST, 0, e.text);
        }
        strv_done(&arguments);
}

size_t tools_running(const struct tools *t)
{
        size_t count = 0;

        for (size_t i = 0; i < ELEMENTS(t->runs); i++)
                count += t->runs[i].tools != NULL;
        return count;
}

struct tools *tools_new(const struct tools_options *o)
{
        struct tools *t = xcalloc(1, sizeof *t);

        t->options = *o;
        t->program = xstrdup(o->place.program);
        t->config_path = xstrdup(o->place.config_path);
        t->root = xstrdup(o->place.root);
        t->options.place = (struct tools_place){t->program, t->config_path, t->root};
        return t;
}

struct tools *tools_free(struct tools *t)
{
        struct run *r;

        if (!t)
                return NULL;
        while ((r = find_run(t, NULL))) {
                child_free(r->child);
                release(r);
        }
        free(t->program);
        free(t->config_path);
        free(t->root);
        free(t);
        return NULL;
}
