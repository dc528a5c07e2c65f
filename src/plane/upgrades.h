/* Runs the upgrades: reads what is, lets the machine decide (upgrade.h), stores that, and only then asks
 * nodes, by their remote tool "update". Nothing is kept in memory that would be missed: after a kill the next
 * step reads the same, and a node that is asked twice by the same upgrade begins once. */
#pragma once

#include "plane/requests.h"

struct upgrades; /* opaque */

struct upgrades_counts {
        uint64_t asked, failed; /* requests to nodes since the start; steps that could not be stored */
        size_t asking;
};
/* `on_change` is told of an upgrade as the API shows it, borrowed ("upgrade"), and of the plane's own events
 * ("event"). */
struct upgrades *upgrades_new(sd_event *event, struct plane_store *store, struct requests *requests,
        void (*on_change)(const char *organisation, const char *kind, json_t *value, void *userdata),
        void *userdata);
struct upgrades *upgrades_free(struct upgrades *u);
/* Something happened that an upgrade may wait for: an update's event, a node that came or went, a change by a
 * person. Looked at soon, at most once a second. */
void upgrades_look(struct upgrades *u);
/* Output of a request came, or its end. */
void upgrades_request_changed(struct upgrades *u, const char *organisation, const char *request);
void upgrades_counts(const struct upgrades *u, struct upgrades_counts *ret);
