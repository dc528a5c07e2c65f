#include "apt/protocol.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <curl/curl.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SCHEME "gridnode://"

void apt_message_done(struct apt_message *m)
{
        free(m->fields);
        free(m->text);
        *m = (struct apt_message){0};
}

const char *apt_message_field(const struct apt_message *m, const char *name)
{
        for (size_t i = 0; i < m->count; i++)
                if (strcasecmp(m->fields[i].name, name) == 0)
                        return m->fields[i].value;
        return NULL;
}

/* ---- taking ---- */

static void drop(struct text *buffer, size_t length)
{
        memmove(buffer->data, buffer->data + length, buffer->length - length + 1);
        buffer->length -= length;
}

static size_t end_of_message(const struct text *buffer)
{
        const char *end = buffer->length ? strstr(buffer->data, "\n\n") : NULL;

        return end ? (size_t)(end - buffer->data) + 2 : 0;
}

/* "601 Configuration" */
static int read_status(char *line, int *ret)
{
        unsigned long number;

        line[strcspn(line, " \r")] = '\0';
        if (strlen(line) != 3 || str_to_ulong(line, 100, 999, &number) < 0)
                return -EBADMSG;
        *ret = (int)number;
        return 0;
}

static int read_field(char *line, struct apt_field *ret)
{
        char *colon = strchr(line, ':');

        if (!colon || colon == line)
                return -EBADMSG;
        *colon = '\0';
        ret->name = line;
        ret->value = colon + 1 + strspn(colon + 1, " \t");
        return 0;
}

static int read_lines(struct apt_message *m)
{
        char *rest = m->text, *line = strsep(&rest, "\n");
        size_t room = 0;
        int r = read_status(line, &m->number);

        while (r == 0 && (line = strsep(&rest, "\n")) && *line) {
                size_t length = strlen(line);

                /* A value goes on: none of those that are needed here has more than a line. */
                if (line[0] == ' ' || line[0] == '\t')
                        continue;
                if (line[length - 1] == '\r')
                        line[length - 1] = '\0';
                if (m->count == APT_MAX_FIELDS)
                        return -EFBIG;
                if (m->count == room) {
                        room = room ? 2 * room : 32;
                        m->fields = xrealloc_array(m->fields, room, sizeof(*m->fields));
                }
                r = read_field(line, &m->fields[m->count++]);
        }
        return r;
}

int apt_message_take(struct text *buffer, struct apt_message *ret, struct error *ret_error)
{
        struct apt_message m = {0};
        size_t length, empty = buffer->length ? strspn(buffer->data, "\r\n") : 0;
        int r;

        if (empty)
                drop(buffer, empty);
        if (buffer->length && strlen(buffer->data) != buffer->length)
                return error_set(ret_error, EBADMSG, "apt.bad-message", "apt's message holds a NUL");
        length = end_of_message(buffer);
        if (!length)
                return buffer->length < APT_MESSAGE_MAXIMUM
                               ? 0
                               : error_set(ret_error, EFBIG, "apt.too-large", "apt's message has no end");
        m.text = xstrndup(buffer->data, length);
        drop(buffer, length);
        r = read_lines(&m);
        if (r < 0) {
                apt_message_done(&m);
                return error_set(ret_error, -r, "apt.bad-message", "this is no message of apt's");
        }
        *ret = m;
        return 1;
}

/* ---- 600 ---- */

static int read_number(const char *s, uint64_t *ret)
{
        unsigned long number;

        if (!s)
                return 0;
        if (str_to_ulong(s, 0, LONG_MAX, &number) < 0)
                return -EBADMSG;
        *ret = number;
        return 0;
}

