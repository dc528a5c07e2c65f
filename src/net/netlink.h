/* What the kernel knows of links, addresses, routes, policy rules and neighbours (rtnetlink(7)), read through
 * libnl. Every call is synchronous and short: the kernel answers from memory, and no call waits longer than a
 * second. No call of this header changes anything, and none needs a privilege; see netlink_change.h.
 *
 * A handle is one netlink socket; keep it for several questions in a row, or open one for a single question
 * (it costs some microseconds). A handle belongs to the network namespace in which it was opened. Not
 * thread-safe.
 *
 * Functions give 0 or -errno; ret_* are untouched on failure. Lists are the caller's: one free() each. */
#pragma once

#include "base/inet.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netlink; /* opaque */

int netlink_open(struct netlink **ret);           /* -EMFILE, -ENOBUFS … */
struct netlink *netlink_close(struct netlink *n); /* NULL is fine; gives NULL */

/* ---- links ---- */

struct netlink_link {
        int ifindex;
        char name[IFNAMSIZ];
        unsigned flags;     /* IFF_*, netdevice(7) */
        bool up;            /* IFF_UP: the operator wants it up */
        bool carrier;       /* IFF_LOWER_UP: the driver sees a carrier */
        char operstate[16]; /* RFC 2863: unknown, notpresent, down, lowerlayerdown, testing, dormant, up */
        uint32_t mtu;
        uint16_t hardware_type; /* ARPHRD_* */
        uint8_t mac[8];         /* valid: mac_length bytes; longer link addresses are cut */
        size_t mac_length;
};
/* All links, in the kernel's order. */
int netlink_list_links(struct netlink *n, struct netlink_link **ret, size_t *ret_count);
/* One link by name: -ENODEV when there is none, -EINVAL for a name that is too long. */
int netlink_find_link(struct netlink *n, const char *name, struct netlink_link *ret);
/* "02:00:00:00:00:01"; "" for a length of zero. `ret` holds NETLINK_MAC_TEXT bytes. */
#define NETLINK_MAC_TEXT 24
const char *netlink_mac_format(const uint8_t *mac, size_t length, char ret[NETLINK_MAC_TEXT]);

/* ---- addresses ---- */

struct netlink_address {
        int ifindex;
        struct cidr address; /* the local address with its prefix length */
        uint32_t flags;      /* IFA_F_* */
        uint8_t protocol;    /* IFA_PROTO: who made it; 0 when nobody said so */
        bool usable;         /* not tentative, no duplicate found (DAD), not deprecated, not link-local */
};
/* The addresses of one interface (0: of all) and one family (AF_UNSPEC: IPv4, then IPv6). */
int netlink_list_addresses(
        struct netlink *n, int ifindex, sa_family_t family, struct netlink_address **ret, size_t *ret_count);

/* ---- neighbours ---- */

struct netlink_neighbour {
        char state[16]; /* none, incomplete, reachable, stale, delay, probe, failed, noarp, permanent
                           (ip-neighbour(8)) */
        uint8_t mac[8]; /* valid: mac_length bytes */
        size_t mac_length;
};
/* The neighbour table's entry for `address` on an interface; state "none" when there is no entry. */
int netlink_find_neighbour(
        struct netlink *n, int ifindex, const struct inet_addr *address, struct netlink_neighbour *ret);

/* ---- routes ---- */

struct netlink_route {
        struct cidr destination; /* prefix 0: the default route */
        unsigned type;  /* RTN_UNICAST, RTN_LOCAL, RTN_UNREACHABLE …; see netlink_route_type_to_string */
        uint32_t table; /* 254 main, 253 default, 255 local */
        uint32_t metric;
        uint8_t protocol; /* RTPROT_*: who made it */
        bool is_dead;     /* the next hop's link is down or without carrier */
        int ifindex;      /* where it leaves, 0: nowhere */
        char interface[IFNAMSIZ];
        struct inet_addr next_hop;         /* unset: on-link */
        struct inet_addr preferred_source; /* unset: the kernel chooses by scope */
};
const char *netlink_route_type_to_string(
        unsigned type); /* "unicast", "unreachable", "prohibit" … "unknown" */

