/* Before anything is fetched: the state of dpkg, the disk, the clock. */
#include "update/updater.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#define LEAST_FREE_BYTES ((uint64_t)32 << 20)
#define DPKG             "/usr/bin/dpkg"
#define DPKG_QUERY       "/usr/bin/dpkg-query"
#define DPKG_UPDATES     "/var/lib/dpkg/updates"

/* ---- dpkg ---- */

struct broken {
        struct updater *u;
        size_t count; /* besides the node's own package */
        char list[256];
};

static void on_package(const char *line, void *userdata)
{
        struct broken *b = userdata;
        struct dpkg_package p;
        size_t length = strlen(b->list);

        /* What waits for triggers is no fault: the next run of dpkg serves it. */
        if (!dpkg_text_package(line, &p) || !dpkg_package_is_broken(&p))
                return;
        journal_log(&b->u->journal, "%s %s is %s", p.name, p.version, dpkg_state_to_words(p.state));
        b->count++;
        snprintf(b->list + length, sizeof b->list - length, "%s%s (%s)", length ? ", " : "", p.name,
                dpkg_state_to_words(p.state));
}

/* Read into the log as well: hundreds of lines of packages that are well would drown the rest, so that dpkg
 * is asked for the few that are not. */
static int list_broken(struct updater *u, struct broken *ret)
{
        static const char *const audit[] = {DPKG_QUERY, "--show", "--showformat=" DPKG_TEXT_FORMAT, NULL};

        int r = 0;

        for (unsigned i = 0; i < UPDATER_ATTEMPTS && (i == 0 || u->was_killed); i++) {
                *ret = (struct broken){.u = u};
                r = updater_quietly(u, audit, on_package, ret);
        }
        return r;
}

/* Files that a dpkg left that was ended in the midst: their names are numbers. */
static bool has_updates(void)
{
        _cleanup_closedir_ DIR *d = opendir(DPKG_UPDATES);
        const struct dirent *entry;

        while (d && (entry = readdir(d)))
                if (entry->d_name[0] != '\0' && strspn(entry->d_name, "0123456789") == strlen(entry->d_name))
                        return true;
        return false;
}

int updater_repair_dpkg(struct updater *u, enum update_step_name step)
{
        static const char *const configure[] = {
                DPKG, "--force-confdef", "--force-confold", "--configure", "-a", NULL};
        struct broken before = {0}, after = {0};
        int r = updater_await_locks(u, step);

        if (r == 0)
                r = list_broken(u, &before);
        if (r < 0 || (before.count == 0 && !has_updates()))
                return r < 0 ? r : 0;
        journal_begin(&u->journal, step, "dpkg was interrupted (%s): it is repaired",
                before.count ? before.list : "its journal says so");
        if (u->journal.state.job.action == UPDATE_CHECK || u->journal.state.job.action == UPDATE_DRY_RUN ||
                update_root_may_change(u->repository.root, NULL) < 0) {
                u->needs_repair = true;
                return 0;
        }
        r = updater_program(u, UPDATER_CHANGES_SYSTEM, configure, NULL, NULL, NULL, NULL);
        if (r < 0)
                return r;
        r = list_broken(u, &after);
        if (r < 0)
                return r;
        /* A newer version of our own may be the remedy. */
        if (after.count == 0 || (after.count == 1 && str_starts_with(after.list, OWN_PACKAGE " ")))
                return 0;
        return updater_fail(u,
                "dpkg was interrupted before this update and cannot be repaired by 'dpkg --configure -a': "
                "%s; "
                "the log tells what failed there",
                after.list);
}

static void take_package(const char *line, void *userdata)
{
        struct dpkg_package p;

        if (dpkg_text_package(line, &p))
                *(struct dpkg_package *)userdata = p;
}

bool updater_find_package(struct updater *u, const char *name, struct dpkg_package *ret)
{
        const char *const show[] = {DPKG_QUERY, "--show", "--showformat=" DPKG_TEXT_FORMAT, name, NULL};
        struct dpkg_package p = {0};

        int r = 0;

        for (unsigned i = 0; i < UPDATER_ATTEMPTS && (i == 0 || u->was_killed); i++)
                r = updater_quietly(u, show, take_package, &p);
        if (r != 0 || p.name[0] == '\0' || strchr("nc", p.state))
                return false;
        *ret = p;
        return true;
}

/* ---- disk and clock ---- */

static int check_disk(struct updater *u)
{
        struct statvfs v;
        uint64_t left;

        if (statvfs(u->journal.place.folder, &v) < 0)
                return 0;
        left = (uint64_t)v.f_bavail * v.f_frsize;
        if (left >= LEAST_FREE_BYTES)
                return 0;
        return updater_fail(u,
                "the disk with %s has %.1f MB free; an update needs %.0f MB at the least: make room",
                u->journal.place.folder, (double)left / 1e6, (double)LEAST_FREE_BYTES / 1e6);
}

static int wrong_clock(struct updater *u, int64_t now_s, int64_t than_s, const char *what)
{
        char now[32], than[32];

        time_format_utc(now_s * 1000, now);
        time_format_utc(than_s * 1000, than);
        return updater_fail(u,
                "this node's clock says %s, which is before %s (%s): no certificate and no index can be "
                "judged; "
                "set the clock",
                now, what, than);
}

static int check_clock(struct updater *u)
{
        int64_t now_s = clock_unix_ms() / 1000, begin_s = repository_certificate_begin(&u->repository);
        struct stat st;

        if (stat("/proc/self/exe", &st) == 0 && now_s < st.st_mtim.tv_sec)
                return wrong_clock(u, now_s, st.st_mtim.tv_sec, "the moment at which this program was made");
        if (now_s < begin_s)
                return wrong_clock(u, now_s, begin_s, "the beginning of this node's own certificate");
        return 0;
}

int step_prepare(struct updater *u)
{
        struct update_state *s = &u->journal.state;
        struct dpkg_package own;
        int r;

        journal_begin(&u->journal, STEP_PREPARE, "disk, clock, dpkg");
        r = check_disk(u);
        if (r == 0)
                r = check_clock(u);
        if (r == 0)
                r = updater_repair_dpkg(u, STEP_PREPARE);
        if (r < 0)
                return r;
        if (updater_find_package(u, OWN_PACKAGE, &own))
                str_copy(s->version_from, sizeof s->version_from, own.version);
        journal_end(&u->journal, STEP_PREPARE, STEP_DONE, "%s%s",
                u->needs_repair
                        ? "disk and clock are well; dpkg was interrupted, which an update would repair first"
                        : "disk, clock and dpkg are well",
                update_root_may_change(u->repository.root, NULL) < 0
                        ? "; below --root, the packages that are spoken of are those of this machine"
                        : "");
        return 0;
}
