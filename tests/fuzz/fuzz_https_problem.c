/* The body of an answer that says what went wrong: any bytes, in a sentence and a code that last. */
#include "fuzz.h"

#include "net/https.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static const char code_bytes[] = "abcdefghijklmnopqrstuvwxyz.-";
        struct https_request request = {.host = "repo.grid.example"};
        struct https_answer answer = {.status = 409, .length = size};
        struct error e = {0};

        answer.content_type = xstrdup("application/problem+json");
        answer.body = xmalloc(size + 1);
        memcpy(answer.body, data, size);
        answer.body[size] = '\0';
        if (https_problem(&request, &answer, &e) >= 0 ||
                (strcmp(e.code, "http.409") != 0 && strspn(e.code, code_bytes) != strlen(e.code)))
                abort();
        for (const char *c = e.text; *c; c++)
                if ((unsigned char)*c < ' ' || *c == 0x7f)
                        abort();
        https_answer_done(&answer);
        return 0;
}
