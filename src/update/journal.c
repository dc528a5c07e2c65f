#include "update/journal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STATE_BYTES  ((size_t)256 << 10)
#define PROGRESS_MS  500
#define HISTORY_MS   (INT64_C(30) * 24 * 3600 * 1000)
#define LINE_MAXIMUM 1024

/* ---- loading ---- */

static int load_state(struct journal *j, const struct update_job *job)
{
        _cleanup_free_ char *text = NULL;
        size_t length;
        int r = file_read(j->place.state, STATE_BYTES, &text, &length, NULL);

        if (r == 0)
                r = update_state_parse(text, length, &j->state, NULL);
        if (r == 0 && str_equal(j->state.job.id, job->id))
                return 0;
        update_state_done(&j->state);
        return -ENOENT;
}

static void begin(struct journal *j, const struct update_job *job)
{
        j->state = (struct update_state){
                .job = *job, .started_unix_ms = clock_unix_ms(), .eta_ms = -1, .status = UPDATE_IN_PROGRESS};
        journal_log(j, "update %s: %s from channel %s, asked for by %s", job->id,
                update_action_to_string(job->action), job->channel,
                job->by[0] ? job->by : "nobody who is known");
        journal_save(j);
}

int journal_open(const char *root, struct journal *ret, struct error *ret_error)
{
        struct journal j = {.log_fd = -1};
        _cleanup_free_ char *log = NULL;
        struct update_job job;
        int r;

        update_place_init(&j.place, root);
        r = update_place_prepare(&j.place, ret_error);
        if (r == 0)
                r = update_job_load(&j.place, &job, ret_error);
        if (r < 0) {
                journal_done(&j);
                return r;
        }
        log = xasprintf("%s/%s.log", j.place.log, job.id);
        j.log_fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (j.log_fd >= 0)
                fchmod(j.log_fd, 0644);
        if (load_state(&j, &job) < 0)
                begin(&j, &job);
        *ret = j;
        return 0;
}

void journal_done(struct journal *j)
{
        if (j->log_fd >= 0)
                close(j->log_fd);
        j->log_fd = -1;
        update_state_done(&j->state);
        update_place_done(&j->place);
}

/* ---- writing ---- */

void journal_log(struct journal *j, const char *format, ...)
{
        _cleanup_free_ char *text = NULL, *line = NULL;
        va_list arguments;
        char now[32];

        va_start(arguments, format);
        text = xvasprintf(format, arguments);
        va_end(arguments);
        time_format_utc(clock_unix_ms(), now);
        line = xasprintf("%s %s\n", now, text);
        /* A log that cannot be written is no reason to leave a machine half updated. */
        if (j->log_fd >= 0 && write(j->log_fd, line, strlen(line)) < 0)
                j->save_failure = errno;
        fprintf(stderr, "%s\n", text);
}

void journal_save(struct journal *j)
{
        json_auto_t *object = update_state_to_json(&j->state);
        _cleanup_free_ char *text = json_to_text(object);
        struct error e;
        int r = file_save(j->place.state, text, strlen(text), 0644, &e);

        if (r < 0 && j->save_failure == 0)
                fprintf(stderr, "%s\n", e.text);
        j->save_failure = r < 0 ? -r : 0;
}

void journal_text(struct journal *j, enum update_step_name step, const char *format, ...)
{
        static double saved_ms;
        double now_ms = clock_monotonic_ms();
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(j->state.steps[step].text, sizeof j->state.steps[step].text, format, arguments);
        va_end(arguments);
        if (now_ms - saved_ms < PROGRESS_MS)
                return;
        saved_ms = now_ms;
        journal_save(j);
}

static void forget_waiting(struct journal *j)
{
        j->state.waiting_since_unix_ms = 0;
        j->state.waiting_code[0] = '\0';
        j->state.waiting_for[0] = '\0';
}

static void change(
        struct journal *j, enum update_step_name step, enum update_step_state state, const char *text)
{
        struct update_step *s = &j->state.steps[step];
        bool is_new = s->state != state || !str_equal(s->text, text);

        if (s->from_unix_ms == 0)
                s->from_unix_ms = clock_unix_ms();
        s->to_unix_ms = state == STEP_RUNNING || state == STEP_WAITING ? 0 : clock_unix_ms();
        s->state = state;
        str_copy(s->text, sizeof s->text, text);
        if (is_new)
                journal_log(j, "step %s %s%s%s", update_step_to_string(step),
                        update_step_state_to_string(state), text[0] ? ": " : "", text);
        journal_save(j);
}

