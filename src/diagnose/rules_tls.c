/* What happens after the connect: certificates, cuts, silence. */
#include "base/alloc.h"
#include "diagnose/interceptors.h"
#include "diagnose/rules.h"
#include "net/trust.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLOCK_TOLERANCE_S 300

static void attach(struct cause *c, struct target *t)
{
        cause_add_service(c, t->service);
        cause_add_endpoint(c, &t->endpoint);
        cause_add_evidence(c, t->tls);
        target_block(t, STAGE_TLS);
}

/* The cause of that code, and by that interceptor where one is known. */
static struct cause *tls_cause(
        struct rules *r, enum cause_code code, struct target *t, const char *interceptor)
{
        struct cause *c = NULL;

        for (size_t i = 0; i < r->out->cause_count; i++)
                if (r->out->causes[i].info->code == code &&
                        str_equal(r->out->causes[i].interceptor, interceptor))
                        c = &r->out->causes[i];
        if (!c) {
                c = rules_add(r, code);
                c->interceptor = xstrdup(interceptor);
        }
        attach(c, t);
        return c;
}

/* ---- certificates ---- */

static const char *last_issuer(const struct measurement *m)
{
        return m->chain_issuers.count ? m->chain_issuers.items[m->chain_issuers.count - 1]
                                      : "an unknown issuer";
}

/* The product, from any certificate of the chain. */
static const char *interceptor_of(const struct measurement *m)
{
        const char *name = NULL;

        for (size_t i = 0; !name && i < m->chain_issuers.count; i++)
                name = interceptor_name(m->chain_issuers.items[i]);
        for (size_t i = 0; !name && i < m->chain_subjects.count; i++)
                name = interceptor_name(m->chain_subjects.items[i]);
        return name;
}

static void rule_intercepted(struct rules *r, struct target *t)
{
        const struct measurement *m = t->tls;
        const char *name = interceptor_of(m);
        struct cause *c = tls_cause(r, CAUSE_TLS_INTERCEPTED, t, name);
        char *list = cause_target_list(c), *hosts = cause_hosts(c, r);

        cause_say(c,
                "Somebody on the way presents a certificate of their own for %s (%s): issued by "
                "\"%.200s\"%s%s%s, "
                "not by the control plane's root.",
                hosts, list, last_issuer(m), name ? " (" : "", name ? name : "", name ? ")" : "");
        cause_advise(c,
                "On the site's TLS inspection%s%s, exempt %s and the control plane's ranges from decryption.",
                name ? ", " : "", name ? name : "", hosts);
        free(list);
        free(hosts);
}

static void rule_name(struct rules *r, struct target *t)
{
        const struct measurement *m = t->tls;
        struct cause *c = tls_cause(r, CAUSE_TLS_NAME_MISMATCH, t, NULL);
        char *list = cause_target_list(c), *hosts = cause_hosts(c, r);

        cause_say(c,
                "%s presents a genuine certificate for another name (%.120s), not for %s: the address "
                "belongs to "
                "another service.",
                list, m->leaf_names ? m->leaf_names : "none", hosts);
        cause_advise(c, "The control plane's operator corrects the address of %s, in DNS or in the profile.",
                hosts);
        free(list);
        free(hosts);
}

/* The time that a peer with a genuine chain states, and this clock's lead over it; false when nobody said. */
static bool peer_time(const struct rules *r, const struct target *t, int64_t *ret_peer, int64_t *ret_lead,
        const struct measurement **ret_row)
{
        const struct facts *f = &r->facts;

        for (int own = 1; own >= 0; own--)
                for (size_t i = 0; i < f->list->count; i++) {
                        const struct measurement *m = f->list->items[i];

                        if (m->spec.kind != MEASUREMENT_HTTP || !m->peer_unix ||
                                m->spec.purpose == PURPOSE_PORTAL || m->spec.tls == SERVICE_TLS_NONE ||
                                m->outcome != OUTCOME_OK ||
                                (own && !endpoint_equal(&m->spec.target, &t->endpoint)))
                                continue;
                        *ret_peer = m->peer_unix;
                        *ret_lead = t->tls->local_unix - m->peer_unix;
                        *ret_row = m;
                        return true;
                }
        return false;
}

static char *span_text(int64_t seconds)
{
        int64_t s = seconds < 0 ? -seconds : seconds;

        if (s >= 2 * 86400)
                return xasprintf("%lld days", (long long)(s / 86400));
        if (s >= 2 * 3600)
                return xasprintf("%lld hours", (long long)(s / 3600));
        return xasprintf("%lld minutes", (long long)(s / 60));
}

