// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <errno.h>
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

bool story_fits(const struct measurement *m, enum measurement_kind kind, const char *target)
{
        struct endpoint e;

        if (m->spec.kind != kind)
                return false;
        return !target || (endpoint_parse(target, &e) == 0 && endpoint_equal(&e, &m->spec.target));
}

struct measurement *story_seek(
        struct story *s, enum measurement_kind kind, enum probe_purpose purpose, const char *target)
{
        for (size_t i = 0; i < s->list.count; i++)
                if (story_fits(s->list.items[i], kind, target) && s->list.items[i]->spec.purpose == purpose)
                        return s->list.items[i];
        return NULL;
}

struct measurement *story_find(
        struct story *s, enum measurement_kind kind, enum probe_purpose purpose, const char *target)
{
        struct measurement *m = story_seek(s, kind, purpose, target);

        if (!m)
                fail_msg("the story has no %s %s", measurement_kind_to_string(kind), target ? target : "");
        return m;
}

void story_drop(struct story *s, enum measurement_kind kind, const char *target)
{
        size_t kept = 0;

        for (size_t i = 0; i < s->list.count; i++)
                if (story_fits(s->list.items[i], kind, target))
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

                if (!story_fits(m, MEASUREMENT_ROUTE, target))
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

                if (!story_fits(m, MEASUREMENT_ROUTE, target))
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
