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
#define BURST_MS       250.0
#define LEAST_BURST    65536.0
#define LEAST_GRANT    1400 /* a packet: smaller grants cost more than they move */
#define LONGEST_WAIT   1000.0
#define FARTHEST_NS    (60 * NS_A_SECOND) /* a debt that nobody makes: of another boot, or not ours */
#define HIGHEST_RATE   (UINT64_C(1) << 40)
#define WINDOW_MS      1000.0
#define IDLE_WINDOW_MS 3000.0

/* What the processes share. The bucket is one number, so that taking is one compare-and-swap: the moment at
 * which it will be (or was) empty ("theoretical arrival time", ITU-T I.371). */
struct shared {
        uint64_t magic;
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

/* ---- the plan ---- */

static int parse_rate(const char *s, uint64_t *ret)
{
        static const struct {
                const char *unit;
                double bytes;
        } units[] = {{"bit/s", 0.125}, {"kbit/s", 125}, {"Mbit/s", 125e3}, {"Gbit/s", 125e6}, {"B/s", 1},
                {"kB/s", 1e3}, {"MB/s", 1e6}};
        char *end;
        double number;

        if (str_equal(s, "unlimited")) {
                *ret = 0;
                return 0;
        }
        if (*s < '0' || *s > '9')
                return -EINVAL;
        number = strtod(s, &end);
        end += strspn(end, " ");
        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (str_equal(end, units[i].unit)) {
                        double rate = number * units[i].bytes;

                        if (!(rate >= 1) || rate > (double)HIGHEST_RATE)
                                return -ERANGE;
                        *ret = (uint64_t)rate;
                        return 0;
                }
        return -EINVAL;
}

/* "08:00"; 24:00 is the end of the day. */
static const char *parse_minute(const char *s, unsigned *ret)
{
        unsigned hour, minute;

        if (s[0] < '0' || s[0] > '9' || s[1] < '0' || s[1] > '9' || s[2] != ':' || s[3] < '0' || s[3] > '9' ||
                s[4] < '0' || s[4] > '9')
                return NULL;
        hour = (unsigned)(s[0] - '0') * 10 + (unsigned)(s[1] - '0');
        minute = (unsigned)(s[3] - '0') * 10 + (unsigned)(s[4] - '0');
        if (hour > 24 || minute > 59 || (hour == 24 && minute))
                return NULL;
        *ret = hour * 60 + minute;
        return s + 5;
}

static int parse_item(const char *s, struct budget_plan *plan, bool *has_otherwise)
{
        struct budget_period p;
        const char *rest = parse_minute(s, &p.from_minute);

        if (!rest) {
                if (*has_otherwise)
                        return -EEXIST;
                *has_otherwise = true;
                return parse_rate(s, &plan->otherwise);
        }
        if (*rest++ != '-' || !(rest = parse_minute(rest, &p.to_minute)) || *rest++ != ' ')
                return -EINVAL;
        if (plan->count == BUDGET_MAX_PERIODS)
                return -E2BIG;
        if (parse_rate(rest + strspn(rest, " "), &p.bytes_per_second) < 0)
                return -EINVAL;
        plan->periods[plan->count++] = p;
        return 0;
}

int budget_plan_parse(const char *s, struct budget_plan *ret, struct error *ret_error)
{
        struct budget_plan plan = {0};
        bool has_otherwise = false;
        struct strv items = {0};
        int r = 0;

        strv_split(&items, s, ';');
        for (size_t i = 0; r == 0 && i < items.count; i++) {
                r = parse_item(items.items[i], &plan, &has_otherwise);
                if (r < 0)
                        r = error_set(ret_error, EINVAL, "config.bad-limit",
                                "'%.60s' is no bandwidth: '5Mbit/s', '600kB/s', 'unlimited' or '08:00-18:00 "
                                "1Mbit/s' is needed, at most one without hours and %d with",
                                items.items[i], BUDGET_MAX_PERIODS);
        }
        if (r == 0 && items.count == 0)
                r = error_set(ret_error, EINVAL, "config.bad-limit", "the bandwidth is empty");
        strv_done(&items);
        if (r == 0)
                *ret = plan;
        return r;
}

static void add_rate(struct text *t, uint64_t rate)
{
        if (rate == 0)
                text_add(t, "unlimited");
        else if (rate % 125000 == 0)
                text_addf(t, "%lluMbit/s", (unsigned long long)(rate / 125000));
        else if (rate % 125 == 0)
                text_addf(t, "%llukbit/s", (unsigned long long)(rate / 125));
        else
                text_addf(t, "%lluB/s", (unsigned long long)rate);
}

char *budget_plan_format(const struct budget_plan *p)
{
        struct text t = {0};

        add_rate(&t, p->otherwise);
        for (size_t i = 0; i < p->count; i++) {
                const struct budget_period *q = &p->periods[i];

                text_addf(&t, "; %02u:%02u-%02u:%02u ", q->from_minute / 60, q->from_minute % 60,
                        q->to_minute / 60, q->to_minute % 60);
                add_rate(&t, q->bytes_per_second);
        }
        return text_take(&t);
}

uint64_t budget_plan_rate(const struct budget_plan *p, unsigned minute_of_day)
{
        for (size_t i = 0; i < p->count; i++) {
                const struct budget_period *q = &p->periods[i];
                bool is_over_midnight = q->to_minute < q->from_minute;
                bool is_after = minute_of_day >= q->from_minute, is_before = minute_of_day < q->to_minute;

                if (is_over_midnight ? is_after || is_before : is_after && is_before)
                        return q->bytes_per_second;
        }
        return p->otherwise;
}

/* ---- the bucket ---- */

static int map_file(const char *path, struct shared **ret)
{
        _cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0660);
        struct stat st;
        void *p;

        if (fd < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        /* The umask took the group's right to write. */
        if (st.st_size == 0 && st.st_uid == geteuid() && fchmod(fd, 0660) < 0)
                return -errno;
        if ((size_t)st.st_size < sizeof(struct shared) && ftruncate(fd, sizeof(struct shared)) < 0)
                return -errno;
        p = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return -errno;
        *ret = p;
        return 0;
}

int budget_open(const char *path, struct budget **ret, struct error *ret_error)
{
        struct budget *b = xcalloc(1, sizeof(*b));
        int r = path ? map_file(path, &b->shared) : -ENOENT;

        if (r < 0 && path && r != -ENOENT && r != -EACCES && r != -EPERM && r != -EROFS) {
                free(b);
                return error_set(ret_error, -r, "budget.unusable", "%s: %s", path, strerror(-r));
        }
        if (r < 0)
                b->shared = &b->own;
        if (b->shared->magic != MAGIC) {
                *b->shared = (struct shared){0};
                b->shared->magic = MAGIC;
        }
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
        uint64_t seen = atomic_load(&s->rate_seen), now_rate = (uint64_t)((double)moved / passed_ms * 1000);

        atomic_store(&s->rate_seen, seen ? (seen * 7 + now_rate * 3) / 10 : now_rate);
}

uint64_t budget_rate_seen(const struct budget *b)
{
        return atomic_load(&b->shared->rate_seen);
}
