/* gridplane node create, token, list, show, remove, config */
#include "cli/commands_gridplane.h"
#include "cli/plane_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <string.h>
#include <sysexits.h>

#define NODES            "/api/v1/nodes"
#define CONFIG_MAX_BYTES ((size_t)256 << 10)

/* The token goes to standard output alone, so that it can be sent on to a file; what to do with it to
 * standard error. */
static int show_token(const struct session *s, const struct plane_answer *a)
{
        const char *token = json_string_value(json_object_get(a->json, "token"));
        int status;

        if (s->settings.json) {
                plane_show_json(a->json);
                return EXIT_SUCCESS;
        }
        if (!token)
                return session_fail(s, EXIT_FAILURE, "the control plane gave no token");
        status = plane_show_secret(s, token);
        fflush(stdout);
        if (status == EXIT_SUCCESS)
                fprintf(stderr,
                        "It registers one node, once, until %s:\n"
                        "  gridnode register %s --token-file FILE --root-fingerprint %s\n",
                        json_string_value(json_object_get(a->json, "expires")),
                        json_string_value(json_object_get(a->json, "url")),
                        json_string_value(json_object_get(a->json, "root_fingerprint")));
        return status;
}

int cmd_node_create(struct session *s)
{
        json_t *body = json_pack("{s:s}", "name", s->arguments[0]);
        struct plane_answer a = {0};
        int status;

        if (s->settings.site)
                json_object_set_new(body, "site", json_string(s->settings.site));
        status = plane_call(s, "POST", NODES, body, &a);
        if (status == EXIT_SUCCESS)
                status = show_token(s, &a);
        plane_answer_done(&a);
        return status;
}

int cmd_node_token(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(NODES, s->arguments[0], "/token");
        struct plane_answer a = {0};
        int status = plane_call(s, "POST", path, NULL, &a);

        if (status == EXIT_SUCCESS)
                status = show_token(s, &a);
        plane_answer_done(&a);
        return status;
}

int cmd_node_list(struct session *s)
{
        static const struct table_column columns[] = {{"NAME", "name"}, {"SITE", "site"}, {"STATE", "state"},
                {"CONNECTED", "connected"}, {"LAST SEEN", "last_seen"}, {"VERSION", "version"},
                {"UPDATE", "update.status"}, {"ID", "id"}};
        struct plane_path p = {0};
        int status;

        text_add(&p.text, NODES);
        plane_path_add(&p, "site", s->settings.site);
        plane_path_add(&p, "name", s->settings.event_name);
        plane_path_add(&p, "cause", s->settings.cause);
        plane_path_add(&p, "tag", s->settings.fleet.tag);
        status = plane_show_list(s, text_string(&p.text), columns, ELEMENTS(columns),
                "No nodes yet: 'gridplane node create NAME' makes one.");
        text_done(&p.text);
        return status;
}

/* Member by member, what is nested indented: a node's page is read by people, and grows. */
static void write_value(const char *title, const json_t *value, int indent)
{
        const char *name;
        const json_t *member;
        size_t index;

        if (json_is_object(value)) {
                printf("%*s%s:\n", indent, "", title);
                json_object_foreach((json_t *)value, name, member)
                {
                        write_value(name, member, indent + 2);
                }
        } else if (json_is_array(value)) {
                printf("%*s%s:%s\n", indent, "", title, json_array_size(value) ? "" : " none");
                json_array_foreach(value, index, member)
                {
                        write_value("-", member, indent + 2);
                }
        } else if (json_is_string(value)) {
                _cleanup_free_ char *safe =
                        str_printable(json_string_value(value), json_string_length(value), 4096);

                printf("%*s%s: %s\n", indent, "", title, safe);
        } else {
                _cleanup_free_ char *text = json_dumps(value, JSON_ENCODE_ANY);

                printf("%*s%s: %s\n", indent, "", title, json_is_null(value) ? "-" : text);
        }
}

int cmd_node_show(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(NODES, s->arguments[0], "");
        struct plane_answer a = {0};
        const char *name;
        json_t *member;
        int status = plane_call(s, "GET", path, NULL, &a);

        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS)
                json_object_foreach(a.json, name, member)
                {
                        write_value(name, member, 0);
                }
        plane_answer_done(&a);
        return status;
}

int cmd_node_remove(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(NODES, s->arguments[0], "");
        struct plane_answer a = {0};
        int status = plane_call(s, "DELETE", path, NULL, &a);

        plane_answer_done(&a);
        return status;
}

/* ---- configuration ---- */

static int show_config(const struct session *s, const char *path)
{
        struct plane_answer a = {0};
        int status = plane_call(s, "GET", path, NULL, &a);

        if (status == EXIT_SUCCESS)
                plane_show_json(a.json);
        plane_answer_done(&a);
        return status;
}

static int read_config(const struct session *s, const char *file, json_t **ret)
{
        _cleanup_free_ char *text = NULL;
        struct error e = {0};
        json_error_t at;
        size_t length;

        if (str_equal(file, "-")) {
                *ret = json_loadf(stdin, JSON_REJECT_DUPLICATES, &at);
        } else {
                if (file_read(file, CONFIG_MAX_BYTES, &text, &length, &e) < 0)
                        return session_fail(s, EXIT_FAILURE, "%s", e.text);
                *ret = json_loadb(text, length, JSON_REJECT_DUPLICATES, &at);
        }
        if (!json_is_object(*ret)) {
                json_decref(*ret);
                return session_fail(s, EX_CONFIG, "%s:%d: is not a JSON object: %s", file, at.line, at.text);
        }
        return EXIT_SUCCESS;
}

/* A document that names a version replaces just that one; the control plane numbers the new one. */
static int put_config(const struct session *s, const char *path, const char *file)
{
        _cleanup_free_ char *header = NULL;
        struct plane_answer a = {0};
        json_t *config = NULL;
        int status = read_config(s, file, &config);

        if (status != EXIT_SUCCESS)
                return status;
        if (json_is_integer(json_object_get(config, "version")))
                header = xasprintf("If-Match: \"%lld\"",
                        (long long)json_integer_value(json_object_get(config, "version")));
        json_object_del(config, "version");
        status = plane_call_with(s, "PUT", path, header, config, &a);
        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS)
                printf("version %lld\n", (long long)json_integer_value(json_object_get(a.json, "version")));
        plane_answer_done(&a);
        return status;
}

int cmd_node_config(struct session *s)
{
        _cleanup_free_ char *path = plane_path_segment(NODES, s->arguments[0], "/config");

        return s->argument_count > 1 ? put_config(s, path, s->arguments[1]) : show_config(s, path);
}
