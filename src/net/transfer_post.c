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
#include <sys/stat.h>
#include <time.h>

#define MOST_LISTED 64
#define MOST_TRIES  50

struct transfer_post {
        int fd;
        char *path;
};

/* A reader holds the lock for a moment to see whether it is free, and takes away what it finds unowned: what
 * was just made may be gone before it is locked. -EAGAIN: once more. */
static int open_owned(const char *path)
{
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
        struct stat st;

        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -EAGAIN;
        /* The folder is the daemon's, and this may be root: a file with another name is not to be emptied. */
        if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_nlink > 1)
                return -EINVAL;
        if (st.st_nlink == 0)
                return -EAGAIN;
        return ftruncate(fd, 0) < 0 ? -errno : TAKE_FD(fd);
}

struct transfer_post *transfer_post_open(const char *folder, const char *name)
{
        struct transfer_post *p = xcalloc(1, sizeof(*p));
        _cleanup_free_ char *file = xasprintf("%s-%d", name, (int)getpid());
        const struct timespec moment = {.tv_nsec = 2000000};

        p->path = path_join(folder, file);
        p->fd = open_owned(p->path);
        for (int i = 0; p->fd == -EAGAIN && i < MOST_TRIES; i++) {
                nanosleep(&moment, NULL);
                p->fd = open_owned(p->path);
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

static bool is_number(const json_t *v)
{
        return json_is_number(v) && json_number_value(v) >= 0;
}

/* What stands in a record of ours; any other member is left out. */
static const struct {
        const char *name;
        bool is_text;
} members[] = {{"job", true}, {"name", true}, {"state", true}, {"waits_for", true}, {"bytes", false},
        {"size", false}, {"bytes_per_second", false}, {"remaining_s", false}, {"way", false},
        {"service", true}, {"address", true}, {"stage", true}, {"attempts", false}};

int transfer_post_parse(const void *data, size_t length, json_t **ret)
{
        json_auto_t *object = NULL;
        json_t *record;
        int r = json_parse(data, length, TRANSFER_POST_BYTES, "transfers", &object, NULL);

        if (r < 0)
                return r;
        if (!json_is_object(object))
                return -EBADMSG;
        record = json_object();
        for (size_t i = 0; i < ELEMENTS(members); i++) {
                json_t *v = json_object_get(object, members[i].name);

                if (members[i].is_text ? json_is_string(v) : is_number(v))
                        json_object_set(record, members[i].name, v);
        }
        *ret = record;
        return 0;
}

/* 1: its owner is dead, and it was taken away where that is permitted. */
static int read_one(int folder_fd, const char *name, json_t **ret)
{
        _cleanup_close_ int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        char record[TRANSFER_POST_BYTES];
        const char *dash = strrchr(name, '-');
        unsigned long pid;
        ssize_t n;

        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_SH | LOCK_NB) == 0) {
                /* With the lock still held: whoever makes it meanwhile sees that it has no name any more. */
                unlinkat(folder_fd, name, 0);
                return 1;
        }
        n = pread(fd, record, sizeof(record), 0);
        if (n <= 0 || transfer_post_parse(record, (size_t)n, ret) < 0)
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
                if (r == 0 && json_object_get(item, "name"))
                        json_array_append(list, item);
                json_decref(item);
        }
        if (d)
                closedir(d);
        return list;
}
