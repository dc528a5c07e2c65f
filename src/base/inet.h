/* Addresses, prefixes and endpoints of IPv4 and IPv6, as values. */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct inet_addr {
        sa_family_t family; /* AF_INET, AF_INET6, or 0: none */
        union {
                struct in_addr v4;
                struct in6_addr v6;
                uint8_t bytes[16]; /* network byte order */
        };
};

struct cidr {
        struct inet_addr address; /* as written: host bits are kept, see cidr_contains */
        uint8_t prefix;
};

struct endpoint {
        struct inet_addr address;
        uint16_t port; /* host byte order; 0: none */
};

#define INET_ADDR_TEXT 64 /* enough for an address, a prefix or an endpoint */

int inet_addr_parse(const char *s, struct inet_addr *ret); /* literal only; 0 or -EINVAL */
const char *inet_addr_format(const struct inet_addr *a, char ret[INET_ADDR_TEXT]); /* "" for none */
bool inet_addr_equal(const struct inet_addr *a, const struct inet_addr *b);
int inet_addr_compare(const struct inet_addr *a, const struct inet_addr *b); /* for qsort */
bool inet_addr_is_set(const struct inet_addr *a);
/* In the order in which to try them: the first of each network (/24, /48), then the second of each, and so
 * on, since one network may be blocked as a whole. Unset ones and repetitions are left out. At most `maximum`
 * go into ret; returns how many. */
size_t inet_addr_alternate(
        struct inet_addr *ret, size_t maximum, const struct inet_addr *addresses, size_t count);
bool inet_addr_is_loopback(const struct inet_addr *a);
bool inet_addr_is_link_local(const struct inet_addr *a);
/* Why an address cannot be a public service (RFC 6890, 1918, 6598): "loopback", "private", "link-local",
 * "multicast", "unspecified", "shared" (100.64/10), "reserved"; NULL when it can. Documentation ranges
 * (RFC 5737, 3849) are not bogons here: labs stand in them. */
const char *inet_addr_bogon(const struct inet_addr *a);
unsigned inet_addr_bits(const struct inet_addr *a); /* 32, 128, or 0 */

int cidr_parse(const char *s, struct cidr *ret); /* "10.0.0.0/8"; a bare address is /32 or /128 */
const char *cidr_format(const struct cidr *c, char ret[INET_ADDR_TEXT]);
bool cidr_contains(const struct cidr *c, const struct inet_addr *a);
bool cidr_covers(const struct cidr *outer, const struct cidr *inner); /* or is the same network */
bool cidr_equal(const struct cidr *a, const struct cidr *b);          /* host bits count */
struct cidr cidr_network(const struct cidr *c);                       /* without host bits */

/* "192.0.2.1:443", "[2001:db8::1]:443", or the bare address when the port is 0. */
int endpoint_parse(const char *s, struct endpoint *ret);
const char *endpoint_format(const struct endpoint *e, char ret[INET_ADDR_TEXT]);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);
/* Fills a sockaddr; returns its length. */
socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *ret);
void endpoint_from_sockaddr(
        const struct sockaddr *sa, struct endpoint *ret); /* family 0 for other families */
