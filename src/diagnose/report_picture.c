#include "diagnose/report_picture.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <string.h>

#define WAY_INDENT 4

/* ---- where a cause breaks the way ---- */

enum place {
        PLACE_NOWHERE, /* it hurts without breaking */
        PLACE_NODE,    /* before anything has left, or when the answer is back */
        PLACE_GATEWAY, /* between node and gateway */
        PLACE_BEYOND,  /* beyond the gateway, before the control plane */
        PLACE_TARGET,  /* at the control plane itself */
};

static const struct {
        enum place place;
        const char *label;
} breaks[CAUSE_COUNT] = {
        [CAUSE_LINK_DOWN] = {PLACE_NODE, "no link"},
        [CAUSE_ADDRESS_MISSING] = {PLACE_NODE, "no address"},
        [CAUSE_ADDRESS_CONFLICT] = {PLACE_NODE, "address in use twice"},
        [CAUSE_ROUTE_MISSING] = {PLACE_NODE, "no route"},
        [CAUSE_ROUTE_CAPTURED] = {PLACE_NODE, "captured"},
        [CAUSE_GATEWAY_UNREACHABLE] = {PLACE_GATEWAY, "does not answer"},
        [CAUSE_UPSTREAM_DEAD] = {PLACE_BEYOND, "nothing answers beyond"},
        [CAUSE_FIREWALL_LOCAL] = {PLACE_NODE, "stopped by this node's own firewall"},
        [CAUSE_REPLY_DISCARDED] = {PLACE_NODE, "answers come back and are discarded here"},
        [CAUSE_DNS_UNREACHABLE] = {PLACE_BEYOND, "DNS silent"},
        [CAUSE_DNS_UDP_BLOCKED] = {PLACE_BEYOND, "UDP blocked"},
        [CAUSE_DNS_TCP_BLOCKED] = {PLACE_BEYOND, "TCP blocked"},
        [CAUSE_DNS_REFUSED] = {PLACE_TARGET, "refuses"},
        [CAUSE_DNS_NO_SUCH_NAME] = {PLACE_TARGET, "denies the name"},
        [CAUSE_DNS_SERVER_FAILURE] = {PLACE_TARGET, "SERVFAIL"},
        [CAUSE_DNS_WRONG_ANSWER] = {PLACE_TARGET, "wrong answer"},
        [CAUSE_DNS_SERVERS_DISAGREE] = {PLACE_TARGET, "another answer than the other server"},
        [CAUSE_DNS_INTERCEPTED] = {PLACE_BEYOND, "someone else answers"},
        [CAUSE_TCP_DROPPED] = {PLACE_BEYOND, "dropped"},
        [CAUSE_TCP_REJECTED] = {PLACE_BEYOND, "refused"},
        [CAUSE_TCP_RESET] = {PLACE_BEYOND, "reset"},
        [CAUSE_SERVICE_DOWN] = {PLACE_TARGET, "the service refuses or fails"},
        [CAUSE_TLS_INTERCEPTED] = {PLACE_BEYOND, "TLS re-signed"},
        [CAUSE_TLS_RESET] = {PLACE_BEYOND, "cut after the ClientHello"},
        [CAUSE_TLS_SNI_FILTERED] = {PLACE_BEYOND, "cut because of the name"},
        [CAUSE_TLS_STALLED] = {PLACE_BEYOND, "silence after the ClientHello"},
        [CAUSE_PATH_MTU_BLACK_HOLE] = {PLACE_BEYOND, "large packets vanish"},
        [CAUSE_TLS_NOT_TLS] = {PLACE_BEYOND, "plain text, not TLS"},
        [CAUSE_TLS_NAME_MISMATCH] = {PLACE_TARGET, "certificate for another name"},
        [CAUSE_TLS_CERTIFICATE_EXPIRED] = {PLACE_TARGET, "certificate expired"},
        [CAUSE_CLOCK_WRONG] = {PLACE_NODE, "the clock is wrong"},
        [CAUSE_TLS_CLIENT_REJECTED] = {PLACE_TARGET, "refuses the node's certificate"},
        [CAUSE_HTTP_CAPTIVE_PORTAL] = {PLACE_BEYOND, "sign-in page"},
        [CAUSE_HTTP_PROXY_REQUIRED] = {PLACE_BEYOND, "only a proxy gets out"},
        [CAUSE_HTTP_FILTERED] = {PLACE_BEYOND, "block page"},
        [CAUSE_HTTP_UNAUTHORIZED] = {PLACE_TARGET, "does not know this node"},
        [CAUSE_TRANSFER_CUT] = {PLACE_BEYOND, "bulk data is cut"},
        [CAUSE_UNDETERMINED] = {PLACE_BEYOND, "fails, cause not established"},
};

