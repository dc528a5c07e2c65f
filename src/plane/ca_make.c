#include "plane/ca_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/inet.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <string.h>

#define SERIAL_BITS   128
#define MAX_NAME_PART 64 /* ub-common-name, ub-organization-name: RFC 5280, appendix A.1 */

int ca_crypto_error(struct error *ret_error, const char *doing)
{
        return error_set(ret_error, EIO, "ca.crypto", "cannot %s: %s", doing, x509_reason());
}

int ca_make_key(EVP_PKEY **ret, struct error *ret_error)
{
        EVP_PKEY *key = EVP_EC_gen("P-256");

        if (!key)
                return ca_crypto_error(ret_error, "make a key");
        *ret = key;
        return 0;
}

/* ---- a certificate's parts ---- */

static bool set_serial(X509 *x)
{
        BIGNUM *number = BN_new();
        bool ok = number && BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));

        BN_free(number);
        return ok;
}

static bool add_name(X509_NAME *name, const char *field, const char *value)
{
        /* The type is said: MBSTRING_UTF8 would let OpenSSL choose PrintableString. */
        return X509_NAME_add_entry_by_txt(
                       name, field, V_ASN1_UTF8STRING, (const unsigned char *)value, -1, -1, 0) == 1;
}

static bool add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
        X509V3_CTX context;
        X509_EXTENSION *e;
        bool ok;

        X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
        e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        ok = e && X509_add_ext(x, e, -1) == 1;
        X509_EXTENSION_free(e);
        return ok;
}

/* "DNS:repo.grid.example,IP:198.51.100.20". */
static int alternative_names(const struct strv *hosts, char **ret, struct error *ret_error)
{
        struct text list = {0};

        for (size_t i = 0; hosts && i < hosts->count; i++) {
                const char *host = hosts->items[i];
                struct inet_addr a;
                bool is_address = inet_addr_parse(host, &a) == 0;

                if (!is_address && !str_is_host_name(host)) {
                        text_done(&list);
                        return error_set(ret_error, EINVAL, "ca.bad-host",
                                "no certificate for '%s': neither a host name nor an address", host);
                }
                text_addf(&list, "%s%s:%s", i ? "," : "", is_address ? "IP" : "DNS", host);
        }
        if (!list.length)
                return error_set(
                        ret_error, EINVAL, "ca.bad-host", "a server's certificate needs a host name");
        *ret = text_take(&list);
        return 0;
}

