/* The guard: what wanted LAN routes would capture, and the routes on the WAN that keep it reachable. Pure. */
#pragma once

#include "helper/protocol.h"
#include "net/profile.h"
#include "net/site.h"
#include "wire/wire.h"

#define GUARD_LAN_METRIC   1024
#define GUARD_METRIC       64
#define GUARD_MAX_WARNINGS 32

struct guard_input {
        const struct wire_config *config;
        const struct inet_addr *dns; /* the DNS servers in force */
        size_t dns_count;
        const struct profile *profile; /* ranges, addresses of its services; NULL: none */
        const struct inet_addr *known; /* more addresses of the control plane: of DNS, of the channel */
        size_t known_count;
        char wan_interface[IFNAMSIZ];
        struct inet_addr wan_gateway;  /* IPv4; unset: on-link */
        struct inet_addr wan_gateway6; /* unset: none is known, and IPv6 beyond the WAN's own networks cannot
                                          be kept */
        const struct cidr *wan_networks; /* of the WAN's addresses: what is on-link there */
        size_t wan_network_count;
        struct cidr container_network; /* 172.18.0.0/16 */
};
struct guard_output {
        struct strv warnings; /* one sentence each, at most GUARD_MAX_WARNINGS: which route captures what, and
                                 what was done about it */
        struct helper_network
                network; /* all that is to be applied: LANs, their routes, host routes on the WAN */
};
void guard_output_done(struct guard_output *o);
/* LAN routes get metric 1024, the guard's 64: where both have the same destination the guard's wins. A
 * captured range or host is kept by a route to exactly the part that is captured. A LAN's own network
 * captures as a route does; the kernel's route to it has metric 0 (IPv4), so that where it is the captured
 * part itself, two routes to its halves keep it. The WAN's own network and a host on it need none, unless a
 * route is more specific than that network: then the guard's route is on-link. The container network is only
 * warned about, and with guard=false everything is. A route whose next hop is not on its interface's network
 * is left out, with a warning, and so is the default route, which the helper would refuse. */
void guard_plan(const struct guard_input *in, struct guard_output *ret);
