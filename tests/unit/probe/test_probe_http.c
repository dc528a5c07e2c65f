/* The HTTP probe against nginx, a small proxy, and peers that misbehave. */
#include "base/cleanup.h"
#include "net/http_engine.h"
#include "peers.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define HOST PEERS_HOST

enum { PORT_PLAIN = 4080, PORT_SERVER = 4443, PORT_EXPIRED, PORT_FORGED, PORT_MUTUAL, PORT_PROXY, PORT_PEER };

static struct probe_context context;
static struct trust *trust, *expired_trust;
static pid_t nginx;

static void write_server(FILE *f, int port, const char *certificate, const char *more)
{
        fprintf(f, "server { listen 127.0.0.1:%d%s; root %s/www; %s\n", port, certificate ? " ssl" : "",
                peers_folder(), more);
        if (certificate)
                fprintf(f, "ssl_certificate %s/%s.pem; ssl_certificate_key %s/%s.key;\n", peers_folder(),
                        certificate, peers_folder(), certificate);
        fprintf(f, "location = / { return 200 \"hello\\n\"; }\n"
                   "location = /portal { return 302 http://login.example/; }\n"
                   "location = /refused { default_type application/problem+json;"
                   " return 403 '{\"type\":\"https://grid.example/problems/node-not-authorized\"}'; }\n"
                   "location = /teapot { add_header Via '1.1 filter'; return 503 'blocked by policy\\n'; }\n"
                   "}\n");
}

static void start_nginx(void)
{
        FILE *f = fopen(peers_path("nginx.conf"), "we");
        char client[256], command[512];

        assert_non_null(f);
        snprintf(client, sizeof(client),
                "ssl_client_certificate %s/root.crt; ssl_verify_client on; ssl_verify_depth 3;",
                peers_folder());
        fprintf(f,
                "daemon off; master_process off; pid %s/nginx.pid; error_log %s/error.log;\n"
                "events { worker_connections 64; }\n"
                "http { access_log off; ssl_protocols TLSv1.2 TLSv1.3; client_body_temp_path %s/t1;"
                " proxy_temp_path %s/t2; fastcgi_temp_path %s/t3; uwsgi_temp_path %s/t4; scgi_temp_path "
                "%s/t5;\n",
                peers_folder(), peers_folder(), peers_folder(), peers_folder(), peers_folder(),
                peers_folder(), peers_folder());
        write_server(f, PORT_PLAIN, NULL, "");
        write_server(f, PORT_SERVER, "leaf", "");
        write_server(f, PORT_EXPIRED, "expired", "");
        write_server(f, PORT_FORGED, "forged", "ssl_verify_client optional_no_ca;");
        write_server(f, PORT_MUTUAL, "leaf", client);
        fprintf(f, "}\n");
        fclose(f);
        snprintf(command, sizeof(command), "mkdir %s/www && head -c 300000 /dev/zero > %s/www/payload",
                peers_folder(), peers_folder());
        assert_int_equal(system(command), 0);
        nginx = peers_start((const char *const[]){"nginx", "-c", peers_path("nginx.conf"), NULL}, PORT_MUTUAL,
                peers_path("nginx.log"));
}

static int set_up(void **state)
{
        (void)state;
        peers_enter_namespace();
        setenv("https_proxy", "http://127.0.0.1:1", 1); /* what the environment says must not matter */
        setenv("http_proxy", "http://127.0.0.1:1", 1);
        setenv("no_proxy", "*", 1);
        peers_make_pki();
        start_nginx();
        trust = peers_trust("node");
        expired_trust = peers_trust("old_node");
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        peers_stop(nginx);
        trust_free(trust);
        trust_free(expired_trust);
        peers_remove_pki();
        return 0;
}

static int open_context(void **state)
{
        (void)state;
        assert_int_equal(probe_context_init(&context), 0);
        context.trust = trust;
        return 0;
}

static int close_context(void **state)
{
        (void)state;
        probe_context_done(&context);
        return 0;
}

static struct probe_spec spec_for(uint16_t port, const char *path)
{
        struct probe_spec s = {
                .kind = MEASUREMENT_HTTP, .target = peers_endpoint(port), .name = HOST, .http_get = true};

        str_copy(s.path, sizeof(s.path), path);
        if (port == PORT_PLAIN || port == PORT_PEER)
                s.tls = SERVICE_TLS_NONE;
        if (port == PORT_MUTUAL)
                s.tls = SERVICE_TLS_MUTUAL;
        return s;
}

static struct measurement *get(uint16_t port, const char *path)
{
        struct probe_spec s = spec_for(port, path);

