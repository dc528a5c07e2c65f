/* Remote tools: the closed table of what the plane may run here, at most two at once, output streamed. */
#pragma once

#include "node/child.h"

struct tools; /* opaque */

#define TOOLS_AT_ONCE 2

struct tools_place {
        const char *program;     /* path of gridnode */
        const char *config_path; /* the site file they use */
        const char *root;        /* of the daemon that `update` asks; NULL: the system's */
};
struct tools_options {
        sd_event *event;
        struct tools_place place;
        /* Called with each message to publish; `output` is borrowed. */
        void (*on_output)(const char *request, const struct wire_output *output, void *userdata);
        void *userdata;
};
struct tools *tools_new(const struct tools_options *o);
struct tools *tools_free(struct tools *t); /* ends what runs, no callback */
/* diag, tcp, dns, tls, route, trace, update with the options that people may give, but those that name files
 * of the node (--config, --profile as a path, --capture, --replay, --firewall-page, --root-ca). Whatever is
 * not in the table, a third at once, or a request id that ended before: END_REFUSED with the reason, through
 * on_output. A request that is running is not begun again when it is delivered twice. Cancelling one that
 * nobody knows here: END_LOST. Lines are gathered for at most 20 ms, the first one not at all. */
void tools_request(struct tools *t, const struct wire_request *r);
size_t tools_running(const struct tools *t);

/* Pure: builds the arguments ({program, tool, "--config", path, …}; of update {program, tool, "--root=…",
 * "--by=…", …}) into ret, or -EPERM / -EINVAL with the reason. */
int tools_arguments(const struct tools_place *place, const struct wire_request *r, struct strv *ret,
        struct error *ret_error);
