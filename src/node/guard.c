#include "node/guard.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <stdlib.h>
#include <string.h>

/* A destination that will leave by a LAN: by a wanted route, or since it is the LAN's own network. */
struct capture {
        struct cidr destination; /* no host bits */
        const struct config_lan *lan;
        struct inet_addr next_hop; /* unset: the LAN's own network */
};

/* What must stay reachable. */
struct subject {
        const char *what;
        struct cidr network; /* no host bits */
};

struct guard {
        const struct guard_input *in;
        struct guard_output *out;
        struct capture *captures;
        size_t capture_count;
        struct subject *subjects;
        size_t subject_count, subject_allocated;
        size_t unsaid; /* warnings beyond the maximum */
};

#define SUBJECT_DNS   "the DNS server"
#define SUBJECT_RANGE "the control plane's range"
#define SUBJECT_HOST  "the control plane's address"

void guard_output_done(struct guard_output *o)
{
        strv_done(&o->warnings);
        helper_network_done(&o->network);
        memset(o, 0, sizeof *o);
}

/* ---- warnings ---- */

static void warn_take(struct guard *g, char *sentence)
{
        if (g->out->warnings.count + 1 < GUARD_MAX_WARNINGS) {
                strv_take(&g->out->warnings, sentence);
                return;
        }
        free(sentence);
        g->unsaid++;
}

static void say_unsaid(struct guard *g)
{
        if (g->unsaid > 0)
                strv_take(&g->out->warnings,
                        xasprintf("%zu more warning%s of this kind %s left out.", g->unsaid,
                                g->unsaid == 1 ? "" : "s", g->unsaid == 1 ? "is" : "are"));
}

/* "The route 198.51.100.0/24 via 10.20.0.1 on eth1", "The network 10.20.0.0/24 of eth1". */
static char *capture_name(const struct capture *c)
{
        char destination[INET_ADDR_TEXT], hop[INET_ADDR_TEXT];

        cidr_format(&c->destination, destination);
        if (!inet_addr_is_set(&c->next_hop))
                return xasprintf("The network %s of %s", destination, c->lan->interface);
        return xasprintf("The route %s via %s on %s", destination, inet_addr_format(&c->next_hop, hop),
                c->lan->interface);
}

/* A host as its bare address. */
static const char *network_text(const struct cidr *c, char ret[INET_ADDR_TEXT])
{
        return c->prefix == inet_addr_bits(&c->address) ? inet_addr_format(&c->address, ret)
                                                        : cidr_format(c, ret);
}

/* ---- the wanted network ---- */

static void add_route(struct guard *g, const char *interface, const struct cidr *destination,
        const struct inet_addr *next_hop, unsigned metric)
{
        struct helper_network *n = &g->out->network;
        struct helper_route *r;

        n->routes = xrealloc_array(n->routes, n->route_count + 1, sizeof *n->routes);
        r = &n->routes[n->route_count++];
        *r = (struct helper_route){.destination = *destination, .next_hop = *next_hop, .metric = metric};
        str_copy(r->interface, sizeof r->interface, interface);
}

static bool hop_is_on_lan(const struct config_lan *lan, const struct inet_addr *hop)
{
        if (!lan->has_address || inet_addr_equal(hop, &lan->address.address))
                return false;
        /* Routers speak from their link-local address, which is on every link (RFC 4861, 6.1.2). */
        if (hop->family == AF_INET6 && inet_addr_is_link_local(hop))
                return true;
        return cidr_contains(&lan->address, hop);
}

static void leave_out(struct guard *g, const struct capture *c)
{
        _cleanup_free_ char *name = capture_name(c);
        char own[INET_ADDR_TEXT];

        if (c->destination.prefix == 0)
                warn_take(g, xasprintf("%s is left out: the default route is the WAN's.", name));
        else if (c->lan->has_address)
                warn_take(g, xasprintf("%s is left out: its next hop is not on that interface's network, %s.",
                                     name, cidr_format(&c->lan->address, own)));
        else
                warn_take(g, xasprintf("%s is left out: that interface has no address.", name));
}

