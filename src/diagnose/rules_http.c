/* What the service says once it is reached, whether bulk data passes, and how well the path works. */
#include "base/alloc.h"
#include "diagnose/rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SLOW_RTT_MS 400.0

static void attach(struct cause *c, struct target *t, const struct measurement *m)
{
        cause_add_service(c, t->service);
        cause_add_endpoint(c, &t->endpoint);
        cause_add_evidence(c, m);
        target_block(t, STAGE_HTTP);
}

static struct cause *http_cause(
        struct rules *r, enum cause_code code, struct target *t, const struct measurement *m)
{
        struct cause *c = NULL;

        for (size_t i = r->http_from; i < r->out->cause_count; i++)
                if (r->out->causes[i].info->code == code)
                        c = &r->out->causes[i];
        if (!c)
                c = rules_add(r, code);
        attach(c, t, m);
        return c;
}

static bool has_word(const char *text, const char *word)
{
        return text && strcasestr(text, word);
}

/* nginx answers 400 with a page that speaks of the certificate. */
static bool refuses_certificate(const struct measurement *m)
{
        return m->spec.tls == SERVICE_TLS_MUTUAL &&
               (m->alert_seen == YES || (m->http_status == 400 && has_word(m->body_excerpt, "certificate")));
}

static bool is_unauthorized(const struct measurement *m)
{
        return (m->http_status == 401 || m->http_status == 403) && m->problem_type &&
               str_ends_with(m->problem_type, "/node-not-authorized");
}

static void say_server_error(struct rules *r, struct target *t, const struct measurement *m)
{
        struct cause *c = http_cause(r, CAUSE_SERVICE_DOWN, t, m);
        char *list = cause_target_list(c);

        cause_say(
                c, "The control plane's own server at %s answers with HTTP status %d.", list, m->http_status);
        cause_advise(c,
                "Nothing at the site has to change. The control plane's operator mends the service %s.",
                t->service->name);
        free(list);
}

static void say_unauthorized(struct rules *r, struct target *t, const struct measurement *m)
{
        struct cause *c = http_cause(r, CAUSE_HTTP_UNAUTHORIZED, t, m);

        cause_say(c, "The control plane does not know this node: %s answers %d (%.120s).", t->service->host,
                m->http_status, m->problem_type);
        cause_advise(c, "Register this node, or ask the control plane's operator to allow it.");
}

static void say_undetermined(
        struct rules *r, struct target *t, const struct measurement *m, const char *one, const char *other)
{
        struct cause *c = rules_undetermined(r, t->service, one, other);

        attach(c, t, m);
        if (m->http_status)
                cause_say(c, "%s answers %d, and nothing says why.", t->service->host, m->http_status);
        else
                cause_say(c, "%s completes TLS and then gives no answer to an HTTP request (%s).",
                        t->service->host, measurement_outcome_to_string(m->outcome));
        cause_advise(c, "Ask the control plane's operator what its log says of this node at this time.");
}

/* Only without TLS can somebody else speak in the service's name. */
static void rule_plain(struct rules *r, struct target *t, const struct measurement *m)
{
        struct cause *c;
        bool proxy = m->http_status == 407 || m->proxy_authenticate;

        if (rules_is_portal(m, t->service->host)) {
                c = http_cause(r, CAUSE_HTTP_CAPTIVE_PORTAL, t, m);
                rules_say_portal(c, t->service, m);
        } else if (proxy) {
                c = http_cause(r, CAUSE_HTTP_PROXY_REQUIRED, t, m);
                cause_say(c, "A proxy demands a sign-in before it lets anything to %s (status %d).",
                        t->service->host, m->http_status);
                cause_advise(c, "Configure the proxy and its credentials, or allow this node directly.");
        } else if (m->http_status == 403 && !m->problem_type) {
                c = http_cause(r, CAUSE_HTTP_FILTERED, t, m);
                cause_say(c, "A filter blocks %s: status 403%s%.60s.", t->service->host,
                        m->server_header ? " from " : "", m->server_header ? m->server_header : "");
                cause_advise(c, "On the site's web filter, allow %s.", t->service->host);
        }
}

static void rule_answer(struct rules *r, struct target *t, const struct measurement *m)
{
        bool have = r->facts.site && r->facts.site->has_certificate == YES;

        if (refuses_certificate(m)) {
                if (have)
                        rules_client_rejected(
                                r, t, m, m->alert_seen == YES ? "TLS alert" : "HTTP status 400");
                return; /* without a certificate the client's half is not tested */
        }
        if (m->outcome != OUTCOME_OK)
                return;
        if (is_unauthorized(m))
                say_unauthorized(r, t, m);
        else if (m->http_status >= 500 && m->http_status != 511)
                say_server_error(r, t, m);
        else if (t->service->config->spec.tls == SERVICE_TLS_NONE)
                rule_plain(r, t, m);
        else if (m->http_status == 401 || m->http_status == 403)
                say_undetermined(r, t, m, "http.unauthorized", "http.filtered");
}

/* ---- no answer at all, asked twice ---- */

