#include "node/clockwatch.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

struct clockwatch {
        sd_event_source *io;
        double offset_ms;
        void (*on_set)(double step_ms, void *userdata);
        void *userdata;
};
DEFINE_CLEANUP(struct clockwatch *, clockwatch_free);

static double clock_ms(clockid_t clock)
{
        struct timespec t = {0};

        clock_gettime(clock, &t);
        return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

/* Of the clock that somebody may set, against the one that counts sleep as well and that nobody sets. */
static double offset_ms(void)
{
        return clock_ms(CLOCK_REALTIME) - clock_ms(CLOCK_BOOTTIME);
}

/* A timer that never ends, except by the clock being set. */
static int arm(int fd)
{
        static const struct itimerspec never = {.it_value = {.tv_sec = INT64_MAX}};

        return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 ? -errno
                                                                                                  : 0;
}

void clockwatch_look(struct clockwatch *w)
{
        double now_ms = offset_ms(), step_ms = now_ms - w->offset_ms;

        if (fabs(step_ms) < CLOCK_STEP_MS)
                return;
        w->offset_ms = now_ms;
        w->on_set(step_ms, w->userdata);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        uint64_t count;

        (void)events;
        /* ECANCELED, and once read it waits for the next. Anything else would come again at once: then the
         * caller's own looking has to do. */
        if (read(fd, &count, sizeof count) >= 0 || (errno != ECANCELED && errno != EAGAIN) || arm(fd) < 0)
                sd_event_source_set_enabled(source, SD_EVENT_OFF);
        clockwatch_look(userdata);
        return 0;
}

int clockwatch_new(sd_event *event, void (*on_set)(double step_ms, void *userdata), void *userdata,
        struct clockwatch **ret)
{
        _cleanup_(clockwatch_free_p) struct clockwatch *w = xcalloc(1, sizeof *w);
        _cleanup_close_ int fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        int r;

        w->on_set = on_set;
        w->userdata = userdata;
        if (fd < 0)
                return -errno;
        r = arm(fd);
        if (r < 0)
                return r;
        w->offset_ms = offset_ms();
        r = sd_event_add_io(event, &w->io, fd, EPOLLIN, on_io, w);
        if (r < 0)
                return r;
        sd_event_source_set_io_fd_own(w->io, true);
        (void)TAKE_FD(fd);
        *ret = TAKE_PTR(w);
        return 0;
}

struct clockwatch *clockwatch_free(struct clockwatch *w)
{
        if (!w)
                return NULL;
        sd_event_source_disable_unref(w->io);
        free(w);
        return NULL;
}
