/* What becomes of a SYN: dropped, rejected, reset, or refused by the control plane itself. */
#include "base/alloc.h"
#include "diagnose/rules.h"

#include <stdio.h>
#include <string.h>

/* ---- one target ---- */

/* By route, unless a captured route made that void: then what the A/B on the WAN device found. */
static struct measurement *effective(const struct target *t)
{
        if (t->captured && !rules_is_scored(t->tcp))
                return t->tcp_device;
        return t->tcp;
}

/* The trace towards it, or else towards one that shares its range, port and fate. */
static void trace_for(const struct rules *r, const struct target *t, struct trace_facts *ret)
{
        facts_trace(&r->facts, &t->endpoint, ret);
        for (size_t k = 0; !ret->traced && k < t->service->target_count; k++) {
                const struct target *o = &t->service->targets[k];
                const struct measurement *x = effective(t), *y = effective(o);

                if (o->range == t->range && x && y && x->outcome == y->outcome)
                        facts_trace(&r->facts, &o->endpoint, ret);
        }
}

static const struct measurement *control_answer(const struct rules *r)
{
        const struct facts *f = &r->facts;

        for (size_t i = 0; i < f->list->count; i++)
                if (f->list->items[i]->spec.kind == MEASUREMENT_TCP &&
                        f->list->items[i]->outcome == OUTCOME_OK)
                        return f->list->items[i];
        for (size_t i = 0; i < f->list->count; i++)
                if (f->list->items[i]->spec.kind == MEASUREMENT_DNS &&
                        f->list->items[i]->outcome == OUTCOME_OK)
                        return f->list->items[i];
        return NULL;
}

static struct cause *find_tcp(struct rules *r, enum cause_code code, uint16_t port,
        const struct hop_name *after, const struct hop_name *by)
{
        char suffix[16];

        snprintf(suffix, sizeof suffix, ":%u", port);
        for (size_t i = 0; i < r->out->cause_count; i++) {
                struct cause *c = &r->out->causes[i];

                if (c->info->code == code && str_ends_with(c->targets.items[0], suffix) &&
                        c->after.known == after->known && c->by.known == by->known &&
                        (!after->known || inet_addr_equal(&c->after.address, &after->address)) &&
                        (!by->known || inet_addr_equal(&c->by.address, &by->address)))
                        return c;
        }
        return NULL;
}

static struct cause *tcp_cause(struct rules *r, enum cause_code code, struct target *t,
        const struct hop_name *after, const struct hop_name *by)
{
        struct cause *c = find_tcp(r, code, t->endpoint.port, after, by);

        if (!c) {
                c = rules_add(r, code);
                c->after = *after;
                c->by = *by;
        }
        cause_add_service(c, t->service);
        cause_add_endpoint(c, &t->endpoint);
        cause_add_evidence(c, effective(t));
        target_block(t, STAGE_TCP);
        return c;
}

static const struct hop_name nobody;

static void add_undetermined(
        struct rules *r, struct target *t, const char *one, const char *other, const char *next)
{
        struct cause *c = rules_undetermined(r, NULL, one, other);
        char *list;

        cause_add_service(c, t->service);
        cause_add_endpoint(c, &t->endpoint);
        cause_add_evidence(c, effective(t));
        list = cause_target_list(c);
        cause_say(c, "%s fails, by %s or %s: the evidence does not separate them.", list, one, other);
        cause_advise(c, "%s", next);
        free(list);
        target_block(t, STAGE_TCP);
}

/* ---- dropped ---- */

/* "the whole range 198.51.100.16/28" when exactly its tested addresses are among the targets. */
static char *range_words(const struct rules *r, const struct cause *c, uint16_t port)
{
        const struct facts *f = &r->facts;
        char text[INET_ADDR_TEXT];

        for (size_t g = 0; g < f->range_count && f->range_count > 1; g++) {
                size_t inside = 0, hit = 0;

                for (size_t i = 0; i < f->service_count; i++)
                        for (size_t k = 0; k < f->services[i].target_count; k++) {
                                const struct target *t = &f->services[i].targets[k];

                                if (t->endpoint.port != port || t->range != (int)g)
                                        continue;
                                inside++;
                                hit += strv_contains(&c->targets, endpoint_format(&t->endpoint, text));
                        }
                if (inside && inside == hit && hit == c->targets.count)
                        return xasprintf(
                                " (every tested address of the range %s)", cidr_format(&f->ranges[g], text));
        }
        return xstrdup("");
}

