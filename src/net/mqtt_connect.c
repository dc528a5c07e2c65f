#include "net/mqtt_internal.h"

#include "base/alloc.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <mqtt_protocol.h>
#include <string.h>

/* What surrounds a payload in its packet: topic, properties, lengths. */
#define PACKET_OVERHEAD_BYTES 1024
/* What libmosquitto accepts. */
#define KEEPALIVE_MINIMUM_S 5
#define KEEPALIVE_MAXIMUM_S 65535

/* ---- what libmosquitto says ---- */

static void on_log(struct mosquitto *client, void *userdata, int level, const char *text)
{
        struct mqtt *m = userdata;
        const char *reason = strrchr(text, ':');

        (void)client;
        /* "OpenSSL Error[0]: error:0A000412:SSL routines::sslv3 alert bad certificate" */
        if (level == MOSQ_LOG_ERR && !m->library_error[0])
                str_copy(m->library_error, sizeof m->library_error, reason && reason[1] ? reason + 1 : text);
}

static void on_connect(
        struct mosquitto *client, void *userdata, int reason, int flags, const mosquitto_property *properties)
{
        struct mqtt *m = userdata;

        (void)client, (void)flags, (void)properties;
        m->is_accepted = reason == 0;
        m->is_refused = reason != 0;
        m->reason = reason;
}

static void on_disconnect(
        struct mosquitto *client, void *userdata, int reason, const mosquitto_property *properties)
{
        struct mqtt *m = userdata;

        (void)client, (void)properties;
        if (!m->is_refused)
                m->reason = reason;
}

static void on_message(struct mosquitto *client, void *userdata, const struct mosquitto_message *message,
        const mosquitto_property *properties)
{
        struct mqtt *m = userdata;
        struct mqtt_message told = {.topic = message->topic,
                .payload = message->payload ? message->payload : "",
                .length = (size_t)message->payloadlen};

        (void)client, (void)properties;
        /* The broker was told the limit in CONNECT; this is for one that does not keep to it. */
        if (m->is_freed || told.length > m->maximum_message_bytes)
                return;
        if (m->handlers.on_message)
                m->handlers.on_message(&told, m->handlers.userdata);
}

static void on_publish(struct mosquitto *client, void *userdata, int message_id, int reason,
        const mosquitto_property *properties)
{
        struct mqtt *m = userdata;
        unsigned id = (unsigned)message_id & 0xffff;
        uint8_t bit = (uint8_t)(1U << (id % 8));

        (void)client, (void)properties;
        if (!m->untaken || !(m->untaken[id / 8] & bit)) /* of QoS 0: it was written */
                return;
        m->untaken[id / 8] &= (uint8_t)~bit;
        m->untaken_count--;
        if (reason < 0x80 && !m->is_freed && m->handlers.on_published)
                m->handlers.on_published(
                        message_id, reason != MQTT_RC_NO_MATCHING_SUBSCRIBERS, m->handlers.userdata);
}

/* ---- connecting ---- */

/* The greatest packet that we take is a property of CONNECT, which only the call that waits for TCP accepts:
 * it keeps the properties and then refuses the port, before it connects anywhere. */
static int announce_limit(struct mqtt *m)
{
        mosquitto_property *properties = NULL;
        int rc = mosquitto_property_add_int32(&properties, MQTT_PROP_MAXIMUM_PACKET_SIZE,
                (uint32_t)(m->maximum_message_bytes + PACKET_OVERHEAD_BYTES));

        if (rc == MOSQ_ERR_SUCCESS) {
                rc = mosquitto_connect_bind_v5(m->client, "", -1, (int)m->keepalive_s, NULL, properties);
                rc = rc == MOSQ_ERR_INVAL ? MOSQ_ERR_SUCCESS : MOSQ_ERR_UNKNOWN;
        }
        mosquitto_property_free_all(&properties);
        return rc;
}

static int set_up_client(struct mqtt *m, const struct mqtt_options *o)
{
        int rc = mosquitto_int_option(m->client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);

        if (rc == MOSQ_ERR_SUCCESS && !o->unix_path)
                rc = mosquitto_int_option(m->client, MOSQ_OPT_TCP_NODELAY, 1);
        if (rc == MOSQ_ERR_SUCCESS && m->tls)
                rc = mosquitto_int_option(m->client, MOSQ_OPT_SSL_CTX_WITH_DEFAULTS, 0);
        if (rc == MOSQ_ERR_SUCCESS && m->tls)
                rc = mosquitto_void_option(m->client, MOSQ_OPT_SSL_CTX, m->tls);
        if (rc == MOSQ_ERR_SUCCESS && o->will_topic)
                rc = mosquitto_will_set_v5(m->client, o->will_topic, (int)strlen(o->will_payload),
                        o->will_payload, 1, true, NULL);
        if (rc == MOSQ_ERR_SUCCESS)
                rc = announce_limit(m);
        mosquitto_log_callback_set(m->client, on_log);
        mosquitto_connect_v5_callback_set(m->client, on_connect);
        mosquitto_disconnect_v5_callback_set(m->client, on_disconnect);
        mosquitto_message_v5_callback_set(m->client, on_message);
        mosquitto_publish_v5_callback_set(m->client, on_publish);
        return rc;
}

