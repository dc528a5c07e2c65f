/* A document of headings, paragraphs, lists, tables and commands, written as Markdown or as self-contained
 * HTML from one sequence of calls. Every text is cleaned and escaped for the format. */
#pragma once

#include "base/text.h"
#include "diagnose/report.h"

struct page {
        enum page_format format;
        struct text out;
        size_t columns; /* of the table that is open */
};

void page_begin(struct page *p, enum page_format format, const char *title);
/* The document, owned by the caller. */
char *page_end(struct page *p);
void page_heading(struct page *p, const char *s);
void page_paragraph(struct page *p, const char *s);
void page_paragraphf(struct page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The sentence that matters most. */
void page_lead(struct page *p, const char *s);
void page_list_begin(struct page *p);
void page_list_item(struct page *p, const char *s);
void page_list_end(struct page *p);
void page_table_begin(struct page *p, const char *const *headings, size_t columns);
void page_table_row(struct page *p, const char *const *cells);
void page_table_end(struct page *p);
/* Lines of commands. */
void page_commands(struct page *p, const struct strv *lines);
void page_footer(struct page *p, const char *s);
