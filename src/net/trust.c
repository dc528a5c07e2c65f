#include "net/trust.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "net/x509.h"

#include <ctype.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

#define FILE_MAX_BYTES  (1024 * 1024)
#define CHAIN_MAX_DEPTH (TRUST_CHAIN_MAX - 1)
/* OpenSSL's own bound of 100 KiB would hide from us how long an absurd chain is. */
#define CERTIFICATE_LIST_MAX_BYTES (256 * 1024)
/* Verdicts remembered: dozens of targets present the same few chains. */
#define CACHE_SIZE 16

typedef STACK_OF(X509) x509_stack;

static void stack_free(x509_stack *s)
{
        sk_X509_pop_free(s, X509_free);
}

DEFINE_CLEANUP(x509_stack *, stack_free);
DEFINE_CLEANUP(EVP_MD_CTX *, EVP_MD_CTX_free);

struct cached_verdict {
        bool is_set;
        unsigned char key[SHA256_DIGEST_LENGTH];
        struct trust_verdict verdict; /* time_valid is not kept: it depends on the moment */
};

struct trust {
        x509_stack *roots; /* NULL: only the subject is known */
        char *root_subject;
        x509_stack *own_chain; /* the node's certificate first; NULL without */
        EVP_PKEY *own_key;
        char *certificate_problem;
        char serial[X509_SERIAL_TEXT];
        SSL_CTX *contexts[2]; /* server only, mutual; made on first use */
        struct cached_verdict cache[CACHE_SIZE];
        unsigned cache_next;
};

/* ---- loading ---- */

/* Reads every certificate of a PEM text. */
static int parse_certificates(const char *data, size_t length, x509_stack **ret)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new_mem_buf(data, (int)length);
        _cleanup_(stack_free_p) x509_stack *stack = sk_X509_new_null();
        X509 *x;

        ERR_clear_error();
        while ((x = x509_read(bio)))
                if (!sk_X509_push(stack, x)) {
                        X509_free(x);
                        return -ENOMEM;
                }
        if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE || sk_X509_num(stack) == 0)
                return -EBADMSG;
        ERR_clear_error();
        *ret = TAKE_PTR(stack);
        return 0;
}

static int load_roots(struct trust *t, const char *path, struct error *ret_error)
{
        _cleanup_free_ char *data = NULL;
        size_t length;
        int r = file_read(path, FILE_MAX_BYTES, &data, &length, ret_error);

        if (r < 0)
                return r;
        r = parse_certificates(data, length, &t->roots);
        if (r < 0)
                return error_set(ret_error, -r, "trust.bad-root",
                        "%s: cannot be read as PEM certificates (%s); root-ca must name the pinned root in "
                        "PEM form",
                        path, x509_reason());
        return 0;
}

static void forget_identity(struct trust *t, char *problem)
{
        stack_free(t->own_chain);
        t->own_chain = NULL;
        EVP_PKEY_free(t->own_key);
        t->own_key = NULL;
        t->certificate_problem = problem;
        ERR_clear_error();
}

/* 0, or -errno with t->certificate_problem set unless the file is just not there. */
static int read_identity_file(struct trust *t, const char *path, char **ret, size_t *ret_length)
{
        struct error error = {0};
        int r = file_read(path, FILE_MAX_BYTES, ret, ret_length, &error);

        if (r < 0 && r != -ENOENT)
                forget_identity(t, xstrdup(error.text));
        return r;
}

static void load_identity(struct trust *t, const char *certificate_path, const char *key_path)
{
        _cleanup_free_ char *data = NULL, *key_data = NULL;
        size_t length, key_length;

        if (!certificate_path || !key_path || read_identity_file(t, certificate_path, &data, &length) < 0)
                return;
        if (parse_certificates(data, length, &t->own_chain) < 0) {
                forget_identity(
                        t, xasprintf("%s: not a PEM certificate (%s)", certificate_path, x509_reason()));
                return;
        }
        switch (read_identity_file(t, key_path, &key_data, &key_length)) {
        case 0:
                break;
        case -ENOENT:
                forget_identity(t, xasprintf("%s: the key of %s is missing", key_path, certificate_path));
                return;
        default:
                return;
        }
        t->own_key = x509_key_from_pem(key_data, key_length);
        OPENSSL_cleanse(key_data, key_length);
        if (!t->own_key)
                forget_identity(
                        t, xasprintf("%s: not a PEM key without a passphrase (%s)", key_path, x509_reason()));
        else if (X509_check_private_key(sk_X509_value(t->own_chain, 0), t->own_key) != 1)
                forget_identity(
                        t, xasprintf("%s: does not fit the certificate %s", key_path, certificate_path));
        else
                x509_serial_to_text(X509_get0_serialNumber(sk_X509_value(t->own_chain, 0)), t->serial);
}

