/* Nodes: their requests, their certificates, and who shows one. */
#include "plane/ca_internal.h"

#include "base/alloc.h"
#include "wire/topic.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

#define SIGNATURE_MAX_TEXT 512

/* ---- keys and requests from outside ---- */

/* A named curve that TLS 1.3 has, and nothing of the asker's own making. */
static bool key_is_acceptable(const EVP_PKEY *key)
{
        char group[64] = "";
        int is_explicit = 0;

        if (!key || !EVP_PKEY_is_a(key, "EC") ||
                EVP_PKEY_get_group_name(key, group, sizeof(group), NULL) != 1)
                return false;
        EVP_PKEY_get_int_param(key, OSSL_PKEY_PARAM_EC_DECODED_FROM_EXPLICIT_PARAMS, &is_explicit);
        return !is_explicit && (str_equal(group, "prime256v1") || str_equal(group, "secp384r1"));
}

static int read_csr(const char *pem, X509_REQ **ret, struct error *ret_error)
{
        _cleanup_(BIO_free_all_p) BIO *bio = NULL;
        _cleanup_(X509_REQ_free_p) X509_REQ *csr = NULL;
        size_t length = strlen(pem);
        EVP_PKEY *key;
        int is_signed;

        if (length > CA_REQUEST_MAXIMUM)
                return error_set(ret_error, EFBIG, "csr.too-large",
                        "the request for a certificate is longer than %zu bytes", CA_REQUEST_MAXIMUM);
        bio = BIO_new_mem_buf(pem, (int)length);
        csr = bio ? PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL) : NULL;
        ERR_clear_error();
        if (!csr)
                return error_set(ret_error, EBADMSG, "csr.malformed",
                        "not a request for a certificate (PKCS #10 in PEM form)");
        key = X509_REQ_get0_pubkey(csr);
        if (!key_is_acceptable(key)) {
                ERR_clear_error();
                return error_set(ret_error, EBADMSG, "csr.bad-key",
                        "the request for a certificate has another key than EC P-256 or P-384");
        }
        is_signed = X509_REQ_verify(csr, key);
        ERR_clear_error();
        if (is_signed != 1)
                return error_set(ret_error, EBADMSG, "csr.bad-signature",
                        "the request for a certificate is not signed by its own key");
        *ret = TAKE_PTR(csr);
        return 0;
}

int ca_check_csr(const char *csr_pem, struct ca_request *ret, struct error *ret_error)
{
        _cleanup_(X509_REQ_free_p) X509_REQ *csr = NULL;
        struct ca_request result = {0};
        int r = read_csr(csr_pem, &csr, ret_error);

        if (r == 0)
                r = ca_key_sha256(X509_REQ_get0_pubkey(csr), result.public_key_sha256, ret_error);
        if (r == 0)
                *ret = result;
        return r;
}

int ca_issue_node(struct ca *c, const char *csr_pem, const char *node, const char *organisation,
        int64_t now_unix, char **ret_pem, char ret_serial[65], int64_t *ret_not_after_unix,
        struct error *ret_error)
{
        _cleanup_(X509_REQ_free_p) X509_REQ *csr = NULL;
        _cleanup_(X509_free_p) X509 *x = NULL;
        _cleanup_free_ char *pem = NULL;
        const struct ca_issuer *issuer;
        struct ca_subject s = {.kind = CA_KIND_NODE, .organisation = organisation, .common_name = node};
        int64_t issuer_end;
        int r;

        if (!wire_id_is_valid(node) || !wire_id_is_valid(organisation))
                return error_set(ret_error, EINVAL, "ca.bad-subject",
                        "no certificate for node '%s' of '%s': not ids", node, organisation);
        r = read_csr(csr_pem, &csr, ret_error);
        if (r == 0)
                r = ca_signing_issuer(c, now_unix, &issuer, ret_error);
        if (r < 0)
                return r;
        issuer_end = x509_time_to_unix(X509_get0_notAfter(issuer->certificate));
        s.key = X509_REQ_get0_pubkey(csr);
        s.not_before_unix = now_unix - CA_CLOCK_TOLERANCE_S;
        s.not_after_unix = now_unix + CA_NODE_DAYS * CA_DAY_S;
        if (s.not_after_unix > issuer_end)
                s.not_after_unix = issuer_end;
        r = ca_make_certificate(&s, issuer, &x, ret_error);
        if (r < 0)
                return r;
        pem = ca_certificate_to_pem(x);
        x509_serial_to_text(X509_get0_serialNumber(x), ret_serial);
        *ret_pem = xasprintf("%s%s", pem, issuer->pem);
        *ret_not_after_unix = s.not_after_unix;
        return 0;
}

