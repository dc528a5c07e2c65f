#include "base/text.h"

#include "base/alloc.h"

#include <errno.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- lists ---- */

void strv_done(struct strv *v)
{
        for (size_t i = 0; i < v->count; i++)
                free(v->items[i]);
        free(v->items);
        *v = (struct strv){0};
}

void strv_take(struct strv *v, char *s)
{
        /* Grows at powers of two, so that the struct needs no third member. */
        if ((v->count & (v->count - 1)) == 0)
                v->items = xrealloc_array(v->items, v->count ? v->count * 2 : 1, sizeof(*v->items));
        v->items[v->count++] = s;
}

void strv_add(struct strv *v, const char *s)
{
        strv_take(v, xstrdup(s));
}

bool strv_contains(const struct strv *v, const char *s)
{
        for (size_t i = 0; i < v->count; i++)
                if (str_equal(v->items[i], s))
                        return true;
        return false;
}

void strv_add_unique(struct strv *v, const char *s)
{
        if (!strv_contains(v, s))
                strv_add(v, s);
}

void strv_copy(struct strv *ret, const struct strv *from)
{
        for (size_t i = 0; i < from->count; i++)
                strv_add(ret, from->items[i]);
}

char *strv_join(const struct strv *v, const char *separator)
{
        struct text t = {0};

        for (size_t i = 0; i < v->count; i++) {
                if (i > 0)
                        text_add(&t, separator);
                text_add(&t, v->items[i]);
        }
        return text_take(&t);
}

static bool is_blank(char c)
{
        return c == ' ' || c == '\t';
}

void strv_split(struct strv *ret, const char *s, char separator)
{
        if (!s)
                return;
        for (;;) {
                const char *stop = strchr(s, separator);
                const char *end = stop ? stop : s + strlen(s);

                while (s < end && is_blank(*s))
                        s++;
                const char *last = end;
                while (last > s && is_blank(last[-1]))
                        last--;
                if (last > s)
                        strv_take(ret, xstrndup(s, (size_t)(last - s)));
                if (!stop || !*stop)
                        return;
                s = stop + 1;
        }
}

/* ---- a growing text ---- */

void text_done(struct text *t)
{
        free(t->data);
        *t = (struct text){0};
}

static void text_reserve(struct text *t, size_t more)
{
        size_t needed = t->length + more + 1;

        if (needed <= t->allocated)
                return;
        t->allocated = needed > 2 * t->allocated ? needed : 2 * t->allocated;
        t->data = xrealloc_array(t->data, t->allocated, 1);
}

void text_add(struct text *t, const char *s)
{
        size_t length = s ? strlen(s) : 0;

        if (length == 0)
                return;
        text_reserve(t, length);
        memcpy(t->data + t->length, s, length + 1);
        t->length += length;
}

void text_addf(struct text *t, const char *format, ...)
{
        va_list arguments, again;
        int length;

        va_start(arguments, format);
        va_copy(again, arguments);
        length = vsnprintf(NULL, 0, format, arguments);
        if (length > 0) {
                text_reserve(t, (size_t)length);
                vsnprintf(t->data + t->length, (size_t)length + 1, format, again);
                t->length += (size_t)length;
        }
        va_end(again);
        va_end(arguments);
}

const char *text_string(const struct text *t)
{
        return t->data ? t->data : "";
}

char *text_take(struct text *t)
{
        char *s = t->data ? t->data : xstrdup("");

        *t = (struct text){0};
        return s;
}

/* ---- strings ---- */

bool str_equal(const char *a, const char *b)
{
        return a && b ? strcmp(a, b) == 0 : a == b;
}

bool str_is_empty(const char *s)
{
        return !s || !*s;
}

