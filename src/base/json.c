#include "base/json.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_DEPTH        32
#define NAME_SHOWN_BYTES 64

/* ---- parsing ---- */

/* Before jansson builds anything: it goes 2048 deep by recursion. */
static bool is_too_deep(const char *data, size_t length)
{
        bool in_text = false;
        int depth = 0;

        for (size_t i = 0; i < length; i++) {
                if (in_text && data[i] == '\\')
                        i++;
                else if (data[i] == '"')
                        in_text = !in_text;
                else if (!in_text && (data[i] == '{' || data[i] == '['))
                        depth++;
                else if (!in_text && (data[i] == '}' || data[i] == ']'))
                        depth--;
                if (depth > MAX_DEPTH)
                        return true;
        }
        return false;
}

int json_parse(const char *data, size_t length, size_t maximum_bytes, const char *where, json_t **ret,
        struct error *ret_error)
{
        json_error_t e = {0};
        json_t *value;

        if (length > maximum_bytes)
                return error_set(ret_error, EFBIG, "json.too-large",
                        "%s: %zu bytes, more than the %zu allowed", where, length, maximum_bytes);
        if (is_too_deep(data, length))
                return error_set(ret_error, EBADMSG, "json.malformed", "%s: nested more than %d deep", where,
                        MAX_DEPTH);
        value = json_loadb(data, length, JSON_REJECT_DUPLICATES, &e);
        if (!value) {
                _cleanup_free_ char *why = str_printable(e.text, strlen(e.text), sizeof e.text);

                return error_set(ret_error, EBADMSG, "json.malformed", "%s: no JSON (line %d, column %d): %s",
                        where, e.line, e.column, why);
        }
        if (!json_is_object(value)) {
                json_decref(value);
                return error_set(ret_error, EBADMSG, "json.malformed", "%s: no JSON object", where);
        }
        *ret = value;
        return 0;
}

/* ---- reading ---- */

void json_reader_init(struct json_reader *r, json_t *object, const char *where, struct error *ret_error)
{
        *r = (struct json_reader){.object = object, .where = where, .error = ret_error};
        if (!json_is_object(object))
                r->result = error_set(ret_error, EBADMSG, "json.member", "%s is not an object", where);
}

void json_reader_fail(struct json_reader *r, const char *name, const char *format, ...)
{
        _cleanup_free_ char *reason = NULL, *shown = NULL;
        va_list arguments;

        if (r->result < 0)
                return;
        va_start(arguments, format);
        reason = xvasprintf(format, arguments);
        va_end(arguments);
        shown = str_excerpt(name, strlen(name), NAME_SHOWN_BYTES);
        r->result =
                error_set(r->error, EBADMSG, "json.member", "%s: member '%s' %s", r->where, shown, reason);
}

static bool was_taken(const struct json_reader *r, const char *name)
{
        for (size_t i = 0; i < r->taken; i++)
                if (str_equal(r->names[i], name))
                        return true;
        return false;
}

/* The member, noted as read; NULL when it is missing or null, or something failed before. */
static json_t *take(struct json_reader *r, const char *name, bool required)
{
        json_t *value = r->result < 0 ? NULL : json_object_get(r->object, name);

        if (value && r->taken < ELEMENTS(r->names) && !was_taken(r, name))
                r->names[r->taken++] = name;
        if (json_is_null(value))
                value = NULL;
        if (!value && required)
                json_reader_fail(r, name, "is missing");
        return value;
}

static const char *text_of(struct json_reader *r, const char *name, json_t *value, size_t maximum_bytes)
{
        const char *s;

        if (!value)
                return NULL;
        s = json_string_value(value);
        if (!s)
                json_reader_fail(r, name, "is not a text");
        else if (json_string_length(value) > maximum_bytes)
                json_reader_fail(r, name, "is longer than %zu bytes", maximum_bytes);
        else if (strlen(s) != json_string_length(value))
                json_reader_fail(r, name, "has a NUL in it");
        else
                return s;
        return NULL;
}

const char *json_take_text(struct json_reader *r, const char *name, size_t maximum_bytes)
{
        return text_of(r, name, take(r, name, true), maximum_bytes);
}

