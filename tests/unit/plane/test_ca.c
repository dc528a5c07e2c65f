#include "plane/ca.h"

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

#define NOW INT64_C(1795230000) /* 2026-11-21 */
#define DAY INT64_C(86400)

extern char **environ;

struct place {
        char base[64], ca[80];
};

static void run(char *const arguments[], int expected)
{
        posix_spawn_file_actions_t actions;
        pid_t pid;
        int status;

        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        assert_int_equal(posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ), 0);
        posix_spawn_file_actions_destroy(&actions);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), expected);
}

static int make_place(void **state)
{
        struct place *p = xcalloc(1, sizeof(*p));

        strcpy(p->base, "/tmp/gridnode-test-ca-XXXXXX");
        assert_non_null(mkdtemp(p->base));
        snprintf(p->ca, sizeof(p->ca), "%s/ca", p->base);
        *state = p;
        return 0;
}

static int remove_place(void **state)
{
        struct place *p = *state;

        run((char *[]){"rm", "-rf", p->base, NULL}, 0);
        free(p);
        return 0;
}

static struct ca *open_at(const struct place *p, int64_t now)
{
        struct error e = {0};
        struct ca *c = NULL;

        if (ca_open(p->ca, now, &c, &e) < 0)
                fail_msg("%s: %s", e.code, e.text);
        return c;
}

static void fail_open(const struct place *p, int64_t now, int number, const char *code)
{
        struct error e = {0};
        struct ca *c = NULL;

        assert_int_equal(ca_open(p->ca, now, &c, &e), -number);
        assert_string_equal(e.code, code);
        assert_null(c);
}

static char *inside(const struct place *p, const char *name)
{
        static char path[8][160];
        static unsigned next;
        char *ret = path[next++ % 8];

        snprintf(ret, 160, "%s/%s", p->ca, name);
        return ret;
}

static char *read_all(const char *path)
{
        struct error e = {0};
        char *text;

        if (file_read(path, 1 << 20, &text, NULL, &e) < 0)
                fail_msg("%s", e.text);
        return text;
}

static unsigned mode_of(const char *path)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        return st.st_mode & 07777;
}

static unsigned count(const char *text, const char *what)
{
        unsigned n = 0;

        for (const char *s = text; (s = strstr(s, what)); s++)
                n++;
        return n;
}

/* ---- requests of nodes ---- */

static char *bio_text(BIO *b)
{
        char *data;
        long length = BIO_get_mem_data(b, &data);
        char *text = xstrndup(data, (size_t)length);

        BIO_free(b);
        return text;
}

static char *csr_of(EVP_PKEY *key, EVP_PKEY *signed_by, const char *common_name)
{
        X509_REQ *r = X509_REQ_new();
        BIO *b = BIO_new(BIO_s_mem());

        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(r), "CN", MBSTRING_UTF8,
                (const unsigned char *)common_name, -1, -1, 0);
        assert_int_equal(X509_REQ_set_pubkey(r, key), 1);
        assert_true(X509_REQ_sign(r, signed_by, EVP_sha256()) > 0);
        PEM_write_bio_X509_REQ(b, r);
        X509_REQ_free(r);
        return bio_text(b);
}

static X509 *first_certificate(const char *pem)
{
        BIO *b = BIO_new_mem_buf(pem, -1);
        X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);

        BIO_free(b);
        assert_non_null(x);
        return x;
}

struct issued {
        EVP_PKEY *key;
        char *csr, *pem, serial[65];
        int64_t not_after;
};

static struct issued issue(struct ca *c, const char *node, int64_t now)
{
        struct issued i = {.key = EVP_EC_gen("P-256")};
        struct error e = {0};

        i.csr = csr_of(i.key, i.key, "whatever it likes");
        if (ca_issue_node(c, i.csr, node, "o-one", now, &i.pem, i.serial, &i.not_after, &e) < 0)
                fail_msg("%s", e.text);
        return i;
}

static void issued_done(struct issued *i)
{
        EVP_PKEY_free(i->key);
        free(i->csr);
        free(i->pem);
}

static void save(const char *path, const char *text)
{
        assert_int_equal(file_save(path, text, strlen(text), 0600, NULL), 0);
}

/* ---- tests ---- */

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

