/* Looking up, connecting, downloading: nothing of the machine changes yet. */
#include "update/updater.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"
#include "net/budget.h"
#include "update/refused.h"
#include "update/release_text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#define MARGIN_BYTES    ((uint64_t)64 << 20)
#define RELEASE_MAXIMUM ((size_t)4 << 20)

/* ---- lists ---- */

static int fetch_lists(struct updater *u, enum update_step_name step)
{
        static const char *const update[] = {"--error-on=any", "update", NULL};
        int r = u->has_lists ? 0 : updater_apt_patiently(u, step, &u->own, update);

        u->has_lists = r == 0;
        return r;
}

/* The name is looked up by the apt method, which asks the configured DNS servers from the WAN: as long as
 * that fails, it is this step that waits, and afterwards it is the next. */
int step_look_up(struct updater *u)
{
        journal_begin(&u->journal, STEP_LOOK_UP, "%s", u->repository.host);
        return fetch_lists(u, STEP_LOOK_UP);
}

static char *find_release(const struct world *w)
{
        _cleanup_closedir_ DIR *d = opendir(w->lists);
        const struct dirent *entry;

        while (d && (entry = readdir(d)))
                if (str_ends_with(entry->d_name, "Release"))
                        return path_join(w->lists, entry->d_name);
        return NULL;
}

bool updater_repository_has_security(const struct updater *u)
{
        _cleanup_free_ char *path = find_release(&u->security);

        return path != NULL;
}

/* The channel "security" is to be what Debian's security team publishes: its packages are installed because
 * of that, so that nothing else may come by it. */
static int check_origin(struct updater *u)
{
        _cleanup_free_ char *path = find_release(&u->security), *text = NULL;
        struct release_text release;
        size_t length;

        if (!path || file_read(path, RELEASE_MAXIMUM, &text, &length, NULL) < 0)
                return 0;
        release_text_parse(text, length, &release);
        if (release_is_security(&release))
                return 0;
        return updater_fail(u,
                "the repository's channel '" WORLD_SECURITY_SUITE
                "' says that it is of %s (%s), not Debian's security origin; nothing is taken from it: see "
                "to the "
                "channel on the control plane",
                release.origin[0] ? release.origin : "nobody", release.label[0] ? release.label : "no label");
}

static int fetch_security_lists(struct updater *u)
{
        static const char *const update[] = {"--error-on=any", "update", NULL};
        int r = updater_apt_patiently(u, STEP_CONNECT, &u->security, update);

        if (r == -ENOENT) {
                journal_log(&u->journal, "the repository has no channel '" WORLD_SECURITY_SUITE
                                         "': the operating system's packages are left alone");
                u->failure[0] = '\0';
                return 0;
        }
        return r < 0 ? r : check_origin(u);
}

/* ---- the plan ---- */

static void drop_packages(struct updater *u)
{
        struct update_state *s = &u->journal.state;

        free(s->packages);
        s->packages = NULL;
        s->package_count = 0;
        s->version_to[0] = '\0';
        s->size = s->bytes = s->needs_bytes = 0;
}

static void name_versions(struct updater *u)
{
        struct update_state *s = &u->journal.state;

        for (size_t i = 0; i < s->package_count; i++)
                if (str_equal(s->packages[i].name, OWN_PACKAGE))
                        str_copy(s->version_to, sizeof s->version_to, s->packages[i].to);
}

/* "": the own package may be updated. */
static void why_not_own(struct updater *u, char *ret, size_t size)
{
        struct update_state *s = &u->journal.state;
        struct refused refused = {0};
        const struct refused_version *v;
        struct dpkg_package p;
        char at[32];

        ret[0] = '\0';
        if (!updater_find_package(u, OWN_PACKAGE, &p)) {
                snprintf(ret, size, "it was not installed as a package on this machine");
                return;
        }
        str_copy(s->version_from, sizeof s->version_from, p.version);
        if (p.wanted == 'h') {
                snprintf(ret, size, "it is on hold here: 'apt-mark unhold " OWN_PACKAGE "' lets it go");
                return;
        }
        refused_load(u->journal.place.refused, &refused, NULL);
        v = s->version_to[0] && !s->job.again ? refused_find(&refused, s->version_to) : NULL;
        if (!v)
                return;
        time_format_utc(v->at_unix_ms, at);
        snprintf(ret, size, "%s failed on this node at %s and is not offered to it again: %.200s", v->version,
                at, v->why);
}

static int plan_own(struct updater *u)
{
        static const char *const install[] = {"--only-upgrade", "install", OWN_PACKAGE, NULL};
        struct journal *j = &u->journal;
        char why[400];
        int r;

        why_not_own(u, why, sizeof why);
        r = why[0] ? 0 : updater_plan(u, &u->own, false, install);
        if (r == -ENOENT) {
                /* An empty channel is no fault of the node's. */
                snprintf(why, sizeof why, "the channel '%s' does not have it", j->state.job.channel);
                r = 0;
        }
        if (r < 0)
                return r;
        name_versions(u);
        if (!why[0])
                why_not_own(u, why, sizeof why);
        if (!why[0] && !j->state.version_to[0])
                snprintf(why, sizeof why, "%s is the newest", j->state.version_from);
        if (why[0]) {
                drop_packages(u);
                u->file_count = 0;
                u->space_bytes = 0;
                journal_end(j, STEP_KEEP, STEP_SKIPPED, "nothing is to be replaced");
                journal_end(j, STEP_OWN, STEP_SKIPPED, "%s", why);
                journal_end(j, STEP_JUDGE, STEP_SKIPPED, "the daemon stays as it is");
        }
        return 0;
}

