/* The network as the daemon wants it, made so by rtnetlink. Needs CAP_NET_ADMIN. */
#pragma once

#include "helper/protocol.h"

/* Makes the wanted state of what this helper makes (HELPER_ROUTE_PROTOCOL): sets interfaces up, adds what is
 * missing, takes away what is not wanted any more. The mark is in the kernel, so that a helper that was
 * killed midway, or was never here before, finds what it made. What others made stays: where it is what is
 * wanted, it is taken as done; where it is in the way, that is an error.
 *
 * All or nothing: 0, or -errno naming the object and why, with everything as it was before. Refused: an
 * interface that does not exist (-ENODEV); loopback; an address for the WAN (the interface of the default
 * route); a next hop that is neither on a network of its interface nor the WAN's gateway; on-link routes
 * anywhere but on the WAN (-EPERM). */
int helper_network_apply(const struct helper_network *wanted, struct error *ret_error);
