/* The real servers: writes the configuration of each, starts it as a child, restarts it with backoff, stops
 * it. What a killed plane left running (known by its program and its working folder, which is ours alone) is
 * stopped before the start.
 *
 * nginx runs twice. "nginx" ends TLS and is told of new certificates and revocations; "splitter" has the port
 * of 8443 and sends ALPN mqtt to the broker, the rest to "nginx". The splitter has no certificate and is
 * never reloaded: a reload would leave an old worker behind for as long as one node's MQTT connection lives.
 */
#pragma once

#include "plane/ca.h"
#include "plane/mosquitto_log.h"
#include "plane/settings.h"

#include <systemd/sd-event.h>

struct services; /* opaque */

struct service_view {
        const char *name;  /* "nginx", "splitter", "mosquitto", "registry" */
        const char *state; /* "running", "starting", "waiting", "external", "stopped" */
        int pid;
        unsigned restarts;
        double next_start_ms;   /* waiting */
        const char *last_error; /* how it ended, its last line; NULL */
};

/* Blocks SIGCHLD, as sd_event_add_child(3) wants it; to be called before any thread is made. */
int services_new(sd_event *event, const struct plane_settings *settings, struct ca *ca, struct services **ret,
        struct error *ret_error);
/* Sends SIGTERM, waits up to 5 s, SIGKILL; in this call. */
struct services *services_free(struct services *s);
/* Called for each change of a service's state, for the log. The view is borrowed. */
void services_watch(
        struct services *s, void (*on_change)(const struct service_view *v, void *userdata), void *userdata);
/* Called for each message that mosquitto refused since its client may not publish there, many a second if one
 * tries; and how many that were. An outside broker's are not known. The denial is borrowed. */
void services_watch_denials(struct services *s,
        void (*on_denied)(const struct mosquitto_denial *denial, void *userdata), void *userdata);
uint64_t services_denied(const struct services *s);
/* Writes configurations and certificates, and starts all. 0 or -errno (a configuration that nginx -t refuses:
 * its own words). From then on certificates are renewed and logs are cut by timers. */
int services_start(struct services *s, struct error *ret_error);
/* Certificates or the CRL changed: nginx and mosquitto read them again (SIGHUP) without dropping connections.
 * mosquitto is told at once, so that a revoked node that is expelled afterwards does not come back; nginx at
 * most every 5 s. */
int services_reload(struct services *s, struct error *ret_error);
size_t services_count(const struct services *s);
void services_view(const struct services *s, size_t index, struct service_view *ret);
bool services_are_ready(const struct services *s); /* each answers on its port */

/* Where a program is: in PATH, or in the system's folders that PATH may lack. The caller's; NULL. */
char *services_find_program(const char *name);

/* Texts of the configurations: pure, for tests. The caller's. */
struct services_facts {
        const char *certificate, *key; /* of our servers, files as the following */
        const char *root, *bundle, *crl;
        const char *stream_module;   /* of nginx; NULL: built in */
        const char *registry_secret; /* signs the registry's upload cursors, so that they outlive a restart */
        const char *user, *group;    /* that gridplane runs as; NULL: they have no names */
        unsigned files;              /* how many a process may have open */
        bool is_root, has_ipv6;
};
char *services_nginx_configuration(const struct plane_settings *s, const struct services_facts *f);
char *services_splitter_configuration(const struct plane_settings *s, const struct services_facts *f);
char *services_mosquitto_configuration(const struct plane_settings *s, const struct services_facts *f);
char *services_mosquitto_acl(void);
char *services_registry_configuration(const struct plane_settings *s, const struct services_facts *f);
