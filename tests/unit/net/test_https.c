/* One HTTPS exchange against nginx, a small proxy, and peers that misbehave. */
#include "net/https.h"

#include "../probe/peers.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define HOST PEERS_HOST

enum { PORT_GOOD = 4443, PORT_EXPIRED, PORT_FORGED, PORT_MUTUAL, PORT_PEER, PORT_PROXY, PORT_PLAIN };

static struct trust *trust, *bare_trust;
static pid_t nginx;

static void write_server(FILE *f, const char *address, int port, const char *certificate, const char *more)
{
        const char *d = peers_folder();

        fprintf(f,
                "server { listen %s:%d ssl; root %s/www; %s ssl_certificate %s/%s.pem;"
                " ssl_certificate_key %s/%s.key; default_type application/json;\n"
                "location = /whoami { return 200 '$ssl_client_s_dn $remote_addr $http_host'; }\n"
                "location = /moved { return 302 https://" HOST ":4443/file; }\n"
                "location = /head { return 200 "
                "'$request_method|$http_accept|$http_content_type|$http_expect'; }\n"
                "location = /post { proxy_pass http://127.0.0.1:%d/; access_log %s/post.log body; }\n"
                "location = /slow { proxy_pass http://127.0.0.1:4447/; }\n"
                "location = /problem { default_type application/problem+json; return 409 "
                "'{\"title\":\"Token used\",\"detail\":\"by another "
                "\\u001b[1mkey\",\"code\":\"token.used\"}'; }\n"
                "location = /odd { default_type application/problem+json; return 410 '{\"code\":\"NO!\"'; }\n"
                "location = /plain { default_type text/html; return 503 '<html>'; }\n"
                "}\n",
                address, port, d, more, d, certificate, d, certificate, PORT_PLAIN, d);
}

static void start_nginx(void)
{
        FILE *f = fopen(peers_path("nginx.conf"), "we");
        const char *d = peers_folder();
        char client[256], command[512];

        assert_non_null(f);
        snprintf(client, sizeof(client),
                "ssl_client_certificate %s/root.crt; ssl_verify_client on; ssl_verify_depth 3;", d);
        fprintf(f,
                "daemon off; master_process off; pid %s/nginx.pid; error_log %s/error.log;\n"
                "events { worker_connections 64; }\n"
                "http { log_format body '$request_method $request_body'; access_log %s/access.log;"
                " ssl_protocols TLSv1.2 TLSv1.3; client_body_temp_path %s/t1; proxy_temp_path %s/t2;"
                " fastcgi_temp_path %s/t3; uwsgi_temp_path %s/t4; scgi_temp_path %s/t5;\n"
                "server { listen 127.0.0.1:%d; location / { access_log off; return 201 'stored'; } }\n",
                d, d, d, d, d, d, d, d, PORT_PLAIN);
        write_server(f, "127.0.0.1", PORT_GOOD, "leaf", "");
        write_server(f, "127.0.0.1", PORT_EXPIRED, "expired", "");
        write_server(f, "127.0.0.1", PORT_FORGED, "forged", "");
        write_server(f, "127.0.0.1", PORT_MUTUAL, "leaf", client);
        write_server(f, "127.0.0.2", PORT_PEER, "leaf", "");
        fprintf(f, "}\n");
        fclose(f);
        snprintf(command, sizeof(command),
                "mkdir %s/www && echo '{}' > %s/www/file && head -c 300000 /dev/zero > %s/www/big", d, d, d);
        assert_int_equal(system(command), 0);
        nginx = peers_start((const char *const[]){"nginx", "-c", peers_path("nginx.conf"), NULL}, PORT_MUTUAL,
                peers_path("nginx.log"));
}

static int set_up(void **state)
{
        (void)state;
        peers_enter_namespace();
        setenv("https_proxy", "http://127.0.0.1:1", 1); /* what the environment says must not matter */
        peers_make_pki();
        start_nginx();
        trust = peers_trust("node");
        assert_int_equal(
                trust_new(&(struct trust_options){.root_ca_path = peers_path("root.crt")}, &bare_trust, NULL),
                0);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        peers_stop(nginx);
        trust_free(trust);
        trust_free(bare_trust);
        peers_remove_pki();
        return 0;
}

