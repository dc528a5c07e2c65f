/* The verdict where no profile names a control plane: on this host's own network alone. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "diagnose/rules.h"

static bool is_tested(const struct measurement *m)
{
        return m && m->outcome != OUTCOME_NOT_TESTED;
}

/* Each thing that the summary vouches for was looked at. What may not be looked at is said elsewhere. */
static bool all_is_tested(const struct facts *f)
{
        if (!is_tested(f->link) || !is_tested(f->address) ||
                (inet_addr_is_set(&f->site->gateway) && !is_tested(f->arp_gateway) &&
                        f->site->gateway.family == AF_INET))
                return false;
        for (size_t i = 0; i < f->server_count; i++)
                if (f->servers[i].udp == TRANSPORT_UNTESTED && f->servers[i].tcp == TRANSPORT_UNTESTED)
                        return false;
        return true;
}

enum verdict rules_host_verdict(const struct facts *f, const struct conclusion *o)
{
        enum verdict v = VERDICT_HEALTHY;

        for (size_t i = 0; i < o->cause_count; i++) {
                if (o->causes[i].severity == SEVERITY_CRITICAL)
                        return VERDICT_BLOCKED;
                v = VERDICT_DEGRADED;
        }
        if (v == VERDICT_HEALTHY && (!f->site || !all_is_tested(f)))
                return VERDICT_UNDETERMINED;
        return v == VERDICT_HEALTHY && f->server_count == 0 ? VERDICT_DEGRADED : v;
}

char *rules_host_summary(const struct facts *f)
{
        bool asked = f->arp_gateway && f->arp_gateway->outcome == OUTCOME_OK;

        if (!f->site || !all_is_tested(f))
                return xstrdup("This host's own network could not be tested in the time given.");
        if (f->server_count == 0)
                return xasprintf("This host's link%s work, but no DNS server is configured: names cannot be "
                                 "looked up.",
                        asked ? ", address and gateway" : " and address");
        return xasprintf(
                "This host's link, address%s DNS server%s work; no control plane was tested, since no "
                "profile was given.",
                asked ? ", gateway and" : " and", f->server_count == 1 ? "" : "s");
}
