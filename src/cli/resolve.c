#include "cli/resolve.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/show.h"

#include <errno.h>
#include <string.h>

#define MAX_SHOWN 8 /* answers in a row of the text; JSON has all */
#define TYPE_A    1
#define TYPE_NS   2
#define TYPE_AAAA 28

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

void resolve_reserve(struct writer *w, const struct inet_addr *servers, size_t count)
{
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < count; i++)
                writer_reserve(w, 0, strlen(inet_addr_format(&servers[i], text)));
        writer_reserve(w, 2, strlen("AAAA"));
}

struct lookups {
        struct writer *writer;
        const struct site *site;
};

/* Whoever was not waited for any more is not spoken of. */
static void on_answers(const struct measurement *const *results, size_t count, void *userdata)
{
        const struct lookups *l = userdata;
        struct writer *w = l->writer;

        writer_continue_list(w, "lookups", "Lookups");
        resolve_reserve(w, l->site->wan.dns, l->site->wan.dns_count);
        for (size_t i = 0; i < count; i++)
                if (results[i]->outcome != OUTCOME_NOT_TESTED)
                        resolve_write_answer(w, results[i]);
        writer_end(w);
        writer_flush(w);
}

int resolve_host(struct measure *m, const struct site *site, const char *host, struct writer *w,
        struct lookup *ret, struct error *ret_error)
{
        struct lookups l = {.writer = w, .site = site};
        int r;

        measure_tell(m, on_answers, &l);
        r = lookup_host(m, site, host, ret, ret_error);
        measure_tell(m, NULL, NULL);
        return r;
}
