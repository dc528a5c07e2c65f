#include "net/site.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/keyfile.h"
#include "net/proxy_url.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_CERTIFICATE "/var/lib/gridnode/node.crt"
#define DEFAULT_KEY         "/var/lib/gridnode/node.key"
#define DEFAULT_INTERVAL_S  60
#define MAX_NAME_BYTES      253
#define DEFAULT_PROXY_PORT  1080 /* CURLOPT_PROXY(3) */
#define MAX_RESOLV_BYTES    ((size_t)1 << 20)

struct site *site_free(struct site *s)
{
        if (!s)
                return NULL;
        for (size_t i = 0; i < s->lan_count; i++)
                free(s->lans[i].routes);
        free(s->lans);
        free(s->wan.dns);
        free(s->wan.proxy);
        free(s->profile);
        free(s->certificate_path);
        free(s->key_path);
        free(s->name);
        free(s->path);
        free(s);
        return NULL;
}

DEFINE_CLEANUP(struct site *, site_free);
DEFINE_CLEANUP(struct keyfile *, keyfile_free);

static void replace(char **member, char *value)
{
        free(*member);
        *member = value;
}

struct site *site_new_default(void)
{
        struct site *s = xcalloc(1, sizeof(*s));

        s->certificate_path = xstrdup(DEFAULT_CERTIFICATE);
        s->key_path = xstrdup(DEFAULT_KEY);
        s->monitor_interval_s = DEFAULT_INTERVAL_S;
        return s;
}

/* ---- values ---- */

/* One value's parser: `item` is the struct site or struct site_lan that the key belongs to. */
typedef int (*value_parser)(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error);

/* One line a key. */
struct key {
        const char *section; /* NULL: of the section at hand */
        const char *name;
        value_parser parse;
};

static int parse_name(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        _cleanup_free_ char *printable = str_printable(e->value, strlen(e->value), SIZE_MAX);
        struct site *s = item;

        if (!*e->value || strlen(e->value) > MAX_NAME_BYTES || !str_equal(printable, e->value))
                return keyfile_value_error(k, e, ret_error,
                        "not a name; write 1 to %d bytes of printable UTF-8, or leave the key out for the "
                        "host's name",
                        MAX_NAME_BYTES);
        replace(&s->name, xstrdup(e->value));
        return 0;
}

static int parse_path(
        const struct keyfile *k, const struct keyfile_entry *e, char **member, struct error *ret_error)
{
        if (!*e->value)
                return keyfile_value_error(k, e, ret_error, "a file's path is missing; or leave the key out");
        replace(member, file_beside(keyfile_path(k), e->value));
        return 0;
}

static int parse_certificate(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        return parse_path(k, e, &((struct site *)item)->certificate_path, ret_error);
}

static int parse_key(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        return parse_path(k, e, &((struct site *)item)->key_path, ret_error);
}

static int parse_profile(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site *s = item;

        if (!*e->value)
                return keyfile_value_error(
                        k, e, ret_error, "a profile's name or path is missing; or leave the key out");
        if (strchr(e->value, '/') || str_ends_with(e->value, ".profile"))
                return parse_path(k, e, &s->profile, ret_error);
        replace(&s->profile, xstrdup(e->value));
        return 0;
}

static int parse_interface(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site *s = item;

        if (!str_is_interface_name(e->value))
                return keyfile_value_error(k, e, ret_error,
                        "not an interface name; it has 1 to %d bytes without blank, / or :, as in ip link",
                        IFNAMSIZ - 1);
        str_copy(s->wan.interface, sizeof(s->wan.interface), e->value);
        return 0;
}

/* The address of the network itself, or its broadcast address: no host's (RFC 1122, 3.2.1.3; RFC 3021 for
 * /31). */
static bool is_host_of_subnet(const struct cidr *c)
{
        uint32_t host, mask;

        if (c->address.family != AF_INET || c->prefix >= 31 || c->prefix == 0)
                return c->prefix > 0;
        mask = UINT32_MAX >> c->prefix;
        host = ntohl(c->address.v4.s_addr) & mask;
        return host != 0 && host != mask;
}