        return peers_measure(&context, &s);
}

static void healthy(void **state)
{
        struct probe_spec s = spec_for(PORT_SERVER, "");
        struct measurement *m;

        (void)state;
        for (int i = 0; i < 2; i++) {
                s.http_get = i;
                m = peers_measure(&context, &s);
                assert_int_equal(m->outcome, OUTCOME_OK);
                assert_int_equal(m->stage, STAGE_HTTP);
                assert_int_equal(m->http_status, 200);
                assert_int_equal(m->curl_code, 0);
                assert_null(m->error_text);
                assert_string_equal(m->http_url, "https://" HOST ":4443/");
                assert_true(str_starts_with(m->server_header, "nginx"));
                assert_in_range(m->peer_unix, time(NULL) - 30, time(NULL) + 1);
                assert_true(m->first_byte_ms > 0 && m->first_byte_ms <= m->took_ms);
                assert_string_equal(m->tls_version, "TLSv1.3");
                assert_string_equal(m->alpn, "http/1.1");
                assert_int_equal(m->chain_trusted, YES);
                assert_int_equal(m->chain_length, 2);
                assert_int_equal(m->chain_time_valid, YES);
                assert_string_equal(m->source, "127.0.0.1");
                assert_true(m->bytes_received > 500 && m->local_port > 0);
                if (i)
                        assert_string_equal(m->body_excerpt, "hello\\x0a");
                else
                        assert_null(m->body_excerpt);
                measurement_free(m);
        }
}

static void answers(void **state)
{
        struct measurement *m = get(PORT_SERVER, "/portal");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK); /* and not followed */
        assert_int_equal(m->http_status, 302);
        assert_string_equal(m->location, "http://login.example/");
        measurement_free(m);
        m = get(PORT_SERVER, "refused");
        assert_int_equal(m->http_status, 403);
        assert_string_equal(m->content_type, "application/problem+json");
        assert_string_equal(m->problem_type, "https://grid.example/problems/node-not-authorized");
        assert_non_null(strstr(m->body_excerpt, "node-not-authorized"));
        measurement_free(m);
        m = get(PORT_PLAIN, "/teapot");
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->http_status, 503);
        assert_int_equal(m->chain_length, 0);
        assert_string_equal(m->http_url, "http://" HOST ":4080/teapot");
        measurement_free(m);
        m = get(PORT_PLAIN, "/nothing");
        assert_int_equal(m->http_status, 404);
        measurement_free(m);
}

static void refused_chains(void **state)
{
        struct probe_spec s = spec_for(PORT_FORGED, "");
        struct measurement *m;

        (void)state;
        s.tls = SERVICE_TLS_MUTUAL;
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_UNTRUSTED);
        assert_int_equal(m->stage, STAGE_TLS);
        assert_int_equal(m->chain_trusted, NO);
        assert_string_equal(m->chain_issuers.items[0], "CN=Fortinet Untrusted CA,O=Fortinet");
        assert_int_equal(m->client_certificate_sent, UNKNOWN);
        assert_int_equal(m->http_status, 0);
        assert_true(m->curl_code != 0 && m->error_text);
        measurement_free(m);
        s = spec_for(PORT_SERVER, "");
        str_copy(s.name, sizeof(s.name), "keymaster.grid.test");
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_UNTRUSTED);
        assert_int_equal(m->chain_trusted, YES);
        assert_int_equal(m->chain_name_matches, NO);
        measurement_free(m);
        context.trust = NULL; /* nothing to compare with */
        s = spec_for(PORT_FORGED, "");
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->chain_trusted, UNKNOWN);
        measurement_free(m);
}

static void expired_server(void **state)
{
        struct probe_spec s = spec_for(PORT_EXPIRED, "");
        struct measurement *m = peers_measure(&context, &s);

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_UNTRUSTED);
        assert_int_equal(m->chain_trusted, YES);
        assert_int_equal(m->chain_time_valid, NO);
        measurement_free(m);
        s.purpose = PURPOSE_TIME; /* its Date is all that is wanted */
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->chain_time_valid, NO);
        assert_in_range(m->peer_unix, time(NULL) - 30, time(NULL) + 1);
        measurement_free(m);
        s.target.port = PORT_FORGED; /* but not from anybody */
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_UNTRUSTED);
        measurement_free(m);
}

