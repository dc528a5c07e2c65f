/* One interface: flags, carrier, MTU. Missing: no such interface. Down: switched off, or without carrier. */
#include "probe/probe.h"

#include "base/text.h"
#include "net/netlink.h"

#include <errno.h>

static enum measurement_outcome measure(struct measurement *m, struct netlink *n)
{
        struct netlink_link l;
        int r = netlink_find_link(n, m->spec.interface, &l);

        if (r < 0) {
                m->error_number = -r;
                return r == -ENODEV ? OUTCOME_MISSING : OUTCOME_LOCAL_ERROR;
        }
        m->ifindex = l.ifindex;
        m->link_up = l.up ? YES : NO;
        m->carrier = l.carrier ? YES : NO;
        m->mtu = l.mtu;
        str_copy(m->operstate, sizeof m->operstate, l.operstate);
        netlink_mac_format(l.mac, l.mac_length, m->mac);
        /* "unknown" is what drivers say that do not keep the state (RFC 2863 in the kernel's
         * operstates.rst): their flags count. */
        if (!l.up || !l.carrier || str_equal(l.operstate, "down") ||
                str_equal(l.operstate, "lowerlayerdown") || str_equal(l.operstate, "notpresent"))
                return OUTCOME_DOWN;
        return OUTCOME_OK;
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
        probe_finish(p, measure(p->result, n));
        netlink_close(n);
        return 0;
}

const struct probe_class probe_link_class = {
        .kind = MEASUREMENT_LINK,
        .size_bytes = sizeof(struct probe),
        .start = start,
};
