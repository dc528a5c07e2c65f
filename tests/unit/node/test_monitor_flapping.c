/* What comes and goes, and an hour of everything at once. */
#include "monitor_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void test_flapping_is_one_event(void **state)
{
        struct world w;
        struct monitor_view v;

        (void)state;
        world_init(&w, 1, 1, 17);
        w.lies = true;
        run(&w, 5 * MINUTE);
        for (int i = 0; i < 300; i++) { /* 50 minutes */
                monitor_observed(w.m, "repo", &w.addresses[0][0], i % 2 == 0, w.now_ms);
                run(&w, 10 * SECOND);
        }
        monitor_view_service(w.m, 0, &v);
        assert_true(v.flapping);
        assert_events(&w, "Connection Flapping|Connection flapping: repo|WARNING|repo|-");
        for (int i = 0; i < 600; i++) { /* 100 more */
                monitor_observed(w.m, "repo", &w.addresses[0][0], i % 2 == 0, w.now_ms);
                run(&w, 10 * SECOND);
        }
        assert_events(&w, "Connection Flapping|Connection flapping: repo|WARNING|repo|-");
        run(&w, 10 * MINUTE);
        monitor_view_service(w.m, 0, &v);
        assert_false(v.flapping);
        assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        run(&w, 60 * MINUTE);
        assert_events(&w, "");
        world_done(&w);
}

static void test_flapping_that_ends_failed_is_told_once(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 1, 1, 18);
        run(&w, 5 * MINUTE);
        for (int i = 0; i < 30; i++) {
                monitor_observed(w.m, "repo", &w.addresses[0][0], i % 2 == 0, w.now_ms);
                run(&w, 10 * SECOND);
        }
        set_service(&w, 0, false);
        run(&w, 20 * MINUTE);
        assert_events(&w, "Connection Flapping|Connection flapping: repo|WARNING|repo|-\n"
                          "Repo Connectivity|Repo connectivity failed|ERROR|repo|-");
        world_done(&w);
}

/* Two servers are asked for three names each: one outage is one change for all of them. */
static void test_outages_are_no_flapping(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 3, 2, 19);
        run(&w, 2 * HOUR); /* each was asked for each */
        for (int i = 0; i < 3; i++) {
                w.server_up[0] = w.server_up[1] = false;
                for (size_t k = 0; k < 3; k++)
                        set_service(&w, k, false);
                monitor_changed(w.m, w.now_ms);
                run(&w, 40 * SECOND);
                w.server_up[0] = w.server_up[1] = true;
                for (size_t k = 0; k < 3; k++)
                        set_service(&w, k, true);
                run(&w, 40 * SECOND);
        }
        take_events(&w);
        for (size_t i = 0; i < w.events.count; i++)
                assert_null(strstr(w.events.items[i], "flapping"));
        assert_true(w.events.count >= 6);
        world_done(&w);
}

static void test_the_next_outage_is_told_as_soon_as_the_first(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 1, 1, 20);
        run(&w, 5 * MINUTE);
        for (int i = 0; i < 3; i++) {
                set_service(&w, 0, false);
                monitor_observed(w.m, "repo", &w.addresses[0][0], false, w.now_ms);
                w.fails[0][0] = 1;
                run(&w, 12 * SECOND);
                assert_events(&w, "Repo Connectivity|Repo connectivity failed|ERROR|repo|diagnosis");
                set_service(&w, 0, true);
                run(&w, 40 * SECOND);
                assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        }
        world_done(&w);
}

/* ---- an hour of everything ---- */

/* Of each service and of DNS: after "failed" no "failed" before something better was told. */
static void check_events(const struct world *w)
{
        char last[SERVICES + 1][16] = {{0}};

        for (size_t i = 0; i < w->events.count; i++) {
                struct strv parts = {0};
                size_t k = SERVICES;

                strv_split(&parts, w->events.items[i], '|');
                assert_int_equal(parts.count, 5);
                for (size_t n = 0; n < w->profile.service_count; n++)
                        if (str_equal(parts.items[3], w->services[n].name))
                                k = n;
                if (!str_equal(parts.items[0], EVENT_FLAPPING)) {
                        if (str_equal(parts.items[2], "ERROR") || str_equal(parts.items[2], "WARNING"))
                                assert_string_not_equal(last[k], parts.items[2]);
                        str_copy(last[k], sizeof last[k], parts.items[2]);
                }
                strv_done(&parts);
        }
}

