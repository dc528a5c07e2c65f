#include "diagnose/interceptors.h"

#include <fnmatch.h>
#include <stddef.h>
#include <string.h>

struct interceptor {
        const char *pattern; /* a part of the name; with * or ? a glob over the whole of it */
        const char *name;
};

static const struct interceptor interceptors[] = {
#include "interceptors_table.h"
};

/* Rows are tried in the order of the file: narrower patterns stand first. */
const char *interceptor_name(const char *name)
{
        if (!name)
                return NULL;
        for (size_t i = 0; i < sizeof interceptors / sizeof interceptors[0]; i++) {
                const char *pattern = interceptors[i].pattern;

                if (strpbrk(pattern, "*?") ? fnmatch(pattern, name, FNM_CASEFOLD) == 0
                                           : strcasestr(name, pattern) != NULL)
                        return interceptors[i].name;
        }
        return NULL;
}
