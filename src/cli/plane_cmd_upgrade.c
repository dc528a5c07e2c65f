/* gridplane upgrade plan, dry-run, start, pause, resume, cancel, retry, status, export */
#include "cli/commands_gridplane.h"
#include "cli/plane_show.h"
#include "cli/stop.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#define UPGRADES "/api/v1/upgrades"
#define ASK_S    120

/* ---- plan ---- */

static void add_texts(json_t *body, const char *name, const char *text)
{
        struct strv words = {0};
        json_t *list;

        if (!text)
                return;
        list = json_array();
        strv_split(&words, text, ',');
        for (size_t i = 0; i < words.count; i++)
                json_array_append_new(list, json_string(words.items[i]));
        strv_done(&words);
        json_object_set_new(body, name, list);
}

static int add_number(const struct session *s, json_t *body, const char *name, const char *option,
        const char *text, unsigned long minimum, unsigned long maximum)
{
        _cleanup_free_ char *digits = text ? xstrndup(text, strcspn(text, "%")) : NULL;
        unsigned long value;

        if (!text)
                return EXIT_SUCCESS;
        if (str_to_ulong(digits, minimum, maximum, &value) < 0)
                return session_usage_error(s, "--%s takes a whole number from %lu to %lu, not '%s'", option,
                        minimum, maximum, text);
        json_object_set_new(body, name, json_integer((json_int_t)value));
        return EXIT_SUCCESS;
}

/* "5%,25%,100%", with or without the signs. */
static int add_waves(const struct session *s, json_t *body)
{
        const char *text = s->settings.fleet.waves;
        struct strv words = {0};
        int status = EXIT_SUCCESS;
        json_t *list;

        if (!text)
                return EXIT_SUCCESS;
        list = json_array();
        strv_split(&words, text, ',');
        for (size_t i = 0; i < words.count && status == EXIT_SUCCESS; i++) {
                unsigned long percent;

                words.items[i][strcspn(words.items[i], "%")] = 0;
                if (str_to_ulong(words.items[i], 1, 100, &percent) < 0)
                        status = session_usage_error(s,
                                "--waves takes per cents that grow up to 100, as 5%%,25%%,100%%, not '%s'",
                                text);
                else
                        json_array_append_new(list, json_integer((json_int_t)percent));
        }
        strv_done(&words);
        json_object_set_new(body, "waves", list);
        return status;
}

int cmd_upgrade_plan(struct session *s)
{
        json_t *body = json_pack("{s:s}", "name", s->arguments[0]);
        struct plane_answer a = {0};
        int status;

        add_texts(body, "include", s->settings.fleet.include);
        add_texts(body, "exclude", s->settings.fleet.exclude);
        add_texts(body, "sites", s->settings.fleet.sites);
        if (s->settings.channel)
                json_object_set_new(body, "channel", json_string(s->settings.channel));
        status = add_waves(s, body);
        if (status == EXIT_SUCCESS)
                status = add_number(s, body, "stop_at_percent", "stop-at", s->settings.fleet.stop_at, 0, 100);
        if (status == EXIT_SUCCESS)
                status = add_number(s, body, "limit_minutes", "limit", s->settings.fleet.limit, 1, 1440);
        if (status != EXIT_SUCCESS) {
                json_decref(body);
                return status;
        }
        status = plane_call(s, "POST", UPGRADES, body, &a);
        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS)
                printf("%s\n", json_string_value(json_object_get(a.json, "id")));
        plane_answer_done(&a);
        return status;
}

/* ---- dry-run ---- */

static const struct table_column candidate_columns[] = {
        {"NODE", "name"}, {"SITE", "site"}, {"VERSION", "version"}, {"CONNECTED", "connected"}};
static const struct table_column skipped_columns[] = {
        {"NODE", "name"}, {"SITE", "site"}, {"VERSION", "version"}, {"REASON", "reason"}};