static void say_clock(struct rules *r, struct target *t, int64_t lead, const struct measurement *row)
{
        struct cause *c = tls_cause(r, CAUSE_CLOCK_WRONG, t, NULL);
        char *span = span_text(lead);

        cause_add_evidence(c, row);
        cause_say(c,
                "This node's clock is %s %s: the control plane's certificate is genuine and valid at the "
                "time that "
                "its server states, and not at ours.",
                span, lead > 0 ? "fast" : "slow");
        cause_advise(c, "Set the clock: timedatectl set-ntp true, and allow UDP 123 to a time server; or set "
                        "it by hand.");
        free(span);
}

static void say_expired(struct rules *r, struct target *t, const struct measurement *row)
{
        const struct measurement *m = t->tls;
        struct cause *c = tls_cause(r, CAUSE_TLS_CERTIFICATE_EXPIRED, t, NULL);
        bool expired = m->local_unix > m->not_after_unix;
        char when[32], *list = cause_target_list(c), *hosts = cause_hosts(c, r);

        cause_add_evidence(c, row);
        time_format_utc((expired ? m->not_after_unix : m->not_before_unix) * 1000, when);
        cause_say(c, "The genuine certificate of %s on %s %s %s, and this node's clock is right.", hosts,
                list, expired ? "expired at" : "is valid only from", when);
        cause_advise(
                c, "Nothing at the site has to change. The control plane's operator renews the certificate.");
        free(list);
        free(hosts);
}

static bool another_chain_is_valid(const struct rules *r)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];

                if (m->spec.kind == MEASUREMENT_TLS && m->outcome == OUTCOME_OK && m->chain_trusted == YES &&
                        m->chain_time_valid == YES)
                        return true;
        }
        return false;
}

static void rule_time(struct rules *r, struct target *t)
{
        const struct measurement *m = t->tls, *row = NULL;
        int64_t peer = 0, lead = 0;
        struct cause *c;
        char *list;

        if (peer_time(r, t, &peer, &lead, &row)) {
                bool valid_there = peer >= m->not_before_unix && peer <= m->not_after_unix;

                if (llabs(lead) > CLOCK_TOLERANCE_S && valid_there) {
                        say_clock(r, t, lead, row);
                        return;
                }
                if (llabs(lead) <= CLOCK_TOLERANCE_S) {
                        say_expired(r, t, row);
                        return;
                }
        } else if (another_chain_is_valid(r) && m->local_unix > m->not_after_unix) {
                say_expired(r, t, NULL);
                return;
        }
        c = rules_undetermined(r, NULL, "clock.wrong", "tls.certificate_expired");
        attach(c, t);
        list = cause_target_list(c);
        cause_say(c,
                "The genuine certificate on %s is not valid at this node's time, and no peer stated a time "
                "that "
                "tells whether it is the clock.",
                list);
        cause_advise(c, "Compare this node's clock (date -u) with a watch.");
        free(list);
}

/* Whether it leads to the root after all is not looked up. */
static void rule_absurd_chain(struct rules *r, struct target *t)
{
        struct cause *c = rules_undetermined(r, t->service, "tls.intercepted", "service.down");

        attach(c, t);
        cause_say(c, "%s presents a chain of %d certificates; no more than %d are looked at.",
                t->service->host, t->tls->chain_length, TRUST_CHAIN_MAX);
        cause_advise(c, "See who signed it: gridnode tls %s:%u.", t->service->host, t->endpoint.port);
}

static void rule_untrusted(struct rules *r, struct target *t)
{
        const struct measurement *m = t->tls;

        if (m->chain_trusted == NO && m->chain_length > TRUST_CHAIN_MAX)
                rule_absurd_chain(r, t);
        else if (m->chain_trusted == NO)
                rule_intercepted(r, t);
        else if (m->chain_name_matches == NO)
                rule_name(r, t);
        else if (m->chain_time_valid == NO)
                rule_time(r, t);
}

/* ---- not TLS ---- */

static void rule_not_tls(struct rules *r, struct target *t)
{
        struct cause *c = tls_cause(r, CAUSE_TLS_NOT_TLS, t, NULL);
        char *list = cause_target_list(c);

        cause_say(c, "%s answers with something else than TLS: \"%.80s\".", list,
                t->tls->first_bytes ? t->tls->first_bytes : "");
        cause_advise(c,
                "Find the device that answers in the control plane's name (a sign-in page, a proxy, a block "
                "page) and exempt this node.");
        free(list);
}

