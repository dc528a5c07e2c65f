/* The site file as a file, and what the machine knows where it is silent. */
#include "net/site.h"

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
#include <unistd.h>

static struct site *parse(const char *text)
{
        struct site *s = NULL;
        struct error e;

        if (site_parse("/etc/gridnode/site.conf", text, strlen(text), &s, &e) < 0)
                fail_msg("%s", e.text);
        return s;
}

static void assert_addr(const struct inet_addr *a, const char *wanted)
{
        char text[INET_ADDR_TEXT];

        assert_string_equal(inet_addr_format(a, text), wanted);
}

static const char configured[] = "[node]\n"
                                 "name = branch-12\n"
                                 "[wan]\n"
                                 "dns = 198.51.100.53; 203.0.113.53\n"
                                 "proxy = http://10.20.0.9:3128\n";

static char *write_temporary(const char *text)
{
        char path[] = "/tmp/gridnode-test-site-XXXXXX";
        int fd = mkstemp(path);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
        close(fd);
        return xstrdup(path);
}

static void test_load(void **state)
{
        (void)state;
        char *path = write_temporary(configured), big[] = "/tmp/gridnode-test-big-XXXXXX";
        int fd = mkstemp(big);
        struct site *s = NULL;
        struct error e;

        assert_int_equal(site_load(path, &s, &e), 0);
        assert_string_equal(s->path, path);
        s = site_free(s);
        unlink(path);
        assert_int_equal(site_load(path, &s, &e), -ENOENT);
        assert_non_null(strstr(e.text, path));
        assert_int_equal(site_load("/", &s, &e), -EISDIR);
        assert_int_equal(ftruncate(fd, 5 << 20), 0);
        close(fd);
        assert_int_equal(site_load(big, &s, &e), -EINVAL);
        assert_int_equal(e.number, EINVAL);
        assert_null(s);
        unlink(big);
        free(path);
}

/* ---- what the machine knows ---- */

static struct site *with_resolv_conf(const char *text)
{
        char *path = write_temporary(text);
        struct site *s = site_new_default();

        site_apply_machine_defaults(s, path);
        unlink(path);
        free(path);
        return s;
}

static void test_resolv_conf(void **state)
{
        (void)state;
        struct site *s = with_resolv_conf("# nameserver 10.0.0.9\n"
                                          "; nameserver 10.0.0.9\n"
                                          "search grid.example\n"
                                          "nameserver 198.51.100.53\n"
                                          "  nameserver\t2001:db8::53 \r\n"
                                          "nameserver fe80::1%eth0\n"
                                          "nameserver dns.example\n"
                                          "nameserver\n"
                                          "nameservers 10.0.0.9\n"
                                          "nameserver 198.51.100.53 # again\n"
                                          "options edns0\n"
                                          "nameserver 203.0.113.53");

        assert_false(s->wan.dns_is_configured);
        assert_int_equal(s->wan.dns_count, 3);
        assert_addr(&s->wan.dns[0], "198.51.100.53");
        assert_addr(&s->wan.dns[1], "2001:db8::53");
        assert_addr(&s->wan.dns[2], "203.0.113.53");
        site_free(s);
}

static void test_resolv_conf_limits(void **state)
{
        (void)state;
        struct text t = {0};
        struct site *s;

        for (int i = 1; i < 100; i++)
                text_addf(&t, "nameserver 10.0.0.%d\n", i);
        s = with_resolv_conf(text_string(&t));
        assert_int_equal(s->wan.dns_count, 8);
        assert_addr(&s->wan.dns[7], "10.0.0.8");
        site_free(s);
        text_done(&t);
        s = with_resolv_conf("");
        assert_int_equal(s->wan.dns_count, 0);
        site_free(s);
        s = site_new_default();
        site_apply_machine_defaults(s, "/no/such/file");
        assert_int_equal(s->wan.dns_count, 0);
        site_free(s);
}

static void test_machine_fills_only_gaps(void **state)
{
        (void)state;
        struct site *s = parse(configured);
        char host[256] = "";

        setenv("https_proxy", "http://proxy.example:8080", 1);
        site_apply_machine_defaults(s, NULL);
        assert_string_equal(s->name, "branch-12");
        assert_int_equal(s->wan.dns_count, 2);
        assert_true(s->wan.dns_is_configured);
        assert_string_equal(s->wan.proxy, "http://10.20.0.9:3128");
        assert_string_equal(s->wan.proxy_from, "site file");
        site_free(s);
        s = site_new_default();
        assert_null(s->path);
        site_apply_machine_defaults(s, "/no/such/file");
        gethostname(host, sizeof(host) - 1);
        assert_string_equal(s->name, host);
        site_free(s);
        unsetenv("https_proxy");
}

static void assert_environment(const char *lower, const char *upper, const char *proxy, const char *from)
{
        struct site *s = site_new_default();

        lower ? setenv("https_proxy", lower, 1) : unsetenv("https_proxy");
        upper ? setenv("HTTPS_PROXY", upper, 1) : unsetenv("HTTPS_PROXY");
        site_apply_machine_defaults(s, "/no/such/file");
        assert_true(str_equal(s->wan.proxy, proxy));
        assert_true(str_equal(s->wan.proxy_from, from));
        site_free(s);
        unsetenv("https_proxy");
        unsetenv("HTTPS_PROXY");
}

static void test_proxy_of_environment(void **state)
{
        (void)state;
        assert_environment(NULL, NULL, NULL, NULL);
        assert_environment("", "", NULL, NULL);
        assert_environment("http://p:8080", "http://q:8080", "http://p:8080", "https_proxy");
        assert_environment(NULL, "http://q:8080/", "http://q:8080", "HTTPS_PROXY");
        assert_environment("p", NULL, "http://p:1080", "https_proxy");
        assert_environment("http://user:secret@p:3128", NULL, "http://p:3128", "https_proxy");
        /* Not of a kind that we could use. */
        assert_environment("socks5://p:1080", NULL, NULL, NULL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_load),
                cmocka_unit_test(test_resolv_conf),
                cmocka_unit_test(test_resolv_conf_limits),
                cmocka_unit_test(test_machine_fills_only_gaps),
                cmocka_unit_test(test_proxy_of_environment),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
