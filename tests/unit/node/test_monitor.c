/* In peace, failures and their end, what a diagnosis adds, the budget, restarts. */
#include "monitor_world.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

/* ---- in peace ---- */

static void test_each_service_address_and_server_has_its_turn(void **state)
{
        struct world w;
        size_t services[SERVICES] = {0}, addresses[2] = {0}, servers[2] = {0};

        (void)state;
        world_init(&w, 2, 2, 1);
        assert_int_equal(state_of(&w, 0), MONITOR_UNKNOWN);
        run(&w, 10 * SECOND);
        assert_int_equal(state_of(&w, 0), MONITOR_OK);
        assert_int_equal(state_of(&w, 1), MONITOR_OK);
        assert_int_equal(monitor_view_dns(w.m, NULL), MONITOR_OK);
        run(&w, 60 * MINUTE);
        for (size_t i = 0; i < w.asked_count; i++) {
                const struct monitor_probe *p = &w.asked[i].probe;

                if (p->kind != MONITOR_SERVICE)
                        continue;
                services[service_index(&w, p->service)]++;
                addresses[inet_addr_equal(&p->address, &w.addresses[service_index(&w, p->service)][1])]++;
                servers[server_index(&w, &p->dns)]++;
        }
        for (size_t i = 0; i < 2; i++) {
                assert_in_range(services[i], 55, 66);
                assert_in_range(addresses[i], 55, 66);
                assert_in_range(servers[i], 55, 66);
        }
        assert_int_equal(w.diagnoses, 0);
        assert_events(&w, "");
        world_done(&w);
}

static void test_moments_are_random_and_apart(void **state)
{
        struct world w;
        double last_ms[2] = {0}, least = HUGE_VAL, most = 0, nearest = HUGE_VAL;

        (void)state;
        world_init(&w, 2, 1, 2);
        run(&w, 3 * HOUR);
        for (size_t i = 0; i < w.asked_count; i++) {
                const struct asked *a = &w.asked[i];
                size_t k = a->probe.service ? service_index(&w, a->probe.service) : 0;

                if (a->probe.kind != MONITOR_SERVICE)
                        continue;
                if (last_ms[k] > 5 * MINUTE) {
                        least = fmin(least, a->at_ms - last_ms[k]);
                        most = fmax(most, a->at_ms - last_ms[k]);
                        nearest = fmin(nearest, fabs(a->at_ms - last_ms[1 - k]));
                }
                last_ms[k] = a->at_ms;
        }
        assert_true(least < 55 * SECOND && least > 40 * SECOND);
        assert_true(most > 65 * SECOND && most < 90 * SECOND);
        assert_true(nearest > 10 * SECOND);
        world_done(&w);
}

static void test_each_server_is_asked_each_hour_without_services(void **state)
{
        struct world w;
        size_t servers[2] = {0};

        (void)state;
        world_init(&w, 0, 2, 3);
        run(&w, 10 * HOUR);
        for (size_t i = 0; i < w.asked_count; i++) {
                assert_int_equal(w.asked[i].probe.kind, MONITOR_DNS);
                assert_null(w.asked[i].probe.service);
                servers[server_index(&w, &w.asked[i].probe.dns)]++;
        }
        assert_in_range(servers[0], 10, 13);
        assert_in_range(servers[1], 10, 13);
        world_done(&w);
}

static void test_a_real_transfer_counts_as_a_probe(void **state)
{
        struct world w;
        size_t before;

        (void)state;
        world_init(&w, 1, 1, 4);
        run(&w, 5 * MINUTE);
        before = w.asked_count;
        for (int i = 0; i < 40; i++) { /* 20 minutes, every 30 s */
                monitor_observed(w.m, "repo", &w.addresses[0][0], true, w.now_ms);
                run(&w, 30 * SECOND);
        }
        /* The other address has its turn all the same, every five minutes. */
        assert_in_range(w.asked_count - before, 3, 5);
        run(&w, 90 * SECOND);
        assert_true(w.asked_count - before >= 4);
        monitor_observed(w.m, "nobody", &w.addresses[0][0], true, w.now_ms);
        monitor_observed(w.m, "repo", NULL, false, w.now_ms);
        assert_events(&w, "");
        world_done(&w);
}

/* ---- failure and recovery ---- */

