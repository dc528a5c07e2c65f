/* Running apt and other programs, and waiting for what may mend itself. */
#include "update/updater.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"
#include "net/ways.h"
#include "update/locks.h"
#include "update/run.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define APT_GET        "/usr/bin/apt-get"
#define TICK_MS        250
#define LOCK_PAUSE_MS  2000
#define RATE_MS        2000
#define MAX_ARGUMENTS  24
#define HASH_ATTEMPTS  3
#define SILENCE_MS     3000
#define PROGRESS_BYTES 4096  /* a byte now and then is a wait, too */
#define WAY_FILE       "way" /* in UPDATE/apt */

volatile sig_atomic_t updater_stop;

int updater_check(struct updater *u)
{
        struct journal *j = &u->journal;

        if (updater_stop)
                return -EINTR;
        return update_decided(&j->place, j->state.job.id) == UPDATE_CANCELLED ? -ECANCELED : 0;
}

int updater_fail(struct updater *u, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(u->failure, sizeof u->failure, format, arguments);
        va_end(arguments);
        return -EIO;
}

/* ---- what a run says ---- */

struct watch {
        struct updater *u;
        bool may_be_ended;
        bool began_waiting; /* an attempt before this one has failed: a connection alone is no progress */
        uint64_t bytes_seen;
        bool has_way;        /* bytes came in this run */
        double active_at_ms; /* bytes were seen to come, or the run began */
        void (*on_line)(const char *line, void *userdata);
        void *userdata;
};

static void on_line(const char *line, void *userdata)
{
        struct watch *w = userdata;

        apt_complaints_take(&w->u->complaints, line);
        if (w->on_line)
                w->on_line(line, w->userdata);
}

static void on_status(const char *line, void *userdata)
{
        struct watch *w = userdata;
        struct updater *u = w->u;
        const struct update_step *step = update_running_step(&u->journal.state);
        struct apt_status s;

        if (!apt_text_status(line, &s))
                return;
        if (s.kind == APT_STATUS_ERROR)
                str_copy(u->broken_package, sizeof u->broken_package, s.package);
        else if (s.kind == APT_STATUS_INSTALL && step)
                journal_text(&u->journal, (enum update_step_name)(step - u->journal.state.steps),
                        "%s (%.0f %%)", s.text, s.percent);
}

static uint64_t size_in(const char *folder, const char *sub, const char *name)
{
        _cleanup_free_ char *path = xasprintf("%s%s/%s", folder, sub, name);
        struct stat st;

        return lstat(path, &st) == 0 && S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
}

static uint64_t bytes_there(const struct updater *u)
{
        uint64_t sum = 0;

        for (size_t i = 0; i < u->file_count; i++) {
                uint64_t whole = size_in(u->fetching->archives, "", u->files[i].file),
                         part = size_in(u->fetching->archives, "/partial", u->files[i].file);

                sum += whole > part ? whole : part;
        }
        return sum;
}

/* How the bytes grow. What the daemon and others know of the way they came by is in RUN/transfers. */
static void note_progress(struct updater *u)
{
        struct update_state *s = &u->journal.state;
        double now_ms = clock_monotonic_ms();

        s->bytes = u->fetched_before + bytes_there(u);
        if (u->rate_at_ms == 0) {
                u->rate_at_ms = now_ms;
                u->rate_at_bytes = s->bytes;
        } else if (now_ms - u->rate_at_ms >= RATE_MS) {
                s->bytes_per_second = s->bytes > u->rate_at_bytes ? (double)(s->bytes - u->rate_at_bytes) *
                                                                            1000 / (now_ms - u->rate_at_ms)
                                                                  : 0;
                u->rate_at_ms = now_ms;
                u->rate_at_bytes = s->bytes;
                if (s->bytes_per_second > 0 && s->size > s->bytes)
                        s->eta_ms = (double)(s->size - s->bytes) / s->bytes_per_second * 1000;
        }
        journal_text(&u->journal, u->fetching_step, "%llu of %llu bytes", (unsigned long long)s->bytes,
                (unsigned long long)s->size);
}

