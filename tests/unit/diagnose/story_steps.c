// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "story.h"

#include "base/alloc.h"

#include <string.h>

static const char *const targets[] = {REPO1, REPO2, CONTROL1, CONTROL2};

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
        struct measurement *m = story_seek(s, MEASUREMENT_TCP, PURPOSE_SERVICE, target);

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
        struct measurement *m = story_seek(s, MEASUREMENT_TLS, PURPOSE_SERVICE, target);

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
        struct measurement *m = story_seek(s, MEASUREMENT_HTTP, PURPOSE_SERVICE, target);

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
        return story_fits(m, MEASUREMENT_DNS, server) && m->spec.purpose == PURPOSE_SERVICE;
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
        if (!target[0] || story_seek(s, MEASUREMENT_HOP, PURPOSE_SERVICE, target))
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
