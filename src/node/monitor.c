#include "node/monitor_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <math.h>
#include <string.h>

#define INTERVAL_MS     60000.0
#define DNS_INTERVAL_MS 3600000.0
#define SUSPECT_MS      5000.0
#define FAILED_MS       15000.0
#define BYTES_PER_S     1000.0
#define START_MS        3000.0  /* the first probes come within it */
#define DIAGNOSIS_MS    30000.0 /* probes wait so long for a diagnosis that is wanted */
#define OTHERS_AFTER    5       /* intervals: real transfers keep other addresses from their turn no longer */
#define PROBE_BYTES     12000.0 /* a probe of a service, before one was measured: with a long chain */
#define DNS_BYTES       600.0
#define RECHECK_MS      60000.0 /* between diagnoses, when there is reason to look again */

/* Of what may be sent in 600 s, 120 s may come at once and 450 s later: no 600 s see more than
 * bytes_per_second, and 30 s are left for probes that take more than was expected of them. */
#define BURST_S 120.0
#define REFILL  0.75

static const char *const state_words[] = {"unknown", "ok", "suspect", "degraded", "failed"};

const char *monitor_state_to_string(enum monitor_state s)
{
        return state_words[s];
}

/* splitmix64, by Sebastiano Vigna: good enough for moments. */
double monitor_random(struct monitor *m)
{
        uint64_t z = m->random += 0x9e3779b97f4a7c15u;

        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return (double)((z ^ (z >> 31)) >> 11) / 9007199254740992.0;
}

/* ---- making ---- */

static void begin_subject(struct subject *s, double now_ms)
{
        s->told = MONITOR_OK;
        s->since_ms = now_ms;
        s->last_ok_ms = -1;
        s->due_ms = s->hold_until_ms = s->recheck_ms = HUGE_VAL;
        s->last_probe_ms = s->heard_ms = s->last_good_turn_ms = now_ms;
        s->flap_told_ms = -HUGE_VAL;
        for (size_t i = 0; i < MONITOR_FLIPS; i++)
                s->flips[i] = -HUGE_VAL;
}

static void begin_service(struct monitor *m, size_t index, double now_ms)
{
        struct subject *s = &m->services[index];

        s->service = &m->o.profile->services[index];
        s->index = index;
        begin_subject(s, now_ms);
        for (size_t i = 0; i < s->service->address_count; i++) {
                long at = monitor_learn(s, &s->service->addresses[i]);

                if (at >= 0)
                        s->targets[at].is_fixed = true;
        }
        s->due_ms = now_ms + monitor_random(m) * fmin(START_MS, m->o.interval_ms / 10);
}

static void begin_dns(struct monitor *m, double now_ms)
{
        size_t names = m->o.profile->service_count ? m->o.profile->service_count : 1;

        begin_subject(&m->dns, now_ms);
        m->dns.targets = xcalloc(m->o.dns_count * names + 1, sizeof *m->dns.targets);
        for (size_t i = 0; i < m->o.dns_count; i++)
                for (size_t name = 0; name < names; name++)
                        m->dns.targets[m->dns.count++] = (struct target){.address = m->o.dns[i],
                                .service = name,
                                .is_fixed = true,
                                .last_ms = -HUGE_VAL,
                                .last_fail_ms = -HUGE_VAL,
                                .retry_ms = HUGE_VAL,
                                .not_before_ms = -HUGE_VAL};
        if (m->dns.count > 0)
                m->dns.due_ms = now_ms + START_MS * (1 + monitor_random(m));
}

struct monitor *monitor_new(const struct monitor_options *o, double now_ms)
{
        struct monitor *m = xcalloc(1, sizeof *m);
        struct inet_addr *dns = xcalloc(o->dns_count + 1, sizeof *dns);

