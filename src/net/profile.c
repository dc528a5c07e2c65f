#include "net/profile.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/keyfile.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SUFFIX             ".profile"
#define MAX_WORD_BYTES     31 /* a service's name and its jobs travel in fixed fields of measurements */
#define MAX_TARGET_BYTES   255
#define MAX_SUBJECT_BYTES  1024
#define MAX_ROOT_BYTES     ((size_t)1 << 20)
#define MAX_SHOWN_PROFILES 16

static const char *const tls_words[] = {
        [SERVICE_TLS_SERVER] = "server",
        [SERVICE_TLS_MUTUAL] = "mutual",
        [SERVICE_TLS_NONE] = "none",
};

const char *service_tls_to_string(enum service_tls t)
{
        return (unsigned)t < ELEMENTS(tls_words) ? tls_words[t] : "?";
}

int service_tls_from_string(const char *s, enum service_tls *ret)
{
        for (size_t i = 0; i < ELEMENTS(tls_words); i++)
                if (str_equal(s, tls_words[i])) {
                        *ret = (enum service_tls)i;
                        return 0;
                }
        return -EINVAL;
}

struct profile *profile_free(struct profile *p)
{
        if (!p)
                return NULL;
        for (size_t i = 0; i < p->service_count; i++) {
                struct profile_service *s = &p->services[i];

                free(s->name);
                free(s->host);
                strv_done(&s->carries);
                free(s->probe_path);
                free(s->payload_path);
                free(s->addresses);
        }
        free(p->services);
        free(p->ranges);
        free(p->root_ca_path);
        free(p->root_subject);
        free(p->name);
        free(p->path);
        free(p);
        return NULL;
}

DEFINE_CLEANUP(struct profile *, profile_free);
DEFINE_CLEANUP(struct keyfile *, keyfile_free);

static void replace(char **member, char *value)
{
        free(*member);
        *member = value;
}

/* ---- values ---- */

/* One value's parser: `item` is the struct profile or struct profile_service that the key belongs to. */
typedef int (*value_parser)(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error);

/* One line a key. */
struct key {
        const char *name;
        bool required;
        value_parser parse;
};

/* What can be a service's, job's or profile's name: it is typed, and shown in tables. */
static bool is_word(const char *s, size_t maximum_bytes)
{
        size_t length = strlen(s);

        if (length == 0 || length > maximum_bytes || s[0] == '.' || s[0] == '-')
                return false;
        for (size_t i = 0; i < length; i++)
                if (!isascii((unsigned char)s[i]) || (!isalnum((unsigned char)s[i]) && !strchr("._-", s[i])))
                        return false;
        return true;
}

static int parse_name(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct profile *p = item;

        if (!is_word(e->value, MAX_TARGET_BYTES))
                return keyfile_value_error(
                        k, e, ret_error, "not a profile's name; use letters, digits, dot, _ and - in it");
        replace(&p->name, xstrdup(e->value));
        return 0;
}

static int parse_ranges(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};
        struct profile *p = item;

        strv_split(&items, e->value, ';');
        if (items.count == 0)
                return keyfile_value_error(
                        k, e, ret_error, "no range; write 198.51.100.16/28, say, separated by ;");
        if (items.count > PROFILE_MAX_RANGES)
                return keyfile_value_error(k, e, ret_error, "%zu ranges; at most %d are taken, so join them",
                        items.count, PROFILE_MAX_RANGES);
        p->ranges = xcalloc(items.count, sizeof(*p->ranges));
        for (size_t i = 0; i < items.count; i++) {
                _cleanup_free_ char *item_shown = NULL;

                if (cidr_parse(items.items[i], &p->ranges[i]) == 0)
                        continue;
                item_shown = str_printable(items.items[i], strlen(items.items[i]), INET_ADDR_TEXT);
                return keyfile_value_error(k, e, ret_error,
                        "item %zu, %s, is not a range; write 198.51.100.16/28, say", i + 1, item_shown);
        }
        p->range_count = items.count;
        return 0;
}

static int parse_root_ca(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct profile *p = item;

        if (!*e->value)
                return keyfile_value_error(k, e, ret_error, "a PEM file's path is missing");
        replace(&p->root_ca_path, file_beside(keyfile_path(k), e->value));
        return 0;
}

static int parse_root_subject(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        _cleanup_free_ char *printable = str_printable(e->value, strlen(e->value), MAX_SUBJECT_BYTES);
        const char *equals = strchr(e->value, '=');
        struct profile *p = item;

        if (!equals || equals == e->value || !equals[1] || !str_equal(printable, e->value))
                return keyfile_value_error(k, e, ret_error,
                        "not a certificate's subject; write O = Example Inc, CN = Example Root CA, say");
        replace(&p->root_subject, xstrdup(e->value));
        return 0;
}

