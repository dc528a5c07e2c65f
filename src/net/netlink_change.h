/* Changes to links, addresses and routes (rtnetlink(7)), one at a time, with a handle of netlink.h. They need
 * CAP_NET_ADMIN: only the root side calls them. 0 or the kernel's -errno. */
#pragma once

#include "net/netlink.h"

int netlink_set_link_up(struct netlink *n, int ifindex, bool up);
/* `protocol` marks it (IFA_PROTO, Linux 5.18). -EEXIST when it is there. */
int netlink_add_address(struct netlink *n, int ifindex, const struct cidr *address, uint8_t protocol);
int netlink_remove_address(struct netlink *n, int ifindex, const struct cidr *address);
/* Unicast routes of the main table: destination, metric, protocol, ifindex and next_hop count. Never takes
 * another's place: -EEXIST when destination and metric are taken. `onlink`: the next hop need not be on a
 * network of the interface. */
int netlink_add_route(struct netlink *n, const struct netlink_route *route, bool onlink);
/* Only the route that is the same in all of them. -ESRCH when there is none. */
int netlink_remove_route(struct netlink *n, const struct netlink_route *route);
