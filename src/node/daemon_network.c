/* What the daemon knows of the WAN and of the links. */
#include "node/daemon_internal.h"

#include "net/netlink.h"

#include <net/if.h>
#include <stdlib.h>
#include <string.h>

static void take_default(struct daemon *d, struct netlink *n, const struct netlink_route *route)
{
        str_copy(d->wan_interface, sizeof d->wan_interface, route->interface);
        if (netlink_route_source(n, route, &d->wan_address) < 0)
                d->wan_address = (struct inet_addr){0};
}

/* What is gone for a moment is remembered; a WAN that speaks IPv6 only is one, too. */
static void find_default(struct daemon *d, struct netlink *n)
{
        const struct site *s = d->settings->site;
        struct netlink_route route = {0}, route6 = {0};
        bool has_4 = netlink_default_route(n, AF_INET, &route) == 0,
             has_6 = netlink_default_route(n, AF_INET6, &route6) == 0;

        if (has_4) {
                d->wan_gateway = route.next_hop;
                take_default(d, n, &route);
        }
        if (has_6) {
                d->wan_gateway6 = route6.next_hop;
                if (!has_4 && d->wan_address.family != AF_INET)
                        take_default(d, n, &route6);
        }
        if (s->wan.interface[0])
                str_copy(d->wan_interface, sizeof d->wan_interface, s->wan.interface);
        if (s->wan.mode == SITE_ADDRESS_STATIC)
                d->wan_address = s->wan.address.address;
        if (s->wan.gateway.family == AF_INET6)
                d->wan_gateway6 = s->wan.gateway;
        else if (inet_addr_is_set(&s->wan.gateway))
                d->wan_gateway = s->wan.gateway;
}

static void find_networks(struct daemon *d, struct netlink *n)
{
        unsigned index = if_nametoindex(d->wan_interface);
        struct netlink_address *list = NULL;
        size_t count = 0;

        d->wan_network_count = 0;
        memset(d->wan_networks, 0, sizeof d->wan_networks);
        if (!index || netlink_list_addresses(n, (int)index, AF_UNSPEC, &list, &count) < 0)
                return;
        for (size_t i = 0; i < count && d->wan_network_count < DAEMON_MAX_NETWORKS; i++)
                d->wan_networks[d->wan_network_count++] = list[i].address;
        free(list);
}

/* FNV-1a over what matters of each link. */
static uint64_t digest_links(struct netlink *n)
{
        struct netlink_link *list = NULL;
        uint64_t digest = 14695981039346656037u;
        size_t count = 0;

        if (netlink_list_links(n, &list, &count) < 0)
                return 0;
        for (size_t i = 0; i < count; i++) {
                unsigned char facts[] = {(unsigned char)list[i].ifindex, list[i].up, list[i].carrier};

                for (size_t k = 0; k < sizeof facts; k++)
                        digest = (digest ^ facts[k]) * 1099511628211u;
                for (const char *c = list[i].name; *c; c++)
                        digest = (digest ^ (unsigned char)*c) * 1099511628211u;
        }
        free(list);
        return digest;
}

/* With its last address an interface loses its routes, and ours with them; they are made anew when there is
 * an address again. */
static bool is_other_networks(const struct daemon *d, const struct cidr before[DAEMON_MAX_NETWORKS])
{
        for (size_t i = 0; i < d->wan_network_count; i++)
                if (d->wan_networks[i].prefix != before[i].prefix ||
                        !inet_addr_equal(&d->wan_networks[i].address, &before[i].address))
                        return true;
        return false;
}

bool daemon_look_at_network(struct daemon *d)
{
        struct inet_addr gateway = d->wan_gateway, gateway6 = d->wan_gateway6;
        struct cidr networks[DAEMON_MAX_NETWORKS];
        uint64_t links = d->links_seen;
        char interface[IFNAMSIZ];
        struct netlink *n = NULL;

        str_copy(interface, sizeof interface, d->wan_interface);
        memcpy(networks, d->wan_networks, sizeof networks);
        if (netlink_open(&n) < 0)
                return false;
        find_default(d, n);
        find_networks(d, n);
        d->links_seen = digest_links(n);
        netlink_close(n);
        return !inet_addr_equal(&gateway, &d->wan_gateway) || !inet_addr_equal(&gateway6, &d->wan_gateway6) ||
               !str_equal(interface, d->wan_interface) || links != d->links_seen ||
               is_other_networks(d, networks);
}