/* ---- who shows a certificate ---- */

/* The one value of a field that is there exactly once, and an id. */
static bool take_id(const X509_NAME *name, int nid, char ret[WIRE_ID_MAXIMUM + 1])
{
        int at = X509_NAME_get_index_by_NID(name, nid, -1);
        const ASN1_STRING *value;
        size_t length;

        if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
                return false;
        value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at));
        length = (size_t)ASN1_STRING_length(value);
        if (ASN1_STRING_type(value) != V_ASN1_UTF8STRING || length > WIRE_ID_MAXIMUM)
                return false;
        memcpy(ret, ASN1_STRING_get0_data(value), length);
        ret[length] = '\0';
        return strlen(ret) == length && wire_id_is_valid(ret);
}

int ca_identify(struct ca *c, const char *certificate_pem, struct ca_identity *ret, struct error *ret_error)
{
        _cleanup_(X509_free_p) X509 *x = NULL;
        struct ca_identity result = {0};
        int error, r;

        r = ca_parse_certificate(
                certificate_pem, strlen(certificate_pem), "the certificate shown", &x, ret_error);
        if (r < 0)
                return r;
        error = ca_verify_chain(c, x, X509_PURPOSE_SSL_CLIENT);
        if (error != X509_V_OK)
                return error_set(ret_error, EACCES, "certificate.foreign",
                        "the certificate shown is not a node's of this control plane: %s",
                        X509_verify_cert_error_string(error));
        if (!take_id(X509_get_subject_name(x), NID_commonName, result.node) ||
                !take_id(X509_get_subject_name(x), NID_organizationName, result.organisation))
                return error_set(ret_error, EACCES, "certificate.foreign",
                        "the certificate shown does not name a node and its organisation");
        r = ca_key_sha256(X509_get0_pubkey(x), result.public_key_sha256, ret_error);
        if (r < 0)
                return r;
        x509_serial_to_text(X509_get0_serialNumber(x), result.serial);
        result.not_before_unix = x509_time_to_unix(X509_get0_notBefore(x));
        result.not_after_unix = x509_time_to_unix(X509_get0_notAfter(x));
        *ret = result;
        return 0;
}

/* Strict base64 (RFC 4648): length a multiple of 4, padding at the end only. */
static int decode_base64(const char *text, unsigned char *ret, size_t size_bytes, size_t *ret_length)
{
        static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        size_t length = strlen(text), digits = strspn(text, alphabet), padding = length - digits;

        if (length == 0 || length % 4 != 0 || length / 4 * 3 > size_bytes || padding > 2 ||
                strspn(text + digits, "=") != padding)
                return -EBADMSG;
        if (EVP_DecodeBlock(ret, (const unsigned char *)text, (int)length) < 0)
                return -EBADMSG;
        *ret_length = length / 4 * 3 - padding;
        return 0;
}

static void free_digest(EVP_MD_CTX **p)
{
        EVP_MD_CTX_free(*p);
}

int ca_verify_signature(const char *certificate_pem, const void *data, size_t length,
        const char *signature_base64, struct error *ret_error)
{
        unsigned char signature[SIGNATURE_MAX_TEXT];
        _cleanup_(X509_free_p) X509 *x = NULL;
        _cleanup_(free_digest) EVP_MD_CTX *digest = EVP_MD_CTX_new();
        size_t signature_length;
        EVP_PKEY *key;
        int r;

        r = ca_parse_certificate(
                certificate_pem, strlen(certificate_pem), "the certificate shown", &x, ret_error);
        if (r < 0)
                return r;
        key = X509_get0_pubkey(x);
        if (digest && key_is_acceptable(key) &&
                decode_base64(signature_base64, signature, sizeof(signature), &signature_length) == 0 &&
                EVP_DigestVerifyInit(digest, NULL, EVP_sha256(), NULL, key) == 1 &&
                EVP_DigestVerify(digest, signature, signature_length, data, length) == 1)
                return 0;
        ERR_clear_error();
        return error_set(ret_error, EACCES, "signature.wrong",
                "the request is not signed by the key of the certificate that it shows");
}
