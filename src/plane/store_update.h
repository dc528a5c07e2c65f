/* What the database has of nodes' software updates, and their tags. */
#pragma once

#include "plane/store.h"

#define UPDATES_KEPT_DAYS 30
#define UPDATES_OF_NODE   200 /* the oldest go */

/* ---- updates (store_update.c) ----
 * - update: {id, node, node_name, site, action, by, status, from, to, started, ended, received}; with its
 *   steps: plane_update_get also {update}, as the node told it (wire/update.h), the end of its log included.
 *   Ids are NODE.JOB. */
struct update_filter {
        const char *node;   /* id; NULL: all */
        const char *status; /* "In Progress", …; NULL: all */
        int64_t since;      /* started; 0: open */
};
int plane_update_list(struct plane_store *s, const char *organisation, const struct update_filter *f,
        const struct page *p, json_t **ret, struct error *e); /* newest first */
int plane_update_get(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e);
/* In the transaction that stores the event with this row id, so that each is taken in exactly once. What an
 * earlier event tells changes nothing any more. -EBADMSG: `update` is none. */
int store_update_add(struct plane_store *s, const char *organisation, const char *node, int64_t event,
        const struct wire_event *e, int64_t now, struct error *ret_error);
int store_updates_tidy(struct plane_store *s, int64_t now, int64_t most, struct error *e);

/* ---- tags (store_tag.c) ---- */
#define TAGS_OF_NODE 64
/* Sets and removes, with an entry in the audit log. Where that changes whether the node is left alone by
 * updates, its configuration gets a new version with the same content: *ret_version, else 0. What is no tag:
 * -EINVAL. `set` is {"key": "value"}, `remove` ["key"]; both may be NULL. */
int plane_node_tag(struct plane_store *s, const struct actor *by, const char *organisation, const char *node,
        const json_t *set, const json_t *remove, int64_t now, int64_t *ret_version, struct error *e);
/* {"key": "value"} */
int plane_node_tags(
        struct plane_store *s, const char *organisation, const char *node, json_t **ret, struct error *e);
/* Whether its tag says that it is left alone by updates. */
int plane_node_is_manual(struct plane_store *s, const char *node, bool *ret, struct error *e);
