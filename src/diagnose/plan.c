#include "diagnose/plan_internal.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* How long a probe may be silent before more evidence is gathered beside it. */
#define SUSPECT_MS        350.0
#define PATIENCE_MS       1000.0
#define PATIENCE_ALONE_MS 1700.0 /* nothing has answered at all: the path may just be slow */
#define ALONE_AFTER_MS    700.0  /* probes look at their patience when it is over: decide just before */
#define PORTAL_WAIT_MS    300.0
#define PATIENCE_LOSSY_MS 2600.0

/* ---- the set of known specs ---- */

static uint32_t mix(uint32_t h, const void *bytes, size_t length)
{
        const uint8_t *p = bytes;

        while (length--)
                h = (h ^ *p++) * 16777619u; /* FNV-1a */
        return h;
}

static uint32_t spec_hash(const struct probe_spec *s)
{
        uint32_t h = 2166136261u;
        const unsigned numbers[] = {
                s->kind, s->purpose, s->attempt, s->target.port, s->ttl, s->mss, s->dns_type, s->transport};

        h = mix(h, numbers, sizeof numbers);
        h = mix(h, s->target.address.bytes, s->target.address.family == AF_INET6 ? 16 : 4);
        return mix(h, s->name, strlen(s->name));
}

/* What is done, then what is under way, then what is asked for in this call. */
static const struct probe_spec *spec_at(const struct planner *p, size_t n)
{
        size_t done = p->in->done->count, pending = p->in->pending_count;

        if (n < done)
                return &p->in->done->items[n]->spec;
        return n < done + pending ? p->in->pending[n - done].spec : &p->out->specs[n - done - pending];
}

static size_t spec_count(const struct planner *p)
{
        return p->in->done->count + p->in->pending_count + p->out->count;
}

/* Where it is, or where it belongs. */
static uint32_t *slot_of(const struct planner *p, const struct probe_spec *s)
{
        size_t i = spec_hash(s) & (p->known_size - 1);

        while (p->known[i] && !probe_spec_equal(spec_at(p, p->known[i] - 1), s))
                i = (i + 1) & (p->known_size - 1);
        return &p->known[i];
}

/* Keeps at least half of the slots empty. */
static void know_all(struct planner *p)
{
        for (p->known_size = 256; p->known_size < spec_count(p) * 4;)
                p->known_size *= 2;
        free(p->known);
        p->known = xcalloc(p->known_size, sizeof *p->known);
        for (size_t n = 0; n < spec_count(p); n++)
                *slot_of(p, spec_at(p, n)) = (uint32_t)n + 1;
}

void plan_want(struct planner *p, const struct probe_spec *s)
{
        uint32_t *slot = slot_of(p, s);

        if (*slot)
                return;
        if (p->out->count == p->out->allocated) {
                p->out->allocated = p->out->allocated ? p->out->allocated * 2 : 32;
                p->out->specs = xrealloc_array(p->out->specs, p->out->allocated, sizeof *s);
        }
        p->out->specs[p->out->count++] = *s;
        *slot = (uint32_t)spec_count(p);
        if (spec_count(p) * 2 > p->known_size)
                know_all(p);
}

const struct plan_pending *plan_find_pending(const struct planner *p, enum measurement_kind kind,
        enum probe_purpose purpose, const struct endpoint *target)
{
        for (size_t i = 0; i < p->in->pending_count; i++) {
                const struct probe_spec *s = p->in->pending[i].spec;

                if (s->kind == kind && s->purpose == purpose && endpoint_equal(&s->target, target))
                        return &p->in->pending[i];
        }
        return NULL;
}

bool plan_is_suspect(const struct planner *p, const struct plan_pending *q)
{
        double limit = p->rtt_max_ms * 2 + 50;

        return q && q->age_ms >= (limit > SUSPECT_MS ? limit : SUSPECT_MS);
}

/* ---- this host and its segment ---- */

static struct probe_spec local_spec(enum measurement_kind kind, const char *interface)
{
        struct probe_spec s = {.kind = kind};

        str_copy(s.interface, sizeof s.interface, interface);
        return s;
}

static void plan_host(struct planner *p)
{
        const struct facts *f = &p->facts;
        const char *wan = facts_wan(f);
        struct probe_spec s;

        for (size_t i = 0; i < f->list->count; i++)
                if (f->list->items[i]->spec.kind == MEASUREMENT_LAN) {
                        s = local_spec(MEASUREMENT_LINK, f->list->items[i]->spec.interface);
                        plan_want(p, &s);
                }
        if (!wan[0])
                return;
        s = local_spec(MEASUREMENT_LINK, wan);
        plan_want(p, &s);
        s = local_spec(MEASUREMENT_ADDRESS, wan);
        plan_want(p, &s);
        if (inet_addr_is_set(&f->site->gateway)) {
                s = local_spec(MEASUREMENT_NEIGHBOUR, wan);
                s.target.address = f->site->gateway;
                plan_want(p, &s);
                s.kind = MEASUREMENT_ARP;
                s.purpose = PURPOSE_GATEWAY;
                if (s.target.address.family == AF_INET)
                        plan_want(p, &s);
        }
        s = local_spec(MEASUREMENT_ARP, wan);
        s.purpose = PURPOSE_CONFLICT;
        if (inet_addr_parse(f->site->source, &s.target.address) == 0 && s.target.address.family == AF_INET)
                plan_want(p, &s);
}

void plan_route(struct planner *p, const struct endpoint *to, enum probe_transport transport)
{
        struct probe_spec s = {.kind = MEASUREMENT_ROUTE, .target = *to, .transport = transport};

        plan_want(p, &s);
}

