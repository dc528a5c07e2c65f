/* Several SYNs towards one endpoint, each from a socket and source port of its own, since the kernel repeats
 * a lost SYN only after a second. The first socket that is answered settles it. Shared by the TCP and hop
 * probes. */
#pragma once

#include "probe/probe.h"
#include "probe/socket.h"

/* Later losses are left to the kernel's own repeats on these sockets: descriptors are not without end. */
#define SYN_MAX_TRIES 16

enum syn_answer {
        SYN_SILENT,     /* nothing yet */
        SYN_CONNECTED,  /* SYN-ACK */
        SYN_RESET,      /* RST instead of a SYN-ACK */
        SYN_ICMP,       /* `icmp` */
        SYN_LOCAL_ERROR /* `error_number`: from this machine, no packet was answered */
};

struct syn_burst;

struct syn_try {
        struct syn_burst *burst;
        int fd; /* -1: not opened or handed on */
        sd_event_source *io;
        uint16_t local_port;
        double started_ms, rtt_ms; /* since the run's start; SYN → answer */
        enum syn_answer answer;
        struct socket_icmp icmp;
        int error_number;
        bool is_usable; /* connected, and not reset since */
};

/* The probe that is such a burst. */
struct syn_burst {
        struct probe probe; /* first, see struct probe_class */
        sd_event_source *timer;
        const struct probe_spec
                *spec; /* where to, and how; NULL: as the probe's own says (a proxy is elsewhere) */
        /* When the next try is due, in ms since the probe's start, given how many there are. */
        double (*due_ms)(unsigned count);
        /* How long silence is waited out, in ms since the probe's start; asked again when that time comes. */
        double (*patience_ms)(const struct probe *p);
        /* Once: the try that was answered, or NULL for silence. */
        void (*on_answer)(struct probe *p, struct syn_try *settled);
        struct syn_try tries[SYN_MAX_TRIES];
        unsigned count;
        int priority;     /* of answers in the loop, sd_event_source_set_priority(3) */
        bool is_complete; /* no further try: out of descriptors */
};

/* Sends the first SYN; due_ms, patience_ms and on_answer are set. 0 (a refusal by this machine is an answer
 * like any other, and on_answer is called), or -errno when not even a socket can be had. */
int syn_burst_start(struct syn_burst *b);
/* Ends all tries but keeps their facts. May be called again. */
void syn_burst_stop(struct syn_burst *b);
/* Fills what the outcome does not decide: tries, syns_unanswered, source, local_port, rtt_ms and what the
 * capture saw of all tries. `settled` NULL: none. Sets the ICMP fields and error_number of the settled try
 * too. To be called before the sockets are closed. */
void syn_burst_describe(struct syn_burst *b, const struct syn_try *settled);
/* The outcome of a settled try, NULL being silence: OUTCOME_OK, RESET, REJECTED, LOCAL_ERROR, NOT_PERMITTED,
 * TIMEOUT. */
enum measurement_outcome syn_try_outcome(const struct syn_try *settled);
