#include "fuzz.h"

#include "probe/capture.h"

#include <stdlib.h>

/* What a result promises, whatever came in. */
static void check(const struct capture_packet *p)
{
        if (p->is_tcp == p->is_udp || (p->is_icmp && p->tcp_flags) || (p->is_udp && p->tcp_flags))
                abort();
        if (p->from.address.family != p->to.address.family || !inet_addr_is_set(&p->from.address))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct capture_packet p;

        if (capture_parse_frame(data, size, &p) == 0)
                check(&p);
        return 0;
}
