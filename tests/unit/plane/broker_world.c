#include "broker_world.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/db.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

struct table t;

/* ---- mosquitto ---- */

void start_mosquitto(void)
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

void stop_mosquitto(int how)
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

bool wait_for(bool (*is_true)(void *userdata), void *userdata)
{
        double until_ms = clock_monotonic_ms() + PATIENCE;

        while (!is_true(userdata) && clock_monotonic_ms() < until_ms)
                assert_true(sd_event_run(t.event, 20000) >= 0);
        return is_true(userdata);
}

void run(double ms)
{
        double until_ms = clock_monotonic_ms() + ms;

        while (clock_monotonic_ms() < until_ms)
                assert_true(sd_event_run(t.event, 5000) >= 0);
}

bool is_flag(void *flag)
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

void wait_count(const int *value, int wanted)
{
        struct at_least a = {value, wanted};

        if (!wait_for(is_reached, &a))
                fail_msg("%d instead of %d", *value, wanted);
}

bool broker_is_connected(void *userdata)
{
        struct broker_counts c;

        (void)userdata;
        broker_counts(t.broker, &c);
        return c.connected;
}

bool broker_is_away(void *userdata)
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
        str_copy(t.last_message, sizeof t.last_message, text_of(value, "message"));
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

void make_broker(void)
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

int broker_setup(void **state)
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

int broker_teardown(void **state)
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

void connect_node(struct node *n, const char *id)
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

void say(struct node *n, enum topic_kind kind, const char *request, json_t *stolen, bool retain)
{
        _cleanup_free_ char *text = json_to_text(stolen);
        char topic[TOPIC_MAXIMUM];

        json_decref(stolen);
        topic_format(topic, kind, n->id, request);
        assert_int_equal(mqtt_publish(n->mqtt, topic, text, strlen(text), 1, retain, NULL), 0);
}

void say_status(struct node *n, bool online)
{
        struct wire_status s = {.online = online, .since_unix_ms = NOW, .version = "0.1.0"};

        say(n, TOPIC_STATUS, NULL, wire_status_to_json(&s), true);
}

void say_event(struct node *n, int64_t seq)
{
        struct wire_event e = {.epoch = "e-1",
                .seq = seq,
                .generated_unix_ms = NOW,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = (char *)"Repo connectivity failed",
                .severity = WIRE_ERROR};

        say(n, TOPIC_EVENT, NULL, wire_event_to_json(&e), false);
}

bool shown_connected(const char *id)
{
        int64_t connected = -1;

        db_query_integer(plane_store_db(t.w->store), NULL, -1, &connected,
                "SELECT connected FROM nodes WHERE id = ?", "s", id);
        return connected == 1;
}

void limit_pages(int64_t count)
{
        int64_t got;
        char text[64];

        if (count == 0)
                db_query_integer(plane_store_db(t.w->store), NULL, 0, &count, "PRAGMA page_count", "");
        snprintf(text, sizeof text, "PRAGMA max_page_count = %lld", (long long)count);
        db_query_integer(plane_store_db(t.w->store), NULL, 0, &got, text, "");
}
