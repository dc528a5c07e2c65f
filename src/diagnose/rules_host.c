/* What is wrong on this host and its segment: link, address, conflict, gateway, routes. */
#include "base/alloc.h"
#include "diagnose/rules.h"

#include <errno.h>
#include <string.h>

static bool is_remote_kind(enum measurement_kind k)
{
        return k == MEASUREMENT_DNS || k == MEASUREMENT_TCP || k == MEASUREMENT_HOP || k == MEASUREMENT_TLS ||
               k == MEASUREMENT_HTTP;
}

/* Nothing beyond this host can be judged: every failure out there is void, every service blocked here. */
static void stand_for_everything(struct rules *r, struct cause *c, enum probe_stage stage, const char *reason)
{
        struct facts *f = &r->facts;

        cause_add_all_services(c, r);
        for (size_t i = 0; i < f->list->count; i++) {
                struct measurement *m = f->list->items[i];

                if (is_remote_kind(m->spec.kind) && m->outcome != OUTCOME_OK)
                        rules_void(m, c->info->code, reason);
        }
        for (size_t i = 0; i < f->service_count; i++) {
                struct service *s = &f->services[i];

                s->blocked_whole = s->explained = true;
                if (s->stage == STAGE_NONE)
                        s->stage = stage;
                for (size_t k = 0; k < s->target_count; k++)
                        if (s->targets[k].state == ADDRESS_NOT_TESTED)
                                target_block(&s->targets[k], stage);
        }
}

static bool rule_link(struct rules *r)
{
        const struct measurement *m = r->facts.link;
        struct cause *c;

        if (!m || (m->outcome != OUTCOME_DOWN && m->outcome != OUTCOME_MISSING))
                return false;
        c = rules_add(r, CAUSE_LINK_DOWN);
        c->interface = xstrdup(m->spec.interface);
        strv_add(&c->targets, m->spec.interface);
        cause_add_evidence(c, m);
        if (m->outcome == OUTCOME_MISSING)
                cause_say(c, "This host has no interface named %s.", m->spec.interface);
        else
                cause_say(c, "The WAN interface %s is %s.", m->spec.interface,
                        m->link_up == NO ? "switched off" : "without a carrier: no cable, or a dead port");
        cause_advise(c,
                m->outcome == OUTCOME_MISSING ? "Name the right interface in the site file, section [wan]."
                : m->link_up == NO            ? "Bring %s up: ip link set %s up."
                                              : "Check the cable and the switch port of %s (%s).",
                m->spec.interface, m->spec.interface);
        stand_for_everything(r, c, STAGE_LINK, "the WAN interface is down");
        return true;
}

static bool rule_address(struct rules *r)
{
        const struct measurement *m = r->facts.address;
        struct cause *c;

        if (!m || (m->outcome != OUTCOME_MISSING && m->source_is_here != NO))
                return false;
        c = rules_add(r, CAUSE_ADDRESS_MISSING);
        c->interface = xstrdup(m->spec.interface);
        strv_add(&c->targets, m->spec.interface);
        cause_add_evidence(c, m);
        if (m->source_is_here == NO && r->facts.site && r->facts.site->source[0])
                cause_say(c, "The source address %s is not on any interface of this host.",
                        r->facts.site->source);
        else if (m->only_link_local == YES)
                cause_say(c, "The WAN interface %s has only a link-local address: DHCP gave none.",
                        m->spec.interface);
        else
                cause_say(c, "The WAN interface %s has no usable IPv4 address.", m->spec.interface);
        cause_advise(c, "Give %s its address: check the DHCP server, or the static address in the site file.",
                m->spec.interface);
        stand_for_everything(r, c, STAGE_LINK, "the WAN has no usable address");
        return true;
}