        m->o = *o;
        if (o->dns_count > 0)
                memcpy(dns, o->dns, o->dns_count * sizeof *dns);
        m->o.dns = dns;
        m->o.interval_ms = o->interval_ms > 0 ? o->interval_ms : INTERVAL_MS;
        m->o.dns_interval_ms = o->dns_interval_ms > 0 ? o->dns_interval_ms : DNS_INTERVAL_MS;
        m->o.suspect_ms = o->suspect_ms > 0 ? o->suspect_ms : SUSPECT_MS;
        m->o.failed_ms = fmin(o->failed_ms > 0 ? o->failed_ms : FAILED_MS, m->o.interval_ms);
        m->o.bytes_per_second = o->bytes_per_second > 0 ? o->bytes_per_second : BYTES_PER_S;
        m->random = o->seed;
        m->phase_ms = now_ms + monitor_random(m) * m->o.interval_ms;
        m->tokens = m->o.bytes_per_second * BURST_S;
        m->tokens_at_ms = now_ms;
        m->probe_bytes = PROBE_BYTES;
        m->diagnosed_ms = -HUGE_VAL;
        m->services = xcalloc(o->profile->service_count + 1, sizeof *m->services);
        for (size_t i = 0; i < o->profile->service_count; i++)
                begin_service(m, i, now_ms);
        begin_dns(m, now_ms);
        return m;
}

static void subject_done(struct subject *s)
{
        free(s->targets);
        free(s->cause);
        free(s->summary);
}

struct monitor *monitor_free(struct monitor *m)
{
        if (!m)
                return NULL;
        for (size_t i = 0; i < m->o.profile->service_count; i++)
                subject_done(&m->services[i]);
        subject_done(&m->dns);
        for (size_t i = 0; i < m->event_count; i++)
                wire_event_done(&m->events[i].event);
        free(m->events);
        free(m->services);
        free((void *)m->o.dns);
        free(m);
        return NULL;
}

/* ---- when ---- */

static bool is_down(const struct subject *s)
{
        return s->state == MONITOR_DEGRADED || s->state == MONITOR_FAILED;
}

/* A random moment in the service's own part of the interval, so that two services are not probed at once. */
static double slot_ms(struct monitor *m, const struct subject *s, double now_ms)
{
        double interval_ms = m->o.interval_ms, part_ms = interval_ms / (double)m->o.profile->service_count;
        double begin_ms = m->phase_ms + (double)s->index * part_ms;
        double turn = ceil((now_ms + interval_ms / 2 - begin_ms) / interval_ms);

        return fmin(begin_ms + turn * interval_ms + 0.3 * part_ms * monitor_random(m),
                fmax(s->heard_ms + 1.3 * interval_ms, now_ms));
}

/* When a server was asked last, whatever for. */
static double server_last_ms(const struct subject *dns, const struct inet_addr *server)
{
        double last_ms = -HUGE_VAL;

        for (size_t i = 0; i < dns->count; i++)
                if (inet_addr_equal(&dns->targets[i].address, server))
                        last_ms = fmax(last_ms, dns->targets[i].last_ms);
        return last_ms;
}

static double dns_due_ms(struct monitor *m, double now_ms)
{
        double due_ms = HUGE_VAL;

        for (size_t i = 0; i < m->o.dns_count; i++)
                due_ms = fmin(due_ms, server_last_ms(&m->dns, &m->o.dns[i]) +
                                              m->o.dns_interval_ms * (0.9 + 0.1 * monitor_random(m)));
        return fmax(due_ms, now_ms + 1000);
}

void monitor_reschedule(struct monitor *m, struct subject *s, double now_ms)
{
        if (is_down(s))
                s->due_ms = now_ms + m->o.failed_ms * (0.8 + 0.4 * monitor_random(m));
        else
                s->due_ms = s->service ? slot_ms(m, s, now_ms) : dns_due_ms(m, now_ms);
}

static void refill(struct monitor *m, double now_ms)
{
        double rate = m->o.bytes_per_second;

        m->tokens = fmin(m->tokens + (now_ms - m->tokens_at_ms) / 1000 * rate * REFILL, rate * BURST_S);
        m->tokens_at_ms = now_ms;
}

/* ---- whose turn it is ---- */

enum which { ALL, GOOD, BAD };

/* Who was asked longest ago; of several never asked any one, so that a fleet does not begin with the same.
 * -1: none. */
static long oldest(struct monitor *m, const struct subject *s, enum which which, long name)
{
        long found = -1;
        unsigned equals = 0;

        for (size_t i = 0; i < s->count; i++) {
                const struct target *t = &s->targets[i];

                if ((name >= 0 && t->service != (size_t)name) || (which == GOOD && t->is_bad) ||
                        (which == BAD && !t->is_bad))
                        continue;
                if (found < 0 || t->last_ms < s->targets[found].last_ms) {
                        found = (long)i;
                        equals = 1;
                } else if (t->last_ms == s->targets[found].last_ms &&
                           monitor_random(m) * (double)++equals < 1) {
                        found = (long)i;
                }
        }
        return found;
}

