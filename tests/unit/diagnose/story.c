// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const targets[] = {REPO1, REPO2, CONTROL1, CONTROL2};
static const char *const servers[] = {DNS1, DNS2};

/* ---- rows ---- */

struct measurement *story_add(struct story *s, enum measurement_kind kind, const char *target)
{
        struct probe_spec spec = {.kind = kind};
        struct measurement *m;

        if (target && endpoint_parse(target, &spec.target) < 0)
                fail_msg("no endpoint: %s", target);
        m = measurement_new(&spec);
        m->outcome = OUTCOME_OK;
        m->at_ms = 1;
        str_copy(m->source, sizeof m->source, "192.0.2.10");
        measurement_list_take(&s->list, m);
        return m;
}

static bool fits(const struct measurement *m, enum measurement_kind kind, const char *target)
{
        struct endpoint e;

        if (m->spec.kind != kind)
                return false;
        return !target || (endpoint_parse(target, &e) == 0 && endpoint_equal(&e, &m->spec.target));
}

static struct measurement *find(
        struct story *s, enum measurement_kind kind, enum probe_purpose purpose, const char *target)
{
        for (size_t i = 0; i < s->list.count; i++)
                if (fits(s->list.items[i], kind, target) && s->list.items[i]->spec.purpose == purpose)
                        return s->list.items[i];
        return NULL;
}

struct measurement *story_find(
        struct story *s, enum measurement_kind kind, enum probe_purpose purpose, const char *target)
{
        struct measurement *m = find(s, kind, purpose, target);

        if (!m)
                fail_msg("the story has no %s %s", measurement_kind_to_string(kind), target ? target : "");
        return m;
}

void story_drop(struct story *s, enum measurement_kind kind, const char *target)
{
        size_t kept = 0;

        for (size_t i = 0; i < s->list.count; i++)
                if (fits(s->list.items[i], kind, target))
                        measurement_free(s->list.items[i]);
                else
                        s->list.items[kept++] = s->list.items[i];
        s->list.count = kept;
}

void story_done(struct story *s)
{
        conclusion_done(&s->conclusion);
        measurement_list_done(&s->list);
}

/* ---- the site ---- */

static void add_service(struct story *s, const char *name, const char *host, uint16_t port,
        enum service_tls tls, const char *one, const char *other)
{
        struct measurement *m = story_add(s, MEASUREMENT_SERVICE, NULL);

        str_copy(m->spec.service, sizeof m->spec.service, name);
        str_copy(m->spec.name, sizeof m->spec.name, host);
        m->spec.target.port = port;
        m->spec.tls = tls;
        strv_add(&m->addresses, one);
        strv_add(&m->addresses, other);
        strv_add(&m->carries, tls == SERVICE_TLS_MUTUAL ? "commands" : "updates");
}

void story_configured(struct story *s)
{
        struct measurement *m = story_add(s, MEASUREMENT_PROFILE, NULL);

        strv_add(&m->ranges, "198.51.100.16/28");
        strv_add(&m->ranges, "203.0.113.192/28");
        m = story_add(s, MEASUREMENT_SITE, NULL);
        str_copy(m->spec.interface, sizeof m->spec.interface, "eth0");
        strv_add(&m->servers, "198.51.100.53");
        strv_add(&m->servers, "203.0.113.53");
        inet_addr_parse(GATEWAY, &m->gateway);
        m->has_certificate = YES;
        add_service(s, "repo", REPO, 443, SERVICE_TLS_SERVER, "198.51.100.20", "203.0.113.200");
        add_service(s, "control", CONTROL, 8443, SERVICE_TLS_MUTUAL, "198.51.100.21", "203.0.113.201");
}

static struct measurement *local_row(
        struct story *s, enum measurement_kind kind, const char *target, const char *interface)
{
        struct measurement *m = story_add(s, kind, target);

        str_copy(m->spec.interface, sizeof m->spec.interface, interface);
        return m;
}

