/* Against a real mosquitto, with nginx's ssl_preread before it: what works. */
#include "mqtt_end.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <setjmp.h>

#include <cmocka.h>

/* ---- what works ---- */

static void test_unix_socket(void **state)
{
        struct mqtt_options o = end_options_unix("plane");
        struct end e = {0};

        (void)state;
        end_connect(&e, &o);
        assert_true(mqtt_is_connected(e.mqtt));
        end_subscribe(&e, "node/+/event");
        end_publish(&e, "node/n-1/event", "hello", false);
        assert_true(broker_loop(end_event, &e.got, 5000));
        assert_string_equal(e.last, "hello");
        assert_string_equal(e.last_topic, "node/n-1/event");
        /* QoS 0: delivered, and nobody says that it was taken. */
        e.got = e.published = false;
        assert_int_equal(mqtt_publish(e.mqtt, "node/n-1/event", "", 0, 0, false, NULL), 0);
        assert_true(broker_loop(end_event, &e.got, 5000));
        assert_int_equal(e.last_length, 0);
        assert_false(e.published);
        assert_int_equal(e.publications, 1);
        mqtt_free(e.mqtt, true);
        assert_int_equal(e.closings, 0);
}

static void test_retained(void **state)
{
        struct mqtt_options o = end_options_unix("plane");
        struct end a = {0}, b = {0};

        (void)state;
        end_connect(&a, &o);
        end_publish(&a, "node/n-7/status", "kept", true);
        end_publish(&a, "node/n-7/event", "not kept", false);
        o.client_id = "other";
        end_connect(&b, &o);
        end_subscribe(&b, "node/n-7/event");
        end_subscribe(&b, "node/n-7/status");
        assert_true(broker_loop(end_event, &b.got, 5000));
        broker_wait(end_event, 100);
        assert_int_equal(b.messages, 1);
        assert_string_equal(b.last, "kept");
        end_publish(&a, "node/n-7/status", "", true);
        mqtt_free(a.mqtt, true);
        mqtt_free(b.mqtt, true);
}

/* Mutual TLS by way of nginx: it sees the name and not the address, and ALPN "mqtt". */
static void test_tls(void **state)
{
        struct mqtt_options o = end_options_tcp("127.0.0.1", BROKER_PREREAD);
        struct end e = {0};
        char *seen = NULL;
        size_t length;

        (void)state;
        o.tls = end_context("root.pem", BROKER_HOST, "node");
        end_connect(&e, &o);
        SSL_CTX_free(o.tls);
        end_subscribe(&e, "node/n-1/#");
        end_publish(&e, "node/n-1/event", "over TLS", false);
        assert_true(broker_loop(end_event, &e.got, 5000));
        assert_string_equal(e.last, "over TLS");
        mqtt_free(e.mqtt, true);
        for (int i = 0; i < 100; i++) {
                broker_wait(end_event, 20);
                free(seen);
                seen = NULL;
                if (file_read(broker_path("seen.log"), 4096, &seen, &length, NULL) == 0 &&
                        strstr(seen, BROKER_HOST))
                        break;
        }
        assert_non_null(seen);
        assert_non_null(strstr(seen, BROKER_HOST " mqtt\n"));
        assert_null(strstr(seen, "127.0.0.1"));
        free(seen);
}

static void test_source(void **state)
{
        struct mqtt_options o = end_options_tcp("127.0.0.1", BROKER_TCP_PORT);
        struct inet_addr local;
        struct end e = {0};

        (void)state;
        assert_int_equal(inet_addr_parse("198.51.100.2", &o.source), 0);
        end_connect(&e, &o);
        broker_run("ss -Htn state established src 198.51.100.2 dport = 1883 | grep -q .");
        mqtt_local_address(e.mqtt, &local);
        assert_true(inet_addr_equal(&local, &o.source));
        mqtt_free(e.mqtt, true);
}

