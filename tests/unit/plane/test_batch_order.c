/* The order of what a node tells, where some of it found no room. */
#include "plane/batch_order.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_what_comes_after_waits(void **state)
{
        struct batch_order *o = batch_order_new();

        (void)state;
        assert_true(batch_order_allows(o, "n-1", "e-1", 5, 0));
        batch_order_left(o, "n-1", "e-1", 6, 0);
        batch_order_left(o, "n-1", "e-1", 7, 10);
        assert_false(batch_order_allows(o, "n-1", "e-1", 8, 20));
        assert_false(batch_order_allows(o, "n-1", "e-1", 7, 20));
        assert_true(batch_order_allows(o, "n-2", "e-1", 8, 20)); /* another node */
        assert_true(batch_order_allows(o, "n-1", "e-1", 5, 20)); /* before it: a repetition */
        assert_false(batch_order_allows(o, "n-1", "e-1", 7, 20));
        assert_true(batch_order_allows(o, "n-1", "e-1", 6, 30)); /* the one that was left */
        assert_true(batch_order_allows(o, "n-1", "e-1", 7, 30));
        assert_true(batch_order_allows(o, "n-1", "e-1", 8, 30));
        batch_order_free(o);
}

static void test_nobody_waits_for_ever(void **state)
{
        struct batch_order *o = batch_order_new();

        (void)state;
        batch_order_left(o, "n-1", "e-1", 6, 1000);
        assert_false(batch_order_allows(o, "n-1", "e-1", 7, 1000 + BATCH_ORDER_WAIT_MS - 1));
        assert_true(batch_order_allows(o, "n-1", "e-1", 7, 1000 + BATCH_ORDER_WAIT_MS));
        /* A store that was begun anew. */
        batch_order_left(o, "n-1", "e-1", 6, 1000);
        assert_true(batch_order_allows(o, "n-1", "e-2", 7, 1001));
        assert_true(batch_order_allows(o, "n-1", "e-1", 7, 1001));
        batch_order_free(o);
}

static void test_the_first_counts(void **state)
{
        struct batch_order *o = batch_order_new();

        (void)state;
        batch_order_left(o, "n-1", "e-1", 9, 0);
        batch_order_left(o, "n-1", "e-1", 4, 0);
        assert_false(batch_order_allows(o, "n-1", "e-1", 5, 1));
        assert_true(batch_order_allows(o, "n-1", "e-1", 4, 1));
        assert_true(batch_order_allows(o, "n-1", "e-1", 5, 1));
        batch_order_free(o);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_comes_after_waits),
                cmocka_unit_test(test_nobody_waits_for_ever),
                cmocka_unit_test(test_the_first_counts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
