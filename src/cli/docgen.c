/* Build tool: writes the man pages and the bash completion from the command table. Not installed.
 *
 * docgen man FOLDER writes gridnode.1 and gridnode-COMMAND.1 for every command; docgen completion FOLDER
 * writes the completion as "gridnode", the name under which bash looks for it. */
#include "cli/command.h"

#include "base/cleanup.h"
#include "base/text.h"
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

static void write_command_page(const char *folder, const struct command *c)
{
        char name[64];
        FILE *to;

        snprintf(name, sizeof name, "gridnode-%s.1", c->name);
        to = open_output(folder, name);
        name[strlen(name) - 2] = 0;
        put_title(name, to);
        fprintf(to, ".SH NAME\ngridnode\\-%s \\- ", c->name);
        put_roff_text(c->help, to);
        fprintf(to, "\n.SH SYNOPSIS\n\\fBgridnode %s\\fR [\\fIOPTION\\fR]...", c->name);
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
        fputs(".SH SEE ALSO\n.BR gridnode (1)\n", to);
        close_output(to);
}

static const char main_files[] =
        ".SH FILES\n"
        ".TP\n.I /etc/gridnode/site.conf\nThe site file: the node's name, its WAN, its LANs. Everything has "
        "a default.\n"
        ".TP\n.I /etc/gridnode/profiles/NAME.profile\nA control plane to reach. Those that come with the "
        "program are in\n"
        ".IR " GRIDNODE_DATA_DIR "/profiles .\n"
        ".SH ENVIRONMENT\n"
        ".TP\n.B GRIDNODE_PROFILE_PATH\nFolders, separated by colons, in which profiles are looked up "
        "first.\n"
        ".TP\n.B NO_COLOR\nWhen it is set and not empty, no colour is used.\n"
        ".TP\n.BR https_proxy ,\\  HTTPS_PROXY\nThe proxy, unless the site file names one.\n";

static void write_main_page(const char *folder)
{
        FILE *to = open_output(folder, "gridnode.1");

        put_title("gridnode", to);
        fputs(".SH NAME\ngridnode \\- name what blocks a node's way to its control plane\n"
              ".SH SYNOPSIS\n\\fBgridnode\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]... [\\fIARGUMENT\\fR]...\n"
              ".SH DESCRIPTION\n"
              "A node makes outbound connections only: to its control plane on ports 443 and 8443, and to "
              "its "
              "DNS servers.\nWhen one of them is blocked, the commands say by what, by whom, and what proves "
              "it.\n"
              ".PP\nOptions may stand anywhere; \\fB\\-\\-\\fR ends them.\n.SH COMMANDS\n",
                to);
        for (size_t i = 0; i < command_count; i++) {
                fprintf(to, ".TP\n.BR gridnode\\-%s (1)\n", commands[i].name);
                put_roff_text(commands[i].help, to);
                fputs(".\n", to);
        }
        fputs(".SH OPTIONS\n", to);
        put_option(option_row(OPTION_HELP), to);
        put_option(option_row(OPTION_VERSION), to);
        put_exit_status(to);
        fputs(main_files, to);
        fputs(".SH SEE ALSO\n", to);
        for (size_t i = 0; i < command_count; i++)
                fprintf(to, ".BR gridnode\\-%s (1),\n", commands[i].name);
        fputs(".BR gridnode\\-site.conf (5),\n.BR gridnode\\-profile (5)\n", to);
        close_output(to);
}

/* ---- bash ---- */

static const char *completion_words(enum completion c)
{
        switch (c) {
        case COMPLETE_NOTHING:
                return ":";
        case COMPLETE_FILE:
                return "_gridnode_files";
        case COMPLETE_INTERFACE:
                return "_gridnode_interfaces";
        case COMPLETE_PROFILE:
                return "_gridnode_profiles";
        case COMPLETE_CODE:
                return "_gridnode_codes";
        case COMPLETE_COMMAND:
                return "_gridnode_commands";
        case COMPLETE_RECORD_TYPE:
                return "_gridnode_types";
        }
        return ":";
}

