/* Build tool: writes the man pages and the bash completion of a program from its command table. Not
 * installed.
 *
 * docgen man FOLDER writes PROGRAM.1 and PROGRAM-COMMAND.1 for every command; docgen completion FOLDER writes
 * the completion as PROGRAM, the name under which bash looks for it. */
#include "cli/program.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "base/version.h"
#include "diagnose/cause.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

static FILE *open_output(const char *folder, const char *name)
{
        char path[4096];
        FILE *f;

        snprintf(path, sizeof path, "%s/%s", folder, name);
        f = fopen(path, "w");
        if (!f) {
                fprintf(stderr, "docgen: %s: %s\n", path, strerror(errno));
                exit(EXIT_FAILURE);
        }
        return f;
}

static void close_output(FILE *f)
{
        bool failed = ferror(f);

        if (fclose(f) != 0 || failed) {
                fprintf(stderr, "docgen: cannot write: %s\n", strerror(errno));
                exit(EXIT_FAILURE);
        }
}

/* ---- man pages, man(7) ---- */

/* Backslashes, hyphens (which would become typographic) and a leading full stop or quote mean something. */
static void put_roff(const char *s, size_t length, FILE *to)
{
        for (size_t i = 0; i < length; i++) {
                bool begins_line = i == 0 || s[i - 1] == '\n';

                if (begins_line && (s[i] == '.' || s[i] == '\''))
                        fputs("\\&", to);
                if (s[i] == '\\')
                        fputs("\\e", to);
                else if (s[i] == '-')
                        fputs("\\-", to);
                else
                        fputc(s[i], to);
        }
}

static void put_roff_text(const char *s, FILE *to)
{
        put_roff(s, strlen(s), to);
}

static void put_paragraphs(const char *s, FILE *to)
{
        while (*s) {
                const char *end = strstr(s, "\n\n");
                size_t length = end ? (size_t)(end - s) : strlen(s);

                put_roff(s, length, to);
                fputc('\n', to);
                s += length;
                if (*s) {
                        fputs(".PP\n", to);
                        s += 2;
                }
        }
}

static void put_option(const struct option_row *row, FILE *to)
{
        fputs(".TP\n", to);
        if (row->letter)
                fprintf(to, "\\fB\\-%c\\fR, ", row->letter);
        fputs("\\fB\\-\\-", to);
        put_roff_text(row->name, to);
        fputs("\\fR", to);
        if (row->argument) {
                fputs("=\\fI", to);
                put_roff_text(row->argument, to);
                fputs("\\fR", to);
        }
        fputc('\n', to);
        put_roff_text(row->help, to);
        fputs(".\n", to);
}

static void put_exit_status(FILE *to)
{
        fputs(".SH EXIT STATUS\n", to);
        for (const struct exit_meaning *e = exit_meanings; e->meaning; e++) {
                fprintf(to, ".TP\n%d\n", e->status);
                put_roff_text(e->meaning, to);
                fputs(".\n", to);
        }
}

static void put_examples(const char *s, FILE *to)
{
        fputs(".SH EXAMPLES\n", to);
        while (*s) {
                size_t left = strcspn(s, "\t"), right = strcspn(s + left, "\n");

                fputs(".TP\n.B ", to);
                put_roff(s, left, to);
                fputc('\n', to);
                put_roff(s + left + 1, right - 1, to);
                fputs(".\n", to);
                s += left + right;
                s += *s == '\n';
        }
}

/* The date is left out: pages that are built twice must be the same. */
static void put_title(const char *name, FILE *to)
{
        fputs(".TH \"", to);
        for (const char *c = name; *c; c++)
                fputc(*c >= 'a' && *c <= 'z' ? *c - 'a' + 'A' : *c, to);
        fputs("\" 1 \"\" \"gridnode " GRIDNODE_VERSION "\" \"User Commands\"\n", to);
}

/* "gridplane-node-create" */
static void page_name(const struct command *c, char ret[64])
{
        snprintf(ret, 64, "%s-%s", program.name, c->name);
        for (char *s = ret; *s; s++)
                if (*s == ' ')
                        *s = '-';
}

static void put_reference(const struct command *c, const char *after, FILE *to)
{
        char name[64];

        page_name(c, name);
        fputs(".BR ", to);
        put_roff_text(name, to);
        fprintf(to, " (1)%s\n", after);
}

