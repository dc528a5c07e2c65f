#include "node/settings.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define PROFILE                                                        \
        "[profile]\nname = grid\nroot-subject = O = Grid, CN = Root\n" \
        "[service repo]\nhost = repo.grid.example\nport = 443\ntls = server\n"

static char root[64];

static const char *inside(const char *name)
{
        static char paths[8][160];
        static unsigned next;
        char *p = paths[next++ % 8];

        snprintf(p, 160, "%s/%s", root, name);
        return p;
}

static void put(const char *name, const char *text)
{
        assert_int_equal(file_save(inside(name), text, strlen(text), 0600, NULL), 0);
}

static int set_up(void **state)
{
        char command[512];

        (void)state;
        strcpy(root, "/tmp/gridnode-test-settings-XXXXXX");
        assert_non_null(mkdtemp(root));
        snprintf(command, sizeof(command),
                "mkdir -p %s/etc/gridnode/profiles %s/var/lib/gridnode %s/run/gridnode", root, root, root);
        unsetenv("https_proxy");
        unsetenv("HTTPS_PROXY");
        return system(command);
}

static int tear_down(void **state)
{
        char command[128];

        (void)state;
        snprintf(command, sizeof(command), "rm -rf %s", root);
        return system(command);
}

static struct node_settings load(const char *config)
{
        struct node_settings s;
        struct error e = {0};