static void add_host(struct story *s)
{
        struct measurement *m = local_row(s, MEASUREMENT_LINK, NULL, "eth0");

        m->link_up = m->carrier = YES;
        m = local_row(s, MEASUREMENT_ADDRESS, NULL, "eth0");
        strv_add(&m->addresses, "192.0.2.10/24");
        m->source_is_here = YES;
        m->only_link_local = NO;
        m = local_row(s, MEASUREMENT_NEIGHBOUR, GATEWAY, "eth0");
        str_copy(m->neighbour_state, sizeof m->neighbour_state, "reachable");
        m = local_row(s, MEASUREMENT_ARP, GATEWAY, "eth0");
        m->spec.purpose = PURPOSE_GATEWAY;
        m->arp_probes_sent = 1;
        str_copy(m->mac, sizeof m->mac, "02:00:00:00:00:01");
        m = local_row(s, MEASUREMENT_ARP, "192.0.2.10", "eth0");
        m->spec.purpose = PURPOSE_CONFLICT;
        m->outcome = OUTCOME_TIMEOUT;
        m->arp_probes_sent = 3;
        story_add(s, MEASUREMENT_CAPTURE, NULL);
}

static struct measurement *add_route(struct story *s, const char *target, enum probe_transport transport)
{
        struct measurement *m = story_add(s, MEASUREMENT_ROUTE, target);

        m->spec.transport = transport;
        str_copy(m->route_interface, sizeof m->route_interface, "eth0");
        inet_addr_parse(GATEWAY, &m->next_hop);
        str_copy(m->route_prefix, sizeof m->route_prefix, "default");
        str_copy(m->route_type, sizeof m->route_type, "unicast");
        m->route_text = xstrdup("default via " GATEWAY);
        return m;
}

static void add_routes(struct story *s)
{
        for (size_t i = 0; i < ELEMENTS(servers); i++) {
                add_route(s, servers[i], TRANSPORT_UDP);
                add_route(s, servers[i], TRANSPORT_TCP);
        }
        for (size_t i = 0; i < ELEMENTS(targets); i++)
                add_route(s, targets[i], TRANSPORT_TCP);
}

static void add_question(
        struct story *s, const char *server, enum probe_transport transport, const char *host, uint16_t type)
{
        struct measurement *m = story_add(s, MEASUREMENT_DNS, server);

        m->spec.transport = transport;
        m->spec.dns_type = type;
        str_copy(m->spec.name, sizeof m->spec.name, host);
        m->answered = m->left_host = m->reply_seen = YES;
        m->tries = 1;
        m->rtt_ms = 21;
        m->stage = STAGE_DNS;
        if (type != 1)
                m->outcome = OUTCOME_NO_DATA;
        else if (str_equal(host, REPO))
                strv_split(&m->addresses, "198.51.100.20 203.0.113.200", ' ');
        else
                strv_split(&m->addresses, "198.51.100.21 203.0.113.201", ' ');
}

static void add_interception(struct story *s, const char *target)
{
        struct measurement *m = story_add(s, MEASUREMENT_DNS, target);

        m->spec.purpose = PURPOSE_INTERCEPTION;
        m->spec.transport = TRANSPORT_UDP;
        m->spec.dns_type = 1;
        str_copy(m->spec.name, sizeof m->spec.name, REPO);
        m->outcome = OUTCOME_REJECTED;
        m->by = m->spec.target.address;
        m->icmp_type = m->icmp_code = 3;
}

static void add_dns(struct story *s)
{
        for (size_t i = 0; i < ELEMENTS(servers); i++)
                for (enum probe_transport t = TRANSPORT_UDP; t <= TRANSPORT_TCP; t++) {
                        add_question(s, servers[i], t, REPO, 1);
                        add_question(s, servers[i], t, REPO, 28);
                        add_question(s, servers[i], t, CONTROL, 1);
                        add_question(s, servers[i], t, CONTROL, 28);
                }
        add_interception(s, "198.51.100.20:53");
        add_interception(s, "203.0.113.200:53");
}