static void test_one_lost_packet_is_nothing(void **state)
{
        struct world w;
        size_t i;

        (void)state;
        world_init(&w, 1, 1, 5);
        run(&w, 5 * MINUTE);
        i = w.asked_count;
        w.lose = 1;
        while (w.asked_count == i)
                step(&w, w.now_ms + 2 * MINUTE);
        assert_int_equal(state_of(&w, 0), MONITOR_SUSPECT);
        run(&w, 10 * SECOND);
        /* The second attempt comes soon, at the same address. */
        assert_int_equal(w.asked_count, i + 2);
        assert_true(inet_addr_equal(&w.asked[i].probe.address, &w.asked[i + 1].probe.address));
        assert_in_range(w.asked[i + 1].at_ms - w.asked[i].at_ms, 5000, 8000);
        assert_int_equal(state_of(&w, 0), MONITOR_OK);
        assert_int_equal(w.diagnoses, 0);
        assert_events(&w, "");
        world_done(&w);
}

static void test_failed_and_re_established(void **state)
{
        struct world w;
        struct monitor_view v;
        double began_ms;

        (void)state;
        world_init(&w, 1, 1, 6);
        run(&w, 5 * MINUTE);
        set_service(&w, 0, false);
        began_ms = w.now_ms;
        run(&w, 2 * MINUTE);
        assert_int_equal(w.diagnoses, 1);
        monitor_view_service(w.m, 0, &v);
        assert_int_equal(v.state, MONITOR_FAILED);
        assert_string_equal(v.cause, "tcp.dropped");
        assert_string_equal(v.summary, "443 is dropped");
        assert_true(v.since_ms > began_ms && v.since_ms < began_ms + 90 * SECOND);
        assert_true(v.last_ok_ms <= began_ms);
        assert_events(&w, "Repo Connectivity|Repo connectivity failed|ERROR|repo|diagnosis");
        run(&w, 60 * MINUTE);
        assert_int_equal(w.diagnoses, 1);
        assert_events(&w, "");
        set_service(&w, 0, true);
        run(&w, 40 * SECOND);
        assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        monitor_view_service(w.m, 0, &v);
        assert_int_equal(v.state, MONITOR_OK);
        assert_null(v.cause);
        assert_null(v.summary);
        run(&w, 10 * MINUTE);
        assert_events(&w, "");
        world_done(&w);
}

static void test_a_service_is_probed_more_often_while_it_is_failed(void **state)
{
        struct world w;
        size_t before;

        (void)state;
        world_init(&w, 1, 1, 7);
        run(&w, 5 * MINUTE);
        set_service(&w, 0, false);
        run(&w, 5 * MINUTE);
        before = w.asked_count;
        run(&w, 10 * MINUTE);
        assert_in_range(w.asked_count - before, 30, 50);
        world_done(&w);
}

static void test_names_of_the_services(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 3, 1, 8);
        run(&w, 5 * MINUTE);
        set_service(&w, 1, false);
        run(&w, 3 * MINUTE);
        set_service(&w, 1, true);
        run(&w, 2 * MINUTE);
        assert_events(&w, "Node Disconnect|Control plane connectivity failed|ERROR|control|diagnosis\n"
                          "Node Connect|Control plane connectivity re-established|INFO|control|-");
        w.up[2][0] = false;
        run(&w, 4 * MINUTE);
        assert_events(&w, "Repo Connectivity|Repo connectivity degraded: images|WARNING|images|diagnosis");
        world_done(&w);
}

static void test_degraded_by_one_address(void **state)
{
        struct world w;
        size_t good = 0, before;

        (void)state;
        world_init(&w, 1, 1, 9);
        run(&w, 5 * MINUTE);
        w.up[0][1] = false;
        run(&w, 4 * MINUTE);
        assert_int_equal(state_of(&w, 0), MONITOR_DEGRADED);
        assert_events(&w, "Repo Connectivity|Repo connectivity degraded|WARNING|repo|diagnosis");
        before = w.asked_count;
        run(&w, 20 * MINUTE);
        for (size_t i = before; i < w.asked_count; i++)
                good += inet_addr_equal(&w.asked[i].probe.address, &w.addresses[0][0]);
        assert_in_range(good, 13, 25); /* the good one as ever */
        assert_true(w.asked_count - before > 60);
        /* Then the rest of it: something new. */
        w.up[0][0] = false;
        run(&w, 3 * MINUTE);
        assert_events(&w, "Repo Connectivity|Repo connectivity failed|ERROR|repo|diagnosis");
        assert_int_equal(w.diagnoses, 2);
        w.up[0][0] = true;
        run(&w, 90 * SECOND);
        assert_events(&w, "Repo Connectivity|Repo connectivity degraded|WARNING|repo|-");
        w.up[0][1] = true;
        run(&w, 60 * SECOND);
        assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        assert_int_equal(w.diagnoses, 2);
        world_done(&w);
}