static void say_dropped(
        struct rules *r, struct cause *c, const struct measurement *m, const struct measurement *control)
{
        char *list = cause_target_list(c), *range = range_words(r, c, m->spec.target.port),
             *jobs = cause_jobs(c, r);
        char target[320] = "", hop[96] = "";

        if (control)
                probe_spec_target_text(&control->spec, target, sizeof target);
        if (c->after.known)
                cause_say(c,
                        "TCP %u to %s%s is dropped silently after %s: %d SYNs, no answer%s%s%s. The drop is "
                        "at that device's exit or at the next one's entry.",
                        m->spec.target.port, list, range, hop_text(&c->after, hop), m->tries,
                        control ? ", while " : "", target, control ? " answers" : "");
        else
                cause_say(c, "TCP %u to %s%s is dropped silently on the way: %d SYNs, no answer%s%s%s.",
                        m->spec.target.port, list, range, m->tries, control ? ", while " : "", target,
                        control ? " answers" : "");
        cause_advise(c, "On the firewall%s%s, allow TCP %u from %s to %s%s%s.",
                c->after.known ? " at or behind " : "", hop, m->spec.target.port,
                m->source[0] ? m->source : "this node", list, jobs[0] ? "; it carries " : "", jobs);
        free(list);
        free(range);
        free(jobs);
}

/* It, or one that shares its range and fate, stayed silent when asked again after the routers' ICMP had
 * recovered. */
static bool was_asked_again(const struct rules *r, const struct target *t)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];
                const struct target *o;

                if (m->spec.kind != MEASUREMENT_TCP || m->spec.purpose != PURPOSE_REPEAT ||
                        m->outcome != OUTCOME_TIMEOUT)
                        continue;
                o = facts_target((struct facts *)&r->facts, &m->spec.target, t->service->name);
                if (o && o->range == t->range)
                        return true;
        }
        return false;
}

/* A drop that was followed further: then this one's last hop may only be the last that had an ICMP error
 * left. */
static bool another_drop_went_further(struct rules *r, const struct trace_facts *trace)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];
                const struct target *o;

                if (m->spec.kind != MEASUREMENT_HOP || m->hop_answer != HOP_TIME_EXCEEDED ||
                        m->spec.ttl <= trace->last.hop)
                        continue;
                o = facts_target(&r->facts, &m->spec.target, "");
                if (o && effective(o) && effective(o)->outcome == OUTCOME_TIMEOUT)
                        return true;
        }
        return false;
}

static void rule_dropped(struct rules *r, struct target *t)
{
        const struct measurement *m = effective(t), *control = control_answer(r);
        struct trace_facts trace;
        struct cause *c;
        bool heard;

        trace_for(r, t, &trace);
        heard = facts_next_hop_speaks(&r->facts, &trace);
        if (m->left_host == UNKNOWN && !trace.last.known) {
                add_undetermined(r, t, "tcp.dropped", "firewall.local",
                        "Run it again as root: with the right to watch packets it sees whether the SYN "
                        "leaves.");
                return;
        }
        if (!was_asked_again(r, t) && !heard) {
                add_undetermined(r, t, "tcp.dropped", "tcp.rejected",
                        "Run it again with a larger --budget: routers limit their ICMP refusals, and the "
                        "next one "
                        "on the way was not heard of.");
                return;
        }
        if (!heard && another_drop_went_further(r, &trace))
                trace.last = nobody;
        c = tcp_cause(r, CAUSE_TCP_DROPPED, t, &trace.last, &nobody);
        cause_add_evidence(c, trace.last_row);
        cause_add_evidence(c, control);
        say_dropped(r, c, m, control);
}

/* ---- rejected ---- */

static const char *icmp_words(int code)
{
        switch (code) {
        case 0:
                return "network unreachable";
        case 1:
                return "host unreachable";
        case 2:
                return "protocol unreachable";
        case 3:
                return "port unreachable";
        case 9:
        case 10:
        case 13:
                return "administratively prohibited";
        default:
                return "destination unreachable";
        }
}

