#include "cli/writer.h"
#include "cli/terminal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#define MAX_DEPTH   8
#define MAX_COLUMNS 12
#define MAX_WIDTH   60 /* a longer cell does not push those of the other rows aside */

enum node_kind { NODE_TEXT, NODE_INTEGER, NODE_NUMBER, NODE_BOOLEAN, NODE_NULL, NODE_OBJECT, NODE_LIST };

struct node {
        enum node_kind kind;
        enum writer_mark mark;
        const char *key, *title;
        char *shown; /* scalars: as text */
        long long integer;
        double number;
        bool is_written;  /* the stream has it; of a list and an object: its title, of an item: its row */
        size_t *reserved; /* lists: MAX_COLUMNS widths, NULL none */
        struct node *first, *last, *next;
};

/* Where text goes, and how. */
struct output {
        FILE *to;
        bool colour;
        bool only_new; /* what is_written is left out, and what is written is marked so */
};

struct writer {
        struct node root;
        struct output stream; /* to: NULL none */
        struct node *open[MAX_DEPTH];
        size_t depth;
        struct node *latest;
};

struct writer *writer_new(void)
{
        struct writer *w = xcalloc(1, sizeof *w);

        w->root.kind = NODE_OBJECT;
        w->open[0] = &w->root;
        w->depth = 1;
        return w;
}

static void free_children(struct node *n)
{
        while (n->first) {
                struct node *child = n->first;

                n->first = child->next;
                free_children(child);
                free(child->shown);
                free(child->reserved);
                free(child);
        }
}

struct writer *writer_free(struct writer *w)
{
        if (w)
                free_children(&w->root);
        free(w);
        return NULL;
}

static struct node *add(struct writer *w, enum node_kind kind, const char *key, const char *title)
{
        struct node *parent = w->open[w->depth - 1], *n = xcalloc(1, sizeof *n);

        *n = (struct node){.kind = kind, .key = key, .title = title};
        if (parent->last)
                parent->last->next = n;
        else
                parent->first = n;
        parent->last = n;
        return w->latest = n;
}

/* Escapes what a terminal must not get, but keeps the lines of a text of several lines. */
static char *printable_lines(const char *s)
{
        struct text t = {0};

        for (;;) {
                size_t length = strcspn(s, "\n");
                char *line = str_printable(s, length, length);

                text_add(&t, line);
                free(line);
                s += length;
                if (!*s)
                        return t.length ? text_take(&t) : xstrdup("");
                text_add(&t, "\n");
                s++;
        }
}

void writer_text(struct writer *w, const char *key, const char *title, const char *format, ...)
{
        struct node *n = add(w, NODE_TEXT, key, title);
        _cleanup_free_ char *raw = NULL;
        va_list arguments;

        va_start(arguments, format);
        raw = xvasprintf(format, arguments);
        va_end(arguments);
        n->shown = printable_lines(raw);
}

void writer_integer(struct writer *w, const char *key, const char *title, long long value)
{
        struct node *n = add(w, NODE_INTEGER, key, title);

        n->integer = value;
        n->shown = xasprintf("%lld", value);
}

void writer_number(struct writer *w, const char *key, const char *title, double value, const char *unit)
{
        struct node *n = add(w, NODE_NUMBER, key, title);

        n->number = round(value * 1000) / 1000;
        n->shown = xasprintf("%.1f%s%s", value, unit ? " " : "", unit ? unit : "");
}

void writer_boolean(struct writer *w, const char *key, const char *title, bool value)
{
        struct node *n = add(w, NODE_BOOLEAN, key, title);

        n->integer = value;
        n->shown = xstrdup(value ? "yes" : "no");
}

void writer_null(struct writer *w, const char *key)
{
        add(w, NODE_NULL, key, WRITER_HIDDEN);
}

void writer_mark(struct writer *w, enum writer_mark mark)
{
        if (w->latest)
                w->latest->mark = mark;
}

static void begin(struct writer *w, enum node_kind kind, const char *key, const char *title)
{
        struct node *n = add(w, kind, key, title);

        if (w->depth == MAX_DEPTH)
                abort(); /* the depth is the program's own, not the data's */
        w->open[w->depth++] = n;
}

void writer_begin_object(struct writer *w, const char *key, const char *title)
{
        begin(w, NODE_OBJECT, key, title);
}