static bool is_sha256(const char *s)
{
        return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

int apt_acquire_read(const struct apt_message *m, struct apt_acquire *ret, struct error *ret_error)
{
        struct apt_acquire a = {
                .uri = apt_message_field(m, "URI"), .filename = apt_message_field(m, "Filename")};
        const char *sha256 = apt_message_field(m, "Expected-SHA256"),
                   *date = apt_message_field(m, "Last-Modified");
        time_t when = date ? curl_getdate(date, NULL) : 0;

        if (!a.uri || !*a.uri || !a.filename || a.filename[0] != '/')
                return error_set(ret_error, EBADMSG, "apt.bad-message",
                        "apt asks for a file without saying which, or where to put it");
        if (read_number(apt_message_field(m, "Expected-Checksum-FileSize"), &a.size) < 0 ||
                read_number(apt_message_field(m, "Maximum-Size"), &a.maximum_bytes) < 0)
                return error_set(ret_error, EBADMSG, "apt.bad-message", "apt gives a size that is no number");
        a.sha256 = is_sha256(sha256) ? sha256 : NULL;
        a.modified_since_unix = when > 0 ? when : 0;
        a.is_index = str_equal(apt_message_field(m, "Index-File"), "true");
        *ret = a;
        return 0;
}

int apt_uri_parse(const char *uri, struct apt_uri *ret, struct error *ret_error)
{
        bool is_ours = strncasecmp(uri, SCHEME, strlen(SCHEME)) == 0, is_bad_port = false;
        const char *rest = is_ours ? uri + strlen(SCHEME) : uri, *slash = strchr(rest, '/'), *colon;
        _cleanup_free_ char *authority = NULL;
        struct apt_uri u = {0};
        unsigned long port = 0;

        authority = slash ? xstrndup(rest, (size_t)(slash - rest)) : xstrdup(rest);
        colon = strchr(authority, ':');
        if (colon) {
                is_bad_port = str_to_ulong(colon + 1, 1, 65535, &port) < 0;
                authority[colon - authority] = '\0';
        }
        if (!is_ours || !slash || is_bad_port || !str_is_host_name(authority) || strchr(slash, '#'))
                return error_set(ret_error, EINVAL, "apt.bad-uri",
                        "'%.200s' is no address of a repository; gridnode://HOST/PATH is needed", uri);
        for (const char *p = slash; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return error_set(
                                ret_error, EINVAL, "apt.bad-uri", "the address holds what no path may hold");
        str_copy(u.host, sizeof(u.host), authority);
        u.port = (uint16_t)port;
        u.path = xstrdup(slash);
        *ret = u;
        return 0;
}

/* ---- 601 ---- */

/* "Acquire::gridnode::Deadline=30", both sides with %XX. */
static char *decode(const char *s, size_t length)
{
        char *ret = xmalloc(length + 1), *to = ret;

        for (size_t i = 0; i < length; i++)
                if (s[i] == '%' && i + 2 < length && hex_digit(s[i + 1]) >= 0 && hex_digit(s[i + 2]) >= 0) {
                        *to++ = (char)(hex_digit(s[i + 1]) << 4 | hex_digit(s[i + 2]));
                        i += 2;
                } else
                        *to++ = s[i];
        *to = '\0';
        return ret;
}

char *apt_configuration_value(const struct apt_message *m, const char *name)
{
        char *ret = NULL;

        for (size_t i = 0; i < m->count; i++) {
                const char *item = m->fields[i].value, *equals = strchr(item, '=');
                _cleanup_free_ char *key = NULL;

                if (strcasecmp(m->fields[i].name, "Config-Item") != 0 || !equals)
                        continue;
                key = decode(item, (size_t)(equals - item));
                if (strcasecmp(key, name) != 0)
                        continue;
                free(ret);
                ret = decode(equals + 1, strlen(equals + 1));
        }
        return ret;
}

/* ---- writing ---- */

static void add_line(struct text *to, const char *s)
{
        for (; *s; s++) {
                char c[2] = {(unsigned char)*s < ' ' || *s == 127 ? ' ' : *s, '\0'};

                text_add(to, c);
        }
}

void apt_message_write(struct text *to, const char *status, ...)
{
        const char *name;
        va_list arguments;

        text_addf(to, "%s\n", status);
        va_start(arguments, status);
        while ((name = va_arg(arguments, const char *))) {
                const char *value = va_arg(arguments, const char *);

                if (str_is_empty(value))
                        continue;
                text_addf(to, "%s: ", name);
                add_line(to, value);
                text_add(to, "\n");
        }
        va_end(arguments);
        text_add(to, "\n");
}