static void say_rejected(struct cause *c, const struct measurement *m, struct rules *r)
{
        char *list = cause_target_list(c), *jobs = cause_jobs(c, r), hop[96];

        cause_say(c, "%s refuses TCP %u to %s: it answers with ICMP \"%s\" (type %d, code %d).",
                hop_text(&c->by, hop), m->spec.target.port, list, icmp_words(m->icmp_code), m->icmp_type,
                m->icmp_code);
        cause_advise(c, "On %s, allow TCP %u from %s to %s%s%s.", hop, m->spec.target.port,
                m->source[0] ? m->source : "this node", list, jobs[0] ? "; it carries " : "", jobs);
        free(list);
        free(jobs);
}

static void rule_service_down(struct rules *r, struct target *t, const char *proof);

static void rule_rejected(struct rules *r, struct target *t, struct measurement *m)
{
        struct hop_name by = {true, m->by, facts_hop_of(&r->facts, &m->by)};
        struct cause *c;

        if (inet_addr_equal(&m->by, &t->endpoint.address)) {
                rule_service_down(r, t, "the host itself answers \"port unreachable\"");
                return;
        }
        c = tcp_cause(r, CAUSE_TCP_REJECTED, t, &nobody, &by);
        cause_add_evidence(c, m);
        say_rejected(c, m, r);
}

/* A device's ICMP refusal of this very target: of its connects, first or repeated, or of a hop's SYN. */
static struct measurement *own_refusal(const struct rules *r, const struct target *t)
{
        const struct facts *f = &r->facts;

        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];
                bool kind = m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_HOP;

                if (kind && m->outcome == OUTCOME_REJECTED && rules_is_scored(m) &&
                        endpoint_equal(&m->spec.target, &t->endpoint) &&
                        !inet_addr_equal(&m->by, &t->endpoint.address) && !facts_is_own_address(f, &m->by))
                        return m;
        }
        return NULL;
}

/* The refusal that a silent target shares: its own when asked again, or that of the service's others. Routers
 * limit their ICMP errors, so silence among refusals is no drop. */
static struct measurement *shared_refusal(const struct rules *r, const struct target *t)
{
        struct measurement *m = own_refusal(r, t);
        struct trace_facts trace;

        facts_trace(&r->facts, &t->endpoint, &trace);
        for (size_t k = 0; !m && k < t->service->target_count; k++) {
                const struct target *o = &t->service->targets[k];
                struct measurement *refusal = own_refusal(r, o);

                /* A time-exceeded of the refuser itself on the same way shows that its ICMP was to be had,
                 * and no refusal came. That of a device before it says nothing of the refuser's allowance. */
                if (refusal && (o->range == t->range || !trace.last.known ||
                                       !inet_addr_equal(&trace.last.address, &refusal->by)))
                        m = refusal;
        }
        return m;
}

/* ---- reset ---- */

static int ttl_initial(int ttl)
{
        return ttl <= 64 ? 64 : ttl <= 128 ? 128 : 255;
}

static int ttl_distance(int ttl)
{
        return ttl_initial(ttl) - ttl;
}

/* A SYN-ACK of the same host on another port; else of another address of its range. */
static const struct measurement *sibling_of(const struct rules *r, const struct target *t)
{
        const struct facts *f = &r->facts;
        const struct measurement *same_range = NULL;

        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *m = f->list->items[i];

                if (m->spec.kind != MEASUREMENT_TCP || m->outcome != OUTCOME_OK || !m->reply_ttl ||
                        m->spec.interface[0])
                        continue;
                if (inet_addr_equal(&m->spec.target.address, &t->endpoint.address))
                        return m;
                if (t->range >= 0 && facts_range_of(f, &m->spec.target.address) == t->range)
                        same_range = m;
        }
        return same_range;
}

