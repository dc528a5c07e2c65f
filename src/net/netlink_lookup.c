#include "net/netlink_internal.h"

#include "base/cleanup.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <string.h>

static void put_port(struct nl_msg *m, int attribute, uint16_t port)
{
        uint16_t network = htons(port);

        if (port && nla_put(m, attribute, sizeof network, &network) < 0)
                abort();
}

static int ask_route(struct netlink *n, const struct netlink_query *q, int ifindex, unsigned flags,
        struct netlink_route *ret)
{
        unsigned bits = inet_addr_bits(&q->destination);
        bool with_source = q->source.family == q->destination.family;
        struct rtmsg info = {.rtm_family = (uint8_t)q->destination.family,
                .rtm_dst_len = (uint8_t)bits,
                .rtm_src_len = with_source ? (uint8_t)bits : 0,
                .rtm_flags = flags};
        struct netlink_list list = {.item_bytes = sizeof *ret, .parse = netlink_route_parse};
        struct nl_msg *m;
        int r = 0;

        /* IPv6 names the table in any case, and refuses the flag. */
        if (q->destination.family == AF_INET)
                info.rtm_flags |= RTM_F_LOOKUP_TABLE;
        m = netlink_request(RTM_GETROUTE, 0, &info, sizeof info);
        netlink_put_address(m, RTA_DST, &q->destination);
        if (with_source)
                netlink_put_address(m, RTA_SRC, &q->source);
        if (ifindex)
                r |= nla_put_u32(m, RTA_OIF, (uint32_t)ifindex);
        if (q->has_uid)
                r |= nla_put_u32(m, RTA_UID, q->uid);
        if (q->protocol)
                r |= nla_put_u8(m, RTA_IP_PROTO, q->protocol);
        put_port(m, RTA_SPORT, q->source_port);
        put_port(m, RTA_DPORT, q->destination_port);
        if (r < 0)
                abort();
        r = netlink_ask(n, m, &list);
        if (r == 0)
                memcpy(ret, list.items, sizeof *ret);
        free(list.items);
        return r;
}

/* 1 here, 0 not, -errno. */
static int is_own_address(struct netlink *n, const struct inet_addr *a)
{
        _cleanup_free_ struct netlink_address *addresses = NULL;
        size_t count;
        int r;

        if (inet_addr_is_loopback(a))
                return 1;
        r = netlink_list_addresses(n, 0, a->family, &addresses, &count);
        for (size_t i = 0; r == 0 && i < count; i++)
                if (inet_addr_equal(&addresses[i].address.address, a))
                        return 1;
        return r;
}

static bool error_is_refusal(int error_number)
{
        return error_number == ENETUNREACH || error_number == EHOSTUNREACH || error_number == EACCES ||
               error_number == EINVAL;
}

static bool table_is_ordinary(uint32_t table)
{
        return table == RT_TABLE_UNSPEC || table == RT_TABLE_MAIN || table == RT_TABLE_DEFAULT ||
               table == RT_TABLE_LOCAL;
}

/* The entry that was matched, put beside the way that the packet would take. */
static int add_matched_entry(
        struct netlink *n, const struct netlink_query *q, int ifindex, struct netlink_answer *answer)
{
        struct netlink_route entry;
        int r = ask_route(n, q, ifindex, RTM_F_FIB_MATCH, &entry);

        if (error_is_refusal(-r)) {
                /* Bound to a device without a route there: the kernel assumes that the target is on its link.
                 */
                answer->matched = false;
                answer->route.type = RTN_UNSPEC;
                return 0;
        }
        if (r < 0)
                return r;
        answer->matched = true;
        answer->route.destination = entry.destination;
        answer->route.type = entry.type;
        answer->route.table = entry.table;
        answer->route.metric = entry.metric;
        answer->route.is_dead = entry.is_dead;
        return 0;
}

int netlink_lookup(struct netlink *n, const struct netlink_query *q, struct netlink_answer *ret)
{
        struct netlink_answer answer = {0};
        bool with_source = q->source.family == q->destination.family;
        int ifindex = 0, r;

        if (!inet_addr_is_set(&q->destination))
                return -EINVAL;
        if (q->interface[0]) {
                ifindex = (int)if_nametoindex(q->interface);
                if (ifindex == 0) {
                        *ret = (struct netlink_answer){.error_number = ENODEV};
                        return 0;
                }
        }
        r = ask_route(n, q, ifindex, 0, &answer.route);
        /* For a source that is foreign the kernel refuses IPv4 with an error that other things have too, and
         * looks IPv6 up as it is; no socket could be bound to either. */
        if (with_source && (error_is_refusal(-r) || q->source.family == AF_INET6)) {
                int own = is_own_address(n, &q->source);

                if (own < 0)
                        return own;
                if (!own) {
                        *ret = (struct netlink_answer){.error_number = EADDRNOTAVAIL};
                        return 0;
                }
        }
        if (error_is_refusal(-r)) {
                answer = (struct netlink_answer){.error_number = -r};
                r = netlink_rule_follow(n, q, RT_TABLE_UNSPEC, -r, &answer);
        } else if (r == 0) {
                r = add_matched_entry(n, q, ifindex, &answer);
                if (r == 0 && answer.matched && !table_is_ordinary(answer.route.table))
                        r = netlink_rule_follow(n, q, answer.route.table, 0, &answer);
        }
        if (r == 0)
                *ret = answer;
        return r;
}
