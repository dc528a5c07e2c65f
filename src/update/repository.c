#include "update/repository.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"
#include "net/profile.h"
#include "net/x509.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FILE_MAXIMUM ((size_t)1 << 20)
#define JOB          "updates"

void repository_done(struct repository *r)
{
        free(r->keyring);
        free(r->ways);
        free(r->budget);
        free(r->transfers);
        free(r->socket);
        free(r->certificate);
        free(r->root);
        *r = (struct repository){0};
}

/* A file below that folder, by links that stay below it, too (the identity's are such): the folder is not
 * root's own, and what it links to elsewhere is not to be read by root. openat2(2). */
static int open_beneath(int folder, const char *name)
{
        const struct open_how how = {.flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};

        return (int)syscall(SYS_openat2, folder, name, &how, sizeof how);
}

/* A plain file of at most FILE_MAXIMUM bytes; it may be changed while it is read, and then it does not parse.
 */
static char *read_plain(const char *folder, const char *name, size_t *ret_length)
{
        _cleanup_close_ int at = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fd = -1;
        _cleanup_free_ char *data = NULL;
        struct stat st;
        size_t length = 0;
        ssize_t n;

        if (at >= 0)
                fd = open_beneath(at, name);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)FILE_MAXIMUM)
                return NULL;
        data = xcalloc(1, (size_t)st.st_size + 1);
        while (length < (size_t)st.st_size && (n = read(fd, data + length, (size_t)st.st_size - length)) > 0)
                length += (size_t)n;
        *ret_length = length;
        return TAKE_PTR(data);
}

static bool is_profile_name(const char *s)
{
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";

        return s && *s && strlen(s) < 128 && strspn(s, allowed) == strlen(s);
}

static int read_profile_name(const char *state, char **ret, struct error *ret_error)
{
        json_auto_t *object = NULL;
        size_t length = 0;
        _cleanup_free_ char *text = read_plain(state, "identity.json", &length);
        const char *name;

        if (!text)
                return error_set(ret_error, ENOENT, "update.not-registered",
                        "this node is not registered (%s/identity.json): there is no repository to update it "
                        "from; register it with 'gridnode register'",
                        state);
        if (json_parse(text, length, FILE_MAXIMUM, "identity", &object, NULL) == 0) {
                name = json_string_value(json_object_get(object, "profile"));
                if (is_profile_name(name)) {
                        *ret = xstrdup(name);
                        return 0;
                }
        }
        return error_set(ret_error, EINVAL, "update.profile",
                "%s/identity.json names no profile; register the node again with 'gridnode register'", state);
}

static int take_service(
        const struct profile *p, const char *where, struct repository *r, struct error *ret_error)
{
        for (size_t i = 0; i < p->service_count; i++) {
                const struct profile_service *s = &p->services[i];

                if (!strv_contains(&s->carries, JOB) || !str_is_host_name(s->host) ||
                        strlen(s->host) >= sizeof r->host || strlen(s->name) >= sizeof r->service)
                        continue;
                str_copy(r->host, sizeof r->host, s->host);
                str_copy(r->service, sizeof r->service, s->name);
                r->port = s->port;
                return 0;
        }
        return error_set(ret_error, EINVAL, "update.profile",
                "%s names no service with a host that carries updates", where);
}

static int read_profile(const char *state, const char *name, struct repository *r, struct error *ret_error)
{
        _cleanup_free_ char *file = xasprintf("%s.profile", name), *path = path_join(state, file);
        struct profile *profile = NULL;
        size_t length = 0;
        _cleanup_free_ char *text = read_plain(state, file, &length);
        int result;

        if (!text || profile_parse(path, text, length, &profile, NULL) < 0)
                return error_set(ret_error, EINVAL, "update.profile",
                        "%s cannot be read as a profile; 'gridnode config check' says why", path);
        result = take_service(profile, path, r, ret_error);
        profile_free(profile);
        return result;
}

int repository_load(const char *root, struct repository *ret, struct error *ret_error)
{
        _cleanup_(repository_done) struct repository r = {0};
        _cleanup_free_ char *name = NULL;
        struct paths paths;
        int result;

        paths_init(&paths, root, "gridnode");
        r.keyring = path_join(paths.etc, "repo-keyring.gpg");
        r.ways = path_join(paths.run, "ways.json");
        r.budget = path_join(paths.run, "budget");
        r.transfers = path_join(paths.run, "transfers");
        r.socket = path_join(paths.run, "control.sock");
        r.certificate = path_join(paths.state, "node.crt");
        r.root = xstrdup(root);
        result = read_profile_name(paths.state, &name, ret_error);
        if (result == 0)
                result = read_profile(paths.state, name, &r, ret_error);
        paths_done(&paths);
        if (result < 0)
                return result;
        *ret = r;
        r = (struct repository){0};
        return 0;
}

int64_t repository_certificate_begin(const struct repository *r)
{
        _cleanup_free_ char *folder = xstrdup(r->certificate), *text = NULL;
        char *slash = strrchr(folder, '/');
        _cleanup_(X509_free_p) X509 *x = NULL;
        size_t length = 0;

        *slash = '\0';
        text = read_plain(folder, slash + 1, &length);
        x = text ? x509_from_pem(text, length) : NULL;
        return x ? x509_time_to_unix(X509_get0_notBefore(x)) : 0;
}
