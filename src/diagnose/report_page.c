/* The page for the firewall's owner: what is asked for. What was seen is in report_page_observed.c. */
#include "diagnose/report_page.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/version.h"
#include "diagnose/rules.h"

#include <string.h>

#define MAX_CHANGES  5
#define MAX_RULES    8 /* rows of ranges or addresses */
#define MAX_SERVERS  4
#define MAX_COMMANDS 3 /* targets */

/* ---- who has to do something ---- */

/* A poor line is the site's as well, yet no rule of a firewall mends it. */
bool report_page_asks_site(const struct cause *c)
{
        return c->fixed_by == FIXED_BY_SITE && c->info->code != CAUSE_PATH_LOSSY &&
               c->info->code != CAUSE_PATH_SLOW && c->info->code != CAUSE_UNDETERMINED;
}

static bool needs_rules(const struct cause *c)
{
        return report_page_asks_site(c) && c->info->code != CAUSE_ADDRESS_CONFLICT &&
               c->info->code != CAUSE_GATEWAY_UNREACHABLE;
}

static size_t count_causes(const struct report *r, bool (*is)(const struct cause *c))
{
        size_t n = 0;

        for (size_t i = 0; i < r->conclusion.cause_count; i++)
                n += is(&r->conclusion.causes[i]);
        return n;
}

static const char *summary_of(const struct cause *c)
{
        return c->summary ? c->summary : c->info->title;
}

static const char *remedy_of(const struct cause *c)
{
        return c->remedy ? c->remedy : c->info->remedy;
}

static const char *source_of(const struct report *r)
{
        return r->source_address[0] ? r->source_address : "the node's WAN address";
}

/* ---- what is wrong, what to change ---- */

static void write_impact(struct page *p, const struct report *r)
{
        struct strv stopped = {0};
        _cleanup_free_ char *list = NULL;

        for (size_t i = 0; i < r->conclusion.service_count; i++) {
                const struct service_result *s = &r->conclusion.services[i];

                for (size_t k = 0; s->state == SERVICE_BLOCKED && k < s->carries.count; k++)
                        strv_add_unique(&stopped, s->carries.items[k]);
        }
        list = strv_join(&stopped, ", ");
        if (stopped.count)
                page_paragraphf(p, "What stands still on this node while this lasts: %s.", list);
        strv_done(&stopped);
}

static void write_changes(struct page *p, const struct report *r)
{
        struct strv seen = {0};

        page_heading(p, "What to change");
        page_list_begin(p);
        for (size_t i = 0; i < r->conclusion.cause_count && seen.count < MAX_CHANGES; i++) {
                const struct cause *c = &r->conclusion.causes[i];

                if (!report_page_asks_site(c) || strv_contains(&seen, remedy_of(c)))
                        continue;
                strv_add(&seen, remedy_of(c));
                page_list_item(p, remedy_of(c));
        }
        page_list_end(p);
        strv_done(&seen);
}

/* ---- what to allow ---- */

struct tally {
        size_t ok, blocked, elsewhere, unknown, untested;
        enum probe_stage stage; /* of a blocked one */
};

/* Whose doing a failing address is: the site's where a cause for the site names it or none names it at all.
 */
static size_t *blame(struct tally *t, const struct report *r, const struct endpoint *e)
{
        size_t *ret = &t->blocked;
        char text[INET_ADDR_TEXT];

        endpoint_format(e, text);
        for (size_t i = 0; i < r->conclusion.cause_count; i++) {
                const struct cause *c = &r->conclusion.causes[i];

                if (!strv_contains(&c->targets, text))
                        continue;
                if (report_page_asks_site(c))
                        return &t->blocked;
                ret = c->info->code == CAUSE_UNDETERMINED ? &t->unknown : &t->elsewhere;
        }
        return ret;
}

static void tally_address(struct tally *t, const struct report *r, const struct service_result *s,
        const struct address_result *a)
{
        struct endpoint e = {.address = a->address, .port = s->port};

        switch (a->state) {
        case ADDRESS_OK:
                t->ok++;
                break;
        case ADDRESS_BLOCKED:
                (*blame(t, r, &e))++;
                t->stage = a->stage;
                break;
        case ADDRESS_NOT_TESTED:
                t->untested++;
                break;
        }
}

static const char *tally_words(const struct tally *t)
{
        if (t->blocked && t->ok)
                return "blocked for some addresses";
        if (t->blocked)
                return t->stage == STAGE_TLS    ? "TCP opens, TLS fails"
                       : t->stage == STAGE_HTTP ? "TCP and TLS open, HTTP fails"
                                                : "blocked";
        if (t->unknown)
                return "fails, cause not established";
        if (t->elsewhere)
                return "fails, but not at the firewall";
        return t->ok ? "passes" : "not tested";
}