static void test_all_addresses_back_at_once_are_one_event(void **state)
{
        struct world w;

        (void)state;
        for (uint64_t seed = 0; seed < 20; seed++) {
                world_init(&w, 2, 2, seed);
                run(&w, 5 * MINUTE);
                set_service(&w, 0, false);
                run(&w, 5 * MINUTE);
                set_service(&w, 0, true);
                run(&w, 5 * MINUTE);
                assert_events(&w, "Repo Connectivity|Repo connectivity failed|ERROR|repo|diagnosis\n"
                                  "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
                world_done(&w);
        }
}

static void test_what_changed_is_probed_at_once(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 1, 1, 10);
        run(&w, 5 * MINUTE);
        set_service(&w, 0, false);
        run(&w, 5 * MINUTE);
        strv_done(&w.events);
        set_service(&w, 0, true);
        monitor_changed(w.m, w.now_ms);
        run(&w, 4 * SECOND);
        assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        world_done(&w);
}

static void test_observed_failures_count(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 1, 1, 11);
        run(&w, 5 * MINUTE);
        set_service(&w, 0, false);
        monitor_observed(w.m, "repo", &w.addresses[0][1], false, w.now_ms);
        monitor_observed(w.m, "repo", &w.addresses[0][1], false, w.now_ms + 100);
        w.fails[0][1] = 1;
        assert_false(monitor_wants_diagnosis(w.m)); /* both broke at once */
        run(&w, 12 * SECOND);
        assert_int_equal(w.diagnoses, 1);
        assert_int_equal(state_of(&w, 0), MONITOR_FAILED);
        set_service(&w, 0, true);
        strv_done(&w.events);
        monitor_observed(w.m, "repo", &w.addresses[0][1], true, w.now_ms);
        run(&w, 6 * SECOND);
        assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        world_done(&w);
}

/* ---- diagnoses ---- */

static void test_a_healthy_diagnosis_makes_no_event_and_pauses_grow(void **state)
{
        struct world w;
        size_t before;

        (void)state;
        world_init(&w, 1, 1, 12);
        w.services[0].address_count = 1;
        run(&w, 5 * MINUTE);
        set_service(&w, 0, false);
        w.lies = true;
        run(&w, 10 * MINUTE);
        assert_in_range(w.diagnoses, 3, 10);
        before = w.diagnoses;
        run(&w, 60 * MINUTE);
        assert_in_range(w.diagnoses - before, 12, 26); /* two addresses, five minutes each */
        assert_events(&w, "");
        assert_in_range(state_of(&w, 0), MONITOR_OK, MONITOR_SUSPECT);
        world_done(&w);
}

static void test_without_a_diagnosis_the_probes_must_do(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 2, 2, 13);
        run(&w, 5 * MINUTE);
        w.no_diagnosis = true;
        set_service(&w, 0, false);
        run(&w, 5 * MINUTE);
        assert_string_equal(w.events.items[w.events.count - 1],
                "Repo Connectivity|Repo connectivity failed|ERROR|repo|-");
        strv_done(&w.events);
        set_service(&w, 0, true);
        run(&w, 2 * MINUTE);
        assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
        world_done(&w);
}

static void test_what_no_probe_sees_ends_by_a_diagnosis(void **state)
{
        struct world w;

        (void)state;
        world_init(&w, 1, 1, 14);
        run(&w, 5 * MINUTE);
        w.http_up[0] = false;
        w.after_http = true;
        w.lose = 2; /* something made it look */
        run(&w, 3 * MINUTE);
        assert_events(&w, "Repo Connectivity|Repo connectivity failed|ERROR|repo|diagnosis");
        run(&w, 10 * MINUTE);
        assert_events(&w, "");
        assert_in_range(w.diagnoses, 3, 6);
        w.http_up[0] = true;
        run(&w, 31 * MINUTE);
        assert_events(&w, "Repo Connectivity|Repo connectivity re-established|INFO|repo|diagnosis");
        world_done(&w);
}

