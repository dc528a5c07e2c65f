/* Watching the new daemon, and putting the kept version back. Each decision is written down before it is
 * acted on, so that a judge that comes after a kill or a power cut does the same. */
#include "update/judge_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"
#include "node/control.h"
#include "update/dpkg_text.h"
#include "update/kept.h"
#include "update/locks.h"
#include "update/refused.h"
#include "update/run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>

#define FILE_MAXIMUM ((size_t)8192)
#define ASK_S        5
#define PAUSE_MS     1000
#define STEADY_MS    5000 /* a daemon that is good for so long, and is the same one */
#define ALIVE_MS     60000
#define RESTORES     3
#define PACKAGE      "gridnode"
#define DPKG         "/usr/bin/dpkg"

/* ---- the note ---- */

static void save_note(struct judge *g)
{
        json_auto_t *object = judge_note_to_json(&g->note);
        _cleanup_free_ char *text = json_to_text(object);
        struct error e = {0};

        if (file_save(g->journal.place.judge, text, strlen(text), 0644, &e) < 0)
                journal_log(&g->journal, "%s", e.text);
}

static json_t *ask_daemon(const struct judge *g);

/* Whether the service is to run, though it does not at present. */
static bool is_enabled(struct judge *g)
{
        static const char *const words[] = {
                "/bin/systemctl", "is-enabled", "--quiet", "gridnode.service", NULL};
        struct run_options o = {.arguments = words, .log_fd = -1, .timeout_ms = 10000};

        return !g->root && access("/run/systemd/system", F_OK) == 0 &&
               access("/var/lib/gridnode/identity.json", F_OK) == 0 && run_program(&o, NULL) == 0;
}

void judge_load_note(struct judge *g)
{
        _cleanup_free_ char *text = NULL;
        size_t length;

        if (file_read(g->journal.place.judge, FILE_MAXIMUM, &text, &length, NULL) == 0 &&
                judge_note_parse(text, length, &g->note) == 0 &&
                str_equal(g->note.id, g->journal.state.job.id))
                return;
        json_auto_t *status = ask_daemon(g);

        g->note = (struct judge_note){.phase = JUDGE_BEGUN};
        str_copy(g->note.id, sizeof g->note.id, g->journal.state.job.id);
        g->note.expects_daemon = status || is_enabled(g);
        save_note(g);
}

/* ---- the daemon ---- */

static int take_status(const char *member, json_t *value, void *userdata)
{
        if (str_equal(member, "status"))
                *(json_t **)userdata = json_incref(value);
        return 0;
}

/* NULL: it does not answer. */
static json_t *ask_daemon(const struct judge *g)
{
        json_auto_t *request = json_pack("{s:s}", "op", "status");
        const struct itimerspec limit = {.it_value.tv_sec = ASK_S};
        _cleanup_close_ int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        _cleanup_free_ char *path = NULL;
        struct paths paths;
        json_t *status = NULL;

        paths_init(&paths, g->root, "gridnode");
        path = path_join(paths.run, "control.sock");
        paths_done(&paths);
        timerfd_settime(timer, 0, &limit, NULL);
        control_ask(path, request, take_status, &status, timer, NULL);
        return status;
}

static double boot_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_BOOTTIME, &t);
        return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

static void pause_ms(unsigned ms)
{
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
}

/* Until the daemon is what is wanted for a while: 0, -ETIMEDOUT with what was missing, or -EINTR. */
static int await_daemon(struct judge *g, enum update_step_name step, struct judge_wants *w, double most_ms,
        char *ret_why, size_t size)
{
        double began_ms = clock_monotonic_ms(), good_ms = 0;
        double steady_ms = most_ms / 4 < STEADY_MS ? most_ms / 4 : STEADY_MS;
        char started[32] = "", said[512] = "";

        for (;;) {
                json_auto_t *status = ask_daemon(g);
                const char *now = json_string_value(json_object_get(status, "started"));
                double now_ms = clock_monotonic_ms();
                bool is_good;

                w->installed_by_now_unix_ms =
                        clock_unix_ms() - (int64_t)(boot_ms() - g->note.installed_boot_ms);
                is_good = judge_is_good(w, status, ret_why, size);
                if (is_good && (good_ms == 0 || !str_equal(started, now ? now : ""))) {
                        good_ms = now_ms;
                        str_copy(started, sizeof started, now ? now : "");
                }
                good_ms = is_good ? good_ms : 0;
                if (is_good && now_ms - good_ms >= steady_ms)
                        return 0;
                if (!is_good && !str_equal(said, ret_why)) {
                        str_copy(said, sizeof said, ret_why);
                        journal_log(&g->journal, "the daemon of %s: %s", w->version, ret_why);
                        journal_text(&g->journal, step, "the daemon of %s: %s", w->version, ret_why);
                }
                if (judge_stop)
                        return -EINTR;
                if (now_ms - began_ms > most_ms) {
                        if (is_good)
                                snprintf(ret_why, size, "it does not stay the same one");
                        return -ETIMEDOUT;
                }
                pause_ms(PAUSE_MS);
        }
}

