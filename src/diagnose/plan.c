#include "diagnose/plan.h"

#include "base/alloc.h"
#include "diagnose/facts.h"

#include <stdlib.h>
#include <string.h>

/* How long a probe may be silent before more evidence is gathered beside it. */
#define SUSPECT_MS         350.0
#define PATIENCE_MS        1000.0
#define PATIENCE_ALONE_MS  1700.0 /* nothing has answered at all: the path may just be slow */
#define ALONE_AFTER_MS     700.0  /* probes look at their patience when it is over: decide just before */
#define PATIENCE_LOSSY_MS  2600.0
#define HOP_WAVE           4 /* TTLs asked at once: few, since routers limit their ICMP answers */
#define HOP_WAVE_WAIT_MS   90.0
#define HOP_MAX            24
#define HOP_TIME_MS        500.0 /* no further wave is begun after that and some round trips */
#define TRACES_MAX         4     /* targets traced in a run */
#define TRACES_AT_ONCE     2
#define ASK_AGAIN_MAX      4 /* addresses of one service */
#define TLS_AB_MAX         4 /* addresses of one service that get the A/B handshakes */
#define HTTP_ADDRESSES_MAX 4
#define CLAMPED_MSS        536 /* what RFC 879 lets pass everywhere */
#define NEUTRAL_NAME       "www.example.com"

struct planner {
        const struct plan_input *in;
        struct plan_output *out;
        struct facts facts;
        /* Open-addressing set of what is done or under way, so that a large profile stays linear. */
        const struct probe_spec **known;
        size_t known_size;
        double rtt_max_ms;
        bool lossy;
};

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

static const struct probe_spec **slot_of(struct planner *p, const struct probe_spec *s)
{
        size_t i = spec_hash(s) & (p->known_size - 1);

        while (p->known[i] && !probe_spec_equal(p->known[i], s))
                i = (i + 1) & (p->known_size - 1);
        return &p->known[i];
}

static void know_all(struct planner *p)
{
        size_t count = p->in->done->count + p->in->pending_count;

        for (p->known_size = 64; p->known_size < count * 2 + 2;)
                p->known_size *= 2;
        p->known = xcalloc(p->known_size, sizeof *p->known);
        for (size_t i = 0; i < p->in->done->count; i++)
                *slot_of(p, &p->in->done->items[i]->spec) = &p->in->done->items[i]->spec;
        for (size_t i = 0; i < p->in->pending_count; i++)
                *slot_of(p, p->in->pending[i].spec) = p->in->pending[i].spec;
}

/* Whether the spec is new among what was asked for in this call too: few, so a scan will do. */
static bool is_new(struct planner *p, const struct probe_spec *s, size_t first_of_call)
{
        if (*slot_of(p, s))
                return false;
        for (size_t i = first_of_call; i < p->out->count; i++)
                if (probe_spec_equal(&p->out->specs[i], s))
                        return false;
        return true;
}

static void want(struct planner *p, const struct probe_spec *s)
{
        if (!is_new(p, s, p->out->count > 64 ? p->out->count - 64 : 0))
                return;
        if (p->out->count == p->out->allocated) {
                p->out->allocated = p->out->allocated ? p->out->allocated * 2 : 32;
                p->out->specs = xrealloc_array(p->out->specs, p->out->allocated, sizeof *s);
        }
        p->out->specs[p->out->count++] = *s;
}

static const struct plan_pending *pending(const struct planner *p, enum measurement_kind kind,
        enum probe_purpose purpose, const struct endpoint *target)
{
        for (size_t i = 0; i < p->in->pending_count; i++) {
                const struct probe_spec *s = p->in->pending[i].spec;

                if (s->kind == kind && s->purpose == purpose && endpoint_equal(&s->target, target))
                        return &p->in->pending[i];
        }
        return NULL;
}

