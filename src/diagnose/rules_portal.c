/* A sign-in page in the way: it answers plain HTTP in the service's name, whatever it does to the service's
 * port. */
#include "base/alloc.h"
#include "diagnose/rules.h"

#include <stdio.h>
#include <string.h>

/* The domain of a host: what follows its first label; the host itself when that has no dot. */
static const char *parent_domain(const char *host)
{
        const char *dot = strchr(host, '.');

        return dot && strchr(dot + 1, '.') ? dot + 1 : host;
}

/* The URL leads to a host outside the service's own domain. A relative one leads nowhere else. */
static bool is_foreign(const char *url, const char *host)
{
        const char *at = url ? strstr(url, "://") : NULL, *domain = parent_domain(host);
        char name[254];
        size_t length;

        if (!at)
                return false;
        length = strcspn(at + 3, ":/?#");
        if (length >= sizeof name)
                return true;
        memcpy(name, at + 3, length);
        name[length] = 0;
        if (length < strlen(domain) || strcasecmp(name + length - strlen(domain), domain) != 0)
                return true;
        return length > strlen(domain) && name[length - strlen(domain) - 1] != '.';
}

bool rules_is_portal(const struct measurement *m, const char *host)
{
        return m->outcome == OUTCOME_OK &&
               (m->http_status == 511 ||
                       (m->http_status >= 300 && m->http_status < 400 && is_foreign(m->location, host)));
}

static const struct measurement *find_portal(const struct rules *r, const struct service *s)
{
        for (size_t i = 0; i < r->facts.list->count; i++) {
                const struct measurement *m = r->facts.list->items[i];

                if (m->spec.kind == MEASUREMENT_HTTP && m->spec.purpose == PURPOSE_PORTAL &&
                        str_equal(m->spec.service, s->name) && rules_is_scored(m) &&
                        rules_is_portal(m, s->host))
                        return m;
        }
        return NULL;
}

/* Where it ends: the stage that the sign-in page explains, or none when the target is well. */
static enum probe_stage stopped_at(const struct target *t)
{
        if (!rules_is_scored(t->tcp))
                return STAGE_NONE;
        if (t->tcp->outcome == OUTCOME_TIMEOUT || t->tcp->outcome == OUTCOME_RESET ||
                t->tcp->outcome == OUTCOME_REJECTED)
                return STAGE_TCP;
        if (!rules_is_scored(t->tls))
                return STAGE_NONE;
        if (t->tls->outcome == OUTCOME_NOT_TLS ||
                (t->tls->outcome == OUTCOME_UNTRUSTED && t->tls->chain_trusted == NO))
                return STAGE_TLS;
        return STAGE_NONE;
}

void rules_say_portal(struct cause *c, const struct service *s, const struct measurement *portal)
{
        cause_say(c, "A sign-in page stands in the way: plain HTTP to %s is answered with status %d%s%.120s.",
                s->host, portal->http_status, portal->location ? ", sending to " : "",
                portal->location ? portal->location : "");
        cause_advise(
                c, "Sign this node in, or exempt its address from the sign-in page of the site's network.");
}

void rules_portal(struct rules *r)
{
        struct facts *f = &r->facts;

        for (size_t i = 0; i < f->service_count; i++) {
                struct service *s = &f->services[i];
                const struct measurement *portal = find_portal(r, s);

                for (size_t k = 0; portal && k < s->target_count; k++) {
                        struct target *t = &s->targets[k];
                        enum probe_stage stage = stopped_at(t);
                        struct cause *c;

                        if (t->explained || stage == STAGE_NONE)
                                continue;
                        c = rules_find(r, CAUSE_HTTP_CAPTIVE_PORTAL);
                        if (!c)
                                c = rules_add(r, CAUSE_HTTP_CAPTIVE_PORTAL);
                        cause_add_service(c, s);
                        cause_add_endpoint(c, &t->endpoint);
                        cause_add_evidence(c, stage == STAGE_TCP ? t->tcp : t->tls);
                        cause_add_evidence(c, portal);
                        rules_say_portal(c, s, portal);
                        target_block(t, stage);
                }
        }
}
