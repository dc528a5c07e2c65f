/* What the parts of the API share; nobody else includes it. A request is a `struct exchange` from its first
 * line to its last byte. Its life: api.c takes it in, api_route.c finds its row, api_identity.c says who
 * asks, the row's handler replies, or waits and replies later. */
#pragma once

#include "plane/api.h"
#include "plane/api_limit.h"
#include "plane/api_login.h"
#include "plane/api_uri.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/local_socket.h"
#include "base/log.h"

#include <microhttpd.h>

#define BODY_MAXIMUM        ((size_t)64 << 10)
#define BODY_CONFIG_MAXIMUM ((size_t)256 << 10)
#define API_NAME_MAXIMUM    64
#define SESSION_COOKIE      "gridplane"

struct exchange;
struct stream; /* api_stream.c */
struct wait;   /* api_password.c */
struct upload; /* api_upload.c */

enum access {
        ACCESS_PUBLIC,   /* nobody need say who he is */
        ACCESS_OPTIONAL, /* who he is changes the answer; nobody is fine */
        ACCESS_NODE,     /* a node's certificate that nginx verified */
        ACCESS_VIEWER,
        ACCESS_OPERATOR,
        ACCESS_ADMIN,
        ACCESS_MACHINE, /* the machine's own administrator, by admin.sock */
};

/* A body that is no JSON and too large to be kept: taken as it comes. Each is false after replying. */
struct body_sink {
        const char *const *types; /* that it may have; NULL-terminated */
        bool (*begin)(struct exchange *x);
        bool (*take)(struct exchange *x, const char *data, size_t length);
};

struct route {
        const char *method, *path; /* "*" stands for one segment */
        enum access access;
        const char *query;   /* the parameters that it knows, separated by blanks; NULL: none */
        size_t body_maximum; /* 0: it takes none */
        void (*handle)(struct exchange *x);
        const struct body_sink *sink; /* NULL: the body is JSON */
};
extern const struct route api_routes[];
extern const size_t api_route_count;
/* The row, and how the path's "*" are filled. NULL after replying with 404, 405 or the answer to OPTIONS. */
const struct route *api_route_find(struct exchange *x);

struct listener {
        struct api *api;
        struct MHD_Daemon *daemon;
        bool is_local;              /* admin.sock */
        struct local_socket socket; /* its descriptor is the daemon's */
        sd_event_source *io, *timer;
};

struct api {
        struct api_options options;
        struct listener listeners[2]; /* api.sock, admin.sock */
        struct wait *waits;
        struct limit *limit; /* registrations and renewals that were wrong */
        struct log_limit wrong_log, internal_log, login_log;
        struct logins *logins;
        struct hub *hub;     /* api_stream.c */
        uint64_t replies[6]; /* by class of the status: [2] is 2xx */
        uint64_t refused_registrations;
};

struct exchange {
        struct api *api;
        struct listener *listener;
        struct MHD_Connection *connection;
        struct uri uri;
        int uri_result;
        struct error uri_error;
        char method[16];
        const struct route *route;
        const char *values[2]; /* of the path's "*" */
        bool is_begun, is_handled, is_head;
        char *body;
        size_t body_length, body_seen; /* kept; seen in all */
        struct actor actor;            /* nobody: name "" */
        bool has_session;              /* known by cookie: changes need the CSRF header */
        char secret[64], csrf[64];     /* of that session */
        char organisation[65];         /* whose records this request is about */
        struct ca_identity certificate;
        struct plane_node node; /* ACCESS_NODE */
        bool is_waiting;        /* suspended until a reply is there */
        void *context;          /* a handler's own, while it waits; free()d */
        size_t context_size;    /* overwritten before */
        struct stream *stream;
        struct upload *upload; /* api_upload.c */
        struct MHD_Response *response;
        unsigned status;
};

/* Runs the daemon soon: after something was resumed. */
void api_kick(struct listener *l);
/* Stops handling until api_resume(); a reply is to be there then. Only from a handler. */
void api_suspend(struct exchange *x);
void api_resume(struct exchange *x);
const char *api_header(const struct exchange *x, const char *name); /* NULL: not there */

