/* What the jobs consist of. */
#include "plane/packages_internal.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>

#define SHORT_MS 30000.0
#define LONG_MS  600000.0 /* a file of 512 MiB, a repository of many */

static int run(struct package_job *j, const char *const *argv, double timeout_ms)
{
        struct package_command c = {
                .program = argv[0], .argv = argv, .folder = j->org->folder, .timeout_ms = timeout_ms};

        return package_job_run(j, &c);
}

int package_job_run_short(struct package_job *j, const char *const *argv)
{
        return run(j, argv, SHORT_MS);
}

int package_job_run_long(struct package_job *j, const char *const *argv)
{
        return run(j, argv, LONG_MS);
}

static const char *codename(enum package_channel c)
{
        return package_channels[c].codename;
}

/* ---- a key ---- */

static int key_make(struct package_job *j)
{
        _cleanup_free_ char *user = NULL, *name = NULL;
        char id[65];

        if (j->keys.count > 0 && j->task != PACKAGE_ROTATE)
                return 0;
        str_copy(id, sizeof(id), j->org->id);
        user = xasprintf("%s packages of %s <repository@%s>", j->org->all->settings->domain, id,
                j->org->all->settings->repo_host);
        j->used_gpg = true;
        return run(j,
                (const char *const[]){PACKAGE_GPG, "--status-fd", "1", "--quick-gen-key", user, "ed25519",
                        "sign", "never", NULL},
                SHORT_MS);
}

static int key_made(struct package_job *j, const struct package_end *e)
{
        int64_t overlap_ms = (int64_t)j->org->all->settings->key_overlap_days * 86400000;
        char fingerprint[65];
        int r = package_job_judge(j, "gpg", e, EIO, "repository.key");

        if (r < 0)
                return r;
        if (!package_key_created(e->output, fingerprint))
                return package_job_fail(
                        j, EIO, "repository.key", "gpg made a key and does not tell its fingerprint");
        r = package_keys_add(&j->keys, fingerprint, overlap_ms, clock_unix_ms(), &j->error);
        if (r == 0)
                r = package_keys_save(j->org->folder, &j->keys, &j->error);
        j->is_new_keyring = j->has_changed = true;
        return r;
}

/* Keys whose overlap is over; one after the other. The list is saved first: a key that only gpg still has
 * signs nothing. */
static int key_drop(struct package_job *j)
{
        const struct package_key *over = package_keys_over(&j->keys, clock_unix_ms());
        char fingerprint[65];
        int r;

        if (!over)
                return 0;
        str_copy(fingerprint, sizeof(fingerprint), over->fingerprint);
        package_keys_drop(&j->keys, fingerprint);
        r = package_keys_save(j->org->folder, &j->keys, &j->error);
        if (r < 0)
                return r;
        j->is_new_keyring = j->has_changed = j->used_gpg = true;
        return run(j, (const char *const[]){PACKAGE_GPG, "--delete-secret-and-public-key", fingerprint, NULL},
                SHORT_MS);
}

static int key_dropped(struct package_job *j, const struct package_end *e)
{
        int r = package_job_judge(j, "gpg", e, EIO, "repository.key");

        return r < 0 ? r : 1;
}

const struct package_step package_step_key = {"making the repository's key", key_make, key_made};
const struct package_step package_step_drop = {"dropping a retired key", key_drop, key_dropped};

/* ---- a file that is to be added ---- */

static int look(struct package_job *j)
{
        return run(j,
                (const char *const[]){
                        "dpkg-deb", "--show", "--showformat=" PACKAGE_CONTROL_FORMAT, "--", j->path, NULL},
                SHORT_MS);
}

static int looked(struct package_job *j, const struct package_end *e)
{
        int r = package_job_judge(j, "dpkg-deb", e, EBADMSG, "package.malformed");

        if (r == 0)
                r = package_control_parse(e->output, &j->control, &j->error);
        if (r == -EBADMSG)
                error_prefix(&j->error, "this is no Debian package that can be taken");
        return r;
}

