#include "plane/api_uri.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static bool is_utf8(const char *s, size_t length)
{
        json_auto_t *text = json_stringn(s, length);

        return text != NULL;
}

/* Decodes `length` bytes; NULL when an escape is none or the result is not to be shown. */
static char *decode(const char *s, size_t length, bool plus_is_blank, bool may_have_lines)
{
        _cleanup_free_ char *text = xmalloc(length + 1);
        size_t n = 0;

        for (size_t i = 0; i < length; i++) {
                char c = s[i];

                if (c == '%') {
                        int high = length - i > 2 ? hex_digit(s[i + 1]) : -1;
                        int low = length - i > 2 ? hex_digit(s[i + 2]) : -1;

                        if (high < 0 || low < 0)
                                return NULL;
                        c = (char)(high << 4 | low);
                        i += 2;
                } else if (c == '+' && plus_is_blank)
                        c = ' ';
                if (((unsigned char)c < 0x20 && !(may_have_lines && (c == '\n' || c == '\r'))) || c == 0x7f)
                        return NULL;
                text[n++] = c;
        }
        text[n] = '\0';
        return is_utf8(text, n) ? TAKE_PTR(text) : NULL;
}

char *uri_decode_text(const char *s, size_t maximum_bytes)
{
        size_t length = strnlen(s, maximum_bytes + 1);

        return length > maximum_bytes ? NULL : decode(s, length, false, true);
}

static int parse_path(const char *path, size_t length, struct uri *ret, struct error *e)
{
        for (size_t at = 1; at < length;) {
                const char *end = memchr(path + at, '/', length - at);
                size_t size = end ? (size_t)(end - path) - at : length - at;
                char *segment = decode(path + at, size, false, false);

                if (!segment || !*segment || strchr(segment, '/') || str_equal(segment, ".") ||
                        str_equal(segment, "..") || (end && (size_t)(end - path) + 1 == length) ||
                        ret->segments.count == URI_MAXIMUM_SEGMENTS) {
                        free(segment);
                        return error_set(e, EINVAL, "uri.malformed",
                                "the path is none of this server's: segment %zu is empty, a dot, not UTF-8, "
                                "or one "
                                "too many",
                                ret->segments.count + 1);
                }
                strv_take(&ret->segments, segment);
                at += size + 1;
        }
        return 0;
}

static int parse_parameter(const char *s, size_t length, struct uri *ret, struct error *e)
{
        const char *equals = memchr(s, '=', length);
        size_t name_length = equals ? (size_t)(equals - s) : length;
        char *name = decode(s, name_length, true, false);
        char *value = equals ? decode(equals + 1, length - name_length - 1, true, false) : xstrdup("");

        if (name && *name && value && !strv_contains(&ret->names, name) &&
                ret->names.count < URI_MAXIMUM_QUERY) {
                strv_take(&ret->names, name);
                strv_take(&ret->values, value);
                return 0;
        }
        free(name);
        free(value);
        return error_set(e, EINVAL, "uri.malformed",
                "parameter %zu of the query has no name, is not UTF-8, is given twice, or is one of more "
                "than %d",
                ret->names.count + 1, URI_MAXIMUM_QUERY);
}

static int parse_query(const char *s, struct uri *ret, struct error *e)
{
        while (*s) {
                size_t length = strcspn(s, "&");
                int r = length ? parse_parameter(s, length, ret, e) : 0;

                if (r < 0)
                        return r;
                s += length + (s[length] == '&');
        }
        return 0;
}

int uri_parse(const char *target, struct uri *ret, struct error *ret_error)
{
        size_t length = strnlen(target, URI_MAXIMUM + 1), path_length = strcspn(target, "?");
        struct uri u = {0};
        int r;

        if (length > URI_MAXIMUM)
                return error_set(
                        ret_error, E2BIG, "uri.long", "the target has more than %d bytes", URI_MAXIMUM);
        if (*target != '/' || strchr(target, '#'))
                return error_set(ret_error, EINVAL, "uri.malformed",
                        "the target is not a path that begins with '/', perhaps with a query");
        r = parse_path(target, path_length, &u, ret_error);
        if (r == 0 && target[path_length] == '?')
                r = parse_query(target + path_length + 1, &u, ret_error);
        if (r < 0) {
                uri_done(&u);
                return r;
        }
        *ret = u;
        return 0;
}

void uri_done(struct uri *u)
{
        strv_done(&u->segments);
        strv_done(&u->names);
        strv_done(&u->values);
}

const char *uri_query(const struct uri *u, const char *name)
{
        for (size_t i = 0; i < u->names.count; i++)
                if (str_equal(u->names.items[i], name))
                        return u->values.items[i];
        return NULL;
}
