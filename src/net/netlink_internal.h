/* Shared by the netlink*.c files only. */
#pragma once

#include "net/netlink.h"

#include <netlink/msg.h>
#include <netlink/netlink.h>

/* One kind of item being read from a dump. */
struct netlink_list {
        char *items;
        size_t item_bytes, count, allocated;
        /* 1: *item was filled and counts; 0: the message is of no interest. `item` is zeroed beforehand. */
        int (*parse)(const struct nlmsghdr *message, void *item, const void *filter);
        const void *filter;
};

/* Starts a request of this type with a fixed header; never NULL. */
struct nl_msg *netlink_request(int type, int flags, const void *header, size_t header_bytes);
void netlink_put_address(struct nl_msg *m, int attribute, const struct inet_addr *a);
/* Sends a request (freed here in every case) and reads its one answer into `item` with list.parse's rules.
 * 0, -ENOMSG when the answer was of no interest, or the kernel's -errno. */
int netlink_ask(struct netlink *n, struct nl_msg *request, struct netlink_list *one);
/* Sends a dump request (freed here) and collects; begins anew when the table changed meanwhile. 0 or -errno,
 * with the list emptied. */
int netlink_dump(struct netlink *n, struct nl_msg *request, struct netlink_list *list);
/* Sends a request for a change (freed here) and waits for the kernel's word: 0 or its -errno. */
int netlink_do(struct netlink *n, struct nl_msg *request);
/* An address attribute as a value; false for a length that is none. */
bool netlink_get_address(const struct nlattr *a, struct inet_addr *ret);

/* A route message as a struct; 1, or 0 when it is none (a cached one, or malformed). `filter` is not used. */
int netlink_route_parse(const struct nlmsghdr *message, void *item, const void *filter);

/* Follows the policy rules for a query. With `table` set: finds the first matching rule that leads there, and
 * fills rule_text and rule_priority. With table 0: finds what refuses the query with `error_number`: fills
 * route, matched and (where a rule is to be named) rule_text. 0 also when nothing was found. */
int netlink_rule_follow(struct netlink *n, const struct netlink_query *q, uint32_t table, int error_number,
        struct netlink_answer *answer);
