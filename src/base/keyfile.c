/* The lines are read here and not by inih: that library cuts lines at 200 bytes and section names at 50, ends
 * a value at " ;", which separates the items of our lists, and does not tell line numbers. */
#include "base/keyfile.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FILE_BYTES ((size_t)4 << 20)
#define MAX_SECTIONS   1024
#define MAX_ENTRIES    65536
#define SHOWN_BYTES    80 /* of a name or value in an error */

struct entry {
        struct keyfile_entry public; /* first: a public entry is also its struct entry */
        size_t section;
        bool taken;
};

struct section {
        const char *name;
        int line;
        size_t first, count;    /* entries; a section is never continued, so they stand together */
        size_t next;            /* of keyfile_take_next */
        bool asked;             /* somebody knows this section */
        struct strv asked_keys; /* what was asked for: the known keys */
};

struct keyfile {
        char *path;
        char *data; /* sections, keys and values point into it */
        struct section *sections;
        size_t section_count;
        struct entry *entries;
        size_t entry_count;
        size_t *sorted; /* indices of entries by section, then key */
};

struct keyfile *keyfile_free(struct keyfile *k)
{
        if (!k)
                return NULL;
        for (size_t i = 0; i < k->section_count; i++)
                strv_done(&k->sections[i].asked_keys);
        free(k->sections);
        free(k->entries);
        free(k->sorted);
        free(k->data);
        free(k->path);
        free(k);
        return NULL;
}

DEFINE_CLEANUP(struct keyfile *, keyfile_free);

/* ---- errors ---- */

/* Names and values come from outside and go to terminals. */
static char *shown(const char *s)
{
        size_t length = strlen(s);
        char *text = str_printable(s, length, SHOWN_BYTES), *cut;

        if (length <= SHOWN_BYTES)
                return text;
        cut = xasprintf("%s...", text);
        free(text);
        return cut;
}

static int syntax_error(const struct keyfile *k, int line, struct error *ret_error, const char *code,
        const char *format, ...) __attribute__((format(printf, 5, 6)));

static int syntax_error(
        const struct keyfile *k, int line, struct error *ret_error, const char *code, const char *format, ...)
{
        _cleanup_free_ char *reason = NULL;
        va_list arguments;

        va_start(arguments, format);
        reason = xvasprintf(format, arguments);
        va_end(arguments);
        return error_set(ret_error, EBADMSG, code, "%s:%d: %s", k->path, line, reason);
}

static int entry_error(const struct keyfile *k, const struct keyfile_entry *e, const char *code,
        struct error *ret_error, const char *reason)
{
        _cleanup_free_ char *section = shown(e->section), *key = shown(e->key), *value = shown(e->value);

        return error_set(ret_error, EINVAL, code, "%s:%d: [%s] %s = %s: %s", k->path, e->line, section, key,
                value, reason);
}

int keyfile_value_error(const struct keyfile *k, const struct keyfile_entry *e, struct error *ret_error,
        const char *format, ...)
{
        _cleanup_free_ char *reason = NULL;
        va_list arguments;

        va_start(arguments, format);
        reason = xvasprintf(format, arguments);
        va_end(arguments);
        return entry_error(k, e, "config.value", ret_error, reason);
}

int keyfile_section_error(const struct keyfile *k, size_t index, const char *code, struct error *ret_error,
        const char *format, ...)
{
        _cleanup_free_ char *reason = NULL, *name = NULL;
        va_list arguments;
        int line = 0;

        name = shown(keyfile_section(k, index, &line));
        va_start(arguments, format);
        reason = xvasprintf(format, arguments);
        va_end(arguments);
        return error_set(ret_error, EINVAL, code, "%s:%d: [%s]: %s", k->path, line, name, reason);
}

/* ---- reading ---- */

static bool is_blank(char c)
{
        return c == ' ' || c == '\t';
}

/* Trims both ends in place. */
static char *trim(char *start, char *end)
{
        while (start < end && is_blank(*start))
                start++;
        while (end > start && is_blank(end[-1]))
                end--;
        *end = '\0';
        return start;
}

