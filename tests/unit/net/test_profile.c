/* What a profile may say, and how it is told what is wrong: test_profile_files.c finds it. */
#include "net/profile.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct profile *parse(const char *text)
{
        struct profile *p = NULL;
        struct error e;

        if (profile_parse("/etc/gridnode/profiles/grid.profile", text, strlen(text), &p, &e) < 0)
                fail_msg("%s", e.text);
        return p;
}

/* Refused, with exactly this message after the file's name. */
static void assert_error(const char *text, const char *wanted)
{
        struct profile *p = NULL;
        struct error e = {0};

        assert_int_equal(profile_parse("p", text, strlen(text), &p, &e), -EINVAL);
        assert_null(p);
        assert_int_equal(e.number, EINVAL);
        assert_non_null(e.code);
        assert_string_equal(e.text, wanted);
}

static void assert_accepted(const char *text)
{
        profile_free(parse(text));
}

static void assert_addr(const struct inet_addr *a, const char *wanted)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(inet_addr_format(a, text), wanted);
}

/* ---- what is right ---- */

#define HEAD    "[profile]\nranges = 198.51.100.16/28\nroot-ca = root.pem\n"
#define SERVICE "[service repo]\nhost = repo.grid.example\nport = 443\ntls = server\n"

static const char whole[] = "[profile]\n"
                            "name = grid\n"
                            "ranges = 198.51.100.16/28; 203.0.113.192/28;;2001:db8::/32\n"
                            "root-ca = grid-root.pem\n"
                            "[service repo]\n"
                            "host = Repo.Grid.Example.\n"
                            "port = 443\n"
                            "tls = server\n"
                            "carries = updates; images;logs;images\n"
                            "probe = /.well-known/gridnode\n"
                            "payload = /.well-known/gridnode/payload?bytes=262144\n"
                            "[service control]\n"
                            "host = control.grid.example\n"
                            "port = 8443\n"
                            "tls = mutual\n"
                            "[addresses]\n"
                            "repo = 198.51.100.20;203.0.113.200;198.51.100.20\n";

static void test_whole(void **state)
{
        (void)state;
        struct profile *p = parse(whole);

        assert_string_equal(p->path, "/etc/gridnode/profiles/grid.profile");
        assert_string_equal(p->name, "grid");
        assert_int_equal(p->range_count, 3);
        assert_string_equal(p->root_ca_path, "/etc/gridnode/profiles/grid-root.pem");
        assert_null(p->root_subject);
        assert_int_equal(p->service_count, 2);
        profile_free(p);
        assert_null(profile_free(NULL));
}

static void test_services(void **state)
{
        (void)state;
        struct profile *p = parse(whole);
        const struct profile_service *s = &p->services[0];

        assert_string_equal(s->name, "repo");
        assert_string_equal(s->host, "repo.grid.example");
        assert_int_equal(s->port, 443);
        assert_int_equal(s->tls, SERVICE_TLS_SERVER);
        assert_int_equal(s->carries.count, 3);
        assert_string_equal(s->carries.items[1], "images");
        assert_string_equal(s->probe_path, "/.well-known/gridnode");
        assert_string_equal(s->payload_path, "/.well-known/gridnode/payload?bytes=262144");
        assert_int_equal(s->address_count, 2);
        assert_addr(&s->addresses[1], "203.0.113.200");
        s = &p->services[1];
        assert_string_equal(s->name, "control");
        assert_int_equal(s->tls, SERVICE_TLS_MUTUAL);
        assert_int_equal(s->carries.count, 0);
        assert_null(s->probe_path);
        assert_null(s->payload_path);
        assert_int_equal(s->address_count, 0);
        profile_free(p);
}

static void test_ranges_contain(void **state)
{
        (void)state;
        static const struct {
                const char *address;
                bool inside;
        } cases[] = {
                {"198.51.100.15", false},
                {"198.51.100.16", true},
                {"198.51.100.31", true},
                {"198.51.100.32", false},
                {"203.0.113.207", true},
                {"2001:db8::7", true},
                {"2001:db9::7", false},
        };
        struct profile *p = parse(whole);

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct inet_addr a;

                assert_int_equal(inet_addr_parse(cases[i].address, &a), 0);
                assert_int_equal(profile_ranges_contain(p, &a), cases[i].inside);
        }
        profile_free(p);
}

