/* What the head of an HTTP answer says, line by line as it comes, and the problem document in its body. Pure;
 * every byte is from outside: lengths are bounded and what is kept is printable. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_ANSWER_VALUE_MAX   512         /* bytes of a header's value that are kept */
#define HTTP_ANSWER_PROBLEM_MAX (16 * 1024) /* a larger problem document is not read */

/* {0} is empty. Strings are its own, NULL when the header is absent; of several the first counts. */
struct http_answer {
        int status;        /* 100…599, 0 none */
        int64_t date_unix; /* Date, 0 none or unreadable */
        char *location, *server, *via, *proxy_authenticate, *content_type;
};
void http_answer_done(struct http_answer *a);
/* One line of the head, with or without its line end. A status line begins anew: an interim answer, or a
 * proxy's answer to CONNECT, is over then; only proxy_authenticate stays. */
void http_answer_add_line(struct http_answer *a, const char *line, size_t length);
bool http_answer_is_problem(const struct http_answer *a); /* application/problem+json (RFC 9457) */
/* The "type" member of a problem document, printable; NULL when there is none. The caller frees. */
char *http_answer_problem_type(const char *body, size_t length);
