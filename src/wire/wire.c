#include "wire/wire_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <stdint.h>
#include <string.h>

/* ---- reading ---- */

int wire_read(const void *data, size_t length, size_t maximum_bytes, const char *where, json_t **ret,
        struct json_reader *ret_reader, struct error *ret_error)
{
        json_t *object = NULL;
        int r = json_parse(length ? data : "", length, maximum_bytes, where, &object, ret_error);

        if (r < 0)
                return r;
        json_reader_init(ret_reader, object, where, ret_error);
        json_take_integer(ret_reader, "schema", WIRE_SCHEMA, WIRE_SCHEMA);
        *ret = object;
        return 0;
}

char *wire_read_text(struct json_reader *r, const char *name, size_t maximum_bytes)
{
        const char *s = json_take_text(r, name, maximum_bytes);

        if (s && !*s)
                json_reader_fail(r, name, "is empty");
        return xstrdup(s);
}

void wire_read_id(struct json_reader *r, const char *name, char ret[WIRE_ID_MAXIMUM + 1])
{
        const char *s = json_take_text(r, name, WIRE_ID_MAXIMUM);

        if (s && !wire_id_is_valid(s))
                json_reader_fail(r, name, "is not an id");
        str_copy(ret, WIRE_ID_MAXIMUM + 1, s);
}

void wire_read_short(struct json_reader *r, const char *name, char *ret, size_t size_bytes)
{
        str_copy(ret, size_bytes, json_take_optional_text(r, name, size_bytes - 1));
}

void wire_read_strings(
        struct json_reader *r, const char *name, size_t maximum_items, size_t maximum_bytes, struct strv *ret)
{
        json_t *array = json_take_optional_array(r, name, maximum_items), *item;
        size_t i;

        json_array_foreach(array, i, item)
        {
                const char *s = json_string_value(item);

                if (!s || json_string_length(item) > maximum_bytes || strlen(s) != json_string_length(item)) {
                        json_reader_fail(
                                r, name, "item %zu is not a text of at most %zu bytes", i, maximum_bytes);
                        return;
                }
                strv_add(ret, s);
        }
}

/* ---- writing ---- */

json_t *wire_new(void)
{
        return json_pack("{s:i}", "schema", WIRE_SCHEMA);
}

json_t *wire_text(const char *s)
{
        json_t *value = json_string(s ? s : "");
        _cleanup_free_ char *shown = NULL;

        if (value)
                return value;
        shown = str_printable(s, strlen(s), SIZE_MAX);
        return json_string(shown);
}

json_t *wire_strings(const struct strv *v)
{
        json_t *array = json_array();

        for (size_t i = 0; i < v->count; i++)
                json_array_append_new(array, wire_text(v->items[i]));
        return array;
}

void wire_set_text(json_t *object, const char *name, const char *s)
{
        if (!str_is_empty(s))
                json_object_set_new(object, name, wire_text(s));
}