static void openssl_agrees(void **state)
{
        const struct place *p = *state;
        int64_t now = time(NULL);
        struct ca *c = open_at(p, now);
        struct issued a = issue(c, "n-one", now), b = issue(c, "n-two", now);
        struct strv revoked = {0};
        struct error e = {0};
        char *leaf = inside(p, "one.pem"), *other = inside(p, "two.pem");

        save(leaf, a.pem);
        save(other, b.pem);
        strv_add(&revoked, b.serial);
        assert_int_equal(ca_write_crl(c, &revoked, now, &e), 0);
        run((char *[]){"openssl", "verify", "-x509_strict", "-crl_check_all", "-purpose", "sslclient",
                    "-CAfile", (char *)ca_root_path(c), "-untrusted", leaf, "-CRLfile",
                    (char *)ca_crl_path(c), leaf, NULL},
                0);
        run((char *[]){"openssl", "verify", "-crl_check_all", "-CAfile", (char *)ca_root_path(c),
                    "-untrusted", other, "-CRLfile", (char *)ca_crl_path(c), other, NULL},
                2);
        run((char *[]){"openssl", "verify", "-purpose", "sslserver", "-CAfile", (char *)ca_root_path(c),
                    "-untrusted", leaf, leaf, NULL},
                2);
        strv_done(&revoked);
        issued_done(&a);
        issued_done(&b);
        ca_free(c);
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

static void node_certificates(void **state)
{
        struct ca *c = open_at(*state, NOW);
        struct issued i = issue(c, "n-4kq8x", NOW);
        struct ca_request request;
        struct ca_identity who;
        struct error e = {0};
        X509 *x = first_certificate(i.pem);
        ASN1_STRING *cn = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(X509_get_subject_name(x),
                X509_NAME_get_index_by_NID(X509_get_subject_name(x), NID_commonName, -1)));

        assert_int_equal(count(i.pem, "BEGIN CERTIFICATE"), 2);
        assert_int_equal(i.not_after, NOW + CA_NODE_DAYS * DAY);
        assert_int_equal(ASN1_STRING_type(cn), V_ASN1_UTF8STRING);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_CLIENT, 0), 1);
        assert_int_equal(X509_check_purpose(x, X509_PURPOSE_SSL_SERVER, 0), 0);
        assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(x)), 2);
        assert_int_equal(strlen(i.serial), 32);
        X509_free(x);
        assert_int_equal(ca_check_csr(i.csr, &request, &e), 0);
        assert_int_equal(ca_identify(c, i.pem, &who, &e), 0);
        assert_string_equal(who.node, "n-4kq8x");
        assert_string_equal(who.organisation, "o-one");
        assert_string_equal(who.serial, i.serial);
        assert_string_equal(who.public_key_sha256, request.public_key_sha256);
        assert_int_equal(who.not_after_unix, i.not_after);
        assert_int_equal(who.not_before_unix, NOW - 3600);
        issued_done(&i);
        ca_free(c);
}

static void names_that_are_no_ids(void **state)
{
        static const char *const bad[] = {"", "N", "a b", "a/b", "-a", "a\n", "x#",
                "12345678901234567890123456789012345678901234567890123456789012345"};
        struct ca *c = open_at(*state, NOW);
        struct issued i = issue(c, "n-one", NOW);
        struct error e = {0};
        char *pem = NULL, serial[65];
        int64_t end;

        for (size_t k = 0; k < ELEMENTS(bad); k++) {
                assert_int_equal(
                        ca_issue_node(c, i.csr, bad[k], "o-one", NOW, &pem, serial, &end, &e), -EINVAL);
                assert_int_equal(
                        ca_issue_node(c, i.csr, "n-one", bad[k], NOW, &pem, serial, &end, &e), -EINVAL);
        }
        assert_null(pem);
        issued_done(&i);
        ca_free(c);
}

static void check_bad_csr(const char *pem, int number, const char *code)
{
        struct ca_request r = {.public_key_sha256 = "untouched"};
        struct error e = {0};

        assert_int_equal(ca_check_csr(pem, &r, &e), -number);
        assert_string_equal(e.code, code);
        assert_string_equal(r.public_key_sha256, "untouched");
}

