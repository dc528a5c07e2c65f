/* What apt is told: the reasons that it decides by, and never a hash. */
#include "base/cleanup.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "apt/answer.h"

static const char *reason(const char *stage, const char *code, int number, int http_status)
{
        static char ret[APT_REASON_BYTES];
        struct transfer_failure f = {.number = number, .http_status = http_status};

        str_copy(f.stage, sizeof f.stage, stage);
        str_copy(f.code, sizeof f.code, code);
        answer_reason(&f, ret);
        return ret;
}

static void test_reasons(void **state)
{
        (void)state;
        assert_string_equal(reason("http", "http.404", ENOENT, 404), "HttpError404");
        assert_string_equal(reason("http", "http.503", EAGAIN, 503), "HttpError503");
        assert_string_equal(reason("http", "http.302", EREMOTEIO, 302), "HttpError302");
        assert_string_equal(reason("dns", "dns.no-such-name", ENOENT, 0), "ResolveFailure");
        assert_string_equal(reason("dns", "dns.no-answer", EHOSTUNREACH, 0), "TmpResolveFailure");
        assert_string_equal(reason("tcp", "tcp.refused", ECONNREFUSED, 0), "ConnectionRefused");
        assert_string_equal(reason("tcp", "tcp.dropped", ETIMEDOUT, 0), "ConnectionTimedOut");
        assert_string_equal(reason("tcp", "tcp.reset", ECONNRESET, 0), "");
        assert_string_equal(reason("tls", "tls.timeout", ETIMEDOUT, 0), "Timeout");
        assert_string_equal(reason("http", "transfer.cut", ETIMEDOUT, 200), "Timeout");
        assert_string_equal(reason("tls", "tls.intercepted", EPROTO, 0), "");
        assert_string_equal(reason("http", "http.wrong-size", EPROTO, 200), "MaximumSizeExceeded");
        assert_string_equal(reason("http", "http.too-large", EFBIG, 200), "MaximumSizeExceeded");
        assert_string_equal(reason("hash", "hash.wrong", EBADMSG, 200), "HashSumMismatch");
        assert_string_equal(reason("disk", "disk.full", ENOSPC, 0), "");
}

static void test_start(void **state)
{
        struct transfer_view v = {.size = 5000000000, .resumed = 17};
        struct text t = {0};

        (void)state;
        answer_start(&t, "u", &v);
        assert_string_equal(text_string(&t), "200 URI Start\nURI: u\nSize: 5000000000\nResume-Point: 17\n\n");
        text_done(&t);
        v = (struct transfer_view){0};
        answer_start(&t, "u", &v);
        assert_string_equal(text_string(&t), "200 URI Start\nURI: u\n\n");
        text_done(&t);
}

static void test_done(void **state)
{
        struct transfer_view v = {.bytes = 12, .size = 12};
        struct text t = {0};

        (void)state;
        answer_done(&t, "u", "/f", &v, 784111777);
        assert_string_equal(text_string(&t), "201 URI Done\nURI: u\nFilename: /f\nSize: 12\nLast-Modified: "
                                             "Sun, 06 Nov 1994 08:49:37 GMT\n\n");
        text_done(&t);
        v.resumed = 5;
        answer_done(&t, "u", "/f", &v, 0);
        assert_string_equal(
                text_string(&t), "201 URI Done\nURI: u\nFilename: /f\nSize: 12\nResume-Point: 5\n\n");
        text_done(&t);
        answer_unchanged(&t, "u", "/f", 784111777);
        assert_string_equal(text_string(&t), "201 URI Done\nURI: u\nFilename: /f\nLast-Modified: Sun, 06 Nov "
                                             "1994 08:49:37 GMT\nIMS-Hit: true\n\n");
        text_done(&t);
}

static void test_failure(void **state)
{
        struct transfer_failure f = {.number = ENOENT,
                .stage = "http",
                .http_status = 404,
                .is_permanent = true,
                .text = "not there"};
        struct text t = {0};

        (void)state;
        answer_failure(&t, "u", &f, NULL);
        assert_string_equal(
                text_string(&t), "400 URI Failure\nURI: u\nMessage: not there\nFailReason: HttpError404\n\n");
        text_done(&t);
        f = (struct transfer_failure){.number = ECONNRESET, .stage = "tcp", .text = "reset"};
        answer_failure(&t, "u", &f, "a firewall\ndoes it");
        assert_string_equal(text_string(&t),
                "400 URI Failure\nURI: u\nMessage: a firewall does it\nTransient-Failure: true\n\n");
        text_done(&t);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_reasons),
                cmocka_unit_test(test_start),
                cmocka_unit_test(test_done),
                cmocka_unit_test(test_failure),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
