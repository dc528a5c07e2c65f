#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "payload.h"

static const char ack[] =
        "{\"schema\":1,\"epoch\":\"e-1\",\"stored\":[7,9],\"refused\":[8],\"reason\":\"event: bad\"}";

static void ack_done(struct wire_ack *a)
{
        (void)a;
}

static void test_ack(void **state)
{
        struct wire_ack a;

        (void)state;
        PARSE(wire_ack_parse, ack, &a);
        assert_string_equal(a.epoch, "e-1");
        assert_int_equal(a.count, 2);
        assert_int_equal(a.seqs[0], 7);
        assert_int_equal(a.seqs[1], 9);
        assert_int_equal(a.refused_count, 1);
        assert_int_equal(a.refused[0], 8);
        assert_string_equal(a.reason, "event: bad");
        ASSERT_WRITES(wire_ack_to_json(&a), ack);
        PARSE(wire_ack_parse, "{\"schema\":1,\"epoch\":\"e\",\"stored\":[]}", &a);
        assert_int_equal(a.count + a.refused_count, 0);
        ASSERT_WRITES(wire_ack_to_json(&a), "{\"schema\":1,\"epoch\":\"e\",\"stored\":[]}");
}

static void test_most(void **state)
{
        struct wire_ack a = {.epoch = "e", .count = WIRE_ACK_MAXIMUM}, back;
        _cleanup_free_ char *text = NULL;
        json_t *j;

        (void)state;
        for (size_t i = 0; i < WIRE_ACK_MAXIMUM; i++)
                a.seqs[i] = INT64_MAX - (int64_t)i;
        j = wire_ack_to_json(&a);
        text = json_to_text(j);
        PARSE(wire_ack_parse, text, &back);
        assert_int_equal(back.count, WIRE_ACK_MAXIMUM);
        assert_memory_equal(back.seqs, a.seqs, sizeof a.seqs);
        free(text);
        json_array_append_new(json_object_get(j, "stored"), json_integer(1));
        text = json_to_text(j);
        json_decref(j);
        ASSERT_REFUSED(wire_ack_parse, struct wire_ack, text, strlen(text), EBADMSG,
                "acknowledgement: member 'stored' has 257 items, more than 256");
}

static void test_refused(void **state)
{
        static const struct payload_case cases[] = {
                {"{\"schema\":1,\"stored\":[]}", "acknowledgement: member 'epoch' is missing"},
                {"{\"schema\":1,\"epoch\":\"e\",\"stored\":[1,0]}",
                        "acknowledgement: member 'stored' item 1 is not a number from 1"},
                {"{\"schema\":1,\"epoch\":\"e\",\"stored\":[\"1\"]}",
                        "acknowledgement: member 'stored' item 0 is not a number from 1"},
                {"{\"schema\":1,\"epoch\":\"e\",\"refused\":{}}",
                        "acknowledgement: member 'refused' is not an array"},
        };

        (void)state;
        ASSERT_CASES_REFUSED(wire_ack_parse, struct wire_ack, cases);
        ASSERT_BEARS_HARM(wire_ack_parse, ack_done, struct wire_ack, ack);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_ack),
                cmocka_unit_test(test_most),
                cmocka_unit_test(test_refused),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
