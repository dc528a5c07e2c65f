/* What the configured DNS servers say, and whether they can be asked at all. */
#include "base/alloc.h"
#include "diagnose/rules.h"

#include <stdio.h>
#include <string.h>

static struct cause *dns_cause(struct rules *r, enum cause_code code, const struct inet_addr *by)
{
        struct cause *c;

        for (size_t i = 0; i < r->out->cause_count; i++) {
                c = &r->out->causes[i];
                if (c->info->code == code &&
                        (by ? c->by.known && inet_addr_equal(&c->by.address, by) : !c->by.known))
                        return c;
        }
        c = rules_add(r, code);
        if (by)
                c->by = (struct hop_name){true, *by, facts_hop_of(&r->facts, by)};
        return c;
}

static void impair_all(struct rules *r)
{
        for (size_t i = 0; i < r->facts.service_count; i++)
                r->facts.services[i].dns_impaired = true;
}

/* ---- can it be asked ---- */

static void say_unreachable(struct cause *c)
{
        char *list = cause_target_list(c), hop[96];

        if (c->by.known) {
                cause_say(c, "The DNS server%s %s cannot be asked: %s refuses UDP and TCP 53 with ICMP.",
                        c->targets.count > 1 ? "s" : "", list, hop_text(&c->by, hop));
                cause_advise(c, "On %s, allow UDP and TCP 53 from this node to %s.", hop, list);
        } else {
                bool many = c->targets.count > 1;

                cause_say(c, "The DNS server%s %s answer%s neither over UDP nor over TCP 53.",
                        many ? "s" : "", list, many ? "" : "s");
                cause_advise(c,
                        many ? "Check that %s are the right DNS servers and are up, and that the firewall "
                               "allows UDP "
                               "and TCP 53 to them."
                             : "Check that %s is the right DNS server and is up, and that the firewall "
                               "allows UDP and "
                               "TCP 53 to it.",
                        list);
        }
        free(list);
}

static void say_blocked(struct cause *c, const char *blocked, const char *works)
{
        char *list = cause_target_list(c), hop[96];

        if (c->by.known)
                cause_say(c, "%s 53 to the DNS server %s is refused by %s, while %s 53 works.", blocked, list,
                        hop_text(&c->by, hop), works);
        else
                cause_say(
                        c, "%s 53 to the DNS server %s is blocked, while %s 53 works.", blocked, list, works);
        cause_advise(c, "Allow %s 53 from this node to %s.", blocked, list);
        free(list);
}

static const struct inet_addr *refuser(enum transport_state state, const struct measurement *row)
{
        return state == TRANSPORT_REJECTED && row && inet_addr_is_set(&row->by) ? &row->by : NULL;
}

static bool is_silent(enum transport_state s)
{
        return s == TRANSPORT_DEAD || s == TRANSPORT_REJECTED;
}

/* An RST whose TTL was never decremented comes from our own segment; a server behind the gateway cannot have
 * sent it. */
static bool rst_is_from_segment(const struct rules *r, const struct server *s)
{
        const struct measurement *m = s->tcp_row, *route = s->route_tcp;

        (void)r;
        return m && m->outcome == OUTCOME_RESET && route && inet_addr_is_set(&route->next_hop) &&
               (m->reply_ttl == 64 || m->reply_ttl == 128 || m->reply_ttl == 255);
}

static void add_reachability(
        struct rules *r, struct server *s, enum cause_code code, const struct inet_addr *by, bool impairs)
{
        struct cause *c = dns_cause(r, code, by);

        cause_add_endpoint(c, &s->endpoint);
        cause_add_evidence(c, s->udp_row);
        cause_add_evidence(c, s->tcp_row);
        cause_add_all_services(c, r);
        if (impairs)
                impair_all(r);
        if (code == CAUSE_DNS_UNREACHABLE)
                say_unreachable(c);
        else if (code == CAUSE_DNS_UDP_BLOCKED)
                say_blocked(c, "UDP", "TCP");
        else
                say_blocked(c, "TCP", "UDP");
}

