/* gridnode trace HOST PORT */
#include "cli/arguments.h"
#include "cli/commands_gridnode.h"
#include "cli/resolve.h"
#include "cli/session.h"
#include "cli/show.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#define MAX_HOPS 30
#define WAVE                                                                                          \
        6 /* hops at once: as many ICMP errors as a Linux router sends before it begins to limit them \
           */
#define SILENT_ENDS 2 /* waves without any answer, after which nothing more is expected */
#define VAIN_ENDS   4 /* hops before an answer that stay silent when asked again: such is this way */

/* One address's way. Pointers into the measure's list; index = TTL. */
struct trace {
        struct measure *measure;
        struct writer *writer;
        struct endpoint target;
        const struct measurement *hops[MAX_HOPS + 1];
        int asked;   /* TTLs asked so far, 1 … asked */
        int settled; /* up to here a hop that is silent stays so */
        int told;    /* hops in the writer, which are final */
        int in_vain; /* hops that were asked again and stayed silent */
        int end;     /* the lowest TTL that ends the way (SYN-ACK, RST, a refusal), 0 none */
        /* An RST only: another port of the host that accepts, and what it gives at the same TTL. */
        const struct measurement *sibling, *sibling_hop;
};

static bool is_end(const struct measurement *m)
{
        return m && (m->hop_answer == HOP_SYN_ACK || m->hop_answer == HOP_RESET ||
                            m->hop_answer == HOP_UNREACHABLE);
}

static bool is_silent(const struct measurement *m)
{
        return m && m->hop_answer == HOP_SILENT;
}

static void collect(struct trace *t)
{
        const struct measurement_list *l = measure_list(t->measure);

        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];
                const struct measurement **slot;

                if (m->spec.kind != MEASUREMENT_HOP || !endpoint_equal(&m->spec.target, &t->target))
                        continue;
                slot = &t->hops[m->spec.ttl];
                if (!*slot || (*slot)->hop_answer == HOP_SILENT)
                        *slot = m;
        }
        t->end = 0;
        for (int ttl = 1; ttl <= t->asked && !t->end; ttl++)
                if (is_end(t->hops[ttl]))
                        t->end = ttl;
}

static void write_hop(struct writer *w, const struct trace *t, int ttl)
{
        const struct measurement *m = t->hops[ttl];
        char by[INET_ADDR_TEXT] = "", target[INET_ADDR_TEXT];

        inet_addr_format(&t->target.address, target);
        writer_begin_item(w);
        writer_integer(w, "hop", NULL, ttl);
        if (m->outcome == OUTCOME_NOT_TESTED || m->outcome == OUTCOME_LOCAL_ERROR) {
                writer_text(w, NULL, NULL, "?");
                show_outcome(w, m);
        } else if (m->hop_answer == HOP_SILENT) {
                writer_text(w, NULL, NULL, "*");
                writer_text(w, NULL, NULL, "no answer");
                writer_mark(w, MARK_FAINT);
        } else {
                bool is_in_targets_name = m->hop_answer == HOP_RESET || m->hop_answer == HOP_SYN_ACK;

                inet_addr_format(&m->by, by);
                writer_text(w, "address", NULL, "%s", is_in_targets_name ? target : by);
                writer_text(w, NULL, NULL, "%.1f ms", m->rtt_ms > 0 ? m->rtt_ms : m->took_ms);
                writer_number(w, "rtt_ms", WRITER_HIDDEN, m->rtt_ms > 0 ? m->rtt_ms : m->took_ms, "ms");
        }
        if (m->hop_answer == HOP_UNREACHABLE) {
                writer_text(w, NULL, NULL, "refuses: %s (ICMP type %d code %d)",
                        show_icmp_name(t->target.address.family, m->icmp_type, m->icmp_code), m->icmp_type,
                        m->icmp_code);
                writer_mark(w, MARK_BAD);
        } else if (m->hop_answer == HOP_RESET) {
                writer_text(w, NULL, NULL, "RST in the target's name");
                writer_mark(w, MARK_BAD);
        } else if (m->hop_answer == HOP_SYN_ACK) {
                writer_text(w, NULL, NULL, "accepts");
                writer_mark(w, MARK_GOOD);
        }
        if (m->hop_answer == HOP_TIME_EXCEEDED || m->hop_answer == HOP_UNREACHABLE) {
                writer_integer(w, "icmp_type", WRITER_HIDDEN, m->icmp_type);
                writer_integer(w, "icmp_code", WRITER_HIDDEN, m->icmp_code);
        }
        writer_text(w, "answer", WRITER_HIDDEN, "%s",
                m->hop_answer == HOP_SILENT ? "none" : hop_answer_to_string(m->hop_answer));
        if (m->reply_ttl)
                writer_integer(w, "reply_ttl", WRITER_HIDDEN, m->reply_ttl);
        writer_end(w);
}

