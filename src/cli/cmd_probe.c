/* gridnode probe [SERVICE]: the cheap probe that the daemon runs each minute */
#include "cli/commands_gridnode.h"
#include "cli/session.h"
#include "cli/show.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <string.h>
#include <sysexits.h>

#define BUDGET_S     3.0
#define DNS_PORT     53
#define TYPE_A       1
#define IP_UDP_BYTES 28 /* headers of a datagram over IPv4 */
#define IP_TCP_BYTES 52 /* of a segment, with time stamps */
#define SEGMENT      1400
#define LATE_BYTES   600

struct question {
        const struct profile_service *service; /* whose host to ask for */
        struct inet_addr server, address;      /* unset: none */
        bool asks_service;
};

struct answers {
        const struct measurement *dns, *service;
        struct inet_addr *addresses; /* of DNS, those within the profile's ranges */
        size_t address_count;
        bool out_of_time;
};

/* What was begun and had no end within the time has failed: a server that accepts and stays silent, say. */
static enum measurement_outcome outcome_of(const struct answers *a, const struct measurement *m)
{
        return m->outcome == OUTCOME_NOT_TESTED && a->out_of_time ? OUTCOME_TIMEOUT : m->outcome;
}

/* ---- what to ask ---- */

static const struct profile_service *find_service(const struct profile *p, const char *name)
{
        for (size_t i = 0; i < p->service_count; i++)
                if (str_equal(p->services[i].name, name))
                        return &p->services[i];
        return NULL;
}

static int parse(struct session *s, struct question *q)
{
        const char *name = s->argument_count ? s->arguments[0] : NULL;

        if (!s->profile)
                return session_fail(s, EX_CONFIG, "no profile is named; give one with --profile");
        if (!name && !inet_addr_is_set(&s->settings.server))
                return session_usage_error(s, "SERVICE or --server needed");
        q->service = name ? find_service(s->profile, name) : &s->profile->services[0];
        if (!q->service)
                return session_usage_error(s, "profile '%s' has no service '%s'", s->profile->name, name);
        q->asks_service = name && !s->settings.dns_only;
        q->address = s->settings.address;
        q->server = s->settings.server;
        if (!inet_addr_is_set(&q->server) && s->site->wan.dns_count > 0)
                q->server = s->site->wan.dns[0];
        if (!q->asks_service && !inet_addr_is_set(&q->server))
                return session_fail(s, EX_UNAVAILABLE, "no DNS server is configured; name one with --server");
        return EXIT_SUCCESS;
}

static void add_dns(struct measure *m, const struct question *q)
{
        struct probe_spec spec = {.kind = MEASUREMENT_DNS,
                .target = {.address = q->server, .port = DNS_PORT},
                .transport = TRANSPORT_UDP,
                .dns_type = TYPE_A};

        str_copy(spec.name, sizeof spec.name, q->service->host);
        measure_add(m, &spec);
}

static void add_service(struct measure *m, const struct question *q, const struct inet_addr *address)
{
        struct probe_spec spec = {
                .kind = q->service->tls == SERVICE_TLS_NONE ? MEASUREMENT_TCP : MEASUREMENT_TLS,
                .target = {.address = *address, .port = q->service->port},
                .tls = q->service->tls};

        if (spec.kind == MEASUREMENT_TLS)
                str_copy(spec.name, sizeof spec.name, q->service->host);
        measure_add(m, &spec);
}

/* ---- what came ---- */

/* An address that is not the control plane's is no right answer, and nothing is sent there. */
static void take_addresses(const struct profile *p, struct answers *a)
{
        for (size_t i = 0; a->dns && i < a->dns->addresses.count; i++) {
                struct inet_addr address;

                if (inet_addr_parse(a->dns->addresses.items[i], &address) < 0 ||
                        (p->range_count ? !profile_ranges_contain(p, &address)
                                        : inet_addr_bogon(&address) != NULL))
                        continue;
                a->addresses = xrealloc_array(a->addresses, a->address_count + 1, sizeof address);
                a->addresses[a->address_count++] = address;
        }
}

static const struct measurement *find(const struct measurement_list *l, bool is_dns)
{
        for (size_t i = 0; i < l->count; i++)
                if ((l->items[i]->spec.kind == MEASUREMENT_DNS) == is_dns)
                        return l->items[i];
        return NULL;
}

/* DNS and a given address side by side; else the first of the answer, or what the profile knows. */
static void ask(const struct session *s, struct measure *m, const struct question *q, struct answers *ret)
{
        const struct measurement_list *l = measure_list(m);

        if (inet_addr_is_set(&q->server))
                add_dns(m, q);
        if (q->asks_service && inet_addr_is_set(&q->address))
                add_service(m, q, &q->address);
        measure_run(m, NULL, NULL);
        ret->dns = find(l, true);
        take_addresses(s->profile, ret);
        if (q->asks_service && !inet_addr_is_set(&q->address)) {
                if (ret->address_count > 0)
                        add_service(m, q, &ret->addresses[0]);
                else if (q->service->address_count > 0)
                        add_service(m, q, &q->service->addresses[0]);
                measure_run(m, NULL, NULL);
        }
        ret->service = find(l, false);
        ret->out_of_time = measure_is_over(m) && !measure_was_stopped(m);
}

