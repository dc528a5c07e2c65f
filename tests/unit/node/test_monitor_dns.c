/* DNS servers, and addresses that are known by DNS alone. */
#include "monitor_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_dns(void **state)
{
        struct world w;
        size_t failed;

        (void)state;
        world_init(&w, 2, 2, 15);
        run(&w, 5 * MINUTE);
        w.server_up[1] = false;
        run(&w, 5 * MINUTE);
        assert_events(&w, "DNS Resolution|DNS resolution failed at 203.0.113.53|WARNING|-|diagnosis");
        assert_int_equal(monitor_view_dns(w.m, &failed), MONITOR_OK);
        assert_int_equal(failed, 1);
        w.server_up[0] = false;
        run(&w, 5 * MINUTE);
        assert_events(&w, "DNS Resolution|DNS resolution failed|ERROR|-|diagnosis");
        assert_int_equal(monitor_view_dns(w.m, &failed), MONITOR_FAILED);
        assert_int_equal(failed, 2);
        assert_int_equal(w.diagnoses, 2);
        w.server_up[0] = w.server_up[1] = true;
        run(&w, 2 * MINUTE);
        assert_events(&w, "DNS Resolution|DNS resolution re-established|INFO|-|-");
        /* The services were well all the time, by the addresses that are known. */
        assert_int_equal(state_of(&w, 0), MONITOR_OK);
        world_done(&w);
}

/* Bound to the WAN it answers, and no cause of its own is named: it is as good as down all the same. */
static void test_a_server_behind_a_captured_route(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 1, 2, 21);
        w.is_captured = true;
        run(&w, 5 * MINUTE);
        w.server_up[0] = false;
        run(&w, 5 * MINUTE);
        assert_events(&w, "DNS Resolution|DNS resolution failed at 198.51.100.53|WARNING|-|diagnosis");
        world_done(&w);
}

static void test_both_servers_at_once_are_one_event(void **state)
{
        (void)state;
        for (uint64_t seed = 0; seed < 10; seed++) {
                struct world w;

                world_init(&w, 2, 2, seed);
                run(&w, 5 * MINUTE);
                w.server_up[0] = w.server_up[1] = false;
                run(&w, 5 * MINUTE);
                assert_events(&w, "DNS Resolution|DNS resolution failed|ERROR|-|diagnosis");
                w.server_up[0] = w.server_up[1] = true;
                run(&w, 5 * MINUTE);
                assert_events(&w, "DNS Resolution|DNS resolution re-established|INFO|-|-");
                world_done(&w);
        }
}

static void test_addresses_are_learnt_and_forgotten(void **state)
{
        struct world w;
        struct inet_addr old = address("198.51.100.77");
        struct monitor_options o;
        size_t asked = 0;

        (void)state;
        world_init(&w, 1, 1, 16);
        monitor_free(w.m);
        w.services[0].address_count = 0; /* known by DNS alone */
        w.known_by_dns = true;
        w.addresses[0][0] = old;
        o = (struct monitor_options){.profile = &w.profile, .dns = w.servers, .dns_count = 1};
        w.m = monitor_new(&o, w.now_ms);
        run(&w, 10 * MINUTE);
        assert_int_equal(state_of(&w, 0), MONITOR_OK);
        for (size_t i = 0; i < w.asked_count; i++)
                asked += inet_addr_equal(&w.asked[i].probe.address, &old);
        assert_in_range(asked, 4, 6);
        /* The service moves, and what is there now does not answer: no failure of the service. */
        w.addresses[0][0] = address("198.51.100.20");
        w.gone = old;
        run(&w, 30 * MINUTE);
        assert_events(&w, "");
        assert_int_equal(w.diagnoses, 0);
        w.asked_count = asked = 0;
        run(&w, 30 * MINUTE);
        for (size_t i = 0; i < w.asked_count; i++)
                asked += inet_addr_equal(&w.asked[i].probe.address, &old);
        assert_int_equal(asked, 0);
        world_done(&w);
}

static void test_no_address_is_known_and_no_name_resolves(void **state)
{
        struct world w;
        struct monitor_options o;
        struct monitor_view v;

        (void)state;
        world_init(&w, 1, 1, 21);
        monitor_free(w.m);
        w.services[0].address_count = 0;
        w.known_by_dns = true;
        w.server_up[0] = false;
        o = (struct monitor_options){.profile = &w.profile, .dns = w.servers, .dns_count = 1};
        w.m = monitor_new(&o, w.now_ms);
        run(&w, 3 * MINUTE);
        assert_events(&w, "DNS Resolution|DNS resolution failed|ERROR|-|diagnosis\n"
                          "Repo Connectivity|Repo connectivity failed|ERROR|repo|diagnosis");
        monitor_view_service(w.m, 0, &v);
        assert_true(v.last_ok_ms < 0);
        w.server_up[0] = true;
        run(&w, 2 * MINUTE);
        assert_events(&w, "DNS Resolution|DNS resolution re-established|INFO|-|-\n"
                          "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        run(&w, 20 * MINUTE);
        assert_events(&w, "");
        assert_int_equal(w.diagnoses, 1);
        world_done(&w);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_dns),
                cmocka_unit_test(test_a_server_behind_a_captured_route),
                cmocka_unit_test(test_both_servers_at_once_are_one_event),
                cmocka_unit_test(test_addresses_are_learnt_and_forgotten),
                cmocka_unit_test(test_no_address_is_known_and_no_name_resolves),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