static void add_refused(struct rules *r, struct server *s, const char *what, bool impairs)
{
        struct cause *c = dns_cause(r, CAUSE_DNS_REFUSED, NULL);
        char *list;

        cause_add_endpoint(c, &s->endpoint);
        cause_add_evidence(c, s->udp_row);
        cause_add_evidence(c, s->tcp_row);
        cause_add_all_services(c, r);
        if (impairs)
                impair_all(r);
        list = cause_target_list(c);
        cause_say(c, "The DNS server %s refuses: %s.", list, what);
        if (inet_addr_is_loopback(&s->endpoint.address)) {
                c->fixed_by = FIXED_BY_NODE;
                cause_advise(c, "Start this host's own resolver, or configure another server than %s.", list);
        } else {
                cause_advise(c,
                        "Start the DNS service on %s, allow this node in its access list, or configure "
                        "another server.",
                        list);
        }
        free(list);
}

static void forget_void(struct server *s)
{
        if (s->udp_row && !rules_is_scored(s->udp_row))
                s->udp = TRANSPORT_UNTESTED;
        if (s->tcp_row && !rules_is_scored(s->tcp_row))
                s->tcp = TRANSPORT_UNTESTED;
}

/* Datagrams came, and none that may be taken for an answer. */
static bool is_answered_by_others(const struct server *s)
{
        return s->udp == TRANSPORT_DEAD && s->udp_row && s->udp_row->outcome == OUTCOME_TIMEOUT &&
               s->udp_row->error_text;
}

static void leave_answerer_open(struct rules *r, const struct server *s)
{
        struct cause *c = rules_undetermined(r, NULL, "dns.intercepted", "dns.server_failure");
        char text[INET_ADDR_TEXT];

        cause_add_endpoint(c, &s->endpoint);
        cause_add_evidence(c, s->udp_row);
        cause_add_all_services(c, r);
        impair_all(r);
        endpoint_format(&s->endpoint, text);
        cause_say(c,
                "UDP queries to the DNS server %s are answered by something that is not it, or not well "
                "(%s).",
                text, s->udp_row->error_text);
        cause_advise(c, "Ask %s from another machine of the site, and look for a DNS redirection on the way.",
                text);
}

/* The answer did not fit, and where to get it whole does not work. */
static bool is_truncated(const struct measurement *m)
{
        return m && m->truncated == YES && m->addresses.count == 0;
}

static void rule_reachability(struct rules *r, struct server *s)
{
        const struct inet_addr *udp_by = refuser(s->udp, s->udp_row), *tcp_by = refuser(s->tcp, s->tcp_row);

        if (is_answered_by_others(s))
                leave_answerer_open(r, s);
        else if (is_silent(s->udp) && is_silent(s->tcp))
                add_reachability(r, s, CAUSE_DNS_UNREACHABLE, udp_by ? udp_by : tcp_by, true);
        else if (s->udp == TRANSPORT_REFUSED && s->tcp != TRANSPORT_ANSWERS)
                add_refused(r, s, "nothing listens on port 53 there", true);
        else if (s->tcp == TRANSPORT_REFUSED && is_silent(s->udp))
                add_refused(r, s, "it resets TCP 53 and is silent on UDP 53", true);
        else if (s->tcp == TRANSPORT_ANSWERS && s->udp == TRANSPORT_REFUSED)
                add_refused(r, s, "nothing listens on UDP port 53 there, TCP works", true);
        else if (s->tcp == TRANSPORT_ANSWERS && is_silent(s->udp))
                add_reachability(r, s, CAUSE_DNS_UDP_BLOCKED, udp_by, true);
        else if (s->udp == TRANSPORT_ANSWERS && is_silent(s->tcp))
                add_reachability(r, s, CAUSE_DNS_TCP_BLOCKED, tcp_by, is_truncated(s->udp_row));
        else if (s->udp == TRANSPORT_ANSWERS && s->tcp == TRANSPORT_REFUSED && rst_is_from_segment(r, s))
                add_reachability(r, s, CAUSE_DNS_TCP_BLOCKED, NULL, false);
        else if (s->udp == TRANSPORT_ANSWERS && s->tcp == TRANSPORT_REFUSED)
                add_refused(r, s, "nothing listens on TCP port 53 there, UDP works", false);
}

