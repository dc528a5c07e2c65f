#include "net/netlink_internal.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>

const char *netlink_route_type_to_string(unsigned type)
{
        static const char *const words[] = {[RTN_UNSPEC] = "none",
                [RTN_UNICAST] = "unicast",
                [RTN_LOCAL] = "local",
                [RTN_BROADCAST] = "broadcast",
                [RTN_ANYCAST] = "anycast",
                [RTN_MULTICAST] = "multicast",
                [RTN_BLACKHOLE] = "blackhole",
                [RTN_UNREACHABLE] = "unreachable",
                [RTN_PROHIBIT] = "prohibit",
                [RTN_THROW] = "throw",
                [RTN_NAT] = "nat",
                [RTN_XRESOLVE] = "xresolve"};

        return type < ELEMENTS(words) ? words[type] : "unknown";
}

/* ---- reading ---- */

struct way { /* one next hop */
        int ifindex;
        struct inet_addr next_hop;
        bool is_dead;
};

/* RTA_VIA: a next hop of another family than the route's (rtnetlink.h, struct rtvia). */
static void read_next_hop(const struct nlattr *gateway, const struct nlattr *via, struct inet_addr *ret)
{
        if (netlink_get_address(gateway, ret) || !via || nla_len(via) < 6)
                return;
        if (nla_len(via) != 2 + 4 && nla_len(via) != 2 + 16)
                return;
        ret->family = nla_len(via) == 6 ? AF_INET : AF_INET6;
        memcpy(ret->bytes, (const char *)nla_data(via) + 2, (size_t)nla_len(via) - 2);
}

static bool flags_are_dead(unsigned flags)
{
        return flags & (RTNH_F_DEAD | RTNH_F_LINKDOWN);
}

/* The first way of a multipath route that is alive, else its first. */
static void read_multipath(struct nlattr *multipath, struct way *ret)
{
        struct rtnexthop *h = nla_data(multipath);
        int left = nla_len(multipath);
        bool any = false;

        while (left >= (int)sizeof *h && RTNH_OK(h, left)) {
                struct nlattr *a[RTA_MAX + 1] = {0};
                int length = (int)h->rtnh_len - (int)sizeof *h;
                struct way w = {.ifindex = h->rtnh_ifindex, .is_dead = flags_are_dead(h->rtnh_flags)};

                if (length > 0 &&
                        nla_parse(a, RTA_MAX, (struct nlattr *)(void *)RTNH_DATA(h), length, NULL) < 0)
                        return;
                read_next_hop(a[RTA_GATEWAY], a[RTA_VIA], &w.next_hop);
                if (!any || (ret->is_dead && !w.is_dead))
                        *ret = w;
                any = true;
                left -= (int)RTNH_ALIGN(h->rtnh_len);
                h = RTNH_NEXT(h);
        }
}

int netlink_route_parse(const struct nlmsghdr *message, void *item, const void *filter)
{
        const struct rtmsg *info = nlmsg_data(message);
        struct nlattr *a[RTA_MAX + 1];
        struct netlink_route *r = item;
        struct way w = {0};

        (void)filter;
        if (message->nlmsg_type != RTM_NEWROUTE ||
                nlmsg_parse((struct nlmsghdr *)message, sizeof *info, a, RTA_MAX, NULL) < 0)
                return 0;
        if (!netlink_get_address(a[RTA_DST], &r->destination.address))
                r->destination.address.family = info->rtm_family;
        r->destination.prefix = info->rtm_dst_len;
        r->type = info->rtm_type;
        r->protocol = info->rtm_protocol;
        r->table = a[RTA_TABLE] ? nla_get_u32(a[RTA_TABLE]) : info->rtm_table;
        if (a[RTA_PRIORITY])
                r->metric = nla_get_u32(a[RTA_PRIORITY]);
        netlink_get_address(a[RTA_PREFSRC], &r->preferred_source);
        w.is_dead = flags_are_dead(info->rtm_flags);
        if (a[RTA_OIF])
                w.ifindex = (int)nla_get_u32(a[RTA_OIF]);
        read_next_hop(a[RTA_GATEWAY], a[RTA_VIA], &w.next_hop);
        if (a[RTA_MULTIPATH])
                read_multipath(a[RTA_MULTIPATH], &w);
        r->is_dead = w.is_dead;
        r->ifindex = w.ifindex;
        r->next_hop = w.next_hop;
        if (w.ifindex == 0 || !if_indextoname((unsigned)w.ifindex, r->interface))
                r->interface[0] = 0;
        return 1;
}

