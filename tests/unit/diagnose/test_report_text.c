// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "diagnose/paper.h"
#include "diagnose/report.h"
#include "golden.h"
#include "reports.h"

#include <stdlib.h>
#include <string.h>

static void check(const char *name, void (*build)(struct report *ret), const struct report_style *style)
{
        struct report r;
        char *s;

        build(&r);
        s = golden_report_text(&r, style);
        golden_check(name, s);
        free(s);
        report_done(&r);
}

static void test_golden(void **state)
{
        const struct report_style narrow = {.utf8 = true, .width = 80}, wide = {.utf8 = true, .width = 120},
                                  coloured = {.utf8 = true, .colour = true, .width = 80},
                                  plain = {.width = 80, .verbose = true};

        (void)state;
        check("healthy-80.txt", report_healthy, &narrow);
        check("dropped-80.txt", report_dropped, &narrow);
        check("dropped-120.txt", report_dropped, &wide);
        check("dropped-colour.txt", report_dropped, &coloured);
        check("rejected-ascii-verbose.txt", report_rejected, &plain);
        check("captured-80.txt", report_captured, &narrow);
        check("intercepted-80.txt", report_intercepted, &narrow);
        check("service-down-80.txt", report_service_down, &narrow);
        check("undetermined-80.txt", report_undetermined, &narrow);
        check("mixed-80.txt", report_mixed, &narrow);
        check("many-80.txt", report_many, &narrow);
}

static const struct {
        const char *name;
        void (*build)(struct report *ret);
} all[] = {
        {"healthy", report_healthy},
        {"dropped", report_dropped},
        {"rejected", report_rejected},
        {"captured", report_captured},
        {"intercepted", report_intercepted},
        {"service-down", report_service_down},
        {"undetermined", report_undetermined},
        {"mixed", report_mixed},
        {"many", report_many},
        {"hostile", report_hostile},
};

static void check_lines(const char *name, char *text, int width, bool utf8)
{
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
                if (paper_columns(line) > width)
                        fail_msg("%s: %d columns instead of %d: %s", name, paper_columns(line), width, line);
                for (const char *c = line; *c; c++)
                        if ((unsigned char)*c < 0x20 || *c == 0x7f || (!utf8 && (unsigned char)*c > 0x7e))
                                fail_msg("%s: byte %02x in %s", name, (unsigned char)*c, line);
        }
}

/* Every report fits every width, shows no control and, where that is asked for, ASCII only. */
static void test_fits_and_is_safe(void **state)
{
        static const int widths[] = {0, 40, 60, 80, 120, 200};

        (void)state;
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
                for (size_t k = 0; k < sizeof widths / sizeof widths[0]; k++)
                        for (int n = 0; n < 4; n++) {
                                struct report_style style = {
                                        .utf8 = n & 1, .verbose = n & 2, .width = widths[k]};
                                struct report r;
                                char *s;

                                all[i].build(&r);
                                s = golden_report_text(&r, &style);
                                assert_null(strstr(s, "s3cret"));
                                check_lines(all[i].name, s, widths[k] ? widths[k] : 80, n & 1);
                                free(s);
                                report_done(&r);
                        }
}

static void test_empty_report(void **state)
{
        struct report_style style = {0};
        struct report r = {0};
        char *s = golden_report_text(&r, &style);

        (void)state;
        assert_non_null(strstr(s, "healthy"));
        free(s);
        report_done(&r);
}

static void test_interrupted_is_said(void **state)
{
        struct report_style style = {0};
        struct report r;
        char *s;

        (void)state;
        report_healthy(&r);
        r.interrupted = true;
        s = golden_report_text(&r, &style);
        assert_non_null(strstr(s, "Interrupted"));
        free(s);
        report_done(&r);
}

static void test_clean(void **state)
{
        static const struct {
                const char *in, *utf8, *ascii;
        } rows[] = {
                {"plain", "plain", "plain"},
                {"a\tb\nc", "a b c", "a b c"},
                {"\033[31mred", "?[31mred", "?[31mred"},
                {"\xc3\xa9t\xc3\xa9", "\xc3\xa9t\xc3\xa9", "?t?"},
                {"\xc2\x9b"
                 "2J",
                        "?2J", "?2J"},
                {"\xe2\x80\xae", "?", "?"},
                {"\xff\xfe", "??", "??"},
                {"\xe2\x82", "??", "??"},
                {"http://user:p@ss@host/x", "http://***@host/x", "http://***@host/x"},
                {"http://host/x@y", "http://host/x@y", "http://host/x@y"},
                {"socks5://u@h", "socks5://***@h", "socks5://***@h"},
        };

        (void)state;
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
                char *utf8 = paper_clean(rows[i].in, true), *ascii = paper_clean(rows[i].in, false);

                assert_string_equal(utf8, rows[i].utf8);
                assert_string_equal(ascii, rows[i].ascii);
                free(utf8);
                free(ascii);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_golden),
                cmocka_unit_test(test_fits_and_is_safe),
                cmocka_unit_test(test_empty_report),
                cmocka_unit_test(test_interrupted_is_said),
                cmocka_unit_test(test_clean),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
