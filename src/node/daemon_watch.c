/* Runs what the monitor asks for: cheap probes and diagnoses, as children; and records the events that come
 * of it. */
#include "node/daemon_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/log.h"
#include "base/random.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#define PROBE_TIMEOUT_MS   8000
#define DIAGNOSIS_BUDGET_S 5
#define DIAGNOSIS_SPARE_MS 10000 /* beyond its budget, before it is ended */
#define REPORT_MAX_BYTES   ((size_t)4 << 20)
#define STORE_TOLD         "monitor.told"
#define ASKERS_MAX         8

struct asker {
        watch_on_report on_report;
        void *userdata;
};

struct watch {
        struct daemon *daemon;
        sd_event_source *timer;
        struct child *probe, *diagnosis;
        struct monitor_probe probing; /* valid while `probe` runs */
        char probing_service[64];
        char trigger[16];
        bool for_monitor; /* the diagnosis that runs is the monitor's */
        struct asker askers[ASKERS_MAX];
        size_t asker_count;
        json_t *last; /* what watch_last_diagnosis tells */
};

static void go_on(struct watch *w);

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata)
{
        (void)source;
        (void)at_us;
        go_on(userdata);
        return 0;
}

/* ---- events ---- */

/* What was told last outlives us: a failure is not told twice, and its end is told. */
static void keep_told(struct watch *w)
{
        json_t *told = monitor_save(w->daemon->monitor);
        _cleanup_free_ char *text = json_to_text(told);
        struct error e = {0};

        json_decref(told);
        if (store_set(w->daemon->store, STORE_TOLD, text, &e) < 0)
                log_event(LOG_LEVEL_WARNING, "cannot keep what was told last", "reason", e.text, NULL);
}

static void record_events(struct watch *w, struct wire_report *report, const json_t *diagnosis)
{
        struct monitor_event *found = NULL;
        size_t count = monitor_take_events(w->daemon->monitor, &found);
        struct wire_event *events = xcalloc(count + 1, sizeof *events);

        for (size_t i = 0; i < count; i++) {
                events[i] = found[i].event;
                events[i].generated_unix_ms = daemon_unix_ms();
                if (found[i].has_diagnosis && diagnosis)
                        events[i].diagnosis = json_deep_copy(diagnosis);
        }
        if (count > 0 || report)
                daemon_record(w->daemon, report, events, count);
        for (size_t i = 0; i < count; i++)
                wire_event_done(&events[i]);
        free(events);
        free(found);
        if (count > 0)
                keep_told(w);
        ways_changed(w->daemon->ways);
        reach_services_changed(w->daemon->reach);
}

/* ---- the full diagnosis ---- */

/* The plane takes messages of a bounded size: what is too long goes without its measurements. */
static json_t *for_the_wire(const json_t *report)
{
        json_t *copy = json_deep_copy(report);
        _cleanup_free_ char *text = json_to_text(copy);

        if (strlen(text) + 1024 > WIRE_MESSAGE_MAXIMUM)
                json_object_set_new(copy, "measurements", json_array());
        return copy;
}

static void keep_last(struct watch *w, const json_t *diagnosis)
{
        json_t *last = json_deep_copy(diagnosis);

        json_object_set_new(last, "at", json_time(daemon_unix_ms()));
        json_object_set_new(last, "trigger", json_string(w->trigger));
        json_decref(w->last);
        w->last = last;
}

static void tell_askers(struct watch *w, json_t *report, const struct error *e)
{
        struct asker askers[ASKERS_MAX];
        size_t count = w->asker_count;

        memcpy(askers, w->askers, sizeof askers);
        w->asker_count = 0;
        for (size_t i = 0; i < count; i++)
                askers[i].on_report(report, e, askers[i].userdata);
}

static void take_report(struct watch *w, json_t *report)
{
        struct wire_report r = {.generated_unix_ms = daemon_unix_ms(), .trigger = xstrdup(w->trigger)};
        json_t *diagnosis = wire_diagnosis(report);

        if (diagnosis)
                keep_last(w, diagnosis);
        if (w->for_monitor)
                monitor_diagnosed(w->daemon->monitor, report, daemon_now_ms(w->daemon));
        r.report = for_the_wire(report);
        record_events(w, &r, diagnosis);
        wire_report_done(&r);
        json_decref(diagnosis);
}

