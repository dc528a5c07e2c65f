/* What incidents.c (who has which cause, when an incident begins and ends) and incidents_told.c share. */
#pragma once

#include "base/random.h"
#include "plane/incidents.h"

#include <uthash.h>

#define INCIDENTS_SHOWN 500 /* nodes by their ids */

#define ID_TEXT      65
#define KEY_TEXT     192
#define MAX_KEYS     16 /* groups that one service of a node is in */
#define MAX_SERVICES 16 /* of a node */

/* A node that has a group's cause, or had it a while ago. */
struct member {
        char node[ID_TEXT], site[ID_TEXT];
        int64_t since, until; /* until 0: it has it now; since 0: known only from before a restart */
        unsigned services;    /* that have it now; 0: none any more */
        bool counts;          /* in the incident */
        bool is_late;         /* told when the incident was over: its own end may be the incident's */
        UT_hash_handle hh;
};

/* Everything with the same organisation, cause, range and port. */
struct group {
        char key[KEY_TEXT];
        char organisation[ID_TEXT], cause[ID_TEXT];
        struct cidr range;
        uint16_t port;
        struct member *members;
        size_t still; /* that count and have it now */
        /* the incident: "" is none; one that is over is kept for a while, for who tells of it late */
        char id[RANDOM_ID_TEXT];
        bool open, changed;
        int64_t since, until; /* until: of one that is over */
        bool was_left;        /* since the last look: then what is over is forgotten at forget_ms */
        int64_t forget_ms;    /* 0: nothing is over */
        size_t least_nodes, least_sites; /* of an incident that goes on after a restart */
        UT_hash_handle hh;
};

struct service {
        char name[ID_TEXT];
        struct group *groups[MAX_KEYS];
        size_t count;
};
struct node {
        char key[2 * ID_TEXT];
        char id[ID_TEXT];
        struct service *services;
        size_t count;
        UT_hash_handle hh;
};

struct incidents {
        struct cidr *ranges;
        size_t range_count;
        struct group *groups;
        struct node *nodes;
        size_t member_count;
        json_t *ended;  /* that nobody has taken yet */
        int64_t now_ms; /* last heard */
};

/* As take_changes gives it, with its organisation. `until` 0: it goes on. New reference. */
json_t *incidents_told(const struct group *g, int64_t until, int64_t now_ms);