static int parse_host(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct profile_service *s = item;
        size_t length = strlen(e->value);
        struct inet_addr a;
        char *host;

        if (inet_addr_parse(e->value, &a) == 0)
                return keyfile_value_error(k, e, ret_error,
                        "an address, and the certificate is checked against a name; give the name here and "
                        "the "
                        "address in [addresses]");
        if (!str_is_host_name(e->value))
                return keyfile_value_error(k, e, ret_error, "not a host name; write repo.grid.example, say");
        host = xstrndup(e->value, e->value[length - 1] == '.' ? length - 1 : length);
        for (char *c = host; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        replace(&s->host, host);
        return 0;
}

static int parse_port(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct profile_service *s = item;
        unsigned long port;

        if (str_to_ulong(e->value, 1, UINT16_MAX, &port) < 0)
                return keyfile_value_error(k, e, ret_error, "not a TCP port; write a number from 1 to 65535");
        s->port = (uint16_t)port;
        return 0;
}

static int parse_tls(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        struct profile_service *s = item;

        if (service_tls_from_string(e->value, &s->tls) < 0)
                return keyfile_value_error(k, e, ret_error, "unknown; write server, mutual or none");
        return 0;
}

static int parse_carries(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};
        struct profile_service *s = item;

        strv_split(&items, e->value, ';');
        for (size_t i = 0; i < items.count; i++) {
                if (!is_word(items.items[i], MAX_WORD_BYTES))
                        return keyfile_value_error(k, e, ret_error,
                                "item %zu is not a job's name; use at most %d letters, digits, dot, _ and -",
                                i + 1, MAX_WORD_BYTES);
                strv_add_unique(&s->carries, items.items[i]);
        }
        return 0;
}

/* A request's target as it goes on the wire (RFC 9112, 3.2.1): the origin form, already escaped. */
static int parse_target(
        const struct keyfile *k, const struct keyfile_entry *e, char **member, struct error *ret_error)
{
        bool fits = e->value[0] == '/' && strlen(e->value) <= MAX_TARGET_BYTES;

        for (const char *c = e->value; *c && fits; c++)
                fits = *c > ' ' && *c <= '~' && *c != '#';
        if (!fits)
                return keyfile_value_error(k, e, ret_error,
                        "not a request's path; begin it with /, at most %d bytes, others than ASCII as %%NN",
                        MAX_TARGET_BYTES);
        replace(member, xstrdup(e->value));
        return 0;
}

static int parse_probe(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        return parse_target(k, e, &((struct profile_service *)item)->probe_path, ret_error);
}

static int parse_payload(
        const struct keyfile *k, const struct keyfile_entry *e, void *item, struct error *ret_error)
{
        return parse_target(k, e, &((struct profile_service *)item)->payload_path, ret_error);
}

/* ---- sections ---- */

static const struct key profile_keys[] = {
        {"name", false, parse_name},
        {"ranges", false, parse_ranges},
        {"root-ca", false, parse_root_ca},
        {"root-subject", false, parse_root_subject},
};

static const struct key service_keys[] = {
        {"host", true, parse_host},
        {"port", true, parse_port},
        {"tls", true, parse_tls},
        {"carries", false, parse_carries},
        {"probe", false, parse_probe},
        {"payload", false, parse_payload},
};

static int parse_keys(struct keyfile *k, size_t section_index, const struct key *keys, size_t count,
        void *item, struct error *ret_error)
{
        const char *section = keyfile_section(k, section_index, NULL), *missing = NULL;

        for (size_t i = 0; i < count; i++) {
                const struct keyfile_entry *e = keyfile_take(k, section, keys[i].name);
                int r = e ? keys[i].parse(k, e, item, ret_error) : 0;

                if (r < 0)
                        return r;
                if (!e && keys[i].required && !missing)
                        missing = keys[i].name;
        }
        if (missing)
                return keyfile_section_error(k, section_index, "config.missing-key", ret_error,
                        "the key %s is missing; see gridnode-profile(5)", missing);
        return 0;
}

static struct profile_service *find_service(const struct profile *p, const char *name)
{
        for (size_t i = 0; i < p->service_count; i++)
                if (str_equal(p->services[i].name, name))
                        return &p->services[i];
        return NULL;
}

static int parse_service(struct keyfile *k, size_t index, struct profile *p, struct error *ret_error)
{
        const char *name = keyfile_section(k, index, NULL) + strlen("service");
        struct profile_service *s;

        name += strspn(name, " \t");
        if (!is_word(name, MAX_WORD_BYTES))
                return keyfile_section_error(k, index, "config.value", ret_error,
                        "not a service's name; write [service repo], at most %d letters, digits, dot, _ and "
                        "-",
                        MAX_WORD_BYTES);
        if (find_service(p, name))
                return keyfile_section_error(k, index, "config.duplicate", ret_error,
                        "this service is given twice; put its keys together");
        if (p->service_count == PROFILE_MAX_SERVICES)
                return keyfile_section_error(k, index, "config.too-large", ret_error,
                        "more than %d services; leave some out", PROFILE_MAX_SERVICES);
        s = &p->services[p->service_count++];
        s->name = xstrdup(name);
        return parse_keys(k, index, service_keys, ELEMENTS(service_keys), s, ret_error);
}

