#include "diagnose/page.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "diagnose/paper.h"

#include <stdarg.h>
#include <string.h>

/* Prints on one A4 page; loads nothing and runs nothing, which the policy states too. */
static const char html_head[] =
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
        "'unsafe-inline'\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<style>\n"
        "@page { size: A4; margin: 14mm; }\n"
        "body { font: 10pt/1.35 \"Liberation Sans\", Arial, Helvetica, sans-serif; color: #1a1a1a; "
        "max-width: 182mm;"
        " margin: 8mm auto; padding: 0 4mm; }\n"
        "h1 { font-size: 16pt; margin: 0 0 2mm; }\n"
        "h2 { font-size: 11.5pt; margin: 4mm 0 1mm; border-bottom: 0.3mm solid #bbb; }\n"
        "p, ul { margin: 1mm 0; } ul { padding-left: 5mm; }\n"
        "p.lead { font-size: 11.5pt; font-weight: bold; margin: 2mm 0; }\n"
        "table { border-collapse: collapse; width: 100%; margin: 1.5mm 0; font-size: 9pt; }\n"
        "th, td { text-align: left; vertical-align: top; padding: 0.6mm 1.5mm; border: 0.2mm solid #ccc;"
        " overflow-wrap: break-word; }\n"
        "td:nth-child(5) { overflow-wrap: anywhere; }\n"
        "th { background: #f0f0f0; }\n"
        "pre { background: #f6f6f6; border: 0.2mm solid #ddd; padding: 1.5mm 2mm; margin: 1.5mm 0; "
        "font-size: 9pt;"
        " white-space: pre-wrap; overflow-wrap: anywhere; }\n"
        "footer { margin-top: 4mm; color: #555; font-size: 8.5pt; }\n"
        "@media print { body { margin: 0 auto; padding: 0; } }\n"
        "</style>\n";

static bool is_html(const struct page *p)
{
        return p->format == PAGE_HTML;
}

static void add_html(struct text *t, const char *s)
{
        for (; *s; s++)
                switch (*s) {
                case '&':
                        text_add(t, "&amp;");
                        break;
                case '<':
                        text_add(t, "&lt;");
                        break;
                case '>':
                        text_add(t, "&gt;");
                        break;
                case '"':
                        text_add(t, "&quot;");
                        break;
                case '\'':
                        text_add(t, "&#39;");
                        break;
                default:
                        text_addf(t, "%c", *s);
                }
}

/* Whatever could begin markup, a link, a table cell or raw HTML. */
static void add_markdown(struct text *t, const char *s)
{
        for (; *s; s++)
                text_addf(t, strchr("\\`*_[]<>|#&~", *s) ? "\\%c" : "%c", *s);
}

static void add(struct page *p, const char *s)
{
        _cleanup_free_ char *clean = paper_clean(s, true);

        if (is_html(p))
                add_html(&p->out, clean);
        else
                add_markdown(&p->out, clean);
}

static void wrap(struct page *p, const char *html_before, const char *markdown_before, const char *s,
        const char *html_after, const char *markdown_after)
{
        text_add(&p->out, is_html(p) ? html_before : markdown_before);
        add(p, s);
        text_add(&p->out, is_html(p) ? html_after : markdown_after);
}

void page_begin(struct page *p, enum page_format format, const char *title)
{
        *p = (struct page){.format = format};
        if (is_html(p)) {
                text_add(&p->out, html_head);
                wrap(p, "<title>", "", title, "</title>\n</head>\n<body>\n", "");
        }
        wrap(p, "<h1>", "# ", title, "</h1>\n", "\n");
}

char *page_end(struct page *p)
{
        if (is_html(p))
                text_add(&p->out, "</body>\n</html>\n");
        return text_take(&p->out);
}

void page_heading(struct page *p, const char *s)
{
        wrap(p, "<h2>", "\n## ", s, "</h2>\n", "\n");
}

void page_paragraph(struct page *p, const char *s)
{
        wrap(p, "<p>", "\n", s, "</p>\n", "\n");
}

void page_paragraphf(struct page *p, const char *format, ...)
{
        _cleanup_free_ char *s = NULL;
        va_list arguments;

        va_start(arguments, format);
        s = xvasprintf(format, arguments);
        va_end(arguments);
        page_paragraph(p, s);
}

void page_lead(struct page *p, const char *s)
{
        wrap(p, "<p class=\"lead\">", "\n**", s, "</p>\n", "**\n");
}

void page_list_begin(struct page *p)
{
        text_add(&p->out, is_html(p) ? "<ul>\n" : "\n");
}

void page_list_item(struct page *p, const char *s)
{
        wrap(p, "<li>", "- ", s, "</li>\n", "\n");
}

void page_list_end(struct page *p)
{
        text_add(&p->out, is_html(p) ? "</ul>\n" : "");
}

void page_table_begin(struct page *p, const char *const *headings, size_t columns)
{
        p->columns = columns;
        text_add(&p->out, is_html(p) ? "<table>\n<tr>" : "\n|");
        for (size_t i = 0; i < columns; i++)
                wrap(p, "<th>", " ", headings[i], "</th>", " |");
        text_add(&p->out, is_html(p) ? "</tr>\n" : "\n|");
        for (size_t i = 0; i < columns && !is_html(p); i++)
                text_add(&p->out, "---|");
        text_add(&p->out, is_html(p) ? "" : "\n");
}

void page_table_row(struct page *p, const char *const *cells)
{
        text_add(&p->out, is_html(p) ? "<tr>" : "|");
        for (size_t i = 0; i < p->columns; i++)
                wrap(p, "<td>", " ", cells[i], "</td>", " |");
        text_add(&p->out, is_html(p) ? "</tr>\n" : "\n");
}

void page_table_end(struct page *p)
{
        text_add(&p->out, is_html(p) ? "</table>\n" : "");
        p->columns = 0;
}

void page_commands(struct page *p, const struct strv *lines)
{
        text_add(&p->out, is_html(p) ? "<pre>" : "\n```\n");
        for (size_t i = 0; i < lines->count; i++) {
                _cleanup_free_ char *clean = paper_clean(lines->items[i], false);

                /* Inside a fence only a fence has a meaning. */
                for (char *c = clean; *c; c++)
                        if (*c == '`')
                                *c = '\'';
                if (is_html(p))
                        add_html(&p->out, clean);
                else
                        text_add(&p->out, clean);
                text_add(&p->out, "\n");
        }
        text_add(&p->out, is_html(p) ? "</pre>\n" : "```\n");
}

void page_footer(struct page *p, const char *s)
{
        wrap(p, "<footer>", "\n---\n\n", s, "</footer>\n", "\n");
}
