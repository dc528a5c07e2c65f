/* The files of the authority, and keeping them in order. Each key is saved before its certificate, so that a
 * crash leaves a key without certificate at most, and that is made anew. */
#include "plane/ca_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/paths.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

#define ROOT_DAYS         (20 * 365 + 5)
#define INTERMEDIATE_DAYS (5 * 365 + 1)
#define SOFTWARE_UNIX     1735689600 /* 2025-01-01: a clock before that is wrong */
#define MAX_GENERATION    9999
#define ORGANISATION      "Gridnode"

static void issuer_done(struct ca_issuer *i)
{
        X509_free(i->certificate);
        EVP_PKEY_free(i->key);
        free(i->pem);
        *i = (struct ca_issuer){0};
}

struct ca *ca_free(struct ca *c)
{
        if (!c)
                return NULL;
        issuer_done(&c->root);
        for (size_t i = 0; i < c->intermediate_count; i++)
                issuer_done(&c->intermediates[i]);
        strv_done(&c->revoked);
        free(c->chain_pem);
        free(c->folder);
        free(c->root_path);
        free(c->root_key_path);
        free(c->bundle_path);
        free(c->crl_path);
        free(c);
        return NULL;
}

DEFINE_CLEANUP(struct ca *, ca_free);

static bool file_is_there(const char *path)
{
        struct stat st;

        return lstat(path, &st) == 0;
}

/* The root and the intermediates without their times and purposes: what an attacker cannot make. */
int ca_verify_chain(const struct ca *c, X509 *leaf, int purpose)
{
        _cleanup_(X509_STORE_free_p) X509_STORE *store = X509_STORE_new();
        _cleanup_(X509_STORE_CTX_free_p) X509_STORE_CTX *context = X509_STORE_CTX_new();
        _cleanup_(ca_stack_free_p) ca_stack *anchors = sk_X509_new_null(), *others = sk_X509_new_null();
        X509_VERIFY_PARAM *parameters;
        int error;

        if (!store || !context || !anchors || !others || !sk_X509_push(anchors, c->root.certificate))
                return X509_V_ERR_OUT_OF_MEM;
        for (size_t i = 0; i < c->intermediate_count; i++)
                sk_X509_push(others, c->intermediates[i].certificate);
        if (X509_STORE_CTX_init(context, store, leaf, others) != 1)
                return X509_V_ERR_OUT_OF_MEM;
        X509_STORE_CTX_set0_trusted_stack(context, anchors);
        parameters = X509_STORE_CTX_get0_param(context);
        X509_VERIFY_PARAM_set_flags(parameters, X509_V_FLAG_NO_CHECK_TIME);
        if (purpose)
                X509_VERIFY_PARAM_set_purpose(parameters, purpose);
        error = X509_verify_cert(context) == 1 ? X509_V_OK : X509_STORE_CTX_get_error(context);
        ERR_clear_error();
        return error;
}

/* ---- reading what is there ---- */

/* The key is optional: *ret->key is NULL when its file is not there. */
static int load_pair(const char *certificate, const char *key, struct ca_issuer *ret, struct error *ret_error)
{
        _cleanup_(X509_free_p) X509 *x = NULL;
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *k = NULL;
        int r = ca_load_certificate(certificate, &x, ret_error);

        if (r < 0)
                return r;
        if (file_is_there(key)) {
                r = ca_load_key(key, &k, ret_error);
                if (r < 0)
                        return r;
                if (X509_check_private_key(x, k) != 1) {
                        ERR_clear_error();
                        return error_set(ret_error, EBADMSG, "ca.bad-key",
                                "%s: not the key of %s; put the right one back", key, certificate);
                }
        }
        ret->pem = ca_certificate_to_pem(x);
        ret->certificate = TAKE_PTR(x);
        ret->key = TAKE_PTR(k);
        return 0;
}

