/* The address of an HTTP proxy, as in the site file and in the environment's https_proxy. */
#pragma once

/* "http://HOST:PORT", where the scheme may be missing and be in any case, HOST is a name, an IPv4 address or
 * an IPv6 address in brackets, and a slash may follow. `default_port` stands for a missing port; 0: it must
 * be there, and so must not a user and password. Otherwise these are left out, since the URL is shown in
 * reports. *ret is "http://HOST:PORT", at most 255 bytes, the caller's. 0 or -EINVAL. */
int proxy_url_parse(const char *s, unsigned default_port, char **ret);
