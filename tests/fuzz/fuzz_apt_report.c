/* A report of `gridnode diag --json`, of which the method tells apt a sentence. */
#include "fuzz.h"

#include "apt/cause.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        char *text = cause_of_report((const char *)data, size, "repo");

        if (text && strpbrk(text, "\n\x1b"))
                abort();
        free(text);
        return 0;
}
