/* Names for the hand tools: asked of the configured servers, from the chosen source, by our own DNS probe. */
#pragma once

#include "base/error.h"
#include "cli/writer.h"
#include "node/lookup.h"

/* As lookup_host; each answer is added to `w` as it comes, as one of "lookups", and flushed. */
int resolve_host(struct measure *m, const struct site *site, const char *host, struct writer *w,
        struct lookup *ret, struct error *ret_error);

/* "A", "AAAA", "NS", or "?" */
const char *resolve_type_to_string(uint16_t dns_type);
/* Room in the rows of the list that is open in `w` for the answers of these servers. */
void resolve_reserve(struct writer *w, const struct inet_addr *servers, size_t count);
/* Adds one answer as an item of the list that is open in `w`. */
void resolve_write_answer(struct writer *w, const struct measurement *m);
