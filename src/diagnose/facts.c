#include "diagnose/facts.h"

#include "base/alloc.h"

#include <errno.h>
#include <string.h>

static void add_target(struct facts *f, struct service *s, const struct inet_addr *a, bool from_profile)
{
        for (size_t i = 0; i < s->target_count; i++)
                if (inet_addr_equal(&s->targets[i].endpoint.address, a)) {
                        s->targets[i].from_profile |= from_profile;
                        s->targets[i].from_dns |= !from_profile;
                        return;
                }
        /* Whoever answers for a name decides how many addresses it has; how many are probed is decided here.
         */
        if (!from_profile && s->target_count >= FACTS_MAX_TARGETS)
                return;
        s->targets = xrealloc_array(s->targets, s->target_count + 1, sizeof *s->targets);
        s->targets[s->target_count++] = (struct target){
                .endpoint = {.address = *a, .port = s->config->spec.target.port},
                .range = facts_range_of(f, a),
                .from_profile = from_profile,
                .from_dns = !from_profile,
                .state = ADDRESS_NOT_TESTED,
        };
}

static void add_service(struct facts *f, struct measurement *m)
{
        struct inet_addr a;
        struct service *s;

        f->services = xrealloc_array(f->services, f->service_count + 1, sizeof *f->services);
        s = &f->services[f->service_count++];
        *s = (struct service){.config = m, .name = m->spec.service, .host = m->spec.name};
        for (size_t i = 0; i < m->addresses.count; i++)
                if (inet_addr_parse(m->addresses.items[i], &a) == 0)
                        add_target(f, s, &a, true);
}

static void add_servers(struct facts *f)
{
        const struct strv *v = &f->site->servers;

        f->servers = xcalloc(v->count + 1, sizeof *f->servers);
        for (size_t i = 0; i < v->count; i++) {
                struct server *s = &f->servers[f->server_count];

                if (endpoint_parse(v->items[i], &s->endpoint) < 0)
                        continue;
                if (!s->endpoint.port)
                        s->endpoint.port = 53;
                f->server_count++;
        }
}

static void add_ranges(struct facts *f)
{
        const struct strv *v = &f->profile->ranges;

        f->ranges = xcalloc(v->count + 1, sizeof *f->ranges);
        for (size_t i = 0; i < v->count; i++)
                if (cidr_parse(v->items[i], &f->ranges[f->range_count]) == 0)
                        f->range_count++;
}

static void build_config(struct facts *f)
{
        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];

                if (m->spec.kind == MEASUREMENT_PROFILE && !f->profile) {
                        f->profile = m;
                        add_ranges(f);
                } else if (m->spec.kind == MEASUREMENT_SITE && !f->site) {
                        f->site = m;
                        add_servers(f);
                }
        }
        for (size_t i = 0; i < f->list->count; i++)
                if (f->list->items[i]->spec.kind == MEASUREMENT_SERVICE)
                        add_service(f, f->list->items[i]);
}

/* Names that resolve to addresses inside the ranges give targets; others give none: an address learned from a
 * doubtful answer says nothing about TCP, and is nobody we were allowed to talk to. */
static void build_resolved(struct facts *f)
{
        struct inet_addr a;

        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];

                if (m->spec.kind != MEASUREMENT_DNS || m->outcome != OUTCOME_OK || m->spec.dns_type != 1 ||
                        m->spec.purpose == PURPOSE_INTERCEPTION || m->spec.purpose == PURPOSE_PROXY)
                        continue;
                for (size_t k = 0; k < f->service_count; k++) {
                        struct service *s = &f->services[k];

                        if (!str_equal(s->host, m->spec.name))
                                continue;
                        for (size_t n = 0; n < m->addresses.count; n++)
                                if (inet_addr_parse(m->addresses.items[n], &a) == 0 &&
                                        facts_in_ranges(f, &a)) {
                                        add_target(f, s, &a, false);
                                        s->resolved = true;
                                }
                }
        }
        for (size_t k = 0; k < f->service_count; k++)
                for (size_t n = 0; n < f->services[k].target_count; n++)
                        f->services[k].targets[n].service = &f->services[k];
}

