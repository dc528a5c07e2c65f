#include "node/netwatch.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#define GATHER_US 200000
/* Of one turn of the loop: a storm of messages must not keep the rest waiting. */
#define MAX_DATAGRAMS 64
#define DATAGRAM_SIZE 16384

struct netwatch {
        sd_event_source *io, *timer;
        void (*on_change)(void *userdata);
        void *userdata;
        bool gathering;
};

struct netwatch *netwatch_free(struct netwatch *w)
{
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->io);
        sd_event_source_disable_unref(w->timer);
        free(w);
        return NULL;
}

DEFINE_CLEANUP(struct netwatch *, netwatch_free);

static int on_timer(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct netwatch *w = userdata;

        (void)source, (void)now_us;
        w->gathering = false;
        w->on_change(w->userdata);
        return 0;
}

static void note_change(struct netwatch *w)
{
        if (w->gathering)
                return;
        w->gathering = true;
        sd_event_source_set_time_relative(w->timer, GATHER_US);
        sd_event_source_set_enabled(w->timer, SD_EVENT_ONESHOT);
}

/* The kernel's copies of routes for single destinations come and go with traffic. */
static bool is_change(const struct nlmsghdr *h)
{
        const struct rtmsg *route = NLMSG_DATA(h);

        switch (h->nlmsg_type) {
        case RTM_NEWLINK:
        case RTM_DELLINK:
        case RTM_NEWADDR:
        case RTM_DELADDR:
        case RTM_NEWRULE:
        case RTM_DELRULE:
                return true;
        case RTM_NEWROUTE:
        case RTM_DELROUTE:
                return h->nlmsg_len >= NLMSG_LENGTH(sizeof *route) && !(route->rtm_flags & RTM_F_CLONED);
        default:
                return false;
        }
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        char buffer[DATAGRAM_SIZE] __attribute__((aligned(NLMSG_ALIGNTO)));
        struct netwatch *w = userdata;

        (void)source, (void)events;
        for (int i = 0; i < MAX_DATAGRAMS; i++) {
                struct sockaddr_nl from = {0};
                socklen_t from_length = sizeof from;
                ssize_t n = recvfrom(
                        fd, buffer, sizeof buffer, MSG_DONTWAIT, (struct sockaddr *)&from, &from_length);
                size_t left = n > 0 ? (size_t)n : 0;

                /* Full: what was lost was a change, too. */
                if (n < 0 && errno == ENOBUFS) {
                        note_change(w);
                        continue;
                }
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                if (from.nl_pid != 0) /* not of the kernel */
                        continue;
                for (struct nlmsghdr *h = (struct nlmsghdr *)buffer; NLMSG_OK(h, left);
                        h = NLMSG_NEXT(h, left))
                        if (is_change(h))
                                note_change(w);
        }
        return 0;
}

int netwatch_new(sd_event *event, void (*on_change)(void *userdata), void *userdata, struct netwatch **ret)
{
        struct sockaddr_nl own = {.nl_family = AF_NETLINK,
                .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE |
                             RTMGRP_IPV6_IFADDR | RTMGRP_IPV6_ROUTE};
        _cleanup_(netwatch_free_p) struct netwatch *w = xcalloc(1, sizeof *w);
        _cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
        int r;

        w->on_change = on_change;
        w->userdata = userdata;
        if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof own) < 0)
                return -errno;
        r = sd_event_add_io(event, &w->io, fd, EPOLLIN, on_io, w);
        if (r < 0)
                return r;
        sd_event_source_set_io_fd_own(w->io, true);
        (void)TAKE_FD(fd);
        r = sd_event_add_time_relative(event, &w->timer, CLOCK_MONOTONIC, GATHER_US, 1000, on_timer, w);
        if (r < 0)
                return r;
        sd_event_source_set_enabled(w->timer, SD_EVENT_OFF);
        *ret = TAKE_PTR(w);
        return 0;
}
