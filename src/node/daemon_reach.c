/* The channel to the control plane, and what it stands on: addresses to try, the certificate's life, the
 * clock. */
#include "node/daemon_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/version.h"
#include "node/certificate.h"
#include "node/clockwatch.h"

#include <errno.h>
#include <string.h>

#define RESOLVE_TIMEOUT_MS 8000
#define TICK_MS            30000
#define RENEW_TIMEOUT_MS   60000
#define RENEW_RETRY_MS     (10.0 * 60 * 1000)
#define STORE_ADDRESSES    "addresses.control"

struct reach {
        struct daemon *daemon;
        sd_event_source *tick;
        struct child *resolve, *renew;
        size_t resolve_server;                        /* index of the DNS server that is asked now */
        struct inet_addr known[DAEMON_MAX_ADDRESSES]; /* of the profile, of former answers, of DNS */
        size_t known_count;
        char *published; /* the status as it was sent last, without its time */
        int64_t renew_unix, end_unix;
        double renew_not_before_ms;
        bool renew_failed_told;
        struct clockwatch *clock;
};

/* ---- addresses ---- */

static bool is_known(const struct reach *r, const struct inet_addr *a)
{
        for (size_t i = 0; i < r->known_count; i++)
                if (inet_addr_equal(&r->known[i], a))
                        return true;
        return false;
}

static void add_known(struct reach *r, const struct inet_addr *a)
{
        if (!is_known(r, a) && r->known_count < DAEMON_MAX_ADDRESSES)
                r->known[r->known_count++] = *a;
}

static void load_known(struct reach *r)
{
        const struct profile_service *s = r->daemon->control_service;
        _cleanup_free_ char *stored = store_get(r->daemon->store, STORE_ADDRESSES);
        struct strv list = {0};
        struct inet_addr a;

        for (size_t i = 0; i < s->address_count; i++)
                add_known(r, &s->addresses[i]);
        strv_split(&list, stored ? stored : "", ' ');
        for (size_t i = 0; i < list.count; i++)
                if (inet_addr_parse(list.items[i], &a) == 0)
                        add_known(r, &a);
        strv_done(&list);
}

/* They answer even when DNS is dead, at the next start too. */
static void save_known(struct reach *r)
{
        struct text t = {0};
        char address[INET_ADDR_TEXT];
        struct error e = {0};

        for (size_t i = 0; i < r->known_count; i++)
                text_addf(&t, "%s%s", i ? " " : "", inet_addr_format(&r->known[i], address));
        if (store_set(r->daemon->store, STORE_ADDRESSES, text_string(&t), &e) < 0)
                log_event(LOG_LEVEL_WARNING, "cannot keep the control plane's addresses", "reason", e.text,
                        NULL);
        text_done(&t);
}

/* The profile's, the newest answer's, and of former ones as many as there is room for: a control plane that
 * has moved often must not be out of reach. */
void reach_learnt(struct reach *r, const struct inet_addr *addresses, size_t count)
{
        const struct profile_service *s = r->daemon->control_service;
        struct inet_addr former[DAEMON_MAX_ADDRESSES];
        size_t former_count = r->known_count;
        bool is_new = false;

        for (size_t i = 0; i < count; i++)
                is_new |= !is_known(r, &addresses[i]);
        if (!is_new)
                return;
        memcpy(former, r->known, sizeof former);
        r->known_count = 0;
        for (size_t i = 0; i < s->address_count; i++)
                add_known(r, &s->addresses[i]);
        for (size_t i = 0; i < count; i++)
                add_known(r, &addresses[i]);
        for (size_t i = 0; i < former_count; i++)
                add_known(r, &former[i]);
        save_known(r);
        channel_set_addresses(r->daemon->channel, r->known, r->known_count);
}

size_t reach_known_addresses(const struct reach *r, struct inet_addr ret[DAEMON_MAX_ADDRESSES])
{
        memcpy(ret, r->known, r->known_count * sizeof *ret);
        return r->known_count;
}

static void resolve_next(struct reach *r);

static void on_resolve_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct reach *r = userdata;
        struct inet_addr addresses[DAEMON_MAX_ADDRESSES];
        size_t count = 0, index;
        json_t *j = NULL, *item;

        (void)status;
        r->resolve = NULL;
        if (end == END_EXITED)
                json_parse(output, length, WIRE_MESSAGE_MAXIMUM, "the probe", &j, NULL);
        json_array_foreach(json_object_get(json_object_get(j, "dns"), "addresses"), index, item)
        {
                if (count < DAEMON_MAX_ADDRESSES && json_is_string(item) &&
                        inet_addr_parse(json_string_value(item), &addresses[count]) == 0)
                        count++;
        }
        json_decref(j);
        if (count == 0) {
                r->resolve_server++;
                resolve_next(r);
                return;
        }
        reach_learnt(r, addresses, count);
        channel_set_addresses(r->daemon->channel, r->known, r->known_count);
}

