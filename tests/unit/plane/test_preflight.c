/* gridplane check, in a network namespace of its own. */
#include "plane/preflight_internal.h"
#include "services_world.h"

#include "../scaffold.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/folder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct world w;

static int set_up(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        return 0;
}

/* The text of the first such finding, "" for none. */
static const char *find(const char *code, int64_t at_ms)
{
        static char text[512];
        struct finding *found = NULL;
        size_t count = preflight(&w.settings, at_ms, &found);

        text[0] = '\0';
        for (size_t i = 0; i < count; i++) {
                if (!*text && strcmp(found[i].code, code) == 0)
                        str_copy(text, sizeof(text), found[i].text);
                assert_true(i == 0 || found[i - 1].fatal >= found[i].fatal);
        }
        free(found);
        return text;
}

static size_t fatal_count(void)
{
        struct finding *found = NULL;
        size_t count = preflight(&w.settings, clock_unix_ms(), &found), fatal = 0;

        for (size_t i = 0; i < count; i++)
                if (found[i].fatal) {
                        print_message("%s\n", found[i].text);
                        fatal++;
                }
        free(found);
        return fatal;
}

static int listen_on(const char *address, unsigned port)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        inet_pton(AF_INET, address, &a.sin_addr);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(fd, 1), 0);
        return fd;
}

static void test_nothing_is_wrong(void **state)
{
        (void)state;
        world_init(&w);
        assert_int_equal(fatal_count(), 0);
        world_start(&w); /* and its own servers are no finding */
        assert_int_equal(fatal_count(), 0);
        world_done(&w);
}

static void test_ports(void **state)
{
        int fd;

        (void)state;
        world_init(&w);
        fd = listen_on("127.0.0.1", WORLD_HTTPS);
        assert_non_null(strstr(
                find("port.taken", clock_unix_ms()), "0.0.0.0:1443 is taken by test_preflight (process "));
        close(fd);
        fd = listen_on("127.0.0.2", 18830); /* where nobody of ours listens */
        assert_string_equal(find("port.taken", clock_unix_ms()), "");
        close(fd);
        fd = listen_on("0.0.0.0", 18830);
        assert_non_null(
                strstr(find("port.taken", clock_unix_ms()), "127.0.0.1:18830 is taken by test_preflight"));
        close(fd);
        inet_addr_parse("203.0.113.9", &w.settings.mixed[0].address);
        assert_non_null(strstr(find("address.missing", clock_unix_ms()), "203.0.113.9:1444"));
        w.settings.https[0].port = 40000;
        assert_non_null(strstr(find("port.ephemeral", clock_unix_ms()), "port 40000"));
        world_done(&w);
}

static void test_clock_and_certificates(void **state)
{
        const int64_t year_ms = INT64_C(365) * 86400 * 1000;

        (void)state;
        world_init(&w);
        assert_non_null(strstr(find("clock.wrong", INT64_C(1000) * 86400 * 1000), "1972-09-27"));
        assert_non_null(strstr(find("clock.wrong", clock_unix_ms() - year_ms / 2), "the root certificate"));
        assert_string_equal(find("certificate.expiring", clock_unix_ms()), "");
        assert_non_null(strstr(find("certificate.expiring", clock_unix_ms() + 6 * year_ms), "intermediate"));
        assert_non_null(strstr(find("certificate.expiring", clock_unix_ms() + 6 * year_ms), "ended"));
        world_done(&w);
}

static void test_outside_broker(void **state)
{
        int fd;

        (void)state;
        world_init(&w);
        w.settings.broker_url = strdup("mqtts://127.0.0.1:18840");
        w.settings.broker_host = strdup("127.0.0.1");
        w.settings.broker_port = 18840;
        w.settings.broker_certificate = strdup("/nonexistent.crt");
        w.settings.broker_key = strdup(w.node_key[0]);
        assert_int_equal(chmod(w.node_key[0], 0600), 0);
        w.settings.broker_root_ca = strdup(ca_root_path(w.ca));
        assert_non_null(strstr(find("certificate.unreadable", clock_unix_ms()), "/nonexistent.crt"));
        free(w.settings.broker_certificate);
        w.settings.broker_certificate = strdup(w.node_certificate[0]);
        assert_string_equal(find("certificate.unreadable", clock_unix_ms()), "");
        assert_non_null(strstr(find("part.unreachable", clock_unix_ms()), "broker at 127.0.0.1"));
        assert_non_null(strstr(find("certificate.expiring", clock_unix_ms() + INT64_C(80) * 86400 * 1000),
                "outside broker"));
        assert_int_equal(chmod(w.node_key[0], 0644), 0);
        assert_non_null(strstr(find("certificate.unreadable", clock_unix_ms()), "chmod 600"));
        fd = listen_on("127.0.0.1", 18840); /* and says nothing */
        assert_string_equal(find("part.unreachable", clock_unix_ms()), "");
        assert_non_null(strstr(find("part.refused", clock_unix_ms()), "do not believe each other"));
        close(fd);
        free(w.settings.broker_host);
        w.settings.broker_host = strdup("broker.invalid");
        assert_non_null(strstr(find("part.unknown", clock_unix_ms()), "broker.invalid cannot be looked up"));
        world_done(&w);
}

