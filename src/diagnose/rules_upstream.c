/* Nothing answers beyond the gateway, or beyond a later hop. */
#include "base/alloc.h"
#include "diagnose/rules.h"

static bool says_no_network(const struct measurement *m)
{
        return m->outcome == OUTCOME_REJECTED && m->icmp_type == 3 && m->icmp_code <= 1;
}

static bool counts_for_upstream(const struct measurement *m)
{
        return (m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_DNS) && rules_is_scored(m) &&
               !inet_addr_is_loopback(&m->spec.target.address) && m->spec.purpose != PURPOSE_INTERCEPTION;
}

static bool lies_behind_gateway(const struct facts *f, const struct measurement *m)
{
        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *route = f->list->items[i];

                if (route->spec.kind == MEASUREMENT_ROUTE &&
                        inet_addr_equal(&route->spec.target.address, &m->spec.target.address))
                        return inet_addr_is_set(&route->next_hop) || m->spec.interface[0];
        }
        return false;
}

struct silence {
        size_t endpoints; /* distinct addresses that were silent */
        size_t tcp;       /* of which asked as a service, not as a DNS server */
        bool broken;      /* something answered after all */
        struct inet_addr refuser;
        struct inet_addr seen[8];
};

static void add_silent(struct silence *s, const struct measurement *m)
{
        for (size_t i = 0; i < s->endpoints && i < 8; i++)
                if (inet_addr_equal(&s->seen[i], &m->spec.target.address))
                        return;
        if (s->endpoints < 8)
                s->seen[s->endpoints] = m->spec.target.address;
        s->endpoints++;
}

static void look_for_silence(const struct facts *f, struct silence *ret)
{
        for (size_t i = 0; i < f->list->count && !ret->broken; i++) {
                const struct measurement *m = f->list->items[i];

                /* The probe for interception: the host's own "port unreachable" came back all the way. */
                ret->broken |= m->spec.purpose == PURPOSE_INTERCEPTION && m->outcome == OUTCOME_REJECTED &&
                               inet_addr_equal(&m->by, &m->spec.target.address);
                if (!counts_for_upstream(m) || !lies_behind_gateway(f, m))
                        continue;
                ret->tcp += m->spec.kind == MEASUREMENT_TCP;
                if (says_no_network(m) && !inet_addr_equal(&m->by, &m->spec.target.address)) {
                        ret->broken |=
                                inet_addr_is_set(&ret->refuser) && !inet_addr_equal(&ret->refuser, &m->by);
                        ret->refuser = m->by;
                        add_silent(ret, m);
                } else if (m->outcome == OUTCOME_TIMEOUT && m->left_host != NO && m->reply_seen != YES) {
                        add_silent(ret, m);
                } else {
                        ret->broken = true;
                }
        }
}

/* The trace that went furthest, over all targets. */
static void furthest_trace(const struct facts *f, struct trace_facts *ret)
{
        *ret = (struct trace_facts){0};
        for (size_t i = 0; i < f->list->count; i++) {
                struct trace_facts t;

                if (f->list->items[i]->spec.kind != MEASUREMENT_HOP)
                        continue;
                facts_trace(f, &f->list->items[i]->spec.target, &t);
                if (t.last.hop > ret->last.hop)
                        *ret = t;
        }
}

static bool gateway_lives(const struct facts *f, const struct trace_facts *trace)
{
        static const char *const alive[] = {"reachable", "delay", "probe", "permanent"};

        if (trace->last.known || (f->arp_gateway && f->arp_gateway->outcome == OUTCOME_OK))
                return true;
        for (size_t i = 0; f->neighbour && i < 4; i++)
                if (str_equal(f->neighbour->neighbour_state, alive[i]))
                        return true;
        return false;
}