static int add_section(struct keyfile *k, char *start, char *end, int line, struct error *ret_error)
{
        _cleanup_free_ char *name_shown = NULL;
        char *close = memchr(start, ']', (size_t)(end - start)), *name;
        struct section *s;

        if (!close)
                return syntax_error(k, line, ret_error, "config.syntax", "a section name without its ]");
        if (*trim(close + 1, end))
                return syntax_error(k, line, ret_error, "config.syntax",
                        "text after ]; a comment needs a line of its own that begins with #");
        name = trim(start + 1, close);
        if (!*name || strchr(name, '['))
                return syntax_error(k, line, ret_error, "config.syntax", "a section without a usable name");
        for (size_t i = 0; i < k->section_count; i++)
                if (str_equal(k->sections[i].name, name)) {
                        name_shown = shown(name);
                        return syntax_error(k, line, ret_error, "config.duplicate",
                                "[%s] is given twice, first at line %d; put its keys together", name_shown,
                                k->sections[i].line);
                }
        if (k->section_count == MAX_SECTIONS)
                return syntax_error(
                        k, line, ret_error, "config.too-large", "more than %d sections", MAX_SECTIONS);
        k->sections = xrealloc_array(k->sections, k->section_count + 1, sizeof(*k->sections));
        s = &k->sections[k->section_count++];
        *s = (struct section){.name = name, .line = line, .first = k->entry_count};
        return 0;
}

static int add_entry(struct keyfile *k, char *start, char *end, int line, struct error *ret_error)
{
        _cleanup_free_ char *line_shown = NULL;
        char *equals = memchr(start, '=', (size_t)(end - start)), *key;
        struct section *s;

        if (!equals) {
                line_shown = shown(start);
                return syntax_error(k, line, ret_error, "config.syntax",
                        "neither [section], key = value nor a comment: %s", line_shown);
        }
        key = trim(start, equals);
        if (!*key)
                return syntax_error(
                        k, line, ret_error, "config.syntax", "a value without a key before its =");
        if (k->section_count == 0) {
                line_shown = shown(key);
                return syntax_error(k, line, ret_error, "config.syntax",
                        "%s stands before the first [section]", line_shown);
        }
        if (k->entry_count == MAX_ENTRIES)
                return syntax_error(k, line, ret_error, "config.too-large", "more than %d keys", MAX_ENTRIES);
        if ((k->entry_count & (k->entry_count - 1)) == 0)
                k->entries = xrealloc_array(
                        k->entries, k->entry_count ? k->entry_count * 2 : 1, sizeof(*k->entries));
        s = &k->sections[k->section_count - 1];
        k->entries[k->entry_count++] = (struct entry){
                .public = {.section = s->name, .key = key, .value = trim(equals + 1, end), .line = line},
                .section = k->section_count - 1,
        };
        s->count++;
        return 0;
}

static int check_bytes(
        const struct keyfile *k, const char *start, const char *end, int line, struct error *ret_error)
{
        for (const char *c = start; c < end; c++) {
                if (*c == '\0')
                        return syntax_error(k, line, ret_error, "config.syntax",
                                "a NUL byte; the file must be plain UTF-8 text");
                if (((unsigned char)*c < 0x20 && *c != '\t') || *c == 0x7f)
                        return syntax_error(
                                k, line, ret_error, "config.syntax", "a control byte, 0x%02x", (unsigned)*c);
        }
        return 0;
}

