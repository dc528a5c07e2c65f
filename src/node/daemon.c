#include "node/daemon_internal.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/privileges.h"
#include "base/timer.h"
#include "base/version.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#define VERB_OUTPUT_MAX    ((size_t)4 << 20)
#define VERB_WORDS_MAX     24
#define REFUSALS_WINDOW_US ((uint64_t)60 * 1000000)

double daemon_now_ms(const struct daemon *d)
{
        uint64_t us = 0;

        sd_event_now(d->event, CLOCK_MONOTONIC, &us);
        return (double)us / 1000;
}

int64_t daemon_unix_ms(void)
{
        return clock_unix_ms();
}

void daemon_arm(struct daemon *d, sd_event_source **source, double delay_ms, sd_event_time_handler_t callback,
        void *userdata)
{
        timer_arm(d->event, source, delay_ms, callback, userdata);
}

int daemon_start_verb(struct daemon *d, const char *const *words, double timeout_ms,
        void (*on_end)(enum wire_end end, int status, const char *output, size_t length, void *userdata),
        void *userdata, struct child **ret)
{
        const char *arguments[VERB_WORDS_MAX] = {d->options->program};
        struct child_options o = {.arguments = arguments,
                .timeout_ms = timeout_ms,
                .whole = true,
                .maximum_output_bytes = VERB_OUTPUT_MAX};
        struct child_handlers h = {.on_end = on_end, .userdata = userdata};
        size_t n = 1;

        for (; *words && n < VERB_WORDS_MAX - 5; words++)
                arguments[n++] = *words;
        if (d->options->root) {
                arguments[n++] = "--root";
                arguments[n++] = d->options->root;
        }
        arguments[n++] = "--config";
        arguments[n++] = d->settings->effective_path;
        return child_start(d->event, &o, &h, ret, NULL);
}

const struct inet_addr *daemon_dns(const struct daemon *d, size_t *ret_count)
{
        const struct site *s = d->settings->site;

        *ret_count = d->config.dns_count ? d->config.dns_count : s->wan.dns_count;
        return d->config.dns_count ? d->config.dns : s->wan.dns;
}

void daemon_refuse(struct daemon *d, const struct error *e)
{
        char count[16];
        unsigned suppressed = 0;

        if (!log_limit_allows(
                    &d->refusals, (uint64_t)(daemon_now_ms(d) * 1000), REFUSALS_WINDOW_US, &suppressed))
                return;
        snprintf(count, sizeof count, "%u", suppressed);
        log_event(LOG_LEVEL_WARNING, "refused a message of the control plane", "reason", e->text,
                "suppressed", suppressed ? count : NULL, NULL);
}

/* ---- the network ---- */

static void on_network_change(void *userdata)
{
        struct daemon *d = userdata;

        if (daemon_look_at_network(d))
                configurer_network_changed(d->configurer);
        reach_network_changed(d->reach);
        watch_network_changed(d->watch);
}

/* ---- tools ---- */

static void on_output(const char *request, const struct wire_output *output, void *userdata)
{
        struct daemon *d = userdata;
        json_t *j = wire_output_to_json(output);

        /* The plane calls a request lost whose output does not come. */
        channel_publish(d->channel, TOPIC_OUT, request, j);
        json_decref(j);
}

/* ---- life ---- */

static int fail(int status, const struct error *e)
{
        log_text(LOG_LEVEL_ERROR, "%s", e->text);
        return status;
}

static const struct profile_service *find_control(const struct profile *p)
{
        for (size_t i = 0; i < p->service_count; i++)
                if (strv_contains(&p->services[i].carries, "control"))
                        return &p->services[i];
        return NULL;
}

static int check_settings(struct daemon *d)
{
        const struct node_settings *s = d->settings;
        struct error e = {0};

        if (!s->node) {
                error_set(&e, ENOENT, "not-registered",
                        "this node is not registered: 'gridnode register' does it (no %s)", s->identity_path);
                return fail(EX_CONFIG, &e);
        }
        if (!s->profile) {
                error_set(&e, ENOENT, "no-profile",
                        "there is no profile: register the node anew, or name one in %s", s->site_path);
                return fail(EX_CONFIG, &e);
        }
        d->control_service = find_control(s->profile);
        if (!d->control_service) {
                error_set(&e, EINVAL, "no-control", "%s: no service carries 'control'", s->profile->path);
                return fail(EX_CONFIG, &e);
        }
        return EXIT_SUCCESS;
}