/* N of "intermediate-N.crt", or 0. */
static unsigned generation_of(const char *name)
{
        static const char prefix[] = "intermediate-", suffix[] = ".crt";
        _cleanup_free_ char *number = NULL;
        unsigned long n;

        if (!str_starts_with(name, prefix) || !str_ends_with(name, suffix) ||
                strlen(name) < sizeof(prefix) + sizeof(suffix) - 1)
                return 0;
        number = xstrndup(name + sizeof(prefix) - 1, strlen(name) - (sizeof(prefix) + sizeof(suffix) - 2));
        return str_to_ulong(number, 1, MAX_GENERATION, &n) == 0 ? (unsigned)n : 0;
}

static char *intermediate_path(const struct ca *c, unsigned generation, const char *suffix)
{
        return xasprintf("%s/intermediate-%u.%s", c->folder, generation, suffix);
}

/* Newest first. */
static void insert(struct ca *c, struct ca_issuer *taken)
{
        size_t at = 0;

        while (at < c->intermediate_count && c->intermediates[at].generation > taken->generation)
                at++;
        memmove(&c->intermediates[at + 1], &c->intermediates[at],
                (c->intermediate_count - at) * sizeof(*c->intermediates));
        c->intermediates[at] = *taken;
        c->intermediate_count++;
}

static int load_intermediate(struct ca *c, unsigned generation, struct error *ret_error)
{
        _cleanup_free_ char *certificate = intermediate_path(c, generation, "crt"),
                            *key = intermediate_path(c, generation, "key");
        struct ca_issuer i = {.generation = generation};
        int r;

        if (c->intermediate_count == CA_MAX_ISSUERS)
                return error_set(ret_error, EFBIG, "ca.too-many",
                        "%s: more than %d intermediates; move those that have ended away", c->folder,
                        CA_MAX_ISSUERS);
        r = load_pair(certificate, key, &i, ret_error);
        if (r < 0)
                return r;
        if (ca_verify_chain(&(struct ca){.root = c->root}, i.certificate, 0) != X509_V_OK) {
                issuer_done(&i);
                return error_set(ret_error, EBADMSG, "ca.foreign",
                        "%s: not signed by the root %s; move it away, or put the right root back",
                        certificate, c->root_path);
        }
        insert(c, &i);
        return 0;
}

static int load_intermediates(struct ca *c, struct error *ret_error)
{
        DIR *folder = opendir(c->folder);
        struct dirent *entry;
        int r = 0;

        if (!folder)
                return error_set(ret_error, errno, "file.unreadable", "cannot read %s: %s", c->folder,
                        strerror(errno));
        while (r == 0 && (entry = readdir(folder))) {
                unsigned generation = generation_of(entry->d_name);

                if (generation)
                        r = load_intermediate(c, generation, ret_error);
        }
        closedir(folder);
        return r;
}

static bool has_intermediate_file(const struct ca *c)
{
        DIR *folder = opendir(c->folder);
        struct dirent *entry;
        bool found = false;

        while (folder && !found && (entry = readdir(folder)))
                found = generation_of(entry->d_name) != 0;
        if (folder)
                closedir(folder);
        return found;
}

/* ---- making what is missing ---- */

static int make_pair(const struct ca_subject *s, const struct ca_issuer *by, const char *certificate_path,
        const char *key_path, struct error *ret_error)
{
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = NULL;
        _cleanup_(X509_free_p) X509 *x = NULL;
        _cleanup_free_ char *pem = NULL;
        struct ca_subject subject = *s;
        int r = ca_make_key(&key, ret_error);

        if (r < 0)
                return r;
        subject.key = key;
        r = ca_make_certificate(&subject, by, &x, ret_error);
        if (r == 0)
                r = ca_save_key(key_path, key, ret_error);
        if (r < 0)
                return r;
        pem = ca_certificate_to_pem(x);
        return file_save(certificate_path, pem, strlen(pem), 0644, ret_error);
}

