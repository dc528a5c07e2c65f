#include "plane/broker_target.h"

#include "base/cleanup.h"
#include "wire/wire.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

#define KEEPALIVE_S 15
#define CONNECT_MS  10000

static int look_up(const struct plane_settings *s, struct broker_target *t, struct error *ret_error)
{
        static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
        struct addrinfo *found = NULL;
        int r = getaddrinfo(s->broker_host, NULL, &hints, &found);

        if (r != 0)
                return error_set(ret_error, EHOSTUNREACH, "broker.host",
                        "%s: the broker's host %s cannot be looked up: %s", s->config_path, s->broker_host,
                        gai_strerror(r));
        for (const struct addrinfo *a = found; a && t->count < ELEMENTS(t->addresses); a = a->ai_next) {
                struct endpoint *e = &t->addresses[t->count];

                endpoint_from_sockaddr(a->ai_addr, e);
                e->port = s->broker_port;
                if (inet_addr_is_set(&e->address))
                        t->count++;
        }
        freeaddrinfo(found);
        if (t->count == 0)
                return error_set(ret_error, EHOSTUNREACH, "broker.host",
                        "%s: the broker's host %s has no address", s->config_path, s->broker_host);
        return 0;
}

int broker_target_init(const struct plane_settings *s, struct broker_target *ret, struct error *ret_error)
{
        struct broker_target t = {.unix_path = s->broker_url ? NULL : s->broker_socket,
                .takes_client_id = !s->broker_url || s->broker_nodes_host};
        int r = 0;

        if (s->broker_url) {
                r = look_up(s, &t, ret_error);
                if (r >= 0)
                        r = mqtt_tls_context(s->broker_root_ca, s->broker_host, s->broker_certificate,
                                s->broker_key, &t.tls, ret_error);
        }
        if (r >= 0)
                *ret = t;
        return r;
}

void broker_target_done(struct broker_target *t)
{
        SSL_CTX_free(t->tls);
        t->tls = NULL;
}

int broker_target_connect(struct broker_target *t, sd_event *event, const char *client_id,
        const struct mqtt_handlers *h, struct mqtt **ret, struct error *ret_error)
{
        struct mqtt_options o = {.client_id = client_id,
                .unix_path = t->unix_path,
                .keepalive_s = KEEPALIVE_S,
                .connect_timeout_ms = CONNECT_MS,
                .maximum_message_bytes = WIRE_MESSAGE_MAXIMUM};

        if (!t->unix_path) {
                o.address = t->addresses[t->next++ % t->count];
                o.tls = t->tls;
        }
        return mqtt_connect(event, &o, h, ret, ret_error);
}