/* ---- the way ---- */

/* What the daemon's monitor says of the way: 1 open, 0 closed (with its words), -1 nothing is known. */
static int look_at_way(
        const struct updater *u, char *ret_code, size_t code_size, char *ret_why, size_t why_size)
{
        const struct way_view *v;
        struct ways ways;

        if (ways_load(u->repository.ways, &ways, NULL) < 0 || !ways_is_fresh(&ways, clock_unix_ms()))
                return -1;
        v = ways_find(&ways, u->repository.service);
        if (!v)
                return -1;
        if (str_equal(v->state, "ok") || str_equal(v->state, "degraded"))
                return 1;
        if (!str_equal(v->state, "failed") || v->summary[0] == '\0')
                return -1;
        str_copy(ret_code, code_size, v->code);
        str_copy(ret_why, why_size, v->summary);
        return 0;
}

/* Whatever failed, it was not the name. */
static enum update_step_name past_look_up(struct updater *u, enum update_step_name step)
{
        if (step != STEP_LOOK_UP || u->complaints.failure == APT_FAILURE_LOOK_UP ||
                u->complaints.failure == APT_FAILURE_LOCK || u->complaints.failure == APT_FAILURE_METHOD)
                return step;
        journal_end(&u->journal, STEP_LOOK_UP, STEP_DONE, "%s, by the configured DNS servers",
                u->repository.host);
        journal_begin(&u->journal, STEP_CONNECT, "https://%s/debian", u->repository.host);
        return STEP_CONNECT;
}

/* By which port bytes came last: apt's method notes it. False: none came in this run. */
static bool note_way(struct updater *u)
{
        _cleanup_free_ char *path = path_join(u->journal.place.apt, WAY_FILE), *text = NULL;
        struct update_state *s = &u->journal.state;
        size_t length = 0;
        unsigned long port;

        if (file_read(path, 16, &text, &length, NULL) < 0)
                return false;
        port = strtoul(text, NULL, 10);
        if (port == 0 || port > UINT16_MAX)
                return false;
        if (port == s->way)
                return true;
        s->way = (uint16_t)port;
        journal_log(&u->journal, "bytes come by port %lu", port);
        journal_save(&u->journal);
        return true;
}

static bool is_active(struct watch *w)
{
        uint64_t bytes = w->u->journal.state.bytes;
        bool has_way = note_way(w->u), is_first = has_way && !w->has_way && !w->began_waiting;

        w->has_way = has_way;
        if (bytes < w->bytes_seen)
                w->bytes_seen = bytes;
        if (bytes - w->bytes_seen < PROGRESS_BYTES)
                return is_first;
        w->bytes_seen = bytes;
        return true;
}

/* apt's method waits for a way as well, longer than whoever looks on should be left without a word. It is
 * said only while nothing comes: there may be another way than the one that the daemon watches. */
static void tell_waiting(struct watch *w, bool is_active)
{
        struct updater *u = w->u;
        struct journal *j = &u->journal;
        char code[48], why[512];

        if (is_active) {
                w->active_at_ms = clock_monotonic_ms();
                if (j->state.steps[*u->patient].state == STEP_WAITING)
                        journal_begin(j, *u->patient, "goes on");
        } else if (clock_monotonic_ms() - w->active_at_ms >= SILENCE_MS &&
                   look_at_way(u, code, sizeof code, why, sizeof why) == 0) {
                if (!str_starts_with(code, "dns"))
                        *u->patient = past_look_up(u, *u->patient);
                journal_wait(j, *u->patient, code, why);
        }
}

static int on_tick(void *userdata)
{
        struct watch *w = userdata;
        struct updater *u = w->u;

        if (u->fetching)
                note_progress(u);
        if (u->patient)
                tell_waiting(w, is_active(w));
        return w->may_be_ended ? updater_check(u) : 0;
}

