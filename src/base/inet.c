#include "base/inet.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- addresses ---- */

int inet_addr_parse(const char *s, struct inet_addr *ret)
{
        struct inet_addr a = {0};

        if (!s)
                return -EINVAL;
        if (inet_pton(AF_INET, s, &a.v4) == 1)
                a.family = AF_INET;
        else if (inet_pton(AF_INET6, s, &a.v6) == 1)
                a.family = AF_INET6;
        else
                return -EINVAL;
        *ret = a;
        return 0;
}

const char *inet_addr_format(const struct inet_addr *a, char ret[INET_ADDR_TEXT])
{
        ret[0] = '\0';
        if (!inet_addr_is_set(a) || !inet_ntop(a->family, a->bytes, ret, INET_ADDR_TEXT))
                ret[0] = '\0';
        return ret;
}

bool inet_addr_is_set(const struct inet_addr *a)
{
        return a->family == AF_INET || a->family == AF_INET6;
}

unsigned inet_addr_bits(const struct inet_addr *a)
{
        return a->family == AF_INET ? 32 : a->family == AF_INET6 ? 128 : 0;
}

int inet_addr_compare(const struct inet_addr *a, const struct inet_addr *b)
{
        if (a->family != b->family)
                return a->family < b->family ? -1 : 1;
        /* Bytes past the family's length mean nothing and may differ. */
        return memcmp(a->bytes, b->bytes, inet_addr_bits(a) / 8);
}

bool inet_addr_equal(const struct inet_addr *a, const struct inet_addr *b)
{
        return inet_addr_compare(a, b) == 0;
}

static bool bits_equal(const uint8_t *a, const uint8_t *b, unsigned bits)
{
        unsigned whole = bits / 8, rest = bits % 8;

        if (memcmp(a, b, whole) != 0)
                return false;
        return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
}

/* The special-purpose registries (RFC 6890 and its updates) as far as they say "not a public service"; the
 * first line that fits decides. */
struct special_range {
        uint8_t bytes[16];
        uint8_t prefix;
        const char *why;
};

static const struct special_range special_v4[] = {
        {{0, 0, 0, 0}, 32, "unspecified"},
        {{0}, 8, "reserved"},
        {{10}, 8, "private"},
        {{100, 64}, 10, "shared"},
        {{127}, 8, "loopback"},
        {{169, 254}, 16, "link-local"},
        {{172, 16}, 12, "private"},
        {{192, 0, 0}, 24, "reserved"},
        {{192, 168}, 16, "private"},
        {{198, 18}, 15, "reserved"}, /* benchmarks, RFC 2544; also the false addresses of some filters */
        {{224}, 4, "multicast"},
        {{240}, 4, "reserved"},
};

static const struct special_range special_v6[] = {
        {{0}, 128, "unspecified"},
        {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, "loopback"},
        {{0x00, 0x64, 0xff, 0x9b}, 96, NULL}, /* NAT64, RFC 6052: what DNS64 rightly answers */
        {{0x20}, 3, NULL},                    /* global unicast */
        {{0xfc}, 7, "private"},
        {{0xfe, 0x80}, 10, "link-local"},
        {{0xff}, 8, "multicast"},
        {{0}, 0, "reserved"},
};

static const char *special_lookup(const uint8_t *bytes, const struct special_range *table, size_t count)
{
        for (size_t i = 0; i < count; i++)
                if (bits_equal(bytes, table[i].bytes, table[i].prefix))
                        return table[i].why;
        return NULL;
}

const char *inet_addr_bogon(const struct inet_addr *a)
{
        if (a->family == AF_INET)
                return special_lookup(a->bytes, special_v4, ELEMENTS(special_v4));
        if (a->family != AF_INET6)
                return NULL;
        if (IN6_IS_ADDR_V4MAPPED(&a->v6))
                return special_lookup(a->bytes + 12, special_v4, ELEMENTS(special_v4));
        return special_lookup(a->bytes, special_v6, ELEMENTS(special_v6));
}

bool inet_addr_is_loopback(const struct inet_addr *a)
{
        return str_equal(inet_addr_bogon(a), "loopback");
}

bool inet_addr_is_link_local(const struct inet_addr *a)
{
        return str_equal(inet_addr_bogon(a), "link-local");
}

/* ---- prefixes ---- */

int cidr_parse(const char *s, struct cidr *ret)
{
        const char *slash = s ? strchr(s, '/') : NULL;
        char address[INET6_ADDRSTRLEN];
        unsigned long prefix;
        struct cidr c = {0};

        if (!s)
                return -EINVAL;
        if (!slash) {
                if (inet_addr_parse(s, &c.address) < 0)
                        return -EINVAL;
                c.prefix = (uint8_t)inet_addr_bits(&c.address);
                *ret = c;
                return 0;
        }
        if ((size_t)(slash - s) >= sizeof(address))
                return -EINVAL;
        memcpy(address, s, (size_t)(slash - s));
        address[slash - s] = '\0';
        if (inet_addr_parse(address, &c.address) < 0)
                return -EINVAL;
        if (str_to_ulong(slash + 1, 0, inet_addr_bits(&c.address), &prefix) < 0)
                return -EINVAL;
        c.prefix = (uint8_t)prefix;
        *ret = c;
        return 0;
}

const char *cidr_format(const struct cidr *c, char ret[INET_ADDR_TEXT])
{
        char address[INET_ADDR_TEXT];

        ret[0] = '\0';
        if (inet_addr_is_set(&c->address)) {
                inet_addr_format(&c->address, address);
                snprintf(ret, INET_ADDR_TEXT, "%.46s/%u", address, c->prefix);
        }
        return ret;
}