static bool is_unicast(const struct inet_addr *a)
{
        static const struct cidr limited = {{.family = AF_INET, .bytes = {255, 255, 255, 255}}, 32};
        const char *bogon = inet_addr_bogon(a);

        return !str_equal(bogon, "unspecified") && !str_equal(bogon, "multicast") &&
               !cidr_contains(&limited, a);
}

static int parse_interface_address(
        const struct keyfile *k, const struct keyfile_entry *e, struct cidr *ret, struct error *ret_error)
{
        const char *or_words = str_equal(e->section, "wan") ? ", dhcp or none" : "";
        struct cidr c;

        if (cidr_parse(e->value, &c) < 0)
                return keyfile_value_error(
                        k, e, ret_error, "not an address with its prefix; write 192.0.2.10/24%s", or_words);
        if (!strchr(e->value, '/'))
                return keyfile_value_error(
                        k, e, ret_error, "the prefix is missing; write %s/24, say", e->value);
        if (!is_unicast(&c.address) || inet_addr_is_loopback(&c.address) || !is_host_of_subnet(&c))
                return keyfile_value_error(k, e, ret_error,
                        "no host can have this address in this subnet; write the interface's own address");
        *ret = c;
        return 0;
}

static int parse_wan_address(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site *s = item;
        int r;

        if (str_equal(e->value, "dhcp"))
                s->wan.mode = SITE_ADDRESS_DHCP;
        else if (str_equal(e->value, "none"))
                s->wan.mode = SITE_ADDRESS_NONE;
        else {
                r = parse_interface_address(k, e, &s->wan.address, ret_error);
                if (r < 0)
                        return r;
                s->wan.mode = SITE_ADDRESS_STATIC;
        }
        return 0;
}

/* Why `hop` cannot be reached directly by an interface with `own`; NULL when it can. */
static const char *hop_problem(const struct inet_addr *hop, const struct cidr *own)
{
        if (!is_unicast(hop) || inet_addr_is_loopback(hop))
                return "is not a host's address";
        if (hop->family != own->address.family)
                return "is of another IP version than the interface's address";
        if (inet_addr_equal(hop, &own->address))
                return "is the interface's own address";
        /* Routers speak from their link-local address, which is on every link (RFC 4861, 6.1.2). */
        if (hop->family == AF_INET6 && inet_addr_is_link_local(hop))
                return NULL;
        if (!cidr_contains(own, hop))
                return "is not in the interface's subnet";
        return NULL;
}

static int parse_gateway(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        char own[INET_ADDR_TEXT];
        struct site *s = item;
        struct inet_addr a;
        const char *problem;

        if (inet_addr_parse(e->value, &a) < 0)
                return keyfile_value_error(k, e, ret_error, "not an address; write 192.0.2.1, say");
        if (!is_unicast(&a) || inet_addr_is_loopback(&a))
                return keyfile_value_error(k, e, ret_error, "no gateway can have this address");
        problem = s->wan.mode == SITE_ADDRESS_STATIC ? hop_problem(&a, &s->wan.address) : NULL;
        if (problem)
                return keyfile_value_error(k, e, ret_error, "the gateway %s, %s; correct one of them",
                        problem, cidr_format(&s->wan.address, own));
        s->wan.gateway = a;
        return 0;
}

static bool has_address(const struct inet_addr *list, size_t count, const struct inet_addr *a)
{
        for (size_t i = 0; i < count; i++)
                if (inet_addr_equal(&list[i], a))
                        return true;
        return false;
}

static int parse_dns(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};
        _cleanup_free_ struct inet_addr *list = NULL;
        struct site *s = item;
        size_t count = 0;

        strv_split(&items, e->value, ';');
        list = xcalloc(items.count, sizeof(*list));
        for (size_t i = 0; i < items.count; i++) {
                struct inet_addr a;

                if (inet_addr_parse(items.items[i], &a) < 0 || !is_unicast(&a))
                        return keyfile_value_error(k, e, ret_error,
                                "item %zu is not a server's address; write addresses separated by ;", i + 1);
                if (!has_address(list, count, &a))
                        list[count++] = a;
        }
        if (count == 0)
                return keyfile_value_error(k, e, ret_error,
                        "no server; write its address, or leave the key out for those of /etc/resolv.conf");
        if (count > SITE_MAX_DNS)
                return keyfile_value_error(
                        k, e, ret_error, "%zu servers; at most %d are used", count, SITE_MAX_DNS);
        free(s->wan.dns);
        s->wan.dns = TAKE_PTR(list);
        s->wan.dns_count = count;
        s->wan.dns_is_configured = true;
        return 0;
}

