#include "base/alloc.h"
#include "diagnose/rules.h"

#include <stdio.h>
#include <string.h>

/* ---- building causes ---- */

struct cause *rules_add(struct rules *r, enum cause_code code)
{
        struct conclusion *o = r->out;
        struct cause *c;

        o->causes = xrealloc_array(o->causes, o->cause_count + 1, sizeof *o->causes);
        c = &o->causes[o->cause_count++];
        *c = (struct cause){.info = cause_info(code), .severity = SEVERITY_WARNING};
        c->fixed_by = c->info->fixed_by;
        return c;
}

struct cause *rules_find(struct rules *r, enum cause_code code)
{
        for (size_t i = 0; i < r->out->cause_count; i++)
                if (r->out->causes[i].info->code == code)
                        return &r->out->causes[i];
        return NULL;
}

struct cause *rules_undetermined(
        struct rules *r, const struct service *service, const char *one, const char *other)
{
        struct cause *c;

        for (size_t i = 0; i < r->out->cause_count; i++) {
                c = &r->out->causes[i];
                if (c->info->code == CAUSE_UNDETERMINED && strv_contains(&c->candidates, one) &&
                        strv_contains(&c->candidates, other) &&
                        (!service || strv_contains(&c->services, service->name)))
                        return c;
        }
        c = rules_add(r, CAUSE_UNDETERMINED);
        strv_add(&c->candidates, one);
        strv_add(&c->candidates, other);
        return c;
}

bool rules_is_target_of(struct rules *r, enum cause_code code, const struct endpoint *e)
{
        char text[INET_ADDR_TEXT];

        endpoint_format(e, text);
        for (size_t i = 0; i < r->out->cause_count; i++)
                if (r->out->causes[i].info->code == code && strv_contains(&r->out->causes[i].targets, text))
                        return true;
        return false;
}

void cause_add_service(struct cause *c, const struct service *s)
{
        strv_add_unique(&c->services, s->name);
}

void cause_add_all_services(struct cause *c, struct rules *r)
{
        for (size_t i = 0; i < r->facts.service_count; i++)
                cause_add_service(c, &r->facts.services[i]);
}

void cause_add_endpoint(struct cause *c, const struct endpoint *e)
{
        char text[INET_ADDR_TEXT];

        strv_add_unique(&c->targets, endpoint_format(e, text));
}

void cause_add_evidence(struct cause *c, const struct measurement *m)
{
        size_t at = 0;

        if (!m)
                return;
        while (at < c->evidence_count && c->evidence[at] < m->id)
                at++;
        if (at < c->evidence_count && c->evidence[at] == m->id)
                return;
        c->evidence = xrealloc_array(c->evidence, c->evidence_count + 1, sizeof *c->evidence);
        memmove(c->evidence + at + 1, c->evidence + at, (c->evidence_count - at) * sizeof *c->evidence);
        c->evidence[at] = m->id;
        c->evidence_count++;
}

static void say(char **ret, const char *format, va_list arguments) __attribute__((format(printf, 2, 0)));
static void say(char **ret, const char *format, va_list arguments)
{
        free(*ret);
        *ret = xvasprintf(format, arguments);
}

void cause_say(struct cause *c, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        say(&c->summary, format, arguments);
        va_end(arguments);
}

void cause_advise(struct cause *c, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        say(&c->remedy, format, arguments);
        va_end(arguments);
}

void rules_void(struct measurement *m, enum cause_code code, const char *reason)
{
        if (!m || m->status != STATUS_SCORED)
                return;
        m->status = STATUS_VOID;
        m->voided_by = cause_info(code)->text;
        free(m->reason);
        m->reason = xstrdup(reason);
}

bool rules_is_scored(const struct measurement *m)
{
        return m && m->status == STATUS_SCORED;
}

void target_block(struct target *t, enum probe_stage stage)
{
        t->state = ADDRESS_BLOCKED;
        t->stage = stage;
        t->explained = true;
}

/* "a, b and c", or "a, b, c and 7 more" where there are more than `most`. */
static char *enumeration(const struct strv *words, size_t most)
{
        struct text t = {0};
        size_t shown = words->count > most ? most - 1 : words->count;

        for (size_t i = 0; i < shown; i++) {
                bool last = i > 0 && i + 1 == words->count;

                text_addf(&t, "%s%s", i == 0 ? "" : last ? " and " : ", ", words->items[i]);
        }
        if (shown < words->count)
                text_addf(&t, " and %zu more", words->count - shown);
        return text_take(&t);
}