static bool is_suspect(const struct planner *p, const struct plan_pending *q)
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
                        want(p, &s);
                }
        if (!wan[0])
                return;
        s = local_spec(MEASUREMENT_LINK, wan);
        want(p, &s);
        s = local_spec(MEASUREMENT_ADDRESS, wan);
        want(p, &s);
        if (inet_addr_is_set(&f->site->gateway)) {
                s = local_spec(MEASUREMENT_NEIGHBOUR, wan);
                s.target.address = f->site->gateway;
                want(p, &s);
                s.kind = MEASUREMENT_ARP;
                s.purpose = PURPOSE_GATEWAY;
                if (s.target.address.family == AF_INET)
                        want(p, &s);
        }
        s = local_spec(MEASUREMENT_ARP, wan);
        s.purpose = PURPOSE_CONFLICT;
        if (inet_addr_parse(f->site->source, &s.target.address) == 0 && s.target.address.family == AF_INET)
                want(p, &s);
}

static void plan_route(struct planner *p, const struct endpoint *to, enum probe_transport transport)
{
        struct probe_spec s = {.kind = MEASUREMENT_ROUTE, .target = *to, .transport = transport};

        want(p, &s);
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
        want(p, &s);
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
                        want(p, &s);
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

/* ---- traces ---- */

/* The next TTLs towards a target: a few at once, and on as long as something answers. */
static void plan_trace(struct planner *p, const struct endpoint *to, const char *device)
{
        struct probe_spec s = {.kind = MEASUREMENT_HOP, .target = *to};
        int highest = 0, last_answered = 0, silent_pending = 0;
        double youngest_ms = 1e9, begun_ms = p->in->now_ms;

        if (device)
                str_copy(s.interface, sizeof s.interface, device);
        for (size_t i = 0; i < p->in->done->count; i++) {
                const struct measurement *m = p->in->done->items[i];

                if (m->spec.kind != MEASUREMENT_HOP || !endpoint_equal(&m->spec.target, to))
                        continue;
                if (m->hop_answer != HOP_SILENT && m->hop_answer != HOP_TIME_EXCEEDED)
                        return; /* the end of the way is known */
                if (m->at_ms < begun_ms)
                        begun_ms = m->at_ms;
                if (m->spec.ttl > highest)
                        highest = m->spec.ttl;
                if (m->hop_answer == HOP_TIME_EXCEEDED && m->spec.ttl > last_answered)
                        last_answered = m->spec.ttl;
        }
        for (size_t i = 0; i < p->in->pending_count; i++) {
                const struct plan_pending *q = &p->in->pending[i];

                if (q->spec->kind != MEASUREMENT_HOP || !endpoint_equal(&q->spec->target, to))
                        continue;
                silent_pending++;
                if (q->spec->ttl > highest)
                        highest = q->spec->ttl;
                if (q->age_ms < youngest_ms)
                        youngest_ms = q->age_ms;
        }
        if (silent_pending && youngest_ms < p->rtt_max_ms + HOP_WAVE_WAIT_MS)
                return;
        if (p->in->now_ms - begun_ms > HOP_TIME_MS + p->rtt_max_ms * 6 || highest + HOP_WAVE > HOP_MAX)
                return;
        if (highest - last_answered >= HOP_WAVE && highest > 0)
                return; /* a whole wave without an answer: nothing further forwards, or nothing further tells
                         */
        /* Downwards, so that where a router spends its last ICMP token it spends it on a refusal, not on the
         * time-exceeded of its own hop: then a refusal is not taken for a drop. */
        for (int i = HOP_WAVE; i > 0; i--) {
                s.ttl = (uint8_t)(highest + i);
                want(p, &s);
        }
}

static bool tcp_is_blocked(const struct target *t)
{
        return t->tcp && (t->tcp->outcome == OUTCOME_TIMEOUT || t->tcp->outcome == OUTCOME_REJECTED ||
                                 t->tcp->outcome == OUTCOME_RESET);
}

/* The way of this target wants a trace: blocked or suspiciously silent, and its trace would tell something
 * new. */
static bool wants_trace(const struct planner *p, const struct target *t)
{
        if (t->captured)
                return t->tcp_device && t->tcp_device->outcome == OUTCOME_TIMEOUT;
        if (t->tcp && t->tcp->outcome == OUTCOME_REJECTED)
                /* The refuser is named already; only its distance is asked, and the gateway's is known. */
                return inet_addr_is_set(&t->tcp->by) && !facts_is_own_address(&p->facts, &t->tcp->by) &&
                       !inet_addr_equal(&t->tcp->by, &p->facts.site->gateway);
        return tcp_is_blocked(t) ||
               (!t->tcp && is_suspect(p, pending(p, MEASUREMENT_TCP, PURPOSE_SERVICE, &t->endpoint)));
}

static bool same_fate(const struct target *a, const struct target *b)
{
        enum measurement_outcome x = a->tcp ? a->tcp->outcome : OUTCOME_TIMEOUT;
        enum measurement_outcome y = b->tcp ? b->tcp->outcome : OUTCOME_TIMEOUT;

        return a->range == b->range && a->endpoint.port == b->endpoint.port && x == y &&
               (x != OUTCOME_REJECTED || inet_addr_equal(&a->tcp->by, &b->tcp->by));
}

static bool any_hop_done(const struct planner *p)
{
        for (size_t i = 0; i < p->in->done->count; i++)
                if (p->in->done->items[i]->spec.kind == MEASUREMENT_HOP &&
                        p->in->done->items[i]->outcome == OUTCOME_TIMEOUT)
                        return true;
        return false;
}

/* One trace for each group of targets with the same range, port and fate. */
static void plan_traces(struct planner *p)
{
        struct facts *f = &p->facts;
        const struct target *traced[TRACES_MAX];
        /* Where nothing at all answers, one way tells as much as four. And a gateway has few ICMP errors to
         * spend: the later groups wait until the first ones are through. */
        size_t count = 0, most = p->rtt_max_ms == 0 ? 1 : any_hop_done(p) ? TRACES_MAX : TRACES_AT_ONCE;

        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++) {
                        const struct target *t = &f->services[i].targets[k];
                        bool known = false;

                        if (count == most || !wants_trace(p, t))
                                continue;
                        for (size_t n = 0; n < count; n++)
                                known |= same_fate(t, traced[n]);
                        if (known)
                                continue;
                        traced[count++] = t;
                        plan_trace(p, &t->endpoint, t->captured ? facts_wan(f) : NULL);
                }
        /* Without any address to test, the servers' own way is all there is to look at. */
        for (size_t i = 0; !count && i < f->server_count; i++) {
                struct endpoint to = f->servers[i].endpoint;
                const struct plan_pending *q = pending(p, MEASUREMENT_DNS, PURPOSE_SERVICE, &to);

                if (f->rtt_max_ms > 0 || (f->servers[i].tcp != TRANSPORT_DEAD && !is_suspect(p, q)))
                        continue;
                plan_trace(p, &to, NULL);
                break;
        }
}

