/* Tells when links, addresses or routes change (rtnetlink(7) groups), gathered over 200 ms. */
#pragma once

#include <systemd/sd-event.h>

struct netwatch; /* opaque */
int netwatch_new(sd_event *event, void (*on_change)(void *userdata), void *userdata, struct netwatch **ret);
struct netwatch *netwatch_free(struct netwatch *w);
