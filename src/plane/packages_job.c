/* Jobs: a queue for each organisation, one under way at a time; step by step, while the loop goes on. */
#include "plane/packages_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "base/timer.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>
#include <utlist.h>

#define WAITING_MAXIMUM 64 /* of one organisation */
#define RUNNING_MAXIMUM 2  /* of all: the machine has other work */

char *package_busy_file(const struct package_org *o)
{
        return path_join(o->folder, "busy");
}

/* ---- failures ---- */

int package_job_fail(struct package_job *j, int number, const char *code, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;

        va_start(arguments, format);
        text = xvasprintf(format, arguments);
        va_end(arguments);
        return error_set(&j->error, number, code, "%s", text);
}

int package_job_judge(
        struct package_job *j, const char *program, const struct package_end *e, int number, const char *code)
{
        _cleanup_free_ char *reason = NULL;

        if (e->is_late)
                return package_job_fail(
                        j, ETIMEDOUT, "repository.slow", "%s did not end in time and was stopped", program);
        if (WIFSIGNALED(e->status))
                return package_job_fail(j, EINTR, "repository.killed", "%s was ended by signal %d (%s)",
                        program, WTERMSIG(e->status), strsignal(WTERMSIG(e->status)));
        if (WEXITSTATUS(e->status) == 0)
                return 0;
        reason = package_reason(e->said, j->path);
        return package_job_fail(j, number, code, "%s: %s", program, reason);
}

/* ---- the end of a job ---- */

static int on_again(sd_event_source *source, uint64_t now, void *userdata)
{
        struct package_org *o = userdata;

        (void)source;
        (void)now;
        o->again = sd_event_source_disable_unref(o->again);
        package_job_queue(o, &package_plan_recover, NULL, NULL, NULL, NULL);
        return 0;
}

static void job_free(struct package_job *j)
{
        package_child_free(j->child);
        if (j->path)
                unlink(j->path);
        free(j->path);
        free(j->name);
        free(j->version);
        free(j->architecture);
        free(j->generation);
        free(j->note);
        json_decref(j->answer);
        json_decref(j->rows);
        free(j);
}

static void take_stock(struct package_job *j)
{
        struct package_org *o = j->org;
        _cleanup_free_ char *busy = package_busy_file(o);

        if (j->failed == 0) {
                o->all->counts.done++;
                if (j->plan != &package_plan_refresh)
                        o->needs_look &= j->plan != &package_plan_recover && j->plan != &package_plan_rebuild;
        } else {
                o->all->counts.failed++;
                if (j->generation)
                        package_remove_folder(j->generation);
                o->needs_look |= j->has_changed || !j->done;
                if (!j->done)
                        log_event(LOG_LEVEL_ERROR, "a repository of packages needs attention", "organisation",
                                o->id, "job", j->plan->name, "reason", j->error.text, NULL);
        }
        if (!o->needs_look) {
                backoff_reset(&o->backoff);
                unlink(busy);
        }
}

/* What is published may not be what reprepro has: another attempt, for which nobody waits. A database that
 * cannot be repaired is made anew, at once. */
static void look_again(const struct package_job *j)
{
        struct package_org *o = j->org;

        if (j->failed < 0 && j->plan == &package_plan_recover)
                package_job_queue(o, &package_plan_rebuild, NULL, NULL, NULL, NULL);
        else if (o->needs_look && !o->again)
                timer_arm(o->all->event, &o->again, backoff_next_ms(&o->backoff, backoff_random()), on_again,
                        o);
}

static void job_over(struct package_job *j)
{
        struct package_org *o = j->org;

        LL_DELETE(o->jobs, j);
        o->job_count--;
        o->is_running = false;
        o->all->running--;
        take_stock(j);
        if (!o->all->is_stopped)
                look_again(j);
        if (j->done)
                j->done(j->failed, j->answer, &j->error, j->userdata);
        job_free(j);
        package_jobs_kick(o->all);
}

/* ---- its steps ---- */

static const struct package_step *step_of(const struct package_job *j)
{
        return j->plan->steps[j->step];
}

