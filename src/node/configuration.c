#include "node/configuration.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

/* "?bytes=262144" in the payload's path says how much is due; 0 when it does not say. */
static uint32_t bytes_due(const char *path)
{
        const char *at = path ? strstr(path, "bytes=") : NULL;
        unsigned long v = at ? strtoul(at + 6, NULL, 10) : 0;

        return v > 64ul * 1024 * 1024 ? 0 : (uint32_t)v;
}

static struct measurement *config_row(enum measurement_kind kind, const char *name, const char *interface)
{
        struct probe_spec s = {.kind = kind};
        struct measurement *m;

        str_copy(s.name, sizeof s.name, name);
        str_copy(s.interface, sizeof s.interface, interface);
        m = measurement_new(&s);
        m->outcome = OUTCOME_OK;
        return m;
}

static void record_profile(const struct profile *p, struct measurement_list *list)
{
        struct measurement *m = config_row(MEASUREMENT_PROFILE, p->name, "");
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < p->range_count; i++)
                strv_add(&m->ranges, cidr_format(&p->ranges[i], text));
        m->root = xstrdup(p->root_subject ? p->root_subject : p->root_ca_path ? "file" : NULL);
        measurement_list_take(list, m);
}

static void record_service(const struct profile_service *s, struct measurement_list *list)
{
        struct measurement *m = config_row(MEASUREMENT_SERVICE, s->host, "");
        char text[INET_ADDR_TEXT];

        str_copy(m->spec.service, sizeof m->spec.service, s->name);
        m->spec.target.port = s->port;
        m->spec.tls = s->tls;
        str_copy(m->spec.path, sizeof m->spec.path, s->probe_path ? s->probe_path : "");
        m->payload_path = xstrdup(s->payload_path);
        m->spec.expect_bytes = bytes_due(s->payload_path);
        strv_copy(&m->carries, &s->carries);
        for (size_t i = 0; i < s->address_count; i++)
                strv_add(&m->addresses, inet_addr_format(&s->addresses[i], text));
        measurement_list_take(list, m);
}

/* The client's half of mutual TLS without a certificate: said as what was not tested. */
static void record_untested_client(
        const struct profile_service *s, const char *problem, struct measurement_list *list)
{
        struct measurement *m = config_row(MEASUREMENT_TLS, s->host, "");

        str_copy(m->spec.service, sizeof m->spec.service, s->name);
        m->spec.tls = SERVICE_TLS_MUTUAL;
        m->outcome = OUTCOME_NOT_TESTED;
        m->reason = xasprintf("the client's half of mutual TLS: %s",
                problem ? problem : "this node has no certificate and key");
        measurement_list_take(list, m);
}

static void record_site(const struct configuration *c, const struct site *site, struct measurement_list *list)
{
        struct measurement *m = config_row(MEASUREMENT_SITE, site->name ? site->name : "", c->interface);
        char text[INET_ADDR_TEXT];

        inet_addr_format(&c->source, m->source);
        m->gateway = c->gateway;
        m->has_certificate = c->has_certificate ? YES : NO;
        for (size_t i = 0; i < site->wan.dns_count; i++)
                strv_add(&m->servers, inet_addr_format(&site->wan.dns[i], text));
        if (site->wan.proxy) {
                str_copy(m->spec.proxy, sizeof m->spec.proxy, site->wan.proxy);
                str_copy(m->proxy_from, sizeof m->proxy_from, site->wan.proxy_from);
        }
        measurement_list_take(list, m);
}

static void record_lan(const struct site_lan *l, struct measurement_list *list)
{
        struct measurement *m = config_row(MEASUREMENT_LAN, "", l->interface);
        char destination[INET_ADDR_TEXT], next_hop[INET_ADDR_TEXT];

        if (l->has_address)
                strv_add(&m->addresses, cidr_format(&l->address, destination));
        for (size_t i = 0; i < l->route_count; i++)
                strv_take(&m->configured_routes,
                        xasprintf("%s via %s", cidr_format(&l->routes[i].destination, destination),
                                inet_addr_format(&l->routes[i].next_hop, next_hop)));
        measurement_list_take(list, m);
}

void configuration_record(const struct configuration *c, const struct site *site,
        const struct profile *profile, struct measurement_list *list)
{
        if (profile)
                record_profile(profile, list);
        record_site(c, site, list);
        for (size_t i = 0; profile && i < profile->service_count; i++)
                record_service(&profile->services[i], list);
        for (size_t i = 0; profile && !c->has_certificate && i < profile->service_count; i++)
                if (profile->services[i].tls == SERVICE_TLS_MUTUAL)
                        record_untested_client(&profile->services[i], c->certificate_problem, list);
        for (size_t i = 0; i < site->lan_count; i++)
                record_lan(&site->lans[i], list);
}
