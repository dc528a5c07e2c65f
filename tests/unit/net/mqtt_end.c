#include "mqtt_end.h"

#include "../scaffold.h"
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

#include <setjmp.h>

#include <cmocka.h>

sd_event *end_event;
pid_t end_broker;
static pid_t nginx;
static unsigned descriptors;

int end_set_up(void **state)
{
        broker_set_up(state);
        end_broker = broker_start(NULL);
        assert_int_equal(sd_event_new(&end_event), 0);
        broker_wait(end_event, 10);
        descriptors = scaffold_count_descriptors();
        return 0;
}

int end_set_up_with_nginx(void **state)
{
        int r = end_set_up(state);

        nginx = broker_start_nginx();
        return r;
}

int end_tear_down(void **state)
{
        sd_event_unref(end_event);
        broker_stop(nginx, SIGTERM);
        broker_stop(end_broker, SIGTERM);
        return broker_tear_down(state);
}

void end_test_nothing_left(void **state)
{
        (void)state;
        assert_true(scaffold_count_descriptors() <= descriptors + 1); /* the loop's clock */
        assert_true(broker_longest_ms < LONGEST_MS);
}

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
        snprintf(e->last, sizeof e->last, "%.*s", (int)(m->length < 60 ? m->length : 60),
                (const char *)m->payload);
        str_copy(e->last_topic, sizeof e->last_topic, m->topic);
        if (e->free_on_message)
                e->mqtt = mqtt_free(e->mqtt, true);
}

static void on_published(int message_id, bool is_heard, void *userdata)
{
        struct end *e = userdata;

        assert_true(message_id > 0);
        e->published = true;
        e->publications++;
        e->is_heard = is_heard;
}

struct mqtt_handlers end_handlers(struct end *e)
{
        return (struct mqtt_handlers){on_connected, on_closed, on_message, on_published, e};
}

struct mqtt_options end_options_unix(const char *id)
{
        return (struct mqtt_options){.client_id = id,
                .unix_path = broker_path("broker.sock"),
                .keepalive_s = 60,
                .connect_timeout_ms = 5000,
                .maximum_message_bytes = 10000};
}

struct mqtt_options end_options_tcp(const char *address, uint16_t port)
{
        struct mqtt_options o = {.client_id = "n-1",
                .address.port = port,
                .keepalive_s = 60,
                .connect_timeout_ms = 5000,
                .maximum_message_bytes = 10000};

        assert_int_equal(inet_addr_parse(address, &o.address.address), 0);
        return o;
}

void end_open(struct end *e, const struct mqtt_options *o)
{
        struct mqtt_handlers h = end_handlers(e);
        struct error error = {0};

        if (mqtt_connect(end_event, o, &h, &e->mqtt, &error) < 0)
                fail_msg("%s", error.text);
        assert_false(e->connected || e->closed);
        assert_false(mqtt_is_connected(e->mqtt));
}

void end_connect(struct end *e, const struct mqtt_options *o)
{
        end_open(e, o);
        if (!broker_loop(end_event, &e->connected, 10000))
                fail_msg("not connected: %s", e->error.text);
        assert_false(e->closed);
}

void end_assert_fails(const struct mqtt_options *o, double within_ms, const char *code, const char *words)
{
        struct end e = {0};

        end_open(&e, o);
        assert_true(broker_loop(end_event, &e.closed, within_ms));
        assert_false(e.connected);
        assert_int_equal(e.closings, 1);
        if (strcmp(e.error.code, code) != 0 || !strstr(e.error.text, words))
                fail_msg("%s: '%s' is not %s: '%s'", e.error.code, e.error.text, code, words);
}

void end_subscribe(struct end *e, const char *filter)
{
        assert_int_equal(mqtt_subscribe(e->mqtt, filter, 1), 0);
        broker_wait(end_event, 100);
}

void end_publish(struct end *e, const char *topic, const char *payload, bool retain)
{
        int id = 0;

        e->published = false;
        assert_int_equal(mqtt_publish(e->mqtt, topic, payload, strlen(payload), 1, retain, &id), 0);
        assert_true(id > 0);
        assert_false(e->published); /* nothing is called from within */
        assert_true(broker_loop(end_event, &e->published, 5000));
}

SSL_CTX *end_context(const char *root, const char *host, const char *name)
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
