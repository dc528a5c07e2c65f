#include "helper/network.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "net/netlink_change.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The machine, and what is to become of it. */
struct network {
        struct netlink *netlink;
        struct netlink_link *links;
        size_t link_count;
        struct netlink_route wan; /* the default route; ifindex 0: none */
        struct error *error;
};

/* What the helper made, or is to make. */
struct made {
        struct netlink_address *addresses;
        size_t address_count;
        struct netlink_route *routes; /* sorted by compare_routes */
        size_t route_count;
};

static void made_done(struct made *m)
{
        free(m->addresses);
        free(m->routes);
        memset(m, 0, sizeof *m);
}

#define _made_ _cleanup_(made_done)

static int compare_cidr(const struct cidr *a, const struct cidr *b)
{
        int c = inet_addr_compare(&a->address, &b->address);

        return c ? c : (a->prefix > b->prefix) - (a->prefix < b->prefix);
}

/* By metric first: the guard's routes come before those that they guard against, and go after them. */
static int compare_routes(const void *a, const void *b)
{
        const struct netlink_route *x = a, *y = b;
        int c = (x->metric > y->metric) - (x->metric < y->metric);

        if (c == 0)
                c = compare_cidr(&x->destination, &y->destination);
        if (c == 0)
                c = (x->ifindex > y->ifindex) - (x->ifindex < y->ifindex);
        return c ? c : inet_addr_compare(&x->next_hop, &y->next_hop);
}

static bool has_route(const struct made *m, const struct netlink_route *r)
{
        return m->route_count > 0 && bsearch(r, m->routes, m->route_count, sizeof *r, compare_routes);
}

static bool has_address(const struct made *m, const struct netlink_address *a)
{
        for (size_t i = 0; i < m->address_count; i++)
                if (m->addresses[i].ifindex == a->ifindex &&
                        cidr_equal(&m->addresses[i].address, &a->address))
                        return true;
        return false;
}

/* ---- reading ---- */

static int kernel_error(struct network *n, int r, const char *what)
{
        return error_set(n->error, -r, "helper.kernel", "%s: %s", what, strerror(-r));
}

static int read_addresses(struct network *n, struct made *ret)
{
        int r = netlink_list_addresses(n->netlink, 0, AF_UNSPEC, &ret->addresses, &ret->address_count);

        return r < 0 ? kernel_error(n, r, "cannot list the addresses") : 0;
}

static int read_routes(struct network *n, struct made *ret)
{
        static const sa_family_t families[] = {AF_INET, AF_INET6};

        for (size_t i = 0; i < ELEMENTS(families); i++) {
                _cleanup_free_ struct netlink_route *routes = NULL;
                size_t count = 0;
                int r = netlink_list_routes(n->netlink, families[i], RT_TABLE_MAIN, &routes, &count);

                if (r == -EAFNOSUPPORT || r == -EOPNOTSUPP)
                        continue;
                if (r < 0)
                        return kernel_error(n, r, "cannot list the routes");
                if (count == 0)
                        continue;
                ret->routes = xrealloc_array(ret->routes, ret->route_count + count, sizeof *ret->routes);
                memcpy(ret->routes + ret->route_count, routes, count * sizeof *routes);
                ret->route_count += count;
        }
        if (ret->route_count > 0)
                qsort(ret->routes, ret->route_count, sizeof *ret->routes, compare_routes);
        return 0;
}

/* Everything that is there; `ours` leaves only what carries the mark. */
static int read_made(struct network *n, bool ours, struct made *ret)
{
        size_t addresses = 0, routes = 0;
        int r = read_addresses(n, ret);

        if (r == 0)
                r = read_routes(n, ret);
        if (r < 0 || !ours)
                return r;
        for (size_t i = 0; i < ret->address_count; i++)
                if (ret->addresses[i].protocol == HELPER_ROUTE_PROTOCOL)
                        ret->addresses[addresses++] = ret->addresses[i];
        for (size_t i = 0; i < ret->route_count; i++)
                if (ret->routes[i].protocol == HELPER_ROUTE_PROTOCOL)
                        ret->routes[routes++] = ret->routes[i];
        ret->address_count = addresses;
        ret->route_count = routes;
        return 0;
}