/* ---- drawing ---- */

enum joint { JOINT_WHOLE, JOINT_BROKEN, JOINT_DOUBT, JOINT_UNKNOWN };

static void put_joint(struct paper *p, enum joint joint)
{
        switch (joint) {
        case JOINT_WHOLE:
                paper_glyph(p, INK_GOOD, "──", "--");
                break;
        case JOINT_BROKEN:
                paper_glyph(p, INK_BAD, "──✗", "--x");
                break;
        case JOINT_DOUBT:
                paper_glyph(p, INK_DOUBT, "──?", "--?");
                break;
        case JOINT_UNKNOWN:
                paper_glyph(p, INK_FAINT, "┈┈", "..");
                break;
        }
}

/* A joint and what it leads to; both on the next line together when this one is full. */
static void draw(struct paper *p, enum joint joint, enum ink ink, const char *label)
{
        int joint_columns = joint == JOINT_WHOLE || joint == JOINT_UNKNOWN ? 2 : 3;

        if (p->column + 2 + joint_columns + paper_columns(label) > p->width) {
                paper_end_line(p);
                paper_to_column(p, WAY_INDENT + 2);
        } else {
                paper_put(p, INK_PLAIN, " ");
        }
        put_joint(p, joint);
        paper_put(p, INK_PLAIN, " ");
        paper_words(p, ink, WAY_INDENT + 6, label);
}

__attribute__((format(printf, 4, 5))) static void drawf(
        struct paper *p, enum joint joint, enum ink ink, const char *format, ...)
{
        _cleanup_free_ char *s = NULL;
        va_list arguments;

        va_start(arguments, format);
        s = xvasprintf(format, arguments);
        va_end(arguments);
        draw(p, joint, ink, s);
}

static void draw_node(struct paper *p, const struct report *r)
{
        paper_to_column(p, WAY_INDENT);
        if (r->source_address[0] && r->source_interface[0])
                paper_putf(p, INK_PLAIN, "node %s (%s)", r->source_address, r->source_interface);
        else if (r->source_address[0] || r->source_interface[0])
                paper_putf(p, INK_PLAIN, "node %s%s", r->source_address, r->source_interface);
        else
                paper_put(p, INK_PLAIN, "node");
}

static void add_hop(struct text *t, const char *word, const struct hop_name *h)
{
        char address[INET_ADDR_TEXT];

        if (!h->known)
                return;
        text_addf(t, " %s %s", word, inet_addr_format(&h->address, address));
        if (h->hop > 0)
                text_addf(t, " (hop %d)", h->hop);
}

/* ---- facts of the way ---- */

/* The next hop that the kernel takes to this target, else the configured gateway; unset when on-link or
 * unknown. */
static struct inet_addr gateway_to(const struct facts *f, const struct endpoint *to)
{
        for (size_t i = 0; i < f->list->count && to; i++) {
                const struct measurement *m = f->list->items[i];

                if (m->spec.kind == MEASUREMENT_ROUTE && m->outcome == OUTCOME_OK &&
                        inet_addr_equal(&m->spec.target.address, &to->address))
                        return m->next_hop;
        }
        return f->site ? f->site->gateway : (struct inet_addr){0};
}

