/* Why a way is closed, in the words of a diagnosis: what the daemon knows already (RUN/ways.json), or else
 * what `gridnode diag` finds, run once for all that fail at about the same time. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <systemd/sd-event.h>

struct cause; /* opaque */

struct cause_options {
        const char *program;   /* gridnode */
        const char *root;      /* its --root; NULL: the system's */
        const char *ways_path; /* NULL: there is no daemon to ask */
        const char *service;   /* of the profile, "repo" */
        /* `text` is one sentence and borrowed; NULL: nobody knows. Called once for each cause_ask that was
         * not answered yet, all by one call; never from within. */
        void (*on_answer)(const char *text, void *userdata);
        void *userdata;
};
struct cause *cause_new(sd_event *event, const struct cause_options *o); /* texts are copied */
struct cause *cause_free(struct cause *c);                               /* no on_answer */
void cause_ask(struct cause *c);
/* Of a report of `gridnode diag --json`: the first cause of the service's failure, with its remedy; the
 * caller's. NULL: it names none, or is no report. Pure. */
char *cause_of_report(const char *json, size_t length, const char *service);
