/* The wanted configuration: fetched over 8443 when the plane says that there is one, checked, applied through
 * the helper, confirmed by a control channel that outlives it, else taken back. The last good one is kept and
 * started from. */
#include "node/daemon_internal.h"

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FETCH_TIMEOUT_MS      20000
#define CONFIRM_MS            60000
#define ATTEMPTS_TOLD         2 /* a failure is an event after the second */
#define STORE_GOOD            "config.good"
#define STORE_CANDIDATE       "config.candidate"       /* applied, not confirmed yet */
#define STORE_CANDIDATE_SINCE "config.candidate-since" /* unix ms */
#define STORE_APPLIED         "config.applied"         /* the last word to the plane */

struct configurer {
        struct daemon *daemon;
        struct child *fetch;
        sd_event_source *retry, *confirm;
        struct backoff backoff;
        struct wire_config good;        /* version 0: the site file's own LANs */
        struct wire_config applying;    /* what the helper was asked for */
        bool is_applying, is_candidate; /* `daemon->config` waits for its confirmation */
        bool is_known;          /* what is applied was in force before: nothing to confirm or to tell */
        char lan_problem[256];  /* told already */
        int64_t wanted_version; /* what the plane announced */
        unsigned failures;      /* of the wanted version, in a row */
        bool failure_told;      /* of the wanted version */
        bool failure_open;      /* of any version, and its end was not told */
        struct strv warnings;   /* of the guard, for what is being applied */
        json_t *applied;        /* wire_applied */
};

static void fetch(struct configurer *c);

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
        struct wire_applied a = {
                .version = version, .at_unix_ms = daemon_unix_ms(), .error = xstrdup(problem)};
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

static void tell_failure(struct configurer *c, int64_t version, const char *problem)
{
        c->failures++;
        log_event(LOG_LEVEL_WARNING, "the configuration could not be brought into force", "reason", problem,
                NULL);
        tell_applied(c, version, "failed", problem);
        if (c->failures < ATTEMPTS_TOLD || c->failure_told)
                return;
        c->failure_told = c->failure_open = true;
        daemon_tell(c->daemon, EVENT_CONFIGURATION, WIRE_ERROR, NULL, NULL, "Configuration %lld failed: %s",
                (long long)version, problem);
}

/* ---- into force ---- */

static void config_from_site(const struct site *s, struct wire_config *ret)
{
        *ret = (struct wire_config){.guard = true};
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

static void copy_config(struct wire_config *to, const struct wire_config *from)
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
        if (wire_config_parse(text, strlen(text), &copy, NULL) == 0)
                *to = copy;
}

