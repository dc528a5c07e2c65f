/* What the monitor takes from a full diagnosis. The report comes from a child: what has another type than the
 * contract says is as if it were not there. */
#include "node/monitor_internal.h"

#include "base/alloc.h"

#include <math.h>
#include <string.h>

#define PAUSE_MS        60000.0  /* between diagnoses that the same target asks for: at first */
#define PAUSE_MOST_MS   300000.0 /* and at most */
#define PAUSE_RESET_MS  1800000.0
#define RECHECK_MOST_MS 1800000.0

/* ---- reading ---- */

static const char *text_of(const json_t *object, const char *member)
{
        const char *s = json_string_value(json_object_get(object, member));

        return s ? s : "";
}

static bool contains(const json_t *list, const char *word)
{
        const json_t *item;
        size_t i;

        json_array_foreach(list, i, item)
        {
                if (str_equal(json_string_value(item), word))
                        return true;
        }
        return false;
}

static const json_t *find_by_name(const json_t *list, const char *name)
{
        const json_t *item;
        size_t i;

        json_array_foreach(list, i, item)
        {
                if (str_equal(text_of(item, "name"), name))
                        return item;
        }
        return NULL;
}

static bool names_server(const json_t *targets, const struct inet_addr *server)
{
        const json_t *item;
        size_t i;

        json_array_foreach(targets, i, item)
        {
                struct endpoint e;

                if (json_is_string(item) && endpoint_parse(json_string_value(item), &e) == 0 &&
                        inet_addr_equal(&e.address, server))
                        return true;
        }
        return false;
}

/* NULL: none is known. */
static void set_cause(struct subject *s, const json_t *cause)
{
        const char *code = text_of(cause, "code"), *summary = text_of(cause, "summary");

        free(s->cause);
        free(s->summary);
        s->cause = *code ? xstrdup(code) : NULL;
        s->summary = *code && *summary ? xstrdup(summary) : NULL;
}

/* Causes are in the order of their weight. */
static const json_t *cause_of_service(const json_t *report, const char *name)
{
        const json_t *cause;
        size_t i;

        json_array_foreach(json_object_get(report, "causes"), i, cause)
        {
                if (contains(json_object_get(cause, "services"), name))
                        return cause;
        }
        return NULL;
}

/* ---- pauses ---- */

static void pause_target(struct target *t, double now_ms)
{
        bool is_long_ago = now_ms - t->not_before_ms > PAUSE_RESET_MS;

        t->pause_ms = is_long_ago || t->pause_ms <= 0 ? PAUSE_MS : fmin(2 * t->pause_ms, PAUSE_MOST_MS);
        t->not_before_ms = now_ms + t->pause_ms;
}

/* Who asked for this diagnosis has its answer, whatever it is. */
static void pause_askers(struct subject *s, double now_ms)
{
        for (size_t i = 0; i < s->count; i++)
                if (s->targets[i].fails >= 2 && !s->targets[i].is_bad)
                        pause_target(&s->targets[i], now_ms);
}

/* The way was found well: its other targets do not ask in the same minute. */
static void pause_others(struct subject *s, double now_ms)
{
        for (size_t i = 0; i < s->count; i++)
                s->targets[i].not_before_ms = fmax(s->targets[i].not_before_ms, now_ms + PAUSE_MS);
}

/* ---- states ---- */

static void mark_good(struct target *t)
{
        t->is_bad = false;
        t->fails = 0;
        t->retry_ms = HUGE_VAL;
}

static void mark_bad(struct target *t)
{
        t->is_bad = t->is_checked = true;
        t->goods = 0;
        t->retry_ms = HUGE_VAL;
}

/* Nothing better is known than what the probes saw. */
static void take_own_evidence(struct monitor *m, struct subject *s, bool has_diagnosis, double now_ms)
{
        bool any = false;

        for (size_t i = 0; i < s->count; i++)
                if (s->targets[i].fails >= 2 && !s->targets[i].is_bad) {
                        mark_bad(&s->targets[i]);
                        any = true;
                }
        if (any && !s->is_beyond_probes)
                monitor_enter(m, s, monitor_state_of_bad(m, s), has_diagnosis, now_ms);
}

static void take_service_ok(struct monitor *m, struct subject *s, double now_ms)
{
        for (size_t i = 0; i < s->count; i++)
                mark_good(&s->targets[i]);
        pause_others(s, now_ms);
        monitor_enter(m, s, MONITOR_OK, true, now_ms);
}

/* Addresses as the report has them. Returns whether something is wrong there that a probe, which ends with
 * TLS, does not see. */
static bool take_addresses(struct subject *s, const json_t *service)
{
        const json_t *item;
        bool beyond = str_equal(text_of(service, "stage"), "http");
        size_t i, bad = 0;

        json_array_foreach(json_object_get(service, "addresses"), i, item)
        {
                struct inet_addr a;
                bool is_blocked = str_equal(text_of(item, "state"), "blocked");
                long at;

                if (inet_addr_parse(text_of(item, "address"), &a) < 0)
                        continue;
                at = is_blocked ? monitor_learn(s, &a) : monitor_find(s, &a, 0);
                if (at < 0)
                        continue;
                if (is_blocked)
                        mark_bad(&s->targets[at]);
                else if (str_equal(text_of(item, "state"), "ok"))
                        mark_good(&s->targets[at]);
                beyond |= is_blocked && str_equal(text_of(item, "stage"), "http");
        }
        for (i = 0; i < s->count; i++) {
                if (s->targets[i].fails >= 2)
                        mark_bad(&s->targets[i]);
                bad += s->targets[i].is_bad;
        }
        return beyond || (bad == 0 && str_equal(text_of(service, "state"), "degraded"));
}