static void want_lan(struct guard *g, const struct config_lan *lan)
{
        struct helper_network *n = &g->out->network;

        n->up = xrealloc_array(n->up, n->up_count + 1, sizeof *n->up);
        n->up[n->up_count++] = xstrdup(lan->interface);
        if (lan->has_address) {
                n->addresses = xrealloc_array(n->addresses, n->address_count + 1, sizeof *n->addresses);
                n->addresses[n->address_count] = (struct helper_address){.address = lan->address};
                str_copy(n->addresses[n->address_count].interface, IFNAMSIZ, lan->interface);
                n->address_count++;
                g->captures[g->capture_count++] =
                        (struct capture){.destination = cidr_network(&lan->address), .lan = lan};
        }
        for (size_t i = 0; i < lan->route_count; i++) {
                const struct config_route *r = &lan->routes[i];
                struct capture c = {cidr_network(&r->destination), lan, r->next_hop};

                /* The helper makes no default route, and would take nothing of a network that has one. */
                if (r->destination.prefix == 0 || !hop_is_on_lan(lan, &r->next_hop)) {
                        leave_out(g, &c);
                        continue;
                }
                g->captures[g->capture_count++] = c;
                add_route(g, lan->interface, &r->destination, &r->next_hop, GUARD_LAN_METRIC);
        }
}

static void want_lans(struct guard *g)
{
        const struct wire_config *c = g->in->config;
        size_t count = 0;

        for (size_t i = 0; i < c->lan_count; i++)
                count += 1 + c->lans[i].route_count;
        g->captures = xcalloc(count, sizeof *g->captures);
        for (size_t i = 0; i < c->lan_count; i++)
                want_lan(g, &c->lans[i]);
}

/* ---- what must stay reachable ---- */

static void add_subject(struct guard *g, const char *what, const struct cidr *network)
{
        struct subject s = {what, cidr_network(network)};

        for (size_t i = 0; i < g->subject_count; i++)
                if (g->subjects[i].what == what && cidr_equal(&g->subjects[i].network, &s.network))
                        return;
        if (g->subject_count == g->subject_allocated) {
                g->subject_allocated = g->subject_allocated ? g->subject_allocated * 2 : 16;
                g->subjects = xrealloc_array(g->subjects, g->subject_allocated, sizeof *g->subjects);
        }
        g->subjects[g->subject_count++] = s;
}

/* Addresses of this machine or of a link are not reached by routes. */
static void add_host(struct guard *g, const char *what, const struct inet_addr *a)
{
        struct cidr host = {.address = *a, .prefix = (uint8_t)inet_addr_bits(a)};

        if (inet_addr_is_set(a) && !inet_addr_is_loopback(a) && !inet_addr_is_link_local(a))
                add_subject(g, what, &host);
}

/* What is in a range is looked after with the range. */
static void add_control_host(struct guard *g, const struct inet_addr *a)
{
        if (!g->in->profile || !profile_ranges_contain(g->in->profile, a))
                add_host(g, SUBJECT_HOST, a);
}

static void find_subjects(struct guard *g)
{
        const struct guard_input *in = g->in;
        const struct profile *p = in->profile;

        for (size_t i = 0; i < in->dns_count; i++)
                add_host(g, SUBJECT_DNS, &in->dns[i]);
        for (size_t i = 0; p && i < p->range_count; i++)
                add_subject(g, SUBJECT_RANGE, &p->ranges[i]);
        for (size_t i = 0; p && i < p->service_count; i++)
                for (size_t k = 0; k < p->services[i].address_count; k++)
                        add_control_host(g, &p->services[i].addresses[k]);
        for (size_t i = 0; i < in->known_count; i++)
                add_control_host(g, &in->known[i]);
}

/* ---- keeping it ---- */

static const struct cidr *wan_network_of(const struct guard_input *in, const struct cidr *part)
{
        const struct cidr *best = NULL;

        for (size_t i = 0; i < in->wan_network_count; i++)
                if (cidr_covers(&in->wan_networks[i], part) &&
                        (!best || in->wan_networks[i].prefix > best->prefix))
                        best = &in->wan_networks[i];
        return best;
}

static void add_guard_route(struct guard *g, const struct cidr *destination, const struct inet_addr *gateway)
{
        const struct helper_network *n = &g->out->network;

        for (size_t i = 0; i < n->route_count; i++)
                if (n->routes[i].metric == GUARD_METRIC && cidr_equal(&n->routes[i].destination, destination))
                        return;
        /* The helper refuses more than it takes; there is no sense in making them all. */
        if (n->route_count <= HELPER_MAX_ROUTES)
                add_route(g, g->in->wan_interface, destination, gateway, GUARD_METRIC);
}