/* ---- replies (api_problem.c): exactly one for an exchange ---- */
void api_reply(struct exchange *x, unsigned status, struct MHD_Response *response /* taken */);
void api_reply_json(struct exchange *x, unsigned status, json_t *value /* stolen */);
/* What the store gave: the value (stolen), or its error. */
void api_reply_result(struct exchange *x, int result, json_t *value, const struct error *e);
void api_reply_text(struct exchange *x, unsigned status, const char *type, char *text /* taken */);
void api_reply_empty(struct exchange *x, unsigned status);
void api_reply_header(struct exchange *x, const char *name, const char *value);
void api_problem(struct exchange *x, unsigned status, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* What a part below said: its error as a problem. One of our own (full disk, broken database) is told in the
 * log, and to the client without its particulars. */
void api_problem_error(struct exchange *x, int result, const struct error *e);
void api_problem_wait(
        struct exchange *x, unsigned status, const char *code, int64_t wait_ms, const char *text);

/* ---- reading (api_read.c) ---- */
/* The body as an object. Borrowed from *ret, which is the caller's. False after replying. */
bool api_body(struct exchange *x, json_t **ret);
/* After reading members with `r` (strict): false after replying. */
bool api_read_done(struct exchange *x, struct json_reader *r);
/* Parameters: each is false after replying. */
bool api_query_page(struct exchange *x, struct page *ret);
/* The same with the filters of lists, into `filter`, which the page points to: of them a route's table has
 * those that its list knows. */
bool api_query_list(struct exchange *x, struct list_filter *filter, struct page *ret);
bool api_query_choice(struct exchange *x, const char *name, const char *const *choices, size_t count,
        int otherwise, int *ret);
bool api_query_time(struct exchange *x, const char *name, int64_t *ret); /* 0: not there */
bool api_query_integer(struct exchange *x, const char *name, int64_t minimum, int64_t maximum,
        int64_t otherwise, int64_t *ret);
/* The version of an entity tag, "7" in quotes: 0 or -EINVAL. */
int api_entity_tag_parse(const char *s, int64_t *ret_version);

/* ---- who asks (api_identity.c) ---- */
/* Fills actor and organisation. False after replying. */
bool api_identify(struct exchange *x);
/* The node whose certificate nginx verified, into x->certificate, x->node and x->organisation. */
bool api_identify_node(struct exchange *x);

/* ---- passwords, while the loop goes on (api_password.c) ---- */
void api_hash_password(
        struct exchange *x, const char *password, void (*then)(struct exchange *x, const char *hash));
void api_verify_password(struct exchange *x, const char *password, const char *hash,
        void (*then)(struct exchange *x, bool right));
void api_waits_end(struct api *a); /* who still waits is told that the plane stops */

/* ---- server-sent events (api_stream.c) ---- */
void api_stream_events(struct exchange *x);
void api_stream_request(struct exchange *x);
int api_hub_new(struct api *a);
void api_hub_stop(struct api *a); /* its streams end: nothing is suspended any more */
void api_hub_free(struct api *a);
void api_stream_free(struct stream *s); /* its exchange is over */
void api_audit_changed(struct api *a);  /* what is new in the audit log goes to administrators */
/* Rights changed: all streams of the organisation end, and who still may opens his anew. */
void api_streams_end(struct api *a, const char *organisation);
size_t api_streams_count(const struct api *a);

/* ---- a package as the body, into a file (api_upload.c) ---- */
extern const struct body_sink api_upload_sink;
void api_upload_free(struct upload *u); /* the file goes unless it was taken */
/* The file, the caller's, with its hash and size. NULL after replying: there was no body. */
char *api_upload_take(struct exchange *x, char ret_sha256[65], int64_t *ret_size_bytes);

/* ---- handlers ---- */
void api_packages_list(struct exchange *x);
void api_packages_add(struct exchange *x);
void api_packages_remove(struct exchange *x);
void api_packages_promote(struct exchange *x);
void api_packages_keys(struct exchange *x);
void api_packages_rotate(struct exchange *x);
void api_session_open(struct exchange *x);
void api_session_show(struct exchange *x);
void api_session_close(struct exchange *x);
void api_users_list(struct exchange *x);
void api_users_add(struct exchange *x);
void api_users_update(struct exchange *x);
void api_users_remove(struct exchange *x);
void api_tokens_list(struct exchange *x);
void api_tokens_add(struct exchange *x);
void api_tokens_remove(struct exchange *x);
void api_organisations_list(struct exchange *x);
void api_organisations_add(struct exchange *x);
void api_audit_list(struct exchange *x);
void api_nodes_list(struct exchange *x);
void api_nodes_create(struct exchange *x);
void api_nodes_show(struct exchange *x);
void api_nodes_remove(struct exchange *x);
void api_nodes_token(struct exchange *x);
void api_nodes_config_get(struct exchange *x);
void api_nodes_config_put(struct exchange *x);
void api_nodes_tags(struct exchange *x);
void api_nodes_updates(struct exchange *x);
void api_updates_list(struct exchange *x);
void api_updates_show(struct exchange *x);
void api_upgrades_list(struct exchange *x);
void api_upgrades_create(struct exchange *x);
void api_upgrades_show(struct exchange *x);
void api_upgrades_preview(struct exchange *x);
void api_upgrades_nodes(struct exchange *x);
void api_upgrades_timeline(struct exchange *x);
void api_upgrades_start(struct exchange *x);
void api_upgrades_pause(struct exchange *x);
void api_upgrades_resume(struct exchange *x);
void api_upgrades_cancel(struct exchange *x);
void api_upgrades_retry(struct exchange *x);
void api_requests_start(struct exchange *x);
void api_requests_show(struct exchange *x);
void api_requests_cancel(struct exchange *x);
void api_events_list(struct exchange *x);
void api_reports_list(struct exchange *x);
void api_reports_show(struct exchange *x);
void api_incidents_list(struct exchange *x);
void api_node_register(struct exchange *x);
void api_node_renew(struct exchange *x);
void api_node_config(struct exchange *x);
void api_registry_check(struct exchange *x);
void api_health(struct exchange *x);
void api_description(struct exchange *x);
void api_metrics(struct exchange *x);

/* A node of the query's "node", by name or id, as id in `ret`; *ret_id NULL: not asked for. One that is not
 * there (any more) is an error: an empty list would look like an answer. False after replying. */
bool api_query_node(struct exchange *x, char ret[65], const char **ret_id);
/* The node of the path's first "*", of this organisation. False after replying. */
bool api_path_node(struct exchange *x, struct plane_node *ret);
/* To the streams: a node as operators see it now. */
void api_node_changed(struct api *a, const char *organisation, const char *node);
