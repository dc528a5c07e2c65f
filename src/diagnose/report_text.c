#include "diagnose/report.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "diagnose/facts.h"
#include "diagnose/paper.h"
#include "diagnose/report_picture.h"

#include <string.h>

#define PROOF_LINES   6  /* of a cause, unless verbose */
#define ADDRESS_LINES 24 /* of the table, unless verbose */
#define GROUP_LINES   8  /* of what was not tested, unless verbose */
#define FEW_ADDRESSES 4  /* as many are in the picture already */

/* ---- the verdict ---- */

static enum ink verdict_ink(enum verdict v)
{
        switch (v) {
        case VERDICT_HEALTHY:
                return INK_GOOD;
        case VERDICT_DEGRADED:
                return INK_WARNING;
        case VERDICT_BLOCKED:
                return INK_BAD;
        case VERDICT_UNDETERMINED:
                return INK_DOUBT;
        }
        return INK_PLAIN;
}

static void write_verdict(struct paper *p, const struct report *r)
{
        enum ink ink = verdict_ink(r->conclusion.verdict);

        report_picture_mark(p, ink);
        paper_put(p, ink, verdict_to_string(r->conclusion.verdict));
        paper_put(p, INK_PLAIN, ": ");
        paper_words(p, INK_BOLD, 2, r->conclusion.summary ? r->conclusion.summary : "");
        paper_end_line(p);
}

static void write_frame(struct paper *p, const struct report *r)
{
        struct text t = {0};
        char started[32];

        time_format_utc(r->started_unix_ms, started);
        text_addf(&t, "node %s", r->node ? r->node : "");
        if (!str_is_empty(r->profile))
                text_addf(&t, ", profile %s", r->profile);
        text_addf(&t, ", %.10s %.8s UTC, took %.0f ms", started, started + 11, r->elapsed_ms);
        paper_to_column(p, 2);
        paper_words(p, INK_FAINT, 2, text_string(&t));
        paper_end_line(p);
        text_done(&t);
        if (!r->interrupted)
                return;
        paper_to_column(p, 2);
        paper_words(p, INK_WARNING, 2, "Interrupted: what had not been measured by then is not tested.");
        paper_end_line(p);
}

/* ---- causes ---- */

static const struct measurement *measurement_of(const struct report *r, int id)
{
        return id >= 1 && (size_t)id <= r->measurements.count ? r->measurements.items[id - 1] : NULL;
}

static void write_measurement(struct paper *p, int indent, const struct measurement *m)
{
        _cleanup_free_ char *s = measurement_describe(m), *bounded = xstrndup(s, 400);

        paper_to_column(p, indent);
        paper_putf(p, INK_FAINT, "#%-3d ", m->id);
        paper_words(p, INK_PLAIN, indent + 5, bounded);
        if (m->status != STATUS_SCORED) {
                paper_put(p, INK_PLAIN, " ");
                paper_wordsf(p, INK_FAINT, indent + 5, "[%s%s%s]", measurement_status_to_string(m->status),
                        m->voided_by ? ": " : "", m->voided_by ? m->voided_by : "");
        }
        paper_end_line(p);
}

static void write_labelled(struct paper *p, const char *label, const char *text)
{
        paper_to_column(p, 4);
        paper_put(p, INK_FAINT, label);
        paper_to_column(p, 12);
        paper_words(p, INK_PLAIN, 12, text);
        paper_end_line(p);
}

static void write_proof(struct paper *p, const struct report *r, const struct cause *c, bool verbose)
{
        size_t shown = verbose || c->evidence_count <= PROOF_LINES ? c->evidence_count : PROOF_LINES - 1;

        for (size_t i = 0; i < shown; i++) {
                const struct measurement *m = measurement_of(r, c->evidence[i]);

                paper_to_column(p, 4);
                paper_put(p, INK_FAINT, i ? "" : "proof");
                if (m)
                        write_measurement(p, 12, m);
                else
                        paper_end_line(p);
        }
        if (shown == c->evidence_count)
                return;
        paper_to_column(p, 12);
        paper_wordsf(p, INK_FAINT, 12, "and %zu more (--verbose lists them)", c->evidence_count - shown);
        paper_end_line(p);
}

static void write_cause(struct paper *p, const struct report *r, const struct cause *c, bool verbose)
{
        enum ink ink = c->info->code == CAUSE_UNDETERMINED ? INK_DOUBT
                       : c->severity == SEVERITY_CRITICAL  ? INK_BAD
                                                           : INK_WARNING;
        _cleanup_free_ char *services = strv_join(&c->services, ", ");
        _cleanup_free_ char *candidates = strv_join(&c->candidates, ", ");
        const char *remedy = c->remedy ? c->remedy : c->info->remedy;

        paper_put(p, INK_PLAIN, "  ");
        report_picture_mark(p, ink);
        paper_put(p, ink, c->info->text);
        paper_putf(p, INK_FAINT, "  %s", severity_to_string(c->severity));
        if (c->services.count) {
                paper_put(p, INK_FAINT, " for ");
                paper_words(p, INK_FAINT, 8, services);
        }
        paper_end_line(p);
        paper_to_column(p, 4);
        paper_words(p, INK_PLAIN, 4, c->summary ? c->summary : c->info->title);
        paper_end_line(p);
        if (candidates[0])
                write_labelled(p, "may be", candidates);
        write_proof(p, r, c, verbose);
        write_labelled(p, "remedy", remedy);
        write_labelled(p, "by whom", fixed_by_to_person(c->fixed_by));
}

