#include "cli/arguments.h"

#include "base/text.h"

#include <stdlib.h>

int arguments_port(const struct session *s, const char *text, uint16_t *ret)
{
        unsigned long port;

        if (str_to_ulong(text, 1, 65535, &port) < 0)
                return session_usage_error(s, "PORT is 1 to 65535, not '%s'", text);
        *ret = (uint16_t)port;
        return EXIT_SUCCESS;
}