void story_healthy(struct story *s)
{
        story_configured(s);
        add_host(s);
        add_routes(s);
        add_dns(s);
        for (size_t i = 0; i < ELEMENTS(targets); i++)
                story_tcp(s, targets[i], OUTCOME_OK);
        for (size_t i = 0; i < ELEMENTS(targets); i++)
                story_tls(s, targets[i], OUTCOME_OK);
        story_http(s, REPO1, 200);
        story_http(s, CONTROL1, 200);
}

void story_no_ranges(struct story *s)
{
        strv_done(&story_find(s, MEASUREMENT_PROFILE, PURPOSE_SERVICE, NULL)->ranges);
}

void story_no_addresses(struct story *s)
{
        for (size_t i = 0; i < s->list.count; i++)
                if (s->list.items[i]->spec.kind == MEASUREMENT_SERVICE)
                        strv_done(&s->list.items[i]->addresses);
}

void story_no_certificate(struct story *s)
{
        story_find(s, MEASUREMENT_SITE, PURPOSE_SERVICE, NULL)->has_certificate = NO;
}

void story_no_capture(struct story *s)
{
        for (size_t i = 0; i < s->list.count; i++) {
                struct measurement *m = s->list.items[i];

                m->left_host = m->reply_seen = UNKNOWN;
                m->reply_ttl = 0;
                m->reply_interface[0] = 0;
                if (m->spec.kind == MEASUREMENT_CAPTURE || m->spec.kind == MEASUREMENT_ARP)
                        m->outcome = OUTCOME_NOT_PERMITTED;
        }
}

void story_no_icmp(struct story *s)
{
        for (size_t i = 0; i < s->list.count; i++) {
                struct measurement *m = s->list.items[i];

                if (m->spec.kind == MEASUREMENT_HOP && m->hop_answer == HOP_TIME_EXCEEDED) {
                        m->outcome = OUTCOME_TIMEOUT;
                        m->hop_answer = HOP_SILENT;
                        m->by = (struct inet_addr){0};
                }
        }
}

void story_lan(struct story *s, const char *interface, const char *route)
{
        struct measurement *m = local_row(s, MEASUREMENT_LAN, NULL, interface);

        strv_add(&m->addresses, "10.20.0.2/24");
        if (route)
                strv_add(&m->configured_routes, route);
        m = local_row(s, MEASUREMENT_LINK, NULL, interface);
        m->link_up = m->carrier = YES;
}

struct measurement *story_route(struct story *s, const char *target, const char *route, const char *interface)
{
        struct measurement *last = NULL;

        for (size_t i = 0; i < s->list.count; i++) {
                struct measurement *m = s->list.items[i];

                if (!fits(m, MEASUREMENT_ROUTE, target))
                        continue;
                str_copy(m->route_interface, sizeof m->route_interface, interface);
                str_copy(m->route_prefix, sizeof m->route_prefix, route);
                m->route_prefix[strcspn(m->route_prefix, " ")] = 0;
                m->next_hop = (struct inet_addr){0};
                if (strstr(route, " via "))
                        inet_addr_parse(strstr(route, " via ") + 5, &m->next_hop);
                free(m->route_text);
                m->route_text = xstrdup(route);
                last = m;
        }
        assert_non_null(last);
        return last;
}

void story_no_route(struct story *s, const char *target, const char *type)
{
        for (size_t i = 0; i < s->list.count; i++) {
                struct measurement *m = s->list.items[i];

                if (!fits(m, MEASUREMENT_ROUTE, target))
                        continue;
                m->route_interface[0] = 0;
                m->next_hop = (struct inet_addr){0};
                free(m->route_text);
                m->route_text = type[0] ? xasprintf("%s default", type) : NULL;
                str_copy(m->route_type, sizeof m->route_type, type);
                m->outcome = type[0] ? OUTCOME_OK : OUTCOME_MISSING;
                m->error_number = type[0] ? 0 : ENETUNREACH;
        }
}

/* ---- services ---- */

static bool is_port(const char *target, uint16_t port)
{
        struct endpoint e;

        return endpoint_parse(target, &e) == 0 && e.port == port;
}