/* ---- asking ---- */

static struct inet_addr addresses[4];

static struct https_request request(uint16_t port, const char *path)
{
        inet_addr_parse("127.0.0.1", &addresses[0]);
        inet_addr_parse("127.0.0.2", &addresses[1]);
        inet_addr_parse("127.0.0.3", &addresses[2]);
        return (struct https_request){.method = "GET",
                .host = HOST,
                .port = port,
                .path = path,
                .addresses = addresses,
                .address_count = 1,
                .trust = trust,
                .timeout_ms = 5000,
                .maximum_bytes = 65536};
}

static struct https_answer ask(const struct https_request *r)
{
        struct https_answer a = {0};
        struct error e = {0};

        if (https_exchange(r, &a, &e) < 0)
                fail_msg("%s: %s", e.code, e.text);
        return a;
}

/* The sentence, good until the next. */
static const char *refused(const struct https_request *r, int number, const char *code)
{
        static struct error e;
        struct https_answer a = {.status = 77};
        int result = https_exchange(r, &a, &e);

        if (result != -number || !str_equal(e.code, code))
                fail_msg("%d %s: %s", result, e.code, e.text);
        assert_int_equal(a.status, 77);
        assert_non_null(strstr(e.text, r->host));
        return e.text;
}

#define assert_says(text, part)                                       \
        do {                                                          \
                const char *_t = (text);                              \
                if (!strstr(_t, part))                                \
                        fail_msg("'%s' does not say '%s'", _t, part); \
        } while (0)

/* nginx writes its log after the answer. */
static char *log_with(const char *name, const char *part)
{
        char *log = NULL;

        for (int i = 0; i < 250; i++) {
                free(log);
                assert_int_equal(file_read(peers_path(name), 1 << 20, &log, NULL, NULL), 0);
                if (strstr(log, part))
                        return log;
                usleep(20000);
        }
        fail_msg("'%s' does not say '%s'", log, part);
        return log;
}

static void gets_a_file(void **state)
{
        struct https_request r = request(PORT_GOOD, "/file");
        struct https_answer a = ask(&r);
        char text[INET_ADDR_TEXT];

        (void)state;
        assert_int_equal(a.status, 200);
        assert_string_equal(a.body, "{}\n");
        assert_int_equal(a.length, 3);
        assert_string_equal(a.content_type, "application/json");
        assert_string_equal(endpoint_format(&a.address, text), "127.0.0.1:4443");
        /* What is there already is not sent again. */
        r.etag = a.etag;
        {
                struct https_answer again = ask(&r);

                assert_int_equal(again.status, 304);
                assert_string_equal(again.body, "");
                https_answer_done(&again);
        }
        https_answer_done(&a);
}

static void says_what_it_sends(void **state)
{
        struct https_request r = request(PORT_GOOD, "/head");
        struct https_answer a;
        _cleanup_free_ char *log = NULL;

        (void)state;
        r.method = "PUT";
        r.body = "{}";
        a = ask(&r);
        assert_string_equal(a.body, "PUT|application/json, application/problem+json|application/json|");
        https_answer_done(&a);
        r = request(PORT_GOOD, "/post");
        r.method = "POST";
        r.body = "[\"a body\"]";
        a = ask(&r);
        assert_int_equal(a.status, 201);
        assert_string_equal(a.body, "stored");
        https_answer_done(&a);
        log = log_with("post.log", "POST [\\x22a body\\x22]");
}

static void a_redirect_is_only_told(void **state)
{
        struct https_request r = request(PORT_GOOD, "/moved");
        struct https_answer a = ask(&r);

        (void)state;
        assert_int_equal(a.status, 302);
        https_answer_done(&a);
}

