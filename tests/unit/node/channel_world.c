#include "channel_world.h"

#include "base/alloc.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

const char acl[] = "pattern write node/%u/status\n"
                   "pattern write node/%u/event\n"
                   "pattern write node/%u/report\n"
                   "pattern write node/%u/config/applied\n"
                   "pattern write node/%u/out/#\n"
                   "pattern read node/%u/ack\n"
                   "pattern read node/%u/config\n"
                   "pattern read node/%u/request\n";

sd_event *event;
pid_t broker;
struct store *store;
struct channel *channel;
struct said said;
struct plane plane;

/* ---- the plane ---- */

static void on_plane_connected(void *userdata)
{
        (void)userdata;
        plane.connected = true;
        mqtt_subscribe(plane.mqtt, "node/#", 1);
}

void on_plane_closed(const struct error *e, void *userdata)
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
                snprintf(plane.status, sizeof plane.status, "%.*s", length, (const char *)m->payload);
                plane.goodbyes += strstr(plane.status, "gridnode was stopped") != NULL;
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

void connect_plane(void)
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

void publish(const char *topic, const char *payload)
{
        assert_int_equal(mqtt_publish(plane.mqtt, topic, payload, strlen(payload), 1, false, NULL), 0);
}

void acknowledge(const char *epoch, int64_t first, int64_t last, bool refuse)
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

void assert_seqs(int64_t first, int64_t last)
{
        struct text t = {0};

        for (int64_t seq = first; seq <= last; seq++)
                text_addf(&t, "%lld ", (long long)seq);
        assert_string_equal(text_string(&plane.seqs), text_string(&t));
        text_done(&t);
}

void forget_seqs(void)
{
        text_done(&plane.seqs);
        plane.records = 0;
}

void wait_for_records(unsigned count)
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

struct channel_options options(void)
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

void make_channel(const struct channel_options *o)
{
        struct channel_handlers h = {on_resolve, on_attempt, on_state, on_message, NULL};

        channel = channel_new(o, &h);
}

void set_addresses(const char *list)
{
        struct inet_addr addresses[16];
        struct strv words = {0};

        strv_split(&words, list, ' ');
        for (size_t i = 0; i < words.count; i++)
                assert_int_equal(inet_addr_parse(words.items[i], &addresses[i]), 0);
        channel_set_addresses(channel, addresses, words.count);
        strv_done(&words);
}

void connect_channel(void)
{
        struct channel_options o = options();

        make_channel(&o);
        set_addresses("198.51.100.1");
        channel_start(channel);
        if (!broker_loop(event, &said.connected, 10000))
                fail_msg("%s", said.attempt_error.text);
}

void add_events(unsigned count)
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

void publish_status(const char *version)
{
        json_t *j = json_pack("{s:i,s:b,s:s}", "schema", 1, "online", 1, "version", version);

        assert_int_equal(channel_publish(channel, TOPIC_STATUS, NULL, j), 0);
        json_decref(j);
}

enum channel_state state_now(void)
{
        struct channel_view v;

        channel_view(channel, &v);
        return v.state;
}

int set_up(void **state)
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

int tear_down(void **state)
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
