#include "plane/serve.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/privileges.h"
#include "base/version.h"
#include "plane/api.h"
#include "plane/denials.h"
#include "plane/preflight.h"
#include "plane/store_update.h"

#include <errno.h>
#include <ftw.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define READY_LOOK_US    100000
#define READY_LATE_US    30000000 /* then it is said that it takes long */
#define TIDY_AGAIN_US    100000
#define TIDY_LOCKED_US   60000000
#define REVOKE_AGAIN_US  30000000
#define MAX_OPEN_FOLDERS 16
#define HOUSEKEEPING_US  ((uint64_t)60 * 60 * 1000000)

struct plane {
        struct plane_settings *settings;
        sd_event *event;
        struct ca *ca;
        struct plane_store *store;
        struct passwords *passwords;
        struct services *services;
        struct denials *denials;
        struct broker *broker;
        struct requests *requests;
        struct packages *packages;
        struct upgrades *upgrades;
        struct api *api;
        sd_event_source *ready, *housekeeping, *revoke_again;
        uint64_t started_us;
        bool said_late;
};

/* ---- what the parts tell each other ---- */

/* How the update of which an event told stands, and the node that it is of. */
static void on_update(struct plane *p, const char *organisation, const char *node)
{
        const struct update_filter f = {.node = node};
        const struct page first = {.limit = 1};
        json_t *list = NULL, *shown = NULL;

        if (plane_update_list(p->store, organisation, &f, &first, &list, NULL) == 0) {
                json_t *update = json_array_get(json_object_get(list, "items"), 0);

                if (update)
                        api_changed(p->api, organisation, "update", update);
                json_decref(list);
        }
        if (plane_node_show(p->store, organisation, node, &shown, NULL) == 0) {
                api_changed(p->api, organisation, "node", shown);
                json_decref(shown);
        }
        upgrades_look(p->upgrades);
}

static void on_change(const char *organisation, const char *kind, json_t *value, void *userdata)
{
        struct plane *p = userdata;

        if (!p->api) /* not yet while the parts are made */
                return;
        api_changed(p->api, organisation, kind, value);
        if (str_equal(kind, "event") &&
                str_equal(json_string_value(json_object_get(value, "name")), EVENT_UPDATE))
                on_update(p, organisation, json_string_value(json_object_get(value, "node")));
}

static void on_output(const char *node, const char *request, const struct wire_output *o, void *userdata)
{
        struct plane *p = userdata;

        requests_output(p->requests, node, request, o);
}

static void on_unheard(const char *node, const char *request, void *userdata)
{
        struct plane *p = userdata;

        requests_unheard(p->requests, node, request);
}

static void on_request_changed(const char *organisation, const char *request, void *userdata)
{
        struct plane *p = userdata;

        if (!p->api)
                return;
        api_request_changed(p->api, organisation, request);
        upgrades_request_changed(p->upgrades, organisation, request);
}

/* A node that came is told which configuration it should have; it knows itself whether that is news. */
static void remind_of_config(struct plane *p, const char *node)
{
        struct plane_node n;
        struct error e = {0};
        json_t *config = NULL;
        int64_t version;

        if (plane_node_find(p->store, NULL, node, &n, &e) < 0 ||
                plane_config_get(p->store, n.organisation, node, 0, &config, &e) < 0)
                return;
        version = json_integer_value(json_object_get(config, "version"));
        if (version > 0)
                broker_notice(p->broker, node, version);
        json_decref(config);
}

static void on_status(const char *node, const struct wire_status *status, void *userdata)
{
        struct plane *p = userdata;

        if (status->online)
                remind_of_config(p, node);
        else
                requests_node_gone(p->requests, node);
        upgrades_look(p->upgrades);
}

static int write_crl(struct plane *p, struct error *ret_error)
{
        struct strv serials = {0};
        int r = plane_certificates_revoked(p->store, clock_unix_ms(), &serials, ret_error);

        if (r >= 0)
                r = ca_write_crl(p->ca, &serials, clock_unix_ms() / 1000, ret_error);
        strv_done(&serials);
        return r;
}

static void on_revoked(void *userdata);

static int on_revoke_again(sd_event_source *source, uint64_t at_us, void *userdata)
{
        (void)source, (void)at_us;
        on_revoked(userdata);
        return 0;
}

/* A removed node could come back as long as the list is not in force: it is tried until it is. */
static void on_revoked(void *userdata)
{
        struct plane *p = userdata;
        struct error e = {0};

        p->revoke_again = sd_event_source_disable_unref(p->revoke_again);
        if (write_crl(p, &e) >= 0 && services_reload(p->services, &e) >= 0)
                return;
        log_event(LOG_LEVEL_ERROR, "the list of revoked certificates could not be brought into force",
                "reason", e.text, NULL);
        sd_event_add_time_relative(
                p->event, &p->revoke_again, CLOCK_MONOTONIC, REVOKE_AGAIN_US, 0, on_revoke_again, p);
}