static void rule_conflict(struct rules *r)
{
        const struct measurement *m = r->facts.arp_conflict;
        struct facts *f = &r->facts;
        char address[INET_ADDR_TEXT];
        struct cause *c;

        if (!m || m->outcome != OUTCOME_OK || !m->mac[0])
                return;
        inet_addr_format(&m->spec.target.address, address);
        c = rules_add(r, CAUSE_ADDRESS_CONFLICT);
        c->interface = xstrdup(m->spec.interface);
        strv_add(&c->targets, address);
        cause_add_evidence(c, m);
        cause_add_all_services(c, r);
        cause_say(c, "Another machine on the segment of %s, with MAC address %s, answers for our address %s.",
                m->spec.interface, m->mac, address);
        cause_advise(c, "Find the machine with MAC address %s and give it, or this node, another address.",
                m->mac);
        /* Its answers and ours go astray by turns: silence proves nothing. */
        for (size_t i = 0; i < f->list->count; i++)
                if (is_remote_kind(f->list->items[i]->spec.kind) &&
                        f->list->items[i]->outcome == OUTCOME_TIMEOUT)
                        rules_void(f->list->items[i], CAUSE_ADDRESS_CONFLICT,
                                "answers may have gone to the other machine with this address");
        for (size_t i = 0; i < f->service_count; i++)
                f->services[i].explained = true;
}

/* Something answered that lies behind the gateway (a hop's time-exceeded counts), or NULL. */
static const struct measurement *answer_from_beyond(struct rules *r)
{
        const struct facts *f = &r->facts;

        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *m = f->list->items[i];

                if (!is_remote_kind(m->spec.kind) || !facts_is_answer(f, m) ||
                        inet_addr_is_loopback(&m->spec.target.address))
                        continue;
                for (size_t k = 0; k < f->list->count; k++) {
                        const struct measurement *route = f->list->items[k];

                        if (route->spec.kind == MEASUREMENT_ROUTE &&
                                inet_addr_equal(&route->spec.target.address, &m->spec.target.address) &&
                                inet_addr_is_set(&route->next_hop) &&
                                (m->spec.interface[0] || str_equal(route->route_interface, facts_wan(f))))
                                return m;
                }
        }
        return NULL;
}

static bool neighbour_failed(const struct measurement *m)
{
        return m && (str_equal(m->neighbour_state, "failed") || str_equal(m->neighbour_state, "incomplete"));
}

static bool rule_gateway(struct rules *r)
{
        struct facts *f = &r->facts;
        const struct measurement *arp = f->arp_gateway;
        bool silent = arp && arp->outcome == OUTCOME_TIMEOUT;
        bool unseen = (!arp || arp->outcome == OUTCOME_NOT_PERMITTED) && neighbour_failed(f->neighbour);
        char address[INET_ADDR_TEXT];
        struct cause *c;

        if ((!silent && !unseen) || answer_from_beyond(r))
                return false;
        inet_addr_format(&f->site->gateway, address);
        c = rules_add(r, CAUSE_GATEWAY_UNREACHABLE);
        c->interface = xstrdup(facts_wan(f));
        strv_add(&c->targets, address);
        cause_add_evidence(c, silent ? arp : f->neighbour);
        if (silent)
                cause_say(c, "The default gateway %s does not answer on %s: %d ARP requests, no reply.",
                        address, facts_wan(f), arp->arp_probes_sent);
        else
                cause_say(c,
                        "The default gateway %s does not answer on %s: the kernel's ARP requests failed.",
                        address, facts_wan(f));
        cause_advise(c,
                "Check that %s is the right gateway address, that the router is up, and that %s is plugged "
                "into "
                "its segment (VLAN, switch port).",
                address, facts_wan(f));
        stand_for_everything(r, c, STAGE_LINK, "the default gateway does not answer");
        return true;
}

/* ---- routes ---- */

/* What the kernel says of routes, as opposed to a shortage of its own or of ours. */
static bool is_word_on_routes(int error_number)
{
        return error_number == ENETDOWN || error_number == ENODEV || error_number == ENETUNREACH ||
               error_number == EHOSTUNREACH || error_number == EAFNOSUPPORT || error_number == EOPNOTSUPP;
}

static bool route_refuses(const struct measurement *m)
{
        static const char *const types[] = {"unreachable", "prohibit", "blackhole", "throw"};

        for (size_t i = 0; m && i < sizeof types / sizeof *types; i++)
                if (str_equal(m->route_type, types[i]))
                        return true;
        return m && (m->outcome == OUTCOME_MISSING ||
                            (m->outcome == OUTCOME_LOCAL_ERROR && is_word_on_routes(m->error_number)));
}

