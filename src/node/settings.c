#include "node/settings.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_CERTIFICATE "/var/lib/gridnode/node.crt"
#define DEFAULT_KEY         "/var/lib/gridnode/node.key"
#define IDENTITY_MAX_BYTES  ((size_t)16 << 10)
#define NAME_MAX_BYTES      253
#define MAX_PROFILE_FOLDERS 4

void node_settings_done(struct node_settings *s)
{
        paths_done(&s->paths);
        free(s->site_path);
        free(s->effective_path);
        free(s->identity_path);
        free(s->socket_path);
        site_free(s->site);
        profile_free(s->profile);
        free(s->node);
        free(s->name);
        free(s->organisation);
        *s = (struct node_settings){0};
}

/* ---- site file ---- */

static void move_path(char **path, const char *from, const char *state, const char *name)
{
        if (!str_equal(*path, from))
                return;
        free(*path);
        *path = path_join(state, name);
}

void settings_place_identity(struct site *site, const struct paths *paths)
{
        move_path(&site->certificate_path, DEFAULT_CERTIFICATE, paths->state, "node.crt");
        move_path(&site->key_path, DEFAULT_KEY, paths->state, "node.key");
}

char *settings_site_path(const struct paths *paths)
{
        _cleanup_free_ char *own = path_join(paths->etc, "site.conf"),
                            *effective = path_join(paths->state, "site.conf");
        struct stat own_st, effective_st;
        bool has_own = stat(own, &own_st) == 0;

        if (stat(effective, &effective_st) < 0)
                return has_own ? TAKE_PTR(own) : NULL;
        /* Who edited the site file since wants to see what that gives. */
        if (has_own && (own_st.st_mtim.tv_sec > effective_st.st_mtim.tv_sec ||
                               (own_st.st_mtim.tv_sec == effective_st.st_mtim.tv_sec &&
                                       own_st.st_mtim.tv_nsec > effective_st.st_mtim.tv_nsec)))
                return TAKE_PTR(own);
        return TAKE_PTR(effective);
}

static int load_site(struct node_settings *s, bool is_named, struct error *ret_error)
{
        int r = 0;

        /* A file that was named must be there; the usual one need not. */
        if (is_named || access(s->site_path, F_OK) == 0)
                r = site_load(s->site_path, &s->site, ret_error);
        else
                s->site = site_new_default();
        if (r < 0)
                return r;
        site_apply_machine_defaults(s->site, NULL);
        settings_place_identity(s->site, &s->paths);
        return 0;
}

/* ---- identity ---- */

static bool is_profile_name(const char *s)
{
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

        return s && *s && strspn(s, allowed) == strlen(s);
}

/* 0, or -errno naming the file; -ENOENT without an error when there is none. */
static int read_identity(const char *path, char **ret_node, char **ret_name, char **ret_organisation,
        char **ret_profile, struct error *ret_error)
{
        _cleanup_free_ char *text = NULL;
        json_auto_t *object = NULL;
        struct json_reader reader;
        const char *node, *name, *organisation, *profile;
        struct error e = {0};
        size_t length;
        int r = file_read(path, IDENTITY_MAX_BYTES, &text, &length, &e);

        if (r == -ENOENT)
                return r;
        if (r == 0)
                r = json_parse(text, length, IDENTITY_MAX_BYTES, path, &object, &e);
        if (r < 0) {
                if (ret_error)
                        *ret_error = e;
                return r;
        }
        json_reader_init(&reader, object, path, ret_error);
        node = json_take_text(&reader, "node", WIRE_ID_MAXIMUM);
        name = json_take_text(&reader, "name", NAME_MAX_BYTES);
        organisation = json_take_text(&reader, "organisation", NAME_MAX_BYTES);
        profile = json_take_text(&reader, "profile", NAME_MAX_BYTES);
        if (node && !wire_id_is_valid(node))
                json_reader_fail(&reader, "node", "is no id");
        if (profile && !is_profile_name(profile))
                json_reader_fail(&reader, "profile", "is no profile's name");
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret_node = xstrdup(node);
        *ret_name = xstrdup(name);
        *ret_organisation = xstrdup(organisation);
        *ret_profile = xstrdup(profile);
        return 0;
}