static const char bash_helpers[] =
        "_gridnode_reply() { mapfile -t COMPREPLY < <(compgen \"$@\" -- \"$current\"); }\n"
        "_gridnode_files() { compopt -o filenames 2>/dev/null || :; _gridnode_reply -f; }\n"
        "_gridnode_types() { _gridnode_reply -W 'A AAAA NS'; }\n"
        "_gridnode_interfaces() { _gridnode_reply -W \"$(cd /sys/class/net 2>/dev/null && echo *)\"; }\n"
        "_gridnode_profiles() {\n"
        "    local folder file names='' IFS=:\n"
        "    for folder in $GRIDNODE_PROFILE_PATH /etc/gridnode/profiles " GRIDNODE_DATA_DIR "/profiles; do\n"
        "        for file in \"$folder\"/*.profile; do\n"
        "            [[ -e $file ]] && file=${file##*/} && names+=\"${file%.profile} \"\n"
        "        done\n"
        "    done\n"
        "    IFS=$' \\t\\n'\n"
        "    if [[ $current == */* ]]; then _gridnode_files; else _gridnode_reply -W \"$names\"; fi\n"
        "}\n";

static const char bash_main[] =
        "_gridnode() {\n"
        "    local current=${COMP_WORDS[COMP_CWORD]} previous='' command='' i\n"
        "    ((COMP_CWORD > 0)) && previous=${COMP_WORDS[COMP_CWORD - 1]}\n"
        "    # --option=VALUE comes as three words.\n"
        "    [[ $previous == '=' ]] && previous=${COMP_WORDS[COMP_CWORD - 2]}\n"
        "    [[ $current == '=' ]] && current=''\n"
        "    COMPREPLY=()\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        [[ ${COMP_WORDS[i]} == -* ]] || { command=${COMP_WORDS[i]}; break; }\n"
        "    done\n"
        "    case $command in\n"
        "    '')\n"
        "        if [[ $current == -* ]]; then _gridnode_reply -W '--help --version'; else "
        "_gridnode_commands; fi\n"
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
                fprintf(to, ") %s; return ;;\n", completion_words(row->completion));
        }
        fputs("        *) ;;\n        esac\n", to);
}

static void put_command_case(const struct command *c, FILE *to)
{
        fprintf(to, "    %s)\n", c->name);
        put_option_case(c, to);
        fputs("        if [[ $current == -* ]]; then\n            _gridnode_reply -W '", to);
        for (size_t i = 0; i < c->option_count; i++)
                if (i == 0 || c->options[i] != c->options[i - 1])
                        fprintf(to, "%s--%s", i ? " " : "", option_row(c->options[i])->name);
        fprintf(to, "'\n        else\n            %s\n        fi\n        ;;\n",
                completion_words(c->completes));
}

static void write_completion(const char *folder)
{
        FILE *to = open_output(folder, "gridnode");

        fputs("# bash completion for gridnode, made from its command table.\n\n_gridnode_commands() { "
              "_gridnode_reply -W '",
                to);
        for (size_t i = 0; i < command_count; i++)
                fprintf(to, "%s%s", i ? " " : "", commands[i].name);
        fputs("'; }\n_gridnode_codes() { _gridnode_reply -W '", to);
        for (int i = 0; i < CAUSE_COUNT; i++)
                fprintf(to, "%s%s", i ? " " : "", cause_info((enum cause_code)i)->text);
        fputs("'; }\n", to);
        fputs(bash_helpers, to);
        fputs("\n", to);
        fputs(bash_main, to);
        for (size_t i = 0; i < command_count; i++)
                put_command_case(&commands[i], to);
        fputs("    *) ;;\n    esac\n}\n\ncomplete -F _gridnode gridnode\n", to);
        close_output(to);
}

int main(int argc, char **argv)
{
        if (argc == 3 && str_equal(argv[1], "man")) {
                write_main_page(argv[2]);
                for (size_t i = 0; i < command_count; i++)
                        write_command_page(argv[2], &commands[i]);
        } else if (argc == 3 && str_equal(argv[1], "completion")) {
                write_completion(argv[2]);
        } else {
                fputs("Usage: docgen man|completion FOLDER\n", stderr);
                return EX_USAGE;
        }
        return EXIT_SUCCESS;
}
