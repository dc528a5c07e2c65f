#include "diagnose/paper.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <stdarg.h>
#include <string.h>

#define PAPER_MIN_WIDTH 40

void paper_init(struct paper *ret, const struct report_style *style, FILE *to)
{
        int width = style->width > 0 ? style->width : 80;

        *ret = (struct paper){
                .to = to,
                .colour = style->colour,
                .utf8 = style->utf8,
                .width = width < PAPER_MIN_WIDTH ? PAPER_MIN_WIDTH : width,
        };
}

/* The length of the UTF-8 sequence at `s`, 1 for a byte that begins none. */
static size_t sequence_length(const unsigned char *s)
{
        size_t n = s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : s[0] >= 0xe0 ? 3 : s[0] >= 0xc2 ? 2 : 1;

        if (s[0] >= 0xf5)
                return 1;
        for (size_t i = 1; i < n; i++)
                if ((s[i] & 0xc0) != 0x80)
                        return 1;
        return n;
}

/* C1 controls, and the marks that turn or break the line that they stand in. */
static bool is_unsafe_sequence(const unsigned char *s, size_t n)
{
        if (n == 2)
                return s[0] == 0xc2 && s[1] < 0xa0;
        if (n != 3 || s[0] != 0xe2)
                return n == 3 && s[0] == 0xef && s[1] == 0xbb && s[2] == 0xbf;
        return (s[1] == 0x80 && (s[2] == 0x8e || s[2] == 0x8f || (s[2] >= 0xa8 && s[2] <= 0xae))) ||
               (s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9);
}

/* Where "user:password@" ends when `s` stands behind "://", or `s`. */
static const char *skip_credentials(const char *s)
{
        const char *end = s + strcspn(s, "/?# \t\"'<>");
        const char *at = NULL;

        for (const char *c = s; c < end; c++)
                if (*c == '@')
                        at = c;
        return at ? at : s;
}

char *paper_clean(const char *s, bool utf8)
{
        struct text t = {0};

        while (s && *s) {
                size_t n = sequence_length((const unsigned char *)s);
                bool shown = n == 1 ? (*s >= 0x20 && *s < 0x7f)
                                    : utf8 && !is_unsafe_sequence((const unsigned char *)s, n);

                if (strncmp(s, "://", 3) == 0) {
                        const char *host = skip_credentials(s + 3);

                        text_add(&t, host > s + 3 ? "://***" : "://");
                        s = host;
                        continue;
                }
                if (shown)
                        text_addf(&t, "%.*s", (int)n, s);
                else
                        text_add(&t, *s == '\n' || *s == '\t' ? " " : "?");
                s += n;
        }
        return text_take(&t);
}

int paper_columns(const char *s)
{
        int n = 0;

        for (; *s; s++)
                n += (*s & 0xc0) != 0x80;
        return n;
}

static const char *escape_of(enum ink ink)
{
        switch (ink) {
        case INK_PLAIN:
                return "";
        case INK_BOLD:
                return "\033[1m";
        case INK_GOOD:
                return "\033[32m";
        case INK_WARNING:
                return "\033[33m";
        case INK_BAD:
                return "\033[31m";
        case INK_DOUBT:
                return "\033[35m";
        case INK_FAINT:
                return "\033[2m";
        }
        return "";
}

/* Escapes are written only where the ink changes. */
static void change_ink(struct paper *p, enum ink ink)
{
        if (!p->colour || ink == p->ink)
                return;
        if (p->ink != INK_PLAIN)
                fputs("\033[0m", p->to);
        fputs(escape_of(ink), p->to);
        p->ink = ink;
}

static void put_clean(struct paper *p, enum ink ink, const char *s, size_t length)
{
        size_t shown = length;

        for (size_t i = 0; i < length; i++)
                p->column += (s[i] & 0xc0) != 0x80;
        while (shown > 0 && s[shown - 1] == ' ')
                shown--;
        if (shown > 0) {
                fprintf(p->to, "%*s", p->blanks, "");
                change_ink(p, ink);
                fprintf(p->to, "%.*s", (int)shown, s);
                p->blanks = 0;
        }
        p->blanks += (int)(length - shown);
}

void paper_put(struct paper *p, enum ink ink, const char *s)
{
        _cleanup_free_ char *clean = paper_clean(s, p->utf8);

        put_clean(p, ink, clean, strlen(clean));
}

void paper_putf(struct paper *p, enum ink ink, const char *format, ...)
{
        _cleanup_free_ char *s = NULL;
        va_list arguments;

        va_start(arguments, format);
        s = xvasprintf(format, arguments);
        va_end(arguments);
        paper_put(p, ink, s);
}

void paper_glyph(struct paper *p, enum ink ink, const char *utf8, const char *ascii)
{
        paper_put(p, ink, p->utf8 ? utf8 : ascii);
}

/* The first bytes of `s` that make `columns` columns. */
static size_t bytes_of_columns(const char *s, int columns)
{
        size_t n = 0;

        while (s[n] && (columns > 0 || (s[n] & 0xc0) == 0x80)) {
                n++;
                columns -= (s[n] & 0xc0) != 0x80;
        }
        return n;
}

void paper_to_column(struct paper *p, int column)
{
        if (p->column >= column)
                return;
        p->blanks += column - p->column;
        p->column = column;
}

/* The length of the next word; "(hop 3)" is one. */
static size_t word_length(const char *s)
{
        size_t length = strcspn(s, " ");

        if (strncmp(s, "(hop ", 5) == 0)
                length = 5 + strcspn(s + 5, " ");
        return length;
}

void paper_words(struct paper *p, enum ink ink, int indent, const char *s)
{
        _cleanup_free_ char *clean = paper_clean(s, p->utf8);
        const char *at = clean + strspn(clean, " ");
        bool first = true;

        /* On a narrow paper a deep indent leaves no room. */
        if (indent > p->width - 16)
                indent = p->width / 4;
        while (*at) {
                size_t length = word_length(at);
                _cleanup_free_ char *word = xstrndup(at, length);
                int columns = paper_columns(word), blank = !first;

                if (p->column + blank + columns > p->width && p->column > indent) {
                        paper_end_line(p);
                        blank = 0;
                }
                if (!p->column)
                        paper_to_column(p, indent);
                else if (blank)
                        put_clean(p, INK_PLAIN, " ", 1);
                /* A word longer than a line is broken. */
                if (p->column + columns > p->width && p->width - p->column > 8)
                        length = bytes_of_columns(word, p->width - p->column);
                put_clean(p, ink, at, length);
                first = at[length] != ' ' && at[length];
                at += length;
                at += strspn(at, " ");
        }
}

void paper_wordsf(struct paper *p, enum ink ink, int indent, const char *format, ...)
{
        _cleanup_free_ char *s = NULL;
        va_list arguments;

        va_start(arguments, format);
        s = xvasprintf(format, arguments);
        va_end(arguments);
        paper_words(p, ink, indent, s);
}

void paper_end_line(struct paper *p)
{
        change_ink(p, INK_PLAIN);
        fputc('\n', p->to);
        p->column = p->blanks = 0;
}

void paper_heading(struct paper *p, const char *title)
{
        paper_end_line(p);
        paper_put(p, INK_BOLD, title);
        paper_end_line(p);
}