/* The WAN is where the machine's own default route leads. */
static int look_around(struct network *n)
{
        int r = netlink_open(&n->netlink);

        if (r < 0)
                return kernel_error(n, r, "cannot ask the kernel");
        r = netlink_list_links(n->netlink, &n->links, &n->link_count);
        if (r < 0)
                return kernel_error(n, r, "cannot list the interfaces");
        if (netlink_default_route(n->netlink, AF_INET, &n->wan) < 0 &&
                netlink_default_route(n->netlink, AF_INET6, &n->wan) < 0)
                n->wan = (struct netlink_route){0};
        return 0;
}

/* ---- what is wanted, in the kernel's terms ---- */

static const struct netlink_link *link_of(const struct network *n, int ifindex)
{
        for (size_t i = 0; i < n->link_count; i++)
                if (n->links[i].ifindex == ifindex)
                        return &n->links[i];
        return NULL;
}

static const char *name_of(const struct network *n, int ifindex)
{
        const struct netlink_link *l = link_of(n, ifindex);

        return l ? l->name : "an interface that has gone";
}

static int find_link(struct network *n, const char *name, const struct netlink_link **ret)
{
        for (size_t i = 0; i < n->link_count; i++)
                if (str_equal(n->links[i].name, name)) {
                        if (n->links[i].flags & IFF_LOOPBACK)
                                return error_set(n->error, EPERM, "helper.interface",
                                        "%s is the loopback interface, which is no LAN", name);
                        *ret = &n->links[i];
                        return 0;
                }
        return error_set(n->error, ENODEV, "helper.interface", "there is no interface %s", name);
}

static int find_lan(struct network *n, const char *name, const struct netlink_link **ret)
{
        int r = find_link(n, name, ret);

        if (r == 0 && (*ret)->ifindex == n->wan.ifindex)
                r = error_set(n->error, EPERM, "helper.interface",
                        "%s is the WAN, by the default route: it cannot be a LAN as well", name);
        return r;
}

static int want_addresses(struct network *n, const struct helper_network *wanted, struct made *ret)
{
        ret->addresses = xcalloc(wanted->address_count, sizeof *ret->addresses);
        for (size_t i = 0; i < wanted->address_count; i++) {
                const struct netlink_link *link;
                int r = find_lan(n, wanted->addresses[i].interface, &link);

                if (r < 0)
                        return r;
                ret->addresses[ret->address_count++] = (struct netlink_address){.ifindex = link->ifindex,
                        .address = wanted->addresses[i].address,
                        .protocol = HELPER_ROUTE_PROTOCOL};
        }
        return 0;
}

/* Of what is there, what this helper made does not count: it may be about to go. */
static bool hop_is_near(const struct made *m, bool others_only, int ifindex, const struct inet_addr *hop)
{
        for (size_t i = 0; i < m->address_count; i++)
                if (m->addresses[i].ifindex == ifindex &&
                        !(others_only && m->addresses[i].protocol == HELPER_ROUTE_PROTOCOL) &&
                        cidr_contains(&m->addresses[i].address, hop) &&
                        !inet_addr_equal(&m->addresses[i].address.address, hop))
                        return true;
        return hop->family == AF_INET6 && inet_addr_is_link_local(hop);
}

/* What others gave an interface counts, and so does the default route's gateway, wherever it is. */
static int check_way(struct network *n, const struct helper_route *w, int ifindex, const struct made *wanted,
        const struct made *present)
{
        char destination[INET_ADDR_TEXT], hop[INET_ADDR_TEXT];
        bool is_wan = ifindex == n->wan.ifindex;

        cidr_format(&w->destination, destination);
        if (w->destination.prefix == 0)
                return error_set(
                        n->error, EPERM, "helper.route", "%s: the default route is left alone", destination);
        if (!inet_addr_is_set(&w->next_hop)) {
                if (is_wan)
                        return 0;
                return error_set(n->error, EPERM, "helper.route",
                        "the route %s on %s has no next hop, and %s is not the WAN", destination,
                        w->interface, w->interface);
        }
        if (hop_is_near(wanted, false, ifindex, &w->next_hop) ||
                hop_is_near(present, true, ifindex, &w->next_hop) ||
                (is_wan && inet_addr_equal(&n->wan.next_hop, &w->next_hop)))
                return 0;
        return error_set(n->error, EPERM, "helper.route",
                "the route %s via %s: the next hop is on no network of %s", destination,
                inet_addr_format(&w->next_hop, hop), w->interface);
}

