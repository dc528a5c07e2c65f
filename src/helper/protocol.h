/* What the daemon may ask of the root side: a closed table. One SOCK_SEQPACKET message is one request or one
 * answer, a JSON object of at most HELPER_MESSAGE_MAXIMUM bytes. A message that is not exactly one of these
 * ends the connection (and a helper that the daemon started itself ends). Nothing in it is a path or a
 * command. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "wire/update.h"

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

/* Where systemd listens for the helper. Its folder is root's own: the daemon's user can put nothing there. */
#define HELPER_SOCKET "/run/gridnode-helper/socket"

#define HELPER_MESSAGE_MAXIMUM ((size_t)512 << 10)
/* Routes and addresses that the helper made carry this (RTA_PROTOCOL, IFA_PROTO): it never touches others. */
#define HELPER_ROUTE_PROTOCOL 173 /* nobody's in rtnetlink.h and FRR */
#define HELPER_MAX_ROUTES     4096
#define HELPER_MAX_ADDRESSES  64
#define HELPER_MAX_INTERFACES 64

enum helper_operation {
        HELPER_HELLO,         /* {"op":"hello"} → {"ok":true,"version":…} */
        HELPER_NETWORK_APPLY, /* the whole wanted state: addresses of LANs, routes. What the helper made
                                 before and is not in it is taken away. All or nothing: when a part fails,
                                 what was before is put back */
        HELPER_UPDATE_START,  /* {"op":"update.start","job":{…}}: as update_start() in update_start.h */
        HELPER_UPDATE_CANCEL, /* {"op":"update.cancel","id":"u-1"} */
};

struct helper_address {
        char interface[IFNAMSIZ];
        struct cidr address;
};
struct helper_route {
        char interface[IFNAMSIZ];
        struct cidr destination;
        struct inet_addr next_hop; /* unset: on-link, on the WAN only */
        unsigned metric;           /* from 1 */
};
struct helper_network {
        char **up; /* interfaces to set up, with their addresses and routes */
        size_t up_count;
        struct helper_address *addresses;
        size_t address_count;
        struct helper_route *routes;
        size_t route_count;
};
void helper_network_done(struct helper_network *n);

struct helper_request {
        enum helper_operation operation;
        struct helper_network network;       /* HELPER_NETWORK_APPLY */
        struct update_job job;               /* HELPER_UPDATE_START */
        char update_id[WIRE_ID_MAXIMUM + 1]; /* HELPER_UPDATE_CANCEL */
};
void helper_request_done(struct helper_request *r);
/* {"op":"network.apply","up":["eth1"],"addresses":[{"interface":"eth1","address":"10.20.0.2/24"}],
 * "routes":[{"interface":"eth1","next_hop":"10.20.0.1","metric":1024,"to":["10.30.0.0/16",…]}]}: neighbours
 * in the list that share a way share an item, so that a message of thousands of routes stays small. */
json_t *helper_request_to_json(const struct helper_request *r);
/* Checks everything that can be said without looking at the machine: names, unicast addresses and sane
 * prefixes, no host bits in destinations, no default route, one IP version a route, nothing twice. */
int helper_request_parse(
        const void *data, size_t length, struct helper_request *ret, struct error *ret_error);

/* {"ok":true,"version":"0.1.0"} or {"ok":false,"number":ERRNO,"code":…,"error":…}. `e` NULL or with number 0:
 * it was done. */
json_t *helper_answer_to_json(const struct error *e);
/* 0 when it is an answer: *ret_answer has number 0, or the helper's error (its code one of ours). Else
 * -EBADMSG or -EFBIG. */
int helper_answer_parse(const void *data, size_t length, struct error *ret_answer, struct error *ret_error);
