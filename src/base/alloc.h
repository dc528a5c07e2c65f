/* Allocation that does not fail: memory that cannot be had ends the program with a message (abort), since
 * every size that depends on outside data is bounded by its parser before it is asked for. */
#pragma once

#include <stdarg.h>
#include <stddef.h>

void *xmalloc(size_t size_bytes) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size_bytes) __attribute__((malloc, returns_nonnull));
void *xrealloc_array(void *p, size_t count, size_t size_bytes) __attribute__((returns_nonnull));
/* NULL gives NULL. */
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t length);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2), returns_nonnull));
char *xvasprintf(const char *format, va_list arguments)
        __attribute__((format(printf, 1, 0), returns_nonnull));
