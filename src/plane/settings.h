/* gridplane.conf and the options of `gridplane serve`. Key file; an unknown key is an error with file and
 * line.
 *
 *   [plane]
 *   domain = grid.example
 *   listen = 443,8443                 # addresses are allowed: 198.51.100.20:443. The first serves HTTPS, the
 * second also MQTT user = gridplane                  # to become when started as root; default: stays
 *   [profile]                         # what nodes are told
 *   name = grid
 *   ranges = 198.51.100.16/28;203.0.113.192/28
 *   repo-addresses = …; control-addresses = …
 *   [broker]                          # parts outside: then gridplane does not start its own
 *   url = mqtts://broker.example:8883 # with certificate =, key =, root-ca =
 *   port = 18830                      # of our own mosquitto, on loopback
 *   [registry]
 *   url = https://registry.example
 *   port = 15000
 *   [proxy]
 *   external = yes                    # nginx is somebody else's; its configuration is written all the same
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
        uint16_t broker_port;
        char *registry_url;
        uint16_t registry_port;
        bool proxy_is_external;
        /* sockets: RUN/api.sock (nginx), RUN/admin.sock (commands of this machine), RUN/broker.sock (our own
         * client) */
        char *api_socket, *admin_socket, *broker_socket;
};
struct plane_options { /* NULL: as in the file, else the default */
        const char *root, *config_path, *domain, *listen;
};
int plane_settings_load(const struct plane_options *o, struct plane_settings *ret, struct error *ret_error);
void plane_settings_done(struct plane_settings *s);
/* The text of the profile that nodes get. The caller's. */
char *plane_settings_profile(const struct plane_settings *s);
