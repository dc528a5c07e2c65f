/* What the parts of the daemon share. Each part is a file; daemon.c makes them, and they call each other only
 * through this header. All live in one loop, and nothing in them waits. */
#pragma once

#include "base/log.h"
#include "helper/client.h"
#include "node/channel.h"
#include "node/child.h"
#include "node/control.h"
#include "node/daemon.h"
#include "node/guard.h"
#include "node/monitor.h"
#include "node/netwatch.h"
#include "node/store.h"
#include "node/tools.h"

#define DAEMON_MAX_ADDRESSES 64
#define DAEMON_MAX_FOLLOWERS 32
#define DAEMON_MAX_UNSTORED  64
#define DAEMON_MAX_NETWORKS  16

struct daemon {
        const struct daemon_options *options;
        struct node_settings *settings;
        sd_event *event;
        struct store *store;
        struct helper_client *helper; /* NULL: there is none, and helper_problem says why */
        struct error helper_problem;
        struct control *control;
        struct netwatch *netwatch;
        struct channel *channel;
        struct monitor *monitor;
        struct tools *tools;
        struct wire_config config; /* in force; version 0: the site file's own */
        char wan_interface[IFNAMSIZ];
        struct inet_addr wan_address, wan_gateway, wan_gateway6;
        struct cidr wan_networks[DAEMON_MAX_NETWORKS]; /* of the WAN's addresses */
        size_t wan_network_count;
        uint64_t links_seen; /* a digest of which links are there and up */
        int64_t started_unix_ms;
        const struct profile_service *control_service; /* the one that carries control */

        struct wire_event unstored[DAEMON_MAX_UNSTORED]; /* the disk was full: tried again, in order */
        size_t unstored_count, unstored_lost;            /* of those that had no room */
        sd_event_source *unstored_retry;

        struct log_limit refusals; /* messages of the control plane */

        struct watch *watch;           /* daemon_watch.c: probes, diagnoses, events */
        struct configurer *configurer; /* daemon_config.c */
        struct ways_keeper *ways;      /* daemon_ways.c: what those who transfer need of the daemon */
        struct reach *reach;     /* daemon_reach.c: the channel, its addresses, the clock, the certificate */
        struct updater *updater; /* daemon_update.c: when updates begin, what is told of them */
        struct selftest *selftest; /* daemon_selftest.c */
        struct desk *desk;         /* daemon_desk.c: who asks at the control socket */
};

double daemon_now_ms(const struct daemon *d); /* CLOCK_MONOTONIC, of the loop's turn */
int64_t daemon_unix_ms(void);
/* Creates or arms a one-shot timer. */
void daemon_arm(struct daemon *d, sd_event_source **source, double delay_ms, sd_event_time_handler_t callback,
        void *userdata);
/* {gridnode, words…, "--root", R, "--config", C}: one of our own verbs, its whole output collected.
 * NULL-terminated words. 0 or -errno. */
int daemon_start_verb(struct daemon *d, const char *const *words, double timeout_ms,
        void (*on_end)(enum wire_end end, int status, const char *output, size_t length, void *userdata),
        void *userdata, struct child **ret);
/* A message of the control plane that is not to be understood: told once a minute. */
void daemon_refuse(struct daemon *d, const struct error *e);
/* Stores the report (may be NULL) and the events, tells those who follow, and has the outbox sent. Events
 * that a full disk does not take are kept in memory and tried again. */
void daemon_record(struct daemon *d, struct wire_report *report, struct wire_event *events, size_t count);
/* One event, and a small value of the store that says that it was told: both or neither. -errno: neither, and
 * the caller tries again later. */
int daemon_record_noting(struct daemon *d, struct wire_event *event, const char *name, const char *value);
/* One event of the daemon's own. `diagnosis` may be NULL (borrowed). */
void daemon_tell(struct daemon *d, const char *name, enum wire_severity severity, const char *service,
        const json_t *diagnosis, const char *format, ...) __attribute__((format(printf, 6, 7)));