/* As ip-route(8) would put it: "198.51.100.0/24 via 10.20.0.1", on-link "198.51.100.0/24 dev eth1",
 * "default via 192.0.2.1", "unreachable 198.51.100.0/24"; a table other than main, local and default comes
 * first: "table 100: default via 10.20.0.1". */
#define NETLINK_ROUTE_TEXT 192
const char *netlink_route_format(const struct netlink_route *r, char ret[NETLINK_ROUTE_TEXT]);

/* The routes of one table; a table that does not exist is empty. */
int netlink_list_routes(
        struct netlink *n, sa_family_t family, uint32_t table, struct netlink_route **ret, size_t *ret_count);
/* The default route of the main table: of those that are alive the one with the lowest metric; when none is
 * alive the dead one with the lowest metric. -ENETUNREACH when there is none. */
int netlink_default_route(struct netlink *n, sa_family_t family, struct netlink_route *ret);
/* The address that packets by this route start from: its preferred source, else the first usable address of
 * its interface, those whose prefix holds the next hop first. -EADDRNOTAVAIL when there is none. */
int netlink_route_source(struct netlink *n, const struct netlink_route *route, struct inet_addr *ret);

/* What the kernel would do with a packet. Fields that are zero are not part of the question. */
struct netlink_query {
        struct inet_addr destination;           /* required */
        struct inet_addr source;                /* an address of this machine */
        char interface[IFNAMSIZ];               /* as SO_BINDTODEVICE would bind it */
        uint8_t protocol;                       /* IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP */
        uint16_t source_port, destination_port; /* host byte order */
        bool has_uid; /* rules by user: ask for `uid` rather than for the caller's own */
        uint32_t uid;
};

#define NETLINK_RULE_TEXT 256
struct netlink_answer {
        /* 0: the packet would leave. ENETUNREACH: no route, or a rule or route that says so; EHOSTUNREACH: an
         * unreachable route; EACCES: prohibit; EINVAL: blackhole; EADDRNOTAVAIL: the source is not on this
         * machine, so no lookup was made; ENODEV: no such interface. */
        int error_number;
        /* The matched entry of the FIB is known. Where it is false although error_number is 0, the kernel
         * assumes that the destination is on the link it was bound to. */
        bool matched;
        /* destination, type, table: of the matched entry. interface, next_hop, preferred_source: what this
         * very packet would use (of a multipath route the way its hash chooses, redirects included). type is
         * 0 when no entry is known; for a policy rule that refuses by itself it is that rule's kind, with
         * matched false. */
        struct netlink_route route;
        /* The policy rule that chose the table, or that refuses; "" when the table is main, local or default:
         * "from 192.0.2.0/24 lookup 100", "ipproto tcp dport 443 lookup 100", "to 198.51.100.0/24 prohibit"
         * (ip-rule(8) without its priority). */
        char rule_text[NETLINK_RULE_TEXT];
        uint32_t rule_priority; /* valid with rule_text */
};
/* RTM_GETROUTE with RTA_DST, RTA_SRC, RTA_OIF, RTA_UID, RTA_IP_PROTO, RTA_SPORT and RTA_DPORT, so that rules
 * by port, protocol and user count; twice: what the packet would do, and (RTM_F_FIB_MATCH) which entry says
 * so. The kernel does not name an entry that refuses: rules and tables are read and followed here for these.
 * Packet marks and the reading of a TOS are left out: our packets carry neither. 0 whenever the kernel told
 * what it would do, a refusal included; -errno when it could not be asked. */
int netlink_lookup(struct netlink *n, const struct netlink_query *q, struct netlink_answer *ret);
