#include "net/proxy_url.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/inet.h"
#include "base/text.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#define SCHEME         "http://"
#define MAX_HOST_BYTES (255 - strlen(SCHEME ":65535"))

static bool is_host(const char *s)
{
        struct endpoint e;

        /* Of IPv6 only the form in brackets: otherwise its colons would be taken for the port's. */
        return str_is_host_name(s) || (endpoint_parse(s, &e) == 0 && e.port == 0);
}

int proxy_url_parse(const char *s, unsigned default_port, char **ret)
{
        _cleanup_free_ char *host = NULL, *port = NULL;
        unsigned long number = default_port;
        const char *at;
        size_t length;

        if (strncasecmp(s, SCHEME, strlen(SCHEME)) == 0)
                s += strlen(SCHEME);
        at = strrchr(s, '@');
        if (at && default_port == 0)
                return -EINVAL;
        if (at)
                s = at + 1;
        length = *s == '[' ? strcspn(s, "]") + 1 : strcspn(s, ":/");
        if (length > strlen(s) || length > MAX_HOST_BYTES)
                return -EINVAL;
        host = xstrndup(s, length);
        if (!is_host(host))
                return -EINVAL;
        s += length;
        if (*s == ':') {
                length = strcspn(++s, "/");
                port = xstrndup(s, length);
                if (str_to_ulong(port, 1, UINT16_MAX, &number) < 0)
                        return -EINVAL;
                s += length;
        }
        if (number == 0 || (*s && !str_equal(s, "/")))
                return -EINVAL;
        *ret = xasprintf(SCHEME "%s:%lu", host, number);
        return 0;
}
