/* The control socket (RUN/control.sock, 0660, group gridnode): one JSON object a line each way. A request is
 * {"op":"status"}, {"op":"events","count":50,"follow":false}, {"op":"diag","budget_s":5},
 * {"op":"update","action":"now","again":false,"reboot":true,"channel":"stable","by":"local:anna"} (it is
 * begun, and its job told; UPDATE/state.json says how it stands), {"op":"update.cancel","id":"u-…"} or
 * {"op":"update.history","count":50}, and is answered by
 * lines with {"status":{…}}, {"event":{…}}, {"report":{…}}, {"job":{…}}, {"update":{…}}, and last
 * {"done":true} or
 * {"error":{"code","text","number"}}, number being the errno. Requests of one client are answered one after
 * the other. At most 32 clients, a line of 4 KiB from each; one that leaves 8 MiB unread, or reads nothing
 * for 30 s, is dropped. */
#pragma once

#include "base/error.h"
#include "wire/update.h"

#include <jansson.h>
#include <stdbool.h>
#include <systemd/sd-event.h>

struct control; /* opaque */
struct control_client;

enum control_operation {
        CONTROL_STATUS,
        CONTROL_EVENTS,
        CONTROL_DIAG,
        CONTROL_UPDATE,
        CONTROL_UPDATE_CANCEL,
        CONTROL_UPDATE_HISTORY
};
struct control_request {
        enum control_operation operation;
        int64_t count;                /* events and history: 1 to 1000, 50 unless told */
        bool follow;                  /* events */
        double budget_s;              /* diag: 0.1 to 600, 5 unless told */
        struct update_job job;        /* update; without its id, and channel "" for the configuration's */
        char id[WIRE_ID_MAXIMUM + 1]; /* update.cancel; "": the one that is under way */
};
int control_request_parse(
        const char *line, size_t length, struct control_request *ret, struct error *ret_error);

struct control_handlers {
        /* To be answered by control_send and control_end, now or later. */
        void (*on_request)(struct control_client *c, const struct control_request *r, void *userdata);
        /* It went, or was dropped, before control_end; the pointer is dead afterwards. Never called from
         * within control_send and control_end. */
        void (*on_gone)(struct control_client *c, void *userdata);
        void *userdata;
};
/* `group` may not exist, or the daemon not be in it: then the file belongs to the daemon's own group.
 * -EADDRINUSE when a daemon answers there; a stale socket is replaced. */
int control_new(sd_event *event, const char *path, const char *group, const struct control_handlers *h,
        struct control **ret, struct error *ret_error);
struct control *control_free(struct control *c);
/* After control_end the pointer is not to be used but for the client's next request. */
void control_send(struct control_client *c, const char *member, json_t *value /* stolen */);
void control_end(struct control_client *c, const struct error *e); /* NULL: {"done":true} */

/* For the commands: asks and calls `on_line` for each answer line until the last. 0, or the daemon's error,
 * or -ECONNREFUSED / -ENOENT (no daemon runs), -EACCES (not in the group) with what to do, -ECONNRESET (the
 * daemon ended in the midst), -EINTR (stop_fd, -1 for none, became readable). on_line borrows the value; > 0
 * from it ends with 0, < 0 is returned, and the error is its own. Waits. */
int control_ask(const char *path, const json_t *request,
        int (*on_line)(const char *member, json_t *value, void *userdata), void *userdata, int stop_fd,
        struct error *ret_error);