static enum transport_state transport_of(const struct measurement *m)
{
        if (m->answered == YES)
                return TRANSPORT_ANSWERS;
        switch (m->outcome) {
        case OUTCOME_OK:
        case OUTCOME_RCODE:
        case OUTCOME_NO_DATA:
        case OUTCOME_MALFORMED:
                return TRANSPORT_ANSWERS;
        case OUTCOME_TIMEOUT:
        case OUTCOME_CLOSED:
                return TRANSPORT_DEAD;
        case OUTCOME_RESET:
                return TRANSPORT_REFUSED;
        case OUTCOME_REJECTED:
                return inet_addr_equal(&m->by, &m->spec.target.address) ? TRANSPORT_REFUSED
                                                                        : TRANSPORT_REJECTED;
        case OUTCOME_LOCAL_ERROR:
                /* On our own segment nobody answered ARP: that is silence of the server. */
                return m->error_number == EHOSTUNREACH ? TRANSPORT_DEAD : TRANSPORT_HOST_ERROR;
        default:
                return TRANSPORT_UNTESTED;
        }
}

/* An answer outweighs any failure; a refusal outweighs silence, since one of several tries may be lost. */
static int weight(enum transport_state t)
{
        static const int weights[] = {[TRANSPORT_UNTESTED] = 0,
                [TRANSPORT_DEAD] = 1,
                [TRANSPORT_HOST_ERROR] = 2,
                [TRANSPORT_REFUSED] = 3,
                [TRANSPORT_REJECTED] = 4,
                [TRANSPORT_ANSWERS] = 5};

        return weights[t];
}

static void note_dns(struct facts *f, struct measurement *m)
{
        for (size_t i = 0; i < f->server_count; i++) {
                struct server *s = &f->servers[i];
                bool tcp = m->spec.transport == TRANSPORT_TCP;
                enum transport_state seen = transport_of(m);
                enum transport_state *by_route = tcp ? &s->tcp_by_route : &s->udp_by_route;
                enum transport_state *state = tcp ? &s->tcp : &s->udp;
                struct measurement **row = tcp ? &s->tcp_row : &s->udp_row;

                if (!endpoint_equal(&s->endpoint, &m->spec.target))
                        continue;
                if (m->spec.purpose == PURPOSE_SERVICE && weight(seen) > weight(*by_route))
                        *by_route = seen;
                /* Among answers, the one with an address says most. */
                if (weight(seen) > weight(*state) ||
                        (weight(seen) == weight(*state) && *row && (*row)->outcome != OUTCOME_OK &&
                                m->outcome == OUTCOME_OK)) {
                        *state = seen;
                        *row = m;
                }
        }
}

static bool leaves_elsewhere(const struct facts *f, const struct measurement *route)
{
        return route && route->outcome == OUTCOME_OK && route->route_interface[0] && facts_wan(f)[0] &&
               !str_equal(route->route_interface, "lo") && !str_equal(route->route_interface, facts_wan(f));
}

static void note_route(struct facts *f, struct measurement *m)
{
        for (size_t i = 0; i < f->server_count; i++) {
                struct server *s = &f->servers[i];

                if (!inet_addr_equal(&s->endpoint.address, &m->spec.target.address) ||
                        s->endpoint.port != m->spec.target.port)
                        continue;
                if (m->spec.transport == TRANSPORT_TCP)
                        s->route_tcp = m;
                else
                        s->route_udp = m;
                s->captured |= leaves_elsewhere(f, m);
        }
        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++) {
                        struct target *t = &f->services[i].targets[k];

                        if (!endpoint_equal(&t->endpoint, &m->spec.target))
                                continue;
                        t->route = m;
                        t->captured = leaves_elsewhere(f, m);
                }
}