/* More than sockets hold, both ways at once, in plain and in TLS: nothing is stuck, nothing is lost. */
static void flood(const struct mqtt_options *o)
{
        static char payload[9000];
        struct end e = {0};
        bool never = false;

        memset(payload, 'x', sizeof payload);
        end_connect(&e, o);
        end_subscribe(&e, "node/n-1/event");
        for (unsigned i = 0; i < 400; i++)
                assert_int_equal(
                        mqtt_publish(e.mqtt, "node/n-1/event", payload, sizeof payload, 1, false, NULL), 0);
        for (int i = 0; i < 400 && (e.messages < 400 || e.publications < 400); i++)
                broker_loop(end_event, &never, 50);
        assert_int_equal(e.messages, 400);
        assert_int_equal(e.publications, 400);
        assert_int_equal(e.bytes, 400 * sizeof payload);
        mqtt_free(e.mqtt, true);
}

static void test_flood(void **state)
{
        struct mqtt_options o = end_options_unix("plane"),
                            tls = end_options_tcp("127.0.0.1", BROKER_TLS_PORT);

        (void)state;
        flood(&o);
        tls.tls = end_context("root.pem", BROKER_HOST, "node");
        flood(&tls);
        SSL_CTX_free(tls.tls);
}

/* A broker that does not read: the queue is bounded, and the loop sleeps meanwhile. */
static void test_stopped_broker(void **state)
{
        static char payload[9000];
        struct mqtt_options o = end_options_unix("plane");
        struct end e = {0};
        uint64_t before, after;
        int r = 0;

        (void)state;
        end_connect(&e, &o);
        kill(end_broker, SIGSTOP);
        for (unsigned i = 0; i < 10000 && r == 0; i++)
                r = mqtt_publish(e.mqtt, "node/n-1/event", payload, sizeof payload, 0, false, NULL);
        assert_int_equal(r, -ENOBUFS);
        sd_event_get_iteration(end_event, &before);
        broker_wait(end_event, 500);
        sd_event_get_iteration(end_event, &after);
        assert_true(after - before < 10);
        kill(end_broker, SIGCONT);
        end_publish(&e, "node/n-1/event", "again", false);
        mqtt_free(e.mqtt, true);
}

/* Connected and idle, the loop turns a few times a second at most. */
static void test_idle(void **state)
{
        struct mqtt_options o = end_options_tcp("127.0.0.1", BROKER_PREREAD);
        struct end e = {0};
        uint64_t before, after;

        (void)state;
        o.tls = end_context("root.pem", BROKER_HOST, "node");
        o.keepalive_s = 20;
        end_connect(&e, &o);
        broker_wait(end_event, 200);
        sd_event_get_iteration(end_event, &before);
        broker_wait(end_event, 2000);
        sd_event_get_iteration(end_event, &after);
        assert_true(after - before < 8);
        mqtt_free(e.mqtt, true);
        SSL_CTX_free(o.tls);
}

/* ---- messages ---- */

static void test_large_messages(void **state)
{
        static char payload[1 << 20];
        struct mqtt_options o = end_options_unix("small"), large = end_options_unix("large");
        struct end a = {0}, b = {0};

        (void)state;
        large.maximum_message_bytes = sizeof payload;
        end_connect(&a, &o);
        end_connect(&b, &large);
        end_subscribe(&a, "node/#");
        end_subscribe(&b, "node/#");
        assert_int_equal(mqtt_publish(b.mqtt, "node/n-1/event", payload, sizeof payload, 1, false, NULL), 0);
        assert_true(broker_loop(end_event, &b.got, 10000));
        assert_int_equal(b.last_length, sizeof payload);
        broker_wait(end_event, 200);
        assert_false(a.got);
        /* Within the packet's limit, beyond the message's. */
        assert_int_equal(mqtt_publish(b.mqtt, "node/n-1/event", payload, 10001, 1, false, NULL), 0);
        broker_wait(end_event, 200);
        assert_false(a.got);
        assert_int_equal(mqtt_publish(b.mqtt, "node/n-1/event", payload, 10000, 1, false, NULL), 0);
        assert_true(broker_loop(end_event, &a.got, 5000));
        assert_int_equal(a.last_length, 10000);
        assert_false(a.closed);
        mqtt_free(a.mqtt, true);
        mqtt_free(b.mqtt, true);
}

