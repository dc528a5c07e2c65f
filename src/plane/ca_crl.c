/* The lists of revoked certificates: the root's, which lasts as long as the newest intermediate so that the
 * root's key may be away, and one of each intermediate, all in one file. Serials are random, so each
 * intermediate's list names all of them. */
#include "plane/ca_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/paths.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

#define CRL_DAYS         30
#define CRL_FILE_MAXIMUM ((size_t)64 << 20)

typedef STACK_OF(X509_CRL) crl_stack;

static void crl_stack_free(crl_stack *s)
{
        sk_X509_CRL_pop_free(s, X509_CRL_free);
}

DEFINE_CLEANUP(crl_stack *, crl_stack_free);

/* ---- what is there ---- */

/* What the file has, as far as it can be read; never NULL. */
static crl_stack *load_file(const char *path)
{
        crl_stack *list = sk_X509_CRL_new_null();
        _cleanup_(BIO_free_all_p) BIO *bio = NULL;
        _cleanup_free_ char *pem = NULL;
        X509_CRL *crl;
        size_t length;

        if (!list)
                abort();
        if (file_read(path, CRL_FILE_MAXIMUM, &pem, &length, NULL) < 0)
                return list;
        bio = BIO_new_mem_buf(pem, (int)length);
        while (bio && (crl = PEM_read_bio_X509_CRL(bio, NULL, NULL, NULL)))
                sk_X509_CRL_push(list, crl);
        ERR_clear_error();
        return list;
}

/* The list that this issuer signed; borrowed. */
static X509_CRL *find(const crl_stack *list, const struct ca_issuer *issuer)
{
        for (int i = 0; i < sk_X509_CRL_num(list); i++) {
                X509_CRL *crl = sk_X509_CRL_value(list, i);

                if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer->certificate)) ==
                                0 &&
                        X509_CRL_verify(crl, X509_get0_pubkey(issuer->certificate)) == 1)
                        return crl;
        }
        ERR_clear_error();
        return NULL;
}

static int64_t number_of(const X509_CRL *crl)
{
        ASN1_INTEGER *number = crl ? X509_CRL_get_ext_d2i(crl, NID_crl_number, NULL, NULL) : NULL;
        int64_t value = 0;

        if (number && ASN1_INTEGER_get_int64(&value, number) != 1)
                value = 0;
        ASN1_INTEGER_free(number);
        return value;
}

static bool has_begun(const X509_CRL *crl, int64_t now_unix)
{
        return x509_time_to_unix(X509_CRL_get0_lastUpdate(crl)) <= now_unix;
}

void ca_crl_load(struct ca *c)
{
        _cleanup_(crl_stack_free_p) crl_stack *list = load_file(c->crl_path);
        char text[X509_SERIAL_TEXT];

        strv_done(&c->revoked);
        for (size_t i = 0; i < c->intermediate_count && c->revoked.count == 0; i++) {
                X509_CRL *crl = find(list, &c->intermediates[i]);
                STACK_OF(X509_REVOKED) *entries = crl ? X509_CRL_get_REVOKED(crl) : NULL;

                for (int k = 0; k < sk_X509_REVOKED_num(entries); k++) {
                        x509_serial_to_text(
                                X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(entries, k)), text);
                        strv_add(&c->revoked, text);
                }
        }
}

static bool issuer_has_ended(const struct ca_issuer *i, int64_t now_unix)
{
        return x509_time_to_unix(X509_get0_notAfter(i->certificate)) <= now_unix;
}

static bool root_list_is_due(const struct ca *c, const X509_CRL *crl, int64_t now_unix)
{
        return !crl || !has_begun(crl, now_unix) ||
               x509_time_to_unix(X509_CRL_get0_nextUpdate(crl)) <
                       x509_time_to_unix(X509_get0_notAfter(c->intermediates[0].certificate));
}

bool ca_crl_is_due(const struct ca *c, int64_t now_unix)
{
        _cleanup_(crl_stack_free_p) crl_stack *list = load_file(c->crl_path);
        const X509_CRL *crl = find(list, &c->root);

        if (!crl || (c->root.key && root_list_is_due(c, crl, now_unix)))
                return true;
        for (size_t i = 0; i < c->intermediate_count; i++) {
                int64_t from, to;

                if (issuer_has_ended(&c->intermediates[i], now_unix))
                        continue;
                crl = find(list, &c->intermediates[i]);
                if (!crl || !has_begun(crl, now_unix))
                        return true;
                from = x509_time_to_unix(X509_CRL_get0_lastUpdate(crl));
                to = x509_time_to_unix(X509_CRL_get0_nextUpdate(crl));
                if (now_unix >= from + (to - from) / 3 * 2)
                        return true;
        }
        return false;
}

/* ---- making ---- */

static bool set_times(X509_CRL *crl, int64_t from_unix, int64_t to_unix)
{
        ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)from_unix), *to = ASN1_TIME_set(NULL, (time_t)to_unix);
        bool ok = from && to && X509_CRL_set1_lastUpdate(crl, from) == 1 &&
                  X509_CRL_set1_nextUpdate(crl, to) == 1;

        ASN1_TIME_free(from);
        ASN1_TIME_free(to);
        return ok;
}

static bool add_number(X509_CRL *crl, int64_t value)
{
        ASN1_INTEGER *number = ASN1_INTEGER_new();
        bool ok = number && ASN1_INTEGER_set_int64(number, value) == 1 &&
                  X509_CRL_add1_ext_i2d(crl, NID_crl_number, number, 0, 0) == 1;

        ASN1_INTEGER_free(number);
        return ok;
}

