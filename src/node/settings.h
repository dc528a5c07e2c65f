/* What the daemon knows of itself: paths, identity, site file, profile, and the effective site file that it
 * writes for the hand tools. */
#pragma once

#include "base/paths.h"
#include "net/profile.h"
#include "net/site.h"
#include "wire/wire.h"

struct node_settings {
        struct paths paths;
        char *site_path;         /* ETC/site.conf or --config */
        char *effective_path;    /* STATE/site.conf: the site file with the applied configuration over it */
        char *identity_path;     /* STATE/identity.json: id, name, organisation */
        char *socket_path;       /* RUN/control.sock */
        struct site *site;       /* the site file's own */
        struct profile *profile; /* STATE/PROFILE.profile as registered, or the one the site file names */
        char *node, *name, *organisation; /* NULL: not registered */
};
/* 0 or -errno naming file, line, key. A node that is not registered is no error here. The site has the
 * machine's defaults where the file is silent, and its default identity is in STATE. */
int node_settings_load(
        const char *root, const char *config_path, struct node_settings *ret, struct error *ret_error);
void node_settings_done(struct node_settings *s);
/* The site file with DNS servers (when it has any), LANs and limits of the configuration in place of its own,
 * as text; the caller's. site_parse reads it back. `c` NULL: the site file's own. */
char *settings_effective_site(const struct node_settings *s, const struct wire_config *c);
/* The bandwidth plan in force: the configuration's, else the site file's. false: there is no limit, and *ret
 * says so. */
bool settings_transfer_limit(
        const struct node_settings *s, const struct wire_config *c, struct budget_plan *ret);

/* For the hand tools, which need no more of it: */
/* The effective site file, unless the site file was changed since; the site file; NULL: neither is there. The
 * caller's. */
char *settings_site_path(const struct paths *paths);
/* The profile that the node was registered with; NULL: it is not registered. The caller's. */
char *settings_registered_profile(const struct paths *paths);
/* The default paths of certificate and key are in this STATE. */
void settings_place_identity(struct site *site, const struct paths *paths);
