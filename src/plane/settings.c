#include "plane/settings.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/keyfile.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define PROGRAM              "gridplane"
#define DEFAULT_LISTEN       "443,8443"
#define DEFAULT_PROFILE_NAME "grid"
#define DEFAULT_BROKER_PORT  18830
#define DEFAULT_KEY_OVERLAP  30   /* days */
#define MQTTS_PORT           8883 /* IANA: secure-mqtt */
#define MAX_DOMAIN_BYTES     (253 - (int)sizeof("control"))
#define MAX_WORD_BYTES       31
#define MAX_RANGES           256
#define MAX_ADDRESSES        64

DEFINE_CLEANUP(struct keyfile *, keyfile_free);

static void replace(char **member, char *value)
{
        free(*member);
        *member = value;
}

void plane_settings_done(struct plane_settings *s)
{
        paths_done(&s->paths);
        strv_done(&s->ranges);
        strv_done(&s->repo_addresses);
        strv_done(&s->control_addresses);
        free(s->config_path);
        free(s->domain);
        free(s->repo_host);
        free(s->control_host);
        free(s->user);
        free(s->profile_name);
        free(s->broker_url);
        free(s->broker_certificate);
        free(s->broker_key);
        free(s->broker_root_ca);
        free(s->broker_host);
        free(s->broker_nodes_host);
        free(s->registry_url);
        free(s->registry_host);
        free(s->registry_certificate);
        free(s->registry_key);
        free(s->registry_root_ca);
        free(s->api_socket);
        free(s->admin_socket);
        free(s->broker_socket);
        free(s->registry_socket);
        *s = (struct plane_settings){0};
}

/* ---- values ---- */

/* A value of the file, or of an option of the command line. */
struct value {
        const struct keyfile *file;
        const struct keyfile_entry *entry; /* NULL: of an option */
        const char *option, *text;
};

