/* The event loop of a daemon. */
#pragma once

#include "base/error.h"

#include <systemd/sd-event.h>

/* Ends with SIGTERM and SIGINT, feeds systemd's watchdog where there is one, and may watch children: SIGCHLD
 * is blocked (sd_event_add_child(3)), so that it is to be called before any thread is made. 0 or -errno; the
 * caller's. */
int loop_new(sd_event **ret, struct error *ret_error);
