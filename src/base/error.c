#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void store_text(struct error *e, const char *text)
{
        size_t length = strlen(text);

        if (length >= sizeof(e->text))
                length = sizeof(e->text) - 1;
        while (length > 0 && text[length - 1] == '\n')
                length--;
        memcpy(e->text, text, length);
        e->text[length] = '\0';
}

int error_set(struct error *ret, int number, const char *code, const char *format, ...)
{
        char text[sizeof(ret->text)];
        va_list arguments;

        if (!ret)
                return -number;
        /* By way of a second buffer: the arguments may point into the text that is being replaced. */
        va_start(arguments, format);
        vsnprintf(text, sizeof(text), format, arguments);
        va_end(arguments);
        ret->number = number;
        ret->code = code;
        store_text(ret, text);
        return -number;
}

int error_prefix(struct error *e, const char *format, ...)
{
        char prefix[sizeof(e->text)], text[2 * sizeof(e->text) + 2];
        va_list arguments;

        if (!e)
                return -EINVAL;
        va_start(arguments, format);
        vsnprintf(prefix, sizeof(prefix), format, arguments);
        va_end(arguments);
        snprintf(text, sizeof(text), "%s: %s", prefix, e->text);
        store_text(e, text);
        return -e->number;
}
