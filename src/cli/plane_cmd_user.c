/* gridplane user, token, org */
#include "cli/commands_gridplane.h"
#include "cli/plane_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>

#define USERS  "/api/v1/users"
#define TOKENS "/api/v1/tokens"
#define ORGS   "/api/v1/organisations"

static const char *role_of(const struct session *s)
{
        return s->settings.role ? s->settings.role : "viewer";
}

static void forget(char *password)
{
        if (password)
                explicit_bzero(password, strlen(password));
        free(password);
}

static int show_id(const struct session *s, struct plane_answer *a)
{
        if (s->settings.json)
                plane_show_json(a->json);
        plane_answer_done(a);
        return EXIT_SUCCESS;
}

int cmd_user_add(struct session *s)
{
        struct plane_answer a = {0};
        char *password = NULL;
        int status = plane_read_password(s, &password);

        if (status == EXIT_SUCCESS)
                status = plane_call(s, "POST", USERS,
                        json_pack("{s:s,s:s,s:s}", "name", s->arguments[0], "role", role_of(s), "password",
                                password),
                        &a);
        forget(password);
        return status == EXIT_SUCCESS ? show_id(s, &a) : status;
}

/* The list at `path`, of this name and role where the options say so. */
static int show_named(const struct session *s, const char *path, const struct table_column *columns,
        size_t count, const char *empty)
{
        struct plane_path p = {0};
        int status;

        text_add(&p.text, path);
        plane_path_add(&p, "name", s->settings.event_name);
        plane_path_add(&p, "role", s->settings.role);
        status = plane_show_list(s, text_string(&p.text), columns, count, empty);
        text_done(&p.text);
        return status;
}

int cmd_user_list(struct session *s)
{
        static const struct table_column columns[] = {
                {"NAME", "name"}, {"ROLE", "role"}, {"CREATED", "created"}, {"ID", "id"}};

        return show_named(s, USERS, columns, ELEMENTS(columns),
                "No users yet: 'gridplane user add NAME --role admin' makes one.");
}

/* The id of the record with this name or id at `path`; the caller's; NULL after its message. */
static char *id_of(
        const struct session *s, const char *path, const char *what, const char *name, int *ret_status)
{
        json_t *list = NULL, *item;
        char *found = NULL;
        size_t index;

        *ret_status = plane_list(s, path, &list);
        if (*ret_status != EXIT_SUCCESS)
                return NULL;
        json_array_foreach(json_object_get(list, "items"), index, item)
        {
                const char *id = json_string_value(json_object_get(item, "id"));

                if (!found && (str_equal(json_string_value(json_object_get(item, "name")), name) ||
                                      str_equal(id, name)))
                        found = xstrdup(id);
        }
        json_decref(list);
        if (!found)
                *ret_status =
                        session_fail(s, EXIT_FAILURE, "there is no %s '%s' in this organisation", what, name);
        return found;
}

int cmd_user_password(struct session *s)
{
        _cleanup_free_ char *id = NULL, *path = NULL;
        struct plane_answer a = {0};
        char *password = NULL;
        int status;

        id = id_of(s, USERS, "user", s->arguments[0], &status);
        if (!id)
                return status;
        path = plane_path_segment(USERS, id, "");
        status = plane_read_password(s, &password);
        if (status == EXIT_SUCCESS)
                status = plane_call(s, "PATCH", path, json_pack("{s:s}", "password", password), &a);
        forget(password);
        plane_answer_done(&a);
        return status;
}

static int remove_record(struct session *s, const char *list, const char *what)
{
        _cleanup_free_ char *id = NULL, *path = NULL;
        struct plane_answer a = {0};
        int status;

        id = id_of(s, list, what, s->arguments[0], &status);
        if (!id)
                return status;
        path = plane_path_segment(list, id, "");
        status = plane_call(s, "DELETE", path, NULL, &a);
        plane_answer_done(&a);
        return status;
}

int cmd_user_remove(struct session *s)
{
        return remove_record(s, USERS, "user");
}

/* ---- API tokens ---- */

int cmd_token_add(struct session *s)
{
        json_t *body = json_pack("{s:s,s:s}", "name", s->arguments[0], "role", role_of(s));
        struct plane_answer a = {0};
        unsigned long days;
        char expires[32];
        int status;

        if (s->settings.expires_days) {
                if (str_to_ulong(s->settings.expires_days, 1, 3650, &days) < 0) {
                        json_decref(body);
                        return session_usage_error(
                                s, "--expires takes days from 1 to 3650, not '%s'", s->settings.expires_days);
                }
                time_format_utc(((int64_t)time(NULL) + (int64_t)days * 86400) * 1000, expires);
                json_object_set_new(body, "expires", json_string(expires));
        }
        status = plane_call(s, "POST", TOKENS, body, &a);
        if (status == EXIT_SUCCESS && s->settings.json)
                plane_show_json(a.json);
        else if (status == EXIT_SUCCESS)
                status = plane_show_secret(s, json_string_value(json_object_get(a.json, "secret")));
        plane_answer_done(&a);
        return status;
}

int cmd_token_list(struct session *s)
{
        static const struct table_column columns[] = {{"NAME", "name"}, {"ROLE", "role"},
                {"CREATED", "created"}, {"EXPIRES", "expires"}, {"ID", "id"}};

        return show_named(s, TOKENS, columns, ELEMENTS(columns),
                "No API tokens yet: 'gridplane token add NAME' makes one.");
}

int cmd_token_remove(struct session *s)
{
        return remove_record(s, TOKENS, "API token");
}

/* ---- organisations ---- */

int cmd_org_add(struct session *s)
{
        struct plane_answer a = {0};
        int status = plane_call(s, "POST", ORGS, json_pack("{s:s}", "name", s->arguments[0]), &a);

        return status == EXIT_SUCCESS ? show_id(s, &a) : status;
}

int cmd_org_list(struct session *s)
{
        static const struct table_column columns[] = {{"NAME", "name"}, {"CREATED", "created"}, {"ID", "id"}};

        return show_named(s, ORGS, columns, ELEMENTS(columns), "No organisations.");
}
