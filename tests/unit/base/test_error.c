#include "base/error.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void test_set(void **state)
{
        (void)state;
        struct error e;

        assert_int_equal(error_set(&e, ENOENT, "file.missing", "cannot open %s: %d", "x", 7), -ENOENT);
        assert_int_equal(e.number, ENOENT);
        assert_string_equal(e.code, "file.missing");
        assert_string_equal(e.text, "cannot open x: 7");
}

static void test_null(void **state)
{
        (void)state;
        assert_int_equal(error_set(NULL, EIO, "x", "y"), -EIO);
        assert_int_equal(error_prefix(NULL, "y"), -EINVAL);
}

static void test_text_is_bounded(void **state)
{
        (void)state;
        char big[2000];
        struct error e;

        memset(big, 'a', sizeof(big) - 1);
        big[sizeof(big) - 1] = '\0';
        error_set(&e, EIO, "x", "%s", big);
        assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
        error_prefix(&e, "%s", big);
        assert_int_equal(strlen(e.text), sizeof(e.text) - 1);
}

static void test_no_trailing_newline(void **state)
{
        (void)state;
        struct error e;

        error_set(&e, EIO, "x", "one\ntwo\n\n");
        assert_string_equal(e.text, "one\ntwo");
        error_set(&e, EIO, "x", "%s", "\n");
        assert_string_equal(e.text, "");
}

static void test_own_text_as_argument(void **state)
{
        (void)state;
        struct error e;

        error_set(&e, EIO, "x", "inner");
        error_set(&e, EPERM, "y", "outer: %s", e.text);
        assert_string_equal(e.text, "outer: inner");
        assert_int_equal(error_prefix(&e, "again %s", e.text), -EPERM);
        assert_string_equal(e.text, "again outer: inner: outer: inner");
        assert_string_equal(e.code, "y");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_set),
                cmocka_unit_test(test_null),
                cmocka_unit_test(test_text_is_bounded),
                cmocka_unit_test(test_no_trailing_newline),
                cmocka_unit_test(test_own_text_as_argument),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
