#include "cli/update_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "cli/progress.h"
#include "cli/terminal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define NAME_WIDTH 10

static void put(const char *s, FILE *to)
{
        _cleanup_free_ char *safe = str_printable(s, strlen(s), 4096);

        fputs(safe, to);
}

/* ---- while it goes on ---- */

static bool is_over(enum update_step_state s)
{
        return s == STEP_DONE || s == STEP_FAILED || s == STEP_SKIPPED;
}

static void write_step(enum update_step_name name, const struct update_step *step)
{
        char took[32];

        terminal_progress_end();
        printf("%-*s %s", NAME_WIDTH, update_step_to_string(name), update_step_state_to_string(step->state));
        if (step->text[0]) {
                fputs(": ", stdout);
                put(step->text, stdout);
        }
        if (step->state == STEP_DONE && step->to_unix_ms - step->from_unix_ms >= 1000)
                printf(" (%s)", progress_time((double)(step->to_unix_ms - step->from_unix_ms), took));
        putchar('\n');
}

/* Each attempt is not worth a line; that it got further is. */
static void write_wait(const struct update_state *s, struct update_shown *shown)
{
        const struct update_step *step = update_running_step(s);
        const char *what = s->waiting_for[0] ? s->waiting_for : s->waiting_code;
        int at = step ? (int)(step - s->steps) : UPDATE_STEPS;
        char since[32];

        if (!s->waiting_since_unix_ms) {
                if (!shown->waits || (at == shown->waiting_step && s->bytes <= shown->waiting_bytes))
                        return;
                terminal_progress_end();
                printf("%-*s goes on%s\n", NAME_WIDTH, "", s->way == 8443 ? " by 8443" : "");
                shown->waits = false;
                return;
        }
        if (shown->waits && str_equal(shown->waiting_for, what))
                return;
        terminal_progress_end();
        time_format_utc(s->waiting_since_unix_ms, since);
        printf("%-*s waits since %s: ", NAME_WIDTH, "", since);
        put(what, stdout);
        putchar('\n');
        shown->waits = true;
        str_copy(shown->waiting_for, sizeof shown->waiting_for, what);
        shown->waiting_step = at;
        shown->waiting_bytes = s->bytes;
}

static void draw(const struct update_state *s)
{
        const struct update_step *step = update_running_step(s);
        bool is_download = step == &s->steps[STEP_DOWNLOAD];
        struct progress p = {
                .name = step ? update_step_to_string((enum update_step_name)(step - s->steps)) : "update",
                .state = step ? update_step_state_to_string(step->state) : "running",
                .remaining_ms = is_download && s->bytes < s->size ? s->eta_ms : -1,
                .next_attempt_ms = -1};

        if (s->waiting_since_unix_ms)
                p.waits_for = s->waiting_for[0] ? s->waiting_for : s->waiting_code;
        if (is_download) {
                p.bytes = s->bytes;
                p.size = s->size;
                p.bytes_per_second = s->bytes_per_second;
                p.way = s->way;
        }
        if (isatty(STDERR_FILENO))
                progress_show(&p, false);
}

static void show_json(const struct update_state *s)
{
        json_t *j = update_state_to_json(s);
        _cleanup_free_ char *text = json_to_text(j);

        json_decref(j);
        puts(text);
        fflush(stdout);
}

void update_show_progress(const struct update_state *s, struct update_shown *shown, bool json)
{
        if (json) {
                show_json(s);
                return;
        }
        for (size_t i = 0; i < UPDATE_STEPS; i++) {
                if (is_over(s->steps[i].state) && shown->steps[i] != s->steps[i].state)
                        write_step((enum update_step_name)i, &s->steps[i]);
                shown->steps[i] = s->steps[i].state;
        }
        write_wait(s, shown);
        fflush(stdout);
        if (s->status == UPDATE_IN_PROGRESS)
                draw(s);
        else
                terminal_progress_end();
}

/* ---- its end ---- */

static void write_packages(const struct update_state *s)
{
        int width = 0, from_width = 0, to_width = 0;
        char size[32];

        for (size_t i = 0; i < s->package_count; i++) {
                const struct update_package *p = &s->packages[i];

                width = (int)strlen(p->name) > width ? (int)strlen(p->name) : width;
                from_width = (int)strlen(p->from) > from_width ? (int)strlen(p->from) : from_width;
                to_width = (int)strlen(p->to) > to_width ? (int)strlen(p->to) : to_width;
        }
        for (size_t i = 0; i < s->package_count; i++) {
                const struct update_package *p = &s->packages[i];
                _cleanup_free_ char *line = xasprintf("  %-*s  %*s → %-*s  %9s%s", width, p->name,
                        from_width > 3 ? from_width : 3, p->from[0] ? p->from : "new", to_width, p->to,
                        progress_bytes(p->bytes, size), p->security ? "  security" : "");

                put(line, stdout);
                putchar('\n');
        }
}

static bool only_looked(const struct update_state *s)
{
        return s->job.action == UPDATE_CHECK || s->job.action == UPDATE_DRY_RUN;
}

static void write_needs(const struct update_state *s)
{
        uint64_t total = 0;
        char a[32], b[32];

        for (size_t i = 0; i < s->package_count; i++)
                total += s->packages[i].bytes;
        printf("%zu package%s, %s to fetch", s->package_count, s->package_count == 1 ? "" : "s",
                progress_bytes(total, a));
        if (s->eta_ms >= 0 && total > 0)
                printf(", about %s at the rate measured", progress_time(s->eta_ms, a));
        if (s->needs_bytes)
                printf("; needs %s of disk, %s are free", progress_bytes(s->needs_bytes, a),
                        progress_bytes(s->free_bytes, b));
        putchar('\n');
        if (s->restart_needed)
                puts("A restart of the machine is needed.");
}