static void mutual(void **state)
{
        struct measurement *m = get(PORT_MUTUAL, "");

        (void)state;
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->http_status, 200);
        assert_int_equal(m->client_certificate_sent, YES);
        assert_string_equal(m->client_serial, trust_certificate_serial(trust));
        measurement_free(m);
        context.trust = expired_trust; /* nginx lets the handshake pass and says 400 afterwards */
        m = get(PORT_MUTUAL, "");
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->http_status, 400);
        assert_int_equal(m->client_certificate_sent, YES);
        assert_non_null(strstr(m->body_excerpt, "SSL certificate error"));
        assert_true(m->client_not_after_unix < m->local_unix);
        measurement_free(m);
}

static void alert_after_handshake(void **state)
{
        const char *argv[] = {"openssl", "s_server", "-www", "-quiet", "-accept", "127.0.0.1:4449", "-cert",
                peers_path("leaf.crt"), "-cert_chain", peers_path("leaf.chain"), "-key",
                peers_path("leaf.key"), "-Verify", "2", "-verify_return_error", "-CAfile",
                peers_path("root.crt"), NULL};
        struct probe_spec s = spec_for(4449, "");
        pid_t pid = peers_start(argv, 4449, peers_path("server.log"));
        struct measurement *m;

        (void)state;
        context.trust = expired_trust;
        s.tls = SERVICE_TLS_MUTUAL;
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_ALERT);
        assert_int_equal(m->stage, STAGE_TLS);
        assert_int_equal(m->alert, 45);
        assert_int_equal(m->client_certificate_sent, YES);
        measurement_free(m);
        peers_stop(pid);
}

static void payload(void **state)
{
        struct probe_spec s = spec_for(PORT_SERVER, "/payload");
        struct measurement *m;

        (void)state;
        s.purpose = PURPOSE_PAYLOAD;
        s.expect_bytes = 300000;
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->body_bytes, 300000);
        assert_true(m->bytes_per_s > 0);
        assert_null(m->body_excerpt);
        measurement_free(m);
        s.expect_bytes = 100000; /* enough is enough */
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_in_range(m->body_bytes, 100000, 100000 + 16384);
        assert_int_equal(m->curl_code, 0);
        assert_null(m->error_text);
        measurement_free(m);
        s.purpose = PURPOSE_SERVICE, s.expect_bytes = 0;
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_in_range(m->body_bytes, 65536, 65536 + 16384);
        assert_true(strlen(m->body_excerpt) <= 512);
        measurement_free(m);
}

static void answer_head(int fd, const char *more)
{
        char head[256];

        peers_read_some(fd);
        snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\n%s\r\n", more);
        peers_send(fd, head, strlen(head));
}

static void send_half_and_close(int fd)
{
        char body[8000] = {0};

        answer_head(fd, "Content-Length: 100000\r\n");
        peers_send(fd, body, sizeof(body));
}

static void send_half_and_reset(int fd)
{
        send_half_and_close(fd);
        usleep(50000);
        peers_close_with_reset(fd);
}

static void send_half_and_stall(int fd)
{
        send_half_and_close(fd);
        peers_stay_silent(fd);
}

static void send_half_without_length(int fd)
{
        char body[8000] = {0};

        answer_head(fd, "Connection: close\r\n");
        peers_send(fd, body, sizeof(body));
}

static void send_slowly(int fd)
{
        answer_head(fd, "Content-Length: 100000\r\n");
        for (int i = 0; i < 20; i++) {
                peers_send(fd, "0123456789", 10);
                usleep(50000);
        }
        peers_stay_silent(fd);
}

static struct measurement *measure_peer(void (*behave)(int fd), const struct probe_spec *s)
{
        pid_t pid = peers_misbehave(PORT_PEER, behave);
        struct measurement *m = peers_measure(&context, s);

        peers_stop(pid);
        return m;
}

static void cut_payload(void **state)
{
        static const struct {
                void (*behave)(int fd);
                enum measurement_outcome outcome;
        } cases[] = {{send_half_and_close, OUTCOME_CLOSED}, {send_half_and_reset, OUTCOME_RESET},
                {send_half_and_stall, OUTCOME_TIMEOUT}, {send_half_without_length, OUTCOME_CLOSED}};
        struct probe_spec s = spec_for(PORT_PEER, "/payload");
        struct measurement *m;

        (void)state;
        s.purpose = PURPOSE_PAYLOAD;
        s.expect_bytes = 100000;
        context.patience_ms = 300;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                m = measure_peer(cases[i].behave, &s);
                assert_int_equal(m->outcome, cases[i].outcome);
                assert_int_equal(m->stage, STAGE_HTTP);
                assert_int_equal(m->http_status, 200);
                assert_int_equal(m->body_bytes, 8000);
                measurement_free(m);
        }
        m = measure_peer(send_slowly, &s); /* it lasts as long as bytes come, and a patience more */
        assert_int_equal(m->outcome, OUTCOME_TIMEOUT);
        assert_int_equal(m->body_bytes, 200);
        assert_in_range((int)m->took_ms, 1200, 1700);
        assert_in_range((int)m->bytes_per_s, 100, 260);
        measurement_free(m);
}

