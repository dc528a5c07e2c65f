#include "cli/arguments.h"

#include "base/text.h"

#include <netdb.h>
#include <stdlib.h>

int arguments_port(const struct session *s, const char *text, uint16_t *ret)
{
        const struct servent *service = NULL;
        unsigned long port;

        if (str_to_ulong(text, 1, 65535, &port) == 0) {
                *ret = (uint16_t)port;
                return EXIT_SUCCESS;
        }
        if (text[0] < '0' || text[0] > '9')
                service = getservbyname(text, "tcp");
        if (!service)
                return session_usage_error(s, "PORT is 1 to 65535, not '%s'", text);
        *ret = ntohs((uint16_t)service->s_port);
        return EXIT_SUCCESS;
}
