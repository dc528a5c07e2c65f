/* The guard: what wanted LAN routes would capture, and the routes on the WAN that keep it reachable. Pure. */
#pragma once

#include "helper/protocol.h"
#include "net/profile.h"
#include "net/site.h"
#include "wire/wire.h"

struct guard_input {
        const struct wire_config *config;
        const struct inet_addr *dns; /* the DNS servers in force */
        size_t dns_count;
        const struct profile *profile; /* ranges, addresses of its services */
        const struct inet_addr *known; /* more addresses of the control plane: of DNS, of the channel */
        size_t known_count;
        char wan_interface[IFNAMSIZ];
        struct inet_addr wan_gateway;  /* unset: on-link */
        struct cidr container_network; /* 172.18.0.0/16 */
};
struct guard_output {
        struct strv warnings; /* one sentence each: which route captures what, and what was done about it */
        struct helper_network
                network; /* all that is to be applied: LANs, their routes, host routes on the WAN */
};
void guard_output_done(struct guard_output *o);
/* LAN routes get metric 1024, the guard's 64: where both have the same destination the guard's wins. A
 * captured range or host is kept by a route to exactly the part that is captured. The WAN's own network and a
 * host on it need none. The container network is only warned about. */
void guard_plan(const struct guard_input *in, struct guard_output *ret);
