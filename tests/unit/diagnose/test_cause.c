// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include "diagnose/cause.h"
#include "diagnose/cause_doc.h"
#include "golden.h"

#include <stdlib.h>
#include <string.h>

/* A sentence or a short paragraph: begins with a capital or a code, ends with a full stop. */
static void check_prose(const char *code, const char *s)
{
        if (!s || !*s || s[strlen(s) - 1] != '.')
                fail_msg("%s: \"%s\" is not a sentence", code, s ? s : "");
        if (strstr(s, "  "))
                fail_msg("%s: \"%s\" has two blanks", code, s);
}

static void test_every_row_is_complete(void **state)
{
        (void)state;
        for (int i = 0; i < CAUSE_COUNT; i++) {
                const struct cause_info *info = cause_info(i);

                assert_int_equal(info->code, i);
                assert_non_null(info->text);
                assert_non_null(info->title);
                if (info->title[strlen(info->title) - 1] == '.')
                        fail_msg("%s: the title ends in a full stop", info->text);
                check_prose(info->text, info->meaning);
                check_prose(info->text, info->proof);
                check_prose(info->text, info->not_confused);
                check_prose(info->text, info->remedy);
                assert_true(info->by_hand && *info->by_hand);
                assert_ptr_equal(cause_find(info->text), info);
        }
        assert_null(cause_find("tcp.imagined"));
        assert_null(cause_find(""));
        assert_null(cause_find(NULL));
}

/* Texts name other causes only by codes that exist. */
static void test_codes_in_texts_exist(void **state)
{
        static const char *const families[] = {"link.", "address.", "route.", "gateway.", "upstream.",
                "firewall.", "reply.", "dns.", "tcp.", "tls.", "service.", "path.", "clock.", "http.",
                "transfer."};

        (void)state;
        for (int i = 0; i < CAUSE_COUNT; i++)
                for (size_t k = 0; k < sizeof families / sizeof families[0]; k++)
                        for (const char *at = cause_info(i)->not_confused; (at = strstr(at, families[k]));
                                at++) {
                                char code[64];
                                size_t length = strspn(at, "abcdefghijklmnopqrstuvwxyz_.");

                                while (length && at[length - 1] == '.')
                                        length--;
                                if (length <= strlen(families[k]))
                                        continue;
                                snprintf(code, sizeof code, "%.*s", (int)length, at);
                                if (!cause_find(code))
                                        fail_msg("%s speaks of %s", cause_info(i)->text, code);
                        }
}

static void test_words(void **state)
{
        (void)state;
        assert_string_equal(severity_to_string(SEVERITY_WARNING), "warning");
        assert_string_equal(severity_to_string(SEVERITY_CRITICAL), "critical");
        assert_string_equal(fixed_by_to_string(FIXED_BY_SITE), "site");
        assert_string_equal(fixed_by_to_string(FIXED_BY_NODE), "node");
        assert_string_equal(fixed_by_to_string(FIXED_BY_CONTROL_PLANE), "control-plane");
        assert_string_equal(fixed_by_to_person(FIXED_BY_SITE), "the site's network administrator");
}

static char *written(void (*write)(FILE *to))
{
        char *data = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&data, &size);

        assert_non_null(f);
        write(f);
        assert_int_equal(fclose(f), 0);
        return data;
}

static void test_document_is_current(void **state)
{
        char *now = written(cause_write_markdown), *kept;

        (void)state;
        kept = golden_source_file("docs/causes.md");
        assert_string_equal(now, kept);
        free(kept);
        free(now);
}

static void test_list_names_every_code(void **state)
{
        char *list = written(cause_write_list);

        (void)state;
        for (int i = 0; i < CAUSE_COUNT; i++)
                assert_non_null(strstr(list, cause_info(i)->text));
        free(list);
}

static void write_every_text(FILE *to)
{
        for (int i = 0; i < CAUSE_COUNT; i++)
                cause_write_text(to, cause_info(i));
}

static void test_texts_fit_a_terminal(void **state)
{
        char *all = written(write_every_text);

        (void)state;
        for (char *line = strtok(all, "\n"); line; line = strtok(NULL, "\n"))
                if (strlen(line) > 80)
                        fail_msg("longer than 80 columns: %s", line);
        free(all);
}

static void write_one_text(FILE *to)
{
        cause_write_text(to, cause_info(CAUSE_ROUTE_CAPTURED));
}

static void test_text(void **state)
{
        char *s = written(write_one_text);

        (void)state;
        golden_check("explain-route.captured.txt", s);
        free(s);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_every_row_is_complete),
                cmocka_unit_test(test_codes_in_texts_exist),
                cmocka_unit_test(test_words),
                cmocka_unit_test(test_document_is_current),
                cmocka_unit_test(test_list_names_every_code),
                cmocka_unit_test(test_texts_fit_a_terminal),
                cmocka_unit_test(test_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
