/* What the two files of the commands' client share: plane_client.c asks and gets an answer, plane_stream.c
 * reads what has no end. */
#pragma once

#include "cli/plane_client.h"

#include <curl/curl.h>

/* A call of PATH that is not begun yet. Both are the caller's. `header` may be NULL. */
CURL *plane_new_call(
        const struct session *s, const char *path, const char *header, struct curl_slist **ret_headers);
/* An exit status, after its message. */
int plane_fail_connect(const struct session *s, CURLcode code);
int plane_status_of_problem(long http);

/* A call that runs beside others. */
struct plane_run {
        bool is_done;
        CURLcode code;
};
void plane_run_begin(CURLM *multi, CURL *c, struct plane_run *r);
/* Some of each of them; waits a second at most. */
void plane_run_some(CURLM *multi);
/* All pages of a list, while what runs in `multi` (NULL: nothing) goes on. */
int plane_list_beside(const struct session *s, CURLM *multi, const char *path, json_t **ret);
