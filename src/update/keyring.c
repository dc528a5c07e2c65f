/* Rotation of the repository's key: the newer keyring comes from the repository itself, and is taken when
 * the present one vouches for it. */
#include "update/updater.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define APT_HELPER      "/usr/lib/apt/apt-helper"
#define GPGV            "/usr/bin/gpgv"
#define KEYRING_MAXIMUM ((size_t)1 << 20)

/* apt's method writes it as _apt, where apt lets that user write; what is used is root's own copy, which
 * nobody changes between its check and its use. NULL: it did not come. */
static char *download(struct updater *u, const char *name, const char *to, size_t *ret_length)
{
        _cleanup_free_ char *uri = xasprintf("gridnode://%s/debian/%s", u->repository.host, name),
                            *partial = xasprintf("%s/partial/%s", u->own.lists, name),
                            *settings = xasprintf("APT_CONFIG=%s", u->own.settings), *data = NULL;
        const char *const words[] = {APT_HELPER, "download-file", uri, partial, NULL},
                          *const environment[] = {settings, NULL};
        int r;

        unlink(partial);
        r = updater_program(u, 0, words, NULL, environment, NULL, NULL);
        if (r == 0)
                r = file_read(partial, KEYRING_MAXIMUM, &data, ret_length, NULL);
        unlink(partial);
        if (r == 0)
                r = file_save(to, data, *ret_length, 0600, NULL);
        return r == 0 ? TAKE_PTR(data) : NULL;
}

struct signatures {
        unsigned good, bad;
};

/* gpgv(1), --status-fd: "[GNUPG:] GOODSIG" is of a key that is known, valid and neither expired nor revoked.
 */
static void count_signature(const char *line, void *userdata)
{
        struct signatures *s = userdata;

        s->good += str_starts_with(line, "[GNUPG:] GOODSIG ");
        s->bad += str_starts_with(line, "[GNUPG:] BADSIG ");
}

/* Its exit status says that some signature could not be checked: that of the new key never can. */
static bool is_vouched_for(struct updater *u, const char *keyring, const char *signature)
{
        const char *const words[] = {GPGV, "--quiet", "--status-fd", "1", "--keyring", u->repository.keyring,
                signature, keyring, NULL};
        struct signatures s = {0};
        int r = updater_program(u, 0, words, u->journal.place.apt, NULL, count_signature, &s);

        return r >= 0 && s.good > 0 && s.bad == 0;
}

bool updater_renew_keyring(struct updater *u)
{
        _cleanup_free_ char *keyring = path_join(u->journal.place.apt, "keyring.new"),
                            *signature = path_join(u->journal.place.apt, "keyring.new.sig"), *now = NULL,
                            *next = NULL, *signed_by = NULL;
        size_t now_length = 0, next_length = 0, signature_length = 0;
        struct error e = {0};
        int r = file_read(u->repository.keyring, KEYRING_MAXIMUM, &now, &now_length, NULL);
        bool is_first = r == -ENOENT;

        if (r < 0 && !is_first)
                return false;
        next = download(u, "keyring.gpg", keyring, &next_length);
        if (!next || (now && now_length == next_length && memcmp(now, next, now_length) == 0))
                return false;
        /* Registration brings it, unless the repository was not there yet; then it is worth what the pinned
         * root and the node's certificate are, as it would have been there. */
        if (!is_first)
                signed_by = download(u, "keyring.gpg.sig", signature, &signature_length);
        if (!is_first && (!signed_by || !is_vouched_for(u, keyring, signature))) {
                journal_log(&u->journal,
                        "the repository offers another keyring, which no key that this node trusts has "
                        "signed: it is not taken");
                return false;
        }
        if (file_save(u->repository.keyring, next, next_length, 0644, &e) < 0) {
                journal_log(&u->journal, "%s", e.text);
                return false;
        }
        journal_log(&u->journal, "%s",
                is_first ? "the repository's keyring was taken from the control plane; there was none"
                         : "the repository's keyring was renewed, vouched for by the one before");
        return true;
}
