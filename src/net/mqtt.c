#include "net/mqtt.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "net/mqtt_tls.h"

#include <errno.h>
#include <fcntl.h>
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

#define US_PER_MS 1000
#define US_PER_S  1000000

/* What surrounds a payload in its packet: topic, properties, lengths. */
#define PACKET_OVERHEAD_BYTES 1024
/* Of what waits for a peer that does not read, and of QoS 1 messages that the broker has not taken. */
#define UNSENT_MAXIMUM_BYTES ((size_t)16 << 20)
#define UNTAKEN_MAXIMUM      16384
/* libmosquitto wants to be asked whether it is time for a ping: so many times in a keepalive. */
#define LOOKS_PER_KEEPALIVE 20
#define SHORTEST_LOOK_US    (250 * US_PER_MS)
#define LOOK_ACCURACY_US    (100 * US_PER_MS)
/* What libmosquitto accepts. */
#define KEEPALIVE_MINIMUM_S 5
#define KEEPALIVE_MAXIMUM_S 65535

enum stage { STAGE_TCP, STAGE_TLS, STAGE_MQTT, STAGE_CONNECTED, STAGE_CLOSED };

struct mqtt {
        struct mosquitto *client; /* NULL once it is closed */
        struct mqtt_handlers handlers;
        struct error error; /* why it was closed */
        enum stage stage;
        /* A copy of the client's descriptor: it stays ours when libmosquitto closes its own, so that the
         * loop never watches a number that has become something else. */
        int fd;
        sd_event_source *io, *deadline, *look, *later;
        SSL_CTX *tls;
        char *peer; /* for messages */
        unsigned keepalive_s;
        double connect_timeout_ms;
        size_t maximum_message_bytes, unsent_bytes;
        char library_error[256]; /* the first that libmosquitto logged in this call */
        int reason;              /* of CONNACK or DISCONNECT */
        int early_number;        /* what the socket said before the loop could ask it */
        bool is_refused, is_accepted, is_told, broken;
        /* Calls into libmosquitto and the caller that are under way: what is freed meanwhile goes after. */
        unsigned depth;
        bool is_freed, is_freed_clean;
        uint8_t *untaken; /* a bit for each message id of QoS 1 under way; made by the first */
        size_t untaken_count;
};

/* ---- the end of a connection ---- */

static void drop_sources(struct mqtt *m)
{
        m->io = sd_event_source_disable_unref(m->io);
        m->deadline = sd_event_source_disable_unref(m->deadline);
        m->look = sd_event_source_disable_unref(m->look);
        m->later = sd_event_source_disable_unref(m->later);
}

static void hang_up(struct mqtt *m)
{
        drop_sources(m);
        mosquitto_destroy(m->client);
        m->client = NULL;
        if (m->fd >= 0)
                close(m->fd);
        m->fd = -1;
        m->stage = STAGE_CLOSED;
}

static void destroy(struct mqtt *m)
{
        if (m->client && m->stage == STAGE_CONNECTED)
                mosquitto_disconnect_v5(
                        m->client, m->is_freed_clean ? 0 : MQTT_RC_DISCONNECT_WITH_WILL_MSG, NULL);
        hang_up(m);
        SSL_CTX_free(m->tls);
        free(m->untaken);
        free(m->peer);
        free(m);
}

static void enter(struct mqtt *m)
{
        m->depth++;
        m->library_error[0] = 0;
}

static void leave(struct mqtt *m)
{
        if (--m->depth == 0 && m->is_freed)
                destroy(m);
}

struct mqtt *mqtt_free(struct mqtt *m, bool clean)
{
        if (!m)
                return NULL;
        m->is_freed = true;
        m->is_freed_clean = clean;
        if (m->depth == 0)
                destroy(m);
        return NULL;
}

static void close_with(struct mqtt *m, int number, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
static void close_with(struct mqtt *m, int number, const char *code, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;

        if (m->stage == STAGE_CLOSED)
                return;
        va_start(arguments, format);
        text = xvasprintf(format, arguments);
        va_end(arguments);
        error_set(&m->error, number, code, "%s: %s", m->peer, text);
        hang_up(m);
}

/* Tells the end, once. */
static void tell(struct mqtt *m)
{
        if (m->stage != STAGE_CLOSED || m->is_told || m->is_freed)
                return;
        m->is_told = true;
        m->handlers.on_closed(&m->error, m->handlers.userdata);
}

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
                .length = (size_t)message->payloadlen,
                .retained = message->retain};

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
                m->handlers.on_published(message_id, m->handlers.userdata);
}

/* ---- failures ---- */

