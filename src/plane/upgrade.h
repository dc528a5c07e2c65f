/* An upgrade of many nodes, decided without a database or a clock: what is planned, what is seen and what
 * time it is goes in, what is to be stored, told and asked comes out. store_upgrade.c reads and writes it,
 * upgrades.c runs it. Times are milliseconds since the epoch. */
#pragma once

#include "base/json.h"
#include "base/text.h"
#include "plane/store.h"
#include "wire/update.h"

#include <jansson.h>

/* ---- the plan ---- */

#define UPGRADE_MAX_WAVES       20
#define UPGRADE_MAX_CHOICES     64 /* of tags, of sites */
#define UPGRADE_STOP_DEFAULT    10
#define UPGRADE_LIMIT_DEFAULT   90
#define UPGRADE_CHANNEL_DEFAULT "stable"

struct upgrade_plan {
        struct strv include, exclude;      /* tags: "key=value", or "key" for any value of it */
        struct strv sites;                 /* none: all */
        unsigned waves[UPGRADE_MAX_WAVES]; /* per cent of the nodes, added up: 5, 25, 100 */
        size_t wave_count;
        unsigned stop_at_percent; /* more failures than this, of those begun, stop it; 100: never */
        unsigned limit_minutes;   /* a node that has not ended by then has failed */
        char channel[32];
};
void upgrade_plan_done(struct upgrade_plan *p);
/* {"include": […], "exclude": […], "sites": […], "waves": [5, 25, 100], "stop_at_percent": 10,
 * "limit_minutes": 90, "channel": "stable"}; all may be missing. Strict. */
int upgrade_plan_read(struct json_reader *r, struct upgrade_plan *ret);
json_t *upgrade_plan_to_json(const struct upgrade_plan *p);
/* A tag: 1 to 63 of a-z, 0-9, '.', '-' and '_', a letter or digit first; its value: at most 128 letters,
 * digits and "._:/@+-". */
bool upgrade_tag_key_is_valid(const char *key);
bool upgrade_tag_value_is_valid(const char *value);
#define TAG_MANUAL "manualupdate" /* "true": left alone by everything but a person at it */

/* ---- nodes ---- */

enum upgrade_node_state {
        UPGRADE_NEW,     /* its wave has not come */
        UPGRADE_READY,   /* it is being asked */
        UPGRADE_WORKING, /* it has begun */
        UPGRADE_DONE,
        UPGRADE_SKIPPED,
        UPGRADE_ERROR,
        UPGRADE_NODE_STATES
};
const char *upgrade_node_state_to_string(enum upgrade_node_state s); /* "NEW" … */
int upgrade_node_state_from_string(const char *s, enum upgrade_node_state *ret);

enum upgrade_answer {
        ANSWER_NONE,     /* not asked, or no answer yet */
        ANSWER_ACCEPTED, /* it said that it begins */
        ANSWER_LATER,    /* not now: it is asked again */
        ANSWER_REFUSED,  /* never: asking again would not help */
};

#define UPGRADE_REASON_BYTES 512
struct upgrade_node {
        char id[65], name[65], site[65];
        unsigned wave; /* from 1; 0: it was left out at the start */
        enum upgrade_node_state state;
        char reason[UPGRADE_REASON_BYTES];
        int64_t since;       /* in this state */
        int64_t ready;       /* since when it is asked; 0: not yet */
        int64_t asked;       /* the last time; 0: never */
        int64_t after_event; /* what was told up to this event is of an earlier attempt */
        unsigned tries;
        char job[65]; /* the node's own id of its update; "" */
        /* what is so now */
        bool is_there; /* registered, and not removed */
        bool is_connected, is_manual;
        int64_t connected_since, gone_since; /* 0: never was */
        char version[64];
        struct strv tags; /* "key=value"; only for upgrade_choose() */
        /* its newest update by this upgrade */
        int64_t seen_event; /* 0: none */
        enum update_status seen_status;
        char seen_job[65], seen_from[64], seen_to[64];
        char seen_text[UPGRADE_REASON_BYTES]; /* what it waits for, or why it failed */
        size_t seen_packages;                 /* that changed */
        /* what came of the last asking */
        bool is_asking;
        enum upgrade_answer answer;
        char answer_text[UPGRADE_REASON_BYTES];
        /* what a step decided */
        bool is_changed, is_to_ask;
};

/* ---- the whole ---- */

enum upgrade_state {
        UPGRADE_PLANNED,
        UPGRADE_RUNNING,
        UPGRADE_PAUSED,  /* by a person: no further node begins */
        UPGRADE_STOPPED, /* by itself: too many failures */
        UPGRADE_CANCELLED,
        UPGRADE_COMPLETED,
        UPGRADE_STATES
};
const char *upgrade_state_to_string(enum upgrade_state s); /* "planned" … */
int upgrade_state_from_string(const char *s, enum upgrade_state *ret);

struct upgrade_line {     /* of the timeline */
        const char *node; /* NULL: of the whole; borrowed from the upgrade */
        char *text;
};
struct upgrade {
        char id[65], organisation[65], name[65];
        struct upgrade_plan plan;
        enum upgrade_state state;
        char reason[UPGRADE_REASON_BYTES];
        char newest[64]; /* version in the channel; "": not known */
        unsigned wave;   /* the one that was last begun; 0: none yet */
        int64_t started, ended;
        int64_t newest_event; /* of the database, now */
        struct upgrade_node *nodes;
        size_t node_count, node_allocated;
        /* what was decided */
        bool is_changed, is_watched;
        struct upgrade_line *lines;
        size_t line_count;
        const struct upgrade_node *stopped_by; /* the failure that was too many; NULL */
};
void upgrade_done(struct upgrade *u);
struct upgrade_node *upgrade_add_node(struct upgrade *u); /* zeroed; valid until the next one is added */

/* Gives every node its wave, or SKIPPED with the reason; those that the plan does not include go. The order
 * is by a hash of upgrade and node: waves go across sites, and it is the same each time. */
void upgrade_choose(struct upgrade *u, int64_t now);
/* What a person asks. -EEXIST with a sentence when it is not in a state for that. */
int upgrade_start(struct upgrade *u, int64_t now, struct error *ret_error); /* after upgrade_choose() */
int upgrade_pause(struct upgrade *u, int64_t now, struct error *ret_error);
int upgrade_resume(struct upgrade *u, int64_t now, struct error *ret_error);
int upgrade_cancel(struct upgrade *u, int64_t now, struct error *ret_error);
int upgrade_retry(struct upgrade *u, int64_t now, struct error *ret_error); /* ERROR → NEW */
/* Takes in what is seen, and decides. At most `may_ask` nodes are to be asked. */
void upgrade_step(struct upgrade *u, size_t may_ask, int64_t now);
/* Failures in per cent of the nodes begun, rounded down, and both numbers. */
unsigned upgrade_failures(const struct upgrade *u, size_t *ret_failed, size_t *ret_begun);
