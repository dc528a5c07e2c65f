#include "helper/update_start.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PROGRAM_MAXIMUM   ((size_t)64 << 20)
#define STATE_MAXIMUM     ((size_t)256 << 10)
#define SYSTEMD_RUNS      "/run/systemd/system" /* sd_booted(3) */
#define UNIT              "gridnode-update.service"
#define EXIT_CANNOT_START 127

static const char *const programs[] = {"gridnode-judge", "gridnode-update"};

/* ---- what is under way ---- */

/* A judge holds the lock for as long as it lives. */
static bool is_worked_at(const struct update_place *p)
{
        _cleanup_free_ char *path = path_join(p->folder, "lock");
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

static void tell_step(const struct update_place *p, const char *id, char *ret, size_t size)
{
        _cleanup_(update_state_done) struct update_state state = {0};
        _cleanup_free_ char *text = NULL;
        const struct update_step *step;
        size_t length;

        str_copy(ret, size, "it has just begun");
        if (file_read(p->state, STATE_MAXIMUM, &text, &length, NULL) < 0 ||
                update_state_parse(text, length, &state, NULL) < 0 || !str_equal(state.job.id, id))
                return;
        step = update_running_step(&state);
        if (step)
                snprintf(ret, size, "at step %s%s%.200s",
                        update_step_to_string((enum update_step_name)(step - state.steps)),
                        step->text[0] ? ": " : "", step->text);
}

static int refuse_second(const struct update_place *p, bool goes_on, struct error *ret_error)
{
        struct update_job job;
        char at[320];

        if (update_job_load(p, &job, NULL) < 0)
                return error_set(ret_error, EBUSY, "update.busy",
                        "an update is under way whose %s cannot be read; 'systemctl status " UNIT
                        "' tells how it stands",
                        p->job);
        tell_step(p, job.id, at, sizeof at);
        return error_set(ret_error, EBUSY, "update.busy",
                "the update %s, asked for by %s, is under way: %s%s", job.id,
                job.by[0] ? job.by : "nobody who is known", at,
                goes_on ? " (it was interrupted, and goes on now)" : "");
}

/* ---- copies of the programs ---- */

/* Their time stays: it is when the programs were made, before which no clock can be right. */
static int copy_program(const char *from, const char *to, struct error *ret_error)
{
        _cleanup_free_ char *data = NULL;
        struct stat st;
        size_t length;
        int r = file_read(from, PROGRAM_MAXIMUM, &data, &length, ret_error);

        if (r == 0)
                r = file_save(to, data, length, 0755, ret_error);
        if (r == 0 && stat(from, &st) == 0)
                utimensat(AT_FDCWD, to, (struct timespec[]){st.st_atim, st.st_mtim}, 0);
        return r;
}

/* apt's method is where apt looks for it, unless the node was never installed and runs from where it was
 * built: then it is to be found beside the other programs. */
static int copy_method(const struct update_place *p, struct error *ret_error)
{
        _cleanup_free_ char *built = path_of_program("../apt/gridnode", NULL),
                            *to = path_join(p->bin, UPDATE_METHOD);

        if (built)
                return copy_program(built, to, ret_error);
        unlink(to);
        return 0;
}

static int copy_programs(const struct update_place *p, struct error *ret_error)
{
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTS(programs); i++) {
                _cleanup_free_ char *beside = xasprintf("../update/%s", programs[i]),
                                    *near = path_of_program(programs[i], NULL), *built = NULL, *to = NULL;
                _cleanup_free_ char *installed = xasprintf(GRIDNODE_LIBEXEC_DIR "/%s", programs[i]);

                /* Beside the running program, in a build folder, as installed. */
                built = near ? NULL : path_of_program(beside, installed);
                to = path_join(p->bin, programs[i]);
                r = copy_program(near ? near : built, to, ret_error);
        }
        return r == 0 ? copy_method(p, ret_error) : r;
}

/* ---- starting ---- */

