#include "net/netlink_change.h"

#include "net/netlink_internal.h"

#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdlib.h>

int netlink_set_link_up(struct netlink *n, int ifindex, bool up)
{
        struct ifinfomsg info = {.ifi_family = AF_UNSPEC,
                .ifi_index = ifindex,
                .ifi_change = IFF_UP,
                .ifi_flags = up ? IFF_UP : 0};

        return netlink_do(n, netlink_request(RTM_NEWLINK, 0, &info, sizeof info));
}

static struct nl_msg *address_request(int type, int flags, int ifindex, const struct cidr *address)
{
        struct ifaddrmsg info = {.ifa_family = (uint8_t)address->address.family,
                .ifa_prefixlen = address->prefix,
                .ifa_index = (uint32_t)ifindex,
                .ifa_scope = RT_SCOPE_UNIVERSE};
        struct nl_msg *m = netlink_request(type, flags, &info, sizeof info);

        netlink_put_address(m, IFA_LOCAL, &address->address);
        netlink_put_address(m, IFA_ADDRESS, &address->address);
        return m;
}

int netlink_add_address(struct netlink *n, int ifindex, const struct cidr *address, uint8_t protocol)
{
        struct nl_msg *m = address_request(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ifindex, address);
        struct inet_addr broadcast = address->address;

        if (broadcast.family == AF_INET && address->prefix <= 30) {
                for (unsigned i = address->prefix; i < 32; i++)
                        broadcast.bytes[i / 8] |= (uint8_t)(0x80U >> (i % 8));
                netlink_put_address(m, IFA_BROADCAST, &broadcast);
        }
        if (nla_put_u8(m, IFA_PROTO, protocol) < 0)
                abort();
        return netlink_do(n, m);
}

int netlink_remove_address(struct netlink *n, int ifindex, const struct cidr *address)
{
        return netlink_do(n, address_request(RTM_DELADDR, 0, ifindex, address));
}

static struct nl_msg *route_request(int type, int flags, const struct netlink_route *route, bool onlink)
{
        bool has_hop = inet_addr_is_set(&route->next_hop);
        struct rtmsg info = {.rtm_family = (uint8_t)route->destination.address.family,
                .rtm_dst_len = route->destination.prefix,
                .rtm_table = RT_TABLE_MAIN,
                .rtm_protocol = route->protocol,
                .rtm_scope = has_hop || route->destination.address.family == AF_INET6 ? RT_SCOPE_UNIVERSE
                                                                                      : RT_SCOPE_LINK,
                .rtm_type = RTN_UNICAST,
                .rtm_flags = onlink ? RTNH_F_ONLINK : 0};
        struct nl_msg *m = netlink_request(type, flags, &info, sizeof info);

        netlink_put_address(m, RTA_DST, &route->destination.address);
        if (has_hop)
                netlink_put_address(m, RTA_GATEWAY, &route->next_hop);
        if (nla_put_u32(m, RTA_OIF, (uint32_t)route->ifindex) < 0 ||
                nla_put_u32(m, RTA_PRIORITY, route->metric) < 0)
                abort();
        return m;
}

int netlink_add_route(struct netlink *n, const struct netlink_route *route, bool onlink)
{
        return netlink_do(n, route_request(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route, onlink));
}

int netlink_remove_route(struct netlink *n, const struct netlink_route *route)
{
        return netlink_do(n, route_request(RTM_DELROUTE, 0, route, false));
}
