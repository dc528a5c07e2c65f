/* What reports for people are written on: a stream of so many columns, with or without colour and UTF-8.
 * Whatever is put there is made safe to show first: stored reports may hold anything. */
#pragma once

#include "diagnose/report.h"

enum ink { INK_PLAIN, INK_BOLD, INK_GOOD, INK_WARNING, INK_BAD, INK_DOUBT, INK_FAINT };

struct paper {
        FILE *to;
        bool colour, utf8;
        int width;
        int column;   /* where the next character goes, 0 at the start of a line */
        int blanks;   /* before it, not written yet: none ends a line */
        enum ink ink; /* as the terminal has it now */
};

void paper_init(struct paper *ret, const struct report_style *style, FILE *to);
/* Controls and broken UTF-8 (all that is not ASCII, unless `utf8`) as "?", and no user name or password in a
 * URL. Caller frees. */
char *paper_clean(const char *s, bool utf8);
int paper_columns(const char *s); /* code points */
/* As it is, on the current line. */
void paper_put(struct paper *p, enum ink ink, const char *s);
void paper_putf(struct paper *p, enum ink ink, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* `utf8` or, where that cannot be shown, `ascii`. */
void paper_glyph(struct paper *p, enum ink ink, const char *utf8, const char *ascii);
/* Words from the current column on; further lines begin at column `indent`. Ends no line. */
void paper_words(struct paper *p, enum ink ink, int indent, const char *s);
void paper_wordsf(struct paper *p, enum ink ink, int indent, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
void paper_to_column(struct paper *p, int column);
void paper_end_line(struct paper *p);
/* An empty line, and a line in bold. */
void paper_heading(struct paper *p, const char *title);