char *settings_registered_profile(const struct paths *paths)
{
        _cleanup_free_ char *identity = path_join(paths->state, "identity.json"), *node = NULL, *name = NULL,
                            *organisation = NULL, *profile = NULL;

        if (read_identity(identity, &node, &name, &organisation, &profile, NULL) < 0)
                return NULL;
        return xasprintf("%s/%s.profile", paths->state, profile);
}

/* The profile that the site file names, for a node that is not registered. */
static int find_named_profile(const struct node_settings *s, char **ret_path, struct error *ret_error)
{
        _cleanup_free_ char *beside = path_join(s->paths.etc, "profiles");
        const char *const folders[MAX_PROFILE_FOLDERS] = {
                beside, "/etc/gridnode/profiles", GRIDNODE_DATA_DIR "/profiles", NULL};

        return profile_find(s->site->profile, folders, ret_path, ret_error);
}

static int load_identity(struct node_settings *s, struct error *ret_error)
{
        _cleanup_free_ char *profile = NULL, *path = NULL;
        int r = read_identity(s->identity_path, &s->node, &s->name, &s->organisation, &profile, ret_error);

        if (r < 0 && r != -ENOENT)
                return r;
        if (profile)
                path = xasprintf("%s/%s.profile", s->paths.state, profile);
        else if (s->site->profile) {
                r = find_named_profile(s, &path, ret_error);
                if (r < 0)
                        return r;
        }
        return path ? profile_load(path, &s->profile, ret_error) : 0;
}

int node_settings_load(
        const char *root, const char *config_path, struct node_settings *ret, struct error *ret_error)
{
        _cleanup_(node_settings_done) struct node_settings s = {0};
        int r;

        paths_init(&s.paths, root, "gridnode");
        s.site_path = config_path ? xstrdup(config_path) : path_join(s.paths.etc, "site.conf");
        s.effective_path = path_join(s.paths.state, "site.conf");
        s.identity_path = path_join(s.paths.state, "identity.json");
        s.socket_path = path_join(s.paths.run, "control.sock");
        r = load_site(&s, config_path, ret_error);
        if (r == 0)
                r = load_identity(&s, ret_error);
        if (r < 0)
                return r;
        *ret = s;
        s = (struct node_settings){0};
        return 0;
}

/* ---- the effective site file ---- */

/* It stands elsewhere: what counted from here must not count from there. */
static void write_path(const char *key, const char *path, struct text *t)
{
        _cleanup_free_ char *here = path[0] == '/' ? NULL : getcwd(NULL, 0);

        text_addf(t, "%s = %s%s%s\n", key, here ? here : "", here ? "/" : "", path);
}

static void write_node(const struct node_settings *s, struct text *t)
{
        const char *profile = s->profile ? s->profile->path : NULL;

        text_add(t, "[node]\n");
        if (s->site->name)
                text_addf(t, "name = %s\n", s->site->name);
        write_path("certificate", s->site->certificate_path, t);
        write_path("key", s->site->key_path, t);
        if (profile)
                write_path("profile", profile, t);
}

static void write_dns(const struct inet_addr *list, size_t count, struct text *t)
{
        char address[INET_ADDR_TEXT];

        for (size_t i = 0; i < count; i++)
                text_addf(t, "%s%s", i ? ";" : "dns = ", inet_addr_format(&list[i], address));
        if (count)
                text_add(t, "\n");
}

