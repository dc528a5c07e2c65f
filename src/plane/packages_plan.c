/* From what reprepro has to what clients see, and which steps make a job. */
#include "plane/packages_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <string.h>

/* ---- signing ---- */

static int stage(struct package_job *j)
{
        int r = package_generation_begin(
                j->org->folder, j->changed, clock_unix_ms(), &j->generation, &j->error);
        _cleanup_free_ char *current = path_join(j->org->folder, "current/keyring.gpg.sig");

        if (access(current, F_OK) < 0)
                j->is_new_keyring = true;
        /* A file of ours that is missing is nothing that the asker named. */
        return r == -ENOENT ? -(j->error.number = EIO) : r;
}

/* Beginning with `first`, an option for each key and what follows them. argv has room for all. */
static void add_keys(const struct package_job *j, const char **argv, const char *option)
{
        size_t n = 0;

        while (argv[n])
                n++;
        for (size_t i = 0; i < j->keys.count; i++) {
                if (option)
                        argv[n++] = option;
                argv[n++] = j->keys.items[i].fingerprint;
        }
        argv[n] = NULL;
}

#define ARGUMENTS_MAXIMUM (24 + 2 * PACKAGE_KEYS_MAXIMUM)

static void add(const char **argv, const char *a, const char *b)
{
        size_t n = 0;

        while (argv[n])
                n++;
        argv[n++] = a;
        argv[n++] = b;
        argv[n] = NULL;
}

/* The former keyring, or a new one. */
static int keyring(struct package_job *j)
{
        static const char *const names[] = {"keyring.gpg", "keyring.gpg.sig"};
        _cleanup_free_ char *path = path_join(j->generation, "keyring.gpg");
        const char *argv[ARGUMENTS_MAXIMUM] = {PACKAGE_GPG, "--output", path, "--export"};

        if (!j->is_new_keyring) {
                for (size_t i = 0; i < ELEMENTS(names); i++) {
                        _cleanup_free_ char *from = xasprintf("%s/current/%s", j->org->folder, names[i]),
                                            *to = path_join(j->generation, names[i]);

                        if (link(from, to) < 0)
                                return package_job_fail(j, errno, "repository.file", "cannot link %s: %s",
                                        from, strerror(errno));
                }
                return 0;
        }
        add_keys(j, argv, NULL);
        return package_job_run_short(j, argv);
}

static int gpg_done(struct package_job *j, const struct package_end *e)
{
        return package_job_judge(j, "gpg", e, EIO, "repository.signature");
}

static int keyring_sign(struct package_job *j)
{
        _cleanup_free_ char *path = path_join(j->generation, "keyring.gpg"),
                            *signature = path_join(j->generation, "keyring.gpg.sig");
        const char *argv[ARGUMENTS_MAXIMUM] = {PACKAGE_GPG, "--digest-algo", "SHA512"};

        if (!j->is_new_keyring)
                return 0;
        add_keys(j, argv, "--local-user");
        add(argv, "--output", signature);
        add(argv, "--detach-sign", path);
        j->used_gpg = true;
        return package_job_run_short(j, argv);
}

/* The channels in turn. Clients compare InRelease by its time, in whole seconds: two of one second, of equal
 * size, would be the same to them. */
static int sign(struct package_job *j)
{
        const char *argv[ARGUMENTS_MAXIMUM] = {PACKAGE_GPG, "--digest-algo", "SHA512"};
        _cleanup_free_ char *release = NULL, *signature = NULL;

        while (j->at < CHANNEL_COUNT) {
                _cleanup_free_ char *made =
                        package_channel_file(j->generation, (enum package_channel)j->at, "InRelease");

                if (access(made, F_OK) < 0)
                        break;
                j->at++;
        }
        if (j->at == CHANNEL_COUNT)
                return 0;
        release = package_channel_file(j->generation, (enum package_channel)j->at, "Release");
        signature = package_channel_file(j->generation, (enum package_channel)j->at, "InRelease");
        add_keys(j, argv, "--local-user");
        add(argv, "--output", signature);
        add(argv, "--clearsign", release);
        j->used_gpg = true;
        return package_job_run_short(j, argv);
}

static int signed_one(struct package_job *j, const struct package_end *e)
{
        static const char *const names[] = {"InRelease", "Release"};
        int r = gpg_done(j, e);

        for (size_t i = 0; i < ELEMENTS(names) && r == 0; i++) {
                enum package_channel c = (enum package_channel)j->at;
                _cleanup_free_ char *current = path_join(j->org->folder, "current"),
                                    *path = package_channel_file(j->generation, c, names[i]),
                                    *former = package_channel_file(current, c, names[i]);

                r = package_make_later(path, former, &j->error);
        }
        return r < 0 ? r : 1;
}

/* Everything is on the disk before it is published: children do not see to that. */
static int flush(struct package_job *j)
{
        return package_job_run_long(j, (const char *const[]){"sync", "--file-system", j->generation, NULL});
}

static int flushed(struct package_job *j, const struct package_end *e)
{
        return package_job_judge(j, "sync", e, EIO, "repository.disk");
}

static int publish(struct package_job *j)
{
        int r = package_generation_switch(j->org->folder, j->generation, &j->error);

        if (r == 0) {
                free(j->generation); /* it is in force: a later failure must not remove it */
                j->generation = NULL;
        }
        return r;
}

