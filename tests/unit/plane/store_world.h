/* A database of two organisations, for tests of the store. */
#pragma once

#include "plane/store.h"

#define NOW INT64_C(1795230120000) /* 2026-11-21T03:02:00Z */

struct world {
        char folder[64], path[96];
        struct plane_store *store;
        char ours[65], theirs[65]; /* organisations */
        struct actor us, them, root;
        char node[65];  /* "branch-1" of site "north" of ours, registered */
        char other[65]; /* "branch-1" of site "south" of theirs, registered */
};
int world_new(void **state);
int world_free(void **state);
/* Fails the test unless `r` is 0, with the error's text. */
void must(int r, const struct error *e);
/* Makes a node and registers it. */
void world_node(struct world *w, const struct actor *by, const char *name, const char *site, char ret_id[65]);
/* Adds an event, which must be new, and gives it back. */
json_t *world_event(struct world *w, const char *node, int64_t seq, int64_t generated, const char *name,
        const char *cause);
/* A member's text; "" for null or none. */
const char *text_of(const json_t *value, const char *member);
json_t *items_of(const json_t *list);