/* ---- running ---- */

#define MAX_ENVIRONMENT 8

/* apt's method cannot be told by apt's configuration: that comes when it has no right to open the node's key
 * any more. */
struct variables {
        char *way, *root;
        const char *all[MAX_ENVIRONMENT];
};

static void variables_done(struct variables *v)
{
        free(v->way);
        free(v->root);
}

static void add_variables(const struct updater *u, const char *const *given, struct variables *ret)
{
        const char *root = u->repository.root;
        _cleanup_free_ char *absolute = root ? realpath(root, NULL) : NULL;
        size_t count = 0;

        ret->way = xasprintf("GRIDNODE_WAY_FILE=%s/" WAY_FILE, u->journal.place.apt);
        ret->root = absolute ? xasprintf("GRIDNODE_ROOT=%s", absolute) : NULL;
        for (; given && given[count] && count < MAX_ENVIRONMENT - 3; count++)
                ret->all[count] = given[count];
        ret->all[count++] = ret->way;
        ret->all[count++] = ret->root;
        ret->all[count] = NULL;
}

static int run(struct updater *u, unsigned flags, const struct run_options *given,
        void (*line)(const char *, void *), void *userdata)
{
        _cleanup_(variables_done) struct variables variables = {0};
        struct watch watch = {.u = u,
                .may_be_ended = !(flags & UPDATER_CHANGES_SYSTEM),
                .active_at_ms = clock_monotonic_ms(),
                .began_waiting = u->patient && u->journal.state.steps[*u->patient].state == STEP_WAITING,
                .bytes_seen = u->journal.state.bytes,
                .on_line = line,
                .userdata = userdata};
        struct run_options o = *given;
        struct error e = {0};
        int r;

        add_variables(u, given->environment, &variables);
        unlink(strchr(variables.way, '=') + 1); /* of an earlier run */
        o.environment = variables.all;
        o.log_fd = u->journal.log_fd;
        o.log_path = u->log_path;
        o.ends_with_us = watch.may_be_ended;
        o.on_line = on_line;
        o.on_status = on_status;
        o.on_tick = on_tick;
        o.userdata = &watch;
        u->complaints = (struct apt_complaints){0};
        u->broken_package[0] = '\0';
        r = run_program(&o, &e);
        u->was_killed = r > RUN_SIGNAL;
        if (u->was_killed && u->complaints.failure == APT_FAILURE_NONE) {
                u->complaints.failure = APT_FAILURE_DIED;
                snprintf(u->complaints.text, sizeof u->complaints.text, "%s was ended by signal %d",
                        o.arguments[0], r - RUN_SIGNAL);
        }
        if (r < 0)
                journal_log(&u->journal, "%s", e.text);
        note_way(u);
        return r;
}

int updater_program(struct updater *u, unsigned flags, const char *const *arguments, const char *folder,
        const char *const *environment, void (*line)(const char *, void *), void *userdata)
{
        struct run_options o = {.arguments = arguments, .folder = folder, .environment = environment};

        return run(u, flags, &o, line, userdata);
}

int updater_quietly(
        struct updater *u, const char *const *arguments, void (*line)(const char *, void *), void *userdata)
{
        _cleanup_free_ char *path = path_join(u->journal.place.apt, "answer");
        _cleanup_close_ int fd =
                open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0644);
        struct run_options o = {.arguments = arguments,
                .log_fd = fd,
                .log_path = path,
                .ends_with_us = true,
                .on_line = line,
                .userdata = userdata};
        struct error e = {0};
        int r;

        if (fd < 0)
                return updater_fail(u, "cannot make %s: %s", path, strerror(errno));
        r = run_program(&o, &e);
        u->was_killed = r > RUN_SIGNAL;
        return r < 0 ? updater_fail(u, "%s", e.text) : r;
}

