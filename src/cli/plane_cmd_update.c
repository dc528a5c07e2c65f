/* gridplane node tag, node update, update list, update show */
#include "cli/commands_gridplane.h"
#include "cli/plane_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "cli/stop.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define UPDATES   "/api/v1/updates"
#define LONGEST_S 600
#define POLL_NS   500000000L

/* ---- tags ---- */

static int show_tags(const struct session *s, json_t *tags)
{
        const char *key;
        json_t *value;

        if (s->settings.json) {
                plane_show_json(tags);
                return EXIT_SUCCESS;
        }
        if (json_object_size(tags) == 0)
                puts("No tags.");
        json_object_foreach(tags, key, value)
        {
                printf("%s=%s\n", key, json_string_value(value));
        }
        return EXIT_SUCCESS;
}

static int read_tags(const struct session *s, json_t *set)
{
        for (int i = 1; i < s->argument_count; i++) {
                const char *word = s->arguments[i], *equals = strchr(word, '=');
                _cleanup_free_ char *key = equals ? xstrndup(word, (size_t)(equals - word)) : NULL;

                if (!equals || json_object_set_new(set, key, json_string(equals + 1)) < 0)
                        return session_usage_error(s, "a tag is KEY=VALUE, not '%s'", word);
        }
        return EXIT_SUCCESS;
}

static json_t *words_of(const char *text)
{
        struct strv words = {0};
        json_t *list = json_array();

        if (text)
                strv_split(&words, text, ',');
        for (size_t i = 0; i < words.count; i++)
                json_array_append_new(list, json_string(words.items[i]));
        strv_done(&words);
        return list;
}

int cmd_node_tag(struct session *s)
{
        bool changes = s->argument_count > 1 || s->settings.fleet.remove;
        _cleanup_free_ char *path =
                plane_path_segment("/api/v1/nodes", s->arguments[0], changes ? "/tags" : "");
        json_t *set = json_object(), *body;
        struct plane_answer a = {0};
        int status = read_tags(s, set);

        body = json_pack("{s:o, s:o}", "set", set, "remove", words_of(s->settings.fleet.remove));
        if (status != EXIT_SUCCESS) {
                json_decref(body);
                return status;
        }
        if (!changes)
                json_decref(body);
        status = plane_call(s, changes ? "PATCH" : "GET", path, changes ? body : NULL, &a);
        if (status == EXIT_SUCCESS)
                status = show_tags(s, json_object_get(a.json, "tags"));
        plane_answer_done(&a);
        return status;
}

/* ---- one node's update ---- */

/* The newest of the node; NULL with the exit status after its message. */
static json_t *newest_update(const struct session *s, int *ret_status)
{
        struct plane_path p = {0};
        struct plane_answer a = {0};
        json_t *update = NULL;

        text_add(&p.text, UPDATES);
        plane_path_add(&p, "node", s->arguments[0]);
        *ret_status = plane_call(s, "GET", text_string(&p.text), NULL, &a);
        if (*ret_status == EXIT_SUCCESS)
                update = json_incref(json_array_get(json_object_get(a.json, "items"), 0));
        plane_answer_done(&a);
        text_done(&p.text);
        return update;
}

static int tell_end(const json_t *update)
{
        const char *status = json_string_value(json_object_get(update, "status"));

        printf("%s at %s: %s → %s\n", status, json_string_value(json_object_get(update, "ended")),
                json_string_value(json_object_get(update, "from")),
                json_string_value(json_object_get(update, "to")));
        if (str_equal(status, "Completed"))
                return EXIT_SUCCESS;
        printf("'gridplane update show %s' says why.\n", json_string_value(json_object_get(update, "id")));
        return EXIT_FAILURE;
}

