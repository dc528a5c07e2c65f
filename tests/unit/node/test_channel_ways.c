/* Addresses, the network, and who is at the other end: see channel_world.h. */
#include "channel_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- addresses ---- */

static void test_alternates(void **state)
{
        struct channel_options o = options();

        (void)state;
        make_channel(&o);
        set_addresses(
                "203.0.113.1 203.0.113.2 203.0.113.2 2001:db8:1::1 2001:db8:1::2 2001:db8:2::1 198.51.100.1");
        channel_start(channel);
        assert_true(broker_loop(event, &said.connected, 20000));
        assert_string_equal(text_string(&said.attempts),
                "203.0.113.1:mqtt.tcp|2001:db8:1::1:mqtt.tcp|2001:db8:2::1:mqtt.tcp|198.51.100.1:ok|");
}

static void drop(const char *address)
{
        char command[256];

        snprintf(command, sizeof command,
                "nft 'add table ip t; add chain ip t o { type filter hook output priority 0; }; "
                "add rule ip t o ip daddr %s drop'",
                address);
        broker_run(command);
}

/* A way that is shut: the loop stays free, and another address is taken as soon as somebody says so. */
static void test_dropped(void **state)
{
        struct channel_options o = options();

        (void)state;
        drop("198.51.100.1");
        broker_longest_ms = 0;
        make_channel(&o);
        set_addresses("198.51.100.1 198.51.100.2");
        channel_start(channel);
        broker_wait(event, 500);
        channel_way_open(channel); /* too soon after the attempt began */
        broker_wait(event, 1700);
        assert_int_equal(state_now(), CHANNEL_CONNECTING);
        channel_way_open(channel);
        assert_true(broker_loop(event, &said.connected, 1500));
        assert_string_equal(text_string(&said.attempts), "198.51.100.2:ok|");
        assert_true(broker_longest_ms < 400);
        broker_run("nft delete table ip t");
}

static void test_resolve(void **state)
{
        struct channel_options o = options();

        (void)state;
        make_channel(&o);
        set_addresses("");
        channel_start(channel);
        assert_true(broker_loop(event, &said.resolved, 1000));
        assert_int_equal(state_now(), CHANNEL_RESOLVING);
        set_addresses(""); /* DNS is dead */
        broker_wait(event, 300);
        assert_int_equal(said.resolves, 1);
        /* An old address: after it has failed it is asked again, and the new one is tried. */
        said.resolved = false;
        set_addresses("203.0.113.9");
        assert_true(broker_loop(event, &said.resolved, 5000));
        assert_true(said.attempt_count >= 1);
        set_addresses("203.0.113.9 198.51.100.1");
        assert_true(broker_loop(event, &said.connected, 30000));
        /* Connected, new addresses disturb nothing. */
        set_addresses("203.0.113.77");
        broker_wait(event, 200);
        assert_int_equal(state_now(), CHANNEL_CONNECTED);
}

/* Refused everywhere: never given up, and not tried like mad. */
static void test_backoff(void **state)
{
        struct channel_options o = options();
        struct channel_view v;

        (void)state;
        o.port = 9;
        make_channel(&o);
        set_addresses("198.51.100.1");
        channel_start(channel);
        broker_wait(event, 8000);
        assert_true(said.attempt_count >= 2 && said.attempt_count <= 25);
        assert_string_equal(said.attempt_error.code, "mqtt.tcp");
        channel_view(channel, &v);
        assert_int_equal(v.attempts, said.attempt_count);
        assert_true(said.resolves >= said.attempt_count - 1);
        /* The network changed: at once, but not as often as somebody says so. */
        said.attempt_count = 0;
        for (int i = 0; i < 100; i++) {
                channel_network_changed(channel, NULL);
                broker_wait(event, 20);
        }
        assert_true(said.attempt_count >= 1 && said.attempt_count <= 8);
}

/* ---- the network ---- */

static void change_source(const char *source)
{
        struct inet_addr a = {0};

        if (source[0])
                assert_int_equal(inet_addr_parse(source, &a), 0);
        channel_network_changed(channel, &a);
}

static void test_source(void **state)
{
        struct channel_options o = options();

        (void)state;
        assert_int_equal(inet_addr_parse("198.51.100.2", &o.source), 0);
        make_channel(&o);
        set_addresses("198.51.100.1");
        channel_start(channel);
        assert_true(broker_loop(event, &said.connected, 5000));
        broker_run("ss -Htn state established src 198.51.100.2 dport = 8883 | grep -q .");
        change_source("198.51.100.2");
        change_source("");
        broker_wait(event, 100);
        assert_true(said.connected);
        change_source("198.51.100.3");
        assert_false(said.connected);
        assert_string_equal(said.why.code, "mqtt.lost");
        assert_non_null(strstr(said.why.text, "198.51.100.2"));
        assert_true(broker_loop(event, &said.connected, 1500));
        broker_run("ss -Htn state established src 198.51.100.3 dport = 8883 | grep -q .");
}

/* ---- the certificate ---- */

static void test_credentials(void **state)
{
        struct channel_options o = options();
        char command[256];

        (void)state;
        o.certificate_path = broker_path("later.crt");
        make_channel(&o);
        set_addresses("198.51.100.1");
        channel_start(channel);
        broker_wait(event, 100);
        assert_non_null(strstr(said.attempt_error.text, "gridnode register"));
        snprintf(command, sizeof command, "cp %s %s", broker_path("node.crt"), broker_path("later.crt"));
        broker_run(command);
        assert_true(broker_loop(event, &said.connected, 30000));
        said.connected = false;
        channel_credentials_changed(channel);
        assert_true(broker_loop(event, &said.connected, 3000));
        assert_string_equal(said.why.code, "mqtt.renewed");
        unlink(broker_path("later.crt"));
}

static void test_wrong_server(void **state)
{
        struct channel_options o = options();

        (void)state;
        o.host = "other.grid.example";
        make_channel(&o);
        set_addresses("198.51.100.1");
        channel_start(channel);
        for (int i = 0; i < 50 && said.attempt_count == 0; i++)
                broker_wait(event, 50);
        assert_string_equal(said.attempt_error.code, "mqtt.tls");
        assert_non_null(strstr(said.attempt_error.text, "hostname mismatch"));
        assert_false(said.connected);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_alternates),
                TEST(test_dropped),
                TEST(test_resolve),
                TEST(test_backoff),
                TEST(test_source),
                TEST(test_credentials),
                TEST(test_wrong_server),
        };

        return cmocka_run_group_tests(tests, broker_set_up, broker_tear_down);
}
