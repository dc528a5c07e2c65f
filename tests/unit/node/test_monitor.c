#include "node/monitor.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SECOND   1000.0
#define MINUTE   60000.0
#define HOUR     3600000.0
#define SERVICES 3
#define SERVERS  2
#define PROBES   20000

/* ---- a world in which time passes as the test says ---- */

struct asked {
        double at_ms, bytes;
        struct monitor_probe probe;
};

struct world {
        struct profile profile;
        struct profile_service services[SERVICES];
        struct inet_addr addresses[SERVICES][2], servers[SERVERS];
        bool up[SERVICES][2], http_up[SERVICES], server_up[SERVERS];
        struct inet_addr gone; /* does not answer */
        bool known_by_dns;
        bool has_dns_answers; /* its answers have the addresses */
        int lose;             /* so many of the next attempts at services fail, whatever is up */
        bool lies;            /* the diagnosis finds everything well */
        bool no_diagnosis;    /* it cannot be made */
        bool is_captured;     /* servers that are down are: a route takes what is meant for them */
        double now_ms;
        struct monitor *m;
        struct asked *asked;
        size_t asked_count;
        struct strv events; /* "name|message|severity|diagnosis" */
        size_t diagnoses;
        unsigned fails[SERVICES][2], server_fails[SERVERS]; /* in a row, as the monitor heard them */
        double taken_ms;
        bool after_http; /* something was wrong that no probe sees */
};

static struct inet_addr address(const char *text)
{
        struct inet_addr a;

        assert_int_equal(inet_addr_parse(text, &a), 0);
        return a;
}

static void world_init(struct world *w, size_t services, size_t servers, uint64_t seed)
{
        static const char *const names[] = {"repo", "control", "images"};
        struct monitor_options o = {
                .profile = &w->profile, .dns = w->servers, .dns_count = servers, .seed = seed};

        *w = (struct world){.has_dns_answers = true, .now_ms = 5000};
        w->profile.services = w->services;
        w->profile.service_count = services;
        for (size_t i = 0; i < SERVICES; i++) {
                struct profile_service *s = &w->services[i];
                char text[64];

                s->name = xstrdup(names[i]);
                s->host = xasprintf("%s.grid.example", names[i]);
                s->port = i == 1 ? 8443 : 443;
                strv_add(&s->carries, i == 1 ? "control" : "updates");
                for (size_t k = 0; k < 2; k++) {
                        snprintf(text, sizeof text, k ? "203.0.113.%zu" : "198.51.100.%zu", 20 + i);
                        w->addresses[i][k] = address(text);
                        w->up[i][k] = true;
                }
                s->addresses = w->addresses[i];
                s->address_count = 2;
                w->http_up[i] = true;
        }
        w->servers[0] = address("198.51.100.53");
        w->servers[1] = address("203.0.113.53");
        w->server_up[0] = w->server_up[1] = true;
        w->asked = xcalloc(PROBES, sizeof *w->asked);
        w->m = monitor_new(&o, w->now_ms);
}

static void world_done(struct world *w)
{
        monitor_free(w->m);
        for (size_t i = 0; i < SERVICES; i++) {
                free(w->services[i].name);
                free(w->services[i].host);
                strv_done(&w->services[i].carries);
        }
        strv_done(&w->events);
        free(w->asked);
}

static size_t service_index(const struct world *w, const char *name)
{
        for (size_t i = 0; i < w->profile.service_count; i++)
                if (str_equal(w->services[i].name, name))
                        return i;
        fail_msg("no service %s", name ? name : "(none)");
        return 0;
}

static size_t server_index(const struct world *w, const struct inet_addr *a)
{
        return inet_addr_equal(a, &w->servers[1]);
}

static void take_events(struct world *w)
{
        struct monitor_event *e = NULL;
        size_t count = monitor_take_events(w->m, &e);

        for (size_t i = 0; i < count; i++) {
                strv_take(&w->events, xasprintf("%s|%s|%s|%s|%s", e[i].event.name, e[i].event.message,
                                              wire_severity_to_string(e[i].event.severity),
                                              e[i].event.service ? e[i].event.service : "-",
                                              e[i].has_diagnosis ? "diagnosis" : "-"));
                wire_event_done(&e[i].event);
        }
        free(e);
}

