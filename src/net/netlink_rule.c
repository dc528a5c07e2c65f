/* Policy rules, followed as the kernel does (ip-rule(8), net/core/fib_rules.c), for what it does not tell. */
#include "net/netlink_internal.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct rule {
        struct cidr from, to; /* family 0: all */
        unsigned action;      /* FR_ACT_* */
        unsigned flags;
        uint8_t tos, protocol;
        uint32_t table, priority, jump_to;
        uint32_t mark, mark_mask;
        bool has_tunnel, has_l3mdev, has_uids;
        int64_t suppress_prefix; /* -1: none */
        char in[IFNAMSIZ], out[IFNAMSIZ];
        struct fib_rule_uid_range uids;
        struct fib_rule_port_range sport, dport; /* 0: any */
};

static void read_prefix(const struct nlattr *a, unsigned length, struct cidr *ret)
{
        if (netlink_get_address(a, &ret->address))
                ret->prefix = (uint8_t)length;
}

static void read_bytes(const struct nlattr *a, void *ret, size_t length)
{
        if (a && nla_len(a) >= (int)length)
                memcpy(ret, nla_data(a), length);
}

static int rule_parse(const struct nlmsghdr *message, void *item, const void *filter)
{
        const struct fib_rule_hdr *info = nlmsg_data(message);
        struct nlattr *a[FRA_MAX + 1];
        struct rule *r = item;

        (void)filter;
        if (message->nlmsg_type != RTM_NEWRULE ||
                nlmsg_parse((struct nlmsghdr *)message, sizeof *info, a, FRA_MAX, NULL) < 0)
                return 0;
        r->action = info->action;
        r->flags = info->flags;
        r->tos = info->tos;
        read_prefix(a[FRA_SRC], info->src_len, &r->from);
        read_prefix(a[FRA_DST], info->dst_len, &r->to);
        r->table = a[FRA_TABLE] ? nla_get_u32(a[FRA_TABLE]) : info->table;
        read_bytes(a[FRA_PRIORITY], &r->priority, sizeof r->priority);
        read_bytes(a[FRA_GOTO], &r->jump_to, sizeof r->jump_to);
        read_bytes(a[FRA_FWMARK], &r->mark, sizeof r->mark);
        r->mark_mask = UINT32_MAX;
        read_bytes(a[FRA_FWMASK], &r->mark_mask, sizeof r->mark_mask);
        r->has_tunnel = a[FRA_TUN_ID] != NULL;
        r->has_l3mdev = a[FRA_L3MDEV] && nla_get_u8(a[FRA_L3MDEV]);
        r->has_uids = a[FRA_UID_RANGE] != NULL;
        read_bytes(a[FRA_UID_RANGE], &r->uids, sizeof r->uids);
        read_bytes(a[FRA_IP_PROTO], &r->protocol, sizeof r->protocol);
        read_bytes(a[FRA_SPORT_RANGE], &r->sport, sizeof r->sport);
        read_bytes(a[FRA_DPORT_RANGE], &r->dport, sizeof r->dport);
        /* All ones (-1 as the kernel keeps it): no suppression. */
        r->suppress_prefix = a[FRA_SUPPRESS_PREFIXLEN] ? (int32_t)nla_get_u32(a[FRA_SUPPRESS_PREFIXLEN]) : -1;
        if (a[FRA_IIFNAME])
                nla_strlcpy(r->in, a[FRA_IIFNAME], sizeof r->in);
        if (a[FRA_OIFNAME])
                nla_strlcpy(r->out, a[FRA_OIFNAME], sizeof r->out);
        return 1;
}

static int list_rules(struct netlink *n, sa_family_t family, struct rule **ret, size_t *ret_count)
{
        struct fib_rule_hdr info = {.family = (uint8_t)family};
        struct netlink_list list = {.item_bytes = sizeof(struct rule), .parse = rule_parse};
        int r = netlink_dump(n, netlink_request(RTM_GETRULE, NLM_F_DUMP, &info, sizeof info), &list);

        if (r < 0)
                return r;
        *ret = (struct rule *)(void *)list.items;
        *ret_count = list.count;
        return 0;
}

