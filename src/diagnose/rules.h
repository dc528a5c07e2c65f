/* Inside diagnose: the rules, by what they speak of. Each reads facts, adds causes, voids what rests on them,
 * and marks targets. They run in the order in which evidence rests on evidence. */
#pragma once

#include "diagnose/conclusion.h"
#include "diagnose/facts.h"

struct rules {
        struct facts facts;
        struct conclusion *out;
        bool upstream_dead;
        size_t http_from; /* causes before that index are not about HTTP */
};

/* ---- building causes (conclude.c) ---- */
/* The pointer is good until the next call. */
struct cause *rules_add(struct rules *r, enum cause_code code);
struct cause *rules_find(struct rules *r, enum cause_code code); /* the first of that code, or NULL */
/* The riddle between these two codes, the same one for several targets; `service` NULL: of several services.
 */
struct cause *rules_undetermined(
        struct rules *r, const struct service *service, const char *one, const char *other);
void cause_add_service(struct cause *c, const struct service *s);
void cause_add_all_services(struct cause *c, struct rules *r);
void cause_add_endpoint(struct cause *c, const struct endpoint *e);
void cause_add_evidence(struct cause *c, const struct measurement *m); /* NULL is fine */
void cause_say(struct cause *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cause_advise(struct cause *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The endpoint is a target of a cause of this code already. */
bool rules_is_target_of(struct rules *r, enum cause_code code, const struct endpoint *e);
/* Marks a measurement as resting on doubtful ground. One that is void already keeps its first reason. */
void rules_void(struct measurement *m, enum cause_code code, const char *reason);
bool rules_is_scored(const struct measurement *m); /* not NULL, scored */
/* Targets and services: what became of them. */
void target_block(struct target *t, enum probe_stage stage);
/* "updates, images and logs" of the cause's services. Caller frees. */
char *cause_jobs(const struct cause *c, struct rules *r);
/* "repo.grid.example and control.grid.example", of the cause's services. Caller frees. */
char *cause_hosts(const struct cause *c, const struct rules *r);
/* "198.51.100.20:443, 203.0.113.200:443 and 3 more". Caller frees. */
char *cause_target_list(const struct cause *c);
/* " (hop 1)" or "". */
const char *hop_text(const struct hop_name *h, char ret[96]); /* "192.0.2.1 (hop 1)" */

/* The node's own certificate was refused, as `row` shows and `how` says. */
void rules_client_rejected(struct rules *r, struct target *t, const struct measurement *row, const char *how);

/* The answer is a sign-in page's: 511, or a redirect out of the service's own domain. */
bool rules_is_portal(const struct measurement *m, const char *host);
void rules_say_portal(struct cause *c, const struct service *s, const struct measurement *portal);

/* Without services: what is said of this host's own network (conclude_host.c). The caller frees the text. */
enum verdict rules_host_verdict(const struct facts *f, const struct conclusion *o);
char *rules_host_summary(const struct facts *f);

/* ---- the rules ---- */
void rules_host(struct rules *r);     /* link, address, conflict, gateway, routes */
void rules_local(struct rules *r);    /* firewall.local, reply.discarded */
void rules_upstream(struct rules *r); /* nothing answers beyond the gateway or a later hop */
void rules_dns(struct rules *r);
void rules_tcp(struct rules *r);    /* dropped, rejected, reset, service down, proxy required */
void rules_portal(struct rules *r); /* a sign-in page, whatever it does to the service's own port */
void rules_tls(struct rules *r);
void rules_http(struct rules *r);
void rules_quality(struct rules *r); /* path.lossy, path.slow */
