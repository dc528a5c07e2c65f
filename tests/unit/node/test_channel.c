/* The channel against a real mosquitto with the plane's access rules, and a client that stands in for the
 * plane. */
#include "node/channel_internal.h"

#include "../net/broker.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const char acl[] = "pattern write node/%u/status\n"
                          "pattern write node/%u/event\n"
                          "pattern write node/%u/report\n"
                          "pattern write node/%u/config/applied\n"
                          "pattern write node/%u/out/#\n"
                          "pattern read node/%u/ack\n"
                          "pattern read node/%u/config\n"
                          "pattern read node/%u/request\n";

static sd_event *event;
static pid_t broker;
static struct store *store;
static struct channel *channel;

/* What the channel said. */
static struct {
        struct text attempts; /* "ADDRESS:CODE|", "ADDRESS:ok|" */
        unsigned attempt_count, resolves;
        bool resolved, connected, disconnected, got;
        struct error why, attempt_error;
        enum topic_kind kind;
        char payload[256];
} said;

/* What the plane heard. */
static struct {
        struct mqtt *mqtt;
        bool connected, subscribed;
        struct text seqs; /* "1 2 3 " */
        unsigned records, statuses;
        char status[512], output[256], output_topic[128], applied[256];
        bool status_retained;
} plane;

/* ---- the plane ---- */

static void on_plane_connected(void *userdata)
{
        (void)userdata;
        plane.connected = true;
        mqtt_subscribe(plane.mqtt, "node/#", 1);
}

static void on_plane_closed(const struct error *e, void *userdata)
{
        (void)userdata;
        (void)e;
        plane.mqtt = mqtt_free(plane.mqtt, false);
        plane.connected = false;
}

static void on_plane_message(const struct mqtt_message *m, void *userdata)
{
        char node[WIRE_ID_MAXIMUM + 1], request[WIRE_ID_MAXIMUM + 1];
        enum topic_kind kind;
        struct wire_event e = {0};
        struct wire_report r = {0};
        int length = (int)m->length;

        (void)userdata;
        assert_int_equal(topic_parse(m->topic, &kind, node, request), 0);
        assert_string_equal(node, "n-1");
        switch (kind) {
        case TOPIC_EVENT:
                assert_int_equal(wire_event_parse(m->payload, m->length, &e, NULL), 0);
                text_addf(&plane.seqs, "%lld ", (long long)e.seq);
                plane.records++;
                wire_event_done(&e);
                break;
        case TOPIC_REPORT:
                assert_int_equal(wire_report_parse(m->payload, m->length, &r, NULL), 0);
                text_addf(&plane.seqs, "%lld ", (long long)r.seq);
                plane.records++;
                wire_report_done(&r);
                break;
        case TOPIC_STATUS:
                plane.statuses++;
                plane.status_retained = m->retained;
                snprintf(plane.status, sizeof plane.status, "%.*s", length, (const char *)m->payload);
                break;
        case TOPIC_CONFIG_APPLIED:
                snprintf(plane.applied, sizeof plane.applied, "%.*s", length, (const char *)m->payload);
                break;
        case TOPIC_OUT:
                str_copy(plane.output_topic, sizeof plane.output_topic, m->topic);
                snprintf(plane.output, sizeof plane.output, "%.*s", length, (const char *)m->payload);
                break;
        case TOPIC_ACK:
        case TOPIC_CONFIG:
        case TOPIC_REQUEST:
                break;
        }
}

static void connect_plane(void)
{
        struct mqtt_options o = {.client_id = "plane",
                .unix_path = broker_path("broker.sock"),
                .keepalive_s = 60,
                .connect_timeout_ms = 5000,
                .maximum_message_bytes = WIRE_MESSAGE_MAXIMUM};
        struct mqtt_handlers h = {.on_connected = on_plane_connected,
                .on_closed = on_plane_closed,
                .on_message = on_plane_message};

        assert_int_equal(mqtt_connect(event, &o, &h, &plane.mqtt, NULL), 0);
        assert_true(broker_loop(event, &plane.connected, 5000));
        broker_wait(event, 50);
}

static void publish(const char *topic, const char *payload)
{
        assert_int_equal(mqtt_publish(plane.mqtt, topic, payload, strlen(payload), 1, false, NULL), 0);
}

/* Acknowledges from `first` to `last`. */
static void acknowledge(const char *epoch, int64_t first, int64_t last, bool refuse)
{
        struct wire_ack a = {0};
        json_t *j;
        char *text;

        str_copy(a.epoch, sizeof a.epoch, epoch);
        for (int64_t seq = first; seq <= last; seq++)
                if (refuse)
                        a.refused[a.refused_count++] = seq;
                else
                        a.seqs[a.count++] = seq;
        j = wire_ack_to_json(&a);
        text = json_dumps(j, JSON_COMPACT);
        publish("node/n-1/ack", text);
        free(text);
        json_decref(j);
}

/* The numbers from `first` to `last` as plane.seqs has them. */
static void assert_seqs(int64_t first, int64_t last)
{
        struct text t = {0};

        for (int64_t seq = first; seq <= last; seq++)
                text_addf(&t, "%lld ", (long long)seq);
        assert_string_equal(text_string(&plane.seqs), text_string(&t));
        text_done(&t);
}