static void test_bad_publications(void **state)
{
        struct mqtt_options o = end_options_unix("plane");
        struct end e = {0};

        (void)state;
        end_connect(&e, &o);
        assert_int_equal(mqtt_publish(e.mqtt, "node/+/event", "x", 1, 1, false, NULL), -EINVAL);
        assert_int_equal(mqtt_publish(e.mqtt, "node/\xff", "x", 1, 1, false, NULL), -EINVAL);
        assert_int_equal(mqtt_publish(e.mqtt, "", "x", 1, 1, false, NULL), -EINVAL);
        assert_int_equal(mqtt_publish(e.mqtt, "a", "x", (size_t)1 << 30, 1, false, NULL), -EMSGSIZE);
        end_publish(&e, "node/n-1/event", "good", false);
        mqtt_free(e.mqtt, true);
        assert_int_equal(mqtt_publish(NULL, "a", "x", 1, 1, false, NULL), -ENOTCONN);
        assert_null(mqtt_free(NULL, true));
}

/* ---- the will ---- */

static void assert_will(bool clean, bool wanted)
{
        struct mqtt_options o = end_options_unix("plane"),
                            node = end_options_tcp("127.0.0.1", BROKER_TCP_PORT);
        struct end watcher = {0}, e = {0};

        end_connect(&watcher, &o);
        end_subscribe(&watcher, "node/n-1/status");
        watcher.got = false;
        node.will_topic = "node/n-1/status";
        node.will_payload = "{\"online\":false}";
        end_connect(&e, &node);
        mqtt_free(e.mqtt, clean);
        broker_loop(end_event, &watcher.got, wanted ? 5000 : 300);
        assert_int_equal(watcher.got, wanted);
        if (wanted) {
                assert_string_equal(watcher.last, "{\"online\":false}");
                end_publish(&watcher, "node/n-1/status", "", true);
        }
        mqtt_free(watcher.mqtt, true);
}

static void test_will(void **state)
{
        (void)state;
        assert_will(true, false);
        assert_will(false, true);
}

/* ---- freeing whenever ---- */

static void test_free_within_callbacks(void **state)
{
        struct mqtt_options o = end_options_unix("plane");
        struct end a = {.free_on_connected = true}, b = {.free_on_message = true}, c = {0};

        (void)state;
        end_open(&a, &o);
        assert_true(broker_loop(end_event, &a.connected, 5000));
        assert_null(a.mqtt);
        end_connect(&b, &o);
        end_subscribe(&b, "x");
        for (int i = 0; i < 5; i++)
                assert_int_equal(mqtt_publish(b.mqtt, "x", "y", 1, 1, false, NULL), 0);
        assert_true(broker_loop(end_event, &b.got, 5000));
        broker_wait(end_event, 100);
        assert_int_equal(b.messages, 1);
        assert_int_equal(b.closings, 0);
        /* In each stage. */
        end_open(&c, &o);
        mqtt_free(c.mqtt, true);
        o = end_options_tcp("127.0.0.1", BROKER_TLS_PORT);
        o.tls = end_context("root.pem", BROKER_HOST, "node");
        for (int i = 0; i < 12; i++) {
                end_open(&c, &o);
                for (int turn = 0; turn < i; turn++)
                        sd_event_run(end_event, 1000);
                mqtt_free(c.mqtt, i % 2);
                assert_int_equal(c.closings, 0);
                c = (struct end){0};
        }
        SSL_CTX_free(o.tls);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_unix_socket),
                cmocka_unit_test(test_retained),
                cmocka_unit_test(test_tls),
                cmocka_unit_test(test_source),
                cmocka_unit_test(test_flood),
                cmocka_unit_test(test_stopped_broker),
                cmocka_unit_test(test_idle),
                cmocka_unit_test(test_large_messages),
                cmocka_unit_test(test_bad_publications),
                cmocka_unit_test(test_will),
                cmocka_unit_test(test_free_within_callbacks),
                cmocka_unit_test(end_test_nothing_left),
        };

        return cmocka_run_group_tests(tests, end_set_up_with_nginx, end_tear_down);
}
