#include "net/dial.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "base/version.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>

static int bind_source(int fd, sa_family_t family, const struct inet_addr *source, const char *device)
{
        struct endpoint from = {.address = *source};
        struct sockaddr_storage sa;
        socklen_t length;

        if (device &&
                setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, (socklen_t)strnlen(device, IFNAMSIZ)) <
                        0 &&
                errno != EPERM)
                return -errno;
        if (source->family != family)
                return 0;
        length = endpoint_to_sockaddr(&from, &sa);
        return bind(fd, (struct sockaddr *)&sa, length) < 0 ? -errno : 0;
}

int dial_socket(const struct curl_sockaddr *to, const struct inet_addr *source, const char *device,
        struct https_failure *failure)
{
        _cleanup_close_ int fd = socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
        int r = fd < 0 ? -errno : bind_source(fd, (sa_family_t)to->family, source, device);

        if (r < 0) {
                https_failure_source(failure, -r, source, device);
                return -1;
        }
        return TAKE_FD(fd);
}

void dial_apply(CURL *easy, const char *proxy)
{
        curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "https");
        curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
        curl_easy_setopt(easy, CURLOPT_USERAGENT, "gridnode/" GRIDNODE_VERSION);
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        /* Empty values, or libcurl asks the environment. */
        curl_easy_setopt(easy, CURLOPT_PROXY, proxy ? proxy : "");
        curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
        /* No store of the system is read: it would trust what must not be trusted. */
        curl_easy_setopt(easy, CURLOPT_CAINFO, NULL);
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
        curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
        curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
        curl_easy_setopt(easy, CURLOPT_SSL_EC_CURVES, "X25519:P-256:P-384");
        curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
}

char *dial_url(const char *host, uint16_t port, const char *path)
{
        struct inet_addr literal;
        bool is_v6 = inet_addr_parse(host, &literal) == 0 && literal.family == AF_INET6;

        return xasprintf("https://%s%s%s:%u%s", is_v6 ? "[" : "", host, is_v6 ? "]" : "", port, path);
}

int dial_check_proxy(const char *proxy, struct error *ret_error)
{
        struct endpoint e;

        if (str_starts_with(proxy, "http://") && endpoint_parse(proxy + 7, &e) == 0 && e.port)
                return 0;
        return error_set(ret_error, EINVAL, "http.bad-proxy",
                "the proxy %.200s cannot be used: http://ADDRESS:PORT is needed", proxy);
}