static int run_apt(struct updater *u, const struct world *w, unsigned flags, const char *const *arguments,
        void (*line)(const char *, void *), void *userdata)
{
        _cleanup_free_ char *settings = xasprintf("APT_CONFIG=%s", w->settings);
        const char *all[MAX_ARGUMENTS] = {APT_GET, "--option=APT::Status-Fd=3"};
        const char *const environment[] = {settings, NULL};
        struct run_options o = {.arguments = all, .environment = environment, .status_path = w->status};

        for (size_t i = 0; arguments[i] && i + 3 < MAX_ARGUMENTS; i++)
                all[i + 2] = arguments[i];
        return run(u, flags, &o, line, userdata);
}

/* apt puts its new lists in place one after the other. Killed in between it has a new InRelease beside old
 * packages, and takes them for fresh (Hit) from then on: without its InRelease it fetches all that changed.
 */
static void forget_releases(const struct world *w)
{
        _cleanup_closedir_ DIR *d = opendir(w->lists);
        const struct dirent *entry;

        while (d && (entry = readdir(d)))
                if (str_ends_with(entry->d_name, "InRelease"))
                        unlinkat(dirfd(d), entry->d_name, 0);
}

static bool is_about_lists(const char *const *arguments)
{
        for (size_t i = 0; arguments[i]; i++)
                if (str_equal(arguments[i], "update"))
                        return true;
        return false;
}

int updater_apt(struct updater *u, const struct world *w, unsigned flags, const char *const *arguments,
        void (*line)(const char *, void *), void *userdata)
{
        _cleanup_free_ char *unfinished = xasprintf("%s.unfinished", w->lists);
        bool is_update = is_about_lists(arguments);
        int r;

        if (is_update && access(unfinished, F_OK) == 0)
                forget_releases(w);
        if (is_update)
                file_save(unfinished, "", 0, 0644, NULL);
        r = run_apt(u, w, flags, arguments, line, userdata);
        if (is_update && r == 0)
                unlink(unfinished);
        return r;
}

/* ---- waiting ---- */

static void pause_ms(unsigned ms)
{
        struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

        nanosleep(&t, NULL);
}

int updater_await_locks(struct updater *u, enum update_step_name step)
{
        char who[128];
        int r = 0;

        while ((r = updater_check(u)) == 0 && locks_holder(who, sizeof who)) {
                _cleanup_free_ char *why =
                        xasprintf("%s has the lock of dpkg; it goes on when that is done", who);

                journal_wait(&u->journal, step, "apt.locked", why);
                pause_ms(LOCK_PAUSE_MS);
        }
        return r;
}

/* Until the moment at which the way is seen to open, or the next attempt is due all the same: there may be
 * another way than the one that is watched. */
static int await_way(struct updater *u, enum update_step_name step)
{
        char code[48], why[512];
        double until_ms = clock_monotonic_ms() + backoff_next_ms(&u->backoff, backoff_random());
        bool was_closed = false;
        int r = 0;

        str_copy(code, sizeof code, apt_failure_to_string(u->complaints.failure));
        str_copy(why, sizeof why, u->complaints.text);
        journal_log(&u->journal, "the next attempt within %.0f s, or as soon as the way is open",
                (until_ms - clock_monotonic_ms()) / 1000);
        while ((r = updater_check(u)) == 0 && clock_monotonic_ms() < until_ms) {
                int way = look_at_way(u, code, sizeof code, why, sizeof why);

                if (way == 1 && was_closed) {
                        journal_log(&u->journal, "the way to %s is open again", u->repository.host);
                        backoff_reset(&u->backoff);
                        break;
                }
                was_closed = was_closed || way == 0;
                journal_wait(&u->journal, step, code, why);
                pause_ms(TICK_MS);
        }
        return r;
}