void writer_begin_list(struct writer *w, const char *key, const char *title)
{
        begin(w, NODE_LIST, key, title);
}

void writer_continue_list(struct writer *w, const char *key, const char *title)
{
        for (struct node *n = w->open[w->depth - 1]->first; n; n = n->next)
                if (n->kind == NODE_LIST && str_equal(n->key, key) && w->depth < MAX_DEPTH) {
                        w->open[w->depth++] = n;
                        return;
                }
        writer_begin_list(w, key, title);
}

void writer_reserve(struct writer *w, size_t column, size_t width)
{
        struct node *list = w->open[w->depth - 1];

        if (list->kind != NODE_LIST || column >= MAX_COLUMNS || width > MAX_WIDTH)
                return;
        if (!list->reserved)
                list->reserved = xcalloc(MAX_COLUMNS, sizeof *list->reserved);
        if (list->reserved[column] < width)
                list->reserved[column] = width;
}

void writer_begin_item(struct writer *w)
{
        begin(w, NODE_OBJECT, NULL, NULL);
}

void writer_end(struct writer *w)
{
        if (w->depth > 1)
                w->depth--;
}

/* ---- JSON ---- */

static json_t *to_json(const struct node *n)
{
        json_t *j;

        switch (n->kind) {
        case NODE_TEXT:
                return json_string(n->shown);
        case NODE_INTEGER:
                return json_integer(n->integer);
        case NODE_NUMBER:
                return json_real(n->number);
        case NODE_BOOLEAN:
                return json_boolean(n->integer);
        case NODE_NULL:
                return json_null();
        case NODE_OBJECT:
                j = json_object();
                for (const struct node *c = n->first; c; c = c->next)
                        if (c->key)
                                json_object_set_new(j, c->key, to_json(c));
                return j;
        case NODE_LIST:
                j = json_array();
                for (const struct node *c = n->first; c; c = c->next)
                        json_array_append_new(j, to_json(c));
                return j;
        }
        return NULL;
}

