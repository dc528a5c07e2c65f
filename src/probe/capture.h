/* Watching our own probe packets on all interfaces with libpcap (the "any" device, LINKTYPE_LINUX_SLL2), where
 * permitted (CAP_NET_RAW). Only packets of ports that were registered are kept in the file and looked at. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "base/text.h"
#include "probe/measurement.h"

#include <systemd/sd-event.h>

struct capture; /* opaque */

/* What was seen of one local TCP or UDP port towards one endpoint. */
struct capture_facts {
        unsigned out_count;             /* outgoing on interfaces other than lo */
        unsigned out_lo_count;
        unsigned syn_ack_count, rst_count, data_count, icmp_count; /* incoming, not lo */
        unsigned rst_lo_count;          /* RST in the target's name on lo: this machine's own firewall */
        int syn_ack_ttl, rst_ttl;       /* as received, 0 none */
        char syn_ack_interface[IFNAMSIZ], rst_interface[IFNAMSIZ];
};

/* -EPERM/-EACCES without the right. `pcapng_path` NULL: nothing is kept. Reading happens from `event`.
 * started_us is the monotonic zero, used for pcapng timestamps together with the wall clock. */
int capture_start(sd_event *event, const char *pcapng_path, struct capture **ret, struct error *ret_error);
struct capture *capture_free(struct capture *c); /* flushes and closes the file; NULL is fine */
/* A probe tells which local port talks to which endpoint, before its first packet. */
void capture_watch(struct capture *c, enum probe_transport transport, uint16_t local_port, const struct endpoint *to);
/* Reads what the kernel has queued right now, then tells what was seen. False when the pair was never watched. */
bool capture_facts(struct capture *c, enum probe_transport transport, uint16_t local_port,
        const struct endpoint *to, struct capture_facts *ret);
/* Adds the facts of one attempt to a measurement's left_host, reply_* fields (NULL capture: leaves UNKNOWN). */
void capture_annotate(struct capture *c, enum probe_transport transport, uint16_t local_port,
        struct measurement *m);
/* Pure: one captured frame (SLL2 header onwards) into the pcapng/facts model; the fuzzer's entry. */
struct capture_packet {
        bool outgoing, loopback, is_tcp, is_udp, is_icmp;
        int ifindex;
        struct endpoint from, to; /* icmp: of the quoted packet, in the direction it was sent */
        uint8_t ttl, tcp_flags;
};
int capture_parse_frame(const uint8_t *frame, size_t length, struct capture_packet *ret); /* 0 or -EBADMSG */