/* ---- matching ---- */

static bool in_range(const struct fib_rule_port_range *range, uint16_t port)
{
        return (range->start == 0 && range->end == 0) || (port >= range->start && port <= range->end);
}

static bool rule_selects(const struct rule *r, const struct netlink_query *q)
{
        uint32_t uid = q->has_uid ? q->uid : geteuid();

        /* What goes out of this machine comes in from "lo" as far as rules are concerned. */
        if (r->in[0] && !str_equal(r->in, "lo"))
                return false;
        if (r->out[0] && !str_equal(r->out, q->interface))
                return false;
        if (r->mark & r->mark_mask || r->has_tunnel || r->has_l3mdev || r->tos)
                return false;
        if (r->has_uids && (uid < r->uids.start || uid > r->uids.end))
                return false;
        /* A query without a source matches no "from": the lookup that chooses the source is made with none.
         */
        if (r->from.address.family && !cidr_contains(&r->from, &q->source))
                return false;
        if (r->to.address.family && !cidr_contains(&r->to, &q->destination))
                return false;
        if (r->protocol && r->protocol != q->protocol)
                return false;
        return in_range(&r->sport, q->source_port) && in_range(&r->dport, q->destination_port);
}

static bool rule_matches(const struct rule *r, const struct netlink_query *q)
{
        bool inverted = r->flags & FIB_RULE_INVERT;

        return rule_selects(r, q) != inverted;
}

/* ---- words ---- */

static void add_range(struct text *t, const char *word, const struct fib_rule_port_range *range)
{
        if (range->start == 0 && range->end == 0)
                return;
        if (range->start == range->end)
                text_addf(t, "%s %u ", word, range->start);
        else
                text_addf(t, "%s %u-%u ", word, range->start, range->end);
}

static void add_protocol(struct text *t, uint8_t protocol)
{
        if (protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP)
                text_addf(t, "ipproto %s ",
                        protocol == IPPROTO_TCP   ? "tcp"
                        : protocol == IPPROTO_UDP ? "udp"
                                                  : "icmp");
        else if (protocol)
                text_addf(t, "ipproto %u ", protocol);
}

static void add_action(struct text *t, const struct rule *r)
{
        switch (r->action) {
        case FR_ACT_TO_TBL:
                if (r->table == RT_TABLE_MAIN)
                        text_add(t, "lookup main");
                else if (r->table == RT_TABLE_LOCAL)
                        text_add(t, "lookup local");
                else if (r->table == RT_TABLE_DEFAULT)
                        text_add(t, "lookup default");
                else
                        text_addf(t, "lookup %u", r->table);
                break;
        case FR_ACT_BLACKHOLE:
                text_add(t, "blackhole");
                break;
        case FR_ACT_UNREACHABLE:
                text_add(t, "unreachable");
                break;
        case FR_ACT_PROHIBIT:
                text_add(t, "prohibit");
                break;
        }
}

static void name_rule(const struct rule *r, struct netlink_answer *answer)
{
        char prefix[INET_ADDR_TEXT];
        struct text t = {0};

        if (r->flags & FIB_RULE_INVERT)
                text_add(&t, "not ");
        if (r->from.address.family)
                text_addf(&t, "from %s ", cidr_format(&r->from, prefix));
        if (r->to.address.family)
                text_addf(&t, "to %s ", cidr_format(&r->to, prefix));
        if (r->in[0])
                text_addf(&t, "iif %s ", r->in);
        if (r->out[0])
                text_addf(&t, "oif %s ", r->out);
        if (r->has_uids)
                text_addf(&t, "uidrange %u-%u ", r->uids.start, r->uids.end);
        add_protocol(&t, r->protocol);
        add_range(&t, "sport", &r->sport);
        add_range(&t, "dport", &r->dport);
        if (t.length == 0)
                text_add(&t, "from all ");
        add_action(&t, r);
        str_copy(answer->rule_text, sizeof answer->rule_text, text_string(&t));
        answer->rule_priority = r->priority;
        text_done(&t);
}

/* ---- following ---- */