struct rule {
        char to[INET_ADDR_TEXT];
        uint16_t port;
        struct tally tally;
};

/* What is blocked first, then what passes, then what nobody tried; else as the profile has it. */
static int rule_rank(const struct rule *r)
{
        return r->tally.blocked ? 0 : r->tally.ok || r->tally.elsewhere || r->tally.unknown ? 1 : 2;
}

static void write_rule(struct page *p, const struct report *r, const struct rule *rule)
{
        char port[8];
        const char *cells[] = {source_of(r), rule->to, port, "TCP", tally_words(&rule->tally)};

        snprintf(port, sizeof port, "%u", rule->port);
        page_table_row(p, cells);
}

static size_t collect_ports(const struct report *r, uint16_t ret[PROFILE_MAX_SERVICES])
{
        size_t n = 0;

        for (size_t i = 0; i < r->conclusion.service_count && n < PROFILE_MAX_SERVICES; i++) {
                uint16_t port = r->conclusion.services[i].port;
                size_t k = 0;

                while (k < n && ret[k] != port)
                        k++;
                if (k == n)
                        ret[n++] = port;
        }
        return n;
}

struct rules_list {
        struct rule *items;
        size_t count;
};

static struct rule *find_rule(struct rules_list *l, const char *to, uint16_t port)
{
        for (size_t i = 0; i < l->count; i++)
                if (l->items[i].port == port && str_equal(l->items[i].to, to))
                        return &l->items[i];
        l->items = xrealloc_array(l->items, l->count + 1, sizeof *l->items);
        l->items[l->count] = (struct rule){.port = port};
        str_copy(l->items[l->count].to, sizeof l->items[l->count].to, to);
        return &l->items[l->count++];
}

/* One rule for each range and port that an address is known of; without ranges, one for each address. */
static void collect_known(struct rules_list *l, const struct report *r, const struct facts *f)
{
        for (size_t i = 0; i < r->conclusion.service_count; i++) {
                const struct service_result *s = &r->conclusion.services[i];

                for (size_t k = 0; k < s->address_count; k++) {
                        int range = facts_range_of(f, &s->addresses[k].address);
                        char to[INET_ADDR_TEXT];

                        if (range >= 0)
                                cidr_format(&f->ranges[range], to);
                        else
                                inet_addr_format(&s->addresses[k].address, to);
                        tally_address(&find_rule(l, to, s->port)->tally, r, s, &s->addresses[k]);
                }
        }
}

/* Gives how many rules did not fit. A profile may have thousands of ranges: those that nobody tried are made
 * only as far as they are shown. */
static size_t write_rules(struct page *p, const struct report *r, const struct facts *f)
{
        uint16_t ports[PROFILE_MAX_SERVICES];
        size_t port_count = collect_ports(r, ports), total = f->range_count * port_count, shown = 0;
        struct rules_list l = {0};

        collect_known(&l, r, f);
        for (size_t i = 0; i < f->range_count && l.count < MAX_RULES; i++)
                for (size_t k = 0; k < port_count; k++) {
                        char to[INET_ADDR_TEXT];

                        find_rule(&l, cidr_format(&f->ranges[i], to), ports[k]);
                }
        for (int rank = 0; rank <= 2; rank++)
                for (size_t i = 0; i < l.count && shown < MAX_RULES; i++)
                        if (rule_rank(&l.items[i]) == rank) {
                                write_rule(p, r, &l.items[i]);
                                shown++;
                        }
        total = l.count > total ? l.count : total;
        free(l.items);
        return total - shown;
}

static const char *transport_words(enum transport_state s)
{
        switch (s) {
        case TRANSPORT_UNTESTED:
        case TRANSPORT_HOST_ERROR:
                return "not tested";
        case TRANSPORT_ANSWERS:
                return "passes";
        case TRANSPORT_DEAD:
                return "no answer";
        case TRANSPORT_REJECTED:
                return "blocked";
        case TRANSPORT_REFUSED:
                return "refused by the server";
        }
        return "";
}

static void write_servers(struct page *p, const struct report *r, const struct facts *f)
{
        for (size_t i = 0; i < f->server_count && i < MAX_SERVERS; i++) {
                const struct server *s = &f->servers[i];
                char address[INET_ADDR_TEXT], port[8];
                const char *udp = transport_words(s->udp), *tcp = transport_words(s->tcp);
                _cleanup_free_ char *today = s->captured           ? xstrdup("not judged")
                                             : str_equal(udp, tcp) ? xstrdup(udp)
                                                                   : xasprintf("UDP %s, TCP %s", udp, tcp);
                const char *cells[] = {source_of(r), address, port, "UDP and TCP", today};

                inet_addr_format(&s->endpoint.address, address);
                snprintf(port, sizeof port, "%u", s->endpoint.port);
                page_table_row(p, cells);
        }
}

