/* The payloads of node and plane: one parser and one writer each, for both sides. All are JSON objects with
 * "schema": 1; members that are not known are ignored, so that either side may be newer. Parsers take bytes
 * from outside: 0, or -EFBIG / -EBADMSG with the member in the error; ret is untouched then. Writers give new
 * references. docs/wire.md shows each. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "base/text.h"
#include "wire/budget_plan.h"
#include "wire/topic.h"
#include "wire/window.h"

#include <jansson.h>
#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#define WIRE_MESSAGE_MAXIMUM ((size_t)512 << 10) /* bytes of any message; the broker refuses longer ones */
#define WIRE_EVENT_MAXIMUM   ((size_t)64 << 10)  /* of an event */

/* ---- node → plane: events and reports, numbered in the node's outbox ---- */

enum wire_severity { WIRE_INFO, WIRE_WARNING, WIRE_ERROR };
const char *wire_severity_to_string(enum wire_severity s); /* "INFO", "WARNING", "ERROR" */
int wire_severity_from_string(const char *s, enum wire_severity *ret);

/* The names of product.md. */
#define EVENT_REPO_CONNECTIVITY "Repo Connectivity"
#define EVENT_DNS_RESOLUTION    "DNS Resolution"
#define EVENT_CONFIGURATION     "Configuration Update Failure"
#define EVENT_NODE_CONNECT      "Node Connect"
#define EVENT_NODE_DISCONNECT   "Node Disconnect"
#define EVENT_FLAPPING          "Connection Flapping"
#define EVENT_RECORDS_DROPPED                                                         \
        "Records Dropped" /* the store was full: how many, of what, from when to when \
                           */
#define EVENT_CLOCK_JUMP  "Clock Changed"
#define EVENT_CERTIFICATE "Certificate Renewal"
#define EVENT_UPDATE      "Software Update"

struct wire_event {
        char epoch[WIRE_ID_MAXIMUM + 1]; /* of the node's store: numbers count within it */
        int64_t seq;                     /* from 1, ascending; identity is (node, epoch, seq) */
        int64_t generated_unix_ms;       /* by the node's clock */
        char *name, *message;
        enum wire_severity severity;
        char *service;      /* of the profile; NULL: none */
        json_t *diagnosis;  /* short form, see wire_diagnosis; NULL: none */
        int64_t report_seq; /* the report with the measurements; 0: none */
        json_t *update;     /* "Software Update": update_state_to_json() of it; NULL: none */
};
void wire_event_done(struct wire_event *e);
json_t *wire_event_to_json(const struct wire_event *e);
int wire_event_parse(const void *data, size_t length, struct wire_event *ret, struct error *ret_error);

/* A whole diagnosis, as `gridnode diag --json` writes it. */
struct wire_report {
        char epoch[WIRE_ID_MAXIMUM + 1];
        int64_t seq, generated_unix_ms;
        char *trigger;  /* "monitor", "person", "plane" */
        json_t *report; /* an object; its content is looked at by wire_diagnosis only */
};
void wire_report_done(struct wire_report *r);
json_t *wire_report_to_json(const struct wire_report *r);
int wire_report_parse(const void *data, size_t length, struct wire_report *ret, struct error *ret_error);

/* The short form of a diagnosis that an event carries: {"verdict", "summary", "causes": [{"code", "severity",
 * "summary", "remedy", "fixed_by", "services", "targets", "by", "after", "interface", "route", "interceptor",
 * "candidates"}]}, at most 8 causes and 64 targets of each, each text cut at 2048 bytes. From the contract's
 * JSON, which need not be right: what has another type is left out. NULL when it is no report at all. */
json_t *wire_diagnosis(const json_t *report);

/* ---- plane → node: what is stored ---- */