static void write_causes(struct paper *p, const struct report *r, bool verbose)
{
        const struct conclusion *c = &r->conclusion;

        if (!c->cause_count)
                return;
        paper_heading(p, c->cause_count == 1 ? "Cause" : "Causes");
        for (size_t i = 0; i < c->cause_count; i++) {
                if (i)
                        paper_end_line(p);
                write_cause(p, r, &c->causes[i], verbose);
        }
}

/* ---- addresses ---- */

static enum ink address_ink(enum address_state s)
{
        switch (s) {
        case ADDRESS_OK:
                return INK_GOOD;
        case ADDRESS_BLOCKED:
                return INK_BAD;
        case ADDRESS_NOT_TESTED:
                return INK_FAINT;
        }
        return INK_PLAIN;
}

static void write_address(struct paper *p, const struct service_result *s, const struct address_result *a)
{
        struct endpoint e = {.address = a->address, .port = s->port};
        char text[INET_ADDR_TEXT];

        paper_put(p, INK_PLAIN, "  ");
        report_picture_mark(p, address_ink(a->state));
        paper_put(p, INK_PLAIN, endpoint_format(&e, text));
        paper_put(p, INK_PLAIN, " ");
        paper_to_column(p, p->width < 70 ? 0 : 29);
        paper_wordsf(p, address_ink(a->state), 6, "%s", address_state_to_string(a->state));
        paper_put(p, INK_PLAIN, " ");
        paper_to_column(p, p->width < 70 ? 0 : 40);
        if (a->state == ADDRESS_BLOCKED && a->stage != STAGE_NONE)
                paper_wordsf(p, INK_PLAIN, 6, "at %s", probe_stage_to_string(a->stage));
        if (a->rtt_ms > 0)
                paper_wordsf(p, INK_PLAIN, 6, "%.1f ms", a->rtt_ms);
        paper_put(p, INK_PLAIN, " ");
        paper_to_column(p, p->width < 70 ? 0 : 49);
        paper_words(p, INK_FAINT, 6, s->name);
        paper_end_line(p);
}

/* Those that do not work come first, so that a bounded table leaves out what works. */
static void write_addresses(struct paper *p, const struct report *r, bool verbose)
{
        static const enum address_state order[] = {ADDRESS_BLOCKED, ADDRESS_NOT_TESTED, ADDRESS_OK};
        const struct conclusion *c = &r->conclusion;
        size_t total = 0, shown = 0, bound;

        for (size_t i = 0; i < c->service_count; i++)
                total += c->services[i].address_count;
        if (total <= FEW_ADDRESSES)
                return;
        bound = verbose || total <= ADDRESS_LINES ? total : ADDRESS_LINES;
        paper_heading(p, "Addresses");
        for (size_t k = 0; k < ELEMENTS(order); k++)
                for (size_t i = 0; i < c->service_count; i++)
                        for (size_t n = 0; n < c->services[i].address_count && shown < bound; n++)
                                if (c->services[i].addresses[n].state == order[k]) {
                                        write_address(p, &c->services[i], &c->services[i].addresses[n]);
                                        shown++;
                                }
        if (shown == total)
                return;
        paper_to_column(p, 4);
        paper_wordsf(p, INK_FAINT, 4, "and %zu more (--verbose lists them)", total - shown);
        paper_end_line(p);
}

/* ---- what was not tested, and what is void ---- */

struct group {
        const struct measurement *first;
        size_t count;
};

static const char *status_reason(const struct measurement *m)
{
        if (m->status == STATUS_VOID && m->voided_by)
                return m->voided_by;
        if (m->reason)
                return m->reason;
        return m->outcome == OUTCOME_NOT_PERMITTED ? "not permitted" : "no reason recorded";
}

static bool same_group(const struct measurement *a, const struct measurement *b)
{
        return a->spec.kind == b->spec.kind && a->status == b->status &&
               str_equal(status_reason(a), status_reason(b));
}

/* Groups of measurements that were not scored, by kind and reason. Caller frees. */
static struct group *group_unscored(const struct report *r, size_t *ret_count)
{
        struct group *groups = NULL;
        size_t count = 0;

