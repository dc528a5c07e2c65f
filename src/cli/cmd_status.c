/* gridnode status: the console's lines, the jobs, the last diagnosis. */
#include "cli/commands_gridnode.h"
#include "cli/daemon_ask.h"
#include "cli/progress.h"
#include "cli/terminal.h"
#include "cli/update_show.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <string.h>

#define TITLE_WIDTH 24

static const char *text_of(const json_t *object, const char *member)
{
        const char *s = json_string_value(json_object_get(object, member));

        return s ? s : "";
}

static void line(const char *title, const char *value, const char *colour)
{
        _cleanup_free_ char *safe = str_printable(value, strlen(value), 2000);
        bool coloured = colour[0] && terminal_has_colour(stdout);

        printf("%-*s %s%s%s\n", TITLE_WIDTH, title, coloured ? colour : "", safe, coloured ? "\033[0m" : "");
}

#define GOOD "\033[32m"
#define BAD  "\033[31m"
#define DULL "\033[33m"

static const char *colour_of(const char *state)
{
        if (str_equal(state, "ok") || str_equal(state, "connected") || str_equal(state, "ready"))
                return GOOD;
        if (str_equal(state, "failed") || str_equal(state, "blocked"))
                return BAD;
        return DULL;
}

/* ---- the console's lines ---- */

static void write_wan(const json_t *status)
{
        const json_t *wan = json_object_get(status, "wan");
        const char *address = text_of(wan, "address");
        struct text t = {0};

        text_addf(&t, "%s%s%s%s", address[0] ? address : "none", *text_of(wan, "interface") ? " on " : "",
                text_of(wan, "interface"), "");
        line("WAN IP Address:", text_string(&t), address[0] ? "" : BAD);
        text_done(&t);
}

static void write_dns(const json_t *status)
{
        const json_t *dns = json_object_get(status, "dns");
        long long failed = json_integer_value(json_object_get(dns, "failed"));
        size_t count = json_array_size(json_object_get(dns, "servers"));
        const char *state = text_of(dns, "state");
        struct text t = {0};

        if (str_equal(state, "ok") && failed == 0)
                text_add(&t, "Working");
        else if (str_equal(state, "unknown"))
                text_add(&t, "Not tested yet");
        else if (failed == 0)
                text_add(&t, "Working, one probe failed");
        else if (failed < (long long)count)
                text_addf(&t, "Working, but %lld of %zu servers do not answer right", failed, count);
        else
                text_add(&t, "Failing");
        line("DNS Status:", text_string(&t),
                failed == 0                 ? colour_of(state)
                : failed < (long long)count ? DULL
                                            : BAD);
        text_done(&t);
}

static void write_controller(const json_t *status)
{
        const json_t *c = json_object_get(status, "control");
        bool connected = str_equal(text_of(c, "state"), "connected");
        struct text t = {0};

        if (connected)
                text_addf(&t, "Connected to %s since %s", text_of(c, "address"), text_of(c, "since"));
        else {
                text_add(&t, "Disconnected");
                if (*text_of(c, "since"))
                        text_addf(&t, " since %s", text_of(c, "since"));
                if (*text_of(c, "error"))
                        text_addf(&t, ": %s", text_of(c, "error"));
        }
        line("Cloud Controller:", text_string(&t), connected ? GOOD : BAD);
        text_done(&t);
}

static const json_t *service_with(const json_t *status, const char *job)
{
        json_t *service, *carried;
        size_t index, k;

        json_array_foreach(json_object_get(status, "services"), index, service)
        {
                json_array_foreach(json_object_get(service, "carries"), k, carried)
                {
                        if (str_equal(json_string_value(carried), job))
                                return service;
                }
        }
        return NULL;
}

