/* The addresses of one interface, and whether the chosen source is on this machine at all.
 *
 * `addresses` lists both families. The outcome is about the family that the run uses (the source's, else
 * IPv4): missing when the interface is absent or none of its addresses of that family can be used. A source
 * that is on another interface or nowhere is told by source_is_here, not by the outcome. */
#include "probe/probe.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "net/netlink.h"

#include <errno.h>

static void note_source(struct measurement *m, const struct inet_addr *source,
        const struct netlink_address *all, size_t count)
{
        if (!inet_addr_is_set(source))
                return;
        inet_addr_format(source, m->source);
        m->source_is_here = inet_addr_is_loopback(source) ? YES : NO;
        for (size_t i = 0; i < count; i++)
                if (inet_addr_equal(&all[i].address.address, source))
                        m->source_is_here = YES;
}

static enum measurement_outcome judge(
        struct measurement *m, sa_family_t family, const struct netlink_address *all, size_t count)
{
        size_t link_local = 0, of_family = 0, usable = 0;
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < count; i++) {
                const struct netlink_address *a = &all[i];

                if (a->ifindex != m->ifindex)
                        continue;
                strv_add(&m->addresses, cidr_format(&a->address, text));
                if (a->address.address.family != family)
                        continue;
                of_family++;
                usable += a->usable;
                link_local += inet_addr_is_link_local(&a->address.address);
        }
        m->only_link_local = of_family > 0 && link_local == of_family ? YES : NO;
        return usable > 0 ? OUTCOME_OK : OUTCOME_MISSING;
}

static enum measurement_outcome measure(
        struct measurement *m, struct netlink *n, const struct inet_addr *source)
{
        _cleanup_free_ struct netlink_address *all = NULL;
        sa_family_t family = inet_addr_is_set(source) ? source->family : AF_INET;
        size_t count;
        int r = netlink_list_addresses(n, 0, AF_UNSPEC, &all, &count);

        if (r < 0) {
                m->error_number = -r;
                return OUTCOME_LOCAL_ERROR;
        }
        note_source(m, source, all, count);
        m->ifindex = (int)if_nametoindex(m->spec.interface);
        if (m->ifindex == 0) {
                m->error_number = errno;
                /* Anything else is a shortage: the call needs a descriptor. */
                return errno == ENODEV || errno == ENXIO ? OUTCOME_MISSING : OUTCOME_LOCAL_ERROR;
        }
        return judge(m, family, all, count);
}

static int start(struct probe *p)
{
        struct netlink *n;
        int r = netlink_open(&n);

        p->result->stage = STAGE_LINK;
        if (r < 0) {
                probe_finish_errno(p, OUTCOME_LOCAL_ERROR, -r);
                return 0;
        }
        probe_finish(p, measure(p->result, n, &p->context->source));
        netlink_close(n);
        return 0;
}

const struct probe_class probe_address_class = {
        .kind = MEASUREMENT_ADDRESS,
        .size_bytes = sizeof(struct probe),
        .start = start,
};
