#include "helper/protocol.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "base/version.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WHERE            "request"
#define ANSWER_WHERE     "helper's answer"
#define ADDRESS_MAXIMUM  (INET_ADDR_TEXT - 1)
#define MINIMUM_PREFIX_4 8 /* of an address: a whole class A is a LAN's most */
#define MINIMUM_PREFIX_6 16

static const struct {
        enum helper_operation operation;
        const char *name;
} operations[] = {
        {HELPER_HELLO, "hello"},
        {HELPER_NETWORK_APPLY, "network.apply"},
        {HELPER_UPDATE_START, "update.start"},
        {HELPER_UPDATE_CANCEL, "update.cancel"},
};

void helper_network_done(struct helper_network *n)
{
        for (size_t i = 0; i < n->up_count; i++)
                free(n->up[i]);
        free(n->up);
        free(n->addresses);
        free(n->routes);
        memset(n, 0, sizeof *n);
}

void helper_request_done(struct helper_request *r)
{
        helper_network_done(&r->network);
}

/* ---- writing ---- */

static void put_text(json_t *object, const char *name, const char *value)
{
        json_object_set_new(object, name, json_string(value));
}

static json_t *addresses_to_json(const struct helper_network *n)
{
        json_t *list = json_array();
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < n->address_count; i++) {
                json_t *item = json_object();

                put_text(item, "interface", n->addresses[i].interface);
                put_text(item, "address", cidr_format(&n->addresses[i].address, text));
                json_array_append_new(list, item);
        }
        return list;
}

static bool same_way(const struct helper_route *a, const struct helper_route *b)
{
        return str_equal(a->interface, b->interface) && inet_addr_equal(&a->next_hop, &b->next_hop) &&
               a->metric == b->metric;
}

static json_t *routes_to_json(const struct helper_network *n)
{
        json_t *list = json_array(), *to = NULL;
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < n->route_count; i++) {
                const struct helper_route *r = &n->routes[i];

                if (i == 0 || !same_way(r, r - 1)) {
                        json_t *item = json_object();

                        put_text(item, "interface", r->interface);
                        if (inet_addr_is_set(&r->next_hop))
                                put_text(item, "next_hop", inet_addr_format(&r->next_hop, text));
                        json_object_set_new(item, "metric", json_integer(r->metric));
                        to = json_array();
                        json_object_set_new(item, "to", to);
                        json_array_append_new(list, item);
                }
                json_array_append_new(to, json_string(cidr_format(&r->destination, text)));
        }
        return list;
}

static void put_network(json_t *object, const struct helper_network *n)
{
        json_t *up = json_array();

        for (size_t i = 0; i < n->up_count; i++)
                json_array_append_new(up, json_string(n->up[i]));
        json_object_set_new(object, "up", up);
        json_object_set_new(object, "addresses", addresses_to_json(n));
        json_object_set_new(object, "routes", routes_to_json(n));
}

json_t *helper_request_to_json(const struct helper_request *r)
{
        json_t *object = json_object();

        put_text(object, "op", operations[r->operation].name);
        switch (r->operation) {
        case HELPER_HELLO:
                break;
        case HELPER_NETWORK_APPLY:
                put_network(object, &r->network);
                break;
        case HELPER_UPDATE_START:
                json_object_set_new(object, "job", update_job_to_json(&r->job));
                break;
        case HELPER_UPDATE_CANCEL:
                put_text(object, "id", r->update_id);
                break;
        }
        return object;
}

/* ---- values ---- */

static void take_interface(struct json_reader *r, char ret[IFNAMSIZ])
{
        const char *s = json_take_text(r, "interface", IFNAMSIZ - 1);

        if (s && !str_is_interface_name(s))
                json_reader_fail(r, "interface", "is not an interface's name");
        else if (s)
                str_copy(ret, IFNAMSIZ, s);
}

static bool is_unicast(const struct inet_addr *a)
{
        const char *why = inet_addr_bogon(a);

        if (a->family == AF_INET && a->bytes[0] >= 224)
                return false;
        return !str_equal(why, "multicast") && !str_equal(why, "unspecified") && !str_equal(why, "loopback");
}

static bool is_network_or_broadcast(const struct cidr *c)
{
        struct cidr network = cidr_network(c), last = network;

        if (c->address.family != AF_INET || c->prefix > 30)
                return false;
        for (unsigned i = c->prefix; i < 32; i++)
                last.address.bytes[i / 8] |= (uint8_t)(0x80U >> (i % 8));
        return cidr_equal(c, &network) || cidr_equal(c, &last);
}

static bool is_host_address(const struct cidr *c)
{
        unsigned least = c->address.family == AF_INET ? MINIMUM_PREFIX_4 : MINIMUM_PREFIX_6;

        return c->prefix >= least && is_unicast(&c->address) && !is_network_or_broadcast(c);
}

static bool is_destination(const struct cidr *c)
{
        struct cidr network = cidr_network(c);

        return c->prefix > 0 && cidr_equal(c, &network) && !inet_addr_is_loopback(&c->address) &&
               !str_equal(inet_addr_bogon(&c->address), "multicast");
}

