/* Strings: lists of them, a growing buffer, and making outside bytes safe to show. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A list of owned strings. {0} is empty. */
struct strv {
        char **items;
        size_t count;
};
void strv_done(struct strv *v);
void strv_add(struct strv *v, const char *s);        /* copies */
void strv_add_unique(struct strv *v, const char *s); /* copies unless it is there */
void strv_take(struct strv *v, char *s);             /* takes ownership */
bool strv_contains(const struct strv *v, const char *s);
void strv_copy(struct strv *ret, const struct strv *from);    /* ret must be empty */
char *strv_join(const struct strv *v, const char *separator); /* caller frees; "" for an empty list */
/* Splits at `separator`, trims blanks, drops empty items; ret must be empty. */
void strv_split(struct strv *ret, const char *s, char separator);

/* A growing text. {0} is empty; text_string() never gives NULL. */
struct text {
        char *data;
        size_t length;
        size_t allocated;
};
void text_done(struct text *t);
void text_add(struct text *t, const char *s);
void text_addf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *text_string(const struct text *t);
char *text_take(struct text *t); /* the string, owned by the caller; t is empty again */

bool str_equal(const char *a, const char *b); /* NULL equals only NULL */
bool str_is_empty(const char *s);             /* NULL or "" */
bool str_starts_with(const char *s, const char *prefix);
bool str_ends_with(const char *s, const char *suffix);
/* Copies with truncation, always terminated. */
void str_copy(char *ret, size_t size_bytes, const char *s);
/* Decimal number in [minimum, maximum], the whole string; 0 or -EINVAL / -ERANGE. */
int str_to_ulong(const char *s, unsigned long minimum, unsigned long maximum, unsigned long *ret);
/* Bytes from outside as text that is safe on a terminal: controls, escapes, marks that reorder the line and
 * invalid UTF-8 as \xNN, other UTF-8 as it is; at most `maximum` input bytes. Caller frees. */
char *str_printable(const void *bytes, size_t length, size_t maximum);
/* The same for a beginning that is to be shown: the result itself, escapes and all, has at most `maximum`
 * bytes. */
char *str_excerpt(const void *bytes, size_t length, size_t maximum);
/* A host name by RFC 1123 (letters, digits, hyphens, dots; a trailing dot is allowed; <= 253 bytes; the
 * last label is not a number, so that no spelling of an address passes). */
bool str_is_host_name(const char *s);
/* A network interface's name: the kernel's rule (dev_valid_name), and nothing that could disturb a terminal.
 */
bool str_is_interface_name(const char *s);
/* The value of a hexadecimal digit, either case; -1 for any other character. */
int hex_digit(char c);
/* Two lower-case digits a byte; ret holds 2 * length + 1. */
void hex_format(const void *bytes, size_t length, char *ret);
/* "2026-11-21T03:00:00.000Z" from milliseconds since the epoch; ret holds 32 bytes. */
void time_format_utc(int64_t unix_ms, char ret[32]);
/* The reverse; 0 or -EINVAL. */
int time_parse_utc(const char *s, int64_t *ret_unix_ms);
/* "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110, 5.6.7) from seconds since the epoch; "" for what has no such
 * date. */
void time_format_http(int64_t unix_s, char ret[32]);
