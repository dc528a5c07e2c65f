#include "probe/dns_message.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

static const struct dns_question asked = {.name = "repo.grid.example", .type = DNS_TYPE_A, .id = 0x1234};

/* A message put together by hand. */
struct wire {
        uint8_t bytes[65536];
        size_t length;
};

static struct wire w;

static void put(const void *bytes, size_t length)
{
        assert_true(w.length + length <= sizeof w.bytes);
        memcpy(w.bytes + w.length, bytes, length);
        w.length += length;
}

static void put_u16(unsigned v)
{
        put((uint8_t[]){(uint8_t)(v >> 8), (uint8_t)v}, 2);
}

/* Without compression; "" is the root. */
static void put_name(const char *name)
{
        while (*name) {
                size_t label = strcspn(name, ".");
                uint8_t length = (uint8_t)label;

                put(&length, 1);
                put(name, label);
                name += label + (name[label] == '.');
        }
        put("", 1);
}

static void start_message(unsigned flags, unsigned answers)
{
        w.length = 0;
        put_u16(0x1234);
        put_u16(flags);
        put_u16(1);
        put_u16(answers);
        put_u16(0);
        put_u16(0);
        put_name("repo.grid.example");
        put_u16(DNS_TYPE_A);
        put_u16(1);
}

static void put_record(const char *name, unsigned type, unsigned ttl_s, const void *data, size_t length)
{
        put_name(name);
        put_u16(type);
        put_u16(1);
        put_u16(ttl_s >> 16);
        put_u16(ttl_s & 0xffff);
        put_u16((unsigned)length);
        put(data, length);
}

static void put_a(const char *name, unsigned ttl_s, unsigned last)
{
        put_record(name, DNS_TYPE_A, ttl_s, (uint8_t[]){198, 51, 100, (uint8_t)last}, 4);
}

static int parse(struct dns_answer *ret)
{
        /* On the heap at its exact size, so that the sanitizer sees a read behind it. */
        _cleanup_free_ uint8_t *copy = malloc(w.length ? w.length : 1);

        memcpy(copy, w.bytes, w.length);
        return dns_message_parse(copy, w.length, &asked, ret);
}

static void builds_a_query(void **state)
{
        static const uint8_t expected[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                                          "\4repo\4grid\7example\0\0\1\0\1";
        struct dns_question q = asked;
        uint8_t bytes[DNS_MESSAGE_MAX_QUESTION];
        size_t length, plain;

        (void)state;
        assert_int_equal(dns_message_build(&q, bytes, &plain), 0);
        assert_int_equal(plain, sizeof expected - 1);
        assert_memory_equal(bytes, expected, plain);
        q.name = "repo.grid.example.";
        assert_int_equal(dns_message_build(&q, bytes, &length), 0);
        assert_memory_equal(bytes, expected, plain);
        q.edns_bytes = 1232;
        assert_int_equal(dns_message_build(&q, bytes, &length), 0);
        assert_int_equal(length, plain + 11);
        assert_memory_equal(bytes + plain, "\0\0\x29\x04\xd0\0\0\0\0\0\0", 11);
}

static void builds_a_query_for_the_root(void **state)
{
        const struct dns_question q = {.name = ".", .type = DNS_TYPE_NS, .id = 1};
        uint8_t bytes[DNS_MESSAGE_MAX_QUESTION];
        size_t length;

        (void)state;
        assert_int_equal(dns_message_build(&q, bytes, &length), 0);
        assert_int_equal(length, 17);
        assert_memory_equal(bytes + 12, "\0\0\2\0\1", 5);
}

static void refuses_names_that_cannot_be_asked(void **state)
{
        static const char label[] = "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffgggg";
        char name[400] = "";
        uint8_t bytes[DNS_MESSAGE_MAX_QUESTION];
        struct dns_question q = {.name = label, .type = DNS_TYPE_A};
        size_t length;

        (void)state;
        assert_int_equal(strlen(label), 64);
        assert_int_equal(dns_message_build(&q, bytes, &length), -EINVAL);
        for (int i = 0; i < 5; i++) {
                strcat(name, label + 4);
                strcat(name, ".");
        }
        q.name = name;
        assert_int_equal(dns_message_build(&q, bytes, &length), -EINVAL);
        q.name = "a..b";
        assert_int_equal(dns_message_build(&q, bytes, &length), -EINVAL);
}

static void reads_addresses_sorted_and_once(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8180, 3);
        put_a("REPO.grid.Example", 300, 21);
        put_a("repo.grid.example", 60, 20);
        put_a("repo.grid.example", 300, 21);
        assert_int_equal(parse(&a), 0);
        assert_int_equal(a.rcode, 0);
        assert_true(a.recursion_available);
        assert_false(a.truncated || a.authoritative);
        assert_int_equal(a.record_count, 3);
        assert_int_equal(a.addresses.count, 2);
        assert_string_equal(a.addresses.items[0], "198.51.100.20");
        assert_string_equal(a.addresses.items[1], "198.51.100.21");
        assert_int_equal(a.ttl_s, 60);
        assert_null(a.canonical_name);
        dns_answer_done(&a);
}

static void follows_cnames_in_any_order(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8580, 4);
        put_a("edge.cdn.example", 300, 7);
        put_record("www.grid.example", 5, 30, "\4edge\3cdn\7example", 18);
        put_a("unrelated.example", 1, 9);
        put_record("repo.grid.example", 5, 120, "\3www\xc0\x11", 6); /* compressed: to "grid.example" */
        assert_int_equal(parse(&a), 0);
        assert_true(a.authoritative);
        assert_int_equal(a.addresses.count, 1);
        assert_string_equal(a.addresses.items[0], "198.51.100.7");
        assert_string_equal(a.canonical_name, "edge.cdn.example");
        assert_int_equal(a.ttl_s, 30);
        dns_answer_done(&a);
}

