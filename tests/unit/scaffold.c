#include "scaffold.h"

#include "base/clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void write_file(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        close(fd);
}

/* We are root in it, with the group that we have: some of what is started asks for both. */
static void enter_user_namespace(void)
{
        unsigned uid = geteuid(), gid = getegid();
        char map[64];

        assert_int_equal(unshare(CLONE_NEWUSER | CLONE_NEWNET), 0);
        write_file("/proc/self/setgroups", "deny");
        snprintf(map, sizeof map, "0 %u 1", uid);
        write_file("/proc/self/uid_map", map);
        snprintf(map, sizeof map, "0 %u 1", gid);
        write_file("/proc/self/gid_map", map);
}

void scaffold_enter_namespace(void)
{
        struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
        int fd;

        if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
                enter_user_namespace();
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        assert_true(fd >= 0);
        assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &loopback), 0);
        close(fd);
}

bool scaffold_run_until(sd_event *event, const bool *flag, double timeout_ms)
{
        double now_ms, until_ms = clock_monotonic_ms() + timeout_ms;

        while (!*flag && (now_ms = clock_monotonic_ms()) < until_ms)
                assert_true(sd_event_run(event, (uint64_t)((until_ms - now_ms) * 1000) + 1) >= 0);
        return *flag;
}

void scaffold_run_for(sd_event *event, double time_ms)
{
        bool never = false;

        scaffold_run_until(event, &never, time_ms);
}

unsigned scaffold_count_descriptors(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned count = 0;

        assert_non_null(d);
        while (readdir(d))
                count++;
        closedir(d);
        return count;
}
