/* Names for commands: asked of the configured servers, from the chosen source, by our own DNS probe. The
 * resolver of the system takes no part. */
#pragma once

#include "base/error.h"
#include "net/site.h"
#include "node/measure.h"

struct lookup {
        char host[254];  /* as it was given, lower case, no trailing dot */
        bool is_literal; /* it was an address */
        struct inet_addr *addresses;
        size_t count;
};
void lookup_done(struct lookup *l);

/* Takes a literal as it is; asks all servers side by side over UDP, and over TCP when none has an answer. The
 * first server that answers decides. 0; -EINVAL: neither an address nor a host name; -ENOENT: the servers say
 * that there is no such name or address; -EHOSTUNREACH: no server gave a usable answer, or none is
 * configured. What was asked and answered is in the runner's list. */
int lookup_host(struct measure *m, const struct site *site, const char *host, struct lookup *ret,
        struct error *ret_error);
/* The answer of a server, or NULL. */
const struct measurement *lookup_find(const struct measurement_list *l, const struct inet_addr *server,
        uint16_t type, enum probe_transport t);
/* The WAN's address by the site file, else that of the default route; unset where there is none. */
void lookup_source(const struct site *site, struct inet_addr *ret);
