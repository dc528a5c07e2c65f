#include "cli/resolve.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/show.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define DNS_PORT  53
#define MAX_SHOWN 8 /* answers in a row of the text; JSON has all */
#define TYPE_A    1
#define TYPE_NS   2
#define TYPE_AAAA 28

void resolved_done(struct resolved *r)
{
        free(r->addresses);
        *r = (struct resolved){0};
}

const char *resolve_type_to_string(uint16_t dns_type)
{
        return dns_type == TYPE_A ? "A" : dns_type == TYPE_AAAA ? "AAAA" : dns_type == TYPE_NS ? "NS" : "?";
}

static void write_result(struct writer *w, const struct measurement *m)
{
        struct text answers = {0};

        switch (m->outcome) {
        case OUTCOME_OK:
                for (size_t i = 0; i < m->addresses.count && i < MAX_SHOWN; i++)
                        text_addf(&answers, "%s%s", i ? ", " : "", m->addresses.items[i]);
                if (m->addresses.count > MAX_SHOWN)
                        text_addf(&answers, " and %zu more", m->addresses.count - MAX_SHOWN);
                writer_text(w, NULL, NULL, "%s", answers.length ? text_string(&answers) : "no answer in it");
                writer_mark(w, answers.length ? MARK_GOOD : MARK_WARNING);
                text_done(&answers);
                break;
        case OUTCOME_NO_DATA:
                writer_text(w, NULL, NULL, "no such record");
                writer_mark(w, m->spec.dns_type == TYPE_AAAA ? MARK_FAINT : MARK_WARNING);
                break;
        case OUTCOME_RCODE:
                writer_text(w, NULL, NULL, "%s (rcode %d)", dns_rcode_to_string(m->rcode), m->rcode);
                writer_mark(w, MARK_BAD);
                break;
        default:
                show_outcome(w, m);
        }
}

void resolve_write_answer(struct writer *w, const struct measurement *m)
{
        char server[INET_ADDR_TEXT], by[INET_ADDR_TEXT];

        writer_begin_item(w);
        writer_text(w, "server", NULL, "%s", inet_addr_format(&m->spec.target.address, server));
        writer_text(w, "transport", NULL, "%s", probe_transport_to_string(m->spec.transport));
        writer_text(w, "type", NULL, "%s", resolve_type_to_string(m->spec.dns_type));
        write_result(w, m);
        writer_text(w, "outcome", WRITER_HIDDEN, "%s", measurement_outcome_to_string(m->outcome));
        if (m->answered == YES) {
                writer_integer(w, "rcode", WRITER_HIDDEN, m->rcode);
                writer_text(w, "rcode_name", WRITER_HIDDEN, "%s", dns_rcode_to_string(m->rcode));
        }
        writer_begin_list(w, "answers", WRITER_HIDDEN);
        for (size_t i = 0; i < m->addresses.count; i++)
                writer_text(w, NULL, NULL, "%s", m->addresses.items[i]);
        writer_end(w);
        if (m->outcome == OUTCOME_OK && m->addresses.count > 0) {
                writer_text(w, NULL, NULL, "TTL %u", m->ttl_s);
                writer_integer(w, "ttl_s", WRITER_HIDDEN, m->ttl_s);
        }
        if (m->answered == YES || m->outcome == OUTCOME_REJECTED)
                writer_text(w, NULL, NULL, "%.1f ms", m->took_ms);
        writer_number(w, "took_ms", WRITER_HIDDEN, m->took_ms, "ms");
        if (m->canonical_name)
                writer_text(w, "canonical_name", "alias of", "%s", m->canonical_name);
        if (m->truncated == YES)
                writer_boolean(w, "truncated", "truncated", true);
        if (inet_addr_is_set(&m->by))
                writer_text(w, "by", WRITER_HIDDEN, "%s", inet_addr_format(&m->by, by));
        if (m->source[0])
                writer_text(w, "source", WRITER_HIDDEN, "%s", m->source);
        writer_end(w);
}

static void add_literal(struct resolved *r, const char *text)
{
        struct inet_addr a;

        if (inet_addr_parse(text, &a) < 0)
                return;
        for (size_t i = 0; i < r->count; i++)
                if (inet_addr_equal(&r->addresses[i], &a))
                        return;
        r->addresses = xrealloc_array(r->addresses, r->count + 1, sizeof a);
        r->addresses[r->count++] = a;
}

static const struct measurement *find(const struct measurement_list *l, const struct inet_addr *server,
        uint16_t type, enum probe_transport t)
{
        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];

                if (m->spec.kind == MEASUREMENT_DNS && m->spec.dns_type == type && m->spec.transport == t &&
                        inet_addr_equal(&m->spec.target.address, server))
                        return m;
        }
        return NULL;
}