const char *json_take_optional_text(struct json_reader *r, const char *name, size_t maximum_bytes)
{
        return text_of(r, name, take(r, name, false), maximum_bytes);
}

static int64_t integer_of(struct json_reader *r, const char *name, json_t *value, int64_t minimum,
        int64_t maximum, int64_t otherwise)
{
        int64_t i = json_integer_value(value);

        if (!value)
                return otherwise;
        if (!json_is_integer(value))
                json_reader_fail(r, name, "is not an integer");
        else if (i < minimum || i > maximum)
                json_reader_fail(r, name, "is %lld, not between %lld and %lld", (long long)i,
                        (long long)minimum, (long long)maximum);
        else
                return i;
        return otherwise;
}

int64_t json_take_integer(struct json_reader *r, const char *name, int64_t minimum, int64_t maximum)
{
        return integer_of(r, name, take(r, name, true), minimum, maximum, 0);
}

int64_t json_take_optional_integer(
        struct json_reader *r, const char *name, int64_t minimum, int64_t maximum, int64_t otherwise)
{
        return integer_of(r, name, take(r, name, false), minimum, maximum, otherwise);
}

double json_take_optional_number(
        struct json_reader *r, const char *name, double minimum, double maximum, double otherwise)
{
        json_t *value = take(r, name, false);
        double d = json_number_value(value);

        if (!value)
                return otherwise;
        if (!json_is_number(value))
                json_reader_fail(r, name, "is not a number");
        else if (!isfinite(d) || d < minimum || d > maximum)
                json_reader_fail(r, name, "is %g, not between %g and %g", d, minimum, maximum);
        else
                return d;
        return otherwise;
}

bool json_take_optional_boolean(struct json_reader *r, const char *name, bool otherwise)
{
        json_t *value = take(r, name, false);

        if (value && !json_is_boolean(value))
                json_reader_fail(r, name, "is not true or false");
        return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

int64_t json_take_time(struct json_reader *r, const char *name)
{
        const char *s = json_take_text(r, name, 32);
        int64_t unix_ms = 0;

        if (s && time_parse_utc(s, &unix_ms) < 0)
                json_reader_fail(r, name, "is not a time such as 2026-11-21T03:00:00.000Z");
        return unix_ms;
}

static json_t *object_of(struct json_reader *r, const char *name, json_t *value)
{
        if (value && !json_is_object(value))
                json_reader_fail(r, name, "is not an object");
        return json_is_object(value) ? value : NULL;
}

json_t *json_take_object(struct json_reader *r, const char *name)
{
        return object_of(r, name, take(r, name, true));
}

json_t *json_take_optional_object(struct json_reader *r, const char *name)
{
        return object_of(r, name, take(r, name, false));
}

static json_t *array_of(struct json_reader *r, const char *name, json_t *value, size_t maximum_items)
{
        if (!value)
                return NULL;
        if (!json_is_array(value))
                json_reader_fail(r, name, "is not an array");
        else if (json_array_size(value) > maximum_items)
                json_reader_fail(
                        r, name, "has %zu items, more than %zu", json_array_size(value), maximum_items);
        else
                return value;
        return NULL;
}

json_t *json_take_array(struct json_reader *r, const char *name, size_t maximum_items)
{
        return array_of(r, name, take(r, name, true), maximum_items);
}

json_t *json_take_optional_array(struct json_reader *r, const char *name, size_t maximum_items)
{
        return array_of(r, name, take(r, name, false), maximum_items);
}

int json_reader_done(struct json_reader *r, bool strict)
{
        const char *name;
        json_t *value;

        if (r->result == 0 && strict)
                json_object_foreach(r->object, name, value) if (!was_taken(r, name))
                        json_reader_fail(r, name, "is not known here");
        return r->result;
}

/* ---- writing ---- */

char *json_to_text(const json_t *value)
{
        char *s = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);

        return s ? s : xstrdup("null");
}

json_t *json_time(int64_t unix_ms)
{
        char text[32];

        time_format_utc(unix_ms, text);
        return json_string(text);
}