static void write_exemption(struct page *p, const struct report *r)
{
        const struct cause *c = NULL;
        struct strv hosts = {0};
        _cleanup_free_ char *list = NULL;

        for (size_t i = 0; i < r->conclusion.cause_count && !c; i++)
                if (r->conclusion.causes[i].info->code == CAUSE_TLS_INTERCEPTED)
                        c = &r->conclusion.causes[i];
        if (!c)
                return;
        for (size_t i = 0; i < r->conclusion.service_count; i++)
                strv_take(&hosts,
                        xasprintf("%s:%u", r->conclusion.services[i].host, r->conclusion.services[i].port));
        list = strv_join(&hosts, ", ");
        page_paragraphf(p,
                "Exempt from TLS inspection (decryption)%s%s: %s, in the ranges above. The node accepts the "
                "control "
                "plane's own certificates only; installing another root on it is not possible.",
                c->interceptor ? " by " : "", c->interceptor ? c->interceptor : "", list);
        strv_done(&hosts);
}

static void write_allow(struct page *p, const struct report *r, const struct facts *f)
{
        static const char *const headings[] = {"From", "To", "Port", "Protocol", "Seen today"};
        size_t left;

        page_heading(p, "What to allow");
        page_table_begin(p, headings, ELEMENTS(headings));
        left = write_rules(p, r, f);
        write_servers(p, r, f);
        page_table_end(p);
        if (left)
                page_paragraphf(p,
                        "And %zu more rules of the same kind: every range of the profile %s with the ports "
                        "above.",
                        left, r->profile ? r->profile : "");
        page_paragraph(p,
                "The node opens every connection itself; only answers have to come back in. No rule for "
                "connections from outside is needed.");
        write_exemption(p, r);
}

/* ---- how to verify ---- */

/* Only what cannot be anything but a host name or an address goes into a command that somebody will paste. */
static void add_dns_commands(struct strv *lines, const struct report *r, const struct endpoint *server)
{
        char address[INET_ADDR_TEXT];

        inet_addr_format(&server->address, address);
        for (size_t i = 0; i < r->conclusion.service_count; i++) {
                const char *host = r->conclusion.services[i].host;

                if (!str_is_host_name(host))
                        continue;
                strv_take(lines, xasprintf("gridnode dns %s @%s", host, address));
                strv_take(lines, xasprintf("dig +time=2 +tries=1 @%s %s A", address, host));
                return;
        }
}

static void add_tcp_commands(struct strv *lines, const struct report *r, const struct endpoint *to)
{
        char address[INET_ADDR_TEXT];
        const char *source = r->source_address;

        inet_addr_format(&to->address, address);
        strv_take(lines,
                xasprintf("gridnode tcp %s %u%s%s", address, to->port, *source ? " --source " : "", source));
        strv_take(
                lines, xasprintf("nc -vz -w 3%s%s %s %u", *source ? " -s " : "", source, address, to->port));
}

static void add_tls_command(struct strv *lines, const struct report *r, const struct cause *c)
{
        for (size_t i = 0; i < r->conclusion.service_count; i++) {
                const struct service_result *s = &r->conclusion.services[i];
                _cleanup_free_ char *line = NULL;

                if (!strv_contains(&c->services, s->name) || !str_is_host_name(s->host))
                        continue;
                line = xasprintf("gridnode tls %s:%u", s->host, s->port);
                strv_add_unique(lines, line);
                return;
        }
}

static void add_commands(struct strv *lines, const struct report *r, const struct cause *c, size_t *targets)
{
        struct endpoint e;

        for (size_t i = 0; i < c->targets.count && *targets < MAX_COMMANDS; i++) {
                if (endpoint_parse(c->targets.items[i], &e) < 0 || !e.port)
                        continue;
                if (str_starts_with(c->info->text, "dns."))
                        add_dns_commands(lines, r, &e);
                else
                        add_tcp_commands(lines, r, &e);
                (*targets)++;
                if (str_starts_with(c->info->text, "tls.") || str_starts_with(c->info->text, "http."))
                        break;
        }
        if (str_starts_with(c->info->text, "tls.") || c->info->code == CAUSE_PATH_MTU_BLACK_HOLE)
                add_tls_command(lines, r, c);
}

