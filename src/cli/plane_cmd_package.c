/* gridplane package add, list, remove, promote, key */
#include "cli/commands_gridplane.h"
#include "cli/plane_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <string.h>

#define PACKAGES "/api/v1/packages"
#define TYPE     "application/vnd.debian.binary-package"

static const struct table_column columns[] = {{"PACKAGE", "package"}, {"VERSION", "version"},
        {"ARCHITECTURE", "architecture"}, {"CHANNEL", "channel"}, {"SIZE", "size_bytes"}, {"ADDED", "added"},
        {"BY", "added_by"}, {"SHA-256", "sha256"}};

static const char *channel_of(const struct session *s)
{
        return s->settings.channel ? s->settings.channel : "stable";
}

/* `verb` says what was done with each; all of them together are one JSON document. */
struct told {
        json_t *items;
        const char *verb;
};

static void tell(const struct session *s, struct told *t, struct plane_answer *a)
{
        json_t *items = json_object_get(a->json, "items"), *item;
        size_t i;

        json_array_extend(t->items, items);
        json_array_foreach(items, i, item)
        {
                if (!s->settings.json)
                        printf("%s %s %s %s %s\n", json_string_value(json_object_get(item, "package")),
                                json_string_value(json_object_get(item, "version")),
                                json_string_value(json_object_get(item, "architecture")), t->verb,
                                json_string_value(json_object_get(item, "channel")));
        }
        fflush(stdout);
        plane_answer_done(a);
}

static int told_done(const struct session *s, struct told *t, int status, const char *nothing)
{
        json_auto_t *all = json_pack("{s:o}", "items", t->items);

        if (s->settings.json)
                plane_show_json(all);
        else if (status == EXIT_SUCCESS && json_array_size(t->items) == 0)
                printf("%s\n", nothing);
        return status;
}

int cmd_package_add(struct session *s)
{
        struct told told = {json_array(), "is in"};
        struct plane_path p = {0};
        int status = EXIT_SUCCESS;

        text_add(&p.text, PACKAGES);
        plane_path_add(&p, "channel", channel_of(s));
        for (int i = 0; i < s->argument_count && status == EXIT_SUCCESS; i++) {
                struct plane_answer a = {0};

                status = plane_send_file(s, text_string(&p.text), TYPE, s->arguments[i], &a);
                if (status == EXIT_SUCCESS)
                        tell(s, &told, &a);
                else
                        fprintf(stderr, "%s was not added%s.\n", s->arguments[i],
                                i + 1 < s->argument_count ? ", nor what follows it" : "");
        }
        text_done(&p.text);
        return told_done(s, &told, status, "Nothing was added.");
}

int cmd_package_list(struct session *s)
{
        struct plane_path p = {0};
        int status;

        text_add(&p.text, PACKAGES);
        plane_path_add(&p, "channel", s->settings.channel);
        plane_path_add(&p, "package", s->argument_count > 0 ? s->arguments[0] : NULL);
        status = plane_show_list(s, text_string(&p.text), columns, ELEMENTS(columns),
                "No packages: 'gridplane package add FILE.deb' publishes one.");
        text_done(&p.text);
        return status;
}

/* PACKAGE[:ARCHITECTURE][=VERSION] as a path of the API; the caller's. */
static char *path_of(const struct session *s, const char *word)
{
        _cleanup_free_ char *channel = plane_path_segment(PACKAGES, channel_of(s), ""), *name = xstrdup(word),
                            *segment = NULL;
        struct plane_path p = {0};
        char *version = strchr(name, '='), *architecture;

        if (version)
                *version++ = '\0';
        architecture = strchr(name, ':');
        if (architecture)
                *architecture++ = '\0';
        segment = plane_path_segment(channel, name, "");
        text_add(&p.text, segment);
        plane_path_add(&p, "version", version);
        plane_path_add(&p, "architecture", architecture);
        return text_take(&p.text);
}

int cmd_package_remove(struct session *s)
{
        struct told told = {json_array(), "is out of"};
        int status = EXIT_SUCCESS;

        for (int i = 0; i < s->argument_count && status == EXIT_SUCCESS; i++) {
                _cleanup_free_ char *path = path_of(s, s->arguments[i]);
                struct plane_answer a = {0};

                status = plane_call(s, "DELETE", path, NULL, &a);
                if (status == EXIT_SUCCESS)
                        tell(s, &told, &a);
        }
        return told_done(s, &told, status, "Nothing was removed.");
}

int cmd_package_promote(struct session *s)
{
        struct told told = {json_array(), "is in"};
        int status = EXIT_SUCCESS, i = 2;

        do {
                json_t *body = json_pack("{s:s, s:s}", "from", s->arguments[0], "to", s->arguments[1]);
                struct plane_answer a = {0};

                if (i < s->argument_count)
                        json_object_set_new(body, "package", json_string(s->arguments[i]));
                status = plane_call(s, "POST", PACKAGES "/promote", body, &a);
                if (status == EXIT_SUCCESS)
                        tell(s, &told, &a);
        } while (++i < s->argument_count && status == EXIT_SUCCESS);
        return told_done(s, &told, status, "There was nothing new to promote.");
}

static void write_keys(const json_t *keys)
{
        static const struct table_column key_columns[] = {
                {"FINGERPRINT", "fingerprint"}, {"CREATED", "created"}, {"SIGNS UNTIL", "retires"}};

        table_write(keys, key_columns, ELEMENTS(key_columns), "No keys yet.", stdout);
}

int cmd_package_key(struct session *s)
{
        const char *action = s->argument_count > 0 ? s->arguments[0] : "show";
        struct plane_answer a = {0};
        int status;

        if (strcmp(action, "rotate") == 0)
                status = plane_call(s, "POST", PACKAGES "/key/rotate", NULL, &a);
        else if (strcmp(action, "show") == 0)
                status = plane_call(s, "GET", PACKAGES "/key", NULL, &a);
        else
                return session_usage_error(s, "'%s' is neither show nor rotate", action);
        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS)
                write_keys(json_object_get(a.json, "keys"));
        plane_answer_done(&a);
        return status;
}