/* Reachable, Unreachable with its cause, … of the service that carries `job`. */
static void write_service(const json_t *status, const char *title, const char *job)
{
        const json_t *s = service_with(status, job);
        const char *state = text_of(s, "state");
        const char *word = str_equal(state, "ok")         ? "Reachable"
                           : str_equal(state, "suspect")  ? "Reachable, one probe failed"
                           : str_equal(state, "degraded") ? "Reachable in part"
                           : str_equal(state, "failed")   ? "Unreachable"
                                                          : "Not tested yet";
        struct text t = {0};

        if (!s)
                return;
        text_add(&t, word);
        if (*text_of(s, "cause"))
                text_addf(&t, " (%s)", text_of(s, "cause"));
        if (!str_equal(state, "ok") && *text_of(s, "since"))
                text_addf(&t, " since %s", text_of(s, "since"));
        if (json_is_true(json_object_get(s, "flapping")))
                text_add(&t, ", flapping");
        line(title, text_string(&t), colour_of(state));
        text_done(&t);
}

/* ---- updates and transfers ---- */

static void write_update(const json_t *status)
{
        const json_t *u = json_object_get(status, "update");
        _cleanup_(update_state_done) struct update_state state = {0};
        _cleanup_free_ char *text = NULL;

        if (!json_is_object(u)) {
                line("Software Update:", "none was made here yet", "");
        } else if (update_state_from_json(u, &state, NULL) == 0) {
                text = update_show_line(&state);
                line("Software Update:", text,
                        state.status == UPDATE_FAILED                                       ? BAD
                        : state.status == UPDATE_IN_PROGRESS && state.waiting_since_unix_ms ? DULL
                                                                                            : GOOD);
        }
}

static void write_window(const json_t *status)
{
        const json_t *s = json_object_get(status, "update_schedule");
        struct text t = {0};

        if (!json_is_object(s))
                return;
        if (json_is_true(json_object_get(s, "manual")))
                text_add(&t, "only when somebody asks");
        else if (*text_of(s, "next"))
                text_addf(&t, "at %s%s%s", text_of(s, "next"),
                        *text_of(s, "hold_until") ? ", held until " : "", text_of(s, "hold_until"));
        else
                text_add(&t, "none: there is no window");
        line("Next update:", text_string(&t), "");
        text_done(&t);
}

static void write_transfer(const json_t *post)
{
        double rate = json_number_value(json_object_get(post, "bytes_per_second"));
        uint64_t bytes = (uint64_t)json_number_value(json_object_get(post, "bytes"));
        uint64_t size = (uint64_t)json_number_value(json_object_get(post, "size"));
        const json_t *remaining = json_object_get(post, "remaining_s");
        long long way = json_integer_value(json_object_get(post, "way"));
        struct text title = {0}, value = {0};
        char a[32];

        text_addf(&title, "  %s:", text_of(post, "name"));
        if (*text_of(post, "job"))
                text_addf(&value, "%s, ", text_of(post, "job"));
        text_addf(&value, "%s, %s", text_of(post, "state"), progress_bytes(bytes, a));
        if (size)
                text_addf(&value, " of %s", progress_bytes(size, a));
        if (rate > 0)
                text_addf(&value, ", %s/s", progress_bytes((uint64_t)rate, a));
        if (json_is_number(remaining))
                text_addf(&value, ", %s left", progress_time(json_number_value(remaining) * 1000, a));
        if (way)
                text_addf(&value, ", by %lld", way);
        if (*text_of(post, "waits_for"))
                text_addf(&value, ": %s", text_of(post, "waits_for"));
        line(text_string(&title), text_string(&value), *text_of(post, "waits_for") ? DULL : "");
        text_done(&title);
        text_done(&value);
}

static void write_transfers(const json_t *status)
{
        const json_t *list = json_object_get(status, "transfers"), *post;
        size_t i;

        if (json_array_size(list) > 0)
                fputs("\nTransfers\n", stdout);
        json_array_foreach(list, i, post)
        {
                write_transfer(post);
        }
}

/* ---- the rest ---- */