/* ---- what it says ---- */

static enum cause_code code_of_rcode(int rcode)
{
        return rcode == 3   ? CAUSE_DNS_NO_SUCH_NAME
               : rcode == 5 ? CAUSE_DNS_REFUSED
                            : CAUSE_DNS_SERVER_FAILURE;
}

/* The first answer outside the ranges, or NULL. */
static const char *wrong_address(const struct facts *f, const struct measurement *m, struct inet_addr *ret)
{
        for (size_t i = 0; i < m->addresses.count; i++)
                if (inet_addr_parse(m->addresses.items[i], ret) == 0 &&
                        (!facts_in_ranges(f, ret) || (f->range_count == 0 && inet_addr_bogon(ret))))
                        return m->addresses.items[i];
        return NULL;
}

static void attach_name(struct rules *r, struct cause *c, const struct measurement *m)
{
        cause_add_endpoint(c, &m->spec.target);
        cause_add_evidence(c, m);
        for (size_t i = 0; i < r->facts.service_count; i++)
                if (str_equal(r->facts.services[i].host, m->spec.name)) {
                        cause_add_service(c, &r->facts.services[i]);
                        r->facts.services[i].dns_impaired = true;
                }
}

static void say_no_name(struct rules *r, const struct measurement *m)
{
        enum cause_code code = m->outcome == OUTCOME_RCODE       ? code_of_rcode(m->rcode)
                               : m->outcome == OUTCOME_MALFORMED ? CAUSE_DNS_SERVER_FAILURE
                                                                 : CAUSE_DNS_NO_SUCH_NAME;
        struct cause *c = dns_cause(r, code, NULL);
        char *list;

        attach_name(r, c, m);
        list = cause_target_list(c);
        if (m->outcome == OUTCOME_NO_DATA) {
                cause_say(c, "The DNS server %s says that %s has no IPv4 address.", list, m->spec.name);
        } else if (m->outcome == OUTCOME_MALFORMED) {
                cause_say(c, "The DNS server %s answers with bytes that are no DNS message.", list);
        } else {
                cause_say(c, "The DNS server %s answers %s when asked for %s.", list,
                        dns_rcode_to_string(m->rcode), m->spec.name);
        }
        switch (code) {
        case CAUSE_DNS_NO_SUCH_NAME:
                cause_advise(c,
                        "On %s, add a forwarder to a public resolver, or a conditional forwarder for %s.",
                        list, m->spec.name);
                break;
        case CAUSE_DNS_REFUSED:
                cause_advise(c, "On %s, allow recursive queries from this node's address.", list);
                break;
        default:
                cause_advise(
                        c, "Check the forwarders of %s and whether DNSSEC validation fails there.", list);
        }
        free(list);
}

static void say_wrong(
        struct rules *r, const struct measurement *m, const char *address, const struct inet_addr *a)
{
        struct cause *c = dns_cause(r, CAUSE_DNS_WRONG_ANSWER, NULL);
        const char *bogon = inet_addr_bogon(a);
        char *list;

        attach_name(r, c, m);
        list = cause_target_list(c);
        cause_say(c, "The DNS server %s gives %s for %s, %s%s%s.", list, address, m->spec.name,
                bogon ? (bogon[0] == 'u' ? "an " : "a ") : "which lies outside the control plane's ranges",
                bogon ? bogon : "", bogon ? " address: a sinkhole, or a name of its own" : "");
        cause_advise(c, "On %s, remove the override or filter entry for %s, or let it forward the name.",
                list, m->spec.name);
        free(list);
}