/* ---- TCP ---- */

static struct probe_spec target_spec(
        const struct target *t, enum measurement_kind kind, enum probe_purpose purpose)
{
        struct probe_spec s = {.kind = kind, .purpose = purpose, .target = t->endpoint};

        s.tls = t->service->config->spec.tls;
        return s;
}

static struct probe_spec named_spec(
        const struct target *t, enum measurement_kind kind, enum probe_purpose purpose)
{
        struct probe_spec s = target_spec(t, kind, purpose);

        str_copy(s.service, sizeof s.service, t->service->name);
        str_copy(s.name, sizeof s.name, t->service->host);
        return s;
}

/* Where the host itself answers is one more proof of who sent the RST. */
static void plan_sibling_trace(struct planner *p, const struct target *t)
{
        for (size_t i = 0; i < p->in->done->count; i++) {
                const struct measurement *m = p->in->done->items[i];

                if (m->spec.kind == MEASUREMENT_TCP && m->outcome == OUTCOME_OK && !m->spec.interface[0] &&
                        m->reply_ttl && inet_addr_equal(&m->spec.target.address, &t->endpoint.address)) {
                        plan_trace(p, &m->spec.target, NULL);
                        return;
                }
        }
}

/* An RST may be the host's own. Another port of the same host, and what the others of its range answer, tell.
 */