static int make_root(struct ca *c, int64_t now_unix, struct error *ret_error)
{
        char name[64];
        uint32_t mark;
        struct ca_subject s = {.kind = CA_KIND_ROOT,
                .organisation = ORGANISATION,
                .common_name = name,
                .not_before_unix = now_unix - CA_CLOCK_TOLERANCE_S,
                .not_after_unix = now_unix + ROOT_DAYS * CA_DAY_S};

        /* Without the root a new one would lock every node out. */
        if (has_intermediate_file(c))
                return error_set(ret_error, ENOENT, "ca.no-root",
                        "%s is missing, though it signed the intermediates in %s; put it back", c->root_path,
                        c->folder);
        /* Two installations' roots must not have the same name: what is verified with the wrong one would
         * look forged, not foreign. */
        random_bytes(&mark, sizeof(mark));
        snprintf(name, sizeof(name), ORGANISATION " Root CA %08x", mark);
        return make_pair(&s, NULL, c->root_path, c->root_key_path, ret_error);
}

static int open_root(struct ca *c, int64_t now_unix, struct error *ret_error)
{
        int r;

        if (now_unix < SOFTWARE_UNIX)
                return error_set(ret_error, ESTALE, "clock.wrong",
                        "the clock is years behind: certificates would be wrong; set it first");
        if (!file_is_there(c->root_path)) {
                r = make_root(c, now_unix, ret_error);
                if (r < 0)
                        return r;
        }
        r = load_pair(c->root_path, c->root_key_path, &c->root, ret_error);
        if (r < 0)
                return r;
        if (now_unix < x509_time_to_unix(X509_get0_notBefore(c->root.certificate)))
                return error_set(ret_error, ESTALE, "clock.wrong",
                        "the clock is behind: %s is not valid yet; set the clock", c->root_path);
        return 0;
}

static bool is_in_force(const struct ca_issuer *i, int64_t now_unix)
{
        return x509_time_to_unix(X509_get0_notBefore(i->certificate)) <= now_unix &&
               now_unix < x509_time_to_unix(X509_get0_notAfter(i->certificate));
}

int ca_signing_issuer(
        const struct ca *c, int64_t now_unix, const struct ca_issuer **ret, struct error *ret_error)
{
        for (size_t i = 0; i < c->intermediate_count; i++)
                if (c->intermediates[i].key && is_in_force(&c->intermediates[i], now_unix)) {
                        *ret = &c->intermediates[i];
                        return 0;
                }
        return error_set(ret_error, ESTALE, "ca.no-intermediate",
                "no intermediate in %s is in force: check the clock; a new one needs the root's key as %s",
                c->folder, c->root_key_path);
}

static int make_intermediate(struct ca *c, int64_t now_unix, struct error *ret_error)
{
        unsigned generation = c->intermediate_count ? c->intermediates[0].generation + 1 : 1;
        int64_t root_end = x509_time_to_unix(X509_get0_notAfter(c->root.certificate));
        _cleanup_free_ char *certificate = intermediate_path(c, generation, "crt"),
                            *key = intermediate_path(c, generation, "key");
        char root[80] = "", name[128];
        struct ca_subject s = {.kind = CA_KIND_INTERMEDIATE,
                .organisation = ORGANISATION,
                .common_name = name,
                .not_before_unix = now_unix - CA_CLOCK_TOLERANCE_S,
                .not_after_unix = now_unix + INTERMEDIATE_DAYS * CA_DAY_S};
        int r;

        if (s.not_after_unix > root_end)
                s.not_after_unix = root_end;
        X509_NAME_get_text_by_NID(
                X509_get_subject_name(c->root.certificate), NID_commonName, root, sizeof(root));
        /* A name of its own for each, so that lists of revoked certificates cannot be mistaken. */
        snprintf(name, sizeof(name), ORGANISATION " CA %u %.8s", generation,
                strlen(root) >= 8 ? root + strlen(root) - 8 : root);
        r = make_pair(&s, &c->root, certificate, key, ret_error);
        return r < 0 ? r : load_intermediate(c, generation, ret_error);
}

