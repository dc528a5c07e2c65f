#include "net/transfer_post.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

#define MOST_LISTED 64

struct transfer_post {
        int fd;
        char *path;
};

struct transfer_post *transfer_post_open(const char *folder, const char *name)
{
        struct transfer_post *p = xcalloc(1, sizeof(*p));
        _cleanup_free_ char *file = xasprintf("%s-%d", name, (int)getpid());

        p->path = path_join(folder, file);
        p->fd = open(p->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
        if (p->fd >= 0 && flock(p->fd, LOCK_EX | LOCK_NB) < 0) {
                close(p->fd);
                p->fd = -1;
        }
        return p;
}

struct transfer_post *transfer_post_close(struct transfer_post *p)
{
        if (!p)
                return NULL;
        if (p->fd >= 0) {
                unlink(p->path); /* else the next reader does */
                close(p->fd);
        }
        free(p->path);
        free(p);
        return NULL;
}

void transfer_post_write(struct transfer_post *p, const json_t *value)
{
        char record[TRANSFER_POST_BYTES];
        _cleanup_free_ char *text = value ? json_to_text(value) : xstrdup("{}");
        size_t length = strlen(text);

        if (p->fd < 0 || length >= sizeof(record))
                return;
        /* One write of one size: a reader sees this record or the one before. */
        memset(record, ' ', sizeof(record));
        memcpy(record, text, length);
        record[sizeof(record) - 1] = '\n';
        if (pwrite(p->fd, record, sizeof(record), 0) != (ssize_t)sizeof(record) && ftruncate(p->fd, 0) < 0)
                return;
}

/* 1: its owner is dead. */
static int read_one(int folder_fd, const char *name, json_t **ret)
{
        _cleanup_close_ int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        char record[TRANSFER_POST_BYTES];
        const char *dash = strrchr(name, '-');
        unsigned long pid;
        ssize_t n;

        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_SH | LOCK_NB) == 0)
                return 1;
        n = pread(fd, record, sizeof(record), 0);
        if (n <= 0 || json_parse(record, (size_t)n, sizeof(record), name, ret, NULL) < 0)
                return -EBADMSG;
        if (dash && str_to_ulong(dash + 1, 1, 1UL << 22, &pid) == 0)
                json_object_set_new(*ret, "pid", json_integer((json_int_t)pid));
        return 0;
}

json_t *transfer_post_list(const char *folder)
{
        json_t *list = json_array();
        DIR *d = opendir(folder);
        const struct dirent *entry;

        while (d && (entry = readdir(d)) && json_array_size(list) < MOST_LISTED) {
                json_t *item = NULL;
                int r;

                if (entry->d_name[0] == '.')
                        continue;
                r = read_one(dirfd(d), entry->d_name, &item);
                if (r == 1)
                        unlinkat(dirfd(d), entry->d_name, 0);
                else if (r == 0 && json_object_size(item) > 1)
                        json_array_append(list, item);
                json_decref(item);
        }
        if (d)
                closedir(d);
        return list;
}
