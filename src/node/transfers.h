/* The transfer engine as this node has it: its WAN, its DNS servers, its pinned root and certificate, its
 * budget and what its daemon knows of the ways. For whoever moves bytes: commands, apt's method, the jobs. */
#pragma once

#include "net/transfer.h"
#include "node/settings.h"

struct node_transfers; /* opaque */

struct node_transfers_options {
        const struct node_settings *settings; /* borrowed */
        const char *service;                  /* of the profile, "repo" */
};
/* Opens all that needs rights: root, certificate, key, the budget's file. Whoever has rights to give up does
 * so afterwards; names are looked up and connections made later. 0; -ENOENT: no profile, or it has no such
 * service. */
int node_transfers_new(sd_event *event, const struct node_transfers_options *o, struct node_transfers **ret,
        struct error *ret_error);
struct node_transfers *node_transfers_free(struct node_transfers *n);
struct transfer_engine *node_transfers_engine(struct node_transfers *n);
struct budget *node_transfers_budget(struct node_transfers *n);
/* Host and port of the service. Borrowed. */
const struct profile_service *node_transfers_service(const struct node_transfers *n);
/* Why the node cannot show who it is: its certificate or key is missing, unreadable, or they do not fit.
 * NULL: it can. Borrowed. */
const char *node_transfers_certificate_problem(const struct node_transfers *n);
