#include "node/transfers.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "base/timer.h"
#include "node/lookup.h"

#include <errno.h>

#define PLAN_MS 60000.0

struct node_transfers {
        sd_event *event;
        const struct node_settings *settings;
        const struct profile_service *service, *control;
        struct trust *trust;
        struct budget *budget;
        struct resolver *resolver;
        struct transfer_engine *engine;
        sd_event_source *plan;
};

static const struct profile_service *find_service(const struct profile *p, const char *name)
{
        for (size_t i = 0; i < p->service_count; i++)
                if (str_equal(p->services[i].name, name))
                        return &p->services[i];
        return NULL;
}

/* The one that carries control: the same servers answer HTTPS at its port. */
static const struct profile_service *find_control(const struct profile *p)
{
        for (size_t i = 0; i < p->service_count; i++)
                if (strv_contains(&p->services[i].carries, "control"))
                        return &p->services[i];
        return NULL;
}

/* The limit depends on the time of day. The daemon does the same; whoever is alone must. */
static int keep_plan(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct node_transfers *n = userdata;

        (void)source, (void)usec;
        budget_set_plan(n->budget, &n->settings->site->transfer.limit);
        timer_arm(n->event, &n->plan, PLAN_MS, keep_plan, n);
        return 0;
}

static int open_trust(struct node_transfers *n, struct error *ret_error)
{
        const struct profile *p = n->settings->profile;
        struct trust_options o = {.root_ca_path = p->root_ca_path,
                .root_subject = p->root_subject,
                .certificate_path = n->settings->site->certificate_path,
                .key_path = n->settings->site->key_path};

        return trust_new(&o, &n->trust, ret_error);
}

static int open_resolver(struct node_transfers *n, const char *device, struct error *ret_error)
{
        const struct site *site = n->settings->site;
        struct resolver_options o = {
                .servers = site->wan.dns, .server_count = site->wan.dns_count, .device = device};

        lookup_source(site, &o.source);
        return resolver_new(n->event, &o, &n->resolver, ret_error);
}

static int open_engine(struct node_transfers *n, const char *device, struct error *ret_error)
{
        const struct site *site = n->settings->site;
        _cleanup_free_ char *ways = path_join(n->settings->paths.run, "ways.json");
        struct transfer_engine_options o = {.resolver = n->resolver,
                .trust = n->trust,
                .budget = n->budget,
                .ways_path = ways,
                .service = n->service->name,
                .device = device,
                .proxy = site->wan.proxy,
                .known = n->service->addresses,
                .known_count = n->service->address_count};

        lookup_source(site, &o.source);
        if (n->control && !site->transfer.no_fallback) {
                o.fallback = TRANSFER_FALLBACK_8443;
                o.fallback_host = n->control->host;
                o.fallback_port = n->control->port;
        }
        return transfer_engine_new(n->event, &o, &n->engine, ret_error);
}

static int open_all(struct node_transfers *n, struct error *ret_error)
{
        const struct site *site = n->settings->site;
        const char *device = site->wan.interface[0] ? site->wan.interface : NULL;
        _cleanup_free_ char *budget = path_join(n->settings->paths.run, "budget");
        int r = open_trust(n, ret_error);

        if (r == 0)
                r = budget_open(budget, &n->budget, ret_error);
        if (r == 0)
                keep_plan(NULL, 0, n);
        if (r == 0)
                r = open_resolver(n, device, ret_error);
        return r == 0 ? open_engine(n, device, ret_error) : r;
}

int node_transfers_new(sd_event *event, const struct node_transfers_options *o, struct node_transfers **ret,
        struct error *ret_error)
{
        const struct profile *p = o->settings->profile;
        const struct profile_service *service = p ? find_service(p, o->service) : NULL;
        struct node_transfers *n;
        int r;

        if (!p)
                return error_set(ret_error, ENOENT, "config.no-profile",
                        "no profile says where the repository is; register the node, or name a profile in "
                        "the "
                        "site file");
        if (!service)
                return error_set(ret_error, ENOENT, "config.no-service", "the profile %s has no service '%s'",
                        p->name, o->service);
        n = xcalloc(1, sizeof(*n));
        n->event = sd_event_ref(event);
        n->settings = o->settings;
        n->service = service;
        n->control = find_control(p);
        r = open_all(n, ret_error);
        if (r < 0) {
                node_transfers_free(n);
                return r;
        }
        *ret = n;
        return 0;
}

struct node_transfers *node_transfers_free(struct node_transfers *n)
{
        if (!n)
                return NULL;
        sd_event_source_disable_unref(n->plan);
        transfer_engine_free(n->engine);
        resolver_free(n->resolver);
        budget_close(n->budget);
        trust_free(n->trust);
        sd_event_unref(n->event);
        free(n);
        return NULL;
}

struct transfer_engine *node_transfers_engine(struct node_transfers *n)
{
        return n->engine;
}

struct budget *node_transfers_budget(struct node_transfers *n)
{
        return n->budget;
}

const struct profile_service *node_transfers_service(const struct node_transfers *n)
{
        return n->service;
}

const char *node_transfers_certificate_problem(const struct node_transfers *n)
{
        const char *problem = trust_certificate_problem(n->trust);

        if (trust_has_certificate(n->trust))
                return NULL;
        return problem ? problem : "the node has no certificate; register it";
}
