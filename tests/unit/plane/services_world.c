#include "services_world.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <mqtt_protocol.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ANSWER ((size_t)1 << 20)

/* ---- the place ---- */

/* The head of a request: closing with some of it unread would be a reset. */
static ssize_t read_head(int fd, char *ret, size_t size)
{
        size_t length = 0;
        ssize_t n;

        ret[0] = '\0';
        while (length + 1 < size && !strstr(ret, "\r\n\r\n") &&
                (n = read(fd, ret + length, size - 1 - length)) > 0) {
                length += (size_t)n;
                ret[length] = '\0';
        }
        return (ssize_t)length;
}

/* Answers each request with itself, until it is killed. */
static _Noreturn void echo_api(const char *path, int parent)
{
        struct sockaddr_un a = {.sun_family = AF_UNIX};
        int listener = socket(AF_UNIX, SOCK_STREAM, 0);

        signal(SIGPIPE, SIG_IGN); /* nginx wants no more than the status of some answers */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
                _exit(1);
        str_copy(a.sun_path, sizeof(a.sun_path), path);
        if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 16) < 0)
                _exit(1);
        for (;;) {
                char request[65536], head[256];
                int fd = accept(listener, NULL, NULL);
                ssize_t length = fd < 0 ? 0 : read_head(fd, request, sizeof(request));
                const char *status = "200 OK";

                if (length > 0) {
                        if (strstr(request, "/internal/registry") && !strstr(request, "Bearer right"))
                                status = "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"grid\"";
                        snprintf(head, sizeof(head),
                                "HTTP/1.1 %s\r\nContent-Length: %zd\r\nConnection: close\r\n\r\n", status,
                                length);
                        if (write(fd, head, strlen(head)) < 0 || write(fd, request, (size_t)length) < 0)
                                fputs("the API's double cannot answer\n", stderr);
                }
                if (fd >= 0)
                        close(fd);
        }
}

static void make_node(struct world *w, int index, const char *id)
{
        EVP_PKEY *key = EVP_EC_gen("P-256");
        X509_REQ *request = X509_REQ_new();
        BIO *bio = BIO_new(BIO_s_mem());
        _cleanup_free_ char *csr = NULL, *pem = NULL;
        struct error e = {0};
        int64_t not_after;
        char *data;
        long length;
        FILE *f;

        X509_REQ_set_pubkey(request, key);
        X509_REQ_sign(request, key, EVP_sha256());
        PEM_write_bio_X509_REQ(bio, request);
        length = BIO_get_mem_data(bio, &data);
        csr = xstrndup(data, (size_t)length);
        if (ca_issue_node(w->ca, csr, id, "o-1", time(NULL), &pem, w->node_serial[index], &not_after, &e) < 0)
                fail_msg("%s", e.text);
        w->node_certificate[index] = xasprintf("%s/%s.crt", w->root, id);
        w->node_key[index] = xasprintf("%s/%s.key", w->root, id);
        assert_int_equal(file_save(w->node_certificate[index], pem, strlen(pem), 0600, NULL), 0);
        f = fopen(w->node_key[index], "we");
        assert_non_null(f);
        PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL);
        fclose(f);
        BIO_free(bio);
        X509_REQ_free(request);
        EVP_PKEY_free(key);
}

void world_new_services(struct world *w)
{
        struct error e = {0};

        assert_int_equal(sd_event_new(&w->event), 0);
        if (services_new(w->event, &w->settings, w->ca, &w->services, &e) < 0)
                fail_msg("%s", e.text);
}

void world_init(struct world *w)
{
        struct plane_options o = {.domain = WORLD_DOMAIN, .listen = "1443,1444"};
        _cleanup_free_ char *ca = NULL;
        struct error e = {0};

        *w = (struct world){.root = "/tmp/test-services-XXXXXX"};
        assert_non_null(mkdtemp(w->root));
        o.root = w->root;
        if (plane_settings_load(&o, &w->settings, &e) < 0)
                fail_msg("%s", e.text);
        ca = path_join(w->settings.paths.state, "ca");
        if (ca_open(ca, time(NULL), &w->ca, &e) < 0)
                fail_msg("%s", e.text);
        make_node(w, 0, WORLD_NODE_A);
        make_node(w, 1, WORLD_NODE_B);
        world_new_services(w);
}

void world_start(struct world *w)
{
        struct error e = {0};
        int parent = getpid();

        if (services_start(w->services, &e) < 0)
                fail_msg("%s", e.text);
        unlink(w->settings.api_socket);
        w->api_pid = fork();
        if (w->api_pid == 0)
                echo_api(w->settings.api_socket, parent);
        assert_true(world_wait(w, world_is_ready, 15000));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        return remove(path);
}