char *cause_jobs(const struct cause *c, struct rules *r)
{
        struct strv jobs = {0};
        char *text;

        for (size_t i = 0; i < r->facts.service_count; i++)
                if (strv_contains(&c->services, r->facts.services[i].name))
                        for (size_t k = 0; k < r->facts.services[i].config->carries.count; k++)
                                strv_add_unique(&jobs, r->facts.services[i].config->carries.items[k]);
        text = enumeration(&jobs, SIZE_MAX);
        strv_done(&jobs);
        return text;
}

char *cause_hosts(const struct cause *c, const struct rules *r)
{
        struct strv hosts = {0};
        char *text;

        for (size_t i = 0; i < r->facts.service_count; i++)
                if (strv_contains(&c->services, r->facts.services[i].name))
                        strv_add_unique(&hosts, r->facts.services[i].host);
        text = enumeration(&hosts, 4);
        strv_done(&hosts);
        return text;
}

char *cause_target_list(const struct cause *c)
{
        return enumeration(&c->targets, 4);
}

const char *hop_text(const struct hop_name *h, char ret[96])
{
        char address[INET_ADDR_TEXT];

        inet_addr_format(&h->address, address);
        if (h->hop > 0)
                snprintf(ret, 96, "%s (hop %d)", address, h->hop);
        else
                snprintf(ret, 96, "%s", address);
        return ret;
}

/* ---- what became of addresses and services ---- */

static void score_target(struct target *t)
{
        bool has_tls = t->service->config->spec.tls != SERVICE_TLS_NONE;

        if (t->tcp && t->tcp->outcome == OUTCOME_OK)
                t->rtt_ms = t->tcp->rtt_ms;
        if (t->state != ADDRESS_NOT_TESTED || !t->tcp)
                return; /* a rule has said it, or there is nothing to say it from */
        if (t->tcp->outcome == OUTCOME_NOT_TESTED) {
                t->stage = STAGE_TCP;
                return;
        }
        if (t->tcp->outcome != OUTCOME_OK) {
                t->state = ADDRESS_BLOCKED; /* with no cause: `explained` stays false */
                t->stage = STAGE_TCP;
                return;
        }
        t->stage = STAGE_TCP;
        if (has_tls && (!t->tls || t->tls->outcome == OUTCOME_NOT_TESTED))
                return; /* TCP alone proves nothing of the service */
        if (has_tls && t->tls->outcome != OUTCOME_OK && t->tls->status == STATUS_SCORED) {
                t->state = ADDRESS_BLOCKED;
                t->stage = STAGE_TLS;
                return;
        }
        t->state = ADDRESS_OK;
        t->stage = has_tls ? STAGE_TLS : STAGE_TCP;
        if (t->http && t->http->outcome == OUTCOME_OK)
                t->stage = STAGE_HTTP;
}

struct tally {
        size_t ok, blocked, untested;
        enum probe_stage furthest_block, furthest_ok;
};

static void count_targets(const struct service *s, struct tally *ret)
{
        for (size_t k = 0; k < s->target_count; k++) {
                const struct target *t = &s->targets[k];

                switch (t->state) {
                case ADDRESS_OK:
                        ret->ok++;
                        if (t->stage > ret->furthest_ok)
                                ret->furthest_ok = t->stage;
                        break;
                case ADDRESS_BLOCKED:
                        ret->blocked++;
                        if (t->stage > ret->furthest_block)
                                ret->furthest_block = t->stage;
                        break;
                case ADDRESS_NOT_TESTED:
                        ret->untested++;
                        break;
                }
        }
}

static enum service_state state_of_service(const struct service *s, enum probe_stage *ret_stage)
{
        struct tally n = {0};

        count_targets(s, &n);
        *ret_stage = s->stage != STAGE_NONE ? s->stage : n.blocked ? n.furthest_block : n.furthest_ok;
        if (s->blocked_whole)
                return s->usable_by_proxy ? SERVICE_DEGRADED : SERVICE_BLOCKED;
        if (n.ok)
                return n.blocked || s->dns_impaired ? SERVICE_DEGRADED : SERVICE_OK;
        if (n.blocked)
                return s->usable_by_proxy ? SERVICE_DEGRADED : SERVICE_BLOCKED;
        if (!s->target_count && s->dns_impaired) {
                *ret_stage = STAGE_DNS;
                return s->usable_by_proxy ? SERVICE_DEGRADED : SERVICE_BLOCKED;
        }
        return SERVICE_NOT_TESTED;
}