static void plan_siblings(struct planner *p, const struct target *t)
{
        const struct facts *f = &p->facts;

        for (size_t i = 0; i < f->service_count; i++) {
                struct probe_spec s = target_spec(t, MEASUREMENT_TCP, PURPOSE_SIBLING);

                s.target.port = f->services[i].config->spec.target.port;
                s.tls = SERVICE_TLS_NONE;
                if (s.target.port != t->endpoint.port && !facts_target(&p->facts, &s.target, ""))
                        want(p, &s);
        }
}

/* One trace of a sibling for each range is enough, and spares the routers' ICMP. */
static bool range_has_reset_before(const struct target *t)
{
        for (const struct target *o = t->service->targets; o < t; o++)
                if (o->range == t->range && o->tcp && o->tcp->outcome == OUTCOME_RESET)
                        return true;
        return false;
}

static void plan_tcp(struct planner *p, const struct target *t)
{
        struct probe_spec s = target_spec(t, MEASUREMENT_TCP, PURPOSE_SERVICE);

        plan_route(p, &t->endpoint, TRANSPORT_TCP);
        want(p, &s);
        if (t->captured) {
                s.purpose = PURPOSE_DEVICE;
                str_copy(s.interface, sizeof s.interface, facts_wan(&p->facts));
                want(p, &s);
        }
        if (t->tcp && t->tcp->outcome == OUTCOME_RESET) {
                plan_siblings(p, t);
                if (!range_has_reset_before(t))
                        plan_sibling_trace(p, t);
        }
}

/* A router limits its ICMP errors, so silence beside refusals, and silence of the whole way with its gateway,
 * is asked again once its bucket has a token: by then a refusal would have come. */
static bool deserves_asking_again(const struct planner *p, const struct target *t, bool rejected)
{
        struct trace_facts trace;

        if (!t->tcp || t->tcp->outcome != OUTCOME_TIMEOUT || p->rtt_max_ms == 0)
                return false;
        facts_trace(&p->facts, &t->endpoint, &trace);
        return rejected || (trace.traced && !trace.last.known && !trace.answer_ttl);
}

static void plan_ask_again(struct planner *p, const struct service *s)
{
        bool rejected = false;

        for (size_t k = 0; k < s->target_count; k++)
                rejected |= s->targets[k].tcp && s->targets[k].tcp->outcome == OUTCOME_REJECTED;
        for (size_t k = 0; k < s->target_count && k < ASK_AGAIN_MAX; k++) {
                struct probe_spec again = target_spec(&s->targets[k], MEASUREMENT_TCP, PURPOSE_REPEAT);

                again.tls = SERVICE_TLS_NONE;
                if (!deserves_asking_again(p, &s->targets[k], rejected))
                        continue;
                want(p, &again);
                for (uint8_t ttl = HOP_WAVE - 1; ttl > 0; ttl--) {
                        struct probe_spec hop = {.kind = MEASUREMENT_HOP,
                                .purpose = PURPOSE_REPEAT,
                                .target = s->targets[k].endpoint,
                                .ttl = ttl};

                        want(p, &hop);
                }
        }
}

/* ---- TLS ---- */

static void plan_handshake(
        struct planner *p, const struct target *t, enum probe_purpose purpose, unsigned attempt)
{
        struct probe_spec s = named_spec(t, MEASUREMENT_TLS, purpose);

        s.attempt = attempt;
        if (purpose == PURPOSE_CLAMP)
                s.mss = CLAMPED_MSS;
        if (purpose == PURPOSE_NO_NAME || purpose == PURPOSE_NEUTRAL_NAME) {
                str_copy(s.verify_name, sizeof s.verify_name, s.name);
                str_copy(s.name, sizeof s.name, purpose == PURPOSE_NO_NAME ? "" : NEUTRAL_NAME);
        }
        want(p, &s);
}

/* Cut or silent: the same again tells loss from a block, the others what it depends on. */
static void plan_tls_ab(struct planner *p, const struct target *t, bool silent)
{
        plan_handshake(p, t, PURPOSE_REPEAT, 1);
        plan_handshake(p, t, PURPOSE_NO_NAME, 0);
        plan_handshake(p, t, PURPOSE_NEUTRAL_NAME, 0);
        if (silent) {
                plan_handshake(p, t, PURPOSE_CLAMP, 0);
                plan_handshake(p, t, PURPOSE_CLAMP, 1);
        }
}