static void note_target(struct facts *f, struct measurement *m)
{
        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++) {
                        struct target *t = &f->services[i].targets[k];

                        if (!endpoint_equal(&t->endpoint, &m->spec.target))
                                continue;
                        if (m->spec.kind == MEASUREMENT_TCP && m->spec.purpose == PURPOSE_SERVICE)
                                t->tcp = m;
                        else if (m->spec.kind == MEASUREMENT_TCP && m->spec.purpose == PURPOSE_DEVICE)
                                t->tcp_device = m;
                        else if (m->spec.kind == MEASUREMENT_TLS && m->spec.purpose == PURPOSE_SERVICE &&
                                 str_equal(m->spec.service, t->service->name))
                                t->tls = m;
                        else if (m->spec.kind == MEASUREMENT_HTTP && m->spec.purpose == PURPOSE_SERVICE &&
                                 str_equal(m->spec.service, t->service->name))
                                t->http = m;
                }
}

static void note_quality(struct facts *f, const struct measurement *m)
{
        bool counted = m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_DNS;

        if (!counted || !facts_is_answer(f, m))
                return;
        /* Unanswered tries beside an ICMP refusal are the router's rate limit, not loss. */
        if (m->outcome != OUTCOME_REJECTED) {
                f->answers++;
                f->lost += m->syns_unanswered;
        }
        if (m->rtt_ms > f->rtt_max_ms)
                f->rtt_max_ms = m->rtt_ms;
}

static void note(struct facts *f, struct measurement *m)
{
        switch (m->spec.kind) {
        case MEASUREMENT_LINK:
                if (str_equal(m->spec.interface, facts_wan(f)))
                        f->link = m;
                break;
        case MEASUREMENT_ADDRESS:
                f->address = m;
                break;
        case MEASUREMENT_NEIGHBOUR:
                f->neighbour = m;
                break;
        case MEASUREMENT_ARP:
                if (m->spec.purpose == PURPOSE_CONFLICT)
                        f->arp_conflict = m;
                else
                        f->arp_gateway = m;
                break;
        case MEASUREMENT_CAPTURE:
                f->capture = m;
                break;
        case MEASUREMENT_ROUTE:
                note_route(f, m);
                break;
        case MEASUREMENT_DNS:
                if (m->spec.purpose == PURPOSE_SERVICE || m->spec.purpose == PURPOSE_DEVICE)
                        note_dns(f, m);
                break;
        default:
                note_target(f, m);
        }
        note_quality(f, m);
}

void facts_build(struct facts *ret, struct measurement_list *list)
{
        ret->list = list;
        build_config(ret);
        build_resolved(ret);
        for (size_t i = 0; i < list->count; i++)
                note(ret, list->items[i]);
}

void facts_done(struct facts *f)
{
        for (size_t i = 0; i < f->service_count; i++)
                free(f->services[i].targets);
        free(f->services);
        free(f->servers);
        free(f->ranges);
        *f = (struct facts){0};
}

int facts_range_of(const struct facts *f, const struct inet_addr *a)
{
        for (size_t i = 0; i < f->range_count; i++)
                if (cidr_contains(&f->ranges[i], a))
                        return (int)i;
        return -1;
}

bool facts_in_ranges(const struct facts *f, const struct inet_addr *a)
{
        return f->range_count == 0 || facts_range_of(f, a) >= 0;
}

const char *facts_wan(const struct facts *f)
{
        return f->site ? f->site->spec.interface : "";
}

bool facts_is_own_address(const struct facts *f, const struct inet_addr *a)
{
        char text[INET_ADDR_TEXT];
        size_t length;

        if (inet_addr_is_loopback(a))
                return true;
        inet_addr_format(a, text);
        length = strlen(text);
        for (size_t i = 0; f->address && i < f->address->addresses.count; i++) {
                const char *own = f->address->addresses.items[i];

                if (strncmp(own, text, length) == 0 && (own[length] == '/' || !own[length]))
                        return true;
        }
        for (size_t i = 0; i < f->list->count; i++)
                if (str_equal(f->list->items[i]->source, text))
                        return true;
        return false;
}

