/* Generations: what nginx serves, made beside what it serves now, and put in force by one rename. */
#include "plane/packages_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/json.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define RELEASE_MAX_BYTES ((size_t)8 << 20)
#define HISTORY_MAX_BYTES ((size_t)16 << 20)
#define HISTORY_FILE      "history.json"
#define BY_HASH           "by-hash/SHA256"
#define MAX_OPEN_FOLDERS  16
/* A client that has an InRelease takes the indices that it names within this time. */
#define SUPERSEDED_MS (INT64_C(24) * 3600 * 1000)

DEFINE_CLEANUP(DIR *, closedir);

const struct package_channel_facts package_channels[CHANNEL_COUNT] = {
        [CHANNEL_STABLE] = {"stable", "stable", "stable", "gridplane", "gridplane"},
        [CHANNEL_TESTING] = {"testing", "testing", "testing", "gridplane", "gridplane"},
        /* As apt and unattended-upgrades know Debian's security packages. */
        [CHANNEL_SECURITY] = {"security", "bookworm-security", "security", "Debian", "Debian-Security"},
};

const char *package_channel_to_string(enum package_channel c)
{
        return package_channels[c].name;
}

int package_channel_from_string(const char *s, enum package_channel *ret)
{
        for (size_t i = 0; i < CHANNEL_COUNT; i++)
                if (str_equal(s, package_channels[i].name)) {
                        *ret = (enum package_channel)i;
                        return 0;
                }
        return -EINVAL;
}

static int file_error(struct error *ret_error, const char *doing, const char *path)
{
        int number = errno;

        return error_set(
                ret_error, number, "repository.file", "cannot %s %s: %s", doing, path, strerror(number));
}

/* ---- folders ---- */

static char *distributions(void)
{
        struct text t = {0};

        text_add(&t, "# Written by gridplane at each start.\n");
        for (size_t i = 0; i < CHANNEL_COUNT; i++) {
                const struct package_channel_facts *c = &package_channels[i];

                text_addf(&t,
                        "Codename: %s\nSuite: %s\nOrigin: %s\nLabel: "
                        "%s\nArchitectures: " PACKAGE_ARCHITECTURES
                        "\nComponents: main\nDebIndices: Packages Release . .gz .xz\n\n",
                        c->codename, c->suite, c->origin, c->label);
        }
        return text_take(&t);
}

/* FOLDER/public/NAME → ../current/NAME */
static int put_public_link(const char *folder, const char *name, struct error *ret_error)
{
        _cleanup_free_ char *path = xasprintf("%s/public/%s", folder, name),
                            *target = xasprintf("../current/%s", name);

        if (symlink(target, path) < 0 && errno != EEXIST)
                return file_error(ret_error, "make the link", path);
        return 0;
}

int package_folder_prepare(const char *folder, struct error *ret_error)
{
        static const char *const folders[] = {
                "", "conf", "db", "dists", "gnupg", "incoming", "published", "public", "public/pool"};
        static const char *const links[] = {"dists", "keyring.gpg", "keyring.gpg.sig"};
        _cleanup_free_ char *path = path_join(folder, "conf/distributions"), *text = distributions(),
                            *former = NULL;
        size_t length;
        int r = 0;

        for (size_t i = 0; i < ELEMENTS(folders) && r == 0; i++) {
                _cleanup_free_ char *one = *folders[i] ? path_join(folder, folders[i]) : xstrdup(folder);

                r = folder_prepare(one, 0700, ret_error);
        }
        for (size_t i = 0; i < ELEMENTS(links) && r == 0; i++)
                r = put_public_link(folder, links[i], ret_error);
        if (r < 0)
                return r;
        if (file_read(path, RELEASE_MAX_BYTES, &former, &length, NULL) == 0 && str_equal(former, text))
                return 0;
        return file_save(path, text, strlen(text), 0600, ret_error);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
        (void)st;
        (void)kind;
        (void)at;
        return remove(path);
}