static void requests_that_are_refused(void **state)
{
        EVP_PKEY *ec = EVP_EC_gen("P-256"), *other = EVP_EC_gen("P-256"), *p384 = EVP_EC_gen("P-384"),
                 *p521 = EVP_EC_gen("P-521"), *rsa = EVP_RSA_gen(2048), *own = EVP_EC_gen("P-256");
        _cleanup_free_ char *good = csr_of(ec, ec, "n"), *good_384 = csr_of(p384, p384, "n"),
                            *stolen = csr_of(ec, other, "n"), *big = csr_of(p521, p521, "n"),
                            *is_rsa = csr_of(rsa, rsa, "n"), *cut = xstrndup(good, strlen(good) / 2),
                            *tail = xasprintf("%s%s", good, good), *huge = xcalloc(20000, 1);
        _cleanup_free_ char *explicit_curve = NULL;
        struct ca_request r;

        (void)state;
        /* The right curve, written out as parameters of the asker's own. */
        assert_int_equal(EVP_PKEY_set_utf8_string_param(own, OSSL_PKEY_PARAM_EC_ENCODING, "explicit"), 1);
        explicit_curve = csr_of(own, own, "n");
        check_bad_csr(explicit_curve, EBADMSG, "csr.bad-key");
        EVP_PKEY_free(own);
        assert_int_equal(ca_check_csr(good, &r, NULL), 0);
        assert_int_equal(ca_check_csr(good_384, &r, NULL), 0);
        assert_int_equal(ca_check_csr(tail, &r, NULL), 0);
        check_bad_csr(stolen, EBADMSG, "csr.bad-signature");
        check_bad_csr(big, EBADMSG, "csr.bad-key");
        check_bad_csr(is_rsa, EBADMSG, "csr.bad-key");
        check_bad_csr(cut, EBADMSG, "csr.malformed");
        check_bad_csr("", EBADMSG, "csr.malformed");
        memset(huge, 'A', 19999);
        check_bad_csr(huge, EFBIG, "csr.too-large");
        assert_int_equal(ERR_peek_error(), 0);
        EVP_PKEY_free(ec);
        EVP_PKEY_free(other);
        EVP_PKEY_free(p384);
        EVP_PKEY_free(p521);
        EVP_PKEY_free(rsa);
}

static void strangers_are_not_identified(void **state)
{
        const struct place *p = *state;
        struct place q = *p;
        struct ca *ours = open_at(p, NOW), *theirs;
        struct issued i;
        struct ca_identity who = {.node = "untouched"};
        struct strv hosts = {0};
        struct error e = {0};
        _cleanup_free_ char *crt = NULL, *key = NULL, *server = NULL;
        bool changed;

        strcat(q.ca, "2");
        theirs = open_at(&q, NOW);
        i = issue(theirs, "n-one", NOW);
        assert_int_equal(ca_identify(ours, i.pem, &who, &e), -EACCES);
        assert_string_equal(e.code, "certificate.foreign");
        assert_int_equal(ca_identify(ours, "nonsense", &who, &e), -EBADMSG);
        assert_int_equal(ca_identify(ours, ca_chain_pem(ours), &who, &e), -EACCES);
        assert_int_equal(ca_identify(ours, ca_root_pem(ours), &who, &e), -EACCES);
        /* A server is not a node. */
        strv_add(&hosts, "repo.grid.example");
        assert_int_equal(ca_server_certificate(ours, "https", &hosts, NOW, &changed, &crt, &key, &e), 0);
        server = read_all(crt);
        assert_int_equal(ca_identify(ours, server, &who, &e), -EACCES);
        assert_string_equal(who.node, "untouched");
        strv_done(&hosts);
        issued_done(&i);
        ca_free(ours);
        ca_free(theirs);
}

static char *sign(EVP_PKEY *key, const char *data)
{
        EVP_MD_CTX *d = EVP_MD_CTX_new();
        unsigned char signature[256];
        size_t length = sizeof(signature);
        char *text = xcalloc(512, 1);

        assert_int_equal(EVP_DigestSignInit(d, NULL, EVP_sha256(), NULL, key), 1);
        assert_int_equal(EVP_DigestSign(d, signature, &length, (const unsigned char *)data, strlen(data)), 1);
        EVP_EncodeBlock((unsigned char *)text, signature, (int)length);
        EVP_MD_CTX_free(d);
        return text;
}

