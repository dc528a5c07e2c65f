/* Names, asked of the configured DNS servers and nobody else, from the WAN's address and device, in the event
 * loop. c-ares does the asking (retries, truncation and TCP); /etc/hosts, nsswitch and resolv.conf take no
 * part. */
#pragma once

#include "base/error.h"
#include "base/inet.h"

#include <systemd/sd-event.h>

struct resolver; /* opaque */

#define RESOLVER_MAX_ADDRESSES 64

struct resolver_options {
        const struct inet_addr *servers;
        size_t server_count;
        struct inet_addr source; /* unset: the kernel chooses */
        const char *device;      /* SO_BINDTODEVICE where permitted; NULL: by route */
};
int resolver_new(
        sd_event *event, const struct resolver_options *o, struct resolver **ret, struct error *ret_error);
struct resolver *resolver_free(struct resolver *r); /* no callback */
/* A and AAAA side by side. `on_done` gets 0 and the addresses (the servers' order, IPv4 first, at most
 * RESOLVER_MAX_ADDRESSES), or -ENOENT (no such name, no address), -EHOSTUNREACH (no server answered),
 * -EREMOTEIO (SERVFAIL, REFUSED …) with each server named in the error. A literal is answered as it is. Never
 * called from within. The answers are kept for their TTL, at most 5 minutes, and after their end for as long
 * as no server answers: an old address is better than none. */
typedef void (*resolver_on_done)(
        int result, const struct inet_addr *addresses, size_t count, const struct error *e, void *userdata);
int resolver_ask(struct resolver *r, const char *host, resolver_on_done on_done, void *userdata);
/* What was right the last time, however old: for whoever does not want to wait for servers that are silent.
 */
size_t resolver_kept(const struct resolver *r, const char *host, struct inet_addr *ret, size_t maximum);
void resolver_forget(struct resolver *r, void *userdata); /* its callback does not come any more */
void resolver_refresh(struct resolver *r); /* kept answers are asked for anew: the network changed */