/* What a diagnosis would say of the world as it is. */
static json_t *report(const struct world *w)
{
        json_t *services = json_array(), *measurements = json_array(), *causes = json_array();
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < w->profile.service_count; i++) {
                json_t *list = json_array();
                bool nowhere = w->known_by_dns && !w->server_up[0];
                size_t bad = nowhere ? 2 : 0;

                for (size_t k = 0; k < 2 && !nowhere; k++) {
                        bool ok = w->lies || (w->up[i][k] && w->http_up[i]);

                        bad += !ok;
                        json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "address",
                                                            inet_addr_format(&w->addresses[i][k], text),
                                                            "state", ok ? "ok" : "blocked", "stage",
                                                            ok || !w->http_up[i] ? "http" : "tcp"));
                }
                json_array_append_new(
                        services, json_pack("{s:s, s:s, s:s, s:o}", "name", w->services[i].name, "state",
                                          bad == 0   ? "ok"
                                          : bad == 2 ? "blocked"
                                                     : "degraded",
                                          "stage",
                                          nowhere                ? "dns"
                                          : bad && w->http_up[i] ? "tcp"
                                                                 : "http",
                                          "addresses", list));
                if (bad)
                        json_array_append_new(causes, json_pack("{s:s, s:[s], s:[]}", "code", "tcp.dropped",
                                                              "services", w->services[i].name, "targets"));
        }
        for (size_t k = 0; k < SERVERS; k++)
                for (size_t i = 0; i < w->profile.service_count; i++) {
                        _cleanup_free_ char *target =
                                xasprintf("%s:53", inet_addr_format(&w->servers[k], text));

                        json_array_append_new(measurements,
                                json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:i}}", "kind", "dns", "target",
                                        target, "outcome", w->lies || w->server_up[k] ? "ok" : "timeout",
                                        "detail", "name", w->services[i].host, "transport", "udp", "dns_type",
                                        1));
                        if (!w->lies && !w->server_up[k]) /* as when a route takes it: bound, it answers */
                                json_array_append_new(measurements,
                                        json_pack("{s:s, s:s, s:s, s:{s:s, s:s, s:i, s:s}}", "kind", "dns",
                                                "target", target, "outcome", "ok", "detail", "name",
                                                w->services[i].host, "transport", "udp", "dns_type", 1,
                                                "interface", "eth0"));
                        if (!w->lies && !w->server_up[k] && i == 0)
                                json_array_append_new(
                                        causes, json_pack("{s:s, s:[], s:[s]}", "code",
                                                        w->is_captured ? "route.captured" : "dns.timeout",
                                                        "services", "targets", target));
                }
        return json_pack("{s:i, s:o, s:o, s:o}", "schema", 1, "services", services, "causes", causes,
                "measurements", measurements);
}

static void diagnose(struct world *w)
{
        json_t *j = w->no_diagnosis ? NULL : report(w);

        w->diagnoses++;
        w->now_ms += 2 * SECOND;
        monitor_diagnosed(w->m, j, w->now_ms);
        json_decref(j);
}

static void probe(struct world *w, const struct monitor_probe *p)
{
        size_t server = server_index(w, &p->dns), i = p->service ? service_index(w, p->service) : 0;
        struct monitor_result r = {.address = p->address, .bytes = 300};
        struct asked *a = &w->asked[w->asked_count++];

        assert_in_range(w->asked_count, 1, PROBES - 1);
        *a = (struct asked){.at_ms = w->now_ms, .probe = *p};
        w->taken_ms = 30;
        if (inet_addr_is_set(&p->dns)) {
                r.dns_known = true;
                r.dns_ok = w->server_up[server];
                w->server_fails[server] = r.dns_ok ? 0 : w->server_fails[server] + 1;
                if (r.dns_ok && w->has_dns_answers) {
                        r.addresses = w->addresses[i];
                        r.address_count = 2;
                }
                w->taken_ms += r.dns_ok ? 0 : 1000;
        }
        if (p->kind == MONITOR_SERVICE) {
                size_t k = inet_addr_equal(&p->address, &w->addresses[i][1]);
                bool nowhere = !inet_addr_is_set(&p->address) && !r.dns_ok;

                assert_true(w->known_by_dns || inet_addr_is_set(&p->address));
                if (!inet_addr_is_set(&p->address))
                        r.address = w->addresses[i][0];
                r.service_known = !nowhere;
                r.service_ok = !nowhere && w->up[i][k] && w->lose == 0 &&
                               (!w->gone.family || !inet_addr_equal(&p->address, &w->gone));
                w->lose -= w->lose > 0;
                w->fails[i][k] = r.service_ok || nowhere ? 0 : w->fails[i][k] + 1;
                r.bytes += r.service_ok ? 5200 : 800;
                w->taken_ms += r.service_ok ? 20 : 1500;
        }
        a->bytes = r.bytes;
        w->now_ms += w->taken_ms;
        monitor_done(w->m, p, &r, w->now_ms);
}