static int value_error(const struct value *v, struct error *ret_error, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

static int value_error(const struct value *v, struct error *ret_error, const char *format, ...)
{
        _cleanup_free_ char *reason = NULL, *shown = NULL;
        va_list arguments;

        va_start(arguments, format);
        reason = xvasprintf(format, arguments);
        va_end(arguments);
        if (v->entry)
                return keyfile_value_error(v->file, v->entry, ret_error, "%s", reason);
        shown = str_excerpt(v->text, strlen(v->text), 100);
        return error_set(ret_error, EINVAL, "config.value", "%s %s: %s", v->option, shown, reason);
}

static int parse_domain(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        char *domain;

        if (!str_is_host_name(v->text) || str_ends_with(v->text, "."))
                return value_error(v, ret_error, "not a domain name; write grid.example, say");
        if (strlen(v->text) > (size_t)MAX_DOMAIN_BYTES)
                return value_error(v, ret_error, "longer than %d bytes: control.DOMAIN would be no host name",
                        MAX_DOMAIN_BYTES);
        if (!strchr(v->text, '.'))
                return value_error(v, ret_error, "a domain has a dot; write grid.example, say");
        domain = xstrdup(v->text);
        for (char *c = domain; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        replace(&s->domain, domain);
        return 0;
}

/* "443", "198.51.100.20:443", "[2001:db8::20]:443" */
static bool parse_listen_item(const char *item, struct endpoint *ret)
{
        unsigned long port;

        *ret = (struct endpoint){0};
        if (str_to_ulong(item, 1, UINT16_MAX, &port) == 0) {
                ret->port = (uint16_t)port;
                return true;
        }
        return endpoint_parse(item, ret) == 0 && ret->port != 0 && inet_addr_is_set(&ret->address);
}

static int add_listen(const struct value *v, const char *item, const struct endpoint *e,
        struct plane_settings *s, struct error *ret_error)
{
        bool is_https = s->https_count == 0 || s->https[0].port == e->port;
        struct endpoint *list = is_https ? s->https : s->mixed;
        size_t *count = is_https ? &s->https_count : &s->mixed_count;

        if (!is_https && *count > 0 && list[0].port != e->port)
                return value_error(v, ret_error,
                        "%s is a third port; the first serves HTTPS and the second also MQTT", item);
        for (size_t i = 0; i < *count; i++)
                if (endpoint_equal(&list[i], e) ||
                        inet_addr_is_set(&list[i].address) != inet_addr_is_set(&e->address))
                        return value_error(v, ret_error, "%s is there already", item);
        if (*count == PLANE_MAX_LISTEN)
                return value_error(
                        v, ret_error, "more than %d addresses for port %u", PLANE_MAX_LISTEN, e->port);
        list[(*count)++] = *e;
        return 0;
}

static int parse_listen(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};
        _cleanup_free_ char *commas = xstrdup(v->text);
        int r;

        for (char *c = commas; *c; c++)
                if (*c == ';')
                        *c = ',';
        strv_split(&items, commas, ',');
        s->https_count = s->mixed_count = 0;
        for (size_t i = 0; i < items.count; i++) {
                _cleanup_free_ char *shown = str_excerpt(items.items[i], strlen(items.items[i]), 64);
                struct endpoint e;

                if (!parse_listen_item(items.items[i], &e))
                        return value_error(v, ret_error,
                                "item %zu, %s, is neither a port nor ADDRESS:PORT; write 443,8443, say",
                                i + 1, shown);
                r = add_listen(v, shown, &e, s, ret_error);
                if (r < 0)
                        return r;
        }
        if (s->mixed_count == 0)
                return value_error(v, ret_error,
                        "two ports are needed: one for HTTPS, then one for HTTPS and MQTT; write 443,8443, "
                        "say");
        return 0;
}

static bool is_word(const char *s)
{
        static const char bytes[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

        return *s && *s != '-' && !s[strspn(s, bytes)] && strlen(s) <= MAX_WORD_BYTES;
}

/* As useradd(8) takes it. */
static int parse_user(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        if (!is_word(v->text) || isdigit((unsigned char)v->text[0]))
                return value_error(
                        v, ret_error, "not a user's name; or leave the key out to stay who starts it");
        replace(&s->user, xstrdup(v->text));
        return 0;
}

/* A file's name at the node: NAME.profile. */
static int parse_profile_name(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        if (!is_word(v->text))
                return value_error(v, ret_error,
                        "not a profile's name; use at most %d letters, digits, _ and -", MAX_WORD_BYTES);
        replace(&s->profile_name, xstrdup(v->text));
        return 0;
}

static int parse_ranges(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};
        char text[INET_ADDR_TEXT];

        strv_split(&items, v->text, ';');
        if (items.count > MAX_RANGES)
                return value_error(v, ret_error, "%zu ranges; at most %d are taken", items.count, MAX_RANGES);
        for (size_t i = 0; i < items.count; i++) {
                struct cidr c;

                if (cidr_parse(items.items[i], &c) < 0)
                        return value_error(v, ret_error,
                                "item %zu is not a range; write 198.51.100.16/28, say, separated by ;",
                                i + 1);
                strv_add_unique(&s->ranges, cidr_format(&c, text));
        }
        return 0;
}

static int parse_addresses(const struct value *v, struct strv *ret, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};
        char text[INET_ADDR_TEXT];

        strv_split(&items, v->text, ';');
        if (items.count > MAX_ADDRESSES)
                return value_error(
                        v, ret_error, "%zu addresses; at most %d are taken", items.count, MAX_ADDRESSES);
        for (size_t i = 0; i < items.count; i++) {
                struct inet_addr a;

                if (inet_addr_parse(items.items[i], &a) < 0)
                        return value_error(v, ret_error,
                                "item %zu is not an address; write 198.51.100.20, say, separated by ;",
                                i + 1);
                strv_add_unique(ret, inet_addr_format(&a, text));
        }
        return 0;
}

static int parse_repo_addresses(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        return parse_addresses(v, &s->repo_addresses, ret_error);
}

static int parse_control_addresses(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        return parse_addresses(v, &s->control_addresses, ret_error);
}

/* HOST or HOST:PORT; an IPv6 address in brackets. */
static bool parse_authority(const char *text, uint16_t otherwise, char **ret_host, uint16_t *ret_port)
{
        const char *colon = strrchr(text, ':');
        _cleanup_free_ char *host = NULL;
        struct endpoint e = {0};
        unsigned long port = otherwise;

        if (endpoint_parse(text, &e) == 0 && inet_addr_is_set(&e.address)) {
                char address[INET_ADDR_TEXT];

                *ret_host = xstrdup(inet_addr_format(&e.address, address));
                *ret_port = e.port ? e.port : otherwise;
                return true;
        }
        if (colon && str_to_ulong(colon + 1, 1, UINT16_MAX, &port) < 0)
                return false;
        host = colon ? xstrndup(text, (size_t)(colon - text)) : xstrdup(text);
        if (!str_is_host_name(host))
                return false;
        *ret_host = TAKE_PTR(host);
        *ret_port = (uint16_t)port;
        return true;
}

