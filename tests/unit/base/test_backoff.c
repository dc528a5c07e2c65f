#include "base/backoff.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define NEARLY_ONE 0.9999999999

static void assert_near(double value, double wanted)
{
        assert_true(value > wanted * 0.999 && value <= wanted);
}

static void test_grows_to_the_longest(void **state)
{
        struct backoff b = BACKOFF_INIT(1000, 60000, 0);
        const double wanted[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000};

        (void)state;
        for (unsigned i = 0; i < 8; i++) {
                assert_near(backoff_next_ms(&b, NEARLY_ONE), wanted[i]);
                assert_int_equal(b.attempt, i + 1);
        }
        backoff_reset(&b);
        assert_near(backoff_next_ms(&b, NEARLY_ONE), 1000);
}

static void test_jitter_is_full(void **state)
{
        struct backoff b = BACKOFF_INIT(1000, 60000, 50);

        (void)state;
        assert_true(backoff_next_ms(&b, 0) == 50);
        assert_true(backoff_next_ms(&b, 0.5) == 1000);
        assert_true(backoff_next_ms(&b, 0.25) == 1000);
}

static void test_many_failures(void **state)
{
        struct backoff b = BACKOFF_INIT(1000, 60000, 0);

        (void)state;
        b.attempt = UINT32_MAX - 1;
        assert_near(backoff_next_ms(&b, NEARLY_ONE), 60000);
        assert_near(backoff_next_ms(&b, NEARLY_ONE), 60000);
        assert_int_equal(b.attempt, UINT32_MAX);
}

static void test_random(void **state)
{
        double least = 1, most = 0;

        (void)state;
        for (int i = 0; i < 1000; i++) {
                double r = backoff_random();

                assert_true(r >= 0 && r < 1);
                least = r < least ? r : least;
                most = r > most ? r : most;
        }
        assert_true(least < 0.1 && most > 0.9);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_grows_to_the_longest),
                cmocka_unit_test(test_jitter_is_full),
                cmocka_unit_test(test_many_failures),
                cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