/* The helper is there before our rights are gone, or not at all: then what needs it fails with the reason. */
static void start_helper(struct daemon *d)
{
        const struct daemon_options *o = d->options;
        bool has_socket = o->helper_socket && access(o->helper_socket, F_OK) == 0;
        int r;

        if (!has_socket && geteuid() != 0) {
                error_set(&d->helper_problem, EPIPE, "helper.missing",
                        "gridnode-helper is not there: start gridnode-helper.socket, or gridnode run as "
                        "root");
                return;
        }
        r = helper_client_new(d->event, has_socket ? o->helper_socket : NULL,
                has_socket ? NULL : o->helper_program, o->root, &d->helper, &d->helper_problem);
        if (r < 0)
                log_text(LOG_LEVEL_WARNING, "%s", d->helper_problem.text);
}

static int open_store(struct daemon *d, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(d->settings->paths.state, "state.db"), *note = NULL;
        struct store_limits limits = {0};
        int r = folder_check_file(d->settings->paths.state, "state.db", ret_error);

        if (r < 0)
                return r;
        r = store_open(path, &limits, &d->store, &note, ret_error);
        if (note)
                log_text(LOG_LEVEL_ERROR, "%s", note);
        return r;
}

static int new_parts(struct daemon *d, struct error *ret_error)
{
        struct tools_options t = {.event = d->event,
                .place = {.program = d->options->program,
                        .config_path = d->settings->effective_path,
                        .root = d->options->root},
                .on_output = on_output,
                .userdata = d};
        int r;

        d->tools = tools_new(&t);
        r = configurer_new(d, &d->configurer);
        if (r >= 0)
                r = watch_new(d, &d->watch);
        if (r >= 0)
                r = ways_keeper_new(d, &d->ways);
        if (r >= 0)
                r = reach_new(d, &d->reach);
        if (r >= 0)
                r = updater_new(d, &d->updater);
        if (r >= 0)
                r = selftest_new(d, &d->selftest);
        if (r >= 0)
                r = netwatch_new(d->event, on_network_change, d, &d->netwatch);
        if (r < 0)
                return error_set(ret_error, -r, "daemon.parts", "cannot set up: %s", strerror(-r));
        return desk_new(d, &d->desk, ret_error);
}

static void free_parts(struct daemon *d)
{
        d->desk = desk_free(d->desk);
        netwatch_free(d->netwatch);
        tools_free(d->tools);
        d->configurer = configurer_free(d->configurer);
        d->updater = updater_free(d->updater);
        d->selftest = selftest_free(d->selftest);
        d->reach = reach_free(d->reach);
        d->ways = ways_keeper_free(d->ways);
        d->watch = watch_free(d->watch);
        d->helper = helper_client_free(d->helper);
        daemon_record_done(d);
        store_close(d->store);
        wire_config_done(&d->config);
}

static int prepare(struct daemon *d, int *ret_lock, struct error *ret_error)
{
        static const int capabilities[] = {CAP_NET_RAW, CAP_NET_BIND_SERVICE};
        const struct paths *p = &d->settings->paths;
        int r = loop_new(&d->event, ret_error);

        if (r < 0)
                return r;
        start_helper(d);
        r = privileges_drop(d->options->user, capabilities, ELEMENTS(capabilities), ret_error);
        if (r >= 0)
                r = folder_prepare(p->state, 0755, ret_error);
        if (r >= 0)
                r = folder_prepare(p->run, 0755, ret_error);
        if (r >= 0)
                r = folder_lock(p->state, ret_lock, ret_error);
        if (r >= 0)
                r = open_store(d, ret_error);
        return r;
}

static int exit_status_of(int r)
{
        return r == -EBUSY || r == -EADDRINUSE ? EX_UNAVAILABLE
               : r == -EPERM || r == -EACCES   ? EX_NOPERM
                                               : EXIT_FAILURE;
}

int daemon_run(const struct daemon_options *o)
{
        struct daemon d = {.options = o, .settings = o->settings, .started_unix_ms = daemon_unix_ms()};
        struct error e = {0};
        int lock = -1, status = check_settings(&d), r;

        if (status != EXIT_SUCCESS)
                return status;
        r = prepare(&d, &lock, &e);
        if (r >= 0) {
                daemon_look_at_network(&d);
                r = new_parts(&d, &e);
        }
        if (r >= 0) {
                configurer_start(d.configurer);
                reach_start(d.reach);
                log_event(LOG_LEVEL_INFO, "the node runs", "node", d.settings->node, "name", d.settings->name,
                        "version", GRIDNODE_VERSION, NULL);
                sd_notify(false, "READY=1");
                r = sd_event_loop(d.event);
                sd_notify(false, "STOPPING=1");
                if (r < 0)
                        error_set(&e, -r, "daemon.loop", "the event loop ended: %s", strerror(-r));
        }
        free_parts(&d);
        sd_event_unref(d.event);
        if (lock >= 0)
                close(lock);
        return r < 0 ? fail(exit_status_of(r), &e) : EXIT_SUCCESS;
}
