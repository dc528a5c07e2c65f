/* The commands' way to the running control plane: its API at RUN/admin.sock, which takes this machine's
 * administrator at his word. Waits. */
#pragma once

#include "cli/session.h"

#include <jansson.h>

struct plane_answer {
        long status;
        json_t *json; /* NULL: none */
        char *text;   /* as it came */
        char *etag;
};
void plane_answer_done(struct plane_answer *a);

/* Calls METHOD PATH with `body` (stolen; NULL: none). An exit status: EXIT_SUCCESS with an answer below 400,
 * else after its message: 69 when no gridplane runs here, 77 not permitted, 64 for what the plane calls
 * malformed, 1 otherwise. */
int plane_call(const struct session *s, const char *method, const char *path, json_t *body,
        struct plane_answer *ret);
/* The same with a header ("If-Match: \"7\"", "Accept: text/csv"); NULL: none. */
int plane_call_with(const struct session *s, const char *method, const char *path, const char *header,
        json_t *body, struct plane_answer *ret);
/* POSTs a file as the body; `type` is its Content-Type. Waits for as long as the control plane works at it.
 */
int plane_send_file(const struct session *s, const char *path, const char *type, const char *file,
        struct plane_answer *ret);
/* All pages of a list, put together: {"items": […]}. */
int plane_list(const struct session *s, const char *path, json_t **ret);
/* Server-sent events of PATH: `on_event` gets each name and its data (an object), until it returns other than
 * 0, which is given back as *ret_result, or until interrupted. A stream that the control plane ends, as it
 * does after an hour, is taken up where it ended. */
int plane_stream(const struct session *s, const char *path,
        int (*on_event)(const char *name, json_t *data, void *userdata), void *userdata, int *ret_result);
/* A list and what comes after it, with nothing missing between them and nothing twice: the stream is opened
 * first, then the list is read, and what it has already is left out of the stream (by "id", where the
 * stream's event is of this kind). */
struct plane_follower {
        const char *kind;
        void (*on_list)(const json_t *list, void *userdata); /* as plane_list() gives it */
        int (*on_event)(const char *name, json_t *data, void *userdata);
        void *userdata;
};
int plane_follow(const struct session *s, const char *list_path, const char *stream_path,
        const struct plane_follower *follower);

/* "/api/v1/events" and then "?node=…&cause=…": values are escaped; NULL values are left out. */
struct plane_path {
        struct text text;
        bool has_query;
};
void plane_path_add(struct plane_path *p, const char *name, const char *value);
/* PATH/SEGMENT with the segment escaped; the caller's. */
char *plane_path_segment(const char *path, const char *segment, const char *after);
