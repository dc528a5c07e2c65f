/* A probe's spec as what libcurl has to be told. */
#pragma once

#include "base/error.h"
#include "probe/measurement.h"

#include <curl/curl.h>

struct http_request {
        char *url;
        struct endpoint connect; /* where the connection goes: the target, or the proxy */
        struct curl_slist *connect_to;
        bool has_proxy;
};
/* Pure. 0, or -EINVAL for a name, path or proxy that cannot be asked. No name is looked up: a proxy must be
 * given by its address, as http://ADDRESS:PORT or socks5h://ADDRESS:PORT. A proxy is told the name and not
 * the address, since that is what the node's jobs tell it, and what its rules are written for. */
int http_request_make(const struct probe_spec *s, struct http_request *ret, struct error *ret_error);
void http_request_done(struct http_request *r);
/* Sets what to ask and how; callbacks are the caller's. `r` must outlive the transfer. */
void http_request_apply(const struct http_request *r, const struct probe_spec *s, CURL *easy);