static void fill_service(const struct service *s, struct service_result *ret)
{
        ret->name = xstrdup(s->name);
        ret->host = xstrdup(s->host);
        ret->port = s->config->spec.target.port;
        ret->state = state_of_service(s, &ret->stage);
        if (ret->state == SERVICE_DEGRADED && s->dns_impaired && ret->stage == STAGE_HTTP)
                ret->stage = STAGE_DNS;
        strv_copy(&ret->carries, &s->config->carries);
        ret->addresses = xcalloc(s->target_count + 1, sizeof *ret->addresses);
        ret->address_count = s->target_count;
        for (size_t k = 0; k < s->target_count; k++) {
                const struct target *t = &s->targets[k];

                ret->addresses[k] =
                        (struct address_result){t->endpoint.address, t->state, t->stage, t->rtt_ms};
        }
}

/* ---- what failed without a cause ---- */

static const char *const stage_candidates[][3] = {
        [STAGE_TCP] = {"tcp.dropped", "tcp.reset", "service.down"},
        [STAGE_TLS] = {"tls.reset", "tls.stalled", "service.down"},
        [STAGE_HTTP] = {"http.filtered", "transfer.cut", "service.down"},
};

static void explain_rest(struct rules *r, struct service *s)
{
        struct cause *c = NULL;
        enum probe_stage stage = STAGE_NONE;
        char *targets;

        for (size_t k = 0; k < s->target_count; k++) {
                struct target *t = &s->targets[k];

                if (t->state != ADDRESS_BLOCKED || t->explained || s->explained)
                        continue;
                if (!c) {
                        c = rules_add(r, CAUSE_UNDETERMINED);
                        cause_add_service(c, s);
                        stage = t->stage;
                }
                cause_add_endpoint(c, &t->endpoint);
                cause_add_evidence(c, t->tcp);
                cause_add_evidence(c, t->tls);
        }
        if (!c)
                return;
        for (size_t i = 0; stage <= STAGE_HTTP && i < 3; i++)
                if (stage_candidates[stage][i])
                        strv_add(&c->candidates, stage_candidates[stage][i]);
        targets = cause_target_list(c);
        cause_say(c,
                "%s fails at the %s stage on %s, and the evidence does not separate the possible causes.",
                s->host, probe_stage_to_string(stage), targets);
        cause_advise(c, "Run the diagnosis again, as root and with --capture FILE, and compare.");
        free(targets);
}

/* ---- severity, verdict, summary ---- */

/* Whether a service that is blocked is so by this cause. One that speaks of other endpoints, as of a DNS
 * server that the service can do without, only hurts it. */
static bool is_why(const struct cause *c, const struct service_result *s)
{
        enum cause_code code = c->info->code;
        char text[INET_ADDR_TEXT];

        if (!strv_contains(&c->services, s->name))
                return false;
        if (!s->address_count || code == CAUSE_LINK_DOWN || code == CAUSE_ADDRESS_MISSING ||
                code == CAUSE_ADDRESS_CONFLICT || code == CAUSE_GATEWAY_UNREACHABLE ||
                code == CAUSE_UPSTREAM_DEAD || code == CAUSE_HTTP_PROXY_REQUIRED ||
                code == CAUSE_HTTP_FILTERED || strv_contains(&c->targets, "default"))
                return true;
        for (size_t k = 0; k < s->address_count; k++) {
                struct endpoint e = {s->addresses[k].address, s->port};

                if (strv_contains(&c->targets, endpoint_format(&e, text)))
                        return true;
        }
        return false;
}

static void set_severity(struct rules *r, struct cause *c)
{
        const struct conclusion *o = r->out;
        enum cause_code code = c->info->code;

        /* These hurt only quality, or only what may come. */
        if (code == CAUSE_ROUTE_CAPTURE_PENDING || code == CAUSE_PATH_LOSSY || code == CAUSE_PATH_SLOW)
                return;
        if (!o->service_count)
                c->severity = code == CAUSE_LINK_DOWN || code == CAUSE_ADDRESS_MISSING ||
                                              code == CAUSE_ROUTE_MISSING ||
                                              code == CAUSE_GATEWAY_UNREACHABLE || code == CAUSE_UPSTREAM_DEAD
                                      ? SEVERITY_CRITICAL
                                      : SEVERITY_WARNING;
        for (size_t i = 0; i < o->service_count; i++)
                if (o->services[i].state == SERVICE_BLOCKED && is_why(c, &o->services[i]))
                        c->severity = SEVERITY_CRITICAL;
}

static int compare_causes(const void *a, const void *b)
{
        const struct cause *x = a, *y = b;

        if (x->severity != y->severity)
                return x->severity > y->severity ? -1 : 1;
        if (x->info->code != y->info->code)
                return x->info->code < y->info->code ? -1 : 1;
        if (x->targets.count && y->targets.count)
                return strcmp(x->targets.items[0], y->targets.items[0]);
        return 0;
}