static bool tls_is_cut(const struct measurement *m)
{
        return (m->outcome == OUTCOME_RESET || m->outcome == OUTCOME_CLOSED) && m->stage == STAGE_TLS;
}

static bool only_time_is_wrong(const struct measurement *m)
{
        return m->outcome == OUTCOME_UNTRUSTED && m->chain_trusted == YES && m->chain_name_matches == YES &&
               m->chain_time_valid == NO;
}

static void plan_tls(struct planner *p, const struct target *t, unsigned *ab_count)
{
        struct probe_spec s;
        bool silent;

        if (t->service->config->spec.tls == SERVICE_TLS_NONE || !t->tcp || t->tcp->outcome != OUTCOME_OK)
                return;
        plan_handshake(p, t, PURPOSE_SERVICE, 0);
        silent = t->tls ? t->tls->outcome == OUTCOME_TIMEOUT && t->tls->stage != STAGE_TCP
                        : is_suspect(p, pending(p, MEASUREMENT_TLS, PURPOSE_SERVICE, &t->endpoint));
        if ((silent || (t->tls && tls_is_cut(t->tls))) && (*ab_count)++ < TLS_AB_MAX)
                plan_tls_ab(p, t, silent);
        if (t->tls && only_time_is_wrong(t->tls)) {
                s = named_spec(t, MEASUREMENT_HTTP, PURPOSE_TIME);
                want(p, &s);
        }
        if (t->tls && t->tls->outcome == OUTCOME_NOT_TLS) {
                s = named_spec(t, MEASUREMENT_HTTP, PURPOSE_PORTAL);
                s.target.port = 80;
                s.http_get = true;
                want(p, &s);
        }
}

/* ---- HTTP ---- */

static bool http_failed_by_itself(const struct measurement *m)
{
        return m->http_status >= 400 || (m->outcome != OUTCOME_OK && m->stage == STAGE_HTTP);
}

static void plan_request(struct planner *p, const struct target *t, unsigned attempt)
{
        const struct measurement *c = t->service->config;
        struct probe_spec s = named_spec(t, MEASUREMENT_HTTP, PURPOSE_SERVICE);

        s.attempt = attempt;
        s.http_get = c->spec.path[0] != 0;
        str_copy(s.path, sizeof s.path, c->spec.path);
        want(p, &s);
        if (!c->payload_path)
                return;
        s.purpose = PURPOSE_PAYLOAD;
        s.http_get = true;
        s.expect_bytes = c->spec.expect_bytes;
        str_copy(s.path, sizeof s.path, c->payload_path);
        want(p, &s);
}

static bool payload_failed(const struct planner *p, const struct target *t)
{
        for (size_t i = 0; i < p->in->done->count; i++) {
                const struct measurement *m = p->in->done->items[i];

                if (m->spec.kind == MEASUREMENT_HTTP && m->spec.purpose == PURPOSE_PAYLOAD &&
                        m->spec.attempt == 1 && endpoint_equal(&m->spec.target, &t->endpoint) &&
                        m->outcome != OUTCOME_OK && m->outcome != OUTCOME_NOT_TESTED)
                        return true;
        }
        return false;
}

/* One request a service: to the first address at once, so that its way runs beside the handshakes; to another
 * one when the first is not to be reached or answers badly. */
static void plan_http(struct planner *p, const struct service *s)
{
        unsigned tested = 0;

        for (size_t k = 0; k < s->target_count && tested < HTTP_ADDRESSES_MAX; k++) {
                const struct target *t = &s->targets[k];
                bool reachable = t->tcp && t->tcp->outcome == OUTCOME_OK;

                if (t->tcp && !reachable)
                        continue;
                if (!t->tcp && is_suspect(p, pending(p, MEASUREMENT_TCP, PURPOSE_SERVICE, &t->endpoint)))
                        continue;
                plan_request(p, t, 0);
                if (!t->http || (t->http->outcome == OUTCOME_OK && !http_failed_by_itself(t->http) &&
                                        !payload_failed(p, t)))
                        return;
                if (t->http->stage == STAGE_HTTP && t->http->outcome != OUTCOME_OK)
                        plan_request(p, t, 1); /* once more: loss looks like this too */
                tested++;
        }
}

