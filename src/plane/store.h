/* The plane's database (STATE/plane.db): what the parts share of it. Each store_*.c holds one kind of record;
 * all of them take the organisation, so that nothing crosses: a record of another one is not there (-ENOENT).
 * Times are milliseconds since the epoch and parameters. Lists are JSON arrays of what the API shows, page by
 * page. */
#pragma once

#include "base/db.h"
#include "wire/wire.h"

#include <jansson.h>

struct plane_store; /* opaque */

/* Another process that has the database locked (sqlite3 in a transaction) is waited for only for some
 * milliseconds, once: then each change is -EBUSY at once, and reading goes on. db_watch_lock() tells of it.
 */
int plane_store_open(const char *path, struct plane_store **ret, struct error *ret_error);
struct plane_store *plane_store_close(struct plane_store *s);
struct db *plane_store_db(struct plane_store *s);
/* Keeps the database bounded: at most 1,000,000 events and 10,000 reports, the oldest of the organisation
 * that has most go; ended sessions and tokens that nobody will ask for. Some hundred rows a call. 0, or 1:
 * there is more, call again soon. */
int plane_store_tidy(struct plane_store *s, int64_t now, struct error *e);

/* Who does something: for the audit log, and what it may. */
enum role { ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };
const char *role_to_string(enum role r);
int role_from_string(const char *s, enum role *ret);
struct actor {
        char name[80];         /* "alice", "token:ci", "local:root", "node:n-…" */
        char organisation[65]; /* id; "" for the machine's own administrator: all of them */
        enum role role;
};

/* What the API shows. Times are "…Z" texts or null.
 *
 * - node: {id, organisation, name, site, state, created, registered, removed, connected, connected_since,
 *   last_seen, status_at, version, address, services, reason, event_count, configuration: {wanted,
 *   applied, state, at, error, warnings}, update: {id, status, version, at} | null, tags: {key: value}};
 *   plane_node_show also {token_expires, last_events: [at most 10],
 *   certificate: {serial, issued, not_after, revoked} | null}
 *
 * - event: {id, node, node_name, site, generated, received, name, severity, message, service, cause,
 *   diagnosis, report}. Ids of events and reports are NODE.EPOCH.SEQ, known before they are stored; "report"
 *   is the id that the event's report has once it came.
 *
 * - report: {id, node, node_name, generated, received, trigger, verdict, summary}; plane_report_get also
 *   {report}
 *
 * - audit: {id, at, actor, action, object, detail}
 *
 * - organisation: {id, name, created}; user: {id, name, role, created}; token: {id, name, role, created,
 *   expires, last_used}; incident: as incidents.h makes it, and {open}
 *
 * A page of a list: `after` is the cursor of the last page (NULL: the first), `limit` 1 to 500 (0: 50). *ret
 * is {"items": […], "next": "cursor" or null}. A cursor that is none of ours: -EINVAL. */
struct page {
        const char *after;
        int limit;
        const struct list_filter *only; /* NULL: all */
};
/* Of the lists of users, tokens, organisations, audit, reports and incidents; each says which it knows. */
struct list_filter {
        const char *name; /* part of it */
        const char *role, *actor, *action, *object, *verdict;
        int64_t since, until; /* from since, before until; 0: open */
};
extern const struct list_filter list_all;
/* What a page is to be filtered by; never NULL. */
const struct list_filter *page_filter(const struct page *p);

/* ---- organisations (store_org.c) ---- */
#define ORGANISATION_DEFAULT "default"
int plane_org_add(struct plane_store *s, const struct actor *by, const char *name, int64_t now,
        char ret_id[65], struct error *e);
int plane_org_find(struct plane_store *s, const char *name_or_id, char ret_id[65], struct error *e);
/* By name. */
int plane_org_list(
        struct plane_store *s, const struct actor *by, const struct page *p, json_t **ret, struct error *e);

/* ---- audit (store_audit.c): written in the transaction of the change it tells of ---- */
int plane_audit(struct plane_store *s, const struct actor *by, const char *organisation, const char *action,
        const char *object, json_t *detail /* stolen; NULL; never a secret */, int64_t now, struct error *e);
/* By actor, action, object (of it or of its name in the detail), since, until. */
int plane_audit_list(
        struct plane_store *s, const char *organisation, const struct page *p, json_t **ret, struct error *e);
/* What was written after the entry with this number, of all organisations and the oldest first, at most 100:
 * an array of {"organisation", "entry"}. *after moves on; < 0: only to the newest there is, and nothing is
 * given. */
int plane_audit_since(struct plane_store *s, int64_t *after, json_t **ret, struct error *e);

/* ---- nodes (store_node.c) ---- */
struct plane_node {
        char id[65], organisation[65], name[65], site[65];
        char state[16]; /* "new", "registered", "removed" */
        bool connected;
};
/* A name: a-z, 0-9, '-', '.', at most 63; one of the organisation's own. The token is given once, its SHA-256
 * is kept; it lives 24 h. -EEXIST: there is one of this name. */
