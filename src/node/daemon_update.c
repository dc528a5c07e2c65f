/* Software updates, the daemon's part: when they begin, what is told of them. What is done is done by root's
 * side (src/update), which the helper starts, and which goes on whatever becomes of us: all that is known of
 * it is UPDATE/state.json. */
#include "node/daemon_update.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/file.h>

#define STATE_MAX_BYTES  ((size_t)256 << 10)
#define IDLE_MS          30000
#define BUSY_MS          2000
#define RESUME_MS        60000
#define STORE_TOLD       "update.told"
#define STORE_INSTALLED  "update.window"
#define STORE_DOWNLOADED "update.download-window"
#define SYSTEMD_RUNS     "/run/systemd/system" /* sd_booted(3) */

/* Its job is there until its end: a state that nobody goes on with must not stand in the way for ever. */
bool updater_is_under_way(const struct updater *u)
{
        return u->has_state && u->state.status == UPDATE_IN_PROGRESS && access(u->place.job, F_OK) == 0;
}

/* ---- what is told ---- */

/* 1: it was told. */
static int tell_one(struct updater *u)
{
        struct wire_event e = {.generated_unix_ms = daemon_unix_ms()};
        _cleanup_free_ char *value = NULL;
        struct update_news news;
        json_t *told;
        int r;

        if (!update_news(&u->told, &u->state, daemon_unix_ms(), &news))
                return 0;
        e.name = xstrdup(EVENT_UPDATE);
        e.severity = news.severity;
        e.message = str_printable(news.message, strlen(news.message), SIZE_MAX);
        e.update = update_for_event(&u->state);
        told = update_told_to_json(&news.told);
        value = json_to_text(told);
        json_decref(told);
        r = daemon_record_noting(u->daemon, &e, STORE_TOLD, value);
        if (r == 0)
                u->told = news.told;
        free(news.message);
        wire_event_done(&e);
        return r == 0;
}

static void tell_news(struct updater *u)
{
        /* Started, waits, ended: there is no more than that to tell of one look. */
        for (int i = 0; u->has_state && i < 4 && tell_one(u) == 1; i++)
                ;
}

static void look(struct updater *u)
{
        struct update_state state = {0};
        _cleanup_free_ char *text = NULL;
        struct error e = {0};
        size_t length;
        int r = file_read(u->place.state, STATE_MAX_BYTES, &text, &length, &e);

        if (r == 0)
                r = update_state_parse(text, length, &state, &e);
        if (r < 0 && r != -ENOENT && !u->is_bad_told)
                log_event(LOG_LEVEL_ERROR, "how the update stands cannot be read", "reason", e.text, NULL);
        u->is_bad_told = r < 0 && r != -ENOENT;
        if (r < 0)
                return;
        update_state_done(&u->state);
        u->state = state;
        u->has_state = true;
        tell_news(u);
}

/* ---- asking the helper ---- */

static struct updater_ask *new_ask(struct updater *u)
{
        for (size_t i = 0; i < UPDATER_MAX_ASKS; i++)
                if (!u->asks[i].updater) {
                        u->asks[i] = (struct updater_ask){.updater = u};
                        return &u->asks[i];
                }
        return NULL;
}

static void keep_window(struct updater *u, const char *name, int64_t window_unix)
{
        char text[32];
        struct error e = {0};

        snprintf(text, sizeof text, "%lld", (long long)window_unix);
        if (store_set(u->daemon->store, name, text, &e) < 0)
                log_event(LOG_LEVEL_WARNING, "cannot keep when the last update was", "reason", e.text, NULL);
}

static void window_used(struct updater *u, const struct updater_ask *a)
{
        if (a->job.action == UPDATE_NOW) {
                u->installed_window = a->window_unix;
                keep_window(u, STORE_INSTALLED, a->window_unix);
        } else {
                u->downloaded_window = a->window_unix;
                keep_window(u, STORE_DOWNLOADED, a->window_unix);
        }
}