/* Asks one DNS server after the other; when none answers, what is known has to do. */
static void resolve_next(struct reach *r)
{
        struct daemon *d = r->daemon;
        char server[INET_ADDR_TEXT];
        const char *words[] = {
                "probe", "--json", "--dns-only", d->control_service->name, "--server", server, NULL};
        size_t count;
        const struct inet_addr *servers = daemon_dns(d, &count);

        if (r->resolve_server < count) {
                inet_addr_format(&servers[r->resolve_server], server);
                if (daemon_start_verb(d, words, RESOLVE_TIMEOUT_MS, on_resolve_end, r, &r->resolve) == 0)
                        return;
        }
        channel_set_addresses(d->channel, r->known, r->known_count);
}

static void on_resolve(void *userdata)
{
        struct reach *r = userdata;

        if (r->resolve)
                return;
        r->resolve_server = 0;
        resolve_next(r);
}

/* ---- the channel ---- */

static void on_attempt(const struct endpoint *address, const struct error *e, void *userdata)
{
        struct reach *r = userdata;
        struct daemon *d = r->daemon;
        char text[INET_ADDR_TEXT];

        monitor_observed(d->monitor, d->control_service->name, &address->address, !e, daemon_now_ms(d));
        if (e)
                log_event(LOG_LEVEL_INFO, "no connection to the control plane", "address",
                        endpoint_format(address, text), "code", e->code, "reason", e->text, NULL);
        watch_network_changed(d->watch);
}

static json_t *status_of(struct reach *r, bool with_time)
{
        struct daemon *d = r->daemon;
        struct wire_status s = {.online = true, .services = watch_services(d->watch)};
        json_t *j;

        if (with_time)
                s.since_unix_ms = d->started_unix_ms;
        str_copy(s.version, sizeof s.version, GRIDNODE_VERSION);
        str_copy(s.epoch, sizeof s.epoch, store_epoch(d->store));
        inet_addr_format(&d->wan_address, s.address);
        j = wire_status_to_json(&s);
        wire_status_done(&s);
        return j;
}

void reach_services_changed(struct reach *r)
{
        json_t *j = status_of(r, false);
        char *text = json_to_text(j);

        json_decref(j);
        if (str_equal(text, r->published)) {
                free(text);
                return;
        }
        free(r->published);
        r->published = text;
        j = status_of(r, true);
        channel_publish(r->daemon->channel, TOPIC_STATUS, NULL, j);
        json_decref(j);
}

static void on_state(enum channel_state state, const struct error *why, void *userdata)
{
        struct reach *r = userdata;
        struct channel_view v;
        char text[INET_ADDR_TEXT];

        channel_view(r->daemon->channel, &v);
        if (state == CHANNEL_CONNECTED)
                log_event(LOG_LEVEL_INFO, "connected to the control plane", "address",
                        endpoint_format(&v.address, text), NULL);
        else if (why && str_equal(why->code, "mqtt.lost"))
                log_event(LOG_LEVEL_WARNING, "lost the control plane", "reason", why->text, NULL);
}

static void on_message(enum topic_kind kind, const void *payload, size_t length, void *userdata)
{
        struct reach *r = userdata;
        struct wire_request request = {0};
        struct error e = {0};

        if (kind == TOPIC_CONFIG)
                configurer_notice(r->daemon->configurer, payload, length);
        if (kind != TOPIC_REQUEST)
                return;
        if (wire_request_parse(payload, length, &request, &e) < 0) {
                daemon_refuse(r->daemon, &e);
                return;
        }
        log_event(LOG_LEVEL_INFO,
                request.cancel ? "the control plane cancels a request" : "the control plane asks for a tool",
                "request", request.id, "tool", request.tool, "by", request.by, NULL);
        tools_request(r->daemon->tools, &request);
        wire_request_done(&request);
}

void reach_way_open(struct reach *r)
{
        channel_way_open(r->daemon->channel);
}

void reach_network_changed(struct reach *r)
{
        channel_network_changed(r->daemon->channel, &r->daemon->wan_address);
        reach_services_changed(r);
}

/* ---- the certificate ---- */

/* `output`: of "gridnode renew --json", {"error":"…"}. */
static void tell_not_renewed(struct reach *r, const char *output, size_t length)
{
        json_t *j = NULL;
        const char *why;

        json_parse(output, length, WIRE_MESSAGE_MAXIMUM, "the renewal", &j, NULL);
        why = json_string_value(json_object_get(j, "error"));
        daemon_tell(r->daemon, EVENT_CERTIFICATE, WIRE_WARNING, NULL, NULL,
                "The node's certificate could not be renewed, and it is tried again every 10 minutes: %s",
                why ? why : "the attempt did not end in time");
        json_decref(j);
}

