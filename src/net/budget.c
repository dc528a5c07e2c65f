#include "net/budget.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define MAGIC          UINT64_C(0x67726e6264677431) /* "grnbdgt1" */
#define NS_A_SECOND    UINT64_C(1000000000)
#define BURST_MS       400.0
#define LEAST_BURST    65536.0
#define LEAST_GRANT    1400 /* a packet: smaller grants cost more than they move */
#define LONGEST_WAIT   1000.0
#define FARTHEST_NS    (60 * NS_A_SECOND) /* a debt that nobody makes: of another boot, or not ours */
#define HIGHEST_RATE   (UINT64_C(1) << 40)
#define WINDOW_MS      1000.0
#define IDLE_WINDOW_MS 3000.0
#define LEAST_BYTES \
        (16 << 10) /* in a window: a few small files say how far the server is, not how fast the line */

/* What the processes share. The bucket is one number, so that taking is one compare-and-swap: the moment at
 * which it will be (or was) empty ("theoretical arrival time", ITU-T I.371). */
struct shared {
        _Atomic uint64_t magic;
        _Atomic uint64_t rate;     /* bytes per second; 0: no limit */
        _Atomic uint64_t empty_ns; /* CLOCK_BOOTTIME */
        _Atomic uint64_t window_ns, window_bytes, rate_seen;
};

struct budget {
        struct shared *shared;
        struct shared own; /* where there is no file */
};

static const char *const class_names[] = {"control", "logs", "updates", "images"};
/* Of the burst, what a class leaves for those above it. */
static const double reserves[BUDGET_CLASSES] = {0, 0.1, 0.25, 0.5};

const char *budget_class_to_string(enum budget_class c)
{
        return class_names[c];
}

int budget_class_from_string(const char *s, enum budget_class *ret)
{
        for (size_t i = 0; i < ELEMENTS(class_names); i++)
                if (str_equal(s, class_names[i])) {
                        *ret = (enum budget_class)i;
                        return 0;
                }
        return -EINVAL;
}

/* ---- the bucket ---- */

static int map_file(const char *path, struct shared **ret)
{
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
        struct stat st;
        void *p;
        int r;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        /* The umask took the group's right to write. */
        if (st.st_size == 0 && st.st_uid == geteuid() && fchmod(fd, 0660) < 0)
                return -errno;
        /* Its page must be there: writing to one that a full file system cannot give is a SIGBUS. */
        if ((size_t)st.st_size < sizeof(struct shared) &&
                (r = posix_fallocate(fd, 0, sizeof(struct shared))) != 0)
                return -r;
        p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        *ret = p;
        return 0;
}

static bool is_nothing_to_share(int number)
{
        return number == ENOENT || number == EACCES || number == EPERM || number == EROFS ||
               number == ENOSPC || number == EDQUOT;
}

/* A new file is all zeros, which is an empty history and no limit: whoever comes at the same moment may have
 * set the limit already. */
static void begin(struct shared *s)
{
        uint64_t magic = 0;

        if (atomic_compare_exchange_strong(&s->magic, &magic, MAGIC) || magic == MAGIC)
                return;
        atomic_store(&s->rate, 0);
        atomic_store(&s->empty_ns, 0);
        atomic_store(&s->window_ns, 0);
        atomic_store(&s->window_bytes, 0);
        atomic_store(&s->rate_seen, 0);
        atomic_store(&s->magic, MAGIC);
}

int budget_open(const char *path, struct budget **ret, struct error *ret_error)
{
        struct budget *b = xcalloc(1, sizeof(*b));
        int r = path ? map_file(path, &b->shared) : -ENOENT;

        if (r < 0 && path && !is_nothing_to_share(-r)) {
                free(b);
                return error_set(ret_error, -r, "budget.unusable", "%s: %s; remove it, and it is made anew",
                        path, strerror(-r));
        }
        if (r < 0)
                b->shared = &b->own;
        begin(b->shared);
        *ret = b;
        return 0;
}

struct budget *budget_close(struct budget *b)
{
        if (!b)
                return NULL;
        if (b->shared != &b->own)
                munmap(b->shared, sizeof(*b->shared));
        free(b);
        return NULL;
}

