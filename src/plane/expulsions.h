/* Ends the connections of removed nodes at the broker. What cannot be done since the broker is away is kept,
 * in memory, and done when it is back: a broker of the plane's own starts and ends with the plane and has no
 * connection from before it. */
#pragma once

#include "plane/broker_target.h"

#include <systemd/sd-event.h>

struct expulsions; /* opaque */

/* `on_begin` is called for each expulsion that begins, with the broker there: for what else is to be done at
 * the broker, whose node that was. `target` is borrowed. */
struct expulsions *expulsions_new(sd_event *event, struct broker_target *target,
        void (*on_begin)(const char *node, void *userdata), void *userdata);
struct expulsions *expulsions_free(struct expulsions *e);
/* 0: it has begun; -ENOTCONN: it is made up for when the broker is back. */
int expulsions_add(struct expulsions *e, const char *node);
/* The plane's own connection to the broker came (what waits begins, what was under way begins anew), or
 * ended. At first there is none. */
void expulsions_set_connected(struct expulsions *e, bool is_connected);