static void write_preview(const json_t *preview)
{
        const char *version = json_string_value(json_object_get(preview, "version"));
        const json_t *waves = json_object_get(preview, "waves"),
                     *skipped = json_object_get(preview, "skipped"), *wave;
        size_t i;

        if (!str_is_empty(version))
                printf("The newest version is %s.\n", version);
        json_array_foreach(waves, i, wave)
        {
                const json_t *nodes = json_object_get(wave, "nodes");

                printf("\nWave %lld, up to %lld %%: %zu node%s\n",
                        (long long)json_integer_value(json_object_get(wave, "wave")),
                        (long long)json_integer_value(json_object_get(wave, "percent")),
                        json_array_size(nodes), json_array_size(nodes) == 1 ? "" : "s");
                table_write(nodes, candidate_columns, ELEMENTS(candidate_columns), "Nobody.", stdout);
        }
        printf("\nLeft out: %zu\n", json_array_size(skipped));
        if (json_array_size(skipped))
                table_write(skipped, skipped_columns, ELEMENTS(skipped_columns), "Nobody.", stdout);
}

/* One after the other, so that the output of each stays together. What one cannot tell is not ours to fail
 * by. */
static void ask_nodes(const struct session *s, const json_t *preview)
{
        const json_t *waves = json_object_get(preview, "waves"), *wave, *node;
        size_t i, k;

        json_array_foreach(waves, i, wave)
        {
                json_array_foreach(json_object_get(wave, "nodes"), k, node)
                {
                        if (stop_signal() || !json_is_true(json_object_get(node, "connected")))
                                continue;
                        printf("\n%s:\n", json_string_value(json_object_get(node, "name")));
                        fflush(stdout);
                        plane_run_tool(s, json_string_value(json_object_get(node, "node")), "update",
                                json_pack("[s]", "--dry-run"), ASK_S, NULL);
                }
        }
}

int cmd_upgrade_dry_run(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(UPGRADES, s->arguments[0], "/dry-run");
        struct plane_answer a = {0};
        int status;

        if (s->settings.json && s->settings.fleet.ask)
                return session_usage_error(s, "--json excludes --ask");
        status = plane_call(s, "GET", path, NULL, &a);
        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS)
                write_preview(a.json);
        if (status == EXIT_SUCCESS && s->settings.fleet.ask)
                ask_nodes(s, a.json);
        plane_answer_done(&a);
        return status;
}

/* ---- what is done with one ---- */

static const char *text_of(const json_t *value, const char *member)
{
        const char *text = json_string_value(json_object_get(value, member));

        return text ? text : "";
}

static void write_head(const json_t *upgrade)
{
        const char *reason = text_of(upgrade, "reason"), *version = text_of(upgrade, "version");

        printf("%s (%s) is %s%s%s\n", text_of(upgrade, "name"), text_of(upgrade, "id"),
                text_of(upgrade, "state"), *reason ? ": " : "", reason);
        if (*version)
                printf("The newest version is %s.\n", version);
}

static int act(struct session *s, const char *action)
{
        _cleanup_free_ char *after = xasprintf("/%s", action),
                            *path = plane_path_segment(UPGRADES, s->arguments[0], after);
        struct plane_answer a = {0};
        int status = plane_call(s, "POST", path, NULL, &a);

        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS)
                write_head(a.json);
        plane_answer_done(&a);
        return status;
}

int cmd_upgrade_start(struct session *s)
{
        return act(s, "start");
}

int cmd_upgrade_pause(struct session *s)
{
        return act(s, "pause");
}

int cmd_upgrade_resume(struct session *s)
{
        return act(s, "resume");
}

int cmd_upgrade_cancel(struct session *s)
{
        return act(s, "cancel");
}

int cmd_upgrade_retry(struct session *s)
{
        return act(s, "retry");
}

/* ---- status ---- */

static const struct table_column node_columns[] = {{"NODE", "name"}, {"SITE", "site"}, {"WAVE", "wave"},
        {"STATE", "state"}, {"SINCE", "since"}, {"REASON", "reason"}};

