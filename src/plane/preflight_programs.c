/* The programs that gridplane starts: there, new enough, with the modules that are used. */
#include "plane/preflight_internal.h"
#include "plane/services_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define TIMEOUT_MS    5000
#define MAX_SAID      16384
#define MAX_ARGUMENTS 3

static const struct program {
        const char *name, *option, *package;
        unsigned least[3];
        const char *why; /* that version */
} programs[] = {
        {"nginx", "-V", "nginx-light and libnginx-mod-stream", {1, 21, 1},
                "its refusal of smuggled requests"},
        {"mosquitto", "-h", "mosquitto", {2, 0, 0}, "Unix sockets and its safe defaults"},
        {"docker-registry", "--version", "docker-registry", {2, 7, 0}, "uploads that go on"},
};

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

bool preflight_find_version(const char *said, unsigned ret[3])
{
        for (const char *c = said; *c; c++) {
                unsigned v[3];

                if (is_digit(*c) && (c == said || (!is_digit(c[-1]) && c[-1] != '.')) &&
                        sscanf(c, "%9u.%9u.%9u", &v[0], &v[1], &v[2]) == 3) {
                        memcpy(ret, v, sizeof(v));
                        return true;
                }
        }
        return false;
}

static bool is_older(const unsigned a[3], const unsigned b[3])
{
        for (size_t i = 0; i < 3; i++)
                if (a[i] != b[i])
                        return a[i] < b[i];
        return false;
}

/* What a program says to one option; its exit status says nothing (mosquitto -h gives 3). 0, or -errno when
 * it did not come to its end. */
static int ask(const char *path, const char *name, const char *option, char **ret, struct error *ret_error)
{
        _cleanup_close_ int fd = memfd_create(name, MFD_CLOEXEC);
        const char *argv[MAX_ARGUMENTS] = {name, option, NULL};
        struct service_command c = {.program = path, .argv = argv, .folder = "/", .output_fd = fd};
        int r;

        if (fd < 0)
                return error_set(ret_error, errno, "program.version",
                        "%s cannot be asked for its version: %s", path, strerror(errno));
        r = service_run(&c, TIMEOUT_MS, ret_error);
        if (r < 0 && r != -EBADMSG)
                return r;
        *ret = xcalloc(1, MAX_SAID + 1);
        if (pread(fd, *ret, MAX_SAID, 0) < 0)
                (*ret)[0] = '\0';
        return 0;
}

static void check_modules(const char *said, struct findings *f)
{
        static const char *const modules[] = {"http_ssl_module", "http_v2_module", "http_realip_module",
                "http_auth_request_module", "stream_ssl_preread_module"};

        for (size_t i = 0; i < ELEMENTS(modules); i++)
                if (!strstr(said, modules[i]))
                        finding_add(f, true, "program.module",
                                "nginx was built without %s; install one with it (Debian: nginx-light and "
                                "libnginx-mod-stream)",
                                modules[i]);
        if (strstr(said, "--with-stream=dynamic") && !services_find_stream_module())
                finding_add(f, true, "program.module",
                        "nginx's stream module is not installed; install it (Debian: libnginx-mod-stream)");
}

static void check_program(const struct program *p, struct findings *f)
{
        _cleanup_free_ char *path = services_find_program(p->name), *said = NULL;
        struct error e;
        unsigned v[3];

        if (!path) {
                finding_add(f, true, "program.missing",
                        "%s is not installed; install it (Debian: %s), or name an outside one in "
                        "gridplane.conf",
                        p->name, p->package);
                return;
        }
        if (ask(path, p->name, p->option, &said, &e) < 0)
                finding_add(f, true, "program.version", "%s does not tell its version (%s): %s", path,
                        p->option, e.text);
        else if (!preflight_find_version(said, v))
                finding_add(f, true, "program.version",
                        "%s does not tell its version (%s); does it run at all?", path, p->option);
        else if (is_older(v, p->least))
                finding_add(f, true, "program.version",
                        "%s is version %u.%u.%u, and %u.%u.%u is needed for %s; install a newer one", path,
                        v[0], v[1], v[2], p->least[0], p->least[1], p->least[2], p->why);
        else if (strcmp(p->name, "nginx") == 0)
                check_modules(said, f);
}

void preflight_programs(const struct plane_settings *s, struct findings *f)
{
        const bool is_outside[] = {s->proxy_is_external, s->broker_url != NULL, s->registry_url != NULL};

        for (size_t i = 0; i < ELEMENTS(programs); i++)
                if (!is_outside[i])
                        check_program(&programs[i], f);
}