static void write_wan(const struct site *site, const struct wire_config *c, struct text *t)
{
        char text[INET_ADDR_TEXT];

        text_add(t, "\n[wan]\n");
        if (site->wan.interface[0])
                text_addf(t, "interface = %s\n", site->wan.interface);
        switch (site->wan.mode) {
        case SITE_ADDRESS_NONE:
                break;
        case SITE_ADDRESS_DHCP:
                text_add(t, "address = dhcp\n");
                break;
        case SITE_ADDRESS_STATIC:
                text_addf(t, "address = %s\n", cidr_format(&site->wan.address, text));
                break;
        }
        if (inet_addr_is_set(&site->wan.gateway))
                text_addf(t, "gateway = %s\n", inet_addr_format(&site->wan.gateway, text));
        if (c && c->dns_count)
                write_dns(c->dns, c->dns_count, t);
        else if (site->wan.dns_is_configured)
                write_dns(site->wan.dns, site->wan.dns_count, t);
        /* What the environment says is the environment's to say. */
        if (site->wan.proxy && str_equal(site->wan.proxy_from, "site file"))
                text_addf(t, "proxy = %s\n", site->wan.proxy);
}

static void write_lan(const char *interface, const struct cidr *address, struct text *t)
{
        char text[INET_ADDR_TEXT];

        text_addf(t, "\n[lan %s]\n", interface);
        if (address)
                text_addf(t, "address = %s\n", cidr_format(address, text));
}

static void write_route(
        const struct cidr *destination, const struct inet_addr *next_hop, bool is_first, struct text *t)
{
        char to[INET_ADDR_TEXT], by[INET_ADDR_TEXT];

        text_addf(t, "%s%s via %s", is_first ? "routes = " : ";", cidr_format(destination, to),
                inet_addr_format(next_hop, by));
}

static void write_lans(const struct site *site, struct text *t)
{
        for (size_t i = 0; i < site->lan_count; i++) {
                const struct site_lan *lan = &site->lans[i];

                write_lan(lan->interface, lan->has_address ? &lan->address : NULL, t);
                for (size_t k = 0; k < lan->route_count; k++)
                        write_route(&lan->routes[k].destination, &lan->routes[k].next_hop, k == 0, t);
                if (lan->route_count)
                        text_add(t, "\n");
        }
}

static void write_configured_lans(const struct wire_config *c, struct text *t)
{
        for (size_t i = 0; i < c->lan_count; i++) {
                const struct config_lan *lan = &c->lans[i];

                write_lan(lan->interface, lan->has_address ? &lan->address : NULL, t);
                for (size_t k = 0; k < lan->route_count; k++)
                        write_route(&lan->routes[k].destination, &lan->routes[k].next_hop, k == 0, t);
                if (lan->route_count)
                        text_add(t, "\n");
        }
}

static void write_transfer(const struct node_settings *s, const struct wire_config *c, struct text *t)
{
        struct budget_plan plan = {0};
        bool has_limit = settings_transfer_limit(s, c, &plan);
        bool no_fallback =
                c && c->transfer.has_fallback ? c->transfer.no_fallback : s->site->transfer.no_fallback;
        _cleanup_free_ char *limit = budget_plan_format(&plan);

        text_addf(t, "\n[transfer]\nfallback = %s\n", no_fallback ? "none" : "8443");
        if (has_limit)
                text_addf(t, "limit = %s\n", limit);
}

bool settings_transfer_limit(
        const struct node_settings *s, const struct wire_config *c, struct budget_plan *ret)
{
        if (c && c->transfer.has_limit)
                *ret = c->transfer.limit;
        else if (s->site->transfer.has_limit)
                *ret = s->site->transfer.limit;
        else
                *ret = (struct budget_plan){0};
        return (c && c->transfer.has_limit) || s->site->transfer.has_limit;
}

char *settings_effective_site(const struct node_settings *s, const struct wire_config *c)
{
        struct text t = {0};

        text_add(&t, "# Written by gridnode: the site file");
        if (c)
                text_addf(&t, " with configuration %lld over it", (long long)c->version);
        text_add(&t, ". Changes here are lost.\n");
        write_node(s, &t);
        write_wan(s->site, c, &t);
        if (c)
                write_configured_lans(c, &t);
        else
                write_lans(s->site, &t);
        write_transfer(s, c, &t);
        text_addf(&t, "\n[monitor]\ninterval = %.0f\n", s->site->monitor_interval_s);
        return text_take(&t);
}