static void name_it(struct measurement *m)
{
        bool repo = m->spec.target.port == 443;

        str_copy(m->spec.service, sizeof m->spec.service, repo ? "repo" : "control");
        str_copy(m->spec.name, sizeof m->spec.name, repo ? REPO : CONTROL);
        m->spec.tls = repo ? SERVICE_TLS_SERVER : SERVICE_TLS_MUTUAL;
}

static void set_tcp(struct measurement *m, enum measurement_outcome outcome)
{
        bool ok = outcome == OUTCOME_OK;

        m->outcome = outcome;
        m->stage = STAGE_TCP;
        m->tries = ok || outcome == OUTCOME_RESET || outcome == OUTCOME_REJECTED ? 1 : 5;
        m->took_ms = ok ? 20 : 1000;
        m->rtt_ms = ok ? 20 : 0;
        m->left_host = outcome == OUTCOME_LOCAL_ERROR ? NO : YES;
        m->reply_seen = ok ? YES : NO;
        m->reply_ttl = ok ? STORY_TTL : 0;
        str_copy(m->reply_interface, sizeof m->reply_interface, ok ? "eth0" : "");
}

struct measurement *story_tcp(struct story *s, const char *target, enum measurement_outcome outcome)
{
        struct measurement *m = find(s, MEASUREMENT_TCP, PURPOSE_SERVICE, target);

        if (!m)
                m = story_add(s, MEASUREMENT_TCP, target);
        set_tcp(m, outcome);
        if (outcome != OUTCOME_OK) {
                story_drop(s, MEASUREMENT_TLS, target);
                story_drop(s, MEASUREMENT_HTTP, target);
        }
        return m;
}

void story_port(struct story *s, uint16_t port, enum measurement_outcome outcome)
{
        for (size_t i = 0; i < ELEMENTS(targets); i++)
                if (is_port(targets[i], port))
                        story_tcp(s, targets[i], outcome);
}

void story_range(struct story *s, const char *prefix, uint16_t port, enum measurement_outcome outcome)
{
        for (size_t i = 0; i < ELEMENTS(targets); i++)
                if (is_port(targets[i], port) && str_starts_with(targets[i], prefix))
                        story_tcp(s, targets[i], outcome);
}

struct measurement *story_rejected(struct story *s, const char *target, const char *by)
{
        struct measurement *m = story_tcp(s, target, OUTCOME_REJECTED);

        inet_addr_parse(by, &m->by);
        m->icmp_type = 3;
        m->icmp_code = 13;
        return m;
}

struct measurement *story_reset(struct story *s, const char *target, int ttl)
{
        struct measurement *m = story_tcp(s, target, OUTCOME_RESET);

        m->reply_ttl = ttl;
        str_copy(m->reply_interface, sizeof m->reply_interface, ttl ? "eth0" : "");
        return m;
}

static struct measurement *tcp_beside(
        struct story *s, const char *target, enum probe_purpose purpose, enum measurement_outcome outcome)
{
        struct measurement *m = story_add(s, MEASUREMENT_TCP, target);

        m->spec.purpose = purpose;
        set_tcp(m, outcome);
        return m;
}

struct measurement *story_device(struct story *s, const char *target, enum measurement_outcome outcome)
{
        struct measurement *m = tcp_beside(s, target, PURPOSE_DEVICE, outcome);

        str_copy(m->spec.interface, sizeof m->spec.interface, "eth0");
        return m;
}

struct measurement *story_repeat(struct story *s, const char *target, enum measurement_outcome outcome)
{
        return tcp_beside(s, target, PURPOSE_REPEAT, outcome);
}

static void set_tls(struct measurement *m, enum measurement_outcome outcome)
{
        bool chain = outcome == OUTCOME_OK || outcome == OUTCOME_UNTRUSTED;

        m->outcome = outcome;
        m->stage = STAGE_TLS;
        m->server_hello_seen = chain ? YES : NO;
        m->hello_acked = YES;
        if (!chain)
                return;
        m->chain_trusted = m->chain_name_matches = m->chain_time_valid = YES;
        m->local_unix = STORY_NOW;
        m->not_before_unix = STORY_NOW - 30 * DAYS;
        m->not_after_unix = STORY_NOW + 60 * DAYS;
}

