/* Against a real mosquitto, with nginx's ssl_preread before it, and peers that misbehave. */
#include "net/mqtt.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"
#include "broker.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <setjmp.h>

#include <cmocka.h>

#define LONGEST_MS                                                                              \
        400 /* the loop must never be kept busy so long, sanitizers and a busy machine included \
             */

static sd_event *event;
static pid_t broker, nginx;

/* ---- one end of a connection, and what it heard ---- */

struct end {
        struct mqtt *mqtt;
        bool connected, closed, published, got;
        unsigned messages, publications, closings;
        size_t bytes, last_length;
        bool last_retained;
        char last[64], last_topic[64];
        struct error error;
        bool free_on_message, free_on_connected;
};

static void on_connected(void *userdata)
{
        struct end *e = userdata;

        e->connected = true;
        if (e->free_on_connected)
                e->mqtt = mqtt_free(e->mqtt, true);
}

static void on_closed(const struct error *error, void *userdata)
{
        struct end *e = userdata;

        e->closed = true;
        e->closings++;
        e->error = *error;
        e->mqtt = mqtt_free(e->mqtt, true);
}

static void on_message(const struct mqtt_message *m, void *userdata)
{
        struct end *e = userdata;

        e->got = true;
        e->messages++;
        e->bytes += m->length;
        e->last_length = m->length;
        e->last_retained = m->retained;
        snprintf(e->last, sizeof e->last, "%.*s", (int)(m->length < 60 ? m->length : 60),
                (const char *)m->payload);
        str_copy(e->last_topic, sizeof e->last_topic, m->topic);
        if (e->free_on_message)
                e->mqtt = mqtt_free(e->mqtt, true);
}

static void on_published(int message_id, void *userdata)
{
        struct end *e = userdata;

        assert_true(message_id > 0);
        e->published = true;
        e->publications++;
}

static struct mqtt_handlers handlers_of(struct end *e)
{
        return (struct mqtt_handlers){on_connected, on_closed, on_message, on_published, e};
}

static struct mqtt_options options_unix(const char *id)
{
        return (struct mqtt_options){.client_id = id,
                .unix_path = broker_path("broker.sock"),
                .keepalive_s = 60,
                .connect_timeout_ms = 5000,
                .maximum_message_bytes = 10000};
}

static struct mqtt_options options_tcp(const char *address, uint16_t port)
{
        struct mqtt_options o = {.client_id = "n-1",
                .address.port = port,
                .keepalive_s = 60,
                .connect_timeout_ms = 5000,
                .maximum_message_bytes = 10000};

        assert_int_equal(inet_addr_parse(address, &o.address.address), 0);
        return o;
}

static void open_end(struct end *e, const struct mqtt_options *o)
{
        struct mqtt_handlers h = handlers_of(e);
        struct error error = {0};

        if (mqtt_connect(event, o, &h, &e->mqtt, &error) < 0)
                fail_msg("%s", error.text);
        assert_false(e->connected || e->closed);
        assert_false(mqtt_is_connected(e->mqtt));
}

static void connect_end(struct end *e, const struct mqtt_options *o)
{
        open_end(e, o);
        if (!broker_loop(event, &e->connected, 10000))
                fail_msg("not connected: %s", e->error.text);
        assert_false(e->closed);
}

/* The connection fails with this code, and these words in its text. */
static void assert_fails(const struct mqtt_options *o, double within_ms, const char *code, const char *words)
{
        struct end e = {0};

        open_end(&e, o);
        assert_true(broker_loop(event, &e.closed, within_ms));
        assert_false(e.connected);
        assert_int_equal(e.closings, 1);
        if (strcmp(e.error.code, code) != 0 || !strstr(e.error.text, words))
                fail_msg("%s: '%s' is not %s: '%s'", e.error.code, e.error.text, code, words);
}

static void subscribe(struct end *e, const char *filter)
{
        assert_int_equal(mqtt_subscribe(e->mqtt, filter, 1), 0);
        broker_wait(event, 100);
}