static void add_guard_halves(struct guard *g, const struct cidr *part, const struct inet_addr *gateway)
{
        struct cidr half = *part;

        half.prefix++;
        add_guard_route(g, &half, gateway);
        half.address.bytes[part->prefix / 8] |= (uint8_t)(0x80U >> (part->prefix % 8));
        add_guard_route(g, &half, gateway);
}

/* The WAN's way for what is not on it; false when none is known. IPv4 without a gateway is on-link. */
static bool find_gateway(const struct guard_input *in, sa_family_t family, struct inet_addr *ret)
{
        if (in->wan_gateway.family == family)
                *ret = in->wan_gateway;
        else if (family == AF_INET6 && in->wan_gateway6.family == AF_INET6)
                *ret = in->wan_gateway6;
        else if (family == AF_INET && !inet_addr_is_set(&in->wan_gateway))
                *ret = (struct inet_addr){0};
        else
                return false;
        return true;
}

/* Keeps a captured part on the WAN; what was done, or why not, as the end of a sentence. */
static const char *keep(
        struct guard *g, const struct capture *c, const struct cidr *part, const struct cidr *wan)
{
        bool is_v4 = part->address.family == AF_INET, is_own = !inet_addr_is_set(&c->next_hop);
        struct inet_addr gateway = {0};

        if (is_own && inet_addr_bits(&part->address) == part->prefix &&
                inet_addr_equal(&part->address, &c->lan->address.address))
                return "it is this node's own address there, so that nothing can keep it";
        if (!g->in->config->guard)
                return "the guard is off, so that packets to it go there";
        if (!g->in->wan_interface[0])
                return "the WAN is not known, so that nothing can keep it";
        if (!wan && !find_gateway(g->in, part->address.family, &gateway))
                return is_v4 ? "no IPv4 gateway of the WAN is known to keep it by"
                             : "no IPv6 gateway of the WAN is known to keep it by";
        /* The kernel's own route to the LAN has metric 0: only what is more specific is better. */
        if (is_own && is_v4 && part->prefix == c->destination.prefix && part->prefix < 32)
                add_guard_halves(g, part, &gateway);
        else
                add_guard_route(g, part, &gateway);
        return "a route on the WAN keeps it reachable";
}

static void look_at(struct guard *g, const struct capture *c, const struct subject *s)
{
        bool whole = cidr_covers(&c->destination, &s->network), own = !inet_addr_is_set(&c->next_hop);
        char text[INET_ADDR_TEXT];
        const struct cidr *wan, *part;
        _cleanup_free_ char *name = NULL;

        if (!whole && !cidr_covers(&s->network, &c->destination))
                return;
        part = whole ? &s->network : &c->destination;
        wan = wan_network_of(g->in, part);
        /* The WAN's own network is more specific: not captured. Of two that are equal, the kernel's first. */
        if (wan && (c->destination.prefix < wan->prefix || (c->destination.prefix == wan->prefix && !own)))
                return;
        name = capture_name(c);
        warn_take(g, xasprintf("%s captures %s%s %s: %s.", name, whole ? "" : "a part of ", s->what,
                             network_text(&s->network, text), keep(g, c, part, wan)));
}

static void look_at_containers(struct guard *g, const struct capture *c)
{
        const struct cidr *containers = &g->in->container_network;
        _cleanup_free_ char *name = NULL;
        char text[INET_ADDR_TEXT];

        if (!cidr_covers(containers, &c->destination) && !cidr_covers(&c->destination, containers))
                return;
        name = capture_name(c);
        cidr_format(containers, text);
        if (c->destination.prefix > containers->prefix)
                warn_take(g, xasprintf("%s captures a part of the container network %s: containers with "
                                       "these addresses cannot be reached.",
                                     name, text));
        else
                warn_take(g, xasprintf("%s holds the container network %s: at these addresses only "
                                       "containers can be reached, nothing behind %s.",
                                     name, text, c->lan->interface));
}

void guard_plan(const struct guard_input *in, struct guard_output *ret)
{
        struct guard g = {.in = in, .out = ret};

        memset(ret, 0, sizeof *ret);
        want_lans(&g);
        find_subjects(&g);
        for (size_t s = 0; s < g.subject_count; s++)
                for (size_t c = 0; c < g.capture_count; c++)
                        look_at(&g, &g.captures[c], &g.subjects[s]);
        for (size_t c = 0; c < g.capture_count; c++)
                look_at_containers(&g, &g.captures[c]);
        say_unsaid(&g);
        free(g.captures);
        free(g.subjects);
}