static void test_accepted(void **state)
{
        (void)state;
        struct profile *p = parse(HEAD SERVICE);

        /* Without a name of its own it has that of its file. */
        assert_string_equal(p->name, "grid");
        profile_free(p);
        /* The order of sections does not matter; an empty [addresses] is fine. */
        assert_accepted("[addresses]\nrepo = 192.0.2.1\n" SERVICE HEAD);
        assert_accepted(HEAD SERVICE "[addresses]\n");
        /* Without TLS there is no root to name. */
        assert_accepted("[profile]\nranges = 10.0.0.0/8\n[service a]\nhost = a\nport = 1\ntls = none\n");
        assert_accepted(HEAD "[service a.b_c-9]\nhost = a\nport = 65535\ntls = none\n");
        p = parse("[profile]\nranges=10.0.0.0/8\nroot-subject = O = Example Inc, CN = Example Root "
                  "CA\n" SERVICE);
        assert_string_equal(p->root_subject, "O = Example Inc, CN = Example Root CA");
        assert_null(p->root_ca_path);
        profile_free(p);
}

static void test_words_of_tls(void **state)
{
        (void)state;
        enum service_tls t = SERVICE_TLS_MUTUAL, back;

        for (int i = SERVICE_TLS_SERVER; i <= SERVICE_TLS_NONE; i++) {
                assert_int_equal(
                        service_tls_from_string(service_tls_to_string((enum service_tls)i), &back), 0);
                assert_int_equal(back, i);
        }
        assert_int_equal(service_tls_from_string("Server", &t), -EINVAL);
        assert_int_equal(service_tls_from_string("", &t), -EINVAL);
        assert_int_equal(t, SERVICE_TLS_MUTUAL);
        assert_string_equal(service_tls_to_string((enum service_tls)99), "?");
}

/* ---- what is wrong ---- */

static void test_unknown(void **state)
{
        (void)state;
        assert_error(HEAD SERVICE "[adresses]\n",
                "p:8: [adresses]: unknown section; a profile has [profile], [service NAME] and [addresses]");
        assert_error(HEAD "root = x\n" SERVICE,
                "p:4: [profile] root = x: unknown key; known here: name, ranges, root-ca, root-subject");
        assert_error(HEAD SERVICE "prob = /x\n", "p:8: [service repo] prob = /x: unknown key; known here: "
                                                 "host, port, tls, carries, probe, payload");
        assert_error(HEAD SERVICE "[addresses]\nrepos = 192.0.2.1\n",
                "p:9: [addresses] repos = 192.0.2.1: there is no such service; name one that has a [service] "
                "section");
}

static void test_missing(void **state)
{
        (void)state;
        assert_error("", "p: there is no section [profile]; see gridnode-profile(5)");
        assert_error(SERVICE, "p: there is no section [profile]; see gridnode-profile(5)");
        assert_error(HEAD, "p: there is no section [service NAME]; name what the node must reach");
        assert_error(HEAD "[service repo]\nport = 443\ntls = server\n",
                "p:4: [service repo]: the key host is missing; see gridnode-profile(5)");
        assert_error(HEAD "[service repo]\nhost = a\ntls = server\n",
                "p:4: [service repo]: the key port is missing; see gridnode-profile(5)");
        assert_error(HEAD "[service repo]\nhost = a\nport = 443\n",
                "p:4: [service repo]: the key tls is missing; see gridnode-profile(5)");
}

static void test_without_ranges(void **state)
{
        struct profile *p = parse("[profile]\nroot-ca = x\n" SERVICE);

        (void)state;
        assert_int_equal(p->range_count, 0);
        profile_free(p);
}