/* The whole of it is unpacked once, to nowhere: a truncated one is to be told here and not by the nodes. */
static int unpack(struct package_job *j)
{
        const char *const argv[] = {"dpkg-deb", "--fsys-tarfile", j->path, NULL};
        struct package_command c = {.program = argv[0],
                .argv = argv,
                .folder = j->org->folder,
                .discards = true,
                .timeout_ms = LONG_MS};

        return package_job_run(j, &c);
}

static int unpacked(struct package_job *j, const struct package_end *e)
{
        int r = package_job_judge(j, "dpkg-deb", e, EBADMSG, "package.malformed");

        if (r == -EBADMSG)
                error_prefix(&j->error, "the package is damaged");
        return r;
}

static int same_content(struct package_job *j)
{
        return plane_package_conflict(j->org->all->store, j->org->id, j->control.name, j->control.version,
                j->control.architecture, j->sha256, &j->error);
}

static int keep(struct package_job *j)
{
        return run(j, (const char *const[]){"sync", j->path, NULL}, LONG_MS);
}

static int kept(struct package_job *j, const struct package_end *e)
{
        return package_job_judge(j, "sync", e, EIO, "repository.disk");
}

static int include(struct package_job *j)
{
        const char *argv[24] = {PACKAGE_REPREPRO};
        size_t n = 0;

        while (argv[n])
                n++;
        /* Without them reprepro leaves a package out. */
        if (!j->control.has_section) {
                argv[n++] = "--section";
                argv[n++] = "misc";
        }
        if (!j->control.has_priority) {
                argv[n++] = "--priority";
                argv[n++] = "optional";
        }
        argv[n++] = "includedeb";
        argv[n++] = codename(j->channel);
        argv[n++] = j->path;
        argv[n] = NULL;
        j->changed[j->channel] = j->has_changed = true;
        return run(j, argv, LONG_MS);
}

static int included(struct package_job *j, const struct package_end *e)
{
        int r = package_job_judge(j, "reprepro", e, EBADMSG, "package.refused");

        if (r == -EBADMSG && strstr(e->said, "can only be included again"))
                return package_job_fail(j, EEXIST, "package.exists",
                        "%s %s for %s is in the repository with other content; a version's content never "
                        "changes: give it a new version",
                        j->control.name, j->control.version, j->control.architecture);
        j->note = package_reason(e->said, j->path);
        return r;
}

const struct package_step package_step_look = {"reading the package", look, looked};
const struct package_step package_step_unpack = {"reading the package", unpack, unpacked};
const struct package_step package_step_same = {"looking for the package", same_content, NULL};
const struct package_step package_step_keep = {"saving the package", keep, kept};
const struct package_step package_step_include = {"adding the package", include, included};

/* ---- removing, promoting ---- */

static char *formula(const struct package_job *j)
{
        struct text t = {0};

        text_addf(&t, "Package (== %s)", j->name);
        if (j->version)
                text_addf(&t, ", Version (== %s)", j->version);
        if (j->architecture)
                text_addf(&t, ", Architecture (== %s)", j->architecture);
        return text_take(&t);
}

static int find(struct package_job *j)
{
        return plane_package_find(j->org->all->store, j->org->id,
                package_channels[j->task == PACKAGE_PROMOTE ? j->from : j->channel].name, j->name, j->version,
                j->architecture, &j->error);
}

static int take_out(struct package_job *j)
{
        _cleanup_free_ char *what = formula(j);

        j->changed[j->channel] = j->has_changed = true;
        return run(j,
                (const char *const[]){PACKAGE_REPREPRO, "removefilter", codename(j->channel), what, NULL},
                LONG_MS);
}

static int promote(struct package_job *j)
{
        _cleanup_free_ char *what = j->name ? formula(j) : NULL;

        j->changed[j->channel] = j->has_changed = true;
        if (!what)
                return run(j,
                        (const char *const[]){PACKAGE_REPREPRO, "copymatched", codename(j->channel),
                                codename(j->from), "*", NULL},
                        LONG_MS);
        return run(j,
                (const char *const[]){
                        PACKAGE_REPREPRO, "copyfilter", codename(j->channel), codename(j->from), what, NULL},
                LONG_MS);
}

static int reprepro_done(struct package_job *j, const struct package_end *e)
{
        return package_job_judge(j, "reprepro", e, EIO, "repository.failed");
}

