/* The configuration that the plane wants of a node. What passes here, the node's site file takes, too. */
#include "wire/wire_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DESCRIPTION_MAX_BYTES 256

void wire_config_done(struct wire_config *c)
{
        for (size_t i = 0; i < c->lan_count; i++) {
                for (size_t k = 0; k < c->lans[i].route_count; k++)
                        free(c->lans[i].routes[k].description);
                free(c->lans[i].routes);
        }
        *c = (struct wire_config){0};
}

/* ---- writing ---- */

static json_t *route_to_json(const struct config_route *r)
{
        char text[INET_ADDR_TEXT];
        json_t *j = json_object();

        json_object_set_new(j, "destination", json_string(cidr_format(&r->destination, text)));
        json_object_set_new(j, "next_hop", json_string(inet_addr_format(&r->next_hop, text)));
        wire_set_text(j, "description", r->description);
        return j;
}

static json_t *lan_to_json(const struct config_lan *l)
{
        json_t *j = json_object(), *routes = json_array();
        char text[INET_ADDR_TEXT];

        json_object_set_new(j, "interface", wire_text(l->interface));
        if (l->has_address)
                json_object_set_new(j, "address", json_string(cidr_format(&l->address, text)));
        for (size_t i = 0; i < l->route_count; i++)
                json_array_append_new(routes, route_to_json(&l->routes[i]));
        json_object_set_new(j, "routes", routes);
        return j;
}

json_t *wire_config_to_json(const struct wire_config *c)
{
        json_t *j = wire_new(), *dns = json_array(), *lans = json_array();
        char text[INET_ADDR_TEXT];

        json_object_set_new(j, "version", json_integer(c->version));
        for (size_t i = 0; i < c->dns_count; i++)
                json_array_append_new(dns, json_string(inet_addr_format(&c->dns[i], text)));
        json_object_set_new(j, "dns", dns);
        for (size_t i = 0; i < c->lan_count; i++)
                json_array_append_new(lans, lan_to_json(&c->lans[i]));
        if (c->has_lan)
                json_object_set(j, "lan", lans);
        json_decref(lans);
        json_object_set_new(j, "guard", json_boolean(c->guard));
        if (c->schedule.has_update)
                json_object_set_new(j, "schedule", wire_schedule_to_json(&c->schedule));
        if (c->transfer.has_limit || c->transfer.has_fallback)
                json_object_set_new(j, "transfer", wire_transfer_to_json(&c->transfer));
        return j;
}

/* ---- what an address may be ---- */

static bool is_host(const struct inet_addr *a)
{
        static const struct cidr limited = {{.family = AF_INET, .bytes = {255, 255, 255, 255}}, 32};
        const char *bogon = inet_addr_bogon(a);

        return !str_equal(bogon, "unspecified") && !str_equal(bogon, "multicast") &&
               !cidr_contains(&limited, a);
}

static struct cidr network_of(const struct cidr *c)
{
        unsigned bits = inet_addr_bits(&c->address);
        struct cidr network = *c;

        for (unsigned i = c->prefix; i < bits; i++)
                network.address.bytes[i / 8] &= (uint8_t) ~(0x80U >> (i % 8));
        return network;
}

/* Neither the network's own address nor its broadcast address (RFC 1122, 3.2.1.3; RFC 3021 for /31). */
static bool is_host_of_subnet(const struct cidr *c)
{
        uint32_t host, mask;

        if (!is_host(&c->address) || inet_addr_is_loopback(&c->address) || c->prefix == 0)
                return false;
        if (c->address.family != AF_INET || c->prefix >= 31)
                return true;
        mask = UINT32_MAX >> c->prefix;
        host = ntohl(c->address.v4.s_addr) & mask;
        return host != 0 && host != mask;
}

