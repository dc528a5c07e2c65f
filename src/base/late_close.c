#include "base/late_close.h"

#include "base/cleanup.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/types.h>

#define KEPT_MAX 16

static bool is_enabled;
static int kept[KEPT_MAX];
static size_t kept_count;

void late_close_enable(void)
{
        is_enabled = true;
}

void late_close(int fd)
{
        if (is_enabled && kept_count < KEPT_MAX)
                kept[kept_count++] = fd;
        else
                close(fd);
}

static bool is_kept(int fd)
{
        for (size_t i = 0; i < kept_count; i++)
                if (kept[i] == fd)
                        return true;
        return false;
}

/* Nobody must wait for this process: not whoever reads its output, nor the peer of one of its sockets. */
static void close_others(int but)
{
        int highest = but;

        for (size_t i = 0; i < kept_count; i++)
                highest = kept[i] > highest ? kept[i] : highest;
        for (int fd = 0; fd <= highest; fd++)
                if (fd != but && !is_kept(fd))
                        close(fd);
        close_range((unsigned)highest + 1, ~0u, 0);
}

void late_close_finish(void)
{
        int parent[2];
        pid_t pid;
        char nothing;

        if (kept_count == 0 || pipe2(parent, O_CLOEXEC) < 0)
                return;
        pid = fork();
        if (pid == 0) {
                close_others(parent[0]);
                /* Until the parent is gone: the last holder is the one who waits. */
                while (read(parent[0], &nothing, 1) > 0)
                        ;
                _exit(0);
        }
        if (pid < 0) {
                close(parent[0]);
                close(parent[1]);
        }
}