static void shows_its_certificate_when_asked_to(void **state)
{
        struct https_request r = request(PORT_MUTUAL, "/whoami");
        struct https_answer a;

        (void)state;
        r.mutual = true;
        a = ask(&r);
        assert_int_equal(a.status, 200);
        assert_says(a.body, "CN=");
        https_answer_done(&a);
        r.mutual = false;
        a = ask(&r);
        assert_int_equal(a.status, 400);
        https_answer_done(&a);
        r.mutual = true;
        r.trust = bare_trust;
        a = ask(&r);
        assert_int_equal(a.status, 400);
        https_answer_done(&a);
}

static void a_wrong_root_is_told_and_hears_nothing(void **state)
{
        struct https_request r = request(PORT_FORGED, "/forged-secret");
        _cleanup_free_ char *log = NULL;
        struct https_answer a;
        const char *text;

        (void)state;
        r.method = "POST";
        r.body = "secret";
        text = refused(&r, EACCES, "tls.untrusted");
        assert_says(text, "cannot reach " HOST ":4445: 127.0.0.1: tls: its certificate does not lead to the "
                          "pinned root");
        assert_says(text, "issued by ");
        r = request(PORT_GOOD, "/file?afterwards");
        a = ask(&r);
        https_answer_done(&a);
        log = log_with("access.log", "afterwards");
        assert_null(strstr(log, "forged-secret"));
}

static void other_certificates_that_are_wrong(void **state)
{
        struct https_request r = request(PORT_GOOD, "/file");

        (void)state;
        r.host = "repo.other.example";
        assert_says(refused(&r, EACCES, "tls.wrong-name"), "not for repo.other.example");
        r = request(PORT_EXPIRED, "/file");
        assert_says(refused(&r, EACCES, "tls.not-in-force"), "is the clock right?");
}

static void unverified_only_without_trust(void **state)
{
        struct https_request r = request(PORT_FORGED, "/file");
        struct https_answer a;

        (void)state;
        r.trust = NULL;
        a = ask(&r);
        assert_int_equal(a.status, 200);
        https_answer_done(&a);
}

static void tries_each_address(void **state)
{
        struct https_request r = request(PORT_PEER, "/whoami");
        pid_t peer = peers_misbehave(PORT_PEER, peers_stay_silent);
        struct timespec from, to;
        struct https_answer a;

        (void)state;
        clock_gettime(CLOCK_MONOTONIC, &from);
        r.address_count = 2;
        r.timeout_ms = 1000;
        a = ask(&r);
        clock_gettime(CLOCK_MONOTONIC, &to);
        assert_in_range((to.tv_sec - from.tv_sec) * 1000 + (to.tv_nsec - from.tv_nsec) / 1000000, 450, 950);
        assert_int_equal(((uint8_t *)&a.address.address.v4)[3], 2);
        https_answer_done(&a);
        peers_stop(peer);
        /* Refused: the next at once. */
        a = ask(&r);
        https_answer_done(&a);
}

static void names_each_failure(void **state)
{
        static struct inet_addr many[32];
        struct https_request r = request(PORT_PEER, "/whoami");
        const char *text;

        (void)state;
        addresses[1] = addresses[2];
        r.address_count = 2;
        text = refused(&r, ECONNREFUSED, "tcp.refused");
        assert_says(text, "127.0.0.1: tcp: Connection refused");
        assert_says(text, "127.0.0.3: tcp: Connection refused");
        for (size_t i = 0; i < ELEMENTS(many); i++)
                many[i] = addresses[0];
        r.addresses = many;
        r.address_count = ELEMENTS(many);
        assert_says(refused(&r, ECONNREFUSED, "tcp.refused"), " more");
        r.address_count = 0;
        refused(&r, EHOSTUNREACH, "dns.no-address");
}

static void talk_nonsense(int fd)
{
        peers_read_some(fd);
        peers_send(fd, "HTTP/1.0 200 OK\r\n\r\n", 19);
        usleep(50000);
}

static void reset(int fd)
{
        peers_read_some(fd);
        peers_close_with_reset(fd);
}