static int parse_proxy(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site *s = item;
        char *url;

        if (!str_starts_with(e->value, "http://") || proxy_url_parse(e->value, 0, &url) < 0)
                return keyfile_value_error(k, e, ret_error,
                        "not an HTTP proxy; write http://HOST:PORT, without user or password");
        replace(&s->wan.proxy, url);
        s->wan.proxy_from = "site file";
        return 0;
}

static int parse_lan_address(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site_lan *lan = item;
        int r = parse_interface_address(k, e, &lan->address, ret_error);

        if (r < 0)
                return r;
        lan->has_address = true;
        return 0;
}

/* "10.30.0.0/16 via 10.20.0.1" with any blanks in between. */
static bool split_route(const char *text, struct site_route *ret)
{
        _cleanup_free_ char *copy = xstrdup(text);
        char *save = NULL, *words[4] = {0};
        size_t count = 0;

        for (char *w = strtok_r(copy, " \t", &save); w; w = strtok_r(NULL, " \t", &save)) {
                if (count == 3)
                        return false;
                words[count++] = w;
        }
        return count == 3 && str_equal(words[1], "via") && cidr_parse(words[0], &ret->destination) == 0 &&
               inet_addr_parse(words[2], &ret->next_hop) == 0;
}

/* The kernel refuses a destination with bits beyond its prefix. */
static bool has_host_bits(const struct cidr *c, struct cidr *ret_network)
{
        struct cidr network = *c;
        unsigned bits = inet_addr_bits(&c->address);

        for (unsigned i = c->prefix; i < bits; i++)
                network.address.bytes[i / 8] &= (uint8_t) ~(0x80U >> (i % 8));
        *ret_network = network;
        return !inet_addr_equal(&network.address, &c->address);
}

static int check_route(const struct keyfile *k, const struct keyfile_entry *e, const struct site_lan *lan,
        size_t number, const struct site_route *route, struct error *ret_error)
{
        char own[INET_ADDR_TEXT], hop[INET_ADDR_TEXT], destination[INET_ADDR_TEXT];
        struct cidr network;
        const char *problem;

        if (has_host_bits(&route->destination, &network))
                return keyfile_value_error(k, e, ret_error,
                        "the destination of route %zu has bits beyond its prefix; is %s meant?", number,
                        cidr_format(&network, destination));
        if (!lan->has_address)
                return keyfile_value_error(k, e, ret_error,
                        "routes need the interface's own address, to know their next hop; add address = to "
                        "[%s]",
                        e->section);
        problem = hop_problem(&route->next_hop, &lan->address);
        if (!problem && route->destination.address.family != route->next_hop.family)
                problem = "is of another IP version than the destination";
        if (problem)
                return keyfile_value_error(k, e, ret_error,
                        "the next hop %s of route %zu %s, %s; name a router on this LAN",
                        inet_addr_format(&route->next_hop, hop), number, problem,
                        cidr_format(&lan->address, own));
        for (size_t i = 0; i < lan->route_count; i++)
                if (lan->routes[i].destination.prefix == route->destination.prefix &&
                        inet_addr_equal(&lan->routes[i].destination.address, &route->destination.address))
                        return keyfile_value_error(k, e, ret_error,
                                "route %zu: %s is given twice; keep one of them", number,
                                cidr_format(&route->destination, destination));
        return 0;
}