static int parse_addresses_of(const struct keyfile *k, const struct keyfile_entry *e,
        struct profile_service *s, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv items = {0};

        strv_split(&items, e->value, ';');
        if (items.count == 0)
                return keyfile_value_error(k, e, ret_error, "no address; write them separated by ;");
        if (items.count > PROFILE_MAX_ADDRESSES)
                return keyfile_value_error(k, e, ret_error, "%zu addresses; at most %d are taken",
                        items.count, PROFILE_MAX_ADDRESSES);
        s->addresses = xcalloc(items.count, sizeof(*s->addresses));
        for (size_t i = 0; i < items.count; i++) {
                struct inet_addr a;
                bool known = false;

                if (inet_addr_parse(items.items[i], &a) < 0)
                        return keyfile_value_error(k, e, ret_error,
                                "item %zu is not an address; write 198.51.100.20, say", i + 1);
                for (size_t j = 0; j < s->address_count && !known; j++)
                        known = inet_addr_equal(&s->addresses[j], &a);
                if (!known)
                        s->addresses[s->address_count++] = a;
        }
        return 0;
}

static int parse_addresses(struct keyfile *k, struct profile *p, struct error *ret_error)
{
        const struct keyfile_entry *e;

        while ((e = keyfile_take_next(k, "addresses"))) {
                struct profile_service *s = find_service(p, e->key);
                int r;

                if (!s)
                        return keyfile_value_error(k, e, ret_error,
                                "there is no such service; name one that has a [service] section");
                r = parse_addresses_of(k, e, s, ret_error);
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool is_service_section(const char *section)
{
        return str_equal(section, "service") || str_starts_with(section, "service ") ||
               str_starts_with(section, "service\t");
}

static int parse_sections(
        struct keyfile *k, struct profile *p, size_t *ret_profile_index, struct error *ret_error)
{
        size_t profile_index = SIZE_MAX;
        const char *section;
        int r = 0;

        p->services = xcalloc(PROFILE_MAX_SERVICES, sizeof(*p->services));
        for (size_t i = 0; r == 0 && (section = keyfile_section(k, i, NULL)); i++) {
                if (str_equal(section, "profile")) {
                        profile_index = i;
                        r = parse_keys(k, i, profile_keys, ELEMENTS(profile_keys), p, ret_error);
                } else if (is_service_section(section)) {
                        r = parse_service(k, i, p, ret_error);
                } else if (!str_equal(section, "addresses")) {
                        r = keyfile_section_error(k, i, "config.unknown-section", ret_error,
                                "unknown section; a profile has [profile], [service NAME] and [addresses]");
                }
        }
        if (r < 0)
                return r;
        if (profile_index == SIZE_MAX)
                return error_set(ret_error, EINVAL, "config.missing-section",
                        "%s: there is no section [profile]; see gridnode-profile(5)", keyfile_path(k));
        if (p->service_count == 0)
                return error_set(ret_error, EINVAL, "config.missing-section",
                        "%s: there is no section [service NAME]; name what the node must reach",
                        keyfile_path(k));
        *ret_profile_index = profile_index;
        return 0;
}

/* ---- the whole ---- */

static int check_root(
        const struct keyfile *k, size_t profile_index, const struct profile *p, struct error *ret_error)
{
        bool needed = false;

        if (p->root_ca_path && p->root_subject)
                return keyfile_section_error(k, profile_index, "config.value", ret_error,
                        "both root-ca and root-subject; keep root-ca, which proves more");
        for (size_t i = 0; i < p->service_count; i++)
                needed = needed || p->services[i].tls != SERVICE_TLS_NONE;
        if (needed && !p->root_ca_path && !p->root_subject)
                return keyfile_section_error(k, profile_index, "config.missing-key", ret_error,
                        "neither root-ca nor root-subject; without one no certificate can be judged");
        return 0;
}

static int check_root_file(struct keyfile *k, struct profile *p, struct error *ret_error)
{
        const struct keyfile_entry *e = keyfile_take(k, "profile", "root-ca");
        _cleanup_free_ char *data = NULL, *folder = NULL;
        struct error why;

        if (!e || !p->root_ca_path)
                return 0;
        if (file_read(p->root_ca_path, MAX_ROOT_BYTES, &data, NULL, &why) < 0)
                return keyfile_value_error(
                        k, e, ret_error, "%s; put the root certificate there as PEM", why.text);
        if (p->root_ca_path[0] == '/')
                return 0;
        folder = getcwd(NULL, 0);
        if (!folder)
                return keyfile_value_error(
                        k, e, ret_error, "no current folder: %s; write an absolute path", strerror(errno));
        replace(&p->root_ca_path, xasprintf("%s/%s", folder, p->root_ca_path));
        return 0;
}

/* "/etc/gridnode/profiles/grid.profile" is called grid unless it says otherwise. */
static char *name_of_path(const char *path)
{
        const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
        size_t length = strlen(base);

        if (str_ends_with(base, SUFFIX) && length > strlen(SUFFIX))
                length -= strlen(SUFFIX);
        return str_printable(base, length, length);
}

static int parse_profile(struct keyfile *k, bool check_files, struct profile **ret, struct error *ret_error)
{
        _cleanup_(profile_free_p) struct profile *p = xcalloc(1, sizeof(*p));
        size_t profile_index = 0;
        int r;

        p->path = xstrdup(keyfile_path(k));
        r = parse_sections(k, p, &profile_index, ret_error);
        if (r == 0)
                r = parse_addresses(k, p, ret_error);
        if (r == 0)
                r = keyfile_check_leftovers(k, ret_error);
        if (r == 0)
                r = check_root(k, profile_index, p, ret_error);
        if (r == 0 && check_files)
                r = check_root_file(k, p, ret_error);
        if (r < 0)
                return r;
        if (!p->name)
                p->name = name_of_path(p->path);
        *ret = TAKE_PTR(p);
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

int profile_parse(
        const char *path, const char *data, size_t length, struct profile **ret, struct error *ret_error)
{
        _cleanup_(keyfile_free_p) struct keyfile *k = NULL;
        int r = keyfile_parse(path, data, length, &k, ret_error);

        return r < 0 ? content_error(r, ret_error) : parse_profile(k, false, ret, ret_error);
}

int profile_load(const char *path, struct profile **ret, struct error *ret_error)
{
        _cleanup_(keyfile_free_p) struct keyfile *k = NULL;
        int r = keyfile_load(path, &k, ret_error);

        return r < 0 ? content_error(r, ret_error) : parse_profile(k, true, ret, ret_error);
}

bool profile_ranges_contain(const struct profile *p, const struct inet_addr *a)
{
        for (size_t i = 0; i < p->range_count; i++)
                if (cidr_contains(&p->ranges[i], a))
                        return true;
        return false;
}

/* ---- finding ---- */

static int compare_strings(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

void profile_list(const char *const *directories, struct strv *ret)
{
        for (; *directories; directories++) {
                DIR *folder = opendir(*directories);
                struct dirent *entry;

                while (folder && (entry = readdir(folder))) {
                        _cleanup_free_ char *name = NULL;
                        size_t length = strlen(entry->d_name);

                        if (!str_ends_with(entry->d_name, SUFFIX))
                                continue;
                        name = xstrndup(entry->d_name, length - strlen(SUFFIX));
                        if (is_word(name, MAX_TARGET_BYTES))
                                strv_add_unique(ret, name);
                }
                if (folder)
                        closedir(folder);
        }
        if (ret->count > 1)
                qsort(ret->items, ret->count, sizeof(*ret->items), compare_strings);
}

static int not_found(const char *name, const char *const *directories, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv known = {0}, folders = {0};
        _cleanup_free_ char *shown = NULL, *known_text = NULL, *folder_text = NULL;

        profile_list(directories, &known);
        while (known.count > MAX_SHOWN_PROFILES)
                free(known.items[--known.count]);
        while (*directories)
                strv_add(&folders, *directories++);
        shown = str_printable(name, strlen(name), MAX_TARGET_BYTES);
        known_text = strv_join(&known, ", ");
        folder_text = strv_join(&folders, ", ");
        return error_set(ret_error, ENOENT, "config.no-profile",
                "no profile %s: there is no %s%s in %s; there are: %s", shown, shown, SUFFIX,
                *folder_text ? folder_text : "no folder", *known_text ? known_text : "none");
}

int profile_find(const char *name, const char *const *directories, char **ret_path, struct error *ret_error)
{
        if (strchr(name, '/') || str_ends_with(name, SUFFIX)) {
                *ret_path = xstrdup(name);
                return 0;
        }
        for (const char *const *d = directories; *d && *name; d++) {
                char *path = xasprintf("%s/%s" SUFFIX, *d, name);

                /* One that is there and cannot be read is found too: to say so is better than to pass it
                 * over. */
                if (access(path, F_OK) == 0) {
                        *ret_path = path;
                        return 0;
                }
                free(path);
        }
        return not_found(name, directories, ret_error);
}