static void write_verify(struct page *p, const struct report *r)
{
        struct strv lines = {0};
        size_t targets = 0;

        for (size_t i = 0; i < r->conclusion.cause_count; i++)
                if (needs_rules(&r->conclusion.causes[i]))
                        add_commands(&lines, r, &r->conclusion.causes[i], &targets);
        strv_add(&lines, "gridnode diag");
        page_heading(p, "How to verify");
        page_paragraph(p,
                "On the node, after the change. The last command repeats the whole diagnosis and says "
                "\"healthy\" when everything is as it should be. On the firewall, look in its log for the "
                "source and destination addresses above at the times above.");
        page_commands(p, &lines);
        strv_done(&lines);
}

/* ---- the whole page ---- */

static void write_request(struct page *p, const struct report *r, const struct facts *f)
{
        const struct cause *first = NULL;
        size_t asked = count_causes(r, report_page_asks_site);

        for (size_t i = 0; i < r->conclusion.cause_count && !first; i++)
                if (report_page_asks_site(&r->conclusion.causes[i]))
                        first = &r->conclusion.causes[i];
        page_lead(p, summary_of(first));
        write_impact(p, r);
        write_changes(p, r);
        if (count_causes(r, needs_rules))
                write_allow(p, r, f);
        report_page_observed(p, r);
        write_verify(p, r);
        if (asked < r->conclusion.cause_count)
                page_paragraphf(p,
                        "Left out here, since they ask nothing of the firewall: %zu further finding%s of "
                        "this diagnosis.",
                        r->conclusion.cause_count - asked, r->conclusion.cause_count - asked == 1 ? "" : "s");
}

/* Healthy, or somebody else's to mend. */
static void write_nothing(struct page *p, const struct report *r)
{
        page_lead(p, r->conclusion.summary ? r->conclusion.summary : "");
        if (!r->conclusion.cause_count) {
                page_paragraph(p, "The site does not have to change anything.");
                return;
        }
        page_paragraph(
                p, "The site's firewall does not have to change. What was found is for others to mend:");
        page_list_begin(p);
        for (size_t i = 0; i < r->conclusion.cause_count && i < MAX_CHANGES; i++) {
                const struct cause *c = &r->conclusion.causes[i];
                bool said = str_equal(summary_of(c), r->conclusion.summary);
                _cleanup_free_ char *line = xasprintf("%s%sFor %s: %s", said ? "" : summary_of(c),
                        said ? "" : " ", fixed_by_to_person(c->fixed_by), remedy_of(c));

                page_list_item(p, line);
        }
        page_list_end(p);
}

static void write_doubt(struct page *p, const struct report *r)
{
        page_lead(p, r->conclusion.summary ? r->conclusion.summary : "");
        page_paragraph(p,
                "The cause is not established, so no change is asked for yet. The firewall's log for the "
                "connections below would help to settle it.");
        page_list_begin(p);
        for (size_t i = 0; i < r->conclusion.cause_count; i++)
                for (size_t k = 0; k < r->conclusion.causes[i].candidates.count; k++) {
                        const struct cause_info *info =
                                cause_find(r->conclusion.causes[i].candidates.items[k]);
                        _cleanup_free_ char *line = NULL;

                        if (!info)
                                continue;
                        line = xasprintf("It may be: %s (%s).", info->title, info->text);
                        page_list_item(p, line);
                }
        page_list_end(p);
        report_page_observed(p, r);
}

static void write_page_footer(struct page *p, const struct report *r)
{
        _cleanup_free_ char *s = NULL;
        char started[32];

        time_format_utc(r->started_unix_ms, started);
        s = xasprintf(
                "Node %s%s%s. Diagnosis begun %.10s %.8s UTC, took %.0f ms%s. Generated by gridnode %s.",
                r->node ? r->node : "", str_is_empty(r->profile) ? "" : ", profile ",
                r->profile ? r->profile : "", started, started + 11, r->elapsed_ms,
                r->interrupted ? ", interrupted" : "", GRIDNODE_VERSION);
        page_footer(p, s);
}

char *report_firewall_page(const struct report *r, enum page_format format)
{
        bool asks = count_causes(r, report_page_asks_site) > 0;
        bool doubt = !asks && r->conclusion.verdict == VERDICT_UNDETERMINED;
        _cleanup_free_ char *title = xasprintf(asks    ? "Firewall request for node %s"
                                               : doubt ? "Cause not established for node %s"
                                                       : "No change needed at the site for node %s",
                r->node ? r->node : "");
        struct facts f = {0};
        struct page p;

        /* The facts only borrow the list; nothing in it is changed. */
        facts_build(&f, (struct measurement_list *)&r->measurements);
        page_begin(&p, format, title);
        if (asks)
                write_request(&p, r, &f);
        else if (doubt)
                write_doubt(&p, r);
        else
                write_nothing(&p, r);
        write_page_footer(&p, r);
        facts_done(&f);
        return page_end(&p);
}
