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
                TEST(openssl_agrees),
                TEST(node_certificates),
                TEST(names_that_are_no_ids),
                TEST(requests_that_are_refused),
                TEST(strangers_are_not_identified),
                TEST(signatures_of_renewals),
                TEST(what_is_revoked_stays_so),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
