/* The files of the servers: folders, configurations, certificates, logs. */
#include "plane/services_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/random.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define SERVER_CERTIFICATE "gridplane"
#define BROKER_CERTIFICATE "broker"
#define PAYLOAD_BYTES      262144
#define MAX_FILES          1000000 /* more would only cost nginx memory */

char *service_folder(const struct plane_settings *s, const char *name)
{
        return xasprintf("%s/services/%s", s->paths.state, name);
}

char *service_file(const struct plane_settings *s, const char *name, const char *file)
{
        return xasprintf("%s/services/%s/%s", s->paths.state, name, file);
}

char *service_log(const struct plane_settings *s, const char *name)
{
        return xasprintf("%s/log/%s.log", s->paths.state, name);
}

static int save(const struct plane_settings *s, const char *name, const char *file, char *text,
        struct error *ret_error)
{
        _cleanup_free_ char *path = service_file(s, name, file), *content = text;

        return file_save(path, content, strlen(content), 0600, ret_error);
}

/* What a diagnosis fetches to see whether bulk data passes; random, so that nothing on the way packs it. */
static int make_payload(const struct plane_settings *s, struct error *ret_error)
{
        _cleanup_free_ char *path = service_file(s, "nginx", "payload"), *data = NULL;
        struct stat st;

        if (stat(path, &st) == 0 && st.st_size == PAYLOAD_BYTES)
                return 0;
        data = xmalloc(PAYLOAD_BYTES);
        random_bytes(data, PAYLOAD_BYTES);
        return file_save(path, data, PAYLOAD_BYTES, 0600, ret_error);
}

static int take_registry_secret(const struct plane_settings *s, char **ret, struct error *ret_error)
{
        _cleanup_free_ char *path = service_file(s, "registry", "secret");
        char secret[RANDOM_SECRET_TEXT];
        size_t length;

        if (file_read(path, sizeof(secret), ret, &length, NULL) == 0 && length > 0 &&
                strspn(*ret, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-") == length)
                return 0;
        random_secret("", secret);
        *ret = xstrdup(secret);
        return file_save(path, secret, strlen(secret), 0600, ret_error);
}

const char *services_find_stream_module(void)
{
        static const char *const places[] = {"/usr/lib/nginx/modules/ngx_stream_module.so",
                "/usr/lib64/nginx/modules/ngx_stream_module.so",
                "/usr/share/nginx/modules/ngx_stream_module.so"};

        for (size_t i = 0; i < ELEMENTS(places); i++)
                if (access(places[i], R_OK) == 0)
                        return places[i];
        return NULL;
}

/* An outside broker must show nodes a certificate of our root for the name that they ask for: it is kept in
 * order beside our servers' own, for its operator to take. */
static int keep_broker_certificate(const struct plane_settings *s, struct ca *ca, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv hosts = {0};
        _cleanup_free_ char *certificate = NULL, *key = NULL;
        bool changed;

        strv_add(&hosts, s->control_host);
        strv_add_unique(&hosts, s->broker_host);
        if (s->broker_nodes_host)
                strv_add_unique(&hosts, s->broker_nodes_host);
        return ca_server_certificate(
                ca, BROKER_CERTIFICATE, &hosts, (int64_t)time(NULL), &changed, &certificate, &key, ret_error);
}

int services_certificate(const struct plane_settings *s, struct ca *ca, bool *ret_changed,
        char **ret_certificate, char **ret_key, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv hosts = {0};

        if (s->broker_url) {
                int r = keep_broker_certificate(s, ca, ret_error);

                if (r < 0)
                        return r;
        }
        strv_add(&hosts, s->repo_host);
        strv_add(&hosts, s->control_host);
        return ca_server_certificate(ca, SERVER_CERTIFICATE, &hosts, (int64_t)time(NULL), ret_changed,
                ret_certificate, ret_key, ret_error);
}

int services_write(const struct plane_settings *p, struct ca *ca, struct error *ret_error)
{
        _cleanup_free_ char *certificate = NULL, *key = NULL, *secret = NULL;
        struct services_facts f = {.stream_module = services_find_stream_module(),
                .root = ca_root_path(ca),
                .bundle = ca_bundle_path(ca),
                .crl = ca_crl_path(ca),
                .is_root = geteuid() == 0,
                .has_ipv6 = access("/proc/net/if_inet6", F_OK) == 0};
        const struct passwd *user = getpwuid(geteuid());
        const struct group *group = getgrgid(getegid());
        struct rlimit files = {0};
        bool changed;
        int r;

        f.user = user && group ? user->pw_name : NULL;
        f.group = group ? group->gr_name : NULL;
        getrlimit(RLIMIT_NOFILE, &files);
        f.files = files.rlim_max > MAX_FILES ? MAX_FILES : (unsigned)files.rlim_max;
        r = services_certificate(p, ca, &changed, &certificate, &key, ret_error);
        if (r == 0)
                r = take_registry_secret(p, &secret, ret_error);
        if (r == 0)
                r = make_payload(p, ret_error);
        f.certificate = certificate;
        f.key = key;
        f.registry_secret = secret;
        if (r == 0)
                r = save(p, "nginx", "nginx.conf", services_nginx_configuration(p, &f), ret_error);
        if (r == 0)
                r = save(p, "splitter", "nginx.conf", services_splitter_configuration(p, &f), ret_error);
        if (r == 0)
                r = save(p, "mosquitto", "acl", services_mosquitto_acl(), ret_error);
        if (r == 0)
                r = save(
                        p, "mosquitto", "mosquitto.conf", services_mosquitto_configuration(p, &f), ret_error);
        if (r == 0)
                r = save(p, "registry", "config.yml", services_registry_configuration(p, &f), ret_error);
        return r;
}

int services_prepare(const struct plane_settings *p, struct error *ret_error)
{
        static const char *const names[] = {"services", "services/nginx", "services/splitter",
                "services/mosquitto", "services/registry", "registry", "log"};
        /* nginx lets everybody connect to its sockets, which believe what they are told of the client's
         * address. */
        _cleanup_free_ char *proxy = path_join(p->paths.run, "proxy");
        int r = folder_prepare(p->paths.state, 0700, ret_error);

        if (r == 0)
                r = folder_prepare(p->paths.run, 0755, ret_error);
        if (r == 0)
                r = folder_prepare(proxy, 0700, ret_error);
        for (size_t i = 0; i < ELEMENTS(names) && r == 0; i++) {
                _cleanup_free_ char *path = path_join(p->paths.state, names[i]);

                r = folder_prepare(path, 0700, ret_error);
        }
        return r;
}

void service_cut_log(const char *log)
{
        _cleanup_free_ char *old = xasprintf("%s.1", log);
        _cleanup_close_ int from = -1, to = -1;
        struct stat st;

        if (stat(log, &st) < 0 || st.st_size < SERVICE_LOG_BYTES)
                return;
        from = open(log, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
        to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
        if (from >= 0 && to >= 0)
                copy_file_range(from, NULL, to, NULL, (size_t)st.st_size, 0);
        if (from >= 0 && ftruncate(from, 0) < 0)
                return;
}
