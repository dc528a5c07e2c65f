/* The servers' certificates. */
#include "plane/ca_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "wire/topic.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>

#define MAX_COMMON_NAME 64

/* The certificate has these names and no others. */
static bool names_are(X509 *x, const struct strv *hosts)
{
        GENERAL_NAMES *names = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
        bool ok = names && (size_t)sk_GENERAL_NAME_num(names) == hosts->count;

        for (size_t i = 0; ok && i < hosts->count; i++)
                ok = X509_check_host(x, hosts->items[i], 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL) == 1 ||
                     X509_check_ip_asc(x, hosts->items[i], 0) == 1;
        GENERAL_NAMES_free(names);
        ERR_clear_error();
        return ok;
}

/* The key is kept when a certificate is renewed: then key and certificate fit at every moment, whenever a
 * server that was killed reads them again. */
static bool is_good(const struct ca *c, X509 *x, EVP_PKEY *key, const struct strv *hosts, int64_t now_unix)
{
        bool ok = X509_check_private_key(x, key) == 1 && !ca_certificate_is_due(x, now_unix) &&
                  names_are(x, hosts) && ca_verify_chain(c, x, X509_PURPOSE_SSL_SERVER) == X509_V_OK;

        ERR_clear_error();
        return ok;
}

static int take_key(const char *path, EVP_PKEY **ret, struct error *ret_error)
{
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = NULL;
        int r;

        if (ca_load_key(path, ret, NULL) == 0)
                return 0;
        r = ca_make_key(&key, ret_error);
        if (r == 0)
                r = ca_save_key(path, key, ret_error);
        if (r == 0)
                *ret = TAKE_PTR(key);
        return r;
}

static int issue(struct ca *c, const char *name, const struct strv *hosts, EVP_PKEY *key, const char *path,
        int64_t now_unix, struct error *ret_error)
{
        _cleanup_(X509_free_p) X509 *x = NULL;
        _cleanup_free_ char *leaf = NULL, *pem = NULL;
        const struct ca_issuer *issuer;
        bool fits = hosts->count > 0 && strlen(hosts->items[0]) <= MAX_COMMON_NAME;
        struct ca_subject s = {.kind = CA_KIND_SERVER,
                .organisation = "Gridnode",
                .common_name = fits ? hosts->items[0] : name,
                .hosts = hosts,
                .key = key,
                .not_before_unix = now_unix - CA_CLOCK_TOLERANCE_S,
                .not_after_unix = now_unix + CA_SERVER_DAYS * CA_DAY_S};
        int r = ca_signing_issuer(c, now_unix, &issuer, ret_error);

        if (r < 0)
                return r;
        if (s.not_after_unix > x509_time_to_unix(X509_get0_notAfter(issuer->certificate)))
                s.not_after_unix = x509_time_to_unix(X509_get0_notAfter(issuer->certificate));
        r = ca_make_certificate(&s, issuer, &x, ret_error);
        if (r < 0)
                return r;
        leaf = ca_certificate_to_pem(x);
        pem = xasprintf("%s%s", leaf, issuer->pem);
        return file_save(path, pem, strlen(pem), 0644, ret_error);
}

int ca_server_certificate(struct ca *c, const char *name, const struct strv *hosts, int64_t now_unix,
        bool *ret_changed, char **ret_certificate_path, char **ret_key_path, struct error *ret_error)
{
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = NULL;
        _cleanup_(X509_free_p) X509 *x = NULL;
        _cleanup_free_ char *certificate_path = NULL, *key_path = NULL;
        bool changed;
        int r;

        if (!wire_id_is_valid(name))
                return error_set(ret_error, EINVAL, "ca.bad-name",
                        "no certificate called '%s': a-z, 0-9 and hyphens", name);
        certificate_path = xasprintf("%s/server/%s.crt", c->folder, name);
        key_path = xasprintf("%s/server/%s.key", c->folder, name);
        r = take_key(key_path, &key, ret_error);
        if (r < 0)
                return r;
        changed = ca_load_certificate(certificate_path, &x, NULL) < 0 || !is_good(c, x, key, hosts, now_unix);
        if (changed)
                r = issue(c, name, hosts, key, certificate_path, now_unix, ret_error);
        if (r < 0)
                return r;
        *ret_changed = changed;
        *ret_certificate_path = TAKE_PTR(certificate_path);
        *ret_key_path = TAKE_PTR(key_path);
        return 0;
}