/* Counts of a wave beside its number, for the table. */
static json_t *flat_waves(const json_t *upgrade)
{
        json_t *rows = json_array(), *wave;
        size_t i;

        json_array_foreach(json_object_get(upgrade, "waves"), i, wave)
        {
                json_t *row = json_copy(json_object_get(wave, "counts"));

                json_object_set(row, "wave", json_object_get(wave, "wave"));
                json_object_set(row, "percent", json_object_get(wave, "percent"));
                json_array_append_new(rows, row);
        }
        return rows;
}

static void write_waves(const json_t *upgrade)
{
        static const struct table_column of_wave[] = {{"WAVE", "wave"}, {"UP TO %", "percent"},
                {"NEW", "NEW"}, {"READY", "READY"}, {"WORKING", "WORKING"}, {"DONE", "DONE"},
                {"SKIPPED", "SKIPPED"}, {"ERROR", "ERROR"}};
        json_t *rows = flat_waves(upgrade);

        puts("");
        table_write(rows, of_wave, ELEMENTS(of_wave), "", stdout);
        json_decref(rows);
}

static int list_of(const struct session *s, const char *upgrade, const char *what, json_t **ret)
{
        _cleanup_free_ char *after = xasprintf("/%s", what),
                            *path = plane_path_segment(UPGRADES, upgrade, after);

        return plane_list(s, path, ret);
}

static void write_timeline(const json_t *lines)
{
        const json_t *items = json_object_get(lines, "items");

        puts("");
        for (size_t i = json_array_size(items); i > 0; i--) {
                const json_t *line = json_array_get(items, i - 1);
                const char *text = text_of(line, "text");
                _cleanup_free_ char *safe = str_printable(text, strlen(text), 4096);

                printf("%s  %s  (%s)\n", text_of(line, "at"), safe, text_of(line, "by"));
        }
}

static int show_one(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(UPGRADES, s->arguments[0], "");
        json_auto_t *nodes = NULL, *lines = NULL;
        struct plane_answer a = {0};
        int status = plane_call(s, "GET", path, NULL, &a);

        if (status == EXIT_SUCCESS)
                status = list_of(s, s->arguments[0], "nodes", &nodes);
        if (status == EXIT_SUCCESS && s->settings.verbose)
                status = list_of(s, s->arguments[0], "timeline", &lines);
        if (status == EXIT_SUCCESS && s->settings.json) {
                json_object_set(a.json, "nodes", json_object_get(nodes, "items"));
                if (lines)
                        json_object_set(a.json, "timeline", json_object_get(lines, "items"));
                plane_show_json(a.json);
        } else if (status == EXIT_SUCCESS) {
                write_head(a.json);
                write_waves(a.json);
                puts("");
                table_write(json_object_get(nodes, "items"), node_columns, ELEMENTS(node_columns),
                        "No node is in it: it was not started yet.", stdout);
                if (lines)
                        write_timeline(lines);
        }
        plane_answer_done(&a);
        return status;
}

int cmd_upgrade_status(struct session *s)
{
        static const struct table_column columns[] = {{"NAME", "name"}, {"STATE", "state"},
                {"CREATED", "created"}, {"DONE", "counts.DONE"}, {"SKIPPED", "counts.SKIPPED"},
                {"ERROR", "counts.ERROR"}, {"ID", "id"}, {"REASON", "reason"}};

        if (s->argument_count > 0)
                return show_one(s);
        return plane_show_list(s, UPGRADES, columns, ELEMENTS(columns),
                "No upgrades yet: 'gridplane upgrade plan NAME' makes one.");
}

int cmd_upgrade_export(struct session *s)
{
        static const struct table_column columns[] = {{"", "name"}, {"", "node"}, {"", "site"}, {"", "wave"},
                {"", "state"}, {"", "reason"}, {"", "since"}, {"", "asked"}, {"", "tries"}, {"", "update"}};
        json_t *nodes = NULL;
        int status = list_of(s, s->arguments[0], "nodes", &nodes);

        if (status == EXIT_SUCCESS)
                plane_show_csv(json_object_get(nodes, "items"), columns, ELEMENTS(columns));
        json_decref(nodes);
        return status;
}
