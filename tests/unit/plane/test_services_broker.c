/* What a node may do at the real broker, through the splitter, and what it may not. */
#include "services_world.h"

#include "../scaffold.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "plane/services_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <mqtt_protocol.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LARGE_BYTES 1000000

static struct world w;

static int set_up(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        world_init(&w);
        world_start(&w);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        world_done(&w);
        return 0;
}

static void connected(struct client *c)
{
        struct client *all[] = {c, NULL};

        assert_true(client_wait(all, &c->connack, -1));
        assert_int_equal(c->connack, 0);
}

static void subscribe(struct client *c, const char *topic)
{
        struct client *all[] = {c, NULL};
        int before = c->subscribed;

        assert_int_equal(mosquitto_subscribe_v5(c->m, NULL, topic, 1, 0, NULL), MOSQ_ERR_SUCCESS);
        assert_true(client_wait(all, &c->subscribed, before));
}

/* The reason of its PUBACK (MQTT 5, 3.4.2.1). */
static int publish(struct client *c, const char *topic, const char *payload)
{
        struct client *all[] = {c, NULL};

        c->puback = -1;
        assert_int_equal(
                mosquitto_publish_v5(c->m, NULL, topic, (int)strlen(payload), payload, 1, false, NULL),
                MOSQ_ERR_SUCCESS);
        assert_true(client_wait(all, &c->puback, -1));
        return c->puback;
}

static bool is_accepted(int reason)
{
        return reason == MQTT_RC_SUCCESS || reason == MQTT_RC_NO_MATCHING_SUBSCRIBERS;
}

static void test_own_topics_only(void **state)
{
        static const char *const own[] = {"status", "event", "report", "config/applied", "out/r-1"};
        static const char *const not_own[] = {"node/" WORLD_NODE_B "/event", "node/" WORLD_NODE_B "/status",
                "node/" WORLD_NODE_A "/ack", "node/" WORLD_NODE_A "/config", "node/" WORLD_NODE_A "/request",
                "node/" WORLD_NODE_A, "node//event", "other", "$SYS/broker/version"};
        struct client plane, node, *both[] = {&plane, &node, NULL};

        (void)state;
        client_plane(&plane, &w, "plane");
        connected(&plane);
        subscribe(&plane, "#");
        client_node(&node, &w, 0, NULL);
        connected(&node);
        for (size_t i = 0; i < ELEMENTS(own); i++) {
                _cleanup_free_ char *topic = xasprintf("node/%s/%s", WORLD_NODE_A, own[i]),
                                    *wanted = xasprintf("%s hello", topic);
                int before = plane.messages;

                assert_true(is_accepted(publish(&node, topic, "hello")));
                assert_true(client_wait(both, &plane.messages, before));
                assert_string_equal(plane.last, wanted);
        }
        for (size_t i = 0; i < ELEMENTS(not_own); i++) {
                int before = plane.messages;

                assert_int_equal(publish(&node, not_own[i], "forged"), MQTT_RC_NOT_AUTHORIZED);
                assert_true(is_accepted(publish(&node, "node/" WORLD_NODE_A "/event", "after it")));
                assert_true(client_wait(both, &plane.messages, before));
                assert_string_equal(plane.last, "node/" WORLD_NODE_A "/event after it");
        }
        client_done(&node);
        client_done(&plane);
}

static struct {
        int count;
        char client[64], topic[128];
} denied;

static void on_denied(const struct mosquitto_denial *d, void *userdata)
{
        assert_ptr_equal(userdata, &denied);
        denied.count++;
        snprintf(denied.client, sizeof denied.client, "%.*s", (int)d->client_length, d->client);
        snprintf(denied.topic, sizeof denied.topic, "%.*s", (int)d->topic_length, d->topic);
}

static int denials_wanted;

static bool all_are_told(struct world *x)
{
        (void)x;
        return denied.count >= denials_wanted;
}

static void test_denials_are_told(void **state)
{
        static const char *const topics[] = {"node/" WORLD_NODE_B "/event", "$SYS/broker/version",
                "other', ... (1 bytes))", "node/" WORLD_NODE_A "/ack"};
        _cleanup_free_ char *log = service_log(&w.settings, "mosquitto"), *text = NULL;
        uint64_t before;
        struct client node;
        size_t length;

        (void)state;
        while (sd_event_run(w.event, 100000) > 0) /* what the tests before this one did */
                ;
        before = services_denied(w.services);
        services_watch_denials(w.services, on_denied, &denied);
        client_node(&node, &w, 0, "another-id"); /* which is not had: the certificate's is told */
        connected(&node);
        for (size_t i = 0; i < ELEMENTS(topics); i++) {
                assert_int_equal(publish(&node, topics[i], "x"), MQTT_RC_NOT_AUTHORIZED);
                denials_wanted = (int)i + 1;
                assert_true(world_wait(&w, all_are_told, 4000));
                assert_int_equal(denied.count, i + 1);
                assert_string_equal(denied.client, WORLD_NODE_A);
                assert_string_equal(denied.topic, topics[i]);
        }
        assert_true(is_accepted(publish(&node, "node/" WORLD_NODE_A "/event", "x")));
        client_done(&node);
        services_watch_denials(w.services, NULL, NULL);
        assert_int_equal(services_denied(w.services), before + ELEMENTS(topics));
        assert_int_equal(file_read(log, 1 << 20, &text, &length, NULL), 0);
        assert_null(strstr(text, "PUBLISH"));
        assert_null(strstr(text, "CONNACK"));
        assert_null(strstr(text, "(QoS 1)"));
}

