/* The HTTP API on Unix sockets (libmicrohttpd in the loop, no thread). RUN/api.sock is nginx's: who asks is
 * known by session cookie, bearer token, or what nginx found in a client certificate. RUN/admin.sock is this
 * machine's own administrator's: SO_PEERCRED must be root or our own user. docs/openapi.yaml describes it. */
#pragma once

#include "plane/broker.h"
#include "plane/ca.h"
#include "plane/packages.h"
#include "plane/password.h"
#include "plane/requests.h"
#include "plane/services.h"
#include "plane/store.h"
#include "plane/upgrades.h"

struct api; /* opaque */

struct api_options {
        sd_event *event;
        const struct plane_settings *settings;
        struct plane_store *store;
        struct ca *ca;
        struct passwords *passwords;
        struct services *services; /* for health and metrics */
        struct broker *broker;
        struct requests *requests;
        struct packages *packages;
        struct upgrades *upgrades; /* NULL: none are run */
        /* After a removal: the CRL is to be written and the servers told. */
        void (*on_revoked)(void *userdata);
        void *userdata;
};
int api_new(const struct api_options *o, struct api **ret, struct error *ret_error);
struct api *api_free(struct api *a);
/* To every event stream of the organisation ("" for all). `value` is borrowed. */
void api_changed(struct api *a, const char *organisation, const char *kind, json_t *value);
void api_request_changed(struct api *a, const char *organisation, const char *request);
