/* Registration, renewal and the wanted configuration, against a small plane with the real authority and a
 * real DNS server, on the loopback interface of a namespace of its own. */
#include "node/enrol.h"

#include "../probe/peers.h"
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "net/trust.h"
#include "plane_double.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/rand.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define PROFILE                                                                                    \
        "[profile]\nname = grid\nranges = 198.51.100.16/28\nroot-ca = grid-root.pem\n"             \
        "[service repo]\nhost = repo.grid.example\nport = 4443\ntls = server\ncarries = updates\n" \
        "[service control]\nhost = control.grid.example\nport = 4443\ntls = mutual\n"              \
        "carries = control;config\n[addresses]\nrepo = 127.0.0.1\n"

static char base[64], root[80];
static pid_t dns, plane;

static const char *inside(const char *name)
{
        static char paths[32][256];
        static unsigned next;
        char *p = paths[next++ % 32];

        snprintf(p, 256, "%s/%s", root, name);
        return p;
}

static const char *state(const char *name)
{
        char path[100];

        snprintf(path, sizeof(path), "var/lib/gridnode/%s", name);
        return inside(path);
}

static void put(const char *path, const char *text)
{
        assert_int_equal(file_save(path, text, strlen(text), 0600, NULL), 0);
}

static char *get(const char *path)
{
        char *text = NULL;

        assert_int_equal(file_read(path, 1 << 20, &text, NULL, NULL), 0);
        return text;
}

__attribute__((format(printf, 1, 2))) static void shell(const char *format, ...)
{
        char command[512];
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(command, sizeof(command), format, arguments);
        va_end(arguments);
        assert_int_equal(system(command), 0);
}

static int set_up(void **unused)
{
        static char log[100], conf[100];

        (void)unused;
        strcpy(base, "/tmp/gridnode-test-enrol-XXXXXX");
        assert_non_null(mkdtemp(base));
        peers_enter_namespace();
        snprintf(log, sizeof(log), "%s/dns.log", base);
        snprintf(conf, sizeof(conf), "%s/unbound.conf", base);
        put(conf, "server:\n interface: 127.0.0.1\n access-control: 127.0.0.0/8 allow\n do-daemonize: no\n"
                  " username: \"\"\n chroot: \"\"\n directory: \"\"\n pidfile: \"\"\n use-syslog: no\n"
                  " module-config: \"iterator\"\n num-threads: 1\n local-zone: \"example.\" static\n"
                  " local-data: \"repo.grid.example. A 127.0.0.1\"\n"
                  " local-data: \"control.grid.example. A 127.0.0.1\"\n"
                  " local-data: \"away.grid.example. A 127.0.0.9\"\n");
        dns = peers_start((const char *const[]){"unbound", "-d", "-c", conf, NULL}, 53, log);
        plane = plane_double_start(base, PROFILE);
        return 0;
}

static int tear_down(void **unused)
{
        (void)unused;
        peers_stop(plane);
        peers_stop(dns);
        shell("rm -rf %s", base);
        return 0;
}

/* Each test has a machine of its own. */
static int new_machine(void **unused)
{
        static unsigned count;

        (void)unused;
        snprintf(root, sizeof(root), "%s/m%u", base, count++);
        shell("mkdir -p %s/etc/gridnode", root);
        put(inside("etc/gridnode/site.conf"), "[wan]\ninterface = lo\ndns = 127.0.0.1\n");
        put(inside("token"), "gnt_good\n");
        peers_stop(plane); /* the token is new again */
        plane = plane_double_start(base, PROFILE);
        return 0;
}

static struct node_settings load(void)
{
        struct node_settings s = {0};
        struct error e = {0};