bool cidr_contains(const struct cidr *c, const struct inet_addr *a)
{
        if (!inet_addr_is_set(a) || c->address.family != a->family || c->prefix > inet_addr_bits(a))
                return false;
        return bits_equal(c->address.bytes, a->bytes, c->prefix);
}

bool cidr_covers(const struct cidr *outer, const struct cidr *inner)
{
        return outer->prefix <= inner->prefix && cidr_contains(outer, &inner->address);
}

bool cidr_equal(const struct cidr *a, const struct cidr *b)
{
        return a->prefix == b->prefix && inet_addr_equal(&a->address, &b->address);
}

struct cidr cidr_network(const struct cidr *c)
{
        unsigned bits = inet_addr_bits(&c->address);
        struct cidr network = *c;

        for (unsigned i = c->prefix; i < bits; i++)
                network.address.bytes[i / 8] &= (uint8_t) ~(0x80U >> (i % 8));
        return network;
}

/* ---- endpoints ---- */

int endpoint_parse(const char *s, struct endpoint *ret)
{
        const char *start = s, *end, *port = NULL;
        char address[INET6_ADDRSTRLEN];
        struct endpoint e = {0};
        unsigned long number;

        if (!s)
                return -EINVAL;
        if (*s == '[') {
                start = s + 1;
                end = strchr(start, ']');
                if (!end || (end[1] != ':' && end[1] != '\0'))
                        return -EINVAL;
                if (end[1] == ':')
                        port = end + 2;
        } else {
                const char *colon = strchr(s, ':');

                /* More than one colon: a bare IPv6 address. */
                end = colon && !strchr(colon + 1, ':') ? colon : s + strlen(s);
                if (*end == ':')
                        port = end + 1;
        }
        if ((size_t)(end - start) >= sizeof(address))
                return -EINVAL;
        memcpy(address, start, (size_t)(end - start));
        address[end - start] = '\0';
        if (inet_addr_parse(address, &e.address) < 0 || (*s == '[' && e.address.family != AF_INET6))
                return -EINVAL;
        if (port) {
                if (str_to_ulong(port, 1, UINT16_MAX, &number) < 0)
                        return -EINVAL;
                e.port = (uint16_t)number;
        }
        *ret = e;
        return 0;
}

const char *endpoint_format(const struct endpoint *e, char ret[INET_ADDR_TEXT])
{
        char address[INET_ADDR_TEXT];

        inet_addr_format(&e->address, address);
        if (e->port == 0 || !inet_addr_is_set(&e->address))
                str_copy(ret, INET_ADDR_TEXT, address);
        else
                snprintf(ret, INET_ADDR_TEXT, e->address.family == AF_INET6 ? "[%.46s]:%u" : "%.46s:%u",
                        address, e->port);
        return ret;
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
        return a->port == b->port && inet_addr_equal(&a->address, &b->address);
}

socklen_t endpoint_to_sockaddr(const struct endpoint *e, struct sockaddr_storage *ret)
{
        memset(ret, 0, sizeof(*ret));
        ret->ss_family = e->address.family;
        if (e->address.family == AF_INET) {
                struct sockaddr_in *in = (struct sockaddr_in *)ret;

                in->sin_addr = e->address.v4;
                in->sin_port = htons(e->port);
                return sizeof(*in);
        }
        if (e->address.family == AF_INET6) {
                struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;

                in6->sin6_addr = e->address.v6;
                in6->sin6_port = htons(e->port);
                return sizeof(*in6);
        }
        return sizeof(ret->ss_family);
}

void endpoint_from_sockaddr(const struct sockaddr *sa, struct endpoint *ret)
{
        memset(ret, 0, sizeof(*ret));
        if (sa->sa_family == AF_INET) {
                const struct sockaddr_in *in = (const struct sockaddr_in *)sa;

                ret->address.family = AF_INET;
                ret->address.v4 = in->sin_addr;
                ret->port = ntohs(in->sin_port);
        } else if (sa->sa_family == AF_INET6) {
                const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)sa;

                ret->address.family = AF_INET6;
                ret->address.v6 = in6->sin6_addr;
                ret->port = ntohs(in6->sin6_port);
        }
}

/* ---- the order of attempts ---- */

static bool same_network(const struct inet_addr *a, const struct inet_addr *b)
{
        struct cidr network = {.address = *a, .prefix = a->family == AF_INET ? 24 : 48};

        return cidr_contains(&network, b);
}

static bool is_repetition(const struct inet_addr *addresses, size_t index)
{
        for (size_t i = 0; i < index; i++)
                if (inet_addr_equal(&addresses[i], &addresses[index]))
                        return true;
        return false;
}

/* How many of its network come before it. */
static size_t rank_in_network(const struct inet_addr *addresses, size_t index)
{
        size_t rank = 0;

        for (size_t i = 0; i < index; i++)
                rank += inet_addr_is_set(&addresses[i]) && !is_repetition(addresses, i) &&
                        same_network(&addresses[i], &addresses[index]);
        return rank;
}

size_t inet_addr_alternate(
        struct inet_addr *ret, size_t maximum, const struct inet_addr *addresses, size_t count)
{
        size_t placed = 0;

        for (size_t rank = 0; rank < count; rank++)
                for (size_t i = 0; i < count && placed < maximum; i++)
                        if (inet_addr_is_set(&addresses[i]) && !is_repetition(addresses, i) &&
                                rank_in_network(addresses, i) == rank)
                                ret[placed++] = addresses[i];
        return placed;
}