/* The node's daemon starts anew with its new version: how the update ends comes as an event of the node. */
static int follow_at_plane(const struct session *s, double until_ms)
{
        puts("The node's daemon starts anew; its next word comes when it is back.");
        fflush(stdout);
        while (!stop_signal() && clock_monotonic_ms() < until_ms) {
                int status;
                json_t *update = newest_update(s, &status);

                if (status == EXIT_SUCCESS && json_is_string(json_object_get(update, "ended")))
                        status = tell_end(update);
                else if (status == EXIT_SUCCESS)
                        status = -1;
                json_decref(update);
                if (status >= 0)
                        return status;
                nanosleep(&(struct timespec){.tv_nsec = POLL_NS}, NULL);
        }
        return stop_signal() ? 128 + stop_signal()
                             : session_fail(s, EX_UNAVAILABLE,
                                       "it is still under way; 'gridplane update list' shows how it ends");
}

int cmd_node_update(struct session *s)
{
        const struct settings *o = &s->settings;
        const struct {
                bool is_set;
                const char *word;
        } words[] = {{o->update.check, "--check"}, {o->update.dry_run, "--dry-run"},
                {o->update.download, "--download"}, {o->update.now, "--now"}, {o->update.cancel, "--cancel"},
                {o->again, "--again"}, {o->update.no_reboot, "--no-reboot"},
                {o->update.no_wait, "--no-wait"}};
        double until_ms = clock_monotonic_ms() + LONGEST_S * 1000;
        json_t *arguments = json_array();
        bool is_lost = false;
        int status;

        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (words[i].is_set)
                        json_array_append_new(arguments, json_string(words[i].word));
        status = plane_run_tool(s, s->arguments[0], "update", arguments, LONGEST_S, &is_lost);
        return is_lost ? follow_at_plane(s, until_ms) : status;
}

/* ---- updates ---- */

static const struct table_column columns[] = {{"STARTED", "started"}, {"ENDED", "ended"},
        {"NODE", "node_name"}, {"STATUS", "status"}, {"FROM", "from"}, {"TO", "to"}, {"BY", "by"},
        {"ACTION", "action"}, {"ID", "id"}};

int cmd_update_list(struct session *s)
{
        struct plane_path p = {0};
        int status;

        text_add(&p.text, UPDATES);
        plane_path_add(&p, "node", s->settings.node);
        plane_path_add(&p, "status", s->settings.fleet.status);
        status = plane_path_add_times(s, &p);
        if (status == EXIT_SUCCESS)
                status = plane_show_list_or_csv(
                        s, text_string(&p.text), columns, ELEMENTS(columns), "No node was updated yet.");
        text_done(&p.text);
        return status;
}

static void write_line(const char *title, const json_t *value)
{
        _cleanup_free_ char *safe = NULL;

        if (!json_is_string(value) || !*json_string_value(value))
                return;
        safe = str_printable(json_string_value(value), json_string_length(value), 4096);
        printf("%s: %s\n", title, safe);
}

static void write_steps(const json_t *steps)
{
        static const struct table_column of_step[] = {
                {"STEP", "name"}, {"STATE", "state"}, {"FROM", "from"}, {"TO", "to"}, {"", "text"}};

        puts("");
        table_write(steps, of_step, ELEMENTS(of_step), "No step was begun.", stdout);
}

/* Line by line, as it was: what a terminal would take for more than text is escaped. */
static void write_log(const char *log)
{
        struct strv lines = {0};

        if (str_is_empty(log))
                return;
        puts("\nThe end of its log:");
        strv_split(&lines, log, '\n');
        for (size_t i = 0; i < lines.count; i++) {
                _cleanup_free_ char *safe = str_printable(lines.items[i], strlen(lines.items[i]), 4096);

                printf("  %s\n", safe);
        }
        strv_done(&lines);
}

int cmd_update_show(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(UPDATES, s->arguments[0], "");
        struct plane_answer a = {0};
        int status = plane_call(s, "GET", path, NULL, &a);

        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS) {
                const json_t *update = json_object_get(a.json, "update");

                for (size_t i = 0; i < ELEMENTS(columns); i++)
                        write_line(columns[i].member, json_object_get(a.json, columns[i].member));
                write_line("error", json_object_get(update, "error"));
                write_line("waits for", json_object_get(json_object_get(update, "waiting"), "for"));
                write_steps(json_object_get(update, "steps"));
                write_log(json_string_value(json_object_get(update, "log")));
        }
        plane_answer_done(&a);
        return status;
}
