/* Connections that fail and connections that end: wrong certificates, packets that vanish, peers that
 * misbehave. */
#include "mqtt_end.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <setjmp.h>

#include <cmocka.h>

/* ---- TLS that must not be ---- */

static void assert_tls_fails(
        const char *root, const char *host, const char *name, const char *code, const char *words)
{
        struct mqtt_options o = end_options_tcp("127.0.0.1", BROKER_TLS_PORT);

        o.tls = end_context(root, host, name);
        end_assert_fails(&o, 10000, code, words);
        SSL_CTX_free(o.tls);
}

/* The server says so after the handshake (TLS 1.3), and its reset may overtake what it says. */
static void assert_certificate_refused(const char *name)
{
        struct mqtt_options o = end_options_tcp("127.0.0.1", BROKER_TLS_PORT);
        struct end e = {0};

        o.tls = end_context("root.pem", BROKER_HOST, name);
        end_open(&e, &o);
        assert_true(broker_loop(end_event, &e.closed, 10000));
        assert_false(e.connected);
        if (!str_equal(e.error.code, "mqtt.refused") && !str_equal(e.error.code, "mqtt.tls"))
                fail_msg("%s: %s", e.error.code, e.error.text);
        SSL_CTX_free(o.tls);
}

static void test_tls_refused(void **state)
{
        (void)state;
        assert_tls_fails("root.pem", "repo.grid.example", "node", "mqtt.tls", "hostname mismatch");
        assert_tls_fails("root.pem", "127.0.0.1", "node", "mqtt.tls", "IP address mismatch");
        assert_tls_fails("other-root.pem", BROKER_HOST, "other", "mqtt.tls", "issuer certificate");
        assert_certificate_refused(NULL);
        assert_certificate_refused("other");
}

static void assert_no_context(const char *root, const char *host, const char *certificate, const char *words)
{
        struct error error = {0};
        SSL_CTX *c = NULL;

        assert_true(mqtt_tls_context(broker_path(root), host, broker_path(certificate),
                            broker_path("node.key"), &c, &error) < 0);
        assert_null(c);
        if (!strstr(error.text, words))
                fail_msg("'%s' has no '%s'", error.text, words);
}

static void test_context_refused(void **state)
{
        (void)state;
        assert_no_context("none.pem", BROKER_HOST, "node.crt", "none.pem");
        assert_no_context("node.key", BROKER_HOST, "node.crt", "node.key");
        assert_no_context("root.pem", BROKER_HOST, "none.crt", "gridnode register");
        assert_no_context("root.pem", BROKER_HOST, "other.crt", "does not fit");
        assert_no_context("root.pem", "", "node.crt", "no host");
        assert_no_context("root.pem", "a b", "node.crt", "no host");
}

/* ---- connections that fail ---- */

static void test_refused(void **state)
{
        struct mqtt_options o = end_options_tcp("127.0.0.1", 9), tls = o;

        (void)state;
        end_assert_fails(&o, 5000, "mqtt.tcp", "127.0.0.1:9: TCP connection failed: Connection refused");
        tls.tls = end_context("root.pem", BROKER_HOST, "node");
        end_assert_fails(&tls, 5000, "mqtt.tcp", "Connection refused");
        SSL_CTX_free(tls.tls);
        o = end_options_tcp("127.0.0.1", BROKER_SHUT);
        end_assert_fails(&o, 5000, "mqtt.refused", "Not authorized");
}

static void assert_not_accepted(const struct mqtt_options *o, const char *words)
{
        struct end e = {0};
        struct mqtt_handlers h = end_handlers(&e);
        struct error error = {0};

        assert_int_equal(mqtt_connect(end_event, o, &h, &e.mqtt, &error), -EINVAL);
        assert_null(e.mqtt);
        if (!strstr(error.text, words))
                fail_msg("'%s' has no '%s'", error.text, words);
        broker_wait(end_event, 20);
        assert_int_equal(e.closings, 0);
}

static void test_not_started(void **state)
{
        struct mqtt_options o = end_options_tcp("203.0.113.1", 1883);

        (void)state;
        end_assert_fails(
                &o, 1000, "mqtt.tcp", "203.0.113.1:1883: TCP connection failed: Network is unreachable");
        o = end_options_unix("plane");
        o.unix_path = broker_path("none.sock");
        end_assert_fails(&o, 1000, "mqtt.tcp", "none.sock: the connection failed: No such file");
        o = end_options_tcp("127.0.0.1", BROKER_TCP_PORT);
        assert_int_equal(inet_addr_parse("192.0.2.77", &o.source), 0);
        end_assert_fails(&o, 1000, "mqtt.tcp", "Cannot assign requested address");
        o = end_options_tcp("127.0.0.1", 0);
        assert_not_accepted(&o, "no address");
        o = end_options_tcp("127.0.0.1", 1883);
        o.keepalive_s = 4;
        assert_not_accepted(&o, "keepalive");
        o = end_options_tcp("127.0.0.1", 1883);
        o.client_id = "";
        assert_not_accepted(&o, "settings");
        o = end_options_tcp("127.0.0.1", 1883);
        o.will_topic = "a/#";
        o.will_payload = "x";
        assert_not_accepted(&o, "settings");
}

