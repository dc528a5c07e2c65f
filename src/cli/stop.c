#include "cli/stop.h"

#include "base/cleanup.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int stop_fd = -1;
static volatile sig_atomic_t received;

static void on_signal(int number)
{
        int saved = errno;
        uint64_t one = 1;

        if (!received)
                received = number;
        /* Nothing can be done in a handler about a full counter, and then it is readable anyway. */
        if (write(stop_fd, &one, sizeof one) < 0)
                errno = 0;
        errno = saved;
}

int stop_watch(void)
{
        static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

        stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (stop_fd < 0)
                return -errno;
        for (size_t i = 0; i < ELEMENTS(numbers); i++) {
                struct sigaction action = {
                        .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_RESTART};
                struct sigaction former;

                if (numbers[i] == SIGHUP && sigaction(SIGHUP, NULL, &former) == 0 &&
                        former.sa_handler == SIG_IGN)
                        continue;
                sigaction(numbers[i], &action, NULL);
        }
        return stop_fd;
}

int stop_signal(void)
{
        return received;
}