/* A service that is partly well: what is bad often, since its recovery is waited for, the rest as ever. */
static long turn_of_service(struct monitor *m, struct subject *s, double now_ms)
{
        long at = -1;

        if (s->state != MONITOR_DEGRADED)
                return oldest(m, s, ALL, -1);
        if (now_ms - s->last_good_turn_ms < m->o.interval_ms - m->o.failed_ms / 2)
                at = oldest(m, s, BAD, -1);
        if (at < 0) {
                s->last_good_turn_ms = now_ms;
                at = oldest(m, s, GOOD, -1);
        }
        return at;
}

static long turn_of_dns(struct monitor *m)
{
        const struct inet_addr *server = NULL;
        long at = is_down(&m->dns) ? oldest(m, &m->dns, BAD, -1) : -1;

        if (at >= 0)
                return at;
        for (size_t i = 0; i < m->o.dns_count; i++)
                if (!server || server_last_ms(&m->dns, &m->o.dns[i]) < server_last_ms(&m->dns, server))
                        server = &m->o.dns[i];
        for (size_t i = 0; i < m->dns.count; i++)
                if (inet_addr_equal(&m->dns.targets[i].address, server) &&
                        (at < 0 || m->dns.targets[i].last_ms < m->dns.targets[at].last_ms))
                        at = (long)i;
        return at;
}

static void fill_service(
        struct monitor *m, struct subject *s, long at, double now_ms, struct monitor_probe *ret)
{
        long pair = oldest(m, &m->dns, GOOD, (long)s->index);

        if (pair < 0)
                pair = oldest(m, &m->dns, ALL, (long)s->index);
        *ret = (struct monitor_probe){.kind = MONITOR_SERVICE, .service = s->service->name};
        if (pair >= 0) {
                ret->dns = m->dns.targets[pair].address;
                m->dns.targets[pair].last_ms = now_ms;
        }
        if (at >= 0)
                ret->address = s->targets[at].address;
}

static void fill_dns(struct monitor *m, long at, struct monitor_probe *ret)
{
        const struct target *t = &m->dns.targets[at];

        *ret = (struct monitor_probe){.kind = MONITOR_DNS, .dns = t->address};
        if (t->service < m->o.profile->service_count)
                ret->service = m->o.profile->services[t->service].name;
}

struct choice {
        struct subject *subject;
        long at; /* to be asked again; -1: whose turn it is */
        double due_ms;
};

/* Second attempts before turns; what waits longest first. */
static void consider(
        struct choice *c, struct subject *s, long at, double due_ms, double now_ms, double *next_ms)
{
        if (due_ms > now_ms) {
                *next_ms = fmin(*next_ms, due_ms);
                return;
        }
        if (!c->subject || (at >= 0 && c->at < 0) || ((at >= 0) == (c->at >= 0) && due_ms < c->due_ms))
                *c = (struct choice){s, at, due_ms};
}

static struct choice choose(struct monitor *m, double now_ms, double *next_ms)
{
        struct choice c = {.at = -1};

        for (size_t i = 0; i <= m->o.profile->service_count; i++) {
                struct subject *s = i < m->o.profile->service_count ? &m->services[i] : &m->dns;

                consider(&c, s, -1, s->due_ms, now_ms, next_ms);
                for (size_t k = 0; k < s->count; k++)
                        consider(&c, s, (long)k, s->targets[k].retry_ms, now_ms, next_ms);
        }
        return c;
}

static void start(struct monitor *m, struct choice *c, double now_ms, struct monitor_probe *ret)
{
        struct subject *s = c->subject;
        long at = c->at;

        if (at < 0)
                at = s->service ? turn_of_service(m, s, now_ms) : turn_of_dns(m);
        if (at >= 0) {
                s->targets[at].last_ms = now_ms;
                s->targets[at].retry_ms = HUGE_VAL;
        }
        if (s->service)
                fill_service(m, s, at, now_ms, ret);
        else
                fill_dns(m, at, ret);
        m->is_busy = true;
}

