/* The repository of Debian packages of each organisation: kept by reprepro, signed by gpg, served by nginx as
 * files. Both run as children, one job at a time for an organisation, while the loop goes on.
 *
 * STATE/apt/ORGANISATION has
 *   conf/ db/ dists/ gnupg/   reprepro's own and gpg's; never served
 *   incoming/                 what is being uploaded
 *   keys.json                 the keys that sign, the newest last
 *   published/N/              one generation of what changes: dists/CHANNEL/, keyring.gpg, keyring.gpg.sig
 *   current -> published/N    moved by one rename, so that a client sees one generation or the other
 *   public/                   what nginx serves as /debian/: pool/, and links through `current` to the rest
 *
 * reprepro 5.3.1 neither makes by-hash folders nor signs with several keys. So its indices stay in dists/;
 * a generation links them, by name and by hash (those of the last day, too), and its InRelease is made here:
 * with Acquire-By-Hash and a Valid-Until, signed by every valid key. */
#pragma once

#include "plane/settings.h"
#include "plane/store.h"

#include <systemd/sd-event.h>

struct packages; /* opaque */

#define PACKAGES_MAXIMUM_BYTES ((size_t)512 << 20) /* of one file */
#define PACKAGES_VALID_DAYS    7
#define PACKAGES_KEY_OLD_DAYS  (2 * 365) /* then the check advises a rotation */

enum package_channel { CHANNEL_STABLE, CHANNEL_TESTING, CHANNEL_SECURITY, CHANNEL_COUNT };
const char *package_channel_to_string(enum package_channel c);
int package_channel_from_string(const char *s, enum package_channel *ret); /* 0 or -EINVAL */
/* deb-control(5), deb-version(7); amd64, arm64, armhf, i386, all */
bool package_is_name(const char *s);
bool package_is_version(const char *s);
bool package_is_architecture(const char *s);

struct packages *packages_new(
        sd_event *event, const struct plane_settings *settings, struct plane_store *store);
/* Ends the children; whoever waits gets -ECANCELED at once, and nothing is taken any more. */
void packages_stop(struct packages *p);
struct packages *packages_free(struct packages *p);
/* Sees to it that an organisation ("": all of them) has a repository, that it is whole after a kill, and that
 * its signature is fresh. In the background; what fails is logged, and tried again. */
void packages_prepare(struct packages *p, const char *organisation);

enum package_task { PACKAGE_ADD, PACKAGE_REMOVE, PACKAGE_PROMOTE, PACKAGE_ROTATE };
struct package_question {
        enum package_task task;
        const char *organisation; /* id */
        const struct actor *by;
        enum package_channel channel;       /* promote: into this one */
        enum package_channel from;          /* promote */
        char *path;                         /* add: the file, below packages_incoming(); taken over */
        const char *sha256;                 /* add: of the file, hex */
        int64_t size_bytes;                 /* add */
        const char *name;                   /* remove; promote: NULL for all */
        const char *version, *architecture; /* remove: NULL for any */
};
/* `answer` is what the API shows, borrowed: {"items": [packages]} or {"keys": […]}. `result` -errno: `e` has
 * the words of the program that failed. Called once, from the loop. */
typedef void (*packages_done)(int result, json_t *answer, const struct error *e, void *userdata);
/* 0, or -EAGAIN: too many wait. */
int packages_ask(struct packages *p, const struct package_question *q, packages_done done, void *userdata,
        struct error *ret_error);
/* A name for an upload of the organisation, in a folder that is there; the caller's. */
int packages_incoming(struct packages *p, const char *organisation, char **ret_path, struct error *ret_error);
/* The keys that are in force: {"keys": [{fingerprint, created, retires}], "keyring": base64}. -EAGAIN: the
 * repository is still being made. */
int packages_keys(struct packages *p, const char *organisation, json_t **ret, struct error *ret_error);
/* The published keyring, base64; the caller's. NULL: there is none yet. */
char *packages_keyring(struct packages *p, const char *organisation);

struct packages_counts {
        uint64_t done, failed; /* jobs since the start */
        size_t waiting;
};
void packages_counts(const struct packages *p, struct packages_counts *ret);
/* When the channel's InRelease was signed, as Unix time; 0: never. */
int64_t packages_signed_unix(
        const struct plane_settings *s, const char *organisation, enum package_channel c);
