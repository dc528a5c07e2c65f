/* Measurements in words, a line each. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "probe/measurement.h"

#include <string.h>

static void describe_failure(struct text *t, const struct measurement *m)
{
        char address[INET_ADDR_TEXT];

        switch (m->outcome) {
        case OUTCOME_REJECTED:
                text_addf(t, ", ICMP type %d code %d from %s", m->icmp_type, m->icmp_code,
                        inet_addr_format(&m->by, address));
                break;
        case OUTCOME_LOCAL_ERROR:
        case OUTCOME_NOT_PERMITTED:
                if (m->error_number)
                        text_addf(t, ", %s", strerror(m->error_number));
                break;
        case OUTCOME_ALERT:
                text_addf(t, ", TLS alert %d", m->alert);
                break;
        case OUTCOME_NOT_TLS:
                text_addf(t, ", got \"%s\"", m->first_bytes ? m->first_bytes : "");
                break;
        case OUTCOME_UNTRUSTED:
                if (m->chain_error)
                        text_addf(t, ", %s", m->chain_error);
                break;
        default:
                break;
        }
        if (m->error_text && m->outcome != OUTCOME_OK)
                text_addf(t, ", %s", m->error_text);
        if (m->reason)
                text_addf(t, " (%s)", m->reason);
}

static void describe_watched(struct text *t, const struct measurement *m)
{
        if (m->left_host == NO)
                text_add(t, ", never left this host");
        if (m->outcome == OUTCOME_TIMEOUT && m->reply_seen == YES)
                text_addf(t, ", yet an answer came in on %s", m->reply_interface);
        if (m->outcome == OUTCOME_RESET && m->reply_ttl)
                text_addf(t, ", RST with TTL %d on %s", m->reply_ttl, m->reply_interface);
}

static void describe_config(struct text *t, const struct measurement *m)
{
        const struct strv *v = m->ranges.count              ? &m->ranges
                               : m->configured_routes.count ? &m->configured_routes
                               : m->servers.count           ? &m->servers
                                                            : &m->addresses;

        for (size_t i = 0; i < v->count && i < 8; i++)
                text_addf(t, "%s%s", i ? ", " : " ", v->items[i]);
        if (v->count > 8)
                text_addf(t, " and %zu more", v->count - 8);
}

static void describe_tcp(struct text *t, const struct measurement *m)
{
        if (m->spec.interface[0])
                text_addf(t, " on %s", m->spec.interface);
        text_addf(t, " %s", measurement_outcome_to_string(m->outcome));
        if (m->outcome == OUTCOME_OK)
                text_addf(t, " in %.1f ms", m->rtt_ms);
        else
                text_addf(t, " after %.0f ms, %d SYN%s", m->took_ms, m->tries, m->tries == 1 ? "" : "s");
        describe_watched(t, m);
}

static void describe_hop(struct text *t, const struct measurement *m)
{
        char address[INET_ADDR_TEXT];

        text_addf(t, " TTL %u: ", m->spec.ttl);
        if (m->hop_answer == HOP_SILENT)
                text_add(t, "silence");
        else if (m->hop_answer == HOP_TIME_EXCEEDED || m->hop_answer == HOP_UNREACHABLE)
                text_addf(t, "%s from %s", hop_answer_to_string(m->hop_answer),
                        inet_addr_format(&m->by, address));
        else
                text_addf(t, "%s in the target's name", hop_answer_to_string(m->hop_answer));
}

const char *dns_rcode_to_string(int rcode)
{
        static const char *const words[] = {
                "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"};

        return rcode >= 0 && rcode < (int)ELEMENTS(words) ? words[rcode] : "an unknown rcode";
}

static void describe_dns(struct text *t, const struct measurement *m)
{
        char *answers;

        if (m->spec.interface[0])
                text_addf(t, " on %s", m->spec.interface);
        text_addf(t, " %s %s %s: ", probe_transport_to_string(m->spec.transport), m->spec.name,
                m->spec.dns_type == 28  ? "AAAA"
                : m->spec.dns_type == 2 ? "NS"
                                        : "A");
        if (m->outcome == OUTCOME_RCODE)
                text_add(t, dns_rcode_to_string(m->rcode));
        else
                text_add(t, measurement_outcome_to_string(m->outcome));
        answers = strv_join(&m->addresses, ", ");
        if (answers[0])
                text_addf(t, " %s", answers);
        free(answers);
        text_addf(t, " in %.1f ms", m->took_ms);
}

static void describe_tls(struct text *t, const struct measurement *m)
{
        if (m->spec.mss)
                text_addf(t, " MSS %u", m->spec.mss);
        text_addf(t, " SNI %s: %s", m->spec.name[0] ? m->spec.name : "none",
                measurement_outcome_to_string(m->outcome));
        if (m->tls_version[0])
                text_addf(t, ", %s", m->tls_version);
        if (m->chain_issuers.count && m->outcome != OUTCOME_OK)
                text_addf(t, ", issued by %s", m->chain_issuers.items[m->chain_issuers.count - 1]);
        text_addf(t, ", %.1f ms", m->took_ms);
}

static void describe_http(struct text *t, const struct measurement *m)
{
        text_addf(t, " %s", m->http_url ? m->http_url : m->spec.path);
        if (m->spec.proxy[0])
                text_addf(t, " through %s", m->spec.proxy);
        text_addf(t, ": %s", measurement_outcome_to_string(m->outcome));
        if (m->http_status)
                text_addf(t, ", status %d", m->http_status);
        if (m->spec.purpose == PURPOSE_PAYLOAD)
                text_addf(t, ", %llu bytes", (unsigned long long)m->body_bytes);
        text_addf(t, ", %.1f ms", m->took_ms);
}

static void describe_near(struct text *t, const struct measurement *m)
{
        if (m->spec.kind == MEASUREMENT_ROUTE && m->route_interface[0])
                text_addf(t, " leaves by %s: %s", m->route_interface, m->route_text ? m->route_text : "");
        else
                text_addf(t, " %s", measurement_outcome_to_string(m->outcome));
        if (m->neighbour_state[0])
                text_addf(t, " (%s)", m->neighbour_state);
        if (m->mac[0])
                text_addf(t, " %s", m->mac);
        if (m->spec.kind == MEASUREMENT_ADDRESS)
                describe_config(t, m);
        if (m->spec.kind == MEASUREMENT_LINK && m->operstate[0])
                text_addf(t, ", %s", m->operstate);
}

char *measurement_describe(const struct measurement *m)
{
        struct text t = {0};
        char target[320];

        probe_spec_target_text(&m->spec, target, sizeof target);
        text_addf(&t, "%s %s", measurement_kind_to_string(m->spec.kind), target);
        switch (m->spec.kind) {
        case MEASUREMENT_PROFILE:
        case MEASUREMENT_SERVICE:
        case MEASUREMENT_SITE:
        case MEASUREMENT_LAN:
                describe_config(&t, m);
                return text_take(&t);
        case MEASUREMENT_TCP:
                describe_tcp(&t, m);
                break;
        case MEASUREMENT_HOP:
                describe_hop(&t, m);
                return text_take(&t);
        case MEASUREMENT_DNS:
                describe_dns(&t, m);
                break;
        case MEASUREMENT_TLS:
                describe_tls(&t, m);
                break;
        case MEASUREMENT_HTTP:
                describe_http(&t, m);
                break;
        case MEASUREMENT_LINK:
        case MEASUREMENT_ADDRESS:
        case MEASUREMENT_ROUTE:
        case MEASUREMENT_NEIGHBOUR:
        case MEASUREMENT_ARP:
        case MEASUREMENT_CAPTURE:
        case MEASUREMENT_KIND_COUNT:
                describe_near(&t, m);
                break;
        }
        describe_failure(&t, m);
        return text_take(&t);
}
