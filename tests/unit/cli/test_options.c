#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/program.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

static const enum option_name names[] = {
        OPTION_CONFIG, OPTION_SOURCE, OPTION_DEVICE, OPTION_BUDGET, OPTION_JSON};

#define WORDS(...) ((char *[]){"gridnode", __VA_ARGS__, NULL})

static int count(char **words)
{
        int n = 0;

        while (words[n])
                n++;
        return n;
}

static int parse(char **words, struct settings *ret, int *ret_first, struct error *e)
{
        *ret = (struct settings){0};
        return options_parse(count(words), words, names, ELEMENTS(names), ret, ret_first, e);
}

static void assert_refused(char **words, const char *fact)
{
        struct settings s;
        struct error e = {0};
        int first = -7;

        assert_int_equal(parse(words, &s, &first, &e), -EINVAL);
        assert_non_null(strstr(e.text, fact));
        assert_int_equal(first, -7);
        assert_false(s.json);
}

static void test_options_anywhere(void **state)
{
        char **words =
                WORDS("host", "--json", "443", "-c", "site.conf", "--budget=2.5", "--source", "2001:db8::1");
        struct settings s;
        struct error e = {0};
        int first;

        (void)state;
        assert_int_equal(parse(words, &s, &first, &e), 0);
        assert_true(s.json);
        assert_string_equal(s.config_path, "site.conf");
        assert_true(s.budget_s > 2.49 && s.budget_s < 2.51);
        assert_int_equal(s.source.family, AF_INET6);
        assert_string_equal(words[first], "host");
        assert_string_equal(words[first + 1], "443");
        assert_null(words[first + 2]);
}

static void test_two_dashes_end_them(void **state)
{
        char **words = WORDS("--", "--json");
        struct settings s;
        struct error e = {0};
        int first;

        (void)state;
        assert_int_equal(parse(words, &s, &first, &e), 0);
        assert_false(s.json);
        assert_string_equal(words[first], "--json");
}

static void test_refusals_name_the_fact(void **state)
{
        (void)state;
        assert_refused(WORDS("--nonsense"), "--nonsense");
        assert_refused(WORDS("-x"), "-x");
        assert_refused(WORDS("-jx"), "-x");
        assert_refused(WORDS("--config"), "--config needs FILE");
        assert_refused(WORDS("--json=yes"), "--json takes no argument");
        assert_refused(WORDS("--budget", "0.05"), "0.05");
        assert_refused(WORDS("--budget", "inf"), "inf");
        assert_refused(WORDS("--budget", "nan"), "nan");
        assert_refused(WORDS("--budget", "5 "), "5 ");
        assert_refused(WORDS("--budget", ""), "--budget");
        assert_refused(WORDS("--source", "192.0.2.256"), "192.0.2.256");
        assert_refused(WORDS("--interface", "a-name-that-is-too-long"), "a-name-that-is-too-long");
        assert_refused(WORDS("--interface", "../x"), "../x");
}

static void test_the_command_is_found_behind_options(void **state)
{
        (void)state;
        assert_int_equal(options_find_command(2, WORDS("diag")), 1);
        assert_int_equal(options_find_command(4, WORDS("--config", "tcp", "diag")), 3);
        assert_int_equal(options_find_command(3, WORDS("--json", "diag")), 2);
        assert_int_equal(options_find_command(2, WORDS("--json")), 2);
        assert_int_equal(options_find_command(1, (char *[]){"gridnode", NULL}), 1);
}

/* What the tables promise to those who read them. */
static void test_the_tables_are_sound(void **state)
{
        (void)state;
        for (int i = 0; i < OPTION_COUNT; i++) {
                const struct option_row *row = option_row((enum option_name)i);

                assert_non_null(row->name);
                assert_non_null(row->help);
                assert_int_equal(row->kind == OPTION_FLAG, row->argument == NULL);
                /* options_find_command takes the first row of a name or letter for all. */
                for (int j = 0; j < i; j++) {
                        const struct option_row *other = option_row((enum option_name)j);

                        if (strcmp(row->name, other->name) == 0 ||
                                (row->letter && row->letter == other->letter))
                                assert_int_equal(row->argument == NULL, other->argument == NULL);
                }
        }
        for (size_t i = 0; i < program.command_count; i++) {
                const struct command *c = &program.commands[i];

                assert_true(c->option_count < OPTIONS_MAX);
                assert_ptr_equal(command_find(c->name), c);
                for (size_t a = 0; a < c->option_count; a++)
                        for (size_t b = 0; b < a; b++)
                                if (c->options[a] != c->options[b] && option_row(c->options[a])->letter)
                                        assert_int_not_equal(option_row(c->options[a])->letter,
                                                option_row(c->options[b])->letter);
        }
}

static void test_misspelt_commands(void **state)
{
        (void)state;
        assert_string_equal(command_suggest("dig"), "diag");
        assert_string_equal(command_suggest("traec"), "trace");
        assert_string_equal(command_suggest("diagnose"), "diag");
        assert_null(command_suggest("zzzzzz"));
        assert_null(command_suggest(""));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_options_anywhere),
                cmocka_unit_test(test_two_dashes_end_them),
                cmocka_unit_test(test_refusals_name_the_fact),
                cmocka_unit_test(test_the_command_is_found_behind_options),
                cmocka_unit_test(test_the_tables_are_sound),
                cmocka_unit_test(test_misspelt_commands),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