/* Something was seen of the gateway: by ARP, as a hop, or by what came through it. */
static bool gateway_is_alive(const struct facts *f, const struct inet_addr *gateway)
{
        if (f->arp_gateway && f->arp_gateway->outcome == OUTCOME_OK)
                return true;
        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *m = f->list->items[i];
                bool remote = m->spec.kind == MEASUREMENT_TCP || m->spec.kind == MEASUREMENT_DNS;

                if (inet_addr_equal(&m->by, gateway) || (remote && m->outcome == OUTCOME_OK))
                        return true;
        }
        return false;
}

static void draw_gateway(struct paper *p, const struct facts *f, const struct endpoint *to)
{
        struct inet_addr gateway = gateway_to(f, to);
        char address[INET_ADDR_TEXT];

        if (inet_addr_is_set(&gateway))
                drawf(p, gateway_is_alive(f, &gateway) ? JOINT_WHOLE : JOINT_UNKNOWN, INK_PLAIN, "gateway %s",
                        inet_addr_format(&gateway, address));
}

/* ---- a broken way ---- */

/* What stands at the break: "443 dropped after 192.0.2.1 (hop 1)". */
static char *break_label(const struct cause *c, uint16_t port)
{
        struct text t = {0};

        if (c->info->code == CAUSE_ROUTE_CAPTURED && c->interface && c->route) {
                text_addf(&t, "leaves by %s: %s", c->interface, c->route);
                return text_take(&t);
        }
        if (port && (c->info->code == CAUSE_TCP_DROPPED || c->info->code == CAUSE_TCP_REJECTED ||
                            c->info->code == CAUSE_TCP_RESET))
                text_addf(&t, "%u ", port);
        text_add(&t, breaks[c->info->code].label);
        if (c->interceptor)
                text_addf(&t, " by %s", c->interceptor);
        add_hop(&t, "by", &c->by);
        if (!c->by.known)
                add_hop(&t, c->info->code == CAUSE_UPSTREAM_DEAD ? "" : "after", &c->after);
        return text_take(&t);
}

static void draw_broken(struct paper *p, const struct report *r, const struct facts *f, const struct cause *c,
        const struct endpoint *to, const char *target)
{
        enum place place = c ? breaks[c->info->code].place : PLACE_BEYOND;
        bool doubt = !c || c->info->code == CAUSE_UNDETERMINED;
        _cleanup_free_ char *label =
                c ? break_label(c, to ? to->port : 0) : xstrdup("fails, cause not established");
        enum joint joint = doubt ? JOINT_DOUBT : JOINT_BROKEN;
        enum ink ink = doubt ? INK_DOUBT : INK_BAD;
        struct inet_addr gateway = gateway_to(f, to);
        char address[INET_ADDR_TEXT];

        draw_node(p, r);
        switch (place) {
        case PLACE_NODE:
                draw(p, joint, ink, label);
                break;
        case PLACE_GATEWAY:
                drawf(p, joint, ink, "gateway %s %s", inet_addr_format(&gateway, address), label);
                break;
        case PLACE_NOWHERE:
        case PLACE_BEYOND:
                draw_gateway(p, f, to);
                draw(p, joint, ink, label);
                break;
        case PLACE_TARGET:
                draw_gateway(p, f, to);
                drawf(p, joint, ink, "%s: %s", target, label);
                paper_end_line(p);
                return;
        }
        draw(p, JOINT_UNKNOWN, INK_FAINT, target);
        paper_end_line(p);
}

/* ---- services ---- */

