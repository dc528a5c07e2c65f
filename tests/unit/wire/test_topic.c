#include "wire/topic.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <string.h>

static void assert_pair(enum topic_kind kind, const char *request, const char *wanted)
{
        char topic[TOPIC_MAXIMUM], node[WIRE_ID_MAXIMUM + 1], back[WIRE_ID_MAXIMUM + 1];
        enum topic_kind found = TOPIC_STATUS;

        topic_format(topic, kind, "n-7", request);
        assert_string_equal(topic, wanted);
        assert_int_equal(topic_parse(topic, &found, node, back), 0);
        assert_int_equal(found, kind);
        assert_string_equal(node, "n-7");
        assert_string_equal(back, request ? request : "");
}

static void test_pairs(void **state)
{
        (void)state;
        assert_pair(TOPIC_STATUS, NULL, "node/n-7/status");
        assert_pair(TOPIC_EVENT, NULL, "node/n-7/event");
        assert_pair(TOPIC_REPORT, NULL, "node/n-7/report");
        assert_pair(TOPIC_ACK, NULL, "node/n-7/ack");
        assert_pair(TOPIC_CONFIG, NULL, "node/n-7/config");
        assert_pair(TOPIC_CONFIG_APPLIED, NULL, "node/n-7/config/applied");
        assert_pair(TOPIC_REQUEST, NULL, "node/n-7/request");
        assert_pair(TOPIC_OUT, "r-1", "node/n-7/out/r-1");
}

static void test_refused(void **state)
{
        static const char *const bad[] = {NULL, "", "node", "node/", "node//status", "node/n-7", "node/n-7/",
                "node/n-7/statu", "node/n-7/status/", "node/n-7/status/x", "node/n-7/STATUS",
                "/node/n-7/status", "nodes/n-7/status", "node/N-7/status", "node/-7/status", "node/n-/status",
                "node/n 7/status", "node/+/status", "node/#", "node/n-7/#", "node/n-7/out", "node/n-7/out/",
                "node/n-7/out//", "node/n-7/out/r/1", "node/n-7/out/R", "node/../status", "node/n-7/config/",
                "node/n-7/config/x", "$SYS/broker", "node/caf\xc3\xa9/status"};

        (void)state;
        for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                char node[WIRE_ID_MAXIMUM + 1] = "untouched", request[WIRE_ID_MAXIMUM + 1] = "untouched";
                enum topic_kind kind = TOPIC_OUT;

                assert_int_equal(topic_parse(bad[i], &kind, node, request), -EBADMSG);
                assert_int_equal(kind, TOPIC_OUT);
                assert_string_equal(node, "untouched");
                assert_string_equal(request, "untouched");
        }
}

static void test_ids(void **state)
{
        char longest[WIRE_ID_MAXIMUM + 2];

        (void)state;
        memset(longest, 'x', sizeof longest);
        longest[WIRE_ID_MAXIMUM] = '\0';
        assert_true(wire_id_is_valid(longest));
        assert_true(wire_id_is_valid("0"));
        longest[WIRE_ID_MAXIMUM] = 'x';
        longest[WIRE_ID_MAXIMUM + 1] = '\0';
        assert_false(wire_id_is_valid(longest));
        assert_false(wire_id_is_valid(NULL));
        assert_false(wire_id_is_valid(""));
        assert_false(wire_id_is_valid("-"));
        assert_false(wire_id_is_valid("a_b"));
        assert_false(wire_id_is_valid("a\n"));
}

static void test_longest(void **state)
{
        char id[WIRE_ID_MAXIMUM + 1], topic[TOPIC_MAXIMUM], node[WIRE_ID_MAXIMUM + 1],
                request[WIRE_ID_MAXIMUM + 1];
        enum topic_kind kind;

        (void)state;
        memset(id, 'z', WIRE_ID_MAXIMUM);
        id[WIRE_ID_MAXIMUM] = '\0';
        topic_format(topic, TOPIC_OUT, id, id);
        assert_int_equal(topic_parse(topic, &kind, node, request), 0);
        assert_string_equal(node, id);
        assert_string_equal(request, id);
        strcat(topic, "z");
        assert_int_equal(topic_parse(topic, &kind, node, request), -EBADMSG);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_pairs),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_ids),
                cmocka_unit_test(test_longest),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
