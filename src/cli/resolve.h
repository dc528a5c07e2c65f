/* Names for the hand tools: asked of the configured servers, from the chosen source, by our own DNS probe. */
#pragma once

#include "base/error.h"
#include "cli/writer.h"
#include "node/lookup.h"

/* As lookup_host; what was asked and answered is added to `w` as "lookups". */
int resolve_host(struct measure *m, const struct site *site, const char *host, struct writer *w,
        struct lookup *ret, struct error *ret_error);

/* "A", "AAAA", "NS", or "?" */
const char *resolve_type_to_string(uint16_t dns_type);
/* Adds one answer as an item of the list that is open in `w`. */
void resolve_write_answer(struct writer *w, const struct measurement *m);
