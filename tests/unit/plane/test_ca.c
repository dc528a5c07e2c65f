#include "ca_place.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

static void makes_everything_from_nothing(void **state)
{
        const struct place *p = *state;
        struct ca *c = open_at(p, NOW), *again;
        _cleanup_free_ char *bundle = NULL, *key = NULL;
        char fingerprint[65], fingerprint_again[65];
        X509 *root = first_certificate(ca_root_pem(c)), *middle = first_certificate(ca_chain_pem(c));

        assert_int_equal(mode_of(inside(p, "root")), 0700);
        assert_int_equal(mode_of(inside(p, "root/root.key")), 0600);
        assert_int_equal(mode_of(inside(p, "intermediate-1.key")), 0600);
        assert_int_equal(mode_of(inside(p, "root.crt")), 0644);
        bundle = read_all(ca_bundle_path(c));
        assert_int_equal(count(bundle, "BEGIN CERTIFICATE"), 2);
        assert_int_equal(count(bundle, "PRIVATE"), 0);
        assert_int_equal(X509_check_ca(root), 1);
        assert_int_equal(X509_get_pathlen(middle), 0);
        assert_int_equal(X509_verify(middle, X509_get0_pubkey(root)), 1);
        assert_non_null(X509_get0_subject_key_id(root));
        assert_non_null(X509_get0_authority_key_id(middle));
        X509_free(root);
        X509_free(middle);

        /* Opened again it is the same, and nothing is written. */
        key = read_all(inside(p, "root/root.key"));
        again = open_at(p, NOW + 3600);
        assert_string_equal(ca_root_pem(again), ca_root_pem(c));
        assert_string_equal(ca_chain_pem(again), ca_chain_pem(c));
        ca_root_fingerprint(c, fingerprint);
        ca_root_fingerprint(again, fingerprint_again);
        assert_string_equal(fingerprint, fingerprint_again);
        assert_int_equal(strlen(fingerprint), 64);
        ca_free(c);
        ca_free(again);
}

static void a_half_pair_is_made_anew(void **state)
{
        static const char *const lost[] = {"root.crt", "intermediate-1.crt", "bundle.crt", "revoked.crl"};
        const struct place *p = *state;
        _cleanup_free_ char *old = NULL;
        struct ca *c;

        /* As after a kill between key and certificate of the root: nothing else is there yet. */
        mkdir(p->ca, 0755);
        mkdir(inside(p, "root"), 0700);
        save(inside(p, "root/root.key"), "no key at all");
        c = open_at(p, NOW);
        old = xstrdup(ca_root_pem(c));
        ca_free(c);
        for (size_t i = 1; i < ELEMENTS(lost); i++) {
                assert_int_equal(unlink(inside(p, lost[i])), 0);
                c = open_at(p, NOW);
                assert_string_equal(ca_root_pem(c), old);
                assert_int_equal(access(inside(p, lost[i]), F_OK), 0);
                ca_free(c);
        }
}

static void survives_a_kill_at_any_moment(void **state)
{
        const struct place *p = *state;
        unsigned killed = 0;

        for (int round = 0; round < 60; round++) {
                unsigned char random[2];
                struct issued i;
                struct ca *c;
                int status;
                pid_t pid;

                run((char *[]){"rm", "-rf", (char *)p->ca, NULL}, 0);
                RAND_bytes(random, sizeof(random));
                pid = fork();
                if (pid == 0) {
                        struct ca *child = NULL;

                        _exit(ca_open(p->ca, NOW, &child, NULL) < 0);
                }
                usleep((random[0] | (unsigned)random[1] << 8) % 12000);
                kill(pid, SIGKILL);
                waitpid(pid, &status, 0);
                killed += WIFSIGNALED(status);
                c = open_at(p, NOW);
                i = issue(c, "n-one", NOW);
                issued_done(&i);
                ca_free(c);
        }
        assert_true(killed > 5);
}

