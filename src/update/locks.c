#include "update/locks.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

static const char *const locks[] = {
        "/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/dpkg/triggers/Lock"};

static void name_of(pid_t pid, char *ret, size_t size)
{
        char path[64], name[64] = "";
        _cleanup_close_ int fd = -1;
        ssize_t n;

        snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd >= 0 ? read(fd, name, sizeof name - 1) : 0;
        for (ssize_t i = 0; i < n; i++)
                if (name[i] <= ' ' || name[i] > '~')
                        name[i] = '\0';
        snprintf(ret, size, "process %d%s%s%s", (int)pid, name[0] ? " (" : "", name, name[0] ? ")" : "");
}

bool locks_holder(char *ret, size_t size)
{
        for (size_t i = 0; i < ELEMENTS(locks); i++) {
                struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
                _cleanup_close_ int fd = open(locks[i], O_RDWR | O_CLOEXEC | O_NOFOLLOW);

                if (fd < 0 || fcntl(fd, F_GETLK, &l) < 0 || l.l_type == F_UNLCK)
                        continue;
                name_of(l.l_pid, ret, size);
                return true;
        }
        return false;
}