#define WIRE_ACK_MAXIMUM 256
struct wire_ack {
        char epoch[WIRE_ID_MAXIMUM + 1];
        int64_t seqs[WIRE_ACK_MAXIMUM]; /* stored, or known already */
        size_t count;
        int64_t refused[WIRE_ACK_MAXIMUM]; /* will never be stored: not to be sent again */
        size_t refused_count;
        char reason[256]; /* of the first refused */
};
json_t *wire_ack_to_json(const struct wire_ack *a);
int wire_ack_parse(const void *data, size_t length, struct wire_ack *ret, struct error *ret_error);

/* ---- node → plane: status (retained), configuration applied (retained) ---- */

struct wire_status {
        bool online;
        int64_t since_unix_ms;
        char version[32];
        char epoch[WIRE_ID_MAXIMUM + 1];
        char address[INET_ADDR_TEXT]; /* of the WAN */
        json_t *services;             /* {"repo": {"state": "ok", "cause": "tcp.dropped"}}; NULL: none */
        char reason[256];             /* offline: why, where known */
};
void wire_status_done(struct wire_status *s);
json_t *wire_status_to_json(const struct wire_status *s);
int wire_status_parse(const void *data, size_t length, struct wire_status *ret, struct error *ret_error);

struct wire_applied {
        int64_t version;
        char state[16]; /* "applied", "failed", "taken-back" */
        int64_t at_unix_ms;
        char *error;          /* NULL: none */
        struct strv warnings; /* of the guard */
};
void wire_applied_done(struct wire_applied *a);
json_t *wire_applied_to_json(const struct wire_applied *a);
int wire_applied_parse(const void *data, size_t length, struct wire_applied *ret, struct error *ret_error);

/* ---- plane → node: there is a configuration; the document itself comes over HTTPS ---- */

json_t *wire_notice_to_json(int64_t version);
int wire_notice_parse(const void *data, size_t length, int64_t *ret_version, struct error *ret_error);

#define CONFIG_MAX_LANS   16
#define CONFIG_MAX_ROUTES 4096 /* per LAN */
struct config_route {
        struct cidr destination;
        struct inet_addr next_hop;
        char *description; /* NULL: none */
};
struct config_lan {
        char interface[IFNAMSIZ];
        bool has_address;
        struct cidr address;
        struct config_route *routes;
        size_t route_count; /* at most CONFIG_MAX_ROUTES */
};
/* When updates are installed by themselves. Windows are of the node's own time zone; a date is one, too. */
#define CONFIG_DEFAULT_WINDOW  "daily 02:00-04:00"
#define CONFIG_DEFAULT_CHANNEL "stable"
struct config_schedule {
        bool has_update; /* false: nothing is said; what config_schedule_init() gives holds */
        struct window windows[WINDOW_MAX];
        size_t window_count; /* 0: with `manual` only */
        bool manual;         /* only when somebody asks */
        char hold_until[11]; /* "2026-12-01": nothing by itself before that day; "": no hold */
        char channel[32];    /* of the repository */
        bool reboot;         /* of the machine, where something installed needs it */
};
/* CONFIG_DEFAULT_WINDOW, CONFIG_DEFAULT_CHANNEL, and no reboot: nobody has allowed it. */
void config_schedule_init(struct config_schedule *s);
bool config_date_parse(const char *s, unsigned *ret_year, unsigned *ret_month, unsigned *ret_day);
struct config_transfer { /* instead of the site file's [transfer] */
        bool has_limit, has_fallback;
        struct budget_plan limit;
        bool no_fallback;
};
/* {"schema":1,"version":7,"dns":["198.51.100.53"],"lan":[{"interface":"eth1","address":"10.20.0.2/24","routes":
 * [{"destination":"10.30.0.0/16","next_hop":"10.20.0.1","description":"…"}]}],"guard":true,"schedule":{"update":
 * {"windows":["Sun
 * 02:00-04:00"],"manual":false,"hold_until":null,"channel":"stable","reboot":true}},"transfer":
 * {"limit":"5Mbit/s; 08:00-18:00 1Mbit/s","fallback":"8443"}} */
