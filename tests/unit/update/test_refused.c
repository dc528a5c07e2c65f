#include "update/refused.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void test_add_and_find(void **state)
{
        (void)state;
        struct refused r = {0};
        char version[32], why[2000];

        refused_add(&r, "0.2.0", 1000, "it does not answer");
        refused_add(&r, "0.2.0", 2000, "again");
        assert_int_equal(r.count, 1);
        assert_int_equal(refused_find(&r, "0.2.0")->at_unix_ms, 2000);
        assert_null(refused_find(&r, "0.2"));
        for (int i = 0; i < REFUSED_MAX; i++) {
                snprintf(version, sizeof version, "1.%d", i);
                refused_add(&r, version, i, "x");
        }
        assert_int_equal(r.count, REFUSED_MAX);
        assert_null(refused_find(&r, "0.2.0")); /* the oldest has gone */
        assert_non_null(refused_find(&r, "1.0"));
        refused_remove(&r, "1.0");
        assert_null(refused_find(&r, "1.0"));
        memset(why, '\x1b', sizeof why - 1);
        why[sizeof why - 1] = '\0';
        refused_add(&r, "9", 1, why);
        assert_null(strchr(refused_find(&r, "9")->why, '\x1b'));
}

static void test_saved_and_loaded(void **state)
{
        (void)state;
        char path[] = "/tmp/gridnode-refused-XXXXXX";
        int fd = mkstemp(path);
        struct refused r = {0}, back = {0};
        struct error e;

        assert_true(fd >= 0);
        close(fd);
        refused_add(&r, "0.2.0", 1795230000000, "the daemon: \"no\"\n");
        refused_add(&r, "1:0.3~rc1", 1795230001000, "");
        assert_int_equal(refused_save(path, &r, &e), 0);
        assert_int_equal(refused_load(path, &back, &e), 0);
        assert_int_equal(back.count, 2);
        assert_string_equal(back.list[0].version, "0.2.0");
        assert_int_equal(back.list[0].at_unix_ms, 1795230000000);
        assert_string_equal(back.list[0].why, r.list[0].why);
        unlink(path);
        assert_int_equal(refused_load(path, &back, &e), -ENOENT);
}

static void test_what_is_no_list(void **state)
{
        (void)state;
        static const char *const texts[] = {"", "[]", "{}", "{\"versions\":7}", "{\"versions\":[7]}",
                "{\"versions\":[{\"version\":\"1\"}]}",
                "{\"versions\":[{\"version\":\"1\",\"at\":\"yesterday\",\"why\":\"\"}]}"};
        struct refused r = {.count = 3};
        struct error e;

        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
                assert_true(refused_parse(texts[i], strlen(texts[i]), &r, &e) < 0);
        assert_int_equal(r.count, 3);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_add_and_find),
                cmocka_unit_test(test_saved_and_loaded),
                cmocka_unit_test(test_what_is_no_list),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
