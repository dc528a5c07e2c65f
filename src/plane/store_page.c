#include "plane/store_internal.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT_DEFAULT 50
#define LIMIT_MAXIMUM 500
/* Kind, two keys, the blanks between them. */
#define PLAIN_TEXT  (2 * STORE_KEY_TEXT + 4)
#define CURSOR_TEXT (2 * PLAIN_TEXT)

static int bad_cursor(struct error *e)
{
        return error_set(e, EINVAL, "page.cursor",
                "the cursor is not one of this list; begin without one, and pass on what 'next' gave");
}

/* ---- cursors: "KIND KEY KEY" in hex ---- */

static void encode(const struct store_list *l, char ret[CURSOR_TEXT])
{
        char plain[PLAIN_TEXT];
        int length = snprintf(plain, sizeof plain, "%c %s %s", l->kind, l->last[0], l->last[1]);

        hex_format(plain, (size_t)length, ret);
}

static int from_hex(const char *hex, char ret[PLAIN_TEXT])
{
        size_t length = strnlen(hex, CURSOR_TEXT);

        if (length % 2 || length / 2 >= PLAIN_TEXT)
                return -EINVAL;
        for (size_t i = 0; i < length / 2; i++) {
                int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

                if (high < 0 || low < 0 || high * 16 + low < ' ' || high * 16 + low > '~')
                        return -EINVAL;
                ret[i] = (char)(high * 16 + low);
        }
        ret[length / 2] = 0;
        return 0;
}

/* Keys that are numbers begin as numbers where there is no cursor. */
static bool key_fits(const char *key, const char *beginning)
{
        unsigned long value;

        return !str_equal(beginning, STORE_NEWEST) || str_to_ulong(key, 0, INT64_MAX, &value) == 0;
}

static int decode(struct store_list *l, const char *cursor, struct error *e)
{
        char plain[PLAIN_TEXT], *first, *second;

        if (from_hex(cursor, plain) < 0 || plain[0] != l->kind || plain[1] != ' ')
                return bad_cursor(e);
        first = plain + 2;
        second = strchr(first, ' ');
        if (!second)
                return bad_cursor(e);
        *second++ = 0;
        if (!*first || !*second || strchr(second, ' ') || strlen(first) >= STORE_KEY_TEXT ||
                strlen(second) >= STORE_KEY_TEXT || !key_fits(first, l->after[0]) ||
                !key_fits(second, l->after[1]))
                return bad_cursor(e);
        str_copy(l->after[0], sizeof l->after[0], first);
        str_copy(l->after[1], sizeof l->after[1], second);
        return 0;
}

/* ---- lists ---- */

const struct list_filter list_all;

const struct list_filter *page_filter(const struct page *p)
{
        return p && p->only ? p->only : &list_all;
}

int store_list_begin(struct store_list *l, char kind, json_t *(*to_json)(sqlite3_stmt *row),
        const struct page *p, const char *first, const char *second, struct error *e)
{
        int limit = p && p->limit ? p->limit : LIMIT_DEFAULT, r = 0;

        if (limit < 1 || limit > LIMIT_MAXIMUM)
                return error_set(e, EINVAL, "page.limit", "the limit %d of a page is not 1 to %d", limit,
                        LIMIT_MAXIMUM);
        *l = (struct store_list){.to_json = to_json, .kind = kind, .limit = limit};
        str_copy(l->after[0], sizeof l->after[0], first);
        str_copy(l->after[1], sizeof l->after[1], second);
        if (p && p->after)
                r = decode(l, p->after, e);
        if (r == 0)
                l->items = json_array();
        return r;
}

int store_list_on_row(sqlite3_stmt *row, void *list)
{
        struct store_list *l = list;
        int key = sqlite3_column_count(row) - 2;

        if (json_array_size(l->items) == (size_t)l->limit) {
                l->more = true;
                return 1;
        }
        json_array_append_new(l->items, l->to_json(row));
        STORE_COPY(l->last[0], row, key);
        STORE_COPY(l->last[1], row, key + 1);
        return 0;
}

int64_t store_list_number(const struct store_list *l, size_t key)
{
        return strtoll(l->after[key], NULL, 10);
}

int64_t store_list_fetch(const struct store_list *l)
{
        return (int64_t)l->limit + 1;
}

int store_list_end(struct store_list *l, int result, json_t **ret)
{
        char cursor[CURSOR_TEXT];

        if (result < 0) {
                json_decref(l->items);
                return result;
        }
        if (l->more)
                encode(l, cursor);
        *ret = json_pack(
                "{s:o, s:o}", "items", l->items, "next", l->more ? json_string(cursor) : json_null());
        return 0;
}