/* ---- dpkg ---- */

static void take_package(const char *line, void *userdata)
{
        struct dpkg_package p;

        if (dpkg_text_package(line, &p))
                *(struct dpkg_package *)userdata = p;
}

static bool find_own(struct judge *g, struct dpkg_package *ret)
{
        static const char *const show[] = {
                "/usr/bin/dpkg-query", "--show", "--showformat=" DPKG_TEXT_FORMAT, PACKAGE, NULL};
        _cleanup_free_ char *path = xasprintf("%s/%s.log", g->journal.place.log, g->journal.state.job.id);
        struct run_options o = {.arguments = show,
                .log_fd = g->journal.log_fd,
                .log_path = path,
                .on_line = take_package,
                .userdata = ret};

        *ret = (struct dpkg_package){0};
        return run_program(&o, NULL) == 0 && ret->name[0];
}

static int await_locks(struct judge *g)
{
        char who[128], said[128] = "";

        while (locks_holder(who, sizeof who)) {
                if (!str_equal(who, said))
                        journal_log(&g->journal, "%s has the lock of dpkg: waiting for it", who);
                str_copy(said, sizeof said, who);
                if (judge_stop)
                        return -EINTR;
                pause_ms(PAUSE_MS);
        }
        return 0;
}

static int run_dpkg(struct judge *g, const char *const *words)
{
        struct run_options o = {.arguments = words, .log_fd = g->journal.log_fd};

        return run_program(&o, NULL);
}

/* ---- good ---- */

static void note_good(struct judge *g)
{
        struct update_state *s = &g->journal.state;
        struct refused refused = {0};
        struct dpkg_package own;

        if (refused_load(g->journal.place.refused, &refused, NULL) == 0 &&
                refused_find(&refused, s->version_to)) {
                refused_remove(&refused, s->version_to);
                refused_save(g->journal.place.refused, &refused, NULL);
        }
        if (find_own(g, &own))
                kept_prune(g->journal.place.kept, s->version_from, s->version_to, own.architecture);
}

int judge_watch(struct judge *g)
{
        struct journal *j = &g->journal;
        struct judge_wants w = {.version = j->state.version_to};
        char why[400];
        int r;

        if (journal_is_over(j, STEP_JUDGE)) {
                /* It was killed right after its verdict. */
                g->note.phase = JUDGE_BEGUN;
                save_note(g);
                return 0;
        }
        if (!g->note.expects_daemon) {
                journal_end(
                        j, STEP_JUDGE, STEP_SKIPPED, "no daemon ran before the update, and none is enabled");
                return 0;
        }
        if (g->note.phase != JUDGE_WATCHES) {
                g->note.phase = JUDGE_WATCHES;
                g->note.installed_unix_ms = j->state.steps[STEP_OWN].from_unix_ms;
                g->note.installed_boot_ms = boot_ms() - (double)(clock_unix_ms() - g->note.installed_unix_ms);
                save_note(g);
        }
        w.installed_unix_ms = g->note.installed_unix_ms;
        journal_begin(j, STEP_JUDGE, "the daemon of %s has %.0f s to connect and to pass its self-test",
                w.version, g->judge_ms / 1000);
        r = await_daemon(g, STEP_JUDGE, &w, g->judge_ms, why, sizeof why);
        if (r == -EINTR)
                return r;
        if (r == 0) {
                note_good(g);
                journal_end(j, STEP_JUDGE, STEP_DONE,
                        "the daemon of %s is connected and has passed its self-test", w.version);
                g->note.phase = JUDGE_BEGUN;
                save_note(g);
                return 0;
        }
        return judge_restore(g, why);
}