static void count_files(struct updater *u, uint64_t *size)
{
        for (size_t i = 0; i < u->file_count; i++)
                *size += u->files[i].bytes;
}

static uint64_t free_at(const char *path)
{
        struct statvfs v;

        return statvfs(path, &v) < 0 ? UINT64_MAX : (uint64_t)v.f_bavail * v.f_frsize;
}

static double eta_ms(const struct updater *u, uint64_t bytes)
{
        struct budget *b = NULL;
        uint64_t rate = 0;

        /* Made by who moves bytes first, never by us: it would be root's. */
        if (access(u->repository.budget, F_OK) == 0 && budget_open(u->repository.budget, &b, NULL) == 0) {
                rate = budget_rate_seen(b);
                budget_close(b);
        }
        return bytes == 0 ? 0 : rate > 0 ? (double)bytes * 1000 / (double)rate : -1;
}

static int make_plan(struct updater *u)
{
        static const char *const upgrade[] = {"--with-new-pkgs", "upgrade", NULL};
        struct update_state *s = &u->journal.state;
        int64_t space = 0;
        uint64_t size = 0;
        int r;

        drop_packages(u);
        r = plan_own(u);
        if (r < 0)
                return r;
        count_files(u, &size);
        space += u->space_bytes;
        if (updater_repository_has_security(u)) {
                r = updater_plan(u, &u->security, true, upgrade);
                if (r < 0)
                        return r;
                count_files(u, &size);
                space += u->space_bytes;
        }
        s->size = size;
        s->needs_bytes = size + (space > 0 ? (uint64_t)space : 0) + MARGIN_BYTES;
        s->free_bytes = free_at(u->journal.place.folder);
        if (free_at("/usr") < s->free_bytes)
                s->free_bytes = free_at("/usr");
        s->eta_ms = eta_ms(u, size);
        return 0;
}

static void tell_plan(struct updater *u)
{
        const struct update_state *s = &u->journal.state;
        char eta[64] = "";

        for (size_t i = 0; i < s->package_count; i++)
                journal_log(&u->journal, "would change: %s %s -> %s (%llu bytes to fetch%s)",
                        s->packages[i].name, s->packages[i].from[0] ? s->packages[i].from : "(new)",
                        s->packages[i].to, (unsigned long long)s->packages[i].bytes,
                        s->packages[i].security ? ", security" : "");
        if (s->size > 0 && s->eta_ms >= 0)
                snprintf(eta, sizeof eta, ", about %.0f s at the rate measured", s->eta_ms / 1000);
        journal_end(&u->journal, STEP_CONNECT, STEP_DONE, "%zu packages would change, %.1f MB to fetch%s",
                s->package_count, (double)s->size / 1e6, eta);
}

int step_connect(struct updater *u)
{
        int r;

        journal_begin(&u->journal, STEP_CONNECT, "https://%s/debian", u->repository.host);
        r = fetch_lists(u, STEP_CONNECT);
        if (r < 0)
                return r;
        updater_renew_keyring(u);
        r = fetch_security_lists(u);
        if (r == 0)
                r = make_plan(u);
        if (r == 0)
                tell_plan(u);
        return r;
}

/* ---- download ---- */

static int fetch(
        struct updater *u, const struct world *w, const char *const *what, const char *const *download)
{
        size_t count = u->journal.state.package_count;
        int r = updater_plan(u, w, false, what);

        u->journal.state.package_count = count; /* they are known already */
        if (r < 0)
                return r;
        if (u->file_count == 0)
                return 0;
        u->fetching = w;
        u->fetching_step = STEP_DOWNLOAD;
        u->rate_at_ms = 0;
        r = updater_apt_patiently(u, STEP_DOWNLOAD, w, download);
        u->fetching = NULL;
        for (size_t i = 0; r == 0 && i < u->file_count; i++)
                u->fetched_before += u->files[i].bytes;
        u->journal.state.bytes = u->fetched_before;
        return r;
}

int step_download(struct updater *u)
{
        static const char *const upgrade[] = {"--with-new-pkgs", "upgrade", NULL}, *const fetch_upgrade[] = {
                                                                                           "--download-only",
                                                                                           "--with-new-pkgs",
                                                                                           "upgrade", NULL};
        struct update_state *s = &u->journal.state;
        _cleanup_free_ char *own = xasprintf(OWN_PACKAGE "=%s", s->version_to);
        const char *const install[] = {"--only-upgrade", "install", own, NULL}, *const fetch_install[] = {
                                                                                        "--download-only",
                                                                                        "--only-upgrade",
                                                                                        "install", own, NULL};
        int r = 0;

        journal_begin(&u->journal, STEP_DOWNLOAD, "%.1f MB", (double)s->size / 1e6);
        if (s->free_bytes < s->needs_bytes)
                return updater_fail(u,
                        "the disk has %.0f MB free where the update needs %.0f MB (the packages, what they "
                        "unpack to, and a margin): make room in /usr and /var",
                        (double)s->free_bytes / 1e6, (double)s->needs_bytes / 1e6);
        u->fetched_before = 0;
        if (s->version_to[0])
                r = fetch(u, &u->own, install, fetch_install);
        if (r == 0 && updater_repository_has_security(u))
                r = fetch(u, &u->security, upgrade, fetch_upgrade);
        if (r == 0)
                journal_end(&u->journal, STEP_DOWNLOAD, STEP_DONE, "%.1f MB", (double)s->size / 1e6);
        return r;
}
