/* gridnode diag */
#include "cli/commands_gridnode.h"
#include "cli/daemon_ask.h"
#include "cli/session.h"
#include "cli/stop.h"
#include "cli/terminal.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "diagnose/report.h"
#include "node/control.h"
#include "node/diagnosis.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#define STDIN_MAX_BYTES  ((size_t)64 << 20) /* as report_from_json_text bounds it */
#define DEFAULT_BUDGET_S 5

/* "page.md" → Markdown, "page.html" → HTML. */
static int page_format_of(const char *path, enum page_format *ret)
{
        bool is_markdown = str_ends_with(path, ".md");

        if (!is_markdown && !str_ends_with(path, ".html"))
                return -EINVAL;
        *ret = is_markdown ? PAGE_MARKDOWN : PAGE_HTML;
        return 0;
}

static int check_options(const struct session *s)
{
        const struct settings *o = &s->settings;
        enum page_format format;

        if (o->firewall_page_path && page_format_of(o->firewall_page_path, &format) < 0)
                return session_usage_error(s,
                        "--firewall-page takes a file that ends in .md or .html, not '%s'",
                        o->firewall_page_path);
        if (o->capture_path && o->no_capture)
                return session_usage_error(s, "--capture and --no-capture exclude each other");
        if (o->replay_path && o->capture_path)
                return session_usage_error(s, "--replay measures nothing, so there is nothing to --capture");
        if (o->quiet && (o->json || o->verbose))
                return session_usage_error(
                        s, "--quiet and --%s exclude each other", o->json ? "json" : "verbose");
        return EXIT_SUCCESS;
}

static int read_stdin(struct text *t, struct error *ret_error)
{
        char block[16384];
        size_t length;

        while ((length = fread(block, 1, sizeof block - 1, stdin)) > 0) {
                if (t->length + length > STDIN_MAX_BYTES)
                        return error_set(
                                ret_error, EFBIG, "replay.too-large", "standard input: larger than 64 MiB");
                if (memchr(block, 0, length))
                        return error_set(
                                ret_error, EBADMSG, "replay.malformed", "standard input: is not a JSON text");
                block[length] = 0;
                text_add(t, block);
        }
        if (ferror(stdin))
                return error_set(ret_error, EIO, "replay.unreadable", "standard input: cannot be read: %s",
                        strerror(errno));
        return 0;
}

static int replay(const struct session *s, struct report *ret)
{
        const char *path = s->settings.replay_path;
        struct error e = {0};
        struct text t = {0};
        char *data = NULL;
        size_t length = 0;
        int r;

        if (str_equal(path, "-")) {
                path = "standard input";
                r = read_stdin(&t, &e);
                length = t.length;
                data = text_take(&t);
        } else {
                r = file_read(path, STDIN_MAX_BYTES, &data, &length, &e);
        }
        if (r == 0) {
                r = report_from_json_text(data, length, ret, &e);
                if (r < 0)
                        error_prefix(&e, "%s", path);
        }
        free(data);
        return r < 0 ? session_fail(s, EX_CONFIG, "%s", e.text) : EXIT_SUCCESS;
}

static void on_progress(
        const struct measurement *last, size_t done, size_t pending, double elapsed_ms, void *userdata)
{
        _cleanup_free_ char *line = measurement_describe(last);

        (void)userdata;
        terminal_progress("%.1f s: %zu measured, %zu under way; %s", elapsed_ms / 1000, done, pending, line);
}

static int exit_status_of(int r)
{
        switch (-r) {
        case EPERM:
        case EACCES:
                return EX_NOPERM;
        case ENODEV:
        case EBADMSG:
        case EINVAL:
        case ENOENT:
                return EX_CONFIG;
        default:
                return EXIT_FAILURE;
        }
}

static int measure(struct session *s, struct report *ret)
{
        struct diagnosis_options o = {.site = s->site,
                .profile = s->profile,
                .source = s->settings.source,
                .interface = s->settings.interface,
                .budget_ms = (s->settings.budget_s > 0 ? s->settings.budget_s : DEFAULT_BUDGET_S) * 1000,
                .capture_path = s->settings.capture_path,
                .no_capture = s->settings.no_capture,
                .stop_fd = stop_watch(),
                .on_progress = !s->settings.quiet && isatty(STDERR_FILENO) ? on_progress : NULL};
        struct error e = {0};
        int r = diagnosis_run(&o, ret, &e);

        terminal_progress_end();
        if (r == -EBADMSG && s->profile) /* the pinned root: the profile is where its name stands */
                error_prefix(&e, "%s", s->profile->path);
        return r < 0 ? session_fail(s, exit_status_of(r), "%s", e.text) : EXIT_SUCCESS;
}

