/* The plane's client at a real mosquitto, on a Unix socket in a folder of the test's own; the nodes are
 * clients of the same socket. What a node may do at the real listeners is test_services_broker.c's. */
#include "plane/broker.h"

#include "store_world.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/db.h"
#include "base/json.h"
#include "net/mqtt.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MANY     100
#define ABSENT   1500 /* as broker.c is compiled for this test */
#define PATIENCE 15000

struct node {
        char id[65];
        struct mqtt *mqtt;
        bool is_connected, is_closed, is_subscribed;
        int acks, notices, requests;
        struct wire_ack ack;
        int64_t notice;
};

static struct {
        struct world *w;
        char folder[64], socket[96], conf[96];
        pid_t mosquitto;
        sd_event *event;
        struct plane_settings settings;
        struct broker *broker;
        int connects, disconnects, flappings, events, statuses, outputs, unheard, node_changes;
} t;

/* ---- mosquitto ---- */

static void start_mosquitto(void)
{
        struct stat st;

        unlink(t.socket);
        t.mosquitto = fork();
        if (t.mosquitto == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                execl("/usr/sbin/mosquitto", "mosquitto", "-c", t.conf, NULL);
                _exit(127);
        }
        assert_true(t.mosquitto > 0);
        for (int i = 0; i < 500 && stat(t.socket, &st) < 0; i++)
                usleep(10000);
        assert_int_equal(stat(t.socket, &st), 0);
}

static void stop_mosquitto(int how)
{
        if (t.mosquitto <= 0)
                return;
        kill(t.mosquitto, how);
        assert_int_equal(waitpid(t.mosquitto, NULL, 0), t.mosquitto);
        t.mosquitto = 0;
}

static void write_configuration(void)
{
        FILE *f = fopen(t.conf, "we");

        assert_non_null(f);
        fprintf(f,
                "user root\nper_listener_settings true\npersistence false\nlog_dest none\n"
                "max_packet_size 528384\nmax_inflight_messages 1000\n"
                "listener 0 %s\nallow_anonymous true\n",
                t.socket);
        assert_int_equal(fclose(f), 0);
}

/* ---- the loop ---- */

typedef bool (*condition)(void *userdata);

static bool wait_for(condition is_true, void *userdata)
{
        double until_ms = clock_monotonic_ms() + PATIENCE;

        while (!is_true(userdata) && clock_monotonic_ms() < until_ms)
                assert_true(sd_event_run(t.event, 20000) >= 0);
        return is_true(userdata);
}

static void run(double ms)
{
        double until_ms = clock_monotonic_ms() + ms;

        while (clock_monotonic_ms() < until_ms)
                assert_true(sd_event_run(t.event, 5000) >= 0);
}

static bool is_flag(void *flag)
{
        return *(bool *)flag;
}

struct at_least {
        const int *value;
        int wanted;
};
static bool is_reached(void *userdata)
{
        const struct at_least *a = userdata;

        return *a->value >= a->wanted;
}

static void wait_count(const int *value, int wanted)
{
        struct at_least a = {value, wanted};

        if (!wait_for(is_reached, &a))
                fail_msg("%d instead of %d", *value, wanted);
}

static bool broker_is_connected(void *userdata)
{
        struct broker_counts c;

        (void)userdata;
        broker_counts(t.broker, &c);
        return c.connected;
}

static bool broker_is_away(void *userdata)
{
        return !broker_is_connected(userdata);
}

/* ---- the plane ---- */

static void on_change(const char *organisation, const char *kind, json_t *value, void *userdata)
{
        const char *name = text_of(value, "name");

        (void)userdata;
        assert_true(*organisation);
        if (strcmp(kind, "node") == 0)
                t.node_changes++;
        if (strcmp(kind, "event") != 0)
                return;
        t.events++;
        t.connects += strcmp(name, EVENT_NODE_CONNECT) == 0;
        t.disconnects += strcmp(name, EVENT_NODE_DISCONNECT) == 0;
        t.flappings += strcmp(name, EVENT_FLAPPING) == 0;
}

static void on_output(const char *node, const char *request, const struct wire_output *o, void *userdata)
{
        (void)o;
        (void)userdata;
        assert_string_equal(node, t.w->node);
        assert_string_equal(request, "r-1");
        t.outputs++;
}

static void on_status(const char *node, const struct wire_status *status, void *userdata)
{
        (void)node;
        (void)status;
        (void)userdata;
        t.statuses++;
}

static void on_unheard(const char *node, const char *request, void *userdata)
{
        (void)userdata;
        assert_string_equal(node, t.w->node);
        assert_string_equal(request, "r-1");
        t.unheard++;
}

static void make_broker(void)
{
        const struct broker_handlers h = {
                .on_change = on_change,
                .on_output = on_output,
                .on_unheard = on_unheard,
                .on_status = on_status,
        };
        struct error e = {0};

        must(broker_new(t.event, &t.settings, t.w->store, &h, &t.broker, &e), &e);
}