/* The cause that stands for this address: one that names it, else one that stands for the whole service. */
static const struct cause *cause_of(
        const struct report *r, const struct service_result *s, const struct address_result *a)
{
        const struct cause *whole = NULL;
        char text[INET_ADDR_TEXT];

        if (a)
                endpoint_format(&(struct endpoint){.address = a->address, .port = s->port}, text);
        for (size_t i = 0; i < r->conclusion.cause_count; i++) {
                const struct cause *c = &r->conclusion.causes[i];

                if (breaks[c->info->code].place == PLACE_NOWHERE || !strv_contains(&c->services, s->name))
                        continue;
                if (a && strv_contains(&c->targets, text))
                        return c;
                if (!whole)
                        whole = c;
        }
        return whole;
}

/* "198.51.100.20 and 203.0.113.200", "64 addresses". */
static char *list_addresses(const struct inet_addr *const *all, size_t count)
{
        struct text t = {0};
        char address[INET_ADDR_TEXT];

        if (count > 3)
                return xasprintf("%zu addresses", count);
        for (size_t i = 0; i < count; i++)
                text_addf(&t, "%s%s",
                        i == 0           ? ""
                        : i + 1 == count ? " and "
                                         : ", ",
                        inet_addr_format(all[i], address));
        return text_take(&t);
}

/* The addresses of `s` in `state` and, when that is blocked, with the cause `c`. */
static size_t select_addresses(const struct report *r, const struct service_result *s,
        enum address_state state, const struct cause *c, const struct inet_addr **ret)
{
        size_t n = 0;

        for (size_t i = 0; i < s->address_count; i++)
                if (s->addresses[i].state == state &&
                        (state != ADDRESS_BLOCKED || cause_of(r, s, &s->addresses[i]) == c))
                        ret[n++] = &s->addresses[i].address;
        return n;
}

static void draw_whole(struct paper *p, const struct report *r, const struct facts *f,
        const struct service_result *s, const struct inet_addr *const *all, size_t count)
{
        struct endpoint to = {.address = *all[0], .port = s->port};
        _cleanup_free_ char *list = list_addresses(all, count);
        double low = 0, high = 0;

        for (size_t i = 0; i < s->address_count; i++) {
                double rtt = s->addresses[i].rtt_ms;

                if (s->addresses[i].state != ADDRESS_OK || rtt <= 0)
                        continue;
                low = low == 0 || rtt < low ? rtt : low;
                high = rtt > high ? rtt : high;
        }
        draw_node(p, r);
        draw_gateway(p, f, &to);
        if (high > 0 && high - low > 0.5)
                drawf(p, JOINT_WHOLE, INK_GOOD, "%s (%.1f to %.1f ms)", list, low, high);
        else if (high > 0)
                drawf(p, JOINT_WHOLE, INK_GOOD, "%s (%.1f ms)", list, high);
        else
                draw(p, JOINT_WHOLE, INK_GOOD, list);
        paper_end_line(p);
}

static void draw_blocked(struct paper *p, const struct report *r, const struct facts *f,
        const struct service_result *s, const struct inet_addr **scratch)
{
        for (size_t i = 0; i < s->address_count; i++) {
                const struct cause *c;
                struct endpoint to = {.address = s->addresses[i].address, .port = s->port};
                _cleanup_free_ char *list = NULL;
                size_t n;

                if (s->addresses[i].state != ADDRESS_BLOCKED)
                        continue;
                c = cause_of(r, s, &s->addresses[i]);
                n = select_addresses(r, s, ADDRESS_BLOCKED, c, scratch);
                if (!inet_addr_equal(scratch[0], &s->addresses[i].address))
                        continue; /* drawn with the first of its kind */
                list = list_addresses(scratch, n);
                draw_broken(p, r, f, c, &to, list);
        }
}

static void draw_service(
        struct paper *p, const struct report *r, const struct facts *f, const struct service_result *s)
{
        const struct inet_addr **scratch = xcalloc(s->address_count + 1, sizeof *scratch);
        const struct cause *c = cause_of(r, s, NULL);
        bool any_blocked = false;
        size_t n;

