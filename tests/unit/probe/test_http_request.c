#include "probe/http_request.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

#define HOST "repo.grid.example"

static void requests(void **state)
{
        static const struct {
                const char *name, *target, *path, *url;
                enum service_tls tls;
                enum probe_purpose purpose;
        } cases[] = {
                {HOST, "198.51.100.20:443", "", "https://" HOST "/", SERVICE_TLS_SERVER, PURPOSE_SERVICE},
                {HOST, "198.51.100.20:8443", "/x", "https://" HOST ":8443/x", SERVICE_TLS_MUTUAL,
                        PURPOSE_SERVICE},
                {HOST, "198.51.100.20:80", "x?a=b", "http://" HOST "/x?a=b", SERVICE_TLS_SERVER,
                        PURPOSE_PORTAL},
                {"", "[2001:db8::1]:443", "", "https://[2001:db8::1]/", SERVICE_TLS_SERVER, PURPOSE_SERVICE},
                {"", "198.51.100.20:8080", "", "http://198.51.100.20:8080/", SERVICE_TLS_NONE,
                        PURPOSE_SERVICE}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct probe_spec s = {
                        .kind = MEASUREMENT_HTTP, .tls = cases[i].tls, .purpose = cases[i].purpose};
                struct http_request r;
                struct error error;

                str_copy(s.name, sizeof(s.name), cases[i].name);
                str_copy(s.path, sizeof(s.path), cases[i].path);
                assert_int_equal(endpoint_parse(cases[i].target, &s.target), 0);
                assert_int_equal(http_request_make(&s, &r, &error), 0);
                assert_string_equal(r.url, cases[i].url);
                assert_true(endpoint_equal(&r.connect, &s.target));
                assert_true(str_ends_with(r.connect_to->data, cases[i].target));
                http_request_done(&r);
        }
}

static void proxies(void **state)
{
        static const struct {
                const char *proxy, *endpoint; /* NULL: refused */
        } cases[] = {{"http://10.20.0.9:3128", "10.20.0.9:3128"},
                {"http://user:word@10.20.0.9:3128/", "10.20.0.9:3128"}, {"10.20.0.9:3128", "10.20.0.9:3128"},
                {"socks5h://[2001:db8::9]:1081", "[2001:db8::9]:1081"},
                {"http://10.20.0.9", "10.20.0.9:1080"}, {"http://proxy.example:3128", NULL},
                {"http://[", NULL}, {"socks5://10.20.0.9:1080", NULL}, {"https://10.20.0.9:3128", NULL},
                {"http://10.20.0.9:0", NULL}, {"http://10.20.0.9:70000", NULL}, {"http://", NULL},
                {" ", NULL}};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct probe_spec s = {.kind = MEASUREMENT_HTTP, .name = HOST};
                struct http_request r = {0};
                struct error error;
                char text[INET_ADDR_TEXT];
                int result;

                str_copy(s.proxy, sizeof(s.proxy), cases[i].proxy);
                assert_int_equal(endpoint_parse("198.51.100.20:443", &s.target), 0);
                result = http_request_make(&s, &r, &error);
                if (!cases[i].endpoint) {
                        assert_int_equal(result, -EINVAL);
                        assert_null(strstr(error.text, "word"));
                        assert_null(r.url);
                        continue;
                }
                assert_int_equal(result, 0);
                assert_true(r.has_proxy);
                assert_null(r.connect_to);
                assert_string_equal(endpoint_format(&r.connect, text), cases[i].endpoint);
                http_request_done(&r);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(requests), cmocka_unit_test(proxies)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
