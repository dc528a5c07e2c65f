/* Many nodes with the same cause at the same time are one incident of the control plane or of a carrier, not
 * a ticket each. Pure. Per organisation: the same cause code against the same range (the profile's that holds
 * the target) and port, which at least 5 nodes of at least 2 sites had at the same time, and got within 10
 * minutes; it ends when fewer than 2 of its nodes still have it. The times are those of the nodes' events:
 * nodes that were cut off tell of it when it is over, and make an incident that is over. Who tells of the
 * same within 10 minutes after the last of them is added to it, and it goes on if it began again. A node
 * without a site is a site of its own. Causes that are only warnings lose nothing and do not count. */
#pragma once

#include "base/inet.h"

#include <jansson.h>

struct incidents; /* opaque */
struct incidents *incidents_new(const struct cidr *ranges, size_t range_count);
struct incidents *incidents_free(struct incidents *i);
/* A node's service failed with these causes (the short form of a diagnosis), or works again (NULL), at this
 * time of the node's own clock; not in the future. */
void incidents_report(struct incidents *i, const char *organisation, const char *node, const char *site,
        const char *service, const json_t *diagnosis, int64_t at_unix_ms);
void incidents_forget(struct incidents *i, const char *organisation, const char *node);
/* After a restart, before anything is reported: an incident that was open (as take_changes gave it and the
 * store kept it) goes on under its id once its nodes are reported again; it ends at the next take_changes
 * when they are not. What cannot be one of ours is passed over. */
void incidents_resume(struct incidents *i, const char *organisation, const json_t *incident);
/* Each incident that began, grew or ended since the last call: {"id", "cause", "target":
 * "198.51.100.16/28:443", "range", "port", "since", "until" or null, "nodes": N, "sites": N, "still": N of
 * its nodes that have it now, "node_ids": [at most 500], "summary": "31 nodes of 4 sites lost
 * 198.51.100.16/28:443 since 10:02 UTC"} with its organisation. New reference of an array of {"organisation",
 * "incident"}. */
json_t *incidents_take_changes(struct incidents *i, int64_t now_unix_ms);