        for (size_t i = 0; i < s->address_count; i++)
                any_blocked |= s->addresses[i].state == ADDRESS_BLOCKED;
        if (!any_blocked && s->state == SERVICE_BLOCKED) {
                _cleanup_free_ char *target = xasprintf("%s:%u", s->host, s->port);
                struct endpoint to = {.port = s->port};

                if (s->address_count)
                        to.address = s->addresses[0].address;
                draw_broken(p, r, f, c, s->address_count ? &to : NULL, target);
                free(scratch);
                return;
        }
        n = select_addresses(r, s, ADDRESS_OK, NULL, scratch);
        if (n)
                draw_whole(p, r, f, s, scratch, n);
        draw_blocked(p, r, f, s, scratch);
        n = select_addresses(r, s, ADDRESS_NOT_TESTED, NULL, scratch);
        if (n) {
                _cleanup_free_ char *list = list_addresses(scratch, n);

                draw_node(p, r);
                drawf(p, JOINT_UNKNOWN, INK_FAINT, "%s not tested", list);
                paper_end_line(p);
        }
        free(scratch);
}

static enum ink state_ink(enum service_state s)
{
        switch (s) {
        case SERVICE_OK:
                return INK_GOOD;
        case SERVICE_DEGRADED:
                return INK_WARNING;
        case SERVICE_BLOCKED:
                return INK_BAD;
        case SERVICE_NOT_TESTED:
                return INK_FAINT;
        }
        return INK_PLAIN;
}

void report_picture_mark(struct paper *p, enum ink ink)
{
        switch (ink) {
        case INK_GOOD:
                paper_glyph(p, ink, "✓ ", "+ ");
                break;
        case INK_WARNING:
                paper_glyph(p, ink, "! ", "! ");
                break;
        case INK_BAD:
                paper_glyph(p, ink, "✗ ", "x ");
                break;
        case INK_DOUBT:
                paper_glyph(p, ink, "? ", "? ");
                break;
        case INK_PLAIN:
        case INK_BOLD:
        case INK_FAINT:
                paper_glyph(p, ink, "· ", "- ");
                break;
        }
}

/* Where states stand: behind the longest host name. */
static int state_column(const struct paper *p, const struct report *r)
{
        int column = paper_columns("DNS 255.255.255.255:53");

        for (size_t i = 0; i < r->conclusion.service_count; i++) {
                int columns = paper_columns(r->conclusion.services[i].host) + 6;

                column = columns > column ? columns : column;
        }
        return (column > p->width / 2 ? p->width / 2 : column) + 6;
}

/* Without a control plane: as far as the gateway, or as a cause lets one get. */
static void draw_host(struct paper *p, const struct report *r, const struct facts *f)
{
        for (size_t i = 0; i < r->conclusion.cause_count; i++) {
                const struct cause *c = &r->conclusion.causes[i];

                if (c->severity == SEVERITY_CRITICAL && breaks[c->info->code].label) {
                        draw_broken(p, r, f, c, NULL, "Internet");
                        return;
                }
        }
        draw_node(p, r);
        draw_gateway(p, f, NULL);
        paper_end_line(p);
}

void report_picture_services(struct paper *p, const struct report *r, const struct facts *f)
{
        int column = state_column(p, r);

        if (!r->conclusion.service_count)
                draw_host(p, r, f);

        for (size_t i = 0; i < r->conclusion.service_count; i++) {
                const struct service_result *s = &r->conclusion.services[i];
                _cleanup_free_ char *carries = strv_join(&s->carries, ", ");

                paper_put(p, INK_PLAIN, "  ");
                report_picture_mark(p, state_ink(s->state));
                paper_putf(p, INK_BOLD, "%s:%u ", s->host, s->port);
                paper_to_column(p, column);
                paper_putf(p, state_ink(s->state), "%s ", service_state_to_string(s->state));
                paper_to_column(p, column + 12);
                paper_words(p, INK_FAINT, column + 12, carries);
                paper_end_line(p);
                draw_service(p, r, f, s);
        }
}