static int start_unit(struct error *ret_error)
{
        char *arguments[] = {"systemctl", "--no-block", "--no-ask-password", "start", UNIT, NULL};
        char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};
        int status = 0, r;
        pid_t pid;

        r = posix_spawn(&pid, "/bin/systemctl", NULL, NULL, arguments, environment);
        if (r != 0)
                return error_set(ret_error, r, "update.failed", "cannot run systemctl: %s", strerror(r));
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return error_set(ret_error, EIO, "update.failed",
                        "systemd does not start " UNIT
                        " (systemctl ended with %d); see 'systemctl status " UNIT "'",
                        WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
        return 0;
}

static _Noreturn void become_judge(const char *program, const char *root)
{
        char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};
        char *arguments[] = {"gridnode-judge", root ? "--root" : NULL, (char *)root, NULL};
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        if (nothing < 0 || dup2(nothing, STDIN_FILENO) < 0)
                _exit(EXIT_CANNOT_START);
        close_range(STDERR_FILENO + 1, ~0U, 0);
        execve(program, arguments, environment);
        _exit(EXIT_CANNOT_START);
}

/* A grandchild in a session of its own: it outlives whoever started it, and nobody but init has to reap it.
 */
static int start_alone(const struct update_place *p, const char *root, struct error *ret_error)
{
        _cleanup_free_ char *program = path_join(p->bin, programs[0]);
        pid_t pid = fork();

        if (pid == 0) {
                setsid();
                pid = fork();
                if (pid != 0)
                        _exit(pid < 0 ? EXIT_CANNOT_START : 0);
                become_judge(program, root);
        }
        if (pid < 0)
                return error_set(
                        ret_error, errno, "update.failed", "cannot start %s: %s", program, strerror(errno));
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        return 0;
}

static int start_judge(const struct update_place *p, const char *root, struct error *ret_error)
{
        if (!root && access(SYSTEMD_RUNS, F_OK) == 0)
                return start_unit(ret_error);
        return start_alone(p, root, ret_error);
}

/* One that nobody works at any more. */
static int resume(const struct update_place *p, const char *root)
{
        _cleanup_free_ char *judge = path_join(p->bin, programs[0]);
        int r = access(judge, X_OK) == 0 ? 0 : copy_programs(p, NULL);

        return r < 0 ? r : start_judge(p, root, NULL);
}

int update_start(const char *root, const struct update_job *job, struct error *ret_error)
{
        _cleanup_(update_place_done) struct update_place p;
        int r;

        update_place_init(&p, root);
        r = update_place_prepare(&p, ret_error);
        if (r < 0)
                return r;
        if (access(p.job, F_OK) == 0)
                return refuse_second(&p, !is_worked_at(&p) && resume(&p, root) == 0, ret_error);
        r = copy_programs(&p, ret_error);
        if (r == 0)
                r = update_job_claim(&p, job, ret_error);
        if (r == -EEXIST)
                return refuse_second(&p, false, ret_error);
        if (r < 0)
                return r;
        r = start_judge(&p, root, ret_error);
        if (r < 0)
                unlink(p.job);
        return r;
}

/* ---- cancelling ---- */

int update_cancel(const char *root, const char *id, struct error *ret_error)
{
        _cleanup_(update_place_done) struct update_place p;
        enum update_decision decision = UPDATE_UNDECIDED;
        struct update_job job;
        int r;

        update_place_init(&p, root);
        r = update_job_load(&p, &job, NULL);
        if (r < 0 || !str_equal(job.id, id))
                return error_set(ret_error, ENOENT, "update.none", "no update %s is under way", id);
        r = update_decide(&p, id, UPDATE_CANCELLED, &decision, ret_error);
        if (r < 0)
                return r;
        if (decision == UPDATE_INSTALLING) {
                char at[320];

                tell_step(&p, id, at, sizeof at);
                return error_set(ret_error, EBUSY, "update.installing",
                        "the update %s installs already and cannot be cancelled: %s", id, at);
        }
        return 0;
}