void budget_set_plan(struct budget *b, const struct budget_plan *p)
{
        time_t now = time(NULL);
        struct tm local = {0};

        localtime_r(&now, &local);
        atomic_store(&b->shared->rate, budget_plan_rate(p, (unsigned)(local.tm_hour * 60 + local.tm_min)));
}

uint64_t budget_limit(const struct budget *b)
{
        uint64_t rate = atomic_load(&b->shared->rate);

        return rate <= HIGHEST_RATE ? rate : 0;
}

static double burst_of(uint64_t rate)
{
        return fmax(LEAST_BURST, (double)rate * BURST_MS / 1000);
}

/* Whoever waits asks again when a packet's worth is there, and not all the time. */
static double wait_for(double missing_bytes, uint64_t rate)
{
        double ms = fmax(missing_bytes, LEAST_GRANT) / (double)rate * 1000;

        return fmin(fmax(ms, 1), LONGEST_WAIT);
}

size_t budget_take(struct budget *b, enum budget_class c, size_t wanted, double now_ms, double *ret_wait_ms)
{
        struct shared *s = b->shared;
        uint64_t rate = atomic_load(&s->rate), now_ns = (uint64_t)(now_ms * 1e6);
        uint64_t before = atomic_load(&s->empty_ns);

        *ret_wait_ms = 0;
        if (rate == 0 || rate > HIGHEST_RATE)
                return wanted;
        for (;;) {
                double burst = burst_of(rate);
                uint64_t burst_ns = (uint64_t)(burst / (double)rate * 1e9), from = before;
                double there, granted;

                if (from > now_ns + FARTHEST_NS || from + burst_ns < now_ns)
                        from = now_ns > burst_ns ? now_ns - burst_ns : 0;
                there = ((double)now_ns - (double)from) / 1e9 * (double)rate - burst * reserves[c];
                granted = fmin(fmax(floor(there), 0), (double)wanted);
                if (granted < fmin(LEAST_GRANT, (double)wanted)) {
                        *ret_wait_ms = wait_for(fmin((double)wanted, burst / 4) - there, rate);
                        return 0;
                }
                if (atomic_compare_exchange_weak(
                            &s->empty_ns, &before, from + (uint64_t)(granted / (double)rate * 1e9))) {
                        if ((size_t)granted < wanted)
                                *ret_wait_ms = wait_for(fmin((double)wanted - granted, burst / 4), rate);
                        return (size_t)granted;
                }
        }
}

void budget_give_back(struct budget *b, size_t bytes)
{
        uint64_t rate = atomic_load(&b->shared->rate), ns;

        if (rate == 0 || rate > HIGHEST_RATE)
                return;
        ns = (uint64_t)((double)bytes / (double)rate * 1e9);
        atomic_fetch_sub(&b->shared->empty_ns, ns);
}

/* ---- what was moved ---- */

void budget_moved(struct budget *b, size_t bytes, double now_ms)
{
        struct shared *s = b->shared;
        uint64_t now_ns = (uint64_t)(now_ms * 1e6), since = atomic_load(&s->window_ns);
        uint64_t moved = atomic_fetch_add(&s->window_bytes, bytes) + bytes;
        double passed_ms = (double)(now_ns - since) / 1e6;

        if (now_ns < since || passed_ms > IDLE_WINDOW_MS) {
                /* Nothing moved for a while: that is no slow line. */
                if (atomic_compare_exchange_strong(&s->window_ns, &since, now_ns))
                        atomic_store(&s->window_bytes, bytes);
                return;
        }
        if (passed_ms < WINDOW_MS || !atomic_compare_exchange_strong(&s->window_ns, &since, now_ns))
                return;
        atomic_fetch_sub(&s->window_bytes, moved);
        if (moved < LEAST_BYTES)
                return;
        uint64_t seen = atomic_load(&s->rate_seen), now_rate = (uint64_t)((double)moved / passed_ms * 1000);

        atomic_store(&s->rate_seen, seen ? (seen * 7 + now_rate * 3) / 10 : now_rate);
}

uint64_t budget_rate_seen(const struct budget *b)
{
        return atomic_load(&b->shared->rate_seen);
}
