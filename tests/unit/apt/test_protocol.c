/* apt's messages: taken whole or not at all, and what is in them. */
#include "base/cleanup.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "apt/protocol.h"

#define SHA256 "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

static struct apt_message take(const char *s)
{
        struct text buffer = {0};
        struct apt_message m;

        text_add(&buffer, s);
        assert_int_equal(apt_message_take(&buffer, &m, NULL), 1);
        assert_int_equal(buffer.length, 0);
        text_done(&buffer);
        return m;
}

static int take_result(const char *s)
{
        struct text buffer = {0};
        struct apt_message m = {0};
        struct error e = {0};
        int r;

        text_add(&buffer, s);
        r = apt_message_take(&buffer, &m, &e);
        assert_true(r >= 0 || (e.code && e.text[0]));
        apt_message_done(&m);
        text_done(&buffer);
        return r;
}

static void test_takes_one_after_another(void **state)
{
        struct text buffer = {0};
        struct apt_message m;

        (void)state;
        text_add(&buffer, "\n\n600 URI Acquire\nURI: a\n\n601 Configuration\nConfig-Item: b=c\n\n600 URI");
        assert_int_equal(apt_message_take(&buffer, &m, NULL), 1);
        assert_int_equal(m.number, 600);
        assert_string_equal(apt_message_field(&m, "uri"), "a");
        assert_null(apt_message_field(&m, "Filename"));
        apt_message_done(&m);
        assert_int_equal(apt_message_take(&buffer, &m, NULL), 1);
        assert_int_equal(m.number, 601);
        apt_message_done(&m);
        assert_int_equal(apt_message_take(&buffer, &m, NULL), 0);
        text_add(&buffer, " Acquire\n\n");
        assert_int_equal(apt_message_take(&buffer, &m, NULL), 1);
        assert_int_equal(m.count, 0);
        apt_message_done(&m);
        text_done(&buffer);
}

static void test_lines(void **state)
{
        struct apt_message m =
                take("600 URI Acquire\r\nURI:a\r\nEmpty:\nLong: first\n second: line\nA: b:c\n\n");

        (void)state;
        assert_int_equal(m.count, 4);
        assert_string_equal(apt_message_field(&m, "URI"), "a");
        assert_string_equal(apt_message_field(&m, "Empty"), "");
        assert_string_equal(apt_message_field(&m, "Long"), "first");
        assert_string_equal(apt_message_field(&m, "A"), "b:c");
        apt_message_done(&m);
}

static void test_refuses(void **state)
{
        struct text endless = {0};

        (void)state;
        assert_int_equal(take_result(""), 0);
        assert_int_equal(take_result("\n\n"), 0);
        assert_int_equal(take_result("600 URI Acquire\nURI: a\n"), 0);
        assert_int_equal(take_result("60 URI\n\n"), -EBADMSG);
        assert_int_equal(take_result("6000 URI\n\n"), -EBADMSG);
        assert_int_equal(take_result("hello\n\n"), -EBADMSG);
        assert_int_equal(take_result(" \n\n"), -EBADMSG);
        assert_int_equal(take_result("600 URI\nno colon\n\n"), -EBADMSG);
        assert_int_equal(take_result("600 URI\n: no name\n\n"), -EBADMSG);
        for (size_t i = 0; i <= APT_MESSAGE_MAXIMUM / 8; i++)
                text_add(&endless, "A: bcde\n");
        assert_int_equal(take_result(text_string(&endless)), -EFBIG);
        text_done(&endless);
}

static void test_refuses_too_many_fields(void **state)
{
        struct text many = {0};

        (void)state;
        text_add(&many, "601 Configuration\n");
        for (size_t i = 0; i <= APT_MAX_FIELDS; i++)
                text_add(&many, "A:b\n");
        text_add(&many, "\n");
        assert_int_equal(take_result(text_string(&many)), -EFBIG);
        text_done(&many);
}

static void test_acquire(void **state)
{
        struct apt_message m =
                take("600 URI Acquire\nURI: gridnode://repo.grid.example/debian/x\nFilename: /var/x\n"
                     "Expected-SHA256: " SHA256 "\nExpected-Checksum-FileSize: 1234\n"
                     "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nIndex-File: true\n\n");
        struct apt_acquire a;

        (void)state;
        assert_int_equal(apt_acquire_read(&m, &a, NULL), 0);
        assert_string_equal(a.uri, "gridnode://repo.grid.example/debian/x");
        assert_string_equal(a.filename, "/var/x");
        assert_string_equal(a.sha256, SHA256);
        assert_int_equal(a.size, 1234);
        assert_int_equal(a.maximum_bytes, 0);
        assert_int_equal(a.modified_since_unix, 784111777);
        assert_true(a.is_index);
        apt_message_done(&m);
}

