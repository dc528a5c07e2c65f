/* The control socket (RUN/control.sock, 0660, group gridnode): one JSON object a line each way. A request is
 * {"op":"status"}, {"op":"events","count":50,"follow":false} or {"op":"diag","budget_s":5}; answers are lines
 * with
 * {"status":{…}}, {"event":{…}}, {"report":{…}}, {"progress":"…"}, and last {"done":true} or
 * {"error":{"code","text"}}. At most 32 clients, a line of 4 KiB from each; one that does not read is
 * dropped. */
#pragma once

#include "base/error.h"

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

struct control; /* opaque */
struct control_client;

enum control_operation { CONTROL_STATUS, CONTROL_EVENTS, CONTROL_DIAG };
struct control_request {
        enum control_operation operation;
        int64_t count;   /* events */
        bool follow;     /* events */
        double budget_s; /* diag */
};
int control_request_parse(
        const char *line, size_t length, struct control_request *ret, struct error *ret_error);

struct control_handlers {
        /* To be answered by control_send and control_end, now or later. */
        void (*on_request)(struct control_client *c, const struct control_request *r, void *userdata);
        void (*on_gone)(struct control_client *c, void *userdata); /* the pointer is dead afterwards */
        void *userdata;
};
/* `group` may not exist: then the file belongs to the daemon's own group. -EADDRINUSE when a daemon answers
 * there; a stale socket is replaced. */
int control_new(sd_event *event, const char *path, const char *group, const struct control_handlers *h,
        struct control **ret, struct error *ret_error);
struct control *control_free(struct control *c);
void control_send(struct control_client *c, const char *member, json_t *value /* stolen */);
void control_end(struct control_client *c, const struct error *e); /* NULL: {"done":true} */

/* For the commands: asks and calls `on_line` for each answer line until the last; 0, or the daemon's error,
 * or -ECONNREFUSED / -ENOENT (no daemon runs), -EACCES (not in the group) with what to do. Waits. */
int control_ask(const char *path, const json_t *request,
        int (*on_line)(const char *member, json_t *value, void *userdata), void *userdata, int stop_fd,
        struct error *ret_error);
