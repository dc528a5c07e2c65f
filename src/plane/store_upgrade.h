/* What the database has of upgrades of many nodes. */
#pragma once

#include "plane/store.h"
#include "plane/upgrade.h"

/* - upgrade: {id, name, state, reason, plan, version, wave, counts: {NEW, …}, created, by, started, ended};
 *   plane_upgrade_show also {waves: [{wave, percent, counts}]}: wave 0 has those left out at the start
 *
 * - node of one: {node, name, site, wave, state, reason, since, asked, tries, update}; update is the id for
 *   plane_update_get, or null
 *
 * - line of its timeline: {id, at, by, node, text}
 *
 * An upgrade is named by its id, or by its name: then it is the newest of that name. */
int plane_upgrade_create(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *name, const struct upgrade_plan *plan, int64_t now, char ret_id[65], struct error *e);
int plane_upgrade_find(struct plane_store *s, const char *organisation, const char *name_or_id,
        char ret_id[65], struct error *e);
int plane_upgrade_list(struct plane_store *s, const char *organisation, const char *state,
        const struct page *p, json_t **ret, struct error *e); /* newest first */
int plane_upgrade_show(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e);
struct upgrade_filter {
        const char *state; /* NULL: all */
        int64_t wave;      /* < 0: all */
};
int plane_upgrade_nodes(struct plane_store *s, const char *organisation, const char *id,
        const struct upgrade_filter *f, const struct page *p, json_t **ret, struct error *e);
int plane_upgrade_timeline(struct plane_store *s, const char *organisation, const char *id,
        const struct page *p, json_t **ret, struct error *e); /* newest first */
/* Who would be in which wave now, and who would not and why: {"waves": [{wave, percent, nodes: [{node, name,
 * site, version, connected}]}], "skipped": [{…, reason}]}. */
int plane_upgrade_preview(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e);

/* What a person asks, with an entry in the audit log. -EEXIST: it is not in a state for that ("upgrade.state"
 * and others), or another one of the organisation is running or paused ("upgrade.active"). */
enum upgrade_action { ACTION_START, ACTION_PAUSE, ACTION_RESUME, ACTION_CANCEL, ACTION_RETRY };
int plane_upgrade_act(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        enum upgrade_action action, int64_t now, struct error *e);

/* ---- for upgrades.c ---- */
/* Ids of those of which something is still to come, of all organisations. */
int plane_upgrades_watched(struct plane_store *s, struct strv *ret, struct error *e);
/* With everything that is known of its nodes now. In the caller's transaction, with the save. */
int plane_upgrade_load(struct plane_store *s, const char *id, struct upgrade *ret, struct error *e);
/* What changed, and the timeline; `by` of it. */
int plane_upgrade_save(
        struct plane_store *s, const struct upgrade *u, const char *by, int64_t now, struct error *e);