static void test_outside_registry(void **state)
{
        int fd;

        (void)state;
        world_init(&w);
        w.settings.registry_url = strdup("http://127.0.0.1:18841");
        w.settings.registry_host = strdup("127.0.0.1");
        w.settings.registry_port = 18841;
        assert_non_null(strstr(find("part.unreachable", clock_unix_ms()), "registry at 127.0.0.1"));
        fd = listen_on("127.0.0.1", 18841);
        assert_string_equal(find("part.unreachable", clock_unix_ms()), "");
        close(fd);
        w.settings.registry_root_ca = strdup("/nonexistent.pem");
        assert_non_null(strstr(find("certificate.unreadable", clock_unix_ms()), "/nonexistent.pem"));
        world_done(&w);
}

static void test_folders_and_user(void **state)
{
        char elsewhere[64];

        (void)state;
        world_init(&w);
        assert_int_equal(chmod(w.settings.paths.state, 0777), 0);
        assert_non_null(strstr(find("folder.refused", clock_unix_ms()), "mode 0777"));
        assert_int_equal(chmod(w.settings.paths.state, 0700), 0);
        snprintf(elsewhere, sizeof(elsewhere), "%s.moved", w.settings.paths.state);
        assert_int_equal(rename(w.settings.paths.state, elsewhere), 0);
        assert_int_equal(symlink(elsewhere, w.settings.paths.state), 0);
        assert_non_null(strstr(find("folder.refused", clock_unix_ms()), "symbolic link"));
        assert_int_equal(unlink(w.settings.paths.state), 0);
        assert_int_equal(rename(elsewhere, w.settings.paths.state), 0);
        w.settings.user = strdup("nobody-of-that-name");
        assert_non_null(strstr(find("user.unknown", clock_unix_ms()), "nobody-of-that-name"));
        world_done(&w);
}

static void write_program(const char *folder, const char *name, const char *says)
{
        char path[128], text[256];

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        snprintf(text, sizeof(text), "#!/bin/echo %s\n", says);
        assert_int_equal(file_save(path, text, strlen(text), 0755, NULL), 0);
}

static void test_programs(void **state)
{
        _cleanup_free_ char *before = strdup(getenv("PATH"));

        (void)state;
        world_init(&w);
        setenv("PATH", w.root, 1);
        write_program(w.root, "mosquitto", "mosquitto version 1.6.9");
        assert_non_null(strstr(
                find("program.version", clock_unix_ms()), "mosquitto is version 1.6.9, and 2.0.0 is needed"));
        write_program(w.root, "mosquitto", "hello");
        assert_non_null(strstr(find("program.version", clock_unix_ms()), "does not tell its version"));
        write_program(w.root, "mosquitto", "mosquitto version 2.0.11");
        assert_string_equal(find("program.version", clock_unix_ms()), "");
        write_program(w.root, "nginx", "nginx version: nginx/1.26.0 --with-http_ssl_module");
        assert_non_null(strstr(find("program.module", clock_unix_ms()), "was built without"));
        setenv("PATH", before, 1);
        world_done(&w);
}

/* Ended by SIGKILL `times` times before it answers; a part of its words is out by then. */
static void write_victim(const char *folder, const char *name, int times, const char *says)
{
        char path[128], text[1024];

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        snprintf(text, sizeof(text),
                "#!/bin/sh\nn=0; [ -e %s.n ] && read -r n < %s.n\necho $((n + 1)) > %s.n\n"
                "if [ $n -lt %d ]; then printf 'mosquitto version 1.0.0'; kill -9 $$; fi\necho '%s'\n",
                path, path, path, times, says);
        assert_int_equal(file_save(path, text, strlen(text), 0755, NULL), 0);
        snprintf(path, sizeof(path), "%s/%s.n", folder, name);
        unlink(path);
}

static void test_killed_when_asked(void **state)
{
        _cleanup_free_ char *before = strdup(getenv("PATH"));
        const char *found;

        (void)state;
        world_init(&w);
        setenv("PATH", w.root, 1);
        write_victim(w.root, "mosquitto", 2, "mosquitto version 2.0.11");
        assert_string_equal(find("program.version", clock_unix_ms()), "");
        write_victim(w.root, "mosquitto", 99, "mosquitto version 2.0.11");
        found = find("program.version", clock_unix_ms());
        assert_non_null(strstr(found, "was ended by signal 9 (Killed) each of 3 times"));
        assert_non_null(strstr(found, "mosquitto does not tell its version (-h)"));
        setenv("PATH", before, 1);
        world_done(&w);
}

static void test_versions(void **state)
{
        unsigned v[3];

        (void)state;
        assert_true(preflight_find_version("nginx version: nginx/1.22.1\n", v));
        assert_int_equal(v[0] * 10000 + v[1] * 100 + v[2], 12201);
        assert_true(preflight_find_version("docker-registry github.com/docker/distribution 2.8.2+ds1", v));
        assert_int_equal(v[0] * 10000 + v[1] * 100 + v[2], 20802);
        assert_true(preflight_find_version("1.2 3.4.5", v));
        assert_int_equal(v[0], 3);
        assert_false(preflight_find_version("", v));
        assert_false(preflight_find_version("version 1.2", v));
        assert_false(preflight_find_version("1.2.", v));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_versions),
                cmocka_unit_test(test_nothing_is_wrong),
                cmocka_unit_test(test_ports),
                cmocka_unit_test(test_clock_and_certificates),
                cmocka_unit_test(test_outside_broker),
                cmocka_unit_test(test_outside_registry),
                cmocka_unit_test(test_folders_and_user),
                cmocka_unit_test(test_programs),
                cmocka_unit_test(test_killed_when_asked),
        };

        return cmocka_run_group_tests(tests, set_up, NULL);
}