/* Hop after hop, as each is final. */
static void tell(struct trace *t)
{
        while (t->told < t->asked && (!t->end || t->told < t->end)) {
                const struct measurement *next = t->hops[t->told + 1];

                if (!next || (is_silent(next) && t->told + 1 > t->settled))
                        break;
                write_hop(t->writer, t, ++t->told);
        }
        writer_flush(t->writer);
}

static void on_results(const struct measurement *const *results, size_t count, void *userdata)
{
        (void)results, (void)count;
        collect(userdata);
        tell(userdata);
}

static void ask(struct trace *t, const struct endpoint *target, int ttl, unsigned attempt)
{
        measure_add(t->measure,
                &(struct probe_spec){
                        .kind = MEASUREMENT_HOP, .target = *target, .ttl = (uint8_t)ttl, .attempt = attempt});
}

static int last_answer(const struct trace *t)
{
        for (int ttl = t->end ? t->end : t->asked; ttl > 0; ttl--)
                if (t->hops[ttl] && !is_silent(t->hops[ttl]))
                        return ttl;
        return 0;
}

/* A router may have passed over what came too fast, from this run or one before it: silent hops before the
 * last answer are asked once more, and so is, `beyond` it, the first one, after its limit has had time to
 * recover; until the way goes on. */
static void ask_silent_again(struct trace *t, bool beyond)
{
        for (int ttl = t->settled + 1;
                ttl <= last_answer(t) + beyond && ttl <= t->asked && !measure_is_over(t->measure); ttl++) {
                bool is_beyond = ttl > last_answer(t);

                if (is_silent(t->hops[ttl]) && (is_beyond || t->in_vain < VAIN_ENDS)) {
                        if (is_beyond || ttl == 1)
                                measure_wait(t->measure, 1200);
                        ask(t, &t->target, ttl, 1);
                        measure_run(t->measure, NULL, NULL);
                        t->in_vain += is_silent(t->hops[ttl]);
                }
                t->settled = ttl;
                tell(t);
        }
}

/* While the hops answer, few are asked at once: a device that refuses answers for every TTL beyond it, and
 * its ICMP errors are limited (Linux: six at once, then one a second). */
static void walk(struct trace *t)
{
        int silent_waves = 0, size = 2;

        while (t->asked < MAX_HOPS && !t->end && silent_waves < SILENT_ENDS && !measure_is_over(t->measure)) {
                int from = t->asked + 1, silent = 0;

                for (int i = 0; i < size && t->asked < MAX_HOPS; i++)
                        ask(t, &t->target, ++t->asked, 0);
                measure_run(t->measure, NULL, NULL);
                for (int ttl = from; ttl <= t->asked; ttl++)
                        silent += !t->hops[ttl] || is_silent(t->hops[ttl]);
                silent_waves = silent == t->asked - from + 1 ? silent_waves + 1 : 0;
                size = silent ? WAVE : 2;
                ask_silent_again(t, false);
        }
}

