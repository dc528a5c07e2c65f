// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "diagnose/report.h"
#include "golden.h"
#include "reports.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static char *page_of(void (*build)(struct report *ret), enum page_format format)
{
        struct report r;
        char *s;

        build(&r);
        s = report_firewall_page(&r, format);
        report_done(&r);
        return s;
}

static void check(const char *name, void (*build)(struct report *ret), enum page_format format)
{
        char *s = page_of(build, format);

        golden_check(name, s);
        free(s);
}

static void test_golden(void **state)
{
        (void)state;
        check("page-dropped.md", report_dropped, PAGE_MARKDOWN);
        check("page-dropped.html", report_dropped, PAGE_HTML);
        check("page-rejected.md", report_rejected, PAGE_MARKDOWN);
        check("page-intercepted.md", report_intercepted, PAGE_MARKDOWN);
        check("page-mixed.md", report_mixed, PAGE_MARKDOWN);
        check("page-many.md", report_many, PAGE_MARKDOWN);
        check("page-healthy.md", report_healthy, PAGE_MARKDOWN);
        check("page-captured.md", report_captured, PAGE_MARKDOWN);
        check("page-service-down.md", report_service_down, PAGE_MARKDOWN);
        check("page-undetermined.md", report_undetermined, PAGE_MARKDOWN);
        check("page-hostile.html", report_hostile, PAGE_HTML);
        check("page-hostile.md", report_hostile, PAGE_MARKDOWN);
}

static size_t count(const char *s, const char *part)
{
        size_t n = 0;

        while ((s = strstr(s, part))) {
                n++;
                s += strlen(part);
        }
        return n;
}

static void check_html(const char *s)
{
        static const char *const elements[] = {"html", "head", "body", "h1", "h2", "p", "ul", "li", "table",
                "tr", "td", "th", "pre", "footer", "title", "style"};

        for (size_t i = 0; i < sizeof elements / sizeof elements[0]; i++) {
                char *bare = xasprintf("<%s>", elements[i]), *with = xasprintf("<%s ", elements[i]),
                     *end = xasprintf("</%s>", elements[i]);

                if (count(s, bare) + count(s, with) != count(s, end))
                        fail_msg("%s is not closed", elements[i]);
                free(bare);
                free(with);
                free(end);
        }
        assert_int_equal(count(s, "<h1>"), 1);
        assert_null(strstr(s, "<script"));
        assert_null(strstr(s, "<img"));
        assert_null(strstr(s, "http-equiv=\"refresh"));
        assert_null(strstr(s, "src="));
        assert_null(strstr(s, "href="));
}

static void test_nothing_private_and_well_formed(void **state)
{
        static void (*const all[])(struct report *) = {report_healthy, report_dropped, report_rejected,
                report_captured, report_intercepted, report_service_down, report_undetermined, report_mixed,
                report_many, report_hostile};

        (void)state;
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
                for (int format = PAGE_MARKDOWN; format <= PAGE_HTML; format++) {
                        char *s = page_of(all[i], format);

                        assert_null(strstr(s, "s3cret"));
                        assert_null(strstr(s, "BEGIN CERTIFICATE"));
                        assert_null(strstr(s, "5eC2E7"));
                        assert_null(strstr(s, "\033"));
                        assert_null(strstr(s, "alert(2)"));
                        if (format == PAGE_HTML)
                                check_html(s);
                        free(s);
                }
}

/* The page must not ask for rules when the site is not at fault. */
static void test_asks_only_the_one_at_fault(void **state)
{
        static const struct {
                void (*build)(struct report *ret);
                bool asks;
        } rows[] = {
                {report_healthy, false},
                {report_captured, false},
                {report_service_down, false},
                {report_undetermined, false},
                {report_dropped, true},
                {report_rejected, true},
                {report_intercepted, true},
                {report_mixed, true},
                {report_many, true},
        };

        (void)state;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                char *s = page_of(rows[i].build, PAGE_MARKDOWN);

                assert_int_equal(strstr(s, "What to allow") != NULL, rows[i].asks);
                free(s);
        }
}

static void test_empty_report(void **state)
{
        struct report r = {0};
        char *s = report_firewall_page(&r, PAGE_HTML);

        (void)state;
        check_html(s);
        free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_golden),
                cmocka_unit_test(test_nothing_private_and_well_formed),
                cmocka_unit_test(test_asks_only_the_one_at_fault),
                cmocka_unit_test(test_empty_report),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