        for (size_t i = 0; i < r->measurements.count; i++) {
                const struct measurement *m = r->measurements.items[i];
                size_t k = 0;

                if (m->status == STATUS_SCORED)
                        continue;
                while (k < count && !same_group(groups[k].first, m))
                        k++;
                if (k == count && count < 64) {
                        groups = xrealloc_array(groups, count + 1, sizeof *groups);
                        groups[count++] = (struct group){.first = m};
                }
                if (k < count)
                        groups[k].count++;
        }
        *ret_count = count;
        return groups;
}

/* What a conclusion loses without these measurements. */
static const char *what_is_lost(enum measurement_kind kind)
{
        switch (kind) {
        case MEASUREMENT_CAPTURE:
                return "Without the right to watch packets a silent drop by this node's own firewall "
                       "(firewall.local) and answers that its kernel discards (reply.discarded) cannot be "
                       "seen.";
        case MEASUREMENT_ARP:
                return "Without ARP probes a second owner of this node's address (address.conflict) cannot "
                       "be seen, "
                       "and the gateway is judged by the kernel's neighbour table alone.";
        case MEASUREMENT_PROFILE:
        case MEASUREMENT_SERVICE:
        case MEASUREMENT_SITE:
        case MEASUREMENT_LAN:
        case MEASUREMENT_LINK:
        case MEASUREMENT_ADDRESS:
        case MEASUREMENT_ROUTE:
        case MEASUREMENT_NEIGHBOUR:
        case MEASUREMENT_DNS:
        case MEASUREMENT_TCP:
        case MEASUREMENT_HOP:
        case MEASUREMENT_TLS:
        case MEASUREMENT_HTTP:
        case MEASUREMENT_KIND_COUNT:
                break;
        }
        return NULL;
}

static void write_group(struct paper *p, const struct group *g)
{
        const struct measurement *m = g->first;
        const char *lost = m->status == STATUS_NOT_TESTED ? what_is_lost(m->spec.kind) : NULL;
        _cleanup_free_ char *reason = xstrndup(status_reason(m), 200);
        char target[320];

        probe_spec_target_text(&m->spec, target, sizeof target);
        paper_put(p, INK_FAINT, m->status == STATUS_VOID ? "  void        " : "  not tested  ");
        paper_putf(p, INK_PLAIN, "%s%s ", measurement_kind_to_string(m->spec.kind), target[0] ? "" : ":");
        if (g->count > 1)
                paper_wordsf(p, INK_PLAIN, 14, "%s and %zu more: %s", target, g->count - 1, reason);
        else
                paper_wordsf(p, INK_PLAIN, 14, "%s%s%s", target, target[0] ? ": " : "", reason);
        paper_end_line(p);
        if (lost) {
                paper_to_column(p, 14);
                paper_words(p, INK_FAINT, 14, lost);
                paper_end_line(p);
        }
}

static void write_unscored(struct paper *p, const struct report *r, bool verbose)
{
        size_t count, shown;
        _cleanup_free_ struct group *groups = group_unscored(r, &count);

        if (!count)
                return;
        shown = verbose || count <= GROUP_LINES ? count : GROUP_LINES;
        paper_heading(p, "Not judged");
        for (size_t i = 0; i < shown; i++)
                write_group(p, &groups[i]);
        if (shown == count)
                return;
        paper_to_column(p, 14);
        paper_wordsf(p, INK_FAINT, 14, "and %zu more kinds (--verbose lists them)", count - shown);
        paper_end_line(p);
}

static void write_all(struct paper *p, const struct report *r)
{
        paper_heading(p, "Measurements");
        for (size_t i = 0; i < r->measurements.count; i++)
                write_measurement(p, 2, r->measurements.items[i]);
}

static void write_way(struct paper *p, const struct report *r)
{
        struct facts f = {0};

        /* The facts only borrow the list; nothing in it is changed. */
        facts_build(&f, (struct measurement_list *)&r->measurements);
        paper_heading(p, "The way");
        report_picture_services(p, r, &f);
        report_picture_servers(p, r, &f);
        facts_done(&f);
}

static void write_hints(struct paper *p, const struct report *r)
{
        const struct conclusion *c = &r->conclusion;
        bool for_site = false;

        if (!c->cause_count)
                return;
        for (size_t i = 0; i < c->cause_count; i++)
                for_site |= c->causes[i].fixed_by == FIXED_BY_SITE;
        paper_end_line(p);
        paper_wordsf(p, INK_FAINT, 0, "gridnode explain %s says more%s.", c->causes[0].info->text,
                for_site ? "; --firewall-page FILE writes a page for the firewall's owner" : "");
        paper_end_line(p);
}

void report_write_text(const struct report *r, const struct report_style *style, FILE *to)
{
        struct paper p;

        paper_init(&p, style, to);
        write_verdict(&p, r);
        write_frame(&p, r);
        write_way(&p, r);
        write_causes(&p, r, style->verbose);
        write_addresses(&p, r, style->verbose);
        write_unscored(&p, r, style->verbose);
        if (style->verbose)
                write_all(&p, r);
        if (!style->verbose)
                write_hints(&p, r);
}
