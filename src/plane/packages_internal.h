/* The parts of the repository among themselves. */
#pragma once

#include "plane/packages.h"

#include "base/backoff.h"
#include "base/cleanup.h"

#include <sys/types.h>

/* ---- packages_text.c: what the programs say, taken apart. Pure. ---- */

#define PACKAGE_WORD_MAXIMUM 200

struct package_control { /* of a .deb, by dpkg-deb */
        char name[PACKAGE_WORD_MAXIMUM], version[PACKAGE_WORD_MAXIMUM], architecture[PACKAGE_WORD_MAXIMUM];
        bool has_section, has_priority;
};
#define PACKAGE_CONTROL_FORMAT "${Package}\\t${Version}\\t${Architecture}\\t${Section}\\t${Priority}\\n"
/* One line by PACKAGE_CONTROL_FORMAT. 0 or -EBADMSG: which field is none (deb-control(5), deb-version(7)). */
int package_control_parse(const char *text, struct package_control *ret, struct error *ret_error);
#define PACKAGE_ARCHITECTURES "amd64 arm64 armhf i386"

struct package_row { /* a package in a channel */
        char name[PACKAGE_WORD_MAXIMUM], version[PACKAGE_WORD_MAXIMUM], architecture[PACKAGE_WORD_MAXIMUM];
        char sha256[65], file[512]; /* below the repository */
        int64_t size_bytes;
};
#define PACKAGE_LIST_FORMAT "${package}\\t${version}\\t${Architecture}\\t${Size}\\t${SHA256}\\t${Filename}\\n"
/* The next line by PACKAGE_LIST_FORMAT; *at moves on. 1, 0: the end, -EBADMSG. */
int package_row_next(const char **at, struct package_row *ret, struct error *ret_error);

struct package_index { /* a file that Release names */
        char sha256[65], path[256];
};
/* The next of the section SHA256 of a Release file; *at is the text at first, and moves on. 1, 0: the end,
 * -EBADMSG: a path that leads elsewhere, a hash that is none. */
int package_index_next(const char **at, struct package_index *ret, struct error *ret_error);
/* The text to be signed: the fields of reprepro's Release and its section SHA256, other times, by-hash. The
 * caller's. */
char *package_release_text(const char *release, int64_t now_unix, int64_t valid_until_unix);
/* The fingerprint of the key that gpg says it made (--status-fd: KEY_CREATED); false: none. */
bool package_key_created(const char *status, char ret[65]);
/* The line of what a program said that tells why, without its own name before it, and with "the file" for
 * `path` (NULL: none), which is nobody's business; made safe to show. The caller's. */
char *package_reason(const char *said, const char *path);

/* ---- packages_keys.c: STATE/apt/ORG/keys.json ---- */

#define PACKAGE_KEYS_MAXIMUM 8
struct package_key {
        char fingerprint[65];
        int64_t created_unix_ms, retires_unix_ms; /* 0: does not */
};
struct package_keys {
        struct package_key items[PACKAGE_KEYS_MAXIMUM];
        size_t count;
};
int package_keys_load(const char *folder, struct package_keys *ret, struct error *ret_error);
int package_keys_save(const char *folder, const struct package_keys *k, struct error *ret_error);
json_t *package_keys_to_json(const struct package_keys *k);
/* The newest key is in force; the others retire `overlap_ms` from now at the latest. -ENOSPC: too many. */
int package_keys_add(struct package_keys *k, const char *fingerprint, int64_t overlap_ms, int64_t now_unix_ms,
        struct error *ret_error);
/* The first that is to be dropped by now; NULL. Never the newest. */
const struct package_key *package_keys_over(const struct package_keys *k, int64_t now_unix_ms);
void package_keys_drop(struct package_keys *k, const char *fingerprint);

/* ---- packages_publish.c: generations ---- */

struct package_channel_facts {
        const char *name, *codename, *suite, *origin, *label;
};
extern const struct package_channel_facts package_channels[CHANNEL_COUNT];
/* Folders and conf/distributions. */
int package_folder_prepare(const char *folder, struct error *ret_error);
/* A new generation beside the one in force: for each channel of `changed`, what reprepro exported, with a
 * Release that waits for its signature; of the others what there is. *ret_path is the caller's. */
int package_generation_begin(const char *folder, const bool changed[CHANNEL_COUNT], int64_t now_unix_ms,
        char **ret_path, struct error *ret_error);
/* Puts it in force, and removes the former ones. */
int package_generation_switch(const char *folder, const char *path, struct error *ret_error);
/* A file of a generation: PATH/dists/CHANNEL/NAME. The caller's. */
char *package_channel_file(const char *generation, enum package_channel c, const char *name);
/* Of two files that clients tell apart by their times, whole seconds, the newer one is to be later. */
int package_make_later(const char *path, const char *former, struct error *ret_error);
int package_remove_folder(const char *path); /* with all in it; 0 or -errno */

/* ---- packages_run.c: one child ---- */

