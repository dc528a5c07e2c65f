#include "monitor_world.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBES 20000

struct inet_addr address(const char *text)
{
        struct inet_addr a;

        assert_int_equal(inet_addr_parse(text, &a), 0);
        return a;
}

void world_init(struct world *w, size_t services, size_t servers, uint64_t seed)
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

void world_done(struct world *w)
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

size_t service_index(const struct world *w, const char *name)
{
        for (size_t i = 0; i < w->profile.service_count; i++)
                if (str_equal(w->services[i].name, name))
                        return i;
        fail_msg("no service %s", name ? name : "(none)");
        return 0;
}

size_t server_index(const struct world *w, const struct inet_addr *a)
{
        return inet_addr_equal(a, &w->servers[1]);
}

void take_events(struct world *w)
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
                        json_array_append_new(causes,
                                json_pack("{s:s, s:s, s:[s], s:[]}", "code", "tcp.dropped", "summary",
                                        "443 is dropped", "services", w->services[i].name, "targets"));
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

void step(struct world *w, double until_ms)
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

void run(struct world *w, double for_ms)
{
        double until_ms = w->now_ms + for_ms;

        while (w->now_ms < until_ms)
                step(w, until_ms);
}

void assert_events(struct world *w, const char *wanted)
{
        _cleanup_free_ char *got = strv_join(&w->events, "\n");

        assert_string_equal(got, wanted);
        strv_done(&w->events);
}

enum monitor_state state_of(const struct world *w, size_t i)
{
        struct monitor_view v;

        monitor_view_service(w->m, i, &v);
        return v.state;
}

void set_service(struct world *w, size_t i, bool up)
{
        w->up[i][0] = w->up[i][1] = up;
}

double most_bytes_in_ten_minutes(const struct world *w)
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
