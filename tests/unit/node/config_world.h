/* A configurer with everything around it played, helper, channel, children and timers: so that everything can
 * happen in any order; time passes when the test says so. */
#pragma once

#include "node/daemon_config_internal.h"

struct played {
        char root[64];
        struct node_settings settings;
        struct daemon d;
        struct configurer *c;
        double now_ms;
        int64_t unix_ms;
        enum channel_state channel;
        /* what was asked of the helper, and not answered yet */
        helper_on_answer on_answer;
        void *asker;
        int asks;
        char asked_interfaces[128];
        /* the fetch that runs */
        void (*on_end)(enum wire_end end, int status, const char *output, size_t length, void *userdata);
        void *fetcher;
        int fetches;
        /* what was told */
        char state[16], error[256], last_event[512];
        int64_t version;
        int told, events, dns_changes, plan_changes, refused;
};
extern struct played t;

/* To what it was asked last; 0: it is done, else the errno. */
void helper_answers(int number);
/* The plane says that there is a version. */
void notice(int64_t version);
/* The child that fetches says so, and ends. */
void fetch_ends(const char *output);
/* The document of `version`, with a LAN on `interface`. */
void fetched_with(int64_t version, const char *interface, const char *more);
void fetched(int64_t version, const char *interface);
/* Timers that fall due within it fire in their order. */
void pass(double ms);
/* As kill -9 leaves it. */
void start_again(double later_ms);
/* A version comes, and is good after its minute. */
void confirmed(int64_t version, const char *interface);
int setup(void **state);
/* The helper has not answered yet to what the start wants of it. */
int setup_failing(void **state);
int teardown(void **state);