/* The site file with the configuration over it, for the hand tools and the children. */
static void write_effective(struct configurer *c, const struct wire_config *config)
{
        struct settings_node *s = c->daemon->settings;
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

static void confirm_later(struct configurer *c, double delay_ms);

/* The helper did it. */
static void in_force(struct configurer *c)
{
        struct daemon *d = c->daemon;
        bool dns_stays = same_dns(d, &c->applying);

        wire_config_done(&d->config);
        d->config = c->applying;
        c->applying = (struct wire_config){0};
        write_effective(c, &d->config);
        if (!dns_stays)
                watch_dns_changed(d->watch);
        if (c->is_known || d->config.version == 0 || d->config.version == c->good.version)
                return;
        c->is_candidate = true;
        c->failures = 0;
        keep_config(c, STORE_CANDIDATE, &d->config);
        tell_applied(c, d->config.version, "applied", NULL);
        if (c->failure_open)
                daemon_tell(d, EVENT_CONFIGURATION, WIRE_INFO, NULL, NULL, "Configuration %lld is applied",
                        (long long)d->config.version);
        c->failure_told = c->failure_open = false;
        confirm_later(c, CONFIRM_MS);
}

static void retry_later(struct configurer *c);

/* Once for each reason: links that come and go have it applied often. */
static void tell_lan_problem(struct configurer *c, const struct error *e)
{
        log_event(LOG_LEVEL_ERROR, "the LANs could not be brought up", "reason", e->text, NULL);
        if (strncmp(c->lan_problem, e->text, sizeof c->lan_problem - 1) == 0)
                return;
        str_copy(c->lan_problem, sizeof c->lan_problem, e->text);
        daemon_tell(c->daemon, EVENT_CONFIGURATION, WIRE_ERROR, NULL, NULL,
                "The LANs could not be brought up: %s", e->text);
}

static void on_helper(int result, const struct error *e, void *userdata)
{
        struct configurer *c = userdata;

        c->is_applying = false;
        if (result == 0) {
                c->lan_problem[0] = 0;
                log_text(LOG_LEVEL_INFO, "configuration %lld is in force", (long long)c->applying.version);
                in_force(c);
        } else if (c->applying.version == 0 || c->is_known) {
                tell_lan_problem(c, e);
        } else {
                tell_failure(c, c->applying.version, e->text);
                retry_later(c);
        }
        wire_config_done(&c->applying);
        c->applying = (struct wire_config){0};
        c->is_known = false;
}

static bool is_nothing(const struct helper_network *n)
{
        return n->up_count == 0 && n->address_count == 0 && n->route_count == 0;
}

/* Takes `config` over. */
static void apply(struct configurer *c, struct wire_config *config)
{
        struct daemon *d = c->daemon;
        struct helper_request request = {.operation = HELPER_NETWORK_APPLY};
        struct guard_output plan = {0};
        int r;

        c->applying = *config;
        *config = (struct wire_config){0};
        c->is_applying = true;
        plan_network(c, &c->applying, &plan);
        strv_done(&c->warnings);
        strv_copy(&c->warnings, &plan.warnings);
        for (size_t i = 0; i < plan.warnings.count; i++)
                log_event(LOG_LEVEL_WARNING, "the guard", "warning", plan.warnings.items[i], NULL);
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

/* ---- confirmed, or taken back ---- */

static void take_back(struct configurer *c)
{
        struct wire_config last = {0};
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
        c->failure_open = true;
        copy_config(&last, &c->good);
        if (c->good.version == 0)
                config_from_site(c->daemon->settings->site, &last);
        c->is_known = true;
        apply(c, &last);
}

static int on_confirm(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct configurer *c = userdata;
        struct channel_view v;

        (void)source;
        (void)at_us;
        if (!c->is_candidate)
                return 0;
        channel_view(c->daemon->channel, &v);
        if (v.state != CHANNEL_CONNECTED) {
                take_back(c);
                return 0;
        }
        c->is_candidate = false;
        copy_config(&c->good, &c->daemon->config);
        keep_config(c, STORE_GOOD, &c->good);
        keep(c, STORE_CANDIDATE, NULL);
        return 0;
}

static void confirm_later(struct configurer *c, double delay_ms)
{
        char since[32];

        snprintf(since, sizeof since, "%lld", (long long)daemon_unix_ms());
        keep(c, STORE_CANDIDATE_SINCE, since);
        daemon_arm(c->daemon, &c->confirm, delay_ms, on_confirm, c);
}

/* ---- fetching ---- */

static int on_retry(sd_event_source *source, uint64_t at_us, void *userdata)
{
        (void)source;
        (void)at_us;
        fetch(userdata);
        return 0;
}

static void retry_later(struct configurer *c)
{
        daemon_arm(c->daemon, &c->retry, backoff_next_ms(&c->backoff, backoff_random()), on_retry, c);
}

/* Of "gridnode config --json": {"status":200,"config":{…}}. */
static int read_fetched(const char *output, size_t length, struct wire_config *ret, struct error *ret_error)
{
        json_t *j = NULL, *document;
        _cleanup_free_ char *text = NULL;
        int r = json_parse(output, length, WIRE_MESSAGE_MAXIMUM, "the configuration", &j, ret_error);

        if (r < 0)
                return r;
        document = json_object_get(j, "config");
        if (!json_is_object(document)) {
                const char *why = json_string_value(json_object_get(j, "error"));

                json_decref(j);
                return error_set(ret_error, ENOENT, "config.fetch", "it cannot be fetched: %s",
                        why ? why : "the control plane has none");
        }
        text = json_to_text(document);
        json_decref(j);
        return wire_config_parse(text, strlen(text), ret, ret_error);
}

static void on_fetch_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct configurer *c = userdata;
        struct wire_config config = {0};
        struct error e = {0};
        int r;

        c->fetch = NULL;
        if (end != END_EXITED)
                r = error_set(&e, EIO, "config.fetch", "it cannot be fetched: %s %d", wire_end_to_string(end),
                        status);
        else
                r = read_fetched(output, length, &config, &e);
        if (r < 0) {
                tell_failure(c, c->wanted_version, e.text);
                retry_later(c);
                return;
        }
        c->wanted_version = config.version > c->wanted_version ? config.version : c->wanted_version;
        if (config.version == c->daemon->config.version) {
                wire_config_done(&config);
                return;
        }
        apply(c, &config);
}

static void fetch(struct configurer *c)
{
        static const char *const words[] = {"config", "--json", NULL};

        if (c->fetch)
                return;
        /* What waits for its confirmation is not built upon. */
        if (c->is_applying || c->is_candidate) {
                daemon_arm(c->daemon, &c->retry, 2000, on_retry, c);
                return;
        }
        if (daemon_start_verb(c->daemon, words, FETCH_TIMEOUT_MS, on_fetch_end, c, &c->fetch) < 0)
                retry_later(c);
}

static int64_t refused_version(const struct configurer *c)
{
        const char *state = json_string_value(json_object_get(c->applied, "state"));

        return str_equal(state, "taken-back") ? json_integer_value(json_object_get(c->applied, "version"))
                                              : 0;
}

void configurer_notice(struct configurer *c, const void *payload, size_t length)
{
        struct error e = {0};
        int64_t version;

        if (wire_notice_parse(payload, length, &version, &e) < 0) {
                log_event(
                        LOG_LEVEL_WARNING, "refused a message of the control plane", "reason", e.text, NULL);
                return;
        }
        if (version == c->daemon->config.version || version == refused_version(c))
                return;
        if (version != c->wanted_version) {
                c->failures = 0;
                c->failure_told = false;
        }
        c->wanted_version = version;
        backoff_reset(&c->backoff);
        fetch(c);
}

/* ---- start ---- */

static bool load(struct configurer *c, const char *name, struct wire_config *ret)
{
        _cleanup_free_ char *text = store_get(c->daemon->store, name);
        struct error e = {0};

        if (!text)
                return false;
        if (wire_config_parse(text, strlen(text), ret, &e) == 0)
                return true;
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

void configurer_start(struct configurer *c)
{
        struct wire_config first = {0};
        _cleanup_free_ char *since = store_get(c->daemon->store, STORE_CANDIDATE_SINCE);
        int64_t age_ms = daemon_unix_ms() - (since ? atoll(since) : 0);
        bool has_candidate;

        load_applied(c);
        load(c, STORE_GOOD, &c->good);
        has_candidate = load(c, STORE_CANDIDATE, &first);
        /* One that was being tried when we ended goes on being tried, for what is left of its minute. */
        if (has_candidate && age_ms >= 0 && age_ms < CONFIRM_MS) {
                apply(c, &first);
                return;
        }
        if (has_candidate) {
                wire_config_done(&first);
                first = (struct wire_config){0};
                keep(c, STORE_CANDIDATE, NULL);
        }
        if (c->good.version)
                copy_config(&first, &c->good);
        else
                config_from_site(c->daemon->settings->site, &first);
        apply(c, &first);
}

/* The WAN's gateway may be another one now, and the kernel forgets the routes of a link that went. */
void configurer_network_changed(struct configurer *c)
{
        struct wire_config again = {0};

        if (c->is_applying || c->daemon->config.lan_count == 0)
                return;
        if (c->daemon->config.version)
                copy_config(&again, &c->daemon->config);
        else
                config_from_site(c->daemon->settings->site, &again);
        c->is_known = true;
        apply(c, &again);
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
        wire_config_done(&c->good);
        wire_config_done(&c->applying);
        strv_done(&c->warnings);
        json_decref(c->applied);
        free(c);
        return NULL;
}