static void test_root(void **state)
{
        (void)state;
        assert_error("[profile]\nranges = 10.0.0.0/8\nroot-ca = a\nroot-subject = CN = b\n" SERVICE,
                "p:1: [profile]: both root-ca and root-subject; keep root-ca, which proves more");
        assert_error("[profile]\nranges = 10.0.0.0/8\n" SERVICE,
                "p:1: [profile]: neither root-ca nor root-subject; without one no certificate can be judged");
        assert_error("[profile]\nranges = 10.0.0.0/8\nroot-ca =\n" SERVICE,
                "p:3: [profile] root-ca = : a PEM file's path is missing");
        assert_error("[profile]\nranges = 10.0.0.0/8\nroot-subject = Example Root\n" SERVICE,
                "p:3: [profile] root-subject = Example Root: not a certificate's subject; write O = Example "
                "Inc, CN = "
                "Example Root CA, say");
        assert_error("[profile]\nranges = 10.0.0.0/8\nroot-subject = CN=\n" SERVICE,
                "p:3: [profile] root-subject = CN=: not a certificate's subject; write O = Example Inc, CN = "
                "Example "
                "Root CA, say");
}

static void test_bad_profile_section(void **state)
{
        (void)state;
        assert_error("[profile]\nname = a/b\n",
                "p:2: [profile] name = a/b: not a profile's name; use letters, digits, dot, _ and - in it");
        assert_error("[profile]\nname =\n",
                "p:2: [profile] name = : not a profile's name; use letters, digits, dot, _ and - in it");
        assert_error("[profile]\nranges = ;\n",
                "p:2: [profile] ranges = ;: no range; write 198.51.100.16/28, say, separated by ;");
        assert_error("[profile]\n\nranges = 10.0.0.0/8;10.0.0.0/40\n",
                "p:3: [profile] ranges = 10.0.0.0/8;10.0.0.0/40: item 2, 10.0.0.0/40, is not a range; write "
                "198.51.100.16/28, say");
        assert_error("[profile]\nranges = 10.0.0.0/8 10.0.0.0/9\n",
                "p:2: [profile] ranges = 10.0.0.0/8 10.0.0.0/9: item 1, 10.0.0.0/8 10.0.0.0/9, is not a "
                "range; write "
                "198.51.100.16/28, say");
}

static void test_bad_hosts(void **state)
{
        (void)state;
        static const char *const wrong[] = {"", ".", "a b", "a_b.example", "-a.example", "a..b",
                "https://a.example", "a.example:443", "*.example", "m\xc3\xbcnchen.example", "1.2.3"};
        char text[200], wanted[300];

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                snprintf(text, sizeof(text), HEAD "[service a]\nhost = %s\n", wrong[i]);
                snprintf(wanted, sizeof(wanted),
                        "p:5: [service a] host = %s: not a host name; write repo.grid.example, say",
                        wrong[i]);
                assert_error(text, wanted);
        }
        assert_error(HEAD "[service a]\nhost = 198.51.100.20\n",
                "p:5: [service a] host = 198.51.100.20: an address, and the certificate is checked against a "
                "name; "
                "give the name here and the address in [addresses]");
}

static void test_bad_ports_and_tls(void **state)
{
        (void)state;
        static const char *const ports[] = {
                "", "0", "65536", "-1", "443/tcp", "https", "99999999999999999999", "4 3"};
        static const char *const words[] = {"", "yes", "Server", "server;mutual"};
        char text[200], wanted[300];

        for (size_t i = 0; i < ELEMENTS(ports); i++) {
                snprintf(text, sizeof(text), HEAD "[service a]\nport = %s\n", ports[i]);
                snprintf(wanted, sizeof(wanted),
                        "p:5: [service a] port = %s: not a TCP port; write a number from 1 to 65535",
                        ports[i]);
                assert_error(text, wanted);
        }
        for (size_t i = 0; i < ELEMENTS(words); i++) {
                snprintf(text, sizeof(text), HEAD "[service a]\ntls = %s\n", words[i]);
                snprintf(wanted, sizeof(wanted),
                        "p:5: [service a] tls = %s: unknown; write server, mutual or none", words[i]);
                assert_error(text, wanted);
        }
}