static int parse_routes(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};
        struct site_lan *lan = item;
        int r;

        strv_split(&items, e->value, ';');
        if (items.count > SITE_MAX_ROUTES)
                return keyfile_value_error(
                        k, e, ret_error, "%zu routes; at most %d are taken", items.count, SITE_MAX_ROUTES);
        lan->routes = xcalloc(items.count, sizeof(*lan->routes));
        for (size_t i = 0; i < items.count; i++) {
                struct site_route route = {0};

                if (!split_route(items.items[i], &route))
                        return keyfile_value_error(k, e, ret_error,
                                "route %zu is not one; write 10.30.0.0/16 via 10.20.0.1, separated by ;",
                                i + 1);
                r = check_route(k, e, lan, i + 1, &route, ret_error);
                if (r < 0)
                        return r;
                lan->routes[lan->route_count++] = route;
        }
        return 0;
}

static int parse_interval(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site *s = item;
        unsigned long seconds;

        if (str_to_ulong(e->value, 5, 3600, &seconds) < 0)
                return keyfile_value_error(k, e, ret_error, "not seconds from 5 to 3600; write 60, say");
        s->monitor_interval_s = (double)seconds;
        return 0;
}

static int parse_limit(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site *s = item;
        struct error why;

        if (budget_plan_parse(e->value, &s->transfer.limit, &why) < 0)
                return keyfile_value_error(k, e, ret_error, "%s", why.text);
        s->transfer.has_limit = true;
        return 0;
}

static int parse_fallback(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct site *s = item;

        s->transfer.no_fallback = str_equal(e->value, "none");
        return s->transfer.no_fallback || str_equal(e->value, "8443")
                       ? 0
                       : keyfile_value_error(k, e, ret_error, "not 8443 or none");
}

/* ---- the file ---- */

/* In the order in which they depend on each other: an address before what must be on its subnet. */
static const struct key site_keys[] = {
        {"node", "name", parse_name},
        {"node", "certificate", parse_certificate},
        {"node", "key", parse_key},
        {"node", "profile", parse_profile},
        {"wan", "interface", parse_interface},
        {"wan", "address", parse_wan_address},
        {"wan", "gateway", parse_gateway},
        {"wan", "dns", parse_dns},
        {"wan", "proxy", parse_proxy},
        {"monitor", "interval", parse_interval},
        {"transfer", "limit", parse_limit},
        {"transfer", "fallback", parse_fallback},
};

static const struct key lan_keys[] = {
        {NULL, "address", parse_lan_address},
        {NULL, "routes", parse_routes},
};