/* ---- cuts and silence ---- */

struct ab {
        int passes, fails;
};

static bool is_ab_of(const struct measurement *m, const struct target *t, enum probe_purpose purpose)
{
        return m->spec.kind == MEASUREMENT_TLS && m->spec.purpose == purpose && rules_is_scored(m) &&
               endpoint_equal(&m->spec.target, &t->endpoint) && str_equal(m->spec.service, t->service->name);
}

static struct ab ab_of(
        const struct rules *r, const struct target *t, enum probe_purpose purpose, struct cause *c)
{
        struct ab n = {0};

        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];
                bool whole;

                if (!is_ab_of(m, t, purpose))
                        continue;
                /* The clamp must carry the whole handshake; for the others a ServerHello is the answer. */
                whole = m->outcome == OUTCOME_OK || m->outcome == OUTCOME_UNTRUSTED ||
                        m->outcome == OUTCOME_ALERT;
                if (whole || (purpose != PURPOSE_CLAMP && purpose != PURPOSE_REPEAT &&
                                     m->server_hello_seen == YES))
                        n.passes++;
                else
                        n.fails++;
                if (c)
                        cause_add_evidence(c, m);
        }
        return n;
}

static struct cause *cut_cause(struct rules *r, enum cause_code code, struct target *t)
{
        struct cause *c = tls_cause(r, code, t, NULL);
        static const enum probe_purpose all[] = {
                PURPOSE_REPEAT, PURPOSE_CLAMP, PURPOSE_NO_NAME, PURPOSE_NEUTRAL_NAME};

        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
                ab_of(r, t, all[i], c);
        return c;
}

static void say_sni(struct rules *r, struct target *t)
{
        struct cause *c = cut_cause(r, CAUSE_TLS_SNI_FILTERED, t);
        char *list = cause_target_list(c), *hosts = cause_hosts(c, r);

        cause_say(c,
                "TLS to %s is %s because of the name %s: the same address completes the same greeting "
                "without it.",
                list, t->tls->outcome == OUTCOME_TIMEOUT ? "silenced" : "cut", hosts);
        cause_advise(c, "On the site's web or application filter, allow the TLS server name %s.", hosts);
        free(list);
        free(hosts);
}

static void say_mtu(struct rules *r, struct target *t)
{
        struct cause *c = cut_cause(r, CAUSE_PATH_MTU_BLACK_HOLE, t);
        char *list = cause_target_list(c);

        cause_say(c,
                "Large packets on the way to or from %s vanish without a word: the TLS handshake stalls, and "
                "passes "
                "when segments are kept to 536 bytes.",
                list);
        cause_advise(c, "On the site's router, let ICMP \"fragmentation needed\" pass, or clamp the TCP MSS "
                        "to the path "
                        "(tunnel or PPPoE MTU).");
        free(list);
}

static void say_cut(struct rules *r, struct target *t)
{
        bool silent = t->tls->outcome == OUTCOME_TIMEOUT;
        struct cause *c = cut_cause(r, silent ? CAUSE_TLS_STALLED : CAUSE_TLS_RESET, t);
        char *list = cause_target_list(c);

        if (silent)
                cause_say(c,
                        "TLS to %s meets silence after the ClientHello%s, whatever the server name and the "
                        "packet size.",
                        list,
                        t->tls->hello_acked == YES  ? ", which was acknowledged"
                        : t->tls->hello_acked == NO ? ", which was never acknowledged"
                                                    : "");
        else
                cause_say(c, "TLS to %s is cut right after the ClientHello (%s), whatever the server name.",
                        list,
                        t->tls->outcome == OUTCOME_RESET    ? "RST"
                        : t->tls->outcome == OUTCOME_CLOSED ? "FIN"
                                                            : "ICMP error");
        cause_advise(c,
                "On the site's firewall, look for TLS or application inspection on port %u and exempt the "
                "control "
                "plane's ranges.",
                t->endpoint.port);
        free(list);
}

