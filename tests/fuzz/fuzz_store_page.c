/* The first byte chooses the list, the rest is a cursor. */
#include "fuzz.h"

#include "base/text.h"
#include "plane/store_internal.h"

#include <stdlib.h>
#include <string.h>

static json_t *to_json(sqlite3_stmt *row)
{
        (void)row;
        return json_null();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char *const beginnings[][2] = {
                {STORE_NEWEST, STORE_NEWEST}, {"", ""}, {STORE_NEWEST, ""}, {STORE_NEWEST, "0"}};
        const char *const *beginning;
        struct store_list l;
        json_t *list = NULL;
        struct page p = {0};
        char *cursor;

        if (size == 0)
                return 0;
        beginning = beginnings[data[0] / 26 % 4];
        cursor = strndup((const char *)data + 1, size - 1);
        p.after = cursor;
        if (store_list_begin(&l, (char)('a' + data[0] % 26), to_json, &p, beginning[0], beginning[1], NULL) ==
                0) {
                if (str_is_empty(l.after[0]) || str_is_empty(l.after[1]) ||
                        (str_equal(beginning[0], STORE_NEWEST) && store_list_number(&l, 0) < 0))
                        abort();
                store_list_end(&l, 0, &list);
                json_decref(list);
        }
        free(cursor);
        return 0;
}