static void rule_service_down(struct rules *r, struct target *t, const char *proof)
{
        struct cause *c = tcp_cause(r, CAUSE_SERVICE_DOWN, t, &nobody, &nobody);
        char *list = cause_target_list(c);

        cause_say(c, "The control plane's own host refuses %s: %s.", list, proof);
        cause_advise(c,
                "Nothing at the site has to change. The control plane's operator starts the service on %s.",
                list);
        free(list);
}

static void say_reset(
        struct rules *r, struct cause *c, const struct measurement *m, const struct measurement *sibling)
{
        char *list = cause_target_list(c), *jobs = cause_jobs(c, r);
        char place[128] = "", target[320];
        char gateway[INET_ADDR_TEXT];

        if (ttl_distance(m->reply_ttl) == 0)
                snprintf(place, sizeof place,
                        ", from the site's own segment, where only the gateway %s forwards",
                        inet_addr_format(&r->facts.site->gateway, gateway));
        if (sibling) {
                probe_spec_target_text(&sibling->spec, target, sizeof target);
                cause_say(c,
                        "A device on the way refuses TCP %u to %s with a forged RST%s: the RST comes with "
                        "TTL "
                        "%d, while %s answers with TTL %d.",
                        m->spec.target.port, list, place, m->reply_ttl, target, sibling->reply_ttl);
        } else {
                cause_say(c,
                        "A device on the way refuses TCP %u to %s with a forged RST%s: its TTL is %d, "
                        "as fresh as no host behind a router can send it.",
                        m->spec.target.port, list, place, m->reply_ttl);
        }
        cause_advise(c, "On the site's firewall, allow TCP %u from %s to %s%s%s.", m->spec.target.port,
                m->source[0] ? m->source : "this node", list, jobs[0] ? "; it carries " : "", jobs);
        free(list);
        free(jobs);
}

/* The RST came at a TTL that does not reach the host: it only wears the host's TTL. */
static bool comes_from_nearer(
        const struct rules *r, const struct target *t, const struct measurement *sibling)
{
        struct trace_facts reset, host;

        trace_for(r, t, &reset);
        facts_trace(&r->facts, &sibling->spec.target, &host);
        return reset.answer == HOP_RESET && host.answer == HOP_SYN_ACK && reset.answer_ttl < host.answer_ttl;
}

static void rule_reset(struct rules *r, struct target *t)
{
        const struct measurement *m = effective(t), *sibling = sibling_of(r, t);
        bool routed = t->route && inet_addr_is_set(&t->route->next_hop);
        bool forged = false, own = false;
        char proof[160];
        struct cause *c;

        if (m->reply_ttl && ttl_distance(m->reply_ttl) == 0 && routed)
                forged = true;
        else if (m->reply_ttl && sibling && m->reply_ttl == sibling->reply_ttl)
                own = !comes_from_nearer(r, t, sibling);
        else if (m->reply_ttl && sibling)
                /* Further away than the sibling: then it is the sibling that a proxy answers for. */
                forged = ttl_distance(m->reply_ttl) < ttl_distance(sibling->reply_ttl) ||
                         ttl_initial(m->reply_ttl) != ttl_initial(sibling->reply_ttl);
        if (own) {
                snprintf(proof, sizeof proof,
                        "its RST comes with the same TTL, %d, as its other answers, and nothing listens "
                        "there",
                        m->reply_ttl);
                rule_service_down(r, t, proof);
                cause_add_evidence(rules_find(r, CAUSE_SERVICE_DOWN), sibling);
        } else if (forged) {
                c = tcp_cause(r, CAUSE_TCP_RESET, t, &nobody, &nobody);
                cause_add_evidence(c, sibling);
                say_reset(r, c, m, sibling);
        } else {
                add_undetermined(r, t, "tcp.reset", "service.down",
                        m->reply_ttl ? "Ask the control plane's operator whether the service is up; compare "
                                       "with another site."
                                     : "Run it again as root: the TTL of the RST tells who sent it.");
        }
}

/* ---- a proxy ---- */

static bool all_blocked_at_tcp(const struct service *s)
{
        for (size_t k = 0; k < s->target_count; k++) {
                const struct measurement *m = effective(&s->targets[k]);

                if (!m || m->outcome == OUTCOME_OK || m->outcome == OUTCOME_NOT_TESTED)
                        return false;
        }
        return s->target_count > 0;
}

