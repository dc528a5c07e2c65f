#include "base/random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_bytes(void **state)
{
        uint8_t a[64] = {0}, b[64] = {0};

        (void)state;
        random_bytes(a, sizeof a);
        random_bytes(b, sizeof b);
        assert_memory_not_equal(a, b, sizeof a);
        random_bytes(a, 0);
}

static void test_below(void **state)
{
        unsigned seen[3] = {0};

        (void)state;
        assert_int_equal(random_below(0), 0);
        assert_int_equal(random_below(1), 0);
        for (int i = 0; i < 3000; i++)
                seen[random_below(3)]++;
        /* 1000 each, 26 is one standard deviation. */
        for (int i = 0; i < 3; i++)
                assert_in_range(seen[i], 800, 1200);
        for (int i = 0; i < 100; i++)
                assert_true(random_below(UINT64_MAX) < UINT64_MAX);
}

static void test_id(void **state)
{
        char a[RANDOM_ID_TEXT], b[RANDOM_ID_TEXT];

        (void)state;
        random_id("n", a);
        random_id("n", b);
        assert_string_not_equal(a, b);
        assert_int_equal(strlen(a), 18);
        assert_memory_equal(a, "n-", 2);
        assert_int_equal(strspn(a + 2, "0123456789abcdefghjkmnpqrstvwxyz"), 16);
        /* A prefix that is too long is cut, never what makes the id unique. */
        random_id("a-prefix-of-more-than-the-room-there-is", a);
        assert_int_equal(strlen(a), RANDOM_ID_TEXT - 1);
}

static void test_secret(void **state)
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        char a[RANDOM_SECRET_TEXT], b[RANDOM_SECRET_TEXT];

        (void)state;
        for (int i = 0; i < 100; i++) {
                random_secret("gnt_", a);
                random_secret("gnt_", b);
                assert_string_not_equal(a, b);
                assert_int_equal(strlen(a), 47);
                assert_memory_equal(a, "gnt_", 4);
                assert_int_equal(strspn(a + 4, digits), 43);
                /* 256 bits: the last of 43 characters holds four of them. */
                assert_int_equal((strchr(digits, a[46]) - digits) & 3, 0);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_bytes),
                cmocka_unit_test(test_below),
                cmocka_unit_test(test_id),
                cmocka_unit_test(test_secret),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