/* ---- reading ---- */

static void read_up(struct json_reader *r, struct helper_network *n)
{
        json_t *list = json_take_array(r, "up", HELPER_MAX_INTERFACES);
        size_t count = json_array_size(list);

        n->up = xcalloc(count, sizeof *n->up);
        for (size_t i = 0; i < count && r->result == 0; i++) {
                json_t *item = json_array_get(list, i);
                const char *s = json_string_value(item);

                if (!s || strlen(s) != json_string_length(item) || !str_is_interface_name(s))
                        json_reader_fail(r, "up", "has an item that is not an interface's name");
                else
                        n->up[n->up_count++] = xstrdup(s);
        }
}

static void read_address(struct json_reader *outer, json_t *item, struct helper_address *ret)
{
        struct json_reader r;
        const char *text;

        json_reader_init(&r, item, WHERE " (addresses)", outer->error);
        take_interface(&r, ret->interface);
        text = json_take_text(&r, "address", ADDRESS_MAXIMUM);
        if (text && (!strchr(text, '/') || cidr_parse(text, &ret->address) < 0 ||
                            !is_host_address(&ret->address)))
                json_reader_fail(&r, "address", "is not a host's address with a prefix length");
        outer->result = json_reader_done(&r, true);
}

static void read_addresses(struct json_reader *r, struct helper_network *n)
{
        json_t *list = json_take_array(r, "addresses", HELPER_MAX_ADDRESSES);
        size_t count = json_array_size(list);

        n->addresses = xcalloc(count, sizeof *n->addresses);
        for (size_t i = 0; i < count && r->result == 0; i++)
                read_address(r, json_array_get(list, i), &n->addresses[n->address_count++]);
}

static void read_destinations(
        struct json_reader *r, json_t *to, const struct helper_route *way, struct helper_network *n)
{
        size_t count = json_array_size(to);

        if (r->result == 0 && (count == 0 || n->route_count + count > HELPER_MAX_ROUTES)) {
                json_reader_fail(r, "to", count ? "makes more than %d routes" : "is empty (at most %d)",
                        HELPER_MAX_ROUTES);
                return;
        }
        for (size_t i = 0; i < count && r->result == 0; i++) {
                const char *text = json_string_value(json_array_get(to, i));
                struct helper_route route = *way;

                if (!text || !strchr(text, '/') || cidr_parse(text, &route.destination) < 0 ||
                        !is_destination(&route.destination))
                        json_reader_fail(
                                r, "to", "has an item that is not a network, or is the default route");
                else if (inet_addr_is_set(&way->next_hop) &&
                         way->next_hop.family != route.destination.address.family)
                        json_reader_fail(r, "to", "is of another IP version than the next hop");
                else
                        n->routes[n->route_count++] = route;
        }
}

static void read_way(struct json_reader *outer, json_t *item, struct helper_network *n)
{
        struct helper_route way = {0};
        struct json_reader r;
        const char *hop;
        json_t *to;

        json_reader_init(&r, item, WHERE " (routes)", outer->error);
        take_interface(&r, way.interface);
        hop = json_take_optional_text(&r, "next_hop", ADDRESS_MAXIMUM);
        if (hop && (inet_addr_parse(hop, &way.next_hop) < 0 || !is_unicast(&way.next_hop)))
                json_reader_fail(&r, "next_hop", "is not a host's address");
        way.metric = (unsigned)json_take_integer(&r, "metric", 1, UINT32_MAX);
        to = json_take_array(&r, "to", HELPER_MAX_ROUTES);
        read_destinations(&r, to, &way, n);
        outer->result = json_reader_done(&r, true);
}

static void read_routes(struct json_reader *r, struct helper_network *n)
{
        json_t *list = json_take_array(r, "routes", HELPER_MAX_ROUTES);
        size_t count = json_array_size(list);

        n->routes = xcalloc(count ? HELPER_MAX_ROUTES : 0, sizeof *n->routes);
        for (size_t i = 0; i < count && r->result == 0; i++)
                read_way(r, json_array_get(list, i), n);
}

/* ---- nothing twice ---- */

static int compare_routes(const void *a, const void *b)
{
        const struct helper_route *x = a, *y = b;
        int c = inet_addr_compare(&x->destination.address, &y->destination.address);

        if (c == 0)
                c = (x->destination.prefix > y->destination.prefix) -
                    (x->destination.prefix < y->destination.prefix);
        return c ? c : (x->metric > y->metric) - (x->metric < y->metric);
}

static void check_routes(struct json_reader *r, const struct helper_network *n)
{
        _cleanup_free_ struct helper_route *sorted = xcalloc(n->route_count, sizeof *sorted);
        char text[INET_ADDR_TEXT];

        if (n->route_count == 0)
                return;
        memcpy(sorted, n->routes, n->route_count * sizeof *sorted);
        qsort(sorted, n->route_count, sizeof *sorted, compare_routes);
        for (size_t i = 1; i < n->route_count; i++)
                if (compare_routes(&sorted[i - 1], &sorted[i]) == 0)
                        json_reader_fail(r, "routes", "has %s twice with the metric %u",
                                cidr_format(&sorted[i].destination, text), sorted[i].metric);
}