static void on_service(const struct service_view *v, void *userdata)
{
        bool waits = str_equal(v->state, "waiting");
        char next_ms[32];

        (void)userdata;
        snprintf(next_ms, sizeof next_ms, "%.0f", v->next_start_ms);
        log_event(waits ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO, "a service changed", "service", v->name, "state",
                v->state, "next_start_ms", waits ? next_ms : NULL, "last_error", v->last_error, NULL);
}

/* Said once for each time: what could not be stored meanwhile says nothing of its own. */
static void on_locked(bool is_locked, void *userdata)
{
        struct plane *p = userdata;
        _cleanup_free_ char *path = path_join(p->settings->paths.state, "plane.db");

        if (is_locked)
                log_event(LOG_LEVEL_ERROR,
                        "the database is locked by another process: changes are refused until it lets go, "
                        "and the nodes keep their events; end it if it hangs ('fuser' names it)",
                        "file", path, NULL);
        else
                log_event(LOG_LEVEL_INFO, "the database is not locked any more", "file", path, NULL);
}

static void on_denied(const struct mosquitto_denial *denial, void *userdata)
{
        struct plane *p = userdata;

        denials_add(p->denials, denial);
}

/* ---- timers ---- */

/* The intermediate and the lists of the revoked have an end, too. */
static void maintain_ca(struct plane *p)
{
        struct error e = {0};
        bool changed = false;
        int r = ca_maintain(p->ca, clock_unix_ms() / 1000, &changed, &e);

        if (r >= 0 && changed)
                r = services_reload(p->services, &e);
        if (r < 0)
                log_event(
                        LOG_LEVEL_ERROR, "the certificate authority needs attention", "reason", e.text, NULL);
}

static int on_housekeeping(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct plane *p = userdata;
        struct error e = {0};
        int r = plane_store_tidy(p->store, clock_unix_ms(), &e);

        if (r < 0 && r != -EBUSY)
                log_event(LOG_LEVEL_ERROR, "old records could not be removed", "reason", e.text, NULL);
        if (r <= 0)
                maintain_ca(p);
        /* Some at a time, so that the loop goes on meanwhile. */
        sd_event_source_set_time(source, at_us + (r > 0                ? TIDY_AGAIN_US
                                                         : r == -EBUSY ? TIDY_LOCKED_US
                                                                       : HOUSEKEEPING_US));
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

static void say_ready(struct plane *p)
{
        log_event(LOG_LEVEL_INFO, "the control plane is ready", "domain", p->settings->domain, "version",
                GRIDNODE_VERSION, NULL);
        sd_notify(false, "READY=1\nSTATUS=ready");
}

static int on_ready_look(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct plane *p = userdata;
        struct broker_counts counts;

        broker_counts(p->broker, &counts);
        if (counts.connected && services_are_ready(p->services)) {
                say_ready(p);
                return 0;
        }
        if (!p->said_late && at_us > p->started_us + READY_LATE_US) {
                p->said_late = true;
                log_text(LOG_LEVEL_WARNING, "the services are not all ready after 30 s: see the messages "
                                            "above, and 'gridplane check'");
        }
        sd_event_source_set_time(source, at_us + READY_LOOK_US);
        sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
        return 0;
}

static int add_timers(struct plane *p)
{
        int r;

        sd_event_now(p->event, CLOCK_MONOTONIC, &p->started_us);
        r = sd_event_add_time(p->event, &p->ready, CLOCK_MONOTONIC, p->started_us, 1000, on_ready_look, p);
        if (r >= 0)
                r = sd_event_add_time(p->event, &p->housekeeping, CLOCK_MONOTONIC,
                        p->started_us + HOUSEKEEPING_US, 0, on_housekeeping, p);
        return r;
}

/* ---- start ---- */

/* What would keep it from working is said before anything is begun. */
static int look_before(const struct plane_settings *s)
{
        struct finding *found = NULL;
        size_t count = preflight(s, clock_unix_ms(), &found);
        int status = EXIT_SUCCESS;

        for (size_t i = 0; i < count; i++) {
                log_event(found[i].fatal ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, found[i].text, "code",
                        found[i].code, NULL);
                if (found[i].fatal)
                        status = EX_UNAVAILABLE;
        }
        free(found);
        return status;
}

static uid_t given_uid;
static gid_t given_gid;

static int give_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
        (void)st;
        (void)kind;
        (void)at;
        return lchown(path, given_uid, given_gid);
}

/* A folder that this user is to have, with all that an earlier start as root left there. The folder itself
 * comes last: then everything in it was root's, and nobody else could put anything there meanwhile. What
 * already is the user's is looked at when we have become the user. */
static int give_folder(const char *path, mode_t mode, const struct passwd *u, struct error *ret_error)
{
        struct stat st;
        int r = 0;

        if (u && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == u->pw_uid)
                return 0;
        r = folder_prepare(path, mode, ret_error);
        if (r < 0 || !u)
                return r; /* privileges_drop says that there is no such user */
        given_uid = u->pw_uid;
        given_gid = u->pw_gid;
        if (nftw(path, give_one, MAX_OPEN_FOLDERS, FTW_PHYS | FTW_DEPTH) != 0)
                return error_set(ret_error, errno, "folder.owner", "%s: cannot be given to user '%s': %s",
                        path, u->pw_name, strerror(errno));
        return 0;
}

