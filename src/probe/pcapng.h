/* A capture file for Wireshark: pcapng (draft-ietf-opsawg-pcapng), one interface description for every
 * interface that a packet was seen on, link type LINUX_SLL2 (276), time stamps in nanoseconds UTC. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pcapng; /* opaque */

struct pcapng_packet {
        int ifindex;
        const char *interface; /* its name, used when the interface is new; "" unknown */
        bool outgoing;
        int64_t unix_ns;
        const uint8_t *data;       /* SLL2 header onwards */
        size_t captured, original; /* bytes here, bytes on the wire */
};

/* Creates or truncates the file and writes the section header at once, so that it is valid from then on. 0 or
 * -errno with the path. `snaplen`: the most bytes kept of a packet. */
int pcapng_open(const char *path, uint32_t snaplen, struct pcapng **ret, struct error *ret_error);
/* The first error is kept for pcapng_finish. */
void pcapng_add(struct pcapng *f, const struct pcapng_packet *p);
/* Writes what is buffered and closes the file; 0 or the first error of all writes, with the path. */
int pcapng_finish(struct pcapng *f, struct error *ret_error);
struct pcapng *pcapng_free(struct pcapng *f); /* finishes if need be; NULL is fine */
