#include "node/enrol_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/folder.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>
#include <unistd.h>

#define KEY_MAX_BYTES ((size_t)16 << 10)
#define PENDING       "node.key.new"

static int crypto_error(struct error *ret_error, const char *doing)
{
        return error_set(ret_error, EIO, "enrol.crypto", "cannot %s: %s", doing, x509_reason());
}

int enrol_key_load(const char *path, EVP_PKEY **ret, struct error *ret_error)
{
        char *pem;
        size_t length;
        EVP_PKEY *key;
        int r = file_read(path, KEY_MAX_BYTES, &pem, &length, ret_error);

        if (r < 0)
                return r;
        key = x509_key_from_pem(pem, length);
        ERR_clear_error();
        OPENSSL_cleanse(pem, length);
        free(pem);
        if (!key)
                return error_set(
                        ret_error, EBADMSG, "key.unreadable", "%s: not a PEM key without a passphrase", path);
        *ret = key;
        return 0;
}

int enrol_key_save(const char *path, EVP_PKEY *key, struct error *ret_error)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_secmem());
        char *data;
        long length;

        if (!bio || PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
                return crypto_error(ret_error, "write a key");
        length = BIO_get_mem_data(bio, &data);
        return file_save(path, data, (size_t)length, 0600, ret_error);
}

int enrol_key_pending(const struct paths *p, EVP_PKEY * not, EVP_PKEY **ret, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(p->state, PENDING);
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = NULL;
        int r = folder_check_file(p->state, PENDING, ret_error);

        if (r < 0)
                return r;
        if (enrol_key_load(path, &key, NULL) == 0 && EVP_PKEY_is_a(key, "EC") &&
                (!not || EVP_PKEY_eq(key, not ) != 1)) {
                *ret = TAKE_PTR(key);
                return 0;
        }
        ERR_clear_error();
        EVP_PKEY_free(key);
        key = EVP_EC_gen("P-256");
        if (!key)
                return crypto_error(ret_error, "make a key");
        r = enrol_key_save(path, key, ret_error);
        if (r == 0)
                *ret = TAKE_PTR(key);
        return r;
}

void enrol_key_forget_pending(const struct paths *p)
{
        _cleanup_free_ char *path = path_join(p->state, PENDING);

        unlink(path);
}

static void free_request(X509_REQ **p)
{
        X509_REQ_free(*p);
}

int enrol_key_request(EVP_PKEY *key, char **ret_pem, struct error *ret_error)
{
        _cleanup_(free_request) X509_REQ *request = X509_REQ_new();
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_mem());
        char *data;
        long length;

        /* The plane takes nothing over but the key. */
        if (!request || !bio || X509_REQ_set_version(request, X509_REQ_VERSION_1) != 1 ||
                X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(request), "CN", V_ASN1_UTF8STRING,
                        (const unsigned char *)"gridnode", -1, -1, 0) != 1 ||
                X509_REQ_set_pubkey(request, key) != 1 || X509_REQ_sign(request, key, EVP_sha256()) <= 0 ||
                PEM_write_bio_X509_REQ(bio, request) != 1)
                return crypto_error(ret_error, "make a request for a certificate");
        length = BIO_get_mem_data(bio, &data);
        *ret_pem = xstrndup(data, (size_t)length);
        return 0;
}

static void free_digest(EVP_MD_CTX **p)
{
        EVP_MD_CTX_free(*p);
}

int enrol_key_sign(EVP_PKEY *key, const char *data, char **ret, struct error *ret_error)
{
        _cleanup_(free_digest) EVP_MD_CTX *digest = EVP_MD_CTX_new();
        unsigned char signature[512];
        size_t length = sizeof(signature);
        char *text;

        if (!digest || EVP_DigestSignInit(digest, NULL, EVP_sha256(), NULL, key) != 1 ||
                EVP_DigestSign(digest, signature, &length, (const unsigned char *)data, strlen(data)) != 1)
                return crypto_error(ret_error, "sign with the node's key");
        text = xmalloc(length / 3 * 4 + 8);
        EVP_EncodeBlock((unsigned char *)text, signature, (int)length);
        *ret = text;
        return 0;
}