static bool has_established_cause(const struct conclusion *o, const char *service)
{
        for (size_t i = 0; i < o->cause_count; i++)
                if (o->causes[i].info->code != CAUSE_UNDETERMINED &&
                        o->causes[i].severity == SEVERITY_CRITICAL &&
                        strv_contains(&o->causes[i].services, service))
                        return true;
        return false;
}

static enum verdict verdict_of(const struct facts *f, const struct conclusion *o)
{
        enum verdict v = VERDICT_HEALTHY;
        size_t untested = 0;

        if (!o->service_count)
                return rules_host_verdict(f, o);
        for (size_t i = 0; i < o->service_count; i++) {
                const struct service_result *s = &o->services[i];

                if (s->state == SERVICE_BLOCKED && !has_established_cause(o, s->name))
                        return VERDICT_UNDETERMINED;
                if (s->state == SERVICE_BLOCKED)
                        v = VERDICT_BLOCKED;
                else if (s->state == SERVICE_DEGRADED && v == VERDICT_HEALTHY)
                        v = VERDICT_DEGRADED;
                untested += s->state == SERVICE_NOT_TESTED;
        }
        for (size_t i = 0; v == VERDICT_DEGRADED && i < o->cause_count; i++)
                if (o->causes[i].info->code == CAUSE_UNDETERMINED && o->cause_count == 1)
                        return VERDICT_UNDETERMINED;
        return untested && v == VERDICT_HEALTHY ? VERDICT_UNDETERMINED : v;
}

static char *summary_of_services(const struct facts *f, const struct conclusion *o)
{
        size_t n = o->service_count;

        if (!n)
                return rules_host_summary(f);
        for (size_t i = 0; i < n; i++)
                if (o->services[i].state == SERVICE_NOT_TESTED)
                        return xasprintf("%s:%u could not be tested in the time given.", o->services[i].host,
                                o->services[i].port);
        if (n == 1)
                return xasprintf("%s:%u is reachable and genuine.", o->services[0].host, o->services[0].port);
        if (n == 2)
                return xstrdup("Both services of the control plane are reachable and genuine.");
        return xasprintf("All %zu services of the control plane are reachable and genuine.", n);
}

static char *summary_of(const struct facts *f, const struct conclusion *o)
{
        size_t more = o->cause_count - 1;

        if (!o->cause_count || (o->verdict == VERDICT_HEALTHY && o->service_count)) {
                char *s = summary_of_services(f, o), *longer;

                if (!o->cause_count)
                        return s;
                longer = xasprintf("%s Yet: %s", s, o->causes[0].summary);
                free(s);
                return longer;
        }
        if (!more)
                return xstrdup(o->causes[0].summary);
        return xasprintf("%s (and %zu more cause%s)", o->causes[0].summary, more, more == 1 ? "" : "s");
}

/* ---- all of it ---- */

static void reset_status(struct measurement_list *list)
{
        for (size_t i = 0; i < list->count; i++) {
                struct measurement *m = list->items[i];
                bool tested = m->outcome != OUTCOME_NOT_TESTED && m->outcome != OUTCOME_NOT_PERMITTED;

                m->status = tested ? STATUS_SCORED : STATUS_NOT_TESTED;
                m->voided_by = NULL;
                if (tested) {
                        free(m->reason);
                        m->reason = NULL;
                }
        }
}

static void run_rules(struct rules *r)
{
        rules_host(r);
        rules_local(r);
        rules_upstream(r);
        rules_dns(r);
        rules_portal(r);
        rules_tcp(r);
        rules_tls(r);
        rules_http(r);
        rules_quality(r);
}

void diagnose_conclude(struct measurement_list *list, struct conclusion *ret)
{
        struct rules r = {.out = ret};

        reset_status(list);
        facts_build(&r.facts, list);
        run_rules(&r);
        for (size_t i = 0; i < r.facts.service_count; i++) {
                for (size_t k = 0; k < r.facts.services[i].target_count; k++)
                        score_target(&r.facts.services[i].targets[k]);
                explain_rest(&r, &r.facts.services[i]);
        }
        ret->services = xcalloc(r.facts.service_count + 1, sizeof *ret->services);
        ret->service_count = r.facts.service_count;
        for (size_t i = 0; i < r.facts.service_count; i++)
                fill_service(&r.facts.services[i], &ret->services[i]);
        for (size_t i = 0; i < ret->cause_count; i++)
                set_severity(&r, &ret->causes[i]);
        if (ret->cause_count)
                qsort(ret->causes, ret->cause_count, sizeof *ret->causes, compare_causes);
        ret->verdict = verdict_of(&r.facts, ret);
        ret->summary = summary_of(&r.facts, ret);
        facts_done(&r.facts);
}
