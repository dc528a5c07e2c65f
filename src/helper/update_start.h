/* The beginning of an update and its cancellation, as root: for the helper, and for `gridnode update` where
 * no daemon runs. */
#pragma once

#include "helper/update_place.h"

/* Copies gridnode-judge and gridnode-update to UPDATE/bin, since what judges a package must not be replaced
 * by it; writes UPDATE/job.json; starts gridnode-update.service, or the judge by itself where systemd does
 * not run or `root` is given. `root` NULL: the system's.
 * 0; -EBUSY: another one is under way, told with its id, who asked for it and what it does; one that nobody
 * works at any more is gone on with, and told the same way. */
int update_start(const char *root, const struct update_job *job, struct error *ret_error);
/* 0: it will end without having installed anything. -ENOENT: there is no such update under way; -EBUSY: it
 * installs already. */
int update_cancel(const char *root, const char *id, struct error *ret_error);