static void rule_silent(struct rules *r, struct target *t)
{
        const struct measurement *first = NULL, *second = NULL;

        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];

                if (m->spec.kind != MEASUREMENT_HTTP || m->spec.purpose != PURPOSE_SERVICE ||
                        !endpoint_equal(&m->spec.target, &t->endpoint) ||
                        !str_equal(m->spec.service, t->service->name))
                        continue;
                if (m->outcome == OUTCOME_OK)
                        return;
                if (m->stage != STAGE_HTTP || m->outcome == OUTCOME_NOT_TESTED)
                        continue;
                if (m->spec.attempt == 0)
                        first = m;
                else
                        second = m;
        }
        if (first && second)
                say_undetermined(r, t, second, "transfer.cut", "service.down");
}

/* ---- bulk data ---- */

static void rule_payload(struct rules *r, struct target *t)
{
        const struct measurement *first = NULL, *second = NULL;
        struct cause *c;
        char *list;

        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];

                if (m->spec.kind != MEASUREMENT_HTTP || m->spec.purpose != PURPOSE_PAYLOAD ||
                        !endpoint_equal(&m->spec.target, &t->endpoint) || m->outcome == OUTCOME_OK ||
                        m->outcome == OUTCOME_NOT_TESTED || m->stage != STAGE_HTTP)
                        continue;
                if (m->spec.attempt == 0)
                        first = m;
                else
                        second = m;
        }
        if (!first || !second)
                return;
        c = http_cause(r, CAUSE_TRANSFER_CUT, t, first);
        cause_add_evidence(c, second);
        list = cause_target_list(c);
        cause_say(c,
                "The connection to %s opens, and bulk data is %s: %llu and %llu of %u bytes came in two "
                "tries.",
                list, second->outcome == OUTCOME_TIMEOUT ? "stalled" : "cut",
                (unsigned long long)first->body_bytes, (unsigned long long)second->body_bytes,
                first->spec.expect_bytes);
        cause_advise(c,
                "On the site's firewall, look for a limit of session size, a file or antivirus filter on "
                "port %u, "
                "and exempt the control plane's ranges.",
                t->endpoint.port);
        free(list);
}

void rules_http(struct rules *r)
{
        r->http_from = r->out->cause_count;
        for (size_t i = 0; i < r->facts.service_count; i++)
                for (size_t k = 0; k < r->facts.services[i].target_count; k++) {
                        struct target *t = &r->facts.services[i].targets[k];

                        if (t->explained || !t->tcp || t->tcp->outcome != OUTCOME_OK)
                                continue;
                        if (t->http && rules_is_scored(t->http))
                                rule_answer(r, t, t->http);
                        if (!t->explained)
                                rule_silent(r, t);
                        if (!t->explained)
                                rule_payload(r, t);
                }
}

/* ---- quality ---- */

static int compare_doubles(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static void rule_slow(struct rules *r)
{
        const struct facts *f = &r->facts;
        double *rtt = xcalloc(f->list->count + 1, sizeof *rtt);
        size_t n = 0;
        struct cause *c;

        for (size_t i = 0; i < f->list->count; i++)
                if (f->list->items[i]->spec.kind == MEASUREMENT_TCP &&
                        f->list->items[i]->outcome == OUTCOME_OK && f->list->items[i]->rtt_ms > 0)
                        rtt[n++] = f->list->items[i]->rtt_ms;
        qsort(rtt, n, sizeof *rtt, compare_doubles);
        if (n && rtt[n / 2] >= SLOW_RTT_MS) {
                c = rules_add(r, CAUSE_PATH_SLOW);
                cause_add_all_services(c, r);
                for (size_t i = 0; i < f->list->count; i++)
                        if (f->list->items[i]->spec.kind == MEASUREMENT_TCP &&
                                f->list->items[i]->rtt_ms >= SLOW_RTT_MS)
                                cause_add_evidence(c, f->list->items[i]);
                cause_say(c,
                        "The path works and is slow: round trips of %.0f ms (median), %.0f ms (90th "
                        "percentile).",
                        rtt[n / 2], rtt[n * 9 / 10 < n ? n * 9 / 10 : n - 1]);
                cause_advise(
                        c, "Nothing has to change; updates take longer. Look at the line's load and kind.");
        }
        free(rtt);
}

static void rule_lossy(struct rules *r)
{
        const struct facts *f = &r->facts;
        struct cause *c;

        if (f->lost < 3 || f->lost * 25 < f->answers + f->lost)
                return;
        c = rules_add(r, CAUSE_PATH_LOSSY);
        cause_add_all_services(c, r);
        for (size_t i = 0; i < f->list->count; i++)
                if (f->list->items[i]->syns_unanswered > 0)
                        cause_add_evidence(c, f->list->items[i]);
        cause_say(c,
                "The path works and loses packets: %d of %d tries went unanswered before the next was "
                "answered.",
                f->lost, f->answers + f->lost);
        cause_advise(c, "Nothing in the firewall's rules has to change. Look at the line: its load, its "
                        "errors, its radio.");
}

void rules_quality(struct rules *r)
{
        rule_slow(r);
        rule_lossy(r);
}