/* The DNS servers in force: the configuration's, else the site file's. Borrowed. */
const struct inet_addr *daemon_dns(const struct daemon *d, size_t *ret_count);
void daemon_record_done(struct daemon *d);
/* The WAN and the links as they are now. True: another gateway or interface, or a link that came or went, so
 * that what was applied may be gone. */
bool daemon_look_at_network(struct daemon *d);

int watch_new(struct daemon *d, struct watch **ret);
struct watch *watch_free(struct watch *w);
void watch_network_changed(struct watch *w);
void watch_dns_changed(struct watch *w); /* the configuration brought other DNS servers */
/* A diagnosis for somebody: on_report comes once; NULL when it could not be made, with the error. */
typedef void (*watch_on_report)(json_t *report /* borrowed */, const struct error *e, void *userdata);
int watch_diagnose(
        struct watch *w, double budget_s, const char *trigger, watch_on_report on_report, void *userdata);
void watch_forget_asker(struct watch *w, void *userdata); /* its on_report is not called any more */
json_t *watch_services(const struct watch *w);            /* for wire_status: {"repo":{"state","cause"}} */
json_t *watch_last_diagnosis(const struct watch *w); /* {"verdict","summary","at","causes"}; NULL: none yet */

void watch_observed(struct watch *w); /* monitor_observed was called: what comes of it is recorded */

int ways_keeper_new(struct daemon *d, struct ways_keeper **ret);
struct ways_keeper *ways_keeper_free(struct ways_keeper *k);
void ways_changed(struct ways_keeper *k);      /* a service's state may be another; NULL: nothing happens */
void ways_plan_changed(struct ways_keeper *k); /* the configuration may bring another limit */
json_t *ways_transfers(const struct ways_keeper *k); /* transfer_post_list */

int reach_new(struct daemon *d, struct reach **ret);
struct reach *reach_free(struct reach *r);
void reach_start(struct reach *r);
void reach_network_changed(struct reach *r);
void reach_services_changed(struct reach *r); /* publishes the status when it is another one */
size_t reach_known_addresses(const struct reach *r, struct inet_addr ret[DAEMON_MAX_ADDRESSES]);
int64_t reach_certificate_end(const struct reach *r); /* unix seconds, 0: not known */
void reach_way_open(struct reach *r);
/* A probe's answer had these addresses of the control service. */
void reach_learnt(struct reach *r, const struct inet_addr *addresses, size_t count);

int configurer_new(struct daemon *d, struct configurer **ret);
struct configurer *configurer_free(struct configurer *c);
void configurer_start(struct configurer *c); /* applies the last good one, or the site file's LANs */
void configurer_notice(struct configurer *c, const void *payload, size_t length);
void configurer_network_changed(struct configurer *c);
/* The last one that was found good; version 0: none. Borrowed. */
const struct wire_config *configurer_good(const struct configurer *c);
json_t *configurer_view(const struct configurer *c); /* {"version","state","error","warnings"} */

int updater_new(struct daemon *d, struct updater **ret);
struct updater *updater_free(struct updater *u);
/* CONTROL_UPDATE, _CANCEL and _HISTORY: answered now or later. */
void updater_request(struct updater *u, struct control_client *c, const struct control_request *r);
void updater_forget_asker(struct updater *u, const struct control_client *c);
json_t *updater_view(const struct updater *u);          /* update_state_to_json without log; NULL: none yet */
json_t *updater_schedule_view(const struct updater *u); /* {"windows","next","ends","manual",…} */

/* Whether this daemon is fit: what a new version is judged by. */
int selftest_new(struct daemon *d, struct selftest **ret);
struct selftest *selftest_free(struct selftest *t);
json_t *selftest_view(struct selftest *t); /* {"ok", "error"} */

int desk_new(struct daemon *d, struct desk **ret, struct error *ret_error);
struct desk *desk_free(struct desk *k);
void desk_event(struct desk *k, const struct wire_event *e); /* to those who follow */
json_t *status_build(struct daemon *d); /* daemon_status.c: what `gridnode status` shows */