static void close_unasked(int fd)
{
        peers_read_some(fd);
}

static void reset_unasked(int fd)
{
        peers_read_some(fd);
        peers_close_with_reset(fd);
}

static void talk_nonsense(int fd)
{
        peers_read_some(fd);
        peers_send(fd, "220 mail.example ESMTP\r\n", 24);
        usleep(100000);
}

static void drip_head(int fd)
{
        peers_read_some(fd);
        peers_send(fd, "HTTP/1.1 200 OK\r\n", 17);
        for (int i = 0; i < 100; i++) {
                peers_send(fd, "X-Drip: 1\r\n", 11);
                usleep(50000);
        }
}

static void broken_answers(void **state)
{
        static const struct {
                void (*behave)(int fd);
                enum measurement_outcome outcome;
        } cases[] = {{close_unasked, OUTCOME_CLOSED}, {reset_unasked, OUTCOME_RESET},
                {talk_nonsense, OUTCOME_MALFORMED}, {peers_stay_silent, OUTCOME_TIMEOUT},
                {drip_head, OUTCOME_TIMEOUT}};
        struct probe_spec s = spec_for(PORT_PEER, "");

        (void)state;
        context.patience_ms = 300;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct measurement *m = measure_peer(cases[i].behave, &s);

                assert_int_equal(m->outcome, cases[i].outcome);
                assert_int_equal(m->stage, STAGE_HTTP);
                assert_int_equal(m->http_status, 0);
                assert_true(m->took_ms < 800);
                measurement_free(m);
        }
}

static void broken_tls(void **state)
{
        static const struct {
                void (*behave)(int fd);
                enum measurement_outcome outcome;
        } cases[] = {{close_unasked, OUTCOME_CLOSED}, {reset_unasked, OUTCOME_RESET},
                {talk_nonsense, OUTCOME_NOT_TLS}, {peers_stay_silent, OUTCOME_TIMEOUT}};
        struct probe_spec s = spec_for(PORT_PEER, "");
        struct measurement *m;

        (void)state;
        s.tls = SERVICE_TLS_SERVER;
        context.patience_ms = 300;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                m = measure_peer(cases[i].behave, &s);
                assert_int_equal(m->outcome, cases[i].outcome);
                assert_int_equal(m->stage, STAGE_TLS);
                assert_int_equal(m->server_hello_seen, NO);
                measurement_free(m);
        }
        m = peers_measure(&context, &s); /* nobody listens */
        assert_int_equal(m->outcome, OUTCOME_RESET);
        assert_int_equal(m->stage, STAGE_TCP);
        measurement_free(m);
}

/* CONNECT, then bytes both ways. */
static void serve_as_proxy(int fd)
{
        struct sockaddr_storage sa;
        struct endpoint e = peers_endpoint(PORT_SERVER);
        socklen_t length = endpoint_to_sockaddr(&e, &sa);
        int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char buffer[8192] = "";

        if (read(fd, buffer, sizeof(buffer) - 1) <= 0 ||
                !strstr(buffer, "CONNECT " HOST ":4443 HTTP/1.1\r\n") ||
                connect(server, (struct sockaddr *)&sa, length) < 0)
                return;
        peers_send(fd, "HTTP/1.1 200 Connection established\r\nVia: 1.1 proxy\r\n\r\n", 55);
        for (;;) {
                struct pollfd fds[] = {{.fd = fd, .events = POLLIN}, {.fd = server, .events = POLLIN}};

                poll(fds, 2, -1);
                for (int i = 0; i < 2; i++) {
                        ssize_t n = fds[i].revents ? read(fds[i].fd, buffer, sizeof(buffer)) : 1;

                        if (n <= 0) {
                                close(server);
                                return;
                        }
                        if (fds[i].revents)
                                peers_send(fds[!i].fd, buffer, (size_t)n);
                }
        }
}

static void refuse_as_proxy(int fd)
{
        static const char answer[] = "HTTP/1.1 407 Proxy Authentication Required\r\nServer: squid/5.7\r\n"
                                     "Proxy-Authenticate: Negotiate\r\nContent-Length: 0\r\n\r\n";

        peers_read_some(fd);
        peers_send(fd, answer, sizeof(answer) - 1);
}

