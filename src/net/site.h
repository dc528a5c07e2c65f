/* The site file (docs/contract: site.conf): who the node is, its WAN, its LANs. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "base/text.h"
#include "net/budget.h"

#include <net/if.h>
#include <stdbool.h>

enum site_address_mode {
        SITE_ADDRESS_NONE, /* the interface is left as it is */
        SITE_ADDRESS_DHCP,
        SITE_ADDRESS_STATIC,
};

#define SITE_MAX_DNS    8
#define SITE_MAX_ROUTES 4096 /* per LAN */

struct site_route {
        struct cidr destination;
        struct inet_addr next_hop;
};

struct site_lan {
        char interface[IFNAMSIZ];
        bool has_address;
        struct cidr address;
        struct site_route *routes;
        size_t route_count;
};

struct site {
        char *path;                        /* NULL: no file, all defaults */
        char *name;                        /* default: the host's name */
        char *certificate_path, *key_path; /* set by default; the files need not exist */
        char *profile;                     /* NULL: none named; a path counts from the site file's folder */
        struct {
                char interface[IFNAMSIZ]; /* "": the default route's */
                enum site_address_mode mode;
                struct cidr address; /* SITE_ADDRESS_STATIC */
                struct inet_addr gateway;
                struct inet_addr *dns; /* configured, or from resolv.conf */
                size_t dns_count;
                bool dns_is_configured; /* false: read from resolv.conf */
                char *proxy;            /* "http://host:port", never with a password; NULL: none */
                const char *proxy_from; /* "site file" or the environment variable's name */
        } wan;
        struct {
                struct budget_plan limit; /* default: none */
                bool has_limit;
                bool no_fallback; /* fallback = none: 443 alone */
        } transfer;
        double monitor_interval_s; /* [monitor] interval: of the daemon's cheap probes */
        struct site_lan *lans;
        size_t lan_count;
};

/* Reads PATH; an error names file, line and key and nothing is returned. -EINVAL bad content, -errno
 * unreadable. */
int site_load(const char *path, struct site **ret, struct error *ret_error);
/* Parses text; for tests and the fuzzer. Applies no defaults from the machine. */
int site_parse(const char *name, const char *data, size_t length, struct site **ret, struct error *ret_error);
/* A site with no file: all defaults. */
struct site *site_new_default(void);
/* Fills in what the machine knows where the file is silent: host name, nameservers of resolv.conf (at most
 * 8), https_proxy / HTTPS_PROXY (an HTTP proxy; a name and password in it are left out, a port that is
 * missing is 1080 as in libcurl). `resolv_conf_path` is NULL for /etc/resolv.conf. */
void site_apply_machine_defaults(struct site *s, const char *resolv_conf_path);
struct site *site_free(struct site *s);
