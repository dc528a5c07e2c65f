/* docker-registry: behind nginx, on a Unix socket, since it believes whoever reaches it. */
#include "plane/services_internal.h"

#include "base/cleanup.h"
#include "base/text.h"

char *services_registry_configuration(const struct plane_settings *s, const struct services_facts *f)
{
        _cleanup_free_ char *data = path_join(s->paths.state, "registry");
        struct text t = {0};

        /* Paths have no quote and no backslash (plane/settings.c), so that JSON's quotes, which are YAML's,
         * hold them. */
        text_addf(&t,
                "# Written by gridplane at each start.\n"
                "version: 0.1\n"
                "log:\n  level: warn\n  accesslog: {disabled: true}\n"
                "storage:\n  filesystem: {rootdirectory: \"%s\", maxthreads: 100}\n"
                "  delete: {enabled: true}\n  cache: {blobdescriptor: inmemory}\n"
                "  maintenance: {uploadpurging: {enabled: true, age: 168h, interval: 24h, dryrun: false}}\n"
                "http:\n  net: unix\n  addr: \"%s\"\n  relativeurls: true\n  secret: \"%s\"\n"
                "  headers: {X-Content-Type-Options: [nosniff]}\n",
                data, s->registry_socket, f->registry_secret);
        return text_take(&t);
}