static void test_bad_paths(void **state)
{
        (void)state;
        static const char *const wrong[] = {"", "x", "http://a/x", "/a b", "/a\tb", "/a#b", "/\xc3\xb6"};
        char text[700], wanted[300];
        struct profile *p = NULL;

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                _cleanup_free_ char *shown = str_printable(wrong[i], strlen(wrong[i]), 100);

                for (int payload = 0; payload < 2; payload++) {
                        const char *key = payload ? "payload" : "probe";

                        snprintf(text, sizeof(text), HEAD SERVICE "%s = %s\n", key, wrong[i]);
                        snprintf(wanted, sizeof(wanted),
                                "p:8: [service repo] %s = %s: not a request's path; begin it with /, at most "
                                "255 "
                                "bytes, others than ASCII as %%NN",
                                key, shown);
                        assert_error(text, wanted);
                }
        }
        snprintf(text, sizeof(text), HEAD SERVICE "probe = /%0254d\n", 1);
        assert_accepted(text);
        snprintf(text, sizeof(text), HEAD SERVICE "probe = /%0255d\n", 1);
        assert_int_equal(profile_parse("p", text, strlen(text), &p, NULL), -EINVAL);
        /* A carriage return could forge a header; the key file lets none through. */
        snprintf(text, sizeof(text), HEAD SERVICE "probe = /a\rX: y\n");
        assert_error(text, "p:8: a control byte, 0x0d");
}

static void test_bad_services(void **state)
{
        (void)state;
        static const char *const wrong[] = {
                "", " a/b", " -a", " .a", " a b", " \xc3\xb6", " a2345678901234567890123456789012"};
        char text[200], wanted[300];

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                snprintf(text, sizeof(text), HEAD "[service%s]\n", wrong[i]);
                snprintf(wanted, sizeof(wanted),
                        "p:4: [service%s]: not a service's name; write [service repo], at most 31 letters, "
                        "digits, "
                        "dot, _ and -",
                        wrong[i]);
                assert_error(text, wanted);
        }
        assert_error(HEAD SERVICE "[service\trepo]\n",
                "p:8: [service\\x09repo]: this service is given twice; put its keys together");
        assert_error(HEAD SERVICE SERVICE,
                "p:8: [service repo] is given twice, first at line 4; put its keys together");
        assert_error(HEAD SERVICE "carries = updates;two words\n",
                "p:8: [service repo] carries = updates;two words: item 2 is not a job's name; use at most 31 "
                "letters, "
                "digits, dot, _ and -");
}

static void test_bad_addresses(void **state)
{
        (void)state;
        assert_error(HEAD SERVICE "[addresses]\nrepo = 192.0.2.1;repo.grid.example\n",
                "p:9: [addresses] repo = 192.0.2.1;repo.grid.example: item 2 is not an address; write "
                "198.51.100.20, "
                "say");
        assert_error(HEAD SERVICE "[addresses]\nrepo = 192.0.2.1/32\n",
                "p:9: [addresses] repo = 192.0.2.1/32: item 1 is not an address; write 198.51.100.20, say");
        assert_error(HEAD SERVICE "[addresses]\nrepo = ;\n",
                "p:9: [addresses] repo = ;: no address; write them separated by ;");
        assert_error(HEAD SERVICE "[addresses]\nrepo = 192.0.2.1\nrepo = 192.0.2.2\n",
                "p:10: [addresses] repo is given twice, first at line 9");
}

/* ---- many ---- */

static struct text many_ranges(unsigned count)
{
        struct text t = {0};

        text_add(&t, "[profile]\nroot-ca = r\nranges = ");
        for (unsigned i = 0; i < count; i++)
                text_addf(&t, "10.%u.%u.%u/28;", i / 4096, i / 16 % 256, i % 16 * 16);
        text_add(&t, "\n" SERVICE);
        return t;
}