static void on_diagnosis_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct watch *w = userdata;
        json_t *report = NULL;
        struct error e = {0};

        w->diagnosis = NULL;
        if (end == END_EXITED)
                json_parse(output, length, REPORT_MAX_BYTES, "the diagnosis", &report, &e);
        else
                error_set(&e, EIO, "diagnosis.failed", "the diagnosis ended by itself: %s %d",
                        wire_end_to_string(end), status);
        if (report) {
                take_report(w, report);
        } else {
                log_event(LOG_LEVEL_ERROR, "a diagnosis could not be made", "reason", e.text, NULL);
                if (w->for_monitor)
                        monitor_diagnosed(w->daemon->monitor, NULL, daemon_now_ms(w->daemon));
                record_events(w, NULL, NULL);
        }
        tell_askers(w, report, &e);
        json_decref(report);
        go_on(w);
}

static int start_diagnosis(struct watch *w, double budget_s, const char *trigger, bool for_monitor)
{
        char budget[32];
        const char *words[] = {"diag", "--json", "--budget", budget, NULL};
        int r;

        snprintf(budget, sizeof budget, "%.1f", budget_s);
        str_copy(w->trigger, sizeof w->trigger, trigger);
        w->for_monitor = for_monitor;
        r = daemon_start_verb(
                w->daemon, words, budget_s * 1000 + DIAGNOSIS_SPARE_MS, on_diagnosis_end, w, &w->diagnosis);
        if (r < 0 && for_monitor)
                monitor_diagnosed(w->daemon->monitor, NULL, daemon_now_ms(w->daemon));
        return r;
}

int watch_diagnose(
        struct watch *w, double budget_s, const char *trigger, watch_on_report on_report, void *userdata)
{
        int r = 0;

        if (w->asker_count == ASKERS_MAX)
                return -EBUSY;
        /* Who asks while one runs gets that one. */
        if (!w->diagnosis)
                r = start_diagnosis(w, budget_s > 0 ? budget_s : DIAGNOSIS_BUDGET_S, trigger, false);
        if (r < 0)
                return r;
        w->askers[w->asker_count++] = (struct asker){on_report, userdata};
        return 0;
}

void watch_forget_asker(struct watch *w, void *userdata)
{
        size_t kept = 0;

        for (size_t i = 0; i < w->asker_count; i++)
                if (w->askers[i].userdata != userdata)
                        w->askers[kept++] = w->askers[i];
        w->asker_count = kept;
}

/* ---- the cheap probe ---- */

static void take_dns(struct watch *w, json_t *dns, struct monitor_result *ret, struct inet_addr *addresses)
{
        json_t *list = json_object_get(dns, "addresses"), *item;
        size_t index;

        if (!json_is_object(dns))
                return;
        ret->dns_known = true;
        ret->dns_ok = str_equal(json_string_value(json_object_get(dns, "outcome")), "ok");
        json_array_foreach(list, index, item)
        {
                if (ret->address_count < DAEMON_MAX_ADDRESSES && json_is_string(item) &&
                        inet_addr_parse(json_string_value(item), &addresses[ret->address_count]) == 0)
                        ret->address_count++;
        }
        ret->addresses = addresses;
        if (ret->address_count && w->daemon->control_service &&
                str_equal(w->probing_service, w->daemon->control_service->name))
                reach_learnt(w->daemon->reach, addresses, ret->address_count);
}

static void take_service(struct watch *w, json_t *service, struct monitor_result *ret)
{
        const char *address = json_string_value(json_object_get(service, "address"));

        if (!json_is_object(service))
                return;
        ret->service_known = true;
        ret->service_ok = str_equal(json_string_value(json_object_get(service, "state")), "ok");
        if (address)
                inet_addr_parse(address, &ret->address);
        if (ret->service_ok && w->daemon->control_service &&
                str_equal(w->probing_service, w->daemon->control_service->name))
                reach_way_open(w->daemon->reach);
}

static void on_probe_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct watch *w = userdata;
        struct inet_addr addresses[DAEMON_MAX_ADDRESSES];
        struct monitor_result result = {.address = w->probing.address};
        struct error e = {0};
        json_t *j = NULL;

        w->probe = NULL;
        if (end == END_EXITED && json_parse(output, length, REPORT_MAX_BYTES, "the probe", &j, &e) == 0) {
                take_dns(w, json_object_get(j, "dns"), &result, addresses);
                take_service(w, json_object_get(j, "service"), &result);
                result.bytes = json_number_value(json_object_get(j, "bytes"));
        } else {
                /* It says nothing of any way: neither good nor bad. */
                log_event(LOG_LEVEL_WARNING, "a probe could not be made", "service", w->probing_service,
                        "end", wire_end_to_string(end), "reason", e.text, NULL);
        }
        (void)status;
        monitor_done(w->daemon->monitor, &w->probing, &result, daemon_now_ms(w->daemon));
        json_decref(j);
        record_events(w, NULL, NULL);
        go_on(w);
}