/* ---- DNS servers ---- */

static bool names_server(const struct cause *c, const struct server *s)
{
        struct endpoint e;

        for (size_t i = 0; i < c->targets.count; i++)
                if (endpoint_parse(c->targets.items[i], &e) == 0 &&
                        inet_addr_equal(&e.address, &s->endpoint.address) &&
                        (!e.port || e.port == s->endpoint.port))
                        return true;
        return false;
}

/* The row that tells most of one transport: the first scored failure for a name's addresses, else the best
 * answer.
 */
static const struct measurement *telling_row(
        const struct facts *f, const struct server *s, enum probe_transport t)
{
        for (size_t i = 0; i < f->list->count; i++) {
                const struct measurement *m = f->list->items[i];

                if (m->spec.kind == MEASUREMENT_DNS && m->spec.purpose == PURPOSE_SERVICE &&
                        m->spec.transport == t && m->spec.dns_type == 1 && m->status == STATUS_SCORED &&
                        endpoint_equal(&m->spec.target, &s->endpoint) &&
                        (m->outcome == OUTCOME_RCODE || m->outcome == OUTCOME_NO_DATA))
                        return m;
        }
        return t == TRANSPORT_TCP ? s->tcp_row : s->udp_row;
}

static void describe_transport(struct text *t, const struct measurement *m, const char *name)
{
        if (!m)
                return;
        text_addf(t, "%s%s ", t->length ? ", " : "", name);
        if (m->status == STATUS_VOID)
                text_addf(t, "not judged (%s)", m->voided_by ? m->voided_by : "void");
        else if (m->outcome == OUTCOME_OK)
                text_addf(t, "%.1f ms%s%s", m->rtt_ms > 0 ? m->rtt_ms : m->took_ms,
                        m->spec.interface[0] ? " when bound to " : "", m->spec.interface);
        else if (m->outcome == OUTCOME_RCODE)
                text_addf(t, "%s for %s", dns_rcode_to_string(m->rcode), m->spec.name);
        else if (m->outcome == OUTCOME_TIMEOUT)
                text_addf(t, "silent for %.0f ms", m->took_ms);
        else
                text_add(t, measurement_outcome_to_string(m->outcome));
}

static void draw_server(
        struct paper *p, const struct report *r, const struct facts *f, const struct server *s)
{
        const struct measurement *udp = telling_row(f, s, TRANSPORT_UDP),
                                 *tcp = telling_row(f, s, TRANSPORT_TCP);
        const struct cause *c = NULL;
        enum ink ink = udp || tcp ? INK_GOOD : INK_FAINT;
        struct text t = {0};
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < r->conclusion.cause_count && !c; i++)
                if (breaks[r->conclusion.causes[i].info->code].place != PLACE_NOWHERE &&
                        names_server(&r->conclusion.causes[i], s))
                        c = &r->conclusion.causes[i];
        if (!c && s->udp != TRANSPORT_ANSWERS && s->tcp != TRANSPORT_ANSWERS)
                ink = INK_FAINT;
        if (c)
                ink = c->severity == SEVERITY_CRITICAL ? INK_BAD : INK_WARNING;
        describe_transport(&t, udp, "UDP");
        describe_transport(&t, tcp, "TCP");
        endpoint_format(&s->endpoint, text);
        paper_put(p, INK_PLAIN, "  ");
        report_picture_mark(p, ink);
        paper_putf(p, INK_BOLD, "DNS %s ", text);
        paper_to_column(p, state_column(p, r));
        paper_words(p, INK_PLAIN, state_column(p, r), t.length ? text_string(&t) : "not tested");
        paper_end_line(p);
        text_done(&t);
        if (c)
                draw_broken(p, r, f, c, &s->endpoint, text);
}

void report_picture_servers(struct paper *p, const struct report *r, const struct facts *f)
{
        for (size_t i = 0; i < f->server_count; i++)
                draw_server(p, r, f, &f->servers[i]);
}