static void on_answer(int result, const struct error *e, void *userdata)
{
        struct updater_ask *a = userdata;
        struct updater *u = a->updater;
        struct control_client *client = a->client;

        if (result == 0 && a->window_unix)
                window_used(u, a);
        if (result < 0 && a->window_unix && !u->is_failure_told)
                log_event(LOG_LEVEL_ERROR, "the update of the schedule cannot be begun; it is tried again",
                        "reason", e->text, NULL);
        if (a->window_unix)
                u->is_failure_told = result < 0;
        if (result == 0 && client && a->job.id[0])
                control_send(client, "job", update_job_to_json(&a->job));
        *a = (struct updater_ask){0};
        if (client)
                control_end(client, result < 0 ? e : NULL);
        filewatch_look(u->watch);
}

static int ask(
        struct updater *u, const struct helper_request *r, struct updater_ask *a, struct error *ret_error)
{
        struct daemon *d = u->daemon;
        int result;

        if (!d->helper) {
                *ret_error = d->helper_problem;
                result = -EPIPE;
        } else {
                result = helper_client_ask(d->helper, r, on_answer, a);
                if (result < 0)
                        error_set(ret_error, -result, "helper.gone", "gridnode-helper cannot be asked: %s",
                                strerror(-result));
        }
        if (result < 0)
                *a = (struct updater_ask){0};
        return result;
}

static int too_many(struct error *ret_error)
{
        return error_set(ret_error, ENOBUFS, "update.busy", "too many ask for updates at once; try again");
}

int updater_start(struct updater *u, const struct update_job *job, struct control_client *client,
        int64_t window_unix, struct error *ret_error)
{
        struct helper_request r = {.operation = HELPER_UPDATE_START, .job = *job};
        struct updater_ask *a = new_ask(u);

        if (!a)
                return too_many(ret_error);
        a->client = client;
        a->job = *job;
        a->window_unix = window_unix;
        return ask(u, &r, a, ret_error);
}

int updater_cancel_job(
        struct updater *u, const char *id, struct control_client *client, struct error *ret_error)
{
        struct helper_request r = {.operation = HELPER_UPDATE_CANCEL};
        struct updater_ask *a = new_ask(u);

        if (!a)
                return too_many(ret_error);
        str_copy(r.update_id, sizeof r.update_id, id);
        a->client = client;
        return ask(u, &r, a, ret_error);
}

/* ---- the schedule ---- */

void updater_schedule(const struct updater *u, struct config_schedule *ret)
{
        const struct wire_config *c = &u->daemon->config;

        /* Before the helper has brought it into force, the last good one is what was said. */
        if (c->version == 0 && u->daemon->configurer)
                c = configurer_good(u->daemon->configurer);
        if (c->schedule.has_update) {
                *ret = c->schedule;
                return;
        }
        config_schedule_init(ret);
        /* Below a root of its own (demos, tests) the packages are this machine's, and not the node's: nothing
         * of it by itself that nobody asked for. */
        ret->manual |= u->daemon->options->root && !str_equal(u->daemon->options->root, "/");
}

static void begin(
        struct updater *u, enum update_action action, const struct config_schedule *s, int64_t window_unix)
{
        struct update_job job = {.action = action, .reboot = s->reboot, .by = "schedule"};
        struct error e = {0};

        random_id("u", job.id);
        str_copy(job.channel, sizeof job.channel, s->channel);
        if (updater_start(u, &job, NULL, window_unix, &e) < 0 && !u->is_failure_told) {
                log_event(LOG_LEVEL_ERROR, "the update of the schedule cannot be begun; it is tried again",
                        "reason", e.text, NULL);
                u->is_failure_told = true;
        }
}

static bool is_asking(const struct updater *u)
{
        for (size_t i = 0; i < UPDATER_MAX_ASKS; i++)
                if (u->asks[i].updater)
                        return true;
        return false;
}

/* What the schedule began is not installed after its window: where it has not come to that, it ends. */
static void close_window(struct updater *u, int64_t now_unix)
{
        struct config_schedule s;
        struct update_moment m;
        struct error e = {0};

        if (!str_equal(u->state.job.by, "schedule") || u->state.job.action != UPDATE_NOW || u->is_close_asked)
                return;
        updater_schedule(u, &s);
        /* Another daemon may have begun it. */
        if (u->closes_unix == 0 && u->installed_window > 0 &&
                update_schedule_next(&s, u->daemon->settings->node, u->installed_window - 1,
                        u->state.started_unix_ms / 1000, &m) == 0 &&
                m.window_unix == u->installed_window)
                u->closes_unix = m.end_unix;
        if (u->closes_unix == 0 || now_unix < u->closes_unix)
                return;
        u->is_close_asked = true;
        if (updater_cancel_job(u, u->state.job.id, NULL, &e) < 0)
                u->is_close_asked = false;
}