static void test_a_report_that_is_none_does_no_harm(void **state)
{
        static const char *const reports[] = {"{}", "[]",
                "{\"services\":7,\"causes\":{},\"measurements\":\"x\"}",
                "{\"services\":[7,{\"name\":7},{\"name\":\"repo\",\"state\":[]}],\"causes\":[null]}",
                "{\"services\":[{\"name\":\"repo\",\"state\":\"blocked\",\"addresses\":[{\"address\":"
                "\"nonsense\"},3]}],"
                "\"causes\":[{\"services\":\"repo\",\"code\":{}}],\"measurements\":[{\"kind\":\"dns\","
                "\"target\":[]},4]}",
                "{\"measurements\":[{\"kind\":\"dns\",\"target\":\"198.51.100.53:53\",\"detail\":7}]}"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(reports); i++) {
                struct world w;
                json_t *j = json_loads(reports[i], 0, NULL);

                assert_non_null(j);
                world_init(&w, 2, 2, i);
                w.no_diagnosis = true;
                run(&w, 5 * MINUTE);
                monitor_diagnosed(w.m, j, w.now_ms);
                set_service(&w, 0, false);
                run(&w, 2 * MINUTE);
                monitor_diagnosed(w.m, j, w.now_ms);
                set_service(&w, 0, true);
                run(&w, 10 * MINUTE);
                assert_int_equal(state_of(&w, 0), MONITOR_OK);
                json_decref(j);
                world_done(&w);
        }
}

/* ---- bytes ---- */

static void test_probing_keeps_to_its_budget(void **state)
{
        struct world w;
        struct monitor_options o;

        (void)state;
        world_init(&w, 3, 2, 19);
        monitor_free(w.m);
        o = (struct monitor_options){.profile = &w.profile,
                .dns = w.servers,
                .dns_count = 2,
                .interval_ms = 2000, /* wants 8 kB/s */
                .bytes_per_second = 1000};
        w.m = monitor_new(&o, w.now_ms);
        run(&w, 60 * MINUTE);
        assert_true(most_bytes_in_ten_minutes(&w) <= 600000);
        assert_true(most_bytes_in_ten_minutes(&w) > 400000);
        world_done(&w);
}

/* ---- restarts ---- */

static void test_a_new_monitor_goes_on_where_the_old_one_was(void **state)
{
        struct world w;
        struct monitor_options o;
        json_t *saved;

        (void)state;
        world_init(&w, 2, 2, 20);
        run(&w, 5 * MINUTE);
        set_service(&w, 0, false);
        run(&w, 3 * MINUTE);
        strv_done(&w.events);
        for (int i = 0; i < 2; i++) { /* still failed; then well */
                saved = monitor_save(w.m);
                monitor_free(w.m);
                o = (struct monitor_options){.profile = &w.profile, .dns = w.servers, .dns_count = 2};
                w.m = monitor_new(&o, w.now_ms);
                monitor_restore(w.m, saved);
                json_decref(saved);
                run(&w, 3 * MINUTE);
                assert_events(
                        &w, i == 0 ? "" : "Repo Connectivity|Repo connectivity re-established|INFO|repo|-");
                set_service(&w, 0, true);
        }
        monitor_restore(w.m, NULL);
        saved = json_pack("{s:[i], s:i}", "services", 1, "dns", 7);
        monitor_restore(w.m, saved);
        json_decref(saved);
        world_done(&w);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_each_service_address_and_server_has_its_turn),
                cmocka_unit_test(test_moments_are_random_and_apart),
                cmocka_unit_test(test_each_server_is_asked_each_hour_without_services),
                cmocka_unit_test(test_a_real_transfer_counts_as_a_probe),
                cmocka_unit_test(test_one_lost_packet_is_nothing),
                cmocka_unit_test(test_failed_and_re_established),
                cmocka_unit_test(test_a_service_is_probed_more_often_while_it_is_failed),
                cmocka_unit_test(test_names_of_the_services),
                cmocka_unit_test(test_degraded_by_one_address),
                cmocka_unit_test(test_all_addresses_back_at_once_are_one_event),
                cmocka_unit_test(test_what_changed_is_probed_at_once),
                cmocka_unit_test(test_observed_failures_count),
                cmocka_unit_test(test_a_healthy_diagnosis_makes_no_event_and_pauses_grow),
                cmocka_unit_test(test_without_a_diagnosis_the_probes_must_do),
                cmocka_unit_test(test_what_no_probe_sees_ends_by_a_diagnosis),
                cmocka_unit_test(test_a_report_that_is_none_does_no_harm),
                cmocka_unit_test(test_probing_keeps_to_its_budget),
                cmocka_unit_test(test_a_new_monitor_goes_on_where_the_old_one_was),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