int trust_new(const struct trust_options *o, struct trust **ret, struct error *ret_error)
{
        struct trust *t;
        int r;

        if (!o->root_ca_path && !o->root_subject)
                return error_set(
                        ret_error, EINVAL, "trust.no-root", "no root to trust: neither a file nor a subject");
        t = xcalloc(1, sizeof(*t));
        t->root_subject = xstrdup(o->root_subject);
        if (o->root_ca_path) {
                r = load_roots(t, o->root_ca_path, ret_error);
                if (r < 0) {
                        trust_free(t);
                        return r;
                }
        }
        load_identity(t, o->certificate_path, o->key_path);
        *ret = t;
        return 0;
}

struct trust *trust_free(struct trust *t)
{
        if (!t)
                return NULL;
        for (size_t i = 0; i < ELEMENTS(t->contexts); i++)
                SSL_CTX_free(t->contexts[i]);
        stack_free(t->roots);
        stack_free(t->own_chain);
        EVP_PKEY_free(t->own_key);
        free(t->root_subject);
        free(t->certificate_problem);
        free(t);
        return NULL;
}

bool trust_has_certificate(const struct trust *t)
{
        return t->own_key;
}

const char *trust_certificate_problem(const struct trust *t)
{
        return t->certificate_problem;
}

const char *trust_certificate_serial(const struct trust *t)
{
        return t->own_key ? t->serial : NULL;
}

int64_t trust_certificate_not_after(const struct trust *t)
{
        return t->own_key ? x509_time_to_unix(X509_get0_notAfter(sk_X509_value(t->own_chain, 0))) : 0;
}

/* ---- contexts ---- */

SSL_CTX *trust_context_new(void)
{
        /* "http/1.1" as RFC 7301 writes it. nginx sends connections by this list to one service or another.
         */
        static const unsigned char alpn[] = "\x08http/1.1";
        SSL_CTX *c = SSL_CTX_new(TLS_client_method());

        if (!c)
                abort(); /* memory, or an OpenSSL that cannot do TLS at all */
        SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION);
        /* P-384 is there for TLS 1.2, where the list bounds the certificates' curves too. */
        SSL_CTX_set1_groups_list(c, "X25519:P-256:P-384");
        SSL_CTX_set_alpn_protos(c, alpn, sizeof(alpn) - 1);
        SSL_CTX_set_max_cert_list(c, CERTIFICATE_LIST_MAX_BYTES);
        SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS);
        SSL_CTX_set_verify(c, SSL_VERIFY_NONE, NULL);
        return c;
}

void trust_offer_certificate(const struct trust *t, SSL_CTX *c)
{
        if (!t->own_key)
                return;
        SSL_CTX_use_certificate(c, sk_X509_value(t->own_chain, 0));
        SSL_CTX_use_PrivateKey(c, t->own_key);
        for (int i = 1; i < sk_X509_num(t->own_chain); i++)
                SSL_CTX_add1_chain_cert(c, sk_X509_value(t->own_chain, i));
}

SSL_CTX *trust_context(struct trust *t, bool mutual)
{
        if (!t->contexts[mutual]) {
                t->contexts[mutual] = trust_context_new();
                if (mutual)
                        trust_offer_certificate(t, t->contexts[mutual]);
        }
        return t->contexts[mutual];
}

void trust_warm_up(struct trust *t)
{
        for (int mutual = 0; mutual < 2; mutual++) {
                SSL *ssl = SSL_new(trust_context(t, mutual));
                BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_mem());

                if (ssl && in && out) {
                        BIO_set_mem_eof_return(in, -1);
                        SSL_set_bio(ssl, in, out); /* which owns them now */
                        SSL_connect(ssl);
                } else {
                        BIO_free(in);
                        BIO_free(out);
                }
                SSL_free(ssl);
        }
        ERR_clear_error();
}

/* ---- a root known by its subject only ---- */

