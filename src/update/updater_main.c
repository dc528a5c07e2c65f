/* gridnode-update: does the steps of the update in UPDATE/job.json, from where UPDATE/state.json says that it
 * is. gridnode-judge starts it; its end is an enum updater_end. */
#include "update/updater.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/paths.h"
#include "base/text.h"
#include "base/version.h"
#include "update/kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>

#define LOCK_PAUSE_NS 200000000L

static const struct {
        enum update_step_name name;
        int (*run)(struct updater *u);
        enum update_action least; /* of the actions that come so far */
} steps[] = {
        {STEP_PREPARE, step_prepare, UPDATE_CHECK},
        {STEP_LOOK_UP, step_look_up, UPDATE_CHECK},
        {STEP_CONNECT, step_connect, UPDATE_CHECK},
        {STEP_DOWNLOAD, step_download, UPDATE_DOWNLOAD},
        {STEP_KEEP, step_keep, UPDATE_NOW},
        {STEP_OWN, step_own, UPDATE_NOW},
        {STEP_JUDGE, step_judge, UPDATE_NOW},
        {STEP_SECURITY, step_security, UPDATE_NOW},
        {STEP_RESTART, step_restart, UPDATE_NOW},
};

static void on_signal(int number)
{
        (void)number;
        updater_stop = 1;
}

static void updater_done(struct updater *u)
{
        repository_done(&u->repository);
        world_done(&u->own);
        world_done(&u->security);
        world_done(&u->unattended);
        free(u->files);
        free(u->log_path);
        journal_done(&u->journal);
}

/* A step that has failed, or was cancelled. */
static int give_up(struct updater *u, enum update_step_name step, int r)
{
        struct journal *j = &u->journal;

        if (r == -EINTR || (updater_stop && r != -ECANCELED))
                return UPDATER_STOPPED;
        if (r == -ECANCELED)
                updater_fail(u, "cancelled before anything was installed");
        else if (u->failure[0] == '\0')
                updater_fail(u, "step %s failed: %s", update_step_to_string(step), strerror(-r));
        /* The look-up may have passed the word on. */
        for (size_t i = 0; i < UPDATE_STEPS; i++)
                if (j->state.steps[i].state == STEP_RUNNING || j->state.steps[i].state == STEP_WAITING)
                        step = (enum update_step_name)i;
        journal_end(j, step, STEP_FAILED, "%s", u->failure);
        journal_fail(j, u->failure);
        return UPDATER_OVER;
}

/* What comes from here on changes the machine. */
static int may_change(struct updater *u)
{
        struct error e = {0};
        int r = update_root_may_change(u->repository.root, &e);

        return r < 0 ? updater_fail(u, "%s", e.text) : 0;
}

static int do_steps(struct updater *u)
{
        struct journal *j = &u->journal;

        for (size_t i = 0; i < ELEMENTS(steps); i++) {
                int r;

                if (journal_is_over(j, steps[i].name) || j->state.job.action < steps[i].least)
                        continue;
                r = updater_check(u);
                if (r == 0 && j->state.job.action == UPDATE_NOW && steps[i].least > UPDATE_CHECK)
                        r = may_change(u);
                /* Once it is decided that it installs, only a stop counts. */
                if (r == 0)
                        r = steps[i].run(u);
                if (r > 0)
                        return r;
                if (r < 0)
                        return give_up(u, steps[i].name, r);
        }
        if (j->state.job.action == UPDATE_NOW) {
                /* They are installed; the own package's is kept elsewhere. */
                kept_clear(u->own.archives);
                kept_clear(u->security.archives);
        }
        journal_complete(j);
        return UPDATER_OVER;
}

static int make_worlds(struct updater *u, struct error *ret_error)
{
        const struct update_place *p = &u->journal.place;
        const char *channel = u->journal.state.job.channel;
        int r = world_make(WORLD_OWN, p, &u->repository, channel, &u->own, ret_error);

        if (r == 0)
                r = world_make(WORLD_SECURITY, p, &u->repository, NULL, &u->security, ret_error);
        if (r == 0)
                r = world_make(WORLD_UNATTENDED, p, &u->repository, NULL, &u->unattended, ret_error);
        return r;
}

/* One whose judge was killed may still be at it, since dpkg is let finish: there is one updater at a time.
 * The descriptor stays open for as long as we live. 0, or -EINTR. */
static int await_former(const char *root)
{
        _cleanup_(update_place_done) struct update_place p;
        _cleanup_free_ char *path = NULL;
        bool said = false;
        int fd;

        update_place_init(&p, root);
        path = path_join(p.folder, "updater.lock");
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
        while (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
                if (!said)
                        fprintf(stderr,
                                "a former gridnode-update is still at it; this one waits for its end\n");
                said = true;
                if (updater_stop)
                        return -EINTR;
                nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
        }
        return 0;
}

static int update(const char *root)
{
        _cleanup_(updater_done) struct updater u = {
                .journal = {.log_fd = -1}, .backoff = BACKOFF_INIT(5000, 300000, 5000)};
        struct error e = {0};
        int r = await_former(root);

        if (r < 0)
                return UPDATER_STOPPED;
        r = journal_open(root, &u.journal, &e);
        if (r < 0) {
                fprintf(stderr, "gridnode-update: %s\n", r == -ENOENT ? "no update is under way" : e.text);
                return EX_UNAVAILABLE;
        }
        if (u.journal.state.status != UPDATE_IN_PROGRESS)
                return UPDATER_OVER;
        u.log_path = xasprintf("%s/%s.log", u.journal.place.log, u.journal.state.job.id);
        if (u.journal.state.steps[STEP_OWN].state == STEP_FAILED)
                return UPDATER_RESTORE;
        r = repository_load(root, &u.repository, &e);
        if (r == 0)
                r = make_worlds(&u, &e);
        if (r < 0) {
                updater_fail(&u, "%s", e.text);
                return give_up(&u, STEP_PREPARE, r);
        }
        return do_steps(&u);
}

int main(int argc, char **argv)
{
        struct sigaction action = {.sa_handler = on_signal};
        const char *root = argc == 3 && str_equal(argv[1], "--root") ? argv[2] : NULL;

        if (argc == 2 && str_equal(argv[1], "--version")) {
                printf("gridnode-update %s\n", GRIDNODE_VERSION);
                return EXIT_SUCCESS;
        }
        if (argc != 1 && !root) {
                fprintf(stderr, "Usage: gridnode-update [--root DIR | --version]\n"
                                "gridnode-judge starts it; 'gridnode update' asks for an update.\n");
                return EX_USAGE;
        }
        umask(0022);
        signal(SIGPIPE, SIG_IGN);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        return update(root);
}
