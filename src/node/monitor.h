/* What the daemon thinks of each way, from cheap probes and real transfers. Pure: `now_ms` is a parameter
 * (any monotonic clock), what is to be done is returned. It says what to probe next, when a full diagnosis is
 * due, and which events to record; hysteresis: one failure is nothing, two in a row of one target from
 * different attempts call for a diagnosis, two good ones in a row (of what had failed) end a failure, ten
 * changes within 5 minutes are one "Connection Flapping" and then silence for 120 minutes.
 *
 * A service's targets are its addresses; those of DNS are pairs of a server and a service whose name it is
 * asked for. */
#pragma once

#include "net/profile.h"
#include "wire/wire.h"

struct monitor; /* opaque */

struct monitor_options {
        const struct profile *profile; /* services; kept by reference */
        const struct inet_addr *dns;
        size_t dns_count;
        double interval_ms;      /* of one service's probes; default 60000 */
        double dns_interval_ms;  /* each server; default 3600000 */
        double suspect_ms;       /* second attempt after a first failure; default 5000 */
        double failed_ms;        /* interval while a service is failed; default 15000 */
        double bytes_per_second; /* of probing, on average; default 1000 */
        uint64_t seed;           /* of the random second */
};
struct monitor *monitor_new(const struct monitor_options *o, double now_ms);
struct monitor *monitor_free(struct monitor *m);

enum monitor_target_kind { MONITOR_SERVICE, MONITOR_DNS };
struct monitor_probe { /* one cheap probe: DNS at one server, then TCP and TLS to one address */
        enum monitor_target_kind kind;
        const char *service;      /* borrowed; MONITOR_DNS: whose host to ask for, NULL: any name */
        struct inet_addr dns;     /* the server to ask; unset: none is known */
        struct inet_addr address; /* MONITOR_SERVICE: to connect to; unset: the first of the DNS answer */
};
/* The probe that is due at `now_ms`, or none. At most one is under way at a time, and none while a diagnosis
 * is wanted (30 s at most). *ret_next_ms: when to ask again (never in the past; HUGE_VAL while one is under
 * way). Time passes here: ask in time, and look for events and a wanted diagnosis afterwards. */
bool monitor_next(struct monitor *m, double now_ms, struct monitor_probe *ret, double *ret_next_ms);

struct monitor_result {
        bool dns_known, dns_ok;            /* what was asked of the server, and whether it answered right */
        bool service_known, service_ok;    /* TCP and TLS */
        struct inet_addr address;          /* it was about */
        const struct inet_addr *addresses; /* of the DNS answer: kept, to take turns */
        size_t address_count;
        double bytes; /* sent and received, an estimate */
};
void monitor_done(
        struct monitor *m, const struct monitor_probe *p, const struct monitor_result *r, double now_ms);
/* A real connection to a service's address said the same: MQTT, a transfer. Counts as a probe: the next one
 * comes later, though other addresses of the service have their turn every fifth interval at the latest. */
void monitor_observed(
        struct monitor *m, const char *service, const struct inet_addr *address, bool ok, double now_ms);

/* A full diagnosis is due (once, until monitor_diagnosed). */
bool monitor_wants_diagnosis(const struct monitor *m);
/* Its conclusion, from the report's JSON (contract); NULL when it could not be made: then what the probes saw
 * must do. */
void monitor_diagnosed(struct monitor *m, const json_t *report, double now_ms);
/* A link, route or address changed: what failed is probed now. */
void monitor_changed(struct monitor *m, double now_ms);

/* Events that came of it, since the last call; the caller's (wire_event_done each, then free). name, message,
 * severity, service are filled; the diagnosis is the caller's to add, where has_diagnosis says so. */
struct monitor_event {
        struct wire_event event;
        bool has_diagnosis;
};
size_t monitor_take_events(struct monitor *m, struct monitor_event **ret);

/* What people were told last, so that a new monitor goes on from there (a restart, other DNS servers): a
 * failure is not told twice, and its end is told. New reference; anything may be given to monitor_restore,
 * right after monitor_new. */
json_t *monitor_save(const struct monitor *m);
void monitor_restore(struct monitor *m, const json_t *saved);

enum monitor_state { MONITOR_UNKNOWN, MONITOR_OK, MONITOR_SUSPECT, MONITOR_DEGRADED, MONITOR_FAILED };
const char *monitor_state_to_string(enum monitor_state s);
struct monitor_view {
        const char *service;
        enum monitor_state state;
        double since_ms, last_ok_ms; /* of the clock; last_ok_ms < 0: never */
        const char *cause;           /* code; NULL: none */
        const char *summary;         /* the cause in a sentence; NULL: none */
        bool flapping;
};
void monitor_view_service(
        const struct monitor *m, size_t index, struct monitor_view *ret); /* of the profile */
/* Of all servers together: OK when one works. `ret_failed` (may be NULL): how many do not. */
enum monitor_state monitor_view_dns(const struct monitor *m, size_t *ret_failed);
