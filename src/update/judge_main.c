/* gridnode-judge: sees an update to its end, whatever is killed on the way. It starts gridnode-update, which
 * does the steps, and starts it again when it dies; and it judges the daemon that the update brought, since a
 * broken daemon cannot judge itself. It runs from a copy in UPDATE/bin, which no package replaces. */
#include "update/judge_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/paths.h"
#include "base/text.h"
#include "base/version.h"
#include "update/updater.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>

#define JUDGE_MS          (10 * 60 * 1000)
#define MOST_DEATHS       5
#define EXIT_CANNOT_START 127
#define STOP_POLL_MS      200

volatile sig_atomic_t judge_stop;

static void on_signal(int number)
{
        (void)number;
        judge_stop = 1;
}

/* ---- the updater ---- */

static _Noreturn void become_updater(const char *program, const char *root, pid_t parent)
{
        char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};
        char *arguments[] = {"gridnode-update", root ? "--root" : NULL, (char *)root, NULL};

        signal(SIGPIPE, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        signal(SIGINT, SIG_DFL);
        /* It ends what only fetches, and lets dpkg finish. */
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent)
                _exit(EXIT_CANNOT_START);
        close_range(STDERR_FILENO + 1, ~0U, 0);
        execve(program, arguments, environment);
        _exit(EXIT_CANNOT_START);
}

/* Its wait status, or -errno. */
static int run_updater(const struct judge *g)
{
        _cleanup_free_ char *program =
                path_of_program("gridnode-update", GRIDNODE_LIBEXEC_DIR "/gridnode-update");
        _cleanup_close_ int pidfd = -1;
        pid_t parent = getpid(), pid = fork();
        bool told = false;
        int status = 0;

        if (pid == 0)
                become_updater(program, g->root, parent);
        if (pid < 0)
                return -errno;
        pidfd = pidfd_open(pid, 0);
        for (;;) {
                struct pollfd p = {.fd = pidfd, .events = POLLIN};

                if (poll(&p, 1, STOP_POLL_MS) > 0)
                        break;
                if (judge_stop && !told) {
                        told = true;
                        kill(pid, SIGTERM);
                }
        }
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return status;
}

/* ---- what comes of it ---- */

static void words_of_death(int status, char *ret, size_t size)
{
        if (status < 0)
                snprintf(ret, size, "cannot be started: %s", strerror(-status));
        else if (WIFSIGNALED(status))
                snprintf(ret, size, "was ended by signal %d", WTERMSIG(status));
        else if (WEXITSTATUS(status) == EXIT_CANNOT_START)
                snprintf(ret, size, "cannot be started");
        else
                snprintf(ret, size, "ended with status %d", WEXITSTATUS(status));
}

/* It died. Somebody starts it again, as long as that leads anywhere. */
static int mourn(struct judge *g, int status)
{
        struct journal *j = &g->journal;
        const struct update_step *step = update_running_step(&j->state);
        char how[128], why[512];

        words_of_death(status, how, sizeof how);
        if (step != NULL && (step - j->state.steps) != g->died_at) {
                g->died_at = (int)(step - j->state.steps);
                g->deaths = 0;
        }
        g->deaths++;
        journal_log(j, "gridnode-update %s (%u)", how, g->deaths);
        if (g->deaths < MOST_DEATHS)
                return 0;
        snprintf(why, sizeof why, "gridnode-update %s, %u times at step %s", how, g->deaths,
                step ? update_step_to_string((enum update_step_name)(step - j->state.steps)) : "prepare");
        if (update_decided(&j->place, j->state.job.id) == UPDATE_INSTALLING && j->state.version_to[0] &&
                !journal_is_over(j, STEP_JUDGE))
                return judge_restore(g, why);
        if (step)
                journal_end(j, (enum update_step_name)(step - j->state.steps), STEP_FAILED, "%s", why);
        journal_fail(j, why);
        return 0;
}

static int act_on(struct judge *g, int status)
{
        if (status < 0 || !WIFEXITED(status))
                return mourn(g, status);
        switch (WEXITSTATUS(status)) {
        case UPDATER_OVER:
                return g->journal.state.status == UPDATE_IN_PROGRESS ? mourn(g, status) : 0;
        case UPDATER_JUDGE:
                return judge_watch(g);
        case UPDATER_RESTORE:
                return judge_restore(g, g->journal.state.steps[STEP_OWN].text);
        case UPDATER_STOPPED:
                return judge_stop ? -EINTR : mourn(g, status);
        default:
                return mourn(g, status);
        }
}

/* One turn: 0 to go on, 1 when the update is over, or -errno. */
static int turn(struct judge *g, struct error *ret_error)
{
        int r = journal_open(g->root, &g->journal, ret_error), status;

        if (r < 0)
                return r == -ENOENT ? 1 : r;
        judge_load_note(g);
        if (g->journal.state.status != UPDATE_IN_PROGRESS) {
                r = journal_archive(&g->journal, ret_error);
                journal_done(&g->journal);
                return r < 0 ? r : 1;
        }
        if (g->note.phase == JUDGE_WATCHES)
                r = judge_watch(g);
        else if (g->note.phase == JUDGE_RESTORES)
                r = judge_restore(g, g->note.why);
        else {
                /* The updater has the state to itself meanwhile. */
                journal_done(&g->journal);
                status = run_updater(g);
                r = journal_open(g->root, &g->journal, ret_error);
                if (r < 0)
                        return r == -ENOENT ? 1 : r;
                r = act_on(g, status);
        }
        journal_done(&g->journal);
        return r;
}

static int judge(struct judge *g)
{
        _cleanup_(update_place_done) struct update_place place;
        _cleanup_close_ int lock = -1;
        struct error e = {0};
        int r;

        update_place_init(&place, g->root);
        r = update_place_prepare(&place, &e);
        if (r == 0)
                r = folder_lock(place.folder, &lock, &e);
        while (r == 0)
                r = judge_stop ? -EINTR : turn(g, &e);
        if (r == -EBADMSG) {
                /* What cannot be read can neither be done nor be in the way of the next one. */
                fprintf(stderr, "gridnode-judge: %s; it is removed\n", e.text);
                unlink(place.job);
                return EX_DATAERR;
        }
        if (r < 0 && r != -EINTR) {
                fprintf(stderr, "gridnode-judge: %s\n", e.text[0] ? e.text : strerror(-r));
                return r == -EBUSY ? EX_TEMPFAIL : EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
        struct judge g = {.judge_ms = JUDGE_MS, .died_at = -1};
        struct sigaction action = {.sa_handler = on_signal};
        unsigned long ms;
        bool is_bad = false;

        for (int i = 1; i < argc && !is_bad; i++) {
                if (str_equal(argv[i], "--version") && argc == 2) {
                        printf("gridnode-judge %s\n", GRIDNODE_VERSION);
                        return EXIT_SUCCESS;
                }
                if (str_equal(argv[i], "--root") && i + 1 < argc)
                        g.root = argv[++i];
                else if (str_equal(argv[i], "--judge-ms") && i + 1 < argc &&
                         str_to_ulong(argv[i + 1], 1000, 24 * 3600 * 1000, &ms) == 0) {
                        g.judge_ms = (double)ms;
                        i++;
                } else
                        is_bad = true;
        }
        if (is_bad) {
                fprintf(stderr, "Usage: gridnode-judge [--root DIR] [--judge-ms MILLISECONDS] | --version\n"
                                "'gridnode update' asks for an update; this program sees it to its end.\n");
                return EX_USAGE;
        }
        umask(0022);
        signal(SIGPIPE, SIG_IGN);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        return judge(&g);
}
