/* Giving up rights: a daemon keeps the capabilities it needs and nothing else. */
#pragma once

#include "base/error.h"

#include <stddef.h>

/* Becomes `user` (and its groups) for good when this is root; keeps `capabilities` (CAP_NET_RAW …, numbers
 * below 32), for children too (ambient, capabilities(7)). No new privileges can be had afterwards (prctl(2)).
 * `user` NULL: stays who it is. 0 or -errno: -ENOENT no such user. */
int privileges_drop(const char *user, const int *capabilities, size_t count, struct error *ret_error);
