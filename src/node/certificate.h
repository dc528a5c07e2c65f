/* How long the node's own certificate lives. */
#pragma once

#include "node/settings.h"

/* When it is to be renewed (two thirds of its life) and when it ends, as unix seconds. 0 or -errno naming the
 * file. */
int node_certificate_times(const struct node_settings *s, int64_t *ret_renew_unix, int64_t *ret_end_unix,
        struct error *ret_error);