static void write_command_page(const char *folder, const struct command *c)
{
        char name[64], file[72];
        FILE *to;

        page_name(c, name);
        snprintf(file, sizeof file, "%s.1", name);
        to = open_output(folder, file);
        put_title(name, to);
        fputs(".SH NAME\n", to);
        put_roff_text(name, to);
        fputs(" \\- ", to);
        put_roff_text(c->help, to);
        fprintf(to, "\n.SH SYNOPSIS\n\\fB%s %s\\fR [\\fIOPTION\\fR]...", program.name, c->name);
        if (c->arguments[0]) {
                fputs(" \\fI", to);
                put_roff_text(c->arguments, to);
                fputs("\\fR", to);
        }
        fputs("\n.SH DESCRIPTION\n", to);
        put_paragraphs(c->details, to);
        fputs(".SH OPTIONS\n", to);
        for (size_t i = 0; i < c->option_count; i++)
                if (i == 0 || c->options[i] != c->options[i - 1])
                        put_option(option_row(c->options[i]), to);
        put_exit_status(to);
        put_examples(c->examples, to);
        fprintf(to, ".SH SEE ALSO\n.BR %s (1)\n", program.name);
        close_output(to);
}

static void write_main_page(const char *folder)
{
        char file[64];
        FILE *to;

        snprintf(file, sizeof file, "%s.1", program.name);
        to = open_output(folder, file);
        put_title(program.name, to);
        fprintf(to, ".SH NAME\n%s \\- ", program.name);
        put_roff_text(program.purpose, to);
        fprintf(to,
                "\n.SH SYNOPSIS\n\\fB%s\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n"
                ".SH DESCRIPTION\n",
                program.name);
        put_paragraphs(program.description, to);
        fputs(".PP\nOptions may stand anywhere; \\fB\\-\\-\\fR ends them.\n.SH COMMANDS\n", to);
        for (size_t i = 0; i < program.command_count; i++) {
                fputs(".TP\n", to);
                put_reference(&program.commands[i], "", to);
                put_roff_text(program.commands[i].help, to);
                fputs(".\n", to);
        }
        fputs(".SH OPTIONS\n", to);
        put_option(option_row(OPTION_HELP), to);
        put_option(option_row(OPTION_VERSION), to);
        put_exit_status(to);
        fputs(program.files, to);
        fputs(".SH SEE ALSO\n", to);
        for (size_t i = 0; i < program.command_count; i++)
                put_reference(&program.commands[i], ",", to);
        fputs(program.see_also, to);
        close_output(to);
}

/* ---- bash ---- */

/* A template, with the program's name in place of each '~'. */
static void put_template(const char *s, FILE *to)
{
        for (; *s; s++)
                if (*s == '~')
                        fputs(program.name, to);
                else
                        fputc(*s, to);
}

static const char *completion_words(enum completion c)
{
        switch (c) {
        case COMPLETE_NOTHING:
                return ":";
        case COMPLETE_FILE:
                return "_~_files";
        case COMPLETE_INTERFACE:
                return "_~_interfaces";
        case COMPLETE_PROFILE:
                return "_~_profiles";
        case COMPLETE_CODE:
                return "_~_codes";
        case COMPLETE_COMMAND:
                return "_~_commands";
        case COMPLETE_RECORD_TYPE:
                return "_~_types";
        case COMPLETE_ROLE:
                return "_~_roles";
        case COMPLETE_FOLDER:
                return "_~_folders";
        }
        return ":";
}

static const char bash_helpers[] =
        "_~_reply() { mapfile -t COMPREPLY < <(compgen \"$@\" -- \"$current\"); }\n"
        "_~_files() { compopt -o filenames 2>/dev/null || :; _~_reply -f; }\n"
        "_~_types() { _~_reply -W 'A AAAA NS'; }\n"
        "_~_roles() { _~_reply -W 'viewer operator admin'; }\n"
        "_~_folders() { compopt -o filenames 2>/dev/null || :; _~_reply -d; }\n"
        "_~_interfaces() { _~_reply -W \"$(cd /sys/class/net 2>/dev/null && echo *)\"; }\n"
        "_~_profiles() {\n"
        "    local folder file names='' IFS=:\n"
        "    for folder in $GRIDNODE_PROFILE_PATH /etc/gridnode/profiles " GRIDNODE_DATA_DIR "/profiles; do\n"
        "        for file in \"$folder\"/*.profile; do\n"
        "            [[ -e $file ]] && file=${file##*/} && names+=\"${file%.profile} \"\n"
        "        done\n"
        "    done\n"
        "    IFS=$' \\t\\n'\n"
        "    if [[ $current == */* ]]; then _~_files; else _~_reply -W \"$names\"; fi\n"
        "}\n";