static const char *hop_problem(const struct inet_addr *hop, const struct cidr *own)
{
        if (!is_host(hop) || inet_addr_is_loopback(hop))
                return "is not a host's address";
        if (inet_addr_equal(hop, &own->address))
                return "is the interface's own address";
        if (hop->family != own->address.family)
                return "is of another IP version than the interface's address";
        /* Routers speak from their link-local address, which is on every link (RFC 4861, 6.1.2). */
        if (hop->family == AF_INET6 && inet_addr_is_link_local(hop))
                return NULL;
        return cidr_contains(own, hop) ? NULL : "is not on the interface's network";
}

/* The kernel's rule (dev_valid_name), and nothing that could end a section's name in a key file. */
static bool is_interface_name(const char *s)
{
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
        size_t length = strlen(s);

        return length > 0 && length < IFNAMSIZ && strspn(s, allowed) == length && !str_equal(s, ".") &&
               !str_equal(s, "..");
}

/* ---- reading ---- */

static void read_dns(struct json_reader *r, struct wire_config *c)
{
        json_t *array = json_take_optional_array(r, "dns", ELEMENTS(c->dns)), *item;
        size_t i;

        json_array_foreach(array, i, item)
        {
                struct inet_addr a;

                if (inet_addr_parse(json_string_value(item), &a) < 0 || !is_host(&a)) {
                        json_reader_fail(r, "dns", "item %zu is not a server's address", i);
                        return;
                }
                for (size_t k = 0; k < c->dns_count; k++)
                        if (inet_addr_equal(&c->dns[k], &a))
                                json_reader_fail(r, "dns", "item %zu is given twice", i);
                c->dns[c->dns_count++] = a;
        }
}

static void read_description(struct json_reader *r, char **ret)
{
        const char *s = json_take_optional_text(r, "description", DESCRIPTION_MAX_BYTES);
        _cleanup_free_ char *shown = s ? str_printable(s, strlen(s), SIZE_MAX) : NULL;

        if (!str_equal(s, shown))
                json_reader_fail(r, "description", "has bytes that cannot be shown");
        *ret = str_is_empty(s) ? NULL : xstrdup(s);
}

static void read_route(struct json_reader *r, const struct config_lan *lan, struct config_route *ret)
{
        const char *destination = json_take_text(r, "destination", INET_ADDR_TEXT), *problem = NULL;
        const char *hop = json_take_text(r, "next_hop", INET_ADDR_TEXT);
        struct cidr network;

        read_description(r, &ret->description);
        if (r->result < 0)
                return;
        if (cidr_parse(destination, &ret->destination) < 0 || !strchr(destination, '/')) {
                json_reader_fail(r, "destination", "is not a network such as 10.30.0.0/16");
                return;
        }
        network = network_of(&ret->destination);
        if (!inet_addr_equal(&network.address, &ret->destination.address))
                json_reader_fail(r, "destination", "is %s, which has bits beyond its prefix", destination);
        if (inet_addr_parse(hop, &ret->next_hop) < 0)
                problem = "is not an address";
        else if (ret->next_hop.family != ret->destination.address.family)
                problem = "is of another IP version than the destination";
        else
                problem = hop_problem(&ret->next_hop, &lan->address);
        if (problem)
                json_reader_fail(r, "next_hop", "%s (to %s)", problem, destination);
}

static void read_routes(struct json_reader *r, struct config_lan *lan)
{
        json_t *array = json_take_optional_array(r, "routes", CONFIG_MAX_ROUTES);
        char where[64];

        if (json_array_size(array) == 0)
                return;
        if (!lan->has_address) {
                json_reader_fail(r, "routes", "needs the interface's address, to know their next hops");
                return;
        }
        lan->routes = xcalloc(json_array_size(array), sizeof *lan->routes);
        while (r->result == 0 && lan->route_count < json_array_size(array)) {
                struct json_reader route;

                snprintf(where, sizeof where, "configuration: route %zu of %s", lan->route_count,
                        lan->interface);
                json_reader_init(&route, json_array_get(array, lan->route_count), where, r->error);
                read_route(&route, lan, &lan->routes[lan->route_count++]);
                r->result = json_reader_done(&route, true);
        }
}

