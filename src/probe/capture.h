/* Watching our own probe packets on all interfaces, where permitted (CAP_NET_RAW). Only packets of ports that
 * were registered are kept in the file and looked at.
 *
 * libpcap compiles the filter; the packets are read from a packet(7) socket of our own. libpcap's "any"
 * device takes 8 ms to open and 30 ms to close on a quiet machine, for the ring it maps, this takes 0.1 ms
 * and 8 ms. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "base/text.h"
#include "probe/measurement.h"

#include <systemd/sd-event.h>

struct capture; /* opaque */

/* What was seen of one local TCP or UDP port towards one endpoint. */
struct capture_facts {
        unsigned out_count; /* outgoing on interfaces other than lo */
        unsigned out_lo_count;
        unsigned syn_ack_count, rst_count, icmp_count; /* incoming, not lo */
        unsigned data_count;                           /* UDP datagrams, incoming, not lo */
        unsigned rst_lo_count;     /* RST in the target's name on lo: this machine's own firewall */
        unsigned syn_ack_lo_count; /* SYN-ACK in the target's name on lo: a proxy on this machine */
        bool is_incomplete;        /* the kernel dropped packets, or our ports are rewritten on their way out:
                                      what was not seen may have been there */
        int syn_ack_ttl, rst_ttl;  /* as received, 0 none */
        char syn_ack_interface[IFNAMSIZ], rst_interface[IFNAMSIZ], data_interface[IFNAMSIZ];
        int data_ttl;
};

/* -EPERM/-EACCES without the right. `pcapng_path` NULL: nothing is kept. Reading happens from `event`. */
int capture_start(sd_event *event, const char *pcapng_path, struct capture **ret, struct error *ret_error);
/* Writes what is buffered, and after that nothing more; 0 or -errno with the path. Without a file it does
 * nothing. */
int capture_finish(struct capture *c, struct error *ret_error);
/* Flushes and closes; NULL is fine. Closing waits for the kernel (one RCU grace period, 8 to 16 ms), and the
 * end of the process does so just as well. */
struct capture *capture_free(struct capture *c);
/* A probe tells which local port talks to which endpoint, before its first packet. */
void capture_watch(
        struct capture *c, enum probe_transport transport, uint16_t local_port, const struct endpoint *to);
/* Reads what the kernel has queued right now, then tells what was seen. False when the pair was never
 * watched. */
bool capture_facts(struct capture *c, enum probe_transport transport, uint16_t local_port,
        const struct endpoint *to, struct capture_facts *ret);
/* Adds the facts of one attempt to a measurement's left_host, reply_* fields (NULL capture: leaves UNKNOWN).
 * Over several attempts YES outweighs NO, and the first reply told of stays, but a SYN-ACK replaces an RST.
 */
void capture_annotate(
        struct capture *c, enum probe_transport transport, uint16_t local_port, struct measurement *m);
/* Pure: one captured frame (SLL2 header onwards) into the pcapng/facts model; the fuzzer's entry. */
struct capture_packet {
        bool outgoing, loopback, is_tcp, is_udp,
                is_icmp; /* icmp: is_tcp and is_udp tell of the quoted packet */
        int ifindex;
        struct endpoint from, to; /* icmp: of the quoted packet, in the direction it was sent */
        uint8_t ttl, tcp_flags;   /* icmp: of the error itself, and 0 */
};
int capture_parse_frame(const uint8_t *frame, size_t length, struct capture_packet *ret); /* 0 or -EBADMSG */
