#include "base/file.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define READ_CHUNK_BYTES 16384

static int read_error(const char *path, int number, struct error *ret_error)
{
        return error_set(ret_error, number, "file.unreadable", "cannot read %s: %s", path, strerror(number));
}

static int open_regular(const char *path, int *ret_fd, struct stat *ret_st, struct error *ret_error)
{
        _cleanup_close_ int fd = -1;

        /* O_NONBLOCK: opening a FIFO must not hang; it means nothing for the regular file that is wanted. */
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return read_error(path, errno, ret_error);
        if (fstat(fd, ret_st) < 0)
                return read_error(path, errno, ret_error);
        if (S_ISDIR(ret_st->st_mode))
                return read_error(path, EISDIR, ret_error);
        if (!S_ISREG(ret_st->st_mode))
                return error_set(
                        ret_error, EINVAL, "file.unreadable", "cannot read %s: not a regular file", path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int file_read(const char *path, size_t maximum_bytes, char **ret, size_t *ret_length, struct error *ret_error)
{
        _cleanup_free_ char *data = NULL;
        _cleanup_close_ int fd = -1;
        size_t length = 0, allocated;
        struct stat st;
        int r = open_regular(path, &fd, &st, ret_error);

        if (r < 0)
                return r;
        /* The size is only a hint: files of /proc say 0, and a file may grow while it is read. */
        allocated = (size_t)st.st_size < maximum_bytes ? (size_t)st.st_size + 2 : READ_CHUNK_BYTES;
        data = xmalloc(allocated);
        for (;;) {
                ssize_t n;

                if (length + 1 >= allocated) {
                        allocated = allocated * 2 + READ_CHUNK_BYTES;
                        data = xrealloc_array(data, allocated, 1);
                }
                n = read(fd, data + length, allocated - length - 1);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return read_error(path, errno, ret_error);
                if (n == 0)
                        break;
                length += (size_t)n;
                if (length > maximum_bytes)
                        return error_set(ret_error, EFBIG, "file.too-large",
                                "cannot read %s: larger than %zu bytes", path, maximum_bytes);
        }
        data[length] = '\0';
        *ret = TAKE_PTR(data);
        if (ret_length)
                *ret_length = length;
        return 0;
}

static int write_all(int fd, const char *data, size_t length)
{
        while (length > 0) {
                ssize_t n = write(fd, data, length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                data += n;
                length -= (size_t)n;
        }
        return 0;
}

static int sync_folder(const char *folder)
{
        _cleanup_close_ int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        /* Some file systems cannot sync a folder and say EINVAL; nothing more can be done there. */
        if (fsync(fd) < 0 && errno != EINVAL)
                return -errno;
        return 0;
}

/* Fills and syncs the temporary file and puts it in place. The caller removes it when this fails. */
static int fill_and_rename(
        int fd, const char *temporary, const char *path, const void *data, size_t length, mode_t mode)
{
        int r = write_all(fd, data, length);

        if (r < 0)
                return r;
        if (fchmod(fd, mode) < 0 || fsync(fd) < 0 || rename(temporary, path) < 0)
                return -errno;
        return 0;
}

int file_save(const char *path, const void *data, size_t length, mode_t mode, struct error *ret_error)
{
        _cleanup_free_ char *copy = xstrdup(path), *temporary = NULL;
        _cleanup_close_ int fd = -1;
        const char *folder = dirname(copy);
        struct stat st;
        int r;

        /* rename() would put a plain file in the place of a device such as /dev/stdout. */
        if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
                return error_set(ret_error, S_ISDIR(st.st_mode) ? EISDIR : EINVAL, "file.unwritable",
                        "cannot save %s: it exists and is not a regular file", path);
        temporary = xasprintf("%s/.gridnode-save-XXXXXX", folder);
        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return error_set(ret_error, errno, "file.unwritable",
                        "cannot save %s: no temporary file in %s: %s", path, folder, strerror(errno));
        r = fill_and_rename(fd, temporary, path, data, length, mode);
        if (r < 0)
                unlink(temporary);
        else
                r = sync_folder(folder);
        if (r < 0)
                return error_set(ret_error, -r, "file.unwritable", "cannot save %s: %s", path, strerror(-r));
        return 0;
}

char *file_beside(const char *file, const char *path)
{
        const char *slash = strrchr(file, '/');

        if (path[0] == '/' || !slash)
                return xstrdup(path);
        return xasprintf("%.*s/%s", slash == file ? 0 : (int)(slash - file), file, path);
}
