#include "net/x509.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <string.h>

/* A certificate for "x", in force from 2001-09-09T01:46:40Z for one day, as PEM, `count` times. */
static char *make_pem(EVP_PKEY *key, int count)
{
        X509 *x = X509_new();
        BIO *bio = BIO_new(BIO_s_mem());
        char *data, *pem;
        long length;

        X509_set_version(x, X509_VERSION_3);
        ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), 0xABCDEF0123456789);
        ASN1_TIME_set(X509_getm_notBefore(x), 1000000000);
        ASN1_TIME_set(X509_getm_notAfter(x), 1000086400);
        X509_set_pubkey(x, key);
        assert_true(X509_sign(x, key, EVP_sha256()) > 0);
        while (count--)
                PEM_write_bio_X509(bio, x);
        length = BIO_get_mem_data(bio, &data);
        pem = strndup(data, (size_t)length);
        BIO_free(bio);
        X509_free(x);
        return pem;
}

static void test_certificate(void **state)
{
        (void)state;
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = EVP_EC_gen("P-256");
        _cleanup_free_ char *pem = make_pem(key, 1);
        _cleanup_(X509_free_p) X509 *x = x509_from_pem(pem, strlen(pem));
        char serial[X509_SERIAL_TEXT], fingerprint[X509_FINGERPRINT_TEXT];

        assert_non_null(x);
        assert_int_equal(x509_time_to_unix(X509_get0_notBefore(x)), 1000000000);
        assert_int_equal(x509_time_to_unix(X509_get0_notAfter(x)), 1000086400);
        assert_int_equal(x509_time_to_unix(NULL), 0);
        x509_serial_to_text(X509_get0_serialNumber(x), serial);
        assert_string_equal(serial, "ABCDEF0123456789");
        x509_fingerprint(x, fingerprint);
        assert_int_equal(strlen(fingerprint), 64);
        assert_int_equal(strspn(fingerprint, "0123456789abcdef"), 64);
}

static void test_several(void **state)
{
        (void)state;
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = EVP_EC_gen("P-256");
        _cleanup_free_ char *pem = make_pem(key, 3);
        _cleanup_(BIO_free_all_p) BIO *bio = BIO_new_mem_buf(pem, -1);
        X509 *x;
        int count = 0;

        for (; (x = x509_read(bio)); count++)
                X509_free(x);
        assert_int_equal(count, 3);
        assert_null(x509_read(NULL));
}

static void test_serial_too_long(void **state)
{
        (void)state;
        BIGNUM *number = BN_new();
        ASN1_INTEGER *serial;
        char text[X509_SERIAL_TEXT] = "x";

        BN_set_bit(number, 4 * X509_SERIAL_TEXT);
        serial = BN_to_ASN1_INTEGER(number, NULL);
        x509_serial_to_text(serial, text);
        assert_string_equal(text, "");
        ASN1_INTEGER_free(serial);
        BN_free(number);
}

/* With a passphrase; nobody is asked for it. */
static void test_key(void **state)
{
        (void)state;
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = EVP_EC_gen("P-256");
        _cleanup_(BIO_free_all_p) BIO *plain = BIO_new(BIO_s_mem()), *locked = BIO_new(BIO_s_mem());
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *back = NULL;
        char *data;
        long length;

        PEM_write_bio_PrivateKey(plain, key, NULL, NULL, 0, NULL, NULL);
        length = BIO_get_mem_data(plain, &data);
        back = x509_key_from_pem(data, (size_t)length);
        assert_int_equal(EVP_PKEY_eq(back, key), 1);
        PEM_write_bio_PrivateKey(
                locked, key, EVP_aes_128_cbc(), (const unsigned char *)"secret", 6, NULL, NULL);
        length = BIO_get_mem_data(locked, &data);
        assert_null(x509_key_from_pem(data, (size_t)length));
        assert_true(strlen(x509_reason()) > 0);
        assert_int_equal(ERR_peek_error(), 0);
}

static void test_wrong(void **state)
{
        (void)state;
        static const char *const wrong[] = {"", "-----BEGIN CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
                "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,"
                "00112233445566778899AABBCCDDEEFF\n\nMIIBMIIBMIIBMIIBMIIBMA==\n-----END CERTIFICATE-----\n"};

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                assert_null(x509_from_pem(wrong[i], strlen(wrong[i])));
                assert_null(x509_key_from_pem(wrong[i], strlen(wrong[i])));
        }
        x509_reason();
        assert_string_equal(x509_reason(), "OpenSSL does not say why");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_certificate),
                cmocka_unit_test(test_several),
                cmocka_unit_test(test_serial_too_long),
                cmocka_unit_test(test_key),
                cmocka_unit_test(test_wrong),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