static void test_acquire_without(void **state)
{
        struct apt_message m =
                take("600 URI Acquire\nURI: u\nFilename: /x\nExpected-SHA256: ABC\nMaximum-Size: 77\n"
                     "Last-Modified: yesterday\n\n");
        struct apt_acquire a;

        (void)state;
        assert_int_equal(apt_acquire_read(&m, &a, NULL), 0);
        assert_null(a.sha256);
        assert_int_equal(a.size, 0);
        assert_int_equal(a.maximum_bytes, 77);
        assert_int_equal(a.modified_since_unix, 0);
        assert_false(a.is_index);
        apt_message_done(&m);
}

static void test_acquire_refuses(void **state)
{
        static const char *const bad[] = {"600 A\nFilename: /x\n\n", "600 A\nURI:\nFilename: /x\n\n",
                "600 A\nURI: u\n\n", "600 A\nURI: u\nFilename: x\n\n", "600 A\nURI: u\nFilename: \n\n",
                "600 A\nURI: u\nFilename: /x\nExpected-Checksum-FileSize: many\n\n",
                "600 A\nURI: u\nFilename: /x\nMaximum-Size: -1\n\n",
                "600 A\nURI: u\nFilename: /x\nMaximum-Size: 99999999999999999999\n\n"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                struct apt_message m = take(bad[i]);
                struct apt_acquire a;
                struct error e = {0};

                assert_int_equal(apt_acquire_read(&m, &a, &e), -EBADMSG);
                assert_true(e.text[0]);
                apt_message_done(&m);
        }
}

static void test_uri(void **state)
{
        struct apt_uri u;

        (void)state;
        assert_int_equal(apt_uri_parse("gridnode://repo.grid.example/debian/a%20b?c=d", &u, NULL), 0);
        assert_string_equal(u.host, "repo.grid.example");
        assert_int_equal(u.port, 0);
        assert_string_equal(u.path, "/debian/a%20b?c=d");
        free(u.path);
        assert_int_equal(apt_uri_parse("GRIDNODE://R:8443/", &u, NULL), 0);
        assert_int_equal(u.port, 8443);
        assert_string_equal(u.path, "/");
        free(u.path);
}

static void test_uri_refuses(void **state)
{
        static const char *const bad[] = {"", "gridnode:", "gridnode://", "gridnode://repo", "gridnode:///x",
                "https://repo/x", "repo/x", "gridnode://repo:0/x", "gridnode://repo:65536/x",
                "gridnode://repo:/x", "gridnode://user@repo/x", "gridnode://re_po/x", "gridnode://[::1]/x",
                "gridnode://192.0.2.1/x", "gridnode://repo/a b", "gridnode://repo/\x7f",
                "gridnode://repo/\xc3\xa4", "gridnode://repo/x#y"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                struct apt_uri u = {0};
                struct error e = {0};

                assert_int_equal(apt_uri_parse(bad[i], &u, &e), -EINVAL);
                assert_true(e.text[0]);
                assert_null(u.path);
        }
}

static void test_configuration(void **state)
{
        struct apt_message m =
                take("601 Configuration\nConfig-Item: Acquire::gridnode::Deadline=5\nConfig-Item: A\n"
                     "Config-Item: acquire::gridnode::deadline=1%200%\nOther: "
                     "Acquire::gridnode::Deadline=9\nConfig-Item: A%3aB=%3d=%zz\n\n");
        char *value = apt_configuration_value(&m, "Acquire::gridnode::Deadline");

        (void)state;
        assert_string_equal(value, "1 0%");
        free(value);
        value = apt_configuration_value(&m, "A:B");
        assert_string_equal(value, "==%zz");
        free(value);
        assert_null(apt_configuration_value(&m, "A"));
        apt_message_done(&m);
}

static void test_write(void **state)
{
        struct text t = {0};

        (void)state;
        apt_message_write(&t, "400 URI Failure", "URI", "u", "Nothing", NULL, "Empty", "", "Message",
                "one\ntwo: \x1b\x7f \xc3\xa4", NULL);
        assert_string_equal(text_string(&t), "400 URI Failure\nURI: u\nMessage: one two:    \xc3\xa4\n\n");
        text_done(&t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_takes_one_after_another),
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_refuses),
                cmocka_unit_test(test_refuses_too_many_fields),
                cmocka_unit_test(test_acquire),
                cmocka_unit_test(test_acquire_without),
                cmocka_unit_test(test_acquire_refuses),
                cmocka_unit_test(test_uri),
                cmocka_unit_test(test_uri_refuses),
                cmocka_unit_test(test_configuration),
                cmocka_unit_test(test_write),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
