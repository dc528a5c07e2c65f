/* Where the root side of updates keeps its files, and the few that several processes race for. Everything is
 * below ROOT/var/lib/gridnode-update, which is root's own: the daemon's user reads there and writes nothing.
 */
#pragma once

#include "base/error.h"
#include "wire/update.h"

#include <stdbool.h>

/* The files, by their names in the folder. */
#define UPDATE_JOB     "job.json"     /* what is asked for; absent: nothing is under way */
#define UPDATE_STATE   "state.json"   /* how it stands (wire/update.h), and how the last one ended */
#define UPDATE_DECIDED "decided.json" /* cancelled or installing: who makes this file first */
#define UPDATE_JUDGE   "judge.json"   /* what the judge has decided */
#define UPDATE_REFUSED "refused.json" /* versions that failed here */
#define UPDATE_METHOD  "apt-method"   /* in bin: of a node that runs from where it was built; else absent */
#define UPDATE_REBOOT  "reboot.json"  /* the boot in which a restart was asked for */

struct update_place {
        char *folder;                                           /* ROOT/var/lib/gridnode-update */
        char *bin, *apt, *kept, *log, *history;                 /* folders in it */
        char *job, *state, *decided, *judge, *refused, *reboot; /* files in it */
};
/* `root` NULL: the system's. */
void update_place_init(struct update_place *p, const char *root);
void update_place_done(struct update_place *p);
/* A folder that is not "/" has no packages of its own: dpkg, apt and the boot are those of the machine that
 * it lies on, so that what an update changes there would be that machine. 0: `root` is the system's (NULL, or
 * "/" by whatever name). -EPERM, "update.root": it is such a folder, told with what is possible there. */
int update_root_may_change(const char *root, struct error *ret_error);
/* Makes the folders, 0755: everybody may read how an update stands. 0 or -errno (base/folder.h). */
int update_place_prepare(const struct update_place *p, struct error *ret_error);

/* 0; -ENOENT: no update is under way; -EBADMSG. */
int update_job_load(const struct update_place *p, struct update_job *ret, struct error *ret_error);
/* Makes the file with all its contents, or not at all: -EEXIST when one is there. */
int update_job_claim(const struct update_place *p, const struct update_job *job, struct error *ret_error);

/* From this point on an update installs and cannot be cancelled, or was cancelled and does not install:
 * whoever comes first decides, whatever is killed when. */
enum update_decision { UPDATE_UNDECIDED, UPDATE_CANCELLED, UPDATE_INSTALLING };
/* *ret: what is true now for this job, which need not be what was wanted. 0 or -errno. */
int update_decide(const struct update_place *p, const char *id, enum update_decision wanted,
        enum update_decision *ret, struct error *ret_error);
enum update_decision update_decided(const struct update_place *p, const char *id);
