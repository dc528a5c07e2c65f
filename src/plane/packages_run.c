/* One child of the repository's: dpkg-deb, reprepro, gpg. What it says goes to memory, so that nothing waits
 * for anybody who reads. */
#include "plane/packages_internal.h"
#include "plane/services_internal.h"

#include "base/alloc.h"
#include "base/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT_MAXIMUM ((size_t)64 << 20) /* a list of 100,000 packages */
#define PATH_OF_CHILD  "PATH=/usr/sbin:/usr/bin:/sbin:/bin"

struct package_child {
        pid_t pid;
        int output_fd, error_fd;
        bool is_late;
        sd_event_source *source, *timer;
        void (*on_end)(const struct package_end *end, void *userdata);
        void *userdata;
};

static char *read_all(int fd)
{
        struct stat st;
        size_t size = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? (size_t)st.st_size : 0;
        char *text;
        ssize_t n = 0;

        if (size > OUTPUT_MAXIMUM)
                size = OUTPUT_MAXIMUM;
        text = xcalloc(1, size + 1);
        if (size > 0)
                n = pread(fd, text, size, 0);
        text[n > 0 ? n : 0] = '\0';
        return text;
}

struct package_child *package_child_free(struct package_child *c)
{
        if (!c)
                return NULL;
        sd_event_source_disable_unref(c->source);
        sd_event_source_disable_unref(c->timer);
        if (c->pid > 0) {
                kill(-c->pid, SIGKILL);
                while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        }
        if (c->output_fd >= 0)
                close(c->output_fd);
        if (c->error_fd >= 0)
                close(c->error_fd);
        free(c);
        return NULL;
}

static int on_exit_of_child(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        struct package_child *c = userdata;
        _cleanup_free_ char *output = read_all(c->output_fd), *said = read_all(c->error_fd);
        struct package_end end = {.is_late = c->is_late, .output = output, .said = said};
        void (*on_end)(const struct package_end *, void *) = c->on_end;
        void *user = c->userdata;

        (void)source;
        end.status = info->si_code == CLD_EXITED ? W_EXITCODE(info->si_status, 0) : info->si_status;
        kill(-c->pid, SIGKILL); /* whom it left behind in its group */
        c->pid = 0;             /* the loop takes it away */
        on_end(&end, user);     /* frees it */
        return 0;
}

static int on_late(sd_event_source *source, uint64_t now, void *userdata)
{
        struct package_child *c = userdata;

        (void)source;
        (void)now;
        c->is_late = true;
        kill(-c->pid, SIGKILL);
        return 0;
}

static int spawn(struct package_child *c, const struct package_command *command, struct error *ret_error)
{
        _cleanup_free_ char *path = services_find_program(command->program),
                            *home = xasprintf("HOME=%s", command->folder),
                            *gnupg = xasprintf("GNUPGHOME=%s/gnupg", command->folder);
        const char *environment[] = {PATH_OF_CHILD, "LC_ALL=C.UTF-8", home, gnupg, NULL};
        struct service_command s = {.argv = command->argv,
                .folder = command->folder,
                .output_fd = c->output_fd,
                .error_fd = c->error_fd,
                .environment = environment};

        if (!path)
                return error_set(ret_error, ENOPKG, "program.missing",
                        "the program %s is missing on the control plane's machine; install it (Debian: "
                        "reprepro, gnupg, dpkg)",
                        command->program);
        if (c->output_fd < 0 || c->error_fd < 0)
                return error_set(ret_error, errno, "program.start", "cannot keep what %s says: %s",
                        command->program, strerror(errno));
        s.program = path;
        return service_spawn(&s, &c->pid, ret_error);
}

int package_child_start(sd_event *event, const struct package_command *command,
        void (*on_end)(const struct package_end *end, void *userdata), void *userdata,
        struct package_child **ret, struct error *ret_error)
{
        struct package_child *c = xcalloc(1, sizeof(*c));
        int r;

        c->on_end = on_end;
        c->userdata = userdata;
        c->output_fd = command->discards ? open("/dev/null", O_WRONLY | O_CLOEXEC)
                                         : memfd_create(command->program, MFD_CLOEXEC);
        c->error_fd = memfd_create(command->program, MFD_CLOEXEC);
        r = spawn(c, command, ret_error);
        if (r == 0) {
                r = sd_event_add_child(event, &c->source, c->pid, WEXITED, on_exit_of_child, c);
                if (r < 0)
                        r = error_set(ret_error, -r, "program.start", "cannot watch %s: %s", command->program,
                                strerror(-r));
        }
        if (r < 0) {
                package_child_free(c);
                return r;
        }
        timer_arm(event, &c->timer, command->timeout_ms, on_late, c);
        *ret = c;
        return 0;
}