/* Whether an RST can be the target's own is told by a port of it that accepts: is the host that near? */
static void ask_sibling(struct trace *t)
{
        struct measure *m = t->measure;
        static const uint16_t ports[] = {443, 8443, 80, 53, 22};
        const struct measurement_list *l = measure_list(m);
        size_t before = l->count;

        for (size_t i = 0; i < ELEMENTS(ports); i++)
                if (ports[i] != t->target.port)
                        measure_add(m, &(struct probe_spec){.kind = MEASUREMENT_TCP,
                                               .purpose = PURPOSE_SIBLING,
                                               .target = {.address = t->target.address, .port = ports[i]}});
        measure_run(m, NULL, NULL);
        for (size_t i = before; i < l->count && !t->sibling; i++)
                if (l->items[i]->outcome == OUTCOME_OK)
                        t->sibling = l->items[i];
        if (!t->sibling)
                return;
        before = l->count;
        ask(t, &t->sibling->spec.target, t->end, 0);
        measure_run(m, NULL, NULL);
        if (l->count > before)
                t->sibling_hop = l->items[before];
}

/* "hop 1 (192.0.2.1)" of the last router that answered before `ttl`; empty text when none did. */
static void name_hop_before(const struct trace *t, int ttl, char ret[96])
{
        char address[INET_ADDR_TEXT];

        ret[0] = 0;
        while (--ttl > 0)
                if (t->hops[ttl] && t->hops[ttl]->hop_answer == HOP_TIME_EXCEEDED) {
                        snprintf(ret, 96, "hop %d (%s)", ttl, inet_addr_format(&t->hops[ttl]->by, address));
                        return;
                }
}

static void write_by(struct writer *w, const struct inet_addr *address, int hop)
{
        char text[INET_ADDR_TEXT];

        writer_begin_object(w, "by", WRITER_HIDDEN);
        writer_text(w, "address", WRITER_HIDDEN, "%s", inet_addr_format(address, text));
        if (hop)
                writer_integer(w, "hop", WRITER_HIDDEN, hop);
        else
                writer_null(w, "hop");
        writer_end(w);
}

static int write_refused(struct writer *w, const struct trace *t)
{
        const struct measurement *m = t->hops[t->end];
        char by[INET_ADDR_TEXT], where[96];
        int own_hop = 0;

        for (int ttl = 1; ttl < t->end; ttl++)
                if (t->hops[ttl] && t->hops[ttl]->hop_answer == HOP_TIME_EXCEEDED &&
                        inet_addr_equal(&t->hops[ttl]->by, &m->by))
                        own_hop = ttl;
        inet_addr_format(&m->by, by);
        writer_text(w, "result", WRITER_HIDDEN, "rejected");
        write_by(w, &m->by, own_hop);
        name_hop_before(t, t->end, where);
        if (inet_addr_equal(&m->by, &t->target.address))
                writer_text(w, "summary", WRITER_LINE, "The target itself, %s, refuses at hop %d: %s.", by,
                        t->end, show_icmp_name(t->target.address.family, m->icmp_type, m->icmp_code));
        else if (own_hop)
                writer_text(w, "summary", WRITER_LINE, "Hop %d, %s, refuses: %s.", own_hop, by,
                        show_icmp_name(t->target.address.family, m->icmp_type, m->icmp_code));
        else
                writer_text(w, "summary", WRITER_LINE,
                        "%s refuses: %s. Its refusal first appears with TTL %d%s%s.", by,
                        show_icmp_name(t->target.address.family, m->icmp_type, m->icmp_code), t->end,
                        where[0] ? ", after " : "", where);
        writer_mark(w, MARK_BAD);
        return 1;
}

static bool has_other_ttl(const struct measurement *rst, const struct measurement *sibling)
{
        return rst->reply_ttl && sibling->reply_ttl && rst->reply_ttl != sibling->reply_ttl;
}

