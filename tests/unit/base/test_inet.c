#include "base/inet.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct inet_addr addr(const char *s)
{
        struct inet_addr a = {0};

        assert_int_equal(inet_addr_parse(s, &a), 0);
        return a;
}

static void test_addresses(void **state)
{
        (void)state;
        static const char *const same[] = {"192.0.2.1", "0.0.0.0", "255.255.255.255", "2001:db8::1",
                "::", "::ffff:192.0.2.1", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"};
        static const char *const wrong[] = {"", " 192.0.2.1", "192.0.2.1 ", "192.0.2", "192.0.2.256",
                "192.0.2.01", "0x7f.1", "3221225985", "fe80::1%eth0", "[::1]", "2001:db8::1::", "localhost",
                "192.0.2.1/24"};
        struct inet_addr a = addr("192.0.2.7");
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < ELEMENTS(same); i++) {
                struct inet_addr b = addr(same[i]);

                assert_string_equal(inet_addr_format(&b, text), same[i]);
        }
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_int_equal(inet_addr_parse(wrong[i], &a), -EINVAL);
        assert_int_equal(inet_addr_parse(NULL, &a), -EINVAL);
        assert_string_equal(inet_addr_format(&a, text), "192.0.2.7");
        a = addr("2001:DB8:0:0::1");
        assert_string_equal(inet_addr_format(&a, text), "2001:db8::1");
        memset(&a, 0, sizeof(a));
        assert_string_equal(inet_addr_format(&a, text), "");
        assert_false(inet_addr_is_set(&a));
        assert_int_equal(inet_addr_bits(&a), 0);
}

static int compare(const void *a, const void *b)
{
        return inet_addr_compare(a, b);
}

static void test_order(void **state)
{
        (void)state;
        static const char *const sorted[] = {
                "10.0.0.1", "10.0.0.2", "192.0.2.1", "::1", "2001:db8::", "fe80::1"};
        struct inet_addr list[ELEMENTS(sorted)], a, b;
        char text[INET_ADDR_TEXT];

        for (size_t i = 0; i < ELEMENTS(sorted); i++)
                list[i] = addr(sorted[ELEMENTS(sorted) - 1 - i]);
        qsort(list, ELEMENTS(sorted), sizeof(*list), compare);
        for (size_t i = 0; i < ELEMENTS(sorted); i++)
                assert_string_equal(inet_addr_format(&list[i], text), sorted[i]);
        /* Bytes past an IPv4 address do not count. */
        memset(&a, 0xff, sizeof(a));
        memset(&b, 0x11, sizeof(b));
        a.family = b.family = AF_INET;
        a.v4.s_addr = b.v4.s_addr = htonl(0x0a000001);
        assert_true(inet_addr_equal(&a, &b));
        b.family = AF_INET6;
        assert_false(inet_addr_equal(&a, &b));
}

static void test_bogons(void **state)
{
        (void)state;
        static const struct {
                const char *address, *why;
        } cases[] = {
                {"0.0.0.0", "unspecified"},
                {"0.0.0.1", "reserved"},
                {"10.255.255.255", "private"},
                {"11.0.0.0", NULL},
                {"100.63.255.255", NULL},
                {"100.64.0.0", "shared"},
                {"100.127.255.255", "shared"},
                {"100.128.0.0", NULL},
                {"127.0.0.53", "loopback"},
                {"169.254.1.1", "link-local"},
                {"172.15.255.255", NULL},
                {"172.16.0.1", "private"},
                {"172.31.255.255", "private"},
                {"172.32.0.0", NULL},
                {"192.0.0.8", "reserved"},
                {"192.0.2.1", NULL},
                {"192.168.0.1", "private"},
                {"198.18.0.1", "reserved"},
                {"198.19.255.255", "reserved"},
                {"198.20.0.0", NULL},
                {"198.51.100.20", NULL},
                {"203.0.113.200", NULL},
                {"224.0.0.1", "multicast"},
                {"239.255.255.255", "multicast"},
                {"240.0.0.1", "reserved"},
                {"255.255.255.255", "reserved"},
                {"::", "unspecified"},
                {"::1", "loopback"},
                {"::2", "reserved"},
                {"::ffff:10.0.0.1", "private"},
                {"::ffff:203.0.113.1", NULL},
                {"64:ff9b::c633:6414", NULL},
                {"100::1", "reserved"},
                {"2001:db8::1", NULL},
                {"2600::1", NULL},
                {"3fff:ffff::1", NULL},
                {"4000::1", "reserved"},
                {"fc00::1", "private"},
                {"fd12::1", "private"},
                {"fe80::1", "link-local"},
                {"febf::1", "link-local"},
                {"fec0::1", "reserved"},
                {"ff02::1", "multicast"},
        };
        struct inet_addr none = {0};

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct inet_addr a = addr(cases[i].address);
                const char *why = inet_addr_bogon(&a);

                if (!str_equal(why, cases[i].why))
                        fail_msg("%s: %s", cases[i].address, why ? why : "(none)");
                assert_int_equal(inet_addr_is_loopback(&a), str_equal(cases[i].why, "loopback"));
                assert_int_equal(inet_addr_is_link_local(&a), str_equal(cases[i].why, "link-local"));
        }
        assert_null(inet_addr_bogon(&none));
}