        if (node_settings_load(root, config, &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static void fail_load(const char *config, int number, const char *says)
{
        struct node_settings s = {.name = (char *)"untouched"};
        struct error e = {0};

        assert_int_equal(node_settings_load(root, config, &s, &e), -number);
        assert_string_equal(s.name, "untouched");
        if (!strstr(e.text, says))
                fail_msg("'%s' does not say '%s'", e.text, says);
}

static void nothing_is_there(void **state)
{
        struct node_settings s = load(NULL);

        (void)state;
        assert_string_equal(s.site_path, inside("etc/gridnode/site.conf"));
        assert_string_equal(s.effective_path, inside("var/lib/gridnode/site.conf"));
        assert_string_equal(s.socket_path, inside("run/gridnode/control.sock"));
        assert_string_equal(s.site->certificate_path, inside("var/lib/gridnode/node.crt"));
        assert_string_equal(s.site->key_path, inside("var/lib/gridnode/node.key"));
        assert_non_null(s.site->name);
        assert_null(s.node);
        assert_null(s.profile);
        assert_null(settings_registered_profile(&s.paths));
        assert_null(settings_site_path(&s.paths));
        node_settings_done(&s);
        fail_load(inside("etc/gridnode/other.conf"), ENOENT, "other.conf");
}

static void a_system_without_root(void **state)
{
        struct node_settings s = {0};

        (void)state;
        put("etc/gridnode/site.conf", "[node]\ncertificate = /srv/my.crt\n");
        assert_int_equal(node_settings_load(NULL, inside("etc/gridnode/site.conf"), &s, NULL), 0);
        assert_string_equal(s.identity_path, "/var/lib/gridnode/identity.json");
        assert_string_equal(s.site->certificate_path, "/srv/my.crt");
        assert_string_equal(s.site->key_path, "/var/lib/gridnode/node.key");
        node_settings_done(&s);
}

static void a_registered_node(void **state)
{
        struct node_settings s;
        char *path;

        (void)state;
        put("var/lib/gridnode/identity.json",
                "{\"schema\":1,\"node\":\"n-one\",\"name\":\"branch\",\"organisation\":\"o-one\","
                "\"profile\":\"grid\"}");
        put("var/lib/gridnode/grid.profile", PROFILE);
        put("etc/gridnode/site.conf", "[node]\nname = here\n");
        s = load(NULL);
        assert_string_equal(s.node, "n-one");
        assert_string_equal(s.name, "branch");
        assert_string_equal(s.organisation, "o-one");
        assert_string_equal(s.profile->path, inside("var/lib/gridnode/grid.profile"));
        path = settings_registered_profile(&s.paths);
        assert_string_equal(path, s.profile->path);
        free(path);
        node_settings_done(&s);
}

static void identities_that_are_wrong(void **state)
{
        static const struct {
                const char *text, *says;
        } bad[] = {
                {"", "identity.json"},
                {"[]", "identity.json"},
                {"{\"node\":\"n-one\"}", "'name'"},
                {"{\"node\":\"../x\",\"name\":\"a\",\"organisation\":\"b\",\"profile\":\"grid\"}", "'node'"},
                {"{\"node\":\"n\",\"name\":\"a\",\"organisation\":\"b\",\"profile\":\"../../etc/x\"}",
                        "'profile'"},
                {"{\"node\":\"n\",\"name\":\"a\",\"organisation\":\"b\",\"profile\":\"none\"}",
                        "none.profile"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                struct node_settings s;
                struct error e = {0};

                put("var/lib/gridnode/identity.json", bad[i].text);
                assert_true(node_settings_load(root, NULL, &s, &e) < 0);
                if (!strstr(e.text, bad[i].says))
                        fail_msg("'%s' does not say '%s'", e.text, bad[i].says);
        }
}

static void the_profile_that_the_site_names(void **state)
{
        struct node_settings s;

        (void)state;
        put("etc/gridnode/profiles/grid.profile", PROFILE);
        put("etc/gridnode/site.conf", "[node]\nprofile = grid\n");
        s = load(NULL);
        assert_string_equal(s.profile->path, inside("etc/gridnode/profiles/grid.profile"));
        assert_null(s.node);
        node_settings_done(&s);
        put("etc/gridnode/site.conf", "[node]\nprofile = other\n");
        fail_load(NULL, ENOENT, "other");
        put("etc/gridnode/site.conf", "[wan]\ndns = nonsense\n");
        fail_load(NULL, EINVAL, "site.conf:2: [wan] dns");
}

/* ---- the effective site file ---- */

#define SITE                                                                                        \
        "[node]\nname = Zweigstelle 12 # Süd\nprofile = grid\n"                                    \
        "[wan]\ninterface = eth0\naddress = 192.0.2.10/24\ngateway = 192.0.2.1\n"                   \
        "dns = 198.51.100.53;2001:db8::53\nproxy = http://10.20.0.9:3128\n"                         \
        "[lan eth1]\naddress = 10.20.0.2/24\nroutes = 10.30.0.0/16 via 10.20.0.1;10.40.0.0/16 via " \
        "10.20.0.1\n"                                                                               \
        "[lan eth2]\n[transfer]\nlimit = 5Mbit/s; 22:00-06:00 unlimited\nfallback = "               \
        "none\n[monitor]\ninterval = "                                                              \
        "20\n"

static struct site *parse_back(const struct node_settings *s, const struct wire_config *c)
{
        _cleanup_free_ char *text = settings_effective_site(s, c);
        struct site *site = NULL;
        struct error e = {0};

        if (site_parse("effective", text, strlen(text), &site, &e) < 0)
                fail_msg("%s\n%s", e.text, text);
        return site;
}

static struct node_settings with_site(void)
{
        put("etc/gridnode/profiles/grid.profile", PROFILE);
        put("etc/gridnode/site.conf", SITE);
        return load(NULL);
}

static void the_site_files_own(void **state)
{
        struct node_settings s = with_site();
        struct site *site = parse_back(&s, NULL);
        char text[INET_ADDR_TEXT];

        (void)state;
        assert_string_equal(site->name, "Zweigstelle 12 # Süd");
        assert_string_equal(site->profile, inside("etc/gridnode/profiles/grid.profile"));
        assert_string_equal(site->certificate_path, inside("var/lib/gridnode/node.crt"));
        assert_string_equal(site->wan.interface, "eth0");
        assert_int_equal(site->wan.mode, SITE_ADDRESS_STATIC);
        assert_string_equal(cidr_format(&site->wan.address, text), "192.0.2.10/24");
        assert_string_equal(inet_addr_format(&site->wan.gateway, text), "192.0.2.1");
        assert_int_equal(site->wan.dns_count, 2);
        assert_string_equal(inet_addr_format(&site->wan.dns[1], text), "2001:db8::53");
        assert_string_equal(site->wan.proxy, "http://10.20.0.9:3128");
        assert_int_equal(site->lan_count, 2);
        assert_int_equal(site->lans[0].route_count, 2);
        assert_string_equal(cidr_format(&site->lans[0].routes[1].destination, text), "10.40.0.0/16");
        assert_false(site->lans[1].has_address);
        assert_true(site->monitor_interval_s == 20);
        assert_true(site->transfer.has_limit && site->transfer.no_fallback);
        assert_int_equal(budget_plan_rate(&site->transfer.limit, 12 * 60), 625000);
        assert_int_equal(budget_plan_rate(&site->transfer.limit, 0), 0);
        site_free(site);
        node_settings_done(&s);
}

static void a_configuration_over_it(void **state)
{
        static const char document[] =
                "{\"schema\":1,\"version\":7,\"dns\":[\"203.0.113.53\"],\"lan\":[{\"interface\":\"eth3\","
                "\"address\":\"10.50.0.2/24\",\"routes\":[{\"destination\":\"10.60.0.0/16\",\"next_hop\":"
                "\"10.50.0.1\",\"description\":\"[wan] dns = "
                "1.2.3.4\"}]}],\"transfer\":{\"limit\":\"1Mbit/s\"}}";
        struct node_settings s = with_site();
        struct wire_config c = {0};
        struct site *site;
        struct error e = {0};
        char text[INET_ADDR_TEXT];

        (void)state;
        if (wire_config_parse(document, strlen(document), &c, &e) < 0)
                fail_msg("%s", e.text);
        site = parse_back(&s, &c);
        assert_string_equal(site->wan.interface, "eth0");
        assert_int_equal(site->wan.dns_count, 1);
        assert_string_equal(inet_addr_format(&site->wan.dns[0], text), "203.0.113.53");
        assert_int_equal(site->lan_count, 1);
        assert_string_equal(site->lans[0].interface, "eth3");
        assert_string_equal(inet_addr_format(&site->lans[0].routes[0].next_hop, text), "10.50.0.1");
        /* The limit is the configuration's; of the fallback it says nothing. */
        assert_int_equal(budget_plan_rate(&site->transfer.limit, 0), 125000);
        assert_true(site->transfer.no_fallback);
        site_free(site);
        wire_config_done(&c);

        /* No servers: those of the site file stay. No LANs: there are none. */
        c = (struct wire_config){.version = 8, .transfer = {.has_fallback = true}};
        site = parse_back(&s, &c);
        assert_false(site->transfer.no_fallback);
        assert_int_equal(budget_plan_rate(&site->transfer.limit, 12 * 60), 625000);
        assert_int_equal(site->wan.dns_count, 2);
        assert_int_equal(site->lan_count, 0);
        site_free(site);
        node_settings_done(&s);
}

static void what_the_machine_says_is_left_out(void **state)
{
        struct node_settings s;
        _cleanup_free_ char *text = NULL;

        (void)state;
        setenv("https_proxy", "http://192.0.2.9:3128", 1);
        s = load(NULL);
        text = settings_effective_site(&s, NULL);
        assert_null(strstr(text, "proxy"));
        assert_null(strstr(text, "dns"));
        assert_null(strstr(text, "address"));
        unsetenv("https_proxy");
        node_settings_done(&s);
}

static void the_newer_of_two_files(void **state)
{
        struct node_settings s = with_site();
        const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};
        char *path = settings_site_path(&s.paths);

        (void)state;
        assert_string_equal(path, inside("etc/gridnode/site.conf"));
        free(path);
        put("var/lib/gridnode/site.conf", "[node]\n");
        path = settings_site_path(&s.paths);
        assert_string_equal(path, inside("var/lib/gridnode/site.conf"));
        free(path);
        assert_int_equal(utimensat(AT_FDCWD, inside("var/lib/gridnode/site.conf"), old, 0), 0);
        path = settings_site_path(&s.paths);
        assert_string_equal(path, inside("etc/gridnode/site.conf"));
        free(path);
        unlink(inside("etc/gridnode/site.conf"));
        path = settings_site_path(&s.paths);
        assert_string_equal(path, inside("var/lib/gridnode/site.conf"));
        free(path);
        node_settings_done(&s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(nothing_is_there),
                TEST(a_system_without_root),
                TEST(a_registered_node),
                TEST(identities_that_are_wrong),
                TEST(the_profile_that_the_site_names),
                TEST(the_site_files_own),
                TEST(a_configuration_over_it),
                TEST(what_the_machine_says_is_left_out),
                TEST(the_newer_of_two_files),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
