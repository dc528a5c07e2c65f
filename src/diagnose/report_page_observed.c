#include "base/alloc.h"
#include "base/cleanup.h"
#include "diagnose/report_page.h"

#include <string.h>

#define MAX_OBSERVED 8
#define MAX_CONTRAST 2 /* what passes, beside what does not */

static const char *icmp_words(int type, int code)
{
        static const char *const unreachable[] = {[0] = "network unreachable",
                [1] = "host unreachable",
                [2] = "protocol unreachable",
                [3] = "port unreachable",
                [4] = "fragmentation needed",
                [9] = "network administratively prohibited",
                [10] = "host administratively prohibited",
                [13] = "administratively prohibited"};

        if (type == 3 && code >= 0 && code < (int)ELEMENTS(unreachable) && unreachable[code])
                return unreachable[code];
        return type == 11 ? "time exceeded" : "refused";
}

static void add_icmp(struct text *t, const struct measurement *m)
{
        text_addf(t, "ICMP %s (type %d code %d)", icmp_words(m->icmp_type, m->icmp_code), m->icmp_type,
                m->icmp_code);
}

static void add_tcp(struct text *t, const struct measurement *m)
{
        switch (m->outcome) {
        case OUTCOME_OK:
                text_addf(t, "connects in %.1f ms", m->rtt_ms > 0 ? m->rtt_ms : m->took_ms);
                break;
        case OUTCOME_TIMEOUT:
                text_addf(t, "no answer to %d SYN%s in %.0f ms", m->tries, m->tries == 1 ? "" : "s",
                        m->took_ms);
                break;
        case OUTCOME_RESET:
                text_addf(t, "RST after %.0f ms", m->took_ms);
                if (m->reply_ttl)
                        text_addf(t, ", TTL %d", m->reply_ttl);
                break;
        default:
                text_add(t, measurement_outcome_to_string(m->outcome));
        }
}

static void add_dns(struct text *t, const struct measurement *m)
{
        text_addf(t, "query for %.80s: ", m->spec.name);
        switch (m->outcome) {
        case OUTCOME_OK:
                for (size_t i = 0; i < m->addresses.count && i < 3; i++)
                        text_addf(t, "%s%s", i ? ", " : "answer ", m->addresses.items[i]);
                break;
        case OUTCOME_RCODE:
                text_add(t, dns_rcode_to_string(m->rcode));
                break;
        case OUTCOME_TIMEOUT:
                text_addf(t, "no answer in %.0f ms", m->took_ms);
                break;
        default:
                text_add(t, measurement_outcome_to_string(m->outcome));
        }
}

/* The leaf's issuer is who signed; it is the inspecting device's own name, and nothing of the node's. */
static void add_tls(struct text *t, const struct measurement *m)
{
        if (m->outcome == OUTCOME_OK)
                text_addf(t, "TLS handshake in %.1f ms", m->took_ms);
        else if (m->outcome == OUTCOME_UNTRUSTED && m->chain_issuers.count)
                text_addf(t, "certificate issued by %.120s", m->chain_issuers.items[0]);
        else if (m->outcome == OUTCOME_NOT_TLS)
                text_add(t, "plain text instead of TLS");
        else
                text_addf(t, "TLS %s after %.0f ms", measurement_outcome_to_string(m->outcome), m->took_ms);
        if (m->spec.purpose == PURPOSE_NO_NAME || m->spec.purpose == PURPOSE_NEUTRAL_NAME)
                text_addf(t, " with %s name", m->spec.purpose == PURPOSE_NO_NAME ? "no" : "a neutral");
        if (m->spec.mss)
                text_addf(t, " with segments of at most %u bytes", m->spec.mss);
}

/* A Location may carry a session in its query: only scheme, host and path are shown. */
static void add_http(struct text *t, const struct measurement *m)
{
        if (m->http_status)
                text_addf(t, "HTTP status %d", m->http_status);
        else
                text_addf(t, "HTTP %s", measurement_outcome_to_string(m->outcome));
        if (m->location) {
                size_t length = strcspn(m->location, "?#");

                text_addf(t, ", redirect to %.*s", (int)(length < 120 ? length : 120), m->location);
        }
        if (m->spec.purpose == PURPOSE_PAYLOAD)
                text_addf(t, ", %llu bytes arrived", (unsigned long long)m->body_bytes);
}

static char *result_of(const struct measurement *m)
{
        struct text t = {0};

        if (m->spec.kind == MEASUREMENT_HOP) {
                text_addf(&t, "TTL %u: ", m->spec.ttl);
                if (m->hop_answer == HOP_UNREACHABLE)
                        add_icmp(&t, m);
                else if (m->hop_answer == HOP_TIME_EXCEEDED)
                        text_add(&t, "ICMP time exceeded");
                else
                        text_add(&t, m->hop_answer == HOP_SILENT ? "no answer"
                                                                 : hop_answer_to_string(m->hop_answer));
        } else if (m->outcome == OUTCOME_REJECTED) {
                add_icmp(&t, m);
        } else if (m->spec.kind == MEASUREMENT_TCP) {
                add_tcp(&t, m);
        } else if (m->spec.kind == MEASUREMENT_DNS) {
                add_dns(&t, m);
        } else if (m->spec.kind == MEASUREMENT_TLS) {
                add_tls(&t, m);
        } else if (m->spec.kind == MEASUREMENT_HTTP) {
                add_http(&t, m);
        } else {
                text_add(&t, measurement_outcome_to_string(m->outcome));
                if (m->mac[0])
                        text_addf(&t, " %s", m->mac);
        }
        return text_take(&t);
}