static void say_upstream(struct rules *r, struct cause *c, const struct silence *silence)
{
        char hop[96], gateway[INET_ADDR_TEXT];

        if (c->by.known) {
                cause_say(c,
                        "There is no way out beyond %s: it answers \"network unreachable\" for every DNS "
                        "server and every control-plane address.",
                        hop_text(&c->by, hop));
                cause_advise(c, "Check the Internet line behind %s.", hop);
        } else if (c->after.known) {
                cause_say(c, "Nothing beyond %s answers: no DNS server, no address, no port (%zu tried).",
                        hop_text(&c->after, hop), silence->endpoints);
                cause_advise(c,
                        "Check the Internet line behind %s, and whether it lets this node out at all.", hop);
        } else {
                inet_addr_format(&r->facts.site->gateway, gateway);
                cause_say(c,
                        "Nothing beyond the gateway %s answers: no DNS server, no address, no port (%zu "
                        "tried).",
                        gateway, silence->endpoints);
                cause_advise(c,
                        "Check the Internet line behind %s, and whether it lets this node out at all.",
                        gateway);
        }
}

static void block_everything(struct facts *f)
{
        for (size_t i = 0; i < f->service_count; i++) {
                f->services[i].dns_impaired = true;
                for (size_t k = 0; k < f->services[i].target_count; k++)
                        if (!f->services[i].targets[k].explained)
                                target_block(&f->services[i].targets[k], STAGE_TCP);
        }
}

/* Where the gateway could not be asked (an ARP probe needs a right), all silence may as well be its own. */
static void leave_open(struct rules *r)
{
        struct facts *f = &r->facts;
        struct cause *c = rules_undetermined(r, NULL, "gateway.unreachable", "upstream.dead");
        char gateway[INET_ADDR_TEXT];
        bool seen_leaving = false;

        r->upstream_dead = true;
        cause_add_all_services(c, r);
        cause_add_evidence(c, f->arp_gateway);
        cause_add_evidence(c, f->neighbour);
        for (size_t i = 0; i < f->list->count; i++)
                if (counts_for_upstream(f->list->items[i])) {
                        seen_leaving |= f->list->items[i]->left_host == YES;
                        cause_add_evidence(c, f->list->items[i]);
                        cause_add_endpoint(c, &f->list->items[i]->spec.target);
                }
        if (!seen_leaving)
                strv_add_unique(&c->candidates, "firewall.local");
        inet_addr_format(&f->site->gateway, gateway);
        cause_say(c,
                "Nothing answers, no DNS server and no control-plane address, and whether the gateway %s is "
                "there could not be seen.",
                gateway);
        cause_advise(c, "Run the diagnosis as root: it then asks the gateway itself, by ARP.");
        block_everything(f);
}

void rules_upstream(struct rules *r)
{
        struct facts *f = &r->facts;
        struct silence silence = {0};
        struct trace_facts trace;
        struct cause *c;

        if (r->out->cause_count && (rules_find(r, CAUSE_LINK_DOWN) || rules_find(r, CAUSE_ADDRESS_MISSING) ||
                                           rules_find(r, CAUSE_GATEWAY_UNREACHABLE)))
                return;
        look_for_silence(f, &silence);
        furthest_trace(f, &trace);
        /* Silent DNS servers alone are silent DNS servers. */
        if (silence.broken || silence.endpoints < 2 || !silence.tcp)
                return;
        if (!gateway_lives(f, &trace)) {
                leave_open(r);
                return;
        }
        r->upstream_dead = true;
        c = rules_add(r, CAUSE_UPSTREAM_DEAD);
        cause_add_all_services(c, r);
        if (inet_addr_is_set(&silence.refuser))
                c->by = (struct hop_name){true, silence.refuser, facts_hop_of(f, &silence.refuser)};
        else
                c->after = trace.last;
        cause_add_evidence(c, f->arp_gateway);
        cause_add_evidence(c, trace.last_row);
        for (size_t i = 0; i < f->list->count; i++)
                if (counts_for_upstream(f->list->items[i])) {
                        cause_add_evidence(c, f->list->items[i]);
                        cause_add_endpoint(c, &f->list->items[i]->spec.target);
                }
        say_upstream(r, c, &silence);
        block_everything(f);
}