static bool add_purpose(X509 *x, X509 *issuer, enum ca_kind kind, const char *names)
{
        switch (kind) {
        case CA_KIND_ROOT:
                return add_extension(x, issuer, NID_basic_constraints, "critical,CA:TRUE") &&
                       add_extension(x, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
        case CA_KIND_INTERMEDIATE:
                return add_extension(x, issuer, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                       add_extension(x, issuer, NID_key_usage, "critical,keyCertSign,cRLSign");
        case CA_KIND_SERVER:
                return add_extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                       add_extension(x, issuer, NID_key_usage, "critical,digitalSignature") &&
                       add_extension(x, issuer, NID_ext_key_usage, "serverAuth") &&
                       add_extension(x, issuer, NID_subject_alt_name, names);
        case CA_KIND_NODE:
                return add_extension(x, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
                       add_extension(x, issuer, NID_key_usage, "critical,digitalSignature") &&
                       add_extension(x, issuer, NID_ext_key_usage, "clientAuth");
        }
        return false;
}

static bool fill(X509 *x, const struct ca_subject *s, const struct ca_issuer *issuer, const char *names)
{
        X509 *by = issuer ? issuer->certificate : x;

        return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
               add_name(X509_get_subject_name(x), "O", s->organisation) &&
               add_name(X509_get_subject_name(x), "CN", s->common_name) &&
               X509_set_issuer_name(x, X509_get_subject_name(by)) == 1 &&
               ASN1_TIME_set(X509_getm_notBefore(x), (time_t)s->not_before_unix) &&
               ASN1_TIME_set(X509_getm_notAfter(x), (time_t)s->not_after_unix) &&
               X509_set_pubkey(x, s->key) == 1 && add_purpose(x, by, s->kind, names) &&
               add_extension(x, by, NID_subject_key_identifier, "hash") &&
               add_extension(x, by, NID_authority_key_identifier, "keyid:always") &&
               X509_sign(x, issuer ? issuer->key : s->key, EVP_sha256()) > 0;
}

int ca_make_certificate(
        const struct ca_subject *s, const struct ca_issuer *issuer, X509 **ret, struct error *ret_error)
{
        _cleanup_(X509_free_p) X509 *x = X509_new();
        _cleanup_free_ char *names = NULL;
        int r = s->kind == CA_KIND_SERVER ? alternative_names(s->hosts, &names, ret_error) : 0;

        if (r < 0)
                return r;
        if (strlen(s->common_name) > MAX_NAME_PART || strlen(s->organisation) > MAX_NAME_PART)
                return error_set(ret_error, EINVAL, "ca.bad-subject",
                        "no certificate for '%s' of '%s': at most %d bytes each", s->common_name,
                        s->organisation, MAX_NAME_PART);
        if (!x || !fill(x, s, issuer, names))
                return ca_crypto_error(ret_error, "make a certificate");
        *ret = TAKE_PTR(x);
        return 0;
}

/* ---- PEM and files ---- */

static char *take_text(BIO *bio)
{
        char *data;
        long length = BIO_get_mem_data(bio, &data);

        return xstrndup(data, (size_t)length);
}

char *ca_certificate_to_pem(X509 *x)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_mem());

        if (!bio || PEM_write_bio_X509(bio, x) != 1)
                abort(); /* memory: there is nothing else that it could lack */
        return take_text(bio);
}

int ca_save_key(const char *path, EVP_PKEY *key, struct error *ret_error)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_secmem());
        char *data;
        long length;

        if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
                return ca_crypto_error(ret_error, "write a key");
        length = BIO_get_mem_data(bio, &data);
        return file_save(path, data, (size_t)length, 0600, ret_error);
}

int ca_parse_certificate(
        const char *pem, size_t length, const char *where, X509 **ret, struct error *ret_error)
{
        X509 *x;

        if (length > CA_PEM_MAXIMUM)
                return error_set(ret_error, EFBIG, "ca.bad-certificate", "%s: longer than %zu bytes", where,
                        CA_PEM_MAXIMUM);
        x = x509_from_pem(pem, length);
        ERR_clear_error();
        if (!x)
                return error_set(
                        ret_error, EBADMSG, "ca.bad-certificate", "%s: not a certificate in PEM form", where);
        *ret = x;
        return 0;
}

int ca_load_certificate(const char *path, X509 **ret, struct error *ret_error)
{
        _cleanup_free_ char *pem = NULL;
        size_t length;
        int r = file_read(path, CA_PEM_MAXIMUM, &pem, &length, ret_error);

        return r < 0 ? r : ca_parse_certificate(pem, length, path, ret, ret_error);
}

int ca_load_key(const char *path, EVP_PKEY **ret, struct error *ret_error)
{
        char *pem;
        size_t length;
        EVP_PKEY *key;
        int r = file_read(path, CA_PEM_MAXIMUM, &pem, &length, ret_error);

        if (r < 0)
                return r;
        key = x509_key_from_pem(pem, length);
        ERR_clear_error();
        OPENSSL_cleanse(pem, length);
        free(pem);
        if (!key)
                return error_set(ret_error, EBADMSG, "ca.bad-key",
                        "%s: not a key in PEM form without a passphrase", path);
        *ret = key;
        return 0;
}

/* ---- what they say ---- */

int ca_key_sha256(EVP_PKEY *key, char ret[65], struct error *ret_error)
{
        unsigned char *der = NULL, digest[SHA256_DIGEST_LENGTH];
        int length = i2d_PUBKEY(key, &der);

        if (length < 0)
                return ca_crypto_error(ret_error, "read a public key");
        SHA256(der, (size_t)length, digest);
        OPENSSL_free(der);
        hex_format(digest, sizeof(digest), ret);
        return 0;
}

bool ca_certificate_is_due(const X509 *x, int64_t now_unix)
{
        int64_t from = x509_time_to_unix(X509_get0_notBefore(x)),
                to = x509_time_to_unix(X509_get0_notAfter(x));

        return now_unix < from || now_unix >= from + (to - from) / 3 * 2;
}
