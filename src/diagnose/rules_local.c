/* This machine's own firewall, and answers that its kernel throws away. */
#include "base/alloc.h"
#include "diagnose/rules.h"

#include <errno.h>
#include <stdio.h>

enum local_kind { LOCAL_NONE, LOCAL_REFUSES, LOCAL_NEVER_LEFT };

/* A packet that waits for ARP does not leave either: only where the next hop is known to answer is it a rule
 * that holds the packet back. */
static bool next_hop_answers(const struct rules *r, const struct measurement *m)
{
        const struct facts *f = &r->facts;

        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *route = f->list->items[i];

                if (route->spec.kind == MEASUREMENT_ROUTE &&
                        inet_addr_equal(&route->spec.target.address, &m->spec.target.address))
                        return f->arp_gateway && f->arp_gateway->outcome == OUTCOME_OK &&
                               inet_addr_equal(&route->next_hop, &f->arp_gateway->spec.target.address);
        }
        return false;
}

static enum local_kind local_kind(const struct rules *r, const struct measurement *m)
{
        if (m->outcome == OUTCOME_LOCAL_ERROR && (m->error_number == EPERM || m->error_number == EACCES))
                return LOCAL_REFUSES;
        if (m->outcome == OUTCOME_REJECTED && inet_addr_is_set(&m->by) &&
                facts_is_own_address(&r->facts, &m->by) && !inet_addr_equal(&m->by, &m->spec.target.address))
                return LOCAL_REFUSES;
        if (m->outcome == OUTCOME_RESET && str_equal(m->reply_interface, "lo") &&
                !inet_addr_is_loopback(&m->spec.target.address))
                return LOCAL_REFUSES;
        if (m->outcome == OUTCOME_TIMEOUT && m->left_host == NO && next_hop_answers(r, m))
                return LOCAL_NEVER_LEFT;
        return LOCAL_NONE;
}

static bool was_discarded(const struct measurement *m)
{
        /* Over TCP the reply is the SYN-ACK: a connection that then fell silent has taken it. */
        if (m->spec.kind == MEASUREMENT_DNS && m->spec.transport == TRANSPORT_TCP && m->stage == STAGE_DNS)
                return false;
        return m->outcome == OUTCOME_TIMEOUT && m->reply_seen == YES;
}

static const char *proof_of(enum local_kind kind, const struct measurement *m)
{
        if (kind == LOCAL_NEVER_LEFT)
                return "they are sent and never leave the interface";
        if (m->outcome == OUTCOME_REJECTED)
                return "the ICMP refusal comes from this host's own address";
        if (m->outcome == OUTCOME_RESET)
                return "the RST appears on the loopback interface and never on the wire";
        return "the kernel answers \"operation not permitted\"";
}

static struct cause *cause_of_kind(struct rules *r, enum cause_code code)
{
        struct cause *c = rules_find(r, code);

        return c ? c : rules_add(r, code);
}

static void attach_server(struct rules *r, struct cause *c, struct measurement *m)
{
        for (size_t i = 0; i < r->facts.server_count; i++) {
                struct server *s = &r->facts.servers[i];

                if (!endpoint_equal(&s->endpoint, &m->spec.target))
                        continue;
                cause_add_all_services(c, r);
                for (size_t k = 0; k < r->facts.service_count; k++)
                        r->facts.services[k].dns_impaired = true;
        }
}

static void attach_targets(struct rules *r, struct cause *c, const struct measurement *m)
{
        for (size_t i = 0; i < r->facts.service_count; i++)
                for (size_t k = 0; k < r->facts.services[i].target_count; k++) {
                        struct target *t = &r->facts.services[i].targets[k];

                        if (!endpoint_equal(&t->endpoint, &m->spec.target))
                                continue;
                        cause_add_service(c, t->service);
                        target_block(t, STAGE_TCP);
                }
}

static void attach(struct rules *r, struct cause *c, struct measurement *m)
{
        cause_add_endpoint(c, &m->spec.target);
        cause_add_evidence(c, m);
        if (m->spec.kind == MEASUREMENT_DNS)
                attach_server(r, c, m);
        else
                attach_targets(r, c, m);
}

static bool is_judged(const struct measurement *m)
{
        bool kind = m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_DNS;

        return kind && m->spec.purpose == PURPOSE_SERVICE && rules_is_scored(m);
}

static void rule_firewall(struct rules *r)
{
        struct facts *f = &r->facts;
        const struct measurement *first = NULL;
        enum local_kind first_kind = LOCAL_NONE;

        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];
                enum local_kind kind = is_judged(m) ? local_kind(r, m) : LOCAL_NONE;

                if (kind == LOCAL_NONE)
                        continue;
                if (!first) {
                        first = m;
                        first_kind = kind;
                }
                attach(r, cause_of_kind(r, CAUSE_FIREWALL_LOCAL), m);
        }
        if (first) {
                struct cause *c = rules_find(r, CAUSE_FIREWALL_LOCAL);
                char *list = cause_target_list(c);

                cause_say(c, "This machine's own firewall stops packets to %s: %s.", list,
                        proof_of(first_kind, first));
                cause_advise(
                        c, "Look at the output rules of this host (nft list ruleset) and allow %s.", list);
                free(list);
        }
}

static void rule_discarded(struct rules *r)
{
        struct facts *f = &r->facts;
        const struct measurement *first = NULL;
        bool elsewhere;
        struct cause *c;
        char *list;

        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];

                if (!is_judged(m) || !was_discarded(m))
                        continue;
                if (!first)
                        first = m;
                attach(r, cause_of_kind(r, CAUSE_REPLY_DISCARDED), m);
        }
        if (!first)
                return;
        c = rules_find(r, CAUSE_REPLY_DISCARDED);
        list = cause_target_list(c);
        elsewhere = first->reply_interface[0] && !str_equal(first->reply_interface, facts_wan(f));
        c->interface = first->reply_interface[0] ? xstrdup(first->reply_interface) : NULL;
        cause_say(c, "Answers from %s reach %s and this host's kernel throws them away: %s.", list,
                first->reply_interface[0] ? first->reply_interface : "this host",
                elsewhere
                        ? "they come in by another interface than they are expected on (reverse-path filter)"
                        : "an input rule of its own firewall, or strict reverse-path filtering");
        cause_advise(c,
                "Look at the input rules (nft list ruleset) and at net.ipv4.conf.*.rp_filter of this host.");
        free(list);
}

void rules_local(struct rules *r)
{
        rule_firewall(r);
        rule_discarded(r);
}