static int want_routes(
        struct network *n, const struct helper_network *wanted, const struct made *present, struct made *ret)
{
        ret->routes = xcalloc(wanted->route_count, sizeof *ret->routes);
        for (size_t i = 0; i < wanted->route_count; i++) {
                const struct helper_route *w = &wanted->routes[i];
                const struct netlink_link *link;
                int r = find_link(n, w->interface, &link);

                if (r == 0)
                        r = check_way(n, w, link->ifindex, ret, present);
                if (r < 0)
                        return r;
                ret->routes[ret->route_count++] = (struct netlink_route){.destination = w->destination,
                        .metric = w->metric,
                        .ifindex = link->ifindex,
                        .next_hop = w->next_hop,
                        .protocol = HELPER_ROUTE_PROTOCOL};
        }
        if (ret->route_count > 0)
                qsort(ret->routes, ret->route_count, sizeof *ret->routes, compare_routes);
        return 0;
}

/* ---- doing ---- */

static int address_error(struct network *n, int r, const char *verb, const struct netlink_address *a)
{
        char text[INET_ADDR_TEXT];

        return error_set(n->error, -r, "helper.address", "cannot %s the address %s on %s: %s", verb,
                cidr_format(&a->address, text), name_of(n, a->ifindex), strerror(-r));
}

static int add_address(struct network *n, const struct netlink_address *a)
{
        int r = netlink_add_address(n->netlink, a->ifindex, &a->address, HELPER_ROUTE_PROTOCOL);

        return r < 0 && r != -EEXIST ? address_error(n, r, "add", a) : 0;
}

static int remove_address(struct network *n, const struct netlink_address *a)
{
        int r = netlink_remove_address(n->netlink, a->ifindex, &a->address);

        /* The kernel may have taken it with another (a secondary with its primary), or with its interface. */
        return r < 0 && r != -EADDRNOTAVAIL && r != -ENODEV ? address_error(n, r, "remove", a) : 0;
}

/* IPv6 knows an address once on an interface, whatever its prefix. */
static bool is_in_the_way(const struct netlink_address *present, const struct netlink_address *wanted)
{
        return present->ifindex == wanted->ifindex && wanted->address.address.family == AF_INET6 &&
               inet_addr_equal(&present->address.address, &wanted->address.address);
}