char *update_show_line(const struct update_state *s)
{
        const struct update_step *step = update_running_step(s);
        struct text t = {0};
        char a[32];

        text_add(&t, update_status_to_string(s->status));
        if (s->status != UPDATE_IN_PROGRESS) {
                time_format_utc(s->ended_unix_ms, a);
                text_addf(&t, " at %s", a);
                if (s->status == UPDATE_FAILED)
                        text_addf(&t, ": %s", s->error);
                else if (only_looked(s))
                        text_addf(&t, " (%s)", update_action_to_string(s->job.action));
                else if (s->job.action == UPDATE_DOWNLOAD)
                        text_add(&t, " (download)");
                else if (s->version_to[0])
                        text_addf(&t, ": %s → %s", s->version_from, s->version_to);
                if (s->status == UPDATE_COMPLETED && s->way == 8443)
                        text_add(&t, ", by 8443");
                return text_take(&t);
        }
        if (step)
                text_addf(&t, ": %s", update_step_to_string((enum update_step_name)(step - s->steps)));
        if (step == &s->steps[STEP_DOWNLOAD] && s->size)
                text_addf(&t, ", %d %% of %s", (int)((double)s->bytes / (double)s->size * 100),
                        progress_bytes(s->size, a));
        if (s->way)
                text_addf(&t, ", by %u", s->way);
        if (s->waiting_since_unix_ms) {
                time_format_utc(s->waiting_since_unix_ms, a);
                text_addf(&t, ", waits since %s because %s", a,
                        s->waiting_for[0] ? s->waiting_for : s->waiting_code);
        }
        return text_take(&t);
}

void update_show_end(const struct update_state *s)
{
        _cleanup_free_ char *line = update_show_line(s);

        terminal_progress_end();
        if (s->package_count > 0) {
                puts(only_looked(s) ? "Would change:" : "Changes:");
                write_packages(s);
        }
        if (s->status == UPDATE_COMPLETED && s->package_count == 0)
                puts("Nothing to do: all is up to date.");
        else if (s->status == UPDATE_COMPLETED && only_looked(s))
                write_needs(s);
        put(line, stdout);
        putchar('\n');
}

/* ---- history ---- */

static const char *text_of(const json_t *j, const char *member)
{
        const char *s = json_string_value(json_object_get(j, member));

        return s ? s : "";
}

static size_t security_of(const json_t *update)
{
        const json_t *p;
        size_t i, n = 0;

        json_array_foreach(json_object_get(update, "packages"), i, p)
        {
                n += json_is_true(json_object_get(p, "security"));
        }
        return n;
}

/* RFC 4180; what a spreadsheet would take for a formula begins with an apostrophe. */
static void put_field(const char *s, bool is_last)
{
        _cleanup_free_ char *safe = str_printable(s, strlen(s), 4096);

        putchar('"');
        if (strchr("=+-@", safe[0]) && safe[0])
                putchar('\'');
        for (const char *c = safe; *c; c++) {
                if (*c == '"')
                        putchar('"');
                putchar(*c);
        }
        fputs(is_last ? "\"\r\n" : "\",", stdout);
}

static void write_csv(const json_t *list)
{
        const json_t *u;
        size_t i;

        fputs("started,ended,status,action,from,to,security_packages,by,error\r\n", stdout);
        json_array_foreach(list, i, u)
        {
                const json_t *job = json_object_get(u, "job");
                char security[24];

                snprintf(security, sizeof security, "%zu", security_of(u));
                put_field(text_of(u, "started"), false);
                put_field(text_of(u, "ended"), false);
                put_field(text_of(u, "status"), false);
                put_field(text_of(job, "action"), false);
                put_field(text_of(u, "from"), false);
                put_field(text_of(u, "to"), false);
                put_field(security, false);
                put_field(text_of(job, "by"), false);
                put_field(text_of(u, "error"), true);
        }
}

static void write_lines(const json_t *list)
{
        const json_t *u;
        size_t i;

        if (json_array_size(list) == 0)
                puts("No update was made here in the last 30 days.");
        json_array_foreach(list, i, u)
        {
                const json_t *job = json_object_get(u, "job");
                struct text t = {0};

                text_addf(&t, "%s  %-11s  %-8s  %s", text_of(u, "started"), text_of(u, "status"),
                        text_of(job, "action"), text_of(u, "from"));
                if (*text_of(u, "to") && !str_equal(text_of(u, "to"), text_of(u, "from")))
                        text_addf(&t, " → %s", text_of(u, "to"));
                if (security_of(u))
                        text_addf(&t, ", %zu security", security_of(u));
                text_addf(&t, "  by %s", text_of(job, "by"));
                if (*text_of(u, "error"))
                        text_addf(&t, ": %s", text_of(u, "error"));
                put(text_string(&t), stdout);
                putchar('\n');
                text_done(&t);
        }
}

void update_show_history(const json_t *list, bool csv, bool json)
{
        if (csv) {
                write_csv(list);
        } else if (json) {
                json_dumpf(list, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
                putchar('\n');
        } else {
                write_lines(list);
        }
}
