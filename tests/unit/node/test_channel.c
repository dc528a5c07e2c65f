/* What goes over the channel, and what it does when it breaks: see channel_world.h. */
#include "channel_world.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_connects(void **state)
{
        struct channel_view v;

        (void)state;
        connect_plane();
        connect_channel();
        publish_status("1.0");
        channel_view(channel, &v);
        assert_int_equal(v.state, CHANNEL_CONNECTED);
        assert_int_equal(v.address.port, BROKER_TLS_PORT);
        assert_int_equal(v.attempts, 0);
        assert_true(v.next_attempt_ms == 0);
        assert_int_equal(v.last_error.number, 0);
        assert_true(v.since_unix_ms > 1700000000000);
        assert_string_equal(text_string(&said.attempts), "198.51.100.1:ok|");
        assert_int_equal(said.resolves, 0);
        broker_wait(event, 100);
        assert_non_null(strstr(plane.status, "\"online\":true"));
        /* What the plane says arrives, by kind; what is not for us does not. */
        publish("node/n-1/config", "{\"version\":3}");
        assert_true(broker_loop(event, &said.got, 5000));
        assert_int_equal(said.kind, TOPIC_CONFIG);
        assert_string_equal(said.payload, "{\"version\":3}");
        said.got = false;
        publish("node/n-1/request", "{}");
        assert_true(broker_loop(event, &said.got, 5000));
        assert_int_equal(said.kind, TOPIC_REQUEST);
        /* The end: it says so itself, and the will besides. */
        assert_int_equal(plane.goodbyes, 0);
        channel = channel_free(channel);
        broker_wait(event, 200);
        assert_int_equal(plane.goodbyes, 1);
        assert_non_null(strstr(plane.status, "\"online\":false"));
        assert_non_null(strstr(plane.status, store_epoch(store)));
}

/* A plane that comes later finds the retained ones. */
static void test_retained(void **state)
{
        json_t *j = json_pack("{s:i}", "version", 7);

        (void)state;
        connect_channel();
        publish_status("2.0");
        assert_int_equal(channel_publish(channel, TOPIC_CONFIG_APPLIED, NULL, j), 0);
        json_decref(j);
        broker_wait(event, 100);
        connect_plane();
        broker_wait(event, 100);
        assert_int_equal(plane.statuses, 1); /* as the broker kept it: nobody said it again */
        assert_non_null(strstr(plane.status, "2.0"));
        assert_string_equal(plane.applied, "{\"version\":7}");
}

static void test_output(void **state)
{
        struct channel_options o = options();
        json_t *j = json_pack("{s:i}", "first", 0);

        (void)state;
        connect_plane();
        make_channel(&o);
        assert_int_equal(channel_publish(channel, TOPIC_OUT, "r-1", j), -ENOTCONN);
        assert_int_equal(channel_publish(channel, TOPIC_EVENT, NULL, j), -EINVAL);
        set_addresses("198.51.100.1");
        channel_start(channel);
        assert_true(broker_loop(event, &said.connected, 10000));
        assert_int_equal(channel_publish(channel, TOPIC_OUT, "r-1", j), 0);
        assert_int_equal(channel_publish(channel, TOPIC_OUT, "../x", j), -EINVAL);
        assert_int_equal(channel_publish(channel, TOPIC_OUT, NULL, j), -EINVAL);
        broker_wait(event, 100);
        assert_string_equal(plane.output_topic, "node/n-1/out/r-1");
        assert_string_equal(plane.output, "{\"first\":0}");
        json_decref(j);
}

