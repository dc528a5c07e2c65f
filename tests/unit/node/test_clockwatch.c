/* With clocks of the test's own; that the kernel wakes the daemon is shown in the lab. */
#include "node/clockwatch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static time_t shift_real_s, shift_boot_s;
static sd_event *event;
static struct clockwatch *watch;
static unsigned told;
static double last_ms;

/* In place of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *ret)
{
        int r = (int)syscall(SYS_clock_gettime, clock, ret);

        ret->tv_sec += clock == CLOCK_REALTIME ? shift_real_s : clock == CLOCK_BOOTTIME ? shift_boot_s : 0;
        return r;
}

static void on_set(double step_ms, void *userdata)
{
        assert_ptr_equal(userdata, &told);
        told++;
        last_ms = step_ms;
}

static int setup(void **state)
{
        (void)state;
        shift_real_s = shift_boot_s = 0;
        told = 0;
        last_ms = 0;
        assert_int_equal(sd_event_new(&event), 0);
        assert_int_equal(clockwatch_new(event, on_set, &told, &watch), 0);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        watch = clockwatch_free(watch);
        event = sd_event_unref(event);
        return 0;
}

static void assert_told(unsigned count, double step_s)
{
        clockwatch_look(watch);
        assert_int_equal(told, count);
        if (count > 0)
                assert_float_equal(last_ms, step_s * 1000, 500);
}

static void a_clock_that_runs_is_not_told(void **state)
{
        (void)state;
        assert_told(0, 0);
        assert_true(sd_event_run(event, 50000) >= 0);
        assert_told(0, 0);
}

static void a_step_is_told_once_with_its_length(void **state)
{
        (void)state;
        shift_real_s = 86400;
        assert_told(1, 86400);
        assert_told(1, 86400);
        shift_real_s = -31536000;
        assert_told(2, -31536000.0 - 86400);
        shift_real_s = 0;
        assert_told(3, 31536000);
}

static void small_steps_are_told_when_they_are_many(void **state)
{
        (void)state;
        shift_real_s = 29;
        assert_told(0, 0);
        shift_real_s = 0;
        assert_told(0, 0);
        shift_real_s = 20;
        assert_told(0, 0);
        shift_real_s = 40;
        assert_told(1, 40);
}

/* A machine that slept for an hour: both clocks have gone on, and only CLOCK_MONOTONIC has not. */
static void sleep_is_no_step(void **state)
{
        (void)state;
        shift_real_s = shift_boot_s = 3600;
        assert_told(0, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(a_clock_that_runs_is_not_told, setup, teardown),
                cmocka_unit_test_setup_teardown(a_step_is_told_once_with_its_length, setup, teardown),
                cmocka_unit_test_setup_teardown(small_steps_are_told_when_they_are_many, setup, teardown),
                cmocka_unit_test_setup_teardown(sleep_is_no_step, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
