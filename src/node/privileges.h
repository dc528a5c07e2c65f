/* Giving up rights: the daemon keeps two capabilities and nothing else. */
#pragma once

#include "base/error.h"

/* Becomes `user` (and its groups) for good; keeps CAP_NET_RAW and CAP_NET_BIND_SERVICE, for children too
 * (ambient, capabilities(7)), and no new privileges can be had (prctl(2)). 0 or -errno: -ENOENT no such user.
 * Not root: nothing is changed but the last. */
int privileges_drop(const char *user, struct error *ret_error);