static int setup(void **state)
{
        world_new(state);
        memset(&t, 0, sizeof t);
        t.w = *state;
        strcpy(t.folder, "/tmp/test_broker.XXXXXX");
        assert_non_null(mkdtemp(t.folder));
        snprintf(t.socket, sizeof t.socket, "%s/broker.sock", t.folder);
        snprintf(t.conf, sizeof t.conf, "%s/mosquitto.conf", t.folder);
        write_configuration();
        start_mosquitto();
        assert_true(sd_event_new(&t.event) >= 0);
        t.settings.broker_socket = t.socket;
        make_broker();
        assert_true(wait_for(broker_is_connected, NULL));
        return 0;
}

static int teardown(void **state)
{
        broker_free(t.broker);
        stop_mosquitto(SIGKILL);
        sd_event_unref(t.event);
        unlink(t.socket);
        unlink(t.conf);
        rmdir(t.folder);
        return world_free(state);
}

/* ---- a node ---- */

static void on_node_connected(void *userdata)
{
        static const char *const ends[] = {"ack", "config", "request"};
        struct node *n = userdata;
        char topic[TOPIC_MAXIMUM];

        for (size_t i = 0; i < ELEMENTS(ends); i++) {
                snprintf(topic, sizeof topic, "node/%s/%s", n->id, ends[i]);
                assert_int_equal(mqtt_subscribe(n->mqtt, topic, 1), 0);
        }
        n->is_connected = true;
}

static void on_node_closed(const struct error *e, void *userdata)
{
        struct node *n = userdata;

        (void)e;
        n->is_closed = true;
        n->mqtt = mqtt_free(n->mqtt, false);
}

static void on_node_message(const struct mqtt_message *m, void *userdata)
{
        struct node *n = userdata;
        char id[WIRE_ID_MAXIMUM + 1], request[WIRE_ID_MAXIMUM + 1];
        struct error e = {0};
        enum topic_kind kind;

        assert_int_equal(topic_parse(m->topic, &kind, id, request), 0);
        if (kind == TOPIC_ACK) {
                must(wire_ack_parse(m->payload, m->length, &n->ack, &e), &e);
                n->acks++;
        } else if (kind == TOPIC_CONFIG && m->length > 0) {
                must(wire_notice_parse(m->payload, m->length, &n->notice, &e), &e);
                n->notices++;
        } else if (kind == TOPIC_REQUEST) {
                n->requests++;
        }
}

static void connect_node(struct node *n, const char *id)
{
        const struct mqtt_handlers h = {.on_connected = on_node_connected,
                .on_closed = on_node_closed,
                .on_message = on_node_message,
                .userdata = n};
        char topic[TOPIC_MAXIMUM];
        const struct mqtt_options o = {.client_id = id,
                .unix_path = t.socket,
                .keepalive_s = 20,
                .connect_timeout_ms = PATIENCE,
                .maximum_message_bytes = WIRE_MESSAGE_MAXIMUM,
                .will_topic = topic,
                .will_payload = "{\"schema\":1,\"online\":false,\"since\":\"2026-11-21T03:02:00.000Z\"}"};
        struct error e = {0};

        memset(n, 0, sizeof *n);
        snprintf(n->id, sizeof n->id, "%s", id);
        topic_format(topic, TOPIC_STATUS, id, NULL);
        must(mqtt_connect(t.event, &o, &h, &n->mqtt, &e), &e);
        assert_true(wait_for(is_flag, &n->is_connected));
}

static void say(struct node *n, enum topic_kind kind, const char *request, json_t *stolen, bool retain)
{
        _cleanup_free_ char *text = json_to_text(stolen);
        char topic[TOPIC_MAXIMUM];

        json_decref(stolen);
        topic_format(topic, kind, n->id, request);
        assert_int_equal(mqtt_publish(n->mqtt, topic, text, strlen(text), 1, retain, NULL), 0);
}

static void say_status(struct node *n, bool online)
{
        struct wire_status s = {.online = online, .since_unix_ms = NOW, .version = "0.1.0"};

        say(n, TOPIC_STATUS, NULL, wire_status_to_json(&s), true);
}

static void say_event(struct node *n, int64_t seq)
{
        struct wire_event e = {.epoch = "e-1",
                .seq = seq,
                .generated_unix_ms = NOW,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = (char *)"Repo connectivity failed",
                .severity = WIRE_ERROR};

        say(n, TOPIC_EVENT, NULL, wire_event_to_json(&e), false);
}

static bool shown_connected(const char *id)
{
        int64_t connected = -1;

        db_query_integer(plane_store_db(t.w->store), NULL, -1, &connected,
                "SELECT connected FROM nodes WHERE id = ?", "s", id);
        return connected == 1;
}

static void limit_pages(int64_t count)
{
        int64_t got;
        char text[64];

        if (count == 0)
                db_query_integer(plane_store_db(t.w->store), NULL, 0, &count, "PRAGMA page_count", "");
        snprintf(text, sizeof text, "PRAGMA max_page_count = %lld", (long long)count);
        db_query_integer(plane_store_db(t.w->store), NULL, 0, &got, text, "");
}

/* ---- tests ---- */

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

