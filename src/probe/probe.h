/* Probes: each measures one thing, asynchronously, and reports exactly one measurement. No opinion here.
 *
 * A probe is started from a spec, and ends in one call of on_result, never from within probe_start itself.
 * probe_abandon() ends it at once; what it has seen so far is reported with outcome not-tested (reason
 * given), unless it already knows its outcome. All sockets are non-blocking and belong to one sd-event loop.
 */
#pragma once

#include "net/trust.h"
#include "probe/measurement.h"

#include <systemd/sd-event.h>

struct capture;     /* probe/capture.h */
struct probe;       /* opaque to callers */
struct http_engine; /* net/http_engine.h: libcurl multi in the loop */

struct probe_context {
        sd_event *event;
        uint64_t started_us;     /* CLOCK_MONOTONIC: zero of at_ms */
        struct inet_addr source; /* local address to bind; family 0: the kernel chooses */
        char wan_interface[IFNAMSIZ];
        double patience_ms;      /* how long silence is waited out. May grow while probes run: a probe whose
                                    deadline comes compares with the present value and waits on. Default 1000 */
        struct capture *capture; /* NULL: not permitted or not wanted */
        struct trust *trust;     /* pinned root and the node's certificate; NULL: nothing to verify against */
        struct http_engine *http; /* created on first use by probe_http.c, freed by probe_context_done */
        struct arp_socket
                *arp; /* probe_arp.c: packet sockets, an interface each; kept, since closing one
                         blocks for   an RCU grace period (8 to 16 ms); freed by probe_context_done */
        struct kept_socket
                *kept; /* connected sockets that a TCP probe left for the TLS probe of the same target */
};
int probe_context_init(struct probe_context *c); /* loop, clock; 0 or -errno */
void probe_context_done(struct probe_context *c);
double probe_context_now_ms(const struct probe_context *c); /* since started_us, monotonic */

typedef void (*probe_on_result)(
        struct probe *p, struct measurement *m /* ownership passes */, void *userdata);

/* 0 with *ret set, or -errno when the spec cannot be started at all (programming error, out of descriptors).
 * After on_result the probe has freed itself. */
int probe_start(struct probe_context *c, const struct probe_spec *spec, probe_on_result on_result,
        void *userdata, struct probe **ret);
void probe_abandon(struct probe *p, const char *reason);
const struct probe_spec *probe_spec_of(const struct probe *p);
double probe_age_ms(const struct probe *p);

/* ---- for the probes themselves ---- */

struct probe_class {
        enum measurement_kind kind;
        size_t size_bytes; /* of the probe's own struct, whose first member is struct probe */
        /* Starts I/O. May call probe_finish (the report is deferred to the loop). 0 or -errno. */
        int (*start)(struct probe *p);
        /* Fills p->result with what is known so far, when the probe is abandoned or its time is up; may be
         * NULL. */
        void (*snapshot)(struct probe *p);
        /* Frees sockets, timers, buffers. */
        void (*stop)(struct probe *p);
};

struct probe {
        const struct probe_class *class;
        struct probe_context *context;
        struct measurement *result; /* filled as facts come; spec inside */
        double started_ms;
        bool finished;
        sd_event_source *deferred;
        probe_on_result on_result;
        void *userdata;
};

/* Ends the probe with this outcome: stop() now, on_result from the loop. Further calls are ignored. */
void probe_finish(struct probe *p, enum measurement_outcome outcome);
/* Ends with LOCAL_ERROR (or NOT_PERMITTED for EPERM/EACCES on raw sockets: the caller says which outcome). */
void probe_finish_errno(struct probe *p, enum measurement_outcome outcome, int error_number);
/* Calls `callback` after `delay_ms`; *source is created or re-armed. */
int probe_timer(struct probe *p, sd_event_source **source, double delay_ms, sd_event_time_handler_t callback);

/* Sockets kept connected between a TCP probe and a TLS probe of the same target, interface and mss 0. */
void probe_keep_socket(
        struct probe_context *c, const struct probe_spec *spec, int fd /* ownership passes */, double rtt_ms);
int probe_take_socket(
        struct probe_context *c, const struct probe_spec *spec, double *ret_rtt_ms); /* fd or -1 */

void probe_arp_done(struct probe_context *c); /* for probe_context_done */

extern const struct probe_class probe_link_class, probe_address_class, probe_route_class,
        probe_neighbour_class, probe_arp_class, probe_dns_class, probe_tcp_class, probe_hop_class,
        probe_tls_class, probe_http_class;
