#include "net/proxy_url.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void assert_url(const char *s, unsigned default_port, const char *wanted)
{
        char *url = NULL;

        if (proxy_url_parse(s, default_port, &url) < 0)
                fail_msg("%s was refused", s);
        assert_string_equal(url, wanted);
        free(url);
}

static void assert_refused(const char *s, unsigned default_port)
{
        char *url = NULL;

        if (proxy_url_parse(s, default_port, &url) != -EINVAL)
                fail_msg("%s was taken", s);
        assert_null(url);
}

static void test_right(void **state)
{
        (void)state;
        assert_url("http://10.20.0.9:3128", 0, "http://10.20.0.9:3128");
        assert_url("http://proxy.site.example:3128/", 0, "http://proxy.site.example:3128");
        assert_url("HTTP://proxy:1", 0, "http://proxy:1");
        assert_url("http://[2001:db8::9]:65535", 0, "http://[2001:db8::9]:65535");
        assert_url("proxy:3128", 0, "http://proxy:3128");
}

static void test_missing_port(void **state)
{
        (void)state;
        assert_url("http://proxy", 1080, "http://proxy:1080");
        assert_url("proxy/", 1080, "http://proxy:1080");
        assert_url("[2001:db8::9]", 1080, "http://[2001:db8::9]:1080");
        assert_url("http://proxy:8080", 1080, "http://proxy:8080");
        assert_refused("http://proxy", 0);
        assert_refused("http://proxy/", 0);
}

/* A password is in the environment for those who may have it, and not for reports. */
static void test_password(void **state)
{
        (void)state;
        assert_url("http://user:p@ss@proxy:3128", 1080, "http://proxy:3128");
        assert_url("user@proxy", 1080, "http://proxy:1080");
        assert_refused("http://user:pass@proxy:3128", 0);
        assert_refused("http://user@proxy:3128", 0);
}

static void test_wrong(void **state)
{
        (void)state;
        static const char *const wrong[] = {"", "http://", "http:///", "https://proxy:443",
                "socks5://proxy:1080", "http://:3128", "http://proxy:", "http://proxy:0",
                "http://proxy:65536", "http://proxy:3128x", "http://proxy:3128/path", "http://pro xy:3128",
                "http://proxy:31 28", "http://2001:db8::9:3128", "http://[2001:db8::9:3128", "http://[",
                "http://[]:1", "http://[10.20.0.9]:3128", "http://10.20.0:1", "http://proxy:3128?x",
                "http://proxy\n:3128", "http://@:1", "//proxy:3128"};
        char name[600];

        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                assert_refused(wrong[i], 0);
                assert_refused(wrong[i], 1080);
        }
        memset(name, 'a', sizeof(name));
        strcpy(name + sizeof(name) - 4, ":80");
        assert_refused(name, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_right),
                cmocka_unit_test(test_missing_port),
                cmocka_unit_test(test_password),
                cmocka_unit_test(test_wrong),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
