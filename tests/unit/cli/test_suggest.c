#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/suggest.h"

#include "base/cleanup.h"

#include <string.h>

static const char *const codes[] = {
        "tcp.dropped", "tcp.reset", "tls.reset", "dns.no_such_name", "upstream.dead"};

static const char *nearest(const char *word)
{
        return suggest_nearest(word, codes, ELEMENTS(codes));
}

static void test_nearest(void **state)
{
        (void)state;
        assert_string_equal(nearest("tcp.droped"), "tcp.dropped");
        assert_string_equal(nearest("tls.rset"), "tls.reset");
        assert_string_equal(nearest("dropped"), "tcp.dropped");
        assert_string_equal(nearest("dns.no"), "dns.no_such_name");
        assert_string_equal(nearest("upstream-dead"), "upstream.dead");
}

static void test_nothing_near(void **state)
{
        char endless[500];

        (void)state;
        assert_null(nearest(""));
        assert_null(nearest("q"));
        assert_null(nearest("something else"));
        memset(endless, 'x', sizeof endless - 1);
        endless[sizeof endless - 1] = 0;
        assert_null(nearest(endless));
        assert_null(suggest_nearest("tcp", codes, 0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_nearest),
                cmocka_unit_test(test_nothing_near),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
