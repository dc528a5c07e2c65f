/* Sockets for probes: bound to source and device, with the ICMP sender readable from the error queue. */
#pragma once

#include "probe/probe.h"

struct socket_icmp {
        int error_number; /* ee_errno */
        int type, code;
        struct inet_addr by; /* SO_EE_OFFENDER; unset when the error is local */
        bool is_local;       /* SO_EE_ORIGIN_LOCAL, or the offender is an address of this machine */
};

/* Non-blocking, close-on-exec socket towards spec->target: bound to the context's source address, to
 * spec->interface by SO_BINDTODEVICE when set, IP_RECVERR on, IP_TTL and TCP_MAXSEG from the spec where set.
 * fd or -errno. */
int socket_open(const struct probe_context *c, const struct probe_spec *spec, int type);
/* connect(); 0 connected, -EINPROGRESS, or -errno. */
int socket_connect(int fd, const struct endpoint *target);
/* Reads one entry of the error queue: 1 and *ret, 0 when empty, -errno. */
int socket_read_icmp(int fd, struct socket_icmp *ret);
/* Fills the outcome fields of m from an ICMP error and gives OUTCOME_REJECTED (an ICMP from this very machine
 * too: `by` tells). */
enum measurement_outcome socket_icmp_to_measurement(const struct socket_icmp *i, struct measurement *m);
uint16_t socket_local_port(int fd);
void socket_local_address(int fd, char ret[INET_ADDR_TEXT]); /* for m->source */