static void signatures_of_renewals(void **state)
{
        static const char *const bad[] = {"", "AAAA", "====", "AA==", "A", "not base 64", "AAA=AAAA"};
        struct ca *c = open_at(*state, NOW);
        struct issued a = issue(c, "n-one", NOW), b = issue(c, "n-two", NOW);
        _cleanup_free_ char *right = sign(a.key, "request"), *wrong = sign(b.key, "request"),
                            *blank = xasprintf(" %s", right);

        assert_int_equal(ca_verify_signature(a.pem, "request", 7, right, NULL), 0);
        assert_int_equal(ca_verify_signature(a.pem, "requesT", 7, right, NULL), -EACCES);
        assert_int_equal(ca_verify_signature(a.pem, "request", 6, right, NULL), -EACCES);
        assert_int_equal(ca_verify_signature(a.pem, "request", 7, wrong, NULL), -EACCES);
        assert_int_equal(ca_verify_signature(a.pem, "request", 7, blank, NULL), -EACCES);
        assert_int_equal(ca_verify_signature("nothing", "request", 7, right, NULL), -EBADMSG);
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_int_equal(ca_verify_signature(a.pem, "request", 7, bad[i], NULL), -EACCES);
        issued_done(&a);
        issued_done(&b);
        ca_free(c);
}

static bool is_revoked(const struct ca *c, const char *serial)
{
        _cleanup_free_ char *lists = read_all(ca_crl_path(c));
        BIO *b = BIO_new_mem_buf(lists, -1);
        BIGNUM *n = NULL;
        ASN1_INTEGER *number;
        X509_REVOKED *entry;
        X509_CRL *crl;
        bool found = false;

        BN_hex2bn(&n, serial);
        number = BN_to_ASN1_INTEGER(n, NULL);
        while ((crl = PEM_read_bio_X509_CRL(b, NULL, NULL, NULL))) {
                found |= X509_CRL_get0_by_serial(crl, &entry, number) == 1;
                X509_CRL_free(crl);
        }
        ASN1_INTEGER_free(number);
        BN_free(n);
        BIO_free(b);
        ERR_clear_error();
        return found;
}

static void what_is_revoked_stays_so(void **state)
{
        const struct place *p = *state;
        struct ca *c = open_at(p, NOW);
        struct issued a = issue(c, "n-one", NOW), b = issue(c, "n-two", NOW);
        struct strv list = {0}, bad = {0};
        struct error e = {0};
        bool changed;

        strv_add(&list, a.serial);
        assert_int_equal(ca_write_crl(c, &list, NOW, &e), 0);
        strv_add(&bad, "12G4");
        assert_int_equal(ca_write_crl(c, &bad, NOW, &e), -EINVAL);
        assert_true(is_revoked(c, a.serial));
        assert_false(is_revoked(c, b.serial));
        ca_free(c);
        /* Signed again when it is due, and by an intermediate that is new. */
        c = open_at(p, NOW + 25 * DAY);
        assert_true(is_revoked(c, a.serial));
        assert_int_equal(ca_maintain(c, NOW + 1300 * DAY, &changed, &e), 0);
        assert_true(is_revoked(c, a.serial));
        strv_done(&list);
        assert_int_equal(ca_write_crl(c, &list, NOW + 1300 * DAY, &e), 0);
        assert_false(is_revoked(c, a.serial));
        strv_done(&bad);
        issued_done(&a);
        issued_done(&b);
        ca_free(c);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_place, remove_place)

int main(void)
{
        const struct CMUnitTest tests[] = {
                TEST(makes_everything_from_nothing),
                TEST(openssl_agrees),
                TEST(a_half_pair_is_made_anew),
                TEST(survives_a_kill_at_any_moment),
                TEST(the_root_key_may_be_away),
                TEST(the_intermediate_is_renewed),
                TEST(refuses_what_is_not_its_own),
                TEST(a_wrong_clock_makes_nothing),
                TEST(server_certificates),
                TEST(node_certificates),
                TEST(names_that_are_no_ids),
                TEST(requests_that_are_refused),
                TEST(strangers_are_not_identified),
                TEST(signatures_of_renewals),
                TEST(what_is_revoked_stays_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