/* ---- through the daemon ---- */

/* Where a daemon runs, it measures: it has the rights for it, and the report is kept with the others. Whoever
 * says how to measure gets a measurement of his own. */
static bool daemon_is_to_measure(const struct session *s)
{
        const struct settings *o = &s->settings;
        _cleanup_free_ char *path = NULL;

        if (o->config_path || o->profile || o->interface || inet_addr_is_set(&o->source) || o->capture_path ||
                o->no_capture)
                return false;
        path = daemon_socket(s);
        return access(path, W_OK) == 0;
}

static int on_daemon_line(const char *member, json_t *value, void *userdata)
{
        json_t **report = userdata;

        if (str_equal(member, "report")) {
                json_decref(*report);
                *report = json_incref(value);
        }
        return 0;
}

/* An exit status; -1: no daemon runs after all. */
static int ask_daemon(struct session *s, struct report *ret)
{
        _cleanup_free_ char *path = daemon_socket(s), *text = NULL;
        double budget_s = s->settings.budget_s > 0 ? s->settings.budget_s : DEFAULT_BUDGET_S;
        json_t *request = json_pack("{s:s,s:f}", "op", "diag", "budget_s", budget_s), *report = NULL;
        struct error e = {0};
        int r = control_ask(path, request, on_daemon_line, &report, stop_watch(), &e);

        json_decref(request);
        if (r == -ECONNREFUSED || r == -ENOENT)
                return -1;
        if (r >= 0 && report) {
                text = json_dumps(report, JSON_COMPACT | JSON_REAL_PRECISION(12));
                r = report_from_json_text(text, strlen(text), ret, &e);
        } else if (r >= 0) {
                r = error_set(&e, EIO, "daemon.silent", "the daemon gave no report");
        }
        json_decref(report);
        if (r == -EINTR)
                return 128 + stop_signal();
        return r < 0 ? session_fail(s, EXIT_FAILURE, "%s", e.text) : EXIT_SUCCESS;
}

static void write_report(const struct session *s, const struct report *r)
{
        struct report_style style = {.colour = terminal_has_colour(stdout),
                .utf8 = terminal_is_utf8(),
                .verbose = s->settings.verbose,
                .width = terminal_width(stdout)};
        json_t *j;

        if (s->settings.quiet)
                return;
        if (!s->settings.json) {
                report_write_text(r, &style, stdout);
                if (r->profile && !r->profile[0] && !s->settings.replay_path)
                        fputs("\nNo profile: this is this host's own network only. Name the control plane "
                              "to\n"
                              "reach with --profile NAME, or profile = NAME in the site file.\n",
                                stdout);
                return;
        }
        j = report_to_json(r);
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        putchar('\n');
        json_decref(j);
}

static int save_page(const struct session *s, const struct report *r)
{
        const char *path = s->settings.firewall_page_path;
        _cleanup_free_ char *page = NULL;
        enum page_format format;
        struct error e = {0};

        if (!path || page_format_of(path, &format) < 0)
                return EXIT_SUCCESS;
        page = report_firewall_page(r, format);
        if (file_save(path, page, strlen(page), 0644, &e) < 0)
                return session_fail(s, EXIT_FAILURE, "%s", e.text);
        return EXIT_SUCCESS;
}

static int measure_somehow(struct session *s, struct report *ret)
{
        int status = daemon_is_to_measure(s) ? ask_daemon(s, ret) : -1;

        return status < 0 ? measure(s, ret) : status;
}

int cmd_diag(struct session *s)
{
        struct report report = {0};
        int status = check_options(s);

        if (status == EXIT_SUCCESS)
                status = s->settings.replay_path ? replay(s, &report) : measure_somehow(s, &report);
        if (status == EXIT_SUCCESS) {
                write_report(s, &report);
                status = save_page(s, &report);
                if (status == EXIT_SUCCESS)
                        status = verdict_exit_code(report.conclusion.verdict);
                if (stop_signal())
                        status = 128 + stop_signal();
        }
        report_done(&report);
        return status;
}