static int parse_broker_url(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        static const char scheme[] = "mqtts://";
        _cleanup_free_ char *authority = NULL;
        char *host;

        if (str_starts_with(v->text, scheme)) {
                authority = xstrdup(v->text + strlen(scheme));
                if (str_ends_with(authority, "/"))
                        authority[strlen(authority) - 1] = '\0';
        }
        if (!authority || !parse_authority(authority, MQTTS_PORT, &host, &s->broker_port))
                return value_error(
                        v, ret_error, "not a broker's URL; write mqtts://broker.example:8883, say");
        replace(&s->broker_host, host);
        replace(&s->broker_url, xstrdup(v->text));
        return 0;
}

static int parse_broker_nodes(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        char *host;

        if (!parse_authority(v->text, MQTTS_PORT, &host, &s->broker_nodes_port))
                return value_error(
                        v, ret_error, "not a listener of the broker; write broker.example:8884, say");
        replace(&s->broker_nodes_host, host);
        return 0;
}

/* It goes into nginx's configuration: a scheme, a host, a port and nothing else. */
static int parse_registry_url(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        size_t scheme = str_starts_with(v->text, "https://")  ? strlen("https://")
                        : str_starts_with(v->text, "http://") ? strlen("http://")
                                                              : 0;
        _cleanup_free_ char *url = xstrdup(v->text);
        char *host;

        if (scheme && str_ends_with(url + scheme, "/"))
                url[strlen(url) - 1] = '\0';
        if (!scheme || !parse_authority(url + scheme, scheme == strlen("https://") ? 443 : 80, &host,
                               &s->registry_port))
                return value_error(v, ret_error,
                        "not a registry's URL; write https://registry.example, say, with no path");
        replace(&s->registry_host, host);
        replace(&s->registry_url, TAKE_PTR(url));
        return 0;
}

/* Absolute, since the servers run in folders of their own. */
static int parse_file(const struct value *v, char **member, struct error *ret_error)
{
        _cleanup_free_ char *path = NULL, *here = NULL;

        if (!*v->text)
                return value_error(v, ret_error, "a file's path is missing; or leave the key out");
        path = file_beside(keyfile_path(v->file), v->text);
        if (path[0] != '/')
                here = get_current_dir_name();
        replace(member, here ? path_join(here, path) : TAKE_PTR(path));
        return 0;
}

static int parse_port(const struct value *v, uint16_t *ret, struct error *ret_error)
{
        unsigned long port;

        if (str_to_ulong(v->text, 1, UINT16_MAX, &port) < 0)
                return value_error(v, ret_error, "not a TCP port; write a number from 1 to 65535");
        *ret = (uint16_t)port;
        return 0;
}

static int parse_broker_port(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        if (s->broker_url)
                return value_error(v, ret_error,
                        "the port of our own broker, and url names another; leave one of them out");
        return parse_port(v, &s->broker_port, ret_error);
}

static int parse_external(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        if (str_equal(v->text, "yes"))
                s->proxy_is_external = true;
        else if (str_equal(v->text, "no"))
                s->proxy_is_external = false;
        else
                return value_error(v, ret_error, "write yes or no");
        return 0;
}

static int parse_key_overlap(const struct value *v, struct plane_settings *s, struct error *ret_error)
{
        unsigned long days;

        if (str_to_ulong(v->text, 0, 3650, &days) < 0)
                return value_error(v, ret_error, "write a number of days from 0 to 3650");
        s->key_overlap_days = (unsigned)days;
        return 0;
}

/* ---- the table: a line a key; the broker's url stands before its port ---- */

