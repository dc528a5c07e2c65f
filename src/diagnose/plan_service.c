/* What is asked of services: connects, handshakes, requests, and the proxy. */
#include "diagnose/plan_internal.h"

#include <stdio.h>
#include <string.h>

#define ASK_AGAIN_MAX      4 /* addresses of one service */
#define TLS_AB_MAX         4 /* addresses of one service that get the A/B handshakes */
#define HTTP_ADDRESSES_MAX 4
#define CLAMPED_MSS        536 /* what RFC 879 lets pass everywhere */
#define NEUTRAL_NAME       "www.example.com"

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
                        plan_way_trace(p, &m->spec.target, NULL, 1);
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
                        plan_want(p, &s);
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
        plan_want(p, &s);
        if (t->captured) {
                s.purpose = PURPOSE_DEVICE;
                str_copy(s.interface, sizeof s.interface, facts_wan(&p->facts));
                plan_want(p, &s);
        }
        if (t->tcp && t->tcp->outcome == OUTCOME_RESET) {
                plan_siblings(p, t);
                if (!range_has_reset_before(t))
                        plan_sibling_trace(p, t);
        }
}

/* With no other endpoint beyond this host, silence of everything is silence of one target, and no more. */
static bool is_alone(const struct planner *p)
{
        size_t count = 0;

        for (size_t i = 0; i < p->facts.service_count; i++)
                count += p->facts.services[i].target_count;
        for (size_t i = 0; i < p->facts.server_count; i++)
                count += !inet_addr_is_loopback(&p->facts.servers[i].endpoint.address);
        return count == 1;
}

/* A router limits its ICMP errors, so silence beside refusals, and silence from a hop that was not heard of
 * by any flow, is asked again once its bucket has a token: by then a refusal would have come. */
static bool deserves_asking_again(const struct planner *p, const struct target *t, bool rejected)
{
        struct trace_facts trace;

        if (!t->tcp || t->tcp->outcome != OUTCOME_TIMEOUT || (p->rtt_max_ms == 0 && !is_alone(p)))
                return false;
        facts_trace(&p->facts, &t->endpoint, &trace);
        return rejected || (trace.traced && !trace.answer_ttl && !facts_next_hop_speaks(&p->facts, &trace));
}

/* Of a connect or of a hop's SYN: where errors are limited, it may be a hop's that got the one token. */
static bool has_refusal(const struct planner *p, const struct target *t)
{
        for (size_t i = 0; i < p->in->done->count; i++) {
                const struct measurement *m = p->in->done->items[i];

                if ((m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_HOP) &&
                        m->outcome == OUTCOME_REJECTED && endpoint_equal(&m->spec.target, &t->endpoint))
                        return true;
        }
        return false;
}