void journal_begin(struct journal *j, enum update_step_name step, const char *format, ...)
{
        char text[LINE_MAXIMUM];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        forget_waiting(j);
        change(j, step, STEP_RUNNING, text);
}

void journal_wait(struct journal *j, enum update_step_name step, const char *code, const char *why)
{
        bool is_new = j->state.steps[step].state != STEP_WAITING || !str_equal(j->state.waiting_for, why);

        if (j->state.waiting_since_unix_ms == 0)
                j->state.waiting_since_unix_ms = clock_unix_ms();
        str_copy(j->state.waiting_code, sizeof j->state.waiting_code, code);
        str_copy(j->state.waiting_for, sizeof j->state.waiting_for, why);
        j->state.bytes_per_second = 0;
        if (is_new)
                change(j, step, STEP_WAITING, why);
}

void journal_end(
        struct journal *j, enum update_step_name step, enum update_step_state state, const char *format, ...)
{
        char text[LINE_MAXIMUM];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        forget_waiting(j);
        j->state.bytes_per_second = 0;
        change(j, step, state, text);
}

bool journal_is_over(const struct journal *j, enum update_step_name step)
{
        return j->state.steps[step].state == STEP_DONE || j->state.steps[step].state == STEP_SKIPPED;
}

/* ---- the end ---- */

static void end(struct journal *j, enum update_status status)
{
        forget_waiting(j);
        j->state.status = status;
        j->state.ended_unix_ms = clock_unix_ms();
        journal_log(j, "update %s: %s%s%s", j->state.job.id, update_status_to_string(status),
                j->state.error[0] ? ": " : "", j->state.error);
        journal_save(j);
}

void journal_complete(struct journal *j)
{
        end(j, UPDATE_COMPLETED);
}

/* The log's last lines, whole ones, with nothing in them that JSON would have to write as several bytes. */
static char *log_end(const struct journal *j)
{
        _cleanup_free_ char *path = xasprintf("%s/%s.log", j->place.log, j->state.job.id);
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        char *text = xcalloc(1, UPDATE_LOG_BYTES + 1), *newline;
        struct stat st;
        off_t from;
        ssize_t n;

        if (fd < 0 || fstat(fd, &st) < 0)
                return text;
        from = st.st_size > (off_t)UPDATE_LOG_BYTES ? st.st_size - (off_t)UPDATE_LOG_BYTES : 0;
        n = pread(fd, text, UPDATE_LOG_BYTES, from);
        for (ssize_t i = 0; i < n; i++)
                if (text[i] != '\n' && (text[i] < ' ' || text[i] > '~'))
                        text[i] = '?';
        newline = from > 0 ? strchr(text, '\n') : NULL;
        if (newline)
                memmove(text, newline + 1, strlen(newline + 1) + 1);
        return text;
}

void journal_fail(struct journal *j, const char *what)
{
        str_copy(j->state.error, sizeof j->state.error, what);
        free(j->state.log);
        j->state.log = log_end(j);
        end(j, UPDATE_FAILED);
}

static void remove_old(const char *folder)
{
        _cleanup_closedir_ DIR *d = opendir(folder);
        const struct dirent *entry;
        struct stat st;

        while (d && (entry = readdir(d)))
                if (entry->d_name[0] != '.' &&
                        fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                        S_ISREG(st.st_mode) && (int64_t)st.st_mtime * 1000 < clock_unix_ms() - HISTORY_MS)
                        unlinkat(dirfd(d), entry->d_name, 0);
}

int journal_archive(struct journal *j, struct error *ret_error)
{
        json_auto_t *object = update_state_to_json(&j->state);
        _cleanup_free_ char *text = json_to_text(object),
                            *path = xasprintf("%s/%s.json", j->place.history, j->state.job.id);
        int r = file_save(path, text, strlen(text), 0644, ret_error);

        remove_old(j->place.history);
        remove_old(j->place.log);
        unlink(j->place.judge);
        unlink(j->place.reboot);
        unlink(j->place.decided);
        /* The job goes last: what is left of it before is tidied up by who finds it. */
        if (unlink(j->place.job) < 0 && errno != ENOENT)
                return error_set(ret_error, errno, "update.failed", "cannot remove %s: %s", j->place.job,
                        strerror(errno));
        return r;
}
