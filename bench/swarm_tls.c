/* A node makes its TLS context anew for each connection, from its files: some milliseconds that are its own.
 * Here they would be those of thousands of nodes on one core, and slow a herd down that is to be seen. So
 * each node's context is made once; the linker puts this in place of what the channel calls (--wrap).
 * Handshakes are full ones all the same: nothing hands a session from one connection to the next. */
#include "swarm_tls.h"

#include "base/alloc.h"

#include <string.h>
#include <uthash.h>

struct known {
        SSL_CTX *context;
        UT_hash_handle hh;
        char path[];
};

static struct known *all;

int __real_mqtt_tls_context(const char *root_ca_path, const char *host, const char *certificate_path,
        const char *key_path, SSL_CTX **ret, struct error *ret_error);
int __wrap_mqtt_tls_context(const char *root_ca_path, const char *host, const char *certificate_path,
        const char *key_path, SSL_CTX **ret, struct error *ret_error);

int __wrap_mqtt_tls_context(const char *root_ca_path, const char *host, const char *certificate_path,
        const char *key_path, SSL_CTX **ret, struct error *ret_error)
{
        struct known *k;

        HASH_FIND_STR(all, certificate_path, k);
        if (!k) {
                SSL_CTX *context;
                int r = __real_mqtt_tls_context(
                        root_ca_path, host, certificate_path, key_path, &context, ret_error);

                if (r < 0)
                        return r;
                k = xcalloc(1, sizeof *k + strlen(certificate_path) + 1);
                k->context = context;
                strcpy(k->path, certificate_path);
                HASH_ADD_STR(all, path, k);
        }
        SSL_CTX_up_ref(k->context);
        *ret = k->context;
        return 0;
}

void swarm_tls_done(void)
{
        struct known *k, *next;

        HASH_ITER(hh, all, k, next)
        {
                HASH_DEL(all, k);
                SSL_CTX_free(k->context);
                free(k);
        }
}