static void test_outbox(void **state)
{
        struct channel_view v;

        (void)state;
        add_events(40);
        connect_plane();
        connect_channel();
        wait_for_records(32);
        assert_seqs(1, 32);
        channel_view(channel, &v);
        assert_int_equal(v.unacknowledged, 32);
        /* Of another epoch, and what is no acknowledgement: nothing happens. */
        acknowledge("e-other", 1, 32, false);
        publish("node/n-1/ack", "{");
        publish("node/n-1/ack", "\xff");
        broker_wait(event, 150);
        assert_int_equal(plane.records, 32);
        assert_int_equal(store_waiting(store), 40);
        /* As room is made, the next follow, once each. */
        acknowledge(store_epoch(store), 1, 5, false);
        wait_for_records(37);
        acknowledge(store_epoch(store), 10, 20, false);
        wait_for_records(40);
        assert_seqs(1, 40);
        assert_int_equal(store_waiting(store), 24);
        acknowledge(store_epoch(store), 1, 39, false);
        acknowledge(store_epoch(store), 40, 40, true);
        broker_wait(event, 150);
        assert_int_equal(store_waiting(store), 0);
        channel_view(channel, &v);
        assert_int_equal(v.unacknowledged, 0);
        add_events(1);
        channel_outbox_changed(channel);
        wait_for_records(41);
}

/* The broker is there before the plane is: nothing is sent past it, and it need not wait for 20 s. */
static void test_unheard(void **state)
{
        struct channel_view v;

        (void)state;
        add_events(40);
        connect_channel();
        broker_wait(event, 500);
        channel_view(channel, &v);
        assert_true(v.unacknowledged <= 1);
        connect_plane();
        wait_for_records(32);
        assert_seqs(1, 32);
        acknowledge(store_epoch(store), 1, 30, false);
        wait_for_records(40);
        /* It goes, and the broker stays: all that was not acknowledged is sent again. */
        plane.mqtt = mqtt_free(plane.mqtt, true);
        plane.connected = false;
        forget_seqs();
        broker_wait(event, 100);
        add_events(1);
        channel_outbox_changed(channel);
        broker_wait(event, 300);
        connect_plane();
        wait_for_records(11);
        assert_seqs(31, 41);
}

/* A report with its events, in order; large ones are not all under way at once. */
static void test_large_reports(void **state)
{
        char *blob = xmalloc(300001);

        (void)state;
        memset(blob, 'x', 300000);
        blob[300000] = 0;
        for (int i = 0; i < 6; i++) {
                struct wire_report r = {.generated_unix_ms = 1795230000000,
                        .trigger = xstrdup("monitor"),
                        .report = json_pack("{s:s}", "blob", blob)};
                struct wire_event e = {.generated_unix_ms = 1795230000000,
                        .name = xstrdup(EVENT_REPO_CONNECTIVITY),
                        .message = xstrdup("failed"),
                        .severity = WIRE_ERROR};

                assert_int_equal(store_add(store, &r, &e, 1, 1795230000000, NULL), 0);
                wire_report_done(&r);
                wire_event_done(&e);
        }
        free(blob);
        connect_plane();
        connect_channel();
        wait_for_records(6); /* three reports of 300 kB */
        acknowledge(store_epoch(store), 1, 2, false);
        wait_for_records(8);
        acknowledge(store_epoch(store), 3, 8, false);
        wait_for_records(12);
        assert_seqs(1, 12);
}

static void test_again(void **state)
{
        double began;

        (void)state;
        add_events(3);
        connect_plane();
        connect_channel();
        wait_for_records(3);
        acknowledge(store_epoch(store), 2, 2, false);
        broker_wait(event, 100);
        forget_seqs();
        began = clock_monotonic_ms();
        while (plane.records == 0 && clock_monotonic_ms() < began + 25000)
                broker_wait(event, 50);
        assert_true(clock_monotonic_ms() - began > 19000 && clock_monotonic_ms() - began < 22000);
        wait_for_records(2);
        assert_string_equal(text_string(&plane.seqs), "1 3 ");
        acknowledge(store_epoch(store), 1, 3, false);
        broker_wait(event, 500);
        assert_int_equal(store_waiting(store), 0);
}

