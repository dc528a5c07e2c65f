/* An HTTP answer: lines up to an empty one are its head, the rest is a problem document. */
#include "fuzz.h"

#include "net/http_answer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct http_answer a = {0};
        const char *at = (const char *)data, *end = at + size;
        char *type;

        while (at < end) {
                const char *newline = memchr(at, '\n', (size_t)(end - at));
                size_t length = newline ? (size_t)(newline + 1 - at) : (size_t)(end - at);

                http_answer_add_line(&a, at, length);
                at += length;
                if (length <= 2)
                        break;
        }
        http_answer_is_problem(&a);
        type = http_answer_problem_type(at, (size_t)(end - at));
        if ((a.location && strlen(a.location) > 4 * HTTP_ANSWER_VALUE_MAX) || a.status < 0 ||
                a.status > 599 || a.date_unix < 0)
                abort();
        free(type);
        http_answer_done(&a);
        return 0;
}