static int prepare(struct plane *p, int *ret_lock, struct error *ret_error)
{
        static const int capabilities[] = {CAP_NET_BIND_SERVICE};
        const struct plane_settings *s = p->settings;
        const struct passwd *u = s->user && geteuid() == 0 ? getpwnam(s->user) : NULL;
        int r = give_folder(s->paths.state, 0700, u, ret_error);

        if (r >= 0)
                r = give_folder(s->paths.run, 0755, u, ret_error);
        if (r >= 0)
                r = privileges_drop(s->user, capabilities, ELEMENTS(capabilities), ret_error);
        if (r >= 0)
                r = folder_lock(s->paths.state, ret_lock, ret_error);
        return r;
}

static int open_state(struct plane *p, struct error *ret_error)
{
        const struct plane_settings *s = p->settings;
        _cleanup_free_ char *ca = path_join(s->paths.state, "ca"),
                            *db = path_join(s->paths.state, "plane.db");
        int r = folder_check_file(s->paths.state, "plane.db", ret_error);

        if (r >= 0)
                r = ca_open(ca, clock_unix_ms() / 1000, &p->ca, ret_error);
        if (r >= 0)
                r = plane_store_open(db, &p->store, ret_error);
        if (r >= 0)
                db_watch_lock(plane_store_db(p->store), on_locked, p);
        if (r >= 0)
                r = write_crl(p, ret_error);
        return r;
}

/* The API's socket is there before nginx asks it, the services before the broker's client connects. */
static int new_parts(struct plane *p, struct error *ret_error)
{
        struct broker_handlers h = {.on_change = on_change,
                .on_output = on_output,
                .on_unheard = on_unheard,
                .on_status = on_status,
                .userdata = p};
        struct api_options o = {.event = p->event,
                .settings = p->settings,
                .store = p->store,
                .ca = p->ca,
                .on_revoked = on_revoked,
                .userdata = p};
        int r = services_new(p->event, p->settings, p->ca, &p->services, ret_error);

        if (r < 0)
                return r;
        services_watch(p->services, on_service, p);
        p->denials = denials_new(p->event);
        services_watch_denials(p->services, on_denied, p);
        r = passwords_new(p->event, &p->passwords);
        if (r < 0)
                return error_set(ret_error, -r, "plane.passwords",
                        "cannot start the worker for passwords: %s", strerror(-r));
        r = broker_new(p->event, p->settings, p->store, &h, &p->broker, ret_error);
        if (r < 0)
                return r;
        p->requests = requests_new(p->event, p->broker, p->store, on_request_changed, p);
        o.passwords = p->passwords;
        o.services = p->services;
        o.broker = p->broker;
        o.requests = p->requests;
        o.upgrades = p->upgrades = upgrades_new(p->event, p->store, p->requests, on_change, p);
        o.packages = p->packages = packages_new(p->event, p->settings, p->store);
        r = api_new(&o, &p->api, ret_error);
        if (r >= 0)
                r = services_start(p->services, ret_error);
        if (r >= 0)
                packages_prepare(p->packages, "");
        return r;
}

static void free_parts(struct plane *p)
{
        sd_event_source_disable_unref(p->ready);
        sd_event_source_disable_unref(p->housekeeping);
        sd_event_source_disable_unref(p->revoke_again);
        packages_stop(p->packages); /* whoever waits for it is answered while there is an API */
        p->api = api_free(p->api);
        packages_free(p->packages);
        upgrades_free(p->upgrades);
        requests_free(p->requests);
        broker_free(p->broker);
        services_free(p->services);
        denials_free(p->denials);
        passwords_free(p->passwords);
        plane_store_close(p->store);
        ca_free(p->ca);
        sd_event_unref(p->event);
}

int serve_run(struct plane_settings *s)
{
        struct plane p = {.settings = s};
        struct error e = {0};
        int lock = -1, status = look_before(s), r;

        if (status != EXIT_SUCCESS)
                return status;
        r = prepare(&p, &lock, &e);
        if (r >= 0)
                r = loop_new(&p.event, &e);
        if (r >= 0)
                r = open_state(&p, &e);
        if (r >= 0)
                r = new_parts(&p, &e);
        if (r >= 0)
                r = add_timers(&p);
        if (r >= 0) {
                r = sd_event_loop(p.event);
                sd_notify(false, "STOPPING=1");
        }
        free_parts(&p);
        if (lock >= 0)
                close(lock);
        if (r >= 0)
                return EXIT_SUCCESS;
        log_text(LOG_LEVEL_ERROR, "%s", e.text[0] ? e.text : strerror(-r));
        return r == -EBUSY ? EX_UNAVAILABLE : r == -EPERM || r == -EACCES ? EX_NOPERM : EXIT_FAILURE;
}