static const struct key {
        const char *section, *name;
        int (*parse)(const struct value *v, struct plane_settings *s, struct error *ret_error); /* or */
        size_t file; /* … the member that takes a file's path */
} keys[] = {
        {"plane", "domain", parse_domain},
        {"plane", "listen", parse_listen},
        {"plane", "user", parse_user},
        {"profile", "name", parse_profile_name},
        {"profile", "ranges", parse_ranges},
        {"profile", "repo-addresses", parse_repo_addresses},
        {"profile", "control-addresses", parse_control_addresses},
        {"broker", "url", parse_broker_url},
        {"broker", "certificate", .file = offsetof(struct plane_settings, broker_certificate)},
        {"broker", "key", .file = offsetof(struct plane_settings, broker_key)},
        {"broker", "root-ca", .file = offsetof(struct plane_settings, broker_root_ca)},
        {"broker", "port", parse_broker_port},
        {"broker", "nodes", parse_broker_nodes},
        {"registry", "url", parse_registry_url},
        {"registry", "certificate", .file = offsetof(struct plane_settings, registry_certificate)},
        {"registry", "key", .file = offsetof(struct plane_settings, registry_key)},
        {"registry", "root-ca", .file = offsetof(struct plane_settings, registry_root_ca)},
        {"repository", "key-overlap-days", parse_key_overlap},
        {"proxy", "external", parse_external},
};

static int take_keys(struct keyfile *k, struct plane_settings *s, struct error *ret_error)
{
        for (size_t i = 0; i < ELEMENTS(keys); i++) {
                const struct keyfile_entry *e = keyfile_take(k, keys[i].section, keys[i].name);
                struct value v = {.file = k, .entry = e, .text = e ? e->value : NULL};
                int r = 0;

                if (e && keys[i].parse)
                        r = keys[i].parse(&v, s, ret_error);
                else if (e)
                        r = parse_file(&v, (char **)((char *)s + keys[i].file), ret_error);
                if (r < 0)
                        return r;
        }
        return keyfile_check_leftovers(k, ret_error);
}

static int take_options(const struct plane_options *o, struct plane_settings *s, struct error *ret_error)
{
        struct value domain = {.option = "--domain", .text = o->domain};
        struct value listen = {.option = "--listen", .text = o->listen};
        int r = o->domain ? parse_domain(&domain, s, ret_error) : 0;

        if (r == 0 && o->listen)
                r = parse_listen(&listen, s, ret_error);
        return r;
}

/* ---- all together ---- */

static bool fits_configuration(const char *path)
{
        for (const char *c = path; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f || strchr("\"'\\$;{}#*?[]", *c))
                        return false;
        return true;
}

/* Folders are written into other programs' configurations, where some bytes mean something even in quotes;
 * sockets' names have a limit (unix(7)). */
