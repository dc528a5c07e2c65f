#include "net/mqtt_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "net/trust.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

DEFINE_CLEANUP(SSL_CTX *, SSL_CTX_free);
DEFINE_CLEANUP(struct trust *, trust_free);

/* Kept with the context. */
struct facts {
        char *host;
        bool is_address; /* the host is a literal: RFC 6066 has no such SNI */
        char problem[384];
};

static void free_facts(
        void *parent, void *pointer, CRYPTO_EX_DATA *data, int index, long argument_long, void *argument)
{
        struct facts *f = pointer;

        (void)parent, (void)data, (void)index, (void)argument_long, (void)argument;
        if (f)
                free(f->host);
        free(f);
}

/* One for the whole process; there is no thread. */
static int facts_index(void)
{
        static int index = -1;

        if (index < 0)
                index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, free_facts);
        if (index < 0)
                abort();
        return index;
}

static struct facts *facts_of(const SSL_CTX *c)
{
        return SSL_CTX_get_ex_data(c, facts_index());
}

const char *mqtt_tls_problem(const SSL_CTX *c)
{
        const struct facts *f = facts_of(c);

        return f && f->problem[0] ? f->problem : NULL;
}

/* libmosquitto puts the address that it connects to into the ClientHello: put the host there before the
 * message is made. OpenSSL calls this when a handshake starts. */
static void on_info(const SSL *ssl, int where, int value)
{
        struct facts *f = facts_of(SSL_get_SSL_CTX(ssl));

        (void)value;
        if (!(where & SSL_CB_HANDSHAKE_START) || !f)
                return;
        f->problem[0] = 0;
        SSL_set_tlsext_host_name((SSL *)ssl, f->is_address ? NULL : f->host);
}

/* The first thing that was wrong, with whose certificate it is. */
static int on_verify(int ok, X509_STORE_CTX *store)
{
        SSL *ssl = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
        struct facts *f = ssl ? facts_of(SSL_get_SSL_CTX(ssl)) : NULL;
        X509 *certificate = X509_STORE_CTX_get_current_cert(store);
        char subject[160] = "";

        if (ok || !f || f->problem[0])
                return ok;
        if (certificate)
                X509_NAME_oneline(X509_get_subject_name(certificate), subject, sizeof subject);
        snprintf(f->problem, sizeof f->problem, "the certificate of %s%s%s%s is not trusted: %s", f->host,
                subject[0] ? " (" : "", subject, subject[0] ? ")" : "",
                X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
        return ok;
}

static const char *openssl_reason(void)
{
        const char *reason = ERR_reason_error_string(ERR_peek_error());

        return reason ? reason : "unknown reason";
}

static int expect_host(SSL_CTX *c, const char *host, struct error *ret_error)
{
        X509_VERIFY_PARAM *p = SSL_CTX_get0_param(c);
        struct facts *f = xcalloc(1, sizeof *f);
        struct inet_addr literal;
        int ok;

        f->host = xstrdup(host);
        f->is_address = inet_addr_parse(host, &literal) == 0;
        if (SSL_CTX_set_ex_data(c, facts_index(), f) != 1)
                abort(); /* memory */
        X509_VERIFY_PARAM_set_hostflags(p, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        ok = f->is_address ? X509_VERIFY_PARAM_set1_ip_asc(p, host)
                           : str_is_host_name(host) && X509_VERIFY_PARAM_set1_host(p, host, 0);
        return ok ? 0
                  : error_set(ret_error, EINVAL, "mqtt.tls", "'%s' is no host that TLS could verify", host);
}

/* The certificate and key that the control plane knows this node by. */
static int offer_identity(SSL_CTX *c, const char *root_ca_path, const char *certificate_path,
        const char *key_path, struct error *ret_error)
{
        _cleanup_(trust_free_p) struct trust *t = NULL;
        struct trust_options o = {
                .root_ca_path = root_ca_path, .certificate_path = certificate_path, .key_path = key_path};
        int r = trust_new(&o, &t, ret_error);

        if (r < 0)
                return r;
        if (trust_certificate_problem(t))
                return error_set(ret_error, EBADMSG, "mqtt.tls", "%s", trust_certificate_problem(t));
        if (certificate_path && !trust_has_certificate(t))
                return error_set(ret_error, ENOENT, "mqtt.tls",
                        "%s: the node's certificate is missing; 'gridnode register' gets one",
                        certificate_path);
        trust_offer_certificate(t, c);
        return 0;
}

int mqtt_tls_context(const char *root_ca_path, const char *host, const char *certificate_path,
        const char *key_path, SSL_CTX **ret, struct error *ret_error)
{
        static const unsigned char alpn[] = "\x04mqtt";
        _cleanup_(SSL_CTX_free_p) SSL_CTX *c = trust_context_new();
        int r = offer_identity(c, root_ca_path, certificate_path, key_path, ret_error);

        if (r < 0)
                return r;
        r = expect_host(c, host, ret_error);
        if (r < 0)
                return r;
        ERR_clear_error();
        if (SSL_CTX_load_verify_file(c, root_ca_path) != 1) {
                r = error_set(ret_error, EBADMSG, "trust.bad-root", "%s: cannot be used as the root: %s",
                        root_ca_path, openssl_reason());
                ERR_clear_error();
                return r;
        }
        SSL_CTX_set_alpn_protos(c, alpn, sizeof alpn - 1);
        SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_verify(c, SSL_VERIFY_PEER, on_verify);
        SSL_CTX_set_info_callback(c, on_info);
        *ret = TAKE_PTR(c);
        return 0;
}