/* The broker dies and comes back: all that was not acknowledged is sent again, and the status. */
static void test_broker_killed(void **state)
{
        struct channel_view v;

        (void)state;
        add_events(5);
        connect_plane();
        connect_channel();
        publish_status("3.0");
        wait_for_records(5);
        acknowledge(store_epoch(store), 1, 2, false);
        broker_wait(event, 150);
        broker_stop(broker, SIGKILL);
        assert_true(broker_loop(event, &said.disconnected, 5000));
        assert_string_equal(said.why.code, "mqtt.lost");
        add_events(1);
        channel_outbox_changed(channel);
        publish_status("4.0");
        broker_wait(event, 1500);
        channel_view(channel, &v);
        assert_true(v.state == CHANNEL_WAITING || v.state == CHANNEL_CONNECTING);
        assert_true(v.next_attempt_ms <= 60000);
        assert_string_equal(v.last_error.code, said.attempt_count > 1 ? "mqtt.tcp" : "mqtt.lost");
        broker = broker_start(acl);
        forget_seqs();
        plane.statuses = 0;
        connect_plane();
        assert_true(broker_loop(event, &said.connected, 30000));
        wait_for_records(4);
        assert_seqs(3, 6);
        assert_non_null(strstr(plane.status, "4.0"));
}

/* Thousands lose a broker together: who had a stable connection does not come back within the first second.
 */
static void test_spread(void **state)
{
        double latest_ms = 0;

        (void)state;
        connect_channel();
        for (int i = 0; i < 6; i++) {
                struct channel_view v;

                channel->connected_ms -= 10000; /* so long ago */
                said.disconnected = false;
                broker_stop(broker, SIGKILL);
                assert_true(broker_loop(event, &said.disconnected, 5000));
                channel_view(channel, &v);
                assert_true(v.next_attempt_ms <= 8000);
                latest_ms = v.next_attempt_ms > latest_ms ? v.next_attempt_ms : latest_ms;
                broker = broker_start(acl);
                channel->tried_ms -= 10000;
                said.connected = false;
                channel_way_open(channel); /* which does not wait for it */
                assert_true(broker_loop(event, &said.connected, 1500));
        }
        /* Six draws from the first second would come to this as good as always. */
        assert_true(latest_ms > 1000);
}

/* Somebody else with our id: we come back, and do not fight for it as fast as we can. */
static void test_taken_over(void **state)
{
        struct mqtt_options o = {.client_id = "n-1",
                .unix_path = broker_path("broker.sock"),
                .keepalive_s = 60,
                .connect_timeout_ms = 5000,
                .maximum_message_bytes = 1000};
        struct mqtt_handlers h = {.on_closed = on_plane_closed};

        (void)state;
        connect_channel();
        for (int i = 0; i < 3; i++) {
                said.connected = said.disconnected = false;
                assert_int_equal(mqtt_connect(event, &o, &h, &plane.mqtt, NULL), 0);
                assert_true(broker_loop(event, &said.disconnected, 5000));
                assert_true(broker_loop(event, &said.connected, 15000));
                broker_wait(event, 50);
                assert_null(plane.mqtt); /* taken back */
        }
}

/* In every stage. */
static void test_freed(void **state)
{
        struct channel_options o = options();

        (void)state;
        for (int turns = 0; turns < 12; turns++) {
                add_events(1);
                make_channel(&o);
                set_addresses("198.51.100.1");
                channel_start(channel);
                for (int i = 0; i < turns; i++)
                        sd_event_run(event, 2000);
                channel = channel_free(channel);
        }
        assert_null(channel_free(NULL));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(test_connects),
                TEST(test_retained),
                TEST(test_output),
                TEST(test_outbox),
                TEST(test_unheard),
                TEST(test_large_reports),
                TEST(test_again),
                TEST(test_broker_killed),
                TEST(test_spread),
                TEST(test_taken_over),
                TEST(test_freed),
        };

        return cmocka_run_group_tests(tests, broker_set_up, broker_tear_down);
}
