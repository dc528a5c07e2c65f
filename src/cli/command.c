#include "cli/command.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/program.h"
#include "cli/suggest.h"

#include <string.h>
#include <sysexits.h>

const struct exit_meaning exit_meanings[] = {
        {0, "healthy, or done"},
        {1, "blocked, or the job failed"},
        {2, "undetermined: it fails, and the evidence does not say why"},
        {3, "degraded: part of it works"},
        {EX_USAGE, "wrong usage"},
        {EX_UNAVAILABLE, "a service that is needed is unavailable"},
        {EX_NOPERM, "not permitted"},
        {EX_CONFIG, "bad configuration"},
        {130, "interrupted: what was found until then is reported"},
        {0, NULL},
};

const struct command *command_find(const char *name)
{
        for (size_t i = 0; i < program.command_count; i++)
                if (str_equal(program.commands[i].name, name))
                        return &program.commands[i];
        return NULL;
}

static bool is_in_group(const struct command *c, const char *group)
{
        size_t length = strlen(group);

        return length == 0 || (str_starts_with(c->name, group) && c->name[length] == ' ');
}

bool command_is_group(const char *word)
{
        for (size_t i = 0; i < program.command_count && *word; i++)
                if (is_in_group(&program.commands[i], word))
                        return true;
        return false;
}

const char *command_suggest(const char *name)
{
        const char *names[COMMANDS_MAX];

        for (size_t i = 0; i < program.command_count; i++)
                names[i] = program.commands[i].name;
        return suggest_nearest(name, names, program.command_count);
}

/* How a command is called: "gridnode tcp [OPTION]... HOST PORT". */
static void write_synopsis(const struct command *c, FILE *to)
{
        fprintf(to, "%s %s [OPTION]...%s%s", program.name, c->name, c->arguments[0] ? " " : "", c->arguments);
}

/* Breaks a paragraph at blanks; the first line begins at column `indent` already. */
static void write_wrapped(const char *s, size_t indent, FILE *to)
{
        size_t column = indent;

        while (*s) {
                size_t length = 0;

                while (s[length] && s[length] != ' ' && s[length] != '\n')
                        length++;
                if (column + length > 79 && column > indent) {
                        fprintf(to, "\n%*s", (int)indent, "");
                        column = indent;
                }
                fprintf(to, "%.*s", (int)length, s);
                column += length;
                s += length;
                if (*s == '\n') {
                        fprintf(to, "\n%*s", (int)indent, "");
                        column = indent;
                        s++;
                } else if (*s == ' ') {
                        if (column < 79)
                                fputc(' ', to);
                        column++;
                        s++;
                }
        }
        fputc('\n', to);
}

static void write_option(const struct option_row *row, FILE *to)
{
        char left[64];

        snprintf(left, sizeof left, "  %c%c%s --%s%s%s", row->letter ? '-' : ' ',
                row->letter ? row->letter : ' ', row->letter ? "," : " ", row->name, row->argument ? "=" : "",
                row->argument ? row->argument : "");
        fprintf(to, "%-30s ", left);
        write_wrapped(row->help, 31, to);
}

void command_write_help(const struct command *c, FILE *to)
{
        fputs("Usage: ", to);
        write_synopsis(c, to);
        fputs("\n\n", to);
        write_wrapped(c->details, 0, to);
        fputs("\nOptions:\n", to);
        for (size_t i = 0; i < c->option_count; i++)
                if (i == 0 || c->options[i] != c->options[i - 1])
                        write_option(option_row(c->options[i]), to);
        fputs("\nExamples:\n", to);
        for (const char *s = c->examples; *s;) {
                int length = (int)strcspn(s, "\t"), rest = (int)strcspn(s + length, "\n");

                fprintf(to, "  %.*s\n      %.*s\n", length, s, rest - 1, s + length + 1);
                s += length + rest;
                s += *s == '\n';
        }
}

/* "name what blocks" as "Name what blocks.". */
static void write_sentence(const char *phrase, FILE *to)
{
        fprintf(to, "%c%s.\n", phrase[0] >= 'a' && phrase[0] <= 'z' ? phrase[0] - 'a' + 'A' : phrase[0],
                phrase + 1);
}

/* The commands that begin with this word; "" for all. */
static void write_commands(const char *group, FILE *to)
{
        int width = 8;

        for (size_t i = 0; i < program.command_count; i++)
                if (is_in_group(&program.commands[i], group) && (int)strlen(program.commands[i].name) > width)
                        width = (int)strlen(program.commands[i].name);
        fputs("\nCommands:\n", to);
        for (size_t i = 0; i < program.command_count; i++)
                if (is_in_group(&program.commands[i], group))
                        fprintf(to, "  %-*s  %s\n", width, program.commands[i].name,
                                program.commands[i].help);
}

void command_write_group(const char *word, FILE *to)
{
        fprintf(to, "Usage: %s %s COMMAND [OPTION]... [ARGUMENT]...\n", program.name, word);
        write_commands(word, to);
        fprintf(to, "\n'%s %s COMMAND --help' tells more of a command.\n", program.name, word);
}

void command_write_overview(FILE *to)
{
        fprintf(to, "Usage: %s COMMAND [OPTION]... [ARGUMENT]...\n", program.name);
        write_sentence(program.purpose, to);
        write_commands("", to);
        fputs("\nOptions:\n", to);
        write_option(option_row(OPTION_HELP), to);
        write_option(option_row(OPTION_VERSION), to);
        fputs("\nExit status:\n", to);
        for (const struct exit_meaning *e = exit_meanings; e->meaning; e++)
                fprintf(to, "  %3d  %s\n", e->status, e->meaning);
        fprintf(to, "\n'%s COMMAND --help' tells more of a command.\n", program.name);
}
