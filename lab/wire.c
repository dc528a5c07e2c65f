/* wire: a length of cable in user space. It relays Ethernet frames between two interfaces with a delay, a
 * loss and, optionally, a rate per direction, for kernels that have no sch_netem.
 *
 *   wire [--delay-ms A[:B]] [--loss-permille A[:B]] [--rate-kbit A[:B]] [--seed N] IFACE1 IFACE2
 *
 * A is for frames that go from IFACE1 to IFACE2, B for the other way (the same as A when it is left out).
 * Delay is counted from the moment the kernel received the frame, so that a late wake-up does not add to it.
 * Frames keep their order. Checksum and segmentation offloads must be off on all four ends (ethtool -K X tso
 * off gso off gro off tx off): a frame is relayed as it was captured. It says "ready" on standard output and
 * ends with SIGTERM or SIGINT.
 *
 * Sources: packet(7), socket(7) SO_TIMESTAMPNS, timerfd_create(2). */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define FRAME_MAX_BYTES 2048
#define BATCH           64
#define QUEUE_MAX_BYTES                                                                    \
        (8 << 20) /* a direction's frames in flight; the rest is lost, as in a full buffer \
                   */
#define NS_PER_S  1000000000LL
#define NS_PER_MS 1000000.0

struct frame {
        struct frame *next;
        int64_t due_ns; /* CLOCK_MONOTONIC */
        size_t size_bytes;
        uint8_t data[];
};

struct direction {
        int from_fd, to_fd;
        int64_t delay_ns;
        unsigned loss_permille;
        uint64_t rate_kbit;   /* 0: unlimited */
        int64_t idle_from_ns; /* when the last frame will have been serialised at that rate */
        struct frame *head, **tail;
        size_t queued_bytes;
};

struct wire {
        struct direction directions[2];
        int epoll_fd, timer_fd, signal_fd;
        uint64_t random; /* xorshift64: repeatable with --seed */
};

static int64_t now_ns(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return t.tv_sec * NS_PER_S + t.tv_nsec;
}

static bool is_lost(struct wire *w, const struct direction *d)
{
        w->random ^= w->random << 13;
        w->random ^= w->random >> 7;
        w->random ^= w->random << 17;
        return w->random % 1000 < d->loss_permille;
}

/* How long ago the kernel received the frame. The stamp is of the real-time clock: a step of it in that
 * instant would give nonsense, which counts as "just now". */
static int64_t frame_age_ns(struct msghdr *header)
{
        for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
                struct timespec t;
                int64_t age_ns;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_TIMESTAMPNS)
                        continue;
                memcpy(&t, CMSG_DATA(c), sizeof(t));
                age_ns = now_ns(CLOCK_REALTIME) - (t.tv_sec * NS_PER_S + t.tv_nsec);
                return age_ns >= 0 && age_ns < NS_PER_S ? age_ns : 0;
        }
        return 0;
}

static void enqueue(struct direction *d, const uint8_t *data, size_t size_bytes, int64_t arrived_ns)
{
        int64_t leaves_ns = arrived_ns;
        struct frame *f;

        if (d->queued_bytes + size_bytes > QUEUE_MAX_BYTES)
                return;
        f = malloc(sizeof(*f) + size_bytes);
        if (!f)
                return;
        if (d->rate_kbit > 0) {
                if (leaves_ns < d->idle_from_ns)
                        leaves_ns = d->idle_from_ns;
                leaves_ns += (int64_t)(size_bytes * 8 * 1000000 / d->rate_kbit);
                d->idle_from_ns = leaves_ns;
        }
        f->next = NULL;
        f->due_ns = leaves_ns + d->delay_ns;
        f->size_bytes = size_bytes;
        memcpy(f->data, data, size_bytes);
        *d->tail = f;
        d->tail = &f->next;
        d->queued_bytes += size_bytes;
}

static void take_frames(struct wire *w, struct direction *d)
{
        static uint8_t data[BATCH][FRAME_MAX_BYTES];
        static uint8_t control[BATCH][CMSG_SPACE(sizeof(struct timespec))];
        struct mmsghdr messages[BATCH];
        struct iovec vectors[BATCH];
        int count;

        do {
                for (int i = 0; i < BATCH; i++) {
                        vectors[i] = (struct iovec){data[i], FRAME_MAX_BYTES};
                        messages[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = &vectors[i],
                                                               .msg_iovlen = 1,
                                                               .msg_control = control[i],
                                                               .msg_controllen = sizeof(control[i])}};
                }
                count = recvmmsg(d->from_fd, messages, BATCH, MSG_DONTWAIT, NULL);
                for (int i = 0; i < count; i++)
                        if (!is_lost(w, d))
                                enqueue(d, data[i], messages[i].msg_len,
                                        now_ns(CLOCK_MONOTONIC) - frame_age_ns(&messages[i].msg_hdr));
        } while (count == BATCH);
}

static void send_due(struct direction *d, int64_t t_ns)
{
        while (d->head && d->head->due_ns <= t_ns) {
                struct frame *f = d->head;

                d->head = f->next;
                if (!d->head)
                        d->tail = &d->head;
                d->queued_bytes -= f->size_bytes;
                /* An end that is down or full loses the frame, as a cable would. */
                (void)!send(d->to_fd, f->data, f->size_bytes, MSG_DONTWAIT);
                free(f);
        }
}

