/* gridnode update: asks the daemon, and follows what root's side writes of it (UPDATE/state.json), so that
 * the daemon may be replaced meanwhile. */
#include "cli/commands_gridnode.h"
#include "cli/daemon_ask.h"
#include "cli/stop.h"
#include "cli/terminal.h"
#include "cli/update_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "helper/update_start.h"
#include "node/control.h"
#include "node/update_history.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#define STATE_MAX_BYTES  ((size_t)256 << 10)
#define LOOK_MS          250
#define BEGINS_WITHIN_MS 60000 /* root's side is there by then, or will not come */
#define HISTORY_MOST     1000

struct updating {
        const struct session *session;
        struct update_place place;
        int stop_fd;
        struct update_job job; /* id "": whichever there is */
};

/* ---- how it stands ---- */

static int read_state(const struct updating *u, struct update_state *ret, struct error *ret_error)
{
        _cleanup_free_ char *text = NULL;
        size_t length;
        int r = file_read(u->place.state, STATE_MAX_BYTES, &text, &length, ret_error);

        return r < 0 ? r : update_state_parse(text, length, ret, ret_error);
}

static int finish(const struct updating *u, const struct update_state *s)
{
        if (!u->session->settings.json)
                update_show_end(s);
        return s->status == UPDATE_COMPLETED ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int interrupted(void)
{
        terminal_progress_end();
        fputs("The update goes on. 'gridnode update' shows it, 'gridnode update --cancel' ends it.\n",
                stderr);
        return 128 + stop_signal();
}

/* One look: < 0 it goes on, else the exit status. */
static int look(const struct updating *u, struct update_shown *shown, char **last, double began_ms)
{
        _cleanup_(update_state_done) struct update_state s = {0};
        _cleanup_free_ char *text = NULL;
        struct error e = {0};
        json_t *j;
        int r = read_state(u, &s, &e);

        if (r < 0 && r != -ENOENT)
                return session_fail(u->session, r == -EACCES ? EX_NOPERM : EXIT_FAILURE, "%s", e.text);
        if (r < 0 || !str_equal(s.job.id, u->job.id)) {
                if (clock_monotonic_ms() - began_ms < BEGINS_WITHIN_MS)
                        return -EAGAIN;
                return session_fail(u->session, EXIT_FAILURE,
                        "the update %s was accepted, but nothing of it was heard for %d s; see 'journalctl "
                        "-u "
                        "gridnode-update' and %s",
                        u->job.id, BEGINS_WITHIN_MS / 1000, u->place.log);
        }
        j = update_state_to_json(&s);
        text = json_dumps(j, JSON_COMPACT);
        json_decref(j);
        if (!str_equal(text, *last) || !u->session->settings.json)
                update_show_progress(&s, shown, u->session->settings.json);
        free(*last);
        *last = TAKE_PTR(text);
        return s.status == UPDATE_IN_PROGRESS ? -EAGAIN : finish(u, &s);
}

static int follow(const struct updating *u)
{
        struct update_shown shown = {0};
        _cleanup_free_ char *last = NULL;
        double began_ms = clock_monotonic_ms();

        for (;;) {
                struct pollfd stop = {u->stop_fd, POLLIN, 0};
                int r = look(u, &shown, &last, began_ms);

                if (r >= 0)
                        return r;
                if (poll(&stop, 1, LOOK_MS) > 0)
                        return interrupted();
        }
}

/* ---- asking for it ---- */

static bool is_without_daemon(int r)
{
        return r == -ECONNREFUSED || r == -ENOENT;
}

static int fail(const struct updating *u, int r, const struct error *e)
{
        return session_fail(u->session,
                r == -EINTR                                          ? 128 + stop_signal()
                : str_equal(e->code, "control.not-running")          ? EX_UNAVAILABLE
                : r == -EPIPE || r == -ETIMEDOUT || r == -ECONNRESET ? EX_UNAVAILABLE
                : r == -EACCES || r == -EPERM                        ? EX_NOPERM
                                                                     : EXIT_FAILURE,
                "%s", e->text);
}

/* The user that somebody was before sudo is the one who asks. */
static void name_asker(const struct session *s, char *ret, size_t size)
{
        const struct passwd *p = getpwuid(getuid());
        const char *before = geteuid() == 0 ? getenv("SUDO_USER") : NULL;

        if (s->settings.update.by)
                snprintf(ret, size, "%s", s->settings.update.by);
        else if (before && *before)
                snprintf(ret, size, "local:%s", before);
        else if (p)
                snprintf(ret, size, "local:%s", p->pw_name);
        else
                snprintf(ret, size, "local:%u", getuid());
        for (char *c = ret; *c; c++)
                if (*c < ' ' || *c > '~')
                        *c = '?';
}

static int on_job(const char *member, json_t *value, void *userdata)
{
        struct updating *u = userdata;

        return str_equal(member, "job") ? update_job_from_json(value, &u->job, NULL) : 0;
}

/* What goes on after us must not hold our output: whoever reads it waits for its end. */
static int start_silently(const char *root, const struct update_job *job, struct error *ret_error)
{
        _cleanup_close_ int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
        _cleanup_close_ int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        _cleanup_close_ int err = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
        int r;

        fflush(stdout);
        if (nothing < 0 || out < 0 || err < 0 || dup2(nothing, STDOUT_FILENO) < 0 ||
                dup2(nothing, STDERR_FILENO) < 0)
                return error_set(ret_error, errno, "update.failed", "cannot begin: %s", strerror(errno));
        r = update_start(root, job, ret_error);
        dup2(out, STDOUT_FILENO);
        dup2(err, STDERR_FILENO);
        return r;
}

static int begin_alone(struct updating *u, struct error *ret_error)
{
        random_id("u", u->job.id);
        if (!u->job.channel[0])
                str_copy(u->job.channel, sizeof u->job.channel, "stable");
        return start_silently(u->session->settings.root, &u->job, ret_error);
}

static int begin(struct updating *u, struct error *ret_error)
{
        _cleanup_free_ char *socket = daemon_socket(u->session);
        json_t *request = json_pack("{s:s,s:s,s:b,s:b,s:s}", "op", "update", "action",
                update_action_to_string(u->job.action), "again", u->job.again, "reboot", u->job.reboot, "by",
                u->job.by);
        int r;

        if (u->job.channel[0])
                json_object_set_new(request, "channel", json_string(u->job.channel));
        r = control_ask(socket, request, on_job, u, u->stop_fd, ret_error);
        json_decref(request);
        if (is_without_daemon(r) && geteuid() == 0 && str_equal(ret_error->code, "control.not-running"))
                r = begin_alone(u, ret_error);
        return r;
}

static int start(struct updating *u, enum update_action action)
{
        const struct settings *o = &u->session->settings;
        struct error e = {0};
        int r;

        u->job = (struct update_job){.action = action, .again = o->again, .reboot = !o->update.no_reboot};
        if (o->update.channel && !update_channel_is_valid(o->update.channel))
                return session_usage_error(
                        u->session, "--channel takes a name of a-z, 0-9 and -, not '%s'", o->update.channel);
        str_copy(u->job.channel, sizeof u->job.channel, o->update.channel ? o->update.channel : "");
        name_asker(u->session, u->job.by, sizeof u->job.by);
        r = begin(u, &e);
        if (r < 0)
                return fail(u, r, &e);
        if (!o->update.no_wait)
                return follow(u);
        if (o->json)
                printf("{\"id\":\"%s\"}\n", u->job.id);
        else
                printf("The update %s has begun. 'gridnode update' shows it.\n", u->job.id);
        return EXIT_SUCCESS;
}

/* ---- the others ---- */

static int on_nothing(const char *member, json_t *value, void *userdata)
{
        (void)member, (void)value, (void)userdata;
        return 0;
}

static int cancel(struct updating *u)
{
        _cleanup_free_ char *socket = daemon_socket(u->session);
        json_t *request = json_pack("{s:s}", "op", "update.cancel");
        struct update_job job;
        struct error e = {0};
        int r = control_ask(socket, request, on_nothing, NULL, u->stop_fd, &e);

        json_decref(request);
        if (is_without_daemon(r) && geteuid() == 0 && str_equal(e.code, "control.not-running")) {
                r = update_job_load(&u->place, &job, &e);
                if (r == 0)
                        r = update_cancel(u->session->settings.root, job.id, &e);
                if (r == -ENOENT)
                        error_set(&e, ENOENT, "update.none", "no update is under way");
        }
        if (r == -ENOENT && !str_equal(e.code, "control.not-running")) {
                puts("No update is under way.");
                return EXIT_SUCCESS;
        }
        if (r < 0)
                return fail(u, r, &e);
        puts("The update ends without having installed anything.");
        return EXIT_SUCCESS;
}

static int history(const struct updating *u)
{
        json_t *list = update_history(u->place.history, HISTORY_MOST);

        update_show_history(list, u->session->settings.csv, u->session->settings.json);
        json_decref(list);
        return EXIT_SUCCESS;
}

/* The one that is under way is followed, the last one shown. */
static int show(struct updating *u)
{
        _cleanup_(update_state_done) struct update_state s = {0};
        struct update_shown shown = {0};
        struct error e = {0};
        int r = read_state(u, &s, &e);

        if (r == -ENOENT) {
                puts(u->session->settings.json ? "null" : "No update was made here yet.");
                return EXIT_SUCCESS;
        }
        if (r < 0)
                return session_fail(u->session, r == -EACCES ? EX_NOPERM : EXIT_FAILURE, "%s", e.text);
        u->job = s.job;
        if (s.status == UPDATE_IN_PROGRESS && access(u->place.job, F_OK) == 0)
                return follow(u);
        update_show_progress(&s, &shown, u->session->settings.json);
        return finish(u, &s);
}

static int run(struct updating *u)
{
        const struct session *s = u->session;
        const struct settings *o = &s->settings;
        bool is_asking = o->update.check || o->update.dry_run || o->update.download || o->update.now;
        int modes = o->update.check + o->update.dry_run + o->update.download + o->update.now +
                    o->update.cancel + o->update.history;

        if (modes > 1)
                return session_usage_error(
                        s, "one of --check, --dry-run, --download, --now, --cancel, --history at a time");
        if (o->csv && (!o->update.history || o->json))
                return session_usage_error(s, "--csv goes with --history, and not with --json");
        if (!is_asking && (o->again || o->update.no_reboot || o->update.no_wait || o->update.channel))
                return session_usage_error(s,
                        "--again, --no-reboot, --no-wait and --channel go with --check, "
                        "--dry-run, --download or --now");
        if (o->update.cancel)
                return cancel(u);
        if (o->update.history)
                return history(u);
        if (!is_asking)
                return show(u);
        return start(u, o->update.check      ? UPDATE_CHECK
                        : o->update.dry_run  ? UPDATE_DRY_RUN
                        : o->update.download ? UPDATE_DOWNLOAD
                                             : UPDATE_NOW);
}

int cmd_update(struct session *s)
{
        struct updating u = {.session = s, .stop_fd = stop_watch()};
        int status;

        update_place_init(&u.place, s->settings.root);
        status = run(&u);
        update_place_done(&u.place);
        return status;
}