static void test_prefixes(void **state)
{
        (void)state;
        static const char *const same[] = {"10.0.0.0/8", "10.1.2.3/8", "0.0.0.0/0", "192.0.2.1/32",
                "2001:db8::/32", "::/0", "2001:db8::1/128", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff/128"};
        static const char *const wrong[] = {"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
                "10.0.0.0/8/8", "10.0.0.0/ 8", "10.0.0.0 /8", "10.0/8", "::/129", "::/", "10.0.0.0/256",
                "10.0.0.0/4294967304", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/12"};
        struct cidr c = {0};
        char text[INET_ADDR_TEXT];

        assert_string_equal(cidr_format(&c, text), "");
        for (size_t i = 0; i < ELEMENTS(same); i++) {
                assert_int_equal(cidr_parse(same[i], &c), 0);
                assert_string_equal(cidr_format(&c, text), same[i]);
        }
        assert_int_equal(cidr_parse("198.51.100.53", &c), 0);
        assert_int_equal(c.prefix, 32);
        assert_int_equal(cidr_parse("2001:db8::53", &c), 0);
        assert_int_equal(c.prefix, 128);
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                assert_int_equal(cidr_parse(wrong[i], &c), -EINVAL);
        assert_int_equal(cidr_parse(NULL, &c), -EINVAL);
        assert_int_equal(c.prefix, 128);
}

static void assert_contains(const char *range, const char *address, bool wanted)
{
        struct inet_addr a = addr(address);
        struct cidr c;

        assert_int_equal(cidr_parse(range, &c), 0);
        assert_int_equal(cidr_contains(&c, &a), wanted);
}

static void test_contains(void **state)
{
        (void)state;
        struct inet_addr none = {0};
        struct cidr c, broken;

        assert_contains("198.51.100.16/28", "198.51.100.15", false);
        assert_contains("198.51.100.16/28", "198.51.100.16", true);
        assert_contains("198.51.100.16/28", "198.51.100.31", true);
        assert_contains("198.51.100.16/28", "198.51.100.32", false);
        assert_contains("198.51.100.20/28", "198.51.100.17", true);
        assert_contains("0.0.0.0/0", "203.0.113.1", true);
        assert_contains("0.0.0.0/0", "2001:db8::1", false);
        assert_contains("::/0", "203.0.113.1", false);
        assert_contains("192.0.2.1/32", "192.0.2.1", true);
        assert_contains("192.0.2.1/32", "192.0.2.0", false);
        assert_contains("128.0.0.0/1", "127.255.255.255", false);
        assert_contains("128.0.0.0/1", "203.0.113.1", true);
        assert_contains("2001:db8::/33", "2001:db8:7fff::1", true);
        assert_contains("2001:db8::/33", "2001:db8:8000::1", false);
        assert_contains("2001:db8::1/128", "2001:db8::1", true);
        assert_int_equal(cidr_parse("::/0", &c), 0);
        assert_false(cidr_contains(&c, &none));
        broken = (struct cidr){.address = addr("10.0.0.0"), .prefix = 200};
        none = addr("10.0.0.0");
        assert_false(cidr_contains(&broken, &none));
}

static void test_endpoints(void **state)
{
        (void)state;
        static const char *const same[] = {"192.0.2.1:443", "192.0.2.1", "[2001:db8::1]:8443", "2001:db8::1",
                "::", "192.0.2.1:65535", "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535"};
        static const char *const wrong[] = {"", ":", ":443", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536",
                "192.0.2.1:443x", "[192.0.2.1]:443", "[2001:db8::1", "[2001:db8::1]443",
                "[2001:db8::1]:", "[]:443", "[", "repo.example:443", "192.0.2.1:443:1", "2001:db8::1]:443"};
        struct endpoint e = {0};
        char text[INET_ADDR_TEXT];

        assert_string_equal(endpoint_format(&e, text), "");
        for (size_t i = 0; i < ELEMENTS(same); i++) {
                assert_int_equal(endpoint_parse(same[i], &e), 0);
                assert_string_equal(endpoint_format(&e, text), same[i]);
        }
        assert_int_equal(endpoint_parse("[2001:db8::1]", &e), 0);
        assert_int_equal(e.port, 0);
        for (size_t i = 0; i < ELEMENTS(wrong); i++)
                if (endpoint_parse(wrong[i], &e) != -EINVAL)
                        fail_msg("%s was taken", wrong[i]);
        assert_int_equal(endpoint_parse(NULL, &e), -EINVAL);
}

static struct cidr cidr_of(const char *text)
{
        struct cidr c;

        assert_int_equal(cidr_parse(text, &c), 0);
        return c;
}

static bool covers(const char *outer, const char *inner)
{
        struct cidr o = cidr_of(outer), i = cidr_of(inner);

        return cidr_covers(&o, &i);
}

static void assert_network(const char *of, const char *wanted)
{
        struct cidr c = cidr_of(of), w = cidr_of(wanted), network = cidr_network(&c);

        assert_true(cidr_equal(&network, &w));
        assert_int_equal(cidr_equal(&c, &w), !strcmp(of, wanted));
}

static void test_networks(void **state)
{
        (void)state;
        assert_true(covers("10.0.0.0/8", "10.1.0.0/16"));
        assert_true(covers("10.9.9.9/8", "10.0.0.0/8"));
        assert_false(covers("10.1.0.0/16", "10.0.0.0/8"));
        assert_false(covers("10.0.0.0/8", "11.0.0.0/16"));
        assert_true(covers("0.0.0.0/0", "192.0.2.1/32"));
        assert_false(covers("::/0", "192.0.2.1/32"));
        assert_true(covers("2001:db8::/32", "2001:db8:1::/48"));
        assert_network("10.1.2.3/8", "10.0.0.0/8");
        assert_network("10.1.2.3/32", "10.1.2.3/32");
        assert_network("10.1.2.255/25", "10.1.2.128/25");
        assert_network("255.255.255.255/0", "0.0.0.0/0");
        assert_network("2001:db8:ffff::1/33", "2001:db8:8000::/33");
}

static void test_sockaddr(void **state)
{
        (void)state;
        struct sockaddr other = {.sa_family = AF_UNIX};
        struct sockaddr_storage ss;
        struct endpoint e, back;

        assert_int_equal(endpoint_parse("192.0.2.1:443", &e), 0);
        assert_int_equal(endpoint_to_sockaddr(&e, &ss), sizeof(struct sockaddr_in));
        assert_int_equal(((struct sockaddr_in *)&ss)->sin_port, htons(443));
        endpoint_from_sockaddr((struct sockaddr *)&ss, &back);
        assert_true(endpoint_equal(&e, &back));
        assert_int_equal(endpoint_parse("[2001:db8::1]:8443", &e), 0);
        assert_false(endpoint_equal(&e, &back));
        assert_int_equal(endpoint_to_sockaddr(&e, &ss), sizeof(struct sockaddr_in6));
        endpoint_from_sockaddr((struct sockaddr *)&ss, &back);
        assert_true(endpoint_equal(&e, &back));
        back.port++;
        assert_false(endpoint_equal(&e, &back));
        endpoint_from_sockaddr(&other, &back);
        assert_int_equal(back.address.family, 0);
        assert_true(endpoint_to_sockaddr(&back, &ss) < sizeof(struct sockaddr_in));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_addresses),
                cmocka_unit_test(test_order),
                cmocka_unit_test(test_bogons),
                cmocka_unit_test(test_prefixes),
                cmocka_unit_test(test_contains),
                cmocka_unit_test(test_networks),
                cmocka_unit_test(test_endpoints),
                cmocka_unit_test(test_sockaddr),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
