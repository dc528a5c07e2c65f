/* clock.so: preloaded, it shifts the wall clock of one program by LAB_CLOCK_SHIFT seconds (negative: behind),
 * or by the number that stands in LAB_CLOCK_FILE at that moment (at least 32 bytes, blanks before it), so
 * that a clock can jump while programs run. Only what tells the time of day is shifted. Monotonic clocks,
 * sleeps and timers keep to the real ones, or a program under test would wait wrongly rather than believe a
 * wrong date. A program built with AddressSanitizer needs ASAN_OPTIONS=verify_asan_link_order=0 beside it.
 * The real time comes from the system call, since the libc's own functions are what is replaced here. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define FILE_BYTES 32

/* Mapped once: a program may give up its rights, or close all that is open. */
static const char *shift_in_file(void)
{
        static const char *mapped;
        const char *path = getenv("LAB_CLOCK_FILE");
        int fd;

        if (mapped || !path)
                return mapped;
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return NULL;
        mapped = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
        close(fd);
        return mapped = mapped == MAP_FAILED ? NULL : mapped;
}

static long long shift_s(void)
{
        const char *text = shift_in_file();

        if (!text)
                text = getenv("LAB_CLOCK_SHIFT");
        return text ? strtoll(text, NULL, 10) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *ret)
{
        int r = (int)syscall(SYS_clock_gettime, clock, ret);

        if (r == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI))
                ret->tv_sec += shift_s();
        return r;
}

int timespec_get(struct timespec *ret, int base)
{
        return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, ret) == 0 ? base : 0;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
        struct timespec t;

        (void)zone;
        if (clock_gettime(CLOCK_REALTIME, &t) != 0)
                return -1;
        ret->tv_sec = t.tv_sec;
        ret->tv_usec = t.tv_nsec / 1000;
        return 0;
}

time_t time(time_t *ret)
{
        struct timespec t;

        if (clock_gettime(CLOCK_REALTIME, &t) != 0)
                return (time_t)-1;
        if (ret)
                *ret = t.tv_sec;
        return t.tv_sec;
}