static void peers_that_misbehave(void **state)
{
        struct https_request r = request(PORT_PEER, "/whoami");
        pid_t peer;

        (void)state;
        r.timeout_ms = 700;
        peer = peers_misbehave(PORT_PEER, peers_stay_silent);
        assert_says(refused(&r, ETIMEDOUT, "tls.timeout"), "127.0.0.1: tls: no answer within 0.7 s");
        peers_stop(peer);
        peer = peers_misbehave(PORT_PEER, peers_stay_silent);
        r.port = PORT_GOOD;
        r.path = "/slow";
        assert_says(refused(&r, ETIMEDOUT, "http.timeout"), "127.0.0.1: http: no answer within 0.7 s");
        r = request(PORT_PEER, "/whoami");
        peers_stop(peer);
        peer = peers_misbehave(PORT_PEER, talk_nonsense);
        assert_says(refused(&r, EPROTO, "tls.failed"), "127.0.0.1: tls: ");
        peers_stop(peer);
        peer = peers_misbehave(PORT_PEER, reset);
        refused(&r, EPROTO, "tls.failed");
        peers_stop(peer);
}

static void an_answer_is_bounded(void **state)
{
        struct https_request r = request(PORT_GOOD, "/big");
        struct https_answer a;

        (void)state;
        assert_says(refused(&r, EFBIG, "http.too-large"), "65536");
        r.maximum_bytes = 299999;
        refused(&r, EFBIG, "http.too-large");
        r.maximum_bytes = 300000;
        a = ask(&r);
        assert_int_equal(a.length, 300000);
        assert_int_equal(a.body[300000], 0);
        https_answer_done(&a);
}

static void the_source_is_ours_to_choose(void **state)
{
        struct https_request r = request(PORT_GOOD, "/whoami");
        struct https_answer a;

        (void)state;
        inet_addr_parse("127.0.0.77", &r.source);
        r.device = "lo";
        a = ask(&r);
        assert_says(a.body, " 127.0.0.77 " HOST);
        https_answer_done(&a);
        r.device = "nonesuch0";
        assert_says(refused(&r, ENODEV, "tcp.no-interface"), "nonesuch0");
        r.device = NULL;
        inet_addr_parse("198.51.100.9", &r.source);
        assert_says(
                refused(&r, EADDRNOTAVAIL, "tcp.no-source"), "198.51.100.9 is no address of this machine");
        /* A source of the other family says nothing about this one. */
        inet_addr_parse("2001:db8::9", &r.source);
        a = ask(&r);
        https_answer_done(&a);
}

/* ---- a proxy ---- */

static void relay(int a, int b)
{
        struct pollfd fds[2] = {{a, POLLIN, 0}, {b, POLLIN, 0}};
        char buffer[4096];

        while (poll(fds, 2, 5000) > 0)
                for (int i = 0; i < 2; i++) {
                        ssize_t n = fds[i].revents ? read(fds[i].fd, buffer, sizeof(buffer)) : -1;

                        if (fds[i].revents && n <= 0)
                                return;
                        if (n > 0)
                                peers_send(fds[!i].fd, buffer, (size_t)n);
                }
}

static void be_proxy(int fd)
{
        struct endpoint to = peers_endpoint(PORT_GOOD);
        struct sockaddr_storage sa;
        socklen_t length = endpoint_to_sockaddr(&to, &sa);
        char head[2048] = "";
        ssize_t n = read(fd, head, sizeof(head) - 1);
        int other;

        if (n <= 0 || !str_starts_with(head, "CONNECT " HOST ":4443 ")) {
                peers_send(fd, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", 38);
                return;
        }
        other = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(other, (struct sockaddr *)&sa, length) < 0)
                return;
        peers_send(fd, "HTTP/1.1 200 OK\r\n\r\n", 19);
        relay(fd, other);
        close(other);
}

