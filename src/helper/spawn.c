#include "helper/spawn.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#define EXIT_CANNOT_START 127

static void redirect(int fd, int as)
{
        if (fd == as)
                fcntl(fd, F_SETFD, 0);
        else if (dup2(fd, as) < 0)
                _exit(EXIT_CANNOT_START);
}

static _Noreturn void become(const char *program, char *const arguments[], int fd, char *const environment[])
{
        int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
        sigset_t none;

        setsid();
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        signal(SIGPIPE, SIG_DFL);
        if (nothing < 0)
                _exit(EXIT_CANNOT_START);
        redirect(nothing, STDIN_FILENO);
        redirect(fd, HELPER_FD);
        close_range(HELPER_FD + 1, ~0U, 0);
        execve(program, arguments, environment);
        _exit(EXIT_CANNOT_START);
}

pid_t helper_spawn(const char *program, const char *argument, const char *root, int fd)
{
        const char *journal = getenv("JOURNAL_STREAM");
        _cleanup_free_ char *stream = journal ? xasprintf("JOURNAL_STREAM=%s", journal) : NULL;
        char *environment[] = {"LANG=C.UTF-8", stream, NULL};
        char *arguments[5] = {"gridnode-helper"};
        size_t count = 1;
        pid_t pid;

        if (argument)
                arguments[count++] = (char *)argument;
        if (root) {
                arguments[count++] = (char *)HELPER_ROOT;
                arguments[count++] = (char *)root;
        }
        pid = fork();

        if (pid == 0)
                become(program, arguments, fd, environment);
        return pid < 0 ? -errno : pid;
}
