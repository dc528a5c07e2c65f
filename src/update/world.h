/* apt's world of an update: sources, lists, archives and settings of our own, below UPDATE/apt. Neither the
 * machine's sources nor its settings take part, so that no other host is ever asked and no hook of another
 * package asks a question. */
#pragma once

#include "helper/update_place.h"
#include "update/repository.h"

enum world_kind {
        WORLD_OWN,        /* the suite of the channel: the node's own package */
        WORLD_SECURITY,   /* the suite "security": the operating system's */
        WORLD_UNATTENDED, /* the same, by unattended-upgrades, whose rules are among the machine's settings */
};
#define WORLD_SECURITY_SUITE "security"

struct world {
        char *settings; /* of apt, for APT_CONFIG */
        char *sources, *lists, *archives, *status;
        char *method; /* apt's, where it is not installed (UPDATE_METHOD); NULL: apt knows where it is */
};
/* Writes the files anew. `channel`: a suite's name (WORLD_OWN). */
int world_make(enum world_kind kind, const struct update_place *p, const struct repository *r,
        const char *channel, struct world *ret, struct error *ret_error);
void world_done(struct world *w);
/* The settings as text, for the tests; the caller's. */
char *world_settings(enum world_kind kind, const struct world *w, const char *cache);