/* An estimate from above, headers included. */
static double count_bytes(const struct answers *a)
{
        double sum = 0;

        if (a->dns)
                sum += a->dns->tries * (IP_UDP_BYTES + 29.0 + (double)strlen(a->dns->spec.name)) +
                       (a->dns->answered == YES ? IP_UDP_BYTES + 45.0 + (double)strlen(a->dns->spec.name) +
                                                          32.0 * (double)a->dns->addresses.count
                                                : 0);
        if (a->service) {
                double payload = (double)(a->service->bytes_sent + a->service->bytes_received);

                sum += (a->service->tries ? a->service->tries : 1) * 2.0 * IP_TCP_BYTES + payload;
                /* Each segment and its acknowledgement, the end of both sides, and session tickets that come
                 * when nobody reads any more. */
                if (payload > 0)
                        sum += 2 * IP_TCP_BYTES * (6 + payload / SEGMENT) + LATE_BYTES;
        }
        return sum;
}

/* ---- telling ---- */

static const char *dns_outcome(const struct answers *a)
{
        enum measurement_outcome outcome = outcome_of(a, a->dns);

        if (outcome == OUTCOME_OK && a->dns->addresses.count == 0)
                outcome = OUTCOME_NO_DATA;
        if (outcome == OUTCOME_OK && a->address_count == 0)
                return "wrong-address";
        return measurement_outcome_to_string(outcome);
}

static bool write_dns(struct writer *w, const struct question *q, const struct answers *a)
{
        char text[INET_ADDR_TEXT];
        const char *outcome = dns_outcome(a);
        bool is_ok = str_equal(outcome, "ok");

        writer_begin_object(w, "dns", "DNS");
        writer_text(w, "server", "server", "%s", inet_addr_format(&q->server, text));
        writer_text(w, "name", "asked for", "%s", q->service->host);
        writer_text(w, "outcome", "answer", "%s", outcome);
        writer_mark(w, is_ok ? MARK_GOOD : MARK_BAD);
        if (a->dns->outcome == OUTCOME_RCODE)
                writer_text(w, "rcode", "code", "%s", dns_rcode_to_string(a->dns->rcode));
        writer_number(w, "took_ms", "took", a->dns->took_ms, "ms");
        writer_begin_list(w, "addresses", "addresses");
        for (size_t i = 0; i < a->address_count; i++)
                writer_text(w, NULL, NULL, "%s", inet_addr_format(&a->addresses[i], text));
        writer_end(w);
        writer_end(w);
        return is_ok;
}

static bool write_service(struct writer *w, const struct question *q, const struct answers *a)
{
        const struct measurement *m = a->service;
        char text[INET_ADDR_TEXT];
        bool is_ok = m->outcome == OUTCOME_OK;

        writer_begin_object(w, "service", "Service");
        writer_text(w, "name", "name", "%s", q->service->name);
        writer_text(w, "address", "address", "%s", inet_addr_format(&m->spec.target.address, text));
        writer_integer(w, "port", "port", q->service->port);
        writer_text(w, "state", "state", "%s", is_ok ? "ok" : "failed");
        writer_mark(w, is_ok ? MARK_GOOD : MARK_BAD);
        writer_text(w, "stage", "stage", "%s",
                probe_stage_to_string(m->stage                          ? m->stage
                                      : m->spec.kind == MEASUREMENT_TCP ? STAGE_TCP
                                                                        : STAGE_TLS));
        if (!is_ok)
                writer_text(w, "reason", "reason", "%s", measurement_outcome_to_string(outcome_of(a, m)));
        if (!is_ok && m->error_text)
                writer_text(w, "detail", "detail", "%s", m->error_text);
        writer_number(w, "took_ms", "took", m->took_ms, "ms");
        writer_end(w);
        return is_ok;
}

static int tell(const struct session *s, const struct question *q, const struct answers *a)
{
        struct writer *w = session_writer(s);
        size_t good = 0, bad = 0;
        int status;

        writer_integer(w, "schema", WRITER_HIDDEN, 1);
        if (a->dns && outcome_of(a, a->dns) != OUTCOME_NOT_TESTED)
                *(write_dns(w, q, a) ? &good : &bad) += 1;
        else
                writer_null(w, "dns");
        if (a->service && outcome_of(a, a->service) != OUTCOME_NOT_TESTED)
                *(write_service(w, q, a) ? &good : &bad) += 1;
        else
                writer_null(w, "service");
        writer_integer(w, "bytes", "bytes on the wire, about", (long long)count_bytes(a));
        status = session_write(s, w, good + bad == 0 ? 2 : bad == 0 ? 0 : good == 0 ? 1 : 3);
        writer_free(w);
        return status;
}

int cmd_probe(struct session *s)
{
        struct trust_options trust = {
                .certificate_path = s->site->certificate_path, .key_path = s->site->key_path};
        struct question q = {0};
        struct answers a = {0};
        struct measure *m = NULL;
        int status = parse(s, &q);

        if (status != EXIT_SUCCESS)
                return status;
        trust.root_ca_path = s->profile->root_ca_path;
        trust.root_subject = s->profile->root_subject;
        s->settings.no_capture = true; /* costs more than the probe */
        s->settings.budget_s = BUDGET_S;
        status = session_measure(s, q.asks_service ? &trust : NULL, &m);
        if (status != EXIT_SUCCESS)
                return status;
        ask(s, m, &q, &a);
        status = tell(s, &q, &a);
        free(a.addresses);
        measure_free(m);
        return status;
}