/* After a failure only the last step is left. */
static void advance(struct package_job *j, int r)
{
        if (r == 1)
                return;
        if (r < 0 && j->failed == 0) {
                j->failed = r;
                if (!j->error.text[0])
                        package_job_fail(
                                j, -r, "repository.failed", "%s: %s", step_of(j)->doing, strerror(-r));
                while (j->plan->steps[j->step + 1] && j->plan->steps[j->step + 2])
                        j->step++;
        }
        j->step++;
        j->at = 0;
}

static void go_on(struct package_job *j)
{
        while (step_of(j)) {
                int r = step_of(j)->begin(j);

                if (r == 1)
                        return;
                advance(j, r);
        }
        job_over(j);
}

static void on_child_end(const struct package_end *end, void *userdata)
{
        struct package_job *j = userdata;
        int r = step_of(j)->end(j, end);

        j->child = package_child_free(j->child);
        advance(j, r);
        go_on(j);
}

int package_job_run(struct package_job *j, const struct package_command *c)
{
        int r = package_child_start(j->org->all->event, c, on_child_end, j, &j->child, &j->error);

        return r < 0 ? r : 1;
}

/* ---- the queue ---- */

static void start_job(struct package_org *o)
{
        _cleanup_free_ char *busy = package_busy_file(o);
        struct package_job *j = o->jobs;
        int r = package_folder_prepare(o->folder, &j->error);

        if (r == 0)
                r = file_save(busy, "", 0, 0600, &j->error);
        if (r == 0)
                r = package_keys_load(o->folder, &j->keys, &j->error);
        o->is_running = true;
        o->all->running++;
        if (r < 0) {
                j->failed = r;
                job_over(j);
                return;
        }
        go_on(j);
}

static void start_jobs(struct packages *p)
{
        struct package_org *o;

        for (o = p->orgs; o; o = o->next) {
                if (p->is_stopped || p->running >= RUNNING_MAXIMUM)
                        return;
                if (o->jobs && !o->is_running)
                        start_job(o);
        }
}

static int on_kick(sd_event_source *source, uint64_t now, void *userdata)
{
        (void)source;
        (void)now;
        start_jobs(userdata);
        return 0;
}

void package_jobs_kick(struct packages *p)
{
        if (!p->is_stopped)
                timer_arm(p->event, &p->kick, 0, on_kick, p);
}

static void take_question(struct package_job *j, const struct package_question *q)
{
        j->task = q->task;
        j->by = *q->by;
        j->channel = q->channel;
        j->from = q->from;
        j->path = q->path;
        j->name = xstrdup(q->name);
        j->version = xstrdup(q->version);
        j->architecture = xstrdup(q->architecture);
        str_copy(j->sha256, sizeof(j->sha256), q->sha256 ? q->sha256 : "");
        j->size_bytes = q->size_bytes;
}

int package_job_queue(struct package_org *o, const struct package_plan *plan,
        const struct package_question *q, packages_done done, void *userdata, struct error *ret_error)
{
        struct package_job *j;

        if (o->all->is_stopped || (done && o->job_count >= WAITING_MAXIMUM)) {
                if (q && q->path) {
                        unlink(q->path);
                        free(q->path);
                }
                return error_set(ret_error, EAGAIN, "repository.busy",
                        "%zu changes of this repository wait already; try again in a minute", o->job_count);
        }
        j = xcalloc(1, sizeof(*j));
        j->org = o;
        j->plan = plan;
        j->done = done;
        j->userdata = userdata;
        str_copy(j->by.name, sizeof(j->by.name), "gridplane");
        if (q)
                take_question(j, q);
        LL_APPEND(o->jobs, j);
        o->job_count++;
        package_jobs_kick(o->all);
        return 0;
}

void package_jobs_end(struct package_org *o)
{
        struct package_job *j, *next;

        LL_FOREACH_SAFE(o->jobs, j, next)
        {
                LL_DELETE(o->jobs, j);
                package_job_fail(j, ECANCELED, "stopping", "the control plane is being stopped");
                if (j->generation)
                        package_remove_folder(j->generation);
                if (j->done)
                        j->done(-ECANCELED, NULL, &j->error, j->userdata);
                job_free(j);
        }
        o->job_count = 0;
}
