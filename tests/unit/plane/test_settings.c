#include "plane/settings.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "net/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct plane_options at_root = {.root = "/srv/x"};

static struct plane_settings parse(const struct plane_options *o, const char *text)
{
        struct plane_settings s = {0};
        struct error e = {0};

        if (plane_settings_parse(o, "/etc/gridplane/gridplane.conf", text, strlen(text), &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static void assert_refused(const struct plane_options *o, const char *text, const char *wanted)
{
        struct plane_settings s = {0};
        struct error e = {0};

        assert_true(plane_settings_parse(o, "c", text, strlen(text), &s, &e) < 0);
        assert_null(s.domain);
        assert_non_null(e.code);
        assert_string_equal(e.text, wanted);
}

static void assert_endpoint(const struct endpoint *e, const char *address, unsigned port)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(inet_addr_format(&e->address, text), address);
        assert_int_equal(e->port, port);
}

/* ---- what is right ---- */

static void test_defaults(void **state)
{
        struct plane_options o = {.root = "/srv/x", .domain = "Grid.Example"};
        struct plane_settings s = parse(&o, "");

        (void)state;
        assert_string_equal(s.domain, "grid.example");
        assert_string_equal(s.repo_host, "repo.grid.example");
        assert_string_equal(s.control_host, "control.grid.example");
        assert_string_equal(s.config_path, "/srv/x/etc/gridplane/gridplane.conf");
        assert_string_equal(s.paths.state, "/srv/x/var/lib/gridplane");
        assert_string_equal(s.api_socket, "/srv/x/run/gridplane/api.sock");
        assert_string_equal(s.admin_socket, "/srv/x/run/gridplane/admin.sock");
        assert_string_equal(s.broker_socket, "/srv/x/run/gridplane/broker.sock");
        assert_string_equal(s.registry_socket, "/srv/x/run/gridplane/registry.sock");
        assert_int_equal(s.https_count, 1);
        assert_int_equal(s.mixed_count, 1);
        assert_endpoint(&s.https[0], "", 443);
        assert_endpoint(&s.mixed[0], "", 8443);
        assert_string_equal(s.profile_name, "grid");
        assert_int_equal(s.broker_port, 18830);
        assert_null(s.user);
        assert_null(s.broker_url);
        assert_null(s.registry_url);
        assert_false(s.proxy_is_external);
        plane_settings_done(&s);
}

static void test_whole_file(void **state)
{
        struct plane_settings s = parse(&at_root,
                "[plane]\ndomain = grid.example\n"
                "listen = 198.51.100.20:443, [2001:db8::20]:443; 198.51.100.20:8443\nuser = grid-plane\n"
                "[profile]\nname = north_1\nranges = 198.51.100.16/28;2001:db8::/64;198.51.100.16/28\n"
                "repo-addresses = 198.51.100.20;203.0.113.200\ncontrol-addresses = 198.51.100.21\n"
                "[broker]\nurl = mqtts://broker.example\ncertificate = b.crt\nkey = /k\nroot-ca = r.pem\n"
                "nodes = [2001:db8::9]:8884\n"
                "[registry]\nurl = https://registry.example:5000/\ncertificate = c.crt\nkey = c.key\n"
                "root-ca = /q\n[proxy]\nexternal = yes\n");

        (void)state;
        assert_int_equal(s.https_count, 2);
        assert_endpoint(&s.https[0], "198.51.100.20", 443);
        assert_endpoint(&s.https[1], "2001:db8::20", 443);
        assert_int_equal(s.mixed_count, 1);
        assert_endpoint(&s.mixed[0], "198.51.100.20", 8443);
        assert_string_equal(s.user, "grid-plane");
        assert_string_equal(s.profile_name, "north_1");
        assert_int_equal(s.ranges.count, 2);
        assert_string_equal(s.broker_url, "mqtts://broker.example");
        assert_string_equal(s.broker_host, "broker.example");
        assert_int_equal(s.broker_port, 8883);
        assert_string_equal(s.broker_certificate, "/etc/gridplane/b.crt");
        assert_string_equal(s.broker_key, "/k");
        assert_string_equal(s.broker_root_ca, "/etc/gridplane/r.pem");
        assert_string_equal(s.broker_nodes_host, "2001:db8::9");
        assert_int_equal(s.broker_nodes_port, 8884);
        assert_string_equal(s.registry_url, "https://registry.example:5000");
        assert_string_equal(s.registry_host, "registry.example");
        assert_int_equal(s.registry_port, 5000);
        assert_string_equal(s.registry_certificate, "/etc/gridplane/c.crt");
        assert_string_equal(s.registry_key, "/etc/gridplane/c.key");
        assert_string_equal(s.registry_root_ca, "/q");
        assert_true(s.proxy_is_external);
        plane_settings_done(&s);
}

static void test_options_overrule_the_file(void **state)
{
        struct plane_options o = {.root = "/srv/x", .domain = "other.example", .listen = "1443,1444"};
        struct plane_settings s =
                parse(&o, "[plane]\ndomain = grid.example\nlisten = 198.51.100.20:443,8443\n");

        (void)state;
        assert_string_equal(s.domain, "other.example");
        assert_int_equal(s.https_count, 1);
        assert_endpoint(&s.https[0], "", 1443);
        assert_int_equal(s.mixed_count, 1);
        assert_endpoint(&s.mixed[0], "", 1444);
        plane_settings_done(&s);
}

static void test_broker_addresses(void **state)
{
        static const char rest[] = "certificate = c\nkey = k\nroot-ca = r\n";
        static const struct {
                const char *url, *host;
                unsigned port;
        } cases[] = {
                {"mqtts://[2001:db8::1]:8884", "2001:db8::1", 8884},
                {"mqtts://198.51.100.9", "198.51.100.9", 8883},
                {"mqtts://b.example:1/", "b.example", 1},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char text[256];
                struct plane_settings s;

                snprintf(text, sizeof(text), "[plane]\ndomain = a.example\n[broker]\nurl = %s\n%s",
                        cases[i].url, rest);
                s = parse(&at_root, text);
                assert_string_equal(s.broker_host, cases[i].host);
                assert_int_equal(s.broker_port, cases[i].port);
                plane_settings_done(&s);
        }
}

/* What nodes are told is a profile that nodes take. */
static void test_profile(void **state)
{
        struct plane_settings s = parse(&at_root,
                "[plane]\ndomain = grid.example\nlisten = 1443,1444\n[profile]\nname = north\n"
                "ranges = 198.51.100.16/28;203.0.113.192/28\nrepo-addresses = 198.51.100.20;203.0.113.200\n");
        _cleanup_free_ char *text = plane_settings_profile(&s);
        char folder[] = "/tmp/test-settings-XXXXXX";
        char path[64], root[64];
        struct profile *p = NULL;
        struct error e = {0};

        (void)state;
        assert_non_null(mkdtemp(folder));
        snprintf(path, sizeof(path), "%s/north.profile", folder);
        snprintf(root, sizeof(root), "%s/grid-root.pem", folder);
        assert_int_equal(file_save(root, "x", 1, 0600, NULL), 0);
        if (profile_parse(path, text, strlen(text), &p, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(p->name, "north");
        assert_int_equal(p->range_count, 2);
        assert_string_equal(p->root_ca_path, root);
        assert_int_equal(p->service_count, 2);
        assert_string_equal(p->services[0].host, "repo.grid.example");
        assert_int_equal(p->services[0].port, 1443);
        assert_int_equal(p->services[0].tls, SERVICE_TLS_SERVER);
        assert_int_equal(p->services[0].address_count, 2);
        assert_string_equal(p->services[1].host, "control.grid.example");
        assert_int_equal(p->services[1].port, 1444);
        assert_int_equal(p->services[1].tls, SERVICE_TLS_MUTUAL);
        assert_int_equal(p->services[1].address_count, 0);
        profile_free(p);
        unlink(root);
        rmdir(folder);
        plane_settings_done(&s);
}

/* ---- what is wrong ---- */

#define DOMAIN "[plane]\ndomain = grid.example\n"

static const struct {
        const char *text, *wanted;
} refused[] = {
        {"[plane]\nlisten = 443,8443\n",
                "the domain is missing; give --domain grid.example, say, or write domain = in "
                "[plane] of /srv/x/etc/gridplane/gridplane.conf"},
        {"[plane]\ndomain = 198.51.100.1\n",
                "c:2: [plane] domain = 198.51.100.1: not a domain name; write grid.example, say"},
        {"[plane]\ndomain = grid\n",
                "c:2: [plane] domain = grid: a domain has a dot; write grid.example, say"},
        {DOMAIN "colour = red\n", "c:3: [plane] colour = red: unknown key; known here: domain, listen, user"},
        {DOMAIN "[nodes]\n", "c:3: [nodes]: unknown section"},
        {DOMAIN "listen = 443\n", "c:3: [plane] listen = 443: two ports are needed: one for HTTPS, "
                                  "then one for HTTPS and "
                                  "MQTT; write 443,8443, say"},
        {DOMAIN "listen = 443,8443,9443\n", "c:3: [plane] listen = 443,8443,9443: 9443 is a third "
                                            "port; the first serves HTTPS and "
                                            "the second also MQTT"},
        {DOMAIN "listen = 443,8443,443\n", "c:3: [plane] listen = 443,8443,443: 443 is there already"},
        {DOMAIN "listen = 443,198.51.100.1:443,8443\n",
                "c:3: [plane] listen = 443,198.51.100.1:443,8443: 198.51.100.1:443 is there already"},
        {DOMAIN "listen = host:443,8443\n",
                "c:3: [plane] listen = host:443,8443: item 1, host:443, is neither a port nor "
                "ADDRESS:PORT; write 443,8443, say"},
        {DOMAIN "listen = 0,70000\n",
                "c:3: [plane] listen = 0,70000: item 1, 0, is neither a port nor ADDRESS:PORT; write "
                "443,8443, say"},
        {DOMAIN "listen = 443,18830\n",
                "/srv/x/etc/gridplane/gridplane.conf: port 18830 is both one of listen and the "
                "broker's on loopback ([broker] port, 18830 by default); change one"},
        {DOMAIN "user = a b\n",
                "c:3: [plane] user = a b: not a user's name; or leave the key out to stay who starts "
                "it"},
        {DOMAIN "[profile]\nname = ../x\n",
                "c:4: [profile] name = ../x: not a profile's name; use at most 31 letters, digits, _ "
                "and -"},
        {DOMAIN "[profile]\nranges = 198.51.100.0/33\n",
                "c:4: [profile] ranges = 198.51.100.0/33: item 1 is not a range; write "
                "198.51.100.16/28, say, separated by ;"},
        {DOMAIN "[profile]\nrepo-addresses = repo.grid.example\n",
                "c:4: [profile] repo-addresses = repo.grid.example: item 1 is not an address; write "
                "198.51.100.20, say, separated by ;"},
        {DOMAIN "[broker]\nurl = mqtt://broker.example\n",
                "c:4: [broker] url = mqtt://broker.example: not a broker's URL; write "
                "mqtts://broker.example:8883, say"},
        {DOMAIN "[broker]\nurl = mqtts://broker.example\n",
                "/srv/x/etc/gridplane/gridplane.conf: [broker] url needs certificate, key and "
                "root-ca "
                "beside it: what the control plane shows to that broker, and whom it believes"},
        {DOMAIN "[broker]\nurl = mqtts://b.example\nport = 1\n",
                "c:5: [broker] port = 1: the port of our own broker, and url names another; leave "
                "one "
                "of them out"},
        {DOMAIN "[broker]\nkey =\n", "c:4: [broker] key = : a file's path is missing; or leave the key out"},
        {DOMAIN "[registry]\nurl = https://r.example/v2/\n",
                "c:4: [registry] url = https://r.example/v2/: not a registry's URL; write "
                "https://registry.example, say, with no path"},
        {DOMAIN "[registry]\nurl = https://r.example;deny all\n",
                "c:4: [registry] url = https://r.example;deny all: not a registry's URL; write "
                "https://registry.example, say, with no path"},
        {DOMAIN "[broker]\nnodes = broker.example\n",
                "/srv/x/etc/gridplane/gridplane.conf: [broker] nodes is a listener of a broker "
                "elsewhere; name that broker by url"},
        {DOMAIN "[broker]\nnodes = mqtts://broker.example\n",
                "c:4: [broker] nodes = mqtts://broker.example: not a listener of the broker; write "
                "broker.example:8884, say"},
        {DOMAIN "[registry]\nurl = https://r.example\nkey = k\n",
                "/srv/x/etc/gridplane/gridplane.conf: [registry] certificate and key belong "
                "together; write both or neither"},
        {DOMAIN "[registry]\nurl = https://r.example\nroot-ca = /a;b\n",
                "/srv/x/etc/gridplane/gridplane.conf: [registry]: nginx cannot take a file with "
                "quotes, controls or one of \\ $ ; { } # * ? [ ] in its name; rename it"},
        {DOMAIN "[proxy]\nexternal = perhaps\n", "c:4: [proxy] external = perhaps: write yes or no"},
};

static void test_refused(void **state)
{
        (void)state;
        for (size_t i = 0; i < ELEMENTS(refused); i++)
                assert_refused(&at_root, refused[i].text, refused[i].wanted);
}

static void test_refused_options(void **state)
{
        struct plane_options o = {.root = "/srv/x", .domain = "-"};

        (void)state;
        assert_refused(&o, "", "--domain -: not a domain name; write grid.example, say");
        o = (struct plane_options){.root = "/srv/x", .domain = "a.example", .listen = "x"};
        assert_refused(
                &o, "", "--listen x: item 1, x, is neither a port nor ADDRESS:PORT; write 443,8443, say");
}

/* Folders go into other programs' configurations. */
static void test_refused_roots(void **state)
{
        static const char *const bad[] = {
                "/srv/a\"b", "/srv/a;b", "/srv/$a", "/srv/a\nb", "/srv/{a}", "/srv/a*"};
        char deep[160];

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                struct plane_options o = {.root = bad[i], .domain = "a.example"};
                struct plane_settings s = {0};
                struct error e = {0};

                assert_int_equal(plane_settings_parse(&o, "c", "", 0, &s, &e), -EINVAL);
                assert_string_equal(e.code, "config.path");
        }
        memset(deep, 'x', sizeof(deep) - 1);
        deep[0] = '/';
        deep[sizeof(deep) - 1] = '\0';
        {
                struct plane_options o = {.root = deep, .domain = "a.example"};
                struct plane_settings s = {0};
                struct error e = {0};

                assert_int_equal(plane_settings_parse(&o, "c", "", 0, &s, &e), -EINVAL);
                assert_non_null(strstr(e.text, "longer than 107 bytes"));
        }
}

static void test_load(void **state)
{
        char folder[] = "/tmp/test-settings-XXXXXX", path[64];
        struct plane_options o = {.domain = "a.example"};
        struct plane_settings s = {0};
        struct error e = {0};

        (void)state;
        assert_non_null(mkdtemp(folder));
        o.root = folder;
        assert_int_equal(plane_settings_load(&o, &s, &e), 0); /* the usual file need not exist */
        plane_settings_done(&s);
        snprintf(path, sizeof(path), "%s/x.conf", folder);
        o.config_path = path;
        assert_int_equal(plane_settings_load(&o, &s, &e), -ENOENT); /* one that was named must */
        assert_non_null(strstr(e.text, path));
        assert_int_equal(file_save(path, "[broker]\nport = 1\n", 18, 0600, NULL), 0);
        assert_int_equal(plane_settings_load(&o, &s, &e), 0);
        assert_int_equal(s.broker_port, 1);
        assert_string_equal(s.config_path, path);
        plane_settings_done(&s);
        unlink(path);
        rmdir(folder);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_defaults),
                cmocka_unit_test(test_whole_file),
                cmocka_unit_test(test_options_overrule_the_file),
                cmocka_unit_test(test_broker_addresses),
                cmocka_unit_test(test_profile),
                cmocka_unit_test(test_refused),
                cmocka_unit_test(test_refused_options),
                cmocka_unit_test(test_refused_roots),
                cmocka_unit_test(test_load),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
