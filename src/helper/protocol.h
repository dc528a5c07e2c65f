/* What the daemon may ask of the root side: a closed table. One SOCK_SEQPACKET message is one request or one
 * answer, a JSON object of at most 256 KiB. A message that is not exactly one of these ends the helper's
 * connection (and a helper that the daemon started itself ends). Nothing in it is a path or a command. */
#pragma once

#include "base/error.h"
#include "base/inet.h"

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#define HELPER_MESSAGE_MAXIMUM ((size_t)1 << 20)
/* Routes and addresses that the helper made carry this (RTA_PROTOCOL, IFA_PROTO is not used): it never
 * touches others. */
#define HELPER_ROUTE_PROTOCOL 187

enum helper_operation {
        HELPER_HELLO,         /* {"op":"hello"} → {"ok":true,"version":…} */
        HELPER_NETWORK_APPLY, /* the whole wanted state: addresses of LANs, routes. What the helper made
                                 before and is not in it is taken away */
};

struct helper_address {
        char interface[IFNAMSIZ];
        struct cidr address;
};
struct helper_route {
        char interface[IFNAMSIZ];
        struct cidr destination;
        struct inet_addr next_hop; /* unset: on-link */
        unsigned metric;
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
        struct helper_network network; /* HELPER_NETWORK_APPLY */
};
void helper_request_done(struct helper_request *r);
json_t *helper_request_to_json(const struct helper_request *r);
int helper_request_parse(
        const void *data, size_t length, struct helper_request *ret, struct error *ret_error);

/* {"ok":true} or {"ok":false,"number":ERRNO,"code":…,"error":…}: as an error. */
json_t *helper_answer_to_json(const struct error *e);
int helper_answer_parse(const void *data, size_t length, struct error *ret_error);
