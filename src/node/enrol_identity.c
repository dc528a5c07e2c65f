/* The files of an identity. See enrol.h for how one rename changes all of them. */
#include "node/enrol_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/privileges.h"
#include "base/random.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define USER           "gridnode"
#define LINK           "identity"
#define FILE_MAX_BYTES ((size_t)1 << 20)

static const char *const fixed_names[] = {"node.key", "node.crt", "grid-root.pem", "identity.json"};
#define MAX_NAMES (ELEMENTS(fixed_names) + 1)

static int file_error(struct error *ret_error, const char *doing, const char *path)
{
        int number = errno;

        return error_set(
                ret_error, number, "file.unwritable", "cannot %s %s: %s", doing, path, strerror(number));
}

/* ---- whose they are ---- */

int enrol_identity_prepare(const struct paths *p, struct error *ret_error)
{
        const struct passwd *user = geteuid() == 0 ? getpwnam(USER) : NULL;
        struct stat st;
        int r;

        if (!user)
                return folder_prepare(p->state, 0755, ret_error);
        if (lstat(p->state, &st) < 0) {
                r = folder_prepare(p->state, 0755, ret_error);
                if (r < 0)
                        return r;
                st.st_uid = 0;
        }
        /* Never through a symlink, and never from anybody else. */
        if (st.st_uid == 0 && lchown(p->state, user->pw_uid, user->pw_gid) < 0)
                return file_error(ret_error, "give away", p->state);
        r = privileges_drop(USER, NULL, 0, ret_error);
        return r < 0 ? r : folder_prepare(p->state, 0755, ret_error);
}

/* ---- a new folder ---- */

/* The key is the node's alone; the rest is for hand tools as well, whoever runs them. */
static int save_in(const char *folder, const char *name, const char *text, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(folder, name);

        return file_save(path, text, strlen(text), str_equal(name, "node.key") ? 0600 : 0644, ret_error);
}

static char *profile_file(const char *name)
{
        return xasprintf("%s.profile", name);
}

static int write_files(
        const char *folder, const struct wire_identity *i, EVP_PKEY *key, struct error *ret_error)
{
        _cleanup_free_ char *key_path = path_join(folder, "node.key"),
                            *profile = profile_file(i->profile_name), *text = NULL;
        json_t *identity = json_pack("{s:i, s:s, s:s, s:s, s:s}", "schema", 1, "node", i->node, "name",
                i->name, "organisation", i->organisation, "profile", i->profile_name);
        int r;

        text = json_dumps(identity, JSON_INDENT(2));
        json_decref(identity);
        if (!text)
                return error_set(ret_error, EBADMSG, "identity.wrong", "the identity's names are not UTF-8");
        r = enrol_key_save(key_path, key, ret_error);
        if (r == 0)
                r = save_in(folder, "node.crt", i->certificate_pem, ret_error);
        if (r == 0)
                r = save_in(folder, "grid-root.pem", i->root_pem, ret_error);
        if (r == 0)
                r = save_in(folder, profile, i->profile, ret_error);
        return r < 0 ? r : save_in(folder, "identity.json", text, ret_error);
}

static int wrong(struct error *ret_error, const char *what)
{
        ERR_clear_error();
        return error_set(ret_error, EBADMSG, "identity.wrong",
                "what the control plane answered is not used: %s; the node stays as it was", what);
}

/* The chain as it would be shown: the node's own, leading to the root that came with it. */
static int check_chain(struct trust *t, const char *pem, const char *node, EVP_PKEY *key,
        int64_t *ret_not_after_unix, struct error *ret_error)
{
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new_mem_buf(pem, -1);
        STACK_OF(X509) *chain = sk_X509_new_null();
        struct trust_verdict v;
        char name[WIRE_ID_MAXIMUM + 2] = "";
        const char *problem = NULL;
        X509 *x;

        while (sk_X509_num(chain) < TRUST_CHAIN_MAX && (x = x509_read(bio)))
                sk_X509_push(chain, x);
        trust_judge(t, chain, NULL, time(NULL), &v);
        x = sk_X509_value(chain, 0);
        if (!x || EVP_PKEY_eq(X509_get0_pubkey(x), key) != 1)
                problem = "the certificate is not for this node's key";
        else if (!v.trusted)
                problem = "the certificate does not lead to the root that came with it";
        else if (X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof(name)) <
                         0 ||
                 !str_equal(name, node))
                problem = "the certificate is not for this node's id";
        else
                *ret_not_after_unix = x509_time_to_unix(X509_get0_notAfter(x));
        sk_X509_pop_free(chain, X509_free);
        ERR_clear_error();
        return problem ? wrong(ret_error, problem) : 0;
}

/* By the code that will use them. */
static int check_files(const char *folder, const struct wire_identity *i, EVP_PKEY *key,
        int64_t *ret_not_after_unix, struct error *ret_error)
{
        _cleanup_free_ char *root = path_join(folder, "grid-root.pem"),
                            *certificate = path_join(folder, "node.crt"),
                            *key_path = path_join(folder, "node.key"), *name = profile_file(i->profile_name),
                            *profile_path = path_join(folder, name);
        struct trust_options o = {
                .root_ca_path = root, .certificate_path = certificate, .key_path = key_path};
        _cleanup_(trust_free_p) struct trust *t = NULL;
        struct profile *profile = NULL;
        struct error e = {0};

        if (trust_new(&o, &t, &e) < 0)
                return wrong(ret_error, e.text);
        if (trust_certificate_problem(t) || !trust_has_certificate(t))
                return wrong(ret_error,
                        trust_certificate_problem(t) ? trust_certificate_problem(t) : "no certificate in it");
        if (profile_load(profile_path, &profile, &e) < 0)
                return wrong(ret_error, e.text);
        profile_free(profile);
        return check_chain(t, i->certificate_pem, i->node, key, ret_not_after_unix, ret_error);
}