/* Both of one server's answers are there, and one of them is an address. */
static bool is_enough(const struct measurement_list *l, void *userdata)
{
        (void)userdata;
        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];
                bool is_a = m->spec.dns_type == TYPE_A;

                if (m->spec.kind == MEASUREMENT_DNS && m->outcome == OUTCOME_OK &&
                        find(l, &m->spec.target.address, is_a ? TYPE_AAAA : TYPE_A, m->spec.transport))
                        return true;
        }
        return false;
}

static void ask_all(
        struct measure *m, const struct site *site, const char *host, enum probe_transport transport)
{
        for (size_t i = 0; i < site->wan.dns_count; i++)
                for (int v6 = 0; v6 < 2; v6++) {
                        struct probe_spec spec = {.kind = MEASUREMENT_DNS,
                                .target = {.address = site->wan.dns[i], .port = DNS_PORT},
                                .transport = transport,
                                .dns_type = v6 ? TYPE_AAAA : TYPE_A};

                        str_copy(spec.name, sizeof spec.name, host);
                        measure_add(m, &spec);
                }
        measure_run(m, is_enough, NULL);
}

/* Takes the addresses of the first server that has some; A before AAAA. */
static void take_addresses(const struct measurement_list *l, struct resolved *ret)
{
        static const uint16_t types[] = {TYPE_A, TYPE_AAAA};
        const struct measurement *first = NULL;

        for (size_t i = 0; i < l->count && !first; i++)
                if (l->items[i]->spec.kind == MEASUREMENT_DNS && l->items[i]->outcome == OUTCOME_OK)
                        first = l->items[i];
        for (size_t t = 0; first && t < ELEMENTS(types); t++) {
                const struct measurement *m =
                        find(l, &first->spec.target.address, types[t], first->spec.transport);

                for (size_t i = 0; m && i < m->addresses.count; i++)
                        add_literal(ret, m->addresses.items[i]);
        }
}

static void write_lookups(struct writer *w, const struct site *site, const struct measurement_list *l)
{
        static const enum probe_transport transports[] = {TRANSPORT_UDP, TRANSPORT_TCP};
        static const uint16_t types[] = {TYPE_A, TYPE_AAAA};

        writer_begin_list(w, "lookups", "Lookups");
        for (size_t s = 0; s < site->wan.dns_count; s++)
                for (size_t i = 0; i < ELEMENTS(transports) * ELEMENTS(types); i++) {
                        const struct measurement *m =
                                find(l, &site->wan.dns[s], types[i % 2], transports[i / 2]);

                        if (m && m->outcome != OUTCOME_NOT_TESTED)
                                resolve_write_answer(w, m);
                }
        writer_end(w);
}

static bool is_denied(const struct measurement_list *l)
{
        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];

                if (m->outcome == OUTCOME_NO_DATA || (m->outcome == OUTCOME_RCODE && m->rcode == 3))
                        return true;
        }
        return false;
}

static int resolve_name(struct measure *m, const struct site *site, struct writer *w, struct resolved *ret,
        struct error *ret_error)
{
        const struct measurement_list *l = measure_list(m);

        if (site->wan.dns_count == 0)
                return error_set(ret_error, EHOSTUNREACH, "dns.no-server",
                        "cannot look up %s: no DNS server is configured", ret->host);
        ask_all(m, site, ret->host, TRANSPORT_UDP);
        take_addresses(l, ret);
        if (ret->count == 0 && !is_denied(l)) {
                ask_all(m, site, ret->host, TRANSPORT_TCP);
                take_addresses(l, ret);
        }
        write_lookups(w, site, l);
        if (ret->count > 0)
                return 0;
        if (is_denied(l))
                return error_set(ret_error, ENOENT, "dns.no-such-name",
                        "the DNS servers know no address for %s", ret->host);
        return error_set(
                ret_error, EHOSTUNREACH, "dns.no-answer", "no DNS server gave an answer for %s", ret->host);
}

int resolve_host(struct measure *m, const struct site *site, const char *host, struct writer *w,
        struct resolved *ret, struct error *ret_error)
{
        struct resolved result = {0};
        struct inet_addr literal;
        size_t length = strlen(host);
        int r = 0;

        result.is_literal = inet_addr_parse(host, &literal) == 0;
        if (!result.is_literal && !str_is_host_name(host))
                return error_set(ret_error, EINVAL, "host.malformed",
                        "'%s' is neither an address nor a host name", host);
        str_copy(result.host, sizeof result.host, host);
        if (length > 0 && length < sizeof result.host && host[length - 1] == '.')
                result.host[length - 1] = 0;
        for (char *c = result.host; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        if (result.is_literal) {
                add_literal(&result, host);
        } else if (str_equal(result.host, "localhost")) { /* RFC 6761, 6.3: never asked */
                add_literal(&result, "127.0.0.1");
                add_literal(&result, "::1");
        } else {
                r = resolve_name(m, site, w, &result, ret_error);
        }
        if (r < 0)
                resolved_done(&result);
        else
                *ret = result;
        return r;
}