struct measurement *story_tls(struct story *s, const char *target, enum measurement_outcome outcome)
{
        struct measurement *m = find(s, MEASUREMENT_TLS, PURPOSE_SERVICE, target);

        if (!m)
                m = story_add(s, MEASUREMENT_TLS, target);
        name_it(m);
        set_tls(m, outcome);
        if (outcome != OUTCOME_OK)
                story_drop(s, MEASUREMENT_HTTP, target);
        return m;
}

struct measurement *story_tls_ab(
        struct story *s, const char *target, enum probe_purpose purpose, enum measurement_outcome outcome)
{
        struct measurement *m = story_add(s, MEASUREMENT_TLS, target);

        name_it(m);
        m->spec.purpose = purpose;
        m->spec.mss = purpose == PURPOSE_CLAMP ? 536 : 0;
        set_tls(m, outcome);
        return m;
}

struct measurement *story_http(struct story *s, const char *target, int status)
{
        struct measurement *m = find(s, MEASUREMENT_HTTP, PURPOSE_SERVICE, target);

        if (!m)
                m = story_add(s, MEASUREMENT_HTTP, target);
        name_it(m);
        m->outcome = OUTCOME_OK;
        m->stage = STAGE_HTTP;
        m->http_status = status;
        m->peer_unix = STORY_NOW;
        return m;
}

struct measurement *story_payload(
        struct story *s, const char *target, unsigned attempt, enum measurement_outcome outcome)
{
        struct measurement *m = story_add(s, MEASUREMENT_HTTP, target);

        name_it(m);
        m->spec.purpose = PURPOSE_PAYLOAD;
        m->spec.attempt = attempt;
        m->spec.expect_bytes = 262144;
        m->outcome = outcome;
        m->stage = STAGE_HTTP;
        m->http_status = 200;
        m->body_bytes = outcome == OUTCOME_OK ? 262144 : 65536;
        return m;
}

void story_peer_time(struct story *s, const char *target, int64_t lead_s)
{
        struct measurement *m = story_add(s, MEASUREMENT_HTTP, target);

        name_it(m);
        m->spec.purpose = PURPOSE_TIME;
        m->stage = STAGE_HTTP;
        m->http_status = 200;
        m->peer_unix = STORY_NOW - lead_s;
}

struct measurement *story_proxy(struct story *s, const char *target, int status)
{
        struct measurement *m = story_add(s, MEASUREMENT_HTTP, target);
        struct measurement *site = story_find(s, MEASUREMENT_SITE, PURPOSE_SERVICE, NULL);

        str_copy(site->spec.proxy, sizeof site->spec.proxy, "http://192.0.2.80:3128");
        name_it(m);
        m->spec.purpose = PURPOSE_PROXY;
        str_copy(m->spec.proxy, sizeof m->spec.proxy, site->spec.proxy);
        m->stage = STAGE_HTTP;
        m->proxy_status = status;
        m->http_status = status == 200 ? 200 : 0;
        m->outcome = status == 200 ? OUTCOME_OK : OUTCOME_PROTOCOL;
        return m;
}

/* ---- DNS ---- */

static bool is_question(const struct measurement *m, const char *server)
{
        return fits(m, MEASUREMENT_DNS, server) && m->spec.purpose == PURPOSE_SERVICE;
}

void story_server(
        struct story *s, const char *server, enum probe_transport transport, enum measurement_outcome outcome)
{
        for (size_t i = 0; i < s->list.count; i++) {
                struct measurement *m = s->list.items[i];

                if (!is_question(m, server) || m->spec.transport != transport)
                        continue;
                m->outcome = outcome;
                m->answered = NO;
                m->reply_seen = NO;
                m->rtt_ms = 0;
                m->tries = 3;
                strv_done(&m->addresses);
        }
}

struct measurement *story_server_row(
        struct story *s, const char *server, enum probe_transport transport, const char *name)
{
        for (size_t i = 0; i < s->list.count; i++) {
                struct measurement *m = s->list.items[i];

                if (is_question(m, server) && m->spec.transport == transport && m->spec.dns_type == 1 &&
                        str_equal(m->spec.name, name))
                        return m;
        }
        fail_msg("the story has no such question");
        return NULL;
}

