/* When a node's coming and going is told. */
#include "plane/presence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MINUTE INT64_C(60000)

/* Changes at equal distances: the number that were told as themselves. */
static int told(struct presence *p, int64_t *now, int changes, int64_t apart, int *ret_flapping)
{
        int count = 0;

        for (int i = 0; i < changes; i++) {
                enum presence_news n = presence_changed(p, *now += apart);

                count += n == PRESENCE_TELL;
                *ret_flapping += n == PRESENCE_FLAPPING;
        }
        return count;
}

static void test_few_changes_are_told(void **state)
{
        struct presence p = {0};
        int64_t now = 1;
        int flapping = 0;

        (void)state;
        assert_int_equal(told(&p, &now, 9, 1, &flapping), 9);
        assert_int_equal(flapping, 0);
        /* The tenth within five minutes is the one. */
        assert_int_equal(presence_changed(&p, now + 4 * MINUTE), PRESENCE_FLAPPING);
}

static void test_slow_changes_never_flap(void **state)
{
        struct presence p = {0};
        int64_t now = 1;
        int flapping = 0;

        (void)state;
        /* Nine distances between ten changes: a little more than five minutes. */
        assert_int_equal(told(&p, &now, 100, 5 * MINUTE / 9 + 1, &flapping), 100);
        assert_int_equal(flapping, 0);
}

static void test_exactly_five_minutes(void **state)
{
        struct presence p = {0};
        int64_t now = 1;
        int flapping = 0;

        (void)state;
        assert_int_equal(told(&p, &now, 9, 1, &flapping), 9);
        assert_int_equal(presence_changed(&p, 2 + 5 * MINUTE), PRESENCE_FLAPPING);
        p = (struct presence){0};
        now = 1;
        assert_int_equal(told(&p, &now, 9, 1, &flapping), 9);
        assert_int_equal(presence_changed(&p, 3 + 5 * MINUTE), PRESENCE_TELL);
}

static void test_told_again_after_two_hours(void **state)
{
        struct presence p = {0};
        int64_t now = 1;
        int flapping = 0;

        (void)state;
        /* Every 20 s for four hours: at the tenth, and once more 120 minutes later. */
        assert_int_equal(told(&p, &now, 4 * 60 * 3, MINUTE / 3, &flapping), 9);
        assert_int_equal(flapping, 2);
}

static void test_quiet_for_a_while_is_told_anew(void **state)
{
        struct presence p = {0};
        int64_t now = 1;
        int flapping = 0;

        (void)state;
        told(&p, &now, 30, 1000, &flapping);
        assert_int_equal(flapping, 1);
        now += 10 * MINUTE;
        assert_int_equal(told(&p, &now, 9, 1000, &flapping), 9);
        assert_int_equal(flapping, 1);
        told(&p, &now, 1, 1000, &flapping);
        assert_int_equal(flapping, 2);
}

/* After changes that nobody was told of the state that is left is told, once. */
static void test_the_last_word_is_true(void **state)
{
        struct presence p = {0};
        int64_t now = 1;
        int flapping = 0;

        (void)state;
        told(&p, &now, 9, 1000, &flapping);
        assert_false(presence_is_settled(&p, now + 100 * MINUTE)); /* all of it was told */
        for (int more = 0; more < 2; more++) {                     /* the tenth, and a quiet one */
                told(&p, &now, 1, 1000, &flapping);
                assert_int_equal(flapping, 1);
                assert_false(presence_is_settled(&p, now + PRESENCE_SETTLED_MS - 1));
                assert_true(presence_is_settled(&p, now + PRESENCE_SETTLED_MS));
        }
        now += PRESENCE_SETTLED_MS;
        presence_told(&p);
        assert_false(presence_is_settled(&p, now + 100 * MINUTE));
        /* It begins again before the five minutes are over: one flapping, not two, and a last word anew. */
        assert_int_equal(presence_changed(&p, now), PRESENCE_QUIET);
        assert_true(presence_is_settled(&p, now + PRESENCE_SETTLED_MS));
        /* A change that is told itself leaves nothing. */
        assert_int_equal(presence_changed(&p, now + 6 * MINUTE), PRESENCE_TELL);
        assert_false(presence_is_settled(&p, now + 100 * MINUTE));
}

static void test_what_an_earlier_plane_left_untold(void **state)
{
        struct presence p = {0};

        (void)state;
        presence_untold(&p, 5);
        assert_false(presence_is_settled(&p, 4 + PRESENCE_SETTLED_MS));
        assert_true(presence_is_settled(&p, 5 + PRESENCE_SETTLED_MS));
        assert_int_equal(presence_changed(&p, 6), PRESENCE_TELL);
        assert_false(presence_is_settled(&p, 6 + PRESENCE_SETTLED_MS));
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_few_changes_are_told),
                cmocka_unit_test(test_slow_changes_never_flap), cmocka_unit_test(test_exactly_five_minutes),
                cmocka_unit_test(test_told_again_after_two_hours),
                cmocka_unit_test(test_quiet_for_a_while_is_told_anew),
                cmocka_unit_test(test_the_last_word_is_true),
                cmocka_unit_test(test_what_an_earlier_plane_left_untold)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
