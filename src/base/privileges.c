#include "base/privileges.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Two calls of the kernel are all that is needed of libcap. */
static int keep_capabilities(const int *kept, size_t count)
{
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct had[2] = {0}, data[2] = {0};

        if (syscall(SYS_capget, &header, had) < 0)
                return -errno;
        /* A container's root may not have all of them: what needs the missing one says so then. */
        for (size_t i = 0; i < count; i++)
                data[0].permitted |= had[0].permitted & 1u << kept[i];
        data[0].effective = data[0].inheritable = data[0].permitted;
        if (syscall(SYS_capset, &header, data) < 0)
                return -errno;
        for (size_t i = 0; i < count; i++)
                if (data[0].permitted & 1u << kept[i] &&
                        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0) < 0)
                        return -errno;
        return 0;
}

static int become(const struct passwd *p, const int *capabilities, size_t count)
{
        if (prctl(PR_SET_KEEPCAPS, 1) < 0 || initgroups(p->pw_name, p->pw_gid) < 0 ||
                setresgid(p->pw_gid, p->pw_gid, p->pw_gid) < 0 ||
                setresuid(p->pw_uid, p->pw_uid, p->pw_uid) < 0)
                return -errno;
        return keep_capabilities(capabilities, count);
}

int privileges_drop(const char *user, const int *capabilities, size_t count, struct error *ret_error)
{
        const struct passwd *p;
        int r;

        if (geteuid() == 0 && user) {
                errno = 0;
                p = getpwnam(user);
                if (!p)
                        return error_set(ret_error, ENOENT, "user.unknown",
                                "there is no user '%s' on this machine", user);
                r = become(p, capabilities, count);
                if (r < 0)
                        return error_set(ret_error, -r, "user.become", "cannot become user '%s': %s", user,
                                strerror(-r));
        }
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return error_set(
                        ret_error, errno, "privileges", "cannot give up new privileges: %s", strerror(errno));
        return 0;
}
