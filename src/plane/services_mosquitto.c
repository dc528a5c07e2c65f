/* mosquitto: nodes by mutual TLS on loopback, behind the splitter; the plane on a Unix socket. */
#include "plane/services_internal.h"

#include "base/cleanup.h"
#include "base/text.h"

/* A node's keepalive is 30 s; who asks for more than this is told this (MQTT 5, 3.2.2.3.14). */
#define MAX_KEEPALIVE_S   120
#define MAX_MESSAGE_BYTES 524288
#define MAX_PACKET_BYTES  (MAX_MESSAGE_BYTES + 4096)
#define MAX_INFLIGHT      1000  /* the plane takes hundreds of events at a time */
#define MAX_QUEUED        20000 /* of one client, when it takes them slower than they come */
#define MAX_QUEUED_BYTES  16777216

/* What mosquitto refuses it tells with log_type debug only, beside each packet: services.c keeps those back.
 * An option of a listener that stands before all of them would make one more, on port 1883 of every address.
 * Nothing is kept on disk: a node sends what was not acknowledged again, and its status anew; the plane
 * publishes its retained notices anew. */
char *services_mosquitto_configuration(const struct plane_settings *s, const struct services_facts *f)
{
        _cleanup_free_ char *acl = service_file(s, "mosquitto", "acl");
        struct text t = {0};

        text_add(&t, "# Written by gridplane at each start.\n");
        if (f->is_root) /* else it becomes the user mosquitto, who can read nothing of ours */
                text_add(&t, "user root\n");
        text_addf(&t,
                "per_listener_settings true\n"
                "persistence false\n"
                "log_dest stderr\nlog_type error\nlog_type warning\nlog_type notice\nlog_type "
                "debug\nlog_timestamp true\n"
                "log_timestamp_format %%Y-%%m-%%dT%%H:%%M:%%S\nconnection_messages false\n"
                "set_tcp_nodelay true\n"
                "max_keepalive %d\nmax_packet_size %d\n"
                "max_inflight_messages %d\nmax_queued_messages %d\nmax_queued_bytes %d\n"
                "persistent_client_expiration 1d\nsys_interval 60\n\n",
                MAX_KEEPALIVE_S, MAX_PACKET_BYTES, MAX_INFLIGHT, MAX_QUEUED, MAX_QUEUED_BYTES);
        text_addf(&t,
                "# Nodes: who one is, and with it which client it is, comes from its certificate.\n"
                "listener %u 127.0.0.1\nsocket_domain ipv4\nmax_connections -1\n"
                "cafile %s\ncertfile %s\nkeyfile %s\ncrlfile %s\ntls_version tlsv1.2\n"
                "require_certificate true\nuse_identity_as_username true\nuse_username_as_clientid true\n"
                "allow_anonymous false\nacl_file %s\n\n",
                s->broker_port, f->bundle, f->certificate, f->key, f->crl, acl);
        text_addf(&t,
                "# The control plane itself: the folder is closed to everybody else.\n"
                "listener 0 %s\nallow_anonymous true\n",
                s->broker_socket);
        return text_take(&t);
}

char *services_mosquitto_acl(void)
{
        static const char *const writes[] = {"status", "event", "report", "config/applied", "out/#"};
        static const char *const reads[] = {"ack", "config", "request"};
        struct text t = {0};

        for (size_t i = 0; i < ELEMENTS(writes); i++)
                text_addf(&t, "pattern write node/%%u/%s\n", writes[i]);
        for (size_t i = 0; i < ELEMENTS(reads); i++)
                text_addf(&t, "pattern read node/%%u/%s\n", reads[i]);
        return text_take(&t);
}