static void test_flapping_is_told_once(void **state)
{
        struct node n;

        (void)state;
        connect_node(&n, t.w->node);
        for (int i = 0; i < 20; i++) {
                say_status(&n, i % 2 == 0);
                wait_count(&t.statuses, i + 1);
        }
        assert_int_equal(t.flappings, 1);
        assert_int_equal(t.connects + t.disconnects, 9);
        mqtt_free(n.mqtt, true);
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
        mqtt_free(n.mqtt, true);
        run(100);
        assert_int_equal(broker_request(t.broker, t.w->node, &r), 0);
        wait_count(&t.unheard, 1);
}

/* A broker that was killed sends no wills: one comes back, one does not. */
static void test_who_does_not_come_back_is_gone(void **state)
{
        struct node here, gone;

        (void)state;
        connect_node(&here, t.w->node);
        connect_node(&gone, t.w->other);
        say_status(&here, true);
        say_status(&gone, true);
        wait_count(&t.connects, 2);
        stop_mosquitto(SIGKILL);
        assert_true(wait_for(is_flag, &here.is_closed));
        assert_true(wait_for(is_flag, &gone.is_closed));
        start_mosquitto();
        assert_true(wait_for(broker_is_connected, NULL));
        connect_node(&here, t.w->node);
        say_status(&here, true);
        wait_count(&t.disconnects, 1);
        run(2 * ABSENT);
        assert_int_equal(t.disconnects, 1);
        assert_int_equal(t.connects, 2); /* the other was there all the time */
        assert_true(shown_connected(t.w->node));
        assert_false(shown_connected(t.w->other));
        mqtt_free(here.mqtt, true);
}

static void sql(const char *text)
{
        struct error e = {0};

        must(db_run(plane_store_db(t.w->store), &e, text, ""), &e);
}

/* What it says once, and the broker keeps, is asked for again; state and event are stored together. */
static void test_a_state_that_is_not_stored(void **state)
{
        static const char *const spoilers[] = {"nodes", "events"};
        struct node n;

        (void)state;
        connect_node(&n, t.w->node);
        for (size_t i = 0; i < ELEMENTS(spoilers); i++) {
                char text[160];

                snprintf(text, sizeof text,
                        "CREATE TRIGGER spoil BEFORE %s ON %s BEGIN SELECT raise(ABORT, 'spoilt'); END",
                        i == 0 ? "UPDATE" : "INSERT", spoilers[i]);
                sql(text);
                say_status(&n, i == 0);
                run(1200);
                assert_int_equal(t.connects, i);
                assert_int_equal(t.disconnects, 0);
                assert_int_equal(shown_connected(t.w->node), i == 1);
                sql("DROP TRIGGER spoil");
                wait_count(i == 0 ? &t.connects : &t.disconnects, 1);
                run(1200);
                assert_int_equal(t.events, i + 1);
        }
        mqtt_free(n.mqtt, true);
}

/* Its coming is known, and told, as soon as there is room again, although it says it only once. */
static void test_a_node_comes_while_the_disk_is_full(void **state)
{
        struct node n;

        (void)state;
        limit_pages(0);
        connect_node(&n, t.w->node);
        /* Room for the state there may be, and for some events, but for hundreds there is not. */
        for (int64_t i = 1; i <= 300; i++)
                say_event(&n, i);
        say_status(&n, true);
        run(1500);
        assert_true(t.events < 301);
        assert_true(shown_connected(t.w->node) == (t.connects == 1));
        limit_pages(1000000);
        wait_count(&t.connects, 1);
        run(1500);
        assert_int_equal(t.connects, 1);
        assert_true(shown_connected(t.w->node));
        for (int64_t i = 1; i <= 300; i++)
                say_event(&n, i);
        wait_count(&t.events, 301);
        mqtt_free(n.mqtt, true);
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

static void test_many_come_at_once(void **state)
{
        static struct node nodes[MANY];
        static char ids[MANY][65];

        (void)state;
        for (int i = 0; i < MANY; i++) {
                char name[16];

                snprintf(name, sizeof name, "many-%d", i);
                world_node(t.w, &t.w->us, name, "north", ids[i]);
                connect_node(&nodes[i], ids[i]);
        }
        for (int i = 0; i < MANY; i++)
                say_status(&nodes[i], true);
        wait_count(&t.connects, MANY);
        /* And all are gone with the broker: more than are told at once. */
        stop_mosquitto(SIGKILL);
        for (int i = 0; i < MANY; i++)
                assert_true(wait_for(is_flag, &nodes[i].is_closed));
        start_mosquitto();
        wait_count(&t.disconnects, MANY);
        run(500);
        assert_int_equal(t.disconnects, MANY);
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

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(test_a_node_comes_speaks_and_goes),
                TEST(test_flapping_is_told_once), TEST(test_the_broker_dies_and_comes_back),
                TEST(test_who_does_not_come_back_is_gone), TEST(test_a_state_that_is_not_stored),
                TEST(test_a_node_comes_while_the_disk_is_full), TEST(test_what_is_wrong_is_refused),
                TEST(test_a_removed_node_is_put_out), TEST(test_a_node_that_is_not_there_is_put_out),
                TEST(test_many_come_at_once), TEST(test_there_is_no_broker)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