/* mosquitto 2.0 grants each subscription and keeps back what may not be read. */
static void test_others_are_not_heard(void **state)
{
        struct client plane, node, other, *all[] = {&plane, &node, &other, NULL};

        (void)state;
        client_plane(&plane, &w, "plane");
        client_node(&node, &w, 0, NULL);
        client_node(&other, &w, 1, NULL);
        connected(&plane);
        connected(&node);
        connected(&other);
        subscribe(&node, "#");
        subscribe(&node, "node/" WORLD_NODE_B "/ack");
        subscribe(&node, "node/+/event");
        subscribe(&node, "$SYS/#");
        assert_true(is_accepted(publish(&other, "node/" WORLD_NODE_B "/event", "secret")));
        assert_true(is_accepted(publish(&plane, "node/" WORLD_NODE_B "/ack", "secret")));
        assert_true(is_accepted(publish(&plane, "node/" WORLD_NODE_A "/ack", "mine")));
        assert_true(client_wait(all, &node.messages, 0));
        assert_string_equal(node.last, "node/" WORLD_NODE_A "/ack mine");
        assert_int_equal(other.messages, 0);
        client_done(&other);
        client_done(&node);
        client_done(&plane);
}

static void test_client_id_is_the_certificates(void **state)
{
        struct client node, thief, *both[] = {&node, &thief, NULL};

        (void)state;
        client_node(&node, &w, 1, WORLD_NODE_B);
        connected(&node);
        client_node(&thief, &w, 0, WORLD_NODE_B);
        connected(&thief);
        assert_true(is_accepted(publish(&thief, "node/" WORLD_NODE_A "/event", "x")));
        assert_true(is_accepted(publish(&node, "node/" WORLD_NODE_B "/event", "still here")));
        assert_true(client_wait(both, &node.puback, -1));
        assert_int_equal(node.disconnected, 0);
        client_done(&thief);
        client_done(&node);
}

static void test_without_certificate(void **state)
{
        struct client c = {.connack = -1};

        (void)state;
        c.m = mosquitto_new("x", true, &c);
        mosquitto_tls_set(c.m, ca_root_path(w.ca), NULL, NULL, NULL, NULL);
        mosquitto_tls_insecure_set(c.m, true);
        mosquitto_string_option(c.m, MOSQ_OPT_TLS_ALPN, "mqtt");
        mosquitto_connect(c.m, "127.0.0.1", WORLD_MIXED, 30);
        for (int i = 0; i < 50 && c.connack == -1; i++)
                mosquitto_loop(c.m, 10, 1);
        assert_int_equal(c.connack, -1);
        mosquitto_destroy(c.m);
}

static void test_large_message(void **state)
{
        struct client plane, node, *both[] = {&plane, &node, NULL};
        _cleanup_free_ char *payload = xcalloc(1, LARGE_BYTES);

        (void)state;
        client_plane(&plane, &w, "plane");
        connected(&plane);
        subscribe(&plane, "node/#");
        client_node(&node, &w, 0, NULL);
        mosquitto_int_option(
                node.m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V311); /* it is not told the limit */
        connected(&node);
        mosquitto_publish(node.m, NULL, "node/" WORLD_NODE_A "/event", LARGE_BYTES, payload, 1, false);
        assert_true(client_wait(both, &node.disconnected, 0));
        assert_int_equal(plane.messages, 0);
        client_done(&node);
        client_done(&plane);
}

/* Last: node B is out after it. */
static void test_revoked_node(void **state)
{
        struct client plane, node, again, *both[] = {&plane, &node, NULL};
        struct strv serials = {0};
        struct error e = {0};

        (void)state;
        client_node(&node, &w, 1, NULL);
        connected(&node);
        strv_add(&serials, w.node_serial[1]);
        assert_int_equal(ca_write_crl(w.ca, &serials, time(NULL), &e), 0);
        assert_int_equal(services_reload(w.services, &e), 0);
        for (int i = 0; i < 10; i++)
                mosquitto_loop(node.m, 50, 1);
        assert_int_equal(node.disconnected, 0); /* the connection that it has goes on … */
        client_plane(&plane, &w, WORLD_NODE_B);
        connected(&plane);
        assert_true(client_wait(both, &node.disconnected, 0)); /* … until the plane takes its id */
        client_node(&again, &w, 1, NULL);
        for (int i = 0; i < 50 && again.connack == -1; i++)
                mosquitto_loop(again.m, 10, 1);
        assert_int_equal(again.connack, -1); /* and then it does not come back */
        strv_done(&serials);
        mosquitto_destroy(again.m);
        mosquitto_destroy(node.m);
        client_done(&plane);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_own_topics_only),
                cmocka_unit_test(test_denials_are_told),
                cmocka_unit_test(test_others_are_not_heard),
                cmocka_unit_test(test_client_id_is_the_certificates),
                cmocka_unit_test(test_without_certificate),
                cmocka_unit_test(test_large_message),
                cmocka_unit_test(test_revoked_node),
        };
        int r;

        mosquitto_lib_init();
        r = cmocka_run_group_tests(tests, set_up, tear_down);
        mosquitto_lib_cleanup();
        return r;
}