static bool is_about_a_name(const struct measurement *m)
{
        return m->spec.kind == MEASUREMENT_DNS && m->spec.dns_type == 1 && rules_is_scored(m) &&
               (m->spec.purpose == PURPOSE_SERVICE || m->spec.purpose == PURPOSE_DEVICE);
}

/* UDP and TCP say the same: the first transport that was answered speaks for the server. */
static bool said_before(const struct facts *f, const struct measurement *m)
{
        for (size_t i = 0; i < f->list->count && f->list->items[i] != m; i++) {
                const struct measurement *o = f->list->items[i];

                if (is_about_a_name(o) && endpoint_equal(&o->spec.target, &m->spec.target) &&
                        str_equal(o->spec.name, m->spec.name) && o->outcome == m->outcome &&
                        o->rcode == m->rcode)
                        return true;
        }
        return false;
}

/* A name that one transport resolves well is not missing because the other one was answered badly. */
static bool is_resolved_by(const struct facts *f, const struct measurement *m)
{
        struct inet_addr a;

        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *o = f->list->items[i];

                if (is_about_a_name(o) && o->outcome == OUTCOME_OK && o->addresses.count > 0 &&
                        endpoint_equal(&o->spec.target, &m->spec.target) &&
                        str_equal(o->spec.name, m->spec.name) && !wrong_address(f, o, &a))
                        return true;
        }
        return false;
}

static void rule_answers(struct rules *r)
{
        struct facts *f = &r->facts;

        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];
                struct inet_addr a;
                const char *wrong;

                if (!is_about_a_name(m))
                        continue;
                wrong = m->outcome == OUTCOME_OK ? wrong_address(f, m, &a) : NULL;
                if (wrong)
                        say_wrong(r, m, wrong, &a);
                else if ((m->outcome == OUTCOME_RCODE || m->outcome == OUTCOME_NO_DATA ||
                                 m->outcome == OUTCOME_MALFORMED) &&
                         !said_before(f, m) && !is_resolved_by(f, m))
                        say_no_name(r, m);
        }
}

/* Without a control plane the servers are asked for the root's own, which every one that looks names up
 * knows. A server that knows only its own domain may deny it: that is no fault of its. */
static void rule_root(struct rules *r)
{
        for (size_t i = 0; r->facts.service_count == 0 && i < r->facts.server_count; i++) {
                const struct server *s = &r->facts.servers[i];
                const struct measurement *m = s->udp == TRANSPORT_ANSWERS ? s->udp_row : s->tcp_row;
                struct cause *c;
                char *list;

                if (!rules_is_scored(m) || m->outcome != OUTCOME_RCODE || m->rcode == 3)
                        continue;
                c = dns_cause(r, code_of_rcode(m->rcode), NULL);
                cause_add_endpoint(c, &s->endpoint);
                cause_add_evidence(c, m);
                list = cause_target_list(c);
                cause_say(c, "The DNS server %s answers %s when asked for the root's name servers.", list,
                        dns_rcode_to_string(m->rcode));
                cause_advise(c,
                        m->rcode == 5 ? "On %s, allow recursive queries from this node's address."
                                      : "Check the forwarders of %s, its way out, and whether DNSSEC "
                                        "validation fails there.",
                        list);
                free(list);
        }
}

/* ---- who answers ---- */

static void rule_intercepted(struct rules *r)
{
        struct facts *f = &r->facts;
        struct cause *c = NULL;
        char *list;

        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];

                if (m->spec.kind != MEASUREMENT_DNS || m->spec.purpose != PURPOSE_INTERCEPTION ||
                        m->answered != YES || !rules_is_scored(m))
                        continue;
                if (!c) {
                        c = rules_add(r, CAUSE_DNS_INTERCEPTED);
                        cause_add_all_services(c, r);
                }
                cause_add_endpoint(c, &m->spec.target);
                cause_add_evidence(c, m);
        }
        if (!c)
                return;
        list = cause_target_list(c);
        cause_say(c,
                "Something on the way answers DNS queries in other hosts' names: %s runs no DNS server, and "
                "a query to it was answered.",
                list);
        cause_advise(c, "On the site's firewall, exempt this node from DNS redirection (a NAT rule on port "
                        "53, or a DNS "
                        "filter), so that it reaches the DNS servers it is configured with.");
        free(list);
        /* What the configured servers seem to say may be somebody else's words. */
        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];
                struct inet_addr a;

                if (!is_about_a_name(m) || (m->outcome == OUTCOME_OK && !wrong_address(f, m, &a)) ||
                        !facts_is_answer(f, m))
                        continue;
                cause_add_evidence(c, m);
                rules_void(m, CAUSE_DNS_INTERCEPTED, "the answer may not be the configured server's");
                for (size_t k = 0; k < f->service_count; k++)
                        if (str_equal(f->services[k].host, m->spec.name))
                                f->services[k].dns_impaired = true;
        }
}

