#include "apt/cause.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/text.h"
#include "base/timer.h"
#include "net/ways.h"
#include "node/child.h"

#include <string.h>

#define BUDGET           "4"
#define PATIENCE_MS      8000
#define REPORT_BYTES     ((size_t)4 << 20)
#define KEPT_MS          30000.0 /* what was found is the answer to who asks soon afterwards */
#define SENTENCE_MAXIMUM 1024

struct cause {
        sd_event *event;
        struct cause_options o;
        char *program, *root, *ways_path, *service;
        struct child *child;
        sd_event_source *later;
        char *found;
        double found_ms; /* CLOCK_MONOTONIC; 0: never looked */
};

/* ---- the report ---- */

static bool names(json_t *services, const char *service)
{
        size_t i;
        json_t *item;

        json_array_foreach(services, i, item)
        {
                if (str_equal(json_string_value(item), service))
                        return true;
        }
        return false;
}

static char *sentence(json_t *item)
{
        const char *summary = json_string_value(json_object_get(item, "summary"));
        const char *remedy = json_string_value(json_object_get(item, "remedy"));
        _cleanup_free_ char *whole = NULL;

        if (str_is_empty(summary))
                return NULL;
        whole = str_is_empty(remedy)
                        ? xstrdup(summary)
                        : xasprintf("%s%s %s", summary, str_ends_with(summary, ".") ? "" : ":", remedy);
        return str_excerpt(whole, strlen(whole), SENTENCE_MAXIMUM);
}

char *cause_of_report(const char *json, size_t length, const char *service)
{
        json_auto_t *report = NULL;
        json_t *causes, *item;
        size_t i;

        if (json_parse(json, length, REPORT_BYTES, "report", &report, NULL) < 0)
                return NULL;
        causes = json_object_get(report, "causes");
        json_array_foreach(causes, i, item)
        {
                if (names(json_object_get(item, "services"), service))
                        return sentence(item);
        }
        return NULL;
}

/* ---- asking ---- */

static int answer(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct cause *c = userdata;

        (void)source, (void)usec;
        c->later = sd_event_source_disable_unref(c->later);
        c->o.on_answer(c->found, c->o.userdata);
        return 0;
}

static void keep(struct cause *c, char *text /* taken */)
{
        free(c->found);
        c->found = text;
        c->found_ms = clock_monotonic_ms();
        timer_arm(c->event, &c->later, 0, answer, c);
}

static char *of_daemon(const struct cause *c)
{
        const struct way_view *v;
        struct ways ways;

        if (!c->ways_path || ways_load(c->ways_path, &ways, NULL) < 0 ||
                !ways_is_fresh(&ways, clock_unix_ms()))
                return NULL;
        v = ways_find(&ways, c->service);
        return v && v->summary[0] && !str_equal(v->state, "ok") ? xstrdup(v->summary) : NULL;
}

static void on_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct cause *c = userdata;

        (void)status; /* 0 to 3: a report was written, whatever it says */
        c->child = NULL;
        keep(c, end == END_EXITED ? cause_of_report(output, length, c->service) : NULL);
}

static void diagnose(struct cause *c)
{
        const char *arguments[] = {
                c->program, "diag", "--json", "--budget", BUDGET, c->root ? "--root" : NULL, c->root, NULL};
        struct child_options o = {.arguments = arguments,
                .timeout_ms = PATIENCE_MS,
                .maximum_output_bytes = REPORT_BYTES,
                .whole = true};
        struct child_handlers h = {.on_end = on_end, .userdata = c};

        if (child_start(c->event, &o, &h, &c->child, NULL) < 0)
                keep(c, NULL);
}

void cause_ask(struct cause *c)
{
        double now_ms = clock_monotonic_ms();
        char *told;

        if (c->child || c->later)
                return;
        told = of_daemon(c);
        if (told)
                keep(c, told);
        else if (c->found_ms > 0 && now_ms - c->found_ms < KEPT_MS)
                timer_arm(c->event, &c->later, 0, answer, c);
        else
                diagnose(c);
}

struct cause *cause_new(sd_event *event, const struct cause_options *o)
{
        struct cause *c = xcalloc(1, sizeof(*c));

        c->event = sd_event_ref(event);
        c->o = *o;
        c->program = xstrdup(o->program);
        c->root = xstrdup(o->root);
        c->ways_path = xstrdup(o->ways_path);
        c->service = xstrdup(o->service);
        return c;
}

struct cause *cause_free(struct cause *c)
{
        if (!c)
                return NULL;
        child_free(c->child);
        sd_event_source_disable_unref(c->later);
        sd_event_unref(c->event);
        free(c->program);
        free(c->root);
        free(c->ways_path);
        free(c->service);
        free(c->found);
        free(c);
        return NULL;
}
