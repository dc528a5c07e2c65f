/* The steps of an update, as root: gridnode-update. Each is begun anew as a whole after a kill or a power
 * cut, so each looks first at what is there already. */
#pragma once

#include "base/backoff.h"
#include "update/apt_text.h"
#include "update/dpkg_text.h"
#include "update/journal.h"
#include "update/repository.h"
#include "update/world.h"

#include <signal.h>

#define OWN_PACKAGE "gridnode"

/* How gridnode-update ends; the judge, which started it, goes by that. Any other status, and a signal, is its
 * unexpected end. */
enum updater_end {
        UPDATER_OVER = 0,     /* the state says how */
        UPDATER_JUDGE = 10,   /* the own package was installed: is it any good? */
        UPDATER_RESTORE = 11, /* it could not be: the kept version is to be put back */
        UPDATER_STOPPED = 12, /* told to end by SIGTERM, to go on another time */
};

struct updater {
        struct journal journal;
        struct repository repository;
        struct world own, security, unattended;
        struct apt_complaints complaints; /* of the last run of apt */
        struct backoff backoff;
        char broken_package[96]; /* that dpkg could not bring in, of the last run */
        bool was_killed; /* the last program was, by somebody else: that says nothing of what it was to do */
        char failure[1024]; /* the sentence, of a step that failed */
        char *log_path;
        bool has_lists;    /* of the own package, fetched by this process */
        bool needs_repair; /* of dpkg, which a check leaves alone */
        /* What is being fetched: bytes are those of these files. */
        struct apt_file *files;
        size_t file_count;
        const struct world *fetching;   /* NULL: nothing is */
        enum update_step_name *patient; /* the step that waits for its way while apt runs; NULL: none does */
        enum update_step_name fetching_step;
        uint64_t fetched_before;
        double rate_at_ms;
        uint64_t rate_at_bytes;
        int64_t space_bytes; /* of disk, more or less, after the change that was planned last */
};
extern volatile sig_atomic_t updater_stop;

/* ---- what the steps share ---- */

/* 0; -ECANCELED; -EINTR: told to stop. */
int updater_check(struct updater *u);
/* Keeps the sentence; -EIO. */
int updater_fail(struct updater *u, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What was killed is tried again so often in all. */
#define UPDATER_ATTEMPTS       3
#define UPDATER_CHANGES_SYSTEM 1u /* is let finish, whatever happens to us */
/* apt-get with these arguments (NULL-terminated) in that world: its exit status, or -errno. What it
 * complained about is in u->complaints. `on_line` may be NULL. */
int updater_apt(struct updater *u, const struct world *w, unsigned flags, const char *const *arguments,
        void (*on_line)(const char *line, void *userdata), void *userdata);
/* Whether somebody has ended the last run of apt, or apt's method, which are tried again then. */
bool updater_was_killed(const struct updater *u);
/* Another program; `environment` NULL. */
int updater_program(struct updater *u, unsigned flags, const char *const *arguments, const char *folder,
        const char *const *environment, void (*on_line)(const char *line, void *userdata), void *userdata);
/* A question whose answer does not belong into the log: its exit status, or -errno. */
int updater_quietly(struct updater *u, const char *const *arguments,
        void (*on_line)(const char *line, void *userdata), void *userdata);
/* The same until it is done: what may mend itself is waited for, whatever the time it takes. 0, or -errno
 * with u->failure (-ENOENT: the repository does not have it). */
int updater_apt_patiently(
        struct updater *u, enum update_step_name step, const struct world *w, const char *const *arguments);
/* Waits until nobody else has dpkg's locks. 0 or -errno. */
int updater_await_locks(struct updater *u, enum update_step_name step);
/* Keeps the sentence of what the last run of apt complained about, and what to do; -errno. */
int updater_explain(struct updater *u, const char *doing);

/* false: dpkg does not know it. */
bool updater_find_package(struct updater *u, const char *name, struct dpkg_package *ret);
/* `dpkg --configure -a` where dpkg was interrupted. 0, or -errno with u->failure. */
int updater_repair_dpkg(struct updater *u, enum update_step_name step);
bool updater_repository_has_security(const struct updater *u);

/* The files that would be fetched, into u->files, and space_bytes; and the packages that would change, added
 * to the state. 0 or -errno with u->failure. */
int updater_plan(struct updater *u, const struct world *w, bool security, const char *const *what);
/* Key rotation: takes the repository's newer keyring when the present one vouches for it. true: it is another
 * one than before. */
bool updater_renew_keyring(struct updater *u);

/* ---- the steps: 0, an enum updater_end, or -errno with u->failure ---- */
int step_prepare(struct updater *u);
int step_look_up(struct updater *u);
int step_connect(struct updater *u);
int step_download(struct updater *u);
int step_keep(struct updater *u);
int step_own(struct updater *u);
int step_judge(struct updater *u);
int step_security(struct updater *u);
int step_restart(struct updater *u);
