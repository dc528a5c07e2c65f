/* Where the broker is: our own by its Unix socket, or the one that gridplane.conf names. */
#pragma once

#include "net/mqtt.h"
#include "plane/settings.h"

struct broker_target {
        const char *unix_path;         /* our own; or */
        struct endpoint addresses[16]; /* … taken in turn */
        size_t count, next;
        SSL_CTX *tls;
        /* It lets us choose the client id: nodes have a listener of their own, if it is not ours. */
        bool takes_client_id;
};

/* Looks the host of an outside broker up with the system's resolver, which waits: only at the plane's start.
 * An address that changes is found at the next one. 0 or -errno with the host and the reason. */
int broker_target_init(const struct plane_settings *s, struct broker_target *ret, struct error *ret_error);
void broker_target_done(struct broker_target *t);
/* Starts a connection to the next of its addresses, as mqtt_connect does. */
int broker_target_connect(struct broker_target *t, sd_event *event, const char *client_id,
        const struct mqtt_handlers *h, struct mqtt **ret, struct error *ret_error);