/* Takes the next component of "O = …, CN = …": up to a comma that no backslash escapes, blanks trimmed. */
static bool next_component(const char **at, char *ret, size_t size_bytes)
{
        const char *s = *at;
        size_t length = 0;

        while (isblank((unsigned char)*s))
                s++;
        if (!*s)
                return false;
        for (; *s && *s != ','; s++) {
                if (*s == '\\' && s[1])
                        s++;
                if (length + 1 < size_bytes)
                        ret[length++] = *s;
        }
        while (length > 0 && isblank((unsigned char)ret[length - 1]))
                length--;
        ret[length] = '\0';
        *at = *s ? s + 1 : s;
        return true;
}

static bool entry_matches(const X509_NAME_ENTRY *entry, char *component)
{
        char *value = strchr(component, '='), *key_end = value;
        const ASN1_OBJECT *object = X509_NAME_ENTRY_get_object(entry);
        int nid = OBJ_obj2nid(object), length;
        unsigned char *utf8 = NULL;
        bool equal;

        if (!value || nid == NID_undef)
                return false;
        while (key_end > component && isblank((unsigned char)key_end[-1]))
                key_end--;
        *key_end = '\0';
        for (value++; isblank((unsigned char)*value);)
                value++;
        if (strcasecmp(component, OBJ_nid2sn(nid)) != 0 && strcasecmp(component, OBJ_nid2ln(nid)) != 0)
                return false;
        length = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(entry));
        equal = length >= 0 && (size_t)length == strlen(value) && memcmp(utf8, value, (size_t)length) == 0;
        OPENSSL_free(utf8);
        return equal;
}

/* Component by component, in the certificate's order. */
static bool name_matches(const X509_NAME *name, const char *wanted)
{
        char component[512];

        for (int i = 0; i < X509_NAME_entry_count(name); i++)
                if (!next_component(&wanted, component, sizeof(component)) ||
                        !entry_matches(X509_NAME_get_entry(name, i), component))
                        return false;
        return X509_NAME_entry_count(name) > 0 && !next_component(&wanted, component, sizeof(component));
}

/* The presented certificates that the name issued, the root itself among them. */
static x509_stack *anchors_by_name(const struct trust *t, const x509_stack *chain)
{
        x509_stack *anchors = sk_X509_new_null();

        for (int i = 0; i < sk_X509_num(chain); i++) {
                X509 *x = sk_X509_value(chain, i);

                if (name_matches(X509_get_issuer_name(x), t->root_subject) && X509_up_ref(x) &&
                        !sk_X509_push(anchors, x))
                        X509_free(x);
        }
        return anchors;
}

/* ---- judging ---- */

/* Verifies `chain` up to `anchors` with the times left out; purpose 0: none. Gives X509_V_OK or the first
 * error, and the path that was found. */
static int verify(x509_stack *anchors, x509_stack *chain, int purpose, x509_stack **ret_path)
{
        _cleanup_(X509_STORE_free_p) X509_STORE *store = X509_STORE_new();
        _cleanup_(X509_STORE_CTX_free_p) X509_STORE_CTX *context = X509_STORE_CTX_new();
        X509_VERIFY_PARAM *parameters;
        int error;

        if (!store || !context || X509_STORE_CTX_init(context, store, sk_X509_value(chain, 0), chain) != 1)
                return X509_V_ERR_OUT_OF_MEM;
        X509_STORE_CTX_set0_trusted_stack(context, anchors);
        parameters = X509_STORE_CTX_get0_param(context);
        /* The anchors are named one by one, so any of them ends a chain, self-signed or not. */
        X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_NO_CHECK_TIME | X509_V_FLAG_PARTIAL_CHAIN);
        X509_VERIFY_PARAM_set_depth(parameters, CHAIN_MAX_DEPTH);
        if (purpose)
                X509_VERIFY_PARAM_set_purpose(parameters, purpose);
        error = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
        if (error == X509_V_OK && ret_path)
                *ret_path = X509_STORE_CTX_get1_chain(context);
        ERR_clear_error();
        return error;
}

static bool host_matches(X509 *leaf, const char *host)
{
        if (!host)
                return true;
        if (X509_check_ip_asc(leaf, host, 0) == 1)
                return true;
        return X509_check_host(leaf, host, 0, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS, NULL) == 1;
}

static void set_window(const x509_stack *path, struct trust_verdict *v)
{
        for (int i = 0; i < sk_X509_num(path); i++) {
                int64_t from = x509_time_to_unix(X509_get0_notBefore(sk_X509_value(path, i)));
                int64_t to = x509_time_to_unix(X509_get0_notAfter(sk_X509_value(path, i)));

                if (i == 0 || from > v->not_before_unix)
                        v->not_before_unix = from;
                if (i == 0 || to < v->not_after_unix)
                        v->not_after_unix = to;
        }
}

