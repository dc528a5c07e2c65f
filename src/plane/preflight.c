#include "plane/preflight_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define MIB          ((uint64_t)1 << 20)
#define DISK_LEAST   (32 * MIB)
#define DISK_WANTED  (256 * MIB)
#define FILES_WANTED 20000 /* 5,000 nodes, four for each in the splitter */

void finding_add(struct findings *f, bool fatal, const char *code, const char *format, ...)
{
        struct finding *item;
        va_list arguments;

        f->items = xrealloc_array(f->items, f->count + 1, sizeof(*f->items));
        item = &f->items[f->count++];
        *item = (struct finding){.fatal = fatal, .code = code};
        va_start(arguments, format);
        vsnprintf(item->text, sizeof(item->text), format, arguments);
        va_end(arguments);
}

/* The folder, or the nearest one above it that is there. */
static char *existing(const char *path)
{
        char *here = xstrdup(path);
        struct stat st;

        while (lstat(here, &st) < 0) {
                char *slash = strrchr(here, '/');

                if (!slash || slash == here) {
                        strcpy(here, "/");
                        break;
                }
                *slash = '\0';
        }
        return here;
}

/* As folder_prepare() will judge it, which would make it, too. */
static void check_folder(const char *path, const struct passwd *user, struct findings *f)
{
        _cleanup_free_ char *here = existing(path);
        struct stat st;

        if (lstat(here, &st) < 0)
                return;
        if (!str_equal(here, path)) {
                if (access(here, W_OK | X_OK) < 0)
                        finding_add(f, true, "folder.refused",
                                "%s cannot be made: user %u may not write to %s; make it and give it to the "
                                "user that gridplane runs as, or choose another --root",
                                path, (unsigned)geteuid(), here);
                return;
        }
        if (S_ISLNK(st.st_mode))
                finding_add(f, true, "folder.refused", "%s is a symbolic link; put a folder there", path);
        else if (!S_ISDIR(st.st_mode))
                finding_add(f, true, "folder.refused", "%s is no folder; move it away", path);
        else if (st.st_uid != geteuid() && st.st_uid != 0 && !(user && st.st_uid == user->pw_uid))
                finding_add(f, true, "folder.refused",
                        "%s belongs to user %u, and this is user %u; give it to the user that gridplane runs "
                        "as (chown)",
                        path, (unsigned)st.st_uid, (unsigned)geteuid());
        else if (st.st_mode & 022)
                finding_add(f, true, "folder.refused",
                        "others may write to %s (mode %04o); take that away (chmod go-w)", path,
                        (unsigned)st.st_mode & 07777);
        else if (access(path, W_OK | X_OK) < 0)
                finding_add(f, true, "folder.refused",
                        "user %u may not write to %s; give it to that user (chown)", (unsigned)geteuid(),
                        path);
}

static void check_disk(const char *path, struct findings *f)
{
        _cleanup_free_ char *here = existing(path);
        struct statvfs v;
        uint64_t left;

        if (statvfs(here, &v) < 0) {
                finding_add(
                        f, true, "disk.full", "cannot ask how much space %s has: %s", here, strerror(errno));
                return;
        }
        left = (uint64_t)v.f_bavail * v.f_frsize;
        if (left < DISK_WANTED)
                finding_add(f, left < DISK_LEAST, "disk.full",
                        "%s has %llu MiB left, and %llu MiB are wanted for events, images and logs; make "
                        "room",
                        here, (unsigned long long)(left / MIB), (unsigned long long)(DISK_WANTED / MIB));
}

static void check_user(const struct plane_settings *s, struct findings *f)
{
        const struct passwd *user = s->user ? getpwnam(s->user) : NULL;

        if (s->user && !user)
                finding_add(f, true, "user.unknown",
                        "there is no user %s, whom [plane] user in %s names; make it (useradd --system %s)",
                        s->user, s->config_path, s->user);
        else if (user && geteuid() != 0 && geteuid() != user->pw_uid)
                finding_add(f, true, "user.unknown",
                        "only root can become user %s, and this is user %u; start gridplane as root or as %s",
                        s->user, (unsigned)geteuid(), s->user);
        else if (!s->user && geteuid() == 0)
                finding_add(f, false, "user.root",
                        "gridplane and its servers would run as root; give them a user of their own: "
                        "[plane] user in %s",
                        s->config_path);
}

static void check_files(struct findings *f)
{
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_max < FILES_WANTED)
                finding_add(f, false, "files.limit",
                        "a process may have %llu files open, enough for about %llu nodes; raise the hard "
                        "limit to %d for 5000 (LimitNOFILE= in the unit, or ulimit -Hn)",
                        (unsigned long long)files.rlim_max, (unsigned long long)files.rlim_max / 4,
                        FILES_WANTED);
}

static int compare(const void *a, const void *b)
{
        const struct finding *x = a, *y = b;

        return (int)y->fatal - (int)x->fatal;
}

size_t preflight(const struct plane_settings *s, int64_t now_unix_ms, struct finding **ret)
{
        struct findings f = {0};
        const struct passwd *user;

        check_user(s, &f);
        user = s->user && geteuid() == 0 ? getpwnam(s->user) : NULL;
        check_folder(s->paths.state, user, &f);
        check_folder(s->paths.run, user, &f);
        check_disk(s->paths.state, &f);
        check_files(&f);
        preflight_certificates(s, now_unix_ms / 1000, &f);
        preflight_programs(s, &f);
        preflight_packages(s, now_unix_ms, &f);
        preflight_ports(s, &f);
        preflight_parts(s, &f);
        if (f.count > 1)
                qsort(f.items, f.count, sizeof(*f.items), compare);
        *ret = f.items;
        return f.count;
}
