#include "net/trust.h"

#include "../pki.h"
#include "base/cleanup.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include <setjmp.h>

#include <cmocka.h>

#define HOST "repo.grid.example"

static char folder[] = "/tmp/test_trust.XXXXXX";
static struct pki_pair root, intermediate, leaf, foreign, foreign_leaf;

static char *path_of(const char *name)
{
        static char paths[16][128];
        static unsigned next;
        char *path = paths[next++ % 16];

        snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
        return path;
}

static int set_up(void **state)
{
        (void)state;
        assert_non_null(mkdtemp(folder));
        root = pki_issue(&(struct pki_request){.organisation = "Grid, Inc",
                .common_name = "Grid Root CA",
                .is_authority = true,
                .from_s = -90000,
                .to_s = 90000});
        intermediate = pki_issue(&(struct pki_request){.organisation = "Grid, Inc",
                .common_name = "Grid Issuing CA",
                .is_authority = true,
                .issuer = &root,
                .from_s = -7200,
                .to_s = 9000});
        leaf = pki_issue(&(struct pki_request){.common_name = HOST,
                .host = "DNS:" HOST ",DNS:*.grid.example",
                .usage = "serverAuth",
                .issuer = &intermediate});
        foreign = pki_issue(&(struct pki_request){
                .organisation = "Fortinet", .common_name = "Fortinet Untrusted CA", .is_authority = true});
        foreign_leaf = pki_issue(
                &(struct pki_request){.common_name = HOST, .host = "DNS:" HOST, .issuer = &foreign});
        pki_save_certificate(path_of("root.pem"), &root);
        return 0;
}

static int tear_down(void **state)
{
        char command[64];

        (void)state;
        snprintf(command, sizeof(command), "rm -rf %s", folder);
        pki_pair_done(&root);
        pki_pair_done(&intermediate);
        pki_pair_done(&leaf);
        pki_pair_done(&foreign);
        pki_pair_done(&foreign_leaf);
        return system(command);
}

static struct trust *make(const struct trust_options *o)
{
        struct error error = {0};
        struct trust *t = NULL;
        int r = trust_new(o, &t, &error);

        if (r < 0)
                print_message("%s\n", error.text);
        assert_int_equal(r, 0);
        return t;
}

static struct trust *pinned(void)
{
        return make(&(struct trust_options){.root_ca_path = path_of("root.pem")});
}

static struct trust *named(const char *subject)
{
        return make(&(struct trust_options){.root_subject = subject});
}

static STACK_OF(X509) * stack(size_t count, const struct pki_pair *const pairs[])
{
        STACK_OF(X509) *s = sk_X509_new_null();

        for (size_t i = 0; i < count; i++)
                sk_X509_push(s, pairs[i]->certificate);
        return s;
}

#define CHAIN(...)                                                       \
        stack(ELEMENTS(((const struct pki_pair *const[]){__VA_ARGS__})), \
                (const struct pki_pair *const[]){__VA_ARGS__})

static struct trust_verdict judge_at(
        struct trust *t, STACK_OF(X509) * chain /* taken */, const char *host, int64_t now)
{
        struct trust_verdict v;

        memset(&v, 0xff, sizeof(v));
        trust_judge(t, chain, host, now, &v);
        sk_X509_free(chain);
        return v;
}

static struct trust_verdict judge(struct trust *t, STACK_OF(X509) * chain, const char *host)
{
        return judge_at(t, chain, host, time(NULL));
}

static void genuine_chain(void **state)
{
        struct trust *t = pinned();
        struct trust_verdict v = judge(t, CHAIN(&leaf, &intermediate), HOST);

        (void)state;
        assert_true(v.trusted && v.name_matches && v.time_valid && !v.by_name_only);
        assert_int_equal(v.error, X509_V_OK);
        /* The window is that of the shortest, the leaf. */
        assert_in_range(v.not_after_unix, time(NULL) + 3590, time(NULL) + 3601);
        v = judge(t, CHAIN(&leaf, &intermediate, &root), "other.grid.example");
        assert_true(v.trusted && v.name_matches);
        v = judge(t, CHAIN(&leaf, &root, &foreign, &intermediate), HOST);
        assert_true(v.trusted);
        v = judge(t, CHAIN(&leaf, &intermediate), NULL);
        assert_true(v.trusted && v.name_matches);
        trust_free(t);
}