static struct cause *missing_cause_for(struct rules *r, const struct measurement *m)
{
        for (size_t i = 0; i < r->out->cause_count; i++) {
                struct cause *c = &r->out->causes[i];

                if (c->info->code == CAUSE_ROUTE_MISSING && str_equal(c->route, m->route_text))
                        return c;
        }
        return rules_add(r, CAUSE_ROUTE_MISSING);
}

static void say_missing(struct cause *c, const struct measurement *m)
{
        char *list = cause_target_list(c);

        if (m->route_text && m->route_type[0] && !str_equal(m->route_type, "unicast")) {
                cause_say(c, "The kernel's route \"%s\" (%s) refuses what goes to %s.", m->route_text,
                        m->route_type, list);
                cause_advise(c, "Remove the %s route %s, or add a more specific one on the WAN.",
                        m->route_type, m->route_text);
        } else {
                cause_say(c, "This host has no route to %s.", list);
                cause_advise(c,
                        "Add the default route on the WAN: set the gateway in the site file, or check DHCP.");
        }
        free(list);
}

static void add_missing(struct rules *r, const struct measurement *route, const struct endpoint *e)
{
        struct cause *c = missing_cause_for(r, route);

        if (!c->route && route->route_text)
                c->route = xstrdup(route->route_text);
        cause_add_endpoint(c, e);
        cause_add_evidence(c, route);
        say_missing(c, route);
}

static void void_towards(struct rules *r, const struct endpoint *e, enum cause_code code, const char *reason,
        bool by_route_only)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                struct measurement *m = r->facts.list->items[i];

                if (is_remote_kind(m->spec.kind) && endpoint_equal(&m->spec.target, e) &&
                        m->outcome != OUTCOME_OK && !(by_route_only && m->spec.interface[0]))
                        rules_void(m, code, reason);
        }
}

static void rule_missing(struct rules *r)
{
        struct facts *f = &r->facts;

        for (size_t i = 0; i < f->server_count; i++) {
                struct server *s = &f->servers[i];

                if (!route_refuses(s->route_udp) || s->udp == TRANSPORT_ANSWERS)
                        continue;
                add_missing(r, s->route_udp, &s->endpoint);
                void_towards(r, &s->endpoint, CAUSE_ROUTE_MISSING, "there is no route to it", false);
                for (size_t k = 0; k < f->service_count; k++) {
                        f->services[k].dns_impaired = true;
                        cause_add_service(rules_find(r, CAUSE_ROUTE_MISSING), &f->services[k]);
                }
        }
        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++) {
                        struct target *t = &f->services[i].targets[k];

                        if (!route_refuses(t->route) || (t->tcp && t->tcp->outcome == OUTCOME_OK))
                                continue;
                        add_missing(r, t->route, &t->endpoint);
                        cause_add_service(missing_cause_for(r, t->route), t->service);
                        void_towards(r, &t->endpoint, CAUSE_ROUTE_MISSING, "there is no route to it", false);
                        target_block(t, STAGE_ROUTE);
                }
}

/* The site file's own route, as it is written there: "10.30.0.0/16 via 10.20.0.1". */
static enum yesno is_configured(const struct rules *r, const struct measurement *route)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];

                if (m->spec.kind == MEASUREMENT_LAN && str_equal(m->spec.interface, route->route_interface) &&
                        strv_contains(&m->configured_routes, route->route_text))
                        return YES;
        }
        return NO;
}

static struct cause *captured_cause_for(struct rules *r, const struct measurement *route)
{
        struct cause *c;

        for (size_t i = 0; i < r->out->cause_count; i++) {
                c = &r->out->causes[i];
                if (c->info->code == CAUSE_ROUTE_CAPTURED && str_equal(c->route, route->route_text) &&
                        str_equal(c->interface, route->route_interface))
                        return c;
        }
        c = rules_add(r, CAUSE_ROUTE_CAPTURED);
        c->route = xstrdup(route->route_text ? route->route_text : route->route_prefix);
        c->interface = xstrdup(route->route_interface);
        c->configured = is_configured(r, route);
        return c;
}

