/* gridplane node tool NODE TOOL [ARGUMENT]..., and what else runs a tool at a node. */
#include "cli/commands_gridplane.h"
#include "cli/plane_show.h"
#include "cli/stop.h"

#include "base/cleanup.h"

#include <math.h>
#include <stdlib.h>
#include <sysexits.h>

#define DEFAULT_TIMEOUT_S 60

struct output {
        const struct session *session;
        int status; /* of the tool */
        bool *ret_lost;
};

/* For whom the word of the wire is too short. */
static const char *words_of(const char *how)
{
        return str_equal(how, "timeout")     ? "its time was over, and it was ended; --timeout gives it more"
               : str_equal(how, "cancelled") ? "it was cancelled"
               : str_equal(how, "signalled") ? "it was ended by a signal"
               : how                         ? how
                                             : "ended";
}

static int take_end(struct output *o, json_t *end)
{
        const char *how = json_string_value(json_object_get(end, "end"));
        const char *error = json_string_value(json_object_get(end, "error"));

        o->status = (int)json_integer_value(json_object_get(end, "status"));
        if (str_equal(how, "exited"))
                return 1;
        if (str_equal(how, "lost") && o->ret_lost) {
                *o->ret_lost = true;
                o->status = EX_UNAVAILABLE;
                return 1;
        }
        session_fail(o->session, 0, "%s%s%s", words_of(how), error ? ": " : "", error ? error : "");
        o->status = str_equal(how, "refused")     ? EX_USAGE
                    : str_equal(how, "lost")      ? EX_UNAVAILABLE
                    : str_equal(how, "signalled") ? 128 + o->status
                                                  : EXIT_FAILURE;
        return 1;
}

static int on_event(const char *name, json_t *data, void *userdata)
{
        struct output *o = userdata;
        const char *text = json_string_value(json_object_get(data, "text"));

        if (str_equal(name, "end"))
                return take_end(o, data);
        if (!str_equal(name, "line") || !text)
                return 0;
        if (str_equal(json_string_value(json_object_get(data, "stream")), "err")) {
                fprintf(stderr, "%s\n", text);
        } else {
                puts(text);
                fflush(stdout);
        }
        return 0;
}

/* An interrupt ends the tool at the node, too. */
static int cancel(const struct session *s, const char *id)
{
        _cleanup_free_ char *path = plane_path_segment("/api/v1/requests", id, "");
        struct plane_answer a = {0};

        plane_call(s, "DELETE", path, NULL, &a);
        plane_answer_done(&a);
        return 128 + stop_signal();
}

int plane_run_tool(const struct session *s, const char *node, const char *tool, json_t *arguments,
        int timeout_s, bool *ret_lost)
{
        _cleanup_free_ char *path = plane_path_segment("/api/v1/nodes", node, "/requests"), *stream = NULL;
        struct plane_answer a = {0};
        struct output o = {.session = s, .status = EXIT_FAILURE, .ret_lost = ret_lost};
        const char *id;
        int result = 0,
            status = plane_call(s, "POST", path,
                    json_pack("{s:s,s:o,s:i}", "tool", tool, "arguments", arguments, "timeout_s", timeout_s),
                    &a);

        if (status != EXIT_SUCCESS)
                return status;
        id = json_string_value(json_object_get(a.json, "id"));
        if (id) {
                stop_watch();
                stream = plane_path_segment("/api/v1/requests", id, "/stream");
                status = plane_stream(s, stream, on_event, &o, &result);
        }
        if (stop_signal() && id)
                status = cancel(s, id);
        else if (status == EXIT_SUCCESS)
                status = result ? o.status : session_fail(s, EX_UNAVAILABLE, "the output broke off");
        plane_answer_done(&a);
        return status;
}

int cmd_node_tool(struct session *s)
{
        json_t *arguments = json_array();

        for (int i = 2; i < s->argument_count; i++)
                json_array_append_new(arguments, json_string(s->arguments[i]));
        return plane_run_tool(s, s->arguments[0], s->arguments[1], arguments,
                s->settings.budget_s > 0 ? (int)ceil(s->settings.budget_s) : DEFAULT_TIMEOUT_S, NULL);
}
