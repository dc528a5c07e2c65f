/* gridplane.conf and the options of `gridplane serve`. Key file; an unknown key is an error with file and
 * line. gridplane.conf(5) describes it:
 *
 *   [plane]
 *   domain = grid.example
 *   # Addresses are allowed: 198.51.100.20:443. The first item's port serves HTTPS, the other port also MQTT.
 *   listen = 443,8443
 *   # To become when started as root; default: stays.
 *   user = gridplane
 *   [profile]
 *   # What nodes are told.
 *   name = grid
 *   ranges = 198.51.100.16/28;203.0.113.192/28
 *   repo-addresses = …
 *   control-addresses = …
 *   [broker]
 *   # A part outside (then gridplane does not start its own): url, with certificate, key, root-ca.
 *   url = mqtts://broker.example:8883
 *   # Where the nodes' connections are passed on to, when that is another of its listeners.
 *   nodes = broker.example:8884
 *   # Of our own mosquitto, on loopback.
 *   port = 18830
 *   [registry]
 *   # A part outside; our own speaks on RUN/registry.sock.
 *   url = https://registry.example
 *   # What nginx shows to it, and whom it believes (default: the system's authorities).
 *   certificate = … key = … root-ca = …
 *   [repository]
 *   # How long a key still signs after `gridplane package key rotate`; 0: not at all.
 *   key-overlap-days = 30
 *   [proxy]
 *   # nginx is somebody else's; its configuration is written all the same.
 *   external = yes
 */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "base/paths.h"
#include "base/text.h"

#include <stdbool.h>

#define PLANE_MAX_LISTEN 8

struct plane_settings {
        struct paths paths;
        char *config_path; /* ETC/gridplane.conf; need not exist */
        char *domain;      /* "grid.example": repo.DOMAIN and control.DOMAIN */
        char *repo_host, *control_host;
        struct endpoint https[PLANE_MAX_LISTEN]; /* address unset: all */
        size_t https_count;
        struct endpoint mixed[PLANE_MAX_LISTEN]; /* HTTPS and, by ALPN, MQTT */
        size_t mixed_count;
        char *user; /* NULL: stays */
        char *profile_name;
        struct strv ranges, repo_addresses, control_addresses;
        char *broker_url, *broker_certificate, *broker_key, *broker_root_ca; /* NULL: our own mosquitto */
        char *broker_host;                                                   /* of broker_url */
        uint16_t broker_port;    /* of our own on loopback, or of broker_url */
        char *broker_nodes_host; /* listener of an outside broker for nodes alone; NULL: broker_host */
        uint16_t broker_nodes_port;
        char *registry_url; /* without a slash at its end; NULL: our own */
        char *registry_host;
        uint16_t registry_port;
        char *registry_certificate, *registry_key, *registry_root_ca; /* of registry_url; NULL */
        bool proxy_is_external;
        unsigned key_overlap_days; /* of the repository of packages */
        /* sockets: RUN/api.sock (nginx), RUN/admin.sock (commands of this machine), RUN/broker.sock (our own
         * client), RUN/registry.sock (nginx) */
        char *api_socket, *admin_socket, *broker_socket, *registry_socket;
};
struct plane_options { /* NULL: as in the file, else the default */
        const char *root, *config_path, *domain, *listen;
};
/* 0, -EINVAL or -EBADMSG (what is wrong, with file, line and key, or the option), or reading's errors. A
 * config_path that was given must exist. */
int plane_settings_load(const struct plane_options *o, struct plane_settings *ret, struct error *ret_error);
/* The same of a text; `name` names it in errors and is the folder of relative paths. Reads no file. */
int plane_settings_parse(const struct plane_options *o, const char *name, const char *data, size_t length,
        struct plane_settings *ret, struct error *ret_error);
void plane_settings_done(struct plane_settings *s);
/* The text of the profile that nodes get. The caller's. */
char *plane_settings_profile(const struct plane_settings *s);
