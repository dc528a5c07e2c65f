#include "update/release_text.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <string.h>

static void take(const char *value, size_t length, char *ret, size_t size)
{
        while (length > 0 && (*value == ' ' || *value == '\t')) {
                value++;
                length--;
        }
        while (length > 0 && (value[length - 1] == '\r' || value[length - 1] == ' '))
                length--;
        if (length >= size)
                return;
        for (size_t i = 0; i < length; i++)
                ret[i] = value[i] < ' ' || value[i] > '~' ? '?' : value[i];
        ret[length] = '\0';
}

void release_text_parse(const char *data, size_t length, struct release_text *ret)
{
        struct release_text r = {0};
        const struct {
                const char *name;
                char *value;
                size_t size;
        } fields[] = {{"Origin:", r.origin, sizeof r.origin}, {"Label:", r.label, sizeof r.label},
                {"Codename:", r.codename, sizeof r.codename}};
        const char *end = data + length;

        while (data < end) {
                const char *newline = memchr(data, '\n', (size_t)(end - data));
                size_t line = (size_t)((newline ? newline : end) - data);

                for (size_t i = 0; i < ELEMENTS(fields); i++) {
                        size_t name = strlen(fields[i].name);

                        if (line >= name && memcmp(data, fields[i].name, name) == 0 && !fields[i].value[0])
                                take(data + name, line - name, fields[i].value, fields[i].size);
                }
                data += line + 1;
        }
        *ret = r;
}

bool release_is_security(const struct release_text *r)
{
        return str_equal(r->origin, "Debian") && str_equal(r->label, "Debian-Security");
}