static const char *protocol_of(const struct measurement *m)
{
        if (m->spec.kind == MEASUREMENT_ARP)
                return "ARP";
        return m->spec.kind == MEASUREMENT_DNS && m->spec.transport == TRANSPORT_UDP ? "UDP" : "TCP";
}

/* Kinds that a firewall's owner can look up: what went over the wire. */
static bool is_on_the_wire(const struct measurement *m)
{
        return (m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_DNS ||
                       m->spec.kind == MEASUREMENT_TLS || m->spec.kind == MEASUREMENT_HTTP ||
                       m->spec.kind == MEASUREMENT_HOP || m->spec.kind == MEASUREMENT_ARP) &&
               m->status == STATUS_SCORED && !m->spec.proxy[0];
}

static void write_observation(struct page *p, const struct report *r, const struct measurement *m)
{
        char started[32], from[INET_ADDR_TEXT], to[320], by[INET_ADDR_TEXT];
        struct endpoint source = {.port = m->local_port};
        const char *address = m->source[0] ? m->source : r->source_address;
        _cleanup_free_ char *result = result_of(m), *time = NULL;
        const char *cells[6];

        time_format_utc(r->started_unix_ms + (int64_t)m->at_ms, started);
        time = xasprintf("%.10s %.12s", started, started + 11);
        if (inet_addr_parse(address, &source.address) == 0)
                endpoint_format(&source, from);
        else
                str_copy(from, sizeof from, "");
        probe_spec_target_text(&m->spec, to, sizeof to);
        inet_addr_format(&m->by, by);
        cells[0] = time;
        cells[1] = from;
        cells[2] = to;
        cells[3] = protocol_of(m);
        cells[4] = result;
        cells[5] = by;
        page_table_row(p, cells);
}

/* ---- which ---- */

struct selection {
        bool *chosen; /* by index in the list */
        size_t count, left_out;
};

static void choose(struct selection *s, const struct report *r, int id)
{
        if (id < 1 || (size_t)id > r->measurements.count || !is_on_the_wire(r->measurements.items[id - 1]) ||
                s->chosen[id - 1])
                return;
        if (s->count >= MAX_OBSERVED) {
                s->left_out++;
                return;
        }
        s->chosen[id - 1] = true;
        s->count++;
}

/* Causes take turns, so that one with much evidence leaves room for the others. */
static void choose_evidence(struct selection *s, const struct report *r)
{
        const struct conclusion *c = &r->conclusion;
        bool asked = false, more = true;

        for (size_t i = 0; i < c->cause_count; i++)
                asked |= report_page_asks_site(&c->causes[i]);
        for (size_t turn = 0; more; turn++) {
                more = false;
                for (size_t i = 0; i < c->cause_count; i++) {
                        if (asked && !report_page_asks_site(&c->causes[i]))
                                continue;
                        if (turn < c->causes[i].evidence_count) {
                                more = true;
                                choose(s, r, c->causes[i].evidence[turn]);
                        }
                }
        }
}

static void choose_contrast(struct selection *s, const struct report *r)
{
        size_t contrast = 0;

        for (size_t i = 0; i < r->measurements.count && contrast < MAX_CONTRAST; i++) {
                const struct measurement *m = r->measurements.items[i];

                if (s->chosen[i] || m->spec.kind != MEASUREMENT_TCP || m->spec.purpose != PURPOSE_SERVICE ||
                        m->outcome != OUTCOME_OK || m->status != STATUS_SCORED)
                        continue;
                s->chosen[i] = true;
                contrast++;
        }
}

static int compare_times(const void *a, const void *b)
{
        const struct measurement *const *x = a, *const *y = b;

        if ((*x)->at_ms != (*y)->at_ms)
                return (*x)->at_ms < (*y)->at_ms ? -1 : 1;
        return (*x)->id - (*y)->id;
}

void report_page_observed(struct page *p, const struct report *r)
{
        static const char *const headings[] = {
                "Time (UTC)", "From", "To", "Protocol", "Result", "Answered by"};
        struct selection s = {.chosen = xcalloc(r->measurements.count + 1, sizeof *s.chosen)};
        const struct measurement *rows[MAX_OBSERVED + MAX_CONTRAST];
        size_t count = 0;

        choose_evidence(&s, r);
        if (s.count)
                choose_contrast(&s, r);
        for (size_t i = 0; i < r->measurements.count && count < ELEMENTS(rows); i++)
                if (s.chosen[i])
                        rows[count++] = r->measurements.items[i];
        free(s.chosen);
        if (!count)
                return;
        qsort(rows, count, sizeof rows[0], compare_times);
        page_heading(p, "What was observed");
        page_table_begin(p, headings, ELEMENTS(headings));
        for (size_t i = 0; i < count; i++)
                write_observation(p, r, rows[i]);
        page_table_end(p);
        if (s.left_out)
                page_paragraphf(p, "And %zu more observations of the same kind.", s.left_out);
}