static int check_paths(const struct plane_settings *s, struct error *ret_error)
{
        _cleanup_free_ char *shown = str_excerpt(s->paths.state, strlen(s->paths.state), 200),
                            *longest = path_join(s->paths.run, "proxy/https.sock");
        const char *files[] = {s->registry_certificate, s->registry_key, s->registry_root_ca};

        if (!fits_configuration(s->paths.state))
                return error_set(ret_error, EINVAL, "config.path",
                        "%s: nginx and mosquitto cannot take a folder with quotes, controls or one "
                        "of \\ $ ; { } # * ? [ ] in its name; choose another --root",
                        shown);
        for (size_t i = 0; i < ELEMENTS(files); i++)
                if (files[i] && !fits_configuration(files[i]))
                        return error_set(ret_error, EINVAL, "config.path",
                                "%s: [registry]: nginx cannot take a file with quotes, controls or one of "
                                "\\ $ ; { } # * ? [ ] in its name; rename it",
                                s->config_path);
        if (strlen(longest) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
                return error_set(ret_error, EINVAL, "config.path",
                        "%s: longer than %zu bytes, the limit of a socket's name; choose a shorter --root",
                        longest, sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1);
        return 0;
}

static int check_ports(const struct plane_settings *s, struct error *ret_error)
{
        if (s->broker_url || (s->broker_port != s->https[0].port && s->broker_port != s->mixed[0].port))
                return 0;
        return error_set(ret_error, EINVAL, "config.value",
                "%s: port %u is both one of listen and the broker's on loopback ([broker] port, %d by "
                "default); change one",
                s->config_path, s->broker_port, DEFAULT_BROKER_PORT);
}

static int check_whole(const struct plane_settings *s, struct error *ret_error)
{
        int r;

        if (!s->domain)
                return error_set(ret_error, EINVAL, "config.missing-key",
                        "the domain is missing; give --domain grid.example, say, or write domain = in "
                        "[plane] of %s",
                        s->config_path);
        if (s->broker_url && (!s->broker_certificate || !s->broker_key || !s->broker_root_ca))
                return error_set(ret_error, EINVAL, "config.missing-key",
                        "%s: [broker] url needs certificate, key and root-ca beside it: what the control "
                        "plane shows to that broker, and whom it believes",
                        s->config_path);
        if (s->broker_nodes_host && !s->broker_url)
                return error_set(ret_error, EINVAL, "config.missing-key",
                        "%s: [broker] nodes is a listener of a broker elsewhere; name that broker by url",
                        s->config_path);
        if (!s->registry_certificate != !s->registry_key)
                return error_set(ret_error, EINVAL, "config.missing-key",
                        "%s: [registry] certificate and key belong together; write both or neither",
                        s->config_path);
        r = check_ports(s, ret_error);
        return r < 0 ? r : check_paths(s, ret_error);
}

/* What stands before any file was read. */
static void set_defaults(const struct plane_options *o, struct plane_settings *s)
{
        static const char *const listen[] = {DEFAULT_LISTEN};
        struct value v = {.option = "--listen", .text = listen[0]};

        paths_init(&s->paths, o->root, PROGRAM);
        s->config_path = o->config_path ? xstrdup(o->config_path) : path_join(s->paths.etc, PROGRAM ".conf");
        s->profile_name = xstrdup(DEFAULT_PROFILE_NAME);
        s->broker_port = DEFAULT_BROKER_PORT;
        s->key_overlap_days = DEFAULT_KEY_OVERLAP;
        s->api_socket = path_join(s->paths.run, "api.sock");
        s->admin_socket = path_join(s->paths.run, "admin.sock");
        s->broker_socket = path_join(s->paths.run, "broker.sock");
        s->registry_socket = path_join(s->paths.run, "registry.sock");
        parse_listen(&v, s, NULL);
}

static void cleanup_settings(struct plane_settings *s)
{
        plane_settings_done(s);
}

static int build(struct keyfile *k, const struct plane_options *o, struct plane_settings *s,
        struct plane_settings *ret, struct error *ret_error)
{
        int r = k ? take_keys(k, s, ret_error) : 0;

        if (r == 0)
                r = take_options(o, s, ret_error);
        if (r == 0)
                r = check_whole(s, ret_error);
        if (r < 0)
                return r;
        s->repo_host = xasprintf("repo.%s", s->domain);
        s->control_host = xasprintf("control.%s", s->domain);
        *ret = *s;
        *s = (struct plane_settings){0};
        return 0;
}

int plane_settings_parse(const struct plane_options *o, const char *name, const char *data, size_t length,
        struct plane_settings *ret, struct error *ret_error)
{
        _cleanup_(cleanup_settings) struct plane_settings s = {0};
        _cleanup_(keyfile_free_p) struct keyfile *k = NULL;
        int r;

        set_defaults(o, &s);
        r = keyfile_parse(name, data, length, &k, ret_error);
        return r < 0 ? r : build(k, o, &s, ret, ret_error);
}

int plane_settings_load(const struct plane_options *o, struct plane_settings *ret, struct error *ret_error)
{
        _cleanup_(cleanup_settings) struct plane_settings s = {0};
        _cleanup_(keyfile_free_p) struct keyfile *k = NULL;
        int r;

        set_defaults(o, &s);
        r = keyfile_load(s.config_path, &k, ret_error);
        if (r == -ENOENT && !o->config_path)
                r = 0;
        return r < 0 ? r : build(k, o, &s, ret, ret_error);
}

static void add_list(struct text *t, const char *key, const struct strv *list)
{
        _cleanup_free_ char *joined = strv_join(list, ";");

        if (list->count > 0)
                text_addf(t, "%s = %s\n", key, joined);
}

char *plane_settings_profile(const struct plane_settings *s)
{
        struct text t = {0};

        text_addf(&t, "[profile]\nname = %s\n", s->profile_name);
        add_list(&t, "ranges", &s->ranges);
        text_addf(&t,
                "root-ca = grid-root.pem\n\n"
                "[service repo]\nhost = %s\nport = %u\ntls = server\ncarries = updates;images;logs\n"
                "probe = /.well-known/gridnode\npayload = /.well-known/gridnode/payload?bytes=262144\n\n"
                "[service control]\nhost = %s\nport = %u\ntls = mutual\ncarries = control;config\n"
                "probe = /.well-known/gridnode\n",
                s->repo_host, s->https[0].port, s->control_host, s->mixed[0].port);
        if (s->repo_addresses.count + s->control_addresses.count > 0)
                text_add(&t, "\n[addresses]\n");
        add_list(&t, "repo", &s->repo_addresses);
        add_list(&t, "control", &s->control_addresses);
        return text_take(&t);
}