static void rule_cut(struct rules *r, struct target *t)
{
        bool silent = t->tls->outcome == OUTCOME_TIMEOUT;
        struct ab repeat = ab_of(r, t, PURPOSE_REPEAT, NULL), clamp = ab_of(r, t, PURPOSE_CLAMP, NULL);
        struct ab none = ab_of(r, t, PURPOSE_NO_NAME, NULL),
                  neutral = ab_of(r, t, PURPOSE_NEUTRAL_NAME, NULL);
        bool clamp_passes = clamp.passes > 0 && clamp.fails == 0;
        bool name_passes = none.passes + neutral.passes > 0;

        if (repeat.passes) {
                /* The same again went through: loss, not a block. */
                rules_void(t->tls, CAUSE_PATH_LOSSY, "the same handshake passed when it was repeated");
                t->state = ADDRESS_OK;
                t->stage = STAGE_TLS;
                return;
        }
        if (!repeat.fails)
                return; /* nothing to compare with: left to `undetermined` */
        if (silent && clamp_passes && !name_passes)
                say_mtu(r, t);
        else if (name_passes && !clamp_passes)
                say_sni(r, t);
        else if (!name_passes && !clamp_passes)
                say_cut(r, t);
}

/* ---- alerts ---- */

static bool is_about_client(int alert)
{
        /* RFC 8446, 6.2: bad, unsupported, revoked, expired, unknown certificate; unknown CA; access denied;
         * certificate required. */
        return (alert >= 42 && alert <= 46) || alert == 48 || alert == 49 || alert == 116;
}

void rules_client_rejected(struct rules *r, struct target *t, const struct measurement *row, const char *how)
{
        const struct measurement *m = t->tls && t->tls->client_serial ? t->tls : row;
        struct cause *c = tls_cause(r, CAUSE_TLS_CLIENT_REJECTED, t, NULL);
        char when[32] = "", *list = cause_target_list(c);
        bool expired = m->client_not_after_unix && m->local_unix > m->client_not_after_unix;

        cause_add_evidence(c, row);
        if (m->client_not_after_unix)
                time_format_utc(m->client_not_after_unix * 1000, when);
        cause_say(c, "The control plane on %s refuses this node's own certificate (%s%s%s%s%s%s).", list, how,
                m->client_serial ? ", serial " : "", m->client_serial ? m->client_serial : "",
                when[0] ? (expired ? ", expired " : ", valid until ") : "", when, "");
        cause_advise(c,
                expired ? "Renew the node's certificate: it has expired."
                        : "Register the node again, or ask the control plane's operator why it was revoked.");
        free(list);
}

static void rule_alert(struct rules *r, struct target *t)
{
        const struct measurement *m = t->tls;
        bool have = r->facts.site && r->facts.site->has_certificate == YES;
        struct cause *c;
        char how[32];

        /* After our certificate, or it was not about that: filters send "access denied" for a name as well.
         */
        if (is_about_client(m->alert) && have && m->client_certificate_asked == YES) {
                snprintf(how, sizeof how, "TLS alert %d", m->alert);
                rules_client_rejected(r, t, m, how);
                return;
        }
        if (m->alert == 116 || (is_about_client(m->alert) && m->client_certificate_asked == YES)) {
                /* We have none to show, so the client's half cannot be tested; the server's half passed. */
                t->state = ADDRESS_OK;
                t->stage = STAGE_TLS;
                return;
        }
        c = rules_undetermined(r, t->service, "service.down", "tls.reset");
        attach(c, t);
        cause_say(c, "The TLS handshake with %s ends with alert %d.", t->service->host, m->alert);
        cause_advise(c, "Compare with a handshake from another network (gridnode tls %s:%u).",
                t->service->host, t->endpoint.port);
}

static void rule_target(struct rules *r, struct target *t)
{
        struct measurement *m = t->tls;

        if (t->explained || !rules_is_scored(m) || !t->tcp || t->tcp->outcome != OUTCOME_OK)
                return;
        switch (m->outcome) {
        case OUTCOME_UNTRUSTED:
                rule_untrusted(r, t);
                break;
        case OUTCOME_NOT_TLS:
                rule_not_tls(r, t);
                break;
        case OUTCOME_TIMEOUT:
        case OUTCOME_RESET:
        case OUTCOME_CLOSED:
        case OUTCOME_REJECTED: /* an ICMP error in the middle of the connection */
                rule_cut(r, t);
                break;
        case OUTCOME_ALERT:
                rule_alert(r, t);
                break;
        default:
                break;
        }
}

void rules_tls(struct rules *r)
{
        for (size_t i = 0; i < r->facts.service_count; i++)
                for (size_t k = 0; k < r->facts.services[i].target_count; k++)
                        rule_target(r, &r->facts.services[i].targets[k]);
}
