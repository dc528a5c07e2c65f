/* The wanted configuration, as daemon_fetch.c got it: checked by the guard, applied through the helper,
 * confirmed by a control channel that outlives it, else taken back. The last good one is kept and started
 * from. */
#include "node/daemon_config_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CONFIRM_MS            60000
#define RESUMED_LEAST_MS      20000 /* of that minute, for a channel that has yet to be made */
#define ATTEMPTS_TOLD         2     /* a failure is an event after the second */
#define STORE_GOOD            "config.good"
#define STORE_CANDIDATE       "config.candidate"       /* applied, not confirmed yet */
#define STORE_CANDIDATE_SINCE "config.candidate-since" /* unix ms */
#define STORE_APPLIED         "config.applied"         /* the last word to the plane */
#define STORE_FAILURE         "config.failure"         /* version whose failure is told, and not its end */
#define STORE_LAN_PROBLEM     "config.lan-problem"     /* likewise */

/* ---- what is told ---- */

static void keep(struct configurer *c, const char *name, const char *value)
{
        struct error e = {0};

        if (store_set(c->daemon->store, name, value, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "cannot keep the configuration's state", "what", name, "reason",
                        e.text, NULL);
}

static void keep_config(struct configurer *c, const char *name, const struct wire_config *config)
{
        json_t *j = wire_config_to_json(config);
        _cleanup_free_ char *text = json_to_text(j);

        json_decref(j);
        keep(c, name, text);
}

static void tell_applied(struct configurer *c, int64_t version, const char *state, const char *problem)
{
        struct wire_applied a = {.version = version,
                .at_unix_ms = daemon_unix_ms(),
                .error = problem ? str_printable(problem, strlen(problem), strlen(problem)) : NULL};
        _cleanup_free_ char *text = NULL;

        str_copy(a.state, sizeof a.state, state);
        strv_copy(&a.warnings, &c->warnings);
        json_decref(c->applied);
        c->applied = wire_applied_to_json(&a);
        text = json_to_text(c->applied);
        keep(c, STORE_APPLIED, text);
        channel_publish(c->daemon->channel, TOPIC_CONFIG_APPLIED, NULL, c->applied);
        wire_applied_done(&a);
}

/* Its end is told by whoever sees it, be it after a restart. The event comes before what remembers it: a
 * crash between the two has it told twice, and loses neither end. */
static void open_failure(struct configurer *c, int64_t version)
{
        char text[32];

        c->failure_version = version;
        snprintf(text, sizeof text, "%lld", (long long)version);
        keep(c, STORE_FAILURE, text);
}

void configurer_end_failure(struct configurer *c)
{
        if (!c->failure_version)
                return;
        daemon_tell(c->daemon, EVENT_CONFIGURATION, WIRE_INFO, NULL, NULL, "Configuration %lld is applied",
                (long long)c->daemon->config.version);
        c->failure_version = 0;
        keep(c, STORE_FAILURE, NULL);
}

void configurer_tell_failure(struct configurer *c, int64_t version, const char *problem)
{
        c->failures++;
        log_event(LOG_LEVEL_WARNING, "the configuration could not be brought into force", "reason", problem,
                NULL);
        tell_applied(c, version, "failed", problem);
        if (c->failures < ATTEMPTS_TOLD || c->failure_version == version)
                return;
        daemon_tell(c->daemon, EVENT_CONFIGURATION, WIRE_ERROR, NULL, NULL, "Configuration %lld failed: %s",
                (long long)version, problem);
        open_failure(c, version);
}

/* ---- into force ---- */

void configurer_take_lans(const struct site *s, struct wire_config *ret)
{
        if (ret->has_lan)
                return;
        for (size_t i = 0; i < s->lan_count && i < CONFIG_MAX_LANS; i++) {
                const struct site_lan *from = &s->lans[i];
                struct config_lan *to = &ret->lans[ret->lan_count++];

                memcpy(to->interface, from->interface, sizeof to->interface);
                to->has_address = from->has_address;
                to->address = from->address;
                to->routes = xcalloc(from->route_count + 1, sizeof *to->routes);
                for (size_t k = 0; k < from->route_count; k++)
                        to->routes[to->route_count++] =
                                (struct config_route){.destination = from->routes[k].destination,
                                        .next_hop = from->routes[k].next_hop};
        }
}

static void config_from_site(const struct site *s, struct wire_config *ret)
{
        *ret = (struct wire_config){.guard = true};
        configurer_take_lans(s, ret);
}

static void copy_config(const struct configurer *c, struct wire_config *to, const struct wire_config *from)
{
        json_t *j = wire_config_to_json(from);
        _cleanup_free_ char *text = json_to_text(j);
        struct wire_config copy = {0};

        json_decref(j);
        wire_config_done(to);
        *to = copy;
        if (from->version == 0) { /* the site file's: no document of the plane's */
                return;
        }
        if (wire_config_parse(text, strlen(text), &copy, NULL) == 0) {
                configurer_take_lans(c->daemon->settings->site, &copy);
                *to = copy;
        }
}

/* The site file with the configuration over it, for the hand tools and the children. */
static void write_effective(struct configurer *c, const struct wire_config *config)
{
        struct node_settings *s = c->daemon->settings;
        _cleanup_free_ char *text = settings_effective_site(s, config->version ? config : NULL);
        struct error e = {0};

        if (file_save(s->effective_path, text, strlen(text), 0644, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "cannot write the effective site file", "reason", e.text, NULL);
}

static void plan_network(struct configurer *c, const struct wire_config *config, struct guard_output *ret)
{
        struct daemon *d = c->daemon;
        struct inet_addr known[DAEMON_MAX_ADDRESSES];
        struct guard_input in = {.config = config, .profile = d->settings->profile, .known = known};

        in.known_count = reach_known_addresses(d->reach, known);
        in.dns = config->dns_count ? config->dns : d->settings->site->wan.dns;
        in.dns_count = config->dns_count ? config->dns_count : d->settings->site->wan.dns_count;
        str_copy(in.wan_interface, sizeof in.wan_interface, d->wan_interface);
        in.wan_gateway = d->wan_gateway;
        in.wan_gateway6 = d->wan_gateway6;
        in.wan_networks = d->wan_networks;
        in.wan_network_count = d->wan_network_count;
        cidr_parse("172.18.0.0/16", &in.container_network);
        guard_plan(&in, ret);
}

static bool same_dns(const struct daemon *d, const struct wire_config *config)
{
        size_t count;
        const struct inet_addr *now = daemon_dns(d, &count);
        size_t wanted = config->dns_count ? config->dns_count : d->settings->site->wan.dns_count;
        const struct inet_addr *list = config->dns_count ? config->dns : d->settings->site->wan.dns;

        if (count != wanted)
                return false;
        for (size_t i = 0; i < count; i++)
                if (!inet_addr_equal(&now[i], &list[i]))
                        return false;
        return true;
}

static void confirm_later(struct configurer *c);

/* A word of its failure is not the last one. */
static void tell_recovered(struct configurer *c)
{
        int64_t version = c->daemon->config.version;

        if (version && json_integer_value(json_object_get(c->applied, "version")) == version &&
                str_equal(json_string_value(json_object_get(c->applied, "state")), "failed"))
                tell_applied(c, version, "applied", NULL);
}

/* The helper did it. */
static void in_force(struct configurer *c)
{
        struct daemon *d = c->daemon;
        bool dns_stays = same_dns(d, &c->applying);

        wire_config_done(&d->config);
        d->config = c->applying;
        c->applying = (struct wire_config){0};
        c->is_lost = false;
        backoff_reset(&c->bring_up_backoff);
        write_effective(c, &d->config);
        ways_plan_changed(d->ways);
        if (!dns_stays)
                watch_dns_changed(d->watch);
        if (c->is_known || d->config.version == 0 || d->config.version == c->good.version) {
                tell_recovered(c);
                if (d->config.version == c->failure_version)
                        configurer_end_failure(c);
                return;
        }
        c->is_candidate = true;
        c->failures = 0;
        keep_config(c, STORE_CANDIDATE, &d->config);
        tell_applied(c, d->config.version, "applied", NULL);
        configurer_end_failure(c);
        confirm_later(c);
}

static void bring_up_later(struct configurer *c);

/* Once for each reason: links that come and go have it applied often. */
static void tell_lan_problem(struct configurer *c, const struct error *e)
{
        if (strncmp(c->lan_problem, e->text, sizeof c->lan_problem - 1) == 0)
                return;
        str_copy(c->lan_problem, sizeof c->lan_problem, e->text);
        log_event(LOG_LEVEL_ERROR, "the LANs could not be brought up", "reason", e->text, NULL);
        daemon_tell(c->daemon, EVENT_CONFIGURATION, WIRE_ERROR, NULL, NULL,
                "The LANs could not be brought up: %s", e->text);
        keep(c, STORE_LAN_PROBLEM, c->lan_problem);
}

static void end_lan_problem(struct configurer *c)
{
        if (!c->lan_problem[0])
                return;
        daemon_tell(c->daemon, EVENT_CONFIGURATION, WIRE_INFO, NULL, NULL, "The LANs are up");
        c->lan_problem[0] = 0;
        keep(c, STORE_LAN_PROBLEM, NULL);
}

static void on_helper(int result, const struct error *e, void *userdata)
{
        struct configurer *c = userdata;

        c->is_applying = false;
        if (result == 0) {
                end_lan_problem(c);
                log_text(LOG_LEVEL_INFO, "configuration %lld is in force", (long long)c->applying.version);
                in_force(c);
        } else if (c->applying.version == 0 || c->is_known) {
                tell_lan_problem(c, e);
                bring_up_later(c);
        } else {
                configurer_tell_failure(c, c->applying.version, e->text);
                configurer_retry_later(c);
                if (c->is_lost)
                        bring_up_later(c);
        }
        wire_config_done(&c->applying);
        c->applying = (struct wire_config){0};
        c->is_known = false;
        c->resumed_ms = 0;
        if (c->again) {
                c->again = false;
                configurer_network_changed(c);
        }
}

static bool is_nothing(const struct helper_network *n)
{
        return n->up_count == 0 && n->address_count == 0 && n->route_count == 0;
}

/* Said when they are others than the last time. */
static void take_warnings(struct configurer *c, const struct strv *warnings)
{
        bool is_same = warnings->count == c->warnings.count;

        for (size_t i = 0; i < warnings->count && is_same; i++)
                is_same = str_equal(warnings->items[i], c->warnings.items[i]);
        if (is_same)
                return;
        strv_done(&c->warnings);
        strv_copy(&c->warnings, warnings);
        for (size_t i = 0; i < warnings->count; i++)
                log_event(LOG_LEVEL_WARNING, "the guard", "warning", warnings->items[i], NULL);
}

void configurer_apply(struct configurer *c, struct wire_config *config)
{
        struct daemon *d = c->daemon;
        struct helper_request request = {.operation = HELPER_NETWORK_APPLY};
        struct guard_output plan = {0};
        int r;

        c->applying = *config;
        *config = (struct wire_config){0};
        c->is_applying = true;
        plan_network(c, &c->applying, &plan);
        take_warnings(c, &plan.warnings);
        if (!d->helper) {
                on_helper(is_nothing(&plan.network) ? 0 : -EPIPE, &d->helper_problem, c);
        } else {
                request.network = plan.network;
                r = helper_client_ask(d->helper, &request, on_helper, c);
                if (r < 0) {
                        struct error e = {0};

                        error_set(&e, -r, "helper.gone", "gridnode-helper cannot be asked: %s", strerror(-r));
                        on_helper(r, &e, c);
                }
        }
        guard_output_done(&plan);
}

/* What should be in force, once more: the good one (or the site file's), or what is in force now. */
static void bring_up(struct configurer *c)
{
        const struct wire_config *from = c->is_lost ? &c->good : &c->daemon->config;
        struct wire_config again = {0};

        if (from->version)
                copy_config(c, &again, from);
        else
                config_from_site(c->daemon->settings->site, &again);
        c->is_known = true;
        configurer_apply(c, &again);
}

static int on_bring_up(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct configurer *c = userdata;

        (void)source;
        (void)at_us;
        if (c->is_applying)
                bring_up_later(c);
        else if (c->is_lost || c->lan_problem[0]) /* it may have come up meanwhile */
                bring_up(c);
        return 0;
}

static void bring_up_later(struct configurer *c)
{
        daemon_arm(c->daemon, &c->bring_up, backoff_next_ms(&c->bring_up_backoff, backoff_random()),
                on_bring_up, c);
}

/* ---- confirmed, or taken back ---- */

static void take_back(struct configurer *c)
{
        int64_t version = c->daemon->config.version;

        log_text(LOG_LEVEL_ERROR, "configuration %lld lost the control channel: it is taken back",
                (long long)version);
        c->is_candidate = false;
        keep(c, STORE_CANDIDATE, NULL);
        tell_applied(c, version, "taken-back",
                "the control channel did not survive it for 60 s; the configuration before it is in force "
                "again");
        daemon_tell(c->daemon, EVENT_CONFIGURATION, WIRE_ERROR, NULL, NULL,
                "Configuration %lld was taken back: the control channel did not survive it for 60 s",
                (long long)version);
        open_failure(c, version);
        c->is_lost = true;
        bring_up(c);
}

void configurer_confirm(struct configurer *c)
{
        c->is_candidate = false;
        copy_config(c, &c->good, &c->daemon->config);
        keep_config(c, STORE_GOOD, &c->good);
        keep(c, STORE_CANDIDATE, NULL);
}

static int on_confirm(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct configurer *c = userdata;
        struct channel_view v;

        (void)source;
        (void)at_us;
        if (!c->is_candidate)
                return 0;
        if (c->is_applying) { /* the network changed, and it is brought up again */
                daemon_arm(c->daemon, &c->confirm, CONFIGURER_LATER_MS, on_confirm, c);
                return 0;
        }
        channel_view(c->daemon->channel, &v);
        if (v.state != CHANNEL_CONNECTED) {
                take_back(c);
                return 0;
        }
        configurer_confirm(c);
        return 0;
}

/* Its minute begins once: one that makes us end again and again must not get a new one each time. */
static void confirm_later(struct configurer *c)
{
        char since[32];

        if (c->resumed_ms > 0) {
                daemon_arm(c->daemon, &c->confirm, c->resumed_ms, on_confirm, c);
                return;
        }
        snprintf(since, sizeof since, "%lld", (long long)daemon_unix_ms());
        keep(c, STORE_CANDIDATE_SINCE, since);
        daemon_arm(c->daemon, &c->confirm, CONFIRM_MS, on_confirm, c);
}

/* ---- start ---- */

static bool load(struct configurer *c, const char *name, struct wire_config *ret)
{
        _cleanup_free_ char *text = store_get(c->daemon->store, name);
        struct error e = {0};

        if (!text)
                return false;
        if (wire_config_parse(text, strlen(text), ret, &e) == 0) {
                configurer_take_lans(c->daemon->settings->site, ret);
                return true;
        }
        log_event(LOG_LEVEL_ERROR, "a stored configuration cannot be read", "what", name, "reason", e.text,
                NULL);
        return false;
}

static void load_applied(struct configurer *c)
{
        _cleanup_free_ char *text = store_get(c->daemon->store, STORE_APPLIED);

        if (text)
                json_parse(text, strlen(text), WIRE_MESSAGE_MAXIMUM, STORE_APPLIED, &c->applied, NULL);
        if (c->applied)
                channel_publish(c->daemon->channel, TOPIC_CONFIG_APPLIED, NULL, c->applied);
}

/* What was told before we ended, and is not over. */
static void load_failures(struct configurer *c)
{
        _cleanup_free_ char *failure = store_get(c->daemon->store, STORE_FAILURE),
                            *lan = store_get(c->daemon->store, STORE_LAN_PROBLEM);

        if (failure)
                c->failure_version = atoll(failure);
        if (lan)
                str_copy(c->lan_problem, sizeof c->lan_problem, lan);
}

/* One that was being tried when we ended goes on being tried, for what is left of its minute. True: it does.
 */
static bool resume_candidate(struct configurer *c)
{
        _cleanup_free_ char *since = store_get(c->daemon->store, STORE_CANDIDATE_SINCE);
        int64_t age_ms = daemon_unix_ms() - (since ? atoll(since) : 0);
        struct wire_config candidate = {0};

        if (!load(c, STORE_CANDIDATE, &candidate))
                return false;
        /* A clock that was set back says nothing of its age. */
        if (age_ms < 0 || age_ms >= CONFIRM_MS || candidate.version == c->good.version) {
                wire_config_done(&candidate);
                keep(c, STORE_CANDIDATE, NULL);
                return false;
        }
        c->resumed_ms =
                CONFIRM_MS - age_ms > RESUMED_LEAST_MS ? (double)(CONFIRM_MS - age_ms) : RESUMED_LEAST_MS;
        c->wanted_version = candidate.version;
        configurer_apply(c, &candidate);
        return true;
}

void configurer_start(struct configurer *c)
{
        load_applied(c);
        load_failures(c);
        load(c, STORE_GOOD, &c->good);
        c->is_lost = true;
        /* Our children read it, whatever the helper says. */
        write_effective(c, &c->good);
        if (!resume_candidate(c))
                bring_up(c);
}

/* The WAN's gateway may be another one now, and the kernel forgets the routes of a link that went. */
void configurer_network_changed(struct configurer *c)
{
        if (c->is_applying)
                c->again = true;
        else if (c->daemon->config.lan_count > 0 || c->is_lost)
                bring_up(c);
}

json_t *configurer_view(const struct configurer *c)
{
        json_t *j = c->applied ? json_deep_copy(c->applied) : json_object();

        json_object_del(j, "schema");
        json_object_set_new(j, "in_force", json_integer(c->daemon->config.version));
        json_object_set_new(j, "waits_for_confirmation", json_boolean(c->is_candidate));
        return j;
}

int configurer_new(struct daemon *d, struct configurer **ret)
{
        struct configurer *c = xcalloc(1, sizeof *c);

        c->daemon = d;
        c->backoff = (struct backoff)BACKOFF_INIT(5000, 300000, 2000);
        c->bring_up_backoff = (struct backoff)BACKOFF_INIT(2000, 60000, 1000);
        *ret = c;
        return 0;
}

struct configurer *configurer_free(struct configurer *c)
{
        if (!c)
                return NULL;
        child_free(c->fetch);
        sd_event_source_disable_unref(c->retry);
        sd_event_source_disable_unref(c->confirm);
        sd_event_source_disable_unref(c->bring_up);
        wire_config_done(&c->good);
        wire_config_done(&c->applying);
        strv_done(&c->warnings);
        json_decref(c->applied);
        free(c);
        return NULL;
}
