/* What the kernel would do with our packets to one target: from our source, by protocol, port and user, and
 * bound to the spec's interface where it names one.
 *
 * Missing: no route, or one (or a rule) that refuses: errno, route_type and the texts say which. Local error:
 * the source or the interface is not on this machine, or netlink failed. */
#include "probe/probe.h"

#include "base/alloc.h"
#include "base/text.h"
#include "net/netlink.h"

#include <errno.h>

static struct netlink_query query_of(const struct probe *p)
{
        const struct probe_spec *s = &p->result->spec;
        struct netlink_query q = {.destination = s->target.address, .destination_port = s->target.port};

        if (p->context->source.family == s->target.address.family)
                q.source = p->context->source;
        str_copy(q.interface, sizeof q.interface, s->interface);
        switch (s->transport) {
        case TRANSPORT_NONE:
                /* The kernel takes ports without a protocol, but no rule by port means them. */
                q.destination_port = 0;
                break;
        case TRANSPORT_UDP:
                q.protocol = IPPROTO_UDP;
                break;
        case TRANSPORT_TCP:
                q.protocol = IPPROTO_TCP;
                break;
        }
        return q;
}

static enum measurement_outcome outcome_of(int error_number)
{
        switch (error_number) {
        case 0:
                return OUTCOME_OK;
        case ENETUNREACH:
        case EHOSTUNREACH:
        case EACCES:
        case EINVAL:
                return OUTCOME_MISSING;
        default:
                return OUTCOME_LOCAL_ERROR;
        }
}

static void fill(struct measurement *m, const struct netlink_query *q, const struct netlink_answer *a)
{
        m->error_number = a->error_number;
        m->ifindex = a->route.ifindex;
        str_copy(m->route_interface, sizeof m->route_interface, a->route.interface);
        m->next_hop = a->route.next_hop;
        if (a->route.type)
                str_copy(m->route_type, sizeof m->route_type, netlink_route_type_to_string(a->route.type));
        if (a->matched) {
                char text[NETLINK_ROUTE_TEXT];

                m->route_table = a->route.table;
                m->route_text = xstrdup(netlink_route_format(&a->route, text));
                if (a->route.destination.prefix == 0)
                        str_copy(m->route_prefix, sizeof m->route_prefix, "default");
                else
                        cidr_format(&a->route.destination, m->route_prefix);
        }
        if (a->rule_text[0])
                m->rule_text = xstrdup(a->rule_text);
        inet_addr_format(inet_addr_is_set(&q->source) ? &q->source : &a->route.preferred_source, m->source);
}

static int start(struct probe *p)
{
        struct netlink_query q = query_of(p);
        struct netlink_answer answer;
        struct netlink *n;
        int r = netlink_open(&n);

        p->result->stage = STAGE_ROUTE;
        if (r == 0) {
                r = netlink_lookup(n, &q, &answer);
                netlink_close(n);
        }
        if (r < 0) {
                probe_finish_errno(p, OUTCOME_LOCAL_ERROR, -r);
                return 0;
        }
        fill(p->result, &q, &answer);
        probe_finish(p, outcome_of(answer.error_number));
        return 0;
}

const struct probe_class probe_route_class = {
        .kind = MEASUREMENT_ROUTE,
        .size_bytes = sizeof(struct probe),
        .start = start,
};
