/* The neighbour table's word on one address of a segment. Ok: it holds a hardware address, however old.
 * Missing: no entry, or one without a hardware address (incomplete, failed). It proves nothing about the
 * present. */
#include "probe/probe.h"

#include "base/text.h"
#include "net/netlink.h"

#include <errno.h>

static enum measurement_outcome measure(struct measurement *m, struct netlink *n)
{
        struct netlink_neighbour e;
        int r;

        m->ifindex = (int)if_nametoindex(m->spec.interface);
        r = m->ifindex ? netlink_find_neighbour(n, m->ifindex, &m->spec.target.address, &e) : -ENODEV;
        if (r < 0) {
                m->error_number = -r;
                return r == -ENODEV ? OUTCOME_MISSING : OUTCOME_LOCAL_ERROR;
        }
        str_copy(m->neighbour_state, sizeof m->neighbour_state, e.state);
        if (str_equal(e.state, "none") || str_equal(e.state, "incomplete") || str_equal(e.state, "failed"))
                return OUTCOME_MISSING;
        netlink_mac_format(e.mac, e.mac_length, m->mac);
        return OUTCOME_OK;
}

static int start(struct probe *p)
{
        struct netlink *n;
        int r;

        p->result->stage = STAGE_LINK;
        if (!inet_addr_is_set(&p->result->spec.target.address))
                return -EINVAL;
        r = netlink_open(&n);
        if (r < 0) {
                probe_finish_errno(p, OUTCOME_LOCAL_ERROR, -r);
                return 0;
        }
        probe_finish(p, measure(p->result, n));
        netlink_close(n);
        return 0;
}

const struct probe_class probe_neighbour_class = {
        .kind = MEASUREMENT_NEIGHBOUR,
        .size_bytes = sizeof(struct probe),
        .start = start,
};
