#include "node/lookup.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define DNS_PORT  53
#define TYPE_A    1
#define TYPE_AAAA 28

void lookup_done(struct lookup *r)
{
        free(r->addresses);
        *r = (struct lookup){0};
}

static void add_literal(struct lookup *r, const char *text)
{
        struct inet_addr a;

        if (inet_addr_parse(text, &a) < 0)
                return;
        for (size_t i = 0; i < r->count; i++)
                if (inet_addr_equal(&r->addresses[i], &a))
                        return;
        r->addresses = xrealloc_array(r->addresses, r->count + 1, sizeof a);
        r->addresses[r->count++] = a;
}

const struct measurement *lookup_find(const struct measurement_list *l, const struct inet_addr *server,
        uint16_t type, enum probe_transport t)
{
        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];

                if (m->spec.kind == MEASUREMENT_DNS && m->spec.dns_type == type && m->spec.transport == t &&
                        inet_addr_equal(&m->spec.target.address, server))
                        return m;
        }
        return NULL;
}

/* Both of one server's answers are there, and one of them is an address. */
static bool is_enough(const struct measurement_list *l, void *userdata)
{
        (void)userdata;
        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];
                bool is_a = m->spec.dns_type == TYPE_A;

                if (m->spec.kind == MEASUREMENT_DNS && m->outcome == OUTCOME_OK &&
                        lookup_find(l, &m->spec.target.address, is_a ? TYPE_AAAA : TYPE_A, m->spec.transport))
                        return true;
        }
        return false;
}

static void ask_all(
        struct measure *m, const struct site *site, const char *host, enum probe_transport transport)
{
        for (size_t i = 0; i < site->wan.dns_count; i++)
                for (int v6 = 0; v6 < 2; v6++) {
                        struct probe_spec spec = {.kind = MEASUREMENT_DNS,
                                .target = {.address = site->wan.dns[i], .port = DNS_PORT},
                                .transport = transport,
                                .dns_type = v6 ? TYPE_AAAA : TYPE_A};

                        str_copy(spec.name, sizeof spec.name, host);
                        measure_add(m, &spec);
                }
        measure_run(m, is_enough, NULL);
}

/* Takes the addresses of the first server that has some; A before AAAA. */
static void take_addresses(const struct measurement_list *l, struct lookup *ret)
{
        static const uint16_t types[] = {TYPE_A, TYPE_AAAA};
        const struct measurement *first = NULL;

        for (size_t i = 0; i < l->count && !first; i++)
                if (l->items[i]->spec.kind == MEASUREMENT_DNS && l->items[i]->outcome == OUTCOME_OK)
                        first = l->items[i];
        for (size_t t = 0; first && t < ELEMENTS(types); t++) {
                const struct measurement *m =
                        lookup_find(l, &first->spec.target.address, types[t], first->spec.transport);

                for (size_t i = 0; m && i < m->addresses.count; i++)
                        add_literal(ret, m->addresses.items[i]);
        }
}

static bool is_denied(const struct measurement_list *l)
{
        for (size_t i = 0; i < l->count; i++) {
                const struct measurement *m = l->items[i];

                if (m->outcome == OUTCOME_NO_DATA || (m->outcome == OUTCOME_RCODE && m->rcode == 3))
                        return true;
        }
        return false;
}

static int ask_servers(
        struct measure *m, const struct site *site, struct lookup *ret, struct error *ret_error)
{
        const struct measurement_list *l = measure_list(m);

        if (site->wan.dns_count == 0)
                return error_set(ret_error, EHOSTUNREACH, "dns.no-server",
                        "cannot look up %s: no DNS server is configured", ret->host);
        ask_all(m, site, ret->host, TRANSPORT_UDP);
        take_addresses(l, ret);
        if (ret->count == 0 && !is_denied(l)) {
                ask_all(m, site, ret->host, TRANSPORT_TCP);
                take_addresses(l, ret);
        }
        if (ret->count > 0)
                return 0;
        if (is_denied(l))
                return error_set(ret_error, ENOENT, "dns.no-such-name",
                        "the DNS servers know no address for %s", ret->host);
        return error_set(
                ret_error, EHOSTUNREACH, "dns.no-answer", "no DNS server gave an answer for %s", ret->host);
}

int lookup_host(struct measure *m, const struct site *site, const char *host, struct lookup *ret,
        struct error *ret_error)
{
        struct lookup result = {0};
        struct inet_addr literal;
        size_t length = strlen(host);
        int r = 0;

        result.is_literal = inet_addr_parse(host, &literal) == 0;
        if (!result.is_literal && !str_is_host_name(host))
                return error_set(ret_error, EINVAL, "host.malformed",
                        "'%s' is neither an address nor a host name", host);
        str_copy(result.host, sizeof result.host, host);
        if (length > 0 && length < sizeof result.host && host[length - 1] == '.')
                result.host[length - 1] = 0;
        for (char *c = result.host; *c; c++)
                *c = (char)tolower((unsigned char)*c);
        if (result.is_literal) {
                add_literal(&result, host);
        } else if (str_equal(result.host, "localhost")) { /* RFC 6761, 6.3: never asked */
                add_literal(&result, "127.0.0.1");
                add_literal(&result, "::1");
        } else {
                r = ask_servers(m, site, &result, ret_error);
        }
        if (r < 0)
                lookup_done(&result);
        else
                *ret = result;
        return r;
}

void lookup_source(const struct site *site, struct inet_addr *ret)
{
        char wan[IFNAMSIZ];

        *ret = (struct inet_addr){0};
        if (site->wan.mode == SITE_ADDRESS_STATIC)
                *ret = site->wan.address.address;
        else if (site->wan.interface[0])
                measure_interface_address(site->wan.interface, AF_INET, ret);
        else
                measure_default_wan(wan, ret);
}
