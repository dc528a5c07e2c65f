#include "helper/supervisor.h"

#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "helper/protocol.h"
#include "helper/say.h"
#include "helper/spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The package may be replaced meanwhile: daemon and helper stay of one version. */
#define OWN_PROGRAM      "/proc/self/exe"
#define FIRST_DELAY_MS   200
#define LONGEST_DELAY_MS 30000
#define LEAST_DELAY_MS   100
#define STEADY_MS        60000 /* after which a start counts as a good one */
#define END_WAIT_MS      10000 /* for what a helper is at when the daemon has gone */

struct supervisor {
        int daemon;
        const char *root;
        pid_t helper; /* 0: none */
        int pidfd;    /* of it; -1 */
        double started_ms, next_ms;
        struct backoff backoff;
};

static void try_later(struct supervisor *s, const char *why)
{
        double delay_ms = backoff_next_ms(&s->backoff, backoff_random());

        say(LOG_WARNING, "the helper %s; it starts again in %.1f s", why, delay_ms / 1000);
        s->next_ms = clock_monotonic_ms() + delay_ms;
}

/* Reaps it. */
static void note_end(struct supervisor *s)
{
        char why[64];
        int status = 0;

        while (waitpid(s->helper, &status, 0) < 0 && errno == EINTR)
                ;
        close(s->pidfd);
        s->pidfd = -1;
        s->helper = 0;
        if (WIFSIGNALED(status))
                snprintf(why, sizeof why, "was ended by signal %d", WTERMSIG(status));
        else
                snprintf(why, sizeof why, "ended with status %d", WEXITSTATUS(status));
        if (clock_monotonic_ms() - s->started_ms > STEADY_MS)
                backoff_reset(&s->backoff);
        try_later(s, why);
}

/* The daemon's end of a helper's connection. */
static int hand_over(int daemon, int fd)
{
        char byte = 0;
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {0};
        struct iovec data = {.iov_base = &byte, .iov_len = sizeof byte};
        struct msghdr message = {.msg_iov = &data,
                .msg_iovlen = 1,
                .msg_control = control.space,
                .msg_controllen = sizeof control.space};
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        *header = (struct cmsghdr){
                .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof fd)};
        memcpy(CMSG_DATA(header), &fd, sizeof fd);
        return sendmsg(daemon, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int start_helper(struct supervisor *s)
{
        _cleanup_close_ int ours = -1, its = -1;
        int pair[2], wanted = (int)HELPER_MESSAGE_MAXIMUM;
        pid_t pid;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        ours = pair[0];
        its = pair[1];
        /* A message has to fit into the buffer whole: beyond the system's limit only root may go, which the
         * daemon is no more. Elsewhere it has what the limit gives. */
        if (setsockopt(ours, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof wanted) < 0)
                setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
        pid = helper_spawn(OWN_PROGRAM, NULL, s->root, its);
        if (pid < 0)
                return pid;
        s->pidfd = pidfd_open(pid, 0);
        if (s->pidfd < 0) {
                int r = -errno;

                kill(pid, SIGKILL);
                waitpid(pid, NULL, 0);
                return r;
        }
        s->helper = pid;
        s->started_ms = clock_monotonic_ms();
        /* A daemon that takes none has gone, or will hear of the end of this connection. */
        if (hand_over(s->daemon, ours) == -EAGAIN)
                kill(pid, SIGTERM);
        return 0;
}

/* It ends by itself, now that nobody holds the other end of its connection. */
static void await_end(struct supervisor *s)
{
        struct pollfd p = {.fd = s->pidfd, .events = POLLIN};

        if (!s->helper)
                return;
        if (poll(&p, 1, END_WAIT_MS) <= 0)
                kill(s->helper, SIGKILL);
        waitpid(s->helper, NULL, 0);
        close(s->pidfd);
}

int supervise(int fd, const char *root)
{
        struct supervisor s = {.daemon = fd,
                .root = root,
                .pidfd = -1,
                .backoff = BACKOFF_INIT(FIRST_DELAY_MS, LONGEST_DELAY_MS, LEAST_DELAY_MS)};

        for (;;) {
                struct pollfd p[2] = {{.fd = s.daemon, .events = POLLIN}, {.fd = s.pidfd, .events = POLLIN}};
                double left_ms = s.helper ? -1 : s.next_ms - clock_monotonic_ms();
                int r;

                if (!s.helper && left_ms <= 0) {
                        r = start_helper(&s);
                        if (r < 0)
                                try_later(&s, strerror(-r));
                        continue;
                }
                r = poll(p, 2, s.helper ? -1 : (int)left_ms + 1);
                if (r > 0 && p[0].revents) /* it has nothing to say: that is its end */
                        break;
                if (r > 0 && p[1].revents)
                        note_end(&s);
        }
        await_end(&s);
        return EXIT_SUCCESS;
}