static int add_addresses(struct network *n, const struct made *wanted, const struct made *present)
{
        for (size_t i = 0; i < wanted->address_count; i++) {
                const struct netlink_address *a = &wanted->addresses[i];
                int r = 0;

                if (has_address(present, a))
                        continue;
                for (size_t k = 0; k < present->address_count && r == 0; k++)
                        if (present->addresses[k].protocol == HELPER_ROUTE_PROTOCOL &&
                                is_in_the_way(&present->addresses[k], a))
                                r = remove_address(n, &present->addresses[k]);
                if (r == 0)
                        r = add_address(n, a);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Adds before it removes, so that an interface is never without an address: the kernel would take all its
 * routes, those of others too. Removing a primary address may take its secondaries along (promote_secondaries
 * off), so that what is missing then is added again. */
static int converge_addresses(struct network *n, const struct made *wanted)
{
        _made_ struct made before = {0}, after = {0};
        int r = read_addresses(n, &before);

        if (r == 0)
                r = add_addresses(n, wanted, &before);
        for (size_t i = 0; i < before.address_count && r == 0; i++)
                if (before.addresses[i].protocol == HELPER_ROUTE_PROTOCOL &&
                        !has_address(wanted, &before.addresses[i]))
                        r = remove_address(n, &before.addresses[i]);
        if (r == 0)
                r = read_addresses(n, &after);
        return r < 0 ? r : add_addresses(n, wanted, &after);
}

static int route_error(struct network *n, int r, const char *verb, const struct netlink_route *route)
{
        struct netlink_route shown = *route;
        char text[NETLINK_ROUTE_TEXT];

        shown.type = RTN_UNICAST;
        str_copy(shown.interface, sizeof shown.interface, name_of(n, route->ifindex));
        netlink_route_format(&shown, text);
        return error_set(n->error, -r, "helper.route", "cannot %s the route %s (%s, metric %u): %s%s", verb,
                text, shown.interface, route->metric, strerror(-r),
                r == -EEXIST ? "; somebody else's route is in its place" : "");
}

static int add_route(struct network *n, const struct netlink_route *route)
{
        bool is_gateway = route->ifindex == n->wan.ifindex && inet_addr_is_set(&route->next_hop) &&
                          inet_addr_equal(&route->next_hop, &n->wan.next_hop);
        int r = netlink_add_route(n->netlink, route, false);

        /* The default route uses this gateway, though it is on no network of the interface. */
        if ((r == -ENETUNREACH || r == -EHOSTUNREACH || r == -EINVAL) && is_gateway)
                r = netlink_add_route(n->netlink, route, true);
        return r < 0 ? route_error(n, r, "add", route) : 0;
}

static int converge_routes(struct network *n, const struct made *wanted)
{
        _made_ struct made present = {0};
        int r = read_routes(n, &present);

        for (size_t i = present.route_count; i > 0 && r == 0; i--) {
                const struct netlink_route *p = &present.routes[i - 1];

                if (p->protocol != HELPER_ROUTE_PROTOCOL || has_route(wanted, p))
                        continue;
                r = netlink_remove_route(n->netlink, p);
                if (r < 0)
                        r = r == -ESRCH ? 0 : route_error(n, r, "remove", p);
        }
        for (size_t i = 0; i < wanted->route_count && r == 0; i++)
                if (!has_route(&present, &wanted->routes[i]))
                        r = add_route(n, &wanted->routes[i]);
        return r;
}

static int converge(struct network *n, const struct made *wanted)
{
        int r = converge_addresses(n, wanted);

        return r < 0 ? r : converge_routes(n, wanted);
}

/* A kernel that does not know the mark would leave addresses that nobody ever takes away. */
static int check_marks(struct network *n, const struct made *wanted, const struct made *before)
{
        _made_ struct made after = {0};
        int r = read_addresses(n, &after), unmarked = 0;

        for (size_t i = 0; i < after.address_count; i++)
                if (after.addresses[i].protocol != HELPER_ROUTE_PROTOCOL &&
                        has_address(wanted, &after.addresses[i]) &&
                        !has_address(before, &after.addresses[i])) {
                        netlink_remove_address(
                                n->netlink, after.addresses[i].ifindex, &after.addresses[i].address);
                        unmarked++;
                }
        if (r == 0 && unmarked > 0)
                r = error_set(n->error, EOPNOTSUPP, "helper.address",
                        "this kernel does not note who made an address (IFA_PROTO): Linux 5.18 is needed");
        return r;
}

/* ---- all or nothing ---- */

static int set_up(struct network *n, const struct helper_network *wanted)
{
        for (size_t i = 0; i < wanted->up_count; i++) {
                const struct netlink_link *link;
                int r = find_lan(n, wanted->up[i], &link);

                if (r == 0 && !link->up) {
                        r = netlink_set_link_up(n->netlink, link->ifindex, true);
                        if (r < 0)
                                r = error_set(n->error, -r, "helper.interface", "cannot set %s up: %s",
                                        link->name, strerror(-r));
                }
                if (r < 0)
                        return r;
        }
        return 0;
}

static void put_back(struct network *n, const struct helper_network *wanted, const struct made *before)
{
        struct error *first = n->error, second = {0};

        n->error = &second;
        if (converge(n, before) < 0 && first) {
                size_t length = strlen(first->text);

                snprintf(first->text + length, sizeof first->text - length,
                        "; nor could what was before be put back: %s", second.text);
        }
        n->error = first;
        for (size_t i = 0; i < wanted->up_count; i++)
                for (size_t k = 0; k < n->link_count; k++)
                        if (str_equal(n->links[k].name, wanted->up[i]) && !n->links[k].up)
                                netlink_set_link_up(n->netlink, n->links[k].ifindex, false);
}

static int check_and_apply(struct network *n, const struct helper_network *wanted, struct made *present,
        struct made *ours, struct made *target)
{
        const struct netlink_link *link;
        int r = read_made(n, false, present);

        if (r == 0)
                r = read_made(n, true, ours);
        for (size_t i = 0; i < wanted->up_count && r == 0; i++)
                r = find_lan(n, wanted->up[i], &link);
        if (r == 0)
                r = want_addresses(n, wanted, target);
        if (r == 0)
                r = want_routes(n, wanted, present, target);
        if (r < 0)
                return r;
        r = set_up(n, wanted);
        if (r == 0)
                r = converge(n, target);
        if (r == 0)
                r = check_marks(n, target, present);
        if (r < 0)
                put_back(n, wanted, ours);
        return r;
}

int helper_network_apply(const struct helper_network *wanted, struct error *ret_error)
{
        _made_ struct made present = {0}, ours = {0}, target = {0};
        struct network n = {.error = ret_error};
        int r = look_around(&n);

        if (r == 0)
                r = check_and_apply(&n, wanted, &present, &ours, &target);
        netlink_close(n.netlink);
        free(n.links);
        return r;
}