static void the_root_key_may_be_away(void **state)
{
        const struct place *p = *state;
        struct ca *c = open_at(p, NOW);
        char *away = inside(p, "away.key");
        struct issued i;

        ca_free(c);
        assert_int_equal(rename(inside(p, "root/root.key"), away), 0);
        /* Long after the first 30 days of the lists. */
        c = open_at(p, NOW + 400 * DAY);
        i = issue(c, "n-one", NOW + 400 * DAY);
        issued_done(&i);
        ca_free(c);
        /* Four years: due, but still good. Then it ends, and only the root's key helps. */
        ca_free(open_at(p, NOW + 4 * 365 * DAY));
        fail_open(p, NOW + 6 * 365 * DAY, ESTALE, "ca.no-intermediate");
        assert_int_equal(rename(away, inside(p, "root/root.key")), 0);
        c = open_at(p, NOW + 6 * 365 * DAY);
        assert_int_equal(access(inside(p, "intermediate-2.crt"), F_OK), 0);
        i = issue(c, "n-one", NOW + 6 * 365 * DAY);
        issued_done(&i);
        ca_free(c);
}

static void the_intermediate_is_renewed(void **state)
{
        const struct place *p = *state;
        struct ca *c = open_at(p, NOW);
        struct issued i = issue(c, "n-one", NOW + 1200 * DAY), k;
        struct ca_identity who;
        struct strv none = {0};
        struct error e = {0};
        bool changed = false;

        assert_int_equal(ca_maintain(c, NOW + DAY, &changed, &e), 0);
        assert_false(changed);
        assert_int_equal(ca_maintain(c, NOW + 21 * DAY, &changed, &e), 0);
        assert_true(changed); /* the lists */
        assert_int_equal(ca_maintain(c, NOW + 1250 * DAY, &changed, &e), 0);
        assert_true(changed);
        assert_int_equal(count(ca_chain_pem(c), "BEGIN CERTIFICATE"), 2);
        k = issue(c, "n-two", NOW + 1250 * DAY);
        assert_true(strstr(k.pem, strstr(i.pem + 5, "-----BEGIN")) == NULL);
        /* Both are known, and both have their lists. */
        assert_int_equal(ca_identify(c, i.pem, &who, &e), 0);
        assert_int_equal(ca_identify(c, k.pem, &who, &e), 0);
        assert_string_equal(who.node, "n-two");
        assert_int_equal(ca_write_crl(c, &none, NOW + 1250 * DAY, &e), 0);
        {
                _cleanup_free_ char *lists = read_all(ca_crl_path(c));

                assert_int_equal(count(lists, "BEGIN X509 CRL"), 3);
        }
        /* The root's end bounds what it signs. */
        assert_int_equal(ca_maintain(c, NOW + 18 * 365 * DAY, &changed, &e), 0);
        issued_done(&i);
        issued_done(&k);
        ca_free(c);
}