/* A diagnosis without two failures in a row of one target would be one for nothing. */
static void check_reason(const struct world *w)
{
        unsigned most = 0;

        for (size_t i = 0; i < SERVICES; i++)
                for (size_t k = 0; k < 2; k++)
                        most = w->fails[i][k] > most ? w->fails[i][k] : most;
        for (size_t k = 0; k < SERVERS; k++)
                most = w->server_fails[k] > most ? w->server_fails[k] : most;
        for (size_t i = 0; i < SERVICES; i++)
                most = w->http_up[i] ? most : 2; /* what a diagnosis found is looked at again */
        most = w->after_http ? 2 : most;
        assert_true(most >= 2);
}

/* One step, not beyond `until_ms`. */
static void step(struct world *w, double until_ms)
{
        struct monitor_probe p;
        double next_ms;

        if (monitor_next(w->m, w->now_ms, &p, &next_ms))
                probe(w, &p);
        else if (!monitor_wants_diagnosis(w->m)) {
                assert_true(next_ms >= w->now_ms);
                w->now_ms = fmin(fmax(next_ms, w->now_ms + 0.001), until_ms);
        }
        take_events(w);
        if (monitor_wants_diagnosis(w->m)) {
                check_reason(w);
                diagnose(w);
                take_events(w);
        }
}

static void run(struct world *w, double for_ms)
{
        double until_ms = w->now_ms + for_ms;

        while (w->now_ms < until_ms)
                step(w, until_ms);
}

static void assert_events(struct world *w, const char *wanted)
{
        _cleanup_free_ char *got = strv_join(&w->events, "\n");

        assert_string_equal(got, wanted);
        strv_done(&w->events);
}

static enum monitor_state state_of(const struct world *w, size_t i)
{
        struct monitor_view v;

        monitor_view_service(w->m, i, &v);
        return v.state;
}

static void set_service(struct world *w, size_t i, bool up)
{
        w->up[i][0] = w->up[i][1] = up;
}

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

/* ---- DNS ---- */

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

/* ---- flapping ---- */

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

/* ---- bytes ---- */

static double most_bytes_in_ten_minutes(const struct world *w)
{
        double most = 0, sum = 0;

        for (size_t i = 0, from = 0; i < w->asked_count; i++) {
                sum += w->asked[i].bytes;
                while (w->asked[from].at_ms < w->asked[i].at_ms - 10 * MINUTE)
                        sum -= w->asked[from++].bytes;
                most = fmax(most, sum);
        }
        return most;
}

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
                cmocka_unit_test(test_dns),
                cmocka_unit_test(test_a_server_behind_a_captured_route),
                cmocka_unit_test(test_both_servers_at_once_are_one_event),
                cmocka_unit_test(test_addresses_are_learnt_and_forgotten),
                cmocka_unit_test(test_no_address_is_known_and_no_name_resolves),
                cmocka_unit_test(test_flapping_is_one_event),
                cmocka_unit_test(test_flapping_that_ends_failed_is_told_once),
                cmocka_unit_test(test_outages_are_no_flapping),
                cmocka_unit_test(test_the_next_outage_is_told_as_soon_as_the_first),
                cmocka_unit_test(test_probing_keeps_to_its_budget),
                cmocka_unit_test(test_a_new_monitor_goes_on_where_the_old_one_was),
                cmocka_unit_test(test_an_hour_of_mixed_faults),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
