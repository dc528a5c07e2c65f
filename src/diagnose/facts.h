/* Measurements, sorted by what they speak of: services and their addresses, DNS servers, the host itself.
 * Built anew for each plan and conclusion; borrows the measurements. */
#pragma once

#include "diagnose/conclusion.h"
#include "probe/measurement.h"

#define FACTS_MAX_TARGETS 64 /* of one service, learned from DNS; the profile's own count beyond it */

struct target {
        struct endpoint endpoint;
        struct service *service;
        int range; /* index of the profile's range, -1 none */
        bool from_profile, from_dns;
        struct measurement *route, *tcp, *tcp_device, *tls;
        struct measurement *http; /* the last ordinary request to this address */
        bool captured;            /* its route leaves by another interface than the WAN */
        /* Written while concluding */
        enum address_state state;
        enum probe_stage stage;
        double rtt_ms;
        bool explained; /* a cause says why it is blocked */
};

struct service {
        struct measurement *config;
        const char *name, *host;
        struct target *targets;
        size_t target_count;
        bool resolved; /* a server gave an address inside the ranges */
        /* Written while concluding */
        bool dns_impaired; /* a configured server or transport that the node relies on fails for it */
        bool explained;    /* a cause stands for the service as a whole */
        bool usable_by_proxy;
        bool blocked_whole; /* blocked whatever its addresses say (captive portal, 5xx …) */
        enum probe_stage stage;
};

/* One configured DNS server over one transport. */
enum transport_state {
        TRANSPORT_UNTESTED,
        TRANSPORT_ANSWERS,   /* whatever it says */
        TRANSPORT_DEAD,      /* silence */
        TRANSPORT_REJECTED,  /* ICMP from a device on the way */
        TRANSPORT_REFUSED,   /* port unreachable or RST in the server's own name */
        TRANSPORT_HOST_ERROR /* a local errno: not the server's doing */
};

struct server {
        struct endpoint endpoint;
        struct measurement *route_udp, *route_tcp;
        bool captured;
        enum transport_state udp, tcp;         /* by route, or by device when captured and failing by route */
        struct measurement *udp_row, *tcp_row; /* one that shows that state */
        enum transport_state udp_by_route, tcp_by_route;
};

struct facts {
        struct measurement_list *list;
        struct measurement *profile, *site;
        struct cidr *ranges;
        size_t range_count;
        struct service *services;
        size_t service_count;
        struct server *servers;
        size_t server_count;
        struct measurement *link, *address, *neighbour, *arp_gateway, *arp_conflict, *capture;
        double rtt_max_ms; /* over all answers so far */
        int answers, lost; /* answered probes, and their earlier tries that got nothing */
};

/* ret must be zero. The list outlives the facts. */
void facts_build(struct facts *ret, struct measurement_list *list);
void facts_done(struct facts *f);

bool facts_in_ranges(const struct facts *f, const struct inet_addr *a); /* true without ranges */
int facts_range_of(const struct facts *f, const struct inet_addr *a);   /* index or -1 */
const char *facts_wan(const struct facts *f);                           /* "" unknown */
bool facts_is_own_address(const struct facts *f, const struct inet_addr *a);
struct target *facts_target(
        struct facts *f, const struct endpoint *e, const char *service); /* service "" any */
/* The address answers from beyond the gateway or anywhere: DNS answered, SYN-ACK, RST, foreign ICMP. */
bool facts_is_answer(const struct facts *f, const struct measurement *m);
/* The furthest hop that answered time-exceeded towards the target, and the first TTL at which something else
 * came; zero when nothing is known. */
struct trace_facts {
        struct endpoint to;
        struct hop_name last; /* furthest time-exceeded */
        struct measurement *last_row;
        int answer_ttl; /* smallest TTL with an RST, SYN-ACK or ICMP refusal */
        enum hop_answer answer;
        struct measurement *answer_row;
        bool traced;
};
void facts_trace(const struct facts *f, const struct endpoint *to, struct trace_facts *ret);
/* The hop behind the last that answered towards this target gave an ICMP error or the host's SYN-ACK to
 * another flow that asked it later, at its first try: it has errors to spend, and its silence towards this
 * target is no lack of them. */
bool facts_next_hop_speaks(const struct facts *f, const struct trace_facts *trace);
/* Hop number of a device: from any trace in which it answered; 1 for the gateway; 0 unknown. */
int facts_hop_of(const struct facts *f, const struct inet_addr *device);