void world_done(struct world *w)
{
        services_free(w->services);
        if (w->api_pid > 0) {
                kill(w->api_pid, SIGKILL);
                waitpid(w->api_pid, NULL, 0);
        }
        ca_free(w->ca);
        sd_event_unref(w->event);
        plane_settings_done(&w->settings);
        for (size_t i = 0; i < 2; i++) {
                free(w->node_certificate[i]);
                free(w->node_key[i]);
        }
        nftw(w->root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

bool world_wait(struct world *w, bool (*is_so)(struct world *w), int timeout_ms)
{
        double until_ms = clock_monotonic_ms() + timeout_ms;

        while (!is_so(w)) {
                if (clock_monotonic_ms() > until_ms)
                        return false;
                sd_event_run(w->event, 50000);
        }
        return true;
}

bool world_is_ready(struct world *w)
{
        struct service_view v;

        for (size_t i = 0; i < services_count(w->services); i++) {
                services_view(w->services, i, &v);
                if (!str_equal(v.state, "running"))
                        return false;
        }
        return services_are_ready(w->services) && access(w->settings.api_socket, F_OK) == 0;
}

struct service_view world_view(const struct world *w, const char *name)
{
        struct service_view v;

        for (size_t i = 0; i < services_count(w->services); i++) {
                services_view(w->services, i, &v);
                if (str_equal(v.name, name))
                        return v;
        }
        fail_msg("no service %s", name);
        return v;
}

/* ---- HTTPS ---- */

static int connect_to(unsigned port)
{
        struct sockaddr_in a = {.sin_family = AF_INET,
                .sin_port = htons((uint16_t)port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 5}, sizeof(struct timeval));
        assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        return fd;
}

char *world_ask(const struct world *w, unsigned port, const char *name, int node, const char *request)
{
        SSL_CTX *context = SSL_CTX_new(TLS_client_method());
        char *answer = xcalloc(1, MAX_ANSWER + 1);
        size_t length = 0;
        int fd = connect_to(port), n;
        SSL *ssl;

        signal(SIGPIPE, SIG_IGN);
        assert_int_equal(SSL_CTX_load_verify_file(context, ca_root_path(w->ca)), 1);
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
        if (node >= 0) {
                assert_int_equal(SSL_CTX_use_certificate_chain_file(context, w->node_certificate[node]), 1);
                assert_int_equal(
                        SSL_CTX_use_PrivateKey_file(context, w->node_key[node], SSL_FILETYPE_PEM), 1);
        }
        ssl = SSL_new(context);
        if (name)
                SSL_set_tlsext_host_name(ssl, name);
        SSL_set_fd(ssl, fd);
        if (SSL_connect(ssl) == 1 && SSL_write(ssl, request, (int)strlen(request)) > 0)
                while (length < MAX_ANSWER &&
                        (n = SSL_read(ssl, answer + length, (int)(MAX_ANSWER - length))) > 0)
                        length += (size_t)n;
        ERR_clear_error();
        SSL_free(ssl);
        SSL_CTX_free(context);
        close(fd);
        return answer;
}

char *world_get(const struct world *w, unsigned port, int node, const char *host, const char *path,
        const char *headers)
{
        _cleanup_free_ char *request = xasprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n%s\r\n",
                path, host, headers ? headers : "");

        return world_ask(w, port, "repo." WORLD_DOMAIN, node, request);
}

/* ---- MQTT ---- */

static void on_connect(
        struct mosquitto *m, void *userdata, int reason, int flags, const mosquitto_property *properties)
{
        struct client *c = userdata;

        (void)m;
        (void)flags;
        (void)properties;
        c->connack = reason;
}

static void on_disconnect(
        struct mosquitto *m, void *userdata, int reason, const mosquitto_property *properties)
{
        struct client *c = userdata;

        (void)m;
        (void)reason;
        (void)properties;
        c->disconnected++;
}

static void on_publish(
        struct mosquitto *m, void *userdata, int mid, int reason, const mosquitto_property *properties)
{
        struct client *c = userdata;

        (void)m;
        (void)mid;
        (void)properties;
        c->puback = reason;
}

static void on_subscribe(struct mosquitto *m, void *userdata, int mid, int count, const int *qos,
        const mosquitto_property *properties)
{
        struct client *c = userdata;

        (void)m;
        (void)mid;
        (void)count;
        (void)qos;
        (void)properties;
        c->subscribed++;
}

static void on_message(struct mosquitto *m, void *userdata, const struct mosquitto_message *message,
        const mosquitto_property *properties)
{
        struct client *c = userdata;

        (void)m;
        (void)properties;
        c->messages++;
        snprintf(c->last, sizeof(c->last), "%s %.*s", message->topic, message->payloadlen,
                (const char *)message->payload);
}

static void client_new(struct client *c, const char *id)
{
        *c = (struct client){.connack = -1, .puback = -1};
        c->m = mosquitto_new(id, true, c);
        assert_non_null(c->m);
        mosquitto_int_option(c->m, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
        mosquitto_connect_v5_callback_set(c->m, on_connect);
        mosquitto_disconnect_v5_callback_set(c->m, on_disconnect);
        mosquitto_publish_v5_callback_set(c->m, on_publish);
        mosquitto_subscribe_v5_callback_set(c->m, on_subscribe);
        mosquitto_message_v5_callback_set(c->m, on_message);
}

void client_node(struct client *c, const struct world *w, int node, const char *id)
{
        client_new(c, id);
        assert_int_equal(mosquitto_tls_set(c->m, ca_root_path(w->ca), NULL, w->node_certificate[node],
                                 w->node_key[node], NULL),
                MOSQ_ERR_SUCCESS);
        mosquitto_tls_insecure_set(
                c->m, true); /* the certificate is for names, and we connect to an address */
        mosquitto_string_option(c->m, MOSQ_OPT_TLS_ALPN, "mqtt");
        mosquitto_connect_bind_v5(c->m, "127.0.0.1", WORLD_MIXED, 30, NULL, NULL);
}

void client_plane(struct client *c, const struct world *w, const char *id)
{
        client_new(c, id);
        assert_int_equal(mosquitto_connect_bind_v5(c->m, w->settings.broker_socket, 0, 30, NULL, NULL),
                MOSQ_ERR_SUCCESS);
}

bool client_wait(struct client *const *clients, const int *value, int old)
{
        double until_ms = clock_monotonic_ms() + 4000;

        while (*value == old) {
                if (clock_monotonic_ms() > until_ms)
                        return false;
                for (size_t i = 0; clients[i]; i++)
                        mosquitto_loop(clients[i]->m, 10, 1);
        }
        return true;
}

void client_done(struct client *c)
{
        mosquitto_disconnect(c->m);
        mosquitto_destroy(c->m);
}
