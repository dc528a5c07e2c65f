/* The hand tools' output: a tree of titled values that a command builds once, written as text or as JSON, so
 * that the two cannot drift apart.
 *
 * A title of NULL makes a value a bare line in text, and inside a list's item a column of the item's row;
 * WRITER_LINE makes it a line of its own there too. WRITER_HIDDEN keeps it out of the text: figures whose
 * text form is part of another value. Strings may come from outside: what cannot be shown is escaped in both
 * forms. */
#pragma once

#include <stdbool.h>
#include <stdio.h>

struct writer; /* opaque */

#define WRITER_HIDDEN ""
#define WRITER_LINE   "\n"

enum writer_mark { MARK_NONE, MARK_GOOD, MARK_WARNING, MARK_BAD, MARK_FAINT };

struct writer *writer_new(void);
struct writer *writer_free(struct writer *w);

/* `key` names the value in JSON and is static; NULL inside a list. */
void writer_text(struct writer *w, const char *key, const char *title, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
void writer_integer(struct writer *w, const char *key, const char *title, long long value);
/* Text: one decimal and the unit. */
void writer_number(struct writer *w, const char *key, const char *title, double value, const char *unit);
void writer_boolean(struct writer *w, const char *key, const char *title, bool value);
void writer_null(struct writer *w, const char *key); /* JSON only */
/* Colours the value that was added last, on a terminal. */
void writer_mark(struct writer *w, enum writer_mark mark);

void writer_begin_object(struct writer *w, const char *key, const char *title);
void writer_begin_list(struct writer *w, const char *key, const char *title);
/* Goes on with the list of this key that the open object has, or begins it. */
void writer_continue_list(struct writer *w, const char *key, const char *title);
void writer_begin_item(struct writer *w); /* an object of the list */
void writer_end(struct writer *w);        /* of whatever was begun last */
/* Keeps this room for a column of the open list's rows, since rows to come may need it. */
void writer_reserve(struct writer *w, size_t column, size_t width);

/* From here on the text goes to `to` with each writer_flush(): what has come since the one before it, in the
 * tree's order, and on to whoever reads it. A value must have its mark by then, a row all its columns, and a
 * list of bare values its end; lists of items may stay open. `to` is borrowed. */
void writer_stream(struct writer *w, bool colour, FILE *to);
void writer_flush(struct writer *w); /* nothing without writer_stream() */

/* A failure to write shows in ferror(to). */
void writer_write_text(const struct writer *w, bool colour, FILE *to);
void writer_write_json(const struct writer *w, FILE *to);
