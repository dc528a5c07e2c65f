/* What the plane's client hears and says, and what becomes of it when the broker dies. */
#include "broker_world.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void test_a_node_comes_speaks_and_goes(void **state)
{
        struct wire_output o = {.first = 1, .end = END_EXITED};
        struct node n;
        struct broker_counts c;

        (void)state;
        connect_node(&n, t.w->node);
        say_status(&n, true);
        wait_count(&t.connects, 1);
        assert_true(shown_connected(t.w->node));
        say_status(&n, true); /* nothing new */
        wait_count(&t.statuses, 2);
        say_event(&n, 1);
        say_event(&n, 2);
        say_event(&n, 1);
        wait_count(&n.acks, 1);
        run(100);
        assert_int_equal(t.events, 1 + 2);
        say(&n, TOPIC_OUT, "r-1", wire_output_to_json(&o), false);
        wait_count(&t.outputs, 1);
        run(200);
        broker_counts(t.broker, &c);
        assert_int_equal(c.events, 2);
        assert_int_equal(c.duplicates, 1);
        assert_int_equal(c.refused, 0);
        n.mqtt = mqtt_free(n.mqtt, false); /* its will is sent */
        wait_count(&t.disconnects, 1);
        assert_false(shown_connected(t.w->node));
        assert_int_equal(t.connects, 1);
}

static void test_the_broker_dies_and_comes_back(void **state)
{
        struct wire_request r = {.id = "r-1", .tool = "dns", .timeout_s = 5, .by = "alice"};
        struct node n;

        (void)state;
        assert_int_equal(broker_notice(t.broker, t.w->node, 3), 0);
        assert_int_equal(broker_request(t.broker, t.w->node, &r), 0);
        wait_count(&t.unheard, 1); /* nobody is there */
        stop_mosquitto(SIGKILL);
        assert_true(wait_for(broker_is_away, NULL));
        assert_int_equal(broker_request(t.broker, t.w->node, &r), -ENOTCONN);
        assert_int_equal(broker_notice(t.broker, t.w->node, 4), -ENOTCONN);
        assert_int_equal(broker_expel(t.broker, t.w->theirs, t.w->other), -ENOTCONN);
        run(1000);
        start_mosquitto();
        assert_true(wait_for(broker_is_connected, NULL));
        /* The broker keeps nothing on disk: the notice was published anew, with what was said meanwhile. */
        connect_node(&n, t.w->node);
        wait_count(&n.notices, 1);
        assert_int_equal(n.notice, 4);
        say_event(&n, 1);
        wait_count(&n.acks, 1);
        t.unheard = 0; /* the one before may have been told */
        assert_int_equal(broker_request(t.broker, t.w->node, &r), 0);
        wait_count(&n.requests, 1);
        run(100);
        assert_int_equal(t.unheard, 0);
        t.statuses = 0;
        mqtt_free(n.mqtt, false);
        wait_count(&t.statuses, 1); /* its will: from here on the broker knows that nobody is there */
        assert_int_equal(broker_request(t.broker, t.w->node, &r), 0);
        wait_count(&t.unheard, 1);
}

static void test_what_is_wrong_is_refused(void **state)
{
        static const char *const payloads[] = {
                "{", "[]", "\xff\xfe", "{\"schema\":1,\"online\":\"yes\"}", "null", "{\"online\":true}"};
        static const enum topic_kind kinds[] = {
                TOPIC_STATUS, TOPIC_EVENT, TOPIC_REPORT, TOPIC_CONFIG_APPLIED, TOPIC_OUT};
        struct node n, stranger;
        struct broker_counts c;
        char topic[TOPIC_MAXIMUM];

        (void)state;
        connect_node(&n, t.w->node);
        connect_node(&stranger, "n-stranger");
        for (size_t i = 0; i < ELEMENTS(payloads) - 1; i++)
                for (size_t k = 0; k < ELEMENTS(kinds); k++) {
                        topic_format(topic, kinds[k], n.id, "r-1");
                        assert_int_equal(
                                mqtt_publish(n.mqtt, topic, payloads[i], strlen(payloads[i]), 1, false, NULL),
                                0);
                }
        say_status(&stranger, true);
        run(500);
        broker_counts(t.broker, &c);
        assert_int_equal(c.refused, (ELEMENTS(payloads) - 1) * ELEMENTS(kinds) + 1);
        assert_int_equal(t.events, 0);
        say_status(&n, true);
        wait_count(&t.connects, 1);
        /* What the broker kept of the stranger was cleared: a new client of the plane does not hear it. */
        broker_free(t.broker);
        make_broker();
        assert_true(wait_for(broker_is_connected, NULL));
        run(300);
        broker_counts(t.broker, &c);
        assert_int_equal(c.refused, 0);
        mqtt_free(n.mqtt, true);
        mqtt_free(stranger.mqtt, true);
}