static void take_beyond(struct subject *s, bool is_beyond, double now_ms)
{
        s->is_beyond_probes = is_beyond;
        s->recheck_pause_ms =
                s->recheck_pause_ms <= 0 ? PAUSE_MS : fmin(2 * s->recheck_pause_ms, RECHECK_MOST_MS);
        s->recheck_ms = now_ms + s->recheck_pause_ms;
}

/* Every address answers, and only names are not looked up: that is told of DNS. */
static bool is_of_dns_alone(const json_t *service)
{
        const json_t *item;
        size_t i, count = 0;

        json_array_foreach(json_object_get(service, "addresses"), i, item)
        {
                if (str_equal(text_of(item, "state"), "blocked"))
                        return false;
                count += str_equal(text_of(item, "state"), "ok");
        }
        return count > 0 && str_equal(text_of(service, "stage"), "dns");
}

static void take_service(struct monitor *m, struct subject *s, const json_t *report, double now_ms)
{
        const json_t *service = find_by_name(json_object_get(report, "services"), s->service->name);
        const char *state = text_of(service, "state");
        bool is_blocked = str_equal(state, "blocked");

        pause_askers(s, now_ms);
        if (str_equal(state, "ok") || (str_equal(state, "degraded") && is_of_dns_alone(service))) {
                take_service_ok(m, s, now_ms);
        } else if (is_blocked || str_equal(state, "degraded")) {
                take_beyond(s, take_addresses(s, service), now_ms);
                set_cause(s, cause_of_service(report, s->service->name));
                monitor_enter(m, s, is_blocked ? MONITOR_FAILED : MONITOR_DEGRADED, true, now_ms);
        } else {
                take_own_evidence(m, s, report != NULL, now_ms);
        }
        monitor_show(s, now_ms);
}

/* ---- DNS ---- */

/* 1: the server answered for this host over UDP; 0: it did not; -1: it was not asked. What was bound to the
 * WAN's device shows that a route takes the others: no lookup of the node goes that way. */
static int answered(const json_t *report, const struct inet_addr *server, const char *host)
{
        const json_t *m;
        int result = -1;
        size_t i;

        json_array_foreach(json_object_get(report, "measurements"), i, m)
        {
                const json_t *detail = json_object_get(m, "detail");
                struct endpoint e;

                if (!str_equal(text_of(m, "kind"), "dns") || endpoint_parse(text_of(m, "target"), &e) < 0 ||
                        !inet_addr_equal(&e.address, server) ||
                        !str_equal(text_of(detail, "transport"), "udp") ||
                        (host && !str_equal(text_of(detail, "name"), host)) ||
                        json_integer_value(json_object_get(detail, "dns_type")) != 1 ||
                        *text_of(detail, "interface") || str_equal(text_of(m, "outcome"), "not-tested"))
                        continue;
                if (str_equal(text_of(m, "outcome"), "ok"))
                        return 1;
                result = 0;
        }
        return result;
}

static const json_t *cause_of_dns(
        const struct subject *s, const json_t *report, const struct inet_addr *server, bool only_dns)
{
        const json_t *cause;
        size_t i;

        json_array_foreach(json_object_get(report, "causes"), i, cause)
        {
                const json_t *targets = json_object_get(cause, "targets");

                if (only_dns && !str_starts_with(text_of(cause, "code"), "dns."))
                        continue;
                if (server && names_server(targets, server))
                        return cause;
                for (size_t k = 0; !server && k < s->count; k++)
                        if (names_server(targets, &s->targets[k].address))
                                return cause;
        }
        return NULL;
}

static void take_pair(struct monitor *m, struct target *t, const json_t *report)
{
        const char *host = m->o.profile->service_count ? m->o.profile->services[t->service].host : NULL;
        int r = answered(report, &t->address, host);

        if (r > 0 && cause_of_dns(&m->dns, report, &t->address, true))
                r = 0;
        if (r > 0)
                mark_good(t);
        else if (r == 0 || t->fails >= 2)
                mark_bad(t);
}

static void take_dns(struct monitor *m, const json_t *report, double now_ms)
{
        struct subject *s = &m->dns;
        enum monitor_state state;
        const json_t *cause;

        pause_askers(s, now_ms);
        if (!json_array_size(json_object_get(report, "measurements"))) {
                take_own_evidence(m, s, report != NULL, now_ms);
                monitor_show(s, now_ms);
                return;
        }
        for (size_t i = 0; i < s->count; i++)
                take_pair(m, &s->targets[i], report);
        state = monitor_state_of_bad(m, s);
        if (state == MONITOR_OK)
                pause_others(s, now_ms);
        cause = cause_of_dns(s, report, NULL, false);
        if (state != MONITOR_OK)
                set_cause(s, cause);
        if (state != MONITOR_OK || s->state != MONITOR_UNKNOWN)
                monitor_enter(m, s, state, true, now_ms);
        monitor_show(s, now_ms);
}

void monitor_diagnosed(struct monitor *m, const json_t *report, double now_ms)
{
        if (!json_is_object(report))
                report = NULL;
        m->wants_diagnosis = false;
        m->diagnosed_ms = now_ms;
        take_dns(m, report, now_ms);
        for (size_t i = 0; i < m->o.profile->service_count; i++) {
                struct subject *s = &m->services[i];
                enum monitor_state before = s->state;
                double due_ms = s->due_ms;

                take_service(m, s, report, now_ms);
                if (s->state != before)
                        monitor_reschedule(m, s, now_ms);
                if (s->state != MONITOR_OK)
                        s->due_ms = fmin(s->due_ms, due_ms);
        }
        if (m->dns.count > 0)
                monitor_reschedule(m, &m->dns, now_ms);
        monitor_tick(m, now_ms);
}