/* ---- in force ---- */

static int sync_folder(const char *path, struct error *ret_error)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0 || (fsync(fd) < 0 && errno != EINVAL))
                return file_error(ret_error, "save", path);
        return 0;
}

/* STATE/NAME → TARGET, in one step. */
static int put_link(const struct paths *p, const char *name, const char *target, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(p->state, name), *temporary = xasprintf("%s.link", path);

        unlink(temporary);
        if (symlink(target, temporary) < 0 || rename(temporary, path) < 0)
                return file_error(ret_error, "make the link", path);
        return sync_folder(p->state, ret_error);
}

static bool is_file(const struct paths *p, const char *name)
{
        _cleanup_free_ char *path = path_join(p->state, name);
        struct stat st;

        return lstat(path, &st) == 0 && S_ISREG(st.st_mode);
}

static bool is_link(const struct paths *p, const char *name)
{
        _cleanup_free_ char *path = path_join(p->state, name);
        struct stat st;

        return lstat(path, &st) == 0 && S_ISLNK(st.st_mode);
}

/* Links are followed: one that leads nowhere is not there. */
static bool is_there(const struct paths *p, const char *name)
{
        _cleanup_free_ char *path = path_join(p->state, name);

        return access(path, F_OK) == 0;
}

static int make_folder(const struct paths *p, char **ret_name, char **ret_path, struct error *ret_error)
{
        char id[RANDOM_ID_TEXT];
        _cleanup_free_ char *path = NULL;

        random_id(LINK, id);
        path = path_join(p->state, id);
        if (mkdir(path, 0755) < 0 || chmod(path, 0755) < 0)
                return file_error(ret_error, "make the folder", path);
        *ret_name = xstrdup(id);
        *ret_path = TAKE_PTR(path);
        return 0;
}

static int copy_file(const struct paths *p, const char *name, const char *folder, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(p->state, name);
        char *text = NULL;
        size_t length = 0;
        int r = file_read(path, FILE_MAX_BYTES, &text, &length, ret_error);

        if (r == 0)
                r = save_in(folder, name, text, ret_error);
        if (text)
                OPENSSL_cleanse(text, length);
        free(text);
        return r;
}

/* Plain files that somebody put there become an identity of their own first, so that they change together
 * with the rest. */
static int adopt_files(const struct paths *p, const char *const *names, size_t count, struct error *ret_error)
{
        _cleanup_free_ char *name = NULL, *folder = NULL;
        int r = make_folder(p, &name, &folder, ret_error);

        /* After a crash some of them are links already; what those show is copied, too. */
        for (size_t i = 0; i < count && r == 0; i++)
                if (is_there(p, names[i]))
                        r = copy_file(p, names[i], folder, ret_error);
        return r < 0 ? r : put_link(p, LINK, name, ret_error);
}

static int make_links(const struct paths *p, const char *const *names, size_t count, struct error *ret_error)
{
        bool has_files = false;
        int r = 0;

        for (size_t i = 0; i < count; i++)
                has_files |= is_file(p, names[i]);
        if (has_files)
                r = adopt_files(p, names, count, ret_error);
        for (size_t i = 0; i < count && r == 0; i++) {
                _cleanup_free_ char *target = xasprintf(LINK "/%s", names[i]);

                if (!is_link(p, names[i]))
                        r = put_link(p, names[i], target, ret_error);
        }
        return r;
}

static void remove_folder(const char *path)
{
        DIR *folder = opendir(path);
        struct dirent *entry;

        while (folder && (entry = readdir(folder)))
                unlinkat(dirfd(folder), entry->d_name, 0);
        if (folder)
                closedir(folder);
        rmdir(path);
}

/* What earlier identities and interrupted attempts left. */
static void remove_others(const struct paths *p, const char *keep)
{
        DIR *folder = opendir(p->state);
        struct dirent *entry;

        while (folder && (entry = readdir(folder))) {
                _cleanup_free_ char *path = path_join(p->state, entry->d_name);

                if (str_starts_with(entry->d_name, LINK "-") && !str_equal(entry->d_name, keep))
                        remove_folder(path);
        }
        if (folder)
                closedir(folder);
}

/* A disk that fails may do so after the rename. */
static bool is_in_force(const struct paths *p, const char *name)
{
        _cleanup_free_ char *path = path_join(p->state, LINK);
        char target[RANDOM_ID_TEXT] = "";

        return readlink(path, target, sizeof(target) - 1) > 0 && str_equal(target, name);
}

int enrol_identity_switch(const struct paths *p, const struct wire_identity *i, EVP_PKEY *key,
        int64_t *ret_not_after_unix, struct error *ret_error)
{
        _cleanup_free_ char *name = NULL, *folder = NULL, *profile = profile_file(i->profile_name);
        const char *names[MAX_NAMES];
        int64_t not_after = 0;
        int r = make_folder(p, &name, &folder, ret_error);

        if (r < 0)
                return r;
        memcpy(names, fixed_names, sizeof(fixed_names));
        names[MAX_NAMES - 1] = profile;
        r = write_files(folder, i, key, ret_error);
        if (r == 0)
                r = check_files(folder, i, key, &not_after, ret_error);
        if (r == 0)
                r = make_links(p, names, MAX_NAMES, ret_error);
        if (r == 0)
                r = put_link(p, LINK, name, ret_error);
        if (r < 0) {
                if (!is_in_force(p, name))
                        remove_folder(folder);
                return r;
        }
        remove_others(p, name);
        *ret_not_after_unix = not_after;
        return 0;
}
