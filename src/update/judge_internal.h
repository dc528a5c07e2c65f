#pragma once

#include "update/journal.h"
#include "update/judge.h"

#include <signal.h>

struct judge {
        const char *root;
        double judge_ms; /* how long a daemon has to show that it is well */
        struct journal journal;
        struct judge_note note;
        unsigned deaths; /* of the updater, at the same step */
        int died_at;
};
extern volatile sig_atomic_t judge_stop;

/* The note of this update, or its beginning. */
void judge_load_note(struct judge *g);
/* Watches the new daemon until it is good or its time is over; then puts the kept version back. 0, or -EINTR:
 * told to stop. */
int judge_watch(struct judge *g);
/* Puts the kept version back and ends the update as failed, for that reason. The same. */
int judge_restore(struct judge *g, const char *why);