static void forget_seqs(void)
{
        text_done(&plane.seqs);
        plane.records = 0;
}

/* Runs until so many records came, and then a little more: no further one comes. */
static void wait_for_records(unsigned count)
{
        for (int i = 0; i < 300 && plane.records < count; i++)
                broker_wait(event, 20);
        broker_wait(event, 150);
        assert_int_equal(plane.records, count);
}

/* ---- the channel ---- */

static void on_resolve(void *userdata)
{
        (void)userdata;
        said.resolved = true;
        said.resolves++;
}

static void on_attempt(const struct endpoint *address, const struct error *e, void *userdata)
{
        char text[INET_ADDR_TEXT];

        (void)userdata;
        inet_addr_format(&address->address, text);
        text_addf(&said.attempts, "%s:%s|", text, e ? e->code : "ok");
        said.attempt_count++;
        if (e)
                said.attempt_error = *e;
}

static void on_state(enum channel_state state, const struct error *why, void *userdata)
{
        (void)userdata;
        said.connected = state == CHANNEL_CONNECTED;
        if (why) {
                said.why = *why;
                said.disconnected |= state == CHANNEL_WAITING;
        }
}

static void on_message(enum topic_kind kind, const void *payload, size_t length, void *userdata)
{
        (void)userdata;
        said.got = true;
        said.kind = kind;
        snprintf(said.payload, sizeof said.payload, "%.*s", (int)length, (const char *)payload);
}

static struct channel_options options(void)
{
        return (struct channel_options){.event = event,
                .store = store,
                .node = "n-1",
                .host = BROKER_HOST,
                .port = BROKER_TLS_PORT,
                .root_ca_path = broker_path("root.pem"),
                .certificate_path = broker_path("node.crt"),
                .key_path = broker_path("node.key")};
}

static void make_channel(const struct channel_options *o)
{
        struct channel_handlers h = {on_resolve, on_attempt, on_state, on_message, NULL};

        channel = channel_new(o, &h);
}

static void set_addresses(const char *list)
{
        struct inet_addr addresses[16];
        struct strv words = {0};

        strv_split(&words, list, ' ');
        for (size_t i = 0; i < words.count; i++)
                assert_int_equal(inet_addr_parse(words.items[i], &addresses[i]), 0);
        channel_set_addresses(channel, addresses, words.count);
        strv_done(&words);
}

static void connect_channel(void)
{
        struct channel_options o = options();

        make_channel(&o);
        set_addresses("198.51.100.1");
        channel_start(channel);
        if (!broker_loop(event, &said.connected, 10000))
                fail_msg("%s", said.attempt_error.text);
}

static void add_events(unsigned count)
{
        for (unsigned i = 0; i < count; i++) {
                struct wire_event e = {.generated_unix_ms = 1795230000000,
                        .name = xstrdup(EVENT_DNS_RESOLUTION),
                        .message = xstrdup("it failed"),
                        .severity = WIRE_ERROR};
                struct error error = {0};

                if (store_add(store, NULL, &e, 1, 1795230000000, &error) < 0)
                        fail_msg("%s", error.text);
                wire_event_done(&e);
        }
}

static void publish_status(const char *version)
{
        json_t *j = json_pack("{s:i,s:b,s:s}", "schema", 1, "online", 1, "version", version);

        assert_int_equal(channel_publish(channel, TOPIC_STATUS, NULL, j), 0);
        json_decref(j);
}

static enum channel_state state_now(void)
{
        struct channel_view v;

        channel_view(channel, &v);
        return v.state;
}

/* ---- tests ---- */

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
        /* The end: the will tells. */
        channel = channel_free(channel);
        broker_wait(event, 200);
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
        assert_true(plane.status_retained);
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
        began = broker_now_ms();
        while (plane.records == 0 && broker_now_ms() < began + 25000)
                broker_wait(event, 50);
        assert_true(broker_now_ms() - began > 19000 && broker_now_ms() - began < 22000);
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

/* ---- */

static int set_up(void **state)
{
        char *note = NULL;
        struct error e = {0};

        (void)state;
        memset(&said, 0, sizeof said);
        memset(&plane, 0, sizeof plane);
        broker = broker_start(acl);
        if (sd_event_new(&event) < 0)
                return -1;
        if (store_open(broker_path("state.db"), &(struct store_limits){0}, &store, &note, &e) < 0)
                fail_msg("%s", e.text);
        free(note);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        channel = channel_free(channel);
        plane.mqtt = mqtt_free(plane.mqtt, true);
        store = store_close(store);
        text_done(&said.attempts);
        text_done(&plane.seqs);
        sd_event_unref(event);
        broker_stop(broker, SIGKILL);
        for (int i = 0; i < 3; i++)
                unlink(broker_path((const char *[]){"state.db", "state.db-wal", "state.db-shm"}[i]));
        return 0;
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
                TEST(test_alternates),
                TEST(test_dropped),
                TEST(test_resolve),
                TEST(test_backoff),
                TEST(test_source),
                TEST(test_credentials),
                TEST(test_wrong_server),
                TEST(test_freed),
        };

        return cmocka_run_group_tests(tests, broker_set_up, broker_tear_down);
}