int package_remove_folder(const char *path)
{
        if (nftw(path, remove_one, MAX_OPEN_FOLDERS, FTW_PHYS | FTW_DEPTH) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

static int make_folders(const char *path, struct error *ret_error)
{
        _cleanup_free_ char *part = xstrdup(path);

        for (char *c = part + 1;; c++) {
                char was = *c;

                if (was && was != '/')
                        continue;
                *c = '\0';
                if (mkdir(part, 0700) < 0 && errno != EEXIST)
                        return file_error(ret_error, "make the folder", part);
                if (!was)
                        return 0;
                *c = was;
        }
}

/* The same file under another name: no copy, and its time stays. What is there already stays. */
static int link_file(const char *from, const char *to, struct error *ret_error)
{
        if (link(from, to) < 0 && errno != EEXIST)
                return file_error(ret_error, "link a file to", to);
        return 0;
}

/* ---- one channel ---- */

struct making {
        const char *folder; /* of the repository */
        const char *former; /* generation in force; NULL: none */
        const char *path;   /* the new one */
        json_t *history;    /* "dists/…/by-hash/SHA256/HASH": since when no Release names it, ms */
        json_t *kept;       /* the same of the new one */
        int64_t now_unix_ms;
};

char *package_channel_file(const char *generation, enum package_channel c, const char *name)
{
        return xasprintf("%s/dists/%s/%s", generation, package_channels[c].name, name);
}

/* "main/binary-amd64/by-hash/SHA256" of "main/binary-amd64/Packages.xz" */
static char *hash_folder(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash ? xasprintf("%.*s/" BY_HASH, (int)(slash - path), path) : xstrdup(BY_HASH);
}

/* One index, by name and by hash. What the former generation had with this hash is taken from there: its time
 * is what clients know. */
static int link_index(const struct making *m, enum package_channel c, const struct package_index *i,
        struct error *ret_error)
{
        _cleanup_free_ char *below = hash_folder(i->path), *hash = path_join(below, i->sha256),
                            *by_hash = package_channel_file(m->path, c, hash),
                            *by_hash_folder = package_channel_file(m->path, c, below),
                            *by_name = package_channel_file(m->path, c, i->path),
                            *old = m->former ? package_channel_file(m->former, c, hash) : NULL,
                            *made = xasprintf(
                                    "%s/dists/%s/%s", m->folder, package_channels[c].codename, i->path);
        const char *from = old && access(old, F_OK) == 0 ? old : made;
        int r = make_folders(by_hash_folder, ret_error);

        if (r == 0)
                r = link_file(from, by_hash, ret_error);
        return r < 0 ? r : link_file(by_hash, by_name, ret_error);
}

/* Clients that have an earlier InRelease still ask for what it names. */
static int keep_superseded(
        const struct making *m, enum package_channel c, const char *below, struct error *ret_error)
{
        _cleanup_free_ char *old = package_channel_file(m->former, c, below),
                            *to = package_channel_file(m->path, c, below);
        _cleanup_(closedir_p) DIR *d = opendir(old);
        struct dirent *entry;
        int r = 0;

        while (d && r == 0 && (entry = readdir(d))) {
                _cleanup_free_ char *from = path_join(old, entry->d_name),
                                    *there = path_join(to, entry->d_name),
                                    *name = xasprintf(
                                            "%s/%s/%s", package_channels[c].name, below, entry->d_name);
                int64_t since;

                if (entry->d_name[0] == '.' || access(there, F_OK) == 0)
                        continue;
                since = json_integer_value(json_object_get(m->history, name));
                if (since == 0)
                        since = m->now_unix_ms;
                if (m->now_unix_ms - since >= SUPERSEDED_MS)
                        continue;
                r = link_file(from, there, ret_error);
                json_object_set_new(m->kept, name, json_integer(since));
        }
        return r;
}

static int link_indices(
        const struct making *m, enum package_channel c, const char *release, struct error *ret_error)
{
        _cleanup_(strv_done) struct strv folders = {0};
        struct package_index i;
        const char *at = release;
        int r;

        while ((r = package_index_next(&at, &i, ret_error)) > 0) {
                char *below = hash_folder(i.path);

                strv_add_unique(&folders, below);
                free(below);
                r = link_index(m, c, &i, ret_error);
                if (r < 0)
                        return r;
        }
        for (size_t n = 0; n < folders.count && r == 0 && m->former; n++)
                r = keep_superseded(m, c, folders.items[n], ret_error);
        return r;
}

static int make_channel(const struct making *m, enum package_channel c, struct error *ret_error)
{
        _cleanup_free_ char *source =
                                    xasprintf("%s/dists/%s/Release", m->folder, package_channels[c].codename),
                            *to = package_channel_file(m->path, c, "Release"), *release = NULL, *text = NULL;
        int64_t now = m->now_unix_ms / 1000;
        size_t length;
        int r = file_read(source, RELEASE_MAX_BYTES, &release, &length, ret_error);

        if (r == 0)
                r = link_indices(m, c, release, ret_error);
        if (r < 0)
                return r;
        text = package_release_text(release, now, now + (int64_t)PACKAGES_VALID_DAYS * 86400);
        return file_save(to, text, strlen(text), 0600, ret_error);
}

/* ---- channels that stay as they are: the same files ---- */

static struct {
        const char *from, *to;
        struct error *error;
        int result;
} tree; /* nftw(3) hands nothing on */

static int link_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
        _cleanup_free_ char *to = xasprintf("%s%s", tree.to, path + strlen(tree.from));

        (void)st;
        (void)at;
        if (kind == FTW_D)
                tree.result = make_folders(to, tree.error);
        else if (kind == FTW_F)
                tree.result = link_file(path, to, tree.error);
        return tree.result;
}

static int keep_channel(const struct making *m, enum package_channel c, struct error *ret_error)
{
        _cleanup_free_ char *from = package_channel_file(m->former, c, ""),
                            *to = package_channel_file(m->path, c, ""),
                            *begin = xasprintf("%s/", package_channels[c].name);
        const char *name;
        json_t *since;

        from[strlen(from) - 1] = to[strlen(to) - 1] = '\0';
        tree.from = from;
        tree.to = to;
        tree.error = ret_error;
        tree.result = 0;
        if (nftw(from, link_one, MAX_OPEN_FOLDERS, FTW_PHYS) < 0)
                return file_error(ret_error, "read the folder", from);
        json_object_foreach(m->history, name, since)
        {
                if (str_starts_with(name, begin))
                        json_object_set(m->kept, name, since);
        }
        return tree.result;
}

/* ---- all of them ---- */

static char *current_generation(const char *folder)
{
        _cleanup_free_ char *path = path_join(folder, "current");
        char target[64] = "";

        if (readlink(path, target, sizeof(target) - 1) <= 0 || !str_starts_with(target, "published/"))
                return NULL;
        return path_join(folder, target);
}

/* What an interrupted attempt left, and former generations; all but `keep`. */
static void remove_others(const char *folder, const char *keep)
{
        _cleanup_free_ char *published = path_join(folder, "published");
        _cleanup_(closedir_p) DIR *d = opendir(published);
        struct dirent *entry;

        while (d && (entry = readdir(d))) {
                _cleanup_free_ char *path = path_join(published, entry->d_name);

                if (entry->d_name[0] != '.' && !str_equal(path, keep))
                        package_remove_folder(path);
        }
}

static unsigned long number_of(const char *generation)
{
        unsigned long n = 0;

        if (generation && str_to_ulong(strrchr(generation, '/') + 1, 1, UINT32_MAX, &n) < 0)
                n = 0;
        return n;
}

static json_t *read_history(const char *generation)
{
        _cleanup_free_ char *path = generation ? path_join(generation, HISTORY_FILE) : NULL, *text = NULL;
        json_t *history = NULL;
        size_t length;

        if (path && file_read(path, HISTORY_MAX_BYTES, &text, &length, NULL) == 0)
                history = json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
        if (json_is_object(history))
                return history;
        json_decref(history);
        return json_object();
}

static int make_all(struct making *m, const bool changed[CHANNEL_COUNT], struct error *ret_error)
{
        _cleanup_free_ char *link = xasprintf("%s/dists/bookworm-security", m->path),
                            *history = path_join(m->path, HISTORY_FILE), *text = NULL;
        int r = 0;

        for (size_t i = 0; i < CHANNEL_COUNT && r == 0; i++) {
                enum package_channel c = (enum package_channel)i;

                r = changed[i] || !m->former ? make_channel(m, c, ret_error) : keep_channel(m, c, ret_error);
        }
        if (r < 0)
                return r;
        /* Debian's name of it, for those who have that in their sources. */
        if (symlink("security", link) < 0)
                return file_error(ret_error, "make the link", link);
        text = json_to_text(m->kept);
        return file_save(history, text, strlen(text), 0600, ret_error);
}

int package_generation_begin(const char *folder, const bool changed[CHANNEL_COUNT], int64_t now_unix_ms,
        char **ret_path, struct error *ret_error)
{
        _cleanup_free_ char *former = current_generation(folder),
                            *path = xasprintf("%s/published/%lu", folder, number_of(former) + 1);
        struct making m = {.folder = folder,
                .former = former,
                .path = path,
                .history = read_history(former),
                .kept = json_object(),
                .now_unix_ms = now_unix_ms};
        int r;

        remove_others(folder, former ? former : "");
        r = make_folders(path, ret_error);
        if (r == 0)
                r = make_all(&m, changed, ret_error);
        json_decref(m.history);
        json_decref(m.kept);
        if (r < 0) {
                package_remove_folder(path);
                return r;
        }
        *ret_path = TAKE_PTR(path);
        return 0;
}

int package_generation_switch(const char *folder, const char *path, struct error *ret_error)
{
        _cleanup_free_ char *link = path_join(folder, "current"),
                            *temporary = path_join(folder, "current.new"),
                            *target = xasprintf("published%s", strrchr(path, '/'));
        _cleanup_close_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        unlink(temporary);
        if (fd < 0 || symlink(target, temporary) < 0 || rename(temporary, link) < 0 || fsync(fd) < 0)
                return file_error(ret_error, "make the link", link);
        remove_others(folder, path);
        return 0;
}

int package_make_later(const char *path, const char *former, struct error *ret_error)
{
        struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}};
        struct stat st, old;

        if (stat(path, &st) < 0)
                return file_error(ret_error, "read", path);
        if (stat(former, &old) < 0 || st.st_mtim.tv_sec > old.st_mtim.tv_sec)
                return 0;
        times[1].tv_sec = old.st_mtim.tv_sec + 1;
        if (utimensat(AT_FDCWD, path, times, 0) < 0)
                return file_error(ret_error, "set the time of", path);
        return 0;
}

int64_t packages_signed_unix(const struct plane_settings *s, const char *organisation, enum package_channel c)
{
        _cleanup_free_ char *current = xasprintf("%s/apt/%s/current", s->paths.state, organisation),
                            *path = package_channel_file(current, c, "InRelease");
        struct stat st;

        return stat(path, &st) == 0 ? (int64_t)st.st_mtim.tv_sec : 0;
}