void story_server_dead(struct story *s, const char *server)
{
        story_server(s, server, TRANSPORT_UDP, OUTCOME_TIMEOUT);
        story_server(s, server, TRANSPORT_TCP, OUTCOME_TIMEOUT);
}

static void set_answers(struct story *s, const char *server, const char *name,
        enum measurement_outcome outcome, int rcode, const char *address)
{
        for (size_t i = 0; i < s->list.count; i++) {
                struct measurement *m = s->list.items[i];

                if (!is_question(m, server) || (name && !str_equal(m->spec.name, name)) ||
                        (address && m->spec.dns_type != 1))
                        continue;
                strv_done(&m->addresses);
                m->outcome = outcome;
                m->rcode = rcode;
                if (address)
                        strv_add(&m->addresses, address);
        }
}

void story_rcode(struct story *s, const char *server, const char *name, int rcode)
{
        set_answers(s, server, name, OUTCOME_RCODE, rcode, NULL);
}

void story_no_data(struct story *s, const char *server, const char *name)
{
        set_answers(s, server, name, OUTCOME_NO_DATA, 0, NULL);
}

void story_answer(struct story *s, const char *server, const char *name, const char *address)
{
        set_answers(s, server, name, OUTCOME_OK, 0, address);
}

void story_interception(struct story *s, const char *address)
{
        struct measurement *m = story_find(s, MEASUREMENT_DNS, PURPOSE_INTERCEPTION, address);

        m->outcome = OUTCOME_OK;
        m->answered = YES;
        strv_add(&m->addresses, "198.51.100.20");
}

void story_silence(struct story *s)
{
        story_server_dead(s, NULL);
        story_find(s, MEASUREMENT_DNS, PURPOSE_INTERCEPTION, "198.51.100.20:53")->outcome = OUTCOME_TIMEOUT;
        story_find(s, MEASUREMENT_DNS, PURPOSE_INTERCEPTION, "203.0.113.200:53")->outcome = OUTCOME_TIMEOUT;
        story_port(s, 443, OUTCOME_TIMEOUT);
        story_port(s, 8443, OUTCOME_TIMEOUT);
}

/* ---- traces ---- */

struct measurement *story_hop(
        struct story *s, const char *target, uint8_t ttl, enum hop_answer answer, const char *by)
{
        struct measurement *m = story_add(s, MEASUREMENT_HOP, target);

        m->spec.ttl = ttl;
        m->hop_answer = answer;
        m->outcome = answer == HOP_SILENT        ? OUTCOME_TIMEOUT
                     : answer == HOP_UNREACHABLE ? OUTCOME_REJECTED
                     : answer == HOP_RESET       ? OUTCOME_RESET
                                                 : OUTCOME_OK;
        if (by)
                inet_addr_parse(by, &m->by);
        if (answer == HOP_UNREACHABLE) {
                m->icmp_type = 3;
                m->icmp_code = 13;
        }
        return m;
}

/* Something that passes is traced beside it: where the routers further on answer that one, their silence
 * towards the other is no lack of ICMP errors to spend. */
static void trace_beside(struct story *s)
{
        char target[INET_ADDR_TEXT] = "";

        for (size_t i = 0; !target[0] && i < s->list.count; i++) {
                const struct measurement *m = s->list.items[i];

                if ((m->spec.kind == MEASUREMENT_TCP || m->spec.transport == TRANSPORT_TCP) &&
                        (m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_DNS) &&
                        m->spec.purpose == PURPOSE_SERVICE && m->outcome == OUTCOME_OK)
                        endpoint_format(&m->spec.target, target);
        }
        if (!target[0] || find(s, MEASUREMENT_HOP, PURPOSE_SERVICE, target))
                return;
        story_hop(s, target, 2, HOP_TIME_EXCEEDED, ROUTER);
        story_hop(s, target, 3, HOP_SYN_ACK, NULL);
}

