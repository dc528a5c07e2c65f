#include "net/mqtt_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

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

/* Of what waits for a peer that does not read, and of QoS 1 messages that the broker has not taken. */
#define UNSENT_MAXIMUM_BYTES ((size_t)16 << 20)
#define UNTAKEN_MAXIMUM      16384
/* libmosquitto wants to be asked whether it is time for a ping: so many times in a keepalive. */
#define LOOKS_PER_KEEPALIVE 20
#define SHORTEST_LOOK_US    (250 * US_PER_MS)
#define LOOK_ACCURACY_US    (100 * US_PER_MS)

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
        m->stage = MQTT_STAGE_CLOSED;
}

void mqtt_destroy(struct mqtt *m)
{
        if (m->client && m->stage == MQTT_STAGE_CONNECTED)
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
                mqtt_destroy(m);
}

struct mqtt *mqtt_free(struct mqtt *m, bool clean)
{
        if (!m)
                return NULL;
        m->is_freed = true;
        m->is_freed_clean = clean;
        if (m->depth == 0)
                mqtt_destroy(m);
        return NULL;
}

void mqtt_close_with(struct mqtt *m, int number, const char *code, const char *format, ...)
{
        _cleanup_free_ char *text = NULL;
        va_list arguments;

        if (m->stage == MQTT_STAGE_CLOSED)
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
        if (m->stage != MQTT_STAGE_CLOSED || m->is_told || m->is_freed)
                return;
        m->is_told = true;
        m->handlers.on_closed(&m->error, m->handlers.userdata);
}

/* ---- failures ---- */

/* Why TLS ended, in the words of whoever knows most. */
const char *mqtt_tls_reason(const struct mqtt *m, int number)
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
                mqtt_close_with(m, ECONNREFUSED, "mqtt.refused", "the broker refused the connection: %s",
                        mosquitto_reason_string(m->reason));
        else if (m->stage == MQTT_STAGE_TLS)
                mqtt_close_with(
                        m, EPROTO, "mqtt.tls", "TLS handshake failed: %s", mqtt_tls_reason(m, number));
        else if (m->stage == MQTT_STAGE_MQTT && m->tls && m->library_error[0])
                /* TLS 1.3: a server that does not like our certificate says so after the handshake. */
                mqtt_close_with(m, EPROTO, "mqtt.tls", "TLS was refused: %s", mqtt_tls_reason(m, number));
        else if (rc == MOSQ_ERR_KEEPALIVE)
                mqtt_close_with(m, ETIMEDOUT, "mqtt.lost", "nothing was heard from the broker for %u s",
                        2 * m->keepalive_s);
        else if (rc == 0)
                mqtt_close_with(m, ECONNRESET, m->stage == MQTT_STAGE_MQTT ? "mqtt.refused" : "mqtt.lost",
                        "the broker ended the connection: %s", mosquitto_reason_string(m->reason));
        else
                mqtt_close_with(m, number ? number : ECONNRESET,
                        m->stage == MQTT_STAGE_MQTT ? "mqtt.refused" : "mqtt.lost",
                        "the connection ended%s: %s",
                        m->stage == MQTT_STAGE_MQTT ? " before the broker answered" : "",
                        m->library_error[0]              ? m->library_error
                        : rc == MOSQ_ERR_ERRNO && number ? strerror(number)
                                                         : mosquitto_strerror(rc));
}

/* Whether the connection is still there after a call of libmosquitto. */
static bool survives(struct mqtt *m, int rc, int number)
{
        if (m->stage == MQTT_STAGE_CLOSED)
                return false;
        if (rc == MOSQ_ERR_SUCCESS && mosquitto_socket(m->client) >= 0)
                return true;
        close_for(m, rc, number);
        return false;
}

/* ---- input and output ---- */

static bool in_handshake(const struct mqtt *m)
{
        return m->stage == MQTT_STAGE_TLS;
}

/* Writes what waits, as far as the peer takes it, and has the loop wait for the rest. mosquitto_want_write()
 * alone says too much: with TLS it stays true while only the peer's turn is waited for. */