static int read_lines(struct keyfile *k, size_t length, struct error *ret_error)
{
        char *next = k->data, *stop = k->data + length;

        if (length >= 3 && memcmp(next, "\xef\xbb\xbf", 3) == 0)
                next += 3;
        for (int line = 1; next < stop; line++) {
                char *start = next, *newline = memchr(start, '\n', (size_t)(stop - start));
                char *end = newline ? newline : stop;
                int r;

                next = newline ? newline + 1 : stop;
                if (end > start && end[-1] == '\r')
                        end--;
                r = check_bytes(k, start, end, line, ret_error);
                if (r < 0)
                        return r;
                start = trim(start, end);
                end = start + strlen(start);
                if (start == end || *start == '#' || *start == ';')
                        continue;
                r = *start == '[' ? add_section(k, start, end, line, ret_error)
                                  : add_entry(k, start, end, line, ret_error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* ---- the index ---- */

static int compare_place(const struct entry *e, size_t section, const char *key)
{
        if (e->section != section)
                return e->section < section ? -1 : 1;
        return strcmp(e->public.key, key);
}

static int compare_indices(const void *a, const void *b, void *entries)
{
        const struct entry *e = entries, *x = &e[*(const size_t *)a], *y = &e[*(const size_t *)b];
        int r = compare_place(x, y->section, y->public.key);

        return r ? r : x->public.line - y->public.line;
}

static int index_entries(struct keyfile *k, struct error *ret_error)
{
        const struct entry *second = NULL;
        int first_line = 0;

        k->sorted = xcalloc(k->entry_count, sizeof(*k->sorted));
        for (size_t i = 0; i < k->entry_count; i++)
                k->sorted[i] = i;
        if (k->entry_count > 1)
                qsort_r(k->sorted, k->entry_count, sizeof(*k->sorted), compare_indices, k->entries);
        for (size_t i = 1; i < k->entry_count; i++) {
                const struct entry *a = &k->entries[k->sorted[i - 1]], *b = &k->entries[k->sorted[i]];

                if (compare_place(a, b->section, b->public.key) == 0 &&
                        (!second || b->public.line < second->public.line)) {
                        second = b;
                        first_line = a->public.line;
                }
        }
        if (second) {
                _cleanup_free_ char *section = shown(second->public.section),
                                    *key = shown(second->public.key);

                return syntax_error(k, second->public.line, ret_error, "config.duplicate",
                        "[%s] %s is given twice, first at line %d", section, key, first_line);
        }
        return 0;
}

/* Takes `data`, of `length` bytes and a NUL. */
static int parse(const char *name, char *data, size_t length, struct keyfile **ret, struct error *ret_error)
{
        _cleanup_(keyfile_free_p) struct keyfile *k = xcalloc(1, sizeof(*k));
        int r;

        k->path = xstrdup(name);
        k->data = data;
        r = read_lines(k, length, ret_error);
        if (r < 0)
                return r;
        r = index_entries(k, ret_error);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(k);
        return 0;
}

int keyfile_parse(
        const char *name, const char *data, size_t length, struct keyfile **ret, struct error *ret_error)
{
        char *copy;

        if (length > MAX_FILE_BYTES)
                return error_set(ret_error, EFBIG, "config.too-large", "%s: larger than %zu bytes", name,
                        MAX_FILE_BYTES);
        copy = xmalloc(length + 1);
        if (length > 0)
                memcpy(copy, data, length);
        copy[length] = '\0';
        return parse(name, copy, length, ret, ret_error);
}

int keyfile_load(const char *path, struct keyfile **ret, struct error *ret_error)
{
        size_t length;
        char *data;
        int r = file_read(path, MAX_FILE_BYTES, &data, &length, ret_error);

        if (r < 0)
                return r;
        return parse(path, data, length, ret, ret_error);
}

/* ---- taking ---- */

const char *keyfile_path(const struct keyfile *k)
{
        return k->path;
}

static struct section *find_section(struct keyfile *k, const char *name)
{
        for (size_t i = 0; i < k->section_count; i++)
                if (str_equal(k->sections[i].name, name))
                        return &k->sections[i];
        return NULL;
}

const struct keyfile_entry *keyfile_take(struct keyfile *k, const char *section, const char *key)
{
        struct section *s = find_section(k, section);
        size_t low, high, index;

        if (!s)
                return NULL;
        s->asked = true;
        strv_add_unique(&s->asked_keys, key);
        /* Entries are sorted by section first: those of this one lie at the same places as in the file. */
        low = s->first;
        high = s->first + s->count;
        index = (size_t)(s - k->sections);
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                struct entry *e = &k->entries[k->sorted[middle]];
                int r = compare_place(e, index, key);

                if (r == 0) {
                        e->taken = true;
                        return &e->public;
                }
                if (r < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return NULL;
}

const char *keyfile_section(const struct keyfile *k, size_t index, int *ret_line)
{
        if (index >= k->section_count)
                return NULL;
        if (ret_line)
                *ret_line = k->sections[index].line;
        return k->sections[index].name;
}

const struct keyfile_entry *keyfile_take_next(struct keyfile *k, const char *section)
{
        struct section *s = find_section(k, section);

        if (!s)
                return NULL;
        s->asked = true;
        while (s->next < s->count) {
                struct entry *e = &k->entries[s->first + s->next++];

                if (!e->taken) {
                        e->taken = true;
                        return &e->public;
                }
        }
        return NULL;
}

int keyfile_check_leftovers(const struct keyfile *k, struct error *ret_error)
{
        for (size_t i = 0; i < k->section_count; i++) {
                const struct section *s = &k->sections[i];
                _cleanup_free_ char *known = NULL, *reason = NULL;

                if (!s->asked)
                        return keyfile_section_error(
                                k, i, "config.unknown-section", ret_error, "unknown section");
                for (size_t j = s->first; j < s->first + s->count; j++) {
                        if (k->entries[j].taken)
                                continue;
                        known = strv_join(&s->asked_keys, ", ");
                        reason = xasprintf("unknown key; known here: %s", *known ? known : "none");
                        return entry_error(k, &k->entries[j].public, "config.unknown-key", ret_error, reason);
                }
        }
        return 0;
}
