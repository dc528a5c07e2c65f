/* Ends the connections of removed nodes at the broker. */
#pragma once

#include "plane/broker_target.h"

#include <systemd/sd-event.h>

struct expulsions; /* opaque */

struct expulsions *expulsions_new(sd_event *event, struct broker_target *target /* borrowed */);
struct expulsions *expulsions_free(struct expulsions *e);
/* 0 or -errno: an expulsion that could not even be begun. */
int expulsions_add(struct expulsions *e, const char *node);
