#include "net/http_answer.h"

#include "base/text.h"

#include <ctype.h>
#include <curl/curl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void forget(char **value)
{
        free(*value);
        *value = NULL;
}

void http_answer_done(struct http_answer *a)
{
        forget(&a->location);
        forget(&a->server);
        forget(&a->via);
        forget(&a->proxy_authenticate);
        forget(&a->content_type);
        *a = (struct http_answer){0};
}

/* "HTTP/1.1 403 Forbidden" (RFC 9112, 4): the version's own digits are of no interest here. */
static bool parse_status(const char *line, size_t length, int *ret)
{
        const char *space = memchr(line, ' ', length);
        const char *digits = space ? space + 1 : NULL;

        if (length < 5 || memcmp(line, "HTTP/", 5) != 0 || !digits || (size_t)(line + length - digits) < 3)
                return false;
        for (int i = 0; i < 3; i++)
                if (!isdigit((unsigned char)digits[i]))
                        return false;
        if ((size_t)(line + length - digits) > 3 && digits[3] != ' ')
                return false;
        if (digits[0] < '1' || digits[0] > '5')
                return false;
        *ret = (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
        return true;
}

static void add_header(struct http_answer *a, const char *name, size_t name_length, char *value /* taken */)
{
        const struct {
                const char *name;
                char **value;
        } kept[] = {{"location", &a->location}, {"server", &a->server}, {"via", &a->via},
                {"proxy-authenticate", &a->proxy_authenticate}, {"content-type", &a->content_type}};

        for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
                if (strlen(kept[i].name) != name_length ||
                        strncasecmp(kept[i].name, name, name_length) != 0 || *kept[i].value)
                        continue;
                *kept[i].value = value;
                return;
        }
        if (name_length == 4 && strncasecmp(name, "date", 4) == 0 && a->date_unix == 0) {
                time_t date = curl_getdate(value, NULL);

                a->date_unix = date > 0 ? (int64_t)date : 0;
        }
        free(value);
}

void http_answer_add_line(struct http_answer *a, const char *line, size_t length)
{
        const char *colon, *value;
        int status;

        while (length > 0 && (line[length - 1] == '\n' || line[length - 1] == '\r' ||
                                     line[length - 1] == ' ' || line[length - 1] == '\t'))
                length--;
        if (length == 0)
                return;
        if (parse_status(line, length, &status)) {
                char *proxy_authenticate = a->proxy_authenticate;

                a->proxy_authenticate = NULL;
                http_answer_done(a);
                a->proxy_authenticate = proxy_authenticate;
                a->status = status;
                return;
        }
        colon = memchr(line, ':', length);
        if (!colon)
                return;
        for (value = colon + 1; value < line + length && (*value == ' ' || *value == '\t');)
                value++;
        add_header(a, line, (size_t)(colon - line),
                str_printable(value, (size_t)(line + length - value), HTTP_ANSWER_VALUE_MAX));
}

bool http_answer_is_problem(const struct http_answer *a)
{
        static const char type[] = "application/problem+json";
        size_t length = sizeof(type) - 1;

        if (!a->content_type || strncasecmp(a->content_type, type, length) != 0)
                return false;
        return a->content_type[length] == '\0' || a->content_type[length] == ';' ||
               a->content_type[length] == ' ';
}

char *http_answer_problem_type(const char *body, size_t length)
{
        json_t *document, *type;
        char *text = NULL;

        if (length > HTTP_ANSWER_PROBLEM_MAX)
                return NULL;
        document = json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL);
        type = json_object_get(document, "type");
        if (json_is_string(type))
                text = str_printable(
                        json_string_value(type), json_string_length(type), HTTP_ANSWER_VALUE_MAX);
        json_decref(document);
        return text;
}