static void judge_afresh(struct trust *t, x509_stack *chain, const char *host, struct trust_verdict *v)
{
        _cleanup_(stack_free_p) x509_stack *by_name = t->roots ? NULL : anchors_by_name(t, chain),
                                           *path = NULL;
        x509_stack *anchors = t->roots ? t->roots : by_name;

        v->by_name_only = !t->roots;
        v->error = verify(anchors, chain, 0, &path);
        v->trusted = v->error == X509_V_OK;
        set_window(path ? path : chain, v);
        v->name_matches = host_matches(sk_X509_value(chain, 0), host);
        if (v->trusted && !v->name_matches)
                v->error = X509_V_ERR_HOSTNAME_MISMATCH;
        if (!v->trusted || !v->name_matches)
                return;
        /* The pinned root signs nodes' certificates as well; none of them may stand in for a server. Such a
         * chain is genuine, and for something else: the same as a foreign name. */
        v->error = verify(anchors, chain, X509_PURPOSE_SSL_SERVER, NULL);
        v->name_matches = v->error == X509_V_OK;
}

static bool make_key(const x509_stack *chain, const char *host, unsigned char ret[SHA256_DIGEST_LENGTH])
{
        _cleanup_(EVP_MD_CTX_free_p) EVP_MD_CTX *md = EVP_MD_CTX_new();

        if (!md || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1)
                return false;
        for (int i = 0; i < sk_X509_num(chain); i++) {
                unsigned char *der = NULL;
                int length = i2d_X509(sk_X509_value(chain, i), &der);

                if (length < 0)
                        return false;
                /* DER tells its own length, so one after the other cannot be read in two ways. */
                EVP_DigestUpdate(md, der, (size_t)length);
                OPENSSL_free(der);
        }
        if (host)
                EVP_DigestUpdate(md, host, strlen(host) + 1);
        return EVP_DigestFinal_ex(md, ret, NULL) == 1;
}

/* At most the first certificates of an absurd chain. Borrowed elements: free with sk_X509_free. */
static x509_stack *bounded_chain(const x509_stack *chain)
{
        x509_stack *bounded = sk_X509_new_null();

        for (int i = 0; bounded && i < sk_X509_num(chain) && i <= CHAIN_MAX_DEPTH; i++)
                sk_X509_push(bounded, sk_X509_value(chain, i));
        return bounded;
}

static const struct trust_verdict *find_cached(const struct trust *t, const unsigned char *key)
{
        for (size_t i = 0; i < CACHE_SIZE; i++)
                if (t->cache[i].is_set && memcmp(t->cache[i].key, key, SHA256_DIGEST_LENGTH) == 0)
                        return &t->cache[i].verdict;
        return NULL;
}

static void judge_bounded(struct trust *t, x509_stack *chain, const char *host, struct trust_verdict *v)
{
        unsigned char key[SHA256_DIGEST_LENGTH];
        bool has_key = make_key(chain, host, key);
        const struct trust_verdict *cached = has_key ? find_cached(t, key) : NULL;

        if (cached) {
                *v = *cached;
                return;
        }
        judge_afresh(t, chain, host, v);
        if (has_key) {
                struct cached_verdict *slot = &t->cache[t->cache_next++ % CACHE_SIZE];

                *slot = (struct cached_verdict){.is_set = true, .verdict = *v};
                memcpy(slot->key, key, sizeof(key));
        }
}

void trust_judge(struct trust *t, STACK_OF(X509) * chain, const char *host, int64_t now_unix,
        struct trust_verdict *ret)
{
        struct trust_verdict v = {.error = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT};
        x509_stack *bounded = chain && sk_X509_num(chain) > 0 ? bounded_chain(chain) : NULL;

        if (bounded && t)
                judge_bounded(t, bounded, host, &v);
        else if (bounded) {
                set_window(bounded, &v);
                v.name_matches = host_matches(sk_X509_value(bounded, 0), host);
        }
        sk_X509_free(bounded);
        v.time_valid = v.not_before_unix <= now_unix && now_unix <= v.not_after_unix;
        if (v.error == X509_V_OK && !v.time_valid)
                v.error = now_unix < v.not_before_unix ? X509_V_ERR_CERT_NOT_YET_VALID
                                                       : X509_V_ERR_CERT_HAS_EXPIRED;
        *ret = v;
}