struct wire_config {
        int64_t version; /* from 1 */
        struct inet_addr dns[8];
        size_t dns_count; /* 0: as in the site file */
        bool has_lan;     /* false: as in the site file */
        struct config_lan lans[CONFIG_MAX_LANS];
        size_t lan_count;
        bool guard; /* host routes keep DNS servers and control plane on the WAN; default true */
        struct config_schedule schedule;
        struct config_transfer transfer;
};
void wire_config_done(struct wire_config *c);
json_t *wire_config_to_json(const struct wire_config *c);
/* Strict: members that are not known are an error here, since what a node does not understand it must not
 * call applied. Also: a next hop that is not on its interface's network, a destination with host bits, an
 * interface twice, a destination twice. */
int wire_config_parse(const void *data, size_t length, struct wire_config *ret, struct error *ret_error);

/* ---- plane → node: tools ---- */

#define REQUEST_MAX_ARGUMENTS 64
struct wire_request {
        char id[WIRE_ID_MAXIMUM + 1];
        bool cancel;           /* the rest is empty then */
        char *tool;            /* as sent: the node's closed table decides */
        struct strv arguments; /* at most 64 of at most 1024 bytes, no NUL */
        double timeout_s;      /* 1 to 600 */
        char *by;              /* who asked, for the node's log */
};
void wire_request_done(struct wire_request *r);
json_t *wire_request_to_json(const struct wire_request *r);
int wire_request_parse(const void *data, size_t length, struct wire_request *ret, struct error *ret_error);

/* node → plane: {"first":0,"lines":[{"stream":"out","text":"…"}]} or {"first":12,"end":{"status":0,"reason":
 * "exited","error":"…"}}. Lines count from 0 over both streams. */
enum wire_end { END_NONE, END_EXITED, END_SIGNALLED, END_TIMEOUT, END_CANCELLED, END_REFUSED, END_LOST };
const char *wire_end_to_string(enum wire_end e); /* "exited" … */
#define OUTPUT_MAX_LINES 256
struct wire_line {
        bool is_error; /* standard error */
        char *text;    /* one line, no newline, valid UTF-8, at most 8192 bytes */
};
struct wire_output {
        int64_t first;
        struct wire_line *lines;
        size_t line_count;
        enum wire_end end;
        int status;  /* exit status or signal */
        char *error; /* refused, lost: why. NULL */
};
void wire_output_done(struct wire_output *o);
json_t *wire_output_to_json(const struct wire_output *o);
int wire_output_parse(const void *data, size_t length, struct wire_output *ret, struct error *ret_error);

/* ---- registration and renewal, over HTTPS ---- */

struct wire_enrolment {        /* POST /api/v1/node/register, POST /api/v1/node/renew */
        char *token;           /* register */
        char *csr_pem;         /* PKCS #10, at most 8 KiB */
        char *certificate_pem; /* renew: the present or expired one */
        char *signature;       /* renew: base64 of the old key's ECDSA-SHA256 over the bytes of csr_pem */
};
void wire_enrolment_done(struct wire_enrolment *e); /* overwrites the token */
json_t *wire_enrolment_to_json(const struct wire_enrolment *e);
int wire_enrolment_parse(
        const void *data, size_t length, bool renew, struct wire_enrolment *ret, struct error *ret_error);

struct wire_identity { /* the answer to both */
        char *node, *name, *organisation;
        char *certificate_pem; /* the leaf and the intermediate */
        char *root_pem;
        char *profile; /* the text of NAME.profile; its root-ca is grid-root.pem beside it */
        char *profile_name;
        char *apt_keyring; /* base64 of the binary OpenPGP keyring that signs the packages; NULL: none */
};
void wire_identity_done(struct wire_identity *i);
json_t *wire_identity_to_json(const struct wire_identity *i);
int wire_identity_parse(const void *data, size_t length, struct wire_identity *ret, struct error *ret_error);