static int write_reset(struct writer *w, const struct trace *t)
{
        const struct measurement *m = t->hops[t->end], *hop = t->sibling_hop;
        char where[96], target[INET_ADDR_TEXT], by[INET_ADDR_TEXT];
        const char *proven = "unknown";
        struct text s = {0};

        name_hop_before(t, t->end, where);
        inet_addr_format(&t->target.address, target);
        text_addf(&s, "An RST in the name of %s comes from hop %d", target, t->end);
        if (hop && hop->hop_answer == HOP_TIME_EXCEEDED) {
                proven = "no";
                text_addf(&s,
                        ", but the target is further away: with the same TTL port %u only gets as far as %s. "
                        "The RST "
                        "is forged by a device on the way%s%s: this is not arrival.",
                        t->sibling->spec.target.port, inet_addr_format(&hop->by, by),
                        where[0] ? ", most likely " : "", where);
        } else if (t->sibling && has_other_ttl(m, t->sibling)) {
                proven = "no";
                text_addf(&s,
                        ", but with TTL %d where the answers of port %u have TTL %d. The RST is forged by a "
                        "device on the "
                        "way%s%s: this is not arrival.",
                        m->reply_ttl, t->sibling->spec.target.port, t->sibling->reply_ttl,
                        where[0] ? ", most likely " : "", where);
        } else if (hop && hop->hop_answer == HOP_SYN_ACK) {
                proven = "likely";
                text_addf(&s,
                        ", where port %u of the target accepts as well: most likely the target itself "
                        "refuses, since "
                        "nothing listens on port %u.",
                        t->sibling->spec.target.port, t->target.port);
        } else {
                text_addf(&s,
                        ". Whether the target sent it, or a device on the way%s%s in its name, is not "
                        "proven: no other port "
                        "of the target accepts, to compare with.",
                        where[0] ? ", such as " : "", where);
        }
        writer_text(w, "result", WRITER_HIDDEN, "reset");
        writer_text(w, "arrival", WRITER_HIDDEN, "%s", proven);
        writer_text(w, "summary", WRITER_LINE, "%s", text_string(&s));
        writer_mark(w, MARK_BAD);
        text_done(&s);
        return 1;
}

static int write_silent(struct writer *w, const struct trace *t, bool is_over)
{
        _cleanup_free_ char *neighbour = t->hops[1] ? show_silent_neighbour(t->hops[1]) : NULL;
        int last = last_answer(t);
        char where[96];

        name_hop_before(t, last + 1, where);
        writer_text(w, "result", WRITER_HIDDEN, is_over ? "not-tested" : "dropped");
        if (last)
                write_by(w, &t->hops[last]->by, last);
        if (is_over)
                writer_text(w, "summary", WRITER_LINE, "Not finished%s%s: %s.",
                        last ? "; the last answer came from " : "", where,
                        measure_was_stopped(t->measure) ? "it was interrupted" : "raise --budget");
        else if (last)
                writer_text(w, "summary", WRITER_LINE,
                        "Nothing answers beyond %s: packets to port %u are dropped as they leave it or by "
                        "the next "
                        "device.",
                        where, t->target.port);
        else
                writer_text(w, "summary", WRITER_LINE, "Nothing on the way answers at all%s%s.",
                        neighbour ? ": " : "", neighbour ? neighbour : "");
        writer_mark(w, is_over ? MARK_WARNING : MARK_BAD);
        return is_over ? 2 : 1;
}

