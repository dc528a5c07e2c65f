#include "base/local_socket.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#define GROUP_BYTES 65536 /* of one entry, with its members' names */

int local_place_open(const char *path, struct local_place *ret, struct error *ret_error)
{
        struct local_place p = {.address = {.sun_family = AF_UNIX}, .folder = -1};
        _cleanup_free_ char *copy = NULL, *folder = NULL, *near = NULL;

        if (strlen(path) >= sizeof p.address.sun_path) {
                copy = xstrdup(path);
                folder = xstrdup(path);
                p.folder = open(dirname(folder), O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (p.folder < 0)
                        return error_set(ret_error, errno, "socket.path", "cannot open the folder of %s: %s",
                                path, strerror(errno));
                near = xasprintf("/proc/self/fd/%d/%s", p.folder, basename(copy));
                if (strlen(near) >= sizeof p.address.sun_path) {
                        close(p.folder);
                        return error_set(ret_error, ENAMETOOLONG, "socket.path",
                                "%s is too long for a socket: its last part may have about 80 bytes; choose "
                                "a shorter one",
                                path);
                }
        }
        str_copy(p.address.sun_path, sizeof p.address.sun_path, near ? near : path);
        p.path = xstrdup(path);
        *ret = p;
        return 0;
}

void local_place_done(struct local_place *p)
{
        if (p->path && p->folder >= 0)
                close(p->folder);
        free(p->path);
        *p = (struct local_place){.folder = -1};
}

/* ---- listening ---- */

static int cannot_listen(const char *path, int number, struct error *ret_error)
{
        return error_set(
                ret_error, number, "socket.listen", "cannot listen on %s: %s", path, strerror(number));
}

/* Removes a socket that nobody listens at, and nothing else. */
static int clear_place(const struct local_place *place, struct error *ret_error)
{
        const char *path = place->path;
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (lstat(path, &st) < 0)
                return errno == ENOENT ? 0 : cannot_listen(path, errno, ret_error);
        if (S_ISLNK(st.st_mode))
                return error_set(ret_error, ELOOP, "socket.path",
                        "cannot listen on %s: a symbolic link is there; remove it", path);
        if (!S_ISSOCK(st.st_mode))
                return error_set(ret_error, EEXIST, "socket.path",
                        "cannot listen on %s: something that is no socket is there; remove it", path);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return cannot_listen(path, errno, ret_error);
        if (connect(fd, (const struct sockaddr *)&place->address, sizeof place->address) == 0 ||
                errno == EAGAIN)
                return error_set(ret_error, EADDRINUSE, "socket.taken",
                        "cannot listen on %s: another process answers there already; stop it first", path);
        if (errno != ECONNREFUSED)
                return cannot_listen(path, errno, ret_error);
        return unlink(path) < 0 ? cannot_listen(path, errno, ret_error) : 0;
}

static int give_to_group(const char *path, const char *group, struct error *ret_error)
{
        _cleanup_free_ char *buffer = xmalloc(GROUP_BYTES);
        struct group entry, *found = NULL;

        if (getgrnam_r(group, &entry, buffer, GROUP_BYTES, &found) == 0 && found &&
                lchown(path, (uid_t)-1, found->gr_gid) < 0 && errno != EPERM)
                return cannot_listen(path, errno, ret_error);
        return 0;
}

static int bind_at(struct local_socket *s, struct error *ret_error)
{
        const char *path = s->place.path;
        mode_t before;
        struct stat st;
        int r;

        s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (s->fd < 0)
                return cannot_listen(path, errno, ret_error);
        before = umask(0177);
        r = bind(s->fd, (const struct sockaddr *)&s->place.address, sizeof s->place.address) < 0 ? errno : 0;
        umask(before);
        if (r > 0)
                return cannot_listen(path, r, ret_error);
        if (lstat(path, &st) < 0)
                return cannot_listen(path, errno, ret_error);
        s->device = st.st_dev;
        s->inode = st.st_ino;
        return 0;
}

int local_listen(const char *path, mode_t mode, const char *group, int backlog, struct local_socket *ret,
        struct error *ret_error)
{
        struct local_socket s = {.fd = -1};
        int r = local_place_open(path, &s.place, ret_error);

        if (r < 0)
                return r;
        r = clear_place(&s.place, ret_error);
        if (r == 0)
                r = bind_at(&s, ret_error);
        if (r == 0 && group)
                r = give_to_group(path, group, ret_error);
        if (r == 0 && (chmod(path, mode) < 0 || listen(s.fd, backlog) < 0))
                r = cannot_listen(path, errno, ret_error);
        if (r < 0)
                local_socket_done(&s);
        else
                *ret = s;
        return r;
}

void local_socket_done(struct local_socket *s)
{
        struct stat st;

        if (!s->place.path)
                return;
        if (s->fd >= 0)
                close(s->fd);
        if (s->inode && lstat(s->place.path, &st) == 0 && st.st_dev == s->device && st.st_ino == s->inode)
                unlink(s->place.path);
        local_place_done(&s->place);
        *s = (struct local_socket){.fd = -1};
}

/* ---- connecting ---- */

int local_connect(const char *path, int type, int *ret_fd)
{
        struct local_place place;
        _cleanup_close_ int fd = -1;
        int r = local_place_open(path, &place, NULL);

        if (r < 0)
                return r;
        fd = socket(AF_UNIX, type, 0);
        if (fd < 0 || connect(fd, (const struct sockaddr *)&place.address, sizeof place.address) < 0)
                r = -errno;
        else
                *ret_fd = TAKE_FD(fd);
        local_place_done(&place);
        return r;
}
