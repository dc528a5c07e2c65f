#include "pki.h"

#include <assert.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

static void add_entry(X509_NAME *name, const char *field, const char *value)
{
        if (value)
                assert(X509_NAME_add_entry_by_txt(
                               name, field, MBSTRING_UTF8, (const unsigned char *)value, -1, -1, 0) == 1);
}

static void add_extension(X509 *x, X509 *issuer, int nid, const char *value)
{
        X509V3_CTX context;
        X509_EXTENSION *e;

        if (!value)
                return;
        X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
        e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
        assert(e);
        assert(X509_add_ext(x, e, -1) == 1);
        X509_EXTENSION_free(e);
}

static void set_serial(X509 *x)
{
        unsigned char bytes[8];
        BIGNUM *number;

        assert(RAND_bytes(bytes, sizeof(bytes)) == 1);
        bytes[0] = (bytes[0] & 0x7f) | 0x40;
        number = BN_bin2bn(bytes, sizeof(bytes), NULL);
        assert(number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)));
        BN_free(number);
}

struct pki_pair pki_issue(const struct pki_request *r)
{
        struct pki_pair p = {.certificate = X509_new(), .key = EVP_EC_gen("P-256")};
        X509 *x = p.certificate, *issuer = r->issuer ? r->issuer->certificate : x;
        bool has_times = r->from_s || r->to_s;

        assert(x && p.key);
        X509_set_version(x, X509_VERSION_3);
        set_serial(x);
        add_entry(X509_get_subject_name(x), "O", r->organisation);
        add_entry(X509_get_subject_name(x), "CN", r->common_name);
        assert(X509_set_issuer_name(x, X509_get_subject_name(issuer)) == 1);
        X509_gmtime_adj(X509_getm_notBefore(x), has_times ? r->from_s : -3600);
        X509_gmtime_adj(X509_getm_notAfter(x), has_times ? r->to_s : 3600);
        X509_set_pubkey(x, p.key);
        add_extension(
                x, issuer, NID_basic_constraints, r->is_authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
        add_extension(x, issuer, NID_key_usage,
                r->is_authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature");
        add_extension(x, issuer, NID_subject_alt_name, r->host);
        add_extension(x, issuer, NID_ext_key_usage, r->usage);
        assert(X509_sign(x, r->issuer ? r->issuer->key : p.key, EVP_sha256()) > 0);
        return p;
}

void pki_pair_done(struct pki_pair *p)
{
        X509_free(p->certificate);
        EVP_PKEY_free(p->key);
        *p = (struct pki_pair){0};
}

void pki_save_certificate(const char *path, const struct pki_pair *p)
{
        FILE *f = fopen(path, "ae");

        assert(f && PEM_write_X509(f, p->certificate) == 1);
        fclose(f);
}

void pki_save_key(const char *path, const struct pki_pair *p)
{
        FILE *f = fopen(path, "ae");

        assert(f && PEM_write_PrivateKey(f, p->key, NULL, NULL, 0, NULL, NULL) == 1);
        fclose(f);
}