const struct package_step package_step_find = {"looking for the package", find, NULL};
const struct package_step package_step_take_out = {"removing the package", take_out, reprepro_done};
const struct package_step package_step_promote = {"promoting packages", promote, reprepro_done};

/* ---- what an interruption left ---- */

/* reprepro's lock is a file that its killer leaves there. Nobody else is at work: the plane's folder is
 * locked, children of an earlier one were ended. */
static int unlock(struct package_job *j)
{
        _cleanup_free_ char *lock = path_join(j->org->folder, "db/lockfile");

        for (size_t i = 0; i < CHANNEL_COUNT; i++)
                j->changed[i] = true;
        j->is_new_keyring = true;
        if (unlink(lock) < 0 && errno != ENOENT)
                return package_job_fail(
                        j, errno, "repository.locked", "cannot remove %s: %s", lock, strerror(errno));
        return 0;
}

static int agent_stop(struct package_job *j)
{
        return run(j, (const char *const[]){"gpgconf", "--kill", "gpg-agent", NULL}, SHORT_MS);
}

static int agent_stopped(struct package_job *j, const struct package_end *e)
{
        (void)j;
        (void)e;
        return 0;
}

static int agent_release(struct package_job *j)
{
        return j->used_gpg ? agent_stop(j) : 0;
}

static int check(struct package_job *j)
{
        return run(j, (const char *const[]){PACKAGE_REPREPRO, "check", NULL}, LONG_MS);
}

static int check_pool(struct package_job *j)
{
        return run(j, (const char *const[]){PACKAGE_REPREPRO, "checkpool", "fast", NULL}, LONG_MS);
}

static int rereference(struct package_job *j)
{
        return run(j, (const char *const[]){PACKAGE_REPREPRO, "rereference", NULL}, LONG_MS);
}

static int export(struct package_job *j)
{
        return run(j, (const char *const[]){PACKAGE_REPREPRO, "export", NULL}, LONG_MS);
}

static int forget(struct package_job *j)
{
        return run(j, (const char *const[]){PACKAGE_REPREPRO_BARE, "deleteunreferenced", NULL}, LONG_MS);
}

/* The database is of no use any more: what the store knows to be published is in the pool. */
static int start_anew(struct package_job *j)
{
        _cleanup_free_ char *db = path_join(j->org->folder, "db");
        int r = package_remove_folder(db);

        if (r < 0)
                return package_job_fail(j, -r, "repository.failed", "cannot remove %s: %s", db, strerror(-r));
        return plane_package_all(j->org->all->store, j->org->id, &j->rows, &j->error);
}

static int include_again(struct package_job *j)
{
        json_t *row = json_array_get(j->rows, j->at);
        _cleanup_free_ char *path = NULL;
        enum package_channel c;

        while (row && package_channel_from_string(json_string_value(json_object_get(row, "channel")), &c) < 0)
                row = json_array_get(j->rows, ++j->at);
        if (!row)
                return 0;
        path = xasprintf("public/%s", json_string_value(json_object_get(row, "file")));
        return run(j,
                (const char *const[]){PACKAGE_REPREPRO, "--section", "misc", "--priority", "optional",
                        "includedeb", codename(c), path, NULL},
                LONG_MS);
}

/* One that cannot be read any more is lost; the others are not. */
static int included_again(struct package_job *j, const struct package_end *e)
{
        (void)e;
        j->at++;
        return 1;
}

const struct package_step package_step_unlock = {"unlocking the repository", unlock, NULL};
const struct package_step package_step_agent = {"ending gpg's agent", agent_stop, agent_stopped};
const struct package_step package_step_release = {"ending gpg's agent", agent_release, agent_stopped};
const struct package_step package_step_check = {"checking the repository", check, reprepro_done};
const struct package_step package_step_check_pool = {"checking the pool", check_pool, reprepro_done};
const struct package_step package_step_rereference = {"checking the repository", rereference, reprepro_done};
const struct package_step package_step_export = {"exporting the repository", export, reprepro_done};
const struct package_step package_step_forget = {"tidying the pool", forget, reprepro_done};
const struct package_step package_step_anew = {"beginning the repository anew", start_anew, NULL};
const struct package_step package_step_again = {"adding packages again", include_again, included_again};
