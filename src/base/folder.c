#include "base/folder.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static int refuse(const char *path, int number, const char *why, struct error *ret_error)
{
        return error_set(ret_error, number, "folder.refused", "%s is not used: %s", path, why);
}

/* ---- making ---- */

static int make_parents(char *path, struct error *ret_error)
{
        for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                int r;

                *slash = '\0';
                r = mkdir(path, 0755) < 0 && errno != EEXIST ? errno : 0;
                if (r > 0)
                        error_set(ret_error, r, "folder.failed", "cannot make the folder %s: %s", path,
                                strerror(r));
                *slash = '/';
                if (r > 0)
                        return -r;
        }
        return 0;
}

/* What mkdir(2) left of the mode under this process's umask is not what was asked for. */
static int set_mode(const char *path, mode_t mode, struct error *ret_error)
{
        _cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 || fchmod(fd, mode) < 0)
                return error_set(ret_error, errno, "folder.failed", "cannot set the mode of %s: %s", path,
                        strerror(errno));
        return 0;
}

/* ---- trusting ---- */

static int check_owner(const char *path, const struct stat *st, struct error *ret_error)
{
        if (st->st_uid != geteuid() && st->st_uid != 0)
                return error_set(ret_error, EPERM, "folder.refused",
                        "%s is not used: it belongs to user %u; give it to user %u (chown)", path,
                        (unsigned)st->st_uid, (unsigned)geteuid());
        if (st->st_mode & 022)
                return error_set(ret_error, EPERM, "folder.refused",
                        "%s is not used: others may write there (mode %04o); take that away (chmod go-w)",
                        path, (unsigned)st->st_mode & 07777);
        return 0;
}

static int check_folder(const char *path, struct error *ret_error)
{
        struct stat st;
        /* O_PATH: the folder itself, not what a symlink in its place leads to. */
        _cleanup_close_ int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set(ret_error, errno, "folder.failed", "cannot open the folder %s: %s", path,
                        strerror(errno));
        if (S_ISLNK(st.st_mode))
                return refuse(path, ELOOP, "it is a symbolic link; put a folder there", ret_error);
        if (!S_ISDIR(st.st_mode))
                return refuse(path, ENOTDIR, "it is no folder; move it away", ret_error);
        return check_owner(path, &st, ret_error);
}

int folder_prepare(const char *path, mode_t mode, struct error *ret_error)
{
        _cleanup_free_ char *copy = xstrdup(path);
        size_t length = strlen(copy);
        int r;

        /* A slash at the end would have a symlink followed. */
        while (length > 1 && copy[length - 1] == '/')
                copy[--length] = '\0';
        r = make_parents(copy, ret_error);
        if (r < 0)
                return r;
        if (mkdir(copy, mode) == 0)
                r = set_mode(copy, mode, ret_error);
        else if (errno != EEXIST)
                r = error_set(ret_error, errno, "folder.failed", "cannot make the folder %s: %s", copy,
                        strerror(errno));
        return r < 0 ? r : check_folder(copy, ret_error);
}

int folder_check_file(const char *folder, const char *name, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(folder, name);
        struct stat st;

        if (lstat(path, &st) < 0 && errno == ENOENT)
                return 0;
        if (lstat(path, &st) < 0)
                return error_set(
                        ret_error, errno, "folder.failed", "cannot look at %s: %s", path, strerror(errno));
        if (S_ISLNK(st.st_mode))
                return refuse(path, ELOOP, "it is a symbolic link; remove it", ret_error);
        if (!S_ISREG(st.st_mode))
                return refuse(path, EINVAL, "it is no regular file; remove it", ret_error);
        return check_owner(path, &st, ret_error);
}

/* ---- having it alone ---- */

static int busy(const char *path, int fd, struct error *ret_error)
{
        char text[32] = "";
        ssize_t n = pread(fd, text, sizeof text - 1, 0);
        int pid = 0;

        if (n > 0 && sscanf(text, "%d", &pid) == 1 && pid > 0)
                return error_set(ret_error, EBUSY, "folder.busy",
                        "%s is held by process %d, which runs already", path, pid);
        return error_set(ret_error, EBUSY, "folder.busy", "%s is held by another process", path);
}

int folder_lock(const char *folder, int *ret_fd, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(folder, "lock");
        _cleanup_close_ int fd =
                open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
        char text[32];

        if (fd < 0)
                return error_set(
                        ret_error, errno, "folder.failed", "cannot open %s: %s", path, strerror(errno));
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno == EINTR)
                        continue;
                if (errno == EWOULDBLOCK)
                        return busy(path, fd, ret_error);
                return error_set(
                        ret_error, errno, "folder.failed", "cannot lock %s: %s", path, strerror(errno));
        }
        /* The pid only helps a person: on a full disk the lock holds without it. */
        snprintf(text, sizeof text, "%d\n", (int)getpid());
        if (ftruncate(fd, 0) == 0 && pwrite(fd, text, strlen(text), 0) < 0)
                errno = 0;
        *ret_fd = TAKE_FD(fd);
        return 0;
}