static void flush(struct mqtt *m)
{
        SSL *ssl = mosquitto_ssl_get(m->client);
        uint32_t wanted = EPOLLIN;
        int rc = MOSQ_ERR_SUCCESS;

        if (m->stage >= MQTT_STAGE_MQTT && mosquitto_want_write(m->client)) {
                errno = 0;
                rc = mosquitto_loop_write(m->client, 1);
                if (!survives(m, rc, errno))
                        return;
        }
        if (m->stage == MQTT_STAGE_TCP || (in_handshake(m) && SSL_want_write(ssl)) ||
                (m->stage >= MQTT_STAGE_MQTT && mosquitto_want_write(m->client) &&
                        (!ssl || SSL_want_write(ssl))))
                wanted |= EPOLLOUT;
        else
                m->unsent_bytes = 0;
        sd_event_source_set_io_events(m->io, wanted);
        /* Decrypted bytes that are in memory already do not make the descriptor readable. */
        if (ssl && m->stage >= MQTT_STAGE_MQTT && SSL_pending(ssl) > 0)
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
                mqtt_close_with(m, number, "mqtt.tcp", "TCP connection failed: %s", strerror(number));
        else if (events & EPOLLOUT)
                m->stage = m->tls ? MQTT_STAGE_TLS : MQTT_STAGE_MQTT;
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
                m->stage = MQTT_STAGE_MQTT;
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
        m->stage = MQTT_STAGE_CONNECTED;
        m->deadline = sd_event_source_disable_unref(m->deadline);
        sd_event_source_set_enabled(m->look, SD_EVENT_ON);
        if (!m->is_freed && m->handlers.on_connected)
                m->handlers.on_connected(m->handlers.userdata);
}

/* What follows from whatever was done, and the way out of every event. */
static void settle(struct mqtt *m)
{
        if (m->is_accepted && m->stage == MQTT_STAGE_MQTT)
                welcome(m);
        if (m->stage != MQTT_STAGE_CLOSED && !m->is_freed)
                flush(m);
        tell(m);
        leave(m);
}

static int on_io(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct mqtt *m = userdata;

        (void)source, (void)fd;
        enter(m);
        if (m->stage == MQTT_STAGE_TCP)
                tcp_is_done(m, events);
        if (in_handshake(m))
                shake_hands(m, events);
        else if (m->stage != MQTT_STAGE_TCP && m->stage != MQTT_STAGE_CLOSED && events & ~(uint32_t)EPOLLOUT)
                receive(m);
        settle(m);
        return 0;
}

/* ---- timers ---- */

static int on_deadline(sd_event_source *source, uint64_t now_us, void *userdata)
{
        static const char *const missing[] = {[MQTT_STAGE_TCP] = "TCP did not connect",
                [MQTT_STAGE_TLS] = "the TLS handshake was not completed",
                [MQTT_STAGE_MQTT] = "the broker did not answer CONNECT"};
        struct mqtt *m = userdata;

        (void)source, (void)now_us;
        enter(m);
        mqtt_close_with(m, ETIMEDOUT, "mqtt.timeout", "%s within %.3g s", missing[m->stage],
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
        else if (m->stage != MQTT_STAGE_CLOSED)
                receive(m);
        settle(m);
        return 0;
}

int mqtt_add_sources(struct mqtt *m, sd_event *event, int priority)
{
        uint64_t timeout_us = (uint64_t)(m->connect_timeout_ms * US_PER_MS);
        int r = sd_event_add_defer(event, &m->later, on_later, m);

        if (r >= 0 && m->stage != MQTT_STAGE_CLOSED)
                r = sd_event_source_set_enabled(m->later, SD_EVENT_OFF);
        if (r >= 0 && m->stage != MQTT_STAGE_CLOSED)
                r = sd_event_add_io(event, &m->io, m->fd, EPOLLIN | EPOLLOUT, on_io, m);
        if (r >= 0 && m->stage != MQTT_STAGE_CLOSED)
                r = sd_event_add_time_relative(
                        event, &m->deadline, CLOCK_MONOTONIC, timeout_us, 1, on_deadline, m);
        if (r >= 0 && m->stage != MQTT_STAGE_CLOSED)
                r = sd_event_add_time_relative(
                        event, &m->look, CLOCK_MONOTONIC, look_interval_us(m), LOOK_ACCURACY_US, on_look, m);
        if (r < 0)
                return r;
        sd_event_source_set_priority(m->later, priority);
        if (m->stage == MQTT_STAGE_CLOSED)
                return 0;
        sd_event_source_set_enabled(m->look, SD_EVENT_OFF);
        sd_event_source_set_priority(m->io, priority);
        sd_event_source_set_priority(m->deadline, priority);
        sd_event_source_set_priority(m->look, priority);
        return 0;
}

/* ---- using it ---- */

bool mqtt_is_connected(const struct mqtt *m)
{
        return m && m->stage == MQTT_STAGE_CONNECTED && !m->is_freed && !m->broken;
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