static void on_renew_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct reach *r = userdata;
        struct error e = {0};
        bool was_failing = r->renew_failed_told;

        r->renew = NULL;
        r->renew_not_before_ms = daemon_now_ms(r->daemon) + RENEW_RETRY_MS;
        if (end != END_EXITED || status != 0) {
                if (!was_failing)
                        tell_not_renewed(r, output, length);
                r->renew_failed_told = true;
                return;
        }
        r->renew_failed_told = false;
        if (node_certificate_times(r->daemon->settings, &r->renew_unix, &r->end_unix, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "cannot read the node's certificate", "reason", e.text, NULL);
        if (was_failing)
                daemon_tell(r->daemon, EVENT_CERTIFICATE, WIRE_INFO, NULL, NULL,
                        "The node's certificate is renewed");
        channel_credentials_changed(r->daemon->channel);
}

static void renew_when_due(struct reach *r)
{
        static const char *const words[] = {"renew", "--json", NULL};

        if (r->renew || daemon_unix_ms() / 1000 < r->renew_unix ||
                daemon_now_ms(r->daemon) < r->renew_not_before_ms)
                return;
        log_event(LOG_LEVEL_INFO, "renewing the node's certificate", NULL);
        if (daemon_start_verb(r->daemon, words, RENEW_TIMEOUT_MS, on_renew_end, r, &r->renew) < 0)
                r->renew_not_before_ms = daemon_now_ms(r->daemon) + RENEW_RETRY_MS;
}

/* ---- the tick ---- */

/* A certificate may be due, or over, by the new time. */
static void on_clock_set(double step_ms, void *userdata)
{
        struct reach *r = userdata;
        char then[32];

        time_format_utc((int64_t)((double)daemon_unix_ms() - step_ms), then);
        daemon_tell(r->daemon, EVENT_CLOCK_JUMP, WIRE_WARNING, NULL, NULL,
                "The node's clock was set by %+.0f s: without that it would be %s now", step_ms / 1000, then);
        renew_when_due(r);
}

static int on_tick(sd_event_source *source, uint64_t at_us, void *userdata)
{
        struct reach *r = userdata;
        struct daemon *d = r->daemon;
        struct channel_view v;

        (void)source;
        (void)at_us;
        clockwatch_look(r->clock);
        renew_when_due(r);
        /* A connection that lives is as good as a probe. */
        channel_view(d->channel, &v);
        if (v.state == CHANNEL_CONNECTED)
                monitor_observed(
                        d->monitor, d->control_service->name, &v.address.address, true, daemon_now_ms(d));
        daemon_arm(d, &r->tick, TICK_MS, on_tick, r);
        return 0;
}

/* ---- life ---- */

static int new_channel(struct reach *r)
{
        struct daemon *d = r->daemon;
        struct channel_options o = {.event = d->event,
                .store = d->store,
                .node = d->settings->node,
                .host = d->control_service->host,
                .port = d->control_service->port,
                .root_ca_path = d->settings->profile->root_ca_path,
                .certificate_path = d->settings->site->certificate_path,
                .key_path = d->settings->site->key_path,
                .source = d->wan_address};
        struct channel_handlers h = {.on_resolve = on_resolve,
                .on_attempt = on_attempt,
                .on_state = on_state,
                .on_message = on_message,
                .userdata = r};

        d->channel = channel_new(&o, &h);
        return d->channel ? 0 : -ENOMEM;
}

int reach_new(struct daemon *d, struct reach **ret)
{
        struct reach *r = xcalloc(1, sizeof *r);
        struct error e = {0};
        int rc;

        r->daemon = d;
        if (node_certificate_times(d->settings, &r->renew_unix, &r->end_unix, &e) < 0)
                log_event(LOG_LEVEL_ERROR, "cannot read the node's certificate", "reason", e.text, NULL);
        load_known(r);
        *ret = r;
        rc = clockwatch_new(d->event, on_clock_set, r, &r->clock);
        return rc < 0 ? rc : new_channel(r);
}

void reach_start(struct reach *r)
{
        channel_set_addresses(r->daemon->channel, r->known, r->known_count);
        reach_services_changed(r);
        channel_start(r->daemon->channel);
        daemon_arm(r->daemon, &r->tick, 1000, on_tick, r);
}

int64_t reach_certificate_end(const struct reach *r)
{
        return r->end_unix;
}

struct reach *reach_free(struct reach *r)
{
        if (!r)
                return NULL;
        sd_event_source_disable_unref(r->tick);
        child_free(r->resolve);
        child_free(r->renew);
        clockwatch_free(r->clock);
        r->daemon->channel = channel_free(r->daemon->channel);
        free(r->published);
        free(r);
        return NULL;
}
