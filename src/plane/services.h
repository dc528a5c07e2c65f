/* The real servers: writes the configuration of each, starts it as a child, restarts it with backoff, stops
 * it. What a killed plane left running (by its pid file, after making sure that it is ours) is stopped before
 * the start. */
#pragma once

#include "plane/ca.h"
#include "plane/settings.h"

#include <systemd/sd-event.h>

struct services; /* opaque */

struct service_view {
        const char *name;  /* "nginx", "mosquitto", "registry" */
        const char *state; /* "running", "starting", "waiting", "external", "stopped" */
        int pid;
        unsigned restarts;
        double next_start_ms;   /* waiting */
        const char *last_error; /* how it ended, its last line; NULL */
};

int services_new(sd_event *event, const struct plane_settings *settings, struct ca *ca, struct services **ret,
        struct error *ret_error);
/* Sends SIGTERM, waits up to 5 s, SIGKILL; in this call. */
struct services *services_free(struct services *s);
/* Writes configurations and certificates, and starts all. 0 or -errno (a configuration that nginx -t refuses:
 * its own words). */
int services_start(struct services *s, struct error *ret_error);
/* Certificates or the CRL changed: nginx and mosquitto read them again (SIGHUP) without dropping connections.
 */
int services_reload(struct services *s, struct error *ret_error);
size_t services_count(const struct services *s);
void services_view(const struct services *s, size_t index, struct service_view *ret);
bool services_are_ready(const struct services *s); /* each answers on its port */

/* Texts of the configurations: pure, for tests. The caller's. */
char *services_nginx_configuration(const struct plane_settings *s, const struct ca *ca);
char *services_mosquitto_configuration(const struct plane_settings *s, const struct ca *ca);
char *services_registry_configuration(const struct plane_settings *s);
