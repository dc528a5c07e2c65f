/* What the standard streams can show, and whether what was written arrived. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

bool terminal_has_colour(FILE *f); /* a terminal, no NO_COLOR (no-color.org), TERM not "dumb" */
bool terminal_is_utf8(void);       /* by the locale, see setlocale */
int terminal_width(FILE *f);       /* columns; 80 when unknown, 40 to 200 */
/* A line that replaces the one before it, on standard error and only when that is a terminal. */
void terminal_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
void terminal_progress_end(void);
/* Flushes what was written so far; what that loses terminal_finish() tells. */
void terminal_flush(FILE *f);
/* Flushes standard output. 0, or -errno when something was lost (-EPIPE: the reader has gone); the caller
 * reports it. */
int terminal_finish(void);