static int start_probe(struct watch *w, const struct monitor_probe *p)
{
        char server[INET_ADDR_TEXT], address[INET_ADDR_TEXT];
        const char *words[10] = {"probe", "--json"};
        size_t n = 2;

        if (p->service)
                words[n++] = p->service;
        if (p->kind == MONITOR_DNS)
                words[n++] = "--dns-only";
        if (inet_addr_is_set(&p->dns)) {
                words[n++] = "--server";
                words[n++] = inet_addr_format(&p->dns, server);
        }
        if (p->kind == MONITOR_SERVICE && inet_addr_is_set(&p->address)) {
                words[n++] = "--address";
                words[n++] = inet_addr_format(&p->address, address);
        }
        str_copy(w->probing_service, sizeof w->probing_service, p->service ? p->service : "");
        w->probing = *p;
        return daemon_start_verb(w->daemon, words, PROBE_TIMEOUT_MS, on_probe_end, w, &w->probe);
}

/* Whatever is due now: a diagnosis before a probe, one of each at a time. Asking the monitor what is next
 * lets time pass there, too: events and a wish for a diagnosis may come of it. */
static void go_on(struct watch *w)
{
        struct daemon *d = w->daemon;
        struct monitor_probe p;
        struct monitor_result nothing = {0};
        double next_ms = INFINITY;

        if (!w->probe && monitor_next(d->monitor, daemon_now_ms(d), &p, &next_ms) && start_probe(w, &p) < 0) {
                nothing.address = p.address;
                monitor_done(d->monitor, &p, &nothing, daemon_now_ms(d));
                next_ms = daemon_now_ms(d) + 1000;
        }
        if (!w->diagnosis && monitor_wants_diagnosis(d->monitor) &&
                start_diagnosis(w, DIAGNOSIS_BUDGET_S, "monitor", true) < 0)
                next_ms = fmin(next_ms, daemon_now_ms(d) + 1000); /* what waited for it goes on */
        record_events(w, NULL, NULL);
        if (!w->probe && isfinite(next_ms))
                daemon_arm(d, &w->timer, fmax(next_ms - daemon_now_ms(d), 1), on_timer, w);
}

/* ---- what others ask ---- */

/* `told`: what was told last; NULL: nothing. */
static struct monitor *make_monitor(struct daemon *d, const json_t *told)
{
        struct monitor_options o = {
                .profile = d->settings->profile, .interval_ms = d->settings->site->monitor_interval_s * 1000};
        struct monitor *m;

        o.dns = daemon_dns(d, &o.dns_count);
        random_bytes(&o.seed, sizeof o.seed);
        m = monitor_new(&o, daemon_now_ms(d));
        if (told)
                monitor_restore(m, told);
        return m;
}

void watch_observed(struct watch *w)
{
        go_on(w);
}

void watch_network_changed(struct watch *w)
{
        monitor_changed(w->daemon->monitor, daemon_now_ms(w->daemon));
        if (!w->probe)
                go_on(w);
}

void watch_dns_changed(struct watch *w)
{
        json_t *told = monitor_save(w->daemon->monitor);

        /* What is known of the services is forgotten with it: the next probes tell. */
        w->probe = child_free(w->probe);
        monitor_free(w->daemon->monitor);
        w->daemon->monitor = make_monitor(w->daemon, told);
        json_decref(told);
        go_on(w);
}

json_t *watch_services(const struct watch *w)
{
        const struct profile *p = w->daemon->settings->profile;
        json_t *j = json_object();

        for (size_t i = 0; i < p->service_count; i++) {
                struct monitor_view v;

                monitor_view_service(w->daemon->monitor, i, &v);
                json_object_set_new(j, v.service,
                        json_pack("{s:s,s:s?,s:b}", "state", monitor_state_to_string(v.state), "cause",
                                v.cause, "flapping", v.flapping));
        }
        return j;
}

json_t *watch_last_diagnosis(const struct watch *w)
{
        return json_incref(w->last);
}

int watch_new(struct daemon *d, struct watch **ret)
{
        _cleanup_free_ char *told = store_get(d->store, STORE_TOLD);
        struct watch *w = xcalloc(1, sizeof *w);
        json_t *saved = NULL;

        w->daemon = d;
        if (told)
                json_parse(told, strlen(told), WIRE_MESSAGE_MAXIMUM, STORE_TOLD, &saved, NULL);
        d->monitor = make_monitor(d, saved);
        json_decref(saved);
        *ret = w;
        daemon_arm(d, &w->timer, 1, on_timer, w);
        return 0;
}

struct watch *watch_free(struct watch *w)
{
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->timer);
        child_free(w->probe);
        child_free(w->diagnosis);
        w->daemon->monitor = monitor_free(w->daemon->monitor);
        json_decref(w->last);
        free(w);
        return NULL;
}