static void goes_by_a_proxy(void **state)
{
        struct https_request r = request(PORT_GOOD, "/whoami");
        pid_t proxy = peers_misbehave(PORT_PROXY, be_proxy);
        struct https_answer a;

        (void)state;
        r.proxy = "http://127.0.0.1:4448";
        r.address_count = 0;
        a = ask(&r);
        assert_int_equal(a.status, 200);
        https_answer_done(&a);
        r.port = PORT_FORGED;
        assert_says(refused(&r, EACCES, "proxy.refused"), "by the proxy http://127.0.0.1:4448: proxy: ");
        peers_stop(proxy);
        refused(&r, ECONNREFUSED, "tcp.refused");
        r.proxy = "http://proxy.example:3128";
        {
                struct https_answer none;
                struct error e;

                assert_int_equal(https_exchange(&r, &none, &e), -EINVAL);
                assert_string_equal(e.code, "http.bad-proxy");
        }
}

static void requests_that_are_refused(void **state)
{
        static const char *const paths[] = {"", "file", "/a b", "/a\r\nX: y", "/\xc3\xa4"};
        struct https_request r = request(PORT_GOOD, "/file");
        struct https_answer a;
        struct error e;

        (void)state;
        for (size_t i = 0; i < ELEMENTS(paths); i++) {
                r.path = paths[i];
                assert_int_equal(https_exchange(&r, &a, &e), -EINVAL);
        }
        r.path = "/file";
        r.etag = "\"a\"\r\nX: y";
        assert_int_equal(https_exchange(&r, &a, &e), -EINVAL);
        r.etag = NULL;
        r.host = "a/b@c";
        assert_int_equal(https_exchange(&r, &a, &e), -EINVAL);
}

static void problems_are_told(void **state)
{
        struct https_request r = request(PORT_GOOD, "/problem");
        struct https_answer a = ask(&r);
        struct error e = {0};

        (void)state;
        assert_int_equal(https_problem(&r, &a, &e), -EEXIST);
        assert_string_equal(e.code, "token.used");
        assert_string_equal(e.text, HOST " says: Token used: by another \\x1b[1mkey (409)");
        https_answer_done(&a);
        r.path = "/odd";
        a = ask(&r);
        assert_int_equal(https_problem(&r, &a, &e), -ESTALE);
        assert_string_equal(e.code, "http.410");
        https_answer_done(&a);
        r.path = "/plain";
        a = ask(&r);
        assert_int_equal(https_problem(&r, &a, &e), -EAGAIN);
        assert_string_equal(e.text, HOST " says: no reason (503)");
        https_answer_done(&a);
}

static void the_codes_of_problems_are_kept(void **state)
{
        struct https_request r = {.host = "h"};
        struct error first = {0}, e = {0};
        char text[128];

        (void)state;
        for (int i = 0; i < 60; i++) {
                struct https_answer a = {
                        .status = 404, .content_type = (char *)"application/problem+json; charset=utf-8"};

                snprintf(text, sizeof(text), "{\"code\":\"made.up-%c%c\"}", 'a' + i / 26, 'a' + i % 26);
                a.body = text;
                a.length = strlen(text);
                assert_int_equal(https_problem(&r, &a, i ? &e : &first), -ENOENT);
        }
        assert_string_equal(first.code, "made.up-aa");
        assert_string_equal(e.code, "http.error");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(gets_a_file),
                cmocka_unit_test(says_what_it_sends),
                cmocka_unit_test(a_redirect_is_only_told),
                cmocka_unit_test(shows_its_certificate_when_asked_to),
                cmocka_unit_test(a_wrong_root_is_told_and_hears_nothing),
                cmocka_unit_test(other_certificates_that_are_wrong),
                cmocka_unit_test(unverified_only_without_trust),
                cmocka_unit_test(tries_each_address),
                cmocka_unit_test(names_each_failure),
                cmocka_unit_test(peers_that_misbehave),
                cmocka_unit_test(an_answer_is_bounded),
                cmocka_unit_test(the_source_is_ours_to_choose),
                cmocka_unit_test(goes_by_a_proxy),
                cmocka_unit_test(requests_that_are_refused),
                cmocka_unit_test(problems_are_told),
                cmocka_unit_test(the_codes_of_problems_are_kept),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