/* Why TLS ended, in the words of whoever knows most. */
static const char *tls_reason(const struct mqtt *m, int number)
{
        const char *problem = m->tls ? mqtt_tls_problem(m->tls) : NULL;

        if (problem)
                return problem;
        if (m->library_error[0])
                return m->library_error;
        /* EPROTO is what libmosquitto makes of every failure of SSL_read and SSL_write. */
        return number && number != EPROTO ? strerror(number) : "the peer closed it";
}

/* A call of libmosquitto failed; `number` is the errno that it left. */
static void close_for(struct mqtt *m, int rc, int number)
{
        if (m->is_refused)
                close_with(m, ECONNREFUSED, "mqtt.refused", "the broker refused the connection: %s",
                        mosquitto_reason_string(m->reason));
        else if (m->stage == STAGE_TLS)
                close_with(m, EPROTO, "mqtt.tls", "TLS handshake failed: %s", tls_reason(m, number));
        else if (m->stage == STAGE_MQTT && m->tls && m->library_error[0])
                /* TLS 1.3: a server that does not like our certificate says so after the handshake. */
                close_with(m, EPROTO, "mqtt.tls", "TLS was refused: %s", tls_reason(m, number));
        else if (rc == MOSQ_ERR_KEEPALIVE)
                close_with(m, ETIMEDOUT, "mqtt.lost", "nothing was heard from the broker for %u s",
                        2 * m->keepalive_s);
        else if (rc == 0)
                close_with(m, ECONNRESET, m->stage == STAGE_MQTT ? "mqtt.refused" : "mqtt.lost",
                        "the broker ended the connection: %s", mosquitto_reason_string(m->reason));
        else
                close_with(m, number ? number : ECONNRESET,
                        m->stage == STAGE_MQTT ? "mqtt.refused" : "mqtt.lost", "the connection ended%s: %s",
                        m->stage == STAGE_MQTT ? " before the broker answered" : "",
                        m->library_error[0]              ? m->library_error
                        : rc == MOSQ_ERR_ERRNO && number ? strerror(number)
                                                         : mosquitto_strerror(rc));
}

/* Whether the connection is still there after a call of libmosquitto. */
static bool survives(struct mqtt *m, int rc, int number)
{
        if (m->stage == STAGE_CLOSED)
                return false;
        if (rc == MOSQ_ERR_SUCCESS && mosquitto_socket(m->client) >= 0)
                return true;
        close_for(m, rc, number);
        return false;
}

/* ---- input and output ---- */

static bool in_handshake(const struct mqtt *m)
{
        return m->stage == STAGE_TLS;
}

/* Writes what waits, as far as the peer takes it, and has the loop wait for the rest. mosquitto_want_write()
 * alone says too much: with TLS it stays true while only the peer's turn is waited for. */
static void flush(struct mqtt *m)
{
        SSL *ssl = mosquitto_ssl_get(m->client);
        uint32_t wanted = EPOLLIN;
        int rc = MOSQ_ERR_SUCCESS;

        if (m->stage >= STAGE_MQTT && mosquitto_want_write(m->client)) {
                errno = 0;
                rc = mosquitto_loop_write(m->client, 1);
                if (!survives(m, rc, errno))
                        return;
        }
        if (m->stage == STAGE_TCP || (in_handshake(m) && SSL_want_write(ssl)) ||
                (m->stage >= STAGE_MQTT && mosquitto_want_write(m->client) && (!ssl || SSL_want_write(ssl))))
                wanted |= EPOLLOUT;
        else
                m->unsent_bytes = 0;
        sd_event_source_set_io_events(m->io, wanted);
        /* Decrypted bytes that are in memory already do not make the descriptor readable. */
        if (ssl && m->stage >= STAGE_MQTT && SSL_pending(ssl) > 0)
                sd_event_source_set_enabled(m->later, SD_EVENT_ONESHOT);
}

static void tcp_is_done(struct mqtt *m, uint32_t events)
{
        socklen_t length = sizeof(int);
        int number = 0;

        if (getsockopt(m->fd, SOL_SOCKET, SO_ERROR, &number, &length) < 0)
                number = errno;
        if (number == 0 && events & EPOLLHUP)
                number = m->early_number ? m->early_number : ECONNRESET;
        if (number)
                close_with(m, number, "mqtt.tcp", "TCP connection failed: %s", strerror(number));
        else if (events & EPOLLOUT)
                m->stage = m->tls ? STAGE_TLS : STAGE_MQTT;
}

static void shake_hands(struct mqtt *m, uint32_t events)
{
        int rc, number;

        errno = 0;
        rc = mosquitto_loop_read(m->client, 1); /* SSL_connect */
        number = errno;
        if (!survives(m, rc, number))
                return;
        if (SSL_is_init_finished(mosquitto_ssl_get(m->client)))
                m->stage = STAGE_MQTT;
        else if (events & (EPOLLERR | EPOLLHUP)) /* which libmosquitto would overlook for ever */
                close_for(m, MOSQ_ERR_CONN_LOST, number == EAGAIN ? ECONNRESET : number);
}

