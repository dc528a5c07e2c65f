/* A socket of the WAN for libcurl: bound to the source address and the device that were chosen. */
#pragma once

#include "base/inet.h"
#include "net/https_failure.h"

#include <curl/curl.h>

/* -1 with the failure. `device` (NULL: by route) is bound to where that is permitted; unprivileged, the
 * routes choose, and the source address stays. A source of another family is left out. */
int dial_socket(const struct curl_sockaddr *to, const struct inet_addr *source, const char *device,
        struct https_failure *failure);
/* What every handle of ours has: HTTPS alone, nothing of the system's trust, no redirects, no proxy of the
 * environment (`proxy` NULL: none), no signals. The chain is judged by the caller's callback
 * (CURLOPT_SSL_CTX_FUNCTION). */
void dial_apply(CURL *easy, const char *proxy);
/* "https://HOST:PORT/PATH", with the brackets that a literal of IPv6 needs. The caller's. */
char *dial_url(const char *host, uint16_t port, const char *path);
/* "http://ADDRESS:PORT": by name it would be looked up by libcurl, of servers that nobody chose. 0 or
 * -EINVAL. */
int dial_check_proxy(const char *proxy, struct error *ret_error);
