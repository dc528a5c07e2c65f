#include "base/alloc.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *need(void *p)
{
        static const char message[] = "gridnode: out of memory\n";

        if (p)
                return p;
        /* write(2) and not stdio: stdio may want to allocate its buffer. */
        if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0)
                abort();
        abort();
}

void *xmalloc(size_t size_bytes)
{
        return need(malloc(size_bytes ? size_bytes : 1));
}

void *xcalloc(size_t count, size_t size_bytes)
{
        if (count == 0 || size_bytes == 0)
                count = size_bytes = 1;
        return need(calloc(count, size_bytes));
}

void *xrealloc_array(void *p, size_t count, size_t size_bytes)
{
        /* A size of zero would free p, and callers could not tell that from a failure. */
        if (count == 0 || size_bytes == 0)
                count = size_bytes = 1;
        return need(reallocarray(p, count, size_bytes));
}

char *xstrdup(const char *s)
{
        return s ? need(strdup(s)) : NULL;
}

char *xstrndup(const char *s, size_t length)
{
        return s ? need(strndup(s, length)) : NULL;
}

char *xvasprintf(const char *format, va_list arguments)
{
        char *s = NULL;

        if (vasprintf(&s, format, arguments) < 0)
                s = NULL;
        return need(s);
}

char *xasprintf(const char *format, ...)
{
        va_list arguments;
        char *s;

        va_start(arguments, format);
        s = xvasprintf(format, arguments);
        va_end(arguments);
        return s;
}