static bool payload_fell_short(const struct measurement *m)
{
        return m->spec.kind == MEASUREMENT_HTTP && m->spec.purpose == PURPOSE_PAYLOAD &&
               m->spec.attempt == 0 && m->outcome != OUTCOME_OK && m->outcome != OUTCOME_NOT_TESTED &&
               m->stage == STAGE_HTTP;
}

static void plan_payload_repeat(struct planner *p)
{
        for (size_t i = 0; i < p->in->done->count; i++)
                if (payload_fell_short(p->in->done->items[i])) {
                        struct probe_spec s = p->in->done->items[i]->spec;

                        s.attempt = 1;
                        want(p, &s);
                }
}

/* ---- the proxy ---- */

/* The proxy's URL with a literal host: its name is asked of the configured servers. False while unknown. */
static bool proxy_with_literal(struct planner *p, char ret[256])
{
        const char *url = p->facts.site->spec.proxy;
        const char *host = strstr(url, "://");
        char name[254], text[INET_ADDR_TEXT];
        struct inet_addr a;
        size_t length;

        host = host ? host + 3 : url;
        length = *host == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":/");
        if (length >= sizeof name)
                return false;
        memcpy(name, host, length);
        name[length] = 0;
        if (name[0] == '[' || inet_addr_parse(name, &a) == 0) {
                str_copy(ret, 256, url);
                return true;
        }
        for (size_t i = 0; i < p->facts.server_count; i++) {
                struct probe_spec s = {.kind = MEASUREMENT_DNS,
                        .purpose = PURPOSE_PROXY,
                        .target = p->facts.servers[i].endpoint,
                        .transport = TRANSPORT_UDP,
                        .dns_type = 1};

                str_copy(s.name, sizeof s.name, name);
                want(p, &s);
        }
        for (size_t i = 0; i < p->in->done->count; i++) {
                const struct measurement *m = p->in->done->items[i];

                if (m->spec.kind != MEASUREMENT_DNS || m->spec.purpose != PURPOSE_PROXY ||
                        !m->addresses.count || inet_addr_parse(m->addresses.items[0], &a) < 0)
                        continue;
                snprintf(ret, 256, "http://%s%s", inet_addr_format(&a, text), host + length);
                return true;
        }
        return false;
}

static void plan_proxy(struct planner *p, const struct service *s)
{
        char proxy[256];

        if (!p->facts.site || !p->facts.site->spec.proxy[0] || !proxy_with_literal(p, proxy))
                return;
        for (size_t k = 0; k < s->target_count; k++) {
                struct probe_spec spec = named_spec(&s->targets[k], MEASUREMENT_HTTP, PURPOSE_PROXY);

                str_copy(spec.path, sizeof spec.path, s->config->spec.path);
                spec.http_get = spec.path[0] != 0;
                str_copy(spec.proxy, sizeof spec.proxy, proxy);
                want(p, &spec);
                return;
        }
}

/* ---- all of it ---- */

static void plan_services(struct planner *p)
{
        struct facts *f = &p->facts;

        for (size_t i = 0; i < f->service_count; i++) {
                struct service *s = &f->services[i];
                unsigned ab_count = 0;

                for (size_t k = 0; k < s->target_count; k++) {
                        plan_tcp(p, &s->targets[k]);
                        plan_tls(p, &s->targets[k], &ab_count);
                }
                plan_ask_again(p, s);
                plan_http(p, s);
                plan_proxy(p, s);
        }
        plan_payload_repeat(p);
        plan_traces(p);
}

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
                       q->age_ms > p->rtt_max_ms * 2 + 20;
        case MEASUREMENT_HOP:
                return target_answered(p, q->spec);
        case MEASUREMENT_TLS:
                t = facts_target(&p->facts, &q->spec->target, q->spec->service);
                return q->spec->purpose != PURPOSE_SERVICE && t && t->tls && t->tls->outcome == OUTCOME_OK;
        case MEASUREMENT_HTTP:
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
                plan_host(&p);
                plan_dns(&p);
                plan_services(&p);
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