static void refuses_what_is_not_its_own(void **state)
{
        const struct place *p = *state;
        struct ca *c = open_at(p, NOW);
        _cleanup_free_ char *root = xstrdup(ca_root_pem(c)), *middle = xstrdup(ca_chain_pem(c));

        ca_free(c);
        /* Without its certificate a new root would lock all nodes out. */
        assert_int_equal(unlink(inside(p, "root.crt")), 0);
        fail_open(p, NOW, ENOENT, "ca.no-root");
        save(inside(p, "root.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        fail_open(p, NOW, EBADMSG, "ca.bad-certificate");
        save(inside(p, "root.crt"), root);
        ca_free(open_at(p, NOW));
        save(inside(p, "intermediate-2.crt"), root);
        ca_free(open_at(p, NOW)); /* odd, but signed by the root */
        unlink(inside(p, "intermediate-2.crt"));

        run((char *[]){"mv", (char *)p->ca, (char *)inside(p, "../first"), NULL}, 0);
        ca_free(open_at(p, NOW));
        save(inside(p, "intermediate-7.crt"), middle);
        fail_open(p, NOW, EBADMSG, "ca.foreign");
        unlink(inside(p, "intermediate-7.crt"));
        run((char *[]){"cp", inside(p, "../first/root/root.key"), inside(p, "root/root.key"), NULL}, 0);
        fail_open(p, NOW, EBADMSG, "ca.bad-key");
        unlink(inside(p, "root/root.key"));
        assert_int_equal(symlink("/etc/hostname", inside(p, "root/root.key")), 0);
        {
                struct ca *none = NULL;
                struct error e = {0};

                assert_true(ca_open(p->ca, NOW, &none, &e) < 0);
                assert_non_null(strstr(e.text, "root.key"));
        }
}

static void a_wrong_clock_makes_nothing(void **state)
{
        const struct place *p = *state;

        fail_open(p, 1000, ESTALE, "clock.wrong");
        assert_int_not_equal(access(inside(p, "root.crt"), F_OK), 0);
        ca_free(open_at(p, NOW));
        fail_open(p, NOW - 30 * DAY, ESTALE, "clock.wrong");
        ca_free(open_at(p, NOW - 1800)); /* within the hour that certificates begin early */
}

static void server_certificates(void **state)
{
        const struct place *p = *state;
        struct ca *c = open_at(p, NOW);
        struct strv hosts = {0};
        struct error e = {0};
        _cleanup_free_ char *crt = NULL, *key = NULL, *first = NULL, *first_key = NULL;
        bool changed;
        X509 *x;

        strv_add(&hosts, "repo.grid.example");
        strv_add(&hosts, "control.grid.example");
        strv_add(&hosts, "198.51.100.20");
        assert_int_equal(ca_server_certificate(c, "https", &hosts, NOW, &changed, &crt, &key, &e), 0);
        assert_true(changed);
        assert_int_equal(mode_of(key), 0600);
        first = read_all(crt);
        first_key = read_all(key);
        assert_int_equal(count(first, "BEGIN CERTIFICATE"), 2);
        x = first_certificate(first);
        assert_int_equal(X509_check_host(x, "control.grid.example", 0, 0, NULL), 1);
        assert_int_equal(X509_check_ip_asc(x, "198.51.100.20", 0), 1);
        assert_int_equal(X509_check_host(x, "other.grid.example", 0, 0, NULL), 0);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_SERVER, 0), 1);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0), 0);
        X509_free(x);

        for (int i = 0; i < 4; i++) {
                static const int days[] = {30, 61, 62, 62};
                _cleanup_free_ char *now_crt = NULL, *now_key = NULL, *text = NULL, *text_key = NULL;

                if (i == 3) {
                        strv_add(&hosts, "new.grid.example");
                        save(key, "damaged");
                }
                assert_int_equal(ca_server_certificate(c, "https", &hosts, NOW + days[i] * DAY, &changed,
                                         &now_crt, &now_key, &e),
                        0);
                assert_int_equal(changed, i == 1 || i == 3);
                text = read_all(now_crt);
                text_key = read_all(now_key);
                if (i == 0)
                        assert_string_equal(text, first);
                if (i < 3)
                        assert_string_equal(text_key, first_key);
                else
                        assert_string_not_equal(text_key, first_key);
        }
        strv_done(&hosts);
        strv_add(&hosts, "repo.grid.example,DNS:evil.example");
        assert_int_equal(ca_server_certificate(c, "https", &hosts, NOW, &changed, &crt, &key, &e), -EINVAL);
        assert_int_equal(
                ca_server_certificate(c, "../https", &hosts, NOW, &changed, &crt, &key, &e), -EINVAL);
        strv_done(&hosts);
        ca_free(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(makes_everything_from_nothing),
                TEST(a_half_pair_is_made_anew),
                TEST(survives_a_kill_at_any_moment),
                TEST(the_root_key_may_be_away),
                TEST(the_intermediate_is_renewed),
                TEST(refuses_what_is_not_its_own),
                TEST(a_wrong_clock_makes_nothing),
                TEST(server_certificates),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