        if (node_settings_load(root, NULL, &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static struct enrol_options options(void)
{
        static char ca[100];

        snprintf(ca, sizeof(ca), "%s/ca/root.crt", base);
        return (struct enrol_options){.host = DOUBLE_HOST,
                .port = DOUBLE_PORT,
                .token_path = inside("token"),
                .root_ca_path = ca,
                .timeout_ms = 5000};
}

static struct error refusal;

static void check_refused(const struct enrol_options *o, bool again, int number, const char *code)
{
        struct node_settings s = load();
        struct error e = {0};
        int r = enrol_register(&s, o, again, &e);

        if (r != -number || !str_equal(e.code, code))
                fail_msg("%d %s: %s", r, e.code, e.text);
        assert_null(strstr(e.text, "gnt_"));
        refusal = e;
        node_settings_done(&s);
}

static void register_it(const struct enrol_options *o, bool again)
{
        struct node_settings s = load();
        struct error e = {0};

        if (enrol_register(&s, o, again, &e) < 0)
                fail_msg("%s: %s", e.code, e.text);
        assert_string_equal(s.node, "n-one");
        assert_string_equal(s.name, "Zweigstelle 12");
        node_settings_done(&s);
}

/* What is on disk fits together: by the code that uses it. */
static void check_usable(void)
{
        struct node_settings s = load();
        struct trust_options o = {.root_ca_path = s.profile ? s.profile->root_ca_path : NULL,
                .certificate_path = s.site->certificate_path,
                .key_path = s.site->key_path};
        struct trust *t = NULL;

        assert_string_equal(s.node, "n-one");
        assert_int_equal(trust_new(&o, &t, NULL), 0);
        if (trust_certificate_problem(t))
                fail_msg("%s", trust_certificate_problem(t));
        assert_true(trust_has_certificate(t));
        trust_free(t);
        node_settings_done(&s);
}

static unsigned mode_of(const char *path)
{
        struct stat st;

        assert_int_equal(stat(path, &st), 0);
        return st.st_mode & 07777;
}

static unsigned identities(void)
{
        DIR *d = opendir(state(""));
        struct dirent *entry;
        unsigned n = 0;

        while ((entry = readdir(d)))
                n += str_starts_with(entry->d_name, "identity-");
        closedir(d);
        return n;
}

static void registers(void **unused)
{
        struct enrol_options o = options();
        _cleanup_free_ char *profile = NULL, *again = NULL;

        (void)unused;
        register_it(&o, false);
        check_usable();
        assert_int_equal(mode_of(state("")), 0755);
        assert_int_equal(mode_of(state("node.key")), 0600);
        assert_int_equal(mode_of(state("identity")), 0755);
        assert_int_equal(mode_of(state("grid.profile")), 0644);
        profile = get(state("grid.profile"));
        assert_string_equal(profile, PROFILE);
        assert_int_not_equal(access(state("node.key.new"), F_OK), 0);
        assert_int_not_equal(access(state("root.pem.new"), F_OK), 0);
        assert_int_equal(identities(), 1);
        /* The token stays where it was: it is of no more use to anybody. */
        check_refused(&o, false, EEXIST, "registered");
        check_refused(&o, true, EEXIST, "token.used");
        check_usable();
}

static void by_fingerprint(void **unused)
{
        struct enrol_options o = options();
        char colons[200] = "";
        const char *hex = plane_double_fingerprint();

        (void)unused;
        o.root_ca_path = NULL;
        o.root_fingerprint = "0000000000000000000000000000000000000000000000000000000000000000";
        check_refused(&o, false, EACCES, "root.wrong-fingerprint");
        o.root_fingerprint = "12:34";
        check_refused(&o, false, EINVAL, "root.bad-fingerprint");
        o.root_fingerprint = "zz";
        check_refused(&o, false, EINVAL, "root.bad-fingerprint");
        for (size_t i = 0; i < 32; i++)
                sprintf(colons + strlen(colons), "%s%c%c", i ? ":" : "", hex[2 * i],
                        hex[2 * i + 1] >= 'a' ? hex[2 * i + 1] - 'a' + 'A' : hex[2 * i + 1]);
        o.root_fingerprint = colons;
        register_it(&o, false);
        check_usable();
        o.root_ca_path = "both";
        check_refused(&o, true, EINVAL, "usage.root");
}

static void tokens_that_are_refused(void **unused)
{
        static const struct {
                const char *text, *code;
                int number;
        } bad[] = {
                {"gnt_expired", "token.expired", ESTALE},
                {"gnt_nobody", "token.unknown", ENOENT},
                {"", "token.malformed", EINVAL},
                {"two words", "token.malformed", EINVAL},
                {"\x01", "token.malformed", EINVAL},
                {"n\xc3\xb6", "token.malformed", EINVAL},
        };
        struct enrol_options o = options();

        (void)unused;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                put(inside("token"), bad[i].text);
                check_refused(&o, false, bad[i].number, bad[i].code);
        }
        o.token_path = inside("none");
        check_refused(&o, false, ENOENT, "file.unreadable");
        assert_int_not_equal(access(state("identity.json"), F_OK), 0);
}

static void ways_that_are_closed(void **unused)
{
        struct enrol_options o = options();
        static char other[100];

        (void)unused;
        snprintf(other, sizeof(other), "%s/other/root.crt", base);
        o.root_ca_path = other;
        check_refused(&o, false, EACCES, "tls.untrusted");
        o = options();
        o.host = "nobody.grid.example";
        check_refused(&o, false, ENOENT, "dns.no-such-name");
        o.host = "away.grid.example";
        check_refused(&o, false, ECONNREFUSED, "tcp.refused");
        o = options();
        o.root_ca_path = inside("none.pem");
        check_refused(&o, false, ENOENT, "file.unreadable");
        put(inside("bad.pem"), "nonsense");
        o.root_ca_path = inside("bad.pem");
        check_refused(&o, false, EBADMSG, "trust.bad-root");
        assert_non_null(strstr(refusal.text, "/bad.pem: "));
}

static void answers_that_are_refused(void **unused)
{
        struct enrol_options o = options();

        (void)unused;
        put(inside("token"), "gnt_foreign");
        check_refused(&o, false, EBADMSG, "identity.wrong");
        put(inside("token"), "gnt_other-root");
        check_refused(&o, false, EACCES, "root.changed");
        assert_int_equal(identities(), 0);
        assert_int_not_equal(access(state("node.crt"), F_OK), 0);
        /* The key is kept for the next time. */
        assert_int_equal(mode_of(state("node.key.new")), 0600);
}

static void a_lost_answer_is_asked_for_again(void **unused)
{
        struct enrol_options o = options();

        (void)unused;
        put(inside("token"), "gnt_lost");
        check_refused(&o, false, EPROTO, "http.failed");
        register_it(&o, false);
        check_usable();
}

static void a_certificate_elsewhere(void **unused)
{
        struct enrol_options o = options();

        (void)unused;
        put(inside("etc/gridnode/site.conf"), "[node]\ncertificate = /srv/own.crt\n[wan]\ndns = 127.0.0.1\n");
        check_refused(&o, false, EINVAL, "config.identity");
}

static void plain_files_become_an_identity(void **unused)
{
        struct enrol_options o = options();
        _cleanup_free_ char *key = NULL, *now = NULL;

        (void)unused;
        register_it(&o, false);
        /* As if somebody had put the files there by hand. */
        shell("cd %s && cp -L node.key k && cp -L node.crt c && mv k node.key && mv c node.crt", state(""));
        check_usable();
        key = get(state("node.key"));
        {
                struct node_settings s = load();
                int64_t end;
                struct error e = {0};

                if (enrol_renew(&s, 5000, &end, &e) < 0)
                        fail_msg("%s", e.text);
                node_settings_done(&s);
        }
        check_usable();
        now = get(state("node.key"));
        assert_string_not_equal(now, key);
        assert_int_equal(mode_of(state("node.key")), 0600);
        assert_int_equal(identities(), 1);
}

static void renews(void **unused)
{
        struct enrol_options o = options();
        _cleanup_free_ char *before = NULL, *after = NULL;
        struct node_settings s;
        struct error e = {0};
        int64_t end = 0;

        (void)unused;
        s = load();
        assert_int_equal(enrol_renew(&s, 1000, &end, &e), -ENOENT);
        assert_string_equal(e.code, "not-registered");
        node_settings_done(&s);
        register_it(&o, false);
        before = get(state("node.key"));
        s = load();
        if (enrol_renew(&s, 5000, &end, &e) < 0)
                fail_msg("%s", e.text);
        assert_in_range(end, time(NULL) + 89 * 86400, time(NULL) + 91 * 86400);
        node_settings_done(&s);
        after = get(state("node.key"));
        assert_string_not_equal(before, after);
        assert_int_equal(identities(), 1);
        check_usable();
}

static void renews_when_dns_is_dead(void **unused)
{
        struct enrol_options o = options();
        struct node_settings s;
        struct error e = {0};
        int64_t end = 0;

        (void)unused;
        register_it(&o, false);
        put(inside("etc/gridnode/site.conf"), "[wan]\ninterface = lo\ndns = 127.0.0.53\n");
        s = load();
        if (enrol_renew(&s, 5000, &end, &e) < 0)
                fail_msg("%s", e.text);
        node_settings_done(&s);
        check_usable();
}

static void a_pending_key_that_is_ours_already(void **unused)
{
        struct enrol_options o = options();
        _cleanup_free_ char *key = NULL, *after = NULL;
        struct node_settings s;
        int64_t end;

        (void)unused;
        /* Killed after the switch, before the pending key was removed. */
        register_it(&o, false);
        key = get(state("node.key"));
        put(state("node.key.new"), key);
        s = load();
        assert_int_equal(enrol_renew(&s, 5000, &end, NULL), 0);
        after = get(state("node.key"));
        assert_string_not_equal(key, after);
        node_settings_done(&s);
}

static void survives_a_kill_at_any_moment(void **unused)
{
        struct enrol_options o = options();
        unsigned killed = 0;
        struct node_settings s;
        int64_t end;

        (void)unused;
        for (int round = 0; round < 50; round++) {
                unsigned char random[2];
                int status;
                pid_t pid = fork();

                if (pid == 0) {
                        struct node_settings child;
                        struct error e = {0};
                        int r = node_settings_load(root, NULL, &child, &e);

                        if (r == 0 && !child.node)
                                r = enrol_register(&child, &o, false, &e);
                        while (r == 0)
                                r = enrol_renew(&child, 5000, &end, &e);
                        fprintf(stderr, "%s: %s\n", e.code, e.text);
                        _exit(1);
                }
                RAND_bytes(random, sizeof(random));
                usleep((random[0] | (unsigned)random[1] << 8) * 2);
                kill(pid, SIGKILL);
                waitpid(pid, &status, 0);
                killed += WIFSIGNALED(status);
                s = load();
                if (s.node)
                        check_usable();
                node_settings_done(&s);
        }
        assert_int_equal(killed, 50);
        s = load();
        if (!s.node)
                register_it(&o, false);
        node_settings_done(&s);
        s = load();
        assert_int_equal(enrol_renew(&s, 5000, &end, NULL), 0);
        node_settings_done(&s);
        check_usable();
        assert_int_equal(identities(), 1);
}

static void fetches_the_configuration(void **unused)
{
        struct enrol_options o = options();
        struct enrol_config c = {0};
        struct node_settings s;
        struct error e = {0};
        char *etag;

        (void)unused;
        s = load();
        assert_int_equal(enrol_fetch_config(&s, NULL, 1000, &c, &e), -ENOENT);
        node_settings_done(&s);
        register_it(&o, false);
        s = load();
        if (enrol_fetch_config(&s, NULL, 5000, &c, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(c.status, 200);
        assert_int_equal(json_integer_value(json_object_get(c.config, "version")), 7);
        etag = xstrdup(c.etag);
        assert_string_equal(etag, "\"7\"");
        enrol_config_done(&c);
        assert_int_equal(enrol_fetch_config(&s, etag, 5000, &c, &e), 0);
        assert_int_equal(c.status, 304);
        assert_null(c.config);
        enrol_config_done(&c);
        free(etag);
        node_settings_done(&s);

        peers_stop(plane);
        s = load();
        assert_int_equal(enrol_fetch_config(&s, NULL, 2000, &c, &e), -ECONNREFUSED);
        assert_non_null(strstr(e.text, "control.grid.example:4443: 127.0.0.1: tcp: Connection refused; "));
        assert_non_null(strstr(e.text, "repo.grid.example:4443"));
        node_settings_done(&s);
        plane = plane_double_start(base, PROFILE);
}

static void a_state_folder_that_is_not_ours(void **unused)
{
        struct enrol_options o = options();

        (void)unused;
        shell("mkdir -p %s/elsewhere %s && ln -s %s/elsewhere %s", root, inside("var/lib"), root,
                inside("var/lib/gridnode"));
        check_refused(&o, false, ELOOP, "folder.refused");
}

#define TEST(f) cmocka_unit_test_setup(f, new_machine)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(registers),
                TEST(by_fingerprint),
                TEST(tokens_that_are_refused),
                TEST(ways_that_are_closed),
                TEST(answers_that_are_refused),
                TEST(a_lost_answer_is_asked_for_again),
                TEST(a_certificate_elsewhere),
                TEST(plain_files_become_an_identity),
                TEST(renews),
                TEST(renews_when_dns_is_dead),
                TEST(a_pending_key_that_is_ours_already),
                TEST(survives_a_kill_at_any_moment),
                TEST(fetches_the_configuration),
                TEST(a_state_folder_that_is_not_ours),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
