/* One child: how it starts, how it cannot outlive us, how what did is found. */
#include "plane/services_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SWEEP_TERM_MS     3000
#define SWEEP_KILL_MS     2000
#define LAST_LINE_BYTES   300
#define LOG_TAIL_BYTES    4096
#define EXIT_CANNOT_START 127
#define RUN_ATTEMPTS      3
#define RUN_PAUSE_MS      200

static void sleep_ms(long ms)
{
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* ---- finding ---- */

char *services_find_program(const char *name)
{
        static const char system_folders[] = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
        const char *path = getenv("PATH");
        _cleanup_free_ char *all = xasprintf("%s:%s", path ? path : "", system_folders);
        struct strv folders = {0};
        char *found = NULL;

        strv_split(&folders, all, ':');
        for (size_t i = 0; i < folders.count && !found; i++) {
                char *candidate = path_join(folders.items[i], name);
                struct stat st;

                if (folders.items[i][0] == '/' && stat(candidate, &st) == 0 && S_ISREG(st.st_mode) &&
                        access(candidate, X_OK) == 0)
                        found = candidate;
                else
                        free(candidate);
        }
        strv_done(&folders);
        return found;
}

/* ---- starting ---- */

/* In the child, where only what is safe after a fork of a program with threads may be called. */
static _Noreturn void become(const struct service_command *c, int log_fd, pid_t parent)
{
        static const char failed[] = "the program cannot be executed\n";
        struct rlimit files;
        sigset_t none;
        int null_fd;

        for (int n = 1; n < NSIG; n++)
                if (n != SIGKILL && n != SIGSTOP)
                        signal(n, SIG_DFL);
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent) /* died in between */
                _exit(EXIT_CANNOT_START);
        if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
                files.rlim_cur = files.rlim_max;
                setrlimit(RLIMIT_NOFILE, &files);
        }
        umask(077);
        null_fd = open("/dev/null", O_RDWR);
        if (null_fd < 0 || dup2(null_fd, 0) < 0 || dup2(log_fd, 1) < 0 ||
                dup2(c->error_fd > 0 ? c->error_fd : log_fd, 2) < 0 || chdir(c->folder) < 0)
                _exit(EXIT_CANNOT_START);
        syscall(SYS_close_range, 3U, ~0U, 0U);
        execve(c->program, (char *const *)c->argv, c->environment ? (char *const *)c->environment : environ);
        if (write(2, failed, sizeof(failed) - 1) < 0)
                _exit(EXIT_CANNOT_START + 1);
        _exit(EXIT_CANNOT_START);
}

int service_spawn(const struct service_command *c, pid_t *ret, struct error *ret_error)
{
        _cleanup_close_ int log_fd =
                c->log ? open(c->log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640) : -1;
        pid_t parent = getpid(), pid;

        if (c->log && log_fd < 0)
                return error_set(
                        ret_error, errno, "service.log", "cannot write %s: %s", c->log, strerror(errno));
        pid = fork();
        if (pid < 0)
                return error_set(ret_error, errno, "service.start", "cannot start %s: %s", c->program,
                        strerror(errno));
        if (pid == 0)
                become(c, c->log ? log_fd : c->output_fd, parent);
        *ret = pid;
        return 0;
}

static char *start_of_line(char *buffer, char *at)
{
        while (at > buffer && at[-1] != '\n')
                at--;
        return at;
}

