/* What the broker refused to pass on, told to the operator: once a minute for each client, however often it
 * tries. */
#pragma once

#include "plane/mosquitto_log.h"

#include <systemd/sd-event.h>

struct denials; /* opaque */

struct denials *denials_new(sd_event *event);
struct denials *denials_free(struct denials *d);
void denials_add(struct denials *d, const struct mosquitto_denial *denial);