static void break_something(struct world *w, unsigned *seed, bool may_observe)
{
        size_t i = (size_t)rand_r(seed) % w->profile.service_count, k = (size_t)rand_r(seed) % 2;

        switch (rand_r(seed) % 8) {
        case 0:
                w->up[i][k] = !w->up[i][k];
                break;
        case 1:
                set_service(w, i, !w->up[i][0]);
                break;
        case 2:
                w->server_up[k] = !w->server_up[k];
                break;
        case 3:
                w->lose = rand_r(seed) % 4;
                break;
        case 4:
                w->no_diagnosis = rand_r(seed) % 4 == 0;
                w->lies = rand_r(seed) % 6 == 0;
                break;
        case 5:
                for (int n = 0; n < 6 && may_observe; n++) {
                        bool ok = w->up[i][k] && rand_r(seed) % 2;

                        w->fails[i][k] = ok ? 0 : w->fails[i][k] + 1;
                        monitor_observed(w->m, w->services[i].name, &w->addresses[i][k], ok, w->now_ms);
                        w->now_ms += 3000;
                        if (monitor_wants_diagnosis(w->m))
                                break;
                }
                break;
        case 6:
                monitor_changed(w->m, w->now_ms);
                break;
        default:
                for (size_t n = 0; n < w->profile.service_count; n++)
                        set_service(w, n, true);
                w->server_up[0] = w->server_up[1] = true;
        }
}

static void check_intervals(const struct world *w, double until_ms)
{
        double last_ms[SERVICES] = {0};

        for (size_t i = 0; i < w->asked_count; i++)
                if (w->asked[i].probe.kind == MONITOR_SERVICE) {
                        size_t k = service_index(w, w->asked[i].probe.service);

                        if (last_ms[k] > 0) {
                                if (w->asked[i].at_ms - last_ms[k] > 90 * SECOND)
                                        fail_msg("%s: %.0f ms at %.0f", w->services[k].name,
                                                w->asked[i].at_ms - last_ms[k], w->asked[i].at_ms);
                        }
                        last_ms[k] = w->asked[i].at_ms;
                }
        for (size_t k = 0; k < w->profile.service_count; k++)
                assert_true(until_ms - last_ms[k] <= 90 * SECOND);
}

static void test_an_hour_of_mixed_faults(void **state)
{
        (void)state;
        for (unsigned seed = 1; seed <= 200; seed++) {
                struct world w;
                unsigned random = seed;
                double until_ms;
                bool may_observe = seed % 2; /* transfers postpone probes */

                world_init(&w, 1 + seed % 3, 2, seed);
                until_ms = w.now_ms + HOUR;
                while (w.now_ms < until_ms) {
                        double next_ms = fmin(w.now_ms + rand_r(&random) % 120 * SECOND, until_ms);

                        break_something(&w, &random, may_observe);
                        while (w.now_ms < next_ms)
                                step(&w, next_ms);
                }
                if (!may_observe)
                        check_intervals(&w, until_ms);
                assert_true(most_bytes_in_ten_minutes(&w) <= 600000);
                check_events(&w);
                /* And in the end, everything well. */
                w.lies = w.no_diagnosis = false;
                w.lose = 0;
                for (size_t i = 0; i < w.profile.service_count; i++)
                        set_service(&w, i, true);
                w.server_up[0] = w.server_up[1] = true;
                run(&w, 40 * MINUTE);
                for (size_t i = 0; i < w.profile.service_count; i++)
                        assert_int_equal(state_of(&w, i), MONITOR_OK);
                assert_int_equal(monitor_view_dns(w.m, NULL), MONITOR_OK);
                check_events(&w);
                world_done(&w);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_flapping_is_one_event),
                cmocka_unit_test(test_flapping_that_ends_failed_is_told_once),
                cmocka_unit_test(test_outages_are_no_flapping),
                cmocka_unit_test(test_the_next_outage_is_told_as_soon_as_the_first),
                cmocka_unit_test(test_an_hour_of_mixed_faults),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