/* ---- DNS ---- */

static void plan_question(struct planner *p, const struct server *server, const char *name, uint16_t type,
        enum probe_transport transport, const char *device)
{
        struct probe_spec s = {.kind = MEASUREMENT_DNS,
                .purpose = device ? PURPOSE_DEVICE : PURPOSE_SERVICE,
                .target = server->endpoint,
                .transport = transport,
                .dns_type = type};

        str_copy(s.name, sizeof s.name, name);
        if (device)
                str_copy(s.interface, sizeof s.interface, device);
        plan_want(p, &s);
}

static bool host_is_earlier(const struct facts *f, size_t service)
{
        for (size_t i = 0; i < service; i++)
                if (str_equal(f->services[i].host, f->services[service].host))
                        return true;
        return false;
}

static void plan_server(struct planner *p, const struct server *server, const char *device)
{
        const struct facts *f = &p->facts;

        for (enum probe_transport t = TRANSPORT_UDP; t <= TRANSPORT_TCP; t++) {
                if (!f->service_count)
                        plan_question(p, server, ".", 2, t, device);
                for (size_t i = 0; i < f->service_count; i++) {
                        if (host_is_earlier(f, i))
                                continue;
                        plan_question(p, server, f->services[i].host, 1, t, device);
                        if (!device)
                                plan_question(p, server, f->services[i].host, 28, t, NULL);
                }
        }
}

/* A question to control-plane addresses, which run no DNS: one in each of two ranges. */
static void plan_interception(struct planner *p)
{
        const struct facts *f = &p->facts;
        int last_range = -2;
        unsigned asked = 0;

        for (size_t i = 0; i < f->service_count && asked < 2; i++)
                for (size_t k = 0; k < f->services[i].target_count && asked < 2; k++) {
                        const struct target *t = &f->services[i].targets[k];
                        struct probe_spec s = {.kind = MEASUREMENT_DNS,
                                .purpose = PURPOSE_INTERCEPTION,
                                .target = {t->endpoint.address, 53},
                                .transport = TRANSPORT_UDP,
                                .dns_type = 1};

                        if (t->range == last_range && asked)
                                continue;
                        last_range = t->range;
                        str_copy(s.name, sizeof s.name, f->services[0].host);
                        plan_want(p, &s);
                        asked++;
                }
}

static void plan_dns(struct planner *p)
{
        const struct facts *f = &p->facts;

        for (size_t i = 0; i < f->server_count; i++) {
                const struct server *s = &f->servers[i];

                plan_route(p, &s->endpoint, TRANSPORT_UDP);
                plan_route(p, &s->endpoint, TRANSPORT_TCP);
                plan_server(p, s, NULL);
                if (s->captured)
                        plan_server(p, s, facts_wan(f));
        }
        plan_interception(p);
}

/* ---- all of it ---- */

static double patience_ms(const struct planner *p)
{
        double v = PATIENCE_MS, slow = p->rtt_max_ms * 3 + 300;

        if (p->rtt_max_ms == 0 && p->in->now_ms >= ALONE_AFTER_MS)
                v = PATIENCE_ALONE_MS;
        if (p->lossy)
                v = PATIENCE_LOSSY_MS;
        if (slow > v)
                v = slow;
        return v;
}

static bool target_answered(struct planner *p, const struct probe_spec *s)
{
        const struct target *t = facts_target(&p->facts, &s->target, "");

        return t && t->tcp && t->tcp->outcome == OUTCOME_OK;
}

/* What is still under way and could not change any conclusion. */
static bool may_leave(struct planner *p, const struct plan_pending *q)
{
        const struct target *t;

        switch (q->spec->kind) {
        case MEASUREMENT_DNS:
                /* Who answers in another's name is nearer than the other. */
                return q->spec->purpose == PURPOSE_INTERCEPTION && p->rtt_max_ms > 0 &&
                       q->age_ms > p->rtt_max_ms * 1.5 + 20;
        case MEASUREMENT_HOP:
                return target_answered(p, q->spec);
        case MEASUREMENT_TLS:
                t = facts_target(&p->facts, &q->spec->target, q->spec->service);
                return q->spec->purpose != PURPOSE_SERVICE && t && t->tls && t->tls->outcome == OUTCOME_OK;
        case MEASUREMENT_HTTP:
                /* A sign-in page stands at the site, and answers at once. */
                if (q->spec->purpose == PURPOSE_PORTAL)
                        return q->age_ms > PORTAL_WAIT_MS + p->rtt_max_ms;
                t = facts_target(&p->facts, &q->spec->target, q->spec->service);
                return q->spec->purpose == PURPOSE_PROXY && t && t->tls && t->tls->outcome == OUTCOME_OK;
        default:
                return false;
        }
}

void plan_next(const struct plan_input *in, struct plan_output *ret)
{
        struct planner p = {.in = in, .out = ret};

        facts_build(&p.facts, (struct measurement_list *)in->done);
        p.rtt_max_ms = p.facts.rtt_max_ms;
        p.lossy = p.facts.lost > 0;
        if (p.facts.site) {
                know_all(&p);
                /* What takes longest is sent first. */
                plan_host(&p);
                plan_service_all(&p);
                plan_dns(&p);
                free(p.known);
        }
        ret->patience_ms = patience_ms(&p);
        ret->may_stop = ret->count == 0;
        for (size_t i = 0; ret->may_stop && i < in->pending_count; i++)
                ret->may_stop = may_leave(&p, &in->pending[i]);
        facts_done(&p.facts);
}

void plan_output_done(struct plan_output *o)
{
        free(o->specs);
        *o = (struct plan_output){0};
}
