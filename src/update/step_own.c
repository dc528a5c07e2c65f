/* The node's own package: a copy of what runs, then the newer one. */
#include "update/updater.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/paths.h"
#include "base/text.h"
#include "update/kept.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- the copy ---- */

static int repack(struct updater *u, const struct dpkg_package *p, const char *to)
{
        static const char *const words[] = {"/usr/bin/dpkg-repack", OWN_PACKAGE, NULL};
        _cleanup_free_ char *folder = path_join(u->journal.place.kept, "new"), *made = NULL;
        int r;

        if (access(words[0], X_OK) < 0)
                return updater_fail(u,
                        "no copy of the running version can be made: %s is not there; install "
                        "dpkg-repack",
                        words[0]);
        kept_clear(folder);
        r = folder_prepare(folder, 0700, NULL);
        if (r < 0)
                return updater_fail(
                        u, "no copy of the running version can be made in %s: %s", folder, strerror(-r));
        r = updater_program(u, 0, words, folder, NULL, NULL, NULL);
        if (r < 0 || u->was_killed)
                return r;
        made = kept_find(folder, p);
        if (r != 0 || !made)
                return updater_fail(u,
                        "no copy of the running version can be made: dpkg-repack ended with %d; the "
                        "log tells why",
                        r);
        r = kept_put(made, to);
        kept_clear(folder);
        return r < 0 ? updater_fail(u, "the copy of the running version cannot be kept as %s: %s", to,
                               strerror(-r))
                     : 0;
}

int step_keep(struct updater *u)
{
        struct dpkg_package p;
        _cleanup_free_ char *path = NULL;
        struct stat st;
        int r;

        if (!updater_find_package(u, OWN_PACKAGE, &p))
                return updater_fail(u, OWN_PACKAGE " is not installed any more");
        /* After a power cut in the midst of the installation the version that ran is kept already. */
        path = kept_path(u->journal.place.kept, u->journal.state.version_from, p.architecture);
        journal_begin(&u->journal, STEP_KEEP, "a copy of %s", u->journal.state.version_from);
        if (stat(path, &st) != 0 || kept_verify(path, u->journal.state.version_from) < 0) {
                if (!str_equal(p.version, u->journal.state.version_from) || !dpkg_package_is_installed(&p))
                        return updater_fail(u,
                                "%s %s is %s: there is no running version of which a copy could be kept",
                                p.name, p.version, dpkg_state_to_words(p.state));
                r = repack(u, &p, path);
                for (unsigned i = 1; r > 0 && i < UPDATER_ATTEMPTS; i++)
                        r = repack(u, &p, path);
                if (r < 0)
                        return r;
        }
        if (stat(path, &st) != 0 || kept_verify(path, u->journal.state.version_from) < 0)
                return updater_fail(u, "the copy %s cannot be read as a package", path);
        journal_end(&u->journal, STEP_KEEP, STEP_DONE, "%s, %.1f MB", path, (double)st.st_size / 1e6);
        return 0;
}

/* ---- the newer one ---- */

static bool is_there(struct updater *u, struct dpkg_package *ret)
{
        return updater_find_package(u, OWN_PACKAGE, ret) && dpkg_package_is_installed(ret) &&
               str_equal(ret->version, u->journal.state.version_to);
}

/* The archive as it was installed is the next update's copy. */
static void keep_archive(struct updater *u, const struct dpkg_package *p)
{
        _cleanup_free_ char *from = kept_find(u->own.archives, p),
                            *to = kept_path(u->journal.place.kept, p->version, p->architecture);

        if (from && kept_verify(from, p->version) == 0 && kept_put(from, to) < 0)
                journal_log(&u->journal, "the archive of %s cannot be kept; a copy is made when it is needed",
                        p->version);
}

static int installed(struct updater *u, const struct dpkg_package *p)
{
        keep_archive(u, p);
        journal_end(&u->journal, STEP_OWN, STEP_DONE, "%s", p->version);
        return 0;
}

/* Once from here on, whatever is killed when. */
static int decide(struct updater *u)
{
        struct journal *j = &u->journal;
        enum update_decision decision = UPDATE_UNDECIDED;
        struct error e = {0};

        if (update_decide(&j->place, j->state.job.id, UPDATE_INSTALLING, &decision, &e) < 0)
                return updater_fail(u, "%s", e.text);
        if (decision == UPDATE_CANCELLED)
                return -ECANCELED;
        return j->save_failure ? updater_fail(u, "nothing is installed as long as %s cannot be written: %s",
                                         j->place.state, strerror(j->save_failure))
                               : 0;
}

/* What dpkg did not bring in is half there: the judge puts the kept version back. */
static int not_installed(struct updater *u, bool explained)
{
        struct dpkg_package p;
        bool is_old = updater_find_package(u, OWN_PACKAGE, &p) && dpkg_package_is_installed(&p) &&
                      str_equal(p.version, u->journal.state.version_from);

        if (!explained)
                updater_explain(u, "the installation of the node's own package");
        if (is_old)
                return -EIO;
        journal_end(&u->journal, STEP_OWN, STEP_FAILED, "%s", u->failure);
        return UPDATER_RESTORE;
}

int step_own(struct updater *u)
{
        struct update_state *s = &u->journal.state;
        _cleanup_free_ char *own = xasprintf(OWN_PACKAGE "=%s", s->version_to);
        const char *const install[] = {"--only-upgrade", "install", own, NULL};
        struct dpkg_package p;
        int r = decide(u);

        if (r < 0)
                return r;
        journal_begin(&u->journal, STEP_OWN, "%s", s->version_to);
        if (u->journal.save_failure)
                return decide(u);
        /* Somebody may have killed apt, dpkg or the package's own script, which is no fault of the package:
         * it has failed when it fails each time. What is left of dpkg is waited for, and repaired, in
         * between. */
        for (unsigned i = 0; i < UPDATER_ATTEMPTS; i++) {
                r = updater_repair_dpkg(u, STEP_OWN);
                if (r < 0)
                        return r == -EINTR ? r : not_installed(u, true);
                if (is_there(u, &p))
                        return installed(u, &p);
                r = updater_apt(u, &u->own, UPDATER_CHANGES_SYSTEM, install, NULL, NULL);
                if (r < 0)
                        return r;
                if (is_there(u, &p))
                        return installed(u, &p);
        }
        return not_installed(u, false);
}

int step_judge(struct updater *u)
{
        (void)u;
        return UPDATER_JUDGE;
}