static void drop(bool on)
{
        if (on)
                broker_run("nft 'add table ip t; add chain ip t o { type filter hook output priority 0; }; "
                           "add rule ip t o ip daddr 198.51.100.1 drop; "
                           "add rule ip t o ip saddr 198.51.100.1 drop'");
        else
                broker_run("nft delete table ip t");
}

/* SYNs that vanish: the loop is free all the while, and the end comes when it was wanted. */
static void test_dropped(void **state)
{
        struct mqtt_options o = end_options_tcp("198.51.100.1", BROKER_TLS_PORT);
        double began;

        (void)state;
        drop(true);
        o.tls = end_context("root.pem", BROKER_HOST, "node");
        o.connect_timeout_ms = 700;
        began = clock_monotonic_ms();
        broker_longest_ms = 0;
        end_assert_fails(&o, 5000, "mqtt.timeout", "TCP did not connect within 0.7 s");
        assert_true(clock_monotonic_ms() - began >= 650);
        assert_true(broker_longest_ms < LONGEST_MS);
        SSL_CTX_free(o.tls);
        drop(false);
}

static void test_silent(void **state)
{
        unsigned short port;
        int listener = broker_listen(&port);
        struct mqtt_options o = end_options_tcp("127.0.0.1", port);
        uint64_t before, after;

        (void)state;
        o.connect_timeout_ms = 400;
        end_assert_fails(&o, 5000, "mqtt.timeout", "did not answer CONNECT within 0.4 s");
        o.tls = end_context("root.pem", BROKER_HOST, "node");
        sd_event_get_iteration(end_event, &before);
        end_assert_fails(&o, 5000, "mqtt.timeout", "the TLS handshake was not completed within 0.4 s");
        sd_event_get_iteration(end_event, &after);
        assert_true(after - before < 10); /* libmosquitto would have us wait for writing all the time */
        SSL_CTX_free(o.tls);
        close(listener);
}

/* A peer that accepts and says this (NULL: nothing), and then closes or resets. */
static void assert_peer(
        const char *says, size_t length, bool reset, bool with_tls, const char *code, const char *words)
{
        unsigned short port;
        int listener = broker_listen(&port), peer;
        struct mqtt_options o = end_options_tcp("127.0.0.1", port);
        struct linger linger = {.l_onoff = 1};
        struct end e = {0};
        uint64_t before, after;

        o.tls = with_tls ? end_context("root.pem", BROKER_HOST, "node") : NULL;
        end_open(&e, &o);
        peer = accept(listener, NULL, NULL);
        assert_true(peer >= 0);
        broker_wait(end_event, 50);
        assert_false(e.closed);
        sd_event_get_iteration(end_event, &before);
        if (says)
                assert_int_equal(send(peer, says, length, MSG_NOSIGNAL), (ssize_t)length);
        if (reset)
                setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        else
                shutdown(peer, SHUT_WR);
        if (reset)
                close(peer);
        assert_true(broker_loop(end_event, &e.closed, 4000));
        sd_event_get_iteration(end_event, &after);
        assert_true(after - before < 20);
        if (strcmp(e.error.code, code) != 0 || !strstr(e.error.text, words))
                fail_msg("%s: '%s' is not %s: '%s'", e.error.code, e.error.text, code, words);
        if (!reset)
                close(peer);
        close(listener);
        SSL_CTX_free(o.tls);
}

static void test_peers_that_misbehave(void **state)
{
        static const char http[] = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

        (void)state;
        assert_peer(NULL, 0, false, false, "mqtt.refused", "before the broker answered");
        assert_peer(NULL, 0, true, false, "mqtt.refused", "before the broker answered");
        assert_peer(NULL, 0, false, true, "mqtt.tls", "unexpected eof");
        assert_peer(NULL, 0, true, true, "mqtt.tls", "reset");
        assert_peer(http, sizeof http - 1, false, true, "mqtt.tls", "wrong version number");
        assert_peer(http, sizeof http - 1, false, false, "mqtt.refused", "before the broker answered");
        /* CONNACK cut short, with a length that is none, and for the last protocol. */
        assert_peer("\x20\x03\x00", 3, false, false, "mqtt.refused", "before the broker answered");
        assert_peer(
                "\x20\xff\xff\xff\xff\xff", 6, false, false, "mqtt.refused", "before the broker answered");
        assert_peer("\x20\x02\x00\x01", 4, false, false, "mqtt.refused", "Unsupported Protocol Version");
        /* PUBLISH and PUBACK before CONNACK, and a DISCONNECT. */
        assert_peer("\x40\x02\x00\x01", 4, false, false, "mqtt.refused", "before the broker answered");
        assert_peer("\xe0\x02\x8b\x00", 4, false, false, "mqtt.refused", "shutting down");
}

