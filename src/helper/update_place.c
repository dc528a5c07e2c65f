#include "helper/update_place.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define SMALL_BYTES ((size_t)16 << 10)

void update_place_init(struct update_place *p, const char *root)
{
        struct paths paths;

        paths_init(&paths, root, "gridnode-update");
        *p = (struct update_place){
                .folder = path_join(paths.state, ""),
                .bin = path_join(paths.state, "bin"),
                .apt = path_join(paths.state, "apt"),
                .kept = path_join(paths.state, "kept"),
                .log = path_join(paths.state, "log"),
                .history = path_join(paths.state, "history"),
                .job = path_join(paths.state, UPDATE_JOB),
                .state = path_join(paths.state, UPDATE_STATE),
                .decided = path_join(paths.state, UPDATE_DECIDED),
                .judge = path_join(paths.state, UPDATE_JUDGE),
                .refused = path_join(paths.state, UPDATE_REFUSED),
                .reboot = path_join(paths.state, UPDATE_REBOOT),
        };
        p->folder[strlen(p->folder) - 1] = '\0'; /* the slash */
        paths_done(&paths);
}

void update_place_done(struct update_place *p)
{
        char *const all[] = {p->folder, p->bin, p->apt, p->kept, p->log, p->history, p->job, p->state,
                p->decided, p->judge, p->refused, p->reboot};

        for (size_t i = 0; i < ELEMENTS(all); i++)
                free(all[i]);
        *p = (struct update_place){0};
}

int update_root_may_change(const char *root, struct error *ret_error)
{
        struct stat given, system;

        if (!root || (stat(root, &given) == 0 && stat("/", &system) == 0 && given.st_dev == system.st_dev &&
                             given.st_ino == system.st_ino))
                return 0;
        return error_set(ret_error, EPERM, "update.root",
                "below --root %.120s there are no packages of its own: an update would change this machine; "
                "nothing is installed. --check, --dry-run and --download are possible here, and an update "
                "where "
                "the node is a whole system (a machine, or a container with a Debian of its own)",
                root);
}

int update_place_prepare(const struct update_place *p, struct error *ret_error)
{
        const char *const folders[] = {p->folder, p->bin, p->apt, p->kept, p->log, p->history};
        int r = 0;

        for (size_t i = 0; r == 0 && i < ELEMENTS(folders); i++)
                r = folder_prepare(folders[i], 0755, ret_error);
        return r;
}

/* ---- small files ---- */

static int load(const char *path, json_t **ret, struct error *ret_error)
{
        _cleanup_free_ char *text = NULL;
        size_t length;
        int r = file_read(path, SMALL_BYTES, &text, &length, ret_error);

        return r < 0 ? r : json_parse(text, length, SMALL_BYTES, path, ret, ret_error);
}

/* link(2) takes a name that is free and no other; what it names was written and synced before. */
static int claim(const char *path, const json_t *value, struct error *ret_error)
{
        _cleanup_free_ char *text = json_to_text(value), *temporary = NULL;
        int r;

        if (asprintf(&temporary, "%s.%d", path, (int)getpid()) < 0)
                return error_set(ret_error, ENOMEM, "update.failed", "no memory");
        r = file_save(temporary, text, strlen(text), 0644, ret_error);
        if (r < 0)
                return r;
        if (link(temporary, path) < 0)
                r = error_set(ret_error, errno, "update.failed", "cannot make %s: %s", path, strerror(errno));
        unlink(temporary);
        return r;
}

int update_job_load(const struct update_place *p, struct update_job *ret, struct error *ret_error)
{
        json_auto_t *object = NULL;
        int r = load(p->job, &object, ret_error);

        return r < 0 ? r : update_job_from_json(object, ret, ret_error);
}

int update_job_claim(const struct update_place *p, const struct update_job *job, struct error *ret_error)
{
        json_auto_t *object = update_job_to_json(job);

        return claim(p->job, object, ret_error);
}

/* ---- who decides ---- */

static const char *const decisions[] = {"undecided", "cancelled", "installing"};

enum update_decision update_decided(const struct update_place *p, const char *id)
{
        json_auto_t *object = NULL;
        const char *text;

        if (load(p->decided, &object, NULL) < 0 ||
                !str_equal(json_string_value(json_object_get(object, "id")), id))
                return UPDATE_UNDECIDED;
        text = json_string_value(json_object_get(object, "decided"));
        return str_equal(text, decisions[UPDATE_CANCELLED]) ? UPDATE_CANCELLED : UPDATE_INSTALLING;
}

int update_decide(const struct update_place *p, const char *id, enum update_decision wanted,
        enum update_decision *ret, struct error *ret_error)
{
        json_auto_t *object = json_pack("{s:s,s:s}", "id", id, "decided", decisions[wanted]);
        int r = claim(p->decided, object, ret_error);

        if (r < 0 && r != -EEXIST)
                return r;
        *ret = update_decided(p, id);
        if (*ret != UPDATE_UNDECIDED)
                return 0;
        /* Of an update that is over: its judge was killed before it had tidied up. */
        unlink(p->decided);
        r = claim(p->decided, object, ret_error);
        *ret = update_decided(p, id);
        return r == -EEXIST && *ret != UPDATE_UNDECIDED ? 0 : r;
}