void story_trace(struct story *s, const char *target, int hops)
{
        static const char *const routers[] = {GATEWAY, ROUTER};

        for (int i = 1; i <= hops + 4; i++)
                story_hop(s, target, (uint8_t)i, i <= hops ? HOP_TIME_EXCEEDED : HOP_SILENT,
                        i <= hops ? routers[i - 1] : NULL);
        if (hops)
                trace_beside(s);
}

/* ---- what is concluded ---- */

void story_conclude(struct story *s)
{
        conclusion_done(&s->conclusion);
        s->conclusion = (struct conclusion){0};
        diagnose_conclude(&s->list, &s->conclusion);
}

const char *story_codes(struct story *s)
{
        size_t at = 0;

        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.cause_count; i++) {
                const struct cause *c = &s->conclusion.causes[i];
                bool warning = c->severity == SEVERITY_WARNING;

                at += (size_t)snprintf(s->codes + at, sizeof s->codes - at, "%s%s%s%s", i ? " " : "",
                        warning ? "(" : "", c->info->text, warning ? ")" : "");
                if (at >= sizeof s->codes)
                        fail_msg("too many causes");
        }
        return s->codes;
}

static void print_conclusion(const struct story *s)
{
        print_error("%s: %s\n", verdict_to_string(s->conclusion.verdict), s->conclusion.summary);
        for (size_t i = 0; i < s->conclusion.cause_count; i++)
                print_error(
                        "  %s: %s\n", s->conclusion.causes[i].info->text, s->conclusion.causes[i].summary);
        for (size_t i = 0; i < s->conclusion.service_count; i++)
                print_error("  %s %s\n", s->conclusion.services[i].name,
                        service_state_to_string(s->conclusion.services[i].state));
}

void story_assert(struct story *s, const char *verdict, const char *codes, const char *file, int line)
{
        story_conclude(s);
        if (!str_equal(story_codes(s), codes) ||
                !str_equal(verdict_to_string(s->conclusion.verdict), verdict)) {
                print_error("expected %s [%s], concluded %s [%s]\n", verdict, codes,
                        verdict_to_string(s->conclusion.verdict), story_codes(s));
                print_conclusion(s);
                _fail(file, line);
        }
        for (size_t i = 0; i < s->conclusion.cause_count; i++) {
                const struct cause *c = &s->conclusion.causes[i];

                if (str_is_empty(c->summary) || str_is_empty(c->remedy) || !c->evidence_count) {
                        print_error("%s lacks its sentence, remedy or evidence\n", c->info->text);
                        _fail(file, line);
                }
        }
}

struct cause *story_cause(struct story *s, const char *code)
{
        for (size_t i = 0; i < s->conclusion.cause_count; i++)
                if (str_equal(s->conclusion.causes[i].info->text, code))
                        return &s->conclusion.causes[i];
        fail_msg("%s was not concluded", code);
        return NULL;
}

static void append(struct story *s, const char *a, const char *separator, const char *b)
{
        size_t at = strlen(s->codes);

        snprintf(s->codes + at, sizeof s->codes - at, "%s%s%s%s", at ? " " : "", a, separator, b);
}

const char *story_targets(struct story *s, const char *code)
{
        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.cause_count; i++)
                if (str_equal(s->conclusion.causes[i].info->text, code))
                        for (size_t k = 0; k < s->conclusion.causes[i].targets.count; k++)
                                append(s, s->conclusion.causes[i].targets.items[k], "", "");
        return s->codes;
}

const char *story_states(struct story *s)
{
        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.service_count; i++)
                append(s, s->conclusion.services[i].name, "=",
                        service_state_to_string(s->conclusion.services[i].state));
        return s->codes;
}

const char *story_addresses(struct story *s, const char *service)
{
        char text[INET_ADDR_TEXT];

        s->codes[0] = 0;
        for (size_t i = 0; i < s->conclusion.service_count; i++) {
                const struct service_result *r = &s->conclusion.services[i];

                for (size_t k = 0; str_equal(r->name, service) && k < r->address_count; k++)
                        append(s, inet_addr_format(&r->addresses[k].address, text), "=",
                                address_state_to_string(r->addresses[k].state));
        }
        return s->codes;
}
