/* Whether the parts that gridplane.conf names elsewhere can be reached, as the servers will reach them. */
#include "plane/preflight_internal.h"

#include "base/cleanup.h"
#include "net/mqtt.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/x509_vfy.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#define CONNECT_MS    2000
#define VERDICT_MS    500 /* for a refusal of our certificate, which TLS 1.3 tells after the handshake */
#define MAX_ADDRESSES 4

DEFINE_CLEANUP(SSL *, SSL_free);
DEFINE_CLEANUP(SSL_CTX *, SSL_CTX_free);

static void cleanup_addresses(struct addrinfo **a)
{
        if (*a)
                freeaddrinfo(*a);
}

/* What is looked at: for the texts. */
struct part {
        const char *what; /* its section in the file, too: "broker" */
        const char *host, *config_path;
        uint16_t port;
};

/* ---- TCP ---- */

/* The socket, blocking, or -errno. */
static int connect_one(const struct addrinfo *a, uint16_t port)
{
        _cleanup_close_ int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        /* For connect(2) as well (socket(7)). */
        struct timeval limit = {.tv_sec = CONNECT_MS / 1000, .tv_usec = CONNECT_MS % 1000 * 1000};
        struct sockaddr_storage there;
        struct endpoint e = {0};
        socklen_t length;

        endpoint_from_sockaddr(a->ai_addr, &e);
        e.port = port;
        length = endpoint_to_sockaddr(&e, &there);
        if (fd < 0)
                return -errno;
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        if (connect(fd, (const struct sockaddr *)&there, length) < 0)
                return errno == EINPROGRESS ? -ETIMEDOUT : -errno;
        return TAKE_FD(fd);
}

/* To the first address that answers, or -1 and a finding. */
static int reach(const struct part *p, struct findings *f)
{
        static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG};
        _cleanup_(cleanup_addresses) struct addrinfo *found = NULL;
        int r = getaddrinfo(p->host, NULL, &hints, &found), fd = -EHOSTUNREACH, tried = 0;

        if (r != 0) {
                finding_add(f, true, "part.unknown",
                        "the %s's host %s cannot be looked up (%s), and nginx would not start; correct "
                        "[%s] url in %s, or this machine's DNS",
                        p->what, p->host, gai_strerror(r), p->what, p->config_path);
                return -1;
        }
        for (const struct addrinfo *a = found; a && fd < 0 && tried < MAX_ADDRESSES; a = a->ai_next, tried++)
                fd = connect_one(a, p->port);
        if (fd >= 0)
                return fd;
        finding_add(f, false, "part.unreachable",
                "the %s at %s does not answer on port %u: %s; gridplane starts all the same and goes on "
                "trying: start the %s, open the way to it, or correct [%s] in %s",
                p->what, p->host, p->port, strerror(-fd), p->what, p->what, p->config_path);
        return -1;
}

/* ---- TLS ---- */

static const char *handshake_problem(SSL *ssl)
{
        long verdict = SSL_get_verify_result(ssl);
        const char *reason;

        if (verdict != X509_V_OK)
                return X509_verify_cert_error_string(verdict);
        reason = ERR_reason_error_string(ERR_peek_last_error());
        return reason ? reason : "it ends the connection";
}

/* NULL: the broker and we believe each other. */
static const char *try_tls(SSL *ssl, int fd)
{
        struct timeval limit = {.tv_usec = VERDICT_MS * 1000};
        char byte;
        int r;

        ERR_clear_error();
        if (SSL_set_fd(ssl, fd) != 1 || SSL_connect(ssl) != 1)
                return handshake_problem(ssl);
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
        r = SSL_read(ssl, &byte, 1);
        if (r > 0 || SSL_get_error(ssl, r) == SSL_ERROR_WANT_READ)
                return NULL; /* it waits for us */
        return handshake_problem(ssl);
}

static void check_broker(const struct plane_settings *s, struct findings *f)
{
        struct part p = {"broker", s->broker_host, s->config_path, s->broker_port};
        _cleanup_(SSL_CTX_free_p) SSL_CTX *context = NULL;
        _cleanup_(SSL_free_p) SSL *ssl = NULL;
        _cleanup_close_ int fd = reach(&p, f);
        const char *problem;
        struct error e = {0};

        if (fd < 0)
                return;
        if (mqtt_tls_context(s->broker_root_ca, s->broker_host, s->broker_certificate, s->broker_key,
                    &context, &e) < 0) {
                finding_add(f, true, "certificate.unreadable", "[broker] in %s: %s", s->config_path, e.text);
                return;
        }
        ssl = SSL_new(context);
        problem = ssl ? try_tls(ssl, fd) : "no memory";
        if (problem)
                finding_add(f, false, "part.refused",
                        "the broker at %s and gridplane do not believe each other: %s; see certificate, key "
                        "and root-ca of [broker] in %s, and which authorities the broker believes",
                        s->broker_url, problem, s->config_path);
        ERR_clear_error();
}

static void check_nodes_listener(const struct plane_settings *s, struct findings *f)
{
        struct part p = {"broker", s->broker_nodes_host, s->config_path, s->broker_nodes_port};
        _cleanup_close_ int fd = s->broker_nodes_host ? reach(&p, f) : -1;

        (void)fd;
}

static void check_registry(const struct plane_settings *s, struct findings *f)
{
        struct part p = {"registry", s->registry_host, s->config_path, s->registry_port};
        _cleanup_close_ int fd = reach(&p, f);

        (void)fd;
}

void preflight_parts(const struct plane_settings *s, struct findings *f)
{
        size_t before = f->count;

        for (size_t i = 0; i < before; i++) /* what would be shown to the broker is not there */
                if (strcmp(f->items[i].code, "certificate.unreadable") == 0 && f->items[i].fatal)
                        return;
        if (s->broker_url) {
                check_broker(s, f);
                check_nodes_listener(s, f);
        }
        if (s->registry_url)
                check_registry(s, f);
}