int netlink_list_routes(
        struct netlink *n, sa_family_t family, uint32_t table, struct netlink_route **ret, size_t *ret_count)
{
        struct rtmsg info = {.rtm_family = (uint8_t)family};
        struct netlink_list list = {.item_bytes = sizeof(struct netlink_route), .parse = netlink_route_parse};
        struct netlink_route *routes;
        struct nl_msg *request;
        size_t kept = 0;
        int r;

        if (table < 256)
                info.rtm_table = (uint8_t)table;
        request = netlink_request(RTM_GETROUTE, NLM_F_DUMP, &info, sizeof info);
        if (nla_put_u32(request, RTA_TABLE, table) < 0)
                abort();
        r = netlink_dump(n, request, &list);
        if (r < 0 && r != -ENOENT)
                return r;
        routes = (struct netlink_route *)(void *)list.items;
        for (size_t i = 0; i < list.count; i++)
                if (routes[i].table == table)
                        routes[kept++] = routes[i];
        *ret = routes;
        *ret_count = kept;
        return 0;
}

int netlink_default_route(struct netlink *n, sa_family_t family, struct netlink_route *ret)
{
        _cleanup_free_ struct netlink_route *routes = NULL;
        const struct netlink_route *best = NULL;
        size_t count;
        int r = netlink_list_routes(n, family, RT_TABLE_MAIN, &routes, &count);

        if (r < 0)
                return r;
        for (size_t i = 0; i < count; i++) {
                const struct netlink_route *c = &routes[i];

                if (c->destination.prefix != 0 || c->type != RTN_UNICAST)
                        continue;
                if (!best || (best->is_dead && !c->is_dead) ||
                        (best->is_dead == c->is_dead && c->metric < best->metric))
                        best = c;
        }
        if (!best)
                return -ENETUNREACH;
        *ret = *best;
        return 0;
}

int netlink_route_source(struct netlink *n, const struct netlink_route *route, struct inet_addr *ret)
{
        _cleanup_free_ struct netlink_address *addresses = NULL;
        const struct netlink_address *best = NULL;
        size_t count;
        int r;

        if (inet_addr_is_set(&route->preferred_source)) {
                *ret = route->preferred_source;
                return 0;
        }
        r = netlink_list_addresses(n, route->ifindex, route->destination.address.family, &addresses, &count);
        if (r < 0)
                return r;
        for (size_t i = 0; i < count; i++) {
                const struct netlink_address *a = &addresses[i];

                if (!a->usable)
                        continue;
                if (!best || (!cidr_contains(&best->address, &route->next_hop) &&
                                     cidr_contains(&a->address, &route->next_hop)))
                        best = a;
        }
        if (!best)
                return -EADDRNOTAVAIL;
        *ret = best->address.address;
        return 0;
}

/* ---- words ---- */

const char *netlink_route_format(const struct netlink_route *r, char ret[NETLINK_ROUTE_TEXT])
{
        char table[24] = "", type[16] = "", prefix[INET_ADDR_TEXT] = "default";
        char way[INET_ADDR_TEXT + 16] = "";

        if (r->table != RT_TABLE_UNSPEC && r->table != RT_TABLE_MAIN && r->table != RT_TABLE_LOCAL &&
                r->table != RT_TABLE_DEFAULT)
                snprintf(table, sizeof table, "table %u: ", r->table);
        if (r->type != RTN_UNICAST)
                snprintf(type, sizeof type, "%s ", netlink_route_type_to_string(r->type));
        if (r->destination.prefix > 0)
                cidr_format(&r->destination, prefix);
        if (inet_addr_is_set(&r->next_hop)) {
                char hop[INET_ADDR_TEXT];

                snprintf(way, sizeof way, " via %s", inet_addr_format(&r->next_hop, hop));
        } else if (r->interface[0])
                snprintf(way, sizeof way, " dev %s", r->interface);
        snprintf(ret, NETLINK_ROUTE_TEXT, "%s%s%s%s", table, type, prefix, way);
        return ret;
}
