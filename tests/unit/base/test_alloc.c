#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_zero_sizes(void **state)
{
        (void)state;
        char *a = xmalloc(0), *b = xcalloc(0, 8), *c = xcalloc(8, 0);

        assert_non_null(a);
        assert_non_null(b);
        assert_non_null(c);
        a = xrealloc_array(a, 0, 4);
        assert_non_null(a);
        a = xrealloc_array(a, 3, 4);
        memset(a, 1, 12);
        free(a);
        free(b);
        free(c);
}

static void test_calloc_is_zeroed(void **state)
{
        (void)state;
        unsigned char *p = xcalloc(100, 3);

        for (int i = 0; i < 300; i++)
                assert_int_equal(p[i], 0);
        free(p);
}

static void test_strings(void **state)
{
        (void)state;
        char *s;

        assert_null(xstrdup(NULL));
        assert_null(xstrndup(NULL, 3));
        s = xstrdup("grid");
        assert_string_equal(s, "grid");
        free(s);
        s = xstrndup("gridnode", 4);
        assert_string_equal(s, "grid");
        free(s);
        s = xstrndup("grid", 40);
        assert_string_equal(s, "grid");
        free(s);
        s = xasprintf("%s-%d", "branch", 12);
        assert_string_equal(s, "branch-12");
        free(s);
}

/* Runs `f` in a child; true when that ended by SIGABRT. */
static int aborts(void (*f)(void))
{
        int status = 0;
        pid_t child = fork();

        assert_true(child >= 0);
        if (child == 0) {
                signal(SIGABRT, SIG_DFL);
                close(STDERR_FILENO);
                f();
                _exit(0);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void *volatile kept;

static void overflow_array(void)
{
        volatile size_t huge = SIZE_MAX / 2;

        kept = xrealloc_array(NULL, huge, 4);
}

static void test_overflow_aborts(void **state)
{
        (void)state;
        assert_true(aborts(overflow_array));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_zero_sizes),
                cmocka_unit_test(test_calloc_is_zeroed),
                cmocka_unit_test(test_strings),
                cmocka_unit_test(test_overflow_aborts),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}

/* AddressSanitizer would otherwise end the child in its own way before xrealloc_array() sees the NULL. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
        return "allocator_may_return_null=1";
}