/* ---- back ---- */

static bool is_back(struct judge *g, struct dpkg_package *own)
{
        return find_own(g, own) && dpkg_package_is_installed(own) &&
               str_equal(own->version, g->journal.state.version_from);
}

/* 0, -EIO, or -EINTR before it was begun. */
static int put_back(struct judge *g)
{
        static const char *const configure[] = {
                DPKG, "--force-confdef", "--force-confold", "--configure", "-a", NULL};
        struct dpkg_package own;

        for (unsigned i = 0; i < RESTORES; i++) {
                _cleanup_free_ char *archive = NULL;
                int r = await_locks(g);

                if (r < 0)
                        return r;
                if (is_back(g, &own))
                        return 0;
                archive = kept_find_version(g->journal.place.kept, g->journal.state.version_from);
                if (!archive) {
                        journal_log(&g->journal, "there is no copy of %s in %s",
                                g->journal.state.version_from, g->journal.place.kept);
                        return -EIO;
                }
                const char *const install[] = {DPKG, "--force-downgrade", "--force-confdef",
                        "--force-confold", "--install", archive, NULL};

                r = run_dpkg(g, install);
                journal_log(&g->journal, "dpkg --install %s ended with %d", archive, r);
                if (is_back(g, &own)) {
                        run_dpkg(g, configure);
                        return 0;
                }
                pause_ms(PAUSE_MS * 5);
        }
        return -EIO;
}

static void refuse_version(struct judge *g)
{
        struct refused refused = {0};
        struct error e = {0};

        refused_load(g->journal.place.refused, &refused, NULL);
        refused_add(&refused, g->journal.state.version_to, clock_unix_ms(), g->note.why);
        if (refused_save(g->journal.place.refused, &refused, &e) < 0)
                journal_log(&g->journal, "%s", e.text);
}

int judge_restore(struct judge *g, const char *why)
{
        struct journal *j = &g->journal;
        struct judge_wants w = {.version = j->state.version_from, .only_alive = true};
        char missing[400] = "", sentence[1024];
        struct error e = {0};
        int r = update_root_may_change(g->root, &e);

        if (r < 0) {
                journal_fail(j, e.text);
                return 0;
        }
        if (g->note.phase != JUDGE_RESTORES) {
                g->note.phase = JUDGE_RESTORES;
                str_copy(g->note.why, sizeof g->note.why, why);
                save_note(g);
        }
        if (j->state.steps[STEP_JUDGE].state == STEP_RUNNING)
                journal_end(
                        j, STEP_JUDGE, STEP_FAILED, "the daemon of %s: %s", j->state.version_to, g->note.why);
        if (j->state.steps[STEP_OWN].state == STEP_RUNNING)
                journal_end(j, STEP_OWN, STEP_FAILED, "%s", g->note.why);
        refuse_version(g);
        journal_begin(j, STEP_RESTORE, "%s is put back", j->state.version_from);
        r = put_back(g);
        if (r == -EINTR)
                return r;
        if (r < 0) {
                journal_end(j, STEP_RESTORE, STEP_FAILED, "dpkg does not take %s", j->state.version_from);
                snprintf(sentence, sizeof sentence,
                        "%s failed on this node (%s), and %s cannot be put back: see the log, and install a "
                        "version "
                        "by hand",
                        j->state.version_to, g->note.why, j->state.version_from);
                journal_fail(j, sentence);
                return 0;
        }
        r = g->note.expects_daemon
                    ? await_daemon(g, STEP_RESTORE, &w, g->judge_ms < ALIVE_MS ? g->judge_ms : ALIVE_MS,
                              missing, sizeof missing)
                    : 0;
        if (r == -EINTR)
                return r;
        journal_end(j, STEP_RESTORE, STEP_DONE, "%s is installed again%s%s", j->state.version_from,
                r < 0 ? ", but of its daemon: " : "", r < 0 ? missing : "");
        snprintf(sentence, sizeof sentence,
                "%s failed on this node: %s. %s is installed again%s%s; %s is not offered to this node any "
                "more unless "
                "somebody asks for it ('gridnode update --again')",
                j->state.version_to, g->note.why, j->state.version_from, r < 0 ? ", but of its daemon: " : "",
                r < 0 ? missing : "", j->state.version_to);
        journal_fail(j, sentence);
        return 0;
}