static void publish(struct end *e, const char *topic, const char *payload, bool retain)
{
        int id = 0;

        e->published = false;
        assert_int_equal(mqtt_publish(e->mqtt, topic, payload, strlen(payload), 1, retain, &id), 0);
        assert_true(id > 0);
        assert_false(e->published); /* nothing is called from within */
        assert_true(broker_loop(event, &e->published, 5000));
}

static SSL_CTX *context(const char *root, const char *host, const char *name)
{
        char certificate[64], key[64];
        struct error error = {0};
        SSL_CTX *c = NULL;

        snprintf(certificate, sizeof certificate, "%s.crt", name ? name : "");
        snprintf(key, sizeof key, "%s.key", name ? name : "");
        if (mqtt_tls_context(broker_path(root), host, name ? broker_path(certificate) : NULL,
                    name ? broker_path(key) : NULL, &c, &error) < 0)
                fail_msg("%s", error.text);
        return c;
}

/* ---- what works ---- */

static void test_unix_socket(void **state)
{
        struct mqtt_options o = options_unix("plane");
        struct end e = {0};

        (void)state;
        connect_end(&e, &o);
        assert_true(mqtt_is_connected(e.mqtt));
        subscribe(&e, "node/+/event");
        publish(&e, "node/n-1/event", "hello", false);
        assert_true(broker_loop(event, &e.got, 5000));
        assert_string_equal(e.last, "hello");
        assert_string_equal(e.last_topic, "node/n-1/event");
        assert_false(e.last_retained);
        /* QoS 0: delivered, and nobody says that it was taken. */
        e.got = e.published = false;
        assert_int_equal(mqtt_publish(e.mqtt, "node/n-1/event", "", 0, 0, false, NULL), 0);
        assert_true(broker_loop(event, &e.got, 5000));
        assert_int_equal(e.last_length, 0);
        assert_false(e.published);
        assert_int_equal(e.publications, 1);
        mqtt_free(e.mqtt, true);
        assert_int_equal(e.closings, 0);
}

static void test_retained(void **state)
{
        struct mqtt_options o = options_unix("plane");
        struct end a = {0}, b = {0};

        (void)state;
        connect_end(&a, &o);
        publish(&a, "node/n-7/status", "kept", true);
        o.client_id = "other";
        connect_end(&b, &o);
        subscribe(&b, "node/n-7/status");
        assert_true(broker_loop(event, &b.got, 5000));
        assert_true(b.last_retained);
        assert_string_equal(b.last, "kept");
        publish(&a, "node/n-7/status", "", true);
        mqtt_free(a.mqtt, true);
        mqtt_free(b.mqtt, true);
}

