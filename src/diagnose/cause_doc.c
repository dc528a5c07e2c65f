#include "diagnose/cause_doc.h"

#include <string.h>

#define WIDTH 80

/* Words of `text` after `indent` blanks, at most WIDTH columns wide. */
static void write_wrapped(FILE *to, int indent, const char *text)
{
        int column = 0;

        while (*text) {
                size_t length = strcspn(text, " ");

                if (column && column + 1 + (int)length > WIDTH) {
                        fputc('\n', to);
                        column = 0;
                }
                column += fprintf(to, "%*s%.*s", column ? 1 : indent, "", (int)length, text);
                text += length;
                text += strspn(text, " ");
        }
        fputc('\n', to);
}

static void write_lines(FILE *to, const char *prefix, const char *lines)
{
        while (*lines) {
                size_t length = strcspn(lines, "\n");

                fprintf(to, "%s%.*s\n", prefix, (int)length, lines);
                lines += length;
                lines += *lines == '\n';
        }
}

void cause_write_text(FILE *to, const struct cause_info *info)
{
        const struct {
                const char *title, *text;
        } parts[] = {
                {"What proves it", info->proof},
                {"Not to be confused with", info->not_confused},
                {"What to do", info->remedy},
        };

        fprintf(to, "%s\n", info->text);
        write_wrapped(to, 2, info->title);
        fputc('\n', to);
        write_wrapped(to, 2, info->meaning);
        for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
                fprintf(to, "\n%s\n", parts[i].title);
                write_wrapped(to, 2, parts[i].text);
        }
        fprintf(to, "\nFixed by\n  %s\n\nSeen by hand\n", fixed_by_to_person(info->fixed_by));
        write_lines(to, "  ", info->by_hand);
}

void cause_write_list(FILE *to)
{
        for (int i = 0; i < CAUSE_COUNT; i++)
                fprintf(to, "%-24s %s\n", cause_info(i)->text, cause_info(i)->title);
}

/* Angle brackets, bars and stars mean something to Markdown; underscores do inside words only in old
 * dialects. */
static void write_escaped(FILE *to, const char *s)
{
        for (; *s; s++) {
                if (strchr("\\`*_<>|[]", *s))
                        fputc('\\', to);
                fputc(*s, to);
        }
}

static void write_section(FILE *to, const struct cause_info *info)
{
        fprintf(to, "\n## %s\n\n**", info->text);
        write_escaped(to, info->title);
        fputs(".**\n\n", to);
        write_escaped(to, info->meaning);
        fputs("\n\n*What proves it:* ", to);
        write_escaped(to, info->proof);
        fputs("\n\n*Not to be confused with:* ", to);
        write_escaped(to, info->not_confused);
        fputs("\n\n*What to do:* ", to);
        write_escaped(to, info->remedy);
        fprintf(to, " Fixed by %s.\n\n*Seen by hand:*\n\n```\n", fixed_by_to_person(info->fixed_by));
        write_lines(to, "", info->by_hand);
        fputs("```\n", to);
}

void cause_write_markdown(FILE *to)
{
        fputs("# Causes\n\n"
              "What `gridnode diag` may conclude, and what proves it. This file is written from the "
              "program's own\n"
              "table; `gridnode explain CODE` prints the same.\n\n"
              "Where the evidence does not separate two causes, the verdict is `undetermined` and lists "
              "both: a\n"
              "wrong name is worse than no name. Evidence that rests on doubtful evidence is void. "
              "Independent\n"
              "faults are reported together.\n\n"
              "| code | what is true | fixed by |\n|---|---|---|\n",
                to);
        for (int i = 0; i < CAUSE_COUNT; i++) {
                const struct cause_info *info = cause_info(i);

                fprintf(to, "| `%s` | ", info->text);
                write_escaped(to, info->title);
                fprintf(to, " | %s |\n", fixed_by_to_string(info->fixed_by));
        }
        for (int i = 0; i < CAUSE_COUNT; i++)
                write_section(to, cause_info(i));
}