bool monitor_next(struct monitor *m, double now_ms, struct monitor_probe *ret, double *ret_next_ms)
{
        double next_ms = monitor_tick(m, now_ms);
        struct choice c;

        *ret_next_ms = HUGE_VAL;
        if (m->is_busy)
                return false;
        if (m->wants_diagnosis && now_ms < m->wanted_ms + DIAGNOSIS_MS) {
                *ret_next_ms = m->wanted_ms + DIAGNOSIS_MS;
                return false;
        }
        c = choose(m, now_ms, &next_ms);
        refill(m, now_ms);
        if (c.subject) {
                double cost = fmin(
                        c.subject->service ? m->probe_bytes : DNS_BYTES, m->o.bytes_per_second * BURST_S);

                if (m->tokens >= cost) {
                        start(m, &c, now_ms, ret);
                        return true;
                }
                next_ms = now_ms + 1 + (cost - m->tokens) / (m->o.bytes_per_second * REFILL) * 1000;
        }
        *ret_next_ms = fmax(next_ms, now_ms);
        return false;
}

/* ---- what came of it ---- */

static struct subject *find_service(struct monitor *m, const char *name)
{
        for (size_t i = 0; name && i < m->o.profile->service_count; i++)
                if (str_equal(m->services[i].service->name, name))
                        return &m->services[i];
        return NULL;
}

static void spend(
        struct monitor *m, const struct monitor_probe *p, const struct monitor_result *r, double now_ms)
{
        refill(m, now_ms);
        m->tokens -= fmax(r->bytes, 0);
        if (p->kind == MONITOR_SERVICE && r->bytes > 0)
                m->probe_bytes = fmin(fmax(r->bytes, fmax(0.9 * m->probe_bytes, 1000)), 10 * PROBE_BYTES);
}

static uint32_t server_bit(const struct monitor *m, const struct inet_addr *server)
{
        for (size_t i = 0; i < m->o.dns_count && i < 32; i++)
                if (inet_addr_equal(&m->o.dns[i], server))
                        return (uint32_t)1 << i;
        return 0;
}

/* Servers may know different addresses, and answers may name but some of them. */
static void take_addresses(const struct monitor *m, struct subject *s, const struct inet_addr *server,
        const struct monitor_result *r)
{
        uint32_t bit = server_bit(m, server);

        if (!r->dns_ok || r->address_count == 0)
                return;
        for (size_t i = 0; i < s->count; i++) {
                s->targets[i].unseen += s->targets[i].unseen < 1000;
                s->targets[i].named_by &= ~bit;
        }
        for (size_t i = 0; i < r->address_count; i++) {
                long at = monitor_learn(s, &r->addresses[i]);

                if (at < 0)
                        continue;
                s->targets[at].unseen = 0;
                s->targets[at].named_by |= bit;
        }
}

static void take_service(struct monitor *m, struct subject *s, const struct monitor_probe *p,
        const struct monitor_result *r, double now_ms)
{
        const struct inet_addr *address = inet_addr_is_set(&r->address) ? &r->address : &p->address;
        long at;

        take_addresses(m, s, &p->dns, r);
        at = r->service_known ? monitor_learn(s, address) : monitor_find(s, &p->address, 0);
        if (at >= 0 && r->service_known)
                monitor_judge(m, s, (size_t)at, r->service_ok, now_ms);
        else if (at >= 0 && s->targets[at].fails > 0 && !s->targets[at].is_bad)
                s->targets[at].retry_ms = now_ms + m->o.suspect_ms; /* it said nothing: again */
        s->last_probe_ms = s->heard_ms = now_ms;
        monitor_reschedule(m, s, now_ms);
}

void monitor_done(
        struct monitor *m, const struct monitor_probe *p, const struct monitor_result *r, double now_ms)
{
        struct subject *s = find_service(m, p->service);
        long at = inet_addr_is_set(&p->dns) ? monitor_find(&m->dns, &p->dns, s ? s->index : 0) : -1;

        m->is_busy = false;
        spend(m, p, r, now_ms);
        if (at >= 0 && r->dns_known)
                monitor_judge(m, &m->dns, (size_t)at, r->dns_ok, now_ms);
        if (m->dns.count > 0)
                monitor_reschedule(m, &m->dns, now_ms);
        if (s && p->kind == MONITOR_SERVICE)
                take_service(m, s, p, r, now_ms);
        monitor_tick(m, now_ms);
}