static int write_summary(struct writer *w, const struct trace *t, bool is_over)
{
        _cleanup_free_ char *neighbour = NULL;
        char target[INET_ADDR_TEXT];
        const struct measurement *end = t->end ? t->hops[t->end] : NULL;

        if (!end && t->hops[1] && t->hops[1]->outcome == OUTCOME_LOCAL_ERROR) {
                writer_text(w, "result", WRITER_HIDDEN, "local-error");
                neighbour = show_silent_neighbour(t->hops[1]);
                writer_text(w, "summary", WRITER_LINE, "This host does not send: %s%s%s.",
                        strerror(t->hops[1]->error_number), neighbour ? ": " : "",
                        neighbour ? neighbour : "");
                return 1;
        }
        if (!end)
                return write_silent(w, t, is_over);
        if (end->hop_answer == HOP_UNREACHABLE)
                return write_refused(w, t);
        if (end->hop_answer == HOP_RESET)
                return write_reset(w, t);
        writer_text(w, "result", WRITER_HIDDEN, "accepted");
        writer_text(w, "summary", WRITER_LINE, "%s accepts at hop %d.", endpoint_format(&t->target, target),
                t->end);
        writer_mark(w, MARK_GOOD);
        return 0;
}

/* So wide are the rows that may come. */
static void begin_hops(struct trace *t)
{
        char text[INET_ADDR_TEXT];
        size_t width = strlen(inet_addr_format(&t->target.address, text));

        writer_begin_list(t->writer, "hops", NULL);
        writer_reserve(t->writer, 0, 2);
        writer_reserve(t->writer, 1, width < 15 ? 15 : width);
        writer_reserve(t->writer, 2, strlen("no answer"));
        writer_flush(t->writer);
}

static int trace_address(struct measure *m, struct writer *w, const struct endpoint *target)
{
        struct trace t = {.measure = m, .writer = w, .target = *target};
        char text[INET_ADDR_TEXT];
        int status;

        writer_begin_item(w);
        writer_text(w, "target", NULL, "%s", endpoint_format(target, text));
        begin_hops(&t);
        measure_tell(m, on_results, &t);
        walk(&t);
        ask_silent_again(&t, true);
        t.settled = last_answer(&t) + 1;
        tell(&t);
        writer_end(w);
        if (t.end && t.hops[t.end]->hop_answer == HOP_RESET && !measure_is_over(m))
                ask_sibling(&t);
        measure_tell(m, NULL, NULL);
        status = write_summary(w, &t, measure_is_over(m));
        writer_end(w);
        writer_flush(w);
        return status;
}

static int run(struct session *s, struct measure *m, struct writer *w, uint16_t port)
{
        struct lookup host = {0};
        struct error e = {0};
        int r = resolve_host(m, s->site, s->arguments[0], w, &host, &e), status = 0;
        size_t reached = 0;

        if (r == -EINVAL)
                return session_usage_error(s, "%s", e.text);
        if (r < 0) {
                writer_text(w, "error", NULL, "%s", e.text);
                writer_mark(w, MARK_BAD);
                return session_write(s, w, r == -ENOENT ? 1 : EX_UNAVAILABLE);
        }
        writer_begin_list(w, "traces", NULL);
        for (size_t i = 0; i < host.count; i++) {
                struct endpoint target = {.address = host.addresses[i], .port = port};
                int one = trace_address(m, w, &target);

                reached += one == 0;
                status = one > status ? one : status;
        }
        writer_end(w);
        if (status == 1 && reached > 0)
                status = 3;
        lookup_done(&host);
        return session_write(s, w, status);
}

int cmd_trace(struct session *s)
{
        struct measure *m = NULL;
        struct writer *w;
        uint16_t port;
        int status = arguments_port(s, s->arguments[1], &port);

        if (status == EXIT_SUCCESS && s->settings.budget_s <= 0)
                s->settings.budget_s = 20; /* waves, one after the other, for each address */
        if (status == EXIT_SUCCESS)
                status = session_measure(s, NULL, &m);
        if (status != EXIT_SUCCESS)
                return status;
        w = session_writer(s);
        writer_text(w, "host", WRITER_HIDDEN, "%s", s->arguments[0]);
        writer_integer(w, "port", WRITER_HIDDEN, port);
        status = run(s, m, w, port);
        writer_free(w);
        measure_free(m);
        return status;
}