/* How long until there may be something to begin. */
static double consider(struct updater *u)
{
        int64_t now = daemon_unix_ms() / 1000;
        struct config_schedule s;
        struct update_moment m;

        if (is_asking(u))
                return BUSY_MS;
        if (updater_is_under_way(u)) {
                close_window(u, now);
                return BUSY_MS;
        }
        updater_schedule(u, &s);
        if (update_schedule_next(&s, u->daemon->settings->node, u->installed_window, now, &m) < 0)
                return IDLE_MS;
        if (now >= m.begin_unix) {
                u->closes_unix = m.end_unix;
                u->is_close_asked = false;
                begin(u, UPDATE_NOW, &s, m.window_unix);
        } else if (now >= m.download_unix && now < m.window_unix && u->downloaded_window != m.window_unix) {
                begin(u, UPDATE_DOWNLOAD, &s, m.window_unix);
        }
        return now < m.begin_unix ? fmin(IDLE_MS, (double)(m.begin_unix - now) * 1000) : IDLE_MS;
}

/* ---- what was interrupted ---- */

static bool is_worked_at(const struct updater *u)
{
        _cleanup_free_ char *path = path_join(u->place.folder, "lock");
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* Where systemd runs, it sees to that. The helper goes on with the job that is there and refuses ours, which
 * is the same. */
static void resume(struct updater *u)
{
        struct update_job job;
        struct error e = {0};

        if (!updater_is_under_way(u) || is_asking(u) || daemon_now_ms(u->daemon) < u->resume_not_before_ms)
                return;
        u->resume_not_before_ms = daemon_now_ms(u->daemon) + RESUME_MS;
        if (access(SYSTEMD_RUNS, F_OK) == 0 || is_worked_at(u) || update_job_load(&u->place, &job, NULL) < 0)
                return;
        log_event(LOG_LEVEL_WARNING, "an update was interrupted; it goes on", "update", job.id, NULL);
        if (updater_start(u, &job, NULL, 0, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "the update that was interrupted cannot go on", "reason", e.text,
                        NULL);
}

/* ---- life ---- */

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct updater *u = userdata;

        (void)source;
        (void)at_us;
        tell_news(u);
        resume(u);
        daemon_arm(u->daemon, &u->timer, consider(u), on_timer, u);
        return 0;
}

static void on_change(void *userdata)
{
        struct updater *u = userdata;

        look(u);
        daemon_arm(u->daemon, &u->timer, updater_is_under_way(u) ? BUSY_MS : IDLE_MS, on_timer, u);
}

static int64_t load_window(struct updater *u, const char *name)
{
        _cleanup_free_ char *text = store_get(u->daemon->store, name);

        return text ? strtoll(text, NULL, 10) : 0;
}

static void load_told(struct updater *u)
{
        _cleanup_free_ char *text = store_get(u->daemon->store, STORE_TOLD);
        json_t *j = NULL;

        if (text)
                json_parse(text, strlen(text), WIRE_MESSAGE_MAXIMUM, STORE_TOLD, &j, NULL);
        update_told_from_json(j, &u->told);
        json_decref(j);
}

int updater_new(struct daemon *d, struct updater **ret)
{
        struct updater *u = xcalloc(1, sizeof *u);
        int r;

        u->daemon = d;
        update_place_init(&u->place, d->options->root);
        u->installed_window = load_window(u, STORE_INSTALLED);
        u->downloaded_window = load_window(u, STORE_DOWNLOADED);
        load_told(u);
        r = filewatch_new(d->event, u->place.state, on_change, u, &u->watch);
        if (r < 0) {
                updater_free(u);
                return r;
        }
        look(u);
        daemon_arm(d, &u->timer, BUSY_MS, on_timer, u);
        *ret = u;
        return 0;
}

struct updater *updater_free(struct updater *u)
{
        if (!u)
                return NULL;
        sd_event_source_disable_unref(u->timer);
        filewatch_free(u->watch);
        update_state_done(&u->state);
        update_place_done(&u->place);
        free(u);
        return NULL;
}
