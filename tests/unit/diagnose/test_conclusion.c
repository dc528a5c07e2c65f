// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "diagnose/conclusion.h"

#include "base/alloc.h"

static void test_exit_codes(void **state)
{
        (void)state;
        assert_int_equal(verdict_exit_code(VERDICT_HEALTHY), 0);
        assert_int_equal(verdict_exit_code(VERDICT_BLOCKED), 1);
        assert_int_equal(verdict_exit_code(VERDICT_UNDETERMINED), 2);
        assert_int_equal(verdict_exit_code(VERDICT_DEGRADED), 3);
}

static void test_words(void **state)
{
        (void)state;
        assert_string_equal(verdict_to_string(VERDICT_HEALTHY), "healthy");
        assert_string_equal(verdict_to_string(VERDICT_DEGRADED), "degraded");
        assert_string_equal(verdict_to_string(VERDICT_BLOCKED), "blocked");
        assert_string_equal(verdict_to_string(VERDICT_UNDETERMINED), "undetermined");
        assert_string_equal(service_state_to_string(SERVICE_OK), "ok");
        assert_string_equal(service_state_to_string(SERVICE_DEGRADED), "degraded");
        assert_string_equal(service_state_to_string(SERVICE_BLOCKED), "blocked");
        assert_string_equal(service_state_to_string(SERVICE_NOT_TESTED), "not-tested");
        assert_string_equal(address_state_to_string(ADDRESS_OK), "ok");
        assert_string_equal(address_state_to_string(ADDRESS_BLOCKED), "blocked");
        assert_string_equal(address_state_to_string(ADDRESS_NOT_TESTED), "not-tested");
}

/* The sanitizer's leak check is the assertion. */
static void test_done_frees_everything(void **state)
{
        struct conclusion c = {.summary = xstrdup("s"), .service_count = 1, .cause_count = 1};

        (void)state;
        c.services = xcalloc(1, sizeof *c.services);
        c.services[0].name = xstrdup("repo");
        c.services[0].host = xstrdup("repo.grid.example");
        strv_add(&c.services[0].carries, "updates");
        c.services[0].addresses = xcalloc(2, sizeof *c.services[0].addresses);
        c.causes = xcalloc(1, sizeof *c.causes);
        c.causes[0].info = cause_info(CAUSE_TLS_INTERCEPTED);
        strv_add(&c.causes[0].services, "repo");
        strv_add(&c.causes[0].targets, "198.51.100.20:443");
        strv_add(&c.causes[0].candidates, "tcp.reset");
        c.causes[0].interface = xstrdup("eth1");
        c.causes[0].route = xstrdup("default");
        c.causes[0].interceptor = xstrdup("Fortinet");
        c.causes[0].summary = xstrdup("s");
        c.causes[0].remedy = xstrdup("r");
        c.causes[0].evidence = xcalloc(3, sizeof(int));
        conclusion_done(&c);
        assert_null(c.services);
        assert_int_equal(c.cause_count, 0);
        conclusion_done(&c);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_exit_codes),
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_done_frees_everything),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