static void read_lan(struct json_reader *r, struct config_lan *ret)
{
        const char *interface = json_take_text(r, "interface", IFNAMSIZ - 1);
        const char *address = json_take_optional_text(r, "address", INET_ADDR_TEXT);

        if (interface && !is_interface_name(interface))
                json_reader_fail(r, "interface", "is not an interface's name");
        if (r->result < 0)
                return;
        str_copy(ret->interface, sizeof ret->interface, interface);
        if (address && (!strchr(address, '/') || cidr_parse(address, &ret->address) < 0 ||
                               !is_host_of_subnet(&ret->address)))
                json_reader_fail(
                        r, "address", "is not a host's address with its prefix, such as 10.20.0.2/24");
        ret->has_address = address != NULL;
        read_routes(r, ret);
}

static void read_lans(struct json_reader *r, struct wire_config *c)
{
        json_t *array = json_take_optional_array(r, "lan", CONFIG_MAX_LANS);

        c->has_lan = array != NULL;
        while (r->result == 0 && c->lan_count < json_array_size(array)) {
                struct config_lan *lan = &c->lans[c->lan_count];
                struct json_reader reader;
                char where[64];

                snprintf(where, sizeof where, "configuration: lan %zu", c->lan_count);
                json_reader_init(&reader, json_array_get(array, c->lan_count), where, r->error);
                c->lan_count++; /* what was read so far is freed with the rest */
                read_lan(&reader, lan);
                r->result = json_reader_done(&reader, true);
                for (size_t i = 0; i + 1 < c->lan_count; i++)
                        if (str_equal(c->lans[i].interface, lan->interface))
                                json_reader_fail(r, "lan", "has %s twice", lan->interface);
        }
}

static int compare(const void *a, const void *b)
{
        const struct cidr *x = a, *y = b;
        int order = inet_addr_compare(&x->address, &y->address);

        return order ? order : (int)x->prefix - (int)y->prefix;
}

/* Two LANs cannot both lead to one destination either. */
static void check_destinations(struct json_reader *r, const struct wire_config *c)
{
        _cleanup_free_ struct cidr *all = NULL;
        char text[INET_ADDR_TEXT];
        size_t count = 0;

        for (size_t i = 0; i < c->lan_count; i++)
                count += c->lans[i].route_count;
        all = xcalloc(count + 1, sizeof *all);
        count = 0;
        for (size_t i = 0; i < c->lan_count; i++)
                for (size_t k = 0; k < c->lans[i].route_count; k++)
                        all[count++] = c->lans[i].routes[k].destination;
        qsort(all, count, sizeof *all, compare);
        for (size_t i = 1; i < count; i++)
                if (compare(&all[i - 1], &all[i]) == 0)
                        json_reader_fail(
                                r, "lan", "has the destination %s twice", cidr_format(&all[i], text));
}

int wire_config_parse(const void *data, size_t length, struct wire_config *ret, struct error *ret_error)
{
        _cleanup_(wire_config_done) struct wire_config c = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(data, length, WIRE_MESSAGE_MAXIMUM, "configuration", &object, &reader, ret_error);

        if (r < 0)
                return r;
        c.version = json_take_integer(&reader, "version", 1, INT64_MAX);
        read_dns(&reader, &c);
        read_lans(&reader, &c);
        c.guard = json_take_optional_boolean(&reader, "guard", true);
        config_schedule_init(&c.schedule);
        wire_schedule_read(&reader, &c.schedule);
        wire_transfer_read(&reader, &c.transfer);
        check_destinations(&reader, &c);
        r = json_reader_done(&reader, true);
        if (r < 0)
                return r;
        *ret = c;
        c = (struct wire_config){0};
        return 0;
}
