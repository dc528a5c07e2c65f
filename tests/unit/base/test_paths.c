#include "base/paths.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <unistd.h>

static void assert_paths(const char *root, const char *etc, const char *state_folder, const char *run)
{
        struct paths p;

        paths_init(&p, root, "gridnode");
        assert_string_equal(p.etc, etc);
        assert_string_equal(p.state, state_folder);
        assert_string_equal(p.run, run);
        paths_done(&p);
        assert_null(p.etc);
        paths_done(&p);
}

static void test_roots(void **state)
{
        (void)state;
        assert_paths(NULL, "/etc/gridnode", "/var/lib/gridnode", "/run/gridnode");
        assert_paths("/", "/etc/gridnode", "/var/lib/gridnode", "/run/gridnode");
        assert_paths("/srv/x", "/srv/x/etc/gridnode", "/srv/x/var/lib/gridnode", "/srv/x/run/gridnode");
        assert_paths("/srv/x//", "/srv/x/etc/gridnode", "/srv/x/var/lib/gridnode", "/srv/x/run/gridnode");
}

static void test_relative(void **state)
{
        (void)state;
        assert_int_equal(chdir("/usr"), 0);
        assert_paths("x", "/usr/x/etc/gridnode", "/usr/x/var/lib/gridnode", "/usr/x/run/gridnode");
        assert_int_equal(chdir("/"), 0);
        assert_paths("x", "/x/etc/gridnode", "/x/var/lib/gridnode", "/x/run/gridnode");
}

static void test_join(void **state)
{
        _cleanup_free_ char *a = path_join("/run/gridnode", "control.sock"), *b = path_join("/", "x");

        (void)state;
        assert_string_equal(a, "/run/gridnode/control.sock");
        assert_string_equal(b, "/x");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_roots),
                cmocka_unit_test(test_relative),
                cmocka_unit_test(test_join),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