static void test_many_ranges(void **state)
{
        (void)state;
        struct text t = many_ranges(10000);
        struct profile *p = NULL;
        struct timespec start, end;
        struct inet_addr a;
        struct error e;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
        p = parse(text_string(&t));
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
        assert_int_equal(p->range_count, 10000);
        assert_int_equal(inet_addr_parse("10.2.113.0", &a), 0);
        assert_false(profile_ranges_contain(p, &a));
        assert_int_equal(inet_addr_parse("10.2.112.255", &a), 0);
        assert_true(profile_ranges_contain(p, &a));
        /* Some milliseconds without sanitizers; the bound only tells linear from quadratic. */
        assert_true(end.tv_sec - start.tv_sec < 2);
        p = profile_free(p);
        text_done(&t);
        t = many_ranges(20000);
        assert_int_equal(profile_parse("p", text_string(&t), t.length, &p, &e), -EINVAL);
        assert_non_null(strstr(e.text, "p:3: [profile] ranges = 10.0.0.0/28;"));
        assert_true(str_ends_with(e.text, ": 20000 ranges; at most 16384 are taken, so join them"));
        text_done(&t);
}

/* The last of 10,000 is the wrong one, and is found. */
static void test_one_wrong_of_many(void **state)
{
        (void)state;
        struct text t = {0};
        struct profile *p = NULL;
        struct error e;

        text_add(&t, "[profile]\nranges = ");
        for (int i = 0; i < 9999; i++)
                text_add(&t, "10.0.0.0/8;");
        text_add(&t, "10.0.0.0/88\n");
        assert_int_equal(profile_parse("p", text_string(&t), t.length, &p, &e), -EINVAL);
        assert_true(str_ends_with(
                e.text, "...: item 10000, 10.0.0.0/88, is not a range; write 198.51.100.16/28, say"));
        text_done(&t);
}

static void test_many_services_and_addresses(void **state)
{
        (void)state;
        struct text t = {0};
        struct profile *p = NULL;
        struct error e;

        text_add(&t, HEAD);
        for (int i = 0; i < PROFILE_MAX_SERVICES; i++)
                text_addf(&t, "[service s%d]\nhost = s%d.example\nport = 443\ntls = server\n", i, i);
        p = parse(text_string(&t));
        assert_int_equal(p->service_count, PROFILE_MAX_SERVICES);
        p = profile_free(p);
        text_add(&t, "[service more]\n");
        assert_int_equal(profile_parse("p", text_string(&t), t.length, &p, &e), -EINVAL);
        assert_true(str_ends_with(e.text, "[service more]: more than 64 services; leave some out"));
        text_done(&t);
        text_add(&t, HEAD SERVICE "[addresses]\nrepo = ");
        for (int i = 0; i < PROFILE_MAX_ADDRESSES; i++)
                text_addf(&t, "198.51.100.%d;", i);
        p = parse(text_string(&t));
        assert_int_equal(p->services[0].address_count, PROFILE_MAX_ADDRESSES);
        p = profile_free(p);
        text_add(&t, "203.0.113.1");
        assert_int_equal(profile_parse("p", text_string(&t), t.length, &p, &e), -EINVAL);
        assert_true(str_ends_with(e.text, ": 257 addresses; at most 256 are taken"));
        text_done(&t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_whole),
                cmocka_unit_test(test_services),
                cmocka_unit_test(test_ranges_contain),
                cmocka_unit_test(test_accepted),
                cmocka_unit_test(test_words_of_tls),
                cmocka_unit_test(test_unknown),
                cmocka_unit_test(test_missing),
                cmocka_unit_test(test_without_ranges),
                cmocka_unit_test(test_root),
                cmocka_unit_test(test_bad_profile_section),
                cmocka_unit_test(test_bad_hosts),
                cmocka_unit_test(test_bad_ports_and_tls),
                cmocka_unit_test(test_bad_paths),
                cmocka_unit_test(test_bad_services),
                cmocka_unit_test(test_bad_addresses),
                cmocka_unit_test(test_many_ranges),
                cmocka_unit_test(test_one_wrong_of_many),
                cmocka_unit_test(test_many_services_and_addresses),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