static void receive(struct mqtt *m)
{
        int rc;

        errno = 0;
        rc = mosquitto_loop_read(m->client, 1);
        survives(m, rc, errno);
}

static void welcome(struct mqtt *m)
{
        m->stage = STAGE_CONNECTED;
        m->deadline = sd_event_source_disable_unref(m->deadline);
        sd_event_source_set_enabled(m->look, SD_EVENT_ON);
        if (!m->is_freed && m->handlers.on_connected)
                m->handlers.on_connected(m->handlers.userdata);
}

/* What follows from whatever was done, and the way out of every event. */
static void settle(struct mqtt *m)
{
        if (m->is_accepted && m->stage == STAGE_MQTT)
                welcome(m);
        if (m->stage != STAGE_CLOSED && !m->is_freed)
                flush(m);
        tell(m);
        leave(m);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct mqtt *m = userdata;

        (void)source, (void)fd;
        enter(m);
        if (m->stage == STAGE_TCP)
                tcp_is_done(m, events);
        if (in_handshake(m))
                shake_hands(m, events);
        else if (m->stage != STAGE_TCP && m->stage != STAGE_CLOSED && events & ~(uint32_t)EPOLLOUT)
                receive(m);
        settle(m);
        return 0;
}

/* ---- timers ---- */

static int on_deadline(sd_event_source *source, uint64_t now_us, void *userdata)
{
        static const char *const missing[] = {[STAGE_TCP] = "TCP did not connect",
                [STAGE_TLS] = "the TLS handshake was not completed",
                [STAGE_MQTT] = "the broker did not answer CONNECT"};
        struct mqtt *m = userdata;

        (void)source, (void)now_us;
        enter(m);
        close_with(m, ETIMEDOUT, "mqtt.timeout", "%s within %.3g s", missing[m->stage],
                m->connect_timeout_ms / 1000);
        settle(m);
        return 0;
}

static uint64_t look_interval_us(const struct mqtt *m)
{
        uint64_t us = (uint64_t)m->keepalive_s * US_PER_S / LOOKS_PER_KEEPALIVE;

        return us > SHORTEST_LOOK_US ? us : SHORTEST_LOOK_US;
}

/* Pings, and notices that nothing has come for too long. */
static int on_look(sd_event_source *source, uint64_t now_us, void *userdata)
{
        struct mqtt *m = userdata;
        int rc;

        (void)now_us;
        enter(m);
        sd_event_source_set_time_relative(source, look_interval_us(m));
        errno = 0;
        rc = mosquitto_loop_misc(m->client);
        survives(m, rc, errno);
        settle(m);
        return 0;
}

/* Bytes that TLS has decrypted already, a connection that was found broken while publishing, one that never
 * began. */
static int on_later(sd_event_source *source, void *userdata)
{
        struct mqtt *m = userdata;

        (void)source;
        enter(m);
        if (m->broken)
                close_for(m, MOSQ_ERR_CONN_LOST, 0);
        else if (m->stage != STAGE_CLOSED)
                receive(m);
        settle(m);
        return 0;
}

static int add_sources(struct mqtt *m, sd_event *event, int priority)
{
        uint64_t timeout_us = (uint64_t)(m->connect_timeout_ms * US_PER_MS);
        int r = sd_event_add_defer(event, &m->later, on_later, m);

        if (r >= 0 && m->stage != STAGE_CLOSED)
                r = sd_event_source_set_enabled(m->later, SD_EVENT_OFF);
        if (r >= 0 && m->stage != STAGE_CLOSED)
                r = sd_event_add_io(event, &m->io, m->fd, EPOLLIN | EPOLLOUT, on_io, m);
        if (r >= 0 && m->stage != STAGE_CLOSED)
                r = sd_event_add_time_relative(
                        event, &m->deadline, CLOCK_MONOTONIC, timeout_us, 1, on_deadline, m);
        if (r >= 0 && m->stage != STAGE_CLOSED)
                r = sd_event_add_time_relative(
                        event, &m->look, CLOCK_MONOTONIC, look_interval_us(m), LOOK_ACCURACY_US, on_look, m);
        if (r < 0)
                return r;
        sd_event_source_set_priority(m->later, priority);
        if (m->stage == STAGE_CLOSED)
                return 0;
        sd_event_source_set_enabled(m->look, SD_EVENT_OFF);
        sd_event_source_set_priority(m->io, priority);
        sd_event_source_set_priority(m->deadline, priority);
        sd_event_source_set_priority(m->look, priority);
        return 0;
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
                close_with(m, EPROTO, "mqtt.tls", "TLS handshake failed: %s", tls_reason(m, number));
        else if (rc != MOSQ_ERR_SUCCESS)
                close_with(m, number ? number : EIO, "mqtt.tcp", "%s failed: %s",
                        o->unix_path ? "the connection" : "TCP connection",
                        rc == MOSQ_ERR_ERRNO && number ? strerror(number) : mosquitto_strerror(rc));
        if (m->stage == STAGE_CLOSED)
                return;
        /* libmosquitto does not: children must not get it. */
        fcntl(mosquitto_socket(m->client), F_SETFD, FD_CLOEXEC);
        m->fd = fcntl(mosquitto_socket(m->client), F_DUPFD_CLOEXEC, 3);
        if (m->fd < 0)
                close_with(m, errno, "mqtt.tcp", "%s", strerror(errno));
        else if (has_sent(m) || getpeername(m->fd, (struct sockaddr *)&peer, &length) == 0)
                m->stage = m->tls ? STAGE_TLS : STAGE_MQTT;
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
                r = add_sources(m, event, o->priority);
                if (r < 0)
                        error_set(ret_error, -r, "mqtt.tcp", "%s: %s", m->peer, strerror(-r));
        }
        if (r < 0) {
                destroy(m);
                return r;
        }
        *ret = m;
        return 0;
}

