/* gridplane event list, report list, report show, incident list, audit list */
#include "cli/commands_gridplane.h"
#include "cli/event_line.h"
#include "cli/plane_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "wire/wire.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define REPORTS "/api/v1/reports"

/* Any of its causes, as the API's list has it. */
static bool has_cause(const char *wanted, const json_t *event)
{
        const json_t *causes = json_object_get(json_object_get(event, "diagnosis"), "causes"), *cause;
        size_t i;

        json_array_foreach(causes, i, cause)
        {
                if (str_equal(wanted, json_string_value(json_object_get(cause, "code"))))
                        return true;
        }
        return !wanted;
}

static bool fits(const char *wanted, const json_t *event, const char *member)
{
        return !wanted || str_equal(wanted, json_string_value(json_object_get(event, member)));
}

/* As the API's list filters: its stream has all events. */
static bool is_wanted(const struct settings *s, const json_t *event)
{
        enum wire_severity severity = WIRE_ERROR, least = WIRE_INFO;

        wire_severity_from_string(json_string_value(json_object_get(event, "severity")), &severity);
        wire_severity_from_string(s->severity, &least);
        return severity >= least && fits(s->event_name, event, "name") && has_cause(s->cause, event) &&
               (fits(s->node, event, "node") || fits(s->node, event, "node_name"));
}

static void write_one(const struct session *s, const json_t *event)
{
        if (s->settings.json) {
                json_dumpf(event, stdout, JSON_COMPACT);
                putchar('\n');
        } else
                event_line_write(event, true);
        fflush(stdout);
}

static int on_stream(const char *name, json_t *data, void *userdata)
{
        const struct session *s = userdata;

        if (str_equal(name, "event") && is_wanted(&s->settings, data))
                write_one(s, data);
        else if (str_equal(name, "gap"))
                fputs("gridplane event list: the control plane was started anew, or the connection was away "
                      "for too long: some events may be missing here; list them with --since\n",
                        stderr);
        return 0;
}

/* The newest first in the API; people read downwards. */
static void write_all(const json_t *list, void *userdata)
{
        const json_t *items = json_object_get(list, "items");

        for (size_t i = json_array_size(items); i > 0; i--)
                write_one(userdata, json_array_get(items, i - 1));
}

static int follow_events(const struct session *s, const char *path)
{
        const struct plane_follower f = {
                .kind = "event", .on_list = write_all, .on_event = on_stream, .userdata = (void *)s};

        return plane_follow(s, path, "/api/v1/events/stream", &f);
}

static int show_events(const struct session *s, const char *path)
{
        json_t *list = NULL;
        int status = plane_list(s, path, &list);

        if (status != EXIT_SUCCESS)
                return status;
        if (s->settings.json)
                plane_show_json(list);
        else if (json_array_size(json_object_get(list, "items")) == 0)
                puts("No events.");
        else
                write_all(list, (void *)s);
        json_decref(list);
        return EXIT_SUCCESS;
}

static int show_csv(const struct session *s, const char *path)
{
        struct plane_answer a = {0};
        int status = plane_call_with(s, "GET", path, "Accept: text/csv", NULL, &a);

        if (status == EXIT_SUCCESS && a.text)
                fputs(a.text, stdout);
        plane_answer_done(&a);
        return status;
}

int cmd_event_list(struct session *s)
{
        struct plane_path p = {0};
        int status;

        if (s->settings.csv && (s->settings.json || s->settings.follow))
                return session_usage_error(s, "--csv excludes --json and --follow");
        text_add(&p.text, "/api/v1/events");
        plane_path_add(&p, "node", s->settings.node);
        plane_path_add(&p, "name", s->settings.event_name);
        plane_path_add(&p, "cause", s->settings.cause);
        plane_path_add(&p, "severity", s->settings.severity);
        status = plane_path_add_times(s, &p);
        if (status == EXIT_SUCCESS)
                status = s->settings.csv      ? show_csv(s, text_string(&p.text))
                         : s->settings.follow ? follow_events(s, text_string(&p.text))
                                              : show_events(s, text_string(&p.text));
        text_done(&p.text);
        return status;
}

/* `list` with the times of the options. */
static int show_list_of_times(const struct session *s, struct plane_path *p,
        const struct table_column *columns, size_t count, const char *empty)
{
        int status = plane_path_add_times(s, p);

        if (status == EXIT_SUCCESS)
                status = plane_show_list(s, text_string(&p->text), columns, count, empty);
        text_done(&p->text);
        return status;
}

int cmd_incident_list(struct session *s)
{
        static const struct table_column columns[] = {{"SINCE", "since"}, {"UNTIL", "until"},
                {"CAUSE", "cause"}, {"NODES", "nodes"}, {"SUMMARY", "summary"}};

        struct plane_path p = {0};

        text_add(&p.text, "/api/v1/incidents");
        plane_path_add(&p, "open", s->settings.open_only ? "true" : NULL);
        return show_list_of_times(s, &p, columns, ELEMENTS(columns),
                "No incidents: no cause was reported by many nodes at the same time.");
}

int cmd_audit_list(struct session *s)
{
        static const struct table_column columns[] = {{"AT", "at"}, {"WHO", "actor"}, {"WHAT", "action"},
                {"OBJECT", "object"}, {"DETAIL", "detail"}};

        struct plane_path p = {0};

        text_add(&p.text, "/api/v1/audit");
        plane_path_add(&p, "actor", s->settings.fleet.actor);
        plane_path_add(&p, "action", s->settings.fleet.action);
        plane_path_add(&p, "object", s->settings.fleet.object);
        return show_list_of_times(s, &p, columns, ELEMENTS(columns), "Nothing was changed yet.");
}

int cmd_report_list(struct session *s)
{
        static const struct table_column columns[] = {{"GENERATED", "generated"}, {"NODE", "node_name"},
                {"VERDICT", "verdict"}, {"ASKED BY", "trigger"}, {"ID", "id"}, {"SUMMARY", "summary"}};
        struct plane_path p = {0};

        text_add(&p.text, REPORTS);
        plane_path_add(&p, "node", s->settings.node);
        plane_path_add(&p, "verdict", s->settings.fleet.verdict);
        return show_list_of_times(s, &p, columns, ELEMENTS(columns), "No diagnosis was needed yet.");
}

/* As `gridnode diag --json` wrote it, so that `gridnode diag --replay -` reads it. */
int cmd_report_show(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(REPORTS, s->arguments[0], "");
        struct plane_answer a = {0};
        int status = plane_call(s, "GET", path, NULL, &a);

        if (status == EXIT_SUCCESS)
                plane_show_json(json_object_get(a.json, "report"));
        plane_answer_done(&a);
        return status;
}
