/* Any of the programs: finds the command, its options and arguments, and runs it. */
#include "cli/program.h"
#include "cli/session.h"
#include "cli/terminal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/late_close.h"
#include "base/text.h"
#include "base/version.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sysexits.h>

/* A standard stream that is closed must not become some socket: what is then read or written there fails. */
static void hold_standard_streams(void)
{
        for (int fd = 0; fd <= 2; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
                        _exit(EX_OSERR);
}

/* What came before the command's name, or stands alone: --help and --version. */
static int run_without_command(struct session *s, int argc, char **argv)
{
        static const enum option_name names[] = {OPTION_HELP, OPTION_VERSION};
        struct error e = {0};
        int first;

        if (options_parse(argc, argv, names, ELEMENTS(names), &s->settings, &first, &e) < 0)
                return session_usage_error(s, "%s", e.text);
        if (s->settings.version) {
                printf("%s %s\n", program.name, GRIDNODE_VERSION);
                return EXIT_SUCCESS;
        }
        if (s->settings.help) {
                command_write_overview(stdout);
                return EXIT_SUCCESS;
        }
        return session_usage_error(s, "a command is needed");
}

static int unknown_command(struct session *s, const char *name)
{
        const char *near = command_suggest(name);

        if (near)
                return session_usage_error(s, "unknown command '%s'; did you mean '%s'?", name, near);
        return session_usage_error(s, "unknown command '%s'", name);
}

static int check_arguments(struct session *s)
{
        const struct command *c = s->command;

        if (s->argument_count < c->minimum)
                return session_usage_error(s, "%s needed, %d argument%s given", c->arguments,
                        s->argument_count, s->argument_count == 1 ? "" : "s");
        if (c->maximum >= 0 && s->argument_count > c->maximum)
                return session_usage_error(s, "unexpected argument '%s'", s->arguments[c->maximum]);
        return EXIT_SUCCESS;
}

static int run_command(struct session *s, int argc, char **argv)
{
        struct error e = {0};
        int first, status;

        if (options_parse(
                    argc, argv, s->command->options, s->command->option_count, &s->settings, &first, &e) < 0)
                return session_usage_error(s, "%s", e.text);
        if (s->settings.help) {
                command_write_help(s->command, stdout);
                return EXIT_SUCCESS;
        }
        s->arguments = argv + first;
        s->argument_count = argc - first;
        status = check_arguments(s);
        if (status == EXIT_SUCCESS)
                status = program.prepare ? program.prepare(s) : EXIT_SUCCESS;
        if (status == EXIT_SUCCESS)
                status = s->command->run(s);
        return status;
}

/* Takes the word at `at` out of argv. */
static void drop_word(int *argc, char **argv, int at)
{
        memmove(argv + at, argv + at + 1, (size_t)(*argc - at) * sizeof *argv);
        --*argc;
}

static int group_without_command(struct session *s, const char *group, int argc, char **argv)
{
        static const enum option_name names[] = {OPTION_HELP};
        struct error e = {0};
        int first;
        struct strv words = {0};
        _cleanup_free_ char *list = NULL;
        int status;

        if (options_parse(argc, argv, names, ELEMENTS(names), &s->settings, &first, &e) == 0 &&
                s->settings.help) {
                command_write_group(group, stdout);
                return EXIT_SUCCESS;
        }
        for (size_t i = 0; i < program.command_count; i++)
                if (str_starts_with(program.commands[i].name, group) &&
                        program.commands[i].name[strlen(group)] == ' ')
                        strv_add(&words, program.commands[i].name + strlen(group) + 1);
        list = strv_join(&words, ", ");
        status = session_usage_error(s, "'%s' needs one of: %s", group, list);
        strv_done(&words);
        return status;
}

static int dispatch(struct session *s, int argc, char **argv)
{
        int at = options_find_command(argc, argv);
        _cleanup_free_ char *name = NULL;

        if (at >= argc)
                return run_without_command(s, argc, argv);
        name = xstrdup(argv[at]);
        drop_word(&argc, argv, at);
        if (command_is_group(name)) {
                char *group = name;

                at = options_find_command(argc, argv);
                if (at >= argc)
                        return group_without_command(s, name, argc, argv);
                name = xasprintf("%s %s", group, argv[at]);
                free(group);
                drop_word(&argc, argv, at);
        }
        s->command = command_find(name);
        if (!s->command)
                return unknown_command(s, name);
        return run_command(s, argc, argv);
}

/* A reader that has gone wants nothing more, not even a message; anything else that keeps the report from
 * arriving (a full disk, a closed stream) is a failure that must be heard. */
static int finish(const struct session *s, int status)
{
        struct pollfd out = {.fd = STDOUT_FILENO};
        bool reader_has_gone = poll(&out, 1, 0) == 1 && out.revents & POLLERR;
        int r = terminal_finish();

        if (r == 0)
                return status;
        if (r != -EPIPE && !reader_has_gone)
                session_fail(s, status, "cannot write to standard output: %s", strerror(-r));
        return status == EXIT_SUCCESS ? EXIT_FAILURE : status;
}

int main(int argc, char **argv)
{
        struct session s = {.stop_fd = -1};
        int status;

        hold_standard_streams();
        setlocale(LC_CTYPE, "");
        signal(SIGPIPE, SIG_IGN);
        late_close_enable();
        status = dispatch(&s, argc, argv);
        status = finish(&s, status);
        session_done(&s);
        late_close_finish();
        return status;
}