struct target *facts_target(struct facts *f, const struct endpoint *e, const char *service)
{
        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++)
                        if (endpoint_equal(&f->services[i].targets[k].endpoint, e) &&
                                (str_is_empty(service) || str_equal(service, f->services[i].name)))
                                return &f->services[i].targets[k];
        return NULL;
}

bool facts_is_answer(const struct facts *f, const struct measurement *m)
{
        switch (m->outcome) {
        case OUTCOME_OK:
        case OUTCOME_RCODE:
        case OUTCOME_NO_DATA:
        case OUTCOME_MALFORMED:
                return true;
        case OUTCOME_RESET:
                return !str_equal(m->reply_interface, "lo");
        case OUTCOME_REJECTED:
                return inet_addr_is_set(&m->by) && !facts_is_own_address(f, &m->by);
        default:
                return false;
        }
}

void facts_trace(const struct facts *f, const struct endpoint *to, struct trace_facts *ret)
{
        *ret = (struct trace_facts){.to = *to};
        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];

                if (m->spec.kind != MEASUREMENT_HOP || !endpoint_equal(&m->spec.target, to))
                        continue;
                ret->traced = true;
                if (m->hop_answer == HOP_TIME_EXCEEDED) {
                        if (m->spec.ttl > ret->last.hop) {
                                ret->last = (struct hop_name){true, m->by, m->spec.ttl};
                                ret->last_row = m;
                        }
                } else if (m->hop_answer != HOP_SILENT &&
                           (!ret->answer_ttl || m->spec.ttl < ret->answer_ttl)) {
                        ret->answer_ttl = m->spec.ttl;
                        ret->answer = m->hop_answer;
                        ret->answer_row = m;
                }
        }
}

/* When the hop with this TTL was first asked on the way to the endpoint; 0 when it was not. */
static double hop_asked_ms(const struct facts *f, const struct endpoint *to, int ttl)
{
        double first_ms = 0;

        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *m = f->list->items[i];

                if (m->spec.kind == MEASUREMENT_HOP && m->spec.ttl == ttl &&
                        endpoint_equal(&m->spec.target, to) && (first_ms == 0 || m->at_ms < first_ms))
                        first_ms = m->at_ms;
        }
        return first_ms;
}

bool facts_next_hop_speaks(const struct facts *f, const struct trace_facts *trace)
{
        int next = trace->last.known ? trace->last.hop + 1 : 1;
        /* Who was asked earlier may have got the last error that there was. */
        double asked_ms = hop_asked_ms(f, &trace->to, next);

        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *m = f->list->items[i];

                if (m->spec.kind == MEASUREMENT_HOP && m->spec.ttl == next && m->syns_unanswered == 0 &&
                        m->at_ms >= asked_ms &&
                        (m->hop_answer == HOP_TIME_EXCEEDED || m->hop_answer == HOP_SYN_ACK) &&
                        !endpoint_equal(&m->spec.target, &trace->to))
                        return true;
        }
        return false;
}

int facts_hop_of(const struct facts *f, const struct inet_addr *device)
{
        int first_refusal = 0;

        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *m = f->list->items[i];

                if (m->spec.kind != MEASUREMENT_HOP || !inet_addr_equal(&m->by, device))
                        continue;
                if (m->hop_answer == HOP_TIME_EXCEEDED)
                        return m->spec.ttl;
                if (m->hop_answer == HOP_UNREACHABLE && (!first_refusal || m->spec.ttl < first_refusal))
                        first_refusal = m->spec.ttl;
        }
        if (f->site && inet_addr_equal(&f->site->gateway, device))
                return 1;
        /* A router refuses what it would forward, so its first refusal comes one TTL beyond its own hop. */
        return first_refusal > 1 ? first_refusal - 1 : 0;
}
