/* The profile: the control plane that a node must reach (docs/contract: NAME.profile). */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "base/text.h"

#include <stdbool.h>

enum service_tls {
        SERVICE_TLS_SERVER, /* the server proves itself */
        SERVICE_TLS_MUTUAL, /* both sides do */
        SERVICE_TLS_NONE,
};
const char *service_tls_to_string(enum service_tls t);
int service_tls_from_string(const char *s, enum service_tls *ret);

struct profile_service {
        char *name; /* [service NAME] */
        char *host; /* a host name, lower case, no trailing dot */
        uint16_t port;
        enum service_tls tls;
        struct strv carries;
        char *probe_path;            /* NULL: HEAD / */
        char *payload_path;          /* NULL: none */
        struct inet_addr *addresses; /* of [addresses]: answer even when DNS is dead */
        size_t address_count;
};

struct profile {
        char *path;
        char *name;
        struct cidr *ranges;
        size_t range_count;
        char *root_ca_path; /* absolute; NULL when only the subject is known */
        char *root_subject; /* "O = …, CN = …" as written; NULL with root_ca_path */
        struct profile_service *services;
        size_t service_count;
};

#define PROFILE_MAX_RANGES    16384
#define PROFILE_MAX_SERVICES  64
#define PROFILE_MAX_ADDRESSES 256 /* per service */

/* NAME is looked up as NAME.profile in `directories` (NULL-terminated) in order; a name with a slash or
 * ending in .profile is a path. -ENOENT names the folders that were searched. */
int profile_find(const char *name, const char *const *directories, char **ret_path, struct error *ret_error);
/* Also checks that root-ca exists and can be read. */
int profile_load(const char *path, struct profile **ret, struct error *ret_error);
int profile_parse(
        const char *path, const char *data, size_t length, struct profile **ret, struct error *ret_error);
struct profile *profile_free(struct profile *p);
/* The names that can be given, sorted, from the folders. */
void profile_list(const char *const *directories, struct strv *ret);
bool profile_ranges_contain(const struct profile *p, const struct inet_addr *a);