static void plan_ask_again(struct planner *p, const struct service *s)
{
        bool rejected = false;

        for (size_t k = 0; k < s->target_count; k++)
                rejected |= has_refusal(p, &s->targets[k]);
        for (size_t k = 0; k < s->target_count && k < ASK_AGAIN_MAX; k++) {
                struct probe_spec again = target_spec(&s->targets[k], MEASUREMENT_TCP, PURPOSE_REPEAT);

                again.tls = SERVICE_TLS_NONE;
                if (!deserves_asking_again(p, &s->targets[k], rejected))
                        continue;
                plan_want(p, &again);
                /* Beside refusals every ICMP error of the refuser is wanted for this answer alone. */
                for (uint8_t ttl = PLAN_HOP_WAVE - 1; !rejected && ttl > 0; ttl--) {
                        struct probe_spec hop = {.kind = MEASUREMENT_HOP,
                                .purpose = PURPOSE_REPEAT,
                                .target = s->targets[k].endpoint,
                                .ttl = ttl};

                        plan_want(p, &hop);
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
        plan_want(p, &s);
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
        return (m->outcome == OUTCOME_RESET || m->outcome == OUTCOME_CLOSED ||
                       m->outcome == OUTCOME_REJECTED) &&
               m->stage == STAGE_TLS;
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
                        : plan_is_suspect(
                                  p, plan_find_pending(p, MEASUREMENT_TLS, PURPOSE_SERVICE, &t->endpoint));
        if ((silent || (t->tls && tls_is_cut(t->tls))) && (*ab_count)++ < TLS_AB_MAX)
                plan_tls_ab(p, t, silent);
        if (t->tls && only_time_is_wrong(t->tls)) {
                s = named_spec(t, MEASUREMENT_HTTP, PURPOSE_TIME);
                plan_want(p, &s);
        }
}

/* Where a service is not to be had: does a sign-in page answer plain HTTP in its name? Asked of one address.
 */
static void plan_portal(struct planner *p, const struct service *s)
{
        for (size_t k = 0; k < s->target_count; k++) {
                const struct target *t = &s->targets[k];
                bool blocked = t->tcp ? t->tcp->outcome == OUTCOME_TIMEOUT ||
                                                t->tcp->outcome == OUTCOME_RESET ||
                                                t->tcp->outcome == OUTCOME_REJECTED
                                      : plan_is_suspect(p, plan_find_pending(p, MEASUREMENT_TCP,
                                                                   PURPOSE_SERVICE, &t->endpoint));
                bool foreign = t->tls &&
                               (t->tls->outcome == OUTCOME_NOT_TLS ||
                                       (t->tls->outcome == OUTCOME_UNTRUSTED && t->tls->chain_trusted == NO));
                struct probe_spec spec = named_spec(t, MEASUREMENT_HTTP, PURPOSE_PORTAL);

                if (!blocked && !foreign)
                        continue;
                spec.target.port = 80;
                spec.http_get = true;
                plan_want(p, &spec);
                return;
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
        if (c->payload_path) {
                struct probe_spec bulk = s;

                bulk.purpose = PURPOSE_PAYLOAD;
                bulk.http_get = true;
                bulk.expect_bytes = c->spec.expect_bytes;
                str_copy(bulk.path, sizeof bulk.path, c->payload_path);
                plan_want(p, &bulk);
        }
        s.http_get = c->spec.path[0] != 0;
        str_copy(s.path, sizeof s.path, c->spec.path);
        plan_want(p, &s);
}

/* A HEAD answered 400 says nothing of the reason; the page does (nginx: the client's certificate). */
static void plan_reason(struct planner *p, const struct target *t)
{
        struct probe_spec s = t->http->spec;

        if (t->http->http_status != 400 || s.http_get || s.tls != SERVICE_TLS_MUTUAL)
                return;
        s.http_get = true;
        s.attempt = 2;
        plan_want(p, &s);
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
 * one that is known to be reachable when the first is not, or answers badly. */
static void plan_http(struct planner *p, const struct service *s)
{
        unsigned tested = 0;

        for (size_t k = 0; k < s->target_count && tested < HTTP_ADDRESSES_MAX; k++) {
                const struct target *t = &s->targets[k];
                bool reachable = t->tcp && t->tcp->outcome == OUTCOME_OK;

                if (t->tcp && !reachable)
                        continue;
                if (!t->tcp && (k > 0 || plan_is_suspect(p, plan_find_pending(p, MEASUREMENT_TCP,
                                                                    PURPOSE_SERVICE, &t->endpoint))))
                        continue;
                plan_request(p, t, 0);
                if (t->http)
                        plan_reason(p, t);
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
                        plan_want(p, &s);
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
                plan_want(p, &s);
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

/* The proxy is told the name, so that it works where this site's DNS knows nothing of the outside. */
static void plan_proxy(struct planner *p, struct service *s)
{
        const struct target nameless = {.service = s, .endpoint.port = s->config->spec.target.port};
        struct probe_spec spec = named_spec(&nameless, MEASUREMENT_HTTP, PURPOSE_PROXY);

        if (!p->facts.site->spec.proxy[0] || !proxy_with_literal(p, spec.proxy))
                return;
        str_copy(spec.path, sizeof spec.path, s->config->spec.path);
        spec.http_get = spec.path[0] != 0;
        plan_want(p, &spec);
}

/* ---- all of it ---- */

void plan_service_all(struct planner *p)
{
        struct facts *f = &p->facts;

        for (size_t i = 0; i < f->service_count; i++) {
                struct service *s = &f->services[i];
                unsigned ab_count = 0;

                plan_http(p, s); /* first: it takes the most round trips */
                for (size_t k = 0; k < s->target_count; k++) {
                        plan_tcp(p, &s->targets[k]);
                        plan_tls(p, &s->targets[k], &ab_count);
                }
                plan_ask_again(p, s);
                plan_portal(p, s);
                plan_proxy(p, s);
        }
        plan_payload_repeat(p);
        plan_way_all(p);
}