static void arm_timer(const struct wire *w)
{
        struct itimerspec when = {0};
        int64_t due_ns = INT64_MAX;

        for (int i = 0; i < 2; i++)
                if (w->directions[i].head && w->directions[i].head->due_ns < due_ns)
                        due_ns = w->directions[i].head->due_ns;
        if (due_ns != INT64_MAX) {
                when.it_value.tv_sec = due_ns / NS_PER_S;
                when.it_value.tv_nsec = due_ns % NS_PER_S;
        }
        timerfd_settime(w->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
}

static int run(struct wire *w)
{
        for (;;) {
                struct epoll_event events[4];
                int count;

                arm_timer(w);
                count = epoll_wait(w->epoll_fd, events, 4, -1);
                if (count < 0 && errno != EINTR)
                        return -errno;
                for (int i = 0; i < count; i++) {
                        uint64_t expirations;

                        if (events[i].data.fd == w->signal_fd)
                                return 0;
                        if (events[i].data.fd == w->timer_fd)
                                (void)!read(w->timer_fd, &expirations, sizeof(expirations));
                }
                for (int i = 0; i < 2; i++) {
                        take_frames(w, &w->directions[i]);
                        send_due(&w->directions[i], now_ns(CLOCK_MONOTONIC));
                }
        }
}

static int open_end(const char *interface)
{
        struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
        const int one = 1, buffer_bytes = 4 << 20;
        int fd;

        address.sll_ifindex = (int)if_nametoindex(interface);
        if (address.sll_ifindex == 0)
                return -errno;
        fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &buffer_bytes, sizeof(buffer_bytes));
        setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &one, sizeof(one));
        /* Without this, what is sent here would be received here again. */
        if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) < 0 ||
                bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
                int r = -errno;

                close(fd);
                return r;
        }
        return fd;
}

static int watch(struct wire *w, int fd)
{
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

        return epoll_ctl(w->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int start(struct wire *w, char *const *interfaces)
{
        int ends[2], r = 0;
        sigset_t signals;

        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigaddset(&signals, SIGINT);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        w->signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
        w->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        w->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        if (w->signal_fd < 0 || w->timer_fd < 0 || w->epoll_fd < 0)
                return -errno;
        for (int i = 0; i < 2; i++) {
                ends[i] = open_end(interfaces[i]);
                if (ends[i] < 0) {
                        fprintf(stderr, "wire: %s: %s\n", interfaces[i], strerror(-ends[i]));
                        return ends[i];
                }
        }
        for (int i = 0; i < 2; i++) {
                w->directions[i].from_fd = ends[i];
                w->directions[i].to_fd = ends[!i];
                w->directions[i].tail = &w->directions[i].head;
                r = r < 0 ? r : watch(w, ends[i]);
        }
        r = r < 0 ? r : watch(w, w->timer_fd);
        return r < 0 ? r : watch(w, w->signal_fd);
}

/* "10" or "10:30" */
static bool parse_pair(const char *text, double max, double ret[2])
{
        char *end;

        ret[0] = ret[1] = strtod(text, &end);
        if (end != text && *end == ':') {
                text = end + 1;
                ret[1] = strtod(text, &end);
        }
        return end != text && *end == '\0' && ret[0] >= 0 && ret[0] <= max && ret[1] >= 0 && ret[1] <= max;
}

static int usage(void)
{
        fputs("usage: wire [--delay-ms A[:B]] [--loss-permille A[:B]] [--rate-kbit A[:B]] [--seed N] "
              "IFACE1 IFACE2\n",
                stderr);
        return 64;
}

int main(int argc, char **argv)
{
        static const struct option options[] = {{"delay-ms", required_argument, NULL, 'd'},
                {"loss-permille", required_argument, NULL, 'l'}, {"rate-kbit", required_argument, NULL, 'r'},
                {"seed", required_argument, NULL, 's'}, {0}};
        double delay_ms[2] = {0}, loss_permille[2] = {0}, rate_kbit[2] = {0};
        struct wire w = {.random = 88172645463325252ULL};
        bool ok = true;
        int option, r;

        while (ok && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
                if (option == 'd')
                        ok = parse_pair(optarg, 60000, delay_ms);
                else if (option == 'l')
                        ok = parse_pair(optarg, 1000, loss_permille);
                else if (option == 'r')
                        ok = parse_pair(optarg, 1e7, rate_kbit);
                else if (option == 's')
                        w.random ^= strtoull(optarg, NULL, 10) * 2654435761ULL;
                else
                        ok = false;
        }
        if (!ok || argc - optind != 2)
                return usage();
        if (w.random == 0) /* the one state that xorshift never leaves */
                w.random = 1;
        for (int i = 0; i < 2; i++) {
                w.directions[i].delay_ns = (int64_t)(delay_ms[i] * NS_PER_MS);
                w.directions[i].loss_permille = (unsigned)loss_permille[i];
                w.directions[i].rate_kbit = (uint64_t)rate_kbit[i];
        }
        r = start(&w, argv + optind);
        if (r == 0) {
                puts("ready");
                fflush(stdout);
                r = run(&w);
        }
        if (r < 0)
                fprintf(stderr, "wire: %s\n", strerror(-r));
        return r < 0 ? 69 : 0;
}
