/* The target of a request, split and decoded (RFC 9112 section 3.2.1, RFC 3986; a query as HTML forms write
 * it). Pure: the bytes are outside bytes. */
#pragma once

#include "base/error.h"
#include "base/text.h"

#define URI_MAXIMUM          4096 /* bytes of a target */
#define URI_MAXIMUM_SEGMENTS 16
#define URI_MAXIMUM_QUERY    32 /* parameters */

struct uri {
        struct strv segments;      /* of the path, decoded; never empty, never with a '/' */
        struct strv names, values; /* of the query, in order; a name stands once */
};
/* 0, or -EINVAL with what is wrong. -E2BIG: too long. `ret` is to be empty. */
int uri_parse(const char *target, struct uri *ret, struct error *ret_error);
void uri_done(struct uri *u);
/* The value of a parameter, "" for one without; NULL: not there. */
const char *uri_query(const struct uri *u, const char *name);
/* Percent-decoding alone, '+' as it is: valid UTF-8 without control characters but for line ends, or NULL.
 * The caller's. */
char *uri_decode_text(const char *s, size_t maximum_bytes);