/* ---- using it ---- */

bool mqtt_is_connected(const struct mqtt *m)
{
        return m && m->stage == STAGE_CONNECTED && !m->is_freed && !m->broken;
}

void mqtt_local_address(const struct mqtt *m, struct inet_addr *ret)
{
        struct sockaddr_storage own = {0};
        socklen_t length = sizeof own;
        struct endpoint e = {0};

        if (m->fd >= 0 && getsockname(m->fd, (struct sockaddr *)&own, &length) == 0)
                endpoint_from_sockaddr((struct sockaddr *)&own, &e);
        *ret = e.address;
}

/* libmosquitto's results as ours; what says that the connection is gone is told from the loop. */
static int result_of(struct mqtt *m, int rc)
{
        switch (rc) {
        case MOSQ_ERR_SUCCESS:
                return 0;
        case MOSQ_ERR_PAYLOAD_SIZE:
        case MOSQ_ERR_OVERSIZE_PACKET:
                return -EMSGSIZE;
        case MOSQ_ERR_NO_CONN:
        case MOSQ_ERR_CONN_LOST:
        case MOSQ_ERR_ERRNO:
        case MOSQ_ERR_TLS:
                m->broken = true;
                sd_event_source_set_enabled(m->later, SD_EVENT_ONESHOT);
                return -ENOTCONN;
        case MOSQ_ERR_NOMEM:
                return -ENOMEM;
        default:
                return -EINVAL;
        }
}

/* Something was handed to libmosquitto, which wrote it as far as the peer takes it, or writes it when the
 * callback that we are in returns. */
static void queued(struct mqtt *m, size_t length)
{
        if (!mosquitto_want_write(m->client))
                return;
        m->unsent_bytes += length;
        sd_event_source_set_io_events(m->io, EPOLLIN | EPOLLOUT);
}

int mqtt_publish(struct mqtt *m, const char *topic, const void *payload, size_t length, int qos, bool retain,
        int *ret_message_id)
{
        int id = 0, r;

        if (!mqtt_is_connected(m))
                return -ENOTCONN;
        if (length > MQTT_MAX_PAYLOAD)
                return -EMSGSIZE;
        if (m->unsent_bytes + length > UNSENT_MAXIMUM_BYTES ||
                (qos > 0 && m->untaken_count >= UNTAKEN_MAXIMUM))
                return -ENOBUFS;
        r = result_of(
                m, mosquitto_publish_v5(m->client, &id, topic, (int)length, payload, qos, retain, NULL));
        if (r < 0)
                return r;
        if (qos > 0) {
                unsigned at = (unsigned)id & 0xffff;

                if (!m->untaken)
                        m->untaken = xcalloc(65536 / 8, 1);
                m->untaken_count += !(m->untaken[at / 8] & (1U << (at % 8)));
                m->untaken[at / 8] |= (uint8_t)(1U << (at % 8));
        }
        queued(m, length);
        if (ret_message_id)
                *ret_message_id = id;
        return 0;
}

int mqtt_subscribe(struct mqtt *m, const char *filter, int qos)
{
        int r;

        if (!mqtt_is_connected(m))
                return -ENOTCONN;
        r = result_of(m, mosquitto_subscribe_v5(m->client, NULL, filter, qos, 0, NULL));
        if (r == 0)
                queued(m, 0);
        return r;
}

void mqtt_set_user_timeout(struct mqtt *m, unsigned timeout_ms)
{
        if (m->fd >= 0) /* a Unix socket has none, and says so */
                setsockopt(m->fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof timeout_ms);
}