int plane_node_create(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *name, const char *site, int64_t now, char ret_id[65], char ret_token[64],
        int64_t *ret_expires, struct error *e);
/* A new token for a node (its machine was replaced); the old ones die. */
int plane_node_new_token(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *node, int64_t now, char ret_token[64], int64_t *ret_expires, struct error *e);
int plane_node_find(struct plane_store *s, const char *organisation, const char *name_or_id,
        struct plane_node *ret, struct error *e); /* organisation NULL: any, by id only */
struct node_filter {
        const char *name; /* part of it */
        const char *site, *state, *cause;
        int connected;               /* -1: both */
        const char *tag, *tag_value; /* value NULL: any */
};
int plane_node_list(struct plane_store *s, const char *organisation, const struct node_filter *f,
        const struct page *p, json_t **ret, struct error *e);
int plane_node_show(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e);
/* Its certificates are revoked, its id is never used again; events stay. */
int plane_node_remove(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        int64_t now, struct error *e);
/* Registration: the token is used up by this key, and certificates of other keys that the node had are
 * revoked (its machine was replaced). The same token with the same key again gives the same node (an answer
 * was lost). "token.unknown" -ENOENT, "token.used" -EEXIST, "token.expired" -ESTALE. */
int plane_node_redeem(struct plane_store *s, const char *token, const char *public_key_sha256, int64_t now,
        struct plane_node *ret, struct error *e);
/* Certificates: by public key, so that a question that comes again gets the same answer. not_after is in
 * milliseconds, as all times here. */
int plane_certificate_add(struct plane_store *s, const char *node, const char *serial,
        const char *public_key_sha256, int64_t not_after, const char *pem, int64_t now, struct error *e);
int plane_certificate_find(struct plane_store *s, const char *node, const char *public_key_sha256,
        char **ret_pem, struct error *e);
/* 0 when a certificate with this serial may speak for the node at all (not removed, not revoked); else
 * -EACCES: "node.unknown", "certificate.unknown", "certificate.revoked". */
int plane_certificate_check(struct plane_store *s, const char *node, const char *serial, struct error *e);
int plane_certificates_revoked(struct plane_store *s, int64_t now, struct strv *ret, struct error *e);
/* From node/ID/status. *ret_changed: it came or went. */
int plane_node_status(struct plane_store *s, const char *node, const struct wire_status *status, int64_t now,
        bool *ret_changed, struct error *e);
/* Ids of nodes that count as connected, but whose last status came before `since`. */
int plane_nodes_unheard(struct plane_store *s, int64_t since, struct strv *ret, struct error *e);
/* Ids of nodes whose last "Node Connect", "Node Disconnect" or "Connection Flapping" does not say what they
 * are now. */
int plane_nodes_untold(struct plane_store *s, struct strv *ret, struct error *e);

/* ---- configurations (store_config.c) ---- */
/* A new version; `expected` is the version that it replaces (If-Match), -ESTALE when that is not the newest;
 * < 0: any. */
int plane_config_put(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *node, const struct wire_config *config, int64_t expected, int64_t now,
        int64_t *ret_version, struct error *e);
int plane_config_get(struct plane_store *s, const char *organisation, const char *node,
        int64_t version /* 0: newest */, json_t **ret,
        struct error *e); /* {"version":0,…} when none was ever put */
/* The newest as its node gets it: "manual" in the schedule of updates where the node's tag says so. What
 * people put stays as it is, and holds again when the tag goes. */
int plane_config_for_node(
        struct plane_store *s, const char *organisation, const char *node, json_t **ret, struct error *e);
int plane_config_applied(struct plane_store *s, const char *node, const struct wire_applied *applied,
        int64_t now, struct error *e);

/* ---- events, reports (store_event.c) ---- */
/* *ret_new false: it was stored before. organisation is the node's. `ret` is the event as the API shows it;
 * NULL when it is not new. -ENOENT: no such node, -EINVAL. */
int plane_event_add(struct plane_store *s, const char *node, const struct wire_event *event, int64_t now,
        bool *ret_new, json_t **ret, struct error *e);
/* Of the plane's own making (Node Connect, Node Disconnect); as for a node, "removed" is -ENOENT. */
int plane_event_own(struct plane_store *s, const char *node, const char *name, enum wire_severity severity,
        const char *message, int64_t now, json_t **ret, struct error *e);
int plane_report_add(struct plane_store *s, const char *node, const struct wire_report *report, int64_t now,
        bool *ret_new, struct error *e);
/* As it is in the list of reports. -ENOENT. */
int plane_report_summary(struct plane_store *s, const char *node, const char *epoch, int64_t seq,
        json_t **ret, struct error *e);
struct event_filter {
        const char *node; /* id */
        const char *name, *cause;
        int severity;         /* at least; -1: all */
        int64_t since, until; /* generated: from since, before until; 0: open */
};
int plane_event_list(struct plane_store *s, const char *organisation, const struct event_filter *f,
        const struct page *p, json_t **ret, struct error *e); /* newest first */
/* Services whose last event was a failure with a diagnosis, of all organisations: for incidents after a
 * restart. Array of {"organisation", "node", "site", "service", "since_unix_ms", "diagnosis"}, oldest first.
 */