static void write_self_test(const json_t *status)
{
        const json_t *t = json_object_get(status, "self_test");

        if (*text_of(t, "error"))
                line("Self-test:", text_of(t, "error"), BAD);
}

static void write_jobs(const json_t *status)
{
        json_t *job;
        size_t index;

        fputs("\nJobs\n", stdout);
        json_array_foreach(json_object_get(status, "jobs"), index, job)
        {
                long long waiting = json_integer_value(json_object_get(job, "waiting"));
                struct text title = {0}, value = {0};

                text_addf(&title, "  %s:", text_of(job, "name"));
                text_add(&value, text_of(job, "state"));
                if (*text_of(job, "cause"))
                        text_addf(&value, " (%s)", text_of(job, "cause"));
                text_addf(&value, waiting ? ", %lld waiting" : ", nothing waits", waiting);
                line(text_string(&title), text_string(&value), colour_of(text_of(job, "state")));
                text_done(&title);
                text_done(&value);
        }
}

static void write_configuration(const json_t *status)
{
        const json_t *c = json_object_get(status, "configuration");
        long long version = json_integer_value(json_object_get(c, "in_force"));
        json_t *warning;
        struct text t = {0};
        size_t index;

        if (version)
                text_addf(&t, "version %lld", version);
        else
                text_add(&t, "of the site file");
        if (json_is_true(json_object_get(c, "waits_for_confirmation")))
                text_add(&t, ", not confirmed yet");
        if (*text_of(c, "error"))
                text_addf(&t, "; version %lld %s: %s",
                        (long long)json_integer_value(json_object_get(c, "version")), text_of(c, "state"),
                        text_of(c, "error"));
        line("Configuration:", text_string(&t), *text_of(c, "error") ? BAD : "");
        text_done(&t);
        json_array_foreach(json_object_get(c, "warnings"), index, warning)
        {
                line("", json_string_value(warning) ? json_string_value(warning) : "", DULL);
        }
}

static void write_diagnosis(const json_t *status)
{
        const json_t *d = json_object_get(status, "last_diagnosis");
        json_t *cause;
        size_t index;

        if (!json_is_object(d)) {
                line("Last diagnosis:", "none was needed yet", "");
                return;
        }
        line("Last diagnosis:", text_of(d, "at"), "");
        line("", text_of(d, "summary"),
                colour_of(str_equal(text_of(d, "verdict"), "healthy") ? "ok" : "failed"));
        json_array_foreach(json_object_get(d, "causes"), index, cause)
        {
                line("", text_of(cause, "remedy"), "");
        }
}

static void write_status(const json_t *status)
{
        long long waiting = json_integer_value(json_object_get(status, "waiting_records"));
        struct text t = {0};

        text_addf(&t, "%s (%s)", text_of(status, "name"), text_of(status, "node"));
        line("Node:", text_string(&t), "");
        text_done(&t);
        write_wan(status);
        write_dns(status);
        write_controller(status);
        write_service(status, "Software Repository:", "updates");
        write_service(status, "Configuration Endpoint:", "config");
        write_update(status);
        write_window(status);
        write_self_test(status);
        write_jobs(status);
        write_transfers(status);
        fputc('\n', stdout);
        write_configuration(status);
        line("Certificate until:", text_of(status, "certificate_end"), "");
        if (waiting)
                printf("%-*s %lld wait to be sent to the control plane\n", TITLE_WIDTH, "Records:", waiting);
        write_diagnosis(status);
}

static int on_line(const char *member, json_t *value, void *userdata)
{
        const struct session *s = userdata;

        if (!str_equal(member, "status"))
                return 0;
        if (s->settings.json) {
                json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
                putchar('\n');
        } else
                write_status(value);
        return 0;
}

int cmd_status(struct session *s)
{
        return daemon_ask(s, json_pack("{s:s}", "op", "status"), on_line, s);
}
