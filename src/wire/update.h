/* A software update: what is asked for, and how it stands. The root side writes its state with these
 * (STATE-UPDATE/state.json), the daemon reads it, shows it and tells it in events, and the plane keeps it:
 * one parser and one writer for all. */
#pragma once

#include "base/error.h"
#include "base/text.h"
#include "wire/topic.h"

#include <jansson.h>
#include <stdbool.h>

enum update_action {
        UPDATE_CHECK,    /* what would change */
        UPDATE_DRY_RUN,  /* the same, with disk, MB, time and the state of dpkg */
        UPDATE_DOWNLOAD, /* fetch at low priority, install nothing */
        UPDATE_NOW,      /* the whole */
};
const char *update_action_to_string(enum update_action a); /* "check", "dry-run", "download", "now" */
int update_action_from_string(const char *s, enum update_action *ret);

/* What the daemon asks the root side to do. Strings are checked against closed patterns: it is what root
 * acts on. */
struct update_job {
        char id[WIRE_ID_MAXIMUM + 1];
        enum update_action action;
        char channel[32]; /* a-z, 0-9, '-': the suite of the repository */
        bool reboot;      /* may restart the machine when something needs it */
        bool again;       /* offer a version that failed here once more */
        char by[96];      /* "schedule", "local:root", "alice", "upgrade:ID"; printable */
};
bool update_channel_is_valid(const char *s);
json_t *update_job_to_json(const struct update_job *j);
int update_job_from_json(const json_t *j, struct update_job *ret, struct error *ret_error);

enum update_status { UPDATE_IN_PROGRESS, UPDATE_COMPLETED, UPDATE_FAILED };
const char *update_status_to_string(enum update_status s); /* "In Progress", "Completed", "Failed" */
int update_status_from_string(const char *s, enum update_status *ret);

/* In this order; one that is not needed is "skipped" with the reason in its text. */
enum update_step_name {
        STEP_PREPARE,  /* disk, dpkg, clock */
        STEP_LOOK_UP,  /* the repository's address */
        STEP_CONNECT,  /* HTTPS, chain, lists */
        STEP_DOWNLOAD, /* packages, before anything is changed */
        STEP_KEEP,     /* a copy of the running version */
        STEP_OWN,      /* the node's own package */
        STEP_JUDGE,    /* the new daemon reaches the control plane and passes its self-test */
        STEP_SECURITY, /* the operating system's security packages */
        STEP_RESTART,  /* of the machine, where one of them needs it */
        STEP_RESTORE,  /* the kept version was put back */
        UPDATE_STEPS
};
const char *update_step_to_string(enum update_step_name s); /* "prepare", "look-up", … */
enum update_step_state { STEP_PENDING, STEP_RUNNING, STEP_WAITING, STEP_DONE, STEP_FAILED, STEP_SKIPPED };
const char *update_step_state_to_string(enum update_step_state s);
struct update_step {
        enum update_step_state state;
        int64_t from_unix_ms, to_unix_ms; /* 0: not yet */
        char text[512];                   /* what it did, waits for, or why it failed */
};
#define UPDATE_MAX_PACKAGES 256
struct update_package {
        char name[96], from[64], to[64]; /* from "": new */
        bool security;
        uint64_t bytes; /* to be fetched */
};
struct update_state {
        struct update_job job;
        enum update_status status;
        int64_t started_unix_ms, ended_unix_ms; /* ended 0: in progress */
        char version_from[64], version_to[64];  /* of the node's own package; to "": no newer one */
        struct update_step steps[UPDATE_STEPS];
        /* While it waits for its way: since when, and why in the words of the diagnosis. */
        int64_t waiting_since_unix_ms;
        char waiting_code[48], waiting_for[512];
        uint16_t way;         /* port that the last bytes came by; 0: none yet */
        uint64_t bytes, size; /* of the download */
        double bytes_per_second;
        struct update_package *packages; /* that change */
        size_t package_count;
        uint64_t needs_bytes, free_bytes; /* of disk */
        double eta_ms;                    /* of the download at the rate measured; < 0: not known */
        bool restart_needed;
        char error[1024]; /* failed: the sentence */
        char *log;        /* its end, at most 32 KiB; NULL: not with it */
};
void update_state_done(struct update_state *s);
json_t *update_state_to_json(const struct update_state *s);
int update_state_parse(const void *data, size_t length, struct update_state *ret, struct error *ret_error);
int update_state_from_json(const json_t *j, struct update_state *ret, struct error *ret_error);
const struct update_step *update_running_step(const struct update_state *s); /* NULL: none */