static void test_a_removed_node_is_put_out(void **state)
{
        struct error e = {0};
        struct broker_counts c;
        struct node n;

        (void)state;
        connect_node(&n, t.w->node);
        say_status(&n, true);
        wait_count(&t.connects, 1);
        assert_int_equal(broker_notice(t.broker, t.w->node, 2), 0);
        must(plane_node_remove(t.w->store, &t.w->us, t.w->ours, t.w->node, NOW, &e), &e);
        assert_int_equal(broker_expel(t.broker, t.w->ours, t.w->node), 0);
        assert_true(wait_for(is_flag, &n.is_closed));
        run(3500); /* the second and the third time */
        broker_free(t.broker);
        make_broker();
        assert_true(wait_for(broker_is_connected, NULL));
        run(300);
        broker_counts(t.broker, &c);
        assert_int_equal(c.messages, 0); /* nothing is left of it, its will included */
}

/* The broker and the node's connection live on; the plane alone loses its own, and finds no socket. */
static void test_a_node_removed_while_the_broker_is_away(void **state)
{
        _cleanup_free_ char *aside = xasprintf("%s.aside", t.socket);
        struct error e = {0};
        struct broker_counts c;
        struct node n, rival;

        (void)state;
        connect_node(&n, t.w->node);
        say_status(&n, true);
        wait_count(&t.connects, 1);
        assert_int_equal(broker_notice(t.broker, t.w->node, 2), 0);
        wait_count(&n.notices, 1);
        connect_node(&rival, "plane"); /* takes the plane's client id */
        assert_int_equal(rename(t.socket, aside), 0);
        assert_true(wait_for(broker_is_away, NULL));
        must(plane_node_remove(t.w->store, &t.w->us, t.w->ours, t.w->node, NOW, &e), &e);
        assert_int_equal(broker_expel(t.broker, t.w->ours, t.w->node), -ENOTCONN);
        assert_int_equal(broker_expel(t.broker, t.w->ours, t.w->node), -ENOTCONN); /* the same one */
        run(1500);
        assert_false(n.is_closed);
        mqtt_free(rival.mqtt, true);
        assert_int_equal(rename(aside, t.socket), 0);
        assert_true(wait_for(broker_is_connected, NULL));
        assert_true(wait_for(is_flag, &n.is_closed));
        run(3500); /* the second and the third time */
        connect_node(&n, t.w->node);
        run(300);
        assert_int_equal(n.notices, 0); /* nothing is left of it at the broker */
        mqtt_free(n.mqtt, true);
        broker_free(t.broker);
        make_broker();
        assert_true(wait_for(broker_is_connected, NULL));
        run(300);
        broker_counts(t.broker, &c);
        assert_int_equal(c.messages, 0);
}

/* In the midst of its three times. */
static void test_the_broker_goes_while_a_node_is_put_out(void **state)
{
        struct node n;

        (void)state;
        assert_int_equal(broker_expel(t.broker, t.w->ours, t.w->node), 0);
        run(200);
        stop_mosquitto(SIGKILL);
        assert_true(wait_for(broker_is_away, NULL));
        run(3500); /* longer than all three take */
        start_mosquitto();
        connect_node(&n, t.w->node); /* a broker that has the old list of revoked certificates */
        assert_true(wait_for(is_flag, &n.is_closed));
        assert_true(wait_for(broker_is_connected, NULL));
}

static void test_a_node_that_is_not_there_is_put_out(void **state)
{
        (void)state;
        assert_int_equal(broker_expel(t.broker, t.w->ours, t.w->node), 0);
        run(200);
        assert_int_equal(broker_expel(t.broker, t.w->ours, t.w->node), 0);
        run(3500);
        assert_true(broker_is_connected(NULL));
        /* And the end comes in the midst of one. */
        assert_int_equal(broker_expel(t.broker, t.w->ours, t.w->node), 0);
}

static void test_there_is_no_broker(void **state)
{
        struct broker_counts c;

        (void)state;
        stop_mosquitto(SIGKILL);
        broker_free(t.broker);
        t.broker = NULL;
        unlink(t.socket);
        make_broker();
        run(1500);
        broker_counts(t.broker, &c);
        assert_false(c.connected);
        start_mosquitto();
        assert_true(wait_for(broker_is_connected, NULL));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, broker_setup, broker_teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_a_node_comes_speaks_and_goes),
                TEST(test_the_broker_dies_and_comes_back), TEST(test_what_is_wrong_is_refused),
                TEST(test_a_removed_node_is_put_out), TEST(test_a_node_that_is_not_there_is_put_out),
                TEST(test_a_node_removed_while_the_broker_is_away),
                TEST(test_the_broker_goes_while_a_node_is_put_out), TEST(test_there_is_no_broker)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