int plane_failures(struct plane_store *s, json_t **ret, struct error *e);
int plane_report_get(
        struct plane_store *s, const char *organisation, const char *id, json_t **ret, struct error *e);
/* By verdict, since, until: generated. */
int plane_report_list(struct plane_store *s, const char *organisation, const char *node, const struct page *p,
        json_t **ret, struct error *e);

/* ---- users, sessions, API tokens (store_user.c); passwords are hashed by plane/password.h ---- */
struct plane_user {
        char id[65], organisation[65], name[65];
        enum role role;
        char password_hash[128];
        int64_t failures, blocked_until; /* five wrong passwords slow the sixth */
};
int plane_user_add(struct plane_store *s, const struct actor *by, const char *organisation, const char *name,
        enum role role, const char *password_hash, int64_t now, char ret_id[65], struct error *e);
int plane_user_find(struct plane_store *s, const char *organisation, const char *name, struct plane_user *ret,
        struct error *e);
/* By name, role. */
int plane_user_list(
        struct plane_store *s, const char *organisation, const struct page *p, json_t **ret, struct error *e);
int plane_user_update(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        const enum role *role, const char *password_hash, int64_t now,
        struct error *e); /* its sessions end */
int plane_user_remove(struct plane_store *s, const struct actor *by, const char *organisation, const char *id,
        int64_t now, struct error *e);
/* Delays double from 1 s at the fifth to 15 min. Called before the password is looked at, guesses that are
 * made side by side count as well; plane_user_succeeded takes all of them back. */
int plane_user_failed(
        struct plane_store *s, const char *id, int64_t now, int64_t *ret_blocked_until, struct error *e);
int plane_user_succeeded(struct plane_store *s, const char *id, struct error *e);
/* Secrets are given once; SHA-256 is kept. A session lives 12 h, 1 h without use. */
int plane_session_add(struct plane_store *s, const char *user, int64_t now, char ret_secret[64],
        char ret_csrf[64], struct error *e);
int plane_session_find(struct plane_store *s, const char *secret, int64_t now, struct actor *ret,
        char ret_csrf[64], struct error *e);
int plane_session_remove(struct plane_store *s, const char *secret, struct error *e);
int plane_token_add(struct plane_store *s, const struct actor *by, const char *organisation, const char *name,
        enum role role, int64_t expires /* 0: never */, int64_t now, char ret_id[65], char ret_secret[64],
        struct error *e);
int plane_token_find(
        struct plane_store *s, const char *secret, int64_t now, struct actor *ret, struct error *e);
/* By name, role. */
int plane_token_list(
        struct plane_store *s, const char *organisation, const struct page *p, json_t **ret, struct error *e);
int plane_token_remove(struct plane_store *s, const struct actor *by, const char *organisation,
        const char *id, int64_t now, struct error *e);

/* ---- incidents (store_incident.c): what plane/incidents.h found ---- */
int plane_incident_save(struct plane_store *s, const char *organisation, const char *id,
        json_t *incident /* borrowed */, bool open, int64_t now, struct error *e);
/* By since, until: when they began. */
int plane_incident_list(struct plane_store *s, const char *organisation, int open /* -1 both */,
        const struct page *p, json_t **ret, struct error *e);
/* Those that are open, of all organisations: for incidents_resume after a restart. Array of {"organisation",
 * "incident"}. */
int plane_incidents_open(struct plane_store *s, json_t **ret, struct error *e);

/* ---- packages of the repository (store_package.c): what reprepro says that it has ---- */
/* {package, version, architecture, channel, size_bytes, sha256, file, added, added_by}; channel and name may
 * be NULL for all. */
int plane_package_list(struct plane_store *s, const char *organisation, const char *channel, const char *name,
        const struct page *p, json_t **ret, struct error *e);
int plane_package_all(
        struct plane_store *s, const char *organisation, json_t **ret, struct error *e); /* an array */
int plane_package_get(struct plane_store *s, const char *organisation, const char *channel, const char *name,
        const char *architecture, json_t **ret, struct error *e);
/* 0 when there is one; NULL is any. -ENOENT. */
int plane_package_find(struct plane_store *s, const char *organisation, const char *channel, const char *name,
        const char *version, const char *architecture, struct error *e);
/* -EEXIST: the same version is there with other content. */
int plane_package_conflict(struct plane_store *s, const char *organisation, const char *name,
        const char *version, const char *architecture, const char *sha256, struct error *e);
struct plane_package_change {
        const struct actor *by;
        const char *organisation, *channel;
        const char *action; /* for the audit log, an entry for each package that came or went; NULL: none */
        const char *from;   /* the channel that it was promoted from; NULL */
};
/* The channel is now what `list` (reprepro's, by PACKAGE_LIST_FORMAT) says. *ret, replaced, is {"items":
 * […]}: what came and what went. */
int plane_package_sync(struct plane_store *s, const struct plane_package_change *c, const char *list,
        int64_t now, json_t **ret, struct error *e);
