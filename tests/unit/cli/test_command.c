/* The tables of commands, and how words find their way to them. Made for each program, which it runs as well.
 */
#include "cli/program.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define OUTPUT_MAX 65536

static const char *executable;

/* ---- the tables ---- */

static void test_rows(void **state)
{
        (void)state;
        assert_true(program.command_count > 0 && program.command_count <= COMMANDS_MAX);
        for (size_t i = 0; i < program.command_count; i++) {
                const struct command *c = &program.commands[i];
                const char *blank = strchr(c->name, ' ');

                assert_non_null(c->run);
                assert_true(islower(c->name[0]));
                assert_true(!blank || (blank[1] && !strchr(blank + 1, ' ')));
                assert_true(islower(c->help[0]) && !str_ends_with(c->help, "."));
                assert_true(c->maximum < 0 || c->minimum <= c->maximum);
                assert_int_equal(c->arguments[0] != 0, c->maximum != 0);
                assert_true(c->details[0] && c->examples[0]);
                assert_ptr_equal(command_find(c->name), c); /* the first of its name is it */
                assert_true(c->option_count <= OPTIONS_MAX);
        }
}

/* A word is a command or the beginning of some, never both. */
static void test_groups(void **state)
{
        (void)state;
        for (size_t i = 0; i < program.command_count; i++) {
                _cleanup_free_ char *word = strdup(program.commands[i].name);
                char *blank = strchr(word, ' ');

                if (!blank) {
                        assert_false(command_is_group(word));
                        continue;
                }
                *blank = 0;
                assert_true(command_is_group(word));
                assert_null(command_find(word));
                word[strlen(word) - 1] = 0;
                assert_false(command_is_group(word));
        }
        assert_false(command_is_group(""));
        assert_false(command_is_group(" "));
        assert_null(command_find(""));
}

static void test_suggestions(void **state)
{
        (void)state;
        for (size_t i = 0; i < program.command_count; i++) {
                const char *name = program.commands[i].name;
                _cleanup_free_ char *wrong = strdup(name);
                size_t length = strlen(wrong);

                if (length < 5)
                        continue;
                memmove(wrong + length / 2, wrong + length / 2 + 1, length - length / 2);
                assert_non_null(command_suggest(wrong));
        }
        assert_null(command_suggest("zzzzzzzzzzzzzz"));
}

static void test_examples_are_of_the_command(void **state)
{
        (void)state;
        for (size_t i = 0; i < program.command_count; i++)
                assert_non_null(strstr(program.commands[i].examples, program.commands[i].name));
}

/* ---- the program ---- */

/* Its exit status; standard output and error in one. */
static int run(const char *const *words, char output[OUTPUT_MAX])
{
        int pipes[2], status;
        size_t length = 0;
        ssize_t n;
        pid_t pid;

        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
                const char *arguments[16] = {executable};

                for (size_t i = 0; i < 14 && words[i]; i++)
                        arguments[i + 1] = words[i];
                dup2(pipes[1], STDOUT_FILENO);
                dup2(pipes[1], STDERR_FILENO);
                execv(executable, (char **)(uintptr_t)arguments);
                _exit(127);
        }
        close(pipes[1]);
        while ((n = read(pipes[0], output + length, OUTPUT_MAX - 1 - length)) > 0)
                length += (size_t)n;
        output[length] = 0;
        close(pipes[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL}, output)

static void test_each_command_tells_its_help(void **state)
{
        char output[OUTPUT_MAX];

        (void)state;
        for (size_t i = 0; i < program.command_count; i++) {
                _cleanup_free_ char *first = strdup(program.commands[i].name);
                char *second = strchr(first, ' ');
                const char *words[] = {first, "--help", NULL, NULL};

                if (second) {
                        *second++ = 0;
                        words[1] = second;
                        words[2] = "--help";
                }
                assert_int_equal(run(words, output), EXIT_SUCCESS);
                assert_true(str_starts_with(output, "Usage: "));
                assert_non_null(strstr(output, program.commands[i].name));
        }
}

static void test_the_front_door(void **state)
{
        char output[OUTPUT_MAX];

        (void)state;
        assert_int_equal(RUN("--help"), EXIT_SUCCESS);
        for (size_t i = 0; i < program.command_count; i++)
                assert_non_null(strstr(output, program.commands[i].name));
        assert_int_equal(RUN("--version"), EXIT_SUCCESS);
        assert_non_null(strstr(output, program.name));
        assert_int_equal(run((const char *const[]){NULL}, output), EX_USAGE);
        assert_int_equal(RUN("no-such-command"), EX_USAGE);
        assert_int_equal(RUN(""), EX_USAGE);
        assert_int_equal(RUN(" "), EX_USAGE);
        assert_int_equal(RUN("--no-such-option"), EX_USAGE);
        assert_int_equal(RUN("--"), EX_USAGE);
        assert_int_equal(RUN("-"), EX_USAGE);
}

static void test_groups_at_the_front_door(void **state)
{
        char output[OUTPUT_MAX];

        (void)state;
        if (!command_is_group("node"))
                return;
        assert_int_equal(RUN("node"), EX_USAGE);
        assert_non_null(strstr(output, "needs one of: create, "));
        assert_int_equal(RUN("node", "--help"), EXIT_SUCCESS);
        assert_non_null(strstr(output, "node create"));
        assert_null(strstr(output, "user add"));
        assert_int_equal(RUN("--help", "node"), EXIT_SUCCESS);
        assert_int_equal(RUN("node", "lst"), EX_USAGE);
        assert_non_null(strstr(output, "did you mean 'node list'"));
        assert_int_equal(RUN("node", ""), EX_USAGE);
        assert_int_equal(RUN("node", "--"), EX_USAGE);
        /* Options between the words, and the value of one is no word. */
        assert_int_equal(RUN("--root", "/nonexistent", "node", "--org", "list", "list"), EX_UNAVAILABLE);
        assert_int_equal(RUN("node", "--json", "list", "--root", "/nonexistent"), EX_UNAVAILABLE);
        assert_int_equal(RUN("node", "list", "--root", "/nonexistent", "more"), EX_USAGE);
        assert_int_equal(RUN("node", "create", "--root", "/nonexistent"), EX_USAGE);
}

int main(int argc, char **argv)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_groups),
                cmocka_unit_test(test_suggestions), cmocka_unit_test(test_examples_are_of_the_command),
                cmocka_unit_test(test_each_command_tells_its_help), cmocka_unit_test(test_the_front_door),
                cmocka_unit_test(test_groups_at_the_front_door)};

        if (argc != 2)
                return EX_USAGE;
        executable = argv[1];
        return cmocka_run_group_tests(tests, NULL, NULL);
}