int updater_explain(struct updater *u, const char *doing)
{
        const char *said = u->complaints.text[0] ? u->complaints.text : "see the log";
        const char *todo = "";

        switch (u->complaints.failure) {
        case APT_FAILURE_SIGNATURE:
                todo = "its index is signed by nobody whom this node trusts: see to the repository's key on "
                       "the "
                       "control plane, or register the node again";
                break;
        case APT_FAILURE_HASH:
                todo = "what came is not what the signed index names: publish the package again";
                break;
        case APT_FAILURE_EXPIRED:
                todo = "its index is too old: see to the repository on the control plane, and to this node's "
                       "clock";
                break;
        case APT_FAILURE_EARLY:
                todo = "its index is from the future: this node's clock is wrong";
                break;
        case APT_FAILURE_NOT_FOUND:
                todo = "it is not in the repository: publish it, or choose another channel";
                break;
        case APT_FAILURE_REFUSED:
                todo = "the repository refuses this node: see to its certificate, or register it again";
                break;
        case APT_FAILURE_METHOD:
                todo = "apt's method for gridnode:// belongs to the package " OWN_PACKAGE
                       ": install that on this machine";
                break;
        case APT_FAILURE_DISK:
                todo = "the disk is full: make room";
                break;
        case APT_FAILURE_DEPENDS:
                todo = "what it needs is neither installed nor in the repository: publish that, too";
                break;
        case APT_FAILURE_INTERRUPTED:
        case APT_FAILURE_DPKG:
                todo = "the log tells what the package's scripts said";
                break;
        case APT_FAILURE_NONE:
        case APT_FAILURE_OTHER:
        case APT_FAILURE_WAY:
        case APT_FAILURE_DIED:
        case APT_FAILURE_LOOK_UP:
        case APT_FAILURE_LOCK:
                break;
        }
        updater_fail(u, "%s failed%s%s%s: %s", doing, u->broken_package[0] ? " at package " : "",
                u->broken_package, todo[0] ? "" : "", said);
        if (todo[0]) {
                size_t length = strlen(u->failure);

                snprintf(u->failure + length, sizeof u->failure - length, " (%s)", todo);
        }
        return u->complaints.failure == APT_FAILURE_NOT_FOUND ? -ENOENT : -EIO;
}

bool updater_was_killed(const struct updater *u)
{
        return u->was_killed || u->complaints.failure == APT_FAILURE_DIED;
}

static const char *words_of(enum update_step_name step)
{
        return step == STEP_DOWNLOAD ? "the download" : "reading the repository's index";
}

int updater_apt_patiently(
        struct updater *u, enum update_step_name step, const struct world *w, const char *const *arguments)
{
        unsigned wrong_hashes = 0, deaths = 0;
        bool renewed = false;

        for (;;) {
                int r;

                u->patient = &step;
                r = updater_apt(u, w, 0, arguments, NULL, NULL);
                u->patient = NULL;
                if (r < 0)
                        return r;
                step = past_look_up(u, step);
                if (r == 0) {
                        backoff_reset(&u->backoff);
                        return 0;
                }
                if (updater_was_killed(u) && ++deaths < UPDATER_ATTEMPTS) {
                        r = updater_check(u);
                } else if (u->complaints.failure == APT_FAILURE_LOCK) {
                        r = updater_await_locks(u, step);
                        if (r == 0)
                                pause_ms(LOCK_PAUSE_MS);
                } else if (u->complaints.failure == APT_FAILURE_SIGNATURE && !renewed) {
                        struct apt_complaints before = u->complaints;

                        renewed = true;
                        if (!updater_renew_keyring(u)) {
                                u->complaints = before;
                                return updater_explain(u, words_of(step));
                        }
                } else if (u->complaints.failure == APT_FAILURE_HASH && ++wrong_hashes < HASH_ATTEMPTS) {
                        r = await_way(u, step);
                } else if (apt_failure_is_permanent(u->complaints.failure) ||
                           u->complaints.failure == APT_FAILURE_NONE) {
                        return updater_explain(u, words_of(step));
                } else {
                        r = await_way(u, step);
                }
                /* It waits until bytes come. */
                if (r < 0)
                        return r;
        }
}