void monitor_observed(
        struct monitor *m, const char *service, const struct inet_addr *address, bool ok, double now_ms)
{
        struct subject *s = find_service(m, service);
        long at = s && address ? monitor_learn(s, address) : -1;

        if (at < 0)
                return;
        monitor_judge(m, s, (size_t)at, ok, now_ms);
        if (ok) {
                /* A transfer sees what no probe sees; but the report said otherwise, so it is asked again. */
                if (s->is_beyond_probes && s->targets[at].goods >= 2)
                        s->recheck_ms = fmin(s->recheck_ms, fmax(now_ms, m->diagnosed_ms + RECHECK_MS));
                s->heard_ms = now_ms;
                monitor_reschedule(m, s, now_ms);
                if (s->count > 1)
                        s->due_ms = fmin(s->due_ms, s->last_probe_ms + OTHERS_AFTER * m->o.interval_ms);
        }
        monitor_tick(m, now_ms);
}

void monitor_changed(struct monitor *m, double now_ms)
{
        for (size_t i = 0; i <= m->o.profile->service_count; i++) {
                struct subject *s = i < m->o.profile->service_count ? &m->services[i] : &m->dns;

                for (size_t k = 0; k < s->count; k++)
                        if (s->targets[k].is_bad || s->targets[k].fails > 0)
                                s->targets[k].retry_ms = now_ms;
                if (s->state == MONITOR_FAILED || (s->service && s->state == MONITOR_UNKNOWN))
                        s->due_ms = fmin(s->due_ms, now_ms);
                if (s->is_beyond_probes)
                        s->recheck_ms = fmin(s->recheck_ms, fmax(now_ms, m->diagnosed_ms + RECHECK_MS));
        }
}

bool monitor_wants_diagnosis(const struct monitor *m)
{
        return m->wants_diagnosis;
}

/* ---- across restarts ---- */

json_t *monitor_save(const struct monitor *m)
{
        json_t *services = json_object();

        for (size_t i = 0; i < m->o.profile->service_count; i++)
                json_object_set_new(services, m->services[i].service->name,
                        json_string(monitor_state_to_string(m->services[i].told)));
        return json_pack("{s:o, s:s}", "services", services, "dns", monitor_state_to_string(m->dns.told));
}

static void restore_subject(struct subject *s, const json_t *word)
{
        static const enum monitor_state states[] = {MONITOR_OK, MONITOR_DEGRADED, MONITOR_FAILED};

        for (size_t i = 0; i < ELEMENTS(states); i++)
                if (str_equal(json_string_value(word), monitor_state_to_string(states[i])))
                        s->told = states[i];
}

void monitor_restore(struct monitor *m, const json_t *saved)
{
        const json_t *services = json_object_get(saved, "services");

        for (size_t i = 0; i < m->o.profile->service_count; i++)
                restore_subject(&m->services[i], json_object_get(services, m->services[i].service->name));
        restore_subject(&m->dns, json_object_get(saved, "dns"));
}

/* ---- looking ---- */

void monitor_view_service(const struct monitor *m, size_t index, struct monitor_view *ret)
{
        const struct subject *s = &m->services[index];

        *ret = (struct monitor_view){.service = s->service->name,
                .state = s->shown,
                .since_ms = s->since_ms,
                .last_ok_ms = s->last_ok_ms,
                .cause = s->cause,
                .summary = s->summary,
                .flapping = s->is_flapping};
}

enum monitor_state monitor_view_dns(const struct monitor *m, size_t *ret_failed)
{
        size_t failed = 0;

        for (size_t i = 0; i < m->o.dns_count; i++) {
                bool is_bad = false;

                for (size_t k = 0; k < m->dns.count; k++)
                        is_bad |= m->dns.targets[k].is_bad &&
                                  inet_addr_equal(&m->dns.targets[k].address, &m->o.dns[i]);
                failed += is_bad;
        }
        if (ret_failed)
                *ret_failed = failed;
        /* One server that works is enough. */
        return m->dns.shown == MONITOR_DEGRADED ? MONITOR_OK : m->dns.shown;
}