static const char bash_main[] =
        "_~() {\n"
        "    local current=${COMP_WORDS[COMP_CWORD]} previous='' command='' i\n"
        "    ((COMP_CWORD > 0)) && previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
        "    # --option=VALUE comes as three words.\n"
        "    [[ $previous == '=' ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}\n"
        "    [[ $current == '=' ]] && current=''\n"
        "    COMPREPLY=()\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        [[ ${COMP_WORDS[i]} == -* ]] && continue\n"
        "        command+=${command:+ }${COMP_WORDS[i]}\n"
        "        [[ \" $_~_groups \" == *\" $command \"* ]] || break\n"
        "    done\n"
        "    case $command in\n"
        "    '')\n"
        "        if [[ $current == -* ]]; then _~_reply -W '--help --version'; else _~_commands; fi\n"
        "        ;;\n";

static void put_option_case(const struct command *c, FILE *to)
{
        fputs("        case $previous in\n", to);
        for (size_t i = 0; i < c->option_count; i++) {
                const struct option_row *row = option_row(c->options[i]);

                if (!row->argument)
                        continue;
                fprintf(to, "        --%s", row->name);
                if (row->letter)
                        fprintf(to, " | -%c", row->letter);
                fputs(") ", to);
                put_template(completion_words(row->completion), to);
                fputs("; return ;;\n", to);
        }
        fputs("        *) ;;\n        esac\n", to);
}

static void put_command_case(const struct command *c, FILE *to)
{
        fprintf(to, "    '%s')\n", c->name);
        put_option_case(c, to);
        put_template("        if [[ $current == -* ]]; then\n            _~_reply -W '", to);
        for (size_t i = 0; i < c->option_count; i++)
                if (i == 0 || c->options[i] != c->options[i - 1])
                        fprintf(to, "%s--%s", i ? " " : "", option_row(c->options[i])->name);
        fputs("'\n        else\n            ", to);
        put_template(completion_words(c->completes), to);
        fputs("\n        fi\n        ;;\n", to);
}

/* The first words of the commands, or with `group` the second words of its. Each once. */
static void put_words(const char *group, FILE *to)
{
        struct strv words = {0};
        _cleanup_free_ char *line = NULL;

        for (size_t i = 0; i < program.command_count; i++) {
                const char *name = program.commands[i].name;
                size_t length = group ? strlen(group) : strcspn(name, " ");
                _cleanup_free_ char *first = xstrndup(name, length);

                if (!group)
                        strv_add_unique(&words, first);
                else if (str_equal(first, group) && name[length] == ' ')
                        strv_add_unique(&words, name + length + 1);
        }
        line = strv_join(&words, " ");
        fputs(line, to);
        strv_done(&words);
}

static void list_groups(struct strv *ret)
{
        for (size_t i = 0; i < program.command_count; i++) {
                const char *name = program.commands[i].name;
                _cleanup_free_ char *first = xstrndup(name, strcspn(name, " "));

                if (command_is_group(first))
                        strv_add_unique(ret, first);
        }
}

static void put_group_cases(const struct strv *groups, FILE *to)
{
        for (size_t i = 0; i < groups->count; i++) {
                fprintf(to, "    '%s')\n", groups->items[i]);
                put_template("        _~_reply -W '", to);
                put_words(groups->items[i], to);
                fputs("'\n        ;;\n", to);
        }
}

static void write_completion(const char *folder)
{
        FILE *to = open_output(folder, program.name);
        struct strv groups = {0};
        _cleanup_free_ char *group_line = NULL;

        list_groups(&groups);
        group_line = strv_join(&groups, " ");
        put_template(
                "# bash completion for ~, made from its command table.\n\n_~_commands() { _~_reply -W '", to);
        put_words(NULL, to);
        put_template("'; }\n_~_codes() { _~_reply -W '", to);
        for (int i = 0; i < CAUSE_COUNT; i++)
                fprintf(to, "%s%s", i ? " " : "", cause_info((enum cause_code)i)->text);
        fputs("'; }\n", to);
        put_template(bash_helpers, to);
        fputs("\n", to);
        fprintf(to, "_%s_groups='%s'\n\n", program.name, group_line);
        put_template(bash_main, to);
        put_group_cases(&groups, to);
        for (size_t i = 0; i < program.command_count; i++)
                put_command_case(&program.commands[i], to);
        put_template("    *) ;;\n    esac\n}\n\ncomplete -F _~ ~\n", to);
        close_output(to);
        strv_done(&groups);
}

int main(int argc, char **argv)
{
        if (argc == 3 && str_equal(argv[1], "man")) {
                write_main_page(argv[2]);
                for (size_t i = 0; i < program.command_count; i++)
                        write_command_page(argv[2], &program.commands[i]);
        } else if (argc == 3 && str_equal(argv[1], "completion")) {
                write_completion(argv[2]);
        } else {
                fputs("Usage: docgen man|completion FOLDER\n", stderr);
                return EX_USAGE;
        }
        return EXIT_SUCCESS;
}
