#include "cli/table.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <string.h>

#define CELL_MAX_BYTES 200

/* Columns on the terminal: bytes that begin a character. */
static int width_of(const char *s)
{
        int width = 0;

        for (; *s; s++)
                width += (*s & 0xC0) != 0x80;
        return width;
}

static const json_t *member_of(const json_t *item, const char *path)
{
        _cleanup_free_ char *copy = xstrdup(path);
        char *rest = copy;

        for (char *name; item && (name = strsep(&rest, "."));)
                item = json_object_get(item, name);
        return item;
}

static char *cell_of(const json_t *item, const struct table_column *c)
{
        const json_t *v = member_of(item, c->member);

        if (json_is_string(v))
                return str_excerpt(json_string_value(v), json_string_length(v), CELL_MAX_BYTES);
        if (json_is_integer(v))
                return xasprintf("%lld", (long long)json_integer_value(v));
        if (json_is_boolean(v))
                return xstrdup(json_is_true(v) ? (c->true_word ? c->true_word : "yes")
                                               : (c->false_word ? c->false_word : "no"));
        if (json_object_size(v) > 0 || json_array_size(v) > 0) {
                _cleanup_free_ char *text = json_to_text(v);

                return str_excerpt(text, strlen(text), CELL_MAX_BYTES);
        }
        return xstrdup("-");
}

static void write_row(char *const *cells, const int *widths, size_t count, FILE *to)
{
        for (size_t i = 0; i < count; i++) {
                bool is_last = i + 1 == count;

                fprintf(to, "%s%*s", cells[i], is_last ? 0 : widths[i] - width_of(cells[i]) + 2, "");
        }
        fputc('\n', to);
}

void table_write(
        const json_t *items, const struct table_column *columns, size_t count, const char *empty, FILE *to)
{
        size_t rows = json_array_size(items);
        char **cells = xcalloc((rows + 1) * count, sizeof *cells);
        int *widths = xcalloc(count, sizeof *widths);

        for (size_t c = 0; c < count; c++)
                cells[c] = xstrdup(columns[c].title);
        for (size_t r = 0; r < rows; r++)
                for (size_t c = 0; c < count; c++)
                        cells[(r + 1) * count + c] = cell_of(json_array_get(items, r), &columns[c]);
        for (size_t i = 0; i < (rows + 1) * count; i++)
                if (width_of(cells[i]) > widths[i % count])
                        widths[i % count] = width_of(cells[i]);
        if (rows == 0)
                fprintf(to, "%s\n", empty);
        for (size_t r = 0; rows > 0 && r <= rows; r++)
                write_row(cells + r * count, widths, count, to);
        for (size_t i = 0; i < (rows + 1) * count; i++)
                free(cells[i]);
        free(cells);
        free(widths);
}