static void proxy(void **state)
{
        struct probe_spec s = spec_for(PORT_SERVER, "");
        pid_t pid = peers_misbehave(PORT_PROXY, serve_as_proxy);
        struct measurement *m;

        (void)state;
        s.purpose = PURPOSE_PROXY;
        str_copy(s.proxy, sizeof(s.proxy), "http://127.0.0.1:4447");
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_OK);
        assert_int_equal(m->http_status, 200);
        assert_int_equal(m->proxy_status, 200);
        assert_int_equal(m->chain_trusted, YES);
        assert_null(m->via); /* that was the proxy's own answer */
        measurement_free(m);
        peers_stop(pid);
        pid = peers_misbehave(PORT_PROXY, refuse_as_proxy);
        m = peers_measure(&context, &s);
        assert_int_equal(m->outcome, OUTCOME_PROTOCOL);
        assert_int_equal(m->stage, STAGE_HTTP);
        assert_int_equal(m->proxy_status, 407);
        assert_int_equal(m->http_status, 0);
        assert_string_equal(m->proxy_authenticate, "Negotiate");
        assert_string_equal(m->server_header, "squid/5.7");
        measurement_free(m);
        peers_stop(pid);
        m = peers_measure(&context, &s); /* gone */
        assert_int_equal(m->outcome, OUTCOME_RESET);
        assert_int_equal(m->stage, STAGE_TCP);
        measurement_free(m);
}

static void bad_requests(void **state)
{
        static const struct {
                const char *name, *proxy, *path;
        } cases[] = {{HOST, "http://proxy.example:3128", ""}, {HOST, "https://127.0.0.1:3128", ""},
                {HOST, "ftp://127.0.0.1", ""}, {HOST, "http://127.0.0.1:99999", ""}, {HOST, "://", ""},
                {"a@b", "", ""}, {"a/b", "", ""}, {"a b", "", ""}, {HOST, "", "/a\r\nX: y"}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct probe_spec s = spec_for(PORT_SERVER, cases[i].path);
                struct measurement *m;

                str_copy(s.name, sizeof(s.name), cases[i].name);
                str_copy(s.proxy, sizeof(s.proxy), cases[i].proxy);
                m = peers_measure(&context, &s);
                assert_int_equal(m->outcome, OUTCOME_LOCAL_ERROR);
                assert_non_null(m->error_text);
                measurement_free(m);
        }
}

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        (void)p;
        *(struct measurement **)userdata = m;
}

static void abandoned(void **state)
{
        struct probe_spec s = spec_for(PORT_SERVER, "/payload");
        struct measurement *m = NULL;
        struct probe *p;

        (void)state;
        for (int rounds = 0; rounds < 12 && !m; rounds++) {
                assert_int_equal(probe_start(&context, &s, on_result, &m, &p), 0);
                for (int i = 0; i < rounds && !m; i++)
                        assert_true(sd_event_run(context.event, 100000) >= 0);
                if (m)
                        break;
                probe_abandon(p, "interrupted");
                /* In the last round it may have come to its end a moment before. */
                assert_true(m->outcome == OUTCOME_NOT_TESTED || m->outcome == OUTCOME_OK);
                m = measurement_free(m);
        }
        measurement_free(m);
        /* Still running when everything ends: nothing may be left. */
        assert_int_equal(probe_start(&context, &s, on_result, &m, &p), 0);
        assert_true(sd_event_run(context.event, 100000) >= 0);
        probe_abandon(p, "the end");
        measurement_free(m);
}

static void many_at_once(void **state)
{
        enum { COUNT = 32 };
        struct measurement *results[COUNT] = {NULL};
        struct probe_spec s = spec_for(PORT_SERVER, "");
        int left = COUNT;

        (void)state;
        context.patience_ms = 10000;
        for (int i = 0; i < COUNT; i++)
                assert_int_equal(probe_start(&context, &s, on_result, &results[i], NULL), 0);
        while (left > 0) {
                assert_true(sd_event_run(context.event, 10000000) > 0);
                left = 0;
                for (int i = 0; i < COUNT; i++)
                        left += !results[i];
        }
        for (int i = 0; i < COUNT; i++) {
                assert_int_equal(results[i]->http_status, 200);
                measurement_free(results[i]);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_context, close_context)

int main(void)
{
        const struct CMUnitTest tests[] = {TEST(healthy), TEST(answers), TEST(refused_chains),
                TEST(expired_server), TEST(mutual), TEST(alert_after_handshake), TEST(payload),
                TEST(cut_payload), TEST(broken_answers), TEST(broken_tls), TEST(proxy), TEST(bad_requests),
                TEST(abandoned), TEST(many_at_once)};

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
