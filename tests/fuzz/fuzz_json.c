/* JSON from outside: what is taken is an object, and its text is taken again. */
#include "fuzz.h"

#include "base/json.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BYTES ((size_t)1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        json_t *first = NULL, *second = NULL;
        struct error e = {0};
        char *text;

        if (json_parse((const char *)data, size, MAX_BYTES, "input", &first, &e) < 0) {
                if (first || !e.number || !e.text[0])
                        abort();
                return 0;
        }
        text = json_to_text(first);
        if (json_parse(text, strlen(text), 8 * MAX_BYTES, "text", &second, &e) < 0 ||
                !json_equal(first, second))
                abort();
        free(text);
        json_decref(first);
        json_decref(second);
        return 0;
}