void writer_write_json(const struct writer *w, FILE *to)
{
        json_t *j = to_json(&w->root);

        json_dumpf(j, to, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        fputc('\n', to);
        json_decref(j);
}

/* ---- text ---- */

static bool is_hidden(const struct node *n)
{
        return n->kind == NODE_NULL || (n->title && !n->title[0]);
}

static bool is_due(struct node *n, const struct output *o)
{
        bool is_due = !o->only_new || !n->is_written;

        n->is_written |= o->only_new;
        return is_due;
}

static bool is_line(const struct node *n)
{
        return n->title && n->title[0] == '\n';
}

static bool is_scalar(const struct node *n)
{
        return n->kind != NODE_OBJECT && n->kind != NODE_LIST;
}

static size_t columns_of(const char *s)
{
        size_t count = 0;

        for (; *s; s++)
                count += ((unsigned char)*s & 0xc0) != 0x80; /* UTF-8: continuation bytes take no column */
        return count;
}

static void put(const char *s, enum writer_mark mark, const struct output *o)
{
        static const char *const codes[] = {[MARK_NONE] = NULL,
                [MARK_GOOD] = "32",
                [MARK_WARNING] = "33",
                [MARK_BAD] = "31",
                [MARK_FAINT] = "2"};

        if (o->colour && codes[mark])
                fprintf(o->to, "\033[%sm%s\033[0m", codes[mark], s);
        else
                fputs(s, o->to);
}

static void pad(size_t columns, const struct output *o)
{
        fprintf(o->to, "%*s", (int)columns, "");
}

static void write_object(const struct node *n, size_t indent, const struct output *o);

static void write_scalar_list(const struct node *n, const struct output *o)
{
        for (const struct node *c = n->first; c; c = c->next)
                fprintf(o->to, "%s%s", c->shown, c->next ? ", " : "");
}

/* How wide each column of a list's rows is. */
static void measure_columns(const struct node *list, size_t *widths)
{
        if (list->reserved)
                memcpy(widths, list->reserved, MAX_COLUMNS * sizeof *widths);
        for (const struct node *item = list->first; item; item = item->next) {
                size_t column = 0;

                for (const struct node *c = item->first; c && column < MAX_COLUMNS; c = c->next) {
                        size_t width;

                        if (!is_scalar(c) || c->title || is_hidden(c))
                                continue;
                        width = columns_of(c->shown);
                        if (width > widths[column] && width <= MAX_WIDTH)
                                widths[column] = width;
                        column++;
                }
        }
}

static void write_row(const struct node *item, const size_t *widths, size_t indent, const struct output *o)
{
        size_t column = 0, owed = indent;
        bool any = false;

        for (const struct node *c = item->first; c; c = c->next) {
                size_t width;

                if (!is_scalar(c) || c->title || is_hidden(c))
                        continue;
                width = columns_of(c->shown);
                if (width) {
                        pad(owed, o);
                        owed = 0;
                        put(c->shown, c->mark, o);
                }
                if (column < MAX_COLUMNS && (widths[column] || width))
                        owed += (widths[column] > width ? widths[column] - width : 0) + 2;
                column++;
                any = true;
        }
        if (any)
                fputc('\n', o->to);
}

static void write_list(const struct node *list, size_t indent, const struct output *o)
{
        size_t widths[MAX_COLUMNS] = {0};

        measure_columns(list, widths);
        for (struct node *item = list->first; item; item = item->next) {
                bool is_item_due = is_due(item, o);

                if (is_scalar(item)) {
                        if (!is_item_due)
                                continue;
                        pad(indent, o);
                        put(item->shown, item->mark, o);
                        fputc('\n', o->to);
                        continue;
                }
                if (is_item_due)
                        write_row(item, widths, indent, o);
                write_object(item, indent + 4, o);
        }
}

static void write_lines(const struct node *n, size_t indent, const struct output *o)
{
        const char *s = n->shown;

        while (*s) {
                size_t length = strcspn(s, "\n");
                _cleanup_free_ char *line = xstrndup(s, length);

                pad(indent, o);
                put(line, n->mark, o);
                fputc('\n', o->to);
                s += length + (s[length] == '\n');
        }
}

static void write_titled(struct node *n, size_t indent, size_t width, const struct output *o)
{
        bool is_inline = is_scalar(n) || (n->kind == NODE_LIST && n->first && is_scalar(n->first)), is_new;

        if (n->kind != NODE_OBJECT && !is_scalar(n) && !n->first)
                return;
        is_new = is_scalar(n) || is_due(n, o);
        if (is_inline && !is_new)
                return;
        if (is_new) {
                pad(indent, o);
                fprintf(o->to, "%s:", n->title);
        }
        if (!is_inline || (n->shown && strchr(n->shown, '\n'))) {
                if (is_new)
                        fputc('\n', o->to);
                if (is_inline)
                        write_lines(n, indent + 2, o);
                else if (n->kind == NODE_LIST)
                        write_list(n, indent + 2, o);
                else
                        write_object(n, indent + 2, o);
                return;
        }
        pad(width - columns_of(n->title) + 1, o);
        if (is_scalar(n))
                put(n->shown, n->mark, o);
        else
                write_scalar_list(n, o);
        fputc('\n', o->to);
}

/* The values of an object, line by line. What an item of a list shows in its row (bare scalars) has been
 * written by write_row: the root has no row. */
static void write_object(const struct node *n, size_t indent, const struct output *o)
{
        bool is_item = !n->key && indent > 0;
        size_t width = 0;

        for (const struct node *c = n->first; c; c = c->next)
                if (is_scalar(c) && c->title && !is_line(c) && columns_of(c->title) > width)
                        width = columns_of(c->title);
        for (struct node *c = n->first; c; c = c->next) {
                if (is_hidden(c) || (is_scalar(c) && !is_due(c, o)))
                        continue;
                if (is_line(c))
                        write_lines(c, indent, o);
                else if (c->title)
                        write_titled(
                                c, indent, columns_of(c->title) > width ? columns_of(c->title) : width, o);
                else if (c->kind == NODE_LIST)
                        write_list(c, indent, o);
                else if (c->kind == NODE_OBJECT)
                        write_object(c, indent, o);
                else if (!is_item)
                        write_lines(c, indent, o);
        }
}

void writer_write_text(const struct writer *w, bool colour, FILE *to)
{
        write_object(&w->root, 0, &(struct output){.to = to, .colour = colour});
}

void writer_stream(struct writer *w, bool colour, FILE *to)
{
        w->stream = (struct output){.to = to, .colour = colour, .only_new = true};
}

void writer_flush(struct writer *w)
{
        if (!w->stream.to)
                return;
        write_object(&w->root, 0, &w->stream);
        terminal_flush(w->stream.to);
}