static void wrong_name(void **state)
{
        struct trust *t = pinned();
        struct trust_verdict v = judge(t, CHAIN(&leaf, &intermediate), "repo.grid.test");

        (void)state;
        assert_true(v.trusted && !v.name_matches && v.time_valid);
        assert_int_equal(v.error, X509_V_ERR_HOSTNAME_MISMATCH);
        v = judge(t, CHAIN(&leaf, &intermediate), "198.51.100.20");
        assert_true(v.trusted && !v.name_matches);
        trust_free(t);
}

static void untrusted(void **state)
{
        struct trust *t = pinned();
        struct trust_verdict v = judge(t, CHAIN(&foreign_leaf, &foreign), HOST);

        (void)state;
        assert_true(!v.trusted && v.name_matches && v.time_valid);
        assert_int_equal(v.error, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
        v = judge(t, CHAIN(&leaf), HOST); /* the intermediate is not sent */
        assert_false(v.trusted);
        v = judge(t, sk_X509_new_null(), HOST);
        assert_true(!v.trusted && !v.name_matches && !v.time_valid && v.error != 0);
        trust_free(t);
}

/* A certificate of the right name for its issuer, signed by somebody else's key. */
static void forged_signature(void **state)
{
        struct pki_pair impostor = pki_issue(&(struct pki_request){
                .organisation = "Grid, Inc", .common_name = "Grid Root CA", .is_authority = true});
        struct pki_pair forged = pki_issue(
                &(struct pki_request){.common_name = HOST, .host = "DNS:" HOST, .issuer = &impostor});
        struct trust *t = pinned();

        (void)state;
        assert_false(judge(t, CHAIN(&forged), HOST).trusted);
        assert_false(judge(t, CHAIN(&forged, &impostor), HOST).trusted);
        assert_false(judge(t, CHAIN(&forged, &root), HOST).trusted);
        trust_free(t);
        pki_pair_done(&impostor);
        pki_pair_done(&forged);
}

/* Certificates that the pinned root did sign, but not for being a server or an authority. */
static void wrong_purpose(void **state)
{
        struct pki_pair node = pki_issue(&(struct pki_request){
                .common_name = HOST, .host = "DNS:" HOST, .usage = "clientAuth", .issuer = &intermediate});
        struct pki_pair by_leaf = pki_issue(
                &(struct pki_request){.common_name = "below a leaf", .host = "DNS:" HOST, .issuer = &leaf});
        struct trust *t = pinned();
        struct trust_verdict v = judge(t, CHAIN(&node, &intermediate), HOST);

        (void)state;
        assert_true(v.trusted && !v.name_matches);
        assert_int_equal(v.error, X509_V_ERR_INVALID_PURPOSE);
        v = judge(t, CHAIN(&by_leaf, &leaf, &intermediate), HOST);
        assert_false(v.trusted);
        assert_int_equal(v.error, X509_V_ERR_INVALID_CA);
        trust_free(t);
        pki_pair_done(&node);
        pki_pair_done(&by_leaf);
}

static void times(void **state)
{
        struct trust *t = pinned();
        int64_t now = time(NULL);
        struct trust_verdict v = judge_at(t, CHAIN(&leaf, &intermediate), HOST, now + 5000);

        (void)state;
        assert_true(v.trusted && v.name_matches && !v.time_valid);
        assert_int_equal(v.error, X509_V_ERR_CERT_HAS_EXPIRED);
        v = judge_at(t, CHAIN(&leaf, &intermediate), HOST, now - 63072000);
        assert_true(v.trusted && v.name_matches && !v.time_valid);
        assert_int_equal(v.error, X509_V_ERR_CERT_NOT_YET_VALID);
        /* Remembered verdicts keep no moment. */
        assert_true(judge_at(t, CHAIN(&leaf, &intermediate), HOST, now).time_valid);
        trust_free(t);
}

static void root_by_subject(void **state)
{
        static const char *const same[] = {"O = Grid\\, Inc, CN = Grid Root CA",
                "O=Grid\\, Inc,CN=Grid Root CA", " o =Grid\\, Inc ,\tcommonName= Grid Root CA "};
        static const char *const other[] = {"CN=Grid Root CA,O=Grid\\, Inc", "O=Grid\\, Inc",
                "CN=Grid Root CA", "O=Grid\\, Inc,CN=Grid Root CA,C=US", "O=Grid\\, Inc,CN=Grid root CA",
                "O=,CN=", "", ",,,=", "O=Grid\\, Inc,CN=Grid Root C"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(same); i++) {
                struct trust *t = named(same[i]);
                struct trust_verdict v = judge(t, CHAIN(&leaf, &intermediate), HOST);

                assert_true(v.trusted && v.by_name_only && v.name_matches && v.time_valid);
                assert_true(judge(t, CHAIN(&leaf, &intermediate, &root), HOST).trusted);
                assert_false(judge(t, CHAIN(&foreign_leaf, &foreign), HOST).trusted);
                /* The name stands in the chain, but no signature leads there. */
                assert_false(judge(t, CHAIN(&foreign_leaf, &intermediate), HOST).trusted);
                assert_false(judge(t, CHAIN(&foreign_leaf, &foreign, &root), HOST).trusted);
                assert_false(judge(t, CHAIN(&leaf), HOST).trusted);
                trust_free(t);
        }
        for (size_t i = 0; i < ELEMENTS(other); i++) {
                struct trust *t = named(other[i]);

                assert_false(judge(t, CHAIN(&leaf, &intermediate, &root), HOST).trusted);
                trust_free(t);
        }
}

static double cpu_ms(void)
{
        return (double)clock() * 1000 / CLOCKS_PER_SEC;
}

static void chain_of_a_hundred(void **state)
{
        struct pki_pair links[100];
        STACK_OF(X509) *chain = sk_X509_new_null();
        struct trust *by_key = pinned(), *by_name = named("O=Grid\\, Inc,CN=Grid Root CA");
        double started_ms;

        (void)state;
        links[99] = pki_issue(
                &(struct pki_request){.common_name = "link 99", .is_authority = true, .issuer = &root});
        for (int i = 98; i >= 0; i--) {
                char name[32];

                snprintf(name, sizeof(name), "link %d", i);
                links[i] = pki_issue(&(struct pki_request){.common_name = name,
                        .host = "DNS:" HOST,
                        .is_authority = i > 0,
                        .issuer = &links[i + 1]});
        }
        for (int i = 0; i < 100; i++)
                sk_X509_push(chain, links[i].certificate);
        started_ms = cpu_ms();
        assert_false(judge(by_key, sk_X509_dup(chain), HOST).trusted);
        assert_false(judge(by_name, sk_X509_dup(chain), HOST).trusted);
        assert_true(cpu_ms() - started_ms < 200); /* sanitizers included */
        /* A hundred times the same certificate. */
        sk_X509_zero(chain);
        for (int i = 0; i < 100; i++)
                sk_X509_push(chain, root.certificate);
        assert_true(judge(by_key, sk_X509_dup(chain), NULL).trusted);
        sk_X509_free(chain);
        for (int i = 0; i < 100; i++)
                pki_pair_done(&links[i]);
        trust_free(by_key);
        trust_free(by_name);
}

static void verdicts_are_remembered(void **state)
{
        struct trust *t = pinned();
        double started_ms;

        (void)state;
        for (int i = 0; i < 50; i++) { /* more than the memory holds, then the same again */
                char host[32];

                snprintf(host, sizeof(host), "h%d.grid.example", i);
                assert_true(judge(t, CHAIN(&leaf, &intermediate), host).name_matches);
                snprintf(host, sizeof(host), "h%d.other.example", i);
                assert_false(judge(t, CHAIN(&leaf, &intermediate), host).name_matches);
        }
        started_ms = cpu_ms();
        for (int i = 0; i < 1000; i++)
                assert_true(judge(t, CHAIN(&leaf, &intermediate), HOST).trusted);
        assert_true(cpu_ms() - started_ms < 300);
        trust_free(t);
}

static void without_trust(void **state)
{
        struct trust_verdict v = judge(NULL, CHAIN(&leaf, &intermediate), HOST);

        (void)state;
        assert_true(!v.trusted && v.name_matches && v.time_valid);
        assert_false(judge(NULL, CHAIN(&leaf), "nobody.example").name_matches);
}

static void node_certificate(void **state)
{
        const char *certificate = path_of("node.crt"), *key = path_of("node.key");
        struct pki_pair node = pki_issue(&(struct pki_request){
                .common_name = "branch-12", .usage = "clientAuth", .issuer = &intermediate});
        struct trust *t;
        SSL_CTX *context;
        STACK_OF(X509) * rest;

        (void)state;
        pki_save_certificate(certificate, &node);
        pki_save_certificate(certificate, &intermediate);
        pki_save_key(key, &node);
        t = make(&(struct trust_options){
                .root_ca_path = path_of("root.pem"), .certificate_path = certificate, .key_path = key});
        assert_true(trust_has_certificate(t));
        assert_null(trust_certificate_problem(t));
        assert_int_equal(strlen(trust_certificate_serial(t)), 16);
        assert_in_range(trust_certificate_not_after(t), time(NULL) + 3590, time(NULL) + 3601);
        context = trust_context(t, true);
        assert_ptr_equal(context, trust_context(t, true));
        assert_int_equal(SSL_CTX_check_private_key(context), 1);
        SSL_CTX_get0_chain_certs(context, &rest);
        assert_int_equal(sk_X509_num(rest), 1);
        assert_null(SSL_CTX_get0_certificate(trust_context(t, false)));
        /* Trust is ours alone. */
        assert_int_equal(sk_X509_OBJECT_num(X509_STORE_get0_objects(SSL_CTX_get_cert_store(context))), 0);
        trust_free(t);
        pki_pair_done(&node);
}

static void write_text(const char *path, const char *text)
{
        FILE *f = fopen(path, "we");

        assert_non_null(f);
        fputs(text, f);
        fclose(f);
}

static void expect_problem(const char *certificate, const char *key, const char *problem)
{
        struct trust *t = make(&(struct trust_options){
                .root_ca_path = path_of("root.pem"), .certificate_path = certificate, .key_path = key});

        assert_false(trust_has_certificate(t));
        assert_null(trust_certificate_serial(t));
        assert_int_equal(trust_certificate_not_after(t), 0);
        if (problem)
                assert_non_null(strstr(trust_certificate_problem(t), problem));
        else
                assert_null(trust_certificate_problem(t));
        assert_null(SSL_CTX_get0_certificate(trust_context(t, true)));
        trust_free(t);
}

static void node_certificate_problems(void **state)
{
        const char *certificate = path_of("good.crt"), *other = path_of("other.key"), *junk = path_of("junk");
        FILE *locked;

        (void)state;
        pki_save_certificate(certificate, &leaf);
        pki_save_key(other, &root);
        write_text(junk, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        expect_problem(path_of("absent.crt"), path_of("absent.key"), NULL);
        expect_problem(NULL, NULL, NULL);
        expect_problem(certificate, "/nonexistent/key", "is missing");
        expect_problem(certificate, other, "does not fit");
        expect_problem(certificate, junk, "not a PEM key");
        expect_problem(junk, other, "not a PEM certificate");
        expect_problem(folder, other, folder);
        /* A passphrase is never asked for. */
        locked = fopen(path_of("locked.key"), "we");
        assert_non_null(locked);
        assert_int_equal(
                PEM_write_PKCS8PrivateKey(locked, leaf.key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL), 1);
        fclose(locked);
        expect_problem(certificate, path_of("locked.key"), "passphrase");
}

static void bad_roots(void **state)
{
        static const char *const texts[] = {"", "no certificate here\n", "-----BEGIN CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
        struct trust *t = NULL;
        struct error error = {0};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(texts); i++) {
                write_text(path_of("bad.pem"), texts[i]);
                assert_int_equal(
                        trust_new(&(struct trust_options){.root_ca_path = path_of("bad.pem")}, &t, &error),
                        -EBADMSG);
                assert_non_null(strstr(error.text, "bad.pem"));
        }
        assert_int_equal(
                trust_new(&(struct trust_options){.root_ca_path = path_of("none.pem")}, &t, &error), -ENOENT);
        assert_int_equal(trust_new(&(struct trust_options){0}, &t, &error), -EINVAL);
        assert_null(t);
        assert_null(trust_free(NULL));
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(genuine_chain), cmocka_unit_test(wrong_name),
                cmocka_unit_test(untrusted), cmocka_unit_test(forged_signature),
                cmocka_unit_test(wrong_purpose), cmocka_unit_test(times), cmocka_unit_test(root_by_subject),
                cmocka_unit_test(chain_of_a_hundred), cmocka_unit_test(verdicts_are_remembered),
                cmocka_unit_test(without_trust), cmocka_unit_test(node_certificate),
                cmocka_unit_test(node_certificate_problems), cmocka_unit_test(bad_roots)};

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