static void check_addresses(struct json_reader *r, const struct helper_network *n)
{
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < n->address_count; i++)
                for (size_t k = 0; k < i; k++)
                        if (inet_addr_equal(
                                    &n->addresses[i].address.address, &n->addresses[k].address.address))
                                json_reader_fail(r, "addresses", "has %s twice",
                                        inet_addr_format(&n->addresses[i].address.address, text));
}

static void read_network(struct json_reader *r, struct helper_network *n)
{
        read_up(r, n);
        if (r->result == 0)
                read_addresses(r, n);
        if (r->result == 0)
                read_routes(r, n);
        if (r->result == 0)
                check_addresses(r, n);
        if (r->result == 0)
                check_routes(r, n);
}

static void read_job(struct json_reader *r, struct update_job *ret)
{
        json_t *job = json_take_object(r, "job");

        if (job && update_job_from_json(job, ret, r->error) < 0)
                r->result = -EBADMSG;
}

static void read_update_id(struct json_reader *r, char ret[WIRE_ID_MAXIMUM + 1])
{
        const char *id = json_take_text(r, "id", WIRE_ID_MAXIMUM);

        if (id && !wire_id_is_valid(id))
                json_reader_fail(r, "id", "is not an id");
        else if (id)
                str_copy(ret, WIRE_ID_MAXIMUM + 1, id);
}

static void read_members(struct json_reader *r, struct helper_request *ret)
{
        switch (ret->operation) {
        case HELPER_HELLO:
                break;
        case HELPER_NETWORK_APPLY:
                read_network(r, &ret->network);
                break;
        case HELPER_UPDATE_START:
                read_job(r, &ret->job);
                break;
        case HELPER_UPDATE_CANCEL:
                read_update_id(r, ret->update_id);
                break;
        }
}

static void read_operation(struct json_reader *r, struct helper_request *ret)
{
        const char *name = json_take_text(r, "op", 32);

        for (size_t i = 0; name && i < ELEMENTS(operations); i++)
                if (str_equal(operations[i].name, name)) {
                        ret->operation = operations[i].operation;
                        read_members(r, ret);
                        return;
                }
        json_reader_fail(r, "op", "is no operation of this helper");
}

int helper_request_parse(const void *data, size_t length, struct helper_request *ret, struct error *ret_error)
{
        struct helper_request request = {0};
        struct json_reader r;
        json_t *object;
        int result = json_parse(data, length, HELPER_MESSAGE_MAXIMUM, WHERE, &object, ret_error);

        if (result < 0)
                return result;
        json_reader_init(&r, object, WHERE, ret_error);
        read_operation(&r, &request);
        result = json_reader_done(&r, true);
        json_decref(object);
        if (result < 0)
                helper_request_done(&request);
        else
                *ret = request;
        return result;
}

/* ---- answers ---- */

/* Codes must be static texts on this side as well. */
static const char *const codes[] = {"helper.failed", "helper.interface", "helper.address", "helper.route",
        "helper.refused", "helper.kernel", "update.busy", "update.failed", "update.installing", "update.none",
        "json.malformed", "json.member", "json.too-large"};

json_t *helper_answer_to_json(const struct error *e)
{
        json_t *object = json_object();

        if (!e || e->number == 0) {
                json_object_set_new(object, "ok", json_true());
                put_text(object, "version", GRIDNODE_VERSION);
                return object;
        }
        json_object_set_new(object, "ok", json_false());
        json_object_set_new(object, "number", json_integer(e->number));
        put_text(object, "code", e->code ? e->code : codes[0]);
        put_text(object, "error", e->text);
        return object;
}

static void read_failure(struct json_reader *r, struct error *ret)
{
        int number = (int)json_take_integer(r, "number", 1, 4095);
        const char *code = json_take_text(r, "code", 64);
        const char *text = json_take_text(r, "error", sizeof ret->text - 1);

        if (!code || !text)
                return;
        *ret = (struct error){.number = number, .code = codes[0]};
        str_copy(ret->text, sizeof ret->text, text);
        for (size_t i = 0; i < ELEMENTS(codes); i++)
                if (str_equal(codes[i], code))
                        ret->code = codes[i];
}

int helper_answer_parse(const void *data, size_t length, struct error *ret_answer, struct error *ret_error)
{
        struct error answer = {0};
        struct json_reader r;
        json_t *object;
        int result = json_parse(data, length, HELPER_MESSAGE_MAXIMUM, ANSWER_WHERE, &object, ret_error);

        if (result < 0)
                return result;
        json_reader_init(&r, object, ANSWER_WHERE, ret_error);
        if (!json_is_boolean(json_object_get(object, "ok")))
                json_reader_fail(&r, "ok", "is not true or false");
        else if (json_take_optional_boolean(&r, "ok", false))
                json_take_text(&r, "version", 64);
        else
                read_failure(&r, &answer);
        result = json_reader_done(&r, true);
        json_decref(object);
        if (result == 0)
                *ret_answer = answer;
        return result;
}
