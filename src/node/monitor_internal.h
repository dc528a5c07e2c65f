/* The parts of the monitor, for monitor_*.c only. */
#pragma once

#include "node/monitor.h"

#define MONITOR_MAX_TARGETS 64 /* addresses of a service */
#define MONITOR_FLIPS       10 /* within MONITOR_FLAP_MS are flapping */
#define MONITOR_FLAP_MS     300000.0
#define MONITOR_SILENCE_MS  7200000.0

struct target {
        struct inet_addr address; /* DNS: the server */
        size_t service;           /* DNS: index of the one whose name is asked for */
        bool is_fixed;            /* of the profile or the site file: never forgotten */
        bool is_bad;              /* a diagnosis says so, or two attempts where none could be made */
        bool is_checked;          /* since another one began to recover */
        bool has_result, last_good;
        unsigned fails, goods; /* in a row */
        uint32_t named_by;     /* servers whose newest answer had it: a bit each */
        unsigned unseen;       /* good answers in a row without it */
        double last_ms, last_fail_ms;
        double retry_ms;                /* when this very one is to be asked again; HUGE_VAL: in its turn */
        double pause_ms, not_before_ms; /* of diagnoses that it asks for */
};

struct subject {
        const struct profile_service *service; /* NULL: DNS */
        size_t index;
        struct target *targets;
        size_t count;
        double due_ms, last_probe_ms, last_good_turn_ms;
        double heard_ms;          /* of a probe or a transfer */
        enum monitor_state state; /* UNKNOWN, OK, DEGRADED, FAILED */
        enum monitor_state told;  /* OK, DEGRADED, FAILED: by the last event */
        enum monitor_state shown; /* state, or SUSPECT */
        double since_ms, last_ok_ms;
        double hold_until_ms;  /* recovering: HUGE_VAL when not */
        bool is_beyond_probes; /* what is wrong is nothing that a probe sees */
        double recheck_ms, recheck_pause_ms;
        char *cause, *summary; /* of the diagnosis; NULL: none */
        bool is_flapping;
        double flips[MONITOR_FLIPS]; /* a ring; -HUGE_VAL: none */
        size_t flip_at;
        bool flipped_to; /* good or bad, by the last one */
        double flap_told_ms;
};

struct monitor {
        struct monitor_options o;
        struct subject *services, dns;
        bool is_busy, wants_diagnosis;
        double wanted_ms;
        double phase_ms, diagnosed_ms;
        double tokens, tokens_at_ms; /* bytes that may be sent */
        double probe_bytes;          /* what a probe of a service is expected to take */
        uint64_t random;
        struct monitor_event *events;
        size_t event_count;
};

double monitor_random(struct monitor *m); /* [0, 1) */
/* When its next turn is. */
void monitor_reschedule(struct monitor *m, struct subject *s, double now_ms);

/* ---- monitor_judge.c ---- */

/* -1: there is none. */
long monitor_find(const struct subject *s, const struct inet_addr *address, size_t service);
/* Adds an address that was seen; -1 when there are too many. */
long monitor_learn(struct subject *s, const struct inet_addr *address);
/* The result of one attempt at one target. */
void monitor_judge(struct monitor *m, struct subject *s, size_t at, bool ok, double now_ms);
/* What time alone brings: the end of flapping, of waiting for others to recover, a diagnosis that had to
 * wait. Returns when the next of these comes. */
double monitor_tick(struct monitor *m, double now_ms);
/* The only way into a state; tells it where it is news. */
void monitor_enter(
        struct monitor *m, struct subject *s, enum monitor_state state, bool has_diagnosis, double now_ms);
enum monitor_state monitor_state_of_bad(const struct monitor *m, const struct subject *s);
void monitor_show(struct subject *s, double now_ms);

/* ---- monitor_events.c ---- */

void monitor_tell_state(struct monitor *m, const struct subject *s, bool has_diagnosis);
void monitor_tell_flapping(struct monitor *m, const struct subject *s);