char *service_last_line(const char *log, off_t offset)
{
        _cleanup_close_ int fd = open(log, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        static const char reason[] = "[emerg]";
        char buffer[LOG_TAIL_BYTES], *line, *end, *said, *newline;
        struct stat st;
        ssize_t length;

        if (fd < 0 || fstat(fd, &st) < 0)
                return NULL;
        if (st.st_size < offset) /* it was cut */
                offset = 0;
        if (st.st_size - offset > LOG_TAIL_BYTES)
                offset = st.st_size - LOG_TAIL_BYTES;
        length = pread(fd, buffer, sizeof(buffer), offset);
        if (length <= 0)
                return NULL;
        end = buffer + length;
        while (end > buffer && (end[-1] == '\n' || end[-1] == ' '))
                end--;
        line = start_of_line(buffer, end);
        said = memmem(buffer, (size_t)(end - buffer), reason, sizeof(reason) - 1);
        if (said) { /* nginx's reason, and not that it failed */
                line = start_of_line(buffer, said);
                newline = memchr(said, '\n', (size_t)(end - said));
                end = newline ? newline : end;
        }
        return line == end ? NULL : str_excerpt(line, (size_t)(end - line), LAST_LINE_BYTES);
}

/* Waits without reaping; false when time is over. */
static bool wait_end(pid_t pid, int timeout_ms)
{
        _cleanup_close_ int fd = (int)syscall(SYS_pidfd_open, pid, 0U);
        struct pollfd p = {.fd = fd, .events = POLLIN};
        double until = clock_monotonic_ms() + timeout_ms;
        int r;

        do {
                double left = until - clock_monotonic_ms();

                r = poll(&p, 1, left > 0 ? (int)left : 0);
        } while (r < 0 && errno == EINTR);
        return r > 0;
}

/* How it ended: its status as of waitpid(2). 0 or -errno. */
static int run_once(const struct service_command *c, int timeout_ms, int *ret_status, struct error *ret_error)
{
        bool ended;
        pid_t pid;
        int r = service_spawn(c, &pid, ret_error);

        if (r < 0)
                return r;
        ended = wait_end(pid, timeout_ms);
        if (!ended)
                kill(-pid, SIGKILL);
        while (waitpid(pid, ret_status, 0) < 0 && errno == EINTR)
                ;
        return ended ? 0
                     : error_set(ret_error, ETIMEDOUT, "service.check", "%s did not end within %d s",
                               c->program, timeout_ms / 1000);
}

/* What it said is not to be mixed with what the next one says. */
static void forget_output(const struct service_command *c)
{
        if (!c->log && lseek(c->output_fd, 0, SEEK_SET) == 0 && ftruncate(c->output_fd, 0) < 0)
                return;
}

int service_run(const struct service_command *c, int timeout_ms, struct error *ret_error)
{
        _cleanup_free_ char *said = NULL;
        struct stat st = {0};
        int status = 0, r;

        if (!c->log || stat(c->log, &st) < 0)
                st.st_size = 0;
        /* A signal is no opinion of the program's: the kernel's, which had no memory, or somebody's. */
        for (int i = 0; i < RUN_ATTEMPTS; i++) {
                if (i > 0) {
                        forget_output(c);
                        sleep_ms(RUN_PAUSE_MS);
                }
                r = run_once(c, timeout_ms, &status, ret_error);
                if (r < 0)
                        return r;
                if (!WIFSIGNALED(status))
                        break;
        }
        if (WIFSIGNALED(status))
                return error_set(ret_error, EINTR, "service.check",
                        "%s was ended by signal %d (%s) each of %d times; the kernel's log (dmesg) tells of "
                        "its own kills",
                        c->program, WTERMSIG(status), strsignal(WTERMSIG(status)), RUN_ATTEMPTS);
        if (WEXITSTATUS(status) == 0)
                return 0;
        said = c->log ? service_last_line(c->log, st.st_size) : NULL;
        return error_set(ret_error, EBADMSG, "service.check", "%s refuses: %s", c->program,
                said ? said : "without a word");
}

/* ---- what a killed plane left ---- */

/* By what it is and not by its path: a process in another mount namespace, as `ip netns exec` makes them, may
 * be told with another path to the same folder (proc(5)). */
bool service_works_in(pid_t pid, const char *folder)
{
        struct stat there, here;
        char path[64];

        snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
        return stat(path, &there) == 0 && stat(folder, &here) == 0 && there.st_dev == here.st_dev &&
               there.st_ino == here.st_ino;
}

/* Its program's name; the file may have been replaced by an update meanwhile. */
static bool program_is(pid_t pid, const char *wanted)
{
        char path[64], target[PATH_MAX];
        const char *slash;
        ssize_t length;

        snprintf(path, sizeof(path), "/proc/%d/exe", (int)pid);
        length = readlink(path, target, sizeof(target) - 1);
        if (length < 0)
                return false;
        target[length] = '\0';
        if (str_ends_with(target, " (deleted)"))
                target[strlen(target) - strlen(" (deleted)")] = '\0';
        slash = strrchr(target, '/');
        return str_equal(slash ? slash + 1 : target, wanted);
}

/* A number may have gone to another process; a program in a folder of ours is one that we started. Sends
 * `signal_number` (0: none) to each. */
static size_t signal_leftovers(const char *program, const char *folder, int signal_number)
{
        _cleanup_closedir_ DIR *proc = opendir("/proc");
        struct dirent *e;
        size_t count = 0;

        while (proc && (e = readdir(proc))) {
                unsigned long pid;
                int fd;

                if (str_to_ulong(e->d_name, 2, INT_MAX, &pid) < 0 || (pid_t)pid == getpid())
                        continue;
                fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0U);
                if (fd < 0)
                        continue;
                if (service_works_in((pid_t)pid, folder) && program_is((pid_t)pid, program)) {
                        count++;
                        if (signal_number)
                                syscall(SYS_pidfd_send_signal, fd, signal_number, NULL, 0U);
                }
                close(fd);
        }
        return count;
}

static bool wait_swept(const char *program, const char *folder, int timeout_ms)
{
        double until = clock_monotonic_ms() + timeout_ms;

        while (signal_leftovers(program, folder, 0) > 0) {
                if (clock_monotonic_ms() > until)
                        return false;
                sleep_ms(20);
        }
        return true;
}

size_t service_sweep(const char *program, const char *folder)
{
        _cleanup_free_ char *real = realpath(folder, NULL);
        size_t count;

        if (!real)
                return 0;
        count = signal_leftovers(program, real, SIGTERM);
        if (count > 0 && !wait_swept(program, real, SWEEP_TERM_MS)) {
                signal_leftovers(program, real, SIGKILL);
                wait_swept(program, real, SWEEP_KILL_MS);
        }
        return count;
}
