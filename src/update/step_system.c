/* The operating system's security packages, and the restart of the machine that they may need. */
#include "update/updater.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"
#include "update/reboot.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define UNATTENDED "/usr/bin/unattended-upgrade"
#define RESTART_S  300
#define PAUSE_MS   500

/* ---- security ---- */

/* unattended-upgrades has rules of its own, of which packages and when: where an administrator has installed
 * it, those hold, within the security channel. */
static int by_unattended_upgrades(struct updater *u)
{
        static const char *const words[] = {UNATTENDED, "--verbose", NULL};
        _cleanup_free_ char *settings = xasprintf("APT_CONFIG=%s", u->unattended.settings);
        const char *const environment[] = {settings, NULL};

        journal_log(&u->journal, "by unattended-upgrades, with its own rules");
        return updater_program(u, UPDATER_CHANGES_SYSTEM, words, NULL, environment, NULL, NULL);
}

static int by_apt(struct updater *u)
{
        static const char *const upgrade[] = {"--with-new-pkgs", "upgrade", NULL};

        return updater_apt(u, &u->security, UPDATER_CHANGES_SYSTEM, upgrade, NULL, NULL);
}

static size_t count_security(const struct updater *u)
{
        size_t count = 0;

        for (size_t i = 0; i < u->journal.state.package_count; i++)
                count += u->journal.state.packages[i].security;
        return count;
}

/* The own package may have been skipped: then this is what cannot be cancelled any more. */
static int decide(struct updater *u)
{
        enum update_decision decision = UPDATE_UNDECIDED;
        struct error e = {0};

        if (update_decide(&u->journal.place, u->journal.state.job.id, UPDATE_INSTALLING, &decision, &e) < 0)
                return updater_fail(u, "%s", e.text);
        return decision == UPDATE_CANCELLED ? -ECANCELED : 0;
}

int step_security(struct updater *u)
{
        static const char *const upgrade[] = {"--with-new-pkgs", "upgrade", NULL};
        struct update_state *s = &u->journal.state;
        size_t planned = count_security(u), known = s->package_count, left;
        int r;

        if (!updater_repository_has_security(u)) {
                journal_end(&u->journal, STEP_SECURITY, STEP_SKIPPED,
                        "the repository has no channel '" WORLD_SECURITY_SUITE "'");
                return 0;
        }
        r = decide(u);
        if (r < 0)
                return r;
        journal_begin(&u->journal, STEP_SECURITY, "%zu packages", planned);
        r = 1;
        for (unsigned i = 0; r > 0 && i < UPDATER_ATTEMPTS; i++) {
                r = updater_repair_dpkg(u, STEP_SECURITY);
                if (r == 0)
                        r = access(UNATTENDED, X_OK) == 0 ? by_unattended_upgrades(u) : by_apt(u);
        }
        if (r < 0)
                return r;
        if (r > 0)
                return updater_explain(u, "the installation of the operating system's security packages");
        /* What is left, an administrator's rules leave alone. */
        r = updater_plan(u, &u->security, true, upgrade);
        if (r < 0)
                return r;
        left = s->package_count - known;
        s->package_count = known;
        if (planned == 0)
                journal_end(&u->journal, STEP_SECURITY, STEP_DONE, "there is nothing newer");
        else if (left == 0)
                journal_end(&u->journal, STEP_SECURITY, STEP_DONE, "%zu packages", planned);
        else
                journal_end(&u->journal, STEP_SECURITY, STEP_DONE,
                        "%zu of %zu packages; what is on hold or excluded by rules of this machine is left "
                        "alone",
                        planned > left ? planned - left : 0, planned);
        return 0;
}

/* ---- restart ---- */

static bool needs_restart(const struct updater *u, char *ret, size_t size)
{
        static const char *const always[] = {"linux-image-", "libc6", "systemd", "dbus"};
        const struct update_state *s = &u->journal.state;

        if (access("/run/reboot-required", F_OK) == 0) {
                _cleanup_free_ char *text = NULL;
                size_t length = 0;

                file_read("/run/reboot-required.pkgs", 65536, &text, &length, NULL);
                for (size_t i = 0; i < length; i++)
                        if (text[i] < ' ' || text[i] > '~')
                                text[i] = ' ';
                snprintf(ret, size, "/run/reboot-required says so%s%.200s", length ? ": " : "",
                        text ? text : "");
                return true;
        }
        for (size_t i = 0; i < s->package_count; i++)
                for (size_t k = 0; k < ELEMENTS(always); k++)
                        if (s->packages[i].security &&
                                (k == 0 ? str_starts_with(s->packages[i].name, always[k])
                                        : str_equal(s->packages[i].name, always[k]))) {
                                snprintf(ret, size, "%s %s is in use until then", s->packages[i].name,
                                        s->packages[i].to);
                                return true;
                        }
        return false;
}

static int restart(struct updater *u, const char *why)
{
        static const char *const words[] = {"/bin/systemctl", "--no-block", "reboot", NULL};
        int r = reboot_note(u->journal.place.reboot, u->journal.state.job.id);

        if (r < 0)
                return updater_fail(u, "cannot write %s: %s", u->journal.place.reboot, strerror(-r));
        journal_begin(&u->journal, STEP_RESTART, "the machine restarts: %s", why);
        r = updater_program(u, UPDATER_CHANGES_SYSTEM, words, NULL, NULL, NULL, NULL);
        if (r != 0)
                return updater_fail(u, "the machine cannot be restarted: systemctl reboot ended with %d", r);
        for (unsigned i = 0; i < RESTART_S * 1000 / PAUSE_MS && !updater_stop; i++)
                nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
        return updater_stop ? -EINTR
                            : updater_fail(u, "the machine was told to restart and did not within %d s",
                                      RESTART_S);
}

int step_restart(struct updater *u)
{
        struct update_state *s = &u->journal.state;
        char why[300];

        if (reboot_was_done(u->journal.place.reboot, s->job.id)) {
                s->restart_needed = false;
                journal_end(&u->journal, STEP_RESTART, STEP_DONE, "the machine was restarted");
                return 0;
        }
        if (!needs_restart(u, why, sizeof why)) {
                journal_end(&u->journal, STEP_RESTART, STEP_SKIPPED, "nothing needs one");
                return 0;
        }
        s->restart_needed = true;
        if (!s->job.reboot) {
                journal_end(&u->journal, STEP_RESTART, STEP_SKIPPED,
                        "needed, but not allowed in this update: %s", why);
                return 0;
        }
        if (access("/run/systemd/system", F_OK) != 0) {
                journal_end(&u->journal, STEP_RESTART, STEP_SKIPPED,
                        "needed (%s), but no systemd runs that could do it: restart the machine by hand",
                        why);
                return 0;
        }
        return restart(u, why);
}