/* What the configured proxy said when it was asked for the service; NULL when it was not asked. */
static const struct measurement *proxy_row(const struct rules *r, const struct service *s)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];

                if (m->spec.kind == MEASUREMENT_HTTP && m->spec.purpose == PURPOSE_PROXY &&
                        str_equal(m->spec.service, s->name) && rules_is_scored(m))
                        return m;
        }
        return NULL;
}

static struct cause *proxy_cause(
        struct rules *r, enum cause_code code, const struct service *s, const struct measurement *m)
{
        struct cause *c = rules_find(r, code);

        if (!c)
                c = rules_add(r, code);
        cause_add_service(c, s);
        cause_add_evidence(c, m);
        return c;
}

/* Direct ways die and the proxy's passes: one fact, that the site lets only the proxy out. */
static void rule_proxy_passes(struct rules *r, struct service *s, const struct measurement *m)
{
        struct cause *c;

        s->usable_by_proxy = true;
        if (!all_blocked_at_tcp(s))
                return;
        c = proxy_cause(r, CAUSE_HTTP_PROXY_REQUIRED, s, m);
        for (size_t k = 0; k < s->target_count; k++) {
                cause_add_endpoint(c, &s->targets[k].endpoint);
                cause_add_evidence(c, effective(&s->targets[k]));
                target_block(&s->targets[k], STAGE_TCP);
        }
        cause_say(c, "Direct connections are blocked and the proxy %s passes them: only the proxy gets out.",
                r->facts.site->spec.proxy);
        cause_advise(c, "Keep the proxy configured, or allow this node directly on the firewall.");
}

static void rule_proxy_refuses(struct rules *r, const struct service *s, const struct measurement *m)
{
        bool sign_in = m->proxy_status == 407;
        struct cause *c = proxy_cause(r, sign_in ? CAUSE_HTTP_PROXY_REQUIRED : CAUSE_HTTP_FILTERED, s, m);

        strv_add_unique(&c->targets, r->facts.site->spec.proxy);
        if (sign_in) {
                cause_say(c,
                        "Direct connections are blocked, and the proxy %s demands a sign-in (status 407).",
                        r->facts.site->spec.proxy);
                cause_advise(c, "Let the proxy pass this node without a sign-in, or allow it directly on the "
                                "firewall.");
        } else {
                cause_say(c, "The proxy %s refuses to connect to %s (status %d).", r->facts.site->spec.proxy,
                        s->host, m->proxy_status);
                cause_advise(c, "On the proxy, allow CONNECT to %s:%u from this node.", s->host,
                        s->config->spec.target.port);
        }
}

static void rule_proxy(struct rules *r, struct service *s)
{
        const struct measurement *m = proxy_row(r, s);

        if (!m)
                return;
        if (m->outcome == OUTCOME_OK)
                rule_proxy_passes(r, s, m);
        else if ((m->proxy_status == 407 || m->proxy_status == 403) && all_blocked_at_tcp(s))
                rule_proxy_refuses(r, s, m);
}

/* ---- all of it ---- */

static void rule_target(struct rules *r, struct target *t)
{
        struct measurement *m = effective(t), *shared;

        /* A captured route explains what failed by route; what fails on the WAN device is a fault of its own.
         */
        if ((t->explained && (!t->captured || m != t->tcp_device)) || !rules_is_scored(m))
                return;
        switch (m->outcome) {
        case OUTCOME_TIMEOUT:
                shared = shared_refusal(r, t);
                if (shared)
                        rule_rejected(r, t, shared);
                else
                        rule_dropped(r, t);
                break;
        case OUTCOME_REJECTED:
                rule_rejected(r, t, m);
                break;
        case OUTCOME_RESET:
                rule_reset(r, t);
                break;
        default:
                break;
        }
}

void rules_tcp(struct rules *r)
{
        struct facts *f = &r->facts;

        for (size_t i = 0; i < f->service_count; i++) {
                struct service *s = &f->services[i];

                if (s->explained)
                        continue;
                rule_proxy(r, s);
                for (size_t k = 0; !r->upstream_dead && k < s->target_count; k++)
                        rule_target(r, &s->targets[k]);
        }
}