/* Mutual TLS by way of nginx: it sees the name and not the address, and ALPN "mqtt". */
static void test_tls(void **state)
{
        struct mqtt_options o = options_tcp("127.0.0.1", BROKER_PREREAD);
        struct end e = {0};
        char *seen = NULL;
        size_t length;

        (void)state;
        o.tls = context("root.pem", BROKER_HOST, "node");
        connect_end(&e, &o);
        SSL_CTX_free(o.tls);
        subscribe(&e, "node/n-1/#");
        publish(&e, "node/n-1/event", "over TLS", false);
        assert_true(broker_loop(event, &e.got, 5000));
        assert_string_equal(e.last, "over TLS");
        mqtt_free(e.mqtt, true);
        for (int i = 0; i < 100; i++) {
                broker_wait(event, 20);
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
        struct mqtt_options o = options_tcp("127.0.0.1", BROKER_TCP_PORT);
        struct inet_addr local;
        struct end e = {0};

        (void)state;
        assert_int_equal(inet_addr_parse("198.51.100.2", &o.source), 0);
        connect_end(&e, &o);
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
        connect_end(&e, o);
        subscribe(&e, "node/n-1/event");
        for (unsigned i = 0; i < 400; i++)
                assert_int_equal(
                        mqtt_publish(e.mqtt, "node/n-1/event", payload, sizeof payload, 1, false, NULL), 0);
        for (int i = 0; i < 400 && (e.messages < 400 || e.publications < 400); i++)
                broker_loop(event, &never, 50);
        assert_int_equal(e.messages, 400);
        assert_int_equal(e.publications, 400);
        assert_int_equal(e.bytes, 400 * sizeof payload);
        mqtt_free(e.mqtt, true);
}

static void test_flood(void **state)
{
        struct mqtt_options o = options_unix("plane"), tls = options_tcp("127.0.0.1", BROKER_TLS_PORT);

        (void)state;
        flood(&o);
        tls.tls = context("root.pem", BROKER_HOST, "node");
        flood(&tls);
        SSL_CTX_free(tls.tls);
}

/* A broker that does not read: the queue is bounded, and the loop sleeps meanwhile. */
static void test_stopped_broker(void **state)
{
        static char payload[9000];
        struct mqtt_options o = options_unix("plane");
        struct end e = {0};
        uint64_t before, after;
        int r = 0;

        (void)state;
        connect_end(&e, &o);
        kill(broker, SIGSTOP);
        for (unsigned i = 0; i < 10000 && r == 0; i++)
                r = mqtt_publish(e.mqtt, "node/n-1/event", payload, sizeof payload, 0, false, NULL);
        assert_int_equal(r, -ENOBUFS);
        sd_event_get_iteration(event, &before);
        broker_wait(event, 500);
        sd_event_get_iteration(event, &after);
        assert_true(after - before < 10);
        kill(broker, SIGCONT);
        publish(&e, "node/n-1/event", "again", false);
        mqtt_free(e.mqtt, true);
}

/* Connected and idle, the loop turns a few times a second at most. */
static void test_idle(void **state)
{
        struct mqtt_options o = options_tcp("127.0.0.1", BROKER_PREREAD);
        struct end e = {0};
        uint64_t before, after;

        (void)state;
        o.tls = context("root.pem", BROKER_HOST, "node");
        o.keepalive_s = 20;
        connect_end(&e, &o);
        broker_wait(event, 200);
        sd_event_get_iteration(event, &before);
        broker_wait(event, 2000);
        sd_event_get_iteration(event, &after);
        assert_true(after - before < 8);
        mqtt_free(e.mqtt, true);
        SSL_CTX_free(o.tls);
}

/* ---- TLS that must not be ---- */

static void assert_tls_fails(
        const char *root, const char *host, const char *name, const char *code, const char *words)
{
        struct mqtt_options o = options_tcp("127.0.0.1", BROKER_TLS_PORT);

        o.tls = context(root, host, name);
        assert_fails(&o, 10000, code, words);
        SSL_CTX_free(o.tls);
}

/* The server says so after the handshake (TLS 1.3), and its reset may overtake what it says. */
static void assert_certificate_refused(const char *name)
{
        struct mqtt_options o = options_tcp("127.0.0.1", BROKER_TLS_PORT);
        struct end e = {0};

        o.tls = context("root.pem", BROKER_HOST, name);
        open_end(&e, &o);
        assert_true(broker_loop(event, &e.closed, 10000));
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
        struct mqtt_options o = options_tcp("127.0.0.1", 9), tls = o;

        (void)state;
        assert_fails(&o, 5000, "mqtt.tcp", "127.0.0.1:9: TCP connection failed: Connection refused");
        tls.tls = context("root.pem", BROKER_HOST, "node");
        assert_fails(&tls, 5000, "mqtt.tcp", "Connection refused");
        SSL_CTX_free(tls.tls);
        o = options_tcp("127.0.0.1", BROKER_SHUT);
        assert_fails(&o, 5000, "mqtt.refused", "Not authorized");
}

static void assert_not_accepted(const struct mqtt_options *o, const char *words)
{
        struct end e = {0};
        struct mqtt_handlers h = handlers_of(&e);
        struct error error = {0};

        assert_int_equal(mqtt_connect(event, o, &h, &e.mqtt, &error), -EINVAL);
        assert_null(e.mqtt);
        if (!strstr(error.text, words))
                fail_msg("'%s' has no '%s'", error.text, words);
        broker_wait(event, 20);
        assert_int_equal(e.closings, 0);
}

static void test_not_started(void **state)
{
        struct mqtt_options o = options_tcp("203.0.113.1", 1883);

        (void)state;
        assert_fails(&o, 1000, "mqtt.tcp", "203.0.113.1:1883: TCP connection failed: Network is unreachable");
        o = options_unix("plane");
        o.unix_path = broker_path("none.sock");
        assert_fails(&o, 1000, "mqtt.tcp", "none.sock: the connection failed: No such file");
        o = options_tcp("127.0.0.1", BROKER_TCP_PORT);
        assert_int_equal(inet_addr_parse("192.0.2.77", &o.source), 0);
        assert_fails(&o, 1000, "mqtt.tcp", "Cannot assign requested address");
        o = options_tcp("127.0.0.1", 0);
        assert_not_accepted(&o, "no address");
        o = options_tcp("127.0.0.1", 1883);
        o.keepalive_s = 4;
        assert_not_accepted(&o, "keepalive");
        o = options_tcp("127.0.0.1", 1883);
        o.client_id = "";
        assert_not_accepted(&o, "settings");
        o = options_tcp("127.0.0.1", 1883);
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
        struct mqtt_options o = options_tcp("198.51.100.1", BROKER_TLS_PORT);
        double began;

        (void)state;
        drop(true);
        o.tls = context("root.pem", BROKER_HOST, "node");
        o.connect_timeout_ms = 700;
        began = broker_now_ms();
        broker_longest_ms = 0;
        assert_fails(&o, 5000, "mqtt.timeout", "TCP did not connect within 0.7 s");
        assert_true(broker_now_ms() - began >= 650);
        assert_true(broker_longest_ms < LONGEST_MS);
        SSL_CTX_free(o.tls);
        drop(false);
}

static void test_silent(void **state)
{
        unsigned short port;
        int listener = broker_listen(&port);
        struct mqtt_options o = options_tcp("127.0.0.1", port);
        uint64_t before, after;

        (void)state;
        o.connect_timeout_ms = 400;
        assert_fails(&o, 5000, "mqtt.timeout", "did not answer CONNECT within 0.4 s");
        o.tls = context("root.pem", BROKER_HOST, "node");
        sd_event_get_iteration(event, &before);
        assert_fails(&o, 5000, "mqtt.timeout", "the TLS handshake was not completed within 0.4 s");
        sd_event_get_iteration(event, &after);
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
        struct mqtt_options o = options_tcp("127.0.0.1", port);
        struct linger linger = {.l_onoff = 1};
        struct end e = {0};
        uint64_t before, after;

        o.tls = with_tls ? context("root.pem", BROKER_HOST, "node") : NULL;
        open_end(&e, &o);
        peer = accept(listener, NULL, NULL);
        assert_true(peer >= 0);
        broker_wait(event, 50);
        assert_false(e.closed);
        sd_event_get_iteration(event, &before);
        if (says)
                assert_int_equal(send(peer, says, length, MSG_NOSIGNAL), (ssize_t)length);
        if (reset)
                setsockopt(peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        else
                shutdown(peer, SHUT_WR);
        if (reset)
                close(peer);
        assert_true(broker_loop(event, &e.closed, 4000));
        sd_event_get_iteration(event, &after);
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
        struct mqtt_options o = options_tcp("198.51.100.1", BROKER_TCP_PORT);
        struct end e = {0};
        double began;

        (void)state;
        o.keepalive_s = 5;
        connect_end(&e, &o);
        drop(true);
        began = broker_now_ms();
        assert_true(broker_loop(event, &e.closed, 20000));
        assert_string_equal(e.error.code, "mqtt.lost");
        assert_non_null(strstr(e.error.text, "nothing was heard from the broker for 10 s"));
        /* Twice the keepalive, and what whole seconds and the looks cost: with 20 s 43 s. */
        assert_true(broker_now_ms() - began > 5000);
        assert_true(broker_now_ms() - began < 12000);
        drop(false);
}

static void test_keepalive_keeps(void **state)
{
        struct mqtt_options o = options_tcp("127.0.0.1", BROKER_TCP_PORT);
        struct end e = {0};

        (void)state;
        o.keepalive_s = 5;
        connect_end(&e, &o);
        broker_wait(event, 13000);
        assert_false(e.closed);
        publish(&e, "node/n-1/event", "still there", false);
        mqtt_free(e.mqtt, true);
}

static void test_user_timeout(void **state)
{
        struct mqtt_options o = options_tcp("198.51.100.1", BROKER_TCP_PORT);
        struct end e = {0};

        (void)state;
        connect_end(&e, &o);
        mqtt_set_user_timeout(e.mqtt, 1000);
        drop(true);
        assert_int_equal(mqtt_publish(e.mqtt, "node/n-1/event", "x", 1, 1, false, NULL), 0);
        assert_true(broker_loop(event, &e.closed, 10000));
        assert_string_equal(e.error.code, "mqtt.lost");
        assert_non_null(strstr(e.error.text, "timed out"));
        drop(false);
}

static void test_broker_killed(void **state)
{
        struct mqtt_options o = options_unix("plane"), tls = options_tcp("127.0.0.1", BROKER_TLS_PORT);
        struct end a = {0}, b = {0};

        (void)state;
        tls.tls = context("root.pem", BROKER_HOST, "node");
        connect_end(&a, &o);
        connect_end(&b, &tls);
        broker_stop(broker, SIGKILL);
        assert_true(broker_loop(event, &a.closed, 5000));
        assert_true(broker_loop(event, &b.closed, 5000));
        assert_string_equal(a.error.code, "mqtt.lost");
        assert_string_equal(b.error.code, "mqtt.lost");
        assert_int_equal(a.closings + b.closings, 2);
        broker = broker_start(NULL);
        SSL_CTX_free(tls.tls);
}

static void test_taken_over(void **state)
{
        struct mqtt_options o = options_unix("plane");
        struct end a = {0}, b = {0};

        (void)state;
        connect_end(&a, &o);
        connect_end(&b, &o);
        assert_true(broker_loop(event, &a.closed, 5000));
        assert_string_equal(a.error.code, "mqtt.lost");
        assert_false(b.closed);
        mqtt_free(b.mqtt, true);
}

/* Writing finds out first: the end is told by the loop, not from within. */
static void test_publish_on_dead(void **state)
{
        struct mqtt_options o = options_unix("plane");
        struct end e = {0};

        (void)state;
        connect_end(&e, &o);
        broker_stop(broker, SIGKILL);
        for (int i = 0; i < 3; i++)
                assert_int_equal(mqtt_publish(e.mqtt, "node/n-1/event", "x", 1, 1, false, NULL), -ENOTCONN);
        assert_int_equal(mqtt_subscribe(e.mqtt, "a", 1), -ENOTCONN);
        assert_false(mqtt_is_connected(e.mqtt));
        assert_int_equal(e.closings, 0);
        assert_true(broker_loop(event, &e.closed, 5000));
        assert_int_equal(e.closings, 1);
        broker = broker_start(NULL);
}

/* ---- messages ---- */

static void test_large_messages(void **state)
{
        static char payload[1 << 20];
        struct mqtt_options o = options_unix("small"), large = options_unix("large");
        struct end a = {0}, b = {0};

        (void)state;
        large.maximum_message_bytes = sizeof payload;
        connect_end(&a, &o);
        connect_end(&b, &large);
        subscribe(&a, "node/#");
        subscribe(&b, "node/#");
        assert_int_equal(mqtt_publish(b.mqtt, "node/n-1/event", payload, sizeof payload, 1, false, NULL), 0);
        assert_true(broker_loop(event, &b.got, 10000));
        assert_int_equal(b.last_length, sizeof payload);
        broker_wait(event, 200);
        assert_false(a.got);
        /* Within the packet's limit, beyond the message's. */
        assert_int_equal(mqtt_publish(b.mqtt, "node/n-1/event", payload, 10001, 1, false, NULL), 0);
        broker_wait(event, 200);
        assert_false(a.got);
        assert_int_equal(mqtt_publish(b.mqtt, "node/n-1/event", payload, 10000, 1, false, NULL), 0);
        assert_true(broker_loop(event, &a.got, 5000));
        assert_int_equal(a.last_length, 10000);
        assert_false(a.closed);
        mqtt_free(a.mqtt, true);
        mqtt_free(b.mqtt, true);
}

static void test_bad_publications(void **state)
{
        struct mqtt_options o = options_unix("plane");
        struct end e = {0};

        (void)state;
        connect_end(&e, &o);
        assert_int_equal(mqtt_publish(e.mqtt, "node/+/event", "x", 1, 1, false, NULL), -EINVAL);
        assert_int_equal(mqtt_publish(e.mqtt, "node/\xff", "x", 1, 1, false, NULL), -EINVAL);
        assert_int_equal(mqtt_publish(e.mqtt, "", "x", 1, 1, false, NULL), -EINVAL);
        assert_int_equal(mqtt_publish(e.mqtt, "a", "x", (size_t)1 << 30, 1, false, NULL), -EMSGSIZE);
        publish(&e, "node/n-1/event", "good", false);
        mqtt_free(e.mqtt, true);
        assert_int_equal(mqtt_publish(NULL, "a", "x", 1, 1, false, NULL), -ENOTCONN);
        assert_null(mqtt_free(NULL, true));
}

/* ---- the will ---- */

static void assert_will(bool clean, bool wanted)
{
        struct mqtt_options o = options_unix("plane"), node = options_tcp("127.0.0.1", BROKER_TCP_PORT);
        struct end watcher = {0}, e = {0};

        connect_end(&watcher, &o);
        subscribe(&watcher, "node/n-1/status");
        watcher.got = false;
        node.will_topic = "node/n-1/status";
        node.will_payload = "{\"online\":false}";
        connect_end(&e, &node);
        mqtt_free(e.mqtt, clean);
        broker_loop(event, &watcher.got, wanted ? 5000 : 300);
        assert_int_equal(watcher.got, wanted);
        if (wanted) {
                assert_string_equal(watcher.last, "{\"online\":false}");
                publish(&watcher, "node/n-1/status", "", true);
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
        struct mqtt_options o = options_unix("plane");
        struct end a = {.free_on_connected = true}, b = {.free_on_message = true}, c = {0};

        (void)state;
        open_end(&a, &o);
        assert_true(broker_loop(event, &a.connected, 5000));
        assert_null(a.mqtt);
        connect_end(&b, &o);
        subscribe(&b, "x");
        for (int i = 0; i < 5; i++)
                assert_int_equal(mqtt_publish(b.mqtt, "x", "y", 1, 1, false, NULL), 0);
        assert_true(broker_loop(event, &b.got, 5000));
        broker_wait(event, 100);
        assert_int_equal(b.messages, 1);
        assert_int_equal(b.closings, 0);
        /* In each stage. */
        open_end(&c, &o);
        mqtt_free(c.mqtt, true);
        o = options_tcp("127.0.0.1", BROKER_TLS_PORT);
        o.tls = context("root.pem", BROKER_HOST, "node");
        for (int i = 0; i < 12; i++) {
                open_end(&c, &o);
                for (int turn = 0; turn < i; turn++)
                        sd_event_run(event, 1000);
                mqtt_free(c.mqtt, i % 2);
                assert_int_equal(c.closings, 0);
                c = (struct end){0};
        }
        SSL_CTX_free(o.tls);
}

/* ---- */

static unsigned descriptors;

static int set_up(void **state)
{
        broker_set_up(state);
        broker = broker_start(NULL);
        nginx = broker_start_nginx();
        assert_int_equal(sd_event_new(&event), 0);
        broker_wait(event, 10);
        descriptors = broker_count_descriptors();
        return 0;
}

static void test_nothing_left(void **state)
{
        (void)state;
        assert_true(broker_count_descriptors() <= descriptors);
        assert_true(broker_longest_ms < LONGEST_MS);
}

static int tear_down(void **state)
{
        sd_event_unref(event);
        broker_stop(nginx, SIGTERM);
        broker_stop(broker, SIGTERM);
        return broker_tear_down(state);
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
                cmocka_unit_test(test_large_messages),
                cmocka_unit_test(test_bad_publications),
                cmocka_unit_test(test_will),
                cmocka_unit_test(test_free_within_callbacks),
                cmocka_unit_test(test_nothing_left),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
