/* What a request says of who asks: headers, taken apart. Pure: the bytes are outside bytes, and nothing is
 * believed here. */
#pragma once

#include "base/inet.h"

#define CREDENTIAL_MAXIMUM 128 /* bytes of a secret or a name, with its NUL */
#define PASSWORD_MAXIMUM   1025

/* The value of the cookie `name` (RFC 6265 section 4.2.1). 0; -ENOENT: it is not there; -EINVAL: it stands
 * there twice with different values (somebody else's may be among them), is too long or no cookie. */
int credentials_cookie(const char *header, const char *name, char ret[CREDENTIAL_MAXIMUM]);
/* "Bearer SECRET" (RFC 6750 section 2.1): 0; -ENOENT: another scheme; -EINVAL. */
int credentials_bearer(const char *header, char ret[CREDENTIAL_MAXIMUM]);
/* "Basic base64(NAME:PASSWORD)" (RFC 7617): 0; -ENOENT: another scheme; -EINVAL. */
int credentials_basic(
        const char *header, char ret_name[CREDENTIAL_MAXIMUM], char ret_password[PASSWORD_MAXIMUM]);
/* The last address of X-Forwarded-For: the one that the proxy next to us saw; those before are the client's
 * own words. Of IPv6 the /64, which is one site's. 0 or -EINVAL. */
int credentials_forwarded(const char *header, struct inet_addr *ret);
