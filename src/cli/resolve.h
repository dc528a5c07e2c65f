/* Names for the hand tools: asked of the configured servers, from the chosen source, by our own DNS probe. */
#pragma once

#include "base/error.h"
#include "cli/writer.h"
#include "net/site.h"
#include "node/measure.h"

struct resolved {
        char host[254];  /* as it was given, lower case, no trailing dot */
        bool is_literal; /* it was an address */
        struct inet_addr *addresses;
        size_t count;
};
void resolved_done(struct resolved *r);

/* Takes a literal as it is; asks all servers side by side over UDP, and over TCP when none has an answer. The
 * first server that answers decides. What was asked and answered is added to `w` as "lookups". 0; -EINVAL:
 * neither an address nor a host name; -ENOENT: the servers say that there is no such name or address;
 * -EHOSTUNREACH: no server gave a usable answer, or none is configured. */
int resolve_host(struct measure *m, const struct site *site, const char *host, struct writer *w,
        struct resolved *ret, struct error *ret_error);

/* "A", "AAAA", "NS", or "?" */
const char *resolve_type_to_string(uint16_t dns_type);
/* Adds one answer as an item of the list that is open in `w`. */
void resolve_write_answer(struct writer *w, const struct measurement *m);