static void a_circle_of_cnames_ends(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8180, 2);
        put_record("repo.grid.example", 5, 30, "\1x\7example", 11);
        put_record("x.example", 5, 30, "\4repo\4grid\7example", 19);
        assert_int_equal(parse(&a), 0);
        assert_int_equal(a.record_count, 0);
        dns_answer_done(&a);
}

static void refuses_compression_loops(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8180, 1);
        put_u16(0xc000 | (unsigned)w.length); /* points at itself */
        put(w.bytes, 14);
        assert_int_equal(parse(&a), -EBADMSG);
        start_message(0x8180, 1);
        put_u16(0xffff); /* points outside */
        put(w.bytes, 14);
        assert_int_equal(parse(&a), -EBADMSG);
        start_message(0x8180, 1);
        put_record("repo.grid.example", 5, 30, "\xc0", 1); /* half a pointer */
        assert_int_equal(parse(&a), -EBADMSG);
}

static void tells_errors_with_and_without_question(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8183, 0);
        assert_int_equal(parse(&a), 0);
        assert_int_equal(a.rcode, 3);
        dns_answer_done(&a);
        w.length = 0;
        put("\x12\x34\x80\x05\0\0\0\0\0\0\0\0", 12);
        assert_int_equal(parse(&a), 0);
        assert_int_equal(a.rcode, 5);
        dns_answer_done(&a);
        w.bytes[3] = 0; /* success without a question is no answer */
        assert_int_equal(parse(&a), -EBADMSG);
}

static void tells_what_is_not_ours(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8180, 0);
        w.bytes[0] ^= 1;
        assert_int_equal(parse(&a), -ENOMSG);
        start_message(0x8180, 0);
        w.bytes[13] = 'x';
        assert_int_equal(parse(&a), -ENOMSG);
        start_message(0x8180, 0);
        w.bytes[w.length - 3] = DNS_TYPE_AAAA;
        assert_int_equal(parse(&a), -ENOMSG);
        start_message(0x0100, 0); /* our own query */
        assert_int_equal(parse(&a), -EBADMSG);
        start_message(0xa180, 0); /* another opcode */
        assert_int_equal(parse(&a), -EBADMSG);
}

static void every_shortening_is_malformed_or_truncated(void **state)
{
        struct dns_answer a;
        size_t full, whole;

        (void)state;
        start_message(0x8180, 2);
        put_a("repo.grid.example", 300, 20);
        whole = w.length;
        put_a("repo.grid.example", 300, 21);
        full = w.length;
        for (w.length = 0; w.length < full; w.length++)
                assert_int_equal(parse(&a), -EBADMSG);
        w.bytes[2] |= 2; /* TC */
        for (w.length = whole; w.length < full; w.length++) {
                assert_int_equal(parse(&a), 0);
                assert_true(a.truncated);
                assert_int_equal(a.addresses.count, 1);
                dns_answer_done(&a);
        }
}

static void refuses_addresses_of_a_wrong_length(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8180, 1);
        put_record("repo.grid.example", DNS_TYPE_A, 1, "\1\2\3", 3);
        assert_int_equal(parse(&a), -EBADMSG);
}

static void bounds_what_it_keeps(void **state)
{
        struct dns_answer a;

        (void)state;
        start_message(0x8180, 1500);
        for (unsigned i = 0; i < 1500; i++) {
                uint8_t address[4] = {10, 0, (uint8_t)(i >> 8), (uint8_t)i};

                put_record("repo.grid.example", DNS_TYPE_A, 5, address, 4);
        }
        assert_int_equal(parse(&a), 0);
        assert_int_equal(a.record_count, 1500);
        assert_int_equal(a.addresses.count, DNS_MESSAGE_MAX_ADDRESSES);
        dns_answer_done(&a);
}

static void counts_name_servers(void **state)
{
        const struct dns_question q = {.name = ".", .type = DNS_TYPE_NS, .id = 0x1234};
        struct dns_answer a;

        (void)state;
        w.length = 0;
        put("\x12\x34\x81\x80\0\1\0\1\0\0\0\0\0\0\2\0\1", 17);
        put_record("", DNS_TYPE_NS, 9, "\1a\0", 3);
        assert_int_equal(dns_message_parse(w.bytes, w.length, &q, &a), 0);
        assert_int_equal(a.record_count, 1);
        assert_int_equal(a.addresses.count, 0);
        assert_null(a.canonical_name);
        dns_answer_done(&a);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(builds_a_query),
                cmocka_unit_test(builds_a_query_for_the_root),
                cmocka_unit_test(refuses_names_that_cannot_be_asked),
                cmocka_unit_test(reads_addresses_sorted_and_once),
                cmocka_unit_test(follows_cnames_in_any_order),
                cmocka_unit_test(a_circle_of_cnames_ends),
                cmocka_unit_test(refuses_compression_loops),
                cmocka_unit_test(tells_errors_with_and_without_question),
                cmocka_unit_test(tells_what_is_not_ours),
                cmocka_unit_test(every_shortening_is_malformed_or_truncated),
                cmocka_unit_test(refuses_addresses_of_a_wrong_length),
                cmocka_unit_test(bounds_what_it_keeps),
                cmocka_unit_test(counts_name_servers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
