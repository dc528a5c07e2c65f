/* Stories: what a run measured, told in a few lines. story_healthy() tells of a site on which nothing is
 * wrong; each further line changes one thing, as the fault would.
 *
 * The site: eth0 with 192.0.2.10, gateway 192.0.2.1, two DNS servers and two services with an address in each
 * of the control plane's two ranges, three hops away. */
#pragma once

#include "base/cleanup.h"
#include "diagnose/conclusion.h"
#include "diagnose/facts.h"

#define GATEWAY  "192.0.2.1"
#define ROUTER   "10.255.1.2" /* hop 2 */
#define REPO1    "198.51.100.20:443"
#define REPO2    "203.0.113.200:443"
#define CONTROL1 "198.51.100.21:8443"
#define CONTROL2 "203.0.113.201:8443"
#define DNS1     "198.51.100.53:53"
#define DNS2     "203.0.113.53:53"
#define REPO     "repo.grid.example"
#define CONTROL  "control.grid.example"

#define STORY_TTL 62           /* with which the hosts' answers arrive */
#define STORY_NOW 1795000000LL /* UTC seconds */
#define DAYS      86400LL

struct story {
        struct measurement_list list;
        struct conclusion conclusion;
        char codes[512];
};

void story_configured(struct story *s); /* the config.* rows alone */
void story_healthy(struct story *s);
void story_done(struct story *s);
#define _story_ _cleanup_(story_done) struct story

/* A new row; outcome OK. `target` may be NULL. */
struct measurement *story_add(struct story *s, enum measurement_kind kind, const char *target);
/* The first row that fits; NULL target: any. Fails the test when there is none. */
struct measurement *story_find(
        struct story *s, enum measurement_kind kind, enum probe_purpose purpose, const char *target);
struct measurement *story_seek(struct story *s, enum measurement_kind kind, enum probe_purpose purpose,
        const char *target); /* the same, or NULL */
bool story_fits(const struct measurement *m, enum measurement_kind kind, const char *target);
void story_drop(struct story *s, enum measurement_kind kind, const char *target); /* NULL: any target */

/* ---- the site ---- */
void story_no_ranges(struct story *s);
void story_no_addresses(struct story *s); /* the profile gives none: names must be resolved */
void story_no_certificate(struct story *s);
void story_no_capture(struct story *s);
void story_no_icmp(struct story *s); /* no ICMP tells who refuses; traces stay silent */
void story_lan(struct story *s, const char *interface, const char *route); /* the site file's own route */
/* Its traffic leaves elsewhere: "10.30.0.0/16 via 10.20.0.1", "eth1". The route's prefix is its first word.
 */
struct measurement *story_route(
        struct story *s, const char *target, const char *route, const char *interface);
/* The kernel refuses: "unreachable", "blackhole", or "" for no route at all. */
void story_no_route(struct story *s, const char *target, const char *type);

/* ---- services; what rests on a connect or handshake that fails is taken back ---- */
struct measurement *story_tcp(struct story *s, const char *target, enum measurement_outcome outcome);
void story_port(struct story *s, uint16_t port, enum measurement_outcome outcome);
void story_range(struct story *s, const char *prefix, uint16_t port, enum measurement_outcome outcome);
struct measurement *story_rejected(
        struct story *s, const char *target, const char *by); /* ICMP, prohibited */
struct measurement *story_reset(
        struct story *s, const char *target, int ttl); /* RST with that TTL, 0: not seen */
struct measurement *story_device(struct story *s, const char *target, enum measurement_outcome outcome);
struct measurement *story_repeat(struct story *s, const char *target, enum measurement_outcome outcome);
struct measurement *story_tls(struct story *s, const char *target, enum measurement_outcome outcome);
/* One A/B handshake beside it. */
struct measurement *story_tls_ab(
        struct story *s, const char *target, enum probe_purpose purpose, enum measurement_outcome outcome);
struct measurement *story_http(struct story *s, const char *target, int status);
struct measurement *story_payload(
        struct story *s, const char *target, unsigned attempt, enum measurement_outcome outcome);
/* A reading of the peer's clock, `lead_s` ours is ahead. */
void story_peer_time(struct story *s, const char *target, int64_t lead_s);
struct measurement *story_proxy(struct story *s, const char *target, int status);

/* ---- DNS ---- */
void story_server(struct story *s, const char *server, enum probe_transport transport,
        enum measurement_outcome outcome);
struct measurement *story_server_row(
        struct story *s, const char *server, enum probe_transport transport, const char *name);
void story_server_dead(struct story *s, const char *server); /* both transports silent */
/* Over both transports, for that name (NULL: for all). */
void story_rcode(struct story *s, const char *server, const char *name, int rcode);
void story_no_data(struct story *s, const char *server, const char *name);
void story_answer(struct story *s, const char *server, const char *name, const char *address);
void story_interception(struct story *s, const char *address); /* that address answers DNS */

/* Nothing at all comes back from anywhere. */
void story_silence(struct story *s);

/* ---- traces ---- */
/* Hops 1 to `hops` (at most 2) tell their names, and four more are silent; what passes is traced beside it.
 */
void story_trace(struct story *s, const char *target, int hops);
struct measurement *story_hop(
        struct story *s, const char *target, uint8_t ttl, enum hop_answer answer, const char *by);

/* ---- what is concluded ---- */
void story_conclude(struct story *s);
/* "tcp.dropped (dns.tcp_blocked)": codes in the order of the conclusion, warnings in brackets. */
const char *story_codes(struct story *s);
/* Concludes, and compares verdict and codes; prints the conclusion when they differ. */
#define assert_story(s, verdict, codes) story_assert(s, verdict, codes, __FILE__, __LINE__)
void story_assert(struct story *s, const char *verdict, const char *codes, const char *file, int line);
struct cause *story_cause(struct story *s, const char *code); /* fails the test when it is not there */
const char *story_targets(
        struct story *s, const char *code); /* joined by blanks, of all causes of that code */
const char *story_states(struct story *s);  /* "repo=ok control=blocked" */
const char *story_addresses(
        struct story *s, const char *service); /* "198.51.100.20=ok 203.0.113.200=blocked" */