/* ---- connections that end ---- */

static void test_half_dead(void **state)
{
        struct mqtt_options o = end_options_tcp("198.51.100.1", BROKER_TCP_PORT);
        struct end e = {0};
        double began;

        (void)state;
        o.keepalive_s = 5;
        end_connect(&e, &o);
        drop(true);
        began = clock_monotonic_ms();
        assert_true(broker_loop(end_event, &e.closed, 20000));
        assert_string_equal(e.error.code, "mqtt.lost");
        assert_non_null(strstr(e.error.text, "nothing was heard from the broker for 10 s"));
        /* Twice the keepalive, and what whole seconds and the looks cost: with 20 s 43 s. */
        assert_true(clock_monotonic_ms() - began > 5000);
        assert_true(clock_monotonic_ms() - began < 12000);
        drop(false);
}

static void test_keepalive_keeps(void **state)
{
        struct mqtt_options o = end_options_tcp("127.0.0.1", BROKER_TCP_PORT);
        struct end e = {0};

        (void)state;
        o.keepalive_s = 5;
        end_connect(&e, &o);
        broker_wait(end_event, 13000);
        assert_false(e.closed);
        end_publish(&e, "node/n-1/event", "still there", false);
        mqtt_free(e.mqtt, true);
}

static void test_user_timeout(void **state)
{
        struct mqtt_options o = end_options_tcp("198.51.100.1", BROKER_TCP_PORT);
        struct end e = {0};

        (void)state;
        end_connect(&e, &o);
        mqtt_set_user_timeout(e.mqtt, 1000);
        drop(true);
        assert_int_equal(mqtt_publish(e.mqtt, "node/n-1/event", "x", 1, 1, false, NULL), 0);
        assert_true(broker_loop(end_event, &e.closed, 10000));
        assert_string_equal(e.error.code, "mqtt.lost");
        assert_non_null(strstr(e.error.text, "timed out"));
        drop(false);
}

static void test_broker_killed(void **state)
{
        struct mqtt_options o = end_options_unix("plane"),
                            tls = end_options_tcp("127.0.0.1", BROKER_TLS_PORT);
        struct end a = {0}, b = {0};

        (void)state;
        tls.tls = end_context("root.pem", BROKER_HOST, "node");
        end_connect(&a, &o);
        end_connect(&b, &tls);
        broker_stop(end_broker, SIGKILL);
        assert_true(broker_loop(end_event, &a.closed, 5000));
        assert_true(broker_loop(end_event, &b.closed, 5000));
        assert_string_equal(a.error.code, "mqtt.lost");
        assert_string_equal(b.error.code, "mqtt.lost");
        assert_int_equal(a.closings + b.closings, 2);
        end_broker = broker_start(NULL);
        SSL_CTX_free(tls.tls);
}

static void test_taken_over(void **state)
{
        struct mqtt_options o = end_options_unix("plane");
        struct end a = {0}, b = {0};

        (void)state;
        end_connect(&a, &o);
        end_connect(&b, &o);
        assert_true(broker_loop(end_event, &a.closed, 5000));
        assert_string_equal(a.error.code, "mqtt.lost");
        assert_false(b.closed);
        mqtt_free(b.mqtt, true);
}

/* Writing finds out first: the end is told by the loop, not from within. */
static void test_publish_on_dead(void **state)
{
        struct mqtt_options o = end_options_unix("plane");
        struct end e = {0};

        (void)state;
        end_connect(&e, &o);
        broker_stop(end_broker, SIGKILL);
        for (int i = 0; i < 3; i++)
                assert_int_equal(mqtt_publish(e.mqtt, "node/n-1/event", "x", 1, 1, false, NULL), -ENOTCONN);
        assert_int_equal(mqtt_subscribe(e.mqtt, "a", 1), -ENOTCONN);
        assert_false(mqtt_is_connected(e.mqtt));
        assert_int_equal(e.closings, 0);
        assert_true(broker_loop(end_event, &e.closed, 5000));
        assert_int_equal(e.closings, 1);
        end_broker = broker_start(NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_tls_refused),
                cmocka_unit_test(test_context_refused),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_not_started),
                cmocka_unit_test(test_dropped),
                cmocka_unit_test(test_silent),
                cmocka_unit_test(test_peers_that_misbehave),
                cmocka_unit_test(test_half_dead),
                cmocka_unit_test(test_keepalive_keeps),
                cmocka_unit_test(test_user_timeout),
                cmocka_unit_test(test_broker_killed),
                cmocka_unit_test(test_taken_over),
                cmocka_unit_test(test_publish_on_dead),
                cmocka_unit_test(end_test_nothing_left),
        };

        return cmocka_run_group_tests(tests, end_set_up, end_tear_down);
}