/* ---- what the store says of it ---- */

/* The channels that changed, in turn. */
static int list(struct package_job *j)
{
        while (j->at < CHANNEL_COUNT && !j->changed[j->at])
                j->at++;
        if (j->at == CHANNEL_COUNT)
                return 0;
        return package_job_run_long(
                j, (const char *const[]){PACKAGE_REPREPRO, "--list-format", PACKAGE_LIST_FORMAT, "list",
                           package_channels[j->at].codename, NULL});
}

static const char *action_of(const struct package_job *j)
{
        static const char *const actions[] = {[PACKAGE_ADD] = "package.add",
                [PACKAGE_REMOVE] = "package.remove",
                [PACKAGE_PROMOTE] = "package.promote"};

        return !j->done ? NULL : actions[j->task];
}

static int listed(struct package_job *j, const struct package_end *e)
{
        struct plane_package_change change = {.by = &j->by,
                .organisation = j->org->id,
                .channel = package_channels[j->at].name,
                .action = action_of(j),
                .from = j->task == PACKAGE_PROMOTE ? package_channels[j->from].name : NULL};
        int r = package_job_judge(j, "reprepro", e, EIO, "repository.list");

        if (r == 0)
                r = plane_package_sync(
                        j->org->all->store, &change, e->output, clock_unix_ms(), &j->answer, &j->error);
        if (r < 0)
                return r;
        j->at++;
        return 1;
}

/* reprepro leaves out, without a failure, what is not newer than what there is. */
static int judge(struct package_job *j)
{
        json_t *item = NULL;
        int r = plane_package_get(j->org->all->store, j->org->id, package_channels[j->channel].name,
                j->control.name, j->control.architecture, &item, &j->error);

        if (r == 0 && str_equal(json_string_value(json_object_get(item, "version")), j->control.version)) {
                json_decref(j->answer);
                j->answer = json_pack("{s:[o]}", "items", item);
                return 0;
        }
        if (r == 0)
                r = package_job_fail(j, EEXIST, "package.older",
                        "%s has %s %s for %s already, which is newer than %s: remove that one first, or give "
                        "this one a higher version",
                        package_channels[j->channel].name, j->control.name,
                        json_string_value(json_object_get(item, "version")), j->control.architecture,
                        j->control.version);
        else if (r == -ENOENT)
                r = package_job_fail(j, EBADMSG, "package.refused", "reprepro did not take it: %s", j->note);
        json_decref(item);
        return r;
}

static int tell_keys(struct package_job *j)
{
        struct error e = {0};

        if (plane_audit(j->org->all->store, &j->by, j->org->id, "package.key-rotate",
                    j->keys.items[j->keys.count - 1].fingerprint, NULL, clock_unix_ms(), &e) < 0) {
                j->error = e;
                return -e.number;
        }
        j->answer = json_pack("{s:o}", "keys", package_keys_to_json(&j->keys));
        return 0;
}

static int all_channels(struct package_job *j)
{
        for (size_t i = 0; i < CHANNEL_COUNT; i++)
                j->changed[i] = true;
        return 0;
}

static const struct package_step step_stage = {"preparing a generation", stage, NULL};
static const struct package_step step_keyring = {"exporting the keyring", keyring, gpg_done};
static const struct package_step step_keyring_sign = {"signing the keyring", keyring_sign, gpg_done};
static const struct package_step step_sign = {"signing", sign, signed_one};
static const struct package_step step_flush = {"saving", flush, flushed};
static const struct package_step step_publish = {"publishing", publish, NULL};
static const struct package_step step_list = {"listing the packages", list, listed};
static const struct package_step step_judge = {"listing the packages", judge, NULL};
static const struct package_step step_tell = {"telling of the keys", tell_keys, NULL};
static const struct package_step step_all = {"preparing", all_channels, NULL};

#define PUBLISH &step_stage, &step_keyring, &step_keyring_sign, &step_sign, &step_flush, &step_publish
#define PLAN(n, ...)                                                                                      \
        static const struct package_step *const n##_steps[] = {__VA_ARGS__, &package_step_release, NULL}; \
        const struct package_plan package_plan_##n = {.name = #n, .steps = n##_steps}

PLAN(add, &package_step_look, &package_step_unpack, &package_step_same, &package_step_keep, &package_step_key,
        &package_step_include, PUBLISH, &step_list, &step_judge);
PLAN(remove, &package_step_find, &package_step_key, &package_step_take_out, PUBLISH, &step_list,
        &package_step_forget);
PLAN(promote, &package_step_find, &package_step_key, &package_step_promote, PUBLISH, &step_list);
PLAN(rotate, &step_all, &package_step_key, &package_step_drop, PUBLISH, &step_tell);
PLAN(refresh, &step_all, &package_step_key, &package_step_drop, PUBLISH, &step_list, &package_step_forget);
/* After an interruption: what reprepro has is made whole, and is published. */
PLAN(recover, &package_step_unlock, &package_step_agent, &package_step_key, &package_step_drop,
        &package_step_export, &package_step_check, &package_step_rereference, PUBLISH, &step_list,
        &package_step_forget, &package_step_check_pool);
PLAN(rebuild, &package_step_unlock, &package_step_anew, &package_step_agent, &package_step_key,
        &package_step_again, &package_step_export, PUBLISH, &step_list);