static bool share_an_answer(const struct strv *a, const struct strv *b)
{
        for (size_t i = 0; i < a->count; i++)
                if (strv_contains(b, a->items[i]))
                        return true;
        return false;
}

/* Every answer is one of the addresses that the profile lists for that host. */
static bool is_listed(const struct facts *f, const struct measurement *m)
{
        for (size_t i = 0; i < m->addresses.count; i++) {
                bool listed = false;

                for (size_t k = 0; k < f->service_count; k++)
                        listed |= str_equal(f->services[k].host, m->spec.name) &&
                                  strv_contains(&f->services[k].config->addresses, m->addresses.items[i]);
                if (!listed)
                        return false;
        }
        return true;
}

/* Only where nothing says which is right. Several addresses in rotation overlap; disjoint answers disagree.
 */
static void rule_disagree(struct rules *r)
{
        struct facts *f = &r->facts;

        for (size_t i = 0; i < f->list->count; i++)
                for (size_t k = i + 1; f->range_count == 0 && k < f->list->count; k++) {
                        struct measurement *a = f->list->items[i], *b = f->list->items[k];
                        struct cause *c;

                        if (!is_about_a_name(a) || !is_about_a_name(b) || a->outcome != OUTCOME_OK ||
                                b->outcome != OUTCOME_OK || !str_equal(a->spec.name, b->spec.name) ||
                                endpoint_equal(&a->spec.target, &b->spec.target) ||
                                share_an_answer(&a->addresses, &b->addresses) ||
                                (is_listed(f, a) && is_listed(f, b)))
                                continue;
                        c = dns_cause(r, CAUSE_DNS_SERVERS_DISAGREE, NULL);
                        attach_name(r, c, a);
                        attach_name(r, c, b);
                        cause_say(c, "The configured DNS servers give different addresses for %s.",
                                a->spec.name);
                        cause_advise(c,
                                "Compare the servers' answers and correct the one that is wrong or stale.");
                }
}

static bool is_spoken_for(struct rules *r, const struct server *s)
{
        return rules_is_target_of(r, CAUSE_FIREWALL_LOCAL, &s->endpoint) ||
               rules_is_target_of(r, CAUSE_REPLY_DISCARDED, &s->endpoint) ||
               rules_is_target_of(r, CAUSE_ROUTE_MISSING, &s->endpoint);
}

void rules_dns(struct rules *r)
{
        struct facts *f = &r->facts;

        if (rules_find(r, CAUSE_LINK_DOWN) || rules_find(r, CAUSE_ADDRESS_MISSING) ||
                rules_find(r, CAUSE_GATEWAY_UNREACHABLE) || r->upstream_dead)
                return;
        rule_intercepted(r);
        for (size_t i = 0; i < f->server_count; i++) {
                struct server *s = &f->servers[i];
                bool by_device_only = s->captured && s->udp_by_route != TRANSPORT_ANSWERS &&
                                      (s->udp == TRANSPORT_ANSWERS || s->tcp == TRANSPORT_ANSWERS);

                forget_void(s);
                if (!is_spoken_for(r, s) && !by_device_only)
                        rule_reachability(r, s);
        }
        rule_answers(r);
        rule_root(r);
        rule_disagree(r);
}