struct package_child; /* opaque */
struct package_end {
        int status;         /* as of waitpid(2) */
        bool is_late;       /* it was ended, since it took too long */
        const char *output; /* standard output, whole */
        const char *said;   /* standard error */
};
struct package_command {
        const char *program;     /* name, looked up */
        const char *const *argv; /* NULL-terminated, with the name */
        const char *folder;      /* it runs there; GNUPGHOME is its gnupg */
        bool discards;           /* its output is of no interest, and large */
        double timeout_ms;
};
int package_child_start(sd_event *event, const struct package_command *c,
        void (*on_end)(const struct package_end *end, void *userdata), void *userdata,
        struct package_child **ret, struct error *ret_error);
struct package_child *package_child_free(struct package_child *c); /* kills it; no callback */

/* ---- jobs: packages_job.c runs them; packages_steps.c and packages_plan.c have what they consist of ---- */

struct package_org {
        struct packages *all;
        char id[65];
        char *folder;
        struct package_org *next;
        struct package_job *jobs; /* the first is under way */
        size_t job_count;
        bool is_running;
        bool needs_look; /* what is published may not be what reprepro has */
        sd_event_source *again;
        struct backoff backoff; /* of the attempts to mend it */
};

struct packages {
        sd_event *event;
        const struct plane_settings *settings;
        struct plane_store *store;
        struct package_org *orgs;
        sd_event_source *timer, *kick;
        size_t running;
        bool is_stopped;
        struct packages_counts counts;
};

struct package_job {
        struct package_org *org;
        struct package_job *next;
        const struct package_plan *plan;
        size_t step;
        int failed; /* -errno: only the last step is left */
        struct error error;
        struct package_child *child;
        packages_done done; /* NULL: nobody waits */
        void *userdata;
        /* the question */
        enum package_task task;
        struct actor by;
        enum package_channel channel, from;
        char *path, *name, *version, *architecture;
        char sha256[65];
        int64_t size_bytes;
        /* on the way */
        struct package_control control;
        struct package_keys keys;
        bool changed[CHANNEL_COUNT];
        bool is_new_keyring, has_changed, used_gpg;
        size_t at; /* of a step that is done for several things in turn */
        char *generation;
        char *note; /* what reprepro said */
        json_t *answer;
        json_t *rows; /* of the store: what is to be included again */
};

/* `begin` gives 0: done; 1: a child runs, `end` comes; < 0. `end` gives 0: done; 1: once more; < 0. */
struct package_step {
        const char *doing;
        int (*begin)(struct package_job *j);
        int (*end)(struct package_job *j, const struct package_end *e);
};
extern const struct package_step package_step_key, package_step_drop, package_step_look, package_step_unpack,
        package_step_same, package_step_keep, package_step_include, package_step_find, package_step_take_out,
        package_step_promote, package_step_unlock, package_step_agent, package_step_release,
        package_step_check, package_step_check_pool, package_step_rereference, package_step_export,
        package_step_forget, package_step_anew, package_step_again;
struct package_plan {
        const char *name;
        const struct package_step *const *steps; /* NULL-terminated; the last is done after a failure, too */
};
extern const struct package_plan package_plan_add, package_plan_remove, package_plan_promote,
        package_plan_rotate, package_plan_refresh, package_plan_recover, package_plan_rebuild;

/* Behind those of the organisation that wait. `q` NULL: of our own. -EAGAIN: too many wait. */
int package_job_queue(struct package_org *o, const struct package_plan *plan,
        const struct package_question *q, packages_done done, void *userdata, struct error *ret_error);
/* Ends all of them; who waits gets -ECANCELED. */
void package_jobs_end(struct package_org *o);
/* Begins what may begin; soon, so that nobody is called back while he still asks. */
void package_jobs_kick(struct packages *p);
/* STATE/apt/ORG/busy: there while a job is under way; found at the start, one was interrupted. */
char *package_busy_file(const struct package_org *o);

/* Its arguments begin with the program's name. */
int package_job_run_short(struct package_job *j, const char *const *argv);
int package_job_run_long(struct package_job *j, const char *const *argv);
#define PACKAGE_REPREPRO_BARE \
        "reprepro", "--silent", "--basedir", j->org->folder, "--outdir", "+b/public", "--distdir", "+b/dists"
/* Files that nothing refers to any more stay until what refers to them is not published any more either. */
#define PACKAGE_REPREPRO PACKAGE_REPREPRO_BARE, "--keepunreferencedfiles"
#define PACKAGE_GPG                                                                                     \
        "gpg", "--batch", "--no-tty", "--yes", "--quiet", "--no-auto-check-trustdb", "--pinentry-mode", \
                "loopback", "--passphrase", ""
/* Starts a child of the job's; 1 or -errno. */
int package_job_run(struct package_job *j, const struct package_command *c);
int package_job_fail(struct package_job *j, int number, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* 0 when it ended with 0; else an error with the program's last words. */
int package_job_judge(struct package_job *j, const char *program, const struct package_end *e, int number,
        const char *code);