static int parse_keys(struct keyfile *k, const struct key *keys, size_t count, const char *section,
        void *item, struct error *ret_error)
{
        for (size_t i = 0; i < count; i++) {
                const struct keyfile_entry *e =
                        keyfile_take(k, keys[i].section ? keys[i].section : section, keys[i].name);
                int r = e ? keys[i].parse(k, e, item, ret_error) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_lan(
        struct keyfile *k, size_t index, const char *section, struct site *s, struct error *ret_error)
{
        const char *name = section + strlen("lan");
        struct site_lan *lan;

        name += strspn(name, " \t");
        if (!str_is_interface_name(name))
                return keyfile_section_error(k, index, "config.value", ret_error,
                        "not an interface name; write [lan eth1], with a name of 1 to %d bytes",
                        IFNAMSIZ - 1);
        if (str_equal(name, s->wan.interface))
                return keyfile_section_error(k, index, "config.value", ret_error,
                        "this interface is the WAN already; name another in one of the two places");
        for (size_t i = 0; i < s->lan_count; i++)
                if (str_equal(s->lans[i].interface, name))
                        return keyfile_section_error(k, index, "config.duplicate", ret_error,
                                "this LAN is given twice; put its keys together");
        s->lans = xrealloc_array(s->lans, s->lan_count + 1, sizeof(*s->lans));
        lan = &s->lans[s->lan_count++];
        *lan = (struct site_lan){0};
        str_copy(lan->interface, sizeof(lan->interface), name);
        return parse_keys(k, lan_keys, ELEMENTS(lan_keys), section, lan, ret_error);
}

static bool is_lan_section(const char *section)
{
        return str_equal(section, "lan") || str_starts_with(section, "lan ") ||
               str_starts_with(section, "lan\t");
}

static int parse_site(struct keyfile *k, struct site **ret, struct error *ret_error)
{
        _cleanup_(site_free_p) struct site *s = site_new_default();
        const char *section;
        int r;

        s->path = xstrdup(keyfile_path(k));
        r = parse_keys(k, site_keys, ELEMENTS(site_keys), NULL, s, ret_error);
        if (r < 0)
                return r;
        for (size_t i = 0; (section = keyfile_section(k, i, NULL)); i++) {
                if (is_lan_section(section))
                        r = parse_lan(k, i, section, s, ret_error);
                else if (!str_equal(section, "node") && !str_equal(section, "wan") &&
                         !str_equal(section, "monitor") && !str_equal(section, "transfer"))
                        r = keyfile_section_error(k, i, "config.unknown-section", ret_error,
                                "unknown section; a site file has [node], [wan], [lan INTERFACE], "
                                "[monitor] and [transfer]");
                if (r < 0)
                        return r;
        }
        r = keyfile_check_leftovers(k, ret_error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

/* What is wrong inside the file is -EINVAL for callers, whichever layer found it. */
static int content_error(int r, struct error *ret_error)
{
        if (r != -EBADMSG && r != -EFBIG)
                return r;
        if (ret_error)
                ret_error->number = EINVAL;
        return -EINVAL;
}

int site_parse(const char *name, const char *data, size_t length, struct site **ret, struct error *ret_error)
{
        _cleanup_(keyfile_free_p) struct keyfile *k = NULL;
        int r = keyfile_parse(name, data, length, &k, ret_error);

        return r < 0 ? content_error(r, ret_error) : parse_site(k, ret, ret_error);
}

int site_load(const char *path, struct site **ret, struct error *ret_error)
{
        _cleanup_(keyfile_free_p) struct keyfile *k = NULL;
        int r = keyfile_load(path, &k, ret_error);

        return r < 0 ? content_error(r, ret_error) : parse_site(k, ret, ret_error);
}

/* ---- what the machine knows ---- */

/* resolv.conf(5): one address a line. What libc's resolver would not understand it skips, and so do we. */
static void read_resolv_conf(struct site *s, const char *path)
{
        struct inet_addr list[SITE_MAX_DNS];
        _cleanup_free_ char *data = NULL;
        char *save = NULL;
        size_t count = 0;

        if (file_read(path, MAX_RESOLV_BYTES, &data, NULL, NULL) < 0)
                return;
        for (char *line = strtok_r(data, "\n", &save); line && count < SITE_MAX_DNS;
                line = strtok_r(NULL, "\n", &save)) {
                char *words = NULL, *key = strtok_r(line, " \t\r", &words),
                     *value = strtok_r(NULL, " \t\r", &words);
                struct inet_addr a;

                if (!key || !value || !str_equal(key, "nameserver") || inet_addr_parse(value, &a) < 0)
                        continue;
                if (!has_address(list, count, &a))
                        list[count++] = a;
        }
        if (count == 0)
                return;
        s->wan.dns = xcalloc(count, sizeof(*s->wan.dns));
        memcpy(s->wan.dns, list, count * sizeof(*list));
        s->wan.dns_count = count;
}

static void read_proxy_environment(struct site *s)
{
        static const char *const variables[] = {"https_proxy", "HTTPS_PROXY"};

        for (size_t i = 0; i < ELEMENTS(variables); i++) {
                const char *value = getenv(variables[i]);

                if (str_is_empty(value))
                        continue;
                if (proxy_url_parse(value, DEFAULT_PROXY_PORT, &s->wan.proxy) == 0) {
                        s->wan.proxy_from = variables[i];
                        return;
                }
        }
}

void site_apply_machine_defaults(struct site *s, const char *resolv_conf_path)
{
        char host[HOST_NAME_MAX + 1] = "";

        if (!s->name) {
                if (gethostname(host, sizeof(host) - 1) < 0 || !*host)
                        str_copy(host, sizeof(host), "localhost");
                s->name = str_printable(host, strlen(host), sizeof(host));
        }
        if (!s->wan.dns_is_configured && s->wan.dns_count == 0)
                read_resolv_conf(s, resolv_conf_path ? resolv_conf_path : "/etc/resolv.conf");
        if (!s->wan.proxy)
                read_proxy_environment(s);
}