bool str_starts_with(const char *s, const char *prefix)
{
        return s && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends_with(const char *s, const char *suffix)
{
        size_t length = s ? strlen(s) : 0, wanted = strlen(suffix);

        return s && length >= wanted && strcmp(s + length - wanted, suffix) == 0;
}

void str_copy(char *ret, size_t size_bytes, const char *s)
{
        size_t length;

        if (size_bytes == 0)
                return;
        length = s ? strnlen(s, size_bytes - 1) : 0;
        /* Source and destination may be the same member. */
        memmove(ret, s ? s : "", length);
        ret[length] = '\0';
}

int str_to_ulong(const char *s, unsigned long minimum, unsigned long maximum, unsigned long *ret)
{
        unsigned long value = 0;

        if (str_is_empty(s))
                return -EINVAL;
        /* strtoul() takes blanks and signs. */
        for (const char *c = s; *c; c++)
                if (*c < '0' || *c > '9')
                        return -EINVAL;
        for (const char *c = s; *c; c++)
                if (__builtin_mul_overflow(value, 10UL, &value) ||
                        __builtin_add_overflow(value, (unsigned long)(*c - '0'), &value))
                        return -ERANGE;
        if (value < minimum || value > maximum)
                return -ERANGE;
        *ret = value;
        return 0;
}

/* ---- bytes from outside ---- */

/* The length of the UTF-8 sequence (RFC 3629) at `s` and its code point; 0 when it is invalid or incomplete.
 */
static size_t utf8_decode(const uint8_t *s, size_t length, uint32_t *ret)
{
        static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
        size_t n = s[0] < 0x80 ? 1 : (s[0] & 0xe0) == 0xc0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : 4;
        uint32_t c;

        if (n == 1) {
                *ret = s[0];
                return 1;
        }
        if ((n == 4 && (s[0] & 0xf8) != 0xf0) || length < n)
                return 0;
        c = s[0] & (0x7fU >> n);
        for (size_t i = 1; i < n; i++) {
                if ((s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (s[i] & 0x3fU);
        }
        if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return n;
}

/* Controls, and the marks that reorder or break the line that they are shown in. */
static bool is_unsafe(uint32_t c)
{
        return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
               (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

char *str_printable(const void *bytes, size_t length, size_t maximum)
{
        const uint8_t *s = bytes;
        size_t end = length < maximum ? length : maximum;
        struct text t = {0};

        for (size_t i = 0; i < end;) {
                uint32_t c = 0;
                size_t n = utf8_decode(s + i, length - i, &c);

                /* A character that the limit cuts in two is left out, not called invalid. */
                if (n > end - i)
                        break;
                if (n > 0 && !is_unsafe(c)) {
                        text_addf(&t, "%.*s", (int)n, (const char *)s + i);
                        i += n;
                        continue;
                }
                for (size_t last = i + (n ? n : 1); i < last; i++)
                        text_addf(&t, "\\x%02x", s[i]);
        }
        return text_take(&t);
}

char *str_excerpt(const void *bytes, size_t length, size_t maximum)
{
        char *s = str_printable(bytes, length, maximum);

        /* An escape takes four bytes, so at most three quarters of the input are too much. */
        while (strlen(s) > maximum) {
                size_t over = strlen(s) - maximum;

                length = length < maximum ? length : maximum;
                length -= over / 4 + 1;
                free(s);
                s = str_printable(bytes, length, maximum);
        }
        return s;
}

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

static bool is_letter_or_digit(char c)
{
        return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

bool str_is_host_name(const char *s)
{
        size_t length = s ? strlen(s) : 0, label = 0;
        bool numeric = true;

        if (length > 0 && s[length - 1] == '.')
                length--;
        if (length == 0 || length > 253)
                return false;
        for (size_t i = 0; i < length; i++) {
                if (s[i] == '.') {
                        if (label == 0 || s[i - 1] == '-')
                                return false;
                        label = 0;
                        numeric = true;
                        continue;
                }
                if (!is_letter_or_digit(s[i]) && (s[i] != '-' || label == 0))
                        return false;
                numeric = numeric && is_digit(s[i]);
                if (++label > 63)
                        return false;
        }
        /* A last label of digits only is an address in some spelling (RFC 1123, 2.1). */
        return label > 0 && s[length - 1] != '-' && !numeric;
}

bool str_is_interface_name(const char *s)
{
        size_t length = strlen(s);

        if (length == 0 || length >= IF_NAMESIZE || str_equal(s, ".") || str_equal(s, ".."))
                return false;
        for (size_t i = 0; i < length; i++)
                if (s[i] <= ' ' || s[i] > '~' || s[i] == '/' || s[i] == ':')
                        return false;
        return true;
}

/* ---- hexadecimal ---- */

int hex_digit(char c)
{
        if (is_digit(c))
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void hex_format(const void *bytes, size_t length, char *ret)
{
        const unsigned char *b = bytes;

        for (size_t i = 0; i < length; i++)
                snprintf(ret + 2 * i, 3, "%02x", b[i]);
        ret[2 * length] = '\0';
}

/* ---- times ---- */

void time_format_utc(int64_t unix_ms, char ret[32])
{
        const int64_t first = -62167219200000, last = 253402300799999; /* the years 0000 and 9999 */
        int64_t ms = unix_ms < first ? first : unix_ms > last ? last : unix_ms;
        int64_t milliseconds = ((ms % 1000) + 1000) % 1000;
        time_t seconds = (time_t)((ms - milliseconds) / 1000);
        struct tm tm;
        size_t length;

        gmtime_r(&seconds, &tm);
        length = (size_t)snprintf(ret, 32, "%04u", (unsigned)(tm.tm_year + 1900) % 10000);
        length += strftime(ret + length, 32 - length, "-%m-%dT%H:%M:%S", &tm);
        snprintf(ret + length, 32 - length, ".%03uZ", (unsigned)milliseconds % 1000);
}

/* Reads `digits` digits and the character after them. */
static int parse_part(const char **s, int digits, char after, int *ret)
{
        int value = 0;

        for (int i = 0; i < digits; i++, (*s)++) {
                if (!is_digit(**s))
                        return -EINVAL;
                value = value * 10 + (**s - '0');
        }
        if (**s != after)
                return -EINVAL;
        (*s)++;
        *ret = value;
        return 0;
}

void time_format_http(int64_t unix_s, char ret[32])
{
        static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char *const months[] = {
                "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        const int64_t last = 253402300799; /* of the year 9999 */
        time_t when = (time_t)unix_s;
        struct tm tm;

        ret[0] = '\0';
        if (unix_s < 0 || unix_s > last || !gmtime_r(&when, &tm))
                return;
        snprintf(ret, 32, "%s, %02u %s %04u %02u:%02u:%02u GMT", days[tm.tm_wday % 7],
                (unsigned)tm.tm_mday % 100, months[tm.tm_mon % 12], (unsigned)(tm.tm_year + 1900) % 10000,
                (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

int time_parse_utc(const char *s, int64_t *ret_unix_ms)
{
        struct tm tm = {0}, back;
        int milliseconds = 0;
        time_t seconds;

        if (!s || parse_part(&s, 4, '-', &tm.tm_year) < 0 || parse_part(&s, 2, '-', &tm.tm_mon) < 0 ||
                parse_part(&s, 2, 'T', &tm.tm_mday) < 0 || parse_part(&s, 2, ':', &tm.tm_hour) < 0 ||
                parse_part(&s, 2, ':', &tm.tm_min) < 0)
                return -EINVAL;
        if (strlen(s) > 2 && s[2] == '.') {
                if (parse_part(&s, 2, '.', &tm.tm_sec) < 0 || parse_part(&s, 3, 'Z', &milliseconds) < 0)
                        return -EINVAL;
        } else if (parse_part(&s, 2, 'Z', &tm.tm_sec) < 0) {
                return -EINVAL;
        }
        if (*s)
                return -EINVAL;
        tm.tm_year -= 1900;
        tm.tm_mon -= 1;
        back = tm;
        seconds = timegm(&back);
        /* timegm() carries 31 November over into December; such a date is wrong here. */
        if (back.tm_year != tm.tm_year || back.tm_mon != tm.tm_mon || back.tm_mday != tm.tm_mday ||
                back.tm_hour != tm.tm_hour || back.tm_min != tm.tm_min || back.tm_sec != tm.tm_sec)
                return -EINVAL;
        *ret_unix_ms = (int64_t)seconds * 1000 + milliseconds;
        return 0;
}