static int keep_intermediate(struct ca *c, int64_t now_unix, struct error *ret_error)
{
        const struct ca_issuer *present;
        int r = ca_signing_issuer(c, now_unix, &present, ret_error);

        if (r == 0 && !ca_certificate_is_due(present->certificate, now_unix))
                return 0;
        if (!c->root.key)
                return r; /* while the present one lasts */
        return make_intermediate(c, now_unix, ret_error);
}

/* Saves unless the file says so already. */
static int save_text(
        const char *path, const char *text, mode_t mode, bool *ret_changed, struct error *ret_error)
{
        _cleanup_free_ char *old = NULL;

        if (file_read(path, CA_PEM_MAXIMUM * CA_MAX_ISSUERS, &old, NULL, NULL) == 0 && str_equal(old, text))
                return 0;
        *ret_changed = true;
        return file_save(path, text, strlen(text), mode, ret_error);
}

static int save_bundle(struct ca *c, int64_t now_unix, bool *ret_changed, struct error *ret_error)
{
        struct text chain = {0}, bundle = {0};
        int r;

        text_add(&bundle, c->root.pem);
        for (size_t i = 0; i < c->intermediate_count; i++)
                if (is_in_force(&c->intermediates[i], now_unix)) {
                        text_add(&chain, c->intermediates[i].pem);
                        text_add(&bundle, c->intermediates[i].pem);
                }
        r = save_text(c->bundle_path, text_string(&bundle), 0644, ret_changed, ret_error);
        text_done(&bundle);
        free(c->chain_pem);
        c->chain_pem = text_take(&chain);
        return r;
}

int ca_maintain(struct ca *c, int64_t now_unix, bool *ret_changed, struct error *ret_error)
{
        bool changed = false;
        int r = keep_intermediate(c, now_unix, ret_error);

        if (r == 0)
                r = save_bundle(c, now_unix, &changed, ret_error);
        if (r == 0 && ca_crl_is_due(c, now_unix)) {
                changed = true;
                r = ca_crl_save(c, now_unix, ret_error);
        }
        if (r == 0)
                *ret_changed = changed;
        return r;
}

static int prepare_folders(const struct ca *c, struct error *ret_error)
{
        _cleanup_free_ char *root = path_join(c->folder, "root"), *server = path_join(c->folder, "server");
        int r = folder_prepare(c->folder, 0755, ret_error);

        if (r == 0)
                r = folder_prepare(root, 0700, ret_error);
        if (r == 0)
                r = folder_prepare(server, 0755, ret_error);
        if (r == 0)
                r = folder_check_file(root, "root.key", ret_error);
        return r < 0 ? r : folder_check_file(c->folder, "root.crt", ret_error);
}

int ca_open(const char *folder, int64_t now_unix, struct ca **ret, struct error *ret_error)
{
        _cleanup_(ca_free_p) struct ca *c = xcalloc(1, sizeof(*c));
        bool changed;
        int r;

        c->folder = xstrdup(folder);
        c->root_path = path_join(folder, "root.crt");
        c->root_key_path = path_join(folder, "root/root.key");
        c->bundle_path = path_join(folder, "bundle.crt");
        c->crl_path = path_join(folder, "revoked.crl");
        r = prepare_folders(c, ret_error);
        if (r == 0)
                r = open_root(c, now_unix, ret_error);
        if (r == 0)
                r = load_intermediates(c, ret_error);
        if (r < 0)
                return r;
        ca_crl_load(c);
        r = ca_maintain(c, now_unix, &changed, ret_error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

/* ---- asking ---- */

const char *ca_root_pem(const struct ca *c)
{
        return c->root.pem;
}

const char *ca_chain_pem(const struct ca *c)
{
        return c->chain_pem;
}

const char *ca_root_path(const struct ca *c)
{
        return c->root_path;
}

const char *ca_bundle_path(const struct ca *c)
{
        return c->bundle_path;
}

const char *ca_crl_path(const struct ca *c)
{
        return c->crl_path;
}

void ca_root_fingerprint(const struct ca *c, char ret[X509_FINGERPRINT_TEXT])
{
        x509_fingerprint(c->root.certificate, ret);
}
