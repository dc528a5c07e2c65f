/* The configurations as texts, then the real servers: what they answer, what they refuse, how they live. */
#include "services_world.h"

#include "plane/services_internal.h"

#include "../scaffold.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define REPO "repo." WORLD_DOMAIN

/* ---- texts ---- */

static const struct services_facts facts = {
        .certificate = "/c.crt",
        .key = "/c.key",
        .root = "/root.crt",
        .bundle = "/bundle.crt",
        .crl = "/revoked.crl",
        .registry_secret = "s",
        .files = 20000,
        .has_ipv6 = true,
};

static struct plane_settings settings(const char *text)
{
        struct plane_options o = {.root = "/srv/x", .domain = "grid.example"};
        struct plane_settings s;
        struct error e = {0};

        if (plane_settings_parse(&o, "c", text, strlen(text), &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static void assert_has(const char *text, const char *wanted)
{
        if (!strstr(text, wanted))
                fail_msg("'%s' is not in:\n%s", wanted, text);
}

static void assert_has_not(const char *text, const char *unwanted)
{
        if (strstr(text, unwanted))
                fail_msg("'%s' is in:\n%s", unwanted, text);
}

static void test_acl(void **state)
{
        _cleanup_free_ char *acl = services_mosquitto_acl();

        (void)state;
        assert_string_equal(acl,
                "pattern write node/%u/status\npattern write node/%u/event\npattern write node/%u/report\n"
                "pattern write node/%u/config/applied\npattern write node/%u/out/#\n"
                "pattern read node/%u/ack\npattern read node/%u/config\npattern read node/%u/request\n");
}

/* An option of a listener before the first one would open another, on 1883 of every address. */
static void test_mosquitto_text(void **state)
{
        struct plane_settings s = settings("");
        _cleanup_free_ char *text = services_mosquitto_configuration(&s, &facts);
        const char *listener = strstr(text, "\nlistener ");

        (void)state;
        assert_non_null(listener);
        assert_has(text, "listener 18830 127.0.0.1\n");
        assert_has(text, "listener 0 /srv/x/run/gridplane/broker.sock\n");
        assert_has(text, "\nrequire_certificate true\n");
        assert_has(text, "\ncrlfile /revoked.crl\n");
        assert_has_not(text, "user root");
        assert_has(text, "\nlog_type debug\n"); /* else nobody hears of what it refuses */
        static const char *const of_a_listener[] = {"allow_", "max_connections", "socket_domain", "use_"};
        for (size_t i = 0; i < ELEMENTS(of_a_listener); i++)
                assert_true(strstr(text, of_a_listener[i]) > listener);
        plane_settings_done(&s);
}

static void test_splitter_text(void **state)
{
        struct plane_settings s = settings("[plane]\nlisten = 198.51.100.20:443,198.51.100.20:8443,"
                                           "[2001:db8::20]:8443\n[broker]\nurl = mqtts://[2001:db8::9]\n"
                                           "certificate = c\nkey = k\nroot-ca = r\n");
        _cleanup_free_ char *text = services_splitter_configuration(&s, &facts);

        (void)state;
        assert_has(text, "listen 198.51.100.20:8443 ");
        assert_has(text, "listen [2001:db8::20]:8443 ");
        assert_has_not(text, ":443 ");
        assert_has(text, "proxy_pass [2001:db8::9]:8883;");
        assert_has_not(text, "load_module");
        plane_settings_done(&s);
}

static void test_nginx_text(void **state)
{
        struct plane_settings s = settings("[registry]\nurl = https://registry.example\n");
        struct services_facts no_ipv6 = facts;
        _cleanup_free_ char *text = services_nginx_configuration(&s, &facts), *plain = NULL;

        (void)state;
        assert_has(text, "listen 443 ");
        assert_has(text, "listen [::]:443 ");
        assert_has(text, "upstream registry { server registry.example:443 max_fails=1 ");
        assert_has(text, "proxy_next_upstream error timeout; ");
        assert_has(text, "proxy_pass https://registry$uri_judged;");
        assert_has(text, "proxy_ssl_name \"registry.example\";");
        assert_has(text, "proxy_ssl_verify on;");
        assert_has(text, "proxy_ssl_trusted_certificate \"/etc/ssl/certs/ca-certificates.crt\";");
        assert_has_not(text, "proxy_ssl_certificate ");
        assert_has_not(text, "registry.sock");
        no_ipv6.has_ipv6 = false;
        plain = services_nginx_configuration(&s, &no_ipv6);
        assert_has_not(plain, "[::]");
        plane_settings_done(&s);
}

/* What an outside part is told of, and what it is not. */
static void test_outside_text(void **state)
{
        struct plane_settings s = settings(
                                      "[registry]\nurl = http://registry.example:5000\n"
                                      "[broker]\nurl = mqtts://b.example\nnodes = n.example:8884\n"
                                      "certificate = c\nkey = k\nroot-ca = r\n[proxy]\nexternal = yes\n"),
                              tls = settings("[registry]\nurl = https://registry.example\ncertificate = /c\n"
                                             "key = /k\nroot-ca = /r\n");
        struct services_facts named = facts;
        _cleanup_free_ char *text = NULL, *splitter = services_splitter_configuration(&s, &facts),
                            *with_tls = services_nginx_configuration(&tls, &facts);

        (void)state;
        named.user = "grid";
        named.group = "nogroup";
        text = services_nginx_configuration(&s, &named);
        assert_has(text, "user \"grid\" \"nogroup\";");
        assert_has(text, "server registry.example:5000 ");
        assert_has(text, "proxy_pass http://registry$uri_judged;");
        assert_has(text, "proxy_set_header Host registry.example:5000;");
        assert_has(text, "proxy_set_header X-Forwarded-Host $http_host;");
        assert_has(text, "proxy_set_header X-Client-Certificate \"\";");
        assert_has_not(text, "proxy_ssl_");
        assert_has(splitter, "proxy_pass n.example:8884;");
        assert_has_not(splitter, "user ");
        assert_has(with_tls, "proxy_ssl_trusted_certificate \"/r\";");
        assert_has(with_tls, "proxy_ssl_certificate \"/c\";");
        assert_has(with_tls, "proxy_ssl_certificate_key \"/k\";");
        assert_has_not(with_tls, "user ");
        plane_settings_done(&s);
        plane_settings_done(&tls);
}

/* ---- HTTPS ---- */

static struct world w;

static int set_up(void **state)
{
        (void)state;
        world_init(&w);
        world_start(&w);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        world_done(&w);
        return 0;
}

static void assert_status(const char *answer, const char *status)
{
        _cleanup_free_ char *wanted = xasprintf("HTTP/1.1 %s", status);

        if (!str_starts_with(answer, wanted))
                fail_msg("not '%s' but:\n%.400s", wanted, answer);
}

static void test_both_ports_serve_the_same(void **state)
{
        static const unsigned ports[] = {WORLD_HTTPS, WORLD_MIXED};
        _cleanup_free_ char *root = NULL;
        size_t length;

        (void)state;
        assert_int_equal(file_read(ca_root_path(w.ca), 65536, &root, &length, NULL), 0);
        for (size_t i = 0; i < ELEMENTS(ports); i++) {
                _cleanup_free_ char *a = world_get(&w, ports[i], -1, REPO, "/.well-known/gridnode", NULL);
                _cleanup_free_ char *b =
                        world_get(&w, ports[i], -1, REPO, "/.well-known/gridnode/root.pem", NULL);
                _cleanup_free_ char *c =
                        world_get(&w, ports[i], -1, REPO, "/.well-known/gridnode/crl.pem", NULL);
                _cleanup_free_ char *d =
                        world_get(&w, ports[i], -1, REPO, "/.well-known/gridnode/payload?bytes=262144", NULL);

                assert_status(a, "200");
                assert_has(a, "{\"service\":\"repo\"}");
                assert_has(a, "X-Content-Type-Options: nosniff");
                assert_has_not(a, "nginx/");
                assert_has(b, root);
                assert_has(c, "BEGIN X509 CRL");
                assert_has(d, "Content-Length: 262144");
        }
}

static void test_who_asks(void **state)
{
        static const char forged[] = "X-Client-Verify: SUCCESS\r\nX-Client-Certificate: forged\r\n"
                                     "X_Client_Verify: SUCCESS\r\nX_Client_Certificate: forged\r\n"
                                     "X-Forwarded-For: 192.0.2.66\r\nX-Organisation: forged\r\n"
                                     "X-Original-URI: forged\r\nForwarded: for=192.0.2.66\r\n";
        static const unsigned ports[] = {WORLD_HTTPS, WORLD_MIXED};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(ports); i++) {
                _cleanup_free_ char *none = world_get(&w, ports[i], -1, REPO, "/api/v1/x", forged);
                _cleanup_free_ char *node = world_get(&w, ports[i], 0, REPO, "/api/v1/x", forged);

                assert_status(none, "200");
                assert_has(none, "X-Client-Verify: NONE\r\n");
                assert_has(none, "X-Forwarded-For: 127.0.0.1\r\n"); /* through the splitter as well */
                assert_has_not(none, "forged");
                assert_has_not(none, "192.0.2.66");
                assert_has_not(none, "SUCCESS");
                assert_has(node, "X-Client-Verify: SUCCESS\r\n");
                assert_has(node, "X-Client-Certificate: -----BEGIN%20CERTIFICATE-----");
                assert_has_not(node, "forged");
        }
}

static void test_other_hosts(void **state)
{
        _cleanup_free_ char *host = world_get(&w, WORLD_HTTPS, -1, "other.example", "/api/v1/x", NULL);
        _cleanup_free_ char *name = world_ask(&w, WORLD_MIXED, "other.example", -1,
                "GET /api/v1/x HTTP/1.1\r\nHost: other.example\r\nConnection: close\r\n\r\n");
        _cleanup_free_ char *nameless = world_ask(
                &w, WORLD_HTTPS, NULL, -1, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");

        (void)state;
        assert_status(host, "421");
        assert_status(name, "421");
        assert_status(nameless, "421");
        assert_has(host, "application/problem+json");
}

#define POST "POST /api/v1/x HTTP/1.1\r\nHost: " REPO "\r\n"
#define NEXT "0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: " REPO "\r\nConnection: close\r\n\r\n"

static void test_smuggling(void **state)
{
        static const char *const bad[] = {
                POST "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" NEXT,
                POST "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
                POST "Content-Length: +4\r\n\r\nabcd",
                POST "Transfer-Encoding : chunked\r\n\r\n" NEXT,
                POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" NEXT,
                POST "X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n" NEXT,
                "POST /api/v1/x HTTP/1.0\r\nHost: " REPO "\r\nTransfer-Encoding: chunked\r\n\r\n" NEXT,
                "GET /api/v1/x HTTP/1.1\r\n\r\n",
                "GET /api/v1/x HTTP/1.1\r\nHost: " REPO "\r\nHost: " REPO "\r\n\r\n",
                "GET /api/../../x HTTP/1.1\r\nHost: " REPO "\r\n\r\n",
                "GET /api/%00 HTTP/1.1\r\nHost: " REPO "\r\n\r\n",
        };
        _cleanup_free_ char *unknown =
                world_ask(&w, WORLD_HTTPS, REPO, -1, POST "Transfer-Encoding: xchunked\r\n\r\n" NEXT);

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                _cleanup_free_ char *answer = world_ask(&w, WORLD_HTTPS, REPO, -1, bad[i]);

                assert_status(answer, "400");
                assert_has_not(answer, "GET /metrics"); /* what the double would say of a second request */
        }
        assert_status(unknown, "501");
        assert_has_not(unknown, "GET /metrics");
}

/* What was matched is what the API is asked for. */
static void test_paths(void **state)
{
        static const struct {
                const char *path, *status, *seen;
        } cases[] = {
                {"/internal/registry", "404", NULL},
                {"/api/../internal/registry", "404", NULL},
                {"/api/v1/..%2f..%2finternal/registry", "404", NULL},
                {"//internal//registry", "404", NULL},
                {"/.problem/400", "404", NULL},
                {"/internal/registry/../../api/v1/x", "200", "GET /api/v1/x HTTP/1.1"},
                {"/api//v1///x?a=%2e%2e//b", "200", "GET /api/v1/x?a=%2e%2e//b HTTP/1.1"},
                {"/api/v1/a%0d%0aX-Evil:1", "200", "GET /api/v1/a%0D%0AX-Evil:1 HTTP/1.1"},
                {"/metrics", "200", "GET /metrics HTTP/1.1"},
                {"/metrics/", "404", NULL},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *answer = world_get(&w, WORLD_HTTPS, -1, REPO, cases[i].path, NULL);

                assert_status(answer, cases[i].status);
                if (cases[i].seen)
                        assert_has(answer, cases[i].seen);
        }
}

static void test_registry(void **state)
{
        _cleanup_free_ char *stranger = world_get(&w, WORLD_HTTPS, -1, REPO, "/v2/", NULL);
        _cleanup_free_ char *friend =
                world_get(&w, WORLD_MIXED, -1, REPO, "/v2/", "Authorization: Bearer right\r\n");
        _cleanup_free_ char *odd = world_get(
                &w, WORLD_HTTPS, -1, REPO, "/v2/a%0ab/tags/list", "Authorization: Bearer right\r\n");

        (void)state;
        assert_status(stranger, "401");
        assert_has(stranger, "WWW-Authenticate: Basic realm=\"grid\"");
        assert_status(friend, "200");
        assert_has(friend, "Docker-Distribution-Api-Version: registry/2.0");
        assert_status(odd, "404");
}

/* Without the API, its clients are told to come again. */
static void test_api_is_away(void **state)
{
        _cleanup_free_ char *away = NULL, *moved = xasprintf("%s.away", w.settings.api_socket), *back = NULL;

        (void)state;
        assert_int_equal(rename(w.settings.api_socket, moved), 0);
        away = world_get(&w, WORLD_HTTPS, -1, REPO, "/api/v1/x", NULL);
        assert_int_equal(rename(moved, w.settings.api_socket), 0);
        back = world_get(&w, WORLD_HTTPS, -1, REPO, "/api/v1/x", NULL);
        assert_status(away, "503");
        assert_has(away, "\"status\":503");
        assert_status(back, "200");
}

static void test_limits(void **state)
{
        _cleanup_free_ char *large = world_ask(
                &w, WORLD_HTTPS, REPO, -1, POST "Connection: close\r\nContent-Length: 1100000\r\n\r\n");
        _cleanup_free_ char *method = world_ask(&w, WORLD_HTTPS, REPO, -1,
                "TRACE /api/v1/x HTTP/1.1\r\nHost: " REPO "\r\nConnection: close\r\n\r\n");

        (void)state;
        assert_status(large, "413");
        assert_status(method, "405");
}

static bool access_log_has_line(struct world *x)
{
        _cleanup_free_ char *path = path_join(x->settings.paths.state, "log/access.log");
        struct stat st;

        return stat(path, &st) == 0 && st.st_size > 0;
}

static void test_access_log(void **state)
{
        _cleanup_free_ char *path = path_join(w.settings.paths.state, "log/access.log"), *text = NULL;
        _cleanup_free_ char *answer = world_get(&w, WORLD_HTTPS, 0, REPO, "/api/v1/x?q=\"\\%01",
                "Authorization: Bearer secret\r\nCookie: gridplane=secret\r\n");
        size_t length;

        (void)state;
        assert_true(world_wait(&w, access_log_has_line, 5000));
        assert_int_equal(file_read(path, 1 << 20, &text, &length, NULL), 0);
        assert_has_not(text, "secret");
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
                json_t *object = json_loads(line, 0, NULL);

                assert_non_null(object);
                assert_string_equal(json_string_value(json_object_get(object, "client")), "127.0.0.1");
                json_decref(object);
        }
}

/* ---- life ---- */

static bool nginx_came_back(struct world *x)
{
        struct service_view v = world_view(x, "nginx");

        return v.restarts == 1 && str_equal(v.state, "running") && services_are_ready(x->services);
}

static void test_killed_child_comes_back(void **state)
{
        _cleanup_free_ char *answer = NULL;
        int pid = world_view(&w, "nginx").pid;

        (void)state;
        kill(pid, SIGKILL); /* its workers live on and hold the port */
        assert_true(world_wait(&w, nginx_came_back, 10000));
        assert_int_not_equal(world_view(&w, "nginx").pid, pid);
        assert_has(world_view(&w, "nginx").last_error, "was ended by signal 9");
        answer = world_get(&w, WORLD_HTTPS, -1, REPO, "/.well-known/gridnode", NULL);
        assert_status(answer, "200");
}

static void test_revoked_certificate_is_refused(void **state)
{
        _cleanup_free_ char *before = world_get(&w, WORLD_HTTPS, 1, REPO, "/api/v1/x", NULL), *after = NULL;
        struct strv serials = {0};
        struct error e = {0};

        (void)state;
        assert_status(before, "200");
        strv_add(&serials, w.node_serial[1]);
        assert_int_equal(ca_write_crl(w.ca, &serials, time(NULL), &e), 0);
        assert_int_equal(services_reload(w.services, &e), 0);
        for (int i = 0; i < 50; i++) {
                free(after);
                after = world_get(&w, WORLD_HTTPS, 1, REPO, "/api/v1/x", NULL);
                if (str_starts_with(after, "HTTP/1.1 403"))
                        break;
                sd_event_run(w.event, 100000);
        }
        assert_status(after, "403");
        assert_has(after, "certificate revoked");
        strv_done(&serials);
}

static bool mosquitto_failed_again(struct world *x)
{
        struct service_view v = world_view(x, "mosquitto");

        return v.restarts >= 1 && str_equal(v.state, "waiting");
}

/* Its words pass through us on the way to its log: the last ones, too. */
static void test_last_words_of_mosquitto(void **state)
{
        _cleanup_free_ char *configuration = service_file(&w.settings, "mosquitto", "mosquitto.conf"),
                            *log = service_log(&w.settings, "mosquitto"), *text = NULL;
        FILE *f = fopen(configuration, "ae");
        size_t length;

        (void)state;
        assert_non_null(f);
        fprintf(f, "no_such_option true\n");
        assert_int_equal(fclose(f), 0);
        kill(world_view(&w, "mosquitto").pid, SIGKILL);
        assert_true(world_wait(&w, mosquitto_failed_again, 10000));
        assert_has(world_view(&w, "mosquitto").last_error, "mosquitto.conf:");
        assert_int_equal(file_read(log, 1 << 20, &text, &length, NULL), 0);
        assert_has(text, "Error: Unknown configuration variable \"no_such_option\".\n");
}

static const char *const programs[][2] = {{"nginx", "nginx"}, {"splitter", "nginx"},
        {"mosquitto", "mosquitto"}, {"registry", "docker-registry"}};

static void test_free_leaves_nothing(void **state)
{
        struct world x;

        (void)state;
        world_init(&x);
        world_start(&x);
        x.services = services_free(x.services);
        for (size_t i = 0; i < ELEMENTS(programs); i++) {
                _cleanup_free_ char *folder = service_folder(&x.settings, programs[i][0]);

                assert_int_equal(service_sweep(programs[i][1], folder), 0);
        }
        world_done(&x);
}

/* A plane is killed together with nginx's masters, so that workers are left on the ports. */
static void test_start_after_a_killed_plane(void **state)
{
        struct world x;
        int to_us[2], plane;
        int pids[2] = {0};

        (void)state;
        world_init(&x);
        assert_int_equal(pipe(to_us), 0);
        plane = fork();
        if (plane == 0) {
                alarm(30);
                close(to_us[0]);
                world_new_services(&x);
                world_start(&x);
                pids[0] = world_view(&x, "nginx").pid;
                pids[1] = world_view(&x, "splitter").pid;
                if (write(to_us[1], pids, sizeof(pids)) != sizeof(pids))
                        _exit(1);
                pause();
        }
        close(to_us[1]);
        assert_int_equal(read(to_us[0], pids, sizeof(pids)), sizeof(pids));
        kill(plane, SIGKILL);
        kill(pids[0], SIGKILL);
        kill(pids[1], SIGKILL);
        waitpid(plane, NULL, 0);
        world_start(&x);
        assert_int_equal(world_view(&x, "nginx").restarts, 0);
        assert_int_equal(world_view(&x, "splitter").restarts, 0);
        world_done(&x);
        close(to_us[0]);
}

static void test_refused_configuration(void **state)
{
        struct world x;
        struct error e = {0};

        (void)state;
        world_init(&x);
        inet_addr_parse("203.0.113.77", &x.settings.https[0].address); /* nobody's here */
        assert_true(services_start(x.services, &e) < 0);
        assert_has(e.text, "bind() to 203.0.113.77:1443 failed");
        world_done(&x);
}

/* nginx -t, and nothing else of this: ended by SIGKILL `times` times, then what nginx is. */
static void write_victim(const char *folder, int times)
{
        char path[128], text[1024];

        snprintf(path, sizeof(path), "%s/nginx", folder);
        snprintf(text, sizeof(text),
                "#!/bin/sh\nn=0; [ -e %s.n ] && read -r n < %s.n\n"
                "case \"$*\" in *\" -t\") echo $((n + 1)) > %s.n; [ $n -lt %d ] && kill -9 $$;; esac\n"
                "exec /usr/sbin/nginx \"$@\"\n",
                path, path, path, times);
        assert_int_equal(file_save(path, text, strlen(text), 0755, NULL), 0);
}

/* Its opinion was never heard: it is asked again, and at last that is what is said. */
static void test_killed_check(void **state)
{
        _cleanup_free_ char *before = strdup(getenv("PATH")), *path = NULL;
        char folder[] = "/tmp/test-services-XXXXXX", file[64];
        struct error e = {0};

        (void)state;
        assert_non_null(mkdtemp(folder));
        path = xasprintf("%s:%s", folder, before);
        for (int times = 2; times <= 99; times += 97) {
                struct world x;

                write_victim(folder, times);
                setenv("PATH", path, 1);
                world_init(&x);
                setenv("PATH", before, 1);
                if (times == 2) {
                        assert_int_equal(services_start(x.services, &e), 0);
                } else {
                        assert_int_equal(services_start(x.services, &e), -EINTR);
                        assert_has(e.text, "nginx was ended by signal 9 (Killed) each of 3 times");
                }
                world_done(&x);
                snprintf(file, sizeof(file), "%s/nginx.n", folder);
                unlink(file);
        }
        snprintf(file, sizeof(file), "%s/nginx", folder);
        unlink(file);
        rmdir(folder);
}

static int enter(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        return 0;
}

int main(void)
{
        static const struct CMUnitTest texts[] = {
                cmocka_unit_test(test_acl),
                cmocka_unit_test(test_mosquitto_text),
                cmocka_unit_test(test_splitter_text),
                cmocka_unit_test(test_nginx_text),
                cmocka_unit_test(test_outside_text),
        };
        static const struct CMUnitTest life[] = {
                cmocka_unit_test(test_free_leaves_nothing),
                cmocka_unit_test(test_start_after_a_killed_plane),
                cmocka_unit_test(test_refused_configuration),
                cmocka_unit_test(test_killed_check),
        };
        static const struct CMUnitTest running[] = {
                cmocka_unit_test(test_both_ports_serve_the_same),
                cmocka_unit_test(test_who_asks),
                cmocka_unit_test(test_other_hosts),
                cmocka_unit_test(test_smuggling),
                cmocka_unit_test(test_paths),
                cmocka_unit_test(test_registry),
                cmocka_unit_test(test_api_is_away),
                cmocka_unit_test(test_limits),
                cmocka_unit_test(test_access_log),
                cmocka_unit_test(test_killed_child_comes_back),
                cmocka_unit_test(test_revoked_certificate_is_refused),
                cmocka_unit_test(test_last_words_of_mosquitto),
        };
        int r = cmocka_run_group_tests(texts, NULL, NULL);

        r |= cmocka_run_group_tests(life, enter, NULL);
        return r | cmocka_run_group_tests(running, set_up, tear_down);
}