/* Whether TCP took any byte: then it was connected, whatever has become of it. */
static bool has_sent(const struct mqtt *m)
{
        SSL *ssl = mosquitto_ssl_get(m->client);

        return ssl ? BIO_number_written(SSL_get_wbio(ssl)) > 0 : !mosquitto_want_write(m->client);
}

/* Starts the connection. A literal address is not looked up; TCP and TLS go on in the loop. What fails at
 * once is told from there, too, so that callers know one way only. */
static void start(struct mqtt *m, const struct mqtt_options *o)
{
        char host[INET_ADDR_TEXT], source[INET_ADDR_TEXT];
        struct sockaddr_storage peer;
        socklen_t length = sizeof peer;
        int rc, number;

        inet_addr_format(&o->address.address, host);
        inet_addr_format(&o->source, source);
        errno = 0;
        rc = mosquitto_connect_bind_async(m->client, o->unix_path ? o->unix_path : host,
                o->unix_path ? 0 : o->address.port, (int)m->keepalive_s,
                inet_addr_is_set(&o->source) && !o->unix_path ? source : NULL);
        number = errno;
        if (rc == MOSQ_ERR_TLS || (m->tls && number == EPROTO)) /* on a fast way TLS may be over by now */
                mqtt_close_with(
                        m, EPROTO, "mqtt.tls", "TLS handshake failed: %s", mqtt_tls_reason(m, number));
        else if (rc != MOSQ_ERR_SUCCESS)
                mqtt_close_with(m, number ? number : EIO, "mqtt.tcp", "%s failed: %s",
                        o->unix_path ? "the connection" : "TCP connection",
                        rc == MOSQ_ERR_ERRNO && number ? strerror(number) : mosquitto_strerror(rc));
        if (m->stage == MQTT_STAGE_CLOSED)
                return;
        /* libmosquitto does not: children must not get it. */
        fcntl(mosquitto_socket(m->client), F_SETFD, FD_CLOEXEC);
        m->fd = fcntl(mosquitto_socket(m->client), F_DUPFD_CLOEXEC, 3);
        if (m->fd < 0)
                mqtt_close_with(m, errno, "mqtt.tcp", "%s", strerror(errno));
        else if (has_sent(m) || getpeername(m->fd, (struct sockaddr *)&peer, &length) == 0)
                m->stage = m->tls ? MQTT_STAGE_TLS : MQTT_STAGE_MQTT;
        else
                m->early_number = number == EAGAIN || number == EINPROGRESS ? 0 : number;
}

static int check_options(const struct mqtt_options *o, struct error *ret_error)
{
        if (!o->unix_path && (!inet_addr_is_set(&o->address.address) || o->address.port == 0))
                return error_set(ret_error, EINVAL, "mqtt.tcp", "no address to connect to");
        if (o->keepalive_s < KEEPALIVE_MINIMUM_S || o->keepalive_s > KEEPALIVE_MAXIMUM_S)
                return error_set(ret_error, EINVAL, "mqtt.tcp", "a keepalive is from %d to %d s, not %u",
                        KEEPALIVE_MINIMUM_S, KEEPALIVE_MAXIMUM_S, o->keepalive_s);
        return 0;
}

int mqtt_connect(sd_event *event, const struct mqtt_options *o, const struct mqtt_handlers *h,
        struct mqtt **ret, struct error *ret_error)
{
        char peer[INET_ADDR_TEXT];
        struct mqtt *m;
        int r = check_options(o, ret_error);

        if (r < 0)
                return r;
        mosquitto_lib_init();
        m = xcalloc(1, sizeof *m);
        m->handlers = *h;
        m->fd = -1;
        m->peer = xstrdup(o->unix_path ? o->unix_path : endpoint_format(&o->address, peer));
        m->keepalive_s = o->keepalive_s;
        m->connect_timeout_ms = o->connect_timeout_ms;
        m->maximum_message_bytes = o->maximum_message_bytes;
        m->tls = o->tls && SSL_CTX_up_ref(o->tls) ? o->tls : NULL;
        m->client = mosquitto_new(o->client_id, true, m);
        if (!m->client || set_up_client(m, o) != MOSQ_ERR_SUCCESS)
                r = error_set(ret_error, EINVAL, "mqtt.tcp", "%s: libmosquitto does not take the settings",
                        m->peer);
        if (r == 0) {
                start(m, o);
                r = mqtt_add_sources(m, event, o->priority);
                if (r < 0)
                        error_set(ret_error, -r, "mqtt.tcp", "%s: %s", m->peer, strerror(-r));
        }
        if (r < 0) {
                mqtt_destroy(m);
                return r;
        }
        *ret = m;
        return 0;
}