static bool add_authority_key(X509_CRL *crl, X509 *issuer)
{
        X509V3_CTX context;
        X509_EXTENSION *e;
        bool ok;

        X509V3_set_ctx(&context, issuer, NULL, NULL, crl, 0);
        e = X509V3_EXT_conf_nid(NULL, &context, NID_authority_key_identifier, "keyid:always");
        ok = e && X509_CRL_add_ext(crl, e, -1) == 1;
        X509_EXTENSION_free(e);
        return ok;
}

static bool add_serial(X509_CRL *crl, const char *text, const ASN1_TIME *when)
{
        X509_REVOKED *entry = X509_REVOKED_new();
        BIGNUM *number = NULL;
        ASN1_INTEGER *serial = BN_hex2bn(&number, text) ? BN_to_ASN1_INTEGER(number, NULL) : NULL;
        bool ok = entry && serial && X509_REVOKED_set_serialNumber(entry, serial) == 1 &&
                  X509_REVOKED_set_revocationDate(entry, (ASN1_TIME *)when) == 1 &&
                  X509_CRL_add0_revoked(crl, entry) == 1;

        if (!ok)
                X509_REVOKED_free(entry);
        ASN1_INTEGER_free(serial);
        BN_free(number);
        return ok;
}

static bool fill(X509_CRL *crl, const struct ca_issuer *by, const struct strv *serials, int64_t number,
        int64_t from_unix, int64_t to_unix)
{
        if (X509_CRL_set_version(crl, X509_CRL_VERSION_2) != 1 ||
                X509_CRL_set_issuer_name(crl, X509_get_subject_name(by->certificate)) != 1 ||
                !set_times(crl, from_unix, to_unix))
                return false;
        for (size_t i = 0; serials && i < serials->count; i++)
                if (!add_serial(crl, serials->items[i], X509_CRL_get0_lastUpdate(crl)))
                        return false;
        return X509_CRL_sort(crl) == 1 && add_authority_key(crl, by->certificate) &&
               add_number(crl, number) && X509_CRL_sign(crl, by->key, EVP_sha256()) > 0;
}

/* Adds the new list of an issuer to the text. */
static int make(struct text *to, const struct ca_issuer *by, const struct strv *serials, int64_t number,
        int64_t from_unix, int64_t to_unix, struct error *ret_error)
{
        _cleanup_(X509_CRL_free_p) X509_CRL *crl = X509_CRL_new();
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new(BIO_s_mem());
        char *pem;

        /* With a NUL at its end, to be a string. */
        if (!crl || !bio || !fill(crl, by, serials, number, from_unix, to_unix) ||
                PEM_write_bio_X509_CRL(bio, crl) != 1 || BIO_write(bio, "", 1) != 1)
                return ca_crypto_error(ret_error, "make the list of revoked certificates");
        BIO_get_mem_data(bio, &pem);
        text_add(to, pem);
        return 0;
}

/* The root's, from its own file unless it is to be made anew. */
static int add_root_list(struct ca *c, int64_t now_unix, struct text *to, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(c->folder, "root.crl"), *pem = NULL;
        _cleanup_(crl_stack_free_p) crl_stack *list = load_file(path);
        const X509_CRL *old = find(list, &c->root);
        struct text made = {0};
        int r;

        if (old && (!c->root.key || !root_list_is_due(c, old, now_unix))) {
                r = file_read(path, CRL_FILE_MAXIMUM, &pem, NULL, ret_error);
                if (r == 0)
                        text_add(to, pem);
                return r;
        }
        if (!c->root.key)
                return error_set(ret_error, ENOKEY, "ca.no-root-key",
                        "%s: missing or damaged, and only the root's key can make it anew; put it back as %s",
                        path, c->root_key_path);
        r = make(&made, &c->root, NULL, number_of(old) + 1, now_unix - CA_CLOCK_TOLERANCE_S,
                x509_time_to_unix(X509_get0_notAfter(c->intermediates[0].certificate)), ret_error);
        if (r == 0)
                r = file_save(path, text_string(&made), made.length, 0644, ret_error);
        if (r == 0)
                text_add(to, text_string(&made));
        text_done(&made);
        return r;
}

int ca_crl_save(struct ca *c, int64_t now_unix, struct error *ret_error)
{
        _cleanup_(crl_stack_free_p) crl_stack *list = load_file(c->crl_path);
        struct text all = {0};
        int r = add_root_list(c, now_unix, &all, ret_error);

        for (size_t i = 0; i < c->intermediate_count && r == 0; i++) {
                const struct ca_issuer *by = &c->intermediates[i];

                if (by->key && !issuer_has_ended(by, now_unix))
                        r = make(&all, by, &c->revoked, number_of(find(list, by)) + 1,
                                now_unix - CA_CLOCK_TOLERANCE_S, now_unix + CRL_DAYS * CA_DAY_S, ret_error);
        }
        if (r == 0)
                r = file_save(c->crl_path, text_string(&all), all.length, 0644, ret_error);
        text_done(&all);
        return r;
}

static bool is_serial(const char *s)
{
        size_t length = strspn(s, "0123456789ABCDEFabcdef");

        return length > 0 && length < X509_SERIAL_TEXT && !s[length];
}

int ca_write_crl(struct ca *c, const struct strv *serials, int64_t now_unix, struct error *ret_error)
{
        struct strv before = c->revoked;
        int r;

        for (size_t i = 0; i < serials->count; i++)
                if (!is_serial(serials->items[i]))
                        return error_set(ret_error, EINVAL, "ca.bad-serial",
                                "cannot revoke '%s': not a certificate's serial number in hexadecimal",
                                serials->items[i]);
        c->revoked = (struct strv){0};
        strv_copy(&c->revoked, serials);
        r = ca_crl_save(c, now_unix, ret_error);
        if (r < 0) {
                strv_done(&c->revoked);
                c->revoked = before;
                return r;
        }
        strv_done(&before);
        return 0;
}