static void say_captured(struct cause *c, const struct measurement *route, const char *wan, bool fails)
{
        char *list = cause_target_list(c);

        cause_say(c, "The route %s on %s%s carries what is meant for the WAN %s (%s)%s.", c->route,
                c->interface, c->configured == YES ? " (from the site file)" : "", wan, list,
                fails ? ", and it does not arrive" : "; it works today, by the wrong way");
        if (route->rule_text)
                cause_advise(c, "Change the policy rule \"%s\" so that %s leaves by %s.", route->rule_text,
                        list, wan);
        else
                cause_advise(c,
                        "Narrow the route %s on %s, or add a more specific route to %s by the gateway of %s.",
                        c->route, c->interface, list, wan);
        free(list);
}

/* The A of the A/B: what did not come back by the route. One row for each transport. */
static void add_failures_by_route(struct rules *r, struct cause *c, const struct server *s)
{
        for (enum probe_transport t = TRANSPORT_UDP; t <= TRANSPORT_TCP; t++)
                for (size_t i = 0; i < r->facts.list->count; i++) {
                        const struct measurement *m = r->facts.list->items[i];

                        if (m->spec.kind != MEASUREMENT_DNS || m->spec.transport != t ||
                                m->spec.interface[0] || m->outcome == OUTCOME_OK ||
                                !endpoint_equal(&m->spec.target, &s->endpoint))
                                continue;
                        cause_add_evidence(c, m);
                        break;
                }
}

static void capture_server(struct rules *r, struct server *s)
{
        const struct measurement *route =
                s->route_udp && !str_equal(s->route_udp->route_interface, facts_wan(&r->facts))
                        ? s->route_udp
                        : s->route_tcp;
        bool fails = s->udp_by_route != TRANSPORT_ANSWERS || s->tcp_by_route != TRANSPORT_ANSWERS;
        struct cause *c;

        if (!route || (!fails && is_configured(r, route) != YES))
                return;
        if (s->udp_by_route == TRANSPORT_UNTESTED && s->tcp_by_route == TRANSPORT_UNTESTED)
                return;
        c = captured_cause_for(r, route);
        cause_add_endpoint(c, &s->endpoint);
        cause_add_evidence(c, route);
        add_failures_by_route(r, c, s);
        cause_add_evidence(c, s->udp_row);
        cause_add_evidence(c, s->tcp_row);
        cause_add_all_services(c, r);
        say_captured(c, route, facts_wan(&r->facts), fails);
        if (!fails)
                return;
        void_towards(
                r, &s->endpoint, CAUSE_ROUTE_CAPTURED, "it left by another interface than the WAN", true);
        for (size_t i = 0; i < r->facts.service_count; i++)
                r->facts.services[i].dns_impaired = true;
}

static void capture_target(struct rules *r, struct target *t)
{
        bool tested = t->tcp && t->tcp->outcome != OUTCOME_NOT_TESTED;
        bool fails = tested && t->tcp->outcome != OUTCOME_OK;
        struct cause *c;

        if (!tested || (!fails && is_configured(r, t->route) != YES))
                return;
        c = captured_cause_for(r, t->route);
        cause_add_endpoint(c, &t->endpoint);
        cause_add_evidence(c, t->route);
        cause_add_evidence(c, t->tcp);
        cause_add_evidence(c, t->tcp_device);
        cause_add_service(c, t->service);
        say_captured(c, t->route, facts_wan(&r->facts), fails);
        if (!fails)
                return;
        void_towards(
                r, &t->endpoint, CAUSE_ROUTE_CAPTURED, "it left by another interface than the WAN", true);
        /* Strict reverse-path filtering throws the A/B's answers away too: the same capture, not a second
         * fault. */
        if (t->tcp_device && t->tcp_device->outcome == OUTCOME_TIMEOUT && t->tcp_device->reply_seen == YES)
                rules_void(t->tcp_device, CAUSE_ROUTE_CAPTURED, "its answer came in and was discarded");
        target_block(t, STAGE_ROUTE);
}

static void rule_captured(struct rules *r)
{
        struct facts *f = &r->facts;

        for (size_t i = 0; i < f->server_count; i++)
                if (f->servers[i].captured)
                        capture_server(r, &f->servers[i]);
        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++)
                        if (f->services[i].targets[k].captured)
                                capture_target(r, &f->services[i].targets[k]);
}

