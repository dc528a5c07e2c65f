#include "plane/mosquitto_log.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#define AT "2026-11-21T17:44:13: "

static enum mosquitto_line kind_of(const char *line)
{
        struct mosquitto_denial d;

        return mosquitto_line_parse(line, strlen(line), &d);
}

static void test_what_is_no_packet_is_kept(void **state)
{
        static const char *const lines[] = {
                AT "mosquitto version 2.0.11 starting",
                AT "Error: Address already in use",
                AT "Client n-aaaa disconnected due to protocol error.",
                AT "OpenSSL Error[0]: error:0A000418:SSL routines::tlsv1 alert unknown ca",
                "1795230120: Config loaded from /x/mosquitto.conf.",
                "the program cannot be executed",
                "mosquitto: symbol lookup error: Received",
                "",
                AT,
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(lines); i++)
                assert_int_equal(kind_of(lines[i]), MOSQUITTO_OTHER);
}

static void test_packets(void **state)
{
        static const char *const lines[] = {
                AT "Received PUBLISH from n-aaaa (d0, q1, r0, m5, 'node/n-aaaa/event', ... (12 bytes))",
                AT "Received PUBLISH from n-aaaa (d0, q1, r0, m5, 'Denied PUBLISH from x', ... (12 bytes))",
                AT "Sending PUBACK to n-aaaa (m5, rc135)",
                AT "Sending CONNACK to n-aaaa (0, 0)",
                AT "Received PINGREQ from n-aaaa",
                AT "\tnode/n-aaaa/ack (QoS 1)",
                AT "No will message specified.",
                AT "Will message specified (61 bytes) (r1, q1).",
                "1795230120: Sending PINGRESP to n-aaaa",
                "Received SUBSCRIBE from n-aaaa",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(lines); i++)
                assert_int_equal(kind_of(lines[i]), MOSQUITTO_PACKET);
}

static void assert_denied(const char *line, const char *client, const char *topic, bool is_cut)
{
        struct mosquitto_denial d;

        assert_int_equal(mosquitto_line_parse(line, strlen(line), &d), MOSQUITTO_DENIED);
        assert_int_equal(d.client_length, strlen(client));
        assert_memory_equal(d.client, client, d.client_length);
        assert_int_equal(d.topic_length, strlen(topic));
        assert_memory_equal(d.topic, topic, d.topic_length);
        assert_int_equal(d.is_cut, is_cut);
}

static void test_denials(void **state)
{
        char line[1000] = AT "Denied PUBLISH from n-aaaa (d0, q1, r0, m5, 'node/";
        size_t length = strlen(line);

        (void)state;
        assert_denied(AT "Denied PUBLISH from n-aaaa (d0, q1, r0, m5, 'node/n-bbbb/event', ... (12 bytes))",
                "n-aaaa", "node/n-bbbb/event", false);
        assert_denied(
                "Denied PUBLISH from n-aaaa (d1, q0, r1, m0, 'x', ... (0 bytes))", "n-aaaa", "x", false);
        /* The topic is of the client's choice. */
        assert_denied(AT "Denied PUBLISH from n-aaaa (d0, q1, r0, m5, 'a', ... (1 bytes)) (d0, 'b', ... (2 "
                         "bytes))', ... (12 bytes))",
                "n-aaaa", "a', ... (1 bytes)) (d0, 'b', ... (2 bytes))", false);
        memset(line + length, 'x', sizeof line - 1 - length);
        line[sizeof line - 1] = '\0';
        assert_denied(line, "n-aaaa", strstr(line, "node/"), true);
}

/* A form that another version may have: the line is not lost. */
static void test_denials_of_another_form(void **state)
{
        static const char *const lines[] = {
                AT "Denied PUBLISH from n-aaaa (d0, q1, r0, m5, 'node/n-bbbb/event'",
                AT "Denied PUBLISH from n-aaaa",
                AT "Denied PUBLISH from ",
                AT "Denied PUBLISH from  (d0, 'x', ... (1 bytes))",
                AT "Denied SUBSCRIBE from n-aaaa",
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(lines); i++)
                assert_int_equal(kind_of(lines[i]), MOSQUITTO_OTHER);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_what_is_no_packet_is_kept),
                cmocka_unit_test(test_packets),
                cmocka_unit_test(test_denials),
                cmocka_unit_test(test_denials_of_another_form),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
