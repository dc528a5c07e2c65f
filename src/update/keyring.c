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

/* Into UPDATE/apt; true when it came. */
static bool download(struct updater *u, const char *name, const char *to)
{
        _cleanup_free_ char *uri = xasprintf("gridnode://%s/debian/%s", u->repository.host, name),
                            *settings = xasprintf("APT_CONFIG=%s", u->own.settings);
        const char *const words[] = {APT_HELPER, "download-file", uri, to, NULL}, *const environment[] = {
                                                                                          settings, NULL};

        unlink(to);
        return updater_program(u, 0, words, NULL, environment, NULL, NULL) == 0 && access(to, R_OK) == 0;
}

static bool is_vouched_for(struct updater *u, const char *keyring, const char *signature)
{
        const char *const words[] = {
                GPGV, "--quiet", "--keyring", u->repository.keyring, signature, keyring, NULL};

        return updater_program(u, 0, words, u->journal.place.apt, NULL, NULL, NULL) == 0;
}

bool updater_renew_keyring(struct updater *u)
{
        _cleanup_free_ char *keyring = path_join(u->journal.place.apt, "keyring.new"),
                            *signature = path_join(u->journal.place.apt, "keyring.new.sig"), *now = NULL,
                            *next = NULL;
        size_t now_length = 0, next_length = 0;
        struct error e = {0};

        if (file_read(u->repository.keyring, KEYRING_MAXIMUM, &now, &now_length, NULL) < 0 ||
                !download(u, "keyring.gpg", keyring) ||
                file_read(keyring, KEYRING_MAXIMUM, &next, &next_length, NULL) < 0)
                return false;
        if (now_length == next_length && memcmp(now, next, now_length) == 0)
                return false;
        if (!download(u, "keyring.gpg.sig", signature) || !is_vouched_for(u, keyring, signature)) {
                journal_log(&u->journal,
                        "the repository offers another keyring, which no key that this node trusts has "
                        "signed: it is not taken");
                return false;
        }
        /* What was checked, not what is in the file by now. */
        if (file_save(u->repository.keyring, next, next_length, 0644, &e) < 0) {
                journal_log(&u->journal, "%s", e.text);
                return false;
        }
        journal_log(&u->journal, "the repository's keyring was renewed, vouched for by the one before");
        return true;
}