/* ---- routes of the site file that are not in force yet ---- */

static bool would_capture(const struct cidr *configured, const struct inet_addr *a,
        const struct measurement *route, const char *wan)
{
        struct cidr now = {0};

        if (!route || route->outcome != OUTCOME_OK || !str_equal(route->route_interface, wan) ||
                !cidr_contains(configured, a))
                return false;
        if (!str_equal(route->route_prefix, "default") && cidr_parse(route->route_prefix, &now) < 0)
                return false;
        /* The longest prefix wins, so a WAN route that is as specific overrules it for good. */
        return configured->prefix > now.prefix;
}

static void add_pending(struct rules *r, const struct measurement *lan, const char *text,
        const struct endpoint *e, const struct measurement *route, const struct service *s)
{
        struct cause *c = NULL;

        for (size_t i = 0; i < r->out->cause_count; i++)
                if (r->out->causes[i].info->code == CAUSE_ROUTE_CAPTURE_PENDING &&
                        str_equal(r->out->causes[i].route, text))
                        c = &r->out->causes[i];
        if (!c) {
                c = rules_add(r, CAUSE_ROUTE_CAPTURE_PENDING);
                c->route = xstrdup(text);
                c->interface = xstrdup(lan->spec.interface);
                c->configured = YES;
        }
        cause_add_endpoint(c, e);
        cause_add_evidence(c, lan);
        cause_add_evidence(c, route);
        if (s)
                cause_add_service(c, s);
        else
                cause_add_all_services(c, r);
        char *list = cause_target_list(c);
        cause_say(c, "The site file's route %s on %s will carry %s away from the WAN as soon as %s comes up.",
                text, lan->spec.interface, list, lan->spec.interface);
        cause_advise(c,
                "Narrow the route %s in the site file, or add a more specific WAN route to %s, before %s "
                "comes up.",
                text, list, lan->spec.interface);
        free(list);
}

static void pending_of_route(struct rules *r, const struct measurement *lan, const char *text)
{
        struct facts *f = &r->facts;
        struct cidr configured;
        char prefix[INET_ADDR_TEXT];

        str_copy(prefix, sizeof prefix, text);
        prefix[strcspn(prefix, " ")] = 0;
        if (cidr_parse(prefix, &configured) < 0)
                return;
        for (size_t i = 0; i < f->server_count; i++)
                if (would_capture(&configured, &f->servers[i].endpoint.address, f->servers[i].route_udp,
                            facts_wan(f)))
                        add_pending(r, lan, text, &f->servers[i].endpoint, f->servers[i].route_udp, NULL);
        for (size_t i = 0; i < f->service_count; i++)
                for (size_t k = 0; k < f->services[i].target_count; k++) {
                        struct target *t = &f->services[i].targets[k];

                        if (would_capture(&configured, &t->endpoint.address, t->route, facts_wan(f)))
                                add_pending(r, lan, text, &t->endpoint, t->route, t->service);
                }
}

static void rule_pending(struct rules *r)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];

                if (m->spec.kind != MEASUREMENT_LAN)
                        continue;
                for (size_t k = 0; k < m->configured_routes.count; k++)
                        pending_of_route(r, m, m->configured_routes.items[k]);
        }
}

/* The kernel gave no default route and the site file names no interface: nothing further can be looked at. */
static bool rule_no_wan(struct rules *r)
{
        struct cause *c;

        if (!r->facts.site || facts_wan(&r->facts)[0])
                return false;
        c = rules_add(r, CAUSE_ROUTE_MISSING);
        strv_add(&c->targets, "default");
        cause_add_evidence(c, r->facts.site);
        cause_say(c, "This host has no default route, so there is no way out.");
        cause_advise(c, "Connect a network and check DHCP, or name the WAN interface in the site file.");
        stand_for_everything(r, c, STAGE_ROUTE, "there is no default route");
        return true;
}

void rules_host(struct rules *r)
{
        if (rule_no_wan(r) || rule_link(r) || rule_address(r))
                return;
        rule_conflict(r);
        rule_captured(r);
        rule_pending(r);
        rule_missing(r);
        if (!rules_find(r, CAUSE_ROUTE_MISSING))
                rule_gateway(r);
}
