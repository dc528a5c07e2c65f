/* What the two files of the configuration share: daemon_fetch.c gets what the plane wants, daemon_config.c
 * brings it into force. */
#pragma once

#include "base/backoff.h"
#include "node/daemon_internal.h"

#define CONFIGURER_LATER_MS 2000 /* what is under way is waited for */

struct configurer {
        struct daemon *daemon;
        struct child *fetch;
        sd_event_source *retry, *confirm, *bring_up;
        struct backoff backoff, bring_up_backoff;
        struct wire_config good;        /* version 0: the site file's own LANs */
        struct wire_config applying;    /* what the helper was asked for */
        bool is_applying, is_candidate; /* `daemon->config` waits for its confirmation */
        bool is_known;     /* what is applied was in force before: nothing to confirm or to tell */
        bool is_lost;      /* not in force what should be: the good one is to be brought up */
        bool again;        /* the network changed while the helper was at it */
        double resumed_ms; /* what is left of the minute of a candidate that we started with; 0: a new one */
        char lan_problem[256];   /* told already */
        int64_t wanted_version;  /* what the plane announced */
        bool is_noticed;         /* … while a fetch was under way, which may have been too early for it */
        unsigned failures;       /* of the wanted version, in a row */
        int64_t failure_version; /* the last whose failure is an event, as its end will be; 0: none */
        struct strv warnings;    /* of the guard, for what is being applied */
        json_t *applied;         /* wire_applied */
};

/* Counts and tells it; an event after the second time. */
void configurer_tell_failure(struct configurer *c, int64_t version, const char *problem);
/* What is wanted is in force: an event, where its failure was one. */
void configurer_end_failure(struct configurer *c);
/* The candidate that is in force is good: kept, and started from. */
void configurer_confirm(struct configurer *c);
/* Takes `config` over. One at a time: callers see to it that none is being applied. */
void configurer_apply(struct configurer *c, struct wire_config *config);
/* A document without "lan" leaves the LANs to the site file, whatever that says today. */
void configurer_take_lans(const struct site *s, struct wire_config *ret);
/* Fetches anew, later and later. */
void configurer_retry_later(struct configurer *c);
