/* One exchange with the control plane, by any way that is open. */
#include "node/enrol_internal.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "node/lookup.h"

#include <errno.h>
#include <string.h>

#define LOOKUP_MS 5000.0
#define MAX_TRIED 8 /* more share the time into pieces that are too short */

DEFINE_CLEANUP(struct measure *, measure_free);

struct address_list {
        struct inet_addr items[MAX_TRIED];
        size_t count;
};

static void add_address(struct address_list *l, const struct inet_addr *a)
{
        for (size_t i = 0; i < l->count; i++)
                if (inet_addr_equal(&l->items[i], a))
                        return;
        if (l->count < MAX_TRIED)
                l->items[l->count++] = *a;
}

static int look_up(const struct node_settings *s, const char *host, const struct inet_addr *source,
        double budget_ms, struct address_list *to, struct error *ret_error)
{
        struct measure_options o = {.source = *source,
                .wan_interface = s->site->wan.interface[0] ? s->site->wan.interface : NULL,
                .budget_ms = budget_ms,
                .stop_fd = -1};
        _cleanup_(measure_free_p) struct measure *m = NULL;
        struct lookup l = {0};
        int r = measure_new(&o, &m, ret_error);

        if (r == 0)
                r = lookup_host(m, s->site, host, &l, ret_error);
        for (size_t i = 0; r == 0 && i < l.count; i++)
                add_address(to, &l.addresses[i]);
        lookup_done(&l);
        return r;
}

/* What the profile says of the host answers even when DNS is dead. */
static void add_known(const struct node_settings *s, const char *host, struct address_list *to)
{
        for (size_t i = 0; s->profile && i < s->profile->service_count; i++) {
                const struct profile_service *p = &s->profile->services[i];

                for (size_t k = 0; str_equal(p->host, host) && k < p->address_count; k++)
                        add_address(to, &p->addresses[k]);
        }
}

/* "http://proxy.example:3128" as "http://192.0.2.9:3128"; the caller's. */
static int resolve_proxy(const struct node_settings *s, const struct inet_addr *source, double budget_ms,
        char **ret, struct error *ret_error)
{
        const char *proxy = s->site->wan.proxy + strlen("http://"), *colon = strrchr(proxy, ':');
        _cleanup_free_ char *host = colon ? xstrndup(proxy, (size_t)(colon - proxy)) : xstrdup(proxy);
        struct address_list list = {0};
        struct endpoint e = {0};
        char text[INET_ADDR_TEXT];
        unsigned long port;
        int r;

        if (endpoint_parse(proxy, &e) == 0 && e.port) {
                *ret = xstrdup(s->site->wan.proxy);
                return 0;
        }
        if (!colon || str_to_ulong(colon + 1, 1, 65535, &port) < 0)
                return error_set(
                        ret_error, EINVAL, "http.bad-proxy", "the proxy %.200s cannot be used", proxy);
        r = look_up(s, host, source, budget_ms, &list, ret_error);
        if (r < 0)
                return error_prefix(ret_error, "the proxy's name");
        e = (struct endpoint){.address = list.items[0], .port = (uint16_t)port};
        *ret = xasprintf("http://%s", endpoint_format(&e, text));
        return 0;
}

/* With a proxy, whose business names are, its address; else the host's addresses. */
static int find_ends(const struct node_settings *s, const char *host, const struct inet_addr *source,
        double timeout_ms, struct address_list *ret, char **ret_proxy, struct error *ret_error)
{
        double budget_ms = timeout_ms / 3 < LOOKUP_MS ? timeout_ms / 3 : LOOKUP_MS;
        int r;

        if (s->site->wan.proxy)
                return resolve_proxy(s, source, budget_ms, ret_proxy, ret_error);
        r = look_up(s, host, source, budget_ms, ret, ret_error);
        add_known(s, host, ret);
        return ret->count ? 0 : r;
}

int enrol_way_ask(const struct node_settings *s, const char *host, uint16_t port,
        const struct https_request *like, struct https_answer *ret, struct error *ret_error)
{
        struct https_request request = *like;
        struct address_list list = {0};
        _cleanup_free_ char *proxy = NULL;
        double end_ms = clock_monotonic_ms() + like->timeout_ms;
        int r;

        lookup_source(s->site, &request.source);
        r = find_ends(s, host, &request.source, like->timeout_ms, &list, &proxy, ret_error);
        if (r < 0)
                return r;
        request.host = host;
        request.port = port;
        request.addresses = list.items;
        request.address_count = list.count;
        request.proxy = proxy;
        request.timeout_ms = end_ms - clock_monotonic_ms();
        return https_exchange(&request, ret, ret_error);
}

static bool is_way(const struct profile_service *p)
{
        return p->tls != SERVICE_TLS_NONE;
}

/* *ret_is_final: the plane's own word about the node, which another way would only repeat. */
static int ask_service(const struct node_settings *s, const struct profile_service *p,
        const struct https_request *like, struct https_answer *ret, bool *ret_is_final,
        struct error *ret_error)
{
        struct https_request request = *like;
        struct https_answer a = {0};
        int r = enrol_way_ask(s, p->host, p->port, like, &a, ret_error);

        *ret_is_final = false;
        if (r < 0)
                return r;
        if (a.status < 400) {
                *ret = a;
                return 0;
        }
        *ret_is_final = a.status < 500 && a.status != 408 && a.status != 429;
        request.host = p->host;
        r = https_problem(&request, &a, ret_error);
        https_answer_done(&a);
        return r;
}

/* "this; that", as far as it fits; the first way's code and number stay. */
static void add_error(struct error *to, const struct error *e)
{
        if (!to->number)
                *to = *e;
        else
                error_set(to, to->number, to->code, "%s; %s", to->text, e->text);
}

int enrol_way_ask_any(const struct node_settings *s, const char *first, const struct https_request *like,
        struct https_answer *ret, struct error *ret_error)
{
        const struct profile *p = s->profile;
        double end_ms = clock_monotonic_ms() + like->timeout_ms;
        struct error all = {0};
        size_t left = 0;

        for (size_t i = 0; i < p->service_count; i++)
                left += is_way(&p->services[i]);
        for (int pass = 0; pass < 2; pass++)
                for (size_t i = 0; i < p->service_count; i++) {
                        struct https_request request = *like;
                        struct error e = {0};
                        bool is_final;

                        if (!is_way(&p->services[i]) || strv_contains(&p->services[i].carries, first) == pass)
                                continue;
                        request.timeout_ms = (end_ms - clock_monotonic_ms()) / (double)left--;
                        if (ask_service(s, &p->services[i], &request, ret, &is_final, &e) == 0)
                                return 0;
                        if (is_final) {
                                if (ret_error)
                                        *ret_error = e;
                                return -e.number;
                        }
                        add_error(&all, &e);
                }
        if (!all.number)
                error_set(&all, EINVAL, "profile.no-way", "%s: no service speaks TLS", p->path);
        if (ret_error)
                *ret_error = all;
        return -all.number;
}
