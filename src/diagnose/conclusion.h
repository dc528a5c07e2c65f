/* What a diagnosis concludes from measurements. Pure: no I/O, no clock. */
#pragma once

#include "diagnose/cause.h"
#include "probe/measurement.h"

enum verdict { VERDICT_HEALTHY, VERDICT_DEGRADED, VERDICT_BLOCKED, VERDICT_UNDETERMINED };
const char *verdict_to_string(enum verdict v);
int verdict_exit_code(enum verdict v); /* 0, 3, 1, 2 */

enum address_state { ADDRESS_OK, ADDRESS_BLOCKED, ADDRESS_NOT_TESTED };
const char *address_state_to_string(enum address_state s);
enum service_state { SERVICE_OK, SERVICE_DEGRADED, SERVICE_BLOCKED, SERVICE_NOT_TESTED };
const char *service_state_to_string(enum service_state s);

struct hop_name { /* a device: its address and distance */
        bool known;
        struct inet_addr address;
        int hop; /* 0: distance not known */
};

struct address_result {
        struct inet_addr address;
        enum address_state state;
        enum probe_stage stage; /* where it ended: the stage that failed, or the last that passed */
        double rtt_ms;          /* 0 unknown */
};

struct service_result {
        char *name, *host;
        uint16_t port;
        enum service_state state;
        enum probe_stage stage; /* of the worst: where it breaks; the last passed when ok */
        struct strv carries;
        struct address_result *addresses;
        size_t address_count;
};

struct cause {
        const struct cause_info *info;
        enum severity severity;
        struct strv services, targets; /* targets: "198.51.100.20:443", a DNS server, an interface */
        struct hop_name by;            /* who does it, known from its own answer */
        struct hop_name after;         /* silent drops: last hop known to have forwarded */
        char *interface;               /* route.* and link-level causes */
        char *route;                   /* route.*: "198.51.100.0/24 via 10.20.0.1" */
        enum yesno configured;         /* route.*: the site file put it there */
        char *interceptor;             /* tls.intercepted: "Fortinet"; NULL unknown */
        struct strv candidates;        /* undetermined: codes */
        char *summary;                 /* one sentence for a person, with the facts */
        char *remedy;                  /* one or two sentences, addressed to whoever fixes it */
        enum fixed_by fixed_by;
        int *evidence; /* measurement ids, ascending */
        size_t evidence_count;
};

struct conclusion {
        enum verdict verdict;
        char *summary; /* one sentence */
        struct service_result *services;
        size_t service_count;
        struct cause *causes; /* critical first, then by the order of the table */
        size_t cause_count;
};

/* Concludes; also writes status, reason and voided_by of the measurements. ret is overwritten (must be
 * empty). */
void diagnose_conclude(struct measurement_list *list, struct conclusion *ret);
void conclusion_done(struct conclusion *c);