/* The longest prefix that holds the destination, then the lowest metric. 1 found, 0 none, -errno. */
static int find_in_table(
        struct netlink *n, const struct netlink_query *q, uint32_t table, struct netlink_route *ret)
{
        _cleanup_free_ struct netlink_route *routes = NULL;
        const struct netlink_route *best = NULL;
        size_t count;
        int r = netlink_list_routes(n, q->destination.family, table, &routes, &count);

        if (r < 0)
                return r;
        for (size_t i = 0; i < count; i++) {
                const struct netlink_route *c = &routes[i];

                if (!cidr_contains(&c->destination, &q->destination) || (c->is_dead && c->ifindex))
                        continue;
                if (q->interface[0] && c->ifindex && !str_equal(c->interface, q->interface))
                        continue;
                if (!best || c->destination.prefix > best->destination.prefix ||
                        (c->destination.prefix == best->destination.prefix && c->metric < best->metric))
                        best = c;
        }
        if (!best)
                return 0;
        *ret = *best;
        return 1;
}

static int error_of_route_type(unsigned type)
{
        return type == RTN_UNREACHABLE ? EHOSTUNREACH
               : type == RTN_PROHIBIT  ? EACCES
               : type == RTN_BLACKHOLE ? EINVAL
                                       : 0;
}

/* A rule that refuses by itself: its kind as a route type, and the error that the kernel gives for it. */
static unsigned refusal_of_rule(const struct rule *r, int *ret_error)
{
        switch (r->action) {
        case FR_ACT_UNREACHABLE:
                *ret_error = ENETUNREACH;
                return RTN_UNREACHABLE;
        case FR_ACT_PROHIBIT:
                *ret_error = EACCES;
                return RTN_PROHIBIT;
        case FR_ACT_BLACKHOLE:
                *ret_error = EINVAL;
                return RTN_BLACKHOLE;
        default:
                return RTN_UNSPEC;
        }
}

/* 1 when the search is over, 0 to go on with the next rule, -errno. */
static int follow_one(struct netlink *n, const struct netlink_query *q, const struct rule *rule,
        uint32_t table, int error_number, struct netlink_answer *answer)
{
        struct netlink_route route;
        int refusal = 0, r;
        unsigned type = refusal_of_rule(rule, &refusal);

        if (type != RTN_UNSPEC) {
                if (table == RT_TABLE_UNSPEC && refusal == error_number) {
                        answer->route.type = type;
                        name_rule(rule, answer);
                }
                return 1;
        }
        if (rule->action != FR_ACT_TO_TBL)
                return 0;
        if (table != RT_TABLE_UNSPEC) {
                if (rule->table != table)
                        return 0;
                name_rule(rule, answer);
                return 1;
        }
        r = find_in_table(n, q, rule->table, &route);
        if (r <= 0 || route.type == RTN_THROW || (int64_t)route.destination.prefix <= rule->suppress_prefix)
                return r < 0 ? r : 0;
        if (error_of_route_type(route.type) == error_number) {
                answer->route = route;
                answer->matched = true;
                if (rule->table != RT_TABLE_MAIN && rule->table != RT_TABLE_LOCAL &&
                        rule->table != RT_TABLE_DEFAULT)
                        name_rule(rule, answer);
        }
        return 1;
}

int netlink_rule_follow(struct netlink *n, const struct netlink_query *q, uint32_t table, int error_number,
        struct netlink_answer *answer)
{
        _cleanup_free_ struct rule *rules = NULL;
        uint32_t skip_below = 0;
        size_t count;
        int r = list_rules(n, q->destination.family, &rules, &count);

        /* The kernel lists rules in the order in which it tries them; "goto" only leads forward. */
        for (size_t i = 0; r == 0 && i < count; i++) {
                if (rules[i].priority < skip_below || !rule_matches(&rules[i], q))
                        continue;
                if (rules[i].action == FR_ACT_GOTO && !(rules[i].flags & FIB_RULE_UNRESOLVED))
                        skip_below = rules[i].jump_to;
                else
                        r = follow_one(n, q, &rules[i], table, error_number, answer);
        }
        return r < 0 ? r : 0;
}
